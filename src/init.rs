//! Making a repository: folders and key objects on the remote, the writer key and the identity on this machine.

use std::path::{Path, PathBuf};

use crate::chunker::ChunkSizes;
use crate::crypto::{IdentityFile, Recipient};
use crate::error::{Error, Result};
use crate::format::writer_key::WriterKeyFile;
use crate::id::RepositoryId;
use crate::keyring::{Keyring, read_identity, read_writer_key};
use crate::remote::Remote;
use crate::repository::{create, generate, is_taken, replace_secret, write_secret};

/// The created keys and files.
#[derive(Debug, Clone)]
pub struct CreatedRepository {
    /// The repository's id.
    pub id: RepositoryId,
    /// Where it is.
    pub place: String,
    /// The recipients who can open the stored data.
    pub recipients: Vec<String>,
    /// The writer key's file.
    pub writer_key: PathBuf,
    /// The identity's file; None if others are the recipients.
    pub identity: Option<PathBuf>,
}

/// Makes a repository on `remote` for `recipients`. Without any an identity is made, or the one that `keyring` names is
/// used. `forget` is a repository that was at this location and is gone.
///
/// The files on this machine are written first: without them the objects on the remote would be useless. The writer
/// key's file has all that the remote needs. So after an interruption the next call finishes the work, however far it
/// came.
///
/// # Errors
///
/// [`Error::Refused`] if a repository exists already, where one was there that isn't `forget`, and where a key's file
/// exists already.
pub fn init(
    remote: &dyn Remote,
    keyring: &Keyring,
    recipients: &[String],
    forget: Option<RepositoryId>,
) -> Result<CreatedRepository> {
    let place = remote.place();
    if let Some((writer_key, file)) = unfinished(keyring, &place, recipients)? {
        return finish(remote, keyring, writer_key, &file);
    }
    if is_taken(remote)? {
        return Err(Error::Refused(format!(
            "{place} holds a repository already; `varu backup` goes on with it if its writer key is on this machine; else \
             give it with --writer-key, or choose another place"
        )));
    }
    keyring.refuse_lost(&place, forget)?;
    let mut owner = RecipientChoice::choose(keyring, recipients)?;
    let file = generate(owner.recipients.clone(), ChunkSizes::default(), None)?;
    let id = file.repository_id();
    let writer_key = keyring.writer_key_path(&id)?;
    refuse_existing(&writer_key)?;
    keyring.begin(&place, id)?;
    owner.write(keyring, id)?;
    // If this fails the file may exist all the same, and the next call continues with it: the identity stays.
    write_secret(&writer_key, file.to_text())?;
    finish(remote, keyring, writer_key, &file)
}

/// The writer key of a repository whose creation was interrupted, at this location, or at another one if a person named
/// the key's file.
fn unfinished(keyring: &Keyring, place: &str, recipients: &[String]) -> Result<Option<(PathBuf, WriterKeyFile)>> {
    let begun = keyring.begun(place)?;
    let path = match (&keyring.writer_key, begun) {
        (Some(path), _) => path.clone(),
        (None, Some(id)) => keyring.writer_key_path(&id)?,
        (None, None) => return Ok(None),
    };
    if !path.exists() {
        return Ok(None);
    }
    let file = read_writer_key(&path)?;
    if !keyring.is_begun(&file.repository_id())? {
        return Ok(None);
    }
    if !recipients.is_empty() && recipients != file.recipients {
        return Err(Error::Refused(format!(
            "{} is the writer key of a repository whose making was cut, for other recipients: {}; name the same ones to finish \
             it, or take that file away to make another",
            path.display(),
            file.recipients.join(", ")
        )));
    }
    Ok(Some((path, file)))
}

/// Creates the missing objects on the remote. A partial repository keeps its files here, from which it can be completed.
fn finish(
    remote: &dyn Remote,
    keyring: &Keyring,
    writer_key: PathBuf,
    file: &WriterKeyFile,
) -> Result<CreatedRepository> {
    let (id, place) = (file.repository_id(), remote.place());
    keyring.begin(&place, id)?;
    create(remote, file)?;
    keyring.replace(&place, id)?;
    let identity = keyring.identity_path(&id)?;
    let names_it = identity.exists() && read_identity(&identity).is_ok_and(|file| file.repositories().contains(&id));
    Ok(CreatedRepository {
        id,
        place,
        recipients: file.recipients.clone(),
        writer_key,
        identity: names_it.then_some(identity),
    })
}

/// The recipients who will be able to open the stored data.
struct RecipientChoice {
    recipients: Vec<String>,
    identity: Option<IdentityFile>,
    is_new: bool,
}

impl RecipientChoice {
    fn choose(keyring: &Keyring, recipients: &[String]) -> Result<Self> {
        for text in recipients {
            text.parse::<Recipient>().map_err(|error| Error::Usage(format!("a recipient can't be used: {error}")))?;
        }
        if !recipients.is_empty() {
            return Ok(Self { recipients: recipients.to_vec(), identity: None, is_new: false });
        }
        let (identity, is_new) = match keyring.identity.as_deref().filter(|path| path.exists()) {
            Some(path) => (read_identity(path)?, false),
            None => (IdentityFile::generate(), true),
        };
        let recipients = identity.recipients().iter().map(ToString::to_string).collect();
        Ok(Self { recipients, identity: Some(identity), is_new })
    }

    /// Writes the identity, with the repository's id in it.
    fn write(&mut self, keyring: &Keyring, id: RepositoryId) -> Result<()> {
        let Some(identity) = &mut self.identity else { return Ok(()) };
        let path = keyring.identity_path(&id)?;
        identity.add_repository(id);
        match self.is_new {
            true => write_secret(&path, identity.to_text())?,
            false => replace_secret(&path, identity.to_text())?,
        }
        Ok(())
    }
}

fn refuse_existing(path: &Path) -> Result<()> {
    match path.exists() {
        true => Err(Error::Refused(format!(
            "the writer key {} is there already, and a new repository needs a new one; name another file with --writer-key, \
             or none",
            path.display()
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
