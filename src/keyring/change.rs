//! Changes of a repository's keys: one more recipient, a new writer key.

use std::path::PathBuf;

use super::{Keyring, Unlocked};
use crate::crypto::{DataKeySecret, Recipient, random_bytes};
use crate::error::{Error, Result};
use crate::format::writer_key::WriterKeyFile;
use crate::id::RepositoryId;
use crate::remote::Remote;
use crate::repository::{self, Keys, add_recipients, create, replace_secret};

/// What adding a recipient did.
#[derive(Debug, Clone)]
pub struct Added {
    /// The repository ids that the recipient opens now, the newest first.
    pub repositories: Vec<RepositoryId>,
    /// All recipients of the newest.
    pub recipients: Vec<String>,
    /// Writer keys on this machine that name the recipient now, too.
    pub writer_keys: Vec<PathBuf>,
}

/// Wraps the keys of all repository ids that the identity opened to one more recipient. No pack is touched.
///
/// # Errors
///
/// [`Error::Usage`] for what is no recipient; whatever the remote says.
pub fn add_recipient(remote: &dyn Remote, keyring: &Keyring, unlocked: &Unlocked, recipient: &str) -> Result<Added> {
    check_recipients(&[recipient.to_owned()])?;
    let mut added = Added { repositories: Vec::new(), recipients: Vec::new(), writer_keys: Vec::new() };
    for keys in &unlocked.keys {
        let mut file = copy(keys.file())?;
        if !file.recipients.iter().any(|known| known == recipient) {
            file.recipients.push(recipient.to_owned());
        }
        add_recipients(remote, &file, data_secret(keys)?)?;
        added.repositories.push(*keys.id());
        if added.recipients.is_empty() {
            added.recipients.clone_from(&file.recipients);
        }
        added.writer_keys.extend(keyring.add_to_local(keys.id(), recipient)?);
    }
    Ok(added)
}

/// What a rotation did.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The new repository id.
    pub id: RepositoryId,
    /// The one that it follows.
    pub follows: RepositoryId,
    /// Who opens what comes after.
    pub recipients: Vec<String>,
    /// The new writer key's file.
    pub writer_key: PathBuf,
    /// The identity's file, which names the new id now.
    pub identity: PathBuf,
}

/// Makes a new writer key and data key that follow the newest ones. What is stored with them shares nothing with what was
/// before. `recipients` are those of the new keys beside the identity itself; where there are none, those of the old ones.
///
/// The identity's file is the first that changes and the remote the last: whatever is interrupted, nothing that was there
/// stops working.
pub fn rotate(
    remote: &dyn Remote,
    keyring: &Keyring,
    mut unlocked: Unlocked,
    recipients: &[String],
) -> Result<Rotated> {
    let Some(newest) = unlocked.keys.first() else {
        return Err(Error::Usage("the identity opened no repository".to_owned()));
    };
    let follows = *newest.id();
    check_recipients(recipients)?;
    let others = if recipients.is_empty() { &newest.file().recipients } else { recipients };
    let mut all: Vec<String> = unlocked.identity.recipients().iter().map(ToString::to_string).collect();
    all.extend(others.iter().filter(|other| !all.contains(other)).cloned().collect::<Vec<_>>());
    let data = DataKeySecret::generate();
    let file = WriterKeyFile {
        secret: random_bytes(),
        data_key: data.public().to_string(),
        chunking: newest.file().chunking,
        follows: Some(follows),
        recipients: all,
    };
    let id = file.repository_id();
    let writer_key = keyring.writer_key_path(&id)?;
    unlocked.identity.add_repository(id);
    replace_secret(&unlocked.path, &unlocked.identity.to_text())?;
    replace_secret(&writer_key, &file.to_text())?;
    create(remote, &file, &data)?;
    let mut ids = vec![id];
    ids.extend(unlocked.keys.iter().map(|keys| *keys.id()));
    keyring.remember(&remote.place(), &ids)?;
    Ok(Rotated { id, follows, recipients: file.recipients.clone(), writer_key, identity: unlocked.path })
}

/// Writes the newest writer key to its place on this machine, from the repository. Returns its id and its file.
///
/// # Errors
///
/// Where a file is there already that isn't that key.
pub fn recover(keyring: &Keyring, remote: &dyn Remote, unlocked: &Unlocked) -> Result<(RepositoryId, PathBuf)> {
    let Some(newest) = unlocked.keys.first() else {
        return Err(Error::Usage("the identity opened no repository".to_owned()));
    };
    let (id, path) = (*newest.id(), keyring.writer_key_path(newest.id())?);
    if path.exists() {
        return match super::read_writer_key(&path)?.repository_id() == id {
            true => Ok((id, path)),
            false => Err(Error::Refused(format!(
                "{} is the writer key of another repository; move it away first, or name another file with --writer-key",
                path.display()
            ))),
        };
    }
    replace_secret(&path, &newest.file().to_text())?;
    keyring.remember(&remote.place(), &unlocked.keys.iter().map(|keys| *keys.id()).collect::<Vec<_>>())?;
    Ok((id, path))
}

impl Keyring {
    /// Enters a recipient into the writer key of that id on this machine, where there is one. Returns its file.
    fn add_to_local(&self, id: &RepositoryId, recipient: &str) -> Result<Option<PathBuf>> {
        let named = self.writer_key.iter().cloned();
        let kept = self.folder.iter().map(|folder| folder.join(format!("{id}{}", super::WRITER_KEY)));
        for path in named.chain(kept) {
            if !path.exists() {
                continue;
            }
            let mut file = super::read_writer_key(&path)?;
            if file.repository_id() != *id {
                continue;
            }
            if !file.recipients.iter().any(|known| known == recipient) {
                file.recipients.push(recipient.to_owned());
                replace_secret(&path, &file.to_text())?;
            }
            return Ok(Some(path));
        }
        Ok(None)
    }
}

/// Whether each text is a recipient.
fn check_recipients(recipients: &[String]) -> Result<()> {
    for text in recipients {
        // A secret in the wrong place must not be repeated.
        text.parse::<Recipient>().map_err(|error| Error::Usage(format!("a recipient can't be used: {error}")))?;
    }
    Ok(())
}

fn copy(file: &WriterKeyFile) -> Result<WriterKeyFile> {
    let copy = WriterKeyFile::parse(&file.to_text());
    copy.map_err(|error| Error::Failed(format!("the writer key can't be written again: {error}")))
}

fn data_secret(keys: &Keys) -> Result<&DataKeySecret> {
    let none = || repository::Error::Usage("the data key isn't open; give the identity with --identity".to_owned());
    Ok(keys.data_secret().ok_or_else(none)?)
}
