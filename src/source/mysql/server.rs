//! The server and its programs: their versions, their abilities, and queries.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::{MysqlServerOptions, environment};
use super::messages::{self, redacted};
use super::names::{literal, quoted};
use super::program::{ServerProgram, Vendor, printed, series};
use super::sessions::{QUESTION, SESSION};
use crate::entry::Escaped;
use crate::progress::Interrupt;
use crate::source::Error;
use crate::source::command::apart::{self, Apart, located};
use crate::source::command::talk::{Feed, TalkError, ask};

/// A server that answers.
#[derive(Debug, Clone)]
pub struct MysqlServer {
    options: MysqlServerOptions,
    /// The client.
    pub client: ServerProgram,
    /// Whose it is.
    pub vendor: Vendor,
    /// Its version, `10.11.19-MariaDB-0+deb12u1`.
    pub version: String,
    /// The version up to which it runs versioned comments, if it was asked.
    number: Option<u32>,
    /// Whether this account may make InnoDB as lenient as it was with what is there (on MySQL that is a privilege).
    pub(super) may_be_lenient: bool,
    interrupt: Interrupt,
    session: ClientSession,
    /// Its client, if that is unprivileged, and the user's name that it gives.
    apart: Option<(Apart, String)>,
}

/// A client that has answered, and waits for the next question.
#[derive(Clone, Default)]
struct ClientSession(Arc<Mutex<Option<Feed>>>);

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// The clients, MariaDB's first.
const CLIENTS: [&str; 2] = ["mariadb", "mysql"];
/// The most bytes of an answer.
const ANSWER: usize = 256 << 20;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(600);

impl MysqlServer {
    /// Finds the client and asks the server who it is.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no client, [`Error::Failed`] if the server doesn't answer.
    pub fn connect(options: &MysqlServerOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        let mut first = None;
        for name in CLIENTS {
            let client = match find(options, &[name], interrupt) {
                Ok(client) => client,
                Err(_) => continue,
            };
            match Self::connect_by(client, options, interrupt) {
                Ok(server) => match server.client.misfit(server.vendor, &server.version) {
                    None => return Ok(server),
                    Some(why) => first = first.or(Some(Error::Config(why))),
                },
                // Each vendor's client may lack what the other's server wants of it.
                Err(error) => first = first.or(Some(error)),
            }
        }
        match first {
            Some(error) => Err(error),
            None => find(options, &CLIENTS, interrupt).and_then(|client| Self::connect_by(client, options, interrupt)),
        }
    }

    fn connect_by(client: ServerProgram, options: &MysqlServerOptions, interrupt: &Interrupt) -> Result<Self, Error> {
        let (vendor, version) = (Vendor::Mariadb, String::new());
        let (options, interrupt) = (options.clone(), interrupt.clone());
        let session = ClientSession::default();
        let mut server = Self {
            options,
            client,
            vendor,
            version,
            number: None,
            may_be_lenient: false,
            interrupt,
            session,
            apart: None,
        };
        let rows = server.ask("SELECT VERSION()")?;
        server.version = rows.into_iter().flatten().next().unwrap_or_default();
        server.vendor = Vendor::of_version(&server.version);
        Ok(server)
    }

    /// Finds the dump program that fits the server.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none.
    pub fn dump_program(&self) -> Result<ServerProgram, Error> {
        let mut names = ["mariadb-dump", "mysqldump"];
        if self.vendor == Vendor::Mysql {
            names.reverse();
        }
        let mut first = None;
        for name in names {
            let Ok(program) = find(&self.options, &[name], &self.interrupt) else { continue };
            match program.misfit(self.vendor, &self.version) {
                None => return Ok(program),
                Some(why) => first = first.or(Some(Error::Config(why))),
            }
        }
        match first {
            Some(error) => Err(error),
            None => find(&self.options, &names, &self.interrupt),
        }
    }

    /// The server's version as two numbers: 10 and 11 of `10.11.19`.
    pub fn series(&self) -> (u32, u32) {
        series(&self.version)
    }

    /// Whether its programs run somewhere else: in a container.
    pub fn is_elsewhere(&self) -> bool {
        !self.options.exec.is_empty()
    }

    /// A command line of `program`, with the words that say where the server is.
    pub fn argv(&self, program: &ServerProgram) -> Vec<OsString> {
        argv(&self.options, &program.name)
    }

    fn client_argv(&self) -> Vec<OsString> {
        let mut argv = match &self.apart {
            None => self.argv(&self.client),
            Some((_, user)) => {
                let option_file = self.options.option_file.as_ref().map(|_| apart::FILE.into());
                let mut argv = argv(&MysqlServerOptions { option_file, ..self.options.clone() }, &self.client.name);
                argv.push(format!("--user={user}").into());
                argv
            }
        };
        argv.extend(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"].map(OsString::from));
        argv.push("--max-allowed-packet=1G".into());
        let ours = OURS.into_iter().filter(|word| self.client.knows_word(word));
        argv.extend(ours.map(OsString::from));
        // Nothing in a dump may reach a shell or a file, and stored code keeps its comments.
        for (option, word) in [
            ("sandbox", "--sandbox"),
            ("skip-system-command", "--skip-system-command"),
            ("binary-mode", "--binary-mode"),
            ("local-infile", "--local-infile=0"),
            ("comments", "--comments"),
        ] {
            if self.client.knows(option) {
                argv.push(word.into());
            }
        }
        argv
    }

    /// As [`MysqlServer::ask`], with the bytes as they came.
    ///
    /// # Errors
    /// As [`MysqlServer::ask`].
    pub(super) fn ask_bytes(&self, statements: &str) -> Result<Vec<Vec<Vec<u8>>>, Error> {
        self.asked(statements).map(|answer| rows_of_bytes(&answer))
    }

    /// Asks the server something that changes nothing, neither in it nor in the session. Each row is a line; NULL comes as
    /// `NULL`. One client answers one question after the other, until one of them fails or it is [hung up](Self::hang_up).
    ///
    /// # Errors
    /// [`Error::Failed`] with what the client says.
    pub fn ask(&self, statements: &str) -> Result<Vec<Vec<String>>, Error> {
        self.asked(statements).map(|answer| rows(&answer))
    }

    fn asked(&self, statements: &str) -> Result<Vec<u8>, Error> {
        let mut session = self.session.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut client) = session.take()
            && let Ok(answer) = question(&mut client, statements)
        {
            *session = Some(client);
            return Ok(answer);
        }
        // The server may have closed a session that was silent for long: a new one reports the reason.
        let mut argv = self.client_argv();
        argv.push("--unbuffered".into());
        let mut client = self.start(&argv)?;
        let answer = question(&mut client, &format!("{SESSION}{QUESTION}{statements}"))
            .map_err(|error| failed(&self.client.name, "asking the server", &error))?;
        *session = Some(client);
        Ok(answer)
    }

    /// The settings of a session that is like any other of this account: the server's defaults, before the session sets
    /// anything itself.
    ///
    /// # Errors
    /// As [`MysqlServer::ask`].
    pub(super) fn fresh_settings(&self) -> Result<BTreeMap<String, String>, Error> {
        const NAME: &str = "sql_select_limit";
        // The limit holds for the answer with the limit, too: where it is 0 there is none.
        let statements =
            format!("SELECT @@{NAME};\nSET SESSION {NAME}=18446744073709551615;\nSHOW SESSION VARIABLES;\n");
        let answer = ask(&self.client_argv(), statements.as_bytes(), ANSWER, PATIENCE, &self.interrupt)
            .map_err(|error| failed(&self.client.name, "asking the server", &error))?;
        let mut rows = rows(&answer);
        let is_limit = rows.first().is_some_and(|row| row.len() == 1);
        let limit = if is_limit { rows.remove(0).remove(0) } else { "0".to_owned() };
        let pair = |row: Vec<String>| <[String; 2]>::try_from(row).ok().map(|[name, value]| (name, value));
        let mut found: BTreeMap<String, String> = rows.into_iter().filter_map(pair).collect();
        found.insert(NAME.to_owned(), limit);
        Ok(found)
    }

    /// The words that option files give a program, by its own account of them. They may hold a password.
    ///
    /// # Errors
    /// [`Error::Config`] if it can't read them.
    pub(super) fn defaults(&self, program: &ServerProgram) -> Result<Vec<String>, Error> {
        let mut argv: Vec<OsString> = self.options.exec.iter().map(OsString::from).collect();
        argv.push(OsString::from(&program.name));
        if let Some(file) = &self.options.option_file {
            let mut word = OsString::from("--defaults-file=");
            word.push(file);
            argv.push(word);
        }
        argv.push("--print-defaults".into());
        let text = ask(&argv, b"", 1 << 20, Duration::from_secs(60), &self.interrupt)
            .map_err(|error| Error::Config(format!("reading the options of {} failed: {error}", program.name)))?;
        Ok(printed(&String::from_utf8_lossy(&text)))
    }

    /// Ends the session, so that the server holds no connection for us while nothing is asked.
    pub fn hang_up(&self) {
        let client = self.session.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It has answered all that it was asked.
        let _ = client.map(Feed::finish);
    }

    fn start(&self, argv: &[OsString]) -> Result<Feed, Error> {
        let failed = |error: std::io::Error| Error::failed(&format!("starting {}", self.client.name), &error);
        let environment = environment(&self.options, self.apart.is_some());
        let start = |argv: &[OsString], apart| {
            Feed::start_in(argv, Some(&environment), apart, ANSWER, self.interrupt.clone()).map_err(failed)
        };
        let Some((apart, _)) = &self.apart else { return start(argv, None) };
        let file = self.options.option_file.as_ref().map(std::fs::read).transpose().map_err(failed)?;
        let (argv, first) = Apart::argv(argv, &file.unwrap_or_default());
        let mut feed = start(&argv, Some(*apart))?;
        feed.write(&first).map_err(|error| self::failed(&self.client.name, "starting", &error))?;
        Ok(feed)
    }

    /// From now on the client is [`Apart`] from this machine, where the server lets the same account in so: with a password,
    /// or by anything but the number of the user who asks. Else it stays whose it is.
    ///
    /// # Errors
    /// As [`MysqlServer::ask`].
    pub fn set_apart(&mut self) -> Result<(), Error> {
        // Whom the server takes it for, and which server it is: an option file may name others that only root reads.
        const WHO: &str = "SELECT USER(), CURRENT_USER(), @@hostname, @@port, @@datadir, @@pid_file";
        let Some(apart) = Apart::new().filter(|_| !self.is_elsewhere()) else { return Ok(()) };
        let who = self.ask(WHO)?;
        let name = who.first().and_then(|row| row.first()).and_then(|user| user.rsplit_once('@'));
        let Some((name, _)) = name else { return Ok(()) };
        for apart in [apart.without_network(), apart] {
            let apart = Some((apart, name.to_owned()));
            let server = Self { session: ClientSession::default(), apart, ..self.clone() };
            if server.ask(WHO).is_ok_and(|found| found == who) {
                self.hang_up();
                *self = server;
                break;
            }
        }
        Ok(())
    }

    /// The one value of the one row of an answer; empty where there is none.
    ///
    /// # Errors
    /// As [`MysqlServer::ask`].
    pub fn value(&self, question: &str) -> Result<String, Error> {
        Ok(self.ask(question)?.into_iter().flatten().next().unwrap_or_default())
    }

    /// Starts a client that runs the statements of its input.
    ///
    /// # Errors
    /// [`Error::Failed`] if it can't be started.
    pub fn load(&self) -> Result<Load, Error> {
        let feed = self.start(&self.client_argv())?;
        Ok(Load { client: self.client.name.clone(), feed, prepares: self.prepares() })
    }

    /// Whether the server takes `text` for one statement, of which it would make stored code. The answer is its error
    /// when it is asked to prepare it: it parses a text before it rejects it as unpreparable, and several statements are
    /// a parse error.
    ///
    /// # Errors
    /// [`Error::Failed`] if it can't be asked.
    pub fn parses_alone(&self, text: &[u8], mode: &str, charset: &str) -> Result<bool, Error> {
        // In some database that is everywhere. Nothing is made in it.
        let mut question = format!("{SESSION}USE mysql;\nSET @varu=0x{};\n", hexadecimal(text));
        question += &format!("SET SESSION sql_mode={}, character_set_client={};\n", literal(mode), literal(charset));
        question += "PREPARE varu FROM @varu;\n";
        let failed = |error: TalkError| failed(&self.client.name, "asking the server", &error);
        let mut client = self.start(&self.client_argv())?.with_limit(PATIENCE);
        client.write(question.as_bytes()).map_err(failed)?;
        let (_, error) = client.finish_anyway().map_err(failed)?;
        // ER_UNSUPPORTED_PS; events are prepared by some.
        Ok(error.is_none_or(|error| messages::code(&error.said).as_deref() == Some("1295")))
    }

    /// Looks whether [`Load::statement`] will take a statement.
    ///
    /// # Errors
    /// As there.
    pub fn takes(
        &self,
        statement: &[u8],
        quoted: &[Range<usize>],
        is_one: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if self.prepares() { Ok(()) } else { is_taken(statement, quoted, is_one) }
    }

    /// Runs statements that answer nothing, in a session of their own.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the client says.
    pub fn run(&self, statements: &str) -> Result<(), Error> {
        let statements = format!("{SESSION}{statements};\n");
        let failed = |error: TalkError| failed(&self.client.name, "changing the server", &error);
        let mut client = self.start(&self.client_argv())?.with_limit(PATIENCE);
        client.write(statements.as_bytes()).map_err(failed)?;
        client.finish().map(drop).map_err(failed)
    }

    /// The version as in comments: 101119 of 10.11.19.
    pub fn number(&self) -> u32 {
        let mut numbers = self.version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0_u32));
        let mut next = || numbers.next().unwrap_or(0).min(99);
        self.number.unwrap_or_else(|| next() * 10_000 + next() * 100 + next())
    }

    /// Asks the server up to which version it runs versioned comments: its reported version may differ.
    ///
    /// # Errors
    /// [`Error::Refused`] if that isn't of its series, and so isn't known.
    pub fn find_number(&mut self) -> Result<(), Error> {
        const SERIES: u32 = 100;
        let first = self.number() / SERIES * SERIES;
        let each: String = (first..first + SERIES).map(|number| format!(" /*!{number} +1*/")).collect();
        let run: u32 = self.value(&format!("SELECT 0{each}"))?.parse().unwrap_or(0);
        if !(1..SERIES).contains(&run) {
            return Err(Error::Refused(format!(
                "the server says that its version is {}, and reads the comments of a dump as another one would; restore to files \
                 with --to",
                Escaped(self.version.as_bytes())
            )));
        }
        self.number = Some(first + run - 1);
        self.may_be_lenient =
            self.run("SET SESSION innodb_strict_mode=0;\n/*!80013 SET SESSION sql_require_primary_key=0 */").is_ok();
        Ok(())
    }

    /// Whether it takes any statement as a value: MariaDB since 10.6.
    pub fn prepares(&self) -> bool {
        self.vendor == Vendor::Mariadb && self.number() >= 100_602
    }
}

/// Reverts options of the client that an option file may have set: its answers are parsed by a program.
const OURS: [&str; 11] = [
    "--init-command=DO 0",
    "--skip-safe-updates",
    "--skip-html",
    "--skip-xml",
    "--skip-vertical",
    "--skip-table",
    "--skip-raw",
    "--skip-force",
    "--disable-tee",
    "--skip-show-warnings",
    "--delimiter=;",
];

/// Asks a client, which prints a word after the answer that no answer contains.
fn question(client: &mut Feed, statements: &str) -> Result<Vec<u8>, TalkError> {
    let end = format!("the end of the answer {:016x}", RandomState::new().hash_one(statements));
    client.write(format!("{statements};\nSELECT '{end}';\n").as_bytes())?;
    client.answer(&end, PATIENCE)
}

fn failed(client: &str, tried: &str, error: &TalkError) -> Error {
    let code = messages::code(&error.said);
    let error = TalkError { what: error.what.clone(), said: redacted(&error.said) };
    Error::server(code, format!("{tried} with {client} failed: {error}"))
}

/// A client that is given statements.
pub struct Load {
    client: String,
    feed: Feed,
    /// Whether the server takes any statement as a value.
    prepares: bool,
}

impl Load {
    /// Gives it more.
    ///
    /// # Errors
    /// [`Error::Failed`] if it ended.
    pub fn write(&mut self, statements: &[u8]) -> Result<(), Error> {
        self.feed.write(statements).map_err(|error| failed(&self.client, "loading", &error))
    }

    /// Goes into a database.
    ///
    /// # Errors
    /// As [`Load::statement`].
    pub fn enter(&mut self, database: &str) -> Result<(), Error> {
        let text = format!("USE {}", quoted(database));
        if self.prepares {
            return self.statement(text.as_bytes(), &[], || Ok(true));
        }
        // The client goes there itself, by the line.
        if database.contains(|c: char| c.is_control() || c == '\\') {
            return Err(Error::Refused(format!(
                "the client of this server can't be told the name {} safely; restore to files with --to",
                Escaped(database.as_bytes())
            )));
        }
        self.write(format!("{text};\n").as_bytes())
    }

    /// Gives it one statement of foreign origin. The client must not interpret it otherwise than the server, so it gets
    /// it in hexadecimal digits, and the server runs no more than one; a server that doesn't accept this form gets it as
    /// text only if both read it the same way, and if it `is_one`. Of what is in `quoted`, strings and names, it is known that
    /// both see the same end.
    ///
    /// # Errors
    /// [`Error::Refused`] if they don't, [`Error::Failed`] if it ended.
    pub fn statement(
        &mut self,
        statement: &[u8],
        quoted: &[Range<usize>],
        is_one: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if self.prepares {
            return self.write(format!("EXECUTE IMMEDIATE 0x{};\n", hexadecimal(statement)).as_bytes());
        }
        is_taken(statement, quoted, is_one)?;
        // A client knows the first 15 bytes of a delimiter.
        let end = format!("//{:011x}//", RandomState::new().hash_one(statement) >> 20);
        self.write(format!("DELIMITER {end}\n").as_bytes())?;
        self.write(statement)?;
        self.write(format!("\n{end}\nDELIMITER ;\n").as_bytes())
    }

    /// Waits until all has been run.
    ///
    /// # Errors
    /// [`Error::Failed`] if something could not be.
    pub fn finish(self) -> Result<(), Error> {
        self.feed.finish().map(drop).map_err(|error| failed(&self.client, "loading", &error))
    }
}

/// Whether a server that takes a statement through the client alone gets it.
fn is_taken(
    statement: &[u8],
    quoted: &[Range<usize>],
    is_one: impl FnOnce() -> Result<bool, Error>,
) -> Result<(), Error> {
    if reads_alike(statement, quoted) && is_one()? {
        return Ok(());
    }
    let start = &statement[..statement.len().min(60)];
    Err(Error::Refused(format!(
        "a statement of the dump has a backslash, a comment or an end that the client and the server may read differently, and this \
         server takes it through the client alone: {}…; restore to files with --to, and look at it",
        Escaped(start)
    )))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Whether a client and a server see the same in a statement: it has no backslash outside of what is `quoted`, no comment but
/// `/* … */` and `-- …`, and no word that the client takes for its command in the middle of a statement.
fn reads_alike(statement: &[u8], quoted: &[Range<usize>]) -> bool {
    let pairs = statement.windows(3).all(|three| match three {
        [b'-', b'-', next] => *next == b' ' || *next == b'\n' || next.is_ascii_digit() || *next == b'(',
        _ => true,
    });
    let is_quoted = |at: usize| quoted.iter().any(|range| range.contains(&at));
    let backslashes = memchr::memchr_iter(b'\\', statement).all(is_quoted);
    let plain = backslashes && !statement.ends_with(b"--") && !statement.contains(&0);
    pairs && plain && !(0..statement.len()).any(|at| is_delimiter(&statement[at..]))
}

/// Whether a client may read its command `DELIMITER` here. It compares ten bytes with `delimiter` and a blank as text is
/// compared, so é is e, and a letter of two bytes needs no blank behind it.
fn is_delimiter(text: &[u8]) -> bool {
    let (mut at, mut longer) = (0, 0);
    for letter in b"delimiter" {
        match text.get(at) {
            Some(byte) if byte.eq_ignore_ascii_case(letter) => at += 1,
            Some(0xc2..=0xdf) if longer == 0 => {
                longer = 1;
                at += 2;
            }
            _ => return false,
        }
    }
    longer == 1 || text.get(at).is_none_or(u8::is_ascii_whitespace)
}

fn argv(options: &MysqlServerOptions, program: &str) -> Vec<OsString> {
    let mut argv: Vec<OsString> = options.exec.iter().map(OsString::from).collect();
    argv.push(place(options, program));
    let mut option = |name: &str, value: &std::ffi::OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        argv.push(word);
    };
    // The option file has to be the first option.
    if let Some(file) = &options.option_file {
        option("defaults-file", file.as_os_str());
    }
    if let Some(socket) = &options.socket {
        option("socket", socket.as_os_str());
    }
    if let Some(host) = &options.host {
        match host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
            Some((host, port)) => {
                option("host", host.trim_matches(['[', ']']).as_ref());
                option("port", port.as_ref());
                option("protocol", "tcp".as_ref());
            }
            None => option("host", host.as_ref()),
        }
    }
    argv
}

/// How a program is called: by its path, where it runs on this machine.
fn place(options: &MysqlServerOptions, program: &str) -> OsString {
    match options.exec.is_empty() {
        true => located(program).into_os_string(),
        false => program.into(),
    }
}

/// The first of the programs that is there.
fn find(options: &MysqlServerOptions, names: &[&str], interrupt: &Interrupt) -> Result<ServerProgram, Error> {
    let mut why = Vec::new();
    for name in names {
        let mut argv: Vec<OsString> = options.exec.iter().map(OsString::from).collect();
        argv.extend([place(options, name), "--no-defaults".into(), "--help".into()]);
        match ask(&argv, b"", 4 << 20, Duration::from_secs(60), interrupt) {
            Ok(help) => return Ok(ServerProgram::new(name, String::from_utf8_lossy(&help).into_owned())),
            Err(error) => why.push(format!("{name}: {error}")),
        }
    }
    Err(Error::Config(format!(
        "none of the programs {} can be run, so install the server's client programs: {}",
        names.join(" and "),
        why.join("; ")
    )))
}

/// Output of `--batch`: columns are separated by tabs, and `\n`, `\t`, `\0` and `\\` are escapes.
fn rows(answer: &[u8]) -> Vec<Vec<String>> {
    let text = |column: Vec<u8>| String::from_utf8_lossy(&column).into_owned();
    rows_of_bytes(answer).into_iter().map(|row| row.into_iter().map(text).collect()).collect()
}

fn rows_of_bytes(answer: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let column = |column: &[u8]| {
        let mut out = Vec::with_capacity(column.len());
        let mut bytes = column.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'\\' => match bytes.next() {
                    Some(b'n') => out.push(b'\n'),
                    Some(b't') => out.push(b'\t'),
                    Some(b'0') => out.push(b'\0'),
                    Some(&other) => out.push(other),
                    None => {}
                },
                byte => out.push(byte),
            }
        }
        out
    };
    // A name may end with a carriage return, which the client writes as it is.
    let Some(answer) = answer.strip_suffix(b"\n").or((!answer.is_empty()).then_some(answer)) else { return Vec::new() };
    answer.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b'\t').map(column).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_as_they_were() {
        assert_eq!(rows(b"a\tb\\nc\n\\\\\\t\t\n"), [["a", "b\nc"], ["\\\t", ""]]);
        assert!(rows(b"").is_empty());
    }

    #[test]
    fn a_client_gets_only_what_it_reads_as_the_server_does() {
        for text in [
            "CREATE PROCEDURE p() SELECT 1 -- why\n",
            "/*!50003 CREATE TRIGGER t */ # x",
            "SELECT 5--1",
            "SELECT delimiters, `delimiter`, 'ein Délimiteur'",
        ] {
            assert!(reads_alike(text.as_bytes(), &[]), "{text}");
        }
        for text in [
            "SELECT '\\'",
            "SELECT 1 --\u{1}",
            "SELECT 1--",
            "a\0b",
            "SELECT a delimiter ;\nDROP DATABASE x;",
            "SELECT a DeLimiter\t;",
            "SELECT a délimiter;",
            "SELECT delimiter",
        ] {
            assert!(!reads_alike(text.as_bytes(), &[]), "{text}");
        }
        let quoted = [7..10, 12..15];
        assert!(reads_alike(b"SELECT '\\', `\\`", &quoted) && !reads_alike(b"SELECT '\\', `\\` \\", &quoted));
    }

    /// A client whose server closes each session behind its first answer.
    const ONE_ANSWER: &str = r#"
        case "$*" in *--help*) exit 0;; esac
        while read -r line; do
            case "$line" in "SELECT 'the end"*) echo 10.11; end=${line#*\'}; echo "${end%\'*}"; exit 0;; esac
        done"#;

    #[test]
    fn a_session_that_the_server_closed_is_followed_by_another() {
        let exec = ["sh", "-c", ONE_ANSWER].map(str::to_owned).to_vec();
        let options = MysqlServerOptions { exec, ..MysqlServerOptions::default() };
        let server = MysqlServer::connect(&options, &Interrupt::default()).unwrap();
        assert_eq!(server.version, "10.11");
        for _ in 0..3 {
            assert_eq!(server.value("SELECT 1").unwrap(), "10.11");
        }
        server.hang_up();
        assert_eq!(server.value("SELECT 1").unwrap(), "10.11");
    }

    #[test]
    fn a_command_line_names_the_server_and_no_secret() {
        let words = |options: &MysqlServerOptions| {
            argv(options, "mysql").into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let exec = vec!["docker".into(), "exec".into(), "-i".into(), "db".into()];
        let option_file = Some("/etc/varu/mysql.cnf".into());
        let options = MysqlServerOptions { option_file, host: Some("db:3307".into()), exec, socket: None };
        assert_eq!(
            words(&options),
            "docker exec -i db mysql --defaults-file=/etc/varu/mysql.cnf --host=db --port=3307 --protocol=tcp"
        );
        let options = MysqlServerOptions { socket: Some("/run/s".into()), ..MysqlServerOptions::default() };
        assert_eq!(words(&options), format!("{} --socket=/run/s", located("mysql").display()));
    }

    #[test]
    fn a_program_knows_what_its_help_names() {
        let program =
            ServerProgram::new("x", "  --sandbox   Disallow\n  --ignore-table-data=name \n  -y, --no-x".into());
        assert!(program.knows("sandbox") && program.knows("ignore-table-data") && program.knows("no-x"));
        assert!(!program.knows("sand") && !program.knows("ignore-table"));
    }
}
