//! Tokens of one statement, and where it ends.

use std::ops::Range;

/// How text is read: the server's version, and what its session is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) struct Reading {
    /// The version as in comments: 101119 of 10.11.19.
    pub version: u32,
    /// Whether it is a MariaDB server.
    pub mariadb: bool,
    /// Whether `"` quotes names (ANSI_QUOTES).
    pub quotes_names: bool,
    /// Whether a backslash in a string is a plain byte (NO_BACKSLASH_ESCAPES).
    pub plain_backslash: bool,
    /// How the session's character set makes characters of bytes.
    pub charset: Charset,
}

/// What matters of a character set to somebody who looks for quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum Charset {
    /// No byte below 0x80 is part of a longer character, and none above is white space: UTF-8, binary.
    Utf8,
    /// Latin 1, whose 0xA0 is white space.
    Latin1,
    /// Other characters of one byte, whose 0x80 to 0xA0 may be white space or control characters.
    OneByte,
    /// Characters of two or more bytes, whose second may look like a quote or a backslash.
    Shifting,
}

impl Charset {
    /// That of a name: `utf8mb4`.
    pub fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.split('_').next().unwrap_or_default() {
            "utf8" | "utf8mb3" | "utf8mb4" | "binary" | "ascii" => Self::Utf8,
            "latin1" => Self::Latin1,
            "big5" | "cp932" | "gbk" | "sjis" | "gb18030" | "gb2312" | "euckr" | "ujis" | "eucjpms" => Self::Shifting,
            _ => Self::OneByte,
        }
    }
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum Kind {
    /// A word without quotes: a keyword, a name, a number, `@variable` without its `@`.
    Word,
    /// A name in quotes.
    Name,
    /// A string.
    Text,
    /// Any other byte.
    Sign(u8),
    /// A comment, which the server doesn't read.
    Comment,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::mysql) struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub at: Range<usize>,
}

/// Why text is no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum Open {
    /// A string, a name or a comment has no end.
    Quotes,
    /// There is no delimiter.
    Statement,
}

/// A statement and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::mysql) struct Statement {
    /// Its tokens, comments among them.
    pub tokens: Vec<Token>,
    /// Where it ends, without its delimiter.
    pub end: usize,
    /// Where the next one begins.
    pub next: usize,
}

impl Reading {
    /// Reads up to the first `delimiter` that isn't quoted.
    ///
    /// # Errors
    /// Where there is none.
    pub fn statement(&self, text: &[u8], delimiter: &[u8]) -> Result<Statement, Open> {
        let mut tokens = Vec::new();
        // How many comments that the server runs are open.
        let mut run = 0_u32;
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            if rest.starts_with(delimiter) {
                return Ok(Statement { tokens, end: at, next: at + delimiter.len() });
            }
            let (kind, length) = match rest {
                [byte, ..] if byte.is_ascii_whitespace() || *byte == 0x0b => {
                    at += 1;
                    continue;
                }
                [b'*', b'/', ..] if run > 0 => {
                    run -= 1;
                    at += 2;
                    continue;
                }
                [b'/', b'*', ..] => match self.opened(rest) {
                    Some(length) => {
                        run += 1;
                        at += length;
                        continue;
                    }
                    None => (Kind::Comment, comment(rest, 0).ok_or(Open::Quotes)?),
                },
                [b'#', ..] => (Kind::Comment, line(rest)),
                [b'-', b'-', after @ ..] if self.is_gap(after.first().copied()) => (Kind::Comment, line(rest)),
                [b'`', ..] => (Kind::Name, self.quoted(rest, b'`').ok_or(Open::Quotes)?),
                [b'"', ..] if self.quotes_names => (Kind::Name, self.quoted(rest, b'"').ok_or(Open::Quotes)?),
                [quote @ (b'"' | b'\''), ..] => (Kind::Text, self.quoted(rest, *quote).ok_or(Open::Quotes)?),
                [byte, ..] if is_word(*byte) => (Kind::Word, self.word(rest, delimiter)),
                [byte, ..] => (Kind::Sign(*byte), 1),
                [] => break,
            };
            tokens.push(Token { kind, at: at..at + length });
            at += length;
        }
        Err(Open::Statement)
    }

    /// Tokens of text that is one statement without a delimiter.
    ///
    /// # Errors
    /// Where a string, a name or a comment has no end.
    pub fn tokens(&self, text: &[u8]) -> Result<Vec<Token>, Open> {
        // No statement has a NUL behind its end.
        let mut whole = text.to_vec();
        whole.push(b'\n');
        whole.extend_from_slice(END);
        self.statement(&whole, END).map(|statement| statement.tokens)
    }

    /// How long the comment is that `text` begins with; Some(None) where its end isn't there.
    pub fn comment(&self, text: &[u8]) -> Option<Option<usize>> {
        match text {
            [b'#', ..] => Some(memchr::memchr(b'\n', text).map(|at| at + 1)),
            [b'-', b'-', after @ ..] if self.is_gap(after.first().copied()) => {
                Some(memchr::memchr(b'\n', text).map(|at| at + 1))
            }
            [b'/', b'*', ..] if self.opened(text).is_none() => Some(comment(text, 0)),
            _ => None,
        }
    }

    /// The first tokens, up to a word that is `last`, or as far as they can be told.
    pub fn leading(&self, text: &[u8], last: &[u8]) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let (kind, length) = match rest {
                [byte, ..] if byte.is_ascii_whitespace() => {
                    at += 1;
                    continue;
                }
                [b'`', ..] => match self.quoted(rest, b'`') {
                    Some(length) => (Kind::Name, length),
                    None => break,
                },
                [byte, ..] if is_word(*byte) => (Kind::Word, self.word(rest, b"\0")),
                [byte @ (b'(' | b')' | b',' | b'.'), ..] => (Kind::Sign(*byte), 1),
                _ => break,
            };
            tokens.push(Token { kind, at: at..at + length });
            if kind == Kind::Word && rest[..length].eq_ignore_ascii_case(last) {
                break;
            }
            at += length;
        }
        tokens
    }

    /// How long the opening of a comment is that the server runs; None where it is a comment to it.
    fn opened(&self, rest: &[u8]) -> Option<usize> {
        let (mark, own) = match rest {
            [b'/', b'*', b'!', ..] => (3, false),
            [b'/', b'*', b'M', b'!', ..] if self.mariadb => (4, true),
            _ => return None,
        };
        let digits = rest[mark..].iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
        // Fewer than five are no version but text.
        if digits < 5 {
            return Some(mark);
        }
        let number = rest[mark..mark + digits].iter().fold(0, |number, byte| number * 10 + u32::from(byte - b'0'));
        // MariaDB doesn't have what MySQL has had since 5.7.
        let foreign = self.mariadb && !own && (50_700..=99_999).contains(&number);
        (number <= self.version && !foreign).then_some(mark + digits)
    }

    /// Whether `--` before this byte begins a comment.
    fn is_gap(&self, byte: Option<u8>) -> bool {
        match byte {
            None | Some(..=0x20 | 0x7f) => true,
            Some(0xa0) => matches!(self.charset, Charset::Latin1 | Charset::OneByte),
            Some(0x80..=0x9f) => self.charset == Charset::OneByte,
            Some(_) => false,
        }
    }

    /// How long a string or name is, with its quotes.
    fn quoted(&self, rest: &[u8], quote: u8) -> Option<usize> {
        let escapes = quote != b'`' && !(quote == b'"' && self.quotes_names) && !self.plain_backslash;
        let mut at = 1;
        while let Some(&byte) = rest.get(at) {
            let has_second = || {
                self.charset == Charset::Shifting
                    && (0x81..=0xfe).contains(&byte)
                    && rest.get(at + 1).is_some_and(|next| *next >= 0x30)
            };
            if (byte == b'\\' && escapes) || has_second() {
                at += 2;
            } else if byte != quote {
                at += 1;
            } else if rest.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return Some(at + 1);
            }
        }
        None
    }

    fn word(&self, rest: &[u8], delimiter: &[u8]) -> usize {
        let ends = |at: usize| !is_word(rest[at]) || rest[at..].starts_with(delimiter);
        (1..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len())
    }
}

/// What stands behind a statement that has no delimiter of its own.
const END: &[u8] = b"\0the end of the statement\0";

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// How long the rest of a line is, with its end.
fn line(rest: &[u8]) -> usize {
    memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
}

/// How long a comment is. One in it is passed over as a whole, once: so does the server.
fn comment(rest: &[u8], depth: u32) -> Option<usize> {
    let nests = depth == 0 && matches!(rest.get(2), Some(b'!' | b'M'));
    let mut at = 2;
    loop {
        match rest.get(at..)? {
            [b'*', b'/', ..] => return Some(at + 2),
            [b'/', b'*', ..] if nests => at += comment(&rest[at..], depth + 1)?,
            [] => return None,
            _ => at += 1,
        }
    }
}

/// A statement's tokens that the server reads, one after the other.
#[derive(Debug, Clone)]
pub(in crate::source::mysql) struct Cursor<'t> {
    text: &'t [u8],
    tokens: &'t [Token],
    at: usize,
}

impl<'t> Cursor<'t> {
    /// At the start.
    pub fn new(text: &'t [u8], tokens: &'t [Token]) -> Self {
        Self { text, tokens, at: 0 }
    }

    /// The next token, without taking it.
    pub fn peek(&self) -> Option<&'t Token> {
        self.tokens[self.at..].iter().find(|token| token.kind != Kind::Comment)
    }

    /// Takes the next token.
    pub fn take(&mut self) -> Option<&'t Token> {
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            if token.kind != Kind::Comment {
                return Some(token);
            }
        }
        None
    }

    /// The bytes of a token.
    pub fn bytes(&self, token: &Token) -> &'t [u8] {
        &self.text[token.at.clone()]
    }

    /// Takes the word, where it is next.
    pub fn word(&mut self, word: &str) -> bool {
        let is = self
            .peek()
            .is_some_and(|token| token.kind == Kind::Word && self.bytes(token).eq_ignore_ascii_case(word.as_bytes()));
        if is {
            self.take();
        }
        is
    }

    /// Takes the words, where they are next.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let before = self.at;
        let all = words.iter().all(|word| self.word(word));
        if !all {
            self.at = before;
        }
        all
    }

    /// Takes the byte, where it is next.
    pub fn sign(&mut self, sign: u8) -> bool {
        let is = self.peek().is_some_and(|token| token.kind == Kind::Sign(sign));
        if is {
            self.take();
        }
        is
    }

    /// Takes a name, in quotes or not.
    pub fn name(&mut self) -> Option<String> {
        let token = self.peek()?;
        let bytes = self.bytes(token);
        let name = match token.kind {
            Kind::Word => String::from_utf8(bytes.to_vec()).ok()?,
            Kind::Name => unquoted(bytes)?,
            _ => return None,
        };
        self.take();
        Some(name)
    }

    /// Whether nothing is left.
    pub fn is_end(&self) -> bool {
        self.peek().is_none()
    }
}

/// A name without its quotes.
pub(in crate::source::mysql) fn unquoted(bytes: &[u8]) -> Option<String> {
    let quote = char::from(*bytes.first()?);
    let inner = std::str::from_utf8(bytes.get(1..bytes.len().checked_sub(1)?)?).ok()?;
    Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const READING: Reading = Reading {
        version: 101_119,
        mariadb: true,
        quotes_names: false,
        plain_backslash: false,
        charset: Charset::Utf8,
    };

    fn shown(reading: Reading, text: &str) -> Vec<String> {
        let tokens = reading.tokens(text.as_bytes()).unwrap();
        tokens.into_iter().map(|token| text[token.at].to_owned()).collect()
    }

    #[test]
    fn comments_are_what_the_server_takes_for_comments() {
        assert_eq!(shown(READING, "a --\u{1} \\e ;\nb"), ["a", "--\u{1} \\e ;\n", "b"]);
        assert_eq!(shown(READING, "5--5"), ["5", "-", "-", "5"]);
        assert_eq!(
            shown(READING, "/*!50003 a*/ /*!50799 b*/ /*!999999 ' /* x */ c*/ /*M!101119 d*/ /*M!101120 e */"),
            ["a", "/*!50799 b*/", "/*!999999 ' /* x */ c*/", "d", "/*M!101120 e */"]
        );
        let mysql = Reading { mariadb: false, version: 80_036, ..READING };
        assert_eq!(shown(mysql, "/*!50799 b*/ /*M!101119 d*/ /*! x */"), ["b", "/*M!101119 d*/", "x"]);
        assert!(READING.tokens(b"a /* b").is_err() && READING.tokens(b"'a").is_err());
    }

    #[test]
    fn quotes_end_where_the_session_says() {
        assert_eq!(shown(READING, r"'a\'b' 'c''d' `e``f`"), [r"'a\'b'", "'c''d'", "`e``f`"]);
        let plain = Reading { plain_backslash: true, ..READING };
        assert_eq!(shown(plain, r"'\' 'x'"), [r"'\'", "'x'"]);
        let shifting = Reading { charset: Charset::Shifting, ..READING };
        assert_eq!(shifting.tokens(b"'\x95\\' x").unwrap().len(), 2);
    }

    #[test]
    fn a_statement_ends_at_its_delimiter() {
        let text = b"begin ';;' ; /* ;; */ x;; y";
        let statement = READING.statement(text, b";;").unwrap();
        assert_eq!((statement.end, &text[statement.next..]), (23, &b" y"[..]));
        assert_eq!(READING.statement(b"abc", b";"), Err(Open::Statement));
    }
}
