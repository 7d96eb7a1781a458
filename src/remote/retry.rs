//! A remote that tries again where another can't be reached.
//!
//! Only an error that [`ErrorKind::is_away`] is tried again; every other error is an answer. A repeated request must
//! have the effect of a single one:
//!
//! - Reads, listings, flushes and making folders are the same the second time.
//! - A delete that finds nothing the second time is taken for done: its first answer may have been lost.
//! - An upload keeps its bytes, up to [`Patience::keep`], and sends them again into a new part when it breaks. A larger
//!   one fails with the error that broke it.
//! - A finish whose answer was lost is resolved by looking: an object of the right size under the final name was flushed
//!   before it got that name, so it is done. Otherwise the kept bytes are sent again.

use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::progress::Interrupt;

use super::part::random;
use super::wait::Wait;
use super::{Clocks, Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload, lock};

/// How long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first failure of a call until the last attempt. Zero: nothing is tried again.
    pub total: Duration,
    /// The pause after the first failure. Each later one is twice as long; all are shortened at random by up to a half.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The most bytes that are kept in memory for each upload under way.
    pub keep: usize,
}

impl Default for Patience {
    /// A quarter of an hour; pauses from half a second to a minute; a whole pack is kept.
    fn default() -> Self {
        Self {
            total: Duration::from_secs(15 * 60),
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            keep: 40 << 20,
        }
    }
}

/// Passes calls on to another remote, and tries again where it can't be reached.
pub struct Retry(Arc<RetryState>);

/// How calls are tried again, whatever they are.
pub struct Tries {
    patience: Patience,
    wait: Arc<dyn Wait>,
    interrupt: Interrupt,
    note: Box<dyn Fn(&str) + Send + Sync>,
}

impl Tries {
    /// `note` gets a sentence for each failure that is tried again; a set `interrupt` ends the waiting with the error
    /// that it waited for.
    pub fn new(
        patience: Patience,
        wait: Arc<dyn Wait>,
        interrupt: Interrupt,
        note: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self { patience, wait, interrupt, note: Box::new(note) }
    }

    /// Calls until there is an answer, or the time is up.
    pub fn answer<T>(&self, call: impl FnMut() -> Result<T>) -> Result<T> {
        Pauses::new(self).answer(call)
    }
}

struct RetryState {
    inner: Arc<dyn Remote>,
    tries: Tries,
    /// Buffers of uploads that have ended, for the next ones.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Retry {
    /// Tries calls on `inner` again.
    pub fn new(inner: Arc<dyn Remote>, tries: Tries) -> Self {
        Self(Arc::new(RetryState { inner, tries, spare: Mutex::default() }))
    }
}

/// The pauses of one call.
struct Pauses<'a> {
    tries: &'a Tries,
    /// The end of the attempts; known after the first failure.
    until: Option<Duration>,
    next: Duration,
}

impl<'a> Pauses<'a> {
    fn new(tries: &'a Tries) -> Self {
        Self { tries, until: None, next: tries.patience.first }
    }

    /// Whether a call failed before.
    fn again(&self) -> bool {
        self.until.is_some()
    }

    /// Waits until it is time to try again, and gives the error back. Fails with it where waiting is pointless or takes
    /// too long.
    fn wait_after(&mut self, error: Error) -> Result<Error> {
        let Tries { patience, wait, interrupt, note } = self.tries;
        if !error.kind.is_away() || interrupt.is_set() {
            return Err(error);
        }
        let now = wait.now();
        // The time counts from the first failure, not from the call: a long upload that broke near its end is tried
        // again, too.
        let until = *self.until.get_or_insert(now.saturating_add(patience.total));
        let pause = shorten(self.next.min(patience.longest));
        if now.saturating_add(pause) >= until {
            return Err(mark_lost(error, patience.total));
        }
        note(&format!("{error}; trying again in {} ({} left)", ShownDuration(pause), ShownDuration(until - now)));
        self.next = self.next.saturating_mul(2);
        self.sleep(pause, error)
    }

    /// Sleeps in short naps, so that an interrupt is seen soon.
    fn sleep(&self, pause: Duration, error: Error) -> Result<Error> {
        const NAP: Duration = Duration::from_millis(200);
        let mut left = pause;
        while !left.is_zero() {
            if self.tries.interrupt.is_set() {
                return Err(error);
            }
            let nap = left.min(NAP);
            self.tries.wait.sleep(nap);
            left -= nap;
        }
        Ok(error)
    }

    /// Calls until there is an answer.
    fn answer<T>(&mut self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match call() {
                Err(error) if error.kind.is_away() => drop(self.wait_after(error)?),
                answer => return answer,
            }
        }
    }
}

fn mark_lost(error: Error, total: Duration) -> Error {
    match error.hint {
        None if !total.is_zero() => {
            error.hint(format!("it was tried again for {}; look whether the remote is up", ShownDuration(total)))
        }
        _ => error,
    }
}

/// Between a half and the whole: clients that lost one server shouldn't all come back at once.
fn shorten(pause: Duration) -> Duration {
    let half = pause / 2;
    let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    half + Duration::from_nanos(random() % span.saturating_add(1))
}

/// A duration for people.
struct ShownDuration(Duration);

impl Display for ShownDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_secs_f64() {
            seconds if seconds < 10.0 => write!(f, "{seconds:.1} s"),
            seconds if seconds < 120.0 => write!(f, "{seconds:.0} s"),
            seconds => write!(f, "{:.0} min", seconds / 60.0),
        }
    }
}

impl RetryState {
    fn pauses(&self) -> Pauses<'_> {
        Pauses::new(&self.tries)
    }

    /// A new upload that has `bytes` already.
    fn send(&self, bytes: &[u8]) -> Result<Box<dyn Upload>> {
        const PIECE: usize = 1 << 20;
        let mut upload = self.inner.begin()?;
        bytes.chunks(PIECE).try_for_each(|piece| upload.append(piece))?;
        Ok(upload)
    }
}

impl Remote for Retry {
    fn place(&self) -> String {
        self.0.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.0.pauses().answer(|| self.0.inner.create_folders())
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        let inner = self.0.pauses().answer(|| self.0.inner.begin())?;
        let kept = lock(&self.0.spare).pop().unwrap_or_default();
        Ok(Box::new(RetryUpload { shared: Arc::clone(&self.0), inner: Some(inner), kept, written: 0, whole: true }))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.0.pauses().answer(|| self.0.inner.get(name, limit))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.pauses().answer(|| self.0.inner.get_range(name, offset, buffer))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.0.pauses().answer(|| self.0.inner.stat(name))
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.0.pauses().answer(|| self.0.inner.list(folder))
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.0.pauses().answer(|| self.0.inner.flush(folder))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let mut pauses = self.0.pauses();
        match pauses.answer(|| self.0.inner.delete(name)) {
            Err(error) if error.kind == ErrorKind::NotFound && pauses.again() => Ok(()),
            answer => answer,
        }
    }

    fn can_delete(&self) -> Result<bool> {
        self.0.pauses().answer(|| self.0.inner.can_delete())
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.0.pauses().answer(|| self.0.inner.free_space())
    }

    fn calls_at_once(&self) -> usize {
        self.0.inner.calls_at_once()
    }

    fn clocks(&self) -> Option<Clocks> {
        self.0.inner.clocks()
    }
}

struct RetryUpload {
    shared: Arc<RetryState>,
    /// None after an error that was not overcome.
    inner: Option<Box<dyn Upload>>,
    /// All bytes so far, while they are few enough.
    kept: Vec<u8>,
    written: u64,
    /// Whether `kept` has all bytes.
    whole: bool,
}

impl RetryUpload {
    fn keep(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        self.whole &= self.kept.len() + bytes.len() <= self.shared.tries.patience.keep;
        match self.whole {
            true => self.kept.extend_from_slice(bytes),
            false => self.kept = Vec::new(),
        }
    }

    fn dead(&self) -> Error {
        Error::new(ErrorKind::Other, "writing to", self.shared.inner.place(), "an earlier write failed")
    }

    /// Looks whether an upload whose finish wasn't answered has got its name. An object of another size under that name
    /// is for the next finish to refuse.
    fn arrived(&self, pauses: &mut Pauses<'_>, name: &ObjectName) -> Result<bool> {
        Ok(pauses.answer(|| self.shared.inner.stat(name))? == Some(self.written))
    }
}

impl Upload for RetryUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(mut inner) = self.inner.take() else { return Err(self.dead()) };
        self.keep(bytes);
        let error = match inner.append(bytes) {
            Ok(()) => {
                self.inner = Some(inner);
                return Ok(());
            }
            Err(error) if !self.whole => return Err(error),
            Err(error) => error,
        };
        drop(inner);
        let mut pauses = self.shared.pauses();
        pauses.wait_after(error)?;
        self.inner = Some(pauses.answer(|| self.shared.send(&self.kept))?);
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        let mut upload = self.inner.take().ok_or_else(|| self.dead())?;
        let shared = Arc::clone(&self.shared);
        let mut pauses = shared.pauses();
        loop {
            let error = match upload.finish(name) {
                Err(error) if error.kind.is_away() => error,
                answer => return answer,
            };
            let error = pauses.wait_after(error)?;
            if self.arrived(&mut pauses, name)? {
                return Ok(());
            }
            if !self.whole {
                return Err(error.hint("it is too large to be kept and sent again"));
            }
            upload = pauses.answer(|| shared.send(&self.kept))?;
        }
    }
}

impl Drop for RetryUpload {
    fn drop(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let mut spare = lock(&self.shared.spare);
        // As many as there were uploads at once, and no more than a few.
        if kept.capacity() > 0 && spare.len() < 4 {
            spare.push(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::{Fault, Faulty};
    use super::super::memory::MemoryRemote;
    use super::super::wait::SteppedTime;
    use super::*;

    const UNREACHABLE: Fault = Fault::Refuse(ErrorKind::Unreachable);

    fn name(text: &str) -> ObjectName {
        ObjectName::new(Folder::Packs, text).unwrap()
    }

    struct Line {
        memory: MemoryRemote,
        faulty: Arc<Faulty>,
        time: Arc<SteppedTime>,
        notes: Arc<Mutex<Vec<String>>>,
        interrupt: Interrupt,
        retry: Retry,
    }

    fn line(keep: usize) -> Line {
        let memory = MemoryRemote::with_folders();
        let faulty = Arc::new(Faulty::new(Arc::new(memory.clone())));
        let (time, interrupt) = (Arc::new(SteppedTime::default()), Interrupt::default());
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&notes);
        let note = move |text: &str| lock(&written).push(text.to_owned());
        let patience = Patience { keep, ..Patience::default() };
        let retry = Retry::new(faulty.clone(), Tries::new(patience, time.clone(), interrupt.clone(), note));
        Line { memory, faulty, time, notes, interrupt, retry }
    }

    fn store(remote: &dyn Remote) -> Result<()> {
        let mut upload = remote.begin()?;
        upload.append(b"abcd")?;
        upload.append(b"efgh")?;
        upload.finish(&name("p"))
    }

    fn packs(line: &Line) -> Vec<(String, Vec<u8>)> {
        line.memory.content(Folder::Packs)
    }

    #[test]
    fn what_fails_twice_and_then_works_works_and_is_noted() {
        let line = line(100);
        line.faulty.fail_at(1, UNREACHABLE);
        line.faulty.fail_at(2, UNREACHABLE);
        assert_eq!(line.retry.stat(&name("p")).unwrap(), None);
        assert_eq!(line.faulty.operations(), 3);
        let notes = lock(&line.notes);
        assert_eq!(notes.len(), 2);
        assert!(
            notes[0].starts_with("looking at memory/packs/p failed: ") && notes[0].contains("trying again in"),
            "{notes:?}"
        );
        let slept = line.time.now();
        assert!(slept >= Duration::from_millis(750) && slept <= Duration::from_millis(1500), "{slept:?}");
    }

    #[test]
    fn other_errors_are_answers() {
        let line = line(100);
        line.faulty.fail_at(1, Fault::Refuse(ErrorKind::Refused));
        assert_eq!(line.retry.stat(&name("p")).unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(line.retry.get(&name("p"), 1).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!((line.faulty.operations(), line.time.now()), (2, Duration::ZERO));
    }

    #[test]
    fn a_remote_that_stays_away_is_given_up_in_time() {
        let line = line(100);
        line.faulty.die_at(1, UNREACHABLE);
        let error = line.retry.list(Folder::Packs).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.hint.as_ref().unwrap().contains("15 min"), "{error}");
        let total = Patience::default().total;
        let slept = line.time.now();
        assert!(slept < total && slept > total - Duration::from_secs(60), "{slept:?}");
        let calls = line.faulty.operations();
        assert!((20..60).contains(&calls), "pauses grow to a minute and no further: {calls} calls");
    }

    #[test]
    fn an_interrupt_ends_the_waiting() {
        let line = line(100);
        line.interrupt.set();
        line.faulty.die_at(1, UNREACHABLE);
        assert_eq!(line.retry.flush(Folder::Packs).unwrap_err().kind, ErrorKind::Unreachable);
        assert_eq!((line.faulty.operations(), line.time.now()), (1, Duration::ZERO));
    }

    #[test]
    fn a_delete_whose_answer_was_lost_is_done() {
        let line = line(100);
        line.memory.put(Folder::Packs, "p", "x");
        line.faulty.fail_at(1, Fault::LoseAnswer);
        line.retry.delete(&name("p")).unwrap();
        assert_eq!(line.retry.delete(&name("p")).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn an_upload_gets_there_whichever_operation_fails_and_however() {
        for fault in [UNREACHABLE, Fault::LoseAnswer, Fault::Tear] {
            for first in 1..=4 {
                for second in first + 1..=10 {
                    let line = line(100);
                    line.faulty.fail_at(first, fault);
                    line.faulty.fail_at(second, fault);
                    store(&line.retry).unwrap();
                    assert_eq!(packs(&line), [("p".to_owned(), b"abcdefgh".to_vec())], "{fault:?} {first} {second}");
                }
            }
        }
    }

    #[test]
    fn a_finish_that_was_done_is_not_done_again() {
        let line = line(100);
        line.faulty.fail_at(4, Fault::LoseAnswer);
        store(&line.retry).unwrap();
        assert_eq!(line.faulty.operations(), 5, "begin, two appends, finish, and a look");
    }

    #[test]
    fn an_upload_too_large_to_keep_fails_when_it_breaks_and_only_then() {
        for n in 2..=4 {
            let line = line(3);
            line.faulty.fail_at(n, UNREACHABLE);
            assert_eq!(store(&line.retry).unwrap_err().kind, ErrorKind::Unreachable, "operation {n}");
            assert!(packs(&line).is_empty());
        }
        let line = line(3);
        line.faulty.fail_at(4, Fault::LoseAnswer);
        store(&line.retry).expect("it is there, only the answer was lost");
        store(&line.retry).unwrap();
    }

    #[test]
    fn an_upload_that_failed_for_good_is_dead() {
        let line = line(100);
        line.faulty.fail_at(2, Fault::Refuse(ErrorKind::NoSpace));
        let mut upload = line.retry.begin().unwrap();
        assert_eq!(upload.append(b"x").unwrap_err().kind, ErrorKind::NoSpace);
        upload.append(b"y").unwrap_err();
        upload.finish(&name("p")).unwrap_err();
        assert!(packs(&line).is_empty());
    }

    #[test]
    fn buffers_are_used_again_and_begin_empty() {
        let line = line(100);
        store(&line.retry).unwrap();
        assert_eq!(lock(&line.retry.0.spare).len(), 1);
        line.memory.lose(&name("p"));
        line.faulty.fail_at(8, Fault::Tear);
        store(&line.retry).unwrap();
        assert_eq!(packs(&line), [("p".to_owned(), b"abcdefgh".to_vec())]);
        assert_eq!(lock(&line.retry.0.spare).len(), 1);
    }
}
