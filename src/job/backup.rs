//! Backup of a set: from where its data is read, what is tried again, and which kind of snapshot is made.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::local_copy::{self, LocalCopies};
use super::open::remember_place;
use super::registry::SourceContext;
use super::schedule::{FullPolicy, calendar, with_tags};
use super::spec::{Set, SourceSpec};
use super::{Machine, hooks};
use crate::backup::{BackupOptions, BackupReport, PreviousFile, WantedKind, backup};
use crate::entry::StreamName;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::remote::Remote;
use crate::remote::place::Location;
use crate::repository::Repository;
use crate::source;
use crate::source::copy::{self, CopyOptions, CopySource};
use crate::source::deferred::Deferred;
use crate::time::{Clock, SystemClock};
use crate::warning::WarningKind;

/// What is backed up, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRequest {
    /// The set's name.
    pub set: String,
    /// Its data.
    pub source: SourceSpec,
    /// The kind of snapshot.
    pub wanted: WantedKind,
    /// When all of it is stored again.
    pub policy: FullPolicy,
    /// A snapshot that shrank by more than so many percent is suspect; None where that is right.
    pub max_shrink: Option<u8>,
    /// Whether it is a set of the configuration.
    pub is_configured: bool,
    /// Whether a set may be of something else from now on.
    pub change_paths: bool,
    /// Tags, each once.
    pub tags: Vec<String>,
    /// Whether it is begun even where the remote seems to have too little room.
    pub ignore_space: bool,
    /// How long another run is waited for.
    pub wait: Duration,
}

/// A backup that was made.
pub struct BackupJobReport {
    /// What the operation reports.
    pub backup: BackupReport,
    /// The repository that has the snapshot.
    pub repository: Arc<Repository>,
    /// How long it took.
    pub took: Duration,
}

/// Backs a set up into the repository at `remote`, between its hooks.
///
/// # Errors
///
/// Where no snapshot was made.
pub fn run(
    request: BackupRequest,
    remote: &Arc<dyn Remote>,
    machine: &Machine,
    progress: &Arc<dyn Progress>,
) -> Result<BackupJobReport> {
    let repository = machine.open_to_write(remote)?;
    let set = machine.configuration.sets.get(&request.set).filter(|_| request.is_configured);
    let mut job = BackupJob { request, repository: &repository, machine, progress };
    if let Some(set) = set
        && job.request.wanted == WantedKind::Due
    {
        job.request.wanted = job.request.policy.apply_schedule(&job.request.set, &set.schedule, &repository)?;
    }
    let started = Instant::now();
    let backup = hooks::around_backup(&job.request.set, set, machine, &**progress, || job.back_up())?;
    remember_place(&repository)?;
    job.forget_copies();
    let took = started.elapsed();
    Ok(BackupJobReport { backup, repository, took })
}

/// A backup at work.
struct BackupJob<'a> {
    request: BackupRequest,
    repository: &'a Arc<Repository>,
    machine: &'a Machine,
    progress: &'a Arc<dyn Progress>,
}

impl BackupJob<'_> {
    /// Backs up; once again where the data changed while it was read, and from what is nearer to the data where a local copy
    /// can't be used or made.
    fn back_up(&self) -> Result<BackupReport> {
        let previous = self.previous_copy()?;
        let once = |input: &BackupInput| {
            let options = BackupOptions { previous: previous.clone(), ..self.options(input) };
            let mut source = Deferred::new(|| self.open(input));
            let (progress, interrupt) = (&**self.progress, &self.machine.interrupt);
            backup(self.repository, &mut source, &options, &SystemClock, progress, interrupt)
        };
        let mut input = self.first_input();
        let mut changed = false;
        loop {
            match once(&input) {
                Err(Error::Source(source::Error::Changed(why))) if !changed => {
                    self.progress.note(&format!("{why}; it is tried once more"));
                    changed = true;
                }
                Err(Error::Source(source::Error::LocalCopy(why) | source::Error::NoSpace(why)))
                    if input.is_of_copies() =>
                {
                    input = input.after(&why, &**self.progress);
                }
                result => return result,
            }
        }
    }

    /// The operation's options.
    fn options(&self, input: &BackupInput) -> BackupOptions {
        let (request, configuration) = (&self.request, &self.machine.configuration);
        let source = request.source.descriptor();
        let is_made_now = matches!(input, BackupInput::Data) && source.is_made_while_read();
        BackupOptions {
            wanted: with_tags(request.wanted, &request.set, &request.tags, configuration),
            tags: request.tags.clone(),
            full_every: request.policy.full_every,
            rebase_every: request.policy.rebase_every,
            repack_budget: request.policy.repack_budget,
            base_cache_max: configuration.repository.base_cache_max,
            spool_max: match is_made_now && matches!(self.machine.place(), Ok(Location::Sftp(_))) {
                true => configuration.repository.spool_max,
                false => 0,
            },
            zone: request.policy.zone,
            keep: configuration.rules(&request.set).keep,
            max_shrink: request.max_shrink,
            origin: source.origin(),
            keep_origin: !request.is_configured && !request.change_paths,
            roots: source.roots(),
            isolate_chains: configuration.repository.isolate_chains,
            ignore_space: request.ignore_space,
            wait: request.wait,
            environment: configuration.environment.name.clone().unwrap_or_default(),
            configuration: configuration.text.clone().unwrap_or_default().into_bytes(),
            ..BackupOptions::new(&request.set)
        }
    }

    /// Where the local copy that the set's newest snapshot was made of has each stream.
    fn previous_copy(&self) -> Result<HashMap<StreamName, PreviousFile>> {
        let Some(options) = self.own_copies() else { return Ok(HashMap::new()) };
        let rows = self.repository.index().snapshots()?;
        let newest = rows.iter().rev().find(|row| row.header.set == self.request.set);
        let Some(newest) = newest else { return Ok(HashMap::new()) };
        let streams = copy::streams_at(&options.folder, newest.header.data_time).into_iter();
        Ok(streams.map(|(name, path, offset)| (name, PreviousFile { path, offset })).collect())
    }

    /// Where the data is read first.
    fn first_input(&self) -> BackupInput {
        let set = self.machine.configuration.sets.get(&self.request.set);
        match set.filter(|set| set.source == self.request.source && set.local_copy.is_some()) {
            Some(set) if set.dumped_by_another => BackupInput::Dumps,
            Some(_) => BackupInput::Copy(RefCell::default()),
            None => BackupInput::Data,
        }
    }

    /// The source.
    fn open(&self, input: &BackupInput) -> std::result::Result<Box<dyn source::Source>, source::Error> {
        let Self { request, machine, progress, .. } = self;
        match input {
            BackupInput::Data => {
                request.source.descriptor().open(&SourceContext { set: &request.set, machine, progress })
            }
            BackupInput::Dumps => self.open_dumps(),
            BackupInput::Copy(read) => {
                let copy = self.local_copies()?.current()?;
                read.replace(Some(copy.path.clone()));
                Ok(Box::new(CopySource::open(&copy)?))
            }
            BackupInput::NewCopy => Ok(Box::new(CopySource::open(&self.local_copies()?.refresh()?)?)),
        }
    }

    /// The source that reads what another job left.
    fn open_dumps(&self) -> std::result::Result<Box<dyn source::Source>, source::Error> {
        let LocalCopies { set, options, .. } = self.local_copies()?;
        let (dumps, time) = set.source.descriptor().open_external(&options.folder, &self.machine.interrupt)?;
        if time > SystemClock.now().after(copy::AHEAD) {
            self.progress.warn(&WarningKind::WrongClock.warning(format!(
                "the dump in {} is of {time}, which hasn't come yet, so nobody can say whether it is the last one",
                options.folder.display()
            )));
        }
        let schedule = &set.schedule;
        if let Some(expression) = &schedule.dump
            && calendar::is_due(expression, schedule.zone, time)?
        {
            return Err(source::Error::Failed(format!(
                "the dump in {} is from {time}, and one has been due since ({expression}): does the job that makes it run?",
                options.folder.display()
            )));
        }
        Ok(dumps)
    }

    fn local_copies(&self) -> std::result::Result<LocalCopies<'_>, source::Error> {
        let Self { request: BackupRequest { set: name, wait, .. }, machine, progress, .. } = self;
        let set: Option<&Set> = machine.configuration.sets.get(name);
        let set = set.ok_or_else(|| source::Error::Config(format!("the configuration has no set {name}")))?;
        let Some(options) = local_copy::options(name, set) else {
            return Err(source::Error::Config(format!("the set {name} has no local_copy")));
        };
        Ok(LocalCopies { name, set, options, wait: *wait, machine, progress })
    }

    /// The set's local copies, where it makes them itself.
    fn own_copies(&self) -> Option<CopyOptions> {
        let name = &self.request.set;
        let set = self.machine.configuration.sets.get(name).filter(|set| !set.dumped_by_another);
        set.and_then(|set| local_copy::options(name, set))
    }

    /// Once a backup stands, older copies aren't its base any more.
    fn forget_copies(&self) {
        if let Some(options) = self.own_copies()
            && let Err(error) = copy::forget_old(&options, 0)
        {
            self.progress.warn(&WarningKind::OldCopies.warning(error.to_string()));
        }
    }
}

/// Where a backup reads its data. What lies on a local disk is only in between: where it can't be used the data is read.
enum BackupInput {
    /// The newest local copy, or a new one where that isn't fresh. It is noted which one was read.
    Copy(RefCell<Option<PathBuf>>),
    /// A new local copy.
    NewCopy,
    /// What another job has dumped.
    Dumps,
    /// The data itself.
    Data,
}

impl BackupInput {
    fn is_of_copies(&self) -> bool {
        matches!(self, BackupInput::Copy(_) | BackupInput::NewCopy)
    }

    /// Where it is read after a local copy could not be used. A copy that was read is put aside, and made anew once.
    fn after(self, why: &str, progress: &dyn Progress) -> Self {
        let read = match self {
            BackupInput::Copy(read) => read.into_inner(),
            BackupInput::NewCopy | BackupInput::Dumps | BackupInput::Data => None,
        };
        let (next, what) = match read.map(|read| copy::aside(&read)) {
            Some(Ok(())) => (BackupInput::NewCopy, "it isn't used, and the data is dumped anew"),
            Some(Err(_)) | None => (BackupInput::Data, "the data is backed up without a local copy"),
        };
        progress.warn(&WarningKind::LocalCopy.warning(format!("{why}; {what}")));
        next
    }
}
