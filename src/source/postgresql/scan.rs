//! Reads a plain dump as `psql` does: statements, rows of `COPY`, and the client's own commands.
//!
//! It distinguishes quoted text from statements, so that no row and no function's body is taken for anything else. A
//! statement is returned as a whole if it has at most [`HELD`] bytes, else in parts; rows are never held.

use super::text::text_of;
use std::collections::BTreeMap;

use memchr::memchr;

/// A statement that is longer is handed on in parts.
const HELD: usize = 64 << 10;
/// The most bytes of a word that is looked at.
const WORD: usize = 16;
/// Why a statement with a variable of the client is none of a dump.
const VARIABLE: &str = "a variable of the client stands in it";
/// The variables that a client has by itself.
const VARIABLES: [&str; 43] = [
    "AUTOCOMMIT",
    "COMP_KEYWORD_CASE",
    "DBNAME",
    "ECHO",
    "ECHO_HIDDEN",
    "ENCODING",
    "ERROR",
    "FETCH_COUNT",
    "HIDE_TABLEAM",
    "HIDE_TOAST_COMPRESSION",
    "HISTCONTROL",
    "HISTFILE",
    "HISTSIZE",
    "HOST",
    "IGNOREEOF",
    "LASTOID",
    "LAST_ERROR_MESSAGE",
    "LAST_ERROR_SQLSTATE",
    "ON_ERROR_ROLLBACK",
    "ON_ERROR_STOP",
    "PIPELINE_COMMAND_COUNT",
    "PIPELINE_RESULT_COUNT",
    "PIPELINE_SYNC_COUNT",
    "PORT",
    "PROMPT1",
    "PROMPT2",
    "PROMPT3",
    "QUIET",
    "ROW_COUNT",
    "SERVER_VERSION_NAME",
    "SERVER_VERSION_NUM",
    "SERVICE",
    "SHELL_ERROR",
    "SHELL_EXIT_CODE",
    "SHOW_ALL_RESULTS",
    "SHOW_CONTEXT",
    "SINGLELINE",
    "SINGLESTEP",
    "SQLSTATE",
    "USER",
    "VERBOSITY",
    "VERSION",
    "WATCH_INTERVAL",
];
/// The last line of a complete dump.
pub const COMPLETE: &str = "-- PostgreSQL database dump complete";

/// A piece of a dump. All pieces together are the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpPiece<'b> {
    /// Space and comments between statements.
    Blank(&'b [u8]),
    /// A complete statement, from its first byte to its semicolon.
    Statement(&'b [u8]),
    /// A part of a statement that is too long to be held.
    Part(&'b [u8]),
    /// A line that is a command of the client's own: `\connect agama`.
    Meta(&'b [u8]),
    /// Rows of a `COPY`, and the line that ends them.
    Rows(&'b [u8]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Outside of all quotes.
    Plain,
    /// In a text; whether backslashes mean something in it.
    Text(bool),
    /// In a name.
    Name,
    LineComment,
    /// In a comment; how deep.
    Comment(u32),
    /// In a text between these.
    Dollar(Vec<u8>),
    Meta,
    /// After a `COPY … FROM stdin;`, before its rows.
    BeforeRows,
    Rows,
}

/// The state of the scan.
pub struct Scanner {
    state: State,
    /// Bytes of the statement, comment or line that isn't over yet.
    held: Vec<u8>,
    /// Whether more than space and comments was held, or handed on as a part.
    in_statement: bool,
    parted: bool,
    depth: u32,
    /// The unfinished word, the beginning of the statement's first words, and their number.
    word: Vec<u8>,
    first_words: Vec<u8>,
    /// How deep the body is that a function has without quotes: `BEGIN ATOMIC … END`. Its semicolons end no statement.
    body: u32,
    /// The last bytes before the one that is looked at, within the statement.
    before: [u8; 2],
    /// Whether backslashes meant something in the last text.
    escapes: bool,
    /// Whether nothing but space and comments came since such a text: another in the next line's quotes would be a part
    /// of it.
    after_escapes: bool,
    /// The first byte of the unfinished word, and whether a colon precedes it.
    run: (u8, bool),
    /// The position in the held bytes at which a quoted name begins that follows a colon.
    named: Option<usize>,
    /// A word between dollars that may begin a text.
    tag: Option<Vec<u8>>,
    /// How far the end of a text between dollars was matched.
    closing: usize,
    line_start: bool,
    comment: Vec<u8>,
    /// The beginning of the line of rows.
    line: Vec<u8>,
    table: String,
    /// How many rows each table has, by its name as the dump writes it.
    pub rows: BTreeMap<String, u64>,
    /// How many large objects are made.
    pub large_objects: u64,
    /// Whether the last that was seen is the completion line.
    pub complete: bool,
    /// Whether it makes its database itself.
    pub makes_database: bool,
    /// Why no client should be given this. From then on no piece is handed on.
    pub suspicious: Option<String>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Plain,
            held: Vec::new(),
            in_statement: false,
            parted: false,
            depth: 0,
            word: Vec::new(),
            first_words: Vec::new(),
            body: 0,
            before: [b'\n'; 2],
            escapes: false,
            after_escapes: false,
            run: (0, false),
            named: None,
            tag: None,
            closing: 0,
            line_start: true,
            comment: Vec::new(),
            line: Vec::new(),
            table: String::new(),
            rows: BTreeMap::new(),
            large_objects: 0,
            complete: false,
            makes_database: false,
            suspicious: None,
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

impl Scanner {
    /// Looks at more of the dump, and calls `take` with each piece that is complete.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn push<E>(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Rows => self.push_rows(bytes, take)?,
                _ => self.push_byte(bytes, take)?,
            };
        }
        Ok(())
    }

    /// Whether nothing has begun that hasn't ended.
    pub fn at_rest(&self) -> bool {
        self.state == State::Plain && !self.in_statement
    }

    fn push_rows<'b, E>(
        &mut self,
        bytes: &'b [u8],
        take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>,
    ) -> Result<&'b [u8], E> {
        let (mut at, mut rows) = (0, 0);
        let mut ends = false;
        while !ends && at < bytes.len() {
            let end = memchr(b'\n', &bytes[at..]).map(|length| at + length);
            let piece = &bytes[at..end.unwrap_or(bytes.len())];
            let room = 3usize.saturating_sub(self.line.len()).min(piece.len());
            self.line.extend_from_slice(&piece[..room]);
            at = end.map_or(bytes.len(), |end| end + 1);
            if end.is_some() {
                ends = self.line == b"\\." || self.line == b"\\.\r";
                rows += u64::from(!ends);
                self.line.clear();
            }
        }
        if let Some(counted) = self.rows.get_mut(&self.table) {
            *counted += rows;
        }
        if ends {
            self.state = State::Plain;
            (self.line_start, self.before) = (true, [b'\n'; 2]);
        }
        self.hand_on(DumpPiece::Rows(&bytes[..at]), take)?;
        Ok(&bytes[at..])
    }

    fn push_byte<'b, E>(
        &mut self,
        bytes: &'b [u8],
        take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>,
    ) -> Result<&'b [u8], E> {
        let byte = bytes[0];
        let before = self.before;
        let started = self.line_start;
        // Held space and comments are handed on as soon as a statement begins.
        if self.state == State::Plain && self.begins_statement(byte) {
            self.flush(take)?;
            self.in_statement = true;
            self.complete = false;
        }
        if self.state == State::Plain && !self.in_statement && byte == b'\\' && started {
            self.flush(take)?;
            self.state = State::Meta;
        }
        self.held.push(byte);
        self.line_start = byte == b'\n';
        self.before = [before[1], byte];
        match &mut self.state {
            State::Plain => self.plain(byte, before, take)?,
            State::Text(escapes) => match byte {
                // The byte after a backslash means nothing; it is replaced by a character that is no quote.
                _ if *escapes && before[1] == b'\\' => self.before[1] = 0,
                b'\'' => {
                    self.after_escapes = *escapes;
                    self.state = State::Plain;
                }
                _ => {}
            },
            State::Name if byte == b'"' => {
                self.state = State::Plain;
                let name = |from| {
                    self.held
                        .get(from..self.held.len() - 1)
                        .map(|name| VARIABLES.contains(&&*String::from_utf8_lossy(name)))
                };
                if self.named.take().is_some_and(|from| name(from).unwrap_or(true)) {
                    self.suspicious.get_or_insert_with(|| VARIABLE.to_owned());
                }
            }
            State::Name => {}
            State::LineComment if matches!(byte, b'\n' | b'\r') => {
                self.complete |= !self.in_statement && self.comment == COMPLETE.as_bytes()[2..];
                self.state = State::Plain;
            }
            State::LineComment => {
                if self.comment.len() < COMPLETE.len() {
                    self.comment.push(byte);
                }
            }
            State::Comment(depth) => match (before[1], byte) {
                (b'*', b'/') => {
                    *depth -= 1;
                    self.before = [0; 2];
                    if *depth == 0 {
                        self.state = State::Plain;
                    }
                }
                (b'/', b'*') => {
                    *depth += 1;
                    self.before = [0; 2];
                }
                _ => {}
            },
            State::Dollar(tag) => {
                // A tag has a dollar only at its ends, so a mismatch can begin anew only with this byte.
                self.closing = match byte == tag[self.closing] {
                    true => self.closing + 1,
                    false => usize::from(byte == b'$'),
                };
                if self.closing == tag.len() {
                    self.state = State::Plain;
                    self.before[1] = b' ';
                }
            }
            State::Meta if byte == b'\n' => {
                let line = std::mem::take(&mut self.held);
                self.hand_on(DumpPiece::Meta(&line), take)?;
                self.state = State::Plain;
            }
            State::BeforeRows if byte == b'\n' => {
                self.flush(take)?;
                self.line.clear();
                self.state = State::Rows;
            }
            State::Meta | State::BeforeRows | State::Rows => {}
        }
        if self.held.len() >= HELD && self.state != State::Meta {
            self.flush(take)?;
        }
        Ok(&bytes[1..])
    }

    /// Whether a byte outside of quotes is the first of a statement.
    fn begins_statement(&self, byte: u8) -> bool {
        let is_comment = byte == b'*' && self.before[1] == b'/';
        !self.in_statement && !is_comment && !byte.is_ascii_whitespace() && !matches!(byte, b'-' | b'/' | b'\\')
    }

    fn plain<E>(
        &mut self,
        byte: u8,
        before: [u8; 2],
        take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.look_for_differences(byte, before[1]);
        match is_word(byte) {
            true if self.word.len() < WORD => self.word.push(byte.to_ascii_lowercase()),
            true => {}
            false => self.end_word(),
        }
        if let Some(tag) = &mut self.tag {
            tag.push(byte);
            if byte == b'$' {
                self.state = State::Dollar(self.tag.take().unwrap_or_default());
                self.closing = 0;
                return Ok(());
            }
            // `$1` is a parameter, and a tag is a word.
            let is_parameter = tag.len() == 2 && byte.is_ascii_digit();
            if is_word(byte) && !is_parameter {
                return Ok(());
            }
            self.tag = None;
            if !is_parameter {
                // Each version of the client reads the following text otherwise.
                self.suspicious.get_or_insert_with(|| "a dollar begins neither a text nor a parameter".to_owned());
            }
        }
        match (before[1], byte) {
            (b'-', b'-') => {
                self.comment.clear();
                self.state = State::LineComment;
            }
            (b'/', b'*') => {
                self.state = State::Comment(1);
                self.before = [0; 2];
            }
            (last, b'\'') => {
                // Two quotes in a text are one, and the text continues in the same state.
                let goes_on = last == b'\'' && self.escapes;
                let escapes = goes_on || (matches!(last, b'e' | b'E') && !is_word(before[0]));
                self.escapes = escapes;
                self.state = State::Text(escapes);
                self.before[1] = 0;
            }
            (_, b'"') => self.state = State::Name,
            (last, b'$') if !is_word(last) => self.tag = Some(vec![b'$']),
            // A cast: the next word follows no colon.
            (b':', b':') => self.before[1] = b' ',
            (_, b'(') => self.depth += 1,
            (_, b')') => self.depth = self.depth.saturating_sub(1),
            (_, b';') if self.depth == 0 && self.body == 0 => self.end_statement(take)?,
            (_, b'\\') => {
                self.suspicious.get_or_insert_with(|| "a backslash stands outside of quotes".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Records text that clients of several versions, or a client with variables, read otherwise than this scanner. No
    /// dump has it.
    fn look_for_differences(&mut self, byte: u8, last: u8) {
        let continues = is_word(last) && is_word(byte);
        if is_word(byte) && !continues {
            self.run = (byte, last == b':');
        }
        let (first, is_variable) = self.run;
        let is_number = first.is_ascii_digit() || first == b'$';
        let why = match byte {
            b'\'' if self.after_escapes && last != b'\'' => "a text goes on in the next line's quotes",
            // Part of an array: it depends on the name whether the client has a variable of it.
            b'"' if last == b':' => {
                self.named = Some(self.held.len());
                self.after_escapes = false;
                return;
            }
            b'\'' | b'{' | b'A'..=b'Z' if last == b':' => VARIABLE,
            b'\'' | b'"' if is_word(last) && is_variable => VARIABLE,
            b'\'' | b'$' if is_word(last) && is_number && self.tag.is_none() => "a number touches a text",
            _ => {
                self.after_escapes &= byte.is_ascii_whitespace() || matches!(byte, b'-' | b'/' | b'*');
                return;
            }
        };
        self.suspicious.get_or_insert_with(|| why.to_owned());
    }

    /// Counts the words that begin and end a function's body, as the client does.
    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        if word.is_empty() {
            return;
        }
        if self.first_words.len() < 4 {
            let known: [&[u8]; 5] = [b"create", b"function", b"procedure", b"or", b"replace"];
            self.first_words.push(if known.contains(&word.as_slice()) { word[0] } else { 0 });
        }
        let makes_function =
            matches!(self.first_words.as_slice(), [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        if makes_function && self.depth == 0 {
            match word.as_slice() {
                b"begin" => self.body += 1,
                b"case" if self.body > 0 => self.body += 1,
                b"end" => self.body = self.body.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn end_statement<E>(&mut self, take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>) -> Result<(), E> {
        let parted = std::mem::take(&mut self.parted);
        self.in_statement = false;
        (self.body, self.depth, self.after_escapes) = (0, 0, false);
        self.first_words.clear();
        self.before = [b';'; 2];
        let statement = std::mem::take(&mut self.held);
        if parted {
            return self.hand_on(DumpPiece::Part(&statement), take);
        }
        self.note(&statement);
        self.hand_on(DumpPiece::Statement(&statement), take)
    }

    /// The information from a statement.
    fn note(&mut self, statement: &[u8]) {
        let starts = |word: &str| statement.starts_with(word.as_bytes());
        if starts("COPY ") {
            match copied(statement) {
                Some(table) => {
                    self.rows.entry(table.clone()).or_default();
                    self.table = table;
                    self.state = State::BeforeRows;
                }
                None => {
                    self.suspicious.get_or_insert_with(|| "a COPY has no rows in the dump itself".to_owned());
                }
            }
        } else if is_copy_through_client(statement) {
            self.suspicious.get_or_insert_with(|| "a COPY isn't written as a dump writes it".to_owned());
        } else if controls_transaction(statement) {
            self.suspicious.get_or_insert_with(|| "it has a transaction of its own".to_owned());
        } else if starts("SELECT pg_catalog.lo_create(") {
            self.large_objects += 1;
        } else if starts("CREATE DATABASE ") {
            self.makes_database = true;
        } else if starts("SET standard_conforming_strings = off") {
            self.suspicious.get_or_insert_with(|| "it is written for standard_conforming_strings = off".to_owned());
        }
    }

    /// Hands on the held bytes, though they aren't complete.
    fn flush<E>(&mut self, take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        if self.in_statement && !self.parted && first_word(&held).eq_ignore_ascii_case(b"copy") {
            self.suspicious.get_or_insert_with(|| "a COPY isn't written as a dump writes it".to_owned());
        }
        self.parted |= self.in_statement;
        let piece = if self.in_statement { DumpPiece::Part(&held) } else { DumpPiece::Blank(&held) };
        self.hand_on(piece, take)
    }

    fn hand_on<E>(&self, piece: DumpPiece<'_>, take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.suspicious.is_some() { Ok(()) } else { take(piece) }
    }

    /// After the last byte: the bytes still held.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn finish<E>(&mut self, take: &mut dyn FnMut(DumpPiece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.flush(take)
    }
}

fn first_word(statement: &[u8]) -> &[u8] {
    let end = statement.iter().position(|byte| !is_word(*byte)).unwrap_or(statement.len());
    &statement[..end]
}

/// Whether a client would take the text after a statement for its rows, or print rows among its answers.
fn is_copy_through_client(statement: &[u8]) -> bool {
    first_word(statement).eq_ignore_ascii_case(b"copy")
        && statement.windows(3).any(|part| part.eq_ignore_ascii_case(b"std"))
}

/// Whether a statement begins or ends a transaction otherwise than a dump does.
fn controls_transaction(statement: &[u8]) -> bool {
    const WORDS: [&[u8]; 8] = [b"abort", b"begin", b"commit", b"end", b"release", b"rollback", b"savepoint", b"start"];
    let word = first_word(statement);
    !matches!(statement, b"BEGIN;" | b"COMMIT;") && WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The table of a `COPY public.t (id, v) FROM stdin;`, as it is written there.
fn copied(statement: &[u8]) -> Option<String> {
    let text = text_of(statement);
    let rest = text.strip_prefix("COPY ")?.strip_suffix(" FROM stdin;")?;
    let end = name_end(rest)?;
    let (name, columns) = rest.split_at(end);
    let columns = columns.trim_start();
    (columns.is_empty() || (columns.starts_with('(') && columns.ends_with(')'))).then(|| name.to_owned())
}

/// Where a name that a text begins with ends: `public.t`, `"a b"."c""d"`.
pub fn name_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let start = at;
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match (bytes.get(at)?, bytes.get(at + 1)) {
                    (b'"', Some(b'"')) => at += 2,
                    (b'"', _) => break,
                    _ => at += 1,
                }
            }
            at += 1;
        } else {
            at += bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
        }
        if at == start {
            return None;
        }
        match bytes.get(at) {
            Some(b'.') => at += 1,
            _ => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const DUMP: &str = r#"--
-- PostgreSQL database dump
--

\restrict varu

SET standard_conforming_strings = on;
CREATE DATABASE agama WITH TEMPLATE = template0 ENCODING = 'UTF8';
\connect agama
CREATE FUNCTION public.f() RETURNS integer LANGUAGE plpgsql AS $_$
-- PostgreSQL database dump complete
begin return $1; end; $x$
COPY x FROM stdin;
\! touch x
$_$;
CREATE FUNCTION public.g() RETURNS text LANGUAGE sql AS 'select E''\\''; \! no';
COMMENT ON TABLE public.t IS E'it''s \' ; \\ \! no';
CREATE VIEW public.v AS SELECT 'a''b\' AS "x""y;'", 1 /* ' /* ; */ */ , typE'\' ;
CREATE RULE r AS ON INSERT TO public.v DO (SELECT 1; SELECT 2);
COPY public.t (id, v) FROM stdin;
1	a
2	b\n\\.\n
3	\N
\.


COPY "we""ird.s"."t (1) FROM stdin;" ("a b") FROM stdin;
\.

SELECT pg_catalog.lo_create('16395');
SELECT pg_catalog.lowrite(0, '\x0102');

--
-- PostgreSQL database dump complete
--

\unrestrict varu

"#;

    type Pieces = Vec<(u8, Vec<u8>)>;

    fn scan(text: &str, step: usize) -> (Scanner, Pieces) {
        let mut scanner = Scanner::default();
        let mut pieces: Pieces = Vec::new();
        let mut take = |piece: DumpPiece<'_>| {
            let (kind, bytes) = match piece {
                DumpPiece::Blank(bytes) => (b' ', bytes),
                DumpPiece::Statement(bytes) => (b's', bytes),
                DumpPiece::Part(bytes) => (b'p', bytes),
                DumpPiece::Meta(bytes) => (b'\\', bytes),
                DumpPiece::Rows(bytes) => (b'r', bytes),
            };
            pieces.push((kind, bytes.to_vec()));
            Ok::<(), Infallible>(())
        };
        for bytes in text.as_bytes().chunks(step) {
            let Ok(()) = scanner.push(bytes, &mut take);
        }
        let Ok(()) = scanner.finish(&mut take);
        (scanner, pieces)
    }

    #[test]
    fn all_pieces_together_are_the_dump_however_it_comes() {
        for step in [1, 2, 7, DUMP.len()] {
            let (scanner, pieces) = scan(DUMP, step);
            let all: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            assert!(all == DUMP.as_bytes(), "{}", String::from_utf8_lossy(&all));
            assert_eq!(
                scanner.rows.iter().map(|(name, rows)| (name.as_str(), *rows)).collect::<Vec<_>>(),
                [("\"we\"\"ird.s\".\"t (1) FROM stdin;\"", 0), ("public.t", 3)]
            );
            assert!(scanner.complete && scanner.at_rest() && scanner.makes_database);
            assert_eq!((scanner.large_objects, scanner.suspicious), (1, None));
            let of = |kind: u8| pieces.iter().filter(|(known, _)| *known == kind).count();
            assert_eq!((of(b's'), of(b'\\'), of(b'p')), (11, 3, 0), "{pieces:?}");
        }
    }

    #[test]
    fn a_dump_that_was_cut_anywhere_is_not_complete() {
        let whole = DUMP.find("-- PostgreSQL database dump complete\n--\n\n\\un").unwrap() + COMPLETE.len() + 1;
        for cut in (0..whole).step_by(3) {
            let (scanner, _) = scan(&DUMP[..cut], 4096);
            assert!(!scanner.complete, "{cut}");
        }
        assert!(scan(&DUMP[..whole], 9).0.complete);
        assert!(!scan(&format!("{DUMP}SELECT 1;"), 9).0.complete);
    }

    #[test]
    fn what_a_client_would_run_by_itself_is_noticed() {
        for bad in [
            "SELECT 1 \\! touch x\n;",
            "SELECT 1; \\! touch x\n",
            "-- x\r\\! touch x\n",
            "COPY t FROM PROGRAM 'touch x';",
            "/* x */ COPY t FROM PROGRAM 'touch x';",
            "COPY t TO '/x';",
            "SELECT ('a' \\g x",
            "SET standard_conforming_strings = off;",
            "SELECT :E'\\' \\! touch x\n;';",
            "SELECT :LAST_ERROR_MESSAGE;",
            "SELECT :::x'a';",
            "SELECT :'x';",
            "SELECT :{?z};",
            "SELECT :\"LASTOID\";",
            "SELECT E'a'\n'\\'' \\! touch x\n;';",
            "SELECT E'a' -- x\n /* y */ '\\'' \\! touch x\n;';",
            "SELECT 1$$'$$ \\! touch x\n;';",
            "SELECT $1$$'$$ \\! touch x\n;';",
            "SELECT $e'\\'' \\! touch x\n;';",
            "SELECT 1e'\\'' \\! touch x\n;';",
            "copy t from stdin;\n",
            "Copy t To StdOut;\n",
            "begin;",
            "START TRANSACTION;",
            "ROLLBACK;",
        ] {
            assert!(scan(bad, 3).0.suspicious.is_some(), "{bad}");
        }
        for good in [
            "SELECT a[1:2], a[lo:hi], a[lo:\"HI\"], x::\"T\", y::text, 'a'::E'b', $1, $2::int, E'a'||E'b';",
            "SELECT typE'\\', E'it''s', f($1), $$a$$, $x1$b$x1$, a$b, n := 1;",
            "BEGIN;SELECT pg_catalog.lowrite(0, '\\x00');COMMIT;",
        ] {
            let (scanner, _) = scan(good, 3);
            assert_eq!(scanner.suspicious, None, "{good}");
        }
        let (_, pieces) = scan("\\! touch x\nSELECT 1;\n  \n\\o /x\n", 5);
        let meta: Vec<_> = pieces.iter().filter(|(kind, _)| *kind == b'\\').collect();
        assert_eq!(meta.len(), 2, "{pieces:?}");
    }

    #[test]
    fn a_body_without_quotes_belongs_to_its_function() {
        let text = "CREATE FUNCTION public.f(integer) RETURNS integer\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT 1;\n SELECT\n         CASE \
                    WHEN true THEN 2 ELSE 3 END AS \"end\";\nEND;\nBEGIN;\nSELECT 1;\nCREATE OR REPLACE PROCEDURE p() BEGIN \
                    ATOMIC INSERT INTO t VALUES ('END;'); END;\n";
        for step in [1, 5, text.len()] {
            let (_, pieces) = scan(text, step);
            let whole = pieces.iter().filter(|(kind, _)| *kind == b's').map(|(_, text)| text.len());
            assert_eq!(whole.collect::<Vec<_>>(), [text.find("BEGIN;").unwrap() - 1, 6, 9, 80], "{pieces:?}");
        }
    }

    #[test]
    fn a_long_statement_comes_in_parts() {
        let text = format!("INSERT INTO t VALUES ('{}');\nSELECT 1;", "x;\n".repeat(HELD));
        let (_, pieces) = scan(&text, 1000);
        assert!(pieces.len() > 3 && pieces.iter().all(|(_, bytes)| bytes.len() <= HELD));
        assert_eq!(pieces.last().unwrap(), &(b's', b"SELECT 1;".to_vec()));
    }

    #[test]
    fn a_name_ends_where_it_ends() {
        assert_eq!(name_end("agama OWNER"), Some(5));
        assert_eq!(name_end("\"a\"\" b\".c;"), Some(9));
        assert_eq!(name_end(";"), None);
        assert_eq!(name_end("\"a"), None);
    }
}
