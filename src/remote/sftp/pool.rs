//! The connections of one remote.
//!
//! The first is opened with the remote. Others follow while there is work for them: an upload waits for a connection of
//! its own, reads share the open ones while another opens. A broken connection is dropped, and replaced when it is
//! needed.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::connection::Connection;
use super::failure::{Cause, Disconnect};
use super::host_key;
use super::link::Link;
use super::ssh::Launch;
use crate::remote::lock;

/// How long no further connection is tried after one was refused while others live.
const BARRED: Duration = Duration::from_secs(60);
/// How many are opened at once. A far host takes a second or more to log in to; sshd refuses some from the eleventh on.
const OPENING: usize = 7;

pub(super) struct Pool {
    launch: Launch,
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<Connection>>,
    opening: usize,
    /// Connections to the server, including those that are being opened.
    links: Vec<Weak<Link>>,
    barred: Option<Instant>,
    /// The number of attempts at a first connection, and the last failure of one.
    tries: u64,
    failed: Option<(u64, Arc<Disconnect>)>,
}

impl State {
    /// Forgets the connections that died, and sorts the others, the least busy first.
    fn tidy(&mut self) {
        self.open.retain(|connection| connection.is_alive());
        self.links.retain(|link| link.strong_count() > 0);
        self.open.sort_by_cached_key(|connection| connection.load());
    }

    /// A link for one more connection.
    fn begin(&mut self) -> Arc<Link> {
        let link = Link::new();
        self.opening += 1;
        self.links.push(Arc::downgrade(&link));
        link
    }

    fn round_trip(&self) -> Duration {
        self.open.iter().map(|connection| connection.round_trip).min().unwrap_or_default()
    }

    fn may_grow(&self, most: usize) -> bool {
        let round_trip = self.round_trip();
        let barred = self.barred.is_some_and(|since| since.elapsed() < BARRED);
        self.opening < OPENING && !barred && self.open.len() + self.opening < wanted(round_trip, most)
    }
}

/// How many connections a host at this distance is worth.
///
/// One moves about 2 MiB in a round trip, so the number grows with it; a second one is worth having even for a near
/// host, because one can flush while the other writes.
pub(super) fn wanted(round_trip: Duration, most: usize) -> usize {
    let steps = usize::try_from(round_trip.as_millis() / 5).unwrap_or(usize::MAX);
    most.min(steps.saturating_add(2))
}

/// How many small calls are worth having under way at once at this distance: a few for each connection that it is worth.
/// Each waits for a round trip or two, and over one connection they go beside each other, too.
fn calls_at_once(round_trip: Duration) -> usize {
    wanted(round_trip, 8) * 8
}

/// A connection with an upload on it.
pub(super) struct UploadLease(Arc<Connection>);

impl UploadLease {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.uploads.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Deref for UploadLease {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for UploadLease {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(launch: Launch, most: usize) -> Arc<Self> {
        Arc::new(Self { launch, most, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The least busy connection.
    pub(super) fn one(self: &Arc<Self>, runtime: &Handle) -> Result<Arc<Connection>, Arc<Disconnect>> {
        let (mut state, best) = self.first(runtime)?;
        if best.load() > 0 && state.may_grow(self.most) {
            self.grow(runtime, &mut state);
        }
        Ok(best)
    }

    /// Up to `count` connections for one large read, the least busy first.
    pub(super) fn several(
        self: &Arc<Self>,
        count: usize,
        runtime: &Handle,
    ) -> Result<Vec<Arc<Connection>>, Arc<Disconnect>> {
        let (mut state, _) = self.first(runtime)?;
        let best: Vec<_> = state.open.iter().take(count).cloned().collect();
        if best.len() < count && state.may_grow(self.most) {
            self.grow(runtime, &mut state);
        }
        Ok(best)
    }

    /// A connection for an upload, without another upload on it while more connections may be made.
    pub(super) fn lease(self: &Arc<Self>, runtime: &Handle) -> Result<UploadLease, Arc<Disconnect>> {
        loop {
            let (mut state, best) = self.first(runtime)?;
            let free = best.uploads.load(Ordering::Relaxed) == 0;
            if !free && state.may_grow(self.most) {
                self.grow(runtime, &mut state);
            }
            // While another connection is being opened, this upload waits for it instead of sharing one.
            if free || state.opening == 0 {
                return Ok(UploadLease::new(&best));
            }
            drop(self.wait(state));
        }
    }

    /// An upload turns out to be long: another will begin before this one is flushed, and shouldn't have to wait until a
    /// connection is open.
    pub(super) fn prefetch(self: &Arc<Self>, runtime: &Handle) {
        let mut state = lock(&self.state);
        let idle = state.open.iter().any(|open| open.is_alive() && open.uploads.load(Ordering::Relaxed) == 0);
        if !idle && state.opening == 0 && state.may_grow(self.most) {
            self.grow(runtime, &mut state);
        }
    }

    /// The state, tidy, and the least busy connection. Makes one where there is none; who waits while another thread tries
    /// shares its failure.
    fn first(&self, runtime: &Handle) -> Result<(MutexGuard<'_, State>, Arc<Connection>), Arc<Disconnect>> {
        let mut state = lock(&self.state);
        loop {
            state.tidy();
            if let Some(best) = state.open.first().cloned() {
                return Ok((state, best));
            }
            if state.opening > 0 {
                let watched = state.tries;
                state = self.wait(state);
                match &state.failed {
                    // Many threads may wait for the first connection to an unreachable host: one attempt answers all of
                    // them.
                    Some((failed, disconnect)) if *failed == watched && state.opening == 0 => {
                        return Err(Arc::clone(disconnect));
                    }
                    _ => continue,
                }
            }
            let link = state.begin();
            state.tries += 1;
            drop(state);
            let opened = runtime.block_on(connect(&self.launch, link));
            state = lock(&self.state);
            state.opening -= 1;
            self.changed.notify_all();
            match opened {
                Ok(connection) => state.open.push(Arc::new(connection)),
                Err(disconnect) => {
                    state.failed = Some((state.tries, Arc::clone(&disconnect)));
                    return Err(disconnect);
                }
            }
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one more connection, beside all else.
    fn grow(self: &Arc<Self>, runtime: &Handle, state: &mut State) {
        let link = state.begin();
        let opening = Opening(Arc::clone(self));
        runtime.spawn(async move {
            let opened = Connection::open(&opening.0.launch, link).await;
            let mut state = lock(&opening.0.state);
            match opened {
                Ok(connection) => state.open.push(Arc::new(connection)),
                // The server may allow no more. The open ones do the work.
                Err(_) => state.barred = Some(Instant::now()),
            }
        });
    }

    /// Connections to the server, including those that are being opened.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        lock(&self.state).links.iter().filter_map(Weak::upgrade).filter(|link| link.disconnect().is_none()).collect()
    }

    /// How many small calls are worth having under way at once; those for a near host while there is no connection.
    pub(super) fn calls_at_once(&self) -> usize {
        calls_at_once(lock(&self.state).round_trip())
    }

    /// Every connection that lives.
    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        let mut state = lock(&self.state);
        state.tidy();
        state.open.clone()
    }
}

/// A connection that is being opened beside all else. Whatever becomes of it, who waits for it is woken.
struct Opening(Arc<Pool>);

impl Drop for Opening {
    fn drop(&mut self) {
        lock(&self.0.state).opening -= 1;
        self.0.changed.notify_all();
    }
}

/// Opens a connection. If the host isn't known, the error has its key.
async fn connect(launch: &Launch, link: Arc<Link>) -> Result<Connection, Arc<Disconnect>> {
    match Connection::open(launch, link).await {
        Err(disconnect) if disconnect.cause == Some(Cause::UnknownHostKey) => match launch.host() {
            Some((place, options)) => Err(Arc::new(host_key::report_unknown(place, options, &disconnect).await)),
            None => Err(disconnect),
        },
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_host_is_worth_more_connections() {
        let wanted = |millis, most| wanted(Duration::from_millis(millis), most);
        assert_eq!([wanted(0, 8), wanted(20, 8), wanted(100, 8), wanted(100, 3), wanted(0, 1)], [2, 6, 8, 3, 1]);
        assert_eq!(super::wanted(Duration::MAX, 64), 64);
    }
}
