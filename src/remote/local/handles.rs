//! The files that were read last, still open.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use crate::remote::{ObjectName, lock};

/// A few open files, the last used in front.
#[derive(Default)]
pub(super) struct Handles(Mutex<VecDeque<(ObjectName, Arc<File>)>>);

impl Handles {
    /// A restore reads a pack and the packs of its bases in turn, from a few threads.
    pub(super) const MOST: usize = 16;

    /// The open file of an object and its size now. None if none is open, or where it isn't the object any more.
    pub(super) fn get(&self, name: &ObjectName) -> Option<(Arc<File>, u64)> {
        let mut files = lock(&self.0);
        let found = files.iter().position(|(open, _)| open == name)?;
        let entry = files.remove(found)?;
        // A file without a name was deleted, or another one was moved over it.
        let metadata = entry.1.metadata().ok().filter(|metadata| metadata.nlink() > 0)?;
        let file = Arc::clone(&entry.1);
        files.push_front(entry);
        Some((file, metadata.len()))
    }

    /// Keeps an open file, and closes the one that was used longest ago.
    pub(super) fn put(&self, name: &ObjectName, file: File) -> Arc<File> {
        let file = Arc::new(file);
        let mut files = lock(&self.0);
        files.retain(|(open, _)| open != name);
        files.push_front((name.clone(), Arc::clone(&file)));
        files.truncate(Self::MOST);
        file
    }

    /// Lets the object's file go.
    pub(super) fn forget(&self, name: &ObjectName) {
        lock(&self.0).retain(|(open, _)| open != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Folder;

    #[test]
    fn the_files_used_last_stay_open_and_no_more() {
        let handles = Handles::default();
        let base = tempfile::tempdir().unwrap();
        let name = |n: usize| ObjectName::new(Folder::Packs, format!("p{n}")).unwrap();
        for n in 0..=Handles::MOST {
            let path = base.path().join(name(n).name());
            std::fs::write(&path, vec![0; n]).unwrap();
            handles.put(&name(n), File::open(path).unwrap());
            handles.get(&name(0)).expect("it was used just before");
        }
        assert!(handles.get(&name(1)).is_none(), "it was used longest ago");
        assert_eq!(handles.get(&name(2)).unwrap().1, 2);
        assert_eq!(lock(&handles.0).len(), Handles::MOST);
        handles.forget(&name(2));
        assert!(handles.get(&name(2)).is_none());
    }
}
