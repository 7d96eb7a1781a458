//! A client that is given the statements of a dump, and takes no commands of its own from it.

use std::ffi::OsString;
use std::io::Read;
use std::time::Duration;

use super::login::Login;
use super::said::{ServerFault, faults};
use super::server::{PostgresqlServer, environment_apart, failed};
use super::text::bytes_of;
use crate::entry::Escaped;
use crate::source::Error;
use crate::source::command::apart::Apart;
use crate::source::command::talk::Feed;

/// The most bytes of answers to statements until they are waited for.
const ANSWER: usize = 64 << 20;
/// How much of its error messages is kept.
const SAID: usize = 64 << 10;
/// How long one statement may run.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A running client.
pub struct PsqlSession {
    feed: Feed,
    /// An unguessable word by which the end of an answer is found.
    end: String,
}

/// An unguessable word.
///
/// # Errors
/// Where the system has none.
pub fn unknown_word() -> Result<String, Error> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::failed("reading /dev/urandom", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Asks for the settings by which the client reads text.
const READING: &str = "SELECT pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding');\n";
/// Encodings in which the second byte of a character may look like a quote.
const NOT_PLAIN: [&str; 8] = ["BIG5", "GB18030", "GBK", "JOHAB", "SJIS", "SHIFT_JIS_2004", "UHC", "MULE_INTERNAL"];

/// Whether backslashes mean nothing in a text, and no part of a character looks like a quote.
fn reads_as_we_do(reading: &str) -> bool {
    reading.strip_prefix("on,").is_some_and(|encoding| !encoding.is_empty() && !NOT_PLAIN.contains(&encoding))
}

impl PsqlSession {
    /// Starts a client in `database`, as the account or as `login`. It continues after an error, which
    /// [`PsqlSession::settle`] returns.
    ///
    /// # Errors
    /// [`Error::Failed`] if it can't be started, or can't log in.
    pub fn start(server: &PostgresqlServer, database: &str, login: Option<&Login>) -> Result<Self, Error> {
        let mut argv = server.session_argv(database, login);
        // The command tag of each statement is printed, so that one without effect is found.
        argv.extend(
            ["--tuples-only", "--csv", "--set=VERBOSITY=verbose", "--set=SHOW_CONTEXT=errors"].map(OsString::from),
        );
        let interrupt = server.interrupt.clone();
        let (started, first) = match login.and_then(|login| login.apart) {
            None => (Feed::start(&argv, ANSWER, interrupt), Vec::new()),
            Some(apart) => {
                let (argv, first) = Apart::argv(&argv, b"");
                (
                    Feed::start_in(&argv, Some(&environment_apart(&server.options)), Some(apart), ANSWER, interrupt),
                    first,
                )
            }
        };
        let feed = started.map_err(|error| Error::failed("starting psql", &error))?.keeping(SAID);
        let mut session = Self { feed, end: format!("varu {}", unknown_word()?) };
        session.write(&first)?;
        if let Some(login) = login {
            session.write(format!("{}\n", login.password).as_bytes())?;
        }
        if server.restricts {
            session.write(format!("\\restrict {}\n", unknown_word()?).as_bytes())?;
        }
        session.write(super::server::SESSION.as_bytes())?;
        match session.settle()? {
            (_, None) => Ok(session),
            (_, Some(fault)) => Err(Error::Failed(format!("starting a session in {database} failed: {fault}"))),
        }
    }

    /// Gives it more.
    ///
    /// # Errors
    /// [`Error::Failed`] if it ended.
    pub fn write(&mut self, statements: &[u8]) -> Result<(), Error> {
        self.feed.write(statements).map_err(|error| failed("loading", &error))
    }

    /// Waits until all statements have been run: their answers, and the first error.
    ///
    /// # Errors
    /// [`Error::Failed`] if the client or the server ended, or its disk is full, [`Error::Refused`] if what was run has
    /// changed how the client reads what comes.
    pub fn settle(&mut self) -> Result<(String, Option<ServerFault>), Error> {
        let wait = |error| failed("loading", &error);
        self.feed.write(format!("{READING}SELECT '{}';\n", self.end).as_bytes()).map_err(wait)?;
        let answer = self.feed.answer(&self.end, LIMIT).map_err(wait)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (answer, reading) = match answer.trim_end_matches('\n').rsplit_once('\n') {
            Some((answer, reading)) => (format!("{answer}\n"), reading.to_owned()),
            None => (String::new(), answer.trim_end_matches('\n').to_owned()),
        };
        let said = self.feed.take_said().map_err(wait)?;
        let fault = faults(&String::from_utf8_lossy(&said)).into_iter().next();
        match fault {
            Some(fault) if fault.is_fatal() => Err(Error::Failed(format!("loading failed: {fault}"))),
            _ if !reads_as_we_do(&reading) => Err(Error::Refused(format!(
                "it has changed how the client reads text (standard_conforming_strings, client_encoding: {}); look at it in a restore \
                 to files (--to), or restore another snapshot",
                Escaped(reading.as_bytes())
            ))),
            fault => Ok((answer, fault)),
        }
    }

    /// Runs one statement, and waits for it.
    ///
    /// # Errors
    /// As [`PsqlSession::settle`].
    pub fn run(&mut self, statement: &str) -> Result<Option<ServerFault>, Error> {
        self.run_bytes(&bytes_of(statement))
    }

    /// As [`PsqlSession::run`], of a statement that may not be UTF-8.
    ///
    /// # Errors
    /// As [`PsqlSession::settle`].
    pub fn run_bytes(&mut self, statement: &[u8]) -> Result<Option<ServerFault>, Error> {
        self.write(statement)?;
        self.write(b"\n")?;
        self.settle().map(|(_, fault)| fault)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Failed`] if it doesn't end well.
    pub fn finish(self) -> Result<(), Error> {
        self.feed.finish().map(drop).map_err(|error| failed("loading", &error))
    }
}
