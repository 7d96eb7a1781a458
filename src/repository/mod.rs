//! The repository: the one place where crypto, format, index and remote meet.

mod changes;
mod copies;
mod costs;
mod damaged;
mod directory;
mod fetcher;
mod instance;
mod intake;
mod journal;
mod key_copies;
mod key_objects;
mod keyfiles;
mod keys;
mod listing;
mod lock;
mod marks;
mod packer;
mod pages;
mod put;
mod recipes;
mod salvage;
pub(crate) mod sequences;
mod snapshots;
mod stream_reader;
mod sync;

pub use changes::Changes;
pub use costs::{Cost, StreamCosts};
pub use directory::{PackEnds, PackParts, WantedPack};
pub use fetcher::{ChunkRun, Fetched, Fetcher};
pub use instance::instance;
pub use key_copies::{import, keep_copy, local_copies};
pub use key_objects::{Unlocking, id_in, newest_snapshot_ids, unlock, unlock_with};
pub use keyfiles::{read_secret, replace_secret, write_secret};
pub use keys::{Keys, add_recipients, create, generate, is_taken};
pub use lock::Lock;
pub use marks::StoredMark;
pub use packer::{ClosedPack, Finisher, PackBuilder, SegmentParts};
pub use pages::{Compared, DamagedRange, LayerWriter, Layers, Pages, PlacedLayer, StreamWalk};
pub use recipes::{Chosen, NeedsWalk, RecipeNeeds};
pub use salvage::{Salvage, Salvaged};
pub use snapshots::{Extent, NewSnapshot};
pub use stream_reader::StreamReader;
pub use sync::{Gone, PLACE};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::listing::known_among;
pub use self::listing::{FolderListing, list_folders, list_or_none};
use crate::class::{Class, Classified};
use crate::disk::{Space, way_out};
use crate::format::FormatError;
use crate::format::layout::parse_pack_name;
use crate::format::recipe::LayerId;
use crate::id::{InstanceId, PackId, RepositoryId};
use crate::index::{Index, IndexError};
use crate::remote::{self, Folder, ObjectName, Remote};
use crate::segment::SegmentError;

/// The failure of a request on a repository. Each text has the operation, its object, the reason and the advice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The remote failed.
    #[error(transparent)]
    Remote(#[from] remote::Error),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Stored data was changed, or is missing.
    #[error("{0}")]
    Damaged(String),
    /// A guard says no: another machine's repository, an unknown one, one that is hidden or replayed.
    #[error("{0}")]
    Refused(String),
    /// The request is impossible: a wrong name, a wrong key.
    #[error("{0}")]
    Usage(String),
    /// A local file failed.
    #[error("{tried} {path} failed: {source}{}", way_out(source))]
    Io {
        /// The operation.
        tried: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A segment could not be compressed, or a thread ended early.
    #[error("{0}")]
    Failed(String),
    /// The user, or the system, asked to stop.
    #[error("interrupted; nothing that was committed is lost")]
    Interrupted,
}

/// The result of work on a repository.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file for the time of the run, in the state folder, failed.
    pub fn temporary(folder: &Path, source: std::io::Error) -> Self {
        Self::io("using a temporary file in", folder, source)
    }

    fn io(tried: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { tried, path: path.to_owned(), source }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Error::Remote(error) => error.class(),
            Error::Index(error) => error.class(),
            Error::Io { source, .. } => Class::of_io(source),
            Error::Damaged(_) => Class::Damaged,
            Error::Refused(_) => Class::Refused,
            Error::Usage(_) => Class::Usage,
            Error::Failed(_) => Class::Failed,
            Error::Interrupted => Class::Interrupted,
        }
    }
}

impl From<SegmentError> for Error {
    fn from(error: SegmentError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// An object whose content doesn't match its name.
fn broken(object: impl std::fmt::Display, why: impl std::fmt::Display) -> Error {
    Error::Damaged(format!("{object} is damaged: {why}"))
}

/// The error of reading one object. If the object itself is the reason, it is damage: data that needs nothing of it is
/// unaffected.
fn of_object(error: remote::Error) -> Error {
    match error.is_of_object() {
        true => Error::Damaged(error.to_string()),
        false => error.into(),
    }
}

/// The error of a part of the format that doesn't read; another version is no damage.
fn unreadable(object: impl std::fmt::Display, error: FormatError) -> Error {
    match error {
        FormatError::Version(_) => Error::Usage(format!("{object} can't be read: {error}")),
        error => broken(object, error),
    }
}

/// Removes the base caches if the disk has no space for the index: they only make backups smaller. Chunks read from now
/// on are cached again, as far as there is space.
fn give_way(folder: &Path) {
    const LEAST: u64 = 16 << 20;
    let is_full = Space::of(folder).is_ok_and(|space| space.free < LEAST.min(space.total / 8));
    let entries = if is_full { std::fs::read_dir(folder).ok() } else { None };
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("base-") && name.ends_with(".chunks")) {
            // Where it can't be removed, the index says that there is no room.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Stands in a snapshot that no machine wrote.
const NO_INSTANCE: InstanceId = InstanceId::from_bytes([0; InstanceId::LEN]);

/// One repository: a remote, the keys for it, and its index.
pub struct Repository {
    remote: Arc<dyn Remote>,
    keys: Keys,
    index: Mutex<Index>,
    folder: PathBuf,
    /// Copies of layers in packs, once one was asked for.
    copied_layers: OnceLock<HashMap<LayerId, (ObjectName, u64)>>,
}

impl Repository {
    /// Opens the repository of `keys` on `remote`, with its index in a folder of its own below `state`.
    pub fn open(remote: Arc<dyn Remote>, keys: Keys, state: &Path) -> Result<Self> {
        let folder = state.join(keys.id().to_string());
        keyfiles::create_private_folder(&folder)?;
        give_way(&folder);
        let index = Mutex::new(Index::open_whole(&folder)?);
        Ok(Self { remote, keys, index, folder, copied_layers: OnceLock::new() })
    }

    /// Its id.
    pub fn id(&self) -> &RepositoryId {
        self.keys.id()
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where it lies.
    pub fn remote(&self) -> &Arc<dyn Remote> {
        &self.remote
    }

    /// The local folder with its index, lock and caches.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The index, for this thread alone while the guard lives.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        // A panicked thread held a database with transactions of its own: its state is consistent.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All packs that lie on the remote, with their sizes in bytes.
    pub fn pack_sizes(&self) -> Result<HashMap<PackId, u64>> {
        self.pack_sizes_of(self.remote.list(Folder::Packs))
    }

    /// The same of the folder's listing.
    pub fn pack_sizes_of(&self, listing: FolderListing) -> Result<HashMap<PackId, u64>> {
        let packs = known_among(&*self.remote, Folder::Packs, listing, parse_pack_name)?;
        Ok(packs.into_iter().map(|(object, id)| (id, object.size)).collect())
    }
}
