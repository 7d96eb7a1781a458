//! The rows of an `INSERT`, which are too long to be held: followed byte by byte, and nothing but values let through.

/// Words that are values, or precede one.
const WORDS: [&[u8]; 6] = [b"NULL", b"DEFAULT", b"TRUE", b"FALSE", b"X", b"B"];
/// The most bytes of a word that is looked at.
const WORD: usize = 64;

/// The position of a byte in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between values, where a minus was or wasn't the byte before.
    Between(bool),
    /// In a word or a number.
    Word,
    /// Behind the sign of an exponent.
    Sign,
    /// In a string that this byte ends; whether the byte before was a backslash.
    Text(u8, bool),
}

/// A byte that is invalid in the rows of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) struct NoValue;

/// Rows of one statement.
#[derive(Debug)]
pub(in crate::source::mysql) struct RowReader {
    state: State,
    depth: u8,
    word: Vec<u8>,
}

impl RowReader {
    /// Behind `VALUES`.
    pub fn new() -> Self {
        Self { state: State::Between(false), depth: 0, word: Vec::new() }
    }

    /// Follows `bytes`, in a session whose strings have backslashes. How many of them belong to the statement with its `;`,
    /// and whether it has ended.
    ///
    /// # Errors
    /// Where a byte can't be part of a value. Whatever stood before it is values alone.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(usize, bool), NoValue> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                State::Text(quote, true) => self.state = State::Text(quote, false),
                State::Text(quote, false) => match memchr::memchr2(quote, b'\\', &bytes[at..]) {
                    None => return Ok((bytes.len(), false)),
                    Some(length) => {
                        at += length;
                        self.state = match bytes[at] {
                            b'\\' => State::Text(quote, true),
                            _ => State::Between(false),
                        };
                    }
                },
                State::Word if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') => {
                    if self.word.len() == WORD {
                        self.check_long()?;
                    } else {
                        self.word.push(byte);
                    }
                }
                // An exponent has a sign, and a digit behind it: of `1e--` a server makes a name and a comment.
                State::Word if matches!(byte, b'+' | b'-') && is_exponent(&self.word) => {
                    self.word.push(byte);
                    self.state = State::Sign;
                }
                State::Sign if byte.is_ascii_digit() => self.state = State::Word,
                State::Sign => return Err(NoValue),
                State::Word => {
                    self.check_word()?;
                    self.state = State::Between(false);
                    continue;
                }
                State::Between(minus) => {
                    let mut next = State::Between(false);
                    match byte {
                        b'(' if self.depth == 0 => self.depth = 1,
                        b')' if self.depth == 1 => self.depth = 0,
                        b';' if self.depth == 0 => return Ok((at + 1, true)),
                        b'\'' | b'"' if self.depth == 1 => next = State::Text(byte, false),
                        b'-' if self.depth == 1 && !minus => next = State::Between(true),
                        b' ' | b'\t' | b'\r' | b'\n' | b',' | b'+' => {}
                        b'0'..=b'9' | b'.' | b'_' | b'A'..=b'Z' | b'a'..=b'z' if self.depth == 1 => {
                            self.word.clear();
                            self.word.push(byte);
                            next = State::Word;
                        }
                        _ => return Err(NoValue),
                    }
                    self.state = next;
                }
            }
            at += 1;
        }
        Ok((bytes.len(), false))
    }

    /// Only hexadecimal and binary literals, and numbers, are long.
    fn check_long(&self) -> Result<(), NoValue> {
        let first = self.word.first().copied().unwrap_or_default();
        if first.is_ascii_digit() || first == b'.' { Ok(()) } else { Err(NoValue) }
    }

    fn check_word(&self) -> Result<(), NoValue> {
        let first = self.word.first().copied().unwrap_or_default();
        let is_introducer = first == b'_' && !self.word.contains(&b'.');
        let is_value = first.is_ascii_digit()
            || first == b'.'
            || is_introducer
            || WORDS.iter().any(|word| self.word.eq_ignore_ascii_case(word));
        if is_value { Ok(()) } else { Err(NoValue) }
    }
}

/// Whether a number waits for its exponent: `1.5e`, and not `0x1e`.
fn is_exponent(word: &[u8]) -> bool {
    let number = word.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
    number && !word.starts_with(b"0x") && !word.starts_with(b"0X") && matches!(word.last(), Some(b'e' | b'E'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(text: &str, step: usize) -> Result<Option<usize>, NoValue> {
        let (mut rows, mut at) = (RowReader::new(), 0);
        for piece in text.as_bytes().chunks(step) {
            let (length, ended) = rows.follow(piece)?;
            at += length;
            if ended {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    #[test]
    fn values_are_let_through() {
        for text in [
            " (1,'a'),(2,'it''s \\'; DROP')",
            "\n(NULL,0xAB,-1.5e-07,_binary 'x',b'101',DEFAULT,1e+300,_utf8mb4 0x61,\"a\\\"b\"),\n()",
            " (-1), (.5)",
        ] {
            for step in [1, 2, 1000] {
                let whole = format!("{text};\nnext");
                assert_eq!(follow(&whole, step), Ok(Some(text.len() + 1)), "{text}");
            }
        }
        assert_eq!(follow(" (1,2", 3), Ok(None));
        assert_eq!(follow(&format!(" (0x{});", "AB".repeat(500)), 7), Ok(Some(1006)));
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            " (1) ON DUPLICATE KEY UPDATE a=1;",
            " ((SELECT 1));",
            " (SELECT 1);",
            " (LOAD_FILE('/etc/passwd'));",
            " (1 -- x\n);",
            " (1 --\u{1} x\n);",
            " (1--1);",
            " (1e--1);",
            " (1e-- '\n) DROP');",
            " (1e+);",
            " (.5e-);",
            " (1 /* x */);",
            " (1 # x\n);",
            " (1) \\e",
            " (\\e);",
            " (\\N);",
            " (@x);",
            " (@@version);",
            " (`a`);",
            " (1) SELECT 1;",
            " (a.b);",
            " (1)) ;",
            " 'x';",
            " (CURRENT_USER);",
            " (1) RETURNING a;",
            " (\0);",
        ] {
            for step in [1, 3, 1000] {
                assert_eq!(follow(text, step), Err(NoValue), "{text}");
            }
        }
    }
}
