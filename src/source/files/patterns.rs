//! What is left out, as `.gitignore` files write it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::source::Error;

/// Refuses a pattern that can't be read, and names it.
///
/// # Errors
/// [`Error::Failed`].
pub fn check_exclude(patterns: &[String]) -> Result<(), Error> {
    Patterns::parse(patterns).map(drop)
}

/// The patterns of all `exclude`. They are anchored at `/`: `/srv/www/cache` and `srv/www/cache` are that one path,
/// `cache` is any of the name, `cache/` any folder of the name, `!` takes back. As in git, nothing below an excluded folder
/// can be taken back.
pub(super) struct Patterns(Gitignore);

impl Patterns {
    /// # Errors
    /// [`Error::Failed`] names a pattern that can't be read.
    pub(super) fn parse(patterns: &[String]) -> Result<Self, Error> {
        let failed = |pattern: &str, error: ignore::Error| {
            Error::Failed(format!("the exclude pattern {pattern:?} can't be read: {error}"))
        };
        let mut builder = GitignoreBuilder::new("/");
        builder.allow_unclosed_class(false);
        for pattern in patterns {
            builder.add_line(None, pattern).map_err(|error| failed(pattern, error))?;
        }
        Ok(Self(builder.build().map_err(|error| failed(&patterns.join(" "), error))?))
    }

    /// Whether the path (absolute, without the first slash) is left out.
    pub(super) fn excludes(&self, path: &[u8], is_folder: bool) -> bool {
        !self.0.is_empty() && self.0.matched(Path::new(OsStr::from_bytes(path)), is_folder).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_git_means() {
        let patterns = ["*.tmp", "!keep.tmp", "/srv/www/cache", "node_modules/", "var/log/**/old"];
        let patterns = Patterns::parse(&patterns.map(String::from)).unwrap();
        let excluded = |path: &str| patterns.excludes(path.as_bytes(), false);
        assert!(excluded("srv/a.tmp") && !excluded("srv/keep.tmp"));
        assert!(excluded("srv/www/cache") && !excluded("home/srv/www/cache"));
        assert!(patterns.excludes(b"home/x/node_modules", true) && !excluded("home/x/node_modules"));
        assert!(excluded("var/log/a/b/old"));
        assert!(patterns.excludes(b"srv/\xff.tmp", false));
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_named() {
        for bad in ["a{b", "a["] {
            let error = Patterns::parse(&["ok".into(), bad.into()]).err().unwrap();
            assert!(error.to_string().starts_with(&format!("the exclude pattern {bad:?} can't be read: ")), "{error}");
        }
    }
}
