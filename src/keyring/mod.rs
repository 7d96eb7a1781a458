//! Selection of the keys on this machine that belong to a repository.
//!
//! Keys are files of one folder, `ID.writer.key` and `ID.identity.txt`. The id that belongs to a location is recorded in
//! the state folder once it was opened; before that, the key objects and snapshots there tell it, and at last
//! `info/varu.toml`. This only chooses among keys of this machine: the key itself then proves what it opens.

mod change;
mod places;

pub use change::{RecipientAdded, Rotated, Rotation, add_recipient, recipients_with, recover};

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::crypto::IdentityFile;
use crate::error::{Error, Result};
use crate::format::layout::{info_name, key_name};
use crate::format::writer_key::WriterKeyFile;
use crate::id::RepositoryId;
use crate::remote::{Folder, ObjectName, Remote};
use crate::repository::{
    self, Keys, Unlocking, is_taken, list_or_none, local_copies, newest_snapshot_ids, read_secret, unlock_with,
};

/// Most bytes that are read of the text for people.
const MAX_INFO: u64 = 64 << 10;

/// Where keys are looked for.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// The folder of keys; None if there is none.
    pub folder: Option<PathBuf>,
    /// The writer key's file, where a person named one.
    pub writer_key: Option<PathBuf>,
    /// The identity's file, where a person named one.
    pub identity: Option<PathBuf>,
    /// The state folder with the records of locations; None without one.
    pub state: Option<PathBuf>,
}

/// The keys that an identity opened.
pub struct Unlocked {
    /// Its file.
    pub path: PathBuf,
    /// The identity.
    pub identity: IdentityFile,
    /// The keys of all repository ids at that location, the newest first.
    pub keys: Vec<Keys>,
    /// Ids there that it opens and that nobody named, and the id that each claims to succeed.
    pub strangers: BTreeMap<RepositoryId, Option<RepositoryId>>,
    /// Ids that it names, that belong to that location, and whose keys are missing.
    pub missing: BTreeSet<RepositoryId>,
    /// Damaged and foreign keys, each a sentence.
    pub found: Vec<String>,
}

impl Unlocked {
    /// Refuses if the identity doesn't cover the location: it names an id whose keys are gone, or opens one that it
    /// doesn't name, and that succeeds one of its own.
    ///
    /// # Errors
    ///
    /// [`repository::Error::Damaged`] for the first, [`Error::Refused`] for the second.
    pub fn check_complete(&self, place: &str) -> Result<()> {
        if let Some(why) = self.missing_sentence(place) {
            return Err(repository::Error::Damaged(format!("{why}. {IGNORE_NEWER}")).into());
        }
        match self.unnamed_sentence(place) {
            Some(why) => Err(Error::Refused(format!("{why}. {IGNORE_NEWER}"))),
            None => Ok(()),
        }
    }

    /// The keys, and remarks about them.
    pub fn reading(self, place: &str) -> ReadKeys {
        let (missing, unnamed) = (self.missing_sentence(place), self.unnamed_sentence(place));
        ReadKeys { keys: self.keys, missing, unnamed, found: self.found }
    }

    /// Reports the ids whose keys are missing, or hidden.
    fn missing_sentence(&self, place: &str) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let ids: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
        Some(format!(
            "the identity names the repository {}, and {place} has no key object that opens it: it was lost, or the host \
             hides it. The machine's next `varu backup` puts it back; so does `varu key import FILE` with the key object of the \
             recovery sheet",
            ids.join(", ")
        ))
    }

    /// Reports the ids that the identity opens, doesn't name, and that claim to succeed one that it names.
    fn unnamed_sentence(&self, place: &str) -> Option<String> {
        let follows =
            |before: &Option<RepositoryId>| before.is_some_and(|id| self.keys.iter().any(|keys| *keys.id() == id));
        let mut ids = self.strangers.iter().filter(|(_, before)| follows(before)).map(|(id, _)| id);
        let first = ids.next()?;
        let more = match ids.count() {
            0 => String::new(),
            more => format!(" (and {more} more like it)"),
        };
        Some(format!(
            "{place} has keys of the repository {first}{more}, which this identity file doesn't name and which says that it \
             goes on from one that it names: a rotation was made with another copy of the identity or was cut, or it is a \
             forgery. Compare the id with the machine's (`varu key show`): --trust-repository {first} takes it"
        ))
    }
}

/// The way past a newer repository id.
pub const IGNORE_NEWER: &str = "--ignore-newer goes on with what is older";

/// Keys to open a location with, and remarks about them.
pub struct ReadKeys {
    /// At least one, the newest id first.
    pub keys: Vec<Keys>,
    /// Reports the ids that the identity names and that are stored there without keys.
    pub missing: Option<String>,
    /// Reports the ids there that succeed one that the identity names.
    pub unnamed: Option<String>,
    /// Damaged and foreign keys, each a sentence.
    pub found: Vec<String>,
}

/// A writer key and its file.
pub struct WriterKey {
    /// Its file.
    pub path: PathBuf,
    /// Its keys. They open no chunk.
    pub keys: Keys,
}

/// Whether the remote holds a repository, or a part of one: key objects, or anything that needs them.
pub fn has_repository(remote: &dyn Remote) -> Result<bool> {
    Ok(!list_or_none(remote, Folder::Keys)?.is_empty() || is_taken(remote)?)
}

/// The repository id that the text for people names. Nothing vouches for it.
pub fn stated_id(remote: &dyn Remote) -> Option<RepositoryId> {
    let bytes = remote.get(&info_name(), MAX_INFO).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let value = text.lines().find_map(|line| line.trim().strip_prefix("repository"))?;
    value.trim_start().strip_prefix('=')?.trim().trim_matches('"').parse().ok()
}

impl Keyring {
    /// Where the writer key of that id is, or is to be made.
    pub fn writer_key_path(&self, id: &RepositoryId) -> Result<PathBuf> {
        match &self.writer_key {
            Some(path) => Ok(path.clone()),
            None => Ok(self.keys_folder()?.join(format!("{id}{WRITER_KEY}"))),
        }
    }

    /// Where the identity of that repository is to be made.
    pub fn identity_path(&self, id: &RepositoryId) -> Result<PathBuf> {
        match &self.identity {
            Some(path) => Ok(path.clone()),
            None => Ok(self.keys_folder()?.join(format!("{id}{IDENTITY}"))),
        }
    }

    fn keys_folder(&self) -> Result<&Path> {
        let none =
            || Error::Usage("there is no folder for keys: set HOME, or give --writer-key and --identity".to_owned());
        self.folder.as_deref().ok_or_else(none)
    }

    /// The writer key for the repository on `remote`: the named one, else the newest in the folder of keys that fits.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is no repository or no key for it, [`Error::Refused`] if the key is another
    /// repository's, or if a repository was there and the location is empty now.
    pub fn writer(&self, remote: &dyn Remote) -> Result<WriterKey> {
        self.writers(remote).map(|mut writers| writers.swap_remove(0))
    }

    /// As [`Keyring::writer`], and after it the keys that it follows, as far as they are in the folder of keys.
    pub fn writers(&self, remote: &dyn Remote) -> Result<Vec<WriterKey>> {
        let place = remote.place();
        let known = self.known(&place)?;
        if !has_repository(remote)? {
            return Err(no_repository(&place, &known));
        }
        let stated = stated_id(remote);
        let first = match &self.writer_key {
            Some(path) => self.named_writer(path, &place, &known, stated)?,
            None => self.found_writer(remote, &known, stated)?,
        };
        let mut writers = vec![first];
        while let Some(follows) = writers.last().and_then(|writer| writer.keys.file().follows)
            && let Some(older) = self.writer_of(&follows)
        {
            writers.push(older);
        }
        Ok(writers)
    }

    fn named_writer(
        &self,
        path: &Path,
        place: &str,
        known: &[RepositoryId],
        stated: Option<RepositoryId>,
    ) -> Result<WriterKey> {
        if matches!(path.try_exists(), Ok(false)) {
            return Err(Error::Usage(format!(
                "there is no writer key {}; check the path (--writer-key). Where it is lost, `varu key recover` writes it again, \
                 with the identity",
                path.display()
            )));
        }
        let file = read_writer_key(path)?;
        let id = file.repository_id();
        // After a rotation the text for people may still name the old id.
        let fits = known.contains(&id) || file.follows.is_some() || stated.is_none_or(|stated| stated == id);
        if !fits {
            let (path, other) = (path.display(), known.first().copied().or(stated));
            let other = other.map_or_else(|| "another".to_owned(), |other| other.to_string());
            return Err(Error::Refused(format!(
                "the writer key {path} belongs to the repository {id}, and {place} holds {other}; use the key of that \
                 repository (--writer-key), or the place of this one (--repo)"
            )));
        }
        Ok(WriterKey { path: path.to_owned(), keys: Keys::new(file)? })
    }

    fn found_writer(
        &self,
        remote: &dyn Remote,
        known: &[RepositoryId],
        stated: Option<RepositoryId>,
    ) -> Result<WriterKey> {
        let folder = self.keys_folder()?;
        let mut files = self.writer_files();
        let mut accepted: HashSet<RepositoryId> = known.iter().copied().collect();
        if accepted.is_empty() {
            // A location with a key's very object is that key's.
            let there: HashSet<ObjectName> =
                list_or_none(remote, Folder::Keys)?.into_iter().map(|listed| listed.name).collect();
            let has_object = |file: &WriterKeyFile| there.contains(&key_name(&file.key_object));
            accepted.extend(files.iter().filter(|(_, file)| has_object(file)).map(|(_, file)| file.repository_id()));
        }
        if accepted.is_empty() {
            let there = newest_snapshot_ids(remote)?;
            let ids = files.iter().map(|(_, file)| file.repository_id());
            accepted.extend(ids.filter(|id| there.contains(id)));
        }
        if accepted.is_empty() {
            accepted.extend(stated);
        }
        // A key that follows an accepted one is a later key of the same location.
        while let Some(next) = files.iter().find(|(_, file)| {
            file.follows.is_some_and(|before| accepted.contains(&before)) && !accepted.contains(&file.repository_id())
        }) {
            accepted.insert(next.1.repository_id());
        }
        files.retain(|(_, file)| accepted.contains(&file.repository_id()));
        let followed: HashSet<RepositoryId> = files.iter().filter_map(|(_, file)| file.follows).collect();
        // The newest key writes: the one that no other key in the folder succeeds.
        match files.into_iter().find(|(_, file)| !followed.contains(&file.repository_id())) {
            Some((path, file)) => Ok(WriterKey { path, keys: Keys::new(file)? }),
            None => Err(no_writer_key(folder, &remote.place(), &accepted)),
        }
    }

    /// The writer key of that id in the folder of keys.
    fn writer_of(&self, id: &RepositoryId) -> Option<WriterKey> {
        let path = self.folder.as_ref()?.join(format!("{id}{WRITER_KEY}"));
        let file = read_writer_key(&path).ok().filter(|file| file.repository_id() == *id)?;
        Some(WriterKey { path, keys: Keys::new(file).ok()? })
    }

    /// The files of writer keys in the folder of keys, by name.
    pub fn writer_key_files(&self) -> Vec<PathBuf> {
        self.files(WRITER_KEY)
    }

    /// All files of keys: those that were named, and the writer keys and identities in the folder of keys.
    pub fn key_files(&self) -> BTreeSet<PathBuf> {
        let named = [&self.writer_key, &self.identity].into_iter().flatten().cloned();
        named.chain(self.files(WRITER_KEY)).chain(self.files(IDENTITY)).collect()
    }

    /// All writer keys in the folder of keys that can be read.
    fn writer_files(&self) -> Vec<(PathBuf, WriterKeyFile)> {
        let paths = self.files(WRITER_KEY).into_iter();
        paths.filter_map(|path| read_writer_key(&path).ok().map(|file| (path, file))).collect()
    }

    /// The files in the folder of keys whose names end so, sorted.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        let Some(entries) = self.folder.as_ref().and_then(|folder| std::fs::read_dir(folder).ok()) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)))
            .collect();
        paths.sort();
        paths
    }

    /// Opens the repository on `remote` with the identity: the named one, else one in the folder of keys that names the
    /// repository. `trusted` are ids that a person vouches for.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is no repository or no identity; as [`unlock`](repository::unlock).
    pub fn unlock(&self, remote: &dyn Remote, trusted: &[RepositoryId]) -> Result<Unlocked> {
        let place = remote.place();
        let known = self.known(&place)?;
        if !has_repository(remote)? {
            return Err(no_repository(&place, &known));
        }
        let (path, identity) = self.identity(remote)?;
        let others =
            |stated: &RepositoryId| !identity.repositories().is_empty() && !identity.repositories().contains(stated);
        let copies = self.copies(&identity, trusted);
        let unlocking = unlock_with(remote, &identity, trusted, &copies).map_err(|error| match (error, stated_id(remote)) {
            (repository::Error::Damaged(_), Some(stated)) if others(&stated) => repository::Error::Refused(format!(
                "{place} says that it is the repository {stated}, which the identity in {} doesn't open: check the URL \
                     and the identity; if both are right, the host has put another repository in its place",
                path.display()
            )),
            (error, _) => error,
        })?;
        let Unlocking { keys, strangers, missing, found } = unlocking;
        Ok(Unlocked { path, identity, keys, strangers, missing, found })
    }

    /// The copies of key objects on this machine: in the state folder, and in the files of writer keys.
    fn copies(&self, identity: &IdentityFile, trusted: &[RepositoryId]) -> Vec<Vec<u8>> {
        let ids = identity.repositories();
        let mut copies = match &self.state {
            Some(state) => local_copies(state, ids.iter().chain(trusted)),
            None => Vec::new(),
        };
        let named = self.writer_key.as_ref().and_then(|path| read_writer_key(path).ok());
        copies.extend(named.map(|file| file.key_object));
        copies.extend(self.writer_files().into_iter().map(|(_, file)| file.key_object));
        copies
    }

    /// The identity in the folder of keys that names the repository at `place`.
    fn found_identity(
        &self,
        place: &str,
        known: &[RepositoryId],
        stated: Option<RepositoryId>,
    ) -> Result<(PathBuf, IdentityFile)> {
        let ids: HashSet<RepositoryId> = known.iter().copied().chain(stated).collect();
        for path in self.files(IDENTITY) {
            // One that can't be read may be another repository's.
            let Ok(identity) = read_identity(&path) else { continue };
            if ids.is_empty() || identity.repositories().iter().any(|id| ids.contains(id)) {
                return Ok((path, identity));
            }
        }
        let folder = self.folder.as_ref().map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        Err(Error::Usage(format!(
            "the identity of the repository at {place} is needed, and none that names it is{folder}; give it with \
             --identity FILE"
        )))
    }

    /// Identities in the folder of keys that open one of these repositories: each is a copy that a thief would find.
    pub fn identities_here(&self, ids: &[RepositoryId]) -> Vec<PathBuf> {
        let named = self.identity.clone().into_iter();
        let opens = |path: &PathBuf| {
            read_identity(path).is_ok_and(|identity| identity.repositories().iter().any(|id| ids.contains(id)))
        };
        let mut paths: Vec<PathBuf> = named.chain(self.files(IDENTITY)).filter(opens).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// The named identity, else the one in the folder of keys that names the repository on `remote`.
    pub fn identity(&self, remote: &dyn Remote) -> Result<(PathBuf, IdentityFile)> {
        match &self.identity {
            Some(path) => Ok((path.clone(), read_identity(path)?)),
            None => self.found_identity(&remote.place(), &self.known(&remote.place())?, stated_id(remote)),
        }
    }

    /// The keys, and those before them whose writer keys aren't here: from the identity, where a person named one that opens
    /// them.
    fn with_older(&self, remote: &dyn Remote, mut keys: Vec<Keys>, trusted: &[RepositoryId]) -> Vec<Keys> {
        let before = |keys: &[Keys]| keys.last().and_then(|oldest| oldest.file().follows);
        if self.identity.is_none() || before(&keys).is_none() {
            return keys;
        }
        let mut others = self.unlock(remote, trusted).map(|unlocked| unlocked.keys).unwrap_or_default();
        while let Some(id) = before(&keys)
            && let Some(at) = others.iter().position(|other| *other.id() == id)
        {
            keys.push(others.swap_remove(at));
        }
        keys
    }

    /// Keys with which the repository's snapshots can be looked at, the newest id first: from the identity where a person
    /// named one, else from the writer key, else from an identity in the folder of keys.
    pub fn reader(&self, remote: &dyn Remote, trusted: &[RepositoryId]) -> Result<ReadKeys> {
        if self.identity.is_some() && self.writer_key.is_none() {
            return Ok(self.unlock(remote, trusted)?.reading(&remote.place()));
        }
        match self.writers(remote) {
            Ok(writers) => Ok(ReadKeys {
                keys: self.with_older(remote, writers.into_iter().map(|writer| writer.keys).collect(), trusted),
                missing: None,
                unnamed: None,
                found: Vec::new(),
            }),
            Err(Error::Usage(why)) if self.writer_key.is_none() => match self.unlock(remote, trusted) {
                Ok(unlocked) => Ok(unlocked.reading(&remote.place())),
                Err(Error::Usage(_)) => Err(Error::Usage(why)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

/// How the names of writer keys end.
const WRITER_KEY: &str = ".writer.key";
/// How the names of identities end.
const IDENTITY: &str = ".identity.txt";

/// Reads a writer key's file.
pub fn read_writer_key(path: &Path) -> Result<WriterKeyFile> {
    let text = read_secret(path)?;
    let file = WriterKeyFile::parse(&text);
    file.map_err(|error| Error::Usage(format!("{} is no writer key: {error}", path.display())))
}

/// Reads an identity's file.
pub fn read_identity(path: &Path) -> Result<IdentityFile> {
    let text = read_secret(path)?;
    let identity = IdentityFile::parse(&text);
    identity.map_err(|error| Error::Usage(format!("{} is no identity: {error}", path.display())))
}

fn no_repository(place: &str, known: &[RepositoryId]) -> Error {
    match known.first() {
        None => Error::Usage(format!(
            "there is no repository at {place}; check the place (--repo), or make one there: `varu init`, or `varu backup \
             --init`"
        )),
        Some(id) => lost(place, id),
    }
}

/// A repository that was there and isn't.
fn lost(place: &str, id: &RepositoryId) -> Error {
    Error::Refused(format!(
        "{place} holds no repository, and it held {id} before: look whether its disk is mounted. If the repository is gone \
         for good, `varu init --trust-repository {id}` makes a new one there"
    ))
}

fn no_writer_key(folder: &Path, place: &str, accepted: &HashSet<RepositoryId>) -> Error {
    let id = accepted.iter().next().map_or_else(String::new, |id| format!(" {id}"));
    Error::Usage(format!(
        "the writer key of the repository{id} at {place} isn't in {}; give it with --writer-key FILE. Where it is lost, \
         `varu key recover` writes it again, with the identity",
        folder.display()
    ))
}
