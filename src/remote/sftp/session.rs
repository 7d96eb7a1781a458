//! Opening and ending a connection: the child process and the tasks that write its requests and read its answers.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use openssh_sftp_client_lowlevel::{self as lowlevel, Extensions, ReadEnd, SharedData};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::Connection;
use super::failure::{Disconnect, EndOfConnection, one_line};
use super::files::OpenFiles;
use super::guard::CheckedReader;
use super::link::{Link, Outbox, RequestFault, Requests, SharedRequests, Watched};
use super::requests::found;
use super::ssh::Launch;
use crate::remote::{ErrorKind, lock};

/// The longest read or write, in bytes: OpenSSH's limit for one packet.
const LONGEST_REQUEST: u64 = 255 << 10;
/// The limit for one packet of every server.
const SURE_REQUEST: u64 = 32 << 10;
/// How long a program may take to exit after its pipes were closed.
const EXIT: Duration = Duration::from_secs(2);

/// A server's limit for one request, in bytes, where it makes sense.
fn bounded(limit: u64) -> u64 {
    match limit {
        0 => SURE_REQUEST,
        limit => limit.clamp(1 << 10, LONGEST_REQUEST),
    }
}

impl Connection {
    /// Starts the program behind a new link and greets the server.
    pub(super) async fn open(launch: &Launch, link: Arc<Link>) -> Result<Self, Arc<Disconnect>> {
        let mut child =
            launch.command().map_err(Arc::new)?.spawn().map_err(|error| Arc::new(launch.no_start(&error)))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Arc::new(Disconnect::new(ErrorKind::Other, "the program has no pipes")));
        };
        let strange = |error: lowlevel::Error| Arc::new(Disconnect::new(ErrorKind::Other, error.to_string()));
        let requests: Requests = lowlevel::connect(Outbox::default(), ()).map_err(strange)?;
        let (greeting, greeted) = oneshot::channel();
        let session = ConnectionTask {
            link: Arc::clone(&link),
            shared: SharedData::clone(&requests),
            stall: launch.stall_timeout,
            greeting_limit: launch.greeting_limit(),
            words: Arc::default(),
        };
        tokio::spawn(session.run(child, stdin, stdout, stderr, greeting));
        let Ok(extensions) = greeted.await else { return Err(link.ended().await) };
        let mut connection = Self {
            link,
            requests: Mutex::new(requests),
            extensions,
            read_size: SURE_REQUEST as u32,
            write_size: SURE_REQUEST as usize,
            round_trip: Duration::ZERO,
            files: OpenFiles::default(),
            uploads: AtomicUsize::new(0),
        };
        connection.measure().await.map_err(|fault| match fault {
            RequestFault::Dead(disconnect) => disconnect,
            RequestFault::Status(_, message) | RequestFault::Strange(message) => {
                Arc::new(Disconnect::new(ErrorKind::Other, message))
            }
        })?;
        Ok(connection)
    }

    /// Asks for the server's limits, and learns how long an answer takes.
    async fn measure(&mut self) -> Result<(), RequestFault> {
        let asked = Instant::now();
        if !self.extensions.contains(Extensions::LIMITS) {
            found(self.lstat(".")?).await?;
            self.round_trip = asked.elapsed();
            return Ok(());
        }
        let limits = self.limits()?.get().await;
        self.round_trip = asked.elapsed();
        match limits {
            Ok(limits) => {
                self.read_size = bounded(limits.read_len) as u32;
                self.write_size = bounded(limits.write_len) as usize;
                Ok(())
            }
            // Offered, but not to this account.
            Err(RequestFault::Status(..)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

/// Ends a link's transfers, and waits briefly until its program has exited or was killed.
pub(super) async fn close(link: &Link) {
    link.closing.notify_one();
    let _ = timeout(EXIT * 2, link.ended()).await;
}

/// The task behind a connection.
struct ConnectionTask {
    link: Arc<Link>,
    shared: SharedRequests,
    stall: Duration,
    greeting_limit: Duration,
    /// The last words of the program.
    words: Arc<Mutex<Vec<u8>>>,
}

impl ConnectionTask {
    async fn run(
        self,
        mut child: Child,
        stdin: ChildStdin,
        stdout: ChildStdout,
        stderr: ChildStderr,
        greeting: oneshot::Sender<Extensions>,
    ) {
        let listening = tokio::spawn(listen(stderr, Arc::clone(&self.words)));
        let mut received = std::pin::pin!(self.receive(stdout, greeting));
        let end = tokio::select! {
            end = &mut received => end,
            // Who takes nothing more may have said why, and that is still to be read.
            end = self.send(stdin) => timeout(EXIT / 4, &mut received).await.unwrap_or(end),
            () = self.link.stalled(self.stall) => EndOfConnection::Stalled(self.stall),
            () = self.link.closing.notified() => EndOfConnection::Unneeded,
        };
        // The pipes are closed now: ssh exits by itself, unless it hangs, or still logs in and doesn't look at them.
        let ends = matches!(end, EndOfConnection::Closed)
            || matches!(end, EndOfConnection::Unneeded) && self.link.has_greeted();
        if !ends {
            let _ = child.start_kill();
        }
        let status = match timeout(EXIT, child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = child.kill().await;
                None
            }
        };
        // A grandchild may hold the other end for longer.
        let _ = timeout(EXIT / 4, listening).await;
        let words = one_line(&lock(&self.words));
        self.link.disconnect_with(Disconnect::explain(&end, &words, status));
    }

    /// Reads answers until the connection ends.
    async fn receive(&self, stdout: ChildStdout, greeting: oneshot::Sender<Extensions>) -> EndOfConnection {
        const READ_AHEAD: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
        let watched = Watched { inner: stdout, link: Arc::clone(&self.link) };
        let mut answers = ReadEnd::new(CheckedReader::new(watched), READ_AHEAD, self.shared.clone());
        let extensions = match timeout(self.greeting_limit, answers.receive_server_hello()).await {
            Ok(Ok(extensions)) => extensions,
            Ok(Err(error)) => return end_of(error),
            Err(_) => return EndOfConnection::Silent(self.greeting_limit),
        };
        // Earlier output is no reason for a later failure: a banner, a warning.
        lock(&self.words).clear();
        self.link.greeted();
        if greeting.send(extensions).is_err() {
            return EndOfConnection::Unneeded;
        }
        loop {
            if let Err(error) = answers.read_in_one_packet().await {
                return end_of(error);
            }
        }
    }

    /// Writes requests until the connection ends.
    async fn send(&self, mut stdin: ChildStdin) -> EndOfConnection {
        let mut batch: Vec<Bytes> = Vec::new();
        loop {
            self.shared.queue().take(&mut batch).await;
            for mut bytes in batch.drain(..) {
                while !bytes.is_empty() {
                    match stdin.write(&bytes).await {
                        Ok(0) | Err(_) => return EndOfConnection::Closed,
                        Ok(written) => bytes.advance(written),
                    }
                    self.link.touch();
                }
            }
        }
    }
}

fn end_of(error: lowlevel::Error) -> EndOfConnection {
    match error {
        lowlevel::Error::IOError(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            EndOfConnection::Garbage(error.to_string())
        }
        lowlevel::Error::IOError(_) => EndOfConnection::Closed,
        error => EndOfConnection::Garbage(error.to_string()),
    }
}

/// Keeps the last words of a program.
async fn listen(mut stderr: ChildStderr, words: Arc<Mutex<Vec<u8>>>) {
    const KEPT: usize = 8 << 10;
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        let mut words = lock(&words);
        words.extend_from_slice(&piece[..length]);
        let excess = words.len().saturating_sub(KEPT);
        words.drain(..excess);
    }
}
