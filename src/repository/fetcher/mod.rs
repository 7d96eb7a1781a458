//! Segments, fetched and decoded ahead of need, in the order in which a restore wants them.
//!
//! A plan lists each segment once, bases first. Some threads read the segments of its steps, others decode them: the
//! first step whose bases are all there, so that one thread decodes a long chain of bases while another begins the next
//! one. A decoded segment is held while a later piece or a later segment still needs it. Beyond [`AHEAD_MAX`] bytes the
//! threads wait until the consumer waits for them, and held segments beyond [`HELD_MAX`] bytes are spilled to an
//! unlinked file.

mod ahead;
mod decode;
mod plan;
mod spill;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Error, Repository, Result};
use ahead::Ahead;
use plan::FetchPlan;
use spill::{Spill, Spilled};

/// Bytes of decoded segments that are held in memory.
const HELD_MAX: usize = 64 << 20;
/// Bytes of decoded segments beyond which no step is begun that the consumer doesn't wait for. The bases of one segment may
/// take half of them: with fewer, one thread climbs while the others wait.
const AHEAD_MAX: usize = 32 << 20;
/// Steps that are looked at for one whose bases are there.
const LOOKED_AT: usize = 64;
/// Buffers that are kept for use again.
const POOL_MAX: usize = 8;

/// A segment: the index's number of its pack, and its number there.
pub(super) type SegmentKey = (u32, u32);

/// A run of chunks by the index's number of its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRun {
    /// The index's number of the pack.
    pub pack: u32,
    /// The segment.
    pub segment: u32,
    /// The first chunk in it.
    pub first: u32,
    /// How many chunks.
    pub count: u32,
}

/// The plain bytes of a piece.
pub struct Fetched {
    segment: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Fetched {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.segment[self.range.clone()]
    }
}

/// Fetches the pieces that it was planned for, each once, in their order.
pub struct Fetcher {
    shared: Arc<FetcherState>,
    threads: Vec<JoinHandle<()>>,
}

struct FetcherState {
    repository: Arc<Repository>,
    plan: FetchPlan,
    ahead: Ahead,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The first step that no thread has taken.
    next: usize,
    /// Steps behind it that a thread has taken.
    taken: BTreeSet<usize>,
    slots: HashMap<SegmentKey, SegmentSlot>,
    /// Bytes in memory, those of steps under way included.
    held: usize,
    /// The step that the consumer waits for.
    wanted: Option<usize>,
    spill: Spill,
    pool: Vec<Vec<u8>>,
    stop: bool,
}

struct SegmentSlot {
    content: SharedBytes,
    /// Pieces and segments that still need it.
    uses: u32,
    step: usize,
}

enum SharedBytes {
    Held(Arc<Vec<u8>>),
    Spilled(Spilled),
    /// Why it can't be had.
    Failed(Error),
}

impl Fetcher {
    /// Plans `pieces` and starts to fetch. The keys must open packs.
    pub fn start(repository: &Arc<Repository>, pieces: impl Iterator<Item = ChunkRun>) -> Result<Self> {
        let plan = FetchPlan::new(repository, pieces)?;
        let ahead = Ahead::new(repository, &plan)?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(FetcherState { repository: repository.clone(), plan, ahead, state, changed });
        let count = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
        let decoders = (0..count).map(|_| shared.clone()).map(|shared| std::thread::spawn(move || shared.work()));
        let readers = (0..ahead::READERS).map(|_| shared.clone());
        let readers = readers.map(|shared| std::thread::spawn(move || shared.ahead.work(&shared.repository)));
        let threads = decoders.chain(readers).collect();
        Ok(Self { threads, shared })
    }

    /// Plain bytes that all steps decode.
    pub fn decodes(&self) -> u64 {
        self.shared.plan.plain_bytes()
    }

    /// The bytes of the next piece. An error is about this piece's segment alone: the next pieces may be whole.
    pub fn take(&self, piece: &ChunkRun) -> Result<Fetched> {
        let directory = self.shared.repository.index().directory(piece.pack)?;
        let range = directory.and_then(|all| plan::plain_range(&all, piece.segment, piece.first, piece.count));
        let range = range.ok_or_else(|| Error::Damaged("a recipe names chunks that its pack lacks".to_owned()))?;
        let segment = self.shared.take((piece.pack, piece.segment))?;
        match range.end <= segment.len() {
            true => Ok(Fetched { segment, range }),
            false => Err(Error::Damaged("a segment is shorter than its directory says".to_owned())),
        }
    }

    /// Gives a piece's buffer back for use again.
    pub fn release(&self, fetched: Fetched) {
        self.shared.recycle(fetched.segment);
    }
}

/// The same error, for the next one who needs the failed segment.
fn again(error: &Error) -> Error {
    match error {
        Error::Damaged(why) => Error::Damaged(why.clone()),
        Error::Remote(error) => Error::Remote(error.clone()),
        Error::Usage(why) => Error::Usage(why.clone()),
        error => Error::Failed(error.to_string()),
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        self.shared.ahead.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr; its step stays without a slot.
            let _ = thread.join();
        }
    }
}

impl FetcherState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut decoder = decode::Decoder::default();
        while let Some((step, buffer)) = self.begin_step() {
            let made = self.decode(step, &mut decoder, buffer);
            self.ahead.done(step);
            let entry = &self.plan.steps[step];
            let mut state = self.lock();
            let content = match made {
                Ok(plain) => SharedBytes::Held(Arc::new(plain)),
                Err(error) => {
                    state.held -= entry.plain;
                    SharedBytes::Failed(error)
                }
            };
            state.slots.insert(entry.key, SegmentSlot { content, uses: entry.uses, step });
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until a step's bases are there and there is room for it, or the consumer needs it anyway.
    fn begin_step(&self) -> Option<(usize, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            if state.stop || state.next >= self.plan.steps.len() {
                return None;
            }
            if let Some(step) = state.first_ready(&self.plan) {
                let room = self.plan.steps[step].plain;
                let needed = state.wanted.is_some_and(|wanted| wanted >= step);
                if needed && state.held + room > HELD_MAX {
                    state.make_free_space(room);
                }
                if needed || state.held + room <= AHEAD_MAX || state.held == 0 {
                    state.mark_taken(step);
                    state.held += room;
                    let buffer = state.pool.pop().unwrap_or_default();
                    return Some((step, buffer));
                }
            }
            state = self.wait(state);
        }
    }

    fn decode(&self, number: usize, decoder: &mut decode::Decoder, buffer: Vec<u8>) -> Result<Vec<u8>> {
        let step = &self.plan.steps[number];
        if let Some(why) = &step.refused {
            return Err(Error::Damaged(why.clone()));
        }
        self.set_prefix(step, &mut decoder.prefix)?;
        let fill = |sealed: &mut Vec<u8>| self.ahead.fill(number, sealed);
        decoder.segment(&self.repository, step.key, &step.pieces, fill, buffer)
    }

    /// Puts the bases of a step's segment into `prefix`.
    fn set_prefix(&self, step: &plan::DecodeStep, prefix: &mut Vec<u8>) -> Result<()> {
        prefix.clear();
        let mut held = HashMap::with_capacity(step.bases.len());
        for &base in &step.bases {
            let key = self.plan.steps[base as usize].key;
            let segment = self.take(key);
            let segment = segment.map_err(|error| match error {
                Error::Damaged(why) => Error::Damaged(format!("a base can't be had: {why}")),
                // An unreachable remote is no damage of its objects.
                error => error,
            })?;
            held.insert(key, segment);
        }
        for base in self.plan.bases(&self.repository, step.key)? {
            let bytes = held.get(&base.segment).and_then(|segment| segment.get(base.range));
            prefix.extend_from_slice(
                bytes.ok_or_else(|| Error::Damaged("a base is shorter than its directory says".to_owned()))?,
            );
        }
        held.into_values().for_each(|segment| self.recycle(segment));
        Ok(())
    }

    /// A decoded segment, for one of its uses. Waits until it is there.
    fn take(&self, key: SegmentKey) -> Result<Arc<Vec<u8>>> {
        let Some(&step) = self.plan.by_key.get(&key) else {
            return Err(Error::Failed("a piece was asked for that wasn't planned".to_owned()));
        };
        let mut state = self.lock();
        while !state.slots.contains_key(&key) {
            if self.threads_ended(&state, step) {
                return Err(Error::Failed("a thread that decodes segments ended early".to_owned()));
            }
            if !state.is_taken(step) {
                state.wanted = Some(step.max(state.wanted.unwrap_or(0)));
                self.changed.notify_all();
            }
            state = self.wait(state);
        }
        if state.wanted.is_some_and(|wanted| wanted <= step) {
            state.wanted = None;
        }
        let held = state.held;
        let taken = state.take(key);
        let freed = state.held < held;
        drop(state);
        if freed {
            self.changed.notify_all();
        }
        taken
    }

    fn threads_ended(&self, state: &State, step: usize) -> bool {
        state.stop && !state.is_taken(step)
    }

    fn recycle(&self, segment: Arc<Vec<u8>>) {
        if let Some(buffer) = Arc::into_inner(segment) {
            let mut state = self.lock();
            if state.pool.len() < POOL_MAX {
                state.pool.push(buffer);
            }
        }
    }
}

impl State {
    fn is_taken(&self, step: usize) -> bool {
        step < self.next || self.taken.contains(&step)
    }

    fn mark_taken(&mut self, step: usize) {
        self.taken.insert(step);
        while self.taken.remove(&self.next) {
            self.next += 1;
        }
    }

    /// The first of the next steps that no thread has taken and whose bases are all there. The first one of all is among
    /// them as soon as no thread is at work on its bases, so somebody always goes on.
    fn first_ready(&self, plan: &FetchPlan) -> Option<usize> {
        let there = |base: &u32| self.slots.contains_key(&plan.steps[*base as usize].key);
        let mut next = (self.next..plan.steps.len()).take(LOOKED_AT);
        next.find(|step| !self.taken.contains(step) && plan.steps[*step].bases.iter().all(there))
    }

    fn take(&mut self, key: SegmentKey) -> Result<Arc<Vec<u8>>> {
        let Some(slot) = self.slots.get_mut(&key) else {
            return Err(Error::Failed("a segment was taken more often than planned".to_owned()));
        };
        slot.uses = slot.uses.saturating_sub(1);
        let last = slot.uses == 0;
        let taken = match &mut slot.content {
            SharedBytes::Held(segment) => Ok(segment.clone()),
            SharedBytes::Spilled(place) => self.spill.read(place).map(Arc::new),
            SharedBytes::Failed(error) => Err(again(error)),
        };
        if last && let Some(SegmentSlot { content: SharedBytes::Held(segment), .. }) = self.slots.remove(&key) {
            self.held = self.held.saturating_sub(segment.len());
        }
        taken
    }

    /// Moves held segments out of memory, those of the earliest steps first: a segment that was needed long ago and is
    /// needed again is needed late.
    fn make_free_space(&mut self, room: usize) {
        let mut held: Vec<(usize, SegmentKey)> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(&slot.content, SharedBytes::Held(segment) if Arc::strong_count(segment) == 1))
            .map(|(key, slot)| (slot.step, *key))
            .collect();
        held.sort_unstable();
        for (_, key) in held {
            if self.held + room <= HELD_MAX / 2 {
                break;
            }
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            // Where it can't be written it stays in memory: slower for the machine, and right.
            if let SharedBytes::Held(segment) = &slot.content
                && let Ok(place) = self.spill.write(segment)
            {
                self.held = self.held.saturating_sub(segment.len());
                slot.content = SharedBytes::Spilled(place);
            }
        }
    }
}
