//! A table of a server, as its own schema describes it.

/// A table, sequence or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlTable {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// `BASE TABLE`, `SYSTEM VERSIONED`, `SEQUENCE`, `VIEW`.
    pub kind: String,
    /// `InnoDB`; empty for a view.
    pub engine: String,
    /// Bytes of its rows, as far as the server knows.
    pub bytes: u64,
}
