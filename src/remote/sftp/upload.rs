//! An object that is being written to an SFTP account.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use openssh_sftp_client_lowlevel::{Extensions, SftpErrorKind};

use super::Inner;
use super::files::File;
use super::link::RequestFault;
use super::pool::UploadLease;
use super::requests::{FileStatus, Status, found};
use crate::remote::part::part_name;
use crate::remote::{Clocks, Error, ErrorKind, ObjectName, Result, Upload, lock};
use crate::time::{Clock, SystemClock, Timestamp};

/// Writes that are on their way at once to a near host: twice the window of an SSH channel.
const IN_FLIGHT: usize = 16;
/// The same to a far one, so that one upload may still be on its way while the next one fills: 16 MiB.
const IN_FLIGHT_FAR: usize = 64;
/// The round trip in milliseconds from which on a host counts as distant.
const FAR: u128 = 15;
/// Bytes after which an upload is a long one.
const LONG: u64 = 4 << 20;

pub(super) struct SftpUpload {
    inner: Arc<Inner>,
    lease: UploadLease,
    /// None when it was closed.
    file: Option<File>,
    part: ObjectName,
    /// When the last request to write was sent.
    written: Timestamp,
    /// Bytes that don't fill a request yet.
    chunk: BytesMut,
    in_flight: VecDeque<Status>,
    sent: u64,
    dead: bool,
    /// Whether the part's name is gone, because it became the object's.
    moved: bool,
}

impl SftpUpload {
    pub(super) fn begin(inner: &Arc<Inner>) -> Result<Self> {
        let lease = inner.pool.lease(&inner.handle).map_err(|disconnect| inner.unreached(&disconnect))?;
        let part = part_name();
        let create = async {
            let reply = lease.create(&inner.path(&part))?;
            lease.opened(reply).await
        };
        let created = inner.wait(async {
            match create.await {
                Ok(file) => Ok(file),
                Err(fault) => Err(inner.write_error(&lease, "beginning an upload to", &part, fault).await),
            }
        });
        Ok(Self {
            file: Some(created?),
            inner: Arc::clone(inner),
            lease,
            part,
            written: SystemClock.now(),
            chunk: BytesMut::new(),
            in_flight: VecDeque::new(),
            sent: 0,
            dead: false,
            moved: false,
        })
    }

    fn window(&self) -> usize {
        match self.lease.round_trip.as_millis() >= FAR {
            true => IN_FLIGHT_FAR,
            false => IN_FLIGHT,
        }
    }

    /// Sends the chunk, and waits while too many are on their way.
    fn send(&mut self) -> Result<()> {
        let chunk = self.chunk.split().freeze();
        let length = chunk.len() as u64;
        self.written = SystemClock.now();
        let sent = match &self.file {
            Some(file) => self.lease.write(file, self.sent, chunk),
            None => Err(RequestFault::Strange("the file is closed".to_owned())),
        };
        let inner = Arc::clone(&self.inner);
        if self.sent < LONG && self.sent + length >= LONG {
            inner.pool.prefetch(&inner.handle);
        }
        inner.wait(async {
            match sent {
                Ok(reply) => self.in_flight.push_back(reply),
                Err(fault) => return Err(self.write_error(fault).await),
            }
            self.sent += length;
            self.settle(self.window()).await
        })
    }

    /// Waits until at most `most` writes are on their way.
    async fn settle(&mut self, most: usize) -> Result<()> {
        while self.in_flight.len() > most
            && let Some(reply) = self.in_flight.pop_front()
        {
            if let Err(fault) = reply.get().await {
                return Err(self.write_error(fault).await);
            }
        }
        Ok(())
    }

    async fn write_error(&self, fault: RequestFault) -> Error {
        self.inner.write_error(&self.lease, "writing", &self.part, fault).await
    }

    fn alive(&self) -> Result<()> {
        match self.dead {
            true => Err(Error::new(ErrorKind::Other, "writing", self.inner.at(&self.part), "an earlier write failed")),
            false => Ok(()),
        }
    }

    fn try_append(&mut self, mut bytes: &[u8]) -> Result<()> {
        let size = self.lease.write_size;
        if let Some(disconnect) = self.lease.link.disconnect() {
            return Err(self.inner.error("writing", &self.part, RequestFault::Dead(disconnect)));
        }
        while !bytes.is_empty() {
            if self.chunk.capacity() == 0 {
                self.chunk.reserve(size);
            }
            let (now, later) = bytes.split_at(bytes.len().min(size - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == size {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Waits for all writes, flushes, checks the size, and stats the final name, all in about one round trip. Returns
    /// the object that has the name already.
    async fn seal(&mut self, path: &str, name: &ObjectName) -> Result<Option<FileStatus>> {
        let ask = || {
            let Some(file) = &self.file else { return Err(RequestFault::Strange("the file is closed".to_owned())) };
            let flushes = self.lease.extensions.contains(Extensions::FSYNC);
            let flush = flushes.then(|| self.lease.fsync(file)).transpose()?;
            Ok((flush, self.lease.fstat(file)?, self.lease.lstat(path)?))
        };
        let asked = ask();
        let (flush, size, look) = match asked {
            Ok(asked) => asked,
            Err(fault) => return Err(self.write_error(fault).await),
        };
        self.settle(0).await?;
        if let Some(flush) = flush {
            match flush.get().await {
                // Offered, but not to this account or for this file system.
                Ok(()) | Err(RequestFault::Status(SftpErrorKind::OpUnsupported | SftpErrorKind::PermDenied, _)) => {}
                Err(fault) => {
                    return Err(self.inner.write_error(&self.lease, "flushing", &self.part, fault).await);
                }
            }
        }
        let attributes = size.get().await.map_err(|fault| self.inner.error("checking", &self.part, fault))?;
        let size = FileStatus::new(&attributes);
        if let Some((_, changed)) = attributes.get_time() {
            let host = Timestamp::from_seconds(changed.into_raw().into());
            *lock(&self.inner.clocks) = Some(Clocks { host, earliest: self.written, latest: SystemClock.now() });
        }
        if size != FileStatus::Plain(self.sent) {
            let reason = format!("{} bytes were written, the host has {size:?}", self.sent);
            return Err(Error::new(ErrorKind::Other, "checking", self.inner.at(&self.part), reason));
        }
        found(look).await.map_err(|fault| self.inner.error("finishing", name, fault))
    }

    async fn place(&mut self, name: &ObjectName) -> Result<()> {
        let path = self.inner.path(name);
        if let Some(there) = self.seal(&path, name).await? {
            return self.meet(there, name);
        }
        self.file = None;
        let rename = async { self.lease.rename(&self.inner.path(&self.part), &path)?.get().await };
        match rename.await {
            Ok(()) => {
                self.moved = true;
                Ok(())
            }
            Err(fault @ RequestFault::Status(..)) => {
                // Another upload was faster, or the new name was linked and the old one not removed.
                let look = async { found(self.lease.lstat(&path)?).await };
                match look.await.map_err(|fault| self.inner.error("finishing", name, fault))? {
                    Some(there) => self.meet(there, name),
                    None => Err(self.inner.write_error(&self.lease, "finishing", name, fault).await),
                }
            }
            Err(fault) => Err(self.inner.error("finishing", name, fault)),
        }
    }

    /// Handles an existing object under the final name.
    fn meet(&self, there: FileStatus, name: &ObjectName) -> Result<()> {
        let reason = match there {
            FileStatus::Plain(size) if size == self.sent => return Ok(()),
            FileStatus::Plain(size) => {
                format!("another object of {size} bytes has that name, this one has {}", self.sent)
            }
            _ => "something that is no plain file has that name".to_owned(),
        };
        Err(Error::new(ErrorKind::Exists, "finishing", self.inner.at(name), reason))
    }
}

impl Upload for SftpUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        self.try_append(bytes).inspect_err(|_| self.dead = true)
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<()> {
        self.alive()?;
        if !self.chunk.is_empty() {
            self.send()?;
        }
        let inner = Arc::clone(&self.inner);
        inner.wait(self.place(name))
    }
}

impl Drop for SftpUpload {
    fn drop(&mut self) {
        self.in_flight.clear();
        self.file = None;
        if self.moved || self.inner.is_append_only() || !self.lease.is_alive() {
            return;
        }
        // A leftover is swept when it is old.
        let remove = async { self.lease.remove(&self.inner.path(&self.part))?.get().await };
        if let Err(RequestFault::Status(SftpErrorKind::PermDenied, _)) = self.inner.wait(remove) {
            self.inner.append_only.store(true, Ordering::Relaxed);
        }
    }
}
