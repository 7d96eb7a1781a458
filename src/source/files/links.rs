//! Hard links: entries that are further names of an inode.

use std::collections::HashMap;

use crate::entry::StreamName;

/// Remembers the first name of each inode that has several, until all of them were seen.
#[derive(Default)]
pub(super) struct Links {
    firsts: HashMap<(u64, u64), FirstName>,
}

struct FirstName {
    name: StreamName,
    to_come: u64,
}

impl Links {
    /// The first name of the inode, where `name` is a further one. Otherwise `name` becomes the first.
    pub(super) fn first(&mut self, inode: (u64, u64), links: u64, name: &StreamName) -> Option<StreamName> {
        if links < 2 {
            return None;
        }
        let Some(first) = self.firsts.get_mut(&inode) else {
            self.firsts.insert(inode, FirstName { name: name.clone(), to_come: links - 1 });
            return None;
        };
        first.to_come -= 1;
        if first.to_come > 0 {
            return Some(first.name.clone());
        }
        self.firsts.remove(&inode).map(|first| first.name)
    }

    /// Forgets `name`, which could not be stored: the next name of its inode becomes the first.
    pub(super) fn forget(&mut self, inode: (u64, u64), name: &StreamName) {
        if self.firsts.get(&inode).is_some_and(|first| first.name == *name) {
            self.firsts.remove(&inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_names_point_to_the_first_and_all_is_forgotten_at_the_last() {
        let name = |name: &str| StreamName::new(name).unwrap();
        let mut links = Links::default();
        assert_eq!(links.first((1, 1), 1, &name("alone")), None);
        assert!(links.firsts.is_empty());
        assert_eq!(links.first((1, 2), 3, &name("a")), None);
        assert_eq!(links.first((2, 2), 3, &name("b")), None, "another file system");
        assert_eq!(links.first((1, 2), 3, &name("c")), Some(name("a")));
        assert_eq!(links.first((1, 2), 3, &name("d")), Some(name("a")));
        assert_eq!(links.firsts.len(), 1);
    }

    #[test]
    fn the_name_after_one_that_could_not_be_stored_is_the_first() {
        let name = |name: &str| StreamName::new(name).unwrap();
        let mut links = Links::default();
        links.first((1, 2), 3, &name("a"));
        links.forget((1, 2), &name("a"));
        assert_eq!(links.first((1, 2), 3, &name("b")), None);
        links.forget((1, 2), &name("c"));
        assert_eq!(links.first((1, 2), 3, &name("c")), Some(name("b")));
    }
}
