//! Which streams of a snapshot are meant, by patterns as `.gitignore` files write them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::Error;
use crate::entry::{Entry, Kind};

/// Patterns of which one has to match, or none: then everything is meant.
///
/// A pattern means a stream, and all that is below it. `*.sql` matches any name, `/etc/hosts` and `etc/hosts` that one path,
/// `etc/` a folder; `!` takes back what a pattern before it matched.
pub struct Selection(Option<Gitignore>);

impl Selection {
    /// # Errors
    /// [`Error::Failed`] names a pattern that can't be read.
    pub fn parse(patterns: &[String]) -> Result<Self, Error> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let failed = |pattern: &str, error: ignore::Error| {
            Error::Failed(format!("the pattern {pattern:?} can't be read: {error}"))
        };
        let mut builder = GitignoreBuilder::new("/");
        builder.allow_unclosed_class(false);
        for pattern in patterns {
            builder.add_line(None, pattern).map_err(|error| failed(pattern, error))?;
        }
        Ok(Self(Some(builder.build().map_err(|error| failed(&patterns.join(" "), error))?)))
    }

    /// Whether the entry is meant.
    pub fn takes(&self, entry: &Entry) -> bool {
        let Some(patterns) = &self.0 else { return true };
        let path = Path::new(OsStr::from_bytes(entry.name.as_bytes()));
        patterns.matched_path_or_any_parents(path, entry.kind == Kind::Directory).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::StreamName;

    #[test]
    fn a_pattern_means_a_stream_and_what_is_below_it() {
        let takes = |patterns: &[&str], name: &str, kind: Kind| {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            let entry = Entry { name: StreamName::new(name).unwrap(), kind, size: 0, metadata: None };
            Selection::parse(&patterns).unwrap().takes(&entry)
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
}
