//! Packs, from sealed segments to an object under its name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::pages::Pages;
use super::{Error, Repository, Result};
use crate::crypto::{PackKey, Salt, SealPurpose, Sealed};
use crate::format::layout::pack_name;
use crate::format::pack::{BaseRun, Directory, PackHeader, PackTrailer, RecipeCopy, SegmentEntry, directory_check};
use crate::format::recipe::PackRef;
use crate::id::{ChunkId, GenerationId, Hasher, PackId};
use crate::index::NewPack;
use crate::remote::Upload;
use crate::remote::spool::Spool;
use crate::time::Timestamp;

/// A compressed segment and its directory entry.
pub struct SegmentParts {
    /// The zstd frame.
    pub frame: Vec<u8>,
    /// Its chunks' ids, in order.
    pub ids: Vec<ChunkId>,
    /// Its chunks' lengths in bytes, in order.
    pub lengths: Vec<u32>,
    /// Its bases, by pack id; empty for a plain segment.
    pub bases: Vec<(PackId, BaseRun)>,
    /// 0 for a plain segment.
    pub depth: u32,
}

/// A pack that is being filled and uploaded.
pub struct PackBuilder {
    key: PackKey,
    salt: Salt,
    header: Vec<u8>,
    upload: Box<dyn Upload>,
    hasher: Hasher,
    size: u64,
    directory: Directory,
    base_numbers: HashMap<PackId, u32>,
}

/// A pack whose last byte is written, and that has no name yet.
pub struct ClosedPack {
    /// Its id and its directory's check.
    pub pack: PackRef,
    /// Bytes of the object.
    pub size: u64,
    header_length: u64,
    directory: Directory,
    upload: Box<dyn Upload>,
}

impl PackBuilder {
    /// Begins a pack of `set` in `generation`, in a new `upload`.
    pub fn begin(
        repository: &Repository,
        upload: Box<dyn Upload>,
        set: &str,
        generation: GenerationId,
    ) -> Result<Self> {
        let (key, salt) = (PackKey::random(), Salt::random());
        let wrapped_key = repository.keys().data().wrap_pack_key(&key);
        let header = PackHeader { repository: *repository.id(), salt: *salt.as_bytes(), wrapped_key }.encode();
        let mut pack = Self {
            key,
            salt,
            upload,
            hasher: Hasher::new(),
            size: 0,
            directory: Directory::new(set, generation),
            base_numbers: HashMap::new(),
            header: Vec::new(),
        };
        pack.write(&header)?;
        pack.header = header;
        Ok(pack)
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many segments are in it.
    pub fn segments(&self) -> u32 {
        self.directory.segments.len() as u32
    }

    /// Seals a segment and adds it. Returns its number, and the frame's buffer for another one.
    pub fn push(&mut self, parts: SegmentParts) -> Result<(u32, Vec<u8>)> {
        let number = self.segments();
        let sealed = self.key.seal_segment(number, &self.header, parts.frame);
        let bases = parts.bases.into_iter().map(|(id, run)| BaseRun { pack: self.base_number(id), ..run }).collect();
        self.directory.segments.push(SegmentEntry {
            sealed: sealed.len() as u32,
            first_chunk: self.directory.ids.len() as u32,
            chunks: parts.ids.len() as u32,
            bases,
            depth: parts.depth,
        });
        self.directory.ids.extend(parts.ids);
        self.directory.lengths.extend(parts.lengths);
        self.add(&sealed)?;
        Ok((number, sealed.into_vec()))
    }

    fn base_number(&mut self, id: PackId) -> u32 {
        let packs = &mut self.directory.base_packs;
        *self.base_numbers.entry(id).or_insert_with(|| {
            packs.push(id);
            packs.len() as u32
        })
    }

    /// Only sealed segments get into a pack.
    fn add(&mut self, sealed: &Sealed) -> Result<()> {
        self.write(sealed.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(self.upload.append(bytes)?)
    }

    /// Writes the directory, with a copy of the run's recipe and the pages of its layers before it where this is the run's last
    /// pack.
    pub fn close(mut self, repository: &Repository, copy: Option<(&RecipeCopy, &[&Pages])>) -> Result<ClosedPack> {
        let metadata = &repository.keys().metadata;
        let copy_length = match copy {
            None => 0,
            Some((copy, pages)) => {
                for pages in pages {
                    pages.read(|bytes| self.write(bytes))?;
                }
                let sealed = metadata.seal(SealPurpose::RecipeCopy, &self.salt, &[&self.header], copy.encode());
                self.add(&sealed)?;
                sealed.len()
            }
        };
        let plain = self.directory.encode();
        let too_large = |_| Error::Failed("a pack's directory is too large".to_owned());
        let trailer = PackTrailer {
            pages: copy.map_or(0, |(copy, _)| copy.pages()),
            recipe_copy: u32::try_from(copy_length).map_err(too_large)?,
            directory: u32::try_from(plain.len() + crate::crypto::TAG_LEN).map_err(too_large)?,
            segments: self.segments(),
        }
        .encode();
        let sealed = metadata.seal(SealPurpose::PackDirectory, &self.salt, &[&self.header, &trailer], plain);
        self.add(&sealed)?;
        self.write(&trailer)?;
        let check = directory_check(&self.header, sealed.as_bytes(), &trailer);
        Ok(ClosedPack {
            pack: PackRef { id: PackId::from_bytes(self.hasher.finish()), check },
            size: self.size,
            header_length: self.header.len() as u64,
            directory: self.directory,
            upload: self.upload,
        })
    }
}

impl ClosedPack {
    /// Moves the pack into place. The index knows of it before, so that an end in between loses nothing. Returns the
    /// index's number for it.
    pub fn place(self, repository: &Repository, now: Timestamp) -> Result<u32> {
        let number = self.enter(repository, now)?;
        self.finish(repository)?;
        Ok(number)
    }

    /// Enters the pack into the index, as not yet whole. Returns the index's number for it.
    pub fn enter(&self, repository: &Repository, now: Timestamp) -> Result<u32> {
        let row = NewPack {
            id: self.pack.id,
            size: self.size,
            header_length: self.header_length,
            check: self.pack.check,
            stored_time: Some(now),
            whole: false,
            directory: &self.directory,
        };
        Ok(repository.index().add_pack(&row)?)
    }

    /// Renames the pack into place and records that it is complete.
    pub fn finish(self, repository: &Repository) -> Result<()> {
        self.upload.finish(&pack_name(&self.pack.id))?;
        Ok(repository.index().pack_is_whole(&self.pack.id)?)
    }
}

/// Finishes packs on threads of its own, so that the next one fills while one is flushed, or sent from the spool.
pub struct Finisher {
    queue: Option<SyncSender<ClosedPack>>,
    threads: Vec<JoinHandle<Result<()>>>,
    /// Whether one of them failed, so that the others begin no other pack.
    failed: Arc<AtomicBool>,
    spool: Option<Arc<Spool>>,
}

impl Finisher {
    /// Packs that may wait to be flushed.
    const WAITING: usize = 2;
    /// Packs that may wait in the spool, whose bytes bound them sooner.
    const SPOOLED: usize = 4096;
    /// Packs that are sent from the spool at once: each is held in memory until the remote has it.
    const SENDING: usize = 2;

    /// Starts the threads.
    pub fn start(repository: &Arc<Repository>, spool: Option<Arc<Spool>>) -> Self {
        let (waiting, count) = match spool {
            Some(_) => (Self::SPOOLED, Self::SENDING),
            None => (Self::WAITING, 1),
        };
        let (queue, closed) = sync_channel::<ClosedPack>(waiting);
        let (closed, failed) = (Arc::new(Mutex::new(closed)), Arc::new(AtomicBool::new(false)));
        let threads = (0..count).map(|_| {
            let (closed, repository, failed) = (Arc::clone(&closed), Arc::clone(repository), Arc::clone(&failed));
            std::thread::spawn(move || {
                loop {
                    let next = closed.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Some(pack) = next.ok().filter(|_| !failed.load(Ordering::Relaxed)) else { return Ok(()) };
                    pack.finish(&repository).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                }
            })
        });
        let threads = threads.collect();
        Self { queue: Some(queue), threads, failed, spool }
    }

    /// Hands a pack over. False where an earlier one failed: [`end`](Self::end) says how.
    pub fn finish(&self, pack: ClosedPack) -> bool {
        !self.failed.load(Ordering::Relaxed) && self.queue.as_ref().is_some_and(|queue| queue.send(pack).is_ok())
    }

    /// Waits until all packs are in place.
    pub fn end(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.queue = None;
        let ended = || Error::Failed("the thread that finishes packs ended early".to_owned());
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let joined = thread.join().unwrap_or_else(|_| Err(ended()));
            if joined.is_err() && result.is_ok() {
                self.spool.iter().for_each(|spool| spool.mark_lost());
                result = joined;
            }
        }
        result
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.spool.iter().for_each(|spool| spool.mark_lost());
            // Where nobody asks with `end`, the run has failed already.
            let _ = self.join();
        }
    }
}
