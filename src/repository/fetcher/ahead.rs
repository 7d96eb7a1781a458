//! Sealed segments, read from the remote before they are decoded.
//!
//! Adjacent segments that are needed soon after each other are one read. Several reads are in flight, so that a distant
//! remote is used as well as a near one: each answer takes a round trip, and the decoding doesn't wait for it. Beyond
//! [`HELD_MAX`] bytes nothing more is read, except for a waiting decoder.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::plan::FetchPlan;
use crate::format::layout::pack_name;
use crate::id::PackId;
use crate::remote::{self, ErrorKind};
use crate::repository::{Repository, Result};

/// Bytes that are read ahead.
const HELD_MAX: usize = 24 << 20;
/// Bytes of one read at most, unless one segment is longer.
const READ_MAX: u64 = 2 << 20;
/// The unused bytes between two segments that are read with them.
const GAP_MAX: u64 = 32 << 10;
/// How many steps later a segment may be needed, and still be read with one before it.
const SOON: usize = 32;
/// Reads that are under way at once.
pub(super) const READERS: usize = 8;

/// One read.
struct ReadAhead {
    pack: PackId,
    offset: u64,
    length: u64,
    last_step: usize,
}

/// Where a step's bytes are.
#[derive(Clone, Copy)]
struct StepSource {
    read: usize,
    offset: u64,
    length: usize,
}

/// All reads of a plan, in order.
pub(super) struct Ahead {
    reads: Vec<ReadAhead>,
    /// By step; None where the plan refuses to decode it.
    parts: Vec<Option<StepSource>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The next read that no thread has begun.
    next: usize,
    /// Bytes that were read or are being read.
    held: usize,
    read: HashMap<usize, std::result::Result<Arc<Vec<u8>>, remote::Error>>,
    /// Steps of each read that are still to be decoded.
    left: Vec<u32>,
    /// The last read that a decoder waits for.
    wanted: Option<usize>,
    stop: bool,
}

impl Ahead {
    pub fn new(repository: &Repository, plan: &FetchPlan) -> Result<Self> {
        let mut ahead = Self { reads: Vec::new(), parts: Vec::new(), state: Mutex::default(), changed: Condvar::new() };
        let mut left: Vec<u32> = Vec::new();
        let mut packs = HashMap::new();
        let mut recent: HashMap<u32, usize> = HashMap::new();
        for (step, planned) in plan.steps.iter().enumerate() {
            let (pack, segment) = planned.key;
            if planned.refused.is_some() {
                ahead.parts.push(None);
                continue;
            }
            let known = match packs.get(&pack) {
                Some(known) => known,
                None => packs.entry(pack).or_insert(Layout::of(repository, pack)?),
            };
            let Some((id, offset, length)) = known.as_ref().and_then(|layout| layout.segment(segment)) else {
                ahead.parts.push(None);
                continue;
            };
            let joined = recent.get(&pack).copied().filter(|&read| ahead.reads[read].takes(step, offset, length));
            let read = joined.unwrap_or_else(|| {
                ahead.reads.push(ReadAhead { pack: id, offset, length: 0, last_step: step });
                left.push(0);
                ahead.reads.len() - 1
            });
            recent.insert(pack, read);
            let joined = &mut ahead.reads[read];
            joined.length = offset + length - joined.offset;
            joined.last_step = step;
            left[read] += 1;
            ahead.parts.push(Some(StepSource { read, offset: offset - joined.offset, length: length as usize }));
        }
        ahead.lock().left = left;
        Ok(ahead)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, on one of several threads, until there is nothing more to read.
    pub fn work(&self, repository: &Repository) {
        while let Some(number) = self.begin() {
            let ReadAhead { pack, offset, length, .. } = self.reads[number];
            let mut bytes = vec![0; length as usize];
            let read = repository.remote().get_range(&pack_name(&pack), offset, &mut bytes);
            let mut state = self.lock();
            match state.left[number] {
                0 => state.held -= length as usize,
                _ => drop(state.read.insert(number, read.map(|()| Arc::new(bytes)))),
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until there is room for the next read, or a decoder needs it anyway.
    fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let next = state.next;
            let length = self.reads.get(next)?.length as usize;
            if state.stop {
                return None;
            }
            let needed = state.wanted.is_some_and(|wanted| wanted >= next);
            if needed || state.held == 0 || state.held + length <= HELD_MAX {
                state.next += 1;
                state.held += length;
                return Some(next);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fills `sealed` with a step's bytes, and waits for them. False where they have to be read by themselves: the read that
    /// they were a part of failed, which may be another part's fault.
    pub fn fill(&self, step: usize, sealed: &mut Vec<u8>) -> remote::Result<bool> {
        let Some(part) = self.parts[step] else { return Ok(false) };
        let mut state = self.lock();
        let bytes = loop {
            match state.read.get(&part.read) {
                Some(Ok(bytes)) => break Arc::clone(bytes),
                Some(Err(error)) if error.kind.is_away() => return Err(error.clone()),
                Some(Err(_)) => return Ok(false),
                None if state.stop => {
                    return Err(remote::Error::new(
                        ErrorKind::Other,
                        "reading",
                        "ahead",
                        "nobody waits for it any more",
                    ));
                }
                None => {
                    state.wanted = Some(part.read.max(state.wanted.unwrap_or(0)));
                    self.changed.notify_all();
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(state);
        sealed.clear();
        let start = part.offset as usize;
        sealed.extend_from_slice(&bytes[start..start + part.length]);
        Ok(true)
    }

    /// A step's bytes aren't needed any more.
    pub fn done(&self, step: usize) {
        let Some(part) = self.parts[step] else { return };
        let mut state = self.lock();
        state.left[part.read] -= 1;
        if state.left[part.read] == 0 && state.read.remove(&part.read).is_some() {
            state.held -= self.reads[part.read].length as usize;
            self.changed.notify_all();
        }
    }

    /// Ends all threads.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

impl ReadAhead {
    /// Whether a segment of its pack is read with it.
    fn takes(&self, step: usize, offset: u64, length: u64) -> bool {
        let end = self.offset + self.length;
        let near = (end..=end + GAP_MAX).contains(&offset);
        near && offset + length - self.offset <= READ_MAX && step - self.last_step <= SOON
    }
}

/// Where the segments of a pack lie.
struct Layout {
    id: PackId,
    /// Where each begins, and behind them where the last one ends.
    offsets: Vec<u64>,
}

impl Layout {
    fn of(repository: &Repository, pack: u32) -> Result<Option<Self>> {
        let index = repository.index();
        let (Some(row), Some(directory)) = (index.pack_by_number(pack)?, index.directory(pack)?) else {
            return Ok(None);
        };
        let mut offsets = Vec::with_capacity(directory.segments.len() + 1);
        let mut at = row.header_length;
        offsets.push(at);
        for segment in &directory.segments {
            at = at.saturating_add(u64::from(segment.sealed));
            offsets.push(at);
        }
        Ok(Some(Self { id: row.id, offsets }))
    }

    /// The pack, and where a segment lies in it.
    fn segment(&self, segment: u32) -> Option<(PackId, u64, u64)> {
        let start = *self.offsets.get(segment as usize)?;
        let end = *self.offsets.get(segment as usize + 1)?;
        Some((self.id, start, end - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_and_needed_soon_is_one_read() {
        let read = ReadAhead { pack: PackId::from_bytes([0; 32]), offset: 1000, length: 500, last_step: 10 };
        assert!(read.takes(11, 1500, 100) && read.takes(10 + SOON, 1500 + GAP_MAX, 100));
        assert!(!read.takes(11, 1400, 100), "it goes forward");
        assert!(!read.takes(11, 1501 + GAP_MAX, 100) && !read.takes(11 + SOON, 1500, 100));
        assert!(read.takes(11, 1500, READ_MAX - 500) && !read.takes(11, 1500, READ_MAX - 499));
    }
}
