//! The ASCII armor of age (<https://age-encryption.org/v1>): a binary file as text that fits on paper. `age -d` reads it.

use std::fmt::Write;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";

/// Letters in a line.
const COLUMNS: usize = 64;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes as armor, with the lines that begin and end it.
pub fn armor(bytes: &[u8]) -> String {
    let text = base64(bytes);
    let mut armored = format!("{BEGIN}\n");
    for line in text.as_bytes().chunks(COLUMNS) {
        // Base64 is ASCII, and writing to a String does not fail.
        let _ = writeln!(armored, "{}", String::from_utf8_lossy(line));
    }
    armored + END + "\n"
}

/// The bytes of the first armor in a text, whatever surrounds it. None if there is none, or it is mistyped.
pub fn unarmor(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != BEGIN).skip(1);
    let mut body = String::new();
    for line in lines {
        if line == END {
            return from_base64(&body);
        }
        body.push_str(line);
    }
    None
}

/// The bytes in Base64 (RFC 4648, section 4), with its padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let padded = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Parses the output of [`base64`]; None for anything else, other encodings of the same bytes included.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let letters = group.iter().take_while(|letter| **letter != b'=').count();
        let mut bits = 0;
        for index in 0..4 {
            let value = match group.get(index)? {
                b'=' if index >= letters => 0,
                letter => LETTERS.iter().position(|known| known == letter)? as u32,
            };
            bits = bits << 6 | value;
        }
        let length = letters.checked_sub(1)?;
        bytes.extend(bits.to_be_bytes().get(1..=length)?);
    }
    (base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_the_standards() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, text) in vectors.into_iter().enumerate() {
            let bytes = &b"foobar"[..length];
            assert_eq!(base64(bytes), text);
            assert_eq!(from_base64(text).unwrap(), bytes);
        }
        for wrong in ["Z", "Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm9*", "é==", "Zm=v"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn armor_reads_back_from_a_page_and_not_with_a_letter_changed_or_a_line_lost() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = armor(&bytes);
        assert!(text.lines().all(|line| line.len() <= COLUMNS));
        let page = format!("a sheet\r\n\r\n  {}\r\nthe end", text.replace('\n', "  \r\n  "));
        assert_eq!(unarmor(&page).unwrap(), bytes);
        assert_eq!(unarmor(&text.replace(END, "")), None);
        assert_eq!(unarmor(&text.replacen("AAEC", "A*EC", 1)), None);
        assert_eq!(unarmor("nothing"), None);
    }
}
