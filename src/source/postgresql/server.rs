//! The server and its programs: how they are run, and questions to the server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::login::Login;
use super::said::{self, redacted};
use super::text::{bytes_of, text_of};
use crate::entry::Escaped;
use crate::progress::Interrupt;
use crate::source::Error;
use crate::source::command::apart::{NOTHING, located};
use crate::source::command::talk::{TalkError, ask};

/// Where a server is, and how its programs are run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostgresqlServerOptions {
    /// A host, with or without `:port`.
    pub host: Option<String>,
    /// The socket, or its folder.
    pub socket: Option<PathBuf>,
    /// The account; the programs' own where there is none.
    pub user: Option<String>,
    /// Words that go before every program: `runuser -u postgres --`.
    pub exec: Vec<String>,
}

/// A server that answers.
#[derive(Debug, Clone)]
pub struct PostgresqlServer {
    pub(super) options: PostgresqlServerOptions,
    /// Its version as a number: 150018.
    pub version: u32,
    /// Its version as people write it: `15.18`.
    pub version_text: String,
    /// The account.
    pub account: String,
    /// Whether the account may do everything.
    pub is_superuser: bool,
    /// Whether the client supports a mode without commands of its own.
    pub restricts: bool,
    common: &'static str,
    pub(super) interrupt: Interrupt,
}

/// The most bytes of an answer.
const ANSWER: usize = 256 << 20;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// A database that is always there.
pub const COMMON: &str = "postgres";
/// Another one, for when that is the one that is restored.
pub const TEMPLATE: &str = "template1";

impl PostgresqlServer {
    /// Finds the client and asks the server who it is.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no client, [`Error::Failed`] if the server doesn't answer.
    pub fn connect(options: &PostgresqlServerOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        let help = help(options, "psql", "--help=commands", interrupt)?;
        let mut server = Self {
            options: options.clone(),
            version: 0,
            version_text: String::new(),
            account: String::new(),
            is_superuser: false,
            restricts: help.contains("\\restrict"),
            common: COMMON,
            interrupt: interrupt.clone(),
        };
        let question = "SELECT current_setting('server_version_num'), current_setting('server_version'), current_user, \
                        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
        let rows = match server.ask(COMMON, question) {
            Err(error) if error.has_code(said::INVALID_CATALOG_NAME) => {
                server.common = TEMPLATE;
                server.ask(TEMPLATE, question)?
            }
            rows => rows?,
        };
        if let Some([number, version, account, superuser]) = rows.first().map(Vec::as_slice) {
            server.version = number.parse().unwrap_or(0);
            server.version_text = version.split(' ').next().unwrap_or_default().to_owned();
            server.account.clone_from(account);
            server.is_superuser = superuser == "t";
        }
        server.check_age("psql")?;
        Ok(server)
    }

    /// Whether a program knows all that the server has: one that is older refuses to dump it, or loads what it doesn't know.
    ///
    /// # Errors
    /// [`Error::Config`] if it doesn't, or can't be run.
    pub(super) fn check_age(&self, program: &str) -> Result<(), Error> {
        let said = help(&self.options, program, "--version", &self.interrupt)?;
        let of_server = major(&self.version_text).unwrap_or(0);
        match release(&said) {
            Some((version, major)) if major < of_server => Err(Error::Config(format!(
                "{program} is older ({}) than the server, PostgreSQL {}, so it doesn't know all that such a server has; install the \
                 package postgresql-client-{of_server} (of Debian, or of PostgreSQL's own repository), or name by exec where it is",
                Escaped(version.as_bytes()),
                self.version_text
            ))),
            _ => Ok(()),
        }
    }

    /// The identity of the server. A copy of all its files is another server on another port or machine.
    pub fn identity(&self) -> String {
        let options = [self.options.host.clone(), self.options.socket.as_ref().map(|path| path.display().to_string())];
        let place = options.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let question = "SELECT current_setting('port') || ' ' || (SELECT system_identifier FROM pg_control_system())";
        // Where an account may not ask for the identifier, the place has to do.
        let number = self.value(self.common, question).unwrap_or_default();
        format!("{place} {number}").trim().to_owned()
    }

    /// A database that is there whatever is backed up.
    pub fn common(&self) -> &'static str {
        self.common
    }

    /// The help text of one of the server's programs.
    ///
    /// # Errors
    /// [`Error::Config`] if it can't be run.
    pub fn help(&self, program: &str) -> Result<String, Error> {
        help(&self.options, program, "--help", &self.interrupt)
    }

    /// A command line of `program`, connected to `database`.
    pub fn argv(&self, program: &str, database: &str) -> Vec<OsString> {
        argv(&self.options, (self.version, self.is_superuser), program, database, (None, SessionPurpose::Reading))
    }

    /// A command line of the client that continues after an error. With a `login` it reads its password from the first
    /// line.
    pub(super) fn session_argv(&self, database: &str, login: Option<&Login>) -> Vec<OsString> {
        let about = (self.version, self.is_superuser);
        let mut argv = argv(&self.options, about, "psql", database, (login, SessionPurpose::AsItIs));
        argv.push("--no-psqlrc".into());
        argv
    }

    fn client_argv(&self, database: &str, purpose: SessionPurpose) -> Vec<OsString> {
        let mut argv = argv(&self.options, (self.version, self.is_superuser), "psql", database, (None, purpose));
        let words = ["--no-psqlrc", "--quiet", "--tuples-only", "--csv"];
        argv.extend(words.map(OsString::from));
        argv.extend(["--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose"].map(OsString::from));
        argv
    }

    /// Asks the server, in `database`. NULL comes as an empty text.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the client says.
    pub fn ask(&self, database: &str, statements: &str) -> Result<Vec<Vec<String>>, Error> {
        self.ask_for(SessionPurpose::Reading, database, statements)
    }

    /// As [`PostgresqlServer::ask`], in a session that is as those of the database's own clients.
    ///
    /// # Errors
    /// As [`PostgresqlServer::ask`].
    pub(super) fn ask_as_it_is(&self, database: &str, statements: &str) -> Result<Vec<Vec<String>>, Error> {
        self.ask_for(SessionPurpose::AsItIs, database, statements)
    }

    fn ask_for(&self, purpose: SessionPurpose, database: &str, statements: &str) -> Result<Vec<Vec<String>>, Error> {
        let question = format!("{SESSION}{statements};\n");
        let answer = ask(&self.client_argv(database, purpose), &bytes_of(&question), ANSWER, PATIENCE, &self.interrupt)
            .map_err(|error| failed("asking the server", &error))?;
        Ok(rows(&answer))
    }

    /// The one value of the one row of an answer; empty where there is none.
    ///
    /// # Errors
    /// As [`PostgresqlServer::ask`].
    pub fn value(&self, database: &str, question: &str) -> Result<String, Error> {
        Ok(self.ask(database, question)?.into_iter().flatten().next().unwrap_or_default())
    }

    /// The dump program's word for the encoding of a dump. Bytes of a database without an encoding are not converted.
    ///
    /// # Errors
    /// As [`PostgresqlServer::ask`].
    pub(super) fn encoding(&self, database: &str) -> Result<&'static str, Error> {
        let question = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()";
        Ok(match self.value(database, question)?.as_str() {
            "SQL_ASCII" => "--encoding=SQL_ASCII",
            _ => "--encoding=UTF8",
        })
    }

    /// A dump of a database without its rows.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the program says.
    pub(super) fn definitions(&self, database: &str) -> Result<Vec<u8>, Error> {
        let mut argv = self.argv("pg_dump", database);
        let encoding = self.encoding(database)?;
        argv.extend(["--format=plain", "--create", "--schema-only", encoding].map(OsString::from));
        ask(&argv, b"", ANSWER, PATIENCE, &self.interrupt).map_err(|error| {
            Error::Failed(format!("dumping the definitions of {database} with pg_dump failed: {error}"))
        })
    }

    /// The names that a question answers with.
    ///
    /// # Errors
    /// As [`PostgresqlServer::ask`].
    pub fn names(&self, database: &str, question: &str) -> Result<Vec<String>, Error> {
        Ok(self.ask(database, question)?.into_iter().flatten().collect())
    }
}

/// The beginning of every query: no user's object shadows the server's own names.
pub(super) const SESSION: &str = "SET standard_conforming_strings = on; SET search_path = pg_catalog; SET client_min_messages = error; \
                       SELECT 1 WHERE set_config('client_encoding', CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE \
                       'UTF8' END, false) IS NULL;\n";

pub(super) fn failed(tried: &str, error: &TalkError) -> Error {
    let code = said::code(&error.said);
    let error = TalkError { what: error.what.clone(), said: redacted(&error.said) };
    Error::server(code, format!("{tried} with psql failed: {error}"))
}

/// Environment variables about the connection. The set's values take precedence.
const ENVIRONMENT: [&str; 14] = [
    "PGOPTIONS",
    "PGSERVICE",
    "PGHOSTADDR",
    "PGDATABASE",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
    "PGCLIENTENCODING",
    "PGTARGETSESSIONATTRS",
    "PGAPPNAME",
    "PSQLRC",
    "PSQL_PAGER",
    "PAGER",
    "PSQL_EDITOR",
];

/// Settings that no role, database or server changes in a session of ours. Each would change the data that is read or
/// written, or end it.
const SETTINGS: [&str; 16] = [
    "statement_timeout=0",
    "lock_timeout=900000",
    "idle_in_transaction_session_timeout=0",
    "default_transaction_read_only=off",
    "default_transaction_isolation=read\\ committed",
    "default_transaction_deferrable=off",
    "standard_conforming_strings=on",
    "quote_all_identifiers=off",
    "row_security=off",
    "client_min_messages=error",
    "search_path=pg_catalog",
    "role=none",
    // An array's NULL would be the text "NULL", a null test another one, and a view on a text index would lack rows.
    "array_nulls=on",
    "transform_null_equals=off",
    "backslash_quote=safe_encoding",
    "gin_fuzzy_search_limit=0",
];

/// The textual form of values in sessions that only read: the same on each server, so that a dump means the same
/// everywhere, and two can be compared. A load uses the settings of the database's own sessions ([`super::settings`]).
const READING: [&str; 9] = [
    "TimeZone=UTC",
    "DateStyle=ISO",
    "IntervalStyle=postgres",
    "bytea_output=hex",
    "extra_float_digits=3",
    "xmlbinary=base64",
    "lc_monetary=C",
    "lc_numeric=C",
    "lc_time=C",
];

/// The purpose of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionPurpose {
    /// To dump, and to ask.
    Reading,
    /// To load, or to see the settings of the database's own sessions.
    AsItIs,
}

/// Whether a setting is ours in each session, or the dump's own, and none that is to be as in the database's own sessions.
pub(super) fn is_ours(name: &str) -> bool {
    const OF_A_DUMP: [&str; 10] = [
        "client_encoding",
        "check_function_bodies",
        "xmloption",
        "default_tablespace",
        "default_table_access_method",
        "idle_session_timeout",
        "transaction_timeout",
        "event_triggers",
        "session_replication_role",
        "session_authorization",
    ];
    let is = |other: &str| other.eq_ignore_ascii_case(name);
    let is_set = |setting: &&str| setting.split_once('=').is_some_and(|(name, _)| is(name));
    SETTINGS.iter().any(is_set) || OF_A_DUMP.into_iter().any(is)
}

/// A shell that reads a password from the first line, and gives it to the program in its environment.
const WITH_PASSWORD: &str = "IFS= read -r PGPASSWORD && export PGPASSWORD && exec \"$@\"";

/// Further options of the connection that identify the account.
const OF_A_LOGIN: [&str; 5] = ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGPASSFILE"];

/// The whole environment of an unprivileged client: its connection parameters, unless the set gives them.
pub(super) fn environment_apart(options: &PostgresqlServerOptions) -> Vec<(OsString, OsString)> {
    let is_there = options.socket.is_some() || options.host.is_some();
    let meant = |name: &str| {
        let who = OF_A_LOGIN.contains(&name) && (is_there || !["PGHOST", "PGPORT"].contains(&name));
        (name.starts_with("PG") || name.starts_with("SSL_CERT")) && !who && !ENVIRONMENT.contains(&name)
    };
    let mut variables: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(meant)).collect();
    let ours = [("LC_ALL", "C"), ("PATH", NOTHING), ("HOME", NOTHING), ("SHELL", "/bin/false")];
    variables.extend(ours.map(|(name, value)| (name.into(), value.into())));
    variables
}

/// Whether words that go before a program only say as whom it is run on this machine.
pub(super) fn runs_here(exec: &[String]) -> bool {
    let name = exec.first().map(|program| program.rsplit('/').next().unwrap_or_default());
    name.is_none_or(|name| ["doas", "runuser", "setpriv", "su", "sudo"].contains(&name))
}

/// A value in a list of parameters.
fn parameter(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A command line. With the server's version as a number, and whether the account may do everything there.
fn argv(
    options: &PostgresqlServerOptions,
    (version, is_superuser): (u32, bool),
    program: &str,
    database: &str,
    (login, purpose): (Option<&Login>, SessionPurpose),
) -> Vec<OsString> {
    let is_apart = login.is_some_and(|login| login.apart.is_some());
    let mut argv: Vec<OsString> = options.exec.iter().map(OsString::from).collect();
    argv.push("env".into());
    let there = [options.socket.is_some() || options.host.is_some(), options.user.is_some() || login.is_some()];
    let more = [(there[0], "PGHOST"), (there[0], "PGPORT"), (there[1], "PGUSER"), (login.is_some(), "PGPASSFILE")];
    let more = more.iter().filter(|(unset, _)| *unset).map(|(_, name)| *name);
    for name in ENVIRONMENT.into_iter().chain(more) {
        argv.extend(["-u".into(), name.into()]);
    }
    // The output of programs is parsed.
    argv.push("LC_ALL=C".into());
    if is_apart {
        // It has an environment of its own, and no path.
        argv.clear();
    }
    if login.is_some() {
        let shell = if is_apart { "/bin/sh" } else { "sh" };
        argv.extend([shell, "-c", WITH_PASSWORD, "sh"].map(OsString::from));
    }
    argv.push(if is_apart { located(program).into_os_string() } else { program.into() });
    argv.push("--no-password".into());
    let mut option = |name: &str, value: &std::ffi::OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        argv.push(word);
    };
    match (login.and_then(|login| login.at.as_ref()), &options.socket, &options.host) {
        (Some((host, port)), _, _) => {
            option("host", host.as_ref());
            option("port", port.as_ref());
        }
        (None, socket, host) => {
            if let Some(socket) = socket {
                let (folder, port) = folder_and_port(socket);
                option("host", folder.as_os_str());
                if let Some(port) = port {
                    option("port", port.as_ref());
                }
            }
            if let Some(host) = host {
                match host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
                    Some((host, port)) => {
                        option("host", host.trim_matches(['[', ']']).as_ref());
                        option("port", port.as_ref());
                    }
                    None => option("host", host.as_ref()),
                }
            }
        }
    }
    if let Some(user) = login.map(|login| &login.role).or(options.user.as_ref()) {
        option("username", user.as_ref());
    }
    let newer =
        [(140_000, "idle_session_timeout=0"), (170_000, "transaction_timeout=0"), (170_000, "event_triggers=off")];
    let newer = newer.iter().filter(|(since, _)| version >= *since).map(|(_, setting)| *setting);
    // Only a superuser may turn event triggers off: a connection of another account that asked for it would be refused.
    let newer = newer.filter(|setting| is_superuser || !setting.starts_with("event_triggers"));
    // For the loading role: only an administrator can disable event triggers, and functions use the server's search path.
    let meant = |setting: &&str| {
        login.is_none() || !["event_triggers", "search_path"].iter().any(|own| setting.starts_with(own))
    };
    let reading = READING.into_iter().filter(|_| purpose == SessionPurpose::Reading);
    let settings =
        SETTINGS.into_iter().chain(newer).filter(meant).chain(reading).map(|setting| format!("-c {setting}"));
    let settings: Vec<String> = settings.collect();
    // A bare name that has an equals sign would be taken for a list of parameters.
    let name = format!("dbname={} options={}", parameter(database), parameter(&settings.join(" ")));
    option("dbname", name.as_ref());
    argv
}

/// The folder and the port of a socket's path: `/run/postgresql/.s.PGSQL.5432`.
fn folder_and_port(socket: &Path) -> (&Path, Option<&str>) {
    let port = socket.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(".s.PGSQL."));
    match (port, socket.parent()) {
        (Some(port), Some(folder)) => (folder, Some(port)),
        _ => (socket, None),
    }
}

/// The version that a program names, and the first number of it: of `pg_dump (PostgreSQL) 15.18 (Debian …)`.
fn release(said: &str) -> Option<(&str, u32)> {
    let version = said.split_once(") ")?.1.split_whitespace().next()?;
    Some((version, major(version)?))
}

/// The first number of a version.
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn help(options: &PostgresqlServerOptions, program: &str, word: &str, interrupt: &Interrupt) -> Result<String, Error> {
    let mut argv: Vec<OsString> = options.exec.iter().map(OsString::from).collect();
    argv.extend([OsString::from(program), word.into()]);
    let help = ask(&argv, b"", 4 << 20, Duration::from_secs(60), interrupt).map_err(|error| {
        Error::Config(format!("{program} can't be run, so install the server's client programs: {error}"))
    })?;
    Ok(String::from_utf8_lossy(&help).into_owned())
}

/// A name in quotes, as a statement takes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes, as a statement takes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An answer of `--csv`.
fn rows(answer: &[u8]) -> Vec<Vec<String>> {
    let text = text_of(answer);
    let (mut rows, mut row, mut column) = (Vec::new(), Vec::new(), String::new());
    let mut in_quotes = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, in_quotes) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                column.push('"');
            }
            ('"', _) => in_quotes = !in_quotes,
            (',', false) => row.push(std::mem::take(&mut column)),
            ('\n', false) => {
                row.push(std::mem::take(&mut column));
                rows.push(std::mem::take(&mut row));
            }
            (c, _) => column.push(c),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_its_version() {
        assert_eq!(release("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(("15.18", 15)));
        assert_eq!(release("psql (PostgreSQL) 19beta1\n"), Some(("19beta1", 19)));
        assert_eq!((release(""), release("pg_dump (something) else")), (None, None));
    }

    #[test]
    fn answers_come_as_they_were() {
        assert_eq!(rows(b"a,\"b,\"\"c\n\",\n1,,x\n"), [["a", "b,\"c\n", ""], ["1", "", "x"]]);
        assert!(rows(b"").is_empty());
    }

    #[test]
    fn a_command_line_names_the_server_and_no_secret() {
        let words = |options: &PostgresqlServerOptions, name: &str, login: Option<&Login>| {
            let argv = argv(options, (150_000, true), "psql", name, (login, SessionPurpose::Reading));
            argv.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>()
        };
        let exec = vec!["docker".into(), "exec".into(), "-i".into(), "db".into()];
        let options =
            PostgresqlServerOptions { host: Some("db:5433".into()), user: Some("backup".into()), exec, socket: None };
        let found = words(&options, "a=b'\\", None);
        assert_eq!(found[..7], ["docker", "exec", "-i", "db", "env", "-u", "PGOPTIONS"]);
        let at = found.iter().position(|word| word == "psql").unwrap();
        assert_eq!(found[at..at + 5], ["psql", "--no-password", "--host=db", "--port=5433", "--username=backup"]);
        let last = found.last().unwrap();
        assert!(last.starts_with("--dbname=dbname='a=b\\'\\\\' options='-c statement_timeout=0 "), "{last}");
        assert!(last.contains("-c default_transaction_isolation=read\\\\ committed") && last.contains("idle_session"));
        let options =
            PostgresqlServerOptions { socket: Some("/run/p/.s.PGSQL.7".into()), ..PostgresqlServerOptions::default() };
        let found = words(&options, "x", None).join(" ");
        assert!(found.contains("psql --no-password --host=/run/p --port=7 --dbname=dbname='x'"), "{found}");
        assert!(found.contains("-u PGHOST") && !found.contains("-u PGUSER"), "{found}");
        let at = Some(("127.0.0.1".to_owned(), "7".to_owned()));
        let login = Login { role: "r".into(), password: "geheim".into(), at, apart: None };
        let found = words(&options, "x", Some(&login)).join(" ");
        assert!(
            found.contains("psql --no-password --host=127.0.0.1 --port=7 --username=r") && !found.contains("geheim")
        );
        assert!(!format!("{login:?}").contains("geheim"));
    }

    #[test]
    fn only_who_may_turns_event_triggers_off() {
        let turns_off = |version, is_superuser| {
            let argv = argv(
                &PostgresqlServerOptions::default(),
                (version, is_superuser),
                "psql",
                "x",
                (None, SessionPurpose::AsItIs),
            );
            argv.last().unwrap().to_str().unwrap().contains("event_triggers=off")
        };
        assert!(turns_off(170_000, true) && !turns_off(170_000, false) && !turns_off(160_000, true));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!((quoted("a\"b"), literal("it's \\")), ("\"a\"\"b\"".to_owned(), "'it''s \\'".to_owned()));
    }
}
