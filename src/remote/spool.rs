//! Uploads that wait on this machine's disk until the remote takes them.
//!
//! A server that dumps its data waits for whoever reads it, and gives up after a minute (MariaDB's `net_write_timeout`,
//! error 2013). So a dump that nothing else keeps drains into files without a name, and the remote takes them at its own
//! pace. Only objects that are sealed come here. However a run ends, its files end with it.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Error, ErrorKind, ObjectName, Remote, Result, Upload};
use crate::disk::Space;
use crate::progress::Interrupt;

/// Bytes that stay free on the spool's disk, whatever its limit is.
const RESERVE: u64 = 1 << 30;
/// Bytes that are read back at once.
const PIECE: usize = 1 << 20;

/// Files on the way to a remote.
pub struct Spool {
    remote: Arc<dyn Remote>,
    folder: PathBuf,
    most: u64,
    /// Bytes that stay free on its disk.
    reserve: u64,
    held: AtomicU64,
    /// Whether waiting uploads were cancelled.
    marked_lost: AtomicBool,
    interrupt: Interrupt,
}

impl Spool {
    /// A spool of at most `most` bytes, and one object more, in `folder`, which is created if missing. An interrupt ends
    /// the current upload.
    pub fn new(remote: Arc<dyn Remote>, folder: PathBuf, most: u64, interrupt: Interrupt) -> Arc<Self> {
        let (held, marked_lost) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { remote, folder, most, reserve: RESERVE, held, marked_lost, interrupt })
    }

    /// Begins an object. It is sent directly to the remote if the spool is full, or its disk nearly is.
    pub fn begin(self: &Arc<Self>) -> Result<Box<dyn Upload>> {
        let room = self.held.load(Ordering::Relaxed) < self.most;
        match room.then(|| self.file()).flatten() {
            Some(file) => Ok(Box::new(Spooled { spool: Arc::clone(self), place: SpoolPosition::File(file), size: 0 })),
            None => self.remote.begin(),
        }
    }

    /// A file without a name; None if this disk has no room for one.
    fn file(&self) -> Option<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).ok()?;
        let space = Space::of(&self.folder).ok()?;
        (space.free > self.reserve).then(|| tempfile::tempfile_in(&self.folder).ok()).flatten()
    }

    /// Cancels uploads that haven't reached the remote yet: waiting ones are dropped, and the current one ends with an
    /// error.
    pub fn mark_lost(&self) {
        self.marked_lost.store(true, Ordering::Relaxed);
    }
}

/// An object on its way.
struct Spooled {
    spool: Arc<Spool>,
    place: SpoolPosition,
    /// Bytes so far.
    size: u64,
}

enum SpoolPosition {
    File(File),
    /// The disk got full in the middle of it.
    Remote(Box<dyn Upload>),
    Gone,
}

impl Spooled {
    /// Sends the file's content. Returns the upload.
    fn send(&mut self, mut file: File) -> Result<Box<dyn Upload>> {
        let failed = |error: std::io::Error| Error::from_io("reading back from the spool in", self.at(), &error);
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut upload = self.spool.remote.begin()?;
        let mut left = self.size;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            if self.spool.marked_lost.load(Ordering::Relaxed) || self.spool.interrupt.is_set() {
                return Err(Error::new(ErrorKind::Other, "sending from the spool in", self.at(), "the run has ended"));
            }
            let now = left.min(PIECE as u64) as usize;
            file.read_exact(&mut piece[..now]).map_err(failed)?;
            upload.append(&piece[..now])?;
            left -= now as u64;
        }
        Ok(upload)
    }

    fn at(&self) -> String {
        self.spool.folder.display().to_string()
    }
}

impl Upload for Spooled {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // Dead until this has gone well.
        let place = match std::mem::replace(&mut self.place, SpoolPosition::Gone) {
            SpoolPosition::File(mut file) => match file.write_all(bytes) {
                Ok(()) => {
                    self.spool.held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    self.size += bytes.len() as u64;
                    SpoolPosition::File(file)
                }
                Err(_) => {
                    let mut upload = self.send(file)?;
                    upload.append(bytes)?;
                    SpoolPosition::Remote(upload)
                }
            },
            SpoolPosition::Remote(mut upload) => {
                upload.append(bytes)?;
                SpoolPosition::Remote(upload)
            }
            SpoolPosition::Gone => {
                return Err(Error::new(ErrorKind::Other, "spooling in", self.at(), "an earlier write failed"));
            }
        };
        self.place = place;
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        match std::mem::replace(&mut self.place, SpoolPosition::Gone) {
            SpoolPosition::File(file) => self.send(file)?.finish(name),
            SpoolPosition::Remote(upload) => upload.finish(name),
            SpoolPosition::Gone => {
                Err(Error::new(ErrorKind::Other, "spooling in", self.at(), "an earlier write failed"))
            }
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.spool.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Folder;
    use crate::remote::memory::MemoryRemote;

    fn spool(most: u64) -> (tempfile::TempDir, Arc<MemoryRemote>, Arc<Spool>) {
        let folder = tempfile::tempdir().unwrap();
        let remote = Arc::new(MemoryRemote::new());
        remote.create_folders().unwrap();
        let spool = Spool::new(remote.clone(), folder.path().join("spool"), most, Interrupt::default());
        // However full the disk is that the test runs on.
        let spool = Arc::new(Spool { reserve: 0, ..Arc::into_inner(spool).unwrap() });
        (folder, remote, spool)
    }

    fn name(text: &str) -> ObjectName {
        ObjectName::new(Folder::Packs, text).unwrap()
    }

    #[test]
    fn nothing_reaches_the_remote_before_the_end() {
        let (_folder, remote, spool) = spool(1 << 30);
        let mut upload = spool.begin().unwrap();
        let bytes = vec![7; PIECE + 3];
        upload.append(&bytes).unwrap();
        upload.append(b"end").unwrap();
        assert!(remote.content(Folder::Pending).is_empty());
        assert_eq!(spool.held.load(Ordering::Relaxed), bytes.len() as u64 + 3);
        upload.finish(&name("a")).unwrap();
        assert_eq!(spool.held.load(Ordering::Relaxed), 0);
        assert_eq!(remote.get(&name("a"), 1 << 30).unwrap(), [&bytes[..], b"end"].concat());
        assert_eq!(std::fs::read_dir(&spool.folder).unwrap().count(), 0);
    }

    #[test]
    fn a_full_spool_lets_the_next_one_pass() {
        let (_folder, remote, spool) = spool(10);
        let mut waits = spool.begin().unwrap();
        waits.append(b"ten bytes.").unwrap();
        let mut passes = spool.begin().unwrap();
        passes.append(b"x").unwrap();
        passes.finish(&name("b")).unwrap();
        assert_eq!(remote.content(Folder::Packs).len(), 1);
        waits.finish(&name("a")).unwrap();
        assert_eq!(remote.content(Folder::Packs).len(), 2);
    }

    #[test]
    fn a_disk_that_gets_full_sends_what_is_there() {
        let (_folder, remote, spool) = spool(1 << 30);
        // A read-only file simulates a full disk: both refuse the bytes.
        let mut whole = tempfile::NamedTempFile::new().unwrap();
        whole.write_all(b"first ").unwrap();
        let full = File::open(whole.path()).unwrap();
        let mut upload = Box::new(Spooled { spool: spool.clone(), place: SpoolPosition::File(full), size: 6 });
        spool.held.fetch_add(6, Ordering::Relaxed);
        upload.append(b"second").unwrap();
        upload.append(b" third").unwrap();
        upload.finish(&name("a")).unwrap();
        assert_eq!(remote.get(&name("a"), 100).unwrap(), b"first second third");
        assert_eq!(spool.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_given_up_is_not_sent() {
        let (_folder, remote, spool) = spool(1 << 30);
        let mut upload = spool.begin().unwrap();
        upload.append(b"x").unwrap();
        spool.mark_lost();
        assert!(upload.finish(&name("a")).unwrap_err().to_string().contains("the run has ended"));
        assert!(remote.content(Folder::Packs).is_empty());
    }
}
