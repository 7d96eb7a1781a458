//! Selection of a snapshot's streams: by patterns as in `.gitignore` files, and by exact paths.

use super::Error;
use super::patterns::Patterns;
use crate::entry::{Entry, is_at_or_below, unescaped};

/// Patterns and paths of which one has to match, or none: then everything is meant.
///
/// A pattern means a stream, and all that is below it. `*.sql` matches any name, `/etc/hosts` and `etc/hosts` that one path,
/// `etc/` a folder; `!` takes back what a pattern before it matched. A path means that stream and all that is below it, whatever
/// characters it has.
#[derive(Default)]
pub struct Selection {
    patterns: Patterns,
    paths: Vec<Vec<u8>>,
}

impl Selection {
    /// # Errors
    /// [`Error::Failed`] names a pattern that can't be read or can match nothing.
    pub fn parse(patterns: &[String]) -> Result<Self, Error> {
        Ok(Self { patterns: Patterns::parse(patterns)?, paths: Vec::new() })
    }

    /// Also those paths: as a listing shows them, or as their bytes are.
    pub fn with_paths<'p>(mut self, paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        self.paths = paths.into_iter().map(exact).collect();
        self
    }

    /// How the names of all entries begin that can be meant, or None where any may.
    pub fn starts(&self) -> Option<Vec<Vec<u8>>> {
        if self.patterns.is_empty() && self.paths.is_empty() {
            return None;
        }
        let mut starts = self.patterns.starts()?;
        starts.extend(self.paths.iter().cloned());
        Some(starts)
    }

    /// Whether the entry is meant.
    pub fn takes(&self, entry: &Entry) -> bool {
        let name = entry.name.as_bytes();
        if self.patterns.is_empty() && self.paths.is_empty() {
            return true;
        }
        self.paths.iter().any(|path| is_at_or_below(name, path)) || self.patterns.takes(name, entry.kind.is_folder())
    }
}

/// The path of a stream that is given as a listing shows it.
fn exact(path: &[u8]) -> Vec<u8> {
    let path = unescaped(path);
    let path = path.strip_prefix(b"/").unwrap_or(&path);
    path.strip_suffix(b"/").unwrap_or(path).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Kind, StreamName};

    fn entry(name: &[u8], kind: Kind) -> Entry {
        Entry { name: StreamName::new(name).unwrap(), kind, size: 0, metadata: None }
    }

    #[test]
    fn a_pattern_means_a_stream_and_what_is_below_it() {
        let takes = |patterns: &[&str], name: &str, kind: Kind| {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            Selection::parse(&patterns).unwrap().takes(&entry(name.as_bytes(), kind))
        };
        assert!(takes(&[], "a", Kind::Data));
        assert!(takes(&["*.sql"], "dumps/a.sql", Kind::Data) && !takes(&["*.sql"], "dumps/a.txt", Kind::Data));
        for pattern in ["/etc/ssh", "etc/ssh", "etc/ssh/", "ssh/"] {
            assert!(takes(&[pattern], "etc/ssh/keys/a", Kind::File), "{pattern}");
            assert!(takes(&[pattern], "etc/ssh", Kind::Directory), "{pattern}");
        }
        assert!(!takes(&["/ssh"], "etc/ssh", Kind::Directory));
        assert!(!takes(&["ssh/"], "etc/ssh", Kind::File), "a folder is meant");
        assert!(!takes(&["etc/", "!etc/shadow"], "etc/shadow", Kind::File));
        assert!(Selection::parse(&["a[".to_owned()]).is_err());
    }

    #[test]
    fn starts_are_what_every_name_begins_with() {
        let starts = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            Selection::parse(&patterns).unwrap().starts()
        };
        let some = |starts: &[&str]| Some(starts.iter().map(|start| start.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(starts(&[]), None);
        assert_eq!(starts(&["etc/ssh/", "/srv/a*.txt", "!srv/ab.txt"]), some(&["etc/ssh", "srv/a"]));
        assert_eq!(starts(&["/etc"]), some(&["etc"]));
        assert_eq!(starts(&["a\\*b/c"]), some(&["a"]));
        for any in ["*.sql", "hosts", "**/x", "ssh/", "[ab]/c"] {
            assert!(starts(&["/etc/hosts", any]).is_none_or(|starts| starts.contains(&Vec::new())), "{any}");
        }
        let paths = Selection::default().with_paths([&b"d/[abc].txt"[..], b"/e/"]);
        assert_eq!(paths.starts(), some(&["d/[abc].txt", "e"]));
    }

    #[test]
    fn a_path_means_that_stream_whatever_characters_it_has() {
        for (path, name) in [
            (&b"/d/[abc].txt"[..], &b"d/[abc].txt"[..]),
            (b"d/!a#", b"d/!a#"),
            (b"d/a ", b"d/a "),
            (b"d/\\xff", b"d/\xff"),
            (b"d/\xff/", b"d/\xff"),
            (b"d/a\\\\b", b"d/a\\b"),
        ] {
            let selection = Selection::default().with_paths([path]);
            assert!(selection.takes(&entry(name, Kind::File)), "{}", path.escape_ascii());
            assert!(selection.takes(&entry(&[name, b"/below"].concat(), Kind::File)));
            assert!(!selection.takes(&entry(&[name, b"x"].concat(), Kind::File)));
            assert!(!selection.takes(&entry(b"d/a.txt", Kind::File)));
        }
    }
}
