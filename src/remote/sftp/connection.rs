//! A connection to a server: one SFTP session over the pipes of a child process, usually `ssh`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssh_sftp_client_lowlevel::Extensions;

use super::files::OpenFiles;
use super::link::{Link, Requests};

/// A session.
pub(super) struct Connection {
    pub link: Arc<Link>,
    pub requests: Mutex<Requests>,
    pub extensions: Extensions,
    /// The most bytes that one request reads.
    pub read_size: u32,
    /// The most bytes that one request writes.
    pub write_size: usize,
    /// How long an answer took.
    pub round_trip: Duration,
    /// Files that are kept open for reading.
    pub files: OpenFiles,
    /// Uploads that go over it.
    pub uploads: AtomicUsize,
}

impl Connection {
    /// How busy it is: an upload counts more than anything else.
    pub(super) fn load(&self) -> usize {
        (self.uploads.load(Ordering::Relaxed) << 16) + self.link.waiting()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.link.disconnect().is_none()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.closing.notify_one();
    }
}
