//! Folders: making, listing and flushing them.

use std::collections::{BTreeMap, VecDeque};

use openssh_sftp_client_lowlevel::{Extensions, FileAttrs, SftpErrorKind};

use super::Inner;
use super::connection::Connection;
use super::link::RequestFault;
use super::requests::{FileStatus, found};
use crate::remote::{Error, ErrorKind, Folder, Listed, ObjectName, Result};

/// Pages of a listing that are on their way at once.
const PAGES: usize = 16;
/// The most names that a folder may have. No repository comes near; a hostile server could go on for ever.
const MOST_NAMES: u64 = 4_000_000;

impl Inner {
    pub(super) fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        let connection = self.connection()?;
        self.wait(async {
            let (mut listed, mut strange, mut unclear) = (Vec::new(), 0, Vec::new());
            let path = self.path(folder.name());
            let each = |name: &str, attributes: &FileAttrs| match ObjectName::new(folder, name) {
                None => strange += 1,
                Some(name) => match (attributes.get_filetype(), FileStatus::new(attributes)) {
                    (_, FileStatus::Plain(size)) => listed.push(Listed { name, size }),
                    (Some(_), FileStatus::Other | FileStatus::Folder) => strange += 1,
                    (None, _) => unclear.push(name),
                },
            };
            let walked = self.walk(&connection, &path, each).await;
            walked.map_err(|error| error.into_error(self, "listing", self.at(folder.name())))?;
            // A server whose listings have no sizes.
            for name in unclear {
                match self.size(&connection, "listing", &name).await {
                    Ok(Some(size)) => listed.push(Listed { name, size }),
                    Ok(None) => {}
                    Err(error) if error.kind == ErrorKind::Invalid => strange += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok((listed, strange))
        })
    }

    /// Gives each name of a folder but `.` and `..` to `each`.
    async fn walk(
        &self,
        connection: &Connection,
        path: &str,
        mut each: impl FnMut(&str, &FileAttrs),
    ) -> std::result::Result<(), WalkError> {
        let folder = connection.opened(connection.open_folder(path)?).await?;
        let (mut pages, mut names) = (VecDeque::new(), 0);
        loop {
            while pages.len() < PAGES {
                pages.push_back(connection.read_folder(&folder)?);
            }
            let Some(page) = pages.pop_front() else { return Ok(()) };
            let page = page.get().await?;
            if page.is_empty() {
                return Ok(());
            }
            names += page.len() as u64;
            if names > MOST_NAMES {
                return Err(WalkError::Endless);
            }
            for entry in &page {
                let name = entry.filename.to_string_lossy();
                if name != "." && name != ".." {
                    each(&name, &entry.attrs);
                }
            }
        }
    }

    pub(super) fn flush(&self, folder: Folder) -> Result<bool> {
        const ACTION: &str = "flushing";
        let connection = self.connection()?;
        let path = self.path(folder.name());
        let fail = |fault| self.error(ACTION, folder.name(), fault);
        self.wait(async {
            let (look, open) = (connection.lstat(&path), connection.open_file(&path));
            let look = async { found(look?).await };
            let flush = async {
                let file = connection.opened(open?).await?;
                connection.fsync(&file)?.get().await
            };
            match look.await.map_err(fail)? {
                None => {
                    let reason = "there is no such folder";
                    return Err(Error::new(ErrorKind::NotFound, ACTION, self.at(folder.name()), reason));
                }
                Some(FileStatus::Folder) => {}
                Some(_) => return Err(self.no_such_folder(ACTION, folder)),
            }
            if !connection.extensions.contains(Extensions::FSYNC) {
                return Ok(false);
            }
            match flush.await {
                Ok(()) => Ok(true),
                // A server that opens no folders, an account that may not, a file system that can't flush one.
                Err(RequestFault::Status(
                    SftpErrorKind::PermDenied | SftpErrorKind::OpUnsupported | SftpErrorKind::BadMessage,
                    _,
                )) => Ok(false),
                Err(fault) => Err(self.write_error(&connection, ACTION, folder.name(), fault).await),
            }
        })
    }

    fn no_such_folder(&self, action: &'static str, folder: Folder) -> Error {
        let error = Error::new(ErrorKind::Invalid, action, self.at(folder.name()), "it is no folder");
        error.hint("a repository has plain folders and plain files, and no symbolic link is followed")
    }

    pub(super) fn create_folders(&self) -> Result<()> {
        const ACTION: &str = "making a repository in";
        let connection = self.connection()?;
        self.wait(async {
            let mut there = BTreeMap::new();
            let each = |name: &str, attributes: &FileAttrs| {
                // Foreign files: one name is enough for the error.
                if is_ours(name) || there.keys().all(|name: &String| is_ours(name)) {
                    there.insert(name.to_owned(), FileStatus::new(attributes));
                }
            };
            let walked = self.walk(&connection, self.root_path(), each).await;
            walked.map_err(|error| error.into_error(self, ACTION, self.place.clone()))?;
            for folder in Folder::ALL {
                if there.get(folder.name()).is_some_and(|found| *found != FileStatus::Folder) {
                    return Err(self.no_such_folder("opening", folder));
                }
            }
            let missing = |folder: &Folder| !there.contains_key(folder.name());
            let foreign = there.keys().find(|name| !is_ours(name));
            if let Some(name) = foreign
                && [Folder::Info, Folder::Packs].iter().any(missing)
            {
                let reason = format!("it is no repository, and {name:?} lies there");
                let error = Error::new(ErrorKind::Invalid, ACTION, &self.place, reason);
                return Err(error.hint("name an empty folder, or one that isn't there yet"));
            }
            for folder in Folder::ALL.into_iter().filter(missing) {
                self.make(&connection, &self.path(folder.name()), self.at(folder.name())).await?;
            }
            Ok(())
        })
    }

    /// Makes the root and the folders above it where they are missing.
    pub(super) fn make_root(&self) -> Result<()> {
        let connection = self.connection()?;
        let root = self.root_path();
        self.wait(async {
            let mut missing = Vec::new();
            // The root, then the folders above it.
            let ends = root.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
            let ends: Vec<usize> = ends.chain([root.len()]).collect();
            for end in ends.into_iter().rev() {
                let path = &root[..end];
                let look = async { found(connection.stat(path)?).await };
                match look.await.map_err(|fault| self.error_at("opening", self.place.clone(), fault))? {
                    Some(FileStatus::Folder) => break,
                    Some(_) => return Err(self.no_folder("opening")),
                    None => missing.push(path),
                }
            }
            for path in missing.into_iter().rev() {
                self.make(&connection, path, self.place.clone()).await?;
            }
            Ok(())
        })
    }

    /// Creates a folder, or finds that it exists by now.
    async fn make(&self, connection: &Connection, path: &str, place: String) -> Result<()> {
        const ACTION: &str = "making the folder";
        let make = async { connection.make_folder(path)?.get().await };
        let Err(fault) = make.await else { return Ok(()) };
        if let RequestFault::Status(SftpErrorKind::PermDenied | SftpErrorKind::OpUnsupported, _) = &fault {
            let names: Vec<_> = Folder::ALL.iter().map(|folder| folder.name()).collect();
            let error = self.error_at(ACTION, place, fault);
            return Err(error.hint(format!(
                "the account may not make folders. For an append-only account run `varu host prepare` on the host; else \
                 make them there, owned by the account: mkdir -m 0700 {}",
                names.join(" ")
            )));
        }
        let look = async { found(connection.lstat(path)?).await };
        match look.await {
            Ok(Some(FileStatus::Folder)) => Ok(()),
            _ => Err(Error { object: place, ..self.write_error(connection, ACTION, "", fault).await }),
        }
    }
}

/// Whether a name belongs into a folder in which a repository is made. A fresh disk has a lost+found.
fn is_ours(name: &str) -> bool {
    name == "lost+found" || Folder::ALL.iter().any(|folder| folder.name() == name)
}

enum WalkError {
    Fault(RequestFault),
    /// It has more names than any repository.
    Endless,
}

impl From<RequestFault> for WalkError {
    fn from(fault: RequestFault) -> Self {
        WalkError::Fault(fault)
    }
}

impl WalkError {
    fn into_error(self, inner: &Inner, action: &'static str, place: String) -> Error {
        match self {
            WalkError::Fault(fault) => inner.error_at(action, place, fault),
            WalkError::Endless => {
                let reason = format!("it has more than {MOST_NAMES} names");
                Error::new(ErrorKind::Invalid, action, place, reason).hint("look on the host who fills it")
            }
        }
    }
}
