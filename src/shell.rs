//! Texts as words of a shell's command line.

/// `text` as one word for a shell, with quotes where it needs them.
pub fn quoted(text: &str) -> String {
    match shlex::try_quote(text) {
        Ok(word) => word.into_owned(),
        // No command line holds a NUL.
        Err(_) => quoted(&text.replace('\0', "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_it_has_to_be() {
        for (text, word) in [
            ("/srv/vault", "/srv/vault"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", "\"it's\""),
            ("$(id)", "'$(id)'"),
            ("a\0b", "ab"),
        ] {
            assert_eq!(quoted(text), word);
            if !text.contains('\0') {
                assert_eq!(shlex::split(&quoted(text)).unwrap(), [text]);
            }
        }
    }
}
