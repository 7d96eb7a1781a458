//! Tokens of one statement, and where it ends.

use std::ops::Range;

use super::charset::Charset;

/// The conditions under which text is read: the server's version, and the settings of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) struct ReadingConditions {
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

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum TokenKind {
    /// A word without quotes: a keyword, a name, a number, `@variable` without its `@`.
    Word,
    /// A name in quotes.
    Name,
    /// A string.
    Text,
    /// A character beyond ASCII outside of quotes, in a character set where it may be anything: a letter, white space.
    Foreign,
    /// Any other byte.
    Sign(u8),
    /// A comment, which the server doesn't read.
    Comment,
}

/// A token and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source::mysql) struct SqlToken {
    /// Its kind.
    pub kind: TokenKind,
    /// Its position.
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
    pub tokens: Vec<SqlToken>,
    /// Where it ends, without its delimiter.
    pub end: usize,
    /// Where the next one begins.
    pub next: usize,
}

impl ReadingConditions {
    /// Reads up to the first `delimiter` that isn't quoted.
    ///
    /// # Errors
    /// If there is none.
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
                    None => (TokenKind::Comment, self.skipped(rest).ok_or(Open::Quotes)?),
                },
                [b'#', ..] => (TokenKind::Comment, line(rest)),
                [b'-', b'-', 0x80..=0xff, ..] if self.charset != Charset::Utf8 => return Err(Open::Quotes),
                [b'-', b'-', after @ ..] if is_gap(after.first().copied()) => (TokenKind::Comment, line(rest)),
                [b'`', ..] => (TokenKind::Name, self.quoted(rest, b'`').ok_or(Open::Quotes)?),
                [b'"', ..] if self.quotes_names => (TokenKind::Name, self.quoted(rest, b'"').ok_or(Open::Quotes)?),
                [quote @ (b'"' | b'\''), ..] => (TokenKind::Text, self.quoted(rest, *quote).ok_or(Open::Quotes)?),
                [byte, ..] if self.is_word(*byte) => (TokenKind::Word, self.word(rest, delimiter)),
                [0x80..=0xff, ..] => (TokenKind::Foreign, self.charset.length(rest)),
                [byte, ..] => (TokenKind::Sign(*byte), 1),
                [] => break,
            };
            tokens.push(SqlToken { kind, at: at..at + length });
            at += length;
        }
        Err(Open::Statement)
    }

    /// Tokens of text that is one statement without a delimiter.
    ///
    /// # Errors
    /// Where a string, a name or a comment has no end.
    pub fn tokens(&self, text: &[u8]) -> Result<Vec<SqlToken>, Open> {
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
            [b'-', b'-', 0x80..=0xff, ..] if self.charset != Charset::Utf8 => None,
            [b'-', b'-', after @ ..] if is_gap(after.first().copied()) => {
                Some(memchr::memchr(b'\n', text).map(|at| at + 1))
            }
            [b'/', b'*', ..] if self.opened(text).is_none() => Some(self.skipped(text)),
            _ => None,
        }
    }

    /// The first tokens, up to a word that is `last`, or as far as they can be determined.
    pub fn leading(&self, text: &[u8], last: &[u8]) -> Vec<SqlToken> {
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
                    Some(length) => (TokenKind::Name, length),
                    None => break,
                },
                [byte, ..] if self.is_word(*byte) => (TokenKind::Word, self.word(rest, b"\0")),
                [byte @ (b'(' | b')' | b',' | b'.'), ..] => (TokenKind::Sign(*byte), 1),
                _ => break,
            };
            tokens.push(SqlToken { kind, at: at..at + length });
            if kind == TokenKind::Word && rest[..length].eq_ignore_ascii_case(last) {
                break;
            }
            at += length;
        }
        tokens
    }

    /// How long the opening of a comment is that the server runs; None if it is a comment to it.
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
        // MariaDB skips versioned comments for MySQL 5.7 and later.
        let foreign = self.mariadb && !own && (50_700..=99_999).contains(&number);
        (number <= self.version && !foreign).then_some(mark + digits)
    }

    /// How long a comment is that the server doesn't read.
    fn skipped(&self, rest: &[u8]) -> Option<usize> {
        let nests = match rest.get(2..)? {
            [b'!', ..] => true,
            [b'M', b'!', ..] => self.mariadb,
            _ => false,
        };
        comment(rest, nests)
    }

    /// Whether the byte is part of a word.
    fn is_word(&self, byte: u8) -> bool {
        let ascii = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        ascii || (byte >= 0x80 && self.charset == Charset::Utf8)
    }

    /// How long a string or name is, with its quotes.
    fn quoted(&self, rest: &[u8], quote: u8) -> Option<usize> {
        let escapes = quote != b'`' && !(quote == b'"' && self.quotes_names) && !self.plain_backslash;
        let mut at = 1;
        while let Some(&byte) = rest.get(at) {
            let length = self.charset.length(&rest[at..]);
            if length > 1 {
                at += length;
            } else if byte == b'\\' && escapes {
                // One byte is escaped, also where it begins a longer character.
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
        let ends = |at: usize| !self.is_word(rest[at]) || rest[at..].starts_with(delimiter);
        (1..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len())
    }
}

/// The text after a statement that has no delimiter of its own.
const END: &[u8] = b"\0the end of the statement\0";

/// Whether `--` before this byte begins a comment.
fn is_gap(byte: Option<u8>) -> bool {
    matches!(byte, None | Some(..=0x20 | 0x7f))
}

/// How long the rest of a line is, with its end.
fn line(rest: &[u8]) -> usize {
    memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
}

/// The length of a comment. If it `nests`, an inner one is skipped as a whole, once: so does the server.
fn comment(rest: &[u8], nests: bool) -> Option<usize> {
    let mut at = 2;
    loop {
        match rest.get(at..)? {
            [b'*', b'/', ..] => return Some(at + 2),
            [b'/', b'*', ..] if nests => at += comment(&rest[at..], false)?,
            [] => return None,
            _ => at += 1,
        }
    }
}

/// A statement's tokens that the server reads, one after the other.
#[derive(Debug, Clone)]
pub(in crate::source::mysql) struct TokenCursor<'t> {
    text: &'t [u8],
    tokens: &'t [SqlToken],
    charset: Charset,
    at: usize,
}

impl<'t> TokenCursor<'t> {
    /// At the start of a text of that character set.
    pub fn new(charset: Charset, text: &'t [u8], tokens: &'t [SqlToken]) -> Self {
        Self { text, tokens, charset, at: 0 }
    }

    /// The next token, without taking it.
    pub fn peek(&self) -> Option<&'t SqlToken> {
        self.tokens[self.at..].iter().find(|token| token.kind != TokenKind::Comment)
    }

    /// Takes the next token.
    pub fn take(&mut self) -> Option<&'t SqlToken> {
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            if token.kind != TokenKind::Comment {
                return Some(token);
            }
        }
        None
    }

    /// The bytes of a token.
    pub fn bytes(&self, token: &SqlToken) -> &'t [u8] {
        &self.text[token.at.clone()]
    }

    /// Takes the word, where it is next.
    pub fn word(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|token| {
            token.kind == TokenKind::Word && self.bytes(token).eq_ignore_ascii_case(word.as_bytes())
        });
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
        let is = self.peek().is_some_and(|token| token.kind == TokenKind::Sign(sign));
        if is {
            self.take();
        }
        is
    }

    /// The character set of the text.
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// Takes a name, in quotes or not.
    pub fn name(&mut self) -> Option<String> {
        let name = self.named(self.peek()?)?;
        self.take();
        Some(name)
    }

    /// The name that a token is.
    pub fn named(&self, token: &SqlToken) -> Option<String> {
        let text = self.charset.text(self.bytes(token))?;
        match token.kind {
            TokenKind::Word => Some(text),
            TokenKind::Name => unquoted(&text),
            _ => None,
        }
    }

    /// Whether nothing is left.
    pub fn is_end(&self) -> bool {
        self.peek().is_none()
    }
}

/// A name without its quotes.
pub(in crate::source::mysql) fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const READING: ReadingConditions = ReadingConditions {
        version: 101_119,
        mariadb: true,
        quotes_names: false,
        plain_backslash: false,
        charset: Charset::Utf8,
    };

    fn shown(reading: ReadingConditions, text: &str) -> Vec<String> {
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
        assert_eq!(
            shown(READING, "/*M /* */ a -- */ b\n /*x /* */ c"),
            ["/*M /* */", "a", "-- */ b\n", "/*x /* */", "c"]
        );
        let mysql = ReadingConditions { mariadb: false, version: 80_036, ..READING };
        assert_eq!(shown(mysql, "/*!50799 b*/ /*M!101119 d*/ /*! x */"), ["b", "/*M!101119 d*/", "x"]);
        assert!(READING.tokens(b"a /* b").is_err() && READING.tokens(b"'a").is_err());
    }

    #[test]
    fn quotes_end_where_the_session_says() {
        assert_eq!(shown(READING, r"'a\'b' 'c''d' `e``f`"), [r"'a\'b'", "'c''d'", "`e``f`"]);
        let plain = ReadingConditions { plain_backslash: true, ..READING };
        assert_eq!(shown(plain, r"'\' 'x'"), [r"'\'", "'x'"]);
        let charset = |name: &str| ReadingConditions { charset: Charset::named(name).unwrap(), ..READING };
        let count = |name: &str, text: &[u8]| charset(name).tokens(text).map(|tokens| tokens.len());
        for name in ["gbk", "gb18030", "sjis", "cp932"] {
            assert_eq!(count(name, b"'\x95\\' x"), Ok(2), "{name}: the backslash is half of a character");
            assert_eq!(count(name, b"`\x95` x` y"), Ok(2), "{name}: the quote is half of a character");
        }
        for name in ["utf8mb4", "latin1", "big5", "euckr", "gb2312", "ujis", "eucjpms"] {
            assert_eq!(count(name, b"'\x95\\' x'"), Ok(1), "{name}: the backslash escapes");
        }
        assert_eq!((count("sjis", b"'\xb1\\' x'"), count("big5", b"'\xb1\\' x")), (Ok(1), Ok(2)));
        assert_eq!(count("gbk", b"'\\\x95\\' x'"), Ok(1), "one byte is escaped, and then another");
    }

    #[test]
    fn what_a_character_beyond_ascii_is_outside_of_quotes_is_not_guessed() {
        let latin = ReadingConditions { charset: Charset::named("latin1").unwrap(), ..READING };
        let kinds: Vec<TokenKind> = latin.tokens(b"a\xa0SELECT").unwrap().into_iter().map(|token| token.kind).collect();
        assert_eq!(kinds, [TokenKind::Word, TokenKind::Foreign, TokenKind::Word]);
        assert!(latin.tokens(b"a --\x80 b").is_err() && latin.comment(b"--\xa0 b\n").is_none());
        for unknown in ["28", "default", "ucs2", "utf16", "filename", "swe7", "gbk_chinese_ci", ""] {
            assert_eq!(Charset::named(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_statement_ends_at_its_delimiter() {
        let text = b"begin ';;' ; /* ;; */ x;; y";
        let statement = READING.statement(text, b";;").unwrap();
        assert_eq!((statement.end, &text[statement.next..]), (23, &b" y"[..]));
        assert_eq!(READING.statement(b"abc", b";"), Err(Open::Statement));
    }
}
