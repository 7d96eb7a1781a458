//! The requests of SFTP version 3 that a repository needs.
//!
//! Each is sent at once and returns a [`Reply`] to wait for, so several can be in flight. Requests that an append-only
//! account refuses are marked; only [`SftpRemote`](super::SftpRemote)'s deletions, clean-ups and creation of folders may
//! need them.

use std::borrow::Cow;
use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use openssh_sftp_client_lowlevel::{
    AwaitableAttrsFuture, AwaitableDataFuture, AwaitableHandleFuture, AwaitableLimitsFuture,
    AwaitableNameEntriesFuture, AwaitableStatusFuture, AwaitableStatvfsFuture, CreateFlags, Data, Error, Extensions,
    FileAttrs, FileType, Id, OpenOptions, Permissions, SharedData, Statvfs,
};

use super::connection::Connection;
use super::files::File;
use super::link::{Buffer, Reply, RequestFault, Requests};
use crate::remote::lock;

pub(super) type Status = Reply<AwaitableStatusFuture<Buffer>>;
pub(super) type AttributesReply = Reply<AwaitableAttrsFuture<Buffer>>;

fn path(text: &str) -> Cow<'_, Path> {
    Cow::Borrowed(Path::new(text))
}

/// Only for whoever made it.
fn private(mode: Permissions) -> FileAttrs {
    let mut attributes = FileAttrs::new();
    attributes.set_permissions(mode);
    attributes
}

impl Connection {
    fn ask<T, F>(
        &self,
        make: impl FnOnce(&mut Requests, Id<Buffer>) -> Result<F, Error>,
    ) -> Result<Reply<F>, RequestFault>
    where
        F: Future<Output = Result<(Id<Buffer>, T), Error>>,
    {
        let mut requests = lock(&self.requests);
        let id = requests.create_response_id();
        let future = make(&mut requests, id).map_err(|error| RequestFault::Strange(error.to_string()))?;
        Ok(Reply::new(future, &self.link))
    }

    /// Creates a file for writing, exclusively, with mode 0600 less the account's umask.
    pub(super) fn create(&self, file: &str) -> Result<Reply<AwaitableHandleFuture<Buffer>>, RequestFault> {
        let attributes = private(Permissions::READ_BY_OWNER | Permissions::WRITE_BY_OWNER);
        let options = OpenOptions::new().write(true).create(path(file), CreateFlags::Excl, attributes);
        self.ask(|requests, id| Ok(requests.send_open_file_request(id, options)?.wait()))
    }

    /// Opens a file, or a folder that is to be flushed, for reading.
    pub(super) fn open_file(&self, file: &str) -> Result<Reply<AwaitableHandleFuture<Buffer>>, RequestFault> {
        let options = OpenOptions::new().read(true).open(path(file));
        self.ask(|requests, id| Ok(requests.send_open_file_request(id, options)?.wait()))
    }

    pub(super) fn read(
        &self,
        file: &File,
        offset: u64,
        length: u32,
        buffer: Buffer,
    ) -> Result<Reply<AwaitableDataFuture<Buffer>>, RequestFault> {
        let handle = file.handle();
        self.ask(|requests, id| Ok(requests.send_read_request(id, handle, offset, length, Some(buffer))?.wait()))
    }

    pub(super) fn write(&self, file: &File, offset: u64, bytes: Bytes) -> Result<Status, RequestFault> {
        let handle = file.handle();
        self.ask(|requests, id| Ok(requests.send_write_request_zero_copy(id, handle, offset, &[bytes])?.wait()))
    }

    /// Needs [`Extensions::FSYNC`].
    pub(super) fn fsync(&self, file: &File) -> Result<Status, RequestFault> {
        let handle = file.handle();
        self.ask(|requests, id| Ok(requests.send_fsync_request(id, handle)?.wait()))
    }

    pub(super) fn fstat(&self, file: &File) -> Result<AttributesReply, RequestFault> {
        let handle = file.handle();
        self.ask(|requests, id| Ok(requests.send_fstat_request(id, handle)?.wait()))
    }

    pub(super) fn lstat(&self, file: &str) -> Result<AttributesReply, RequestFault> {
        self.ask(|requests, id| Ok(requests.send_lstat_request(id, path(file))?.wait()))
    }

    /// The target of a symbolic link.
    pub(super) fn stat(&self, file: &str) -> Result<AttributesReply, RequestFault> {
        self.ask(|requests, id| Ok(requests.send_stat_request(id, path(file))?.wait()))
    }

    pub(super) fn open_folder(&self, folder: &str) -> Result<Reply<AwaitableHandleFuture<Buffer>>, RequestFault> {
        self.ask(|requests, id| Ok(requests.send_opendir_request(id, path(folder))?.wait()))
    }

    /// The next page of a folder; an empty one at its end.
    pub(super) fn read_folder(&self, folder: &File) -> Result<Reply<AwaitableNameEntriesFuture<Buffer>>, RequestFault> {
        let handle = folder.handle();
        self.ask(|requests, id| Ok(requests.send_readdir_request(id, handle)?.wait()))
    }

    /// The plain rename, which doesn't replace. OpenSSH links the new name and then takes the old one away.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<Status, RequestFault> {
        self.ask(|requests, id| Ok(requests.send_rename_request(id, path(from), path(to))?.wait()))
    }

    /// Not on an append-only account.
    pub(super) fn remove(&self, file: &str) -> Result<Status, RequestFault> {
        self.ask(|requests, id| Ok(requests.send_remove_request(id, path(file))?.wait()))
    }

    /// Makes a folder with mode 0700. Not on an append-only account.
    pub(super) fn make_folder(&self, folder: &str) -> Result<Status, RequestFault> {
        let mode = Permissions::READ_BY_OWNER | Permissions::WRITE_BY_OWNER | Permissions::EXECUTE_BY_OWNER;
        self.ask(|requests, id| Ok(requests.send_mkdir_request(id, path(folder), private(mode))?.wait()))
    }

    pub(super) fn limits(&self) -> Result<Reply<AwaitableLimitsFuture<Buffer>>, RequestFault> {
        self.ask(|requests, id| Ok(requests.send_limits_request(id)?.wait()))
    }

    /// The free space of a folder's file system. None if the server can't say.
    pub(super) async fn room(&self, folder: &str) -> Result<Option<Statvfs>, RequestFault> {
        if !self.extensions.contains(Extensions::STATVFS) {
            return Ok(None);
        }
        let asked: Reply<AwaitableStatvfsFuture<Buffer>> =
            self.ask(|requests, id| Ok(requests.send_statvfs_request(id, path(folder))?.wait()))?;
        asked.get().await.map(Some)
    }

    /// The reply to an open request. The file is closed on drop.
    pub(super) async fn opened(&self, reply: Reply<AwaitableHandleFuture<Buffer>>) -> Result<File, RequestFault> {
        let handle = reply.get().await?;
        let shared = SharedData::clone(&lock(&self.requests));
        Ok(File::new(shared, handle))
    }
}

/// Bytes that a read gave; none at the end of the file.
pub(super) fn bytes_of(data: Data<Buffer>) -> Buffer {
    match data {
        Data::Buffer(bytes) => bytes,
        Data::AllocatedBox(bytes) => bytes.into_vec(),
        Data::Eof => Buffer::new(),
    }
}

/// The file under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileStatus {
    /// A plain file of so many bytes.
    Plain(u64),
    Folder,
    Other,
}

impl FileStatus {
    pub(super) fn new(attributes: &FileAttrs) -> Self {
        match (attributes.get_filetype(), attributes.get_size()) {
            (Some(FileType::RegularFile), Some(size)) => FileStatus::Plain(size),
            (Some(FileType::Directory), _) => FileStatus::Folder,
            _ => FileStatus::Other,
        }
    }
}

/// The result of a stat; None if there is no such file.
pub(super) async fn found(reply: AttributesReply) -> Result<Option<FileStatus>, RequestFault> {
    match reply.get().await {
        Ok(attributes) => Ok(Some(FileStatus::new(&attributes))),
        Err(RequestFault::Status(openssh_sftp_client_lowlevel::SftpErrorKind::NoSuchFile, _)) => Ok(None),
        Err(fault) => Err(fault),
    }
}
