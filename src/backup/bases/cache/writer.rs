//! The thread that compresses chunks and writes them into the data file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::data::mark_written;
use super::room::{GRANULE, Room, granules};
use super::table::{CacheEntry, CacheFrame, CacheSlot, Entries, FrameForm};
use super::worth::{self, Shares};
use crate::disk::NewFile;
use crate::segment::Compressor;

/// Bytes of chunks that are handed over at once.
const BATCH: usize = 256 << 10;
/// Batches that wait.
const WAITING: usize = 8;
/// Bytes that are written at once, at least where they lie together.
const WRITE: usize = 256 << 10;
/// A chunk is compressed only if so many sixteenths of it are enough.
const WORTH_SIXTEENTHS: usize = 15;
/// Bytes from which it is tried.
const LEAST: usize = 128;

/// A chunk of a batch.
struct Chunk {
    length: u32,
    idle: u8,
    /// Whether it is worth being compressed.
    compress: bool,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    chunks: Vec<Chunk>,
}

/// What the thread leaves.
pub(super) struct Written {
    /// All that is taken: by the snapshot before, and by what was added.
    pub room: Room,
    /// The entries of what was added, in that order, in a file that goes when this does.
    pub entries: Entries,
    _log: NewFile,
    /// Whether anything was written.
    pub any: bool,
}

/// Takes chunks, and hands them to its thread.
pub(super) struct Writer {
    filling: Batch,
    to: Option<SyncSender<Batch>>,
    used: Receiver<Batch>,
    thread: Option<JoinHandle<io::Result<Written>>>,
    /// Chunks so far.
    count: u32,
}

impl Writer {
    /// A writer into `data`, which places chunks in `room` and notes where in `log`.
    pub fn start(data: File, room: Room, shares: Shares, log: NewFile) -> Self {
        let (to, batches) = sync_channel(WAITING);
        let (back, used) = channel();
        let thread = std::thread::spawn(move || Placing::new(data, room, shares, log)?.run(&batches, &back));
        Self { filling: Batch::default(), to: Some(to), used, thread: Some(thread), count: 0 }
    }

    /// Takes a chunk. Returns its number among those that were added.
    pub fn add(&mut self, chunk: &[u8], idle: u8, compress: bool) -> io::Result<u32> {
        if self.filling.bytes.len() + chunk.len() > BATCH {
            self.hand_over()?;
        }
        self.filling.bytes.extend_from_slice(chunk);
        self.filling.chunks.push(Chunk { length: chunk.len() as u32, idle, compress });
        let number = self.count;
        self.count = number.checked_add(1).ok_or_else(|| io::Error::other("a snapshot has too many chunks"))?;
        Ok(number)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let mut next = self.used.try_recv().unwrap_or_default();
        next.bytes.clear();
        next.chunks.clear();
        let full = std::mem::replace(&mut self.filling, next);
        let sent = self.to.as_ref().is_some_and(|to| to.send(full).is_ok());
        // A thread that ended early says why.
        if sent { Ok(()) } else { self.join().map(drop).and(Err(ended())) }
    }

    /// Waits until all is written.
    pub fn finish(mut self) -> io::Result<Written> {
        if !self.filling.chunks.is_empty() {
            self.hand_over()?;
        }
        self.join()
    }

    fn join(&mut self) -> io::Result<Written> {
        self.to = None;
        let thread = self.thread.take().ok_or_else(ended)?;
        thread.join().map_err(|_| ended())?
    }
}

impl Drop for Writer {
    /// A run that failed ends its thread before it lets the next one in.
    fn drop(&mut self) {
        // The run's own error is more specific.
        let _ = self.join();
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that writes it ended early")
}

/// The thread's side.
struct Placing {
    data: File,
    room: Room,
    shares: Shares,
    log: BufWriter<NewFile>,
    count: u64,
    compressor: Compressor,
    frame: Vec<u8>,
    /// Chunks that lie together and are not written yet, and where.
    together: Vec<u8>,
    from: u64,
    any: bool,
    /// Granules of the chunks that were placed, as they are and as they lie there.
    placed: (u64, u64),
    /// The least number of granules for which no room was found.
    refused: Option<u64>,
}

impl Placing {
    fn new(data: File, room: Room, shares: Shares, log: NewFile) -> io::Result<Self> {
        Ok(Self {
            data,
            room,
            shares,
            log: BufWriter::with_capacity(1 << 16, log),
            count: 0,
            compressor: Compressor::fast().map_err(io::Error::other)?,
            frame: Vec::new(),
            together: Vec::new(),
            from: 0,
            any: false,
            placed: (0, 0),
            refused: None,
        })
    }

    fn run(mut self, batches: &Receiver<Batch>, back: &Sender<Batch>) -> io::Result<Written> {
        for batch in batches {
            let mut rest = batch.bytes.as_slice();
            for chunk in &batch.chunks {
                let (bytes, after) = rest.split_at(chunk.length as usize);
                rest = after;
                let slot = self.place(bytes, chunk)?;
                let entry = CacheEntry { slot, length: chunk.length, idle: chunk.idle };
                self.log.write_all(&entry.encode())?;
                self.count += 1;
            }
            // Nobody takes the last ones back.
            let _ = back.send(batch);
        }
        self.write()?;
        self.log.flush()?;
        let log = self.log.into_inner().map_err(io::IntoInnerError::into_error)?;
        let entries = Entries::new(log.reopen()?, 0, self.count);
        Ok(Written { room: self.room, entries, _log: log, any: self.any })
    }

    fn place(&mut self, chunk: &[u8], about: &Chunk) -> io::Result<CacheSlot> {
        // Once the room is gone, nothing is compressed to find that out again.
        let (plain, taken) = self.placed;
        let expected = (granules(chunk.len() as u64) * taken).checked_div(plain);
        if self.refused.zip(expected).is_some_and(|(refused, expected)| expected >= refused) {
            return Ok(CacheSlot::NoRoom);
        }
        let form = self.compress(chunk, about.compress)?;
        let stored = if form == FrameForm::Compressed { self.frame.as_slice() } else { chunk };
        let count = granules(stored.len() as u64);
        let limit = self.shares.limit();
        let fits = self.room.used() + count <= self.shares.most(worth::class(about.idle, form));
        let found = if fits { self.room.find(count, limit) } else { None };
        let Some(granule) = found else {
            // Searches never go back, so what failed once fails again.
            if fits {
                self.refused = Some(self.refused.map_or(count, |refused| refused.min(count)));
            }
            return Ok(CacheSlot::NoRoom);
        };
        self.placed = (plain + granules(chunk.len() as u64), taken + count);
        let frame = CacheFrame { granule: granule as u32, stored: stored.len() as u32, form };
        if self.together.len() >= WRITE || self.from + self.together.len() as u64 != frame.at() {
            self.write()?;
            self.from = frame.at();
        }
        let stored = if form == FrameForm::Compressed { self.frame.as_slice() } else { chunk };
        self.together.extend_from_slice(stored);
        self.together.resize(self.together.len().next_multiple_of(GRANULE as usize), 0);
        Ok(CacheSlot::At(frame))
    }

    /// Compresses a chunk into `frame`, if that pays.
    fn compress(&mut self, chunk: &[u8], wanted: bool) -> io::Result<FrameForm> {
        if !wanted {
            return Ok(FrameForm::Raw);
        }
        if chunk.len() >= LEAST {
            self.compressor.compress(chunk, &mut self.frame).map_err(io::Error::other)?;
            if self.frame.len() <= chunk.len() / 16 * WORTH_SIXTEENTHS {
                return Ok(FrameForm::Compressed);
            }
        }
        Ok(FrameForm::Incompressible)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.together.is_empty() {
            return Ok(());
        }
        if !self.any {
            mark_written(&self.data)?;
            self.any = true;
        }
        self.data.write_all_at(&self.together, self.from)?;
        self.together.clear();
        Ok(())
    }
}
