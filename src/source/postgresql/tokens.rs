//! The words of one statement, each byte of it accounted for.
//!
//! Statements that run with an administrator's rights are judged by these. So nothing complicated is interpreted: a
//! statement with a comment, a dollar-quoted text or a byte beyond the known has no words.

/// One word of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'t> {
    /// A key word, a plain name or a number.
    Plain(&'t str),
    /// A name in quotes, with them.
    Name(&'t str),
    /// A text in quotes, with them.
    Text(&'t str),
    /// One other byte.
    Mark(u8),
}

impl<'t> Word<'t> {
    /// Whether it is that key word.
    pub fn is(self, word: &str) -> bool {
        matches!(self, Self::Plain(text) if text.eq_ignore_ascii_case(word))
    }

    /// As it is written.
    pub fn text(self) -> Option<&'t str> {
        match self {
            Self::Plain(text) | Self::Name(text) | Self::Text(text) => Some(text),
            Self::Mark(_) => None,
        }
    }

    /// The name, as the server has it; None if it is none.
    pub fn name(self) -> Option<String> {
        match self {
            Self::Plain(text) => Some(text.to_lowercase()),
            Self::Name(text) => Some(text[1..text.len() - 1].replace("\"\"", "\"")),
            Self::Text(_) | Self::Mark(_) => None,
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The words of a statement up to its semicolon, which has to be its last byte, each with where it begins. None if
/// something in it isn't understood.
pub fn tokens(statement: &str) -> Option<Vec<(usize, Word<'_>)>> {
    let text = statement.strip_suffix(';')?;
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        match byte {
            b' ' | b'\n' | b'\t' => {
                at += 1;
                continue;
            }
            b'"' => {
                at = end_of_quote(bytes, at, b'"', false)?;
                found.push((start, Word::Name(&text[start..at])));
            }
            b'\'' => {
                at = end_of_quote(bytes, at, b'\'', false)?;
                found.push((start, Word::Text(&text[start..at])));
            }
            b'E' | b'e' if bytes.get(at + 1) == Some(&b'\'') => {
                at = end_of_quote(bytes, at + 1, b'\'', true)?;
                found.push((start, Word::Text(&text[start..at])));
            }
            _ if is_word(byte) => {
                at += bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                // B'…', X'…', U&'…' and the like.
                let is_unicode = bytes[at..].starts_with(b"&'") || bytes[at..].starts_with(b"&\"");
                if is_unicode || matches!(bytes.get(at), Some(b'\'' | b'"' | b'$')) {
                    return None;
                }
                found.push((start, Word::Plain(&text[start..at])));
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => return None,
            b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
            b'(' | b')' | b',' | b'.' | b'=' | b'*' | b'[' | b']' | b'-' | b'+' | b'/' | b'<' | b'>' | b'~' | b'!'
            | b'@' | b'#' | b'%' | b'^' | b'&' | b'|' | b'`' | b'?' => {
                at += 1;
                found.push((start, Word::Mark(byte)));
            }
            b':' if bytes.get(at + 1) == Some(&b':') => {
                at += 2;
                found.push((start, Word::Mark(byte)));
            }
            // A semicolon, a dollar, one colon (which the client may replace with the word after it), a backslash.
            _ => return None,
        }
    }
    Some(found)
}

/// Where a text ends whose first quote is at `at`.
fn end_of_quote(bytes: &[u8], mut at: usize, quote: u8, escapes: bool) -> Option<usize> {
    at += 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => break,
            _ => at += 1,
        }
    }
    // A text that continues in the next line's quotes, or touches a word, occurs in no dump.
    let next = bytes.get(at + 1);
    (next.is_none_or(|byte| !is_word(*byte) && !matches!(byte, b'\'' | b'"'))).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_simple_has_no_words() {
        for bad in [
            "SELECT 1",
            "SELECT 1; SELECT 2;",
            "GRANT a -- x\n;",
            "GRANT /* x */ a;",
            "A $$x$$;",
            "A $1;",
            "A :x;",
            "A \\x;",
            "A 'x;",
            "A E'x\\';",
            "A U&\"x\";",
            "A 'x'E'y';",
            "A \"a\"\"b;",
        ] {
            assert_eq!(tokens(bad), None, "{bad}");
        }
        let found = tokens("ALTER t.\"a\"\"; b\" E'it\\'s;' 'a\\', 7;").unwrap();
        let texts: Vec<_> = found.iter().map(|(_, token)| *token).collect();
        assert_eq!(
            texts,
            [
                Word::Plain("ALTER"),
                Word::Plain("t"),
                Word::Mark(b'.'),
                Word::Name("\"a\"\"; b\""),
                Word::Text("E'it\\'s;'"),
                Word::Text("'a\\'"),
                Word::Mark(b','),
                Word::Plain("7"),
            ]
        );
        assert_eq!(texts[3].name().unwrap(), "a\"; b");
        assert_eq!(found[3].0, 8);
    }
}
