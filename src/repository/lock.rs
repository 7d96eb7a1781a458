//! One writer at a time: a lock on a local file, which the kernel takes away when its holder ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Error, Result};
use crate::progress::{Interrupt, Progress};

/// Held until it is dropped.
pub struct Lock(File);

impl Drop for Lock {
    /// A program that is just being started has the open file, too, for a moment: closing ours alone would leave it locked.
    fn drop(&mut self) {
        // It ends with the process at the latest.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Takes the lock file `lock` in `folder` for `what`, and waits for its holder up to `patience`, saying for whom.
    pub fn take(
        folder: &Path,
        what: &str,
        patience: Duration,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let path = folder.join("lock");
        let failed = |source| Error::io("locking", &path, source);
        let mut file = open(&path).map_err(failed)?;
        let start = Instant::now();
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            let holder = holder(&mut file);
            if interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            if start.elapsed() >= patience {
                return Err(Error::Refused(format!(
                    "{holder} still works on this repository after {} s; try later, or wait longer with --wait",
                    patience.as_secs()
                )));
            }
            if !said {
                progress.note(&format!("waiting for {holder}, which works on this repository"));
                said = true;
            }
            std::thread::sleep(Duration::from_millis(100).min(patience));
        }
        name_holder(&mut file, what).map_err(failed)?;
        Ok(Self(file))
    }

    /// Takes the lock of a set's restore into its service. A second one doesn't wait: what it was started for may be done by the
    /// first.
    ///
    /// # Errors
    /// [`Error::Refused`] where such a restore runs.
    pub fn of_restore(folder: &Path, set: &str) -> Result<Self> {
        let path = folder.join(format!("restore-{set}.lock"));
        let failed = |source| Error::io("locking", &path, source);
        let mut file = open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Refused(format!(
                    "{} is running; wait for its end, or stop it first",
                    holder(&mut file)
                )));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        name_holder(&mut file, &format!("a restore of {set}")).map_err(failed)?;
        Ok(Self(file))
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn name_holder(file: &mut File, what: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{what}, process {}", std::process::id())
}

/// Who wrote the file last: the holder, or for a moment the one before.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    match read {
        Ok(length) if length > 0 => text.chars().filter(|c| !c.is_control()).collect(),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Counts;

    #[test]
    fn the_second_waits_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let take = |patience| {
            Lock::take(folder.path(), "backup of agama", patience, &Counts::default(), &Interrupt::default())
        };
        let first = take(Duration::ZERO).unwrap();
        let error = take(Duration::from_millis(150)).err().unwrap().to_string();
        assert!(error.contains("backup of agama, process"), "{error}");
        drop(first);
        take(Duration::ZERO).unwrap();
    }

    #[test]
    fn a_second_restore_of_a_set_is_refused_while_one_runs() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::of_restore(folder.path(), "agama").unwrap();
        let error = Lock::of_restore(folder.path(), "agama").err().unwrap();
        assert!(matches!(&error, Error::Refused(why) if why.contains("a restore of agama, process")), "{error}");
        Lock::of_restore(folder.path(), "web").unwrap();
        drop(first);
        Lock::of_restore(folder.path(), "agama").unwrap();
    }
}
