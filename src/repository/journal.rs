//! Operations in the journal of a repository's index.

use super::{Error, Repository};
use crate::index::{Beginning, Ending, Running};
use crate::time::Clock;

impl Repository {
    /// Does `work` as an operation of the journal: that it began stands there before, and how it ended, as `ending` says it,
    /// after. The error of the work itself says more than that its end could not be noted, so it goes first.
    ///
    /// # Errors
    /// That of `work`, or where the journal can't be written.
    pub fn record<T, E: From<Error>>(
        &self,
        operation: &Beginning<'_>,
        clock: &dyn Clock,
        work: impl FnOnce(&Running) -> Result<T, E>,
        ending: impl FnOnce(&Result<T, E>) -> Ending,
    ) -> Result<T, E> {
        let running = self.index().begin(operation, clock.now()).map_err(Error::from)?;
        let result = work(&running);
        let ended = self.index().end(running, clock.now(), &ending(&result)).map_err(Error::from);
        let value = result?;
        ended?;
        Ok(value)
    }
}
