//! The base cache: the chunks of a set's newest snapshot, in a local file that only the owner reads.
//!
//! A writer can't open stored chunks, so its compression bases must be at hand. A table in recipe order says where each
//! chunk lies in the data file. A chunk is hashed before it is used, so nothing is flushed: a torn write after a power cut
//! is a miss, and the backup is only larger. Chunks of the committed snapshot are not written over before the next table
//! has replaced its own. Then everything that the new table doesn't name is erased: a thief on the machine gets the newest
//! snapshot here, and nothing older. Decision record 0016 has the figures.

mod data;
mod room;
mod table;
mod worth;
mod writer;

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(in crate::backup) use table::CacheSlot;

use crate::disk::{NewFile, Space};
use crate::id::SnapshotId;
use data::DataFile;
use room::{GRANULE, Room};
use table::{CacheEntry, ENTRY, Entries, FrameForm, HEADER, MOST_IDLE, TableHeader};
use worth::{CHANGED, Census, KNOWN, MOST_IDLE_READ, NEW, Shares};
use writer::Writer;

/// Bytes that the cache leaves free on its disk, or a quarter of a disk that is small.
const RESERVE: u64 = 1 << 30;
/// Where more than one part in so many of what was read has changed, changed chunks are not compressed: they don't live long
/// enough.
const VOLATILE: u64 = 3;
/// Bytes that must be read before that can be told.
const TELLING: u64 = 8 << 20;
/// But they are where the whole set, uncompressed, takes more than one part in so many of the cache's room.
const ROOMY: u64 = 4;

/// What a chunk is to the snapshot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum Arrival {
    /// Its stream has a parent, where something else was in its place.
    Changed,
    /// Its stream is new.
    New,
    /// It is stored already, elsewhere.
    Known,
    /// It is the one that stands at that ordinal in the recipe before.
    Matched(u64),
}

/// Why the bytes of a chunk can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum Lack {
    /// It found no room.
    NoRoom,
    /// It isn't meant to be there.
    Useless,
    /// It should be there.
    Lost,
}

/// The cache of one set.
pub(in crate::backup) struct BaseCache {
    data: DataFile,
    old: Option<Entries>,
    header: TableHeader,
    /// Bytes of the chunks of the snapshot before that it holds.
    bytes_before: u64,
    /// Bytes of all chunks of the snapshot before, but those that copies of files have.
    size_before: u64,
    new: BufWriter<NewFile>,
    /// Entries of the new table.
    count: u64,
    /// The granules that it may have.
    limit: u64,
    writer: Option<Writer>,
    /// Whether a chunk was found damaged.
    distrusted: bool,
    read: Passed,
    settled: Option<Settled>,
}

/// Bytes of streams with a parent.
#[derive(Default)]
struct Passed {
    all: u64,
    changed: u64,
}

/// All of the run is written.
struct Settled {
    /// What the snapshot before took, and what was added.
    room: Room,
    /// What the new table names.
    live: Room,
    any: bool,
}

/// What found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) struct Shortage {
    /// Bytes of chunks that it lacks.
    pub lacking: u64,
    /// Bytes of chunks that it has.
    pub held: u64,
    /// Bytes that it would take for all of them.
    pub needed: u64,
}

/// The data file of a set's cache.
fn chunks(folder: &Path, set: &str) -> PathBuf {
    folder.join(format!("base-{set}.chunks"))
}

impl BaseCache {
    /// Opens the cache of `set` in `folder`, that may have `limit` bytes. Its content counts only if it is of the snapshot
    /// `before`.
    pub fn open(folder: &Path, set: &str, before: Option<&SnapshotId>, limit: u64) -> io::Result<Self> {
        let table = folder.join(format!("base-{set}.table"));
        let mut data = DataFile::open(&chunks(folder, set))?;
        let limit = (limit / GRANULE).min(u64::from(u32::MAX));
        let mut old = before.and_then(|before| Entries::of_table(&table, before));
        let mut room = Room::default();
        room.take(0..data::HEADER_GRANULES);
        let (mut bytes_before, mut size_before) = (0, 0);
        if let Some((old, _)) = &mut old {
            for number in 0..old.count() {
                let Some(CacheEntry { slot, length, .. }) = old.get(number) else { continue };
                size_before += u64::from(length);
                if let CacheSlot::At(frame) = slot {
                    bytes_before += u64::from(length);
                    let granules = frame.granules();
                    // What lies beyond the limit is read, and goes with the commit.
                    room.take(granules.start.min(limit)..granules.end.min(limit));
                }
            }
        } else {
            data.clear()?;
        }
        let (old, header) = old.unzip();
        let header = header.unwrap_or_default();
        let log = NewFile::beside(&folder.join(format!("base-{set}.added")), 0o600)?;
        let writer = Writer::start(data.share()?, room, Shares::new(limit, header.changed), log);
        let mut new = BufWriter::with_capacity(1 << 16, NewFile::beside(&table, 0o600)?);
        new.write_all(&[0; HEADER])?;
        Ok(Self {
            data,
            old,
            header,
            bytes_before,
            size_before,
            new,
            count: 0,
            limit,
            writer: Some(writer),
            distrusted: false,
            read: Passed::default(),
            settled: None,
        })
    }

    /// The bytes, at most `most`, that the cache of `set` may have: it may grow into the free space of its disk, but for
    /// the needs of the index and others.
    pub fn limit(folder: &Path, set: &str, most: u64) -> u64 {
        let there = data::room_taken(&chunks(folder, set));
        Space::of(folder)
            .map_or(most, |Space { free, total }| most.min((there + free).saturating_sub(RESERVE.min(total / 4))))
    }

    /// Takes the cache of `set` away, where there is one.
    pub fn remove(folder: &Path, set: &str) {
        for kind in ["chunks", "table"] {
            // A file that can't be removed is no worse than before.
            let _ = std::fs::remove_file(folder.join(format!("base-{set}.{kind}")));
        }
    }

    fn entry(&mut self, ordinal: u64) -> Option<CacheEntry> {
        self.old.as_mut().and_then(|old| old.get(ordinal))
    }

    /// Where the chunk lies that stands at `ordinal` in the recipe before and has that length, or why it can't be had.
    pub fn slot(&mut self, ordinal: u64, length: u32) -> Result<CacheSlot, Lack> {
        match self.entry(ordinal).filter(|entry| entry.length == length).map(|entry| entry.slot) {
            Some(slot @ CacheSlot::At(_)) => Ok(slot),
            Some(CacheSlot::NoRoom) => Err(Lack::NoRoom),
            Some(CacheSlot::Useless) => Err(Lack::Useless),
            Some(CacheSlot::Elsewhere | CacheSlot::Added(_)) | None => Err(Lack::Lost),
        }
    }

    /// How many chunks the recipe before has, where its table is here.
    pub fn count_before(&self) -> u64 {
        self.old.as_ref().map_or(0, Entries::count)
    }

    /// Bytes of the chunks of the snapshot before that are here.
    pub fn bytes_before(&self) -> u64 {
        self.bytes_before
    }

    /// Reads the chunk that lies there into `chunk`, which has its length. Whether these are its bytes is for the caller to find out.
    pub fn read(&mut self, slot: CacheSlot, chunk: &mut [u8]) -> bool {
        matches!(slot, CacheSlot::At(frame) if self.data.read(frame, chunk))
    }

    /// Reads the chunk that stands at `ordinal` in the recipe before into `out`. False where it isn't there.
    pub fn read_at(&mut self, ordinal: u64, out: &mut Vec<u8>) -> bool {
        let Some(entry) = self.entry(ordinal) else { return false };
        out.resize(entry.length as usize, 0);
        self.read(entry.slot, out)
    }

    /// A chunk was damaged: from now on all that passes by is written anew.
    pub fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// The next chunks of the new recipe are those that stand at `ordinals` in the recipe before, in a stream that wasn't read.
    pub fn keep(&mut self, ordinals: Range<u64>) -> io::Result<()> {
        for ordinal in ordinals {
            let entry = self.entry(ordinal);
            let lost = CacheEntry { slot: CacheSlot::NoRoom, length: 0, idle: MOST_IDLE };
            self.put(entry.map_or(lost, |entry| entry.older(MOST_IDLE)))?;
        }
        Ok(())
    }

    fn matched(&mut self, ordinal: u64, chunk: &[u8]) -> io::Result<()> {
        self.read.all += chunk.len() as u64;
        let entry = self.entry(ordinal).map(|entry| entry.older(MOST_IDLE_READ));
        match entry {
            Some(entry @ CacheEntry { slot: CacheSlot::At(frame), .. })
                if !self.distrusted && (frame.form != FrameForm::Raw || self.keeps_raw()) =>
            {
                self.put(entry)
            }
            Some(entry) => self.write(chunk, entry.idle, true),
            None => self.write(chunk, KNOWN, true),
        }
    }

    /// The next chunk of the new recipe has these bytes. They are written only where they aren't here already.
    pub fn add(&mut self, chunk: &[u8], arrival: Arrival) -> io::Result<()> {
        let length = chunk.len() as u64;
        match arrival {
            Arrival::Changed => {
                self.read.all += length;
                self.read.changed += length;
                self.write(chunk, CHANGED, !self.keeps_raw())
            }
            Arrival::New => self.write(chunk, NEW, true),
            Arrival::Known => self.write(chunk, KNOWN, true),
            Arrival::Matched(ordinal) => self.matched(ordinal, chunk),
        }
    }

    /// Whether changed chunks are kept uncompressed.
    fn keeps_raw(&self) -> bool {
        self.is_volatile() && self.size_before.saturating_mul(ROOMY) < self.limit * GRANULE
    }

    /// Whether much of what is read has changed: as in the snapshot before, until enough was read to tell.
    fn is_volatile(&self) -> bool {
        let Passed { all, changed } = self.read;
        if all < TELLING { self.header.volatile } else { changed * VOLATILE > all }
    }

    fn write(&mut self, chunk: &[u8], idle: u8, compress: bool) -> io::Result<()> {
        let writer = self.writer.as_mut().ok_or_else(|| io::Error::other("it is closed"))?;
        let slot = CacheSlot::Added(writer.add(chunk, idle, compress)?);
        self.put(CacheEntry { slot, length: chunk.len() as u32, idle })
    }

    /// A copy of its file has the next chunk of the new recipe.
    pub fn pass_elsewhere(&mut self) -> io::Result<()> {
        self.put(CacheEntry { slot: CacheSlot::Elsewhere, length: 0, idle: 0 })
    }

    /// The next chunk of the new recipe is of a stream that is compressed already: nothing comes of it as a base.
    pub fn pass_useless(&mut self, length: u32) -> io::Result<()> {
        self.put(CacheEntry { slot: CacheSlot::Useless, length, idle: 0 })
    }

    fn put(&mut self, entry: CacheEntry) -> io::Result<()> {
        self.count += 1;
        self.new.write_all(&entry.encode())
    }

    /// How many chunks the new table has.
    pub fn position(&self) -> u64 {
        self.count
    }

    /// Forgets the new table's chunks from `position` on: their stream isn't in the snapshot after all.
    pub fn forget_from(&mut self, position: u64) -> io::Result<()> {
        self.count = position;
        self.new.seek(SeekFrom::Start(HEADER as u64 + position * ENTRY as u64))?;
        Ok(())
    }

    /// All chunks of the new recipe are told: waits until they are written, and decides which may stay. Tells what found no room.
    pub fn settle(&mut self) -> io::Result<Option<Shortage>> {
        let writer = self.writer.take().ok_or_else(|| io::Error::other("it is closed"))?;
        let mut written = writer.finish()?;
        self.new.flush()?;
        let mut census = Census::default();
        let mut live = Room::default();
        live.take(0..data::HEADER_GRANULES);
        let limit = self.limit;
        self.rewrite(|entry| {
            let (mut entry, mut passed) = (entry, false);
            if let CacheSlot::Added(number) = entry.slot {
                passed = true;
                entry.slot = written.entries.get(number.into()).map_or(CacheSlot::NoRoom, |added| added.slot);
            }
            if matches!(entry.slot, CacheSlot::At(frame) if frame.granules().end > limit) {
                entry.slot = CacheSlot::NoRoom;
            }
            census.count(&entry, passed);
            entry
        })?;
        let mut stay = census.may_stay(limit);
        let mut evicted = Census::default();
        self.rewrite(|mut entry| {
            if let CacheSlot::At(frame) = entry.slot {
                let granules = frame.granules();
                let left = &mut stay[worth::class(entry.idle, frame.form)];
                match left.checked_sub(granules.end - granules.start) {
                    Some(rest) => {
                        *left = rest;
                        live.take(granules);
                    }
                    None => {
                        entry.slot = CacheSlot::NoRoom;
                        evicted.count(&entry, false);
                    }
                }
            }
            entry
        })?;
        let volatile = self.is_volatile();
        self.header = TableHeader { count: self.count, changed: census.changed(), volatile };
        self.settled = Some(Settled { room: written.room, live, any: written.any });
        let lacking = census.lacking() + evicted.lacking();
        let held = census.held() - evicted.lacking();
        // All of it, what will take another's place, and some more: chunks leave gaps.
        let needed = (census.granules_of(census.held() + census.lacking()) + census.changed()) * GRANULE;
        let needed = needed + needed / 4;
        // What lacked room once and would have it now comes back when its stream is read again.
        let is_short = census.lacks_any_at_hand() || evicted.lacking() > 0 || needed > limit * GRANULE;
        Ok((lacking > 0 && is_short).then_some(Shortage { lacking, held, needed }))
    }

    /// Replaces each entry of the new table by what `change` makes of it.
    fn rewrite(&mut self, mut change: impl FnMut(CacheEntry) -> CacheEntry) -> io::Result<()> {
        let file = self.new.get_ref().as_file();
        let mut page = Vec::new();
        let mut done = 0;
        while done < self.count {
            let entries = (self.count - done).min(8192) as usize;
            let at = HEADER as u64 + done * ENTRY as u64;
            page.resize(entries * ENTRY, 0);
            file.read_exact_at(&mut page, at)?;
            let mut differs = false;
            for bytes in page.as_chunks_mut::<ENTRY>().0 {
                let changed = change(CacheEntry::decode(bytes)).encode();
                differs |= changed != *bytes;
                *bytes = changed;
            }
            if differs {
                file.write_all_at(&page, at)?;
            }
            done += entries as u64;
        }
        Ok(())
    }

    /// The snapshot is committed: the new table takes the old one's place.
    pub fn commit(mut self, snapshot: &SnapshotId) -> io::Result<()> {
        if self.settled.is_none() {
            self.settle()?;
        }
        let Some(Settled { room, live, any }) = self.settled.take() else { return Ok(()) };
        let new = self.new.into_inner().map_err(io::IntoInnerError::into_error)?;
        new.as_file().set_len(HEADER as u64 + self.count * ENTRY as u64)?;
        new.as_file().write_all_at(&self.header.encode(snapshot), 0)?;
        new.replace_unflushed()?;
        self.data.keep_only(&live, &room, any)
    }
}

#[cfg(test)]
mod tests;
