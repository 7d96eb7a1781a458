//! What lies where no object should: put back what was moved away, and sweep what is old.

use std::time::Duration;

use super::{Acceptance, Examined};
use crate::error::Result;
use crate::host::area::{Found, Spot, What};
use crate::remote::Folder;

/// How long the host keeps in `pending/` what is no whole object.
pub const SWEEP_AFTER: Duration = Duration::from_secs(14 * 24 * 3600);
/// How many rounds follow what the account moves about meanwhile. What is left then is for the next run.
const ROUNDS: usize = 8;

impl Acceptance<'_> {
    /// Deletes a file of the account's. What has its name by now instead is followed.
    pub(super) fn remove(&mut self, found: &Found) -> Result<()> {
        let taken = self.area.take(found).map_err(|error| self.fail("taking away", found, error))?;
        match taken {
            Some(taken) if taken.what.is(&found.what) => self.discard(&taken.name),
            Some(other) => {
                self.strays.push(other);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Puts back what was moved away, and sweeps what is old.
    pub(super) fn follow_strays(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let strays = std::mem::take(&mut self.strays);
            if strays.is_empty() {
                return Ok(());
            }
            for stray in strays {
                let done = self.stray(stray.clone());
                self.pass(&stray, done)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    fn stray(&mut self, found: Found) -> Result<()> {
        if let What::Strange(what) = found.what {
            return self.no_object(found, what);
        }
        if found.spot != Spot::Staging && self.seen.is_judged(&found) {
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
                    Spot::Staging => {
                        self.area.give_back(&found.name).map_err(|error| self.fail("giving back", &found, error))
                    }
                    Spot::In(_) => Ok(()),
                }
            }
            Examined::Gone => Ok(()),
        }
    }

    /// Deals with what is no whole object and lies outside the folders of objects.
    fn no_object(&mut self, found: Found, why: &'static str) -> Result<()> {
        match found.spot {
            Spot::Staging => match found.what {
                What::Strange(what) => {
                    // A link or a FIFO goes, and an empty folder. No account can make one.
                    if self.area.discard(&found.name).is_err() {
                        self.warn_of(&found, what);
                    }
                    Ok(())
                }
                _ => self.area.give_back(&found.name).map_err(|error| self.fail("giving back", &found, error)),
            },
            Spot::In(Folder::Pending) => {
                let first = self.seen.judge(&found, self.now);
                match self.now.since(first) >= SWEEP_AFTER {
                    true => self.sweep(&found),
                    false => Ok(()),
                }
            }
            Spot::In(_) => {
                self.junk(&found, why);
                Ok(())
            }
        }
    }

    /// Deletes what is old and no object, but looks once more when the account can't reach it.
    fn sweep(&mut self, found: &Found) -> Result<()> {
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
        self.strays.push(taken);
        Ok(())
    }
}
