//! Sources of sets, by their kind.

use std::path::PathBuf;
use std::time::Duration;

use super::ProgramSpec;
use crate::entry::StreamName;
use crate::source::files::FilesOptions;
use crate::source::influxdb::InfluxdbOptions;
use crate::source::mysql::MysqlOptions;
use crate::source::postgresql::PostgresqlOptions;

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// `files`
    Files,
    /// `mysql`
    Mysql,
    /// `postgresql`
    Postgresql,
    /// `influxdb`
    Influxdb,
    /// `command`
    Command,
    /// Standard input, which only the command line names.
    Stdin,
}

/// The source of a set, with the options of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// Folders and files.
    Files(FilesOptions),
    /// Databases of a MySQL or MariaDB server.
    Mysql(MysqlOptions),
    /// Databases of a PostgreSQL server.
    Postgresql(PostgresqlSpec),
    /// A database of an InfluxDB server.
    Influxdb(InfluxdbOptions),
    /// Programs' output.
    Command(CommandSpec),
    /// Standard input.
    Stdin(StdinSpec),
}

/// Databases of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresqlSpec {
    /// What is dumped.
    pub dump: PostgresqlOptions,
    /// Whether a restore runs a dump's code with the account's rights.
    pub restore_as_superuser: bool,
}

/// Programs' output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The programs, by the names of their streams. A single one's stream has the set's name, and this one none.
    pub commands: Vec<(Option<String>, ProgramSpec)>,
    /// Takes a stream on its standard input to bring it back.
    pub restore_command: Option<ProgramSpec>,
    /// What the output's last line holds when it is complete.
    pub completion: Option<String>,
    /// Bytes that a complete output has at least.
    pub min_size: u64,
    /// How long a dump's program may write nothing.
    pub stall_limit: Duration,
}

/// Standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdinSpec {
    /// The name of its stream.
    pub stream: StreamName,
}

impl SourceKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [SourceKind; 6] = [
        SourceKind::Files,
        SourceKind::Mysql,
        SourceKind::Postgresql,
        SourceKind::Influxdb,
        SourceKind::Command,
        SourceKind::Stdin,
    ];

    /// The kind's name, in the configuration and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            SourceKind::Files => "files",
            SourceKind::Mysql => "mysql",
            SourceKind::Postgresql => "postgresql",
            SourceKind::Influxdb => "influxdb",
            SourceKind::Command => "command",
            SourceKind::Stdin => "stdin",
        }
    }
}

impl SourceSpec {
    /// The source's kind.
    pub fn kind(&self) -> SourceKind {
        match self {
            SourceSpec::Files(_) => SourceKind::Files,
            SourceSpec::Mysql(_) => SourceKind::Mysql,
            SourceSpec::Postgresql(_) => SourceKind::Postgresql,
            SourceSpec::Influxdb(_) => SourceKind::Influxdb,
            SourceSpec::Command(_) => SourceKind::Command,
            SourceSpec::Stdin(_) => SourceKind::Stdin,
        }
    }

    /// The file with the credentials, of a source that has one.
    pub fn option_file(&self) -> Option<&PathBuf> {
        match self {
            SourceSpec::Mysql(mysql) => mysql.server.option_file.as_ref(),
            SourceSpec::Influxdb(influxdb) => influxdb.server.option_file.as_ref(),
            SourceSpec::Files(_) | SourceSpec::Postgresql(_) | SourceSpec::Command(_) | SourceSpec::Stdin(_) => None,
        }
    }

    /// The same, to say where it is instead.
    pub fn option_file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            SourceSpec::Mysql(mysql) => mysql.server.option_file.as_mut(),
            SourceSpec::Influxdb(influxdb) => influxdb.server.option_file.as_mut(),
            SourceSpec::Files(_) | SourceSpec::Postgresql(_) | SourceSpec::Command(_) | SourceSpec::Stdin(_) => None,
        }
    }
}
