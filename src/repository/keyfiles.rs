//! Secret files and private folders on this machine.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Error, Result};

/// Most bytes of a secret file.
const MAX_SECRET_FILE: u64 = 64 << 10;

/// Makes a folder, and those above it, that only its owner enters.
pub(super) fn create_private_folder(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::io("making the folder", folder, source))
}

/// Writes a secret to a new file of mode 0600. An existing file is never touched.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder)?;
    }
    let open = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        flush_folder(path)
    };
    open().map_err(|source| Error::io("writing the secret file", path, source))
}

/// Writes a secret file anew, in one step: at every moment the old text is there, or the new one. A symbolic link stays, and
/// what it points to is replaced.
pub fn replace_secret(path: &Path, text: &str) -> Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut temporary = path.clone().into_os_string();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("taking away the old file", &temporary, error));
        }
        _ => write_secret(&temporary, text)?,
    }
    let moved = std::fs::rename(&temporary, &path).and_then(|()| flush_folder(&path));
    moved.map_err(|source| Error::io("replacing the file", &path, source))
}

/// Makes the name of a file outlive a power cut.
fn flush_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Reads a secret file. One that others may read is refused.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |source| Error::io("reading the secret file", path, source);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // The group root is root; so systemd hands a credential to its service, which an access list names.
    let others = if metadata.gid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & others != 0 {
        let (path, mode) = (path.display(), metadata.mode() & 0o777);
        return Err(Error::Refused(format!(
            "the secret file {path} can be read by others (mode {mode:04o}); run `chmod 600 {path}`"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_FILE as usize + 1));
    file.take(MAX_SECRET_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SECRET_FILE {
        return Err(Error::Usage(format!("{} is too large to be a key", path.display())));
    }
    Ok(text)
}
