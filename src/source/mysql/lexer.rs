//! Statement boundaries in a dump, as the client that reads it would find them.
//!
//! Strings, names in backticks, comments and `DELIMITER` are followed; `/*! … */` is text that the server runs, so it is no
//! comment here. State is a few words, however long a line is.

/// The state: how the next bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between statements.
    Between,
    /// After a statement, on its line.
    LineEnd,
    /// In a statement.
    Statement,
    /// In a string or a name that this byte ends.
    Quoted(u8),
    /// In a comment to the end of the line; whether it is between statements.
    LineComment(bool),
    /// In a comment to `*/`; whether it is between statements.
    BlockComment(bool),
}

/// The result of scanning some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    /// All bytes were taken, or the rest is too short to tell: more is needed.
    More,
    /// A comment line between statements begins here.
    Comment,
    /// A statement begins here.
    Begin,
    /// A statement, or a comment in `/* */`, ended just before.
    End,
}

/// Follows a dump. The caller keeps the bytes.
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    delimiter: Vec<u8>,
    /// Whether a backslash in a string is a plain byte.
    pub plain_backslash: bool,
    /// Counts rows of the statement: how deep the parentheses are, and whether `VALUES` was seen.
    rows: Option<RowCount>,
    /// Rows that were counted since they were taken.
    counted: u64,
}

#[derive(Debug, Clone, Copy)]
struct RowCount {
    depth: u32,
    values: bool,
}

/// Bytes that a lookahead may need to identify a token.
pub(super) const LOOK: usize = 512;

/// Whether a byte in a statement needs a look.
const STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let mut i = 0;
    let list = b"'\"`-#/()vV";
    while i < list.len() {
        stops[list[i] as usize] = true;
        i += 1;
    }
    stops
};

impl Lexer {
    pub fn new() -> Self {
        Self { state: State::Between, delimiter: vec![b';'], plain_backslash: false, rows: None, counted: 0 }
    }

    /// Whether nothing is open: no statement, string or comment.
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Between | State::LineEnd | State::LineComment(true))
    }

    /// Rows of the statement that begins are counted.
    pub fn count_rows(&mut self) {
        self.rows = Some(RowCount { depth: 0, values: false });
    }

    /// The rows that were counted, which are forgotten.
    pub fn take_rows(&mut self) -> u64 {
        std::mem::take(&mut self.counted)
    }

    /// The statement reported as [`Scanned::Begin`] is `DELIMITER …`, which ends with its line.
    pub fn set_delimiter(&mut self, line: &[u8]) {
        let word = line.trim_ascii();
        let word = word.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        if !word.is_empty() {
            self.delimiter = word.to_vec();
        }
        self.state = State::LineComment(true);
    }

    /// The comment line reported as [`Scanned::Comment`] is skipped, or the statement of [`Scanned::Begin`] is entered.
    pub fn enter(&mut self, seen: Scanned) {
        match seen {
            Scanned::Comment => self.state = State::LineComment(true),
            Scanned::Begin => self.state = State::Statement,
            Scanned::More | Scanned::End => {}
        }
    }

    /// Looks at `bytes` from `at` on and moves it. With `end`, nothing comes after them.
    pub fn look(&mut self, bytes: &[u8], at: &mut usize, end: bool) -> Scanned {
        while *at < bytes.len() {
            let rest = &bytes[*at..];
            match self.state {
                State::LineEnd => match rest[0] {
                    b' ' | b'\t' | b'\r' => *at += 1,
                    b'\n' => {
                        *at += 1;
                        self.state = State::Between;
                        return Scanned::End;
                    }
                    _ => {
                        self.state = State::Between;
                        return Scanned::End;
                    }
                },
                State::Between => match self.between(rest, end) {
                    Between::Space => *at += 1,
                    Between::Block => {
                        *at += 2;
                        self.state = State::BlockComment(true);
                    }
                    // A delimiter alone ends an empty statement.
                    Between::Empty(length) => {
                        *at += length;
                        self.state = State::LineEnd;
                    }
                    Between::Is(seen) => return seen,
                },
                State::LineComment(between) => match rest.iter().position(|&byte| byte == b'\n') {
                    None => *at = bytes.len(),
                    Some(length) => {
                        *at += length + 1;
                        self.state = if between { State::Between } else { State::Statement };
                    }
                },
                State::BlockComment(between) => match find_comment_end(rest) {
                    Some(length) => {
                        *at += length;
                        if between {
                            self.state = State::Between;
                            return Scanned::End;
                        }
                        self.state = State::Statement;
                    }
                    // A star at the end may be the first half.
                    None if end => *at = bytes.len(),
                    None => {
                        *at = bytes.len() - usize::from(rest.ends_with(b"*"));
                        return Scanned::More;
                    }
                },
                State::Quoted(quote) => {
                    if !self.quoted(rest, at, quote, end) {
                        return Scanned::More;
                    }
                }
                State::Statement => {
                    if !self.statement(rest, at, end) {
                        return Scanned::More;
                    }
                }
            }
        }
        Scanned::More
    }

    fn between(&self, rest: &[u8], end: bool) -> Between {
        if rest[0].is_ascii_whitespace() {
            return Between::Space;
        }
        if rest.len() < LOOK && !end {
            return Between::Is(Scanned::More);
        }
        if rest.starts_with(&self.delimiter) {
            return Between::Empty(self.delimiter.len());
        }
        match rest {
            [b'#', ..] => Between::Is(Scanned::Comment),
            [b'-', b'-', next, ..] if next.is_ascii_whitespace() => Between::Is(Scanned::Comment),
            [b'-', b'-'] => Between::Is(Scanned::Comment),
            [b'/', b'*', ..] if !is_run(rest) => Between::Block,
            _ => Between::Is(Scanned::Begin),
        }
    }

    /// Continues in a string. False if more bytes are needed.
    fn quoted(&mut self, rest: &[u8], at: &mut usize, quote: u8, end: bool) -> bool {
        let escapes = quote != b'`' && !self.plain_backslash;
        let stop = match escapes {
            true => memchr::memchr2(quote, b'\\', rest),
            false => memchr::memchr(quote, rest),
        };
        match stop {
            None => *at += rest.len(),
            Some(length) if rest[length] == quote => {
                *at += length + 1;
                self.state = State::Statement;
            }
            Some(length) if length + 1 < rest.len() => *at += length + 2,
            Some(length) => {
                *at += length + usize::from(end);
                return end;
            }
        }
        true
    }

    /// Continues in a statement up to the next byte that changes the state. False if more bytes are needed.
    fn statement(&mut self, rest: &[u8], at: &mut usize, end: bool) -> bool {
        let first = self.delimiter.first().copied().unwrap_or(b';');
        let Some(length) = rest.iter().position(|&byte| STOPS[usize::from(byte)] || byte == first) else {
            *at += rest.len();
            return true;
        };
        *at += length;
        let rest = &rest[length..];
        if rest.len() < self.delimiter.len().max(6) && !end {
            return false;
        }
        if rest.starts_with(&self.delimiter) {
            *at += self.delimiter.len();
            self.state = State::LineEnd;
            self.rows = None;
            return true;
        }
        match rest {
            [quote @ (b'\'' | b'"' | b'`'), ..] => self.state = State::Quoted(*quote),
            [b'#', ..] => self.state = State::LineComment(false),
            [b'-', b'-', next, ..] if next.is_ascii_whitespace() => self.state = State::LineComment(false),
            [b'/', b'*', ..] if !is_run(rest) => {
                *at += 1;
                self.state = State::BlockComment(false);
            }
            _ => self.count(rest),
        }
        *at += 1;
        true
    }

    fn count(&mut self, rest: &[u8]) {
        let Some(rows) = &mut self.rows else { return };
        match rest[0] {
            b'(' => {
                self.counted += u64::from(rows.values && rows.depth == 0);
                rows.depth = rows.depth.saturating_add(1);
            }
            b')' => rows.depth = rows.depth.saturating_sub(1),
            b'v' | b'V' if rows.depth == 0 && rest.len() >= 6 => {
                rows.values |= rest[..6].eq_ignore_ascii_case(b"VALUES")
            }
            _ => {}
        }
    }
}

enum Between {
    Space,
    Block,
    Empty(usize),
    Is(Scanned),
}

/// Whether `/*` begins text that a server runs. A dump's first line is for the client alone: `/*M!999999\- enable the
/// sandbox mode */`.
fn is_run(rest: &[u8]) -> bool {
    rest.starts_with(b"/*!") || (rest.starts_with(b"/*M!") && !rest.starts_with(b"/*M!999999\\-"))
}

/// How many bytes there are up to the end of `*/`.
fn find_comment_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"*/").map(|at| at + 2)
}
