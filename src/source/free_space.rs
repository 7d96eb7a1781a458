//! Free space for a restore into a service of this machine.

use std::path::Path;

use super::Error;
use crate::disk::Space;

/// What is loaded, and what the disk has that the service keeps its data on. None where that can't be asked for.
///
/// A service needs about as much as the dump has, often more: it isn't known before it is loaded. So only a load that
/// can't fit is refused, and the rest is for the user to decide.
///
/// # Errors
/// [`Error::NoSpace`] where less than `bytes` are free.
pub(super) fn beside(folder: &Path, bytes: u64) -> Result<Option<String>, Error> {
    let Ok(Space { free, .. }) = Space::of(folder) else { return Ok(None) };
    let line = format!("{} are loaded, and {} has {} free", megabytes(bytes), folder.display(), megabytes(free));
    match free < bytes {
        true => Err(Error::NoSpace(format!("{line}: make room there, or restore into another server"))),
        false => Ok(Some(line)),
    }
}

/// Bytes as people read them.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let said = beside(folder.path(), 1_250_000).unwrap().unwrap();
        assert!(said.starts_with("1.2 MB are loaded, and "), "{said}");
        let refused = beside(folder.path(), u64::MAX).unwrap_err();
        assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
        assert_eq!(beside(&folder.path().join("none"), u64::MAX).unwrap(), None);
    }
}
