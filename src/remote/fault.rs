//! A remote that fails on request.
//!
//! Calls are numbered from 1, in the order in which they begin: each call on the remote but [`Remote::place`], each
//! [`Upload::append`] and each [`Upload::finish`]. "The remote dies at operation n, for every n" is one loop over
//! [`Faulty::die_at`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Clocks, Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload, lock};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It isn't done, and fails with this kind.
    Refuse(ErrorKind),
    /// It is done, but the answer is lost: [`ErrorKind::Unreachable`].
    LoseAnswer,
    /// An append leaves half of its bytes; a finish leaves the whole part in `pending/`. Nothing cleans up after it. All
    /// other calls aren't done. [`ErrorKind::Unreachable`].
    Tear,
}

/// How the bytes of a read are spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// One bit is flipped, that of this number modulo the number of bits.
    Flip(u64),
    /// Only so many bytes come: of a whole object silently, of a range as [`ErrorKind::Short`].
    Cut(usize),
}

/// Passes calls on to another remote, and fails the requested ones.
pub struct Faulty {
    inner: Arc<dyn Remote>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    operations: u64,
    reads: u64,
    faults: BTreeMap<u64, Fault>,
    spoils: BTreeMap<u64, Spoil>,
    dies_at: Option<u64>,
    dead: bool,
}

impl State {
    /// Counts an operation and returns its fault.
    fn next(&mut self) -> Option<Fault> {
        self.operations += 1;
        if self.dead {
            return Some(Fault::Refuse(ErrorKind::Unreachable));
        }
        self.dead = self.dies_at == Some(self.operations);
        self.faults.remove(&self.operations)
    }

    fn next_read(&mut self) -> Option<Spoil> {
        self.reads += 1;
        self.spoils.remove(&self.reads)
    }
}

impl Faulty {
    /// Fails nothing yet, and counts.
    pub fn new(inner: Arc<dyn Remote>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Operations that have begun so far.
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Operation number `operation` will fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        lock(&self.state).faults.insert(operation, fault);
    }

    /// Operation number `operation` will fail, and so will all that come after it: uploads under way stay in `pending/` as
    /// they are.
    pub fn die_at(&self, operation: u64, fault: Fault) {
        let mut state = lock(&self.state);
        state.faults.insert(operation, fault);
        state.dies_at = Some(operation);
    }

    /// The remote can be reached again. Uploads from before stay dead.
    pub fn revive(&self) {
        let mut state = lock(&self.state);
        state.dies_at = None;
        state.dead = false;
    }

    /// The result of read number `read` (from 1; [`Remote::get`] and [`Remote::get_range`] count) will be corrupted.
    pub fn spoil_at(&self, read: u64, spoil: Spoil) {
        lock(&self.state).spoils.insert(read, spoil);
    }

    /// Where an object or a folder is, for messages.
    fn at(&self, object: impl std::fmt::Display) -> String {
        format!("{}/{object}", self.place())
    }

    fn run<T>(&self, action: &'static str, object: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let fault = lock(&self.state).next();
        match fault {
            None => call(),
            Some(Fault::LoseAnswer) => call().and_then(|_| Err(lost(action, object))),
            Some(Fault::Refuse(kind)) => Err(refused(kind, action, object)),
            Some(Fault::Tear) => Err(refused(ErrorKind::Unreachable, action, object)),
        }
    }
}

fn refused(kind: ErrorKind, action: &'static str, object: &str) -> Error {
    Error::new(kind, action, object, "a fault was asked for here")
}

fn lost(action: &'static str, object: &str) -> Error {
    Error::new(ErrorKind::Unreachable, action, object, "the answer was lost, as was asked for")
}

fn flip(bytes: &mut [u8], bit: u64) {
    if !bytes.is_empty() {
        let bit = bit % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

impl Remote for Faulty {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.run("making the folders of", &self.place(), || self.inner.create_folders())
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        let begun = self.run("beginning an upload to", &self.place(), || {
            let inner = Some(self.inner.begin()?);
            let state = Arc::clone(&self.state);
            Ok(FaultyUpload { inner, state, place: self.place(), torn: false })
        });
        Ok(Box::new(begun?))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let spoil = lock(&self.state).next_read();
        let mut bytes = self.run("reading", &self.at(name), || self.inner.get(name, limit))?;
        match spoil {
            Some(Spoil::Flip(bit)) => flip(&mut bytes, bit),
            Some(Spoil::Cut(length)) => bytes.truncate(length),
            None => {}
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let spoil = lock(&self.state).next_read();
        self.run("reading", &self.at(name), || self.inner.get_range(name, offset, buffer))?;
        match spoil {
            Some(Spoil::Flip(bit)) => flip(buffer, bit),
            Some(Spoil::Cut(length)) if length < buffer.len() => {
                buffer[length..].fill(0);
                return Err(refused(ErrorKind::Short, "reading", &self.at(name)));
            }
            Some(Spoil::Cut(_)) | None => {}
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.run("looking at", &self.at(name), || self.inner.stat(name))
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.run("listing", &self.at(folder.name()), || self.inner.list(folder))
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.run("flushing", &self.at(folder.name()), || self.inner.flush(folder))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.run("deleting", &self.at(name), || self.inner.delete(name))
    }

    fn can_delete(&self) -> Result<bool> {
        self.run("asking about deleting in", &self.place(), || self.inner.can_delete())
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.run("asking for the free space of", &self.place(), || self.inner.free_space())
    }

    fn calls_at_once(&self) -> usize {
        self.inner.calls_at_once()
    }

    fn clocks(&self) -> Option<Clocks> {
        self.inner.clocks()
    }
}

struct FaultyUpload {
    /// None after an error.
    inner: Option<Box<dyn Upload>>,
    state: Arc<Mutex<State>>,
    place: String,
    /// Whether its part must stay as it is, as after a broken connection.
    torn: bool,
}

impl FaultyUpload {
    fn try_append(&mut self, bytes: &[u8]) -> Result<()> {
        const ACTION: &str = "writing to";
        let fault = lock(&self.state).next();
        let Some(inner) = &mut self.inner else {
            return Err(refused(ErrorKind::Unreachable, ACTION, &self.place));
        };
        match fault {
            None => inner.append(bytes),
            Some(Fault::LoseAnswer) => inner.append(bytes).and_then(|()| Err(lost(ACTION, &self.place))),
            Some(Fault::Refuse(kind)) => Err(refused(kind, ACTION, &self.place)),
            Some(Fault::Tear) => {
                self.torn = true;
                inner.append(&bytes[..bytes.len() / 2])?;
                Err(refused(ErrorKind::Unreachable, ACTION, &self.place))
            }
        }
    }

    fn let_go(&mut self) {
        let inner = self.inner.take();
        if self.torn || lock(&self.state).dead {
            // The holder of a broken connection can't clean up: the part stays. The upload's content is never freed.
            std::mem::forget(inner);
        }
    }
}

impl Upload for FaultyUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.try_append(bytes).inspect_err(|_| self.let_go())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        const ACTION: &str = "finishing";
        let fault = lock(&self.state).next();
        let object = format!("{}/{name}", self.place);
        match fault {
            None | Some(Fault::LoseAnswer) => {
                let inner = self.inner.take().ok_or_else(|| refused(ErrorKind::Unreachable, ACTION, &object))?;
                inner.finish(name)?;
                fault.map_or(Ok(()), |_| Err(lost(ACTION, &object)))
            }
            Some(Fault::Refuse(kind)) => Err(refused(kind, ACTION, &object)),
            Some(Fault::Tear) => {
                self.torn = true;
                Err(refused(ErrorKind::Unreachable, ACTION, &object))
            }
        }
    }
}

impl Drop for FaultyUpload {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryRemote;
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(Folder::Packs, text).unwrap()
    }

    fn store(remote: &dyn Remote, bytes: &[u8]) -> Result<()> {
        let mut upload = remote.begin()?;
        upload.append(bytes)?;
        upload.finish(&name("p"))
    }

    fn faulty() -> (MemoryRemote, Faulty) {
        let memory = MemoryRemote::with_folders();
        (memory.clone(), Faulty::new(Arc::new(memory)))
    }

    fn sizes(memory: &MemoryRemote, folder: Folder) -> Vec<usize> {
        memory.content(folder).iter().map(|(_, bytes)| bytes.len()).collect()
    }

    #[test]
    fn every_call_counts_and_only_the_chosen_one_fails() {
        let (memory, faulty) = faulty();
        for n in 1..=3 {
            let before = faulty.operations();
            faulty.fail_at(before + n, Fault::Refuse(ErrorKind::NoSpace));
            assert_eq!(store(&faulty, b"abcd").unwrap_err().kind, ErrorKind::NoSpace);
            assert_eq!(faulty.operations(), before + n);
            assert_eq!((sizes(&memory, Folder::Packs).len(), sizes(&memory, Folder::Pending).len()), (0, 0));
        }
        store(&faulty, b"abcd").unwrap();
        for call in [
            |remote: &Faulty| remote.create_folders().map(drop),
            |remote: &Faulty| remote.get(&name("p"), 9).map(drop),
            |remote: &Faulty| remote.get_range(&name("p"), 0, &mut [0]),
            |remote: &Faulty| remote.stat(&name("p")).map(drop),
            |remote: &Faulty| remote.list(Folder::Packs).map(drop),
            |remote: &Faulty| remote.flush(Folder::Packs).map(drop),
            |remote: &Faulty| remote.free_space().map(drop),
            |remote: &Faulty| remote.delete(&name("p")),
        ] {
            faulty.fail_at(faulty.operations() + 1, Fault::Refuse(ErrorKind::ReadOnly));
            assert_eq!(call(&faulty).unwrap_err().kind, ErrorKind::ReadOnly);
            call(&faulty).unwrap();
        }
    }

    #[test]
    fn a_lost_answer_is_a_call_that_was_done() {
        let (memory, faulty) = faulty();
        faulty.fail_at(3, Fault::LoseAnswer);
        assert_eq!(store(&faulty, b"abcd").unwrap_err().kind, ErrorKind::Unreachable);
        assert_eq!(sizes(&memory, Folder::Packs), [4]);
        faulty.fail_at(4, Fault::LoseAnswer);
        faulty.delete(&name("p")).unwrap_err();
        assert_eq!(sizes(&memory, Folder::Packs), [0; 0]);
    }

    #[test]
    fn a_torn_upload_stays_in_pending_and_is_dead() {
        let (memory, faulty) = faulty();
        faulty.fail_at(2, Fault::Tear);
        let mut upload = faulty.begin().unwrap();
        assert_eq!(upload.append(b"abcd").unwrap_err().kind, ErrorKind::Unreachable);
        upload.append(b"cd").unwrap_err();
        upload.finish(&name("p")).unwrap_err();
        assert_eq!(sizes(&memory, Folder::Pending), [2]);
        faulty.fail_at(faulty.operations() + 3, Fault::Tear);
        store(&faulty, b"abcd").unwrap_err();
        let mut left = sizes(&memory, Folder::Pending);
        left.sort_unstable();
        assert_eq!((left, sizes(&memory, Folder::Packs)), (vec![2, 4], vec![]));
    }

    #[test]
    fn a_dead_remote_fails_all_calls_until_it_is_revived() {
        let (memory, faulty) = faulty();
        let mut upload = faulty.begin().unwrap();
        upload.append(b"ab").unwrap();
        faulty.die_at(3, Fault::LoseAnswer);
        assert!(faulty.flush(Folder::Packs).is_err());
        assert_eq!(upload.append(b"cd").unwrap_err().kind, ErrorKind::Unreachable);
        assert_eq!(faulty.list(Folder::Packs).unwrap_err().kind, ErrorKind::Unreachable);
        faulty.revive();
        faulty.list(Folder::Packs).unwrap();
        upload.finish(&name("p")).unwrap_err();
        assert_eq!(sizes(&memory, Folder::Pending), [2], "nothing cleans up after a dead connection");
    }

    #[test]
    fn reads_are_spoilt_as_asked() {
        let (memory, faulty) = faulty();
        memory.put(Folder::Packs, "p", [0, 0]);
        faulty.spoil_at(1, Spoil::Flip(8));
        faulty.spoil_at(2, Spoil::Cut(1));
        faulty.spoil_at(3, Spoil::Flip(17));
        faulty.spoil_at(4, Spoil::Cut(1));
        assert_eq!(faulty.get(&name("p"), 9).unwrap(), [0, 1]);
        assert_eq!(faulty.get(&name("p"), 9).unwrap(), [0]);
        let mut buffer = [0; 2];
        faulty.get_range(&name("p"), 0, &mut buffer).unwrap();
        assert_eq!(buffer, [2, 0]);
        assert_eq!(faulty.get_range(&name("p"), 0, &mut buffer).unwrap_err().kind, ErrorKind::Short);
        assert_eq!(faulty.get(&name("p"), 9).unwrap(), [0, 0]);
    }
}
