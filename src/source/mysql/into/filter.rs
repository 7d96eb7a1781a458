//! Which statements are let through to the server: those that a dump of one database consists of, on objects of that database.
//!
//! Whoever wrote the dump is not trusted. A statement is known by the tokens that the server will see, and anything else ends
//! the load before it is sent.

use std::borrow::Cow;
use std::ops::Range;

use crate::entry::Escaped;
use crate::source::Error;
use crate::source::mysql::names::{DumpPart, ObjectKind, quoted};
use crate::source::mysql::sql::charset::Charset;
use crate::source::mysql::sql::session::SqlSession;
use crate::source::mysql::sql::tokens::{self, Open, ReadingConditions, SqlToken, TokenCursor};

/// Where a stream's statements go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s> {
    /// What the stream holds.
    pub part: &'s DumpPart,
    /// The database's name in the dump.
    pub from: &'s str,
    /// The database that the statements are run in: the one that is restored, or what is loaded beside it.
    pub to: &'s str,
    /// The one that is restored, by its name on the server.
    pub home: &'s str,
    /// Whether names of databases and tables that differ in case are the same to the server.
    pub folds: bool,
}

/// A statement that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Its text.
    pub text: Vec<u8>,
    /// What it makes, where it makes something.
    pub makes: Option<Made>,
}

/// What a statement makes, and the session that it is made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub object: Object,
    /// How its text is read.
    pub reading: ReadingConditions,
    /// The sql_mode.
    pub mode: String,
    /// The character set of the client.
    pub charset: String,
    /// The collation of the connection; empty where the dump sets none.
    pub collation: String,
}

impl Step {
    /// The same, of an event that is made disabled.
    pub fn disabled(self) -> Self {
        let Some(Made { object: Object { kind: "EVENT", .. }, reading, .. }) = &self.makes else { return self };
        let Ok(tokens) = reading.tokens(&self.text) else { return self };
        let word = |token: &SqlToken, words: &[&str]| {
            let bytes = self.text.get(token.at.clone()).unwrap_or_default();
            token.kind == tokens::TokenKind::Word
                && words.iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()))
        };
        // Behind the schedule, before the comment and the body.
        let Some(end) = tokens.iter().position(|token| word(token, &["COMMENT", "DO"])) else { return self };
        let end_at = tokens[end].at.start;
        let (from, to) = match tokens[..end].iter().rev().find(|token| word(token, &["ENABLE"])) {
            Some(token) => (token.at.start, token.at.end),
            None if tokens[..end].iter().any(|token| word(token, &["DISABLE"])) => return self,
            None => (end_at, end_at),
        };
        let text = [&self.text[..from], b"DISABLE ", &self.text[to..]].concat();
        Self { text, makes: self.makes }
    }
}

/// What a statement makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    /// `VIEW`, `PROCEDURE`, `PACKAGE BODY`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// The most bytes of a statement that isn't rows.
const LONGEST: usize = 64 << 20;
/// How many bytes of a statement that is refused are shown.
const SHOWN: usize = 80;

/// What comes next in a text.
pub(super) enum Next<'t> {
    /// A statement, its tokens, and where the next one begins.
    Statement(&'t [u8], Vec<SqlToken>, usize),
    /// Rows to be followed, behind this head; they begin there.
    Rows(String, usize),
    /// Up to there is nothing to be run.
    Nothing(usize),
}

/// A dump's text, followed statement by statement.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub session: SqlSession,
    delimiter: Vec<u8>,
}

impl Filter {
    pub fn new(version: u32, mariadb: bool) -> Self {
        Self { session: SqlSession::new(version, mariadb), delimiter: b";".to_vec() }
    }

    /// The statements of a text that is there as a whole.
    ///
    /// # Errors
    /// [`Error::Refused`] at the first that is no part of such a dump.
    pub fn steps(&mut self, scope: &Scope<'_>, text: &[u8]) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            match self.next(scope, rest, true)? {
                Next::Nothing(length) => rest = &rest[length..],
                Next::Rows(..) => return Err(refused(scope, rest)),
                Next::Statement(statement, tokens, length) => {
                    steps.extend(self.judged(scope, statement, &tokens)?);
                    rest = &rest[length..];
                }
            }
        }
        Ok(steps)
    }

    /// What `text` begins with; nothing, up to 0, where more of it is needed. With `end` nothing comes after it.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is no statement.
    pub fn next<'t>(&mut self, scope: &Scope<'_>, text: &'t [u8], end: bool) -> Result<Next<'t>, Error> {
        let space = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let rest = &text[space..];
        // Enough to tell what it is.
        if rest.len() < 16 && !end {
            return Ok(Next::Nothing(space));
        }
        if rest.is_empty() {
            return Ok(Next::Nothing(text.len()));
        }
        let more = |length: usize| if length < LONGEST { Ok(Next::Nothing(0)) } else { Err(refused(scope, rest)) };
        if rest.len() > 9 && rest[..9].eq_ignore_ascii_case(b"DELIMITER") && matches!(rest[9], b' ' | b'\t') {
            let Some(line) = memchr::memchr(b'\n', rest).or(end.then_some(rest.len())) else { return more(rest.len()) };
            let word = rest[9..line].trim_ascii();
            if word.is_empty() || word.len() > 16 || !word.iter().all(u8::is_ascii_punctuation) {
                return Err(refused(scope, rest));
            }
            self.delimiter = word.to_vec();
            return Ok(Next::Nothing(space + line + usize::from(line < rest.len())));
        }
        let reading = self.session.reading;
        if let Some(length) = reading.comment(rest) {
            return match length {
                Some(length) => Ok(Next::Nothing(space + length)),
                None if end => Ok(Next::Nothing(text.len())),
                None => more(rest.len()),
            };
        }
        if let Some(head) = self.rows_head(scope, rest)? {
            return Ok(Next::Rows(head.0, space + head.1));
        }
        match reading.statement(rest, &self.delimiter) {
            Ok(statement) => Ok(Next::Statement(&rest[..statement.end], statement.tokens, space + statement.next)),
            Err(Open::Quotes | Open::Statement) if end => Err(refused(scope, rest)),
            Err(Open::Quotes | Open::Statement) => more(rest.len()),
        }
    }

    /// The head of an `INSERT`, written anew, and where its rows begin.
    fn rows_head(&self, scope: &Scope<'_>, rest: &[u8]) -> Result<Option<(String, usize)>, Error> {
        let reading = self.session.reading;
        let starts = |word: &[u8]| rest.len() > word.len() && rest[..word.len()].eq_ignore_ascii_case(word);
        if !starts(b"INSERT") && !starts(b"REPLACE") {
            return Ok(None);
        }
        let tokens = reading.leading(rest, b"VALUES");
        let Some(last) = tokens.last().filter(|last| rest[last.at.clone()].eq_ignore_ascii_case(b"VALUES")) else {
            return Ok(None);
        };
        // A word may go on behind what was read so far.
        if last.at.end == rest.len() {
            return Ok(None);
        }
        let head = insert(&mut TokenCursor::new(reading.charset, rest, &tokens), scope);
        // The client and the server have to agree where a string ends.
        let agreed = self.delimiter == b";"
            && !reading.quotes_names
            && !reading.plain_backslash
            && !matches!(reading.charset, Charset::Pairs(_));
        match head {
            Some(head) if agreed => Ok(Some((head, last.at.end))),
            _ => Err(refused(scope, rest)),
        }
    }

    /// The statement, where it may be run; None where it needn't be.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is no part of such a dump.
    pub fn judged(&mut self, scope: &Scope<'_>, statement: &[u8], tokens: &[SqlToken]) -> Result<Option<Step>, Error> {
        let mut judge = Judge {
            scope,
            cursor: TokenCursor::new(self.session.reading.charset, statement, tokens),
            cuts: Vec::new(),
        };
        if judge.cursor.is_end() {
            return Ok(None);
        }
        // Which transactions the other server had is nothing to this one, which numbers those of a restore as its own.
        if *scope.part == DumpPart::Preamble && OF_REPLICATION.iter().any(|start| statement.starts_with(start)) {
            return Ok(None);
        }
        // What a database is made with goes into a statement of our own, which is read as any of ours.
        let sets = !matches!(scope.part, DumpPart::Database(_) | DumpPart::Use(_));
        let verdict = match sets && judge.cursor.word("SET") {
            true => self.session.set(&mut judge.cursor).map(|()| Verdict::Run(None)),
            false => judge.verdict(),
        };
        match verdict {
            Some(Verdict::Run(object)) => {
                let session = &self.session;
                let makes = object.map(|object| Made {
                    object,
                    reading: session.reading,
                    mode: session.mode().to_owned(),
                    charset: session.charset().to_owned(),
                    collation: session.collation().to_owned(),
                });
                let text = judge.without_cuts(statement).into_owned();
                Ok(Some(Step { text, makes }))
            }
            Some(Verdict::Write(text)) => Ok(Some(Step { text: text.into_bytes(), makes: None })),
            Some(Verdict::Skip) => Ok(None),
            None => Err(refused(scope, statement)),
        }
    }
}

/// What MySQL's dump program writes of a server with GTIDs.
const OF_REPLICATION: [&[u8]; 3] =
    [b"SET @MYSQLDUMP_TEMP_LOG_BIN", b"SET @@SESSION.SQL_LOG_BIN", b"SET @@GLOBAL.GTID_PURGED"];

/// What is done with a statement.
enum Verdict {
    /// It is run, and makes this.
    Run(Option<Object>),
    /// This is run.
    Write(String),
    /// Nothing is.
    Skip,
}

/// The error about text that is no part of a dump. Of a text that may hold rows only the start is shown.
pub(super) fn refused(scope: &Scope<'_>, text: &[u8]) -> Error {
    let text = text.trim_ascii();
    let quote = text.iter().position(|byte| matches!(byte, b'\'' | b'"')).unwrap_or(text.len());
    let shown = &text[..quote.min(SHOWN)];
    let more = if shown.len() < text.len() { "…" } else { "" };
    let whose = if scope.from.is_empty() { String::new() } else { format!(" of {}", quoted(scope.from)) };
    Error::Refused(format!(
        "{} has a statement that no dump{whose} consists of, and it was not run: {}{more}; look at it in a restore to files \
         (--to), or restore another snapshot",
        Escaped(scope.part.name().as_bytes()),
        Escaped(shown)
    ))
}

struct Judge<'s, 't> {
    scope: &'s Scope<'s>,
    cursor: TokenCursor<'t>,
    /// What is cut out of the statement, the database before a name, where it goes to another, and what stands there then.
    cuts: Vec<(Range<usize>, String)>,
}

impl Judge<'_, '_> {
    fn verdict(&mut self) -> Option<Verdict> {
        let cursor = &mut self.cursor;
        match self.scope.part {
            DumpPart::Object(_, name, kind) => {
                let name = name.clone();
                match kind {
                    ObjectKind::Table | ObjectKind::Sequence => self.table(&name),
                    ObjectKind::Stub | ObjectKind::View => self.view(&name),
                    ObjectKind::Triggers => self.trigger(&name),
                }
            }
            DumpPart::Routines(_) => self.routine(),
            DumpPart::Events(_) => self.event(),
            // The database is made by a statement of our own, of what it says of its character set.
            DumpPart::Database(_) if cursor.words(&["CREATE", "DATABASE"]) => {
                let _ = cursor.words(&["IF", "NOT", "EXISTS"]);
                (cursor.name()? == self.scope.from).then_some(())?;
                attributes(cursor).map(Verdict::Write)
            }
            DumpPart::Database(_) if cursor.words(&["DROP", "DATABASE"]) => Some(Verdict::Skip),
            DumpPart::Database(_) | DumpPart::Use(_) if cursor.word("USE") => {
                (cursor.name()? == self.scope.from && cursor.is_end()).then_some(Verdict::Skip)
            }
            _ => None,
        }
    }

    /// The name of an object, which may stand behind that of its database.
    fn object(&mut self) -> Option<String> {
        let start = self.cursor.peek()?.at.start;
        let name = self.cursor.name()?;
        if !self.cursor.sign(b'.') {
            return Some(name);
        }
        // Another database's name mustn't be taken for ours, so its letters are compared only where they are certain.
        if !name.is_ascii() && self.cursor.charset() != Charset::Utf8 {
            return None;
        }
        let own = match self.scope.folds {
            true => name.eq_ignore_ascii_case(self.scope.from),
            false => name == self.scope.from,
        };
        if !own {
            return None;
        }
        if self.scope.from != self.scope.to {
            self.cuts.push((start..self.cursor.peek()?.at.start, String::new()));
        }
        self.cursor.name()
    }

    fn is(&self, name: &str, wanted: &str) -> bool {
        name == wanted || (self.scope.folds && name.eq_ignore_ascii_case(wanted))
    }

    /// `IF EXISTS`, the object that is meant, and nothing more.
    fn dropped(&mut self, wanted: Option<&str>) -> Option<Verdict> {
        self.cursor.words(&["IF", "EXISTS"]).then_some(())?;
        let name = self.object()?;
        let meant = wanted.is_none_or(|wanted| self.is(&name, wanted));
        (meant && self.cursor.is_end()).then_some(Verdict::Run(None))
    }

    fn table(&mut self, table: &str) -> Option<Verdict> {
        let cursor = &mut self.cursor;
        if cursor.words(&["DROP", "TABLE"]) || cursor.words(&["DROP", "SEQUENCE"]) {
            return self.dropped(Some(table));
        }
        if cursor.words(&["ALTER", "TABLE"]) {
            let name = self.object()?;
            let keys = self.cursor.words(&["DISABLE", "KEYS"]) || self.cursor.words(&["ENABLE", "KEYS"]);
            return (keys && self.is(&name, table) && self.cursor.is_end()).then_some(Verdict::Run(None));
        }
        // Under a lock a default that names a sequence can't be had.
        if cursor.words(&["LOCK", "TABLES"]) || cursor.words(&["UNLOCK", "TABLES"]) {
            return Some(Verdict::Skip);
        }
        if cursor.word("COMMIT") {
            return cursor.is_end().then_some(Verdict::Run(None));
        }
        if cursor.words(&["DO", "SETVAL"]) || cursor.words(&["SELECT", "SETVAL"]) {
            return self.setval(table);
        }
        cursor.word("CREATE").then_some(())?;
        let kind = match (cursor.word("TABLE"), cursor.word("SEQUENCE")) {
            (true, false) => "TABLE",
            (false, true) => "SEQUENCE",
            _ => return None,
        };
        let _ = cursor.words(&["IF", "NOT", "EXISTS"]);
        let name = self.object().filter(|name| self.is(name, table))?;
        if kind == "TABLE" {
            (self.cursor.sign(b'(') && !self.cursor.word("LIKE")).then_some(())?;
        }
        self.defines_alone().then_some(Verdict::Run(Some(Object { kind, name })))
    }

    /// Whether the rest reads nothing: no query, and of no other database by a union of tables or a default that counts a
    /// sequence on.
    fn defines_alone(&mut self) -> bool {
        let (mut is_archive, mut counter) = (false, None);
        while let Some(token) = self.cursor.take() {
            if token.kind != tokens::TokenKind::Word {
                continue;
            }
            let word = self.cursor.bytes(token);
            if [&b"SELECT"[..], b"TABLE", b"PROCEDURE"].iter().any(|other| word.eq_ignore_ascii_case(other)) {
                return false;
            }
            let is_one_of = |words: &[&str]| words.iter().any(|other| word.eq_ignore_ascii_case(other.as_bytes()));
            if is_one_of(&["ENGINE"]) && self.cursor.sign(b'=') {
                is_archive |= self.cursor.word("ARCHIVE");
            }
            if is_one_of(&["AUTO_INCREMENT"]) && self.cursor.sign(b'=') {
                counter = self.cursor.take().map(|number| token.at.start..number.at.end);
            }
            if is_one_of(&["UNION"]) && !self.unites_own() {
                return false;
            }
            let counts = match is_one_of(&["NEXT", "PREVIOUS"]) {
                true => self.cursor.words(&["VALUE", "FOR"]),
                false => is_one_of(&["NEXTVAL", "LASTVAL", "SETVAL"]) && self.cursor.sign(b'('),
            };
            // A table goes on to count on the sequence that is named here, so that is the one under its final name.
            let cuts = self.cuts.len();
            if counts && self.object().is_none() {
                return false;
            }
            for (_, instead) in &mut self.cuts[cuts..] {
                *instead = format!("{}.", quoted(self.scope.home));
            }
        }
        // This engine takes no row below its table's counter, and has one from its rows.
        self.cuts.extend(counter.filter(|_| is_archive).map(|counter| (counter, String::new())));
        self.cuts.sort_by_key(|(cut, _)| cut.start);
        true
    }

    fn unites_own(&mut self) -> bool {
        let _ = self.cursor.sign(b'=');
        if !self.cursor.sign(b'(') {
            return false;
        }
        loop {
            if self.cursor.sign(b')') {
                return true;
            }
            if self.object().is_none() {
                return false;
            }
            let _ = self.cursor.sign(b',');
        }
    }

    fn setval(&mut self, sequence: &str) -> Option<Verdict> {
        self.cursor.sign(b'(').then_some(())?;
        self.object().filter(|name| self.is(name, sequence))?;
        let mut numbers = 0;
        while self.cursor.sign(b',') {
            let _ = self.cursor.sign(b'-');
            let token = self.cursor.take()?;
            (self.cursor.bytes(token).iter().all(u8::is_ascii_digit)).then_some(())?;
            numbers += 1;
        }
        (numbers > 0 && self.cursor.sign(b')') && self.cursor.is_end()).then_some(Verdict::Run(None))
    }

    /// What stands between `CREATE` and the kind of object.
    fn created(&mut self) -> Option<()> {
        let cursor = &mut self.cursor;
        cursor.word("CREATE").then_some(())?;
        let _ = cursor.words(&["OR", "REPLACE"]);
        if cursor.word("ALGORITHM") {
            cursor.sign(b'=').then_some(())?;
            cursor.name()?;
        }
        if cursor.word("DEFINER") {
            cursor.sign(b'=').then_some(())?;
            self.account()?;
        }
        if self.cursor.words(&["SQL", "SECURITY"]) {
            self.cursor.name()?;
        }
        Some(())
    }

    fn account(&mut self) -> Option<()> {
        let mut name = || {
            let token = self.cursor.take()?;
            matches!(token.kind, tokens::TokenKind::Word | tokens::TokenKind::Name | tokens::TokenKind::Text)
                .then_some(())
        };
        name()?;
        if self.cursor.sign(b'@') {
            let token = self.cursor.take()?;
            matches!(token.kind, tokens::TokenKind::Word | tokens::TokenKind::Name | tokens::TokenKind::Text)
                .then_some(())?;
        }
        Some(())
    }

    fn made(&mut self, kind: &'static str) -> Option<Object> {
        let _ = self.cursor.words(&["IF", "NOT", "EXISTS"]);
        Some(Object { kind, name: self.object()? })
    }

    fn view(&mut self, view: &str) -> Option<Verdict> {
        let cursor = &mut self.cursor;
        if cursor.words(&["DROP", "TABLE"]) || cursor.words(&["DROP", "VIEW"]) {
            return self.dropped(Some(view));
        }
        if self.cursor.clone().words(&["CREATE", "TABLE"]) {
            return self.table(view);
        }
        self.created()?;
        self.cursor.word("VIEW").then_some(())?;
        let object = self.made("VIEW").filter(|object| self.is(&object.name, view))?;
        columns(&mut self.cursor)?;
        self.cursor.word("AS").then_some(Verdict::Run(Some(object)))
    }

    fn trigger(&mut self, table: &str) -> Option<Verdict> {
        if let Some(verdict) = self.database() {
            return verdict;
        }
        if self.cursor.words(&["DROP", "TRIGGER"]) {
            return self.dropped(None);
        }
        self.created()?;
        self.cursor.word("TRIGGER").then_some(())?;
        let object = self.made("TRIGGER")?;
        let when = self.cursor.word("BEFORE") || self.cursor.word("AFTER");
        let what = self.cursor.word("INSERT") || self.cursor.word("UPDATE") || self.cursor.word("DELETE");
        (when && what && self.cursor.word("ON")).then_some(())?;
        self.object().filter(|name| self.is(name, table))?;
        self.cursor.words(&["FOR", "EACH", "ROW"]).then_some(Verdict::Run(Some(object)))
    }

    fn routine(&mut self) -> Option<Verdict> {
        if let Some(verdict) = self.database() {
            return verdict;
        }
        if self.cursor.word("DROP") {
            self.routine_kind()?;
            return self.dropped(None);
        }
        self.created()?;
        let kind = self.routine_kind()?;
        let object = self.made(kind)?;
        // A function of a library has no parameters: RETURNS … SONAME.
        let begins = kind.starts_with("PACKAGE")
            || self.cursor.sign(b'(')
            || ["RETURN", "AS", "IS"].iter().any(|word| self.cursor.word(word));
        begins.then_some(Verdict::Run(Some(object)))
    }

    fn routine_kind(&mut self) -> Option<&'static str> {
        let cursor = &mut self.cursor;
        let aggregate = cursor.word("AGGREGATE");
        if cursor.word("FUNCTION") {
            return Some("FUNCTION");
        }
        match aggregate {
            false if cursor.word("PROCEDURE") => Some("PROCEDURE"),
            false if cursor.words(&["PACKAGE", "BODY"]) => Some("PACKAGE BODY"),
            false if cursor.word("PACKAGE") => Some("PACKAGE"),
            _ => None,
        }
    }

    fn event(&mut self) -> Option<Verdict> {
        if let Some(verdict) = self.database() {
            return verdict;
        }
        if self.cursor.words(&["DROP", "EVENT"]) {
            return self.dropped(None);
        }
        self.created()?;
        self.cursor.word("EVENT").then_some(())?;
        let object = self.made("EVENT")?;
        self.cursor.words(&["ON", "SCHEDULE"]).then_some(Verdict::Run(Some(object)))
    }

    /// `ALTER DATABASE`, by which a dump makes stored code under the character set that its database had.
    fn database(&mut self) -> Option<Option<Verdict>> {
        self.cursor.words(&["ALTER", "DATABASE"]).then_some(())?;
        let own = self.cursor.name().is_some_and(|name| self.is(&name, self.scope.from));
        let set = attributes(&mut self.cursor);
        Some(set.filter(|_| own).map(|set| Verdict::Write(format!("ALTER DATABASE {}{set}", quoted(self.scope.to)))))
    }

    /// The statement without what is cut out.
    fn without_cuts<'a>(&self, statement: &'a [u8]) -> Cow<'a, [u8]> {
        if self.cuts.is_empty() {
            return Cow::Borrowed(statement);
        }
        let mut text = Vec::with_capacity(statement.len());
        let mut from = 0;
        for (cut, instead) in &self.cuts {
            text.extend_from_slice(&statement[from..cut.start]);
            text.extend_from_slice(instead.as_bytes());
            from = cut.end;
        }
        text.extend_from_slice(&statement[from..]);
        Cow::Owned(text)
    }
}

/// The character set and collation of a database, as they are written: ` CHARACTER SET utf8mb4 COLLATE …`. None where anything
/// else stands there.
pub(super) fn attributes(cursor: &mut TokenCursor<'_>) -> Option<String> {
    let mut text = String::new();
    while !cursor.is_end() {
        let _ = cursor.word("DEFAULT");
        let what = match () {
            () if cursor.words(&["CHARACTER", "SET"]) => "CHARACTER SET",
            () if cursor.word("COLLATE") => "COLLATE",
            () if cursor.word("COMMENT") => {
                let _ = cursor.sign(b'=');
                let token = cursor.take().filter(|token| token.kind == tokens::TokenKind::Text)?;
                text += &format!(" COMMENT {}", String::from_utf8_lossy(cursor.bytes(token)));
                continue;
            }
            () if cursor.word("ENCRYPTION") => {
                let _ = cursor.sign(b'=');
                cursor.take()?;
                continue;
            }
            () => return None,
        };
        let _ = cursor.sign(b'=');
        let name = cursor.name()?;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        text += &plain.then(|| format!(" {what} {name}"))?;
    }
    Some(text)
}

/// The names of a list in parentheses, quoted; none where there is no list.
fn columns(cursor: &mut TokenCursor<'_>) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    let mut more = cursor.sign(b'(') && !cursor.sign(b')');
    while more {
        columns.push(quoted(&cursor.name()?));
        more = cursor.sign(b',');
        (more || cursor.sign(b')')).then_some(())?;
    }
    Some(columns)
}

/// The head of an `INSERT` into the stream's table, up to its `VALUES`, written anew.
fn insert(cursor: &mut TokenCursor<'_>, scope: &Scope<'_>) -> Option<String> {
    let DumpPart::Object(_, table, ObjectKind::Table) = scope.part else { return None };
    let verb = if cursor.word("REPLACE") { "REPLACE" } else { "INSERT" };
    let _ = cursor.word("INSERT");
    let ignore = if cursor.word("IGNORE") { " IGNORE" } else { "" };
    cursor.word("INTO").then_some(())?;
    let name = cursor.name()?;
    (name == *table || (scope.folds && name.eq_ignore_ascii_case(table))).then_some(())?;
    let columns = columns(cursor)?;
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    cursor.word("VALUES").then(|| format!("{verb}{ignore} INTO {}{columns} VALUES", quoted(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(part: &DumpPart) -> Scope<'_> {
        Scope { part, from: "shop", to: "shop", home: "shop", folds: false }
    }

    fn steps(part: &DumpPart, text: &str) -> Result<Vec<Step>, Error> {
        Filter::new(101_119, true).steps(&scope(part), text.as_bytes())
    }

    #[test]
    fn what_a_dump_consists_of_is_let_through() {
        let view = DumpPart::Object("shop".into(), "v".into(), ObjectKind::View);
        let text = "/*!50001 DROP VIEW IF EXISTS `v`*/;\n/*!50001 SET @saved_cs_client = @@character_set_client */;\n/*!50001 CREATE \
                    ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */;\n";
        let made = steps(&view, text).unwrap();
        assert_eq!(made.len(), 3);
        assert_eq!(made[2].makes.as_ref().unwrap().object, Object { kind: "VIEW", name: "v".into() });
        let triggers = DumpPart::Object("shop".into(), "t".into(), ObjectKind::Triggers);
        let text = "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`%`*/ /*!50003 TRIGGER shop.tr BEFORE INSERT ON shop . t FOR \
                    EACH ROW begin --\u{1} ;;\nset new.a=1; end */;;\nDELIMITER ;\nALTER DATABASE `shop` CHARACTER SET latin1 COLLATE latin1_bin ;\n";
        assert_eq!(steps(&triggers, text).unwrap().len(), 2);
        let copy = Scope { part: &triggers, from: "shop", to: "copy", home: "copy", folds: false };
        let cut = Filter::new(101_119, true).steps(&copy, text.as_bytes()).unwrap();
        assert!(String::from_utf8_lossy(&cut[0].text).contains("TRIGGER tr BEFORE INSERT ON t FOR"));
        assert_eq!(cut[1].text, b"ALTER DATABASE `copy` CHARACTER SET latin1 COLLATE latin1_bin");
        let sequence = DumpPart::Object("shop".into(), "s".into(), ObjectKind::Sequence);
        let text = "DROP SEQUENCE IF EXISTS `s`;\nCREATE SEQUENCE `s` start with 1 cache 1000 nocycle ENGINE=InnoDB;\nDO SETVAL(`s`, -5, 0);\n";
        assert_eq!(steps(&sequence, text).unwrap().len(), 3);
        let routines = DumpPart::Routines("shop".into());
        let text = "SET sql_mode = 'ORACLE';\nDELIMITER ;;\nCREATE DEFINER=\"a\"@\"b\" PACKAGE BODY \"p\" AS FUNCTION f RETURN INT AS BEGIN \
                    RETURN 1; END; END ;;\nDELIMITER ;\n";
        assert_eq!(steps(&routines, text).unwrap()[1].makes.as_ref().unwrap().object.kind, "PACKAGE BODY");
    }

    #[test]
    fn nothing_else_is() {
        let table = DumpPart::Object("shop".into(), "t".into(), ObjectKind::Table);
        for text in [
            "CREATE TABLE `t` (a int) SELECT * FROM x.y;",
            "CREATE TABLE `t` (LIKE x.y);",
            "CREATE TABLE `t` (a int) ENGINE=MRG_MyISAM UNION=(`mysql`.`user`);",
            "CREATE TABLE `u` (a int);",
            "CREATE TABLE `mysql`.`t` (a int);",
            "DROP TABLE IF EXISTS `t`, `x`.`y`;",
            "ALTER TABLE `t` DISCARD TABLESPACE;",
            "TRUNCATE `t`;",
            "DROP TABLE IF EXISTS /*M /* */ mysql.user -- */ t\n;",
            "CREATE TABLE `t` (a int DEFAULT (SETVAL(x.s, 5)));",
            "CREATE TABLE `t` (a int DEFAULT nextval ( `x` . `s` ));",
            "CREATE TABLE `t` (a int DEFAULT NEXT VALUE FOR `x`.`s`);",
            "SET sql_mode = 1048576; INSERT INTO `t` VALUES ('\\', (SELECT 1)); -- ');",
            "DROP TABLE IF EXISTS `t`",
            "DELIMITER abc\nDROP TABLE IF EXISTS `t` abc",
            "CREATE /*!999999 x */ USER evil;",
            "/*!50799 DROP TABLE IF EXISTS `t` */ DROP DATABASE x;",
            "SHUTDOWN;",
        ] {
            assert!(steps(&table, text).is_err(), "{text}");
        }
        let database = DumpPart::Database("shop".into());
        let text = "SET sql_mode = 'NO_BACKSLASH_ESCAPES';\nCREATE DATABASE `shop` COMMENT '\\''; DROP DATABASE other; -- ';\n";
        assert!(steps(&database, text).is_err());
        let view = DumpPart::Object("shop".into(), "v".into(), ObjectKind::View);
        assert!(steps(&view, "CREATE VIEW v (a b) AS SELECT 1;").is_err());
        let events = DumpPart::Events("shop".into());
        for text in [
            "CREATE EVENT mysql.e ON SCHEDULE EVERY 1 DAY DO SELECT 1;",
            "ALTER EVENT e ENABLE;",
            "SET GLOBAL event_scheduler = 1;",
        ] {
            assert!(steps(&events, text).is_err(), "{text}");
        }
    }

    #[test]
    fn events_are_made_disabled_and_their_bodies_stay() {
        let events = DumpPart::Events("shop".into());
        let disabled = |text: &str| {
            let step = steps(&events, &format!("SET sql_mode='NO_BACKSLASH_ESCAPES';\nDELIMITER ;;\n{text};;"))
                .unwrap()
                .remove(1);
            String::from_utf8(step.disabled().text).unwrap()
        };
        let event = "CREATE EVENT `e ENABLE` ON SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE ENABLE COMMENT '\\' DO SELECT '\\', ' ENABLE'";
        assert_eq!(disabled(event), event.replace("PRESERVE ENABLE COMMENT", "PRESERVE DISABLE  COMMENT"));
        assert_eq!(
            disabled("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1"),
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1"
        );
        let off = "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 'ENABLE'";
        assert_eq!(disabled(off), off);
    }
}
