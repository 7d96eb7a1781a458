//! The base cache: the chunks of a set's newest snapshot, in a local file that only the owner reads.
//!
//! A writer can't open stored chunks, so its compression bases must be at hand. Chunks are raw bytes in blocks of the
//! data file; a table in recipe order gives their positions. A chunk is hashed before it is used, so nothing is flushed:
//! a torn write after a power cut is a miss, and the backup is only larger. Blocks of the committed snapshot are not
//! written again before the next table has replaced its own. Then everything that the new table doesn't name is
//! overwritten with zeros: a thief on the machine gets the newest snapshot here, and nothing older.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::disk::{NewFile, Space};
use crate::id::{Hasher, SnapshotId};

const BLOCK: u64 = 4096;
/// Bytes that the cache leaves free on its disk, or a quarter of a disk that is small.
const RESERVE: u64 = 1 << 30;
const ENTRY: usize = 8;
const HEADER: usize = 48;
const MAGIC: &[u8; 8] = b"varubc01";
/// Entries of the old table that are read at once.
const PAGE: usize = 4096;

/// Where a chunk lies in the data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) struct CacheSlot {
    block: u32,
    /// Bytes; 0 where the chunk isn't in the cache.
    length: u32,
}

const NONE: CacheSlot = CacheSlot::NONE;

impl CacheSlot {
    /// Of a chunk that isn't in the cache.
    pub const NONE: Self = Self { block: 0, length: 0 };

    /// Of a chunk that a copy of its file has.
    const ELSEWHERE: Self = Self { block: u32::MAX, length: 0 };

    /// Whether the chunk isn't in the cache.
    pub fn is_none(&self) -> bool {
        self.length == 0
    }

    fn at(self) -> u64 {
        u64::from(self.block) * BLOCK
    }
}

/// The data file, read and written on any thread.
pub(in crate::backup) struct Slots {
    file: File,
    /// Whether a chunk was found damaged.
    distrusted: AtomicBool,
    /// Why a chunk could not be written.
    failed: OnceLock<std::io::Error>,
}

impl Slots {
    fn new(file: File) -> Self {
        Self { file, distrusted: AtomicBool::new(false), failed: OnceLock::new() }
    }

    /// Reads the chunk that lies there.
    pub fn read(&self, slot: CacheSlot, chunk: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(chunk, slot.at())
    }

    /// A chunk was damaged: from now on all that passes by is written anew.
    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Writes chunks that stand one behind the other, with their lengths and slots; those without a slot are passed over. What
    /// fails is told by [`failed`](Self::failed).
    pub fn write(&self, mut chunks: &[u8], lengths: &[u32], slots: &[CacheSlot], padded: &mut Vec<u8>) {
        padded.clear();
        let mut from = None;
        for (&length, &slot) in lengths.iter().zip(slots) {
            let (chunk, rest) = chunks.split_at(length as usize);
            chunks = rest;
            if slot.is_none() {
                continue;
            }
            // Adjacent chunks are written at once.
            if from.is_some_and(|from| from + padded.len() as u64 != slot.at()) {
                self.put(from.take(), padded);
            }
            from.get_or_insert(slot.at());
            padded.extend_from_slice(chunk);
            padded.resize(padded.len().next_multiple_of(BLOCK as usize), 0);
        }
        self.put(from, padded);
    }

    fn put(&self, from: Option<u64>, padded: &mut Vec<u8>) {
        if let Some(Err(error)) = from.map(|from| self.file.write_all_at(padded, from)) {
            // The first reason is told.
            let _ = self.failed.set(error);
        }
        padded.clear();
    }

    /// Why a chunk could not be written, where that happened.
    pub fn failed(&self) -> Option<&std::io::Error> {
        self.failed.get()
    }
}

/// The cache of one set.
pub(in crate::backup) struct BaseCache {
    table: PathBuf,
    slots: Arc<Slots>,
    old: Option<OldTable>,
    new: BufWriter<NewFile>,
    /// Entries of the new table.
    count: u64,
    used: Blocks,
    /// A chunk with the zeros behind it.
    padded: Vec<u8>,
    /// Whether a chunk found no room.
    pub full: bool,
    /// Whether a chunk of the snapshot before had found none.
    pub lacked: bool,
}

struct OldTable {
    file: File,
    count: u64,
    page: Vec<u8>,
    /// The entry that `page` starts with.
    first: u64,
}

/// The data file of a set's cache.
fn chunks(folder: &Path, set: &str) -> PathBuf {
    folder.join(format!("base-{set}.chunks"))
}

impl BaseCache {
    /// Opens the cache of `set` in `folder`. Its content counts only if it is of the snapshot `before`, and at most
    /// `limit` bytes.
    pub fn open(folder: &Path, set: &str, before: Option<&SnapshotId>, limit: u64) -> std::io::Result<Self> {
        let table = folder.join(format!("base-{set}.table"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let data = options.open(chunks(folder, set))?;
        let there = data.metadata()?.len();
        let before = before.filter(|_| there <= limit);
        let mut old = before.and_then(|before| OldTable::open(&table, before));
        let mut used = Blocks::new(limit / BLOCK);
        let mut lacked = false;
        if let Some(old) = &mut old {
            for entry in 0..old.count {
                let slot = old.slot(entry);
                lacked |= slot == NONE;
                used.take(slot);
            }
        } else {
            data.set_len(0)?;
        }
        let mut new = BufWriter::with_capacity(1 << 16, NewFile::beside(&table, 0o600)?);
        new.write_all(&[0; HEADER])?;
        let slots = Arc::new(Slots::new(data));
        Ok(Self { table, slots, old, new, count: 0, used, padded: Vec::new(), full: false, lacked })
    }

    /// The bytes, at most `most`, that the cache of `set` may have: it may grow into the free space of its disk, but for
    /// the needs of the index and others.
    pub fn limit(folder: &Path, set: &str, most: u64) -> u64 {
        let there = chunks(folder, set).metadata().map_or(0, |about| about.len());
        Space::of(folder)
            .map_or(most, |Space { free, total }| most.min((there + free).saturating_sub(RESERVE.min(total / 4))))
    }

    /// Takes the cache of `set` away, where there is one.
    pub fn remove(folder: &Path, set: &str) {
        for kind in ["chunks", "table", "new"] {
            // A file that can't be removed is no worse than before.
            let _ = std::fs::remove_file(folder.join(format!("base-{set}.{kind}")));
        }
    }

    /// The data file.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Where the chunk lies that stands at `ordinal` in the recipe before and has that length.
    pub fn slot(&mut self, ordinal: u64, length: u32) -> CacheSlot {
        let slot = self.old.as_mut().map_or(NONE, |old| old.slot(ordinal));
        if slot.length == length { slot } else { NONE }
    }

    /// How many chunks the recipe before has, where its table is here.
    pub fn count_before(&self) -> u64 {
        self.old.as_ref().map_or(0, |old| old.count)
    }

    /// Bytes that the data file may hold of the snapshot before.
    pub fn bytes_before(&self) -> u64 {
        self.slots.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Reads the chunk that stands at `ordinal` in the recipe before into `out`. False where it isn't there.
    pub fn read(&mut self, ordinal: u64, out: &mut Vec<u8>) -> bool {
        let slot = self.old.as_mut().map_or(NONE, |old| old.slot(ordinal));
        if slot.is_none() || slot.length > crate::format::layout::MAX_CHUNK {
            return false;
        }
        out.resize(slot.length as usize, 0);
        self.slots.read(slot, out).is_ok()
    }

    /// Whether it holds the chunk that stands at `ordinal` in the recipe before, as far as can be told.
    pub fn has(&mut self, ordinal: u64) -> bool {
        !self.slots.distrusted.load(Ordering::Relaxed)
            && self.old.as_mut().is_some_and(|old| !old.slot(ordinal).is_none())
    }

    /// The next chunks of the new recipe are those that stand at `ordinals` in the recipe before.
    pub fn keep(&mut self, ordinals: Range<u64>) -> std::io::Result<()> {
        for ordinal in ordinals {
            let slot = self.old.as_mut().map_or(NONE, |old| old.slot(ordinal));
            self.put(slot)?;
        }
        Ok(())
    }

    /// The next chunk of the new recipe has these bytes.
    pub fn add(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        let length = chunk.len() as u32;
        let slot = self.place(length)?;
        self.slots.write(chunk, &[length], &[slot], &mut self.padded);
        Ok(())
    }

    /// A copy of its file has the next chunk of the new recipe.
    pub fn pass(&mut self) -> std::io::Result<()> {
        self.put(CacheSlot::ELSEWHERE)
    }

    /// The next chunk of the new recipe has so many bytes. Returns where they are to be written, if there is room.
    pub fn place(&mut self, length: u32) -> std::io::Result<CacheSlot> {
        let slot = self.used.find(length).unwrap_or(NONE);
        self.full |= slot.is_none();
        self.put(slot)?;
        Ok(slot)
    }

    fn put(&mut self, slot: CacheSlot) -> std::io::Result<()> {
        self.count += 1;
        self.new.write_all(&slot.block.to_le_bytes())?;
        self.new.write_all(&slot.length.to_le_bytes())
    }

    /// How many chunks the new table has.
    pub fn position(&self) -> u64 {
        self.count
    }

    /// Forgets the new table's chunks from `position` on: their stream isn't in the snapshot after all.
    pub fn forget_from(&mut self, position: u64) -> std::io::Result<()> {
        self.count = position;
        self.new.seek(SeekFrom::Start(HEADER as u64 + position * ENTRY as u64))?;
        Ok(())
    }

    /// The snapshot is committed: the new table takes the old one's place.
    pub fn commit(mut self, snapshot: &SnapshotId) -> std::io::Result<()> {
        self.new.flush()?;
        let new = self.new.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        new.as_file().set_len(HEADER as u64 + self.count * ENTRY as u64)?;
        new.as_file().write_all_at(&header(snapshot, self.count), 0)?;
        new.replace_unflushed()?;
        let Some(table) = OldTable::open(&self.table, snapshot) else { return Ok(()) };
        wipe(&self.slots.file, table, self.used.limit)
    }
}

/// Overwrites all blocks that the table doesn't name.
fn wipe(data: &File, mut table: OldTable, limit: u64) -> std::io::Result<()> {
    let mut named = Blocks { bits: Vec::new(), limit, next: 0 };
    for entry in 0..table.count {
        named.take(table.slot(entry));
    }
    let end = data.metadata()?.len().div_ceil(BLOCK);
    let last = (0..end).rev().find(|&block| named.is_used(block)).map_or(0, |block| block + 1);
    data.set_len(last * BLOCK)?;
    let zeros = vec![0; 256 * BLOCK as usize];
    let mut from = 0;
    while from < last {
        let used = |block: &u64| named.is_used(*block);
        let free = (from..last).find(|block| !used(block)).unwrap_or(last);
        let end = (free..last.min(free + 256)).find(used).unwrap_or(last.min(free + 256));
        data.write_all_at(&zeros[..((end - free) * BLOCK) as usize], free * BLOCK)?;
        from = end.max(free + 1);
    }
    Ok(())
}

fn header(snapshot: &SnapshotId, count: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..24].copy_from_slice(snapshot.as_bytes());
    header[24..32].copy_from_slice(&count.to_le_bytes());
    let check = Hasher::new().update(&header[..32]).finish_short();
    header[32..].copy_from_slice(&check);
    header
}

impl OldTable {
    fn open(path: &Path, before: &SnapshotId) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut found = [0; HEADER];
        file.read_exact_at(&mut found, 0).ok()?;
        let count = u64::from_le_bytes(*found[24..32].first_chunk()?);
        let size = (HEADER as u64).checked_add(count.checked_mul(ENTRY as u64)?)?;
        let whole = found == header(before, count) && file.metadata().ok()?.len() == size;
        whole.then(|| Self { file, count, page: Vec::new(), first: 0 })
    }

    fn slot(&mut self, ordinal: u64) -> CacheSlot {
        let inside = ordinal.checked_sub(self.first).map(|into| into as usize * ENTRY);
        let at = match inside.filter(|at| at + ENTRY <= self.page.len()) {
            Some(at) => at,
            None if ordinal < self.count && self.load(ordinal).is_ok() => (ordinal - self.first) as usize * ENTRY,
            None => return NONE,
        };
        let field =
            |at: usize| u32::from_le_bytes([self.page[at], self.page[at + 1], self.page[at + 2], self.page[at + 3]]);
        CacheSlot { block: field(at), length: field(at + 4) }
    }

    fn load(&mut self, ordinal: u64) -> std::io::Result<()> {
        // Bases precede the chunks that are kept next.
        self.first = ordinal.saturating_sub(PAGE as u64 / 4);
        let entries = (self.count - self.first).min(PAGE as u64) as usize;
        self.page.resize(entries * ENTRY, 0);
        let read = self.file.read_exact_at(&mut self.page, HEADER as u64 + self.first * ENTRY as u64);
        if read.is_err() {
            self.page.clear();
        }
        read
    }
}

/// Which blocks of the data file hold a chunk.
struct Blocks {
    bits: Vec<u64>,
    limit: u64,
    /// Where the last search ended.
    next: u64,
}

impl Blocks {
    fn new(limit: u64) -> Self {
        Self { bits: Vec::new(), limit: limit.min(u64::from(u32::MAX)), next: 0 }
    }

    fn is_used(&self, block: u64) -> bool {
        self.bits.get((block / 64) as usize).is_some_and(|bits| bits >> (block % 64) & 1 == 1)
    }

    fn take(&mut self, slot: CacheSlot) {
        let first = u64::from(slot.block);
        let end = first + u64::from(slot.length).div_ceil(BLOCK);
        if end > self.limit {
            return;
        }
        for block in first..end {
            let word = (block / 64) as usize;
            if word >= self.bits.len() {
                self.bits.resize(word + 1, 0);
            }
            self.bits[word] |= 1 << (block % 64);
        }
    }

    /// Finds and takes room for `length` bytes, from where the last search ended, once round.
    fn find(&mut self, length: u32) -> Option<CacheSlot> {
        let blocks = u64::from(length).div_ceil(BLOCK).max(1);
        let end = self.bits.len() as u64 * 64;
        let start = self.next.min(end);
        let found = self.search(start, end + blocks, blocks).or_else(|| self.search(0, start, blocks))?;
        let slot = CacheSlot { block: found as u32, length };
        self.take(slot);
        self.next = found + blocks;
        Some(slot)
    }

    fn search(&self, from: u64, to: u64, blocks: u64) -> Option<u64> {
        let to = to.min(self.limit);
        let mut first = from;
        while first + blocks <= to {
            match (first..first + blocks).rev().find(|&block| self.is_used(block)) {
                None => return Some(first),
                Some(used) => first = used + 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> SnapshotId {
        SnapshotId::from_bytes([number; 16])
    }

    fn chunk(number: u8, length: usize) -> Vec<u8> {
        vec![number; length]
    }

    fn read(cache: &mut BaseCache, ordinal: u64, length: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        (!cache.slot(ordinal, length as u32).is_none() && cache.read(ordinal, &mut out)).then_some(out)
    }

    #[test]
    fn a_committed_snapshot_is_there_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |before: Option<u8>| BaseCache::open(folder.path(), "agama", before.map(id).as_ref(), 1 << 20).unwrap();
        let mut first = open(None);
        for number in 0..10 {
            first.add(&chunk(number, 5000)).unwrap();
        }
        first.commit(&id(1)).unwrap();
        let mut second = open(Some(1));
        assert_eq!(read(&mut second, 7, 5000), Some(chunk(7, 5000)));
        assert_eq!(read(&mut second, 7, 4999), None);
        assert_eq!(read(&mut second, 10, 5000), None);
        second.keep(3..5).unwrap();
        second.add(&chunk(99, 9000)).unwrap();
        second.keep(9..10).unwrap();
        // Not committed: the first is still whole.
        drop(second);
        let mut again = open(Some(1));
        assert!((0..10).all(|number| read(&mut again, number, 5000) == Some(chunk(number as u8, 5000))));
        again.keep(3..5).unwrap();
        again.add(&chunk(99, 9000)).unwrap();
        again.commit(&id(2)).unwrap();
        let mut third = open(Some(2));
        assert_eq!(read(&mut third, 1, 5000), Some(chunk(4, 5000)));
        assert_eq!(read(&mut third, 2, 9000), Some(chunk(99, 9000)));
        drop(third);
        assert_eq!(read(&mut open(Some(1)), 0, 5000), None, "another snapshot's table doesn't count");
    }

    #[test]
    fn room_is_used_again_and_never_exceeded() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = None;
        for day in 0..50 {
            let mut cache = BaseCache::open(folder.path(), "x", before.as_ref(), 40 * BLOCK).unwrap();
            for number in 0..10 {
                cache.add(&chunk(number + day, 8000)).unwrap();
            }
            assert!(!cache.full, "day {day}");
            cache.commit(&id(day)).unwrap();
            before = Some(id(day));
        }
        let size = folder.path().join("base-x.chunks").metadata().unwrap().len();
        assert!(size <= 40 * BLOCK, "{size}");
        let mut cache = BaseCache::open(folder.path(), "x", before.as_ref(), 40 * BLOCK).unwrap();
        (0..11).for_each(|number| cache.add(&chunk(number, 8000)).unwrap());
        assert!(cache.full);
    }

    #[test]
    fn what_the_newest_snapshot_lacks_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = None;
        for (day, lengths) in [(1, [9000, 5000, 20]), (2, [20, 4097, 9000]), (3, [1, 1, 1])] {
            let mut cache = BaseCache::open(folder.path(), "x", before.as_ref(), 1 << 20).unwrap();
            lengths.into_iter().for_each(|length| cache.add(&chunk(day, length)).unwrap());
            cache.commit(&id(day)).unwrap();
            before = Some(id(day));
            let data = std::fs::read(folder.path().join("base-x.chunks")).unwrap();
            assert!(data.iter().all(|&byte| byte == 0 || byte == day), "day {day}");
            assert_eq!(data.iter().filter(|&&byte| byte == day).count(), lengths.iter().sum::<usize>());
        }
    }

    #[test]
    fn a_stream_that_failed_leaves_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = BaseCache::open(folder.path(), "x", None, 64 << 20).unwrap();
        cache.add(&chunk(1, 100)).unwrap();
        let position = cache.position();
        (0..5000).for_each(|_| cache.add(&chunk(2, 100)).unwrap());
        cache.forget_from(position).unwrap();
        cache.add(&chunk(3, 100)).unwrap();
        cache.commit(&id(1)).unwrap();
        let mut next = BaseCache::open(folder.path(), "x", Some(&id(1)), 64 << 20).unwrap();
        assert_eq!(read(&mut next, 1, 100), Some(chunk(3, 100)));
        assert_eq!(read(&mut next, 2, 100), None);
    }
}
