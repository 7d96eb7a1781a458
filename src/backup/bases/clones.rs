//! Reflinked copies of large files in the state folder, if the file system supports them: a file's content at its
//! backup, without any space until it changes. Chunks of such a file need no place in the base cache.
//!
//! A copy is made before the file is read, and only its owner reads it. The file may change in between: whoever uses a copy
//! hashes each chunk.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::entry::{Entry, Kind, StreamName};
use crate::id::{Hasher, hex};
use crate::source::Source;

/// Bytes below which a file's chunks go into the base cache.
const LARGE: u64 = 1 << 20;

/// The copies of one set.
pub(in crate::backup) struct Clones {
    folder: PathBuf,
    prefix: String,
    /// The copies that the new snapshot's streams have.
    kept: HashSet<String>,
    /// Those of them that were made in this run, each under another name until the commit.
    made: HashSet<String>,
}

impl Clones {
    /// The copies of `set` in `folder`.
    pub fn open(folder: &Path, set: &str) -> Self {
        let clones = Self {
            folder: folder.to_owned(),
            prefix: format!("clone-{set}-"),
            kept: HashSet::new(),
            made: HashSet::new(),
        };
        // Files that a failed run left here.
        clones.take_away(|file| file.ends_with(".new"));
        clones
    }

    /// The copy of that entry's file, where it may have one.
    pub fn path(&self, entry: &Entry) -> Option<PathBuf> {
        is_large(entry).then(|| self.folder.join(self.file(&entry.name)))
    }

    fn file(&self, name: &StreamName) -> String {
        format!("{}{}", self.prefix, hex(&Hasher::new().update(name.as_bytes()).finish_short()))
    }

    /// Makes a copy of the source's current file. False where there is none then.
    pub fn make(&mut self, source: &mut dyn Source, entry: &Entry) -> bool {
        if !is_large(entry) {
            return false;
        }
        let file = self.file(&entry.name);
        let path = self.new_path(&file);
        let mut options = OpenOptions::new();
        let copy = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let made = copy.is_ok_and(|copy| source.share_blocks(&copy));
        if made {
            self.kept.insert(file.clone());
            self.made.insert(file);
        } else {
            // Whether it can be taken away or not, the next run sweeps it.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    /// The copy of an unchanged file stays.
    pub fn keep(&mut self, entry: &Entry) {
        if is_large(entry) {
            self.kept.insert(self.file(&entry.name));
        }
    }

    /// The stream isn't in the snapshot after all.
    pub fn forget(&mut self, entry: &Entry) {
        let file = self.file(&entry.name);
        self.kept.remove(&file);
        self.made.remove(&file);
    }

    /// The snapshot is committed: new copies take their names, and those that no stream has go.
    pub fn commit(self) -> io::Result<()> {
        let renamed =
            self.made.iter().try_for_each(|file| std::fs::rename(self.new_path(file), self.folder.join(file)));
        self.take_away(|file| !self.kept.contains(file));
        renamed
    }

    fn new_path(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{file}.new"))
    }

    /// Removes copies of this set. One that can't be removed only takes space.
    fn take_away(&self, which: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let digits = file.strip_prefix(&self.prefix).map(|rest| rest.trim_end_matches(".new"));
            // Another set's name may begin with this one's.
            let own =
                digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            if own && which(file) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn is_large(entry: &Entry) -> bool {
    // The positions in a stream and in a file with holes differ.
    entry.kind == Kind::File && entry.size >= LARGE && entry.holes().is_empty()
}
