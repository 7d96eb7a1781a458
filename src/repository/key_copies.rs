//! Copies of key objects: on the remote, in the local folder, and in full snapshots. A key object has a few hundred
//! bytes, and with the last one of a repository all of it is lost; so each backup checks that they exist, and restores
//! missing ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keys::{ensure_info, wrap_to};
use super::listing::{FolderListing, list_folders, listed_or_none};
use super::put::{Put, ensure};
use super::{Error, Repository, Result, keyfiles, list_or_none, replace_secret};
use crate::format::layout::{MAX_KEY_COPIES, MAX_KEY_OBJECT, info_name, is_key_name, key_name};
use crate::remote::{Folder, ObjectName, Remote};

/// Most bytes of all copies that a full snapshot has.
const MAX_COPIES: usize = 256 << 10;

/// The local folder of copies.
const FOLDER: &str = "keys";

/// How the name of a copy ends that this machine's writer key came with.
const OWN: &str = ".own";

/// A copy in the local folder.
struct Copied {
    object: Vec<u8>,
    own: bool,
}

impl Repository {
    /// Ensures that the repository's key objects are on the remote and copied to this machine. Returns those that had to
    /// be restored, and foreign ones that couldn't be, each a sentence.
    ///
    /// # Errors
    ///
    /// Where no key object of this machine's writer key can be put there: then nothing may be stored.
    pub fn keep_keys(&self) -> Result<Vec<String>> {
        let [keys, info] = list_folders(&**self.remote(), [Folder::Keys, Folder::Info]);
        self.keep_keys_of(keys, info)
    }

    /// The same of the listings of `keys/` and `info/`.
    pub fn keep_keys_of(&self, keys: FolderListing, info: FolderListing) -> Result<Vec<String>> {
        let remote = &**self.remote();
        let mut said = Vec::new();
        let mut copies = self.own_copies()?;
        let there: Vec<ObjectName> = match keys {
            Ok((objects, _)) => objects.into_iter().map(|object| object.name).filter(is_key_name).collect(),
            Err(error) if error.kind == crate::remote::ErrorKind::NotFound => {
                remote.create_folders()?;
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        self.keep_own(&mut copies, &mut said)?;
        let unknown: Vec<&ObjectName> =
            there.iter().filter(|name| !copies.contains_key(*name)).take(4 * MAX_KEY_COPIES).collect();
        for name in unknown {
            if copies.len() >= MAX_KEY_COPIES {
                break;
            }
            // Another machine's object, made by the identity's holder. It may be damaged, or forged: opening it tells.
            if let Ok(object) = remote.get(name, MAX_KEY_OBJECT)
                && key_name(&object) == *name
            {
                self.write_copy(name, &object, false)?;
                copies.insert(name.clone(), Copied { object, own: false });
            }
        }
        for (name, copy) in copies.iter().filter(|(_, copy)| !copy.own) {
            match ensure(remote, &copy.object)? {
                Put::WasThere => {}
                Put::Restored => {
                    said.push(format!("{name} was missing or damaged in {} and was put back", remote.place()));
                }
                Put::InTheWay(why) => said.push(why),
            }
        }
        let has_info = listed_or_none(info)?.iter().any(|object| object.name == info_name());
        if self.keys().file().follows.is_none() && !has_info {
            ensure_info(remote, self.id())?;
        }
        Ok(said)
    }

    /// One of this machine's own objects must be there, whole.
    fn keep_own(&self, copies: &mut BTreeMap<ObjectName, Copied>, said: &mut Vec<String>) -> Result<()> {
        let remote = &**self.remote();
        let own: Vec<Vec<u8>> = copies.values().filter(|copy| copy.own).map(|copy| copy.object.clone()).collect();
        let mut is_whole = false;
        let mut in_the_way = None;
        for object in &own {
            match ensure(remote, object)? {
                Put::WasThere => is_whole = true,
                Put::Restored => {
                    is_whole = true;
                    said.push(format!(
                        "{} was missing or damaged in {} and was put back: without it nobody could have restored",
                        key_name(object),
                        remote.place()
                    ));
                }
                Put::InTheWay(why) => in_the_way = Some(why),
            }
        }
        if let Some(why) = in_the_way {
            if !is_whole {
                // An append-only account: the same key under another name.
                let object = wrap_to(&self.keys().file().recipients, &self.keys().file().key_object)?;
                let name = key_name(&object);
                self.write_copy(&name, &object, true)?;
                if let Put::InTheWay(why) = ensure(remote, &object)? {
                    return Err(Error::Damaged(why));
                }
                copies.insert(name, Copied { object, own: true });
            }
            said.push(why);
        }
        Ok(())
    }

    /// The copies of key objects for a full snapshot: this machine's own first.
    pub fn key_copies(&self) -> Result<Vec<Vec<u8>>> {
        let mut copies: Vec<Copied> = self.own_copies()?.into_values().collect();
        copies.sort_by_key(|copy| !copy.own);
        let mut room = MAX_COPIES;
        let fits = |copy: &Copied| match room.checked_sub(copy.object.len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        Ok(copies.into_iter().take(MAX_KEY_COPIES).filter(fits).map(|copy| copy.object).collect())
    }

    /// The names of the key objects that are known to open this repository.
    pub fn key_names(&self) -> Vec<ObjectName> {
        let own =
            local(self.folder()).into_iter().filter(|(path, _)| is_own(path)).map(|(_, object)| key_name(&object));
        own.chain(self.keys().objects().iter().map(|object| key_name(object))).collect()
    }

    /// All copies in the local folder, and the object that the writer key came with.
    fn own_copies(&self) -> Result<BTreeMap<ObjectName, Copied>> {
        let mut copies = BTreeMap::new();
        let object = &self.keys().file().key_object;
        if !object.is_empty() {
            let name = key_name(object);
            self.write_copy(&name, object, true)?;
            copies.insert(name, Copied { object: object.clone(), own: true });
        }
        for (path, object) in local(self.folder()) {
            let own = is_own(&path);
            copies.entry(key_name(&object)).or_insert(Copied { object, own });
        }
        Ok(copies)
    }

    fn write_copy(&self, name: &ObjectName, object: &[u8], own: bool) -> Result<()> {
        write_local(self.folder(), name, object, if own { OWN } else { "" })
    }
}

/// Whether the writer key of this machine came with that copy.
fn is_own(path: &Path) -> bool {
    path.to_string_lossy().ends_with(OWN)
}

fn write_local(folder: &Path, name: &ObjectName, object: &[u8], end: &str) -> Result<()> {
    let folder = folder.join(FOLDER);
    let path = folder.join(format!("{}{end}", name.name()));
    if std::fs::read(&path).is_ok_and(|there| there == object) {
        return Ok(());
    }
    keyfiles::create_private_folder(&folder)?;
    replace_secret(&path, object)
}

/// Keeps a copy of a key object in the local folder of its repository, below `state`.
pub fn keep_copy(state: &Path, id: &crate::id::RepositoryId, object: &[u8]) -> Result<()> {
    write_local(&state.join(id.to_string()), &key_name(object), object, "")
}

/// The copies that lie below `state` for these repository ids.
pub fn local_copies<'a>(state: &Path, ids: impl Iterator<Item = &'a crate::id::RepositoryId>) -> Vec<Vec<u8>> {
    ids.flat_map(|id| local(&state.join(id.to_string()))).map(|(_, object)| object).collect()
}

/// The whole copies in a repository's local folder.
fn local(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder.join(FOLDER)) else { return Vec::new() };
    let mut copies: Vec<(PathBuf, Vec<u8>)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let name = ObjectName::new(Folder::Keys, name.strip_suffix(OWN).unwrap_or(name)).filter(is_key_name)?;
            // A file of another size is no key object, and isn't read.
            let size = std::fs::metadata(&path).ok().filter(|found| found.is_file())?.len();
            let object = (size <= MAX_KEY_OBJECT).then(|| std::fs::read(&path).ok()).flatten()?;
            (key_name(&object) == name).then_some((path, object))
        })
        .collect();
    copies.sort();
    copies
}

/// Puts a key object into `keys/` of a place. False where it is there already.
pub fn import(remote: &dyn Remote, object: &[u8]) -> Result<bool> {
    if list_or_none(remote, Folder::Keys)?.is_empty() {
        remote.create_folders()?;
    }
    match ensure(remote, object)? {
        Put::WasThere => Ok(false),
        Put::Restored => Ok(true),
        Put::InTheWay(why) => Err(Error::Damaged(why)),
    }
}
