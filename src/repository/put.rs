//! Writing a single object to where it belongs.

use super::{Error, Result};
use crate::format::layout::{MAX_KEY_OBJECT, key_name};
use crate::remote::{ErrorKind, Folder, ObjectName, Remote};

/// What came of putting a key object where it belongs.
pub(super) enum Put {
    /// It was there, whole.
    WasThere,
    /// It wasn't, and is now: written, flushed and read back.
    Restored,
    /// Something damaged has its name and can't be taken away: a sentence.
    InTheWay(String),
}

pub(super) fn put(remote: &dyn Remote, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    let mut upload = remote.begin()?;
    upload.append(bytes)?;
    Ok(upload.finish(name)?)
}

/// Sees to it that a key object is on the remote. It is read, not only listed: nothing else that is stored is worth anything
/// without it.
pub(super) fn ensure(remote: &dyn Remote, object: &[u8]) -> Result<Put> {
    let name = key_name(object);
    let why = match remote.get(&name, MAX_KEY_OBJECT) {
        Ok(found) if found == object => return Ok(Put::WasThere),
        Ok(_) => "its bytes aren't those that it was named by".to_owned(),
        Err(error) if error.kind == ErrorKind::NotFound => String::new(),
        Err(error) if error.is_of_object() => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    if !why.is_empty()
        && let Err(error) = remote.delete(&name)
    {
        return Ok(Put::InTheWay(format!("{name} is damaged ({why}), and it can't be replaced: {error}")));
    }
    put(remote, &name, object)?;
    remote.flush(Folder::Keys)?;
    match remote.get(&name, MAX_KEY_OBJECT)? == object {
        true => Ok(Put::Restored),
        false => Err(Error::Damaged(format!(
            "{name} was written to {} and reads back as something else: that place can't be relied upon",
            remote.place()
        ))),
    }
}
