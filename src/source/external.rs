//! Dumps that another job leaves in a folder: which there are, and from when.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Error;
use crate::time::Timestamp;

/// The files of `folder` that aren't hidden, by name, and when the oldest of them was written.
///
/// # Errors
/// [`Error::Failed`] where there is none, or one can't be looked at.
pub fn dumps_in(folder: &Path) -> Result<(Vec<PathBuf>, Timestamp), Error> {
    let failed = |error: io::Error| Error::failed(&format!("reading the dumps in {}", folder.display()), &error);
    let mut files = Vec::new();
    let mut oldest: Option<Timestamp> = None;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let about = fs::metadata(&path).map_err(failed)?;
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !about.is_file() || hidden {
            continue;
        }
        let changed = timestamp(about.modified().map_err(failed)?);
        oldest = Some(oldest.map_or(changed, |oldest| oldest.min(changed)));
        files.push(path);
    }
    files.sort();
    let none = || Error::Failed(format!("there is no dump in {}: does the job that makes them run?", folder.display()));
    Ok((files, oldest.ok_or_else(none)?))
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
