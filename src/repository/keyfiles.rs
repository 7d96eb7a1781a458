//! Secret files and private folders on this machine.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::{Error, Result};
use crate::disk::NewFile;

/// Most bytes of a secret file.
const MAX_SECRET_FILE: u64 = 64 << 10;

/// Makes a folder, and those above it, that only its owner enters.
pub(super) fn create_private_folder(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::io("making the folder", folder, source))
}

/// Writes a secret to a new file of mode 0600, in one step: at every moment there is no file, or a whole one. An existing file
/// is never touched.
pub fn write_secret(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    let placed = beside(path, text.as_ref())?.create();
    placed.map_err(|source| Error::io("writing the secret file", path, source))
}

/// Replaces a secret file atomically: at every moment the old text is there, or the new one. A symbolic link stays, and
/// its target is replaced.
pub fn replace_secret(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let placed = beside(&path, text.as_ref())?.replace();
    placed.map_err(|source| Error::io("replacing the file", &path, source))
}

/// Writes a secret beside `path`, in a folder that is made where it is missing.
fn beside(path: &Path, bytes: &[u8]) -> Result<NewFile> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder)?;
    }
    let write = || -> std::io::Result<NewFile> {
        let new = NewFile::beside(path, 0o600)?;
        new.as_file().write_all(bytes)?;
        Ok(new)
    };
    write().map_err(|source| Error::io("writing the secret file", path, source))
}

/// Reads a secret file. One that others may read is refused. UTF-16 text and byte order marks, as Windows writes them,
/// are understood.
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
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_FILE as usize + 1));
    file.take(MAX_SECRET_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SECRET_FILE {
        return Err(Error::Usage(format!("{} is too large to be a key", path.display())));
    }
    if bytes.starts_with(AGE) {
        return Err(Error::Usage(format!(
            "{} is encrypted with age: open it with `age -d`, without a file in between: `varu --identity <(age -d {}) …` in \
             bash. A command that changes the identity (init, key rotate) needs a file of its own",
            path.display(),
            path.display()
        )));
    }
    let text = decode(&bytes).ok_or_else(|| {
        Error::Usage(format!("{} is no text, neither in UTF-8 nor in UTF-16, so it can't be a key", path.display()))
    })?;
    Ok(text)
}

/// The first bytes of an age file.
const AGE: &[u8] = b"age-encryption.org/v1\n";

/// A text in UTF-8, or in UTF-16 with the mark that says so; without its mark. Keys are ASCII, so a NUL in the first
/// character says UTF-16 as well.
fn decode(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let (bytes, little) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, true),
        [0xfe, 0xff, rest @ ..] => (rest, false),
        [_, 0, ..] => (bytes, true),
        [0, _, ..] => (bytes, false),
        [0xef, 0xbb, 0xbf, rest @ ..] => return utf8(rest),
        _ => return utf8(bytes),
    };
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let units = pairs.iter().map(|pair| if little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) });
    // With its whole length reserved the text never moves, so no copy of a secret is left behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for letter in char::decode_utf16(units) {
        text.push(letter.ok()?);
    }
    Some(text)
}

fn utf8(bytes: &[u8]) -> Option<Zeroizing<String>> {
    std::str::from_utf8(bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_editor_reads_the_same() {
        let text = "# varu\r\nAGE-SECRET-KEY-1Q\r\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        let forms = [
            text.as_bytes().to_vec(),
            marked(&[0xef, 0xbb, 0xbf], text.as_bytes()),
            marked(&[0xff, 0xfe], &little),
            marked(&[0xfe, 0xff], &big),
            little,
            big,
        ];
        for bytes in forms {
            assert_eq!(decode(&bytes).unwrap().as_str(), text, "{bytes:?}");
        }
        for bytes in [&[0xff, 0xfe, 0x41][..], &[0xff, 0xfe, 0x00, 0xd8], &[0xc3, 0x28], &[0x80]] {
            assert!(decode(bytes).is_none(), "{bytes:?}");
        }
        assert_eq!(decode(b"").unwrap().as_str(), "");
    }
}
