//! A remote in a folder of an SFTP account, over the system's `ssh`.
//!
//! Each connection is a child `ssh -s HOST sftp`; SFTP is spoken over its pipes. So `~/.ssh/config`, agents, jump hosts and
//! host keys work as people know them, and nothing of SSH is implemented here. Outside this module nothing is asynchronous:
//! each call blocks its thread until its answers are there.
//!
//! `pool` keeps the connections, `connection` is one of them: `guard` checks the server's packets before the SFTP client
//! sees them, `line` records whether it is up, `failure` why it ended. `requests` are the requests that are used;
//! `upload`, `read` and `folders` implement the remote's calls with them.
//!
//! All but [`Remote::delete`], [`Remote::create_folders`] and the tidying of broken uploads works on an account that can
//! only create, write, flush, rename without replacing, read, look, list and ask for room.

mod connection;
mod failure;
mod files;
mod folders;
mod guard;
mod host_key;
mod link;
mod pool;
mod read;
mod requests;
mod session;
mod ssh;
mod upload;

use std::ffi::OsString;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use openssh_sftp_client_lowlevel::{SftpErrorKind, Statvfs};
use tokio::runtime::{Builder, Handle, Runtime};

use self::connection::Connection;
use self::failure::Disconnect;
use self::link::RequestFault;
use self::pool::Pool;
use self::requests::{FileStatus, found};
use self::session::close;
use self::ssh::Launch;
use super::options::Options;
use super::place::SftpPlace;
use super::{Clocks, Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload, lock};

pub use self::host_key::{HostKey, known_host_key, trust_host_key};

/// A remote in a folder of an SFTP account.
pub struct SftpRemote(Arc<Inner>);

/// State shared by the remote and its uploads.
struct Inner {
    runtime: Option<Runtime>,
    handle: Handle,
    pool: Arc<Pool>,
    /// Where it is, for messages.
    place: String,
    /// The folder: absolute, relative to where the account begins, or empty for that.
    root: String,
    /// Whether the account was seen to refuse deleting.
    append_only: AtomicBool,
    clocks: Mutex<Option<Clocks>>,
}

impl SftpRemote {
    /// The remote at `place`, whose folder must exist. Connects. The remote's own folders need not exist, before
    /// [`Remote::create_folders`].
    pub fn open(place: &SftpPlace, options: &Options) -> Result<Self> {
        let remote = Self::new(Launch::ssh(place, options), place.to_string(), place.path(), options)?;
        remote.0.find_root()?;
        Ok(remote)
    }

    /// Creates the folder at `place` and missing ones above it, opens it, and creates the remote's folders in it.
    pub fn create(place: &SftpPlace, options: &Options) -> Result<Self> {
        let remote = Self::new(Launch::ssh(place, options), place.to_string(), place.path(), options)?;
        remote.0.make_root()?;
        remote.create_folders()?;
        Ok(remote)
    }

    /// The remote in the folder `path` of a server that a program speaks to on its standard input and output:
    /// `/usr/lib/openssh/sftp-server` for one without SSH.
    pub fn over(program: Vec<OsString>, path: &str, options: &Options) -> Result<Self> {
        let name = program.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default();
        let remote = Self::new(Launch::program(program, options), format!("{name}:{path}"), path, options)?;
        remote.0.find_root()?;
        Ok(remote)
    }

    fn new(launch: Launch, place: String, root: &str, options: &Options) -> Result<Self> {
        options.check()?;
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("varu-sftp").enable_all().build();
        let runtime = runtime.map_err(|error| Error::from_io("preparing the connection to", &place, &error))?;
        Ok(Self(Arc::new(Inner {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            pool: Pool::new(launch, options.connections),
            place,
            root: root.to_owned(),
            append_only: AtomicBool::new(false),
            clocks: Mutex::new(None),
        })))
    }

    /// How many connections are open, for those who want to see it.
    pub fn connections(&self) -> usize {
        self.0.pool.all().len()
    }
}

impl Drop for SftpRemote {
    fn drop(&mut self) {
        // Uploads that are still under way need the connections; those of a runtime can't be waited for inside another.
        if Arc::strong_count(&self.0) > 1 || Handle::try_current().is_ok() {
            return;
        }
        // Those that are being opened, too: no program is left behind when ours ends.
        let links = self.0.pool.links();
        links.iter().for_each(|link| link.closing.notify_one());
        self.0.wait(async {
            for link in links {
                close(&link).await;
            }
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    /// Runs a future that waits for answers to its end.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    fn connection(&self) -> Result<Arc<Connection>> {
        self.pool.one(&self.handle).map_err(|disconnect| self.unreached(&disconnect))
    }

    /// Where an object or a folder is, for messages.
    fn at(&self, object: impl Display) -> String {
        format!("{}/{object}", self.place.trim_end_matches('/'))
    }

    /// A path below the root, for the server.
    fn path(&self, object: impl Display) -> String {
        match self.root.as_str() {
            "" => object.to_string(),
            "/" => format!("/{object}"),
            root => format!("{root}/{object}"),
        }
    }

    fn root_path(&self) -> &str {
        match self.root.as_str() {
            "" => ".",
            root => root,
        }
    }

    fn unreached(&self, disconnect: &Disconnect) -> Error {
        let error = Error::new(disconnect.kind, "connecting to", &self.place, &disconnect.reason);
        Error { hint: disconnect.hint.clone(), ..error }
    }

    /// The error that a fault on an object or folder means.
    fn error(&self, action: &'static str, object: impl Display, fault: RequestFault) -> Error {
        self.error_at(action, self.at(object), fault)
    }

    fn error_at(&self, action: &'static str, place: String, fault: RequestFault) -> Error {
        match fault {
            RequestFault::Dead(disconnect) => Error {
                hint: disconnect.hint.clone(),
                ..Error::new(disconnect.kind, action, place, &disconnect.reason)
            },
            RequestFault::Strange(what) => {
                Error::new(ErrorKind::Other, action, place, format!("the server's answer makes no sense: {what}"))
            }
            RequestFault::Status(code, message) => {
                let error = Error::new(kind_of(code), action, place, format!("the host says {message:?}"));
                match error.kind {
                    ErrorKind::Refused => {
                        error.hint("look at its owner and mode on the host, and at what the account may do")
                    }
                    _ => error,
                }
            }
        }
    }

    /// The error for a failed write. OpenSSH reports a full disk, an exceeded quota and a read-only disk as "Failure"
    /// alone, so the file system is queried.
    async fn write_error(
        &self,
        connection: &Connection,
        action: &'static str,
        object: impl Display,
        fault: RequestFault,
    ) -> Error {
        let unclear = matches!(&fault, RequestFault::Status(SftpErrorKind::Failure | SftpErrorKind::Unknown, _));
        let error = self.error(action, object, fault);
        if !unclear {
            return error;
        }
        match connection.room(self.root_path()).await {
            Ok(Some(room)) => explain_by_room(error, &room),
            _ => error.hint("look on the host whether its disk is full or can only be read"),
        }
    }

    /// Looks whether the root is there and a folder. A symbolic link to one is as good.
    fn find_root(&self) -> Result<()> {
        let connection = self.connection()?;
        match self.wait(async { found(connection.stat(self.root_path())?).await }) {
            Ok(Some(FileStatus::Folder)) => Ok(()),
            Ok(Some(_)) => Err(self.no_folder("opening")),
            Ok(None) => {
                let error = Error::new(ErrorKind::NotFound, "opening", &self.place, "there is no such folder");
                Err(error.hint("look whether the path is right: it is the one that the account sees"))
            }
            Err(fault) => Err(self.error_at("opening", self.place.clone(), fault)),
        }
    }

    fn no_folder(&self, action: &'static str) -> Error {
        Error::new(ErrorKind::Invalid, action, &self.place, "it is no folder").hint("name a folder")
    }
}

fn kind_of(code: SftpErrorKind) -> ErrorKind {
    match code {
        SftpErrorKind::NoSuchFile => ErrorKind::NotFound,
        SftpErrorKind::PermDenied | SftpErrorKind::OpUnsupported => ErrorKind::Refused,
        SftpErrorKind::Failure => ErrorKind::Medium,
        _ => ErrorKind::Other,
    }
}

/// Classifies a failure to write, on a file system with this free space.
fn explain_by_room(error: Error, room: &Statvfs) -> Error {
    const READ_ONLY: u64 = 1;
    const LITTLE: u64 = 1 << 20;
    let free = room.bavail.saturating_mul(room.frsize);
    let (kind, reason, hint) = if room.flag & READ_ONLY != 0 {
        (ErrorKind::ReadOnly, "its disk can only be read".to_owned(), "mount it for writing on the host")
    } else if free < LITTLE {
        (ErrorKind::NoSpace, format!("its disk is full: {free} bytes are free"), "make room on the host")
    } else if room.favail == 0 && room.files > 0 {
        (ErrorKind::NoSpace, "its file system has room for no more files".to_owned(), "make room on the host")
    } else {
        let reason = format!("{}, though {free} bytes are free: a quota is used up, or the disk fails", error.reason);
        (ErrorKind::NoSpace, reason, "look at the account's quota and the system's log on the host")
    };
    Error { kind, reason, ..error }.hint(hint)
}

impl Remote for SftpRemote {
    fn place(&self) -> String {
        self.0.place.clone()
    }

    fn create_folders(&self) -> Result<()> {
        self.0.create_folders()
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::SftpUpload::begin(&self.0)?))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.0.get(name, limit)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.get_range(name, offset, buffer)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        let connection = self.0.connection()?;
        self.0.wait(self.0.size(&connection, "looking at", name))
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.0.list(folder)
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.0.flush(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let connection = self.0.connection()?;
        for connection in self.0.pool.all() {
            connection.files.forget(name);
        }
        self.0.wait(self.0.delete(&connection, name))
    }

    /// An append-only account is refused the request, whatever it names; for an ordinary one there is no such file.
    fn can_delete(&self) -> Result<bool> {
        let connection = self.0.connection()?;
        let nothing = self.0.path(format_args!("{}/.none", Folder::Pending.name()));
        match self.0.wait(async { connection.remove(&nothing)?.get().await }) {
            Ok(()) | Err(RequestFault::Status(SftpErrorKind::NoSuchFile, _)) => Ok(true),
            Err(RequestFault::Status(SftpErrorKind::PermDenied | SftpErrorKind::OpUnsupported, _)) => Ok(false),
            Err(fault) => Err(self.0.error_at("asking about deleting in", self.0.place.clone(), fault)),
        }
    }

    fn free_space(&self) -> Result<Option<u64>> {
        let connection = self.0.connection()?;
        match self.0.wait(connection.room(self.0.root_path())) {
            Ok(room) => Ok(room.map(|room| room.bavail.saturating_mul(room.frsize))),
            // Offered, but not to this account.
            Err(RequestFault::Status(SftpErrorKind::PermDenied | SftpErrorKind::OpUnsupported, _)) => Ok(None),
            Err(fault) => Err(self.0.error_at("asking for the free space of", self.0.place.clone(), fault)),
        }
    }

    fn calls_at_once(&self) -> usize {
        self.0.pool.calls_at_once()
    }

    fn clocks(&self) -> Option<Clocks> {
        *lock(&self.0.clocks)
    }
}

impl Inner {
    /// An object's size, None if it isn't there.
    async fn size(&self, connection: &Connection, action: &'static str, name: &ObjectName) -> Result<Option<u64>> {
        let look = async { found(connection.lstat(&self.path(name))?).await };
        match look.await.map_err(|fault| self.error(action, name, fault))? {
            None => Ok(None),
            Some(FileStatus::Plain(size)) => Ok(Some(size)),
            Some(_) => Err(self.no_plain_file(action, name)),
        }
    }

    fn no_plain_file(&self, action: &'static str, name: &ObjectName) -> Error {
        let error = Error::new(ErrorKind::Invalid, action, self.at(name), "it is no plain file");
        error.hint("a repository has plain folders and plain files, and no symbolic link is followed")
    }

    async fn delete(&self, connection: &Connection, name: &ObjectName) -> Result<()> {
        const ACTION: &str = "deleting";
        let remove = async { connection.remove(&self.path(name))?.get().await };
        match remove.await {
            Ok(()) => Ok(()),
            Err(RequestFault::Status(SftpErrorKind::PermDenied, message)) => {
                if self.size(connection, ACTION, name).await?.is_none() {
                    return Err(Error::new(ErrorKind::NotFound, ACTION, self.at(name), "there is no such object"));
                }
                let error = Error::new(ErrorKind::Refused, ACTION, self.at(name), format!("the host says {message:?}"));
                Err(error.hint("on an append-only account only the host deletes: varu host prune"))
            }
            Err(fault) => Err(self.write_error(connection, ACTION, name, fault).await),
        }
    }

    /// Whether deleting is known to be refused.
    fn is_append_only(&self) -> bool {
        self.append_only.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64, files: u64, flag: u64) -> Statvfs {
        let frsize = 4096;
        Statvfs {
            bsize: frsize,
            frsize,
            blocks: 1 << 30,
            bfree: free / frsize,
            bavail: free / frsize,
            files: 100,
            ffree: files,
            favail: files,
            fsid: 1,
            flag,
            namemax: 255,
        }
    }

    #[test]
    fn a_failure_to_write_is_explained_by_the_room() {
        for (room, kind, said) in [
            (room(0, 10, 0), ErrorKind::NoSpace, "full: 0 bytes"),
            (room(1 << 30, 10, 1), ErrorKind::ReadOnly, "only be read"),
            (room(0, 10, 3), ErrorKind::ReadOnly, "only be read"),
            (room(1 << 30, 0, 0), ErrorKind::NoSpace, "no more files"),
            (room(1 << 30, 10, 0), ErrorKind::NoSpace, "quota"),
        ] {
            let error = Error::new(ErrorKind::Other, "writing", "sftp://h/x", "the host says \"Failure\"");
            let error = explain_by_room(error, &room);
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.to_string().contains(said) && error.hint.is_some(), "{error}");
        }
    }
}
