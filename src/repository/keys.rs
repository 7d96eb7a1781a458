//! Keys: from a writer key file, or from an identity and the key objects on the remote.

use std::collections::HashSet;

use zeroize::Zeroizing;

use super::listing::listed;
use super::{Error, Result, broken};
use crate::chunker::{Chunker, TABLE_LEN};
use crate::crypto::{
    ChunkIdKey, DataKeyPublic, DataKeySecret, IdentityFile, MAX_WRAPPING_OVERHEAD, MetadataKey, Recipient,
    StreamHashKey, WriterSecret, wrap,
};
use crate::format::VERSION;
use crate::format::layout::{KeyObject, MAX_KEY_OBJECT, info_name, key_name, parse_key_name};
use crate::format::writer_key::WriterKeyFile;
use crate::id::{RepositoryId, derive_bytes};
use crate::remote::{Folder, ObjectName, Remote};

/// All that a writer knows of its repository, and the data key's secret where an identity opened it.
pub struct Keys {
    id: RepositoryId,
    file: WriterKeyFile,
    data: DataKeyPublic,
    data_secret: Option<DataKeySecret>,
    /// Names chunks.
    pub chunk_ids: ChunkIdKey,
    /// Names streams.
    pub stream_hashes: StreamHashKey,
    /// Seals metadata.
    pub metadata: MetadataKey,
}

impl Keys {
    /// The keys of a writer key file. They open no chunk.
    pub fn new(file: WriterKeyFile) -> Result<Self> {
        let refused = |what: &str, error: &dyn std::fmt::Display| {
            Error::Usage(format!("the writer key can't be used: its {what} is no age recipient: {error}"))
        };
        let data: DataKeyPublic = file.data_key.parse().map_err(|error| refused("data key", &error))?;
        for recipient in &file.recipients {
            recipient.parse::<Recipient>().map_err(|error| refused("recipient", &error))?;
        }
        let secret = WriterSecret::from_bytes(file.secret.clone());
        Ok(Self {
            id: file.repository_id(),
            data,
            data_secret: None,
            chunk_ids: secret.chunk_id_key(),
            stream_hashes: secret.stream_hash_key(),
            metadata: secret.metadata_key(),
            file,
        })
    }

    /// The repository's id.
    pub fn id(&self) -> &RepositoryId {
        &self.id
    }

    /// The writer key file.
    pub fn file(&self) -> &WriterKeyFile {
        &self.file
    }

    /// Wraps pack keys.
    pub fn data(&self) -> &DataKeyPublic {
        &self.data
    }

    /// Opens pack keys; None without the identity.
    pub fn data_secret(&self) -> Option<&DataKeySecret> {
        self.data_secret.as_ref()
    }

    /// The chunker of this repository.
    pub fn chunker(&self) -> Chunker {
        let seed = WriterSecret::from_bytes(self.file.secret.clone()).chunker_seed();
        let mut table = Zeroizing::new([0; TABLE_LEN]);
        derive_bytes("varu 2026-11 chunker table", seed.as_slice(), table.as_mut_slice());
        Chunker::new(self.file.chunking, &table)
    }
}

/// Makes a new repository on `remote`: folders, key objects, and a text for people. Refuses a place where one was made
/// before, unless the new writer key follows it. Where the making of one ended early there are keys that nothing was written
/// with, and they don't matter.
pub fn create(remote: &dyn Remote, file: &WriterKeyFile, data_key: &DataKeySecret) -> Result<()> {
    remote.create_folders()?;
    if file.follows.is_none() && is_taken(remote)? {
        let place = remote.place();
        return Err(Error::Refused(format!(
            "{place} holds a repository already; use its writer key (--writer-key), or its identity to restore (--identity), \
             or choose another place"
        )));
    }
    write_key_objects(remote, file, data_key)?;
    if file.follows.is_none() {
        let text = format!(
            "# A repository of encrypted backups, written by varu. docs/format.md describes it. Nothing trusts this file.\n\
             format_version = {VERSION}\nrepository = \"{}\"\n",
            file.repository_id()
        );
        put(remote, &info_name(), text.as_bytes())?;
        remote.flush(Folder::Info)?;
    }
    Ok(())
}

/// Whether a repository was made there: the text for people comes last.
fn is_taken(remote: &dyn Remote) -> Result<bool> {
    if remote.stat(&info_name())?.is_some() {
        return Ok(true);
    }
    for folder in [Folder::Packs, Folder::Snapshots] {
        if !remote.list(folder)?.0.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Wraps the keys to the recipients that `file` has now. Old wrappings stay; a reader tries all.
pub fn add_recipients(remote: &dyn Remote, file: &WriterKeyFile, data_key: &DataKeySecret) -> Result<()> {
    write_key_objects(remote, file, data_key)
}

fn write_key_objects(remote: &dyn Remote, file: &WriterKeyFile, data_key: &DataKeySecret) -> Result<()> {
    let recipients: Vec<Recipient> = file
        .recipients
        .iter()
        .map(|text| text.parse().map_err(|error| Error::Usage(format!("{text:?} is no recipient: {error}"))))
        .collect::<Result<_>>()?;
    let wrapped = |secret: &str| wrap(&recipients, secret.as_bytes()).map_err(|error| Error::Usage(error.to_string()));
    let data = wrapped(&data_key.to_text())?;
    put(remote, &key_name(KeyObject::Data, &data), &data)?;
    let writer = wrapped(&file.to_text())?;
    put(remote, &key_name(KeyObject::Writer, &writer), &writer)?;
    remote.flush(Folder::Keys)?;
    Ok(())
}

fn put(remote: &dyn Remote, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    let mut upload = remote.begin()?;
    upload.append(bytes)?;
    Ok(upload.finish(name)?)
}

/// Opens the key objects on `remote` with an identity: the keys of each repository id that lies there and that the
/// identity file names or `trusted` holds, the newest first.
///
/// A host can wrap keys of its own making to a recipient that it knows; so an id that nobody named is never used.
pub fn unlock(remote: &dyn Remote, identity: &IdentityFile, trusted: &[RepositoryId]) -> Result<Vec<Keys>> {
    let opened = open_key_objects(remote, identity)?;
    let named: HashSet<RepositoryId> = identity.repositories().into_iter().chain(trusted.iter().copied()).collect();
    let strangers: Vec<String> = opened
        .files
        .iter()
        .map(|file| file.repository_id())
        .filter(|id| !named.contains(id))
        .map(|id| id.to_string())
        .collect();
    let mut keys = Vec::new();
    for file in opened.files {
        if named.contains(&file.repository_id()) {
            keys.push(with_data_key(file, &opened.data, &remote.place())?);
        }
    }
    if keys.is_empty() {
        return Err(match strangers.as_slice() {
            [] => Error::Damaged(format!(
                "no key object on {} could be opened with this identity: it is another repository's identity, or the key \
                 objects in keys/ are gone or damaged",
                remote.place()
            )),
            ids => Error::Refused(format!(
                "the identity file doesn't name the repository on {}: {}. A host could have put one of its own making \
                 there. If you know that it is yours (the id stands on the recovery sheet), use --trust-repository {}",
                remote.place(),
                ids.join(", "),
                ids[0]
            )),
        });
    }
    Ok(newest_first(keys))
}

struct OpenedKeys {
    files: Vec<WriterKeyFile>,
    data: Vec<Zeroizing<String>>,
}

impl OpenedKeys {
    /// Takes a writer key in. Wrappings of one key differ in their recipients: each later one may know more.
    fn add(&mut self, file: WriterKeyFile) {
        let id = file.repository_id();
        match self.files.iter_mut().find(|known| known.repository_id() == id) {
            None => self.files.push(file),
            Some(known) => {
                let more: Vec<String> =
                    file.recipients.iter().filter(|recipient| !known.recipients.contains(recipient)).cloned().collect();
                known.recipients.extend(more);
            }
        }
    }
}

fn open_key_objects(remote: &dyn Remote, identity: &IdentityFile) -> Result<OpenedKeys> {
    let listed = listed(remote, Folder::Keys, parse_key_name)?;
    if listed.is_empty() {
        return Err(Error::Usage(format!(
            "there is no repository on {}: its folder keys/ is empty or missing; check the URL",
            remote.place()
        )));
    }
    let mut opened = OpenedKeys { files: Vec::new(), data: Vec::new() };
    for (object, kind) in listed {
        // Objects of former recipients, and damaged ones, don't open; another wrapping of the same key may.
        let Some(text) = open_key_object(remote, identity, &object.name, kind)? else { continue };
        match kind {
            KeyObject::Data => opened.data.push(text),
            KeyObject::Writer => {
                if let Ok(file) = WriterKeyFile::parse(&text) {
                    opened.add(file);
                }
            }
        }
    }
    Ok(opened)
}

fn open_key_object(
    remote: &dyn Remote,
    identity: &IdentityFile,
    name: &ObjectName,
    kind: KeyObject,
) -> Result<Option<Zeroizing<String>>> {
    let wrapped = match remote.get(name, MAX_KEY_OBJECT + MAX_WRAPPING_OVERHEAD as u64) {
        Ok(wrapped) => wrapped,
        Err(error) if error.is_of_object() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if key_name(kind, &wrapped) != *name {
        return Ok(None);
    }
    let Ok(bytes) = identity.unwrap(&wrapped, MAX_KEY_OBJECT as usize) else { return Ok(None) };
    Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
}

fn with_data_key(file: WriterKeyFile, data: &[Zeroizing<String>], place: &str) -> Result<Keys> {
    let mut keys = Keys::new(file)?;
    let secret = data
        .iter()
        .filter_map(|text| DataKeySecret::parse(text.trim()).ok())
        .find(|secret| secret.public() == keys.data);
    match secret {
        Some(secret) => keys.data_secret = Some(secret),
        None => {
            let id = keys.id();
            let why = "no data key there opens with this identity; without it no stored byte can be read";
            return Err(broken(format!("the repository {id} on {place}"), why));
        }
    }
    Ok(keys)
}

/// The one that nobody follows comes first, then the one that it follows, and so on.
fn newest_first(mut keys: Vec<Keys>) -> Vec<Keys> {
    let mut sorted: Vec<Keys> = Vec::with_capacity(keys.len());
    while !keys.is_empty() {
        let followed: HashSet<RepositoryId> = keys.iter().filter_map(|keys| keys.file.follows).collect();
        // A ring can't be: an id is a hash over the id that it follows.
        let next = keys.iter().position(|keys| !followed.contains(keys.id())).unwrap_or(0);
        sorted.push(keys.swap_remove(next));
    }
    sorted
}
