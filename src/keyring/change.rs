//! Changes of a repository's keys: one more recipient, a new writer key.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Keyring, Unlocked};
use crate::crypto::{DataKeySecret, Recipient};
use crate::error::{Error, Result};
use crate::format::writer_key::WriterKeyFile;
use crate::id::RepositoryId;
use crate::remote::Remote;
use crate::repository::{self, Keys, add_recipients, create, generate, id_in, replace_secret};

/// Result of adding a recipient.
#[derive(Debug, Clone)]
pub struct RecipientAdded {
    /// The repository ids that the recipient opens now, the newest first.
    pub repositories: Vec<RepositoryId>,
    /// All recipients of the newest.
    pub recipients: Vec<String>,
    /// Writer keys on this machine that name the recipient now, too.
    pub writer_keys: Vec<PathBuf>,
}

/// The recipients that the newest id has once this one is added. They come from key objects that hold the data key's secret.
///
/// # Errors
///
/// [`Error::Usage`] for an invalid recipient.
pub fn recipients_with(unlocked: &Unlocked, recipient: &str) -> Result<Vec<String>> {
    check_recipients(&[recipient.to_owned()])?;
    let mut all = newest(unlocked)?.file().recipients.clone();
    if !all.iter().any(|known| known == recipient) {
        all.push(recipient.to_owned());
    }
    Ok(all)
}

/// Wraps the keys of all repository ids that the identity opened to one more recipient. No pack is touched. After an
/// interruption the same call finishes it.
///
/// # Errors
///
/// [`Error::Usage`] for an invalid recipient; errors of the remote.
pub fn add_recipient(
    remote: &dyn Remote,
    keyring: &Keyring,
    unlocked: &Unlocked,
    recipient: &str,
) -> Result<RecipientAdded> {
    check_recipients(&[recipient.to_owned()])?;
    let mut added = RecipientAdded { repositories: Vec::new(), recipients: Vec::new(), writer_keys: Vec::new() };
    for keys in &unlocked.keys {
        let mut file = copy(keys.file())?;
        if !file.recipients.iter().any(|known| known == recipient) {
            file.recipients.push(recipient.to_owned());
        }
        let file = add_recipients(remote, file, data_secret(keys)?)?;
        added.repositories.push(*keys.id());
        added.writer_keys.extend(keyring.renew_local(&file)?);
        if added.recipients.is_empty() {
            added.recipients = file.recipients;
        }
    }
    Ok(added)
}

/// Result of a rotation.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The new repository id.
    pub id: RepositoryId,
    /// The one that it follows.
    pub follows: RepositoryId,
    /// The recipients who can open later data.
    pub recipients: Vec<String>,
    /// The new writer key's file.
    pub writer_key: PathBuf,
    /// The identity's file, which names the new id now.
    pub identity: PathBuf,
}

/// A prepared rotation: a new writer key and data key that succeed the newest ones. Data stored with them shares nothing
/// with older data.
pub struct Rotation {
    unlocked: Unlocked,
    file: WriterKeyFile,
    writer_key: PathBuf,
    follows: RepositoryId,
    /// Whether the file exists already: an earlier rotation was interrupted.
    is_begun: bool,
}

impl Rotation {
    /// Plans it. `recipients` are those of the new keys beside the identity itself; where there are none, those of the old
    /// ones, from key objects that hold the old data key's secret.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a rotation for other recipients was begun and not finished, and where the writer key's file is
    /// another repository's.
    pub fn plan(keyring: &Keyring, unlocked: Unlocked, recipients: &[String]) -> Result<Self> {
        check_recipients(recipients)?;
        let before = newest(&unlocked)?;
        let follows = *before.id();
        let others = if recipients.is_empty() { &before.file().recipients } else { recipients };
        let mut all: Vec<String> = unlocked.identity.recipients().iter().map(ToString::to_string).collect();
        all.extend(others.iter().filter(|other| !all.contains(other)).cloned().collect::<Vec<_>>());
        if let Some((writer_key, file)) = keyring.begun_rotation(&follows)? {
            return match id_in(&unlocked.identity, &file.key_object) == Some(file.repository_id())
                && as_set(&file.recipients) == as_set(&all)
            {
                true => Ok(Self { unlocked, file, writer_key, follows, is_begun: true }),
                false => Err(Error::Refused(format!(
                    "{} is the writer key of a rotation that was begun for {} and isn't finished; name the same recipients to \
                     finish it, or move that file away to make another",
                    writer_key.display(),
                    file.recipients.join(", ")
                ))),
            };
        }
        let file = generate(all, before.file().chunking, Some(follows))?;
        let writer_key = keyring.writer_key_path(&file.repository_id())?;
        if writer_key.exists() {
            let there = super::read_writer_key(&writer_key)?.repository_id();
            if unlocked.keys.iter().all(|keys| *keys.id() != there) {
                return Err(Error::Refused(format!(
                    "{} is the writer key of another repository, {there}; name another file with --writer-key",
                    writer_key.display()
                )));
            }
        }
        Ok(Self { unlocked, file, writer_key, follows, is_begun: false })
    }

    /// The recipients who will open later data.
    pub fn recipients(&self) -> &[String] {
        &self.file.recipients
    }

    /// The id that it follows.
    pub fn follows(&self) -> &RepositoryId {
        &self.follows
    }

    /// Performs it. The writer key's file is written first: it has all that the remote needs, so that the same call, or
    /// a backup with that key, finishes an interrupted rotation. The identity is written last: it never names keys that
    /// don't exist.
    pub fn make(mut self, remote: &dyn Remote, keyring: &Keyring) -> Result<Rotated> {
        let id = self.file.repository_id();
        let identity = &mut self.unlocked.identity;
        // A file that can't be written is found before anything is made.
        replace_secret(&self.unlocked.path, identity.to_text())?;
        if !self.is_begun {
            replace_secret(&self.writer_key, self.file.to_text())?;
        }
        create(remote, &self.file)?;
        identity.add_rotation(id, self.follows);
        replace_secret(&self.unlocked.path, identity.to_text())?;
        let mut ids = vec![id];
        ids.extend(self.unlocked.keys.iter().map(|keys| *keys.id()));
        keyring.remember(&remote.place(), &ids)?;
        Ok(Rotated {
            id,
            follows: self.follows,
            recipients: self.file.recipients,
            writer_key: self.writer_key,
            identity: self.unlocked.path,
        })
    }
}

fn newest(unlocked: &Unlocked) -> Result<&Keys> {
    unlocked.keys.first().ok_or_else(|| Error::Usage("the identity opened no repository".to_owned()))
}

fn as_set(recipients: &[String]) -> BTreeSet<&String> {
    recipients.iter().collect()
}

/// Writes the newest writer key to its file on this machine, from the repository. Returns its id and its file.
///
/// # Errors
///
/// If another file exists there.
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
    replace_secret(&path, newest.file().to_text())?;
    keyring.remember(&remote.place(), &unlocked.keys.iter().map(|keys| *keys.id()).collect::<Vec<_>>())?;
    Ok((id, path))
}

impl Keyring {
    /// Writes the recipients and the key object of `file` into the writer key of its id on this machine, where there is one.
    /// Returns that file.
    fn renew_local(&self, file: &WriterKeyFile) -> Result<Option<PathBuf>> {
        let id = file.repository_id();
        let named = self.writer_key.iter().cloned();
        let kept = self.folder.iter().map(|folder| folder.join(format!("{id}{}", super::WRITER_KEY)));
        for path in named.chain(kept).filter(|path| path.exists()) {
            if super::read_writer_key(&path)?.repository_id() == id {
                replace_secret(&path, file.to_text())?;
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Accepts the keys of an interrupted rotation from this machine as such, and not as a forgery: `key rotate`
    /// finishes it.
    ///
    /// # Errors
    ///
    /// Where the writer key's file can't be read.
    pub fn know_begun_rotation(&self, unlocked: &mut Unlocked) -> Result<()> {
        let follows = *newest(unlocked)?.id();
        if let Some((_, file)) = self.begun_rotation(&follows)? {
            unlocked.strangers.remove(&file.repository_id());
        }
        Ok(())
    }

    /// The writer key on this machine that succeeds `newest`, though no identity names it: an interrupted rotation.
    fn begun_rotation(&self, newest: &RepositoryId) -> Result<Option<(PathBuf, WriterKeyFile)>> {
        let named = match &self.writer_key {
            Some(path) if path.exists() => vec![(path.clone(), super::read_writer_key(path)?)],
            Some(_) => Vec::new(),
            None => self.writer_files(),
        };
        Ok(named.into_iter().find(|(_, file)| file.follows.as_ref() == Some(newest)))
    }
}

/// Whether each text is a recipient.
fn check_recipients(recipients: &[String]) -> Result<()> {
    for text in recipients {
        // A secret in the wrong field must not be repeated.
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
