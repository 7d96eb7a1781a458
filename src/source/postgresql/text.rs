//! Texts of databases without an encoding (`SQL_ASCII`), whose names and definitions are any bytes.
//!
//! Inside varu they are texts all the same: a byte that is invalid in UTF-8 is replaced by an escape character with its
//! two hexadecimal digits, and converted back when a program gets it.

use std::borrow::Cow;
use std::fmt::Write;

/// The escape character before the two digits of a byte.
const MARK: char = char::REPLACEMENT_CHARACTER;
const MARKED: &[u8] = "\u{FFFD}".as_bytes();

/// The text of some bytes.
pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains(MARK)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 64);
    let mark = |out: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a text doesn't fail.
            let _ = write!(out, "{MARK}{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for (number, part) in chunk.valid().split(MARK).enumerate() {
            if number > 0 {
                mark(&mut out, MARKED);
            }
            out.push_str(part);
        }
        mark(&mut out, chunk.invalid());
    }
    Cow::Owned(out)
}

/// The bytes that a text was made of.
pub fn bytes_of(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for (number, part) in text.split(MARK).enumerate() {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if number > 0 => {
                out.push(byte);
                out.extend_from_slice(&part.as_bytes()[2..]);
            }
            _ => {
                // An escape character of the text itself.
                if number > 0 {
                    out.extend_from_slice(MARKED);
                }
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [
            &b"plain"[..],
            "\u{fc}".as_bytes(),
            b"\xf6\xdf",
            b"a\xffb\xc3",
            "\u{FFFD}f6".as_bytes(),
            b"\xf6f6\xef\xbf\xbd",
            b"\xe2\x82",
        ] {
            assert_eq!(*bytes_of(&text_of(bytes)), *bytes);
        }
        assert_eq!(text_of(b"a\xf6b"), "a\u{FFFD}f6b");
        assert_eq!(*bytes_of("\u{FFFD}zz"), *"\u{FFFD}zz".as_bytes());
    }
}
