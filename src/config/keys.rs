//! The keys that a configuration may have, as data: what the parser knows, and what `docs/configuration.md` explains.

use varu::job::spec::SourceKind::{self, Command, Files, Influxdb, Mysql, Postgresql};

/// A table of the configuration, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The document itself.
    Root,
    /// `[repository]`.
    Repository,
    /// `[retention]`.
    Retention,
    /// `[environment]`.
    Environment,
    /// `[sets.NAME]`.
    Set,
    /// `[restores.NAME]`.
    Restore,
    /// A set's `schedule`.
    Schedule,
    /// A command round a backup, written as a table.
    Hook,
}

impl Part {
    /// How the documentation heads it.
    #[cfg(test)]
    pub const ALL: [(Part, &str); 7] = [
        (Part::Repository, "[repository]"),
        (Part::Retention, "[retention]"),
        (Part::Environment, "[environment]"),
        (Part::Set, "[sets.NAME]"),
        (Part::Restore, "[restores.NAME]"),
        (Part::Schedule, "schedule"),
        (Part::Hook, "Commands round a backup"),
    ];
}

/// A key.
#[derive(Debug)]
pub struct Key {
    /// The table that it stands in.
    pub part: Part,
    /// Its name.
    pub name: &'static str,
    /// The sources of whose sets it is; all where there is none.
    pub sources: &'static [SourceKind],
    /// Whether this version acts on it. A key that isn't acted on is checked all the same, and `config check` names it.
    pub acted_on: bool,
}

const fn key(part: Part, name: &'static str) -> Key {
    Key { part, name, sources: &[], acted_on: true }
}

const fn later(part: Part, name: &'static str) -> Key {
    Key { part, name, sources: &[], acted_on: false }
}

const fn of(sources: &'static [SourceKind], name: &'static str) -> Key {
    Key { part: Part::Set, name, sources, acted_on: true }
}

/// Sources that dump: all but `files`.
const DUMPS: &[SourceKind] = &[Mysql, Influxdb, Postgresql, Command];
const SERVERS: &[SourceKind] = &[Mysql, Influxdb, Postgresql];

/// Every key.
pub const KEYS: &[Key] = &[
    key(Part::Root, "repository"),
    key(Part::Root, "retention"),
    key(Part::Root, "environment"),
    key(Part::Root, "sets"),
    key(Part::Root, "restores"),
    key(Part::Repository, "url"),
    key(Part::Repository, "writer_key"),
    key(Part::Repository, "identity"),
    key(Part::Repository, "connections"),
    key(Part::Repository, "ssh_key"),
    key(Part::Repository, "jump_host"),
    key(Part::Repository, "known_hosts"),
    key(Part::Repository, "ssh_config"),
    key(Part::Repository, "connect_timeout"),
    key(Part::Repository, "stall_timeout"),
    key(Part::Repository, "retry_for"),
    key(Part::Repository, "limit_upload"),
    key(Part::Repository, "limit_download"),
    key(Part::Repository, "isolate_chains"),
    key(Part::Repository, "base_cache_max"),
    key(Part::Repository, "spool_max"),
    key(Part::Retention, "keep"),
    key(Part::Retention, "keep_chains"),
    key(Part::Retention, "grace"),
    key(Part::Retention, "tags"),
    key(Part::Environment, "name"),
    key(Part::Environment, "restore_from"),
    key(Part::Set, "source"),
    of(&[Files], "paths"),
    of(&[Files, Mysql, Postgresql], "exclude"),
    of(&[Files], "one_file_system"),
    of(&[Files], "exclude_caches"),
    of(&[Command], "command"),
    of(&[Command], "commands"),
    of(&[Command], "restore_command"),
    of(&[Command], "completion"),
    of(&[Command], "min_size"),
    of(&[Mysql, Postgresql, Command], "stall_limit"),
    of(&[Mysql, Postgresql], "databases"),
    of(&[Influxdb], "database"),
    of(&[Mysql, Postgresql], "exclude_tables"),
    of(&[Mysql, Postgresql], "schema_only_tables"),
    of(&[Mysql, Influxdb], "option_file"),
    of(&[Postgresql], "user"),
    of(&[Postgresql], "restore_as_superuser"),
    of(&[Mysql, Postgresql], "socket"),
    of(SERVERS, "host"),
    of(&[Influxdb], "rpc"),
    of(SERVERS, "exec"),
    of(SERVERS, "dump_by"),
    of(DUMPS, "local_copy"),
    of(DUMPS, "keep_local"),
    of(DUMPS, "local_reserve"),
    key(Part::Set, "schedule"),
    key(Part::Set, "full_every"),
    key(Part::Set, "rebase_every"),
    key(Part::Set, "repack_budget"),
    key(Part::Set, "keep"),
    key(Part::Set, "keep_chains"),
    key(Part::Set, "max_shrink"),
    later(Part::Set, "rpo"),
    later(Part::Set, "rto"),
    key(Part::Set, "before"),
    key(Part::Set, "after"),
    key(Part::Set, "on_error"),
    key(Part::Set, "restore_before"),
    key(Part::Set, "restore_after"),
    key(Part::Set, "restore_order"),
    key(Part::Set, "require_snapshot"),
    key(Part::Set, "acknowledge"),
    key(Part::Restore, "repository"),
    key(Part::Restore, "set"),
    key(Part::Restore, "identity"),
    key(Part::Restore, "into"),
    key(Part::Restore, "to"),
    key(Part::Restore, "replace"),
    key(Part::Restore, "option_file"),
    key(Part::Restore, "user"),
    key(Part::Restore, "after"),
    key(Part::Restore, "at"),
    key(Part::Restore, "timezone"),
    key(Part::Schedule, "timezone"),
    key(Part::Schedule, "dump"),
    key(Part::Schedule, "full"),
    key(Part::Schedule, "incremental"),
    key(Part::Hook, "run"),
    key(Part::Hook, "limit"),
];

/// The key of that name in that part.
pub fn find(part: Part, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.part == part && key.name == name)
}

/// Whether a key of that name looks as if its value were a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "private_key", "api_key", "apikey"]
        .iter()
        .any(|word| name.contains(word))
        || matches!(name.as_str(), "pass" | "pw" | "pwd")
}
