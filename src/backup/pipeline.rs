//! The pipeline from full segments to packs: compression on several threads, then packing in order on one, then placing on another.
//!
//! Every queue is short, so memory is bounded by their lengths.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::bases::{BaseCache, Clones};
use super::pending::PendingSegment;
use crate::error::{Error, Result};
use crate::format::pack::BaseRun;
use crate::format::recipe::PackRef;
use crate::id::{GenerationId, PackId};
use crate::index::ChunkIndex;
use crate::remote::spool::Spool;
use crate::repository::{self, Finisher, PackBuilder, Repository, SegmentParts};
use crate::segment::{Compressor, Decompressor, compress_based, compress_near};
use crate::time::Timestamp;
use crate::warning::Warning;

/// Stands for the index's number of a pack in runs of chunks that are new: the run's segment is an ordinal of this run.
pub(super) const NEW: u32 = u32::MAX;

/// zstd's level for based segments that are no small deltas.
const HARDER_LEVEL: i32 = 9;

/// Bytes at which a pack is full.
const PACK: u64 = 32 << 20;

struct CompressionJob {
    segment: PendingSegment,
    frame: Vec<u8>,
    done: SyncSender<repository::Result<Compressed>>,
}

struct Compressed {
    segment: PendingSegment,
    frame: Vec<u8>,
}

/// A pack that the index has a number for.
pub(super) struct Placed {
    pub pack: PackRef,
    pub number: u32,
    /// Bytes of the object.
    pub size: u64,
    /// The ordinal of its first segment in this run, and how many it has.
    pub segments: (u32, u32),
}

/// Counts of stored bytes.
pub(super) struct Stored {
    /// The packs that have a number.
    pub placed: Vec<Placed>,
    /// The last pack, still open, and the ordinal of its first segment.
    pub open: Option<(PackBuilder, u32)>,
    /// The known chunks, to be saved after the commit.
    pub known: Option<ChunkIndex>,
    /// The base cache, to be committed after the snapshot.
    pub cache: Option<BaseCache>,
    /// The copies of large files, to be committed after the snapshot.
    pub clones: Option<Clones>,
    /// Bytes of new chunks.
    pub new: u64,
    /// Warnings of the run.
    pub warnings: Vec<Warning>,
}

type Waiting = Receiver<repository::Result<Compressed>>;
type Packed = (Option<(PackBuilder, u32)>, Finisher);

/// The threads between the chunker and the remote.
pub(super) struct Pipeline {
    jobs: Option<SyncSender<CompressionJob>>,
    waiting: Option<SyncSender<Waiting>>,
    placed: Receiver<Placed>,
    settled: Vec<Placed>,
    buffers: Receiver<Compressed>,
    spare_frames: VecDeque<Vec<u8>>,
    packer: Option<JoinHandle<repository::Result<Packed>>>,
    compressors: Vec<JoinHandle<()>>,
    ordinal: u32,
}

impl Pipeline {
    pub fn start(
        repository: Arc<Repository>,
        set: &str,
        generation: GenerationId,
        level: i32,
        spool: Option<Arc<Spool>>,
        now: Timestamp,
    ) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 16);
        let (jobs, queue) = sync_channel::<CompressionJob>(threads);
        let (waiting, in_order) = sync_channel::<Waiting>(2 * threads);
        let (placed_in, placed) = sync_channel(1024);
        let (buffers_in, buffers) = sync_channel(4 * threads);
        let queue = Arc::new(Mutex::new(queue));
        let compressors = (0..threads).map(|_| {
            let (queue, repository) = (queue.clone(), repository.clone());
            std::thread::spawn(move || compress(&queue, &repository, level))
        });
        let compressors = compressors.collect();
        let set = set.to_owned();
        let packing = Packing { repository, set, generation, spool, now, placed: placed_in, buffers: buffers_in };
        let packer = std::thread::spawn(move || packing.run(&in_order));
        Ok(Self {
            jobs: Some(jobs),
            waiting: Some(waiting),
            placed,
            settled: Vec::new(),
            buffers,
            spare_frames: VecDeque::new(),
            packer: Some(packer),
            compressors,
            ordinal: 0,
        })
    }

    /// The ordinal of the segment that is being filled.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Whether this run made the pack with that number.
    pub fn is_own(&self, number: u32) -> bool {
        self.settled.iter().any(|placed| placed.number == number)
    }

    /// An empty segment, with buffers that were used before where there are some.
    pub fn buffers(&mut self) -> PendingSegment {
        match self.buffers.try_recv() {
            Ok(used) => {
                self.spare_frames.push_back(used.frame);
                used.segment.clear()
            }
            Err(_) => PendingSegment::default(),
        }
    }

    /// Sends a segment on its way. Waits while the queues are full.
    pub fn push(&mut self, segment: PendingSegment) -> Result<()> {
        let (done, result) = sync_channel(1);
        let frame = self.spare_frames.pop_front().unwrap_or_default();
        let ended = || Error::Failed("a thread of the pipeline ended early".to_owned());
        let queued = self.waiting.as_ref().is_some_and(|waiting| waiting.send(result).is_ok());
        let sent =
            queued && self.jobs.as_ref().is_some_and(|jobs| jobs.send(CompressionJob { segment, frame, done }).is_ok());
        if !sent {
            return Err(self.end_packer().err().unwrap_or_else(ended));
        }
        self.ordinal += 1;
        Ok(())
    }

    /// A pack that got its number since the last call.
    pub fn placed(&mut self) -> Option<Placed> {
        match self.placed.try_recv() {
            Ok(placed) => {
                let copy = Placed { pack: placed.pack, ..placed };
                self.settled.push(placed);
                Some(copy)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    fn end_packer(&mut self) -> Result<Packed> {
        (self.jobs, self.waiting) = (None, None);
        let ended = || Error::Failed("the thread that fills packs ended early".to_owned());
        let packer = self.packer.take().ok_or_else(ended)?;
        let packed = packer.join().map_err(|_| ended())?;
        self.compressors.drain(..).try_for_each(|thread| thread.join().map_err(|_| ended()))?;
        Ok(packed?)
    }

    /// Waits until all segments are packed and all packs but the last are in place.
    pub fn finish(mut self) -> Result<Stored> {
        let (open, finisher) = self.end_packer()?;
        while self.placed().is_some() {}
        finisher.end()?;
        let placed = std::mem::take(&mut self.settled);
        Ok(Stored { placed, open, known: None, cache: None, clones: None, new: 0, warnings: Vec::new() })
    }
}

impl Drop for Pipeline {
    /// A run that failed ends its threads before it lets the next one in.
    fn drop(&mut self) {
        // The run's own error is more specific than those of its threads.
        let _ = self.end_packer();
    }
}

/// Compresses and checks segments on one thread, with buffers of its own.
struct CompressionWorker {
    compressor: Compressor,
    /// The level for segments that resemble their base only partly.
    harder: i32,
    decompressor: Decompressor,
    check: Vec<u8>,
    other: Vec<u8>,
}

impl CompressionWorker {
    fn new(level: i32) -> repository::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(level)?,
            harder: level.max(HARDER_LEVEL),
            decompressor: Decompressor::new(),
            check: Vec::new(),
            other: Vec::new(),
        })
    }

    /// Compresses a segment, against its bases where they pay. Each frame is decoded again, and its chunks' ids checked,
    /// before it goes on: a flipped bit in memory costs an error here, not a restore.
    fn press(
        &mut self,
        repository: &Repository,
        segment: &mut PendingSegment,
        frame: &mut Vec<u8>,
    ) -> repository::Result<()> {
        if segment.bases.is_empty() {
            self.compressor.compress(&segment.plain, frame)?;
        } else {
            compress_near(&segment.prefix, &segment.plain, frame)?;
            // A delta this small needs no comparison.
            if frame.len() > segment.plain.len() / 16 {
                self.compressor.compress(&segment.plain, &mut self.other)?;
                if frame.len() > self.other.len() / 5 * 4 {
                    std::mem::swap(frame, &mut self.other);
                    segment.drop_bases();
                } else {
                    compress_based(self.harder, &segment.prefix, &segment.plain, frame)?;
                }
            }
        }
        self.decompressor.decompress(frame, &segment.prefix, segment.plain.len(), &mut self.check)?;
        check_ids(repository, segment, &self.check)
    }
}

/// Takes jobs until there are none.
fn compress(queue: &Mutex<Receiver<CompressionJob>>, repository: &Repository, level: i32) {
    let mut press = CompressionWorker::new(level);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(CompressionJob { mut segment, mut frame, done }) = job else { return };
        let result = match &mut press {
            Ok(press) => press.press(repository, &mut segment, &mut frame),
            Err(error) => Err(repository::Error::Failed(error.to_string())),
        };
        // Nobody waits any more where the run has failed.
        let _ = done.send(result.map(|()| Compressed { segment, frame }));
    }
}

fn check_ids(repository: &Repository, segment: &PendingSegment, plain: &[u8]) -> repository::Result<()> {
    let mut rest = plain;
    for (id, &length) in segment.ids.iter().zip(&segment.lengths) {
        let (chunk, after) = rest.split_at(length as usize);
        if repository.keys().chunk_ids.id(chunk) != *id {
            return Err(repository::Error::Failed(
                "a chunk changed in memory while it was compressed, so nothing was stored; check this machine's memory"
                    .to_owned(),
            ));
        }
        rest = after;
    }
    Ok(())
}

/// The thread that fills packs.
struct Packing {
    repository: Arc<Repository>,
    set: String,
    generation: GenerationId,
    spool: Option<Arc<Spool>>,
    now: Timestamp,
    placed: SyncSender<Placed>,
    buffers: SyncSender<Compressed>,
}

impl Packing {
    fn run(self, in_order: &Receiver<Waiting>) -> repository::Result<Packed> {
        let finisher = Finisher::start(&self.repository, self.spool.clone());
        let mut open: Option<(PackBuilder, u32)> = None;
        for (ordinal, waiting) in (0u32..).zip(in_order) {
            let ended = |_| repository::Error::Failed("a thread that compresses ended early".to_owned());
            let Compressed { mut segment, frame } = waiting.recv().map_err(ended)??;
            // A full pack is closed only when the next segment comes: the run's last pack carries the recipe's copy.
            if let Some((pack, first)) = open.take_if(|(pack, _)| pack.size() >= PACK)
                && !self.close(pack, first, &finisher)?
            {
                finisher.end()?;
                return Err(repository::Error::Failed("packs could not be placed".to_owned()));
            }
            let (pack, _) = match &mut open {
                Some(open) => open,
                none => none.insert((self.begin()?, ordinal)),
            };
            let parts = SegmentParts {
                frame,
                ids: std::mem::take(&mut segment.ids),
                lengths: std::mem::take(&mut segment.lengths),
                bases: self.name_bases(&segment)?,
                depth: segment.depth,
            };
            let (_, frame) = pack.push(parts)?;
            // Where nobody takes the buffers back they are dropped.
            let _ = self.buffers.try_send(Compressed { segment, frame });
        }
        Ok((open, finisher))
    }

    fn begin(&self) -> repository::Result<PackBuilder> {
        let upload = match &self.spool {
            Some(spool) => spool.begin()?,
            None => self.repository.remote().begin()?,
        };
        PackBuilder::begin(&self.repository, upload, &self.set, self.generation)
    }

    /// The bases of a segment by the ids of their packs.
    fn name_bases(&self, segment: &PendingSegment) -> repository::Result<Vec<(PackId, BaseRun)>> {
        let index = self.repository.index();
        let name = |(number, run): &(u32, BaseRun)| {
            let id = index.pack_id(*number)?;
            let id = id.ok_or_else(|| repository::Error::Failed("the index lost a pack".to_owned()))?;
            Ok((id, *run))
        };
        segment.bases.iter().map(name).collect()
    }

    fn close(&self, pack: PackBuilder, first: u32, finisher: &Finisher) -> repository::Result<bool> {
        let segments = (first, pack.segments());
        let closed = pack.close(&self.repository, None)?;
        let number = closed.enter(&self.repository, self.now)?;
        let placed = Placed { pack: closed.pack, number, size: closed.size, segments };
        let told = self.placed.send(placed).is_ok();
        Ok(finisher.finish(closed) && told)
    }
}
