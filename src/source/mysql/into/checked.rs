//! A client that is given a dump's statements, each of them looked at before.

use std::ops::Range;

use super::MysqlTarget;
use super::filter::{Filter, Next, Scope, Step, refused};
use super::naming::names_schema;
use crate::entry::Escaped;
use crate::source::Error;
use crate::source::mysql::names::DumpPart;
use crate::source::mysql::program::Vendor;
use crate::source::mysql::server::{Load, MysqlServer};
use crate::source::mysql::sessions::{LOADS, SESSION};
use crate::source::mysql::sql::charset::Charset;
use crate::source::mysql::sql::rows::RowReader;
use crate::source::mysql::sql::tokens::{ReadingConditions, SqlToken, TokenKind};

/// What is set behind a dump's own settings: what is there comes back as it was, also where it could not be made anew.
fn settings(server: &MysqlServer) -> &'static str {
    match server.vendor {
        Vendor::Mariadb => {
            "SET SESSION innodb_strict_mode=0, check_constraint_checks=0, foreign_key_checks=0, unique_checks=0;\n"
        }
        Vendor::Mysql if server.may_be_lenient => {
            "SET SESSION innodb_strict_mode=0, foreign_key_checks=0, unique_checks=0;\n\
             /*!80013 SET SESSION sql_require_primary_key=0 */;\n\
             /*!80030 SET SESSION sql_generate_invisible_primary_key=0 */;\n"
        }
        Vendor::Mysql => "SET SESSION foreign_key_checks=0, unique_checks=0;\n",
    }
}

/// The client, and how far its session is known.
pub(super) struct Checked {
    server: MysqlServer,
    load: Load,
    filter: Filter,
    preamble: Vec<u8>,
    folds: bool,
    keeps_engines: bool,
    /// What isn't decided of a stream.
    held: Vec<u8>,
    /// The rows that are followed.
    rows: Option<RowReader>,
}

impl Checked {
    /// Starts one, for streams behind that `preamble`.
    pub fn new(server: &MysqlServer, preamble: &[u8], folds: bool) -> Result<Self, Error> {
        Ok(Self {
            load: server.load()?,
            filter: filter(server),
            server: server.clone(),
            preamble: preamble.to_vec(),
            folds,
            keeps_engines: false,
            held: Vec::new(),
            rows: None,
        })
    }

    /// What follows are tables: none gets another engine than it had, and no date another day. Stored code keeps its session's sql_mode, so it isn't made
    /// behind this.
    pub fn keeping_engines(mut self) -> Self {
        self.keeps_engines = true;
        self
    }

    /// What follows is a stream of its own and goes into that database: the session is what the preamble makes of a new one,
    /// whatever the stream before has left of it.
    pub fn enter(&mut self, database: &str) -> Result<(), Error> {
        self.filter = filter(&self.server);
        self.load.write(SESSION.as_bytes())?;
        self.load.enter(database)?;
        let preamble = std::mem::take(&mut self.preamble);
        let set =
            self.part(&Scope { part: &DumpPart::Preamble, from: "", to: "", home: "", folds: self.folds }, &preamble);
        self.preamble = preamble;
        set?;
        self.load.write(settings(&self.server).as_bytes())?;
        if self.keeps_engines {
            self.load.write(format!("SET SESSION sql_mode=CONCAT(@@sql_mode, ',{LOADS}');\n").as_bytes())?;
        }
        Ok(())
    }

    /// Runs the statements of a text.
    pub fn part(&mut self, scope: &Scope<'_>, text: &[u8]) -> Result<(), Error> {
        for step in self.filter.steps(scope, text)? {
            self.step(&step)?;
        }
        Ok(())
    }

    /// As [`Checked::part`]; events are made disabled.
    pub fn part_disabled(&mut self, scope: &Scope<'_>, text: &[u8]) -> Result<(), Error> {
        for step in self.filter.steps(scope, text)? {
            self.step(&step.disabled())?;
        }
        Ok(())
    }

    /// Runs a statement that was looked at.
    pub fn step(&mut self, step: &Step) -> Result<(), Error> {
        let reading = self.filter.session.reading;
        self.load.statement(&step.text, &quoted(step), || is_one(&self.server, step, reading))
    }

    /// Runs the statements of a stream that comes in pieces. Returns what of them makes something.
    pub fn write(&mut self, scope: &Scope<'_>, bytes: &[u8]) -> Result<Vec<Step>, Error> {
        let mut bytes = bytes;
        if self.rows.is_some() {
            bytes = self.follow(scope, bytes)?;
        }
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        self.held.extend_from_slice(bytes);
        self.decide(scope, false)
    }

    /// The end of a stream.
    pub fn end(&mut self, scope: &Scope<'_>) -> Result<Vec<Step>, Error> {
        if self.rows.is_some() {
            return Err(refused(scope, b"rows without an end"));
        }
        self.decide(scope, true)
    }

    fn decide(&mut self, scope: &Scope<'_>, end: bool) -> Result<Vec<Step>, Error> {
        let held = std::mem::take(&mut self.held);
        let mut made = Vec::new();
        let mut rest = held.as_slice();
        while !rest.is_empty() {
            match self.filter.next(scope, rest, end)? {
                Next::Nothing(0) => break,
                Next::Nothing(length) => rest = &rest[length..],
                Next::Statement(statement, tokens, length) => {
                    if let Some(step) = self.filter.judged(scope, statement, &tokens)? {
                        self.step(&step)?;
                        made.extend(step.makes.is_some().then_some(step));
                    }
                    rest = &rest[length..];
                }
                Next::Rows(head, begin) => {
                    self.load.write(head.as_bytes())?;
                    self.rows = Some(RowReader::new());
                    rest = self.follow(scope, &rest[begin..])?;
                }
            }
        }
        self.held = rest.to_vec();
        Ok(made)
    }

    /// Gives on what is rows, and returns what follows them.
    fn follow<'b>(&mut self, scope: &Scope<'_>, bytes: &'b [u8]) -> Result<&'b [u8], Error> {
        let Some(rows) = &mut self.rows else { return Ok(bytes) };
        // What came before the byte that is no value is values alone, and without the statement's end.
        let (length, ended) =
            rows.follow(bytes).map_err(|_| refused(scope, b"INSERT with something else than values"))?;
        self.load.write(&bytes[..length])?;
        if ended {
            self.load.write(b"\n")?;
            self.rows = None;
        }
        Ok(&bytes[length..])
    }

    /// Waits until all has been run.
    pub fn finish(self) -> Result<(), Error> {
        self.load.finish()
    }
}

/// Strings and names of a statement that makes something, whose end the client and the server see at the same byte: the
/// client is told by the server whether a backslash escapes, and none does in a name's quotes. In a character set in which a
/// backslash may be the second half of a letter the client, whose own is UTF-8, sees it elsewhere.
fn quoted(step: &Step) -> Vec<Range<usize>> {
    let Some(made) = &step.makes else { return Vec::new() };
    if matches!(made.reading.charset, Charset::Pairs(_)) {
        return Vec::new();
    }
    let tokens = made.reading.tokens(&step.text).unwrap_or_default();
    let is_quoted = |token: &SqlToken| match step.text.get(token.at.start) {
        Some(b'\'') => token.kind == TokenKind::Text,
        Some(b'`') => token.kind == TokenKind::Name,
        _ => false,
    };
    tokens.into_iter().filter(is_quoted).map(|token| token.at).collect()
}

/// Whether the server sees one statement in the text, also where it takes several at once: none of its tokens ends one, or it
/// is stored code that the server itself, which prepares no more than one and no stored code, found to be one.
fn is_one(server: &MysqlServer, step: &Step, reading: ReadingConditions) -> Result<bool, Error> {
    let reading = step.makes.as_ref().map_or(reading, |made| made.reading);
    let Ok(tokens) = reading.tokens(&step.text) else { return Ok(false) };
    // To one vendor's client what the other's server runs is a comment, and a quote in what a server skips is one to a client.
    let has_quotes = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\'' | b'"' | b'`'));
    let is_skipped = |token: &SqlToken| {
        let text = step.text.get(token.at.clone()).unwrap_or_default();
        token.kind == TokenKind::Comment && text.starts_with(b"/*!") && has_quotes(text)
    };
    if tokens.iter().any(is_skipped) || (memchr::memmem::find(&step.text, b"/*M!").is_some() && has_quotes(&step.text))
    {
        return Ok(false);
    }
    if !tokens.iter().any(|token| token.kind == TokenKind::Sign(b';')) {
        return Ok(true);
    }
    match &step.makes {
        Some(made) if ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT"].contains(&made.object.kind) => {
            server.parses_alone(&step.text, &made.mode, &made.charset)
        }
        _ => Ok(false),
    }
}

/// What a server lets through.
pub(super) fn filter(server: &MysqlServer) -> Filter {
    Filter::new(server.number(), server.vendor == Vendor::Mariadb)
}

impl MysqlTarget {
    /// A client with the dump's settings.
    pub(super) fn checked(&self) -> Result<Checked, Error> {
        Checked::new(&self.server, self.definitions.preamble(), self.folds)
    }

    /// A filter that has seen the dump's settings.
    pub(super) fn begun(&self) -> Result<Filter, Error> {
        let mut begun = filter(&self.server);
        begun.steps(
            &Scope { part: &DumpPart::Preamble, from: "", to: "", home: "", folds: self.folds },
            self.definitions.preamble(),
        )?;
        Ok(begun)
    }

    /// Whether each statement that was read before anything is written is one that a dump consists of, and of a copy under
    /// another name, none works on the original.
    pub(super) fn check_statements(&self) -> Result<(), Error> {
        let longest = self.server.value("SELECT @@max_allowed_packet")?.parse().unwrap_or(usize::MAX) / 2;
        let reading = self.begun()?.session.reading;
        for place in &self.places {
            let mut objects = self.definitions.objects(&place.from);
            objects.extend(
                self.rows.keys().filter(|(database, _)| *database == place.from).map(|(_, table)| table.clone()),
            );
            for (part, text) in self.definitions.of(&place.from, |part| self.loads(place, part)) {
                for step in self.steps(place, &part, &text)? {
                    // What sets something is short, and looked at where it is run.
                    if step.makes.is_some() {
                        self.server.takes(&step.text, &quoted(&step), || is_one(&self.server, &step, reading))?;
                    }
                    if step.text.len() + 64 > longest {
                        return Err(Error::Refused(format!(
                            "{part} has a statement of {bytes} bytes, which goes to the server as twice as many, and it takes \
                             at most {most}; run SET GLOBAL max_allowed_packet = {wanted}; there first",
                            part = Escaped(part.name().as_bytes()),
                            bytes = step.text.len(),
                            most = longest * 2,
                            wanted = (step.text.len() * 2 + 128).next_multiple_of(1 << 20)
                        )));
                    }
                    if place.from != place.to && names_schema(&step, &place.from, &objects) {
                        return Err(Error::Refused(format!(
                            "{} names the schema {} itself, so under the name {} it would work on the other database; restore \
                             it under its own name, on another server if need be",
                            Escaped(part.name().as_bytes()),
                            place.from,
                            place.to
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}
