//! Sources of sets, by their kind.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;
use varu::job::nearest;
use varu::job::spec::{CommandSpec, PostgresqlSpec, SourceKind, SourceSpec};
use varu::source::Databases;
use varu::source::command::STALL_LIMIT;
use varu::source::files::{FilesOptions, check_exclude};
use varu::source::influxdb::{self, InfluxdbOptions};
use varu::source::mysql::{self, MysqlOptions};
use varu::source::postgresql::{self, PostgresqlOptions};

use super::document::Section;
use super::values::{self, Read};

/// Reads the name of a kind of sources.
pub fn read_kind(value: &DeValue) -> Read<SourceKind> {
    let name = values::text(value)?;
    let names = || SourceKind::configurable().map(SourceKind::name);
    SourceKind::configurable().find(|kind| kind.name() == name).ok_or_else(|| match nearest(&name, names()) {
        Some(near) => format!("there is no source {name:?}; did you mean {near}?"),
        None => format!("there is no source {name:?}; there are {}", names().collect::<Vec<_>>().join(", ")),
    })
}

/// Reads the keys of one source from a set. None where one that it needs is missing or wrong, which is noted.
pub fn read(kind: SourceKind, set: &Section) -> Option<SourceSpec> {
    match kind {
        SourceKind::Files => Some(SourceSpec::Files(read_files(set)?)),
        SourceKind::Command => Some(SourceSpec::Command(read_command(set)?)),
        SourceKind::Mysql => Some(SourceSpec::Mysql(read_mysql(set)?)),
        SourceKind::Influxdb => Some(SourceSpec::Influxdb(read_influxdb(set)?)),
        SourceKind::Postgresql => Some(SourceSpec::Postgresql(read_postgresql(set)?)),
        SourceKind::Stdin => {
            set.problem_of("source", "standard input is a source of the command line alone");
            None
        }
    }
}

/// Patterns of what is left out.
fn patterns(value: &DeValue) -> Read<Vec<String>> {
    let patterns = values::texts(value)?;
    check_exclude(&patterns).map_err(|error| error.to_string())?;
    Ok(patterns)
}

fn read_files(set: &Section) -> Option<FilesOptions> {
    let exclude = set.take("exclude", patterns).unwrap_or_default();
    let one_file_system = set.take("one_file_system", values::boolean).unwrap_or_default();
    let exclude_caches = set.take("exclude_caches", values::boolean).unwrap_or_default();
    let paths = set.need("paths", values::paths)?;
    Some(FilesOptions { paths, exclude, one_file_system, exclude_caches, own: Vec::new() })
}

fn read_command(set: &Section) -> Option<CommandSpec> {
    let restore_command = set.take("restore_command", values::program);
    let completion = set.take("completion", values::text);
    let min_size = set.take("min_size", values::size).unwrap_or_default();
    let stall_limit = stall_limit(set);
    let commands = match set.has("commands") {
        true => {
            if set.has("command") {
                set.problem_of("command", "a set has one command, or several in commands, not both");
            }
            set.take("commands", values::programs)?.into_iter().map(|(name, program)| (Some(name), program)).collect()
        }
        false => vec![(None, set.need("command", values::program)?)],
    };
    Some(CommandSpec { commands, restore_command, completion, min_size, stall_limit })
}

/// Notes a server that is said to be at two places.
fn check_server(set: &Section, host: Option<&String>, socket: Option<&PathBuf>) {
    if host.is_some() && socket.is_some() {
        set.problem_of("host", "a set has a host or a socket, not both");
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

fn read_mysql(set: &Section) -> Option<MysqlOptions> {
    let server = mysql::client::MysqlServerOptions {
        option_file: set.take("option_file", values::path),
        host: set.take("host", values::text),
        socket: set.take("socket", values::path),
        exec: set.take("exec", values::texts).unwrap_or_default(),
    };
    check_server(set, server.host.as_ref(), server.socket.as_ref());
    let exclude_tables = set.take("exclude_tables", values::texts).unwrap_or_default();
    let schema_only_tables = set.take("schema_only_tables", values::texts).unwrap_or_default();
    let stall_limit = stall_limit(set);
    Some(MysqlOptions { databases: databases(set)?, exclude_tables, schema_only_tables, stall_limit, server })
}

fn read_influxdb(set: &Section) -> Option<InfluxdbOptions> {
    let server = influxdb::server::InfluxdbServerOptions {
        host: set.take("host", values::text),
        rpc: set.take("rpc", values::text),
        option_file: set.take("option_file", values::path),
        exec: set.take("exec", values::texts).unwrap_or_default(),
    };
    Some(InfluxdbOptions { database: set.need("database", values::text)?, server })
}

fn read_postgresql(set: &Section) -> Option<PostgresqlSpec> {
    let server = postgresql::server::PostgresqlServerOptions {
        host: set.take("host", values::text),
        socket: set.take("socket", values::path),
        user: set.take("user", values::text),
        exec: set.take("exec", values::texts).unwrap_or_default(),
    };
    check_server(set, server.host.as_ref(), server.socket.as_ref());
    let exclude_tables = set.take("exclude_tables", values::texts).unwrap_or_default();
    let schema_only_tables = set.take("schema_only_tables", values::texts).unwrap_or_default();
    let stall_limit = stall_limit(set);
    let restore_as_superuser = set.take("restore_as_superuser", values::boolean).unwrap_or(false);
    let databases = databases(set)?;
    let dump = PostgresqlOptions { databases, exclude_tables, schema_only_tables, stall_limit, server };
    Some(PostgresqlSpec { dump, restore_as_superuser })
}
