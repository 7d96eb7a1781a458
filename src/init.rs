//! Making a repository: folders and key objects on the remote, the writer key and the identity on this machine.

use std::path::{Path, PathBuf};

use crate::chunker::ChunkSizes;
use crate::crypto::{DataKeySecret, IdentityFile, Recipient, random_bytes};
use crate::error::{Error, Result};
use crate::format::writer_key::WriterKeyFile;
use crate::id::RepositoryId;
use crate::keyring::{Keyring, has_repository, read_identity};
use crate::remote::Remote;
use crate::repository::{create, replace_secret, write_secret};

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The repository's id.
    pub id: RepositoryId,
    /// Where it is.
    pub place: String,
    /// Who opens what is stored there.
    pub recipients: Vec<String>,
    /// The writer key's file.
    pub writer_key: PathBuf,
    /// The identity's file; None where others are the recipients.
    pub identity: Option<PathBuf>,
}

/// Makes a repository on `remote` for `recipients`. Where there are none an identity is made, or the one that `keyring`
/// names is used. `forget` is a repository that was at this place and is gone.
///
/// The files on this machine are written first: without them what is on the remote would be of no use.
///
/// # Errors
///
/// [`Error::Refused`] where a repository is there already, where one was there that isn't `forget`, and where a key's file
/// is there already.
pub fn init(
    remote: &dyn Remote,
    keyring: &Keyring,
    recipients: &[String],
    forget: Option<RepositoryId>,
) -> Result<Made> {
    let place = remote.place();
    if has_repository(remote)? {
        return Err(Error::Refused(format!(
            "{place} holds a repository already; `varu backup` goes on with it if its writer key is on this machine; else \
             give it with --writer-key, or choose another place"
        )));
    }
    keyring.refuse_lost(&place, forget)?;
    let mut owner = Owner::choose(keyring, recipients)?;
    let data = DataKeySecret::generate();
    let file = WriterKeyFile {
        secret: random_bytes(),
        data_key: data.public().to_string(),
        chunking: ChunkSizes::default(),
        follows: None,
        recipients: owner.recipients.clone(),
    };
    let id = file.repository_id();
    let writer_key = keyring.writer_key_path(&id)?;
    refuse_existing(&writer_key)?;
    let identity = owner.write(keyring, id)?;
    write_secret(&writer_key, &file.to_text())?;
    if let Err(error) = create(remote, &file, &data) {
        take_back(&writer_key, identity.as_deref().filter(|_| owner.is_new));
        return Err(error.into());
    }
    keyring.replace(&place, id)?;
    Ok(Made { id, place, recipients: owner.recipients, writer_key, identity })
}

/// Who can open what will be stored.
struct Owner {
    recipients: Vec<String>,
    identity: Option<IdentityFile>,
    is_new: bool,
}

impl Owner {
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

    /// Writes the identity, with the repository's id in it. Returns its file.
    fn write(&mut self, keyring: &Keyring, id: RepositoryId) -> Result<Option<PathBuf>> {
        let Some(identity) = &mut self.identity else { return Ok(None) };
        let path = keyring.identity_path(&id)?;
        identity.add_repository(id);
        match self.is_new {
            true => write_secret(&path, &identity.to_text())?,
            false => replace_secret(&path, &identity.to_text())?,
        }
        Ok(Some(path))
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

/// Takes away the files of a repository that could not be made. What stays opens nothing.
fn take_back(writer_key: &Path, identity: Option<&Path>) {
    for path in [Some(writer_key), identity].into_iter().flatten() {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests;
