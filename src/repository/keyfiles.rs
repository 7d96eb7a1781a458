//! Secret files and private folders on this machine.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

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
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    open().map_err(|source| Error::io("writing the secret file", path, source))
}

/// Reads a secret file. One that others may read is refused.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |source| Error::io("reading the secret file", path, source);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
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
