//! Keys: a writer's, those that an identity opens, and their creation.

use zeroize::Zeroizing;

use super::put::{Put, ensure, put};
use super::{Error, Result};
use crate::chunker::{ChunkSizes, Chunker, TABLE_LEN};
use crate::crypto::{
    ChunkIdKey, DataKeyPublic, DataKeySecret, MetadataKey, Recipient, StreamHashKey, WriterSecret, random_bytes, wrap,
};
use crate::format::VERSION;
use crate::format::layout::{info_name, key_name};
use crate::format::writer_key::WriterKeyFile;
use crate::id::{RepositoryId, derive_bytes};
use crate::remote::{ErrorKind, Folder, Remote};

/// All that a writer knows of its repository, and the data key's secret where an identity opened it.
pub struct Keys {
    id: RepositoryId,
    file: WriterKeyFile,
    data: DataKeyPublic,
    data_secret: Option<DataKeySecret>,
    objects: Vec<Vec<u8>>,
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
            objects: Some(file.key_object.clone()).into_iter().filter(|object| !object.is_empty()).collect(),
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

    /// The writer key file. Where an identity opened it, its recipients are all those of the key objects that hold the data
    /// key's secret: nobody who lacks that secret can add one.
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

    /// The key objects that are known to hold these keys.
    pub(super) fn objects(&self) -> &[Vec<u8>] {
        &self.objects
    }

    /// The keys with the data key's secret, which must be that of the file's data key, and the key objects that held it.
    pub(super) fn with_secret(file: WriterKeyFile, secret: DataKeySecret, objects: Vec<Vec<u8>>) -> Result<Self> {
        Ok(Self { data_secret: Some(secret), objects, ..Self::new(file)? })
    }

    /// The chunker of this repository.
    pub fn chunker(&self) -> Chunker {
        let seed = WriterSecret::from_bytes(self.file.secret.clone()).chunker_seed();
        let mut table = Zeroizing::new([0; TABLE_LEN]);
        derive_bytes("varu 2026-11 chunker table", seed.as_slice(), table.as_mut_slice());
        Chunker::new(self.file.chunking, &table)
    }
}

/// New secrets for a repository, wrapped to `recipients`. The data key's secret is in the key object alone.
pub fn generate(recipients: Vec<String>, chunking: ChunkSizes, follows: Option<RepositoryId>) -> Result<WriterKeyFile> {
    let data = DataKeySecret::generate();
    let file = WriterKeyFile {
        secret: random_bytes(),
        data_key: data.public().to_string(),
        chunking,
        follows,
        recipients,
        key_object: Vec::new(),
    };
    wrapped(file, &data)
}

/// Creates the repository of `file` on `remote`, or its missing parts: folders, the key object, and a text for people.
/// Refuses a location of another repository, unless this one succeeds it. An interrupted creation may have left keys
/// that nothing was written with, and they don't matter.
pub fn create(remote: &dyn Remote, file: &WriterKeyFile) -> Result<()> {
    remote.create_folders()?;
    if file.follows.is_none() && is_taken(remote)? && remote.stat(&key_name(&file.key_object))?.is_none() {
        let place = remote.place();
        return Err(Error::Refused(format!(
            "{place} holds a repository already; use its writer key (--writer-key), or its identity to restore (--identity), \
             or choose another place"
        )));
    }
    if let Put::InTheWay(why) = ensure(remote, &file.key_object)? {
        return Err(Error::Damaged(why));
    }
    if file.follows.is_none() {
        ensure_info(remote, &file.repository_id())?;
    }
    Ok(())
}

/// Writes the text for people where it is missing.
pub(super) fn ensure_info(remote: &dyn Remote, id: &RepositoryId) -> Result<()> {
    if has_info(remote)? {
        return Ok(());
    }
    remote.create_folders()?;
    let text = format!(
        "# A repository of encrypted backups, written by varu. docs/format.md describes it. Nothing trusts this file.\n\
         format_version = {VERSION}\nrepository = \"{id}\"\n",
    );
    put(remote, &info_name(), text.as_bytes())?;
    remote.flush(Folder::Info)?;
    Ok(())
}

/// Whether the text for people is there. Its folder may be missing, too.
fn has_info(remote: &dyn Remote) -> Result<bool> {
    match remote.stat(&info_name()) {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a repository was made there: the text for people comes last.
pub fn is_taken(remote: &dyn Remote) -> Result<bool> {
    if has_info(remote)? {
        return Ok(true);
    }
    for folder in [Folder::Packs, Folder::Snapshots] {
        if !super::list_or_none(remote, folder)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Wraps the keys to the recipients that `file` has now, and puts that key object beside the others: old wrappings stay, and
/// a reader tries all. Returns the file with the new object in it.
pub fn add_recipients(remote: &dyn Remote, file: WriterKeyFile, data_key: &DataKeySecret) -> Result<WriterKeyFile> {
    let file = wrapped(file, data_key)?;
    match ensure(remote, &file.key_object)? {
        Put::WasThere | Put::Restored => Ok(file),
        Put::InTheWay(why) => Err(Error::Damaged(why)),
    }
}

/// The file with its key object made anew, for the recipients that it has now.
fn wrapped(file: WriterKeyFile, data_key: &DataKeySecret) -> Result<WriterKeyFile> {
    let text = file.to_sealed_text(&data_key.to_text());
    let key_object = wrap_to(&file.recipients, text.as_bytes())?;
    Ok(WriterKeyFile { key_object, ..file })
}

/// Wraps a secret to recipients given as texts.
pub(super) fn wrap_to(recipients: &[String], secret: &[u8]) -> Result<Vec<u8>> {
    let recipients: Vec<Recipient> = recipients
        .iter()
        .map(|text| text.parse().map_err(|error| Error::Usage(format!("a recipient can't be used: {error}"))))
        .collect::<Result<_>>()?;
    wrap(&recipients, secret).map_err(|error| Error::Usage(error.to_string()))
}
