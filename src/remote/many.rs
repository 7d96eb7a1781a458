//! Many calls at a time, and their results in order.
//!
//! A call on a far host takes a round trip or two, whatever it asks for; one after the other a thousand small objects take
//! minutes. [`in_order`] makes them from several threads and hands over the results in the order of the items, so that the
//! caller's work stays as it is. What waits to be handed over is bounded, in number and in bytes.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Remote, lock};

/// How much may be under way: begun, and not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallWindow {
    /// The most calls at once. With one, they are made by the caller's thread.
    pub calls: usize,
    /// The most bytes of results, as far as more than one is under way.
    pub bytes: u64,
}

impl CallWindow {
    /// Bytes of results that a program can always hold.
    const BYTES: u64 = 16 << 20;

    /// As many calls as are worth while on `remote`.
    pub fn of(remote: &dyn Remote) -> Self {
        Self { calls: remote.calls_at_once().max(1), bytes: Self::BYTES }
    }
}

/// Makes `call` for each item and gives the results to `take`, in the order of the items and one at a time on this thread.
///
/// `bytes` says how many bytes the result of an item holds at most. Results that aren't handed over yet are at most twice
/// as many as there are calls at once. An error of `take` is returned at once: no further call is begun, and the results of
/// those that are under way are dropped.
pub fn in_order<T: Sync, R: Send, E>(
    window: CallWindow,
    items: &[T],
    bytes: impl Fn(&T) -> u64 + Sync,
    call: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> Result<(), E>,
) -> Result<(), E> {
    let calls = window.calls.min(items.len());
    if calls <= 1 {
        return items.iter().try_for_each(|item| take(item, call(item)));
    }
    let queue = Queue { window: CallWindow { calls, ..window }, state: Mutex::default(), changed: Condvar::new() };
    thread::scope(|scope| {
        // The calls end with the first error, and also where `take` panics.
        let _end = EndOfCalls(&queue);
        let work = || {
            let _end = EndOfPanic(&queue);
            while let Some(at) = queue.begin(items.len(), |at| bytes(&items[at])) {
                let result = call(&items[at]);
                queue.put(at, result);
            }
        };
        // Where the system gives no further thread, those that there are do the work.
        let started = (0..calls).take_while(|_| thread::Builder::new().spawn_scoped(scope, work).is_ok()).count();
        for (at, item) in items.iter().enumerate() {
            let result = match started {
                0 => call(item),
                _ => match queue.take(at) {
                    Some(result) => result,
                    // A call panicked, and so does the scope.
                    None => return Ok(()),
                },
            };
            take(item, result)?;
            queue.taken(bytes(item));
        }
        Ok(())
    })
}

/// Results on their way from the threads that call to the one that takes.
struct Queue<R> {
    window: CallWindow,
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    /// How many were begun, and how many were handed over.
    next: usize,
    taken: usize,
    /// Bytes of those between.
    held: u64,
    done: BTreeMap<usize, R>,
    ended: bool,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self { next: 0, taken: 0, held: 0, done: BTreeMap::new(), ended: false }
    }
}

impl<R> Queue<R> {
    fn wait<'a>(&self, state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next item, once there is room for its result. None if there is no further one.
    fn begin(&self, items: usize, bytes: impl Fn(usize) -> u64) -> Option<usize> {
        let mut state = lock(&self.state);
        loop {
            let at = state.next;
            if state.ended || at >= items {
                return None;
            }
            let (waiting, bytes) = (at - state.taken, bytes(at));
            let fits = state.held.saturating_add(bytes) <= self.window.bytes && waiting < 2 * self.window.calls;
            if waiting == 0 || fits {
                state.next += 1;
                state.held = state.held.saturating_add(bytes);
                return Some(at);
            }
            state = self.wait(state);
        }
    }

    fn put(&self, at: usize, result: R) {
        lock(&self.state).done.insert(at, result);
        self.changed.notify_all();
    }

    /// Waits for a result. None if a call panicked.
    fn take(&self, at: usize) -> Option<R> {
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = state.done.remove(&at) {
                return Some(result);
            }
            if state.ended {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// A result of so many bytes was handed over, and is done with.
    fn taken(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.taken += 1;
        state.held -= bytes.min(state.held);
        drop(state);
        self.changed.notify_all();
    }

    fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }
}

/// No call is begun when it is dropped.
struct EndOfCalls<'a, R>(&'a Queue<R>);

impl<R> Drop for EndOfCalls<'_, R> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Where a call panics, nobody waits for its result.
struct EndOfPanic<'a, R>(&'a Queue<R>);

impl<R> Drop for EndOfPanic<'_, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn window(calls: usize) -> CallWindow {
        CallWindow { calls, bytes: 1000 }
    }

    #[test]
    fn results_come_in_order_whichever_call_ends_first() {
        let items: Vec<u64> = (0..200).collect();
        for calls in [1, 2, 7, 64, 1000] {
            let mut taken = Vec::new();
            let call = |item: &u64| {
                std::thread::sleep(Duration::from_micros(item * 7919 % 13 * 50));
                item * 2
            };
            let take = |item: &u64, result| {
                assert_eq!(result, item * 2);
                taken.push(*item);
                Ok::<_, Infallible>(())
            };
            in_order(window(calls), &items, |_| 1, call, take).unwrap();
            assert_eq!(taken, items, "{calls} calls");
        }
        in_order(window(8), &[], |_: &u64| 1, |_| (), |_, ()| Err("nothing is taken")).unwrap();
    }

    #[test]
    fn so_many_calls_are_under_way_at_once() {
        // Each waits until all are there: fewer would wait for ever.
        let together = Barrier::new(8);
        let call = |_: &u64| _ = together.wait();
        in_order(window(8), &[0; 16], |_| 1, call, |_, ()| Ok::<_, Infallible>(())).unwrap();
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        for (calls, bytes, most) in [(4, 1, 8), (4, 300, 3), (4, 5000, 1)] {
            let (begun, taken) = (AtomicU64::new(0), AtomicU64::new(0));
            let highest = AtomicU64::new(0);
            let call = |_: &u64| {
                let under_way = begun.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
                highest.fetch_max(under_way, Ordering::SeqCst);
            };
            let take = |_: &u64, ()| {
                std::thread::sleep(Duration::from_micros(300));
                taken.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(())
            };
            in_order(window(calls), &[0; 100], |_| bytes, call, take).unwrap();
            let highest = highest.into_inner();
            assert!((1..=most + 1).contains(&highest), "{calls} calls of {bytes} bytes: {highest} under way");
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let begun = AtomicUsize::new(0);
        let call = |item: &usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            *item
        };
        let items: Vec<usize> = (0..10_000).collect();
        let take = |_: &usize, result| if result == 20 { Err(result) } else { Ok(()) };
        assert_eq!(in_order(window(4), &items, |_| 1, call, take), Err(20));
        let begun = begun.into_inner();
        assert!(begun <= 20 + 1 + 2 * 4, "{begun} were begun");
    }

    #[test]
    fn a_call_that_panics_is_no_endless_wait() {
        let call = |item: &u64| assert!(*item != 5, "a call that panics");
        let work =
            || in_order(window(4), &(0..100).collect::<Vec<u64>>(), |_| 1, call, |_, ()| Ok::<_, Infallible>(()));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err();
    }
}
