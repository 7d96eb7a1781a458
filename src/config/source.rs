//! What a set protects, by its source.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;
use varu::source::Databases;
use varu::source::command::STALL_LIMIT;
use varu::source::files::check_exclude;

use super::document::Section;
use super::keys::nearest;
use super::values::{self, Program, Read};

/// The sources, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `files`
    Files,
    /// `command`
    Command,
    /// `mysql`
    Mysql,
    /// `influxdb`
    Influxdb,
    /// `postgresql`
    Postgresql,
}

impl SourceKind {
    const ALL: [SourceKind; 5] =
        [SourceKind::Files, SourceKind::Command, SourceKind::Mysql, SourceKind::Influxdb, SourceKind::Postgresql];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            SourceKind::Files => "files",
            SourceKind::Command => "command",
            SourceKind::Mysql => "mysql",
            SourceKind::Influxdb => "influxdb",
            SourceKind::Postgresql => "postgresql",
        }
    }

    /// Reads a source's name.
    pub fn read(value: &DeValue) -> Read<Self> {
        let name = values::text(value)?;
        let names = || Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|source| source.name() == name).ok_or_else(|| match nearest(&name, names()) {
            Some(near) => format!("there is no source {name:?}; did you mean {near}?"),
            None => format!("there is no source {name:?}; there are {}", names().join(", ")),
        })
    }
}

/// What a set protects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Folders and files.
    Files(Files),
    /// A program's output.
    Command(Command),
    /// Databases of a MySQL or MariaDB server.
    Mysql(Mysql),
    /// A database of an InfluxDB server.
    Influxdb(Influxdb),
    /// Databases of a PostgreSQL server.
    Postgresql(Postgresql),
}

/// Folders and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Where they are, absolute, at least one.
    pub paths: Vec<PathBuf>,
    /// What is left out, in gitignore's patterns.
    pub exclude: Vec<String>,
    /// Whether other file systems that are mounted below a path are left out.
    pub one_file_system: bool,
    /// Whether what folders with a `CACHEDIR.TAG` hold is left out.
    pub exclude_caches: bool,
}

/// A program's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The programs, by the names of their streams. A single one's stream has the set's name, and this one none.
    pub commands: Vec<(Option<String>, Program)>,
    /// Takes a stream on its standard input to bring it back.
    pub restore_command: Option<Program>,
    /// What the output's last line holds when it is complete.
    pub completion: Option<String>,
    /// Bytes that a complete output has at least.
    pub min_size: u64,
    /// How long a dump's program may write nothing.
    pub stall_limit: Duration,
}

/// Where a database server is, and how its programs are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A host, with or without `:port`.
    pub host: Option<String>,
    /// A socket's path.
    pub socket: Option<PathBuf>,
    /// Words that go before every program: `docker exec -i db`.
    pub exec: Vec<String>,
}

/// Databases of a MySQL or MariaDB server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mysql {
    /// Which.
    pub databases: Databases,
    /// `database.table` that are left out.
    pub exclude_tables: Vec<String>,
    /// `database.table` whose rows are left out.
    pub schema_only_tables: Vec<String>,
    /// How long a dump's program may write nothing.
    pub stall_limit: Duration,
    /// The option file that the client programs read, credentials included.
    pub option_file: Option<PathBuf>,
    /// The server.
    pub server: Server,
}

/// A database of an InfluxDB server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Influxdb {
    /// Its name.
    pub database: String,
    /// The file with the credentials.
    pub option_file: Option<PathBuf>,
    /// Where the server gives and takes backups: a host, with or without `:port`.
    pub rpc: Option<String>,
    /// The server.
    pub server: Server,
}

/// Databases of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgresql {
    /// Which.
    pub databases: Databases,
    /// `schema.table` that are left out.
    pub exclude_tables: Vec<String>,
    /// `schema.table` whose rows are left out.
    pub schema_only_tables: Vec<String>,
    /// How long a dump's program may write nothing.
    pub stall_limit: Duration,
    /// The account.
    pub user: Option<String>,
    /// Whether a restore runs a dump's code with the account's rights.
    pub restore_as_superuser: bool,
    /// The server.
    pub server: Server,
}

impl Source {
    /// Reads the keys of one source from a set. None where one that it needs is missing or wrong, which is noted.
    pub fn read(kind: SourceKind, set: &Section) -> Option<Self> {
        Some(match kind {
            SourceKind::Files => Self::Files(Files::read(set)?),
            SourceKind::Command => Self::Command(Command::read(set)?),
            SourceKind::Mysql => Self::Mysql(Mysql::read(set)?),
            SourceKind::Influxdb => Self::Influxdb(Influxdb::read(set)?),
            SourceKind::Postgresql => Self::Postgresql(Postgresql::read(set)?),
        })
    }

    /// The file with the credentials, of a source that may have one.
    pub fn option_file_mut(&mut self) -> Option<&mut Option<PathBuf>> {
        match self {
            Source::Mysql(mysql) => Some(&mut mysql.option_file),
            Source::Influxdb(influxdb) => Some(&mut influxdb.option_file),
            Source::Files(_) | Source::Command(_) | Source::Postgresql(_) => None,
        }
    }

    /// The same, where it has one.
    pub fn option_file(&self) -> Option<&PathBuf> {
        match self {
            Source::Mysql(mysql) => mysql.option_file.as_ref(),
            Source::Influxdb(influxdb) => influxdb.option_file.as_ref(),
            Source::Files(_) | Source::Command(_) | Source::Postgresql(_) => None,
        }
    }

    /// Which source it is.
    pub fn kind(&self) -> SourceKind {
        match self {
            Source::Files(_) => SourceKind::Files,
            Source::Command(_) => SourceKind::Command,
            Source::Mysql(_) => SourceKind::Mysql,
            Source::Influxdb(_) => SourceKind::Influxdb,
            Source::Postgresql(_) => SourceKind::Postgresql,
        }
    }
}

/// Patterns of what is left out.
fn patterns(value: &DeValue) -> Read<Vec<String>> {
    let patterns = values::texts(value)?;
    check_exclude(&patterns).map_err(|error| error.to_string())?;
    Ok(patterns)
}

impl Files {
    fn read(set: &Section) -> Option<Self> {
        let exclude = set.take("exclude", patterns).unwrap_or_default();
        let one_file_system = set.take("one_file_system", values::boolean).unwrap_or_default();
        let exclude_caches = set.take("exclude_caches", values::boolean).unwrap_or_default();
        Some(Self { paths: set.need("paths", values::paths)?, exclude, one_file_system, exclude_caches })
    }
}

impl Command {
    fn read(set: &Section) -> Option<Self> {
        let restore_command = set.take("restore_command", values::program);
        let completion = set.take("completion", values::text);
        let min_size = set.take("min_size", values::size).unwrap_or_default();
        let stall_limit = stall_limit(set);
        let commands = match set.has("commands") {
            true => {
                if set.has("command") {
                    set.problem_of("command", "a set has one command, or several in commands, not both");
                }
                set.take("commands", values::programs)?
                    .into_iter()
                    .map(|(name, program)| (Some(name), program))
                    .collect()
            }
            false => vec![(None, set.need("command", values::program)?)],
        };
        Some(Self { commands, restore_command, completion, min_size, stall_limit })
    }
}

impl Server {
    fn read(set: &Section, with_socket: bool) -> Self {
        let server = Self {
            host: set.take("host", values::text),
            socket: with_socket.then(|| set.take("socket", values::path)).flatten(),
            exec: set.take("exec", values::texts).unwrap_or_default(),
        };
        if server.host.is_some() && server.socket.is_some() {
            set.problem_of("host", "a set has a host or a socket, not both");
        }
        server
    }
}

/// `stall_limit`.
fn stall_limit(set: &Section) -> Duration {
    set.take("stall_limit", values::duration).unwrap_or(STALL_LIMIT)
}

/// `databases` and `exclude`.
fn databases(set: &Section) -> Option<Databases> {
    let exclude = set.take("exclude", values::texts).unwrap_or_default();
    let only = set.need("databases", |value| match value.as_str() {
        Some("all") => Ok(None),
        Some(_) => Err("a list of names, or \"all\", is expected".to_owned()),
        None => match values::texts(value)? {
            names if names.is_empty() => Err("at least one name is expected, or \"all\"".to_owned()),
            names => Ok(Some(names)),
        },
    })?;
    match only {
        None => Some(Databases::AllBut(exclude)),
        Some(names) => {
            if set.has("exclude") {
                set.problem_of("exclude", "leaves databases out of \"all\"; here databases names them one by one");
            }
            Some(Databases::Only(names))
        }
    }
}

impl Mysql {
    fn read(set: &Section) -> Option<Self> {
        let exclude_tables = set.take("exclude_tables", values::texts).unwrap_or_default();
        let schema_only_tables = set.take("schema_only_tables", values::texts).unwrap_or_default();
        let option_file = set.take("option_file", values::path);
        let server = Server::read(set, true);
        let stall_limit = stall_limit(set);
        Some(Self { databases: databases(set)?, exclude_tables, schema_only_tables, stall_limit, option_file, server })
    }
}

impl Influxdb {
    fn read(set: &Section) -> Option<Self> {
        let (option_file, rpc) = (set.take("option_file", values::path), set.take("rpc", values::text));
        let server = Server::read(set, false);
        Some(Self { database: set.need("database", values::text)?, option_file, rpc, server })
    }
}

impl Postgresql {
    fn read(set: &Section) -> Option<Self> {
        let exclude_tables = set.take("exclude_tables", values::texts).unwrap_or_default();
        let schema_only_tables = set.take("schema_only_tables", values::texts).unwrap_or_default();
        let (user, server) = (set.take("user", values::text), Server::read(set, true));
        let stall_limit = stall_limit(set);
        let restore_as_superuser = set.take("restore_as_superuser", values::boolean).unwrap_or(false);
        let databases = databases(set)?;
        Some(Self { databases, exclude_tables, schema_only_tables, stall_limit, user, restore_as_superuser, server })
    }
}
