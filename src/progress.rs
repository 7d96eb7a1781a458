//! Progress reports of long work, and its interruption.
//!
//! Operations only count and name; the edge draws. Tests assert the same counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::warning::Warning;

/// The counted quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Streams that were handled whole.
    Streams,
    /// Bytes of content that were handled, read or not.
    Bytes,
    /// Bytes that were really read from the source.
    BytesRead,
    /// Bytes of chunks that were not there before.
    BytesNew,
    /// Bytes that went to the remote.
    BytesStored,
    /// Bytes that came from the remote.
    BytesFetched,
    /// Packs that were finished or checked.
    Packs,
}

impl Counter {
    const COUNT: usize = 7;
}

/// Takes the events of long work. Calls are cheap and come from several threads.
pub trait Progress: Send + Sync {
    /// A phase begins, `"backing up"`. Bytes and streams to do, where they are known.
    fn phase(&self, name: &str, bytes: Option<u64>, streams: Option<u64>);
    /// `n` more of `counter`.
    fn add(&self, counter: Counter, n: u64);
    /// Something that a person should read now and that isn't a failure: "waiting for …".
    fn note(&self, message: &str);
    /// Something that went wrong without ending the work. It is also in the operation's result.
    fn warn(&self, warning: &Warning);
}

/// Set when the work should end soon (Ctrl-C, a signal). Clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the work to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the work should end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps counts and reports nothing: the library's default, and the tests' reporter.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Counter::COUNT]);

impl Counts {
    /// How much of `counter` was reported so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}

impl Progress for Counts {
    fn phase(&self, _: &str, _: Option<u64>, _: Option<u64>) {}

    fn add(&self, counter: Counter, n: u64) {
        self.0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    fn note(&self, _: &str) {}

    fn warn(&self, _: &Warning) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_an_interrupt_reaches_every_clone() {
        let counts = Counts::default();
        counts.add(Counter::Bytes, 3);
        counts.add(Counter::Bytes, 4);
        assert_eq!((counts.get(Counter::Bytes), counts.get(Counter::Packs)), (7, 0));
        let interrupt = Interrupt::default();
        interrupt.clone().set();
        assert!(interrupt.is_set());
    }
}
