//! The server and its programs: how they are run, and questions to the server.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::entry::Escaped;
use crate::progress::Interrupt;
use crate::source::Error;
use crate::source::command::talk::{Feed, TalkError, ask};

/// Where a server is, and how its programs are run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerOptions {
    /// A host, with or without `:port`.
    pub host: Option<String>,
    /// The socket, or the folder that it lies in.
    pub socket: Option<PathBuf>,
    /// The account; the programs' own where there is none.
    pub user: Option<String>,
    /// Words that go before every program: `runuser -u postgres --`.
    pub exec: Vec<String>,
}

/// A server that answers.
#[derive(Debug, Clone)]
pub struct Server {
    options: ServerOptions,
    /// Its version as a number: 150018.
    pub version: u32,
    /// Its version as people write it: `15.18`.
    pub version_text: String,
    /// The account.
    pub account: String,
    /// Whether the account may do everything.
    pub is_superuser: bool,
    /// Whether the client can be told to take no commands of its own.
    pub restricts: bool,
    common: &'static str,
    interrupt: Interrupt,
}

/// The most bytes of an answer.
const ANSWER: usize = 256 << 20;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// A database that is always there.
pub const COMMON: &str = "postgres";
/// Another one, for when that is the one that is restored.
pub const TEMPLATE: &str = "template1";

impl Server {
    /// Finds the client and asks the server who it is.
    ///
    /// # Errors
    /// [`Error::Config`] where there is no client, [`Error::Failed`] where the server doesn't answer.
    pub fn connect(options: &ServerOptions, interrupt: &Interrupt) -> Result<Self, Error> {
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
            Err(Error::Failed(why)) if why.contains("does not exist") => {
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
        Ok(server)
    }

    /// A database that is there whatever is backed up.
    pub fn common(&self) -> &'static str {
        self.common
    }

    /// The help text of one of the server's programs.
    ///
    /// # Errors
    /// [`Error::Config`] where it can't be run.
    pub fn help(&self, program: &str) -> Result<String, Error> {
        help(&self.options, program, "--help", &self.interrupt)
    }

    /// A command line of `program`, connected to `database`.
    pub fn argv(&self, program: &str, database: &str) -> Vec<OsString> {
        argv(&self.options, program, database)
    }

    fn client_argv(&self, database: &str) -> Vec<OsString> {
        let mut argv = self.argv("psql", database);
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
        let question = format!("{SESSION}{statements};\n");
        let answer = ask(&self.client_argv(database), question.as_bytes(), ANSWER, PATIENCE, &self.interrupt)
            .map_err(|error| failed("asking the server", &error))?;
        Ok(rows(&answer))
    }

    /// The one value of the one row of an answer; empty where there is none.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub fn value(&self, database: &str, question: &str) -> Result<String, Error> {
        Ok(self.ask(database, question)?.into_iter().flatten().next().unwrap_or_default())
    }

    /// The names that a question answers with.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub fn names(&self, database: &str, question: &str) -> Result<Vec<String>, Error> {
        Ok(self.ask(database, question)?.into_iter().flatten().collect())
    }

    /// Starts a client that runs what it is given, and takes no commands of its own from it.
    ///
    /// # Errors
    /// [`Error::Failed`] where it can't be started.
    pub fn load(&self, database: &str) -> Result<Load, Error> {
        let feed = Feed::start(&self.client_argv(database), ANSWER, self.interrupt.clone())
            .map_err(|error| Error::failed("starting psql", &error))?;
        let mut load = Load { feed };
        if self.restricts {
            load.write(format!("\\restrict {}\n", key()?).as_bytes())?;
        }
        Ok(load)
    }
}

/// What every question begins with: nothing that a user has made stands in the way of the server's own names.
const SESSION: &str = "SET standard_conforming_strings = on; SET search_path = pg_catalog; SET client_min_messages = warning; \
                       SET client_encoding = 'UTF8';\n";

/// A word that nobody can know.
fn key() -> Result<String, Error> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::failed("reading /dev/urandom", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(tried: &str, error: &TalkError) -> Error {
    let error = TalkError { what: error.what.clone(), said: redacted(&error.said) };
    Error::Failed(format!("{tried} with psql failed: {error}"))
}

/// A client that is given statements.
pub struct Load {
    feed: Feed,
}

impl Load {
    /// Gives it more.
    ///
    /// # Errors
    /// [`Error::Failed`] where it ended.
    pub fn write(&mut self, statements: &[u8]) -> Result<(), Error> {
        self.feed.write(statements).map_err(|error| failed("loading", &error))
    }

    /// Waits until all has been run.
    ///
    /// # Errors
    /// [`Error::Failed`] where something could not be.
    pub fn finish(self) -> Result<(), Error> {
        self.feed.finish().map(drop).map_err(|error| failed("loading", &error))
    }
}

fn argv(options: &ServerOptions, program: &str, database: &str) -> Vec<OsString> {
    let mut argv: Vec<OsString> = options.exec.iter().map(OsString::from).collect();
    argv.push(program.into());
    argv.push("--no-password".into());
    let mut option = |name: &str, value: &std::ffi::OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        argv.push(word);
    };
    if let Some(socket) = &options.socket {
        let (folder, port) = folder_and_port(socket);
        option("host", folder.as_os_str());
        if let Some(port) = port {
            option("port", port.as_ref());
        }
    }
    if let Some(host) = &options.host {
        match host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
            Some((host, port)) => {
                option("host", host.trim_matches(['[', ']']).as_ref());
                option("port", port.as_ref());
            }
            None => option("host", host.as_ref()),
        }
    }
    if let Some(user) = &options.user {
        option("username", user.as_ref());
    }
    // A bare name that has an equals sign would be taken for a list of parameters.
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    option("dbname", format!("dbname='{name}'").as_ref());
    argv
}

/// The folder and the port that a socket's path stands for: `/run/postgresql/.s.PGSQL.5432`.
fn folder_and_port(socket: &Path) -> (&Path, Option<&str>) {
    let port = socket.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(".s.PGSQL."));
    match (port, socket.parent()) {
        (Some(port), Some(folder)) => (folder, Some(port)),
        _ => (socket, None),
    }
}

fn help(options: &ServerOptions, program: &str, word: &str, interrupt: &Interrupt) -> Result<String, Error> {
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
    let text = String::from_utf8_lossy(answer);
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

/// What a client said, without what may come from a row: of errors about values only the beginning stays.
fn redacted(said: &str) -> String {
    // The statement and the row stand on lines of their own.
    let line = |line: &str| {
        let at = ["ERROR:  ", "FATAL:  ", "error: "].iter().find_map(|word| line.find(word))?;
        let error = &line[at..];
        let code = error.split_once(":  ").map_or("", |(_, rest)| rest.get(..5).unwrap_or_default());
        // Data exceptions and broken constraints name values.
        if ["22", "23"].contains(&code.get(..2).unwrap_or_default()) {
            let (before, rest) = error.split_once('"').unwrap_or((error, ""));
            return Some(if rest.is_empty() { before.to_owned() } else { format!("{before}…") });
        }
        Some(Escaped(error.as_bytes()).to_string())
    };
    let lines: Vec<String> = said.lines().filter_map(line).collect();
    match lines.is_empty() {
        true => Escaped(said.lines().next_back().unwrap_or_default().trim().as_bytes()).to_string(),
        false => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_as_they_were() {
        assert_eq!(rows(b"a,\"b,\"\"c\n\",\n1,,x\n"), [["a", "b,\"c\n", ""], ["1", "", "x"]]);
        assert!(rows(b"").is_empty());
    }

    #[test]
    fn no_value_of_a_row_is_shown() {
        let said = "psql:<stdin>:5: ERROR:  23505: duplicate key value violates unique constraint \"t_pkey\"\nDETAIL:  Key \
                    (id)=(secret) already exists.\nCONTEXT:  COPY t, line 2: \"secret\"";
        assert_eq!(redacted(said), "ERROR:  23505: duplicate key value violates unique constraint …");
        let said = "ERROR:  42P01: relation \"x\" does not exist\nLINE 1: SELECT secret";
        assert_eq!(redacted(said), "ERROR:  42P01: relation \"x\" does not exist");
        let said =
            "psql: error: connection to server on socket \"/x\" failed: No such file or directory\n\tIs the server?";
        assert!(redacted(said).contains("connection to server on socket"));
    }

    #[test]
    fn a_command_line_names_the_server_and_no_secret() {
        let words = |options: &ServerOptions, name: &str| {
            argv(options, "psql", name)
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let exec = vec!["docker".into(), "exec".into(), "-i".into(), "db".into()];
        let options = ServerOptions { host: Some("db:5433".into()), user: Some("backup".into()), exec, socket: None };
        assert_eq!(
            words(&options, "a=b'\\"),
            "docker exec -i db psql --no-password --host=db --port=5433 --username=backup --dbname=dbname='a=b\\'\\\\'"
        );
        let options = ServerOptions { socket: Some("/run/p/.s.PGSQL.7".into()), ..ServerOptions::default() };
        assert_eq!(words(&options, "x"), "psql --no-password --host=/run/p --port=7 --dbname=dbname='x'");
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!((quoted("a\"b"), literal("it's \\")), ("\"a\"\"b\"".to_owned(), "'it''s \\'".to_owned()));
    }
}
