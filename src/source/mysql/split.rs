//! Splits a dump as it flows: one stream a table, and each other part of it as a stream of its own.
//!
//! The streams one after the other are the dump, to the byte.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::lexer::{LOOK, Lexer, Scanned};
use super::names::{DumpPart, ObjectKind};

/// Bytes that are read at one time.
const READ: usize = 256 << 10;
/// Comments between statements are held back until it is known to which stream they belong, up to so many bytes.
const HELD: usize = 64 << 10;
/// No heading is longer, in bytes.
const HEADING: usize = 4 << 10;
/// The beginning of a complete dump's last line.
const COMPLETED: &[u8] = b"-- Dump completed";

/// Counts taken while a dump was split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows by stream.
    pub rows: BTreeMap<String, u64>,
    /// Bytes of the longest statement.
    pub longest: u64,
}

/// A dump that comes from `R`, split.
pub struct Splitter<R> {
    input: R,
    /// Bytes read and not yet returned.
    window: Vec<u8>,
    /// Up to here the window was given.
    given: usize,
    /// Up to here it belongs to the current stream.
    decided: usize,
    /// Up to here the lexer has looked.
    looked: usize,
    end: bool,
    lexer: Lexer,
    /// Whether the current stream ends at `decided`, and the stream that follows.
    next: Option<DumpPart>,
    part: DumpPart,
    name: String,
    names: HashSet<String>,
    database: String,
    started: bool,
    /// Bytes that were forgotten from the window's start.
    forgotten: u64,
    /// Where in the dump the current statement began.
    statement: Option<u64>,
    counted: Counted,
    last_line: Vec<u8>,
    /// Whether the comment that is being looked at has the binary log's position.
    has_position: bool,
}

impl<R: FnMut(&mut [u8]) -> io::Result<usize>> Splitter<R> {
    /// Splits the dump from `input`. A dump that names no database belongs to `database`.
    pub fn new(input: R, database: &str) -> Self {
        Self {
            input,
            window: Vec::new(),
            given: 0,
            decided: 0,
            looked: 0,
            end: false,
            lexer: Lexer::new(),
            next: None,
            part: DumpPart::Preamble,
            name: String::new(),
            names: HashSet::new(),
            database: database.to_owned(),
            started: false,
            forgotten: 0,
            statement: None,
            counted: Counted::default(),
            last_line: Vec::new(),
            has_position: false,
        }
    }

    /// The name of the next stream; None after the last. The current one must have been read to its end.
    pub fn next_stream(&mut self) -> io::Result<Option<String>> {
        if !self.started {
            self.started = true;
            self.fill()?;
            let empty = self.end && self.window.is_empty();
            return Ok((!empty).then(|| self.begin(DumpPart::Preamble)));
        }
        while self.read(&mut [0; 4096])? > 0 {}
        Ok(self.next.take().map(|part| self.begin(part)))
    }

    /// The content of the current stream.
    pub fn part(&self) -> &DumpPart {
        &self.part
    }

    fn begin(&mut self, part: DumpPart) -> String {
        let name = self.free_name(&part);
        self.part = part;
        self.name.clone_from(&name);
        name
    }

    /// A name for a stream of `part`, which none has had, and none will have.
    pub fn free_name(&mut self, part: &DumpPart) -> String {
        let own = part.name();
        let base = own.strip_suffix(".sql").unwrap_or(&own).to_owned();
        let more = (2..).map(|number| format!("{base}@{number}.sql"));
        let names = &self.names;
        let name = std::iter::once(own).chain(more).find(|name| !names.contains(name)).unwrap_or_default();
        self.names.insert(name.clone());
        name
    }

    /// Reads the current stream. 0 is its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.decided {
            if self.next.is_some() || (self.end && self.decided == self.window.len()) {
                self.note_rows();
                return Ok(0);
            }
            self.advance()?;
        }
        let length = buffer.len().min(self.decided - self.given);
        buffer[..length].copy_from_slice(&self.window[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }

    fn note_rows(&mut self) {
        let rows = self.lexer.take_rows();
        if rows > 0 || matches!(self.part, DumpPart::Object(_, _, ObjectKind::Table)) {
            *self.counted.rows.entry(self.name.clone()).or_default() += rows;
        }
    }

    /// Looks further, until more is decided or a stream ends.
    fn advance(&mut self) -> io::Result<()> {
        let seen = self.lexer.look(&self.window, &mut self.looked, self.end);
        // The comment with the position of the binary log has ended, and it belongs to the first lines.
        if self.has_position && matches!(seen, Scanned::Comment | Scanned::Begin) {
            self.has_position = false;
            self.decided = self.looked;
        }
        if !self.lexer.is_between() {
            self.decided = self.looked;
        }
        match seen {
            Scanned::End => {
                self.decided = self.looked;
                if let Some(begin) = self.statement.take() {
                    self.counted.longest = self.counted.longest.max(self.forgotten + self.looked as u64 - begin);
                }
            }
            Scanned::Comment => return self.comment(),
            Scanned::Begin => self.statement(),
            Scanned::More if self.end && self.looked == self.window.len() => self.finish(),
            Scanned::More => {
                if self.looked - self.decided > HELD {
                    self.decided = self.looked;
                }
                if self.given == self.decided {
                    self.fill()?;
                }
            }
        }
        Ok(())
    }

    /// At the end of the input: the held bytes belong to the current stream.
    fn finish(&mut self) {
        let between = self.lexer.is_between();
        let tail = &self.window[self.decided..];
        let line = tail.trim_ascii_end().rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        // A completion line without its newline was truncated, and one inside of a text is none.
        let whole = between && tail.ends_with(b"\n");
        self.last_line = if whole { line.to_vec() } else { Vec::new() };
        self.decided = self.window.len();
    }

    /// A comment line between statements: a heading begins a stream.
    fn comment(&mut self) -> io::Result<()> {
        if self.looked - self.decided > HELD {
            self.decided = self.looked;
        }
        let rest = &self.window[self.looked..];
        let head = &rest[..rest.len().min(HEADING)];
        let line = match end_of_heading(head) {
            Some(length) => &head[..length],
            None if rest.len() > HEADING => head.split(|&byte| byte == b'\n').next().unwrap_or_default(),
            None if self.end => rest,
            None => return self.fill(),
        };
        let line = line.to_vec();
        self.has_position = self.part == DumpPart::Preamble && line.starts_with(b"-- CHANGE ");
        if let Some(part) = self.heading(&line) {
            self.turn(part);
        }
        self.lexer.enter(Scanned::Comment);
        Ok(())
    }

    /// The bytes from `decided` on belong to `part`, unless that is the current stream's content already.
    fn turn(&mut self, part: DumpPart) {
        if part != self.part && self.next.is_none() {
            self.next = Some(part);
        }
    }

    fn heading(&mut self, line: &[u8]) -> Option<DumpPart> {
        let text = std::str::from_utf8(line.strip_prefix(b"-- ")?).ok()?.trim_end();
        if let Some(name) = text.strip_prefix("Current Database: ") {
            let database = in_backticks(name)?;
            let first = DumpPart::Database(database.clone());
            self.database.clone_from(&database);
            // A dump names a database twice: once for its tables, and once more before its views.
            return Some(if self.names.contains(&first.name()) { DumpPart::Use(database) } else { first });
        }
        if self.part == DumpPart::Preamble
            && let Some((_, database)) = text.strip_prefix("Host: ").and_then(|rest| rest.split_once("Database: "))
            && !database.is_empty()
        {
            database.clone_into(&mut self.database);
            return None;
        }
        let object = |name: &str, kind| Some(DumpPart::Object(self.database.clone(), in_backticks(name)?, kind));
        const OBJECTS: [(&str, ObjectKind); 6] = [
            ("Table structure for table ", ObjectKind::Table),
            ("Dumping data for table ", ObjectKind::Table),
            ("Temporary table structure for view ", ObjectKind::Stub),
            ("Temporary view structure for view ", ObjectKind::Stub),
            ("Final view structure for view ", ObjectKind::View),
            ("Sequence structure for ", ObjectKind::Sequence),
        ];
        if let Some((name, kind)) = OBJECTS.iter().find_map(|(start, kind)| Some((text.strip_prefix(start)?, *kind))) {
            return object(name, kind);
        }
        match () {
            () if text.starts_with("Dumping events for database ") => Some(DumpPart::Events(self.database.clone())),
            () if text.starts_with("Dumping routines for database ") => Some(DumpPart::Routines(self.database.clone())),
            () => None,
        }
    }

    /// A statement begins: some begin a stream, too.
    fn statement(&mut self) {
        let rest = &self.window[self.looked..];
        let head = &rest[..rest.len().min(LOOK)];
        let opened = self.opened_by(head);
        if head.len() >= 10 && head[..9].eq_ignore_ascii_case(b"DELIMITER") && head[9].is_ascii_whitespace() {
            let line = head[9..].split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec();
            self.lexer.set_delimiter(&line);
        } else {
            note_sql_mode(&mut self.lexer, head);
            if starts(head, b"INSERT") || starts(head, b"REPLACE") {
                self.lexer.count_rows();
            }
            self.lexer.enter(Scanned::Begin);
            self.statement = Some(self.forgotten + self.looked as u64);
        }
        if let Some(part) = opened {
            self.turn(part);
        }
        if self.next.is_none() {
            self.decided = self.looked;
        }
    }

    /// The stream that a statement without a heading begins.
    fn opened_by(&self, head: &[u8]) -> Option<DumpPart> {
        const BACK: [&[u8]; 3] = [
            b"/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE",
            b"/*!40101 SET SQL_MODE=@OLD_SQL_MODE",
            b"SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN",
        ];
        if BACK.iter().any(|back| head.starts_with(back)) {
            return Some(DumpPart::Postamble);
        }
        match &self.part {
            DumpPart::Object(database, table, ObjectKind::Table)
                if head.starts_with(b"/*!50003 SET @saved_cs_client") =>
            {
                Some(DumpPart::Object(database.clone(), table.clone(), ObjectKind::Triggers))
            }
            _ => None,
        }
    }

    /// Reads more, and drops the returned bytes.
    fn fill(&mut self) -> io::Result<()> {
        if self.end {
            return Ok(());
        }
        self.window.drain(..self.given);
        self.forgotten += self.given as u64;
        self.decided -= self.given;
        self.looked -= self.given;
        self.given = 0;
        let length = self.window.len();
        self.window.resize(length + READ, 0);
        let read = (self.input)(&mut self.window[length..]);
        self.window.truncate(length + read.as_ref().copied().unwrap_or(0));
        self.end = read? == 0;
        Ok(())
    }

    /// After the last stream: the counts, and whether the dump's last line is the completion line.
    pub fn finish_counts(&self) -> (Counted, bool) {
        let rest = self.last_line.strip_prefix(COMPLETED);
        (self.counted.clone(), rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b" on ")))
    }
}

fn starts(head: &[u8], word: &[u8]) -> bool {
    head.len() > word.len() && head[..word.len()].eq_ignore_ascii_case(word)
}

/// A session's `sql_mode` decides whether a backslash escapes.
fn note_sql_mode(lexer: &mut Lexer, head: &[u8]) {
    let statement = head.split(|&byte| byte == b';').next().unwrap_or_default();
    let contains = |word: &[u8]| memchr::memmem::find(statement, word).is_some();
    let sets = memchr::memmem::find(statement, b"SET sql_mode ").is_some() || contains(b"SET SQL_MODE=");
    if sets {
        lexer.plain_backslash = contains(b"NO_BACKSLASH_ESCAPES");
    }
}

/// The end of a comment line, or of the heading that begins with it: a name with a newline in it continues in the next
/// comment line.
fn end_of_heading(head: &[u8]) -> Option<usize> {
    let first = memchr::memchr(b'\n', head)?;
    let is_open = |end: usize| memchr::memchr_iter(b'`', &head[..end]).count() % 2 == 1;
    let is_heading = head.starts_with(b"-- ") && memchr::memmem::find(&head[..first], b" `").is_some();
    let mut end = first;
    while is_heading && is_open(end) {
        let next = &head[end + 1..];
        if !next.starts_with(b"-- ") {
            // No name continues here, or not all of it has come.
            return (next.len() >= 3).then_some(first);
        }
        end += 1 + memchr::memchr(b'\n', next)?;
    }
    Some(end)
}

/// The name in backticks, in a comment.
fn in_backticks(text: &str) -> Option<String> {
    let inner = text.strip_prefix('`')?.strip_suffix('`')?;
    let name = inner.replace("``", "`").replace("\n-- ", "\n");
    let whole = inner.replace("``", "").find('`').is_none() && !name.is_empty() && name.len() <= 1024;
    whole.then_some(name)
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
