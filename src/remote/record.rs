//! A remote that writes down every call on another.
//!
//! The remote calls of an operation become a number that can be asserted and shown.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::{Clocks, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload, lock};

/// The calls of [`Remote`] and [`Upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// [`Remote::create_folders`].
    CreateFolders,
    /// [`Remote::begin`].
    Begin,
    /// [`Upload::append`].
    Append,
    /// [`Upload::finish`].
    Finish,
    /// [`Remote::get`].
    Get,
    /// [`Remote::get_range`].
    GetRange,
    /// [`Remote::stat`].
    Stat,
    /// [`Remote::list`].
    List,
    /// [`Remote::flush`].
    Flush,
    /// [`Remote::delete`].
    Delete,
    /// [`Remote::can_delete`].
    CanDelete,
    /// [`Remote::free_space`].
    FreeSpace,
}

/// One call, written down when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which call.
    pub verb: Verb,
    /// The folder that it was about, where it names one.
    pub folder: Option<Folder>,
    /// The object that it was about, where it names one.
    pub name: Option<ObjectName>,
    /// Where a range begins, else 0.
    pub offset: u64,
    /// Bytes that were appended or read; for [`Verb::Finish`] those of the object. 0 where the call failed.
    pub bytes: u64,
    /// How it failed.
    pub error: Option<ErrorKind>,
}

impl Call {
    fn new(verb: Verb) -> Self {
        Self { verb, folder: None, name: None, offset: 0, bytes: 0, error: None }
    }

    fn of(verb: Verb, name: &ObjectName) -> Self {
        Self { folder: Some(name.folder()), name: Some(name.clone()), ..Self::new(verb) }
    }
}

type Log = Mutex<Vec<Call>>;

/// Passes every call on to another remote and writes it down. The list grows with the calls: for tests and diagnosis.
pub struct Recorder {
    inner: Arc<dyn Remote>,
    log: Arc<Log>,
}

impl Recorder {
    /// Records the calls on `inner`.
    pub fn new(inner: Arc<dyn Remote>) -> Self {
        Self { inner, log: Arc::default() }
    }

    /// All calls since the beginning, or since the last [`Recorder::take`].
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.log).clone()
    }

    /// The same, and begins anew.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.log))
    }

    /// How often a call was made.
    pub fn count(&self, verb: Verb) -> usize {
        lock(&self.log).iter().filter(|call| call.verb == verb).count()
    }

    /// The bytes of all such calls.
    pub fn bytes(&self, verb: Verb) -> u64 {
        lock(&self.log).iter().filter(|call| call.verb == verb).map(|call| call.bytes).sum()
    }

    /// The reads of an object, in the order of the calls.
    pub fn read(&self, name: &ObjectName) -> Vec<Range<u64>> {
        let log = lock(&self.log);
        let reads = log.iter().filter(|call| matches!(call.verb, Verb::Get | Verb::GetRange));
        let of_it = reads.filter(|call| call.error.is_none() && call.name.as_ref() == Some(name));
        of_it.map(|call| call.offset..call.offset + call.bytes).collect()
    }

    fn note<T>(&self, call: Call, result: Result<T>, bytes: impl FnOnce(&T) -> u64) -> Result<T> {
        note(&self.log, call, result, bytes)
    }
}

fn note<T>(log: &Log, mut call: Call, result: Result<T>, bytes: impl FnOnce(&T) -> u64) -> Result<T> {
    match &result {
        Ok(value) => call.bytes = bytes(value),
        Err(error) => call.error = Some(error.kind),
    }
    lock(log).push(call);
    result
}

fn none<T>(_: &T) -> u64 {
    0
}

impl Remote for Recorder {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.note(Call::new(Verb::CreateFolders), self.inner.create_folders(), none)
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        let inner = self.note(Call::new(Verb::Begin), self.inner.begin(), none)?;
        Ok(Box::new(RecordedUpload { inner, log: Arc::clone(&self.log), bytes: 0 }))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.note(Call::of(Verb::Get, name), self.inner.get(name, limit), |bytes| bytes.len() as u64)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let asked = buffer.len() as u64;
        let call = Call { offset, ..Call::of(Verb::GetRange, name) };
        self.note(call, self.inner.get_range(name, offset, buffer), |()| asked)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.note(Call::of(Verb::Stat, name), self.inner.stat(name), none)
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.note(Call { folder: Some(folder), ..Call::new(Verb::List) }, self.inner.list(folder), none)
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.note(Call { folder: Some(folder), ..Call::new(Verb::Flush) }, self.inner.flush(folder), none)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.note(Call::of(Verb::Delete, name), self.inner.delete(name), none)
    }

    fn can_delete(&self) -> Result<bool> {
        self.note(Call::new(Verb::CanDelete), self.inner.can_delete(), none)
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.note(Call::new(Verb::FreeSpace), self.inner.free_space(), none)
    }

    fn calls_at_once(&self) -> usize {
        self.inner.calls_at_once()
    }

    fn clocks(&self) -> Option<Clocks> {
        self.inner.clocks()
    }
}

struct RecordedUpload {
    inner: Box<dyn Upload>,
    log: Arc<Log>,
    bytes: u64,
}

impl Upload for RecordedUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let added = bytes.len() as u64;
        self.bytes += added;
        note(&self.log, Call::new(Verb::Append), self.inner.append(bytes), |()| added)
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<()> {
        let Self { inner, log, bytes } = *self;
        note(&log, Call::of(Verb::Finish, name), inner.finish(name), |()| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryRemote;
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(Folder::Packs, text).unwrap()
    }

    #[test]
    fn every_call_is_written_down_with_its_bytes() {
        let recorder = Recorder::new(Arc::new(MemoryRemote::new()));
        recorder.create_folders().unwrap();
        let mut upload = recorder.begin().unwrap();
        upload.append(b"abc").unwrap();
        upload.append(b"de").unwrap();
        upload.finish(&name("p")).unwrap();
        recorder.flush(Folder::Packs).unwrap();
        let calls = recorder.take();
        let verbs: Vec<_> = calls.iter().map(|call| (call.verb, call.bytes)).collect();
        let expected = [
            (Verb::CreateFolders, 0),
            (Verb::Begin, 0),
            (Verb::Append, 3),
            (Verb::Append, 2),
            (Verb::Finish, 5),
            (Verb::Flush, 0),
        ];
        assert_eq!(verbs, expected);
        assert_eq!(calls[4].name, Some(name("p")));
        assert_eq!(calls[5].folder, Some(Folder::Packs));
        assert!(recorder.calls().is_empty());
    }

    #[test]
    fn reads_are_counted_by_object_and_range() {
        let memory = MemoryRemote::with_folders();
        memory.put(Folder::Packs, "p", *b"0123456789");
        let recorder = Recorder::new(Arc::new(memory));
        recorder.get_range(&name("p"), 8, &mut [0; 2]).unwrap();
        recorder.get_range(&name("p"), 8, &mut [0; 3]).unwrap_err();
        recorder.get(&name("p"), 10).unwrap();
        recorder.get(&name("q"), 10).unwrap_err();
        recorder.stat(&name("p")).unwrap();
        assert_eq!(recorder.read(&name("p")), [8..10, 0..10]);
        assert_eq!((recorder.count(Verb::GetRange), recorder.bytes(Verb::GetRange)), (2, 2));
        let errors: Vec<_> = recorder.calls().iter().filter_map(|call| call.error).collect();
        assert_eq!(errors, [ErrorKind::Short, ErrorKind::NotFound]);
    }
}
