//! Misplaced files of an account: objects are put back where they belong, old leftovers are swept.

use std::time::Duration;

use super::{Acceptance, Examined};
use crate::error::Result;
use crate::host::area::{FileKind, FileLocation, NamedFile};
use crate::remote::Folder;

/// How long the host keeps files in `pending/` that are no complete objects.
pub const SWEEP_AFTER: Duration = Duration::from_secs(14 * 24 * 3600);
/// How many rounds follow files that the account moves during the run. Later ones are left for the next run.
const ROUNDS: usize = 8;

impl Acceptance<'_> {
    /// Deletes a file of the account's. Another file that has taken its name is followed.
    pub(super) fn remove(&mut self, found: &NamedFile) -> Result<()> {
        let taken = self.area.take(found).map_err(|error| self.fail("taking away", found, error))?;
        match taken {
            Some(taken) if taken.what.is(&found.what) => self.discard(&taken.name),
            Some(other) => {
                self.misplaced.push(other);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Puts back objects that were moved away, and sweeps old leftovers.
    pub(super) fn follow_misplaced(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let misplaced = std::mem::take(&mut self.misplaced);
            if misplaced.is_empty() {
                return Ok(());
            }
            for stray in misplaced {
                let done = self.stray(stray.clone());
                self.pass(&stray, done)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    fn stray(&mut self, found: NamedFile) -> Result<()> {
        if let FileKind::Strange(what) = found.what {
            return self.no_object(found, what);
        }
        if found.spot != FileLocation::Staging && self.seen.is_judged(&found) {
            return self.no_object(found, "no whole object");
        }
        match self.examine(&found, None)? {
            Examined::Whole(copy, name) if self.present.contains(&name) => {
                self.discard(copy.name.as_bytes())?;
                self.second.push(found);
                Ok(())
            }
            Examined::Whole(copy, name) => {
                self.report.put_back.push((found.to_string(), name.clone()));
                self.put(*copy, name, &found)
            }
            Examined::Junk(why) => self.no_object(found, why),
            Examined::Later(version) => {
                self.later(&found, version);
                match found.spot {
                    FileLocation::Staging => {
                        self.area.give_back(&found.name).map_err(|error| self.fail("giving back", &found, error))
                    }
                    FileLocation::In(_) => Ok(()),
                }
            }
            Examined::Gone => Ok(()),
        }
    }

    /// Handles a file outside the folders of objects that is no complete object.
    fn no_object(&mut self, found: NamedFile, why: &'static str) -> Result<()> {
        match found.spot {
            FileLocation::Staging => match found.what {
                FileKind::Strange(what) => {
                    // A link or a FIFO is deleted, and an empty folder. No account can make one.
                    if self.area.discard(&found.name).is_err() {
                        self.warn_of(&found, what);
                    }
                    Ok(())
                }
                _ => self.area.give_back(&found.name).map_err(|error| self.fail("giving back", &found, error)),
            },
            FileLocation::In(Folder::Pending) => {
                let first = self.seen.judge(&found, self.now);
                match self.now.since(first) >= SWEEP_AFTER {
                    true => self.sweep(&found),
                    false => Ok(()),
                }
            }
            FileLocation::In(_) => {
                self.junk(&found, why);
                Ok(())
            }
        }
    }

    /// Deletes an old file that is no object, but examines it once more when the account can't reach it.
    fn sweep(&mut self, found: &NamedFile) -> Result<()> {
        let taken = self.area.take(found).map_err(|error| self.fail("taking away", found, error))?;
        let Some(taken) = taken else { return Ok(()) };
        if taken.what.is(&found.what) {
            match self.examine(&taken, None)? {
                Examined::Junk(_) => {
                    self.report.swept += 1;
                    return self.discard(&taken.name);
                }
                Examined::Whole(copy, _) => self.discard(copy.name.as_bytes())?,
                Examined::Later(_) | Examined::Gone => {}
            }
        }
        self.misplaced.push(taken);
        Ok(())
    }
}
