//! Fingerprints of database objects, taken before and after a dump to detect changes in between.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use crate::entry::Escaped;
use crate::id::{Hasher, hex};

/// Each object with a hash of all that tells it from another: `table agama.orders`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects(BTreeMap<String, [u8; 16]>);

/// How many names an error lists.
const NAMES: usize = 5;

impl Objects {
    /// Adds a fact about an object.
    pub fn note(&mut self, object: String, about: &str) {
        let mut hasher = Hasher::new();
        if let Some(before) = self.0.get(&object) {
            hasher.update(before);
        }
        hasher.update(about.as_bytes());
        self.0.insert(object, hasher.finish_short());
    }

    /// All of it as one line, which is another one once any object is.
    pub fn digest(&self) -> String {
        let mut hasher = Hasher::new();
        for (object, about) in &self.0 {
            hasher.update(&(object.len() as u64).to_le_bytes());
            hasher.update(object.as_bytes());
            hasher.update(about);
        }
        hex(&hasher.finish_short())
    }

    /// The objects that are not the same in `later`.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        let differs = |name: &&&String| self.0.get(**name) != later.0.get(**name);
        names.iter().filter(differs).map(|name| (*name).clone()).collect()
    }

    /// # Errors
    /// [`Error::Changed`] where something is not the same in `later`.
    pub fn check_unchanged(&self, later: &Self) -> Result<(), Error> {
        let differences = self.differences(later);
        if differences.is_empty() {
            return Ok(());
        }
        let more =
            if differences.len() > NAMES { format!(" and {} more", differences.len() - NAMES) } else { String::new() };
        let named: Vec<String> =
            differences.iter().take(NAMES).map(|name| Escaped(name.as_bytes()).to_string()).collect();
        Err(Error::Changed(format!(
            "the schema changed while it was dumped, so the dump may lack rows: {}{more}; dump when no ALTER, RENAME, \
             TRUNCATE, CREATE or DROP runs",
            named.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let mut before = Objects::default();
        before.note("table a.b".into(), "1");
        before.note("table a.c".into(), "1");
        let mut after = Objects::default();
        after.note("table a.b".into(), "1");
        after.note("table a.b".into(), "2");
        after.note("view a.v".into(), "1");
        assert_eq!(before.differences(&after), ["table a.b", "table a.c", "view a.v"]);
        assert!(before.differences(&before.clone()).is_empty());
        assert!(before.check_unchanged(&before.clone()).is_ok());
        assert!(matches!(before.check_unchanged(&after), Err(Error::Changed(why)) if why.contains("table a.b")));
    }
}
