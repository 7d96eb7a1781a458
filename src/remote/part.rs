//! Names of uploads under way.

use std::hash::{BuildHasher, RandomState};

use super::{Folder, ObjectName};

/// A number that nobody else is likely to draw. Not for secrets.
pub(super) fn random() -> u64 {
    // The standard library seeds each thread's first state from the system and makes every state different.
    RandomState::new().hash_one(0_u8)
}

/// A new name in `pending/`. Names of two writers may meet by chance, so create it exclusively, and draw again if it is
/// there already.
pub(super) fn part_name() -> ObjectName {
    ObjectName { folder: Folder::Pending, name: format!("{:016x}{:016x}.part", random(), random()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn part_names_are_object_names_and_all_differ() {
        let draw = || (0..1000).map(|_| part_name()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let names: BTreeSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(names.len(), 4000);
        assert!(names.iter().all(|name| ObjectName::new(Folder::Pending, name.name()).as_ref() == Some(name)));
    }
}
