//! Local copies: a set's dumps on this machine's disk, made by `varu dump` and read by a backup.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::registry::SourceContext;
use super::schedule::calendar::is_due;
use super::spec::Set;
use crate::error;
use crate::index::{Beginning, Ending, Index, OperationKind, Running};
use crate::progress::Progress;
use crate::repository::{self, Lock};
use crate::source::copy::{self, CopyOptions, CopySource, LocalCopy};
use crate::source::{Error, Source as _};
use crate::time::{Clock, SystemClock};
use crate::warning::{Warning, WarningKind};

/// A local copy that was made.
#[derive(Debug)]
pub struct LocalCopyReport {
    /// The copy.
    pub copy: LocalCopy,
    /// What there is to know about it.
    pub warnings: Vec<Warning>,
}

/// Makes a new local copy of a set, and records that in the history. How long another dump of it is waited for is `wait`.
///
/// # Errors
///
/// Where the set makes no local copies, or the dump failed; then the last copy stays as it is.
pub fn dump(
    name: &str,
    wait: Duration,
    machine: &Machine,
    progress: &Arc<dyn Progress>,
) -> error::Result<LocalCopyReport> {
    let set = machine.set(name)?;
    let Some(options) = options(name, set) else {
        return Err(error::Error::Usage(format!(
            "the set {name} has no local_copy, the folder that dumps go to; varu backup {name} dumps by itself"
        )));
    };
    if set.dumped_by_another {
        return Err(error::Error::Usage(format!("the dumps of the set {name} are made by another job (dump_by)")));
    }
    let dumps = LocalCopies { name, set, options, wait, machine, progress };
    let history = History::begin(machine, name);
    let result = dumps.refresh();
    history.end(&result);
    let copy = result.map_err(|error| {
        let message = format!("the dump failed, and the last local copy stays as it is: {error}");
        error::Error::from(error).described(message)
    })?;
    let mut source = CopySource::open(&copy)?;
    Ok(LocalCopyReport { copy, warnings: source.warnings() })
}

/// The local copies of a set that has them.
pub fn options(name: &str, set: &Set) -> Option<CopyOptions> {
    let local = set.local_copy.as_ref()?;
    Some(CopyOptions {
        set: name.to_owned(),
        folder: local.folder.clone(),
        keep: local.keep,
        reserve: local.reserve,
        file: set.source.descriptor().local_copy_file()?,
    })
}

/// The local copies of a set, at work.
pub struct LocalCopies<'a> {
    /// The set's name.
    pub name: &'a str,
    /// The set.
    pub set: &'a Set,
    /// Where they are.
    pub options: CopyOptions,
    /// How long another dump of the set is waited for.
    pub wait: Duration,
    /// The machine.
    pub machine: &'a Machine,
    /// Who is told how it goes.
    pub progress: &'a Arc<dyn Progress>,
}

impl LocalCopies<'_> {
    /// Makes a new local copy, once again where the data changed meanwhile.
    ///
    /// # Errors
    ///
    /// Where another dump runs for too long, or this one failed.
    pub fn refresh(&self) -> Result<LocalCopy, Error> {
        let _lock = self.lock()?;
        self.put_unusable_aside()?;
        let context = SourceContext { set: self.name, machine: self.machine, progress: self.progress };
        let dump = || {
            let mut source = self.set.source.descriptor().open(&context)?;
            copy::make(&self.options, &mut *source)
        };
        let copy = match dump() {
            Err(Error::Changed(why)) => {
                self.progress.note(&format!("{why}; it is tried once more"));
                dump()
            }
            result => result,
        }?;
        // The one before is the next backup's base.
        if let Err(error) = copy::forget_old(&self.options, 1) {
            self.progress.warn(&WarningKind::OldCopies.warning(error.to_string()));
        }
        Ok(copy)
    }

    /// The copy that a backup reads: the newest, or a new one where that is older than the last time one was due.
    ///
    /// # Errors
    ///
    /// As [`LocalCopies::refresh`].
    pub fn current(&self) -> Result<LocalCopy, Error> {
        {
            let _lock = self.lock()?;
            self.put_unusable_aside()?;
            let schedule = &self.set.schedule;
            if let Some(copy) = copy::newest(&self.options.folder)?
                && let Some(dump) = &schedule.dump
                && !is_due(dump, schedule.zone, copy.data_time)?
            {
                return Ok(copy);
            }
        }
        self.refresh()
    }

    /// Puts those copies aside that nobody may read, and says why.
    fn put_unusable_aside(&self) -> Result<(), Error> {
        for why in copy::put_unusable_aside(&self.options, SystemClock.now())? {
            self.progress.warn(&WarningKind::LocalCopy.warning(format!("{why}; it isn't used")));
        }
        Ok(())
    }

    /// One dump of a set at a time.
    fn lock(&self) -> Result<Lock, Error> {
        let folder = &self.options.folder;
        // Dumps are for nobody else's eyes, whatever the umask.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| copy::failed("making the folder of local copies", folder, &error))?;
        let what = format!("dump of {}", self.name);
        Lock::take(folder, &what, self.wait, &**self.progress, &self.machine.interrupt).map_err(|error| match error {
            repository::Error::Io { tried, path, source } => copy::failed(tried, &path, &source),
            other => Error::Refused(other.to_string()),
        })
    }
}

/// The record of a dump, in the index of the repository that this machine writes to. A dump doesn't depend on it: where the
/// index can't be written, there is none.
struct History(Option<(Index, Running)>);

impl History {
    fn begin(machine: &Machine, set: &str) -> Self {
        let place = machine.place().map(|place| place.to_string()).unwrap_or_default();
        // The newest id is the one that is written to.
        let newest = machine.keyring().known(&place).unwrap_or_default().into_iter().next();
        Self(newest.and_then(|id| {
            let mut index = Index::open(&machine.state().ok()?.join(id.to_string())).ok()?;
            let running = index.begin(&Beginning::new(OperationKind::Dump, Some(set)), SystemClock.now()).ok()?;
            Some((index, running))
        }))
    }

    fn end(self, result: &Result<LocalCopy, Error>) {
        let Some((mut index, running)) = self.0 else { return };
        let _ = index.end(running, SystemClock.now(), &error::ending(result, |_| Ending::with_warnings(&[])));
    }
}
