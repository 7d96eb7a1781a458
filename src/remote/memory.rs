//! A remote in memory.
//!
//! It keeps every promise of the trait, and lets its owner inspect, change and lose its content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::part::part_name;
use super::{Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload, lock};

const PLACE: &str = "memory";

/// A remote in memory. Clones share one content.
#[derive(Clone, Default)]
pub struct MemoryRemote(Arc<Mutex<State>>);

/// Any name is possible, so that foreign files can be added, too.
#[derive(Clone, Default)]
struct State {
    folders: bool,
    append_only: bool,
    room: Option<u64>,
    objects: BTreeMap<(Folder, String), Vec<u8>>,
    /// Objects whose names would be lost in a power cut.
    unflushed: BTreeSet<(Folder, String)>,
}

fn key(name: &ObjectName) -> (Folder, String) {
    (name.folder(), name.name().to_owned())
}

fn error(kind: ErrorKind, action: &'static str, object: impl std::fmt::Display, reason: &str) -> Error {
    Error::new(kind, action, format_args!("{PLACE}/{object}"), reason)
}

impl State {
    fn need_folders(&self, action: &'static str, folder: Folder) -> Result<()> {
        match self.folders {
            true => Ok(()),
            false => Err(error(ErrorKind::NotFound, action, folder.name(), "there is no such folder")),
        }
    }

    fn object(&self, action: &'static str, name: &ObjectName) -> Result<&Vec<u8>> {
        let object = self.objects.get(&key(name));
        object.ok_or_else(|| error(ErrorKind::NotFound, action, name, "there is no such object"))
    }

    fn free(&self) -> Option<u64> {
        let used = || self.objects.values().map(|bytes| bytes.len() as u64).sum();
        self.room.map(|room| room.saturating_sub(used()))
    }
}

impl MemoryRemote {
    /// An empty location without folders: [`Remote::create_folders`] comes first, as on any remote.
    pub fn new() -> Self {
        Self::default()
    }

    /// A location with its folders.
    pub fn with_folders() -> Self {
        let remote = Self::new();
        remote.state().folders = true;
        remote
    }

    /// From now on, whether nothing can be deleted and unfinished uploads stay in `pending/`.
    pub fn set_append_only(&self, append_only: bool) {
        self.state().append_only = append_only;
    }

    /// How many bytes fit in all; None for no bound.
    pub fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    /// Stores bytes under any file name, replacing existing ones.
    pub fn put(&self, folder: Folder, file_name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.state().objects.insert((folder, file_name.into()), bytes.into());
    }

    /// Lets `change` alter an object in place. False if there is none.
    pub fn change(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.state().objects.get_mut(&key(name)).map(change).is_some()
    }

    /// Loses an object, append-only or not. False if there is none.
    pub fn lose(&self, name: &ObjectName) -> bool {
        self.state().objects.remove(&key(name)).is_some()
    }

    /// The content of a folder: file names and bytes, in the order of the names.
    pub fn content(&self, folder: Folder) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let inside = state.objects.iter().filter(|((of, _), _)| *of == folder);
        inside.map(|((_, name), bytes)| (name.clone(), bytes.clone())).collect()
    }

    /// Another location with the same content.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// The worst case of a power cut: every name that was not flushed is gone.
    pub fn cut_power(&self) {
        let mut state = self.state();
        for name in std::mem::take(&mut state.unflushed) {
            state.objects.remove(&name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Remote for MemoryRemote {
    fn place(&self) -> String {
        PLACE.to_owned()
    }

    fn create_folders(&self) -> Result<()> {
        let mut state = self.state();
        if state.append_only && !state.folders {
            return Err(Error::new(ErrorKind::Refused, "making the folders of", PLACE, "it is append-only")
                .hint("make them there before it becomes append-only"));
        }
        state.folders = true;
        Ok(())
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        let mut state = self.state();
        state.need_folders("beginning an upload in", Folder::Pending)?;
        let part = part_name();
        state.objects.insert(key(&part), Vec::new());
        Ok(Box::new(MemoryUpload { remote: self.clone(), part, written: 0, dead: false }))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let state = self.state();
        let object = state.object("reading", name)?;
        match object.len() as u64 <= limit {
            true => Ok(object.clone()),
            false => {
                let reason = format!("it has {} bytes, at most {limit} were expected", object.len());
                Err(error(ErrorKind::Invalid, "reading", name, &reason))
            }
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let state = self.state();
        let object = state.object("reading", name)?;
        let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(buffer.len())?));
        match range.and_then(|range| object.get(range)) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => {
                let (size, asked) = (object.len(), buffer.len());
                let reason = format!("it has {size} bytes, {asked} from {offset} on were asked for");
                return Err(error(ErrorKind::Short, "reading", name, &reason));
            }
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        Ok(self.state().objects.get(&key(name)).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        let state = self.state();
        state.need_folders("listing", folder)?;
        let (mut listed, mut strange) = (Vec::new(), 0);
        for ((of, name), bytes) in &state.objects {
            match ObjectName::new(*of, name.as_str()) {
                _ if *of != folder => {}
                Some(name) => listed.push(Listed { name, size: bytes.len() as u64 }),
                None => strange += 1,
            }
        }
        Ok((listed, strange))
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        let mut state = self.state();
        state.need_folders("flushing", folder)?;
        state.unflushed.retain(|(of, _)| *of != folder);
        Ok(true)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let mut state = self.state();
        state.object("deleting", name)?;
        if state.append_only {
            return Err(error(ErrorKind::Refused, "deleting", name, "the place is append-only"));
        }
        state.objects.remove(&key(name));
        Ok(())
    }

    fn can_delete(&self) -> Result<bool> {
        Ok(!self.state().append_only)
    }

    fn free_space(&self) -> Result<Option<u64>> {
        Ok(self.state().free())
    }
}

struct MemoryUpload {
    remote: MemoryRemote,
    part: ObjectName,
    written: u64,
    dead: bool,
}

impl MemoryUpload {
    fn try_append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = self.remote.state();
        if state.free().is_some_and(|free| free < bytes.len() as u64) {
            return Err(error(ErrorKind::NoSpace, "writing", &self.part, "the place is full").hint("make room there"));
        }
        match state.objects.get_mut(&key(&self.part)) {
            Some(object) => object.extend_from_slice(bytes),
            None => return Err(error(ErrorKind::NotFound, "writing", &self.part, "it was taken away meanwhile")),
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn place(&self, name: &ObjectName) -> Result<()> {
        let mut state = self.remote.state();
        let whole = state.object("finishing", &self.part)?.len() as u64;
        if whole != self.written {
            let reason = format!("it has {whole} bytes, {} were written", self.written);
            return Err(error(ErrorKind::Other, "finishing", &self.part, &reason));
        }
        match state.objects.get(&key(name)).map(|there| there.len() as u64) {
            Some(size) if size == whole => {}
            Some(size) => {
                let reason = format!("another object of {size} bytes has that name, this one has {whole}");
                return Err(error(ErrorKind::Exists, "finishing", name, &reason));
            }
            None => {
                let bytes = state.objects.remove(&key(&self.part)).unwrap_or_default();
                state.objects.insert(key(name), bytes);
                state.unflushed.insert(key(name));
            }
        }
        Ok(())
    }
}

impl Upload for MemoryUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.dead {
            return Err(error(ErrorKind::Other, "writing", &self.part, "an earlier write failed"));
        }
        self.try_append(bytes).inspect_err(|_| self.dead = true)
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<()> {
        match self.dead {
            true => Err(error(ErrorKind::Other, "finishing", name, "an earlier write failed")),
            false => self.place(name),
        }
    }
}

impl Drop for MemoryUpload {
    fn drop(&mut self) {
        let mut state = self.remote.state();
        if !state.append_only {
            state.objects.remove(&key(&self.part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(Folder::Packs, text).unwrap()
    }

    fn store(remote: &MemoryRemote, file_name: &str, bytes: &[u8]) {
        let mut upload = remote.begin().unwrap();
        upload.append(bytes).unwrap();
        upload.finish(&name(file_name)).unwrap();
    }

    #[test]
    fn clones_share_and_a_fork_does_not() {
        let remote = MemoryRemote::with_folders();
        let (clone, fork) = (remote.clone(), remote.fork());
        store(&remote, "a", b"xyz");
        assert_eq!(clone.get(&name("a"), 3).unwrap(), b"xyz");
        assert_eq!(fork.stat(&name("a")).unwrap(), None);
    }

    #[test]
    fn its_owner_can_change_and_lose_objects_even_append_only_ones() {
        let remote = MemoryRemote::with_folders();
        store(&remote, "a", b"xyz");
        remote.set_append_only(true);
        assert!(remote.change(&name("a"), |bytes| bytes[1] ^= 1));
        assert_eq!(remote.content(Folder::Packs), [("a".to_owned(), b"xxz".to_vec())]);
        assert!(remote.lose(&name("a")));
        assert!(!remote.lose(&name("a")) && !remote.change(&name("a"), |_| ()));
    }

    #[test]
    fn a_power_cut_takes_the_names_that_were_not_flushed() {
        let remote = MemoryRemote::with_folders();
        store(&remote, "a", b"1");
        assert!(remote.flush(Folder::Packs).unwrap());
        store(&remote, "b", b"2");
        remote.flush(Folder::Snapshots).unwrap();
        remote.cut_power();
        assert_eq!(remote.content(Folder::Packs), [("a".to_owned(), b"1".to_vec())]);
    }

    #[test]
    fn a_full_place_refuses_bytes_and_kills_the_upload() {
        let remote = MemoryRemote::with_folders();
        remote.set_room(Some(10));
        store(&remote, "a", b"12345678");
        assert_eq!(remote.free_space().unwrap(), Some(2));
        let mut upload = remote.begin().unwrap();
        assert_eq!(upload.append(b"123").unwrap_err().kind, ErrorKind::NoSpace);
        assert!(upload.append(b"1").is_err(), "later bytes without the earlier ones would make a wrong object");
        assert!(upload.finish(&name("b")).is_err());
        assert_eq!(remote.stat(&name("b")).unwrap(), None);
    }

    #[test]
    fn an_append_only_place_keeps_unfinished_uploads() {
        let remote = MemoryRemote::with_folders();
        remote.set_append_only(true);
        let mut upload = remote.begin().unwrap();
        upload.append(b"half").unwrap();
        drop(upload);
        let left = remote.content(Folder::Pending);
        assert_eq!(left.iter().map(|(_, bytes)| bytes.as_slice()).collect::<Vec<_>>(), [b"half"]);
    }
}
