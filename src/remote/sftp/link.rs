//! State shared by the tasks and the users of one connection: whether it is up, and when a byte last moved.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openssh_sftp_client_lowlevel::{self as lowlevel, Id, Queue, SftpErrorKind, SharedData, WriteEnd};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Notify, watch};

use super::failure::Disconnect;
use crate::remote::lock;

/// Answers are read into buffers of this kind.
pub(super) type Buffer = Vec<u8>;
pub(super) type Requests = WriteEnd<Buffer, Outbox>;
pub(super) type SharedRequests = SharedData<Buffer, Outbox>;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestFault {
    /// The server said so.
    Status(SftpErrorKind, String),
    /// The connection ended.
    Dead(Arc<Disconnect>),
    /// The answer makes no sense, or the request couldn't be made.
    Strange(String),
}

/// One connection's state.
pub(super) struct Link {
    started: Instant,
    /// When a byte last moved, in milliseconds since `started`.
    moved: AtomicU64,
    /// Requests that wait for an answer.
    waiting: AtomicUsize,
    greeted: AtomicBool,
    dead: watch::Sender<Option<Arc<Disconnect>>>,
    /// Woken when the connection isn't needed any more.
    pub closing: Notify,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            greeted: AtomicBool::new(false),
            dead: watch::Sender::new(None),
            closing: Notify::new(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A byte moved.
    pub(super) fn touch(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// Returns when a request has waited for `limit` while no byte moved.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let quiet = match self.waiting() {
                0 => Duration::ZERO,
                _ => Duration::from_millis(self.now().saturating_sub(self.moved.load(Ordering::Relaxed))),
            };
            match limit.checked_sub(quiet) {
                None | Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
            }
        }
    }

    /// The server has greeted.
    pub(super) fn greeted(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn disconnect_with(&self, disconnect: Disconnect) {
        self.dead.send_if_modified(|dead| {
            let first = dead.is_none();
            dead.get_or_insert_with(|| Arc::new(disconnect));
            first
        });
    }

    pub(super) fn disconnect(&self) -> Option<Arc<Disconnect>> {
        self.dead.borrow().clone()
    }

    /// Returns when the connection has ended.
    pub(super) async fn ended(&self) -> Arc<Disconnect> {
        let mut dead = self.dead.subscribe();
        let seen = dead.wait_for(Option::is_some).await;
        // The sender is a part of `self`, so there is an answer.
        seen.ok().and_then(|disconnect| disconnect.clone()).unwrap_or_else(|| Arc::new(Disconnect::closed()))
    }
}

/// An answer that is on its way.
pub(super) struct Reply<F> {
    future: F,
    link: Arc<Link>,
}

impl<F> Reply<F> {
    /// A request's future, just before or after it was sent.
    pub(super) fn new(future: F, link: &Arc<Link>) -> Self {
        if link.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            link.touch();
        }
        Self { future, link: Arc::clone(link) }
    }

    /// Waits for the answer.
    pub(super) async fn get<T>(mut self) -> Result<T, RequestFault>
    where
        F: Future<Output = Result<(Id<Vec<u8>>, T), lowlevel::Error>> + Unpin,
    {
        let link = Arc::clone(&self.link);
        tokio::select! {
            biased;
            answer = &mut self.future => match answer {
                Ok((_, answer)) => Ok(answer),
                Err(lowlevel::Error::SftpError(code, message)) => Err(RequestFault::Status(code, message.get().0.to_owned())),
                Err(error) => Err(RequestFault::Strange(error.to_string())),
            },
            disconnect = link.ended() => Err(RequestFault::Dead(disconnect)),
        }
    }
}

impl<F> Drop for Reply<F> {
    fn drop(&mut self) {
        self.link.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Vec<Bytes>>,
    filled: Notify,
}

impl Outbox {
    /// Waits until there are some, and takes them into `batch`, which must be empty.
    pub(super) async fn take(&self, batch: &mut Vec<Bytes>) {
        loop {
            std::mem::swap(&mut *lock(&self.waiting), batch);
            if !batch.is_empty() {
                return;
            }
            self.filled.notified().await;
        }
    }
}

impl Queue for Outbox {
    fn push(&self, bytes: Bytes) {
        lock(&self.waiting).push(bytes);
        self.filled.notify_one();
    }

    fn extend(&self, header: Bytes, body: &[&[Bytes]]) {
        let mut waiting = lock(&self.waiting);
        waiting.push(header);
        waiting.extend(body.iter().copied().flatten().cloned());
        drop(waiting);
        self.filled.notify_one();
    }
}

/// Notes when bytes come.
pub(super) struct Watched<R> {
    pub inner: R,
    pub link: Arc<Link>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, out));
        self.link.touch();
        Poll::Ready(read)
    }
}
