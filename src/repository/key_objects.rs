//! Opening key objects with an identity: those in `keys/`, the copies in full snapshots, and copies on this machine.
//!
//! Whoever knows the recipients can wrap something to them. So a key object counts only where it holds the secret of the very
//! data key that the repository's id stands for: nobody can make one who hasn't opened one, and its recipients are those
//! that somebody with that secret chose.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::{Error, Keys, Result, list_or_none};
use crate::crypto::{DataKeySecret, IdentityFile};
use crate::format::checks::PagesCheck;
use crate::format::layout::{MAX_KEY_OBJECT, SnapshotKind, is_key_name, key_name, parse_snapshot_name};
use crate::format::snapshot::SnapshotHeader;
use crate::format::writer_key::WriterKeyFile;
use crate::id::RepositoryId;
use crate::remote::{Folder, Listed, ObjectName, Remote};

/// Most bytes of a full's clear header that are read to find its copies of key objects.
const MAX_HEADER: usize = 64 << 20;

/// How many strangers a message names.
const NAMED: usize = 3;

/// The keys that an identity opened at a location.
pub struct Unlocking {
    /// The keys of each repository id that it names, the newest first.
    pub keys: Vec<Keys>,
    /// Ids that it opens and that nobody named, and the id that each says it follows.
    pub strangers: BTreeMap<RepositoryId, Option<RepositoryId>>,
    /// Ids that somebody named, that belong to this place, and whose keys are nowhere.
    pub missing: BTreeSet<RepositoryId>,
    /// Remarks: damaged key objects, and keys that came from elsewhere. Each is a sentence.
    pub found: Vec<String>,
}

/// As [`unlock`], with copies of key objects that lie on this machine, and with all that was found.
pub fn unlock_with(
    remote: &dyn Remote,
    identity: &IdentityFile,
    trusted: &[RepositoryId],
    copies: &[Vec<u8>],
) -> Result<Unlocking> {
    let named: HashSet<RepositoryId> = identity.repositories().into_iter().chain(trusted.iter().copied()).collect();
    let mut opened = Bag::default();
    let objects = key_objects(remote)?;
    let mut found = opened.add_all(remote, identity, &objects)?;
    let absent: BTreeSet<RepositoryId> = named.iter().copied().filter(|id| !opened.0.contains_key(id)).collect();
    let mut missing = BTreeSet::new();
    if !absent.is_empty() {
        missing = opened.add_from_snapshots(remote, identity, &absent, &mut found)?;
    }
    // An id that follows one that is there belongs to this place, too: who hides its key object hides its snapshots as well.
    while let Some(next) = absent.iter().find(|id| {
        let there = |before: RepositoryId| opened.0.contains_key(&before) || missing.contains(&before);
        !there(**id) && identity.follows(id).is_some_and(there)
    }) {
        missing.insert(*next);
    }
    // And one that a known one follows.
    let followed: Vec<RepositoryId> = opened.0.values().filter_map(|held| held.file.follows).collect();
    missing.extend(absent.iter().filter(|id| followed.contains(id) && !opened.0.contains_key(id)));
    // A copy here is of this place only where something there asks for it: an identity may be that of several places.
    let has_no_keys = objects.is_empty() && opened.0.is_empty();
    for (file, secret) in copies.iter().filter_map(|copy| open_object(identity, copy)) {
        let id = file.repository_id();
        if missing.remove(&id) || has_no_keys && named.contains(&id) && !opened.0.contains_key(&id) {
            found.push(format!(
                "the key object of {id} isn't on {}; a copy on this machine was used. The next `varu backup` puts it back, or \
                 `varu key import`",
                remote.place()
            ));
            opened.add(file, secret);
        }
    }
    let mut strangers = BTreeMap::new();
    let mut keys = Vec::new();
    for (id, HeldKeys { file, secret, objects }) in opened.0 {
        match named.contains(&id) {
            true => keys.push(Keys::with_secret(file, secret, objects)?),
            false => drop(strangers.insert(id, file.follows)),
        }
    }
    if keys.is_empty() {
        return Err(nothing_opened(remote, &strangers, &missing, !objects.is_empty())?);
    }
    Ok(Unlocking { keys: newest_first(keys), strangers, missing, found })
}

/// Opens the key objects of `remote` with an identity: the keys of each repository id that lies there and that the
/// identity file names or `trusted` holds, the newest first.
///
/// A host can wrap keys of its own making to a recipient that it knows; so an id that nobody named is never used.
pub fn unlock(remote: &dyn Remote, identity: &IdentityFile, trusted: &[RepositoryId]) -> Result<Vec<Keys>> {
    Ok(unlock_with(remote, identity, trusted, &[])?.keys)
}

/// The repository that a key object belongs to, where this identity opens it. `varu key import` asks.
pub fn id_in(identity: &IdentityFile, object: &[u8]) -> Option<RepositoryId> {
    open_object(identity, object).map(|(file, _)| file.repository_id())
}

/// Key objects that were opened, by the repository's id.
#[derive(Default)]
struct Bag(BTreeMap<RepositoryId, HeldKeys>);

/// The keys of one repository id, and the objects that held them.
struct HeldKeys {
    file: WriterKeyFile,
    secret: DataKeySecret,
    objects: Vec<Vec<u8>>,
}

impl Bag {
    /// Takes keys in. Wrappings of one key differ in their recipients: each later one may know more.
    fn add(&mut self, file: WriterKeyFile, secret: DataKeySecret) {
        let object = file.key_object.clone();
        match self.0.entry(file.repository_id()) {
            Entry::Vacant(place) => {
                place.insert(HeldKeys { file, secret, objects: vec![object] });
            }
            Entry::Occupied(mut held) => {
                let HeldKeys { file: known, objects, .. } = held.get_mut();
                objects.push(object);
                // A machine keeps the one for the most recipients.
                if file.recipients.len() > known.recipients.len() {
                    known.key_object = file.key_object;
                }
                let more: Vec<String> =
                    file.recipients.into_iter().filter(|recipient| !known.recipients.contains(recipient)).collect();
                known.recipients.extend(more);
            }
        }
    }

    /// Opens all objects of `keys/`. Returns the damaged ones, each a sentence.
    fn add_all(&mut self, remote: &dyn Remote, identity: &IdentityFile, objects: &[Listed]) -> Result<Vec<String>> {
        // Objects of former recipients and forged ones don't open; there may be many, so several are looked at once.
        let opened: Vec<KeyObjectState> =
            objects.par_iter().map(|object| look(remote, identity, &object.name)).collect::<Result<_>>()?;
        let mut found = Vec::new();
        for (object, looked) in objects.iter().zip(opened) {
            match looked {
                KeyObjectState::Opened(file, secret) => self.add(*file, secret),
                KeyObjectState::Damaged(why) if found.len() < NAMED => {
                    found.push(format!("{} is damaged: {why}", object.name))
                }
                KeyObjectState::Damaged(_) | KeyObjectState::Others => {}
            }
        }
        Ok(found)
    }

    /// Looks for the keys of `absent` ids in full snapshots. Returns the ids that snapshots have and that stay without keys.
    fn add_from_snapshots(
        &mut self,
        remote: &dyn Remote,
        identity: &IdentityFile,
        absent: &BTreeSet<RepositoryId>,
        found: &mut Vec<String>,
    ) -> Result<BTreeSet<RepositoryId>> {
        let fulls = fulls(remote)?;
        let ids = fulls.par_iter().map(|object| Ok(snapshot_id(remote, &object.name)?.map(|id| (id, &object.name))));
        let ids: Vec<Option<(RepositoryId, &ObjectName)>> = ids.collect::<Result<_>>()?;
        let mut missing = BTreeSet::new();
        for (id, name) in ids.into_iter().flatten().filter(|(id, _)| absent.contains(id)) {
            if self.0.contains_key(&id) {
                continue;
            }
            missing.insert(id);
            for object in copies_in(remote, name)? {
                if let Some((file, secret)) = open_object(identity, &object)
                    && file.repository_id() == id
                {
                    self.add(file, secret);
                }
            }
            if self.0.contains_key(&id) {
                missing.remove(&id);
                found.push(format!(
                    "no key object in keys/ on {} opens the repository {id}; the copy in {name} was used. The next `varu \
                     backup` of its machine puts the object back",
                    remote.place()
                ));
            }
        }
        Ok(missing)
    }
}

/// Classification of a key object.
enum KeyObjectState {
    Opened(Box<WriterKeyFile>, DataKeySecret),
    /// Not this identity's, or forged.
    Others,
    Damaged(String),
}

/// The objects in `keys/`; none where the folder is missing.
fn key_objects(remote: &dyn Remote) -> Result<Vec<Listed>> {
    Ok(list_or_none(remote, Folder::Keys)?.into_iter().filter(|object| is_key_name(&object.name)).collect())
}

fn look(remote: &dyn Remote, identity: &IdentityFile, name: &ObjectName) -> Result<KeyObjectState> {
    match remote.get(name, MAX_KEY_OBJECT) {
        Ok(object) if key_name(&object) != *name => {
            Ok(KeyObjectState::Damaged("its bytes aren't those that it was named by".to_owned()))
        }
        Ok(object) => Ok(match open_object(identity, &object) {
            Some((file, secret)) => KeyObjectState::Opened(Box::new(file), secret),
            None => KeyObjectState::Others,
        }),
        Err(error) if error.is_of_object() => Ok(KeyObjectState::Damaged(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Opens a key object: the keys in it, where it holds the secret of its own data key.
fn open_object(identity: &IdentityFile, object: &[u8]) -> Option<(WriterKeyFile, DataKeySecret)> {
    let mut bytes = identity.unwrap(object, MAX_KEY_OBJECT as usize).ok()?;
    // One that was wrapped once more, where its name was taken by a damaged one.
    if bytes.starts_with(AGE) {
        bytes = identity.unwrap(&bytes, MAX_KEY_OBJECT as usize).ok()?;
    }
    let text = Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned());
    let (file, secret) = WriterKeyFile::parse_sealed(&text).ok()?;
    let secret =
        DataKeySecret::parse(secret.trim()).ok().filter(|secret| secret.public().to_string() == file.data_key)?;
    Some((WriterKeyFile { key_object: object.to_vec(), ..file }, secret))
}

/// The first bytes of an age file.
const AGE: &[u8] = b"age-encryption.org/v1\n";

/// The repository id in the clear header of a snapshot. Nothing vouches for it.
fn snapshot_id(remote: &dyn Remote, name: &ObjectName) -> Result<Option<RepositoryId>> {
    const AT: usize = SnapshotHeader::HEAD_START + 8 + size_of::<PagesCheck>();
    let mut start = [0; AT + RepositoryId::LEN];
    match remote.get_range(name, 0, &mut start) {
        Ok(()) if SnapshotHeader::length(&start).is_err() => Ok(None),
        Ok(()) => Ok(start[AT..].first_chunk().map(|id| RepositoryId::from_bytes(*id))),
        Err(error) if error.is_of_object() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many of the newest fulls say whose a place is.
const LOOKED_AT: usize = 16;

/// The repository ids of the newest full snapshots at a place, from clear headers that nobody vouches for.
pub fn newest_snapshot_ids(remote: &dyn Remote) -> Result<BTreeSet<RepositoryId>> {
    let ids = fulls(remote)?.into_iter().take(LOOKED_AT).map(|object| snapshot_id(remote, &object.name));
    Ok(ids.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The full snapshots at a place, the newest first.
fn fulls(remote: &dyn Remote) -> Result<Vec<Listed>> {
    let is_full =
        |object: &Listed| parse_snapshot_name(&object.name).is_some_and(|name| name.kind == SnapshotKind::Full);
    let mut fulls: Vec<Listed> = list_or_none(remote, Folder::Snapshots)?.into_iter().filter(is_full).collect();
    fulls.sort_by(|a, b| b.cmp(a));
    Ok(fulls)
}

/// The copies of key objects in a full; none where its header doesn't read.
fn copies_in(remote: &dyn Remote, name: &ObjectName) -> Result<Vec<Vec<u8>>> {
    let read = |length: usize| -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        match remote.get_range(name, 0, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.is_of_object() => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let Some(start) = read(SnapshotHeader::START)? else { return Ok(Vec::new()) };
    let Some(length) = SnapshotHeader::length(&start).ok().filter(|length| *length <= MAX_HEADER) else {
        return Ok(Vec::new());
    };
    // A length that is a lie takes no memory.
    if remote.stat(name)?.is_none_or(|size| size < length as u64) {
        return Ok(Vec::new());
    }
    let header = read(length)?.and_then(|header| SnapshotHeader::decode(&header).ok());
    Ok(header.map(|header| header.key_objects).unwrap_or_default())
}

fn nothing_opened(
    remote: &dyn Remote,
    strangers: &BTreeMap<RepositoryId, Option<RepositoryId>>,
    missing: &BTreeSet<RepositoryId>,
    has_key_objects: bool,
) -> Result<Error> {
    let place = remote.place();
    if let Some(first) = strangers.keys().next() {
        let named: Vec<String> = strangers.keys().take(NAMED).map(ToString::to_string).collect();
        let more = match strangers.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Ok(Error::Refused(format!(
            "the identity file doesn't name the repository on {place}: {}{more}. A host could have put one of its own making \
             there. If you know that it is yours (the id stands on the recovery sheet), use --trust-repository {first}",
            named.join(", "),
        )));
    }
    const WAYS: &str = "`varu backup` on the machine that writes it puts them back; so does `varu key import FILE` with the \
                        key object of the recovery sheet";
    if let Some(id) = missing.first() {
        let gone = match has_key_objects {
            true => {
                "Either it isn't one of the recipients: `varu key add-recipient` lets it in, and a reader's account sees that once the \
                 backup host has accepted it. Or key objects are gone or damaged"
            }
            false => "Key objects are gone",
        };
        return Ok(Error::Damaged(format!(
            "{place} holds snapshots of the repository {id}, and nothing in keys/ opens them with this identity, nor has a full \
             snapshot there a copy that does. {gone}: {WAYS}"
        )));
    }
    if has_key_objects {
        return Ok(Error::Damaged(format!(
            "no key object on {place} could be opened with this identity: it is another repository's identity, or the key \
             objects in keys/ are gone or damaged. {WAYS}"
        )));
    }
    let mut is_empty = true;
    for folder in [Folder::Packs, Folder::Snapshots] {
        is_empty &= list_or_none(remote, folder)?.is_empty();
    }
    Ok(match is_empty {
        true => {
            Error::Usage(format!("there is no repository on {place}: its folders are empty or missing; check the URL"))
        }
        false => Error::Damaged(format!(
            "keys/ on {place} is empty or missing, though there are packs or snapshots: the repository's key objects are \
             lost, and no full snapshot there has a copy that this identity opens. {WAYS}"
        )),
    })
}

/// The one that nobody follows comes first, then the one that it follows, and so on.
fn newest_first(mut keys: Vec<Keys>) -> Vec<Keys> {
    let mut sorted: Vec<Keys> = Vec::with_capacity(keys.len());
    while !keys.is_empty() {
        let followed: HashSet<RepositoryId> = keys.iter().filter_map(|keys| keys.file().follows).collect();
        // A ring can't be: an id is a hash over the id that it follows.
        let next = keys.iter().position(|keys| !followed.contains(keys.id())).unwrap_or(0);
        sorted.push(keys.swap_remove(next));
    }
    sorted
}
