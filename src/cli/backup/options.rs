//! What a backup is to do, and its run.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use varu::backup::{BackupOptions, BackupReport, PreviousFile, Wanted, backup};
use varu::entry::{Escaped, StreamName};
use varu::error::Error;
use varu::progress::Progress;
use varu::remote::place::Place;
use varu::repository::Repository;
use varu::retention::TagRule;
use varu::source;
use varu::source::copy::{self, CopyOptions, CopySource};
use varu::source::deferred::Deferred;
use varu::source::stdin::StdinSource;
use varu::source::until::UntilInterrupted;
use varu::time::{Clock, SystemClock, Zone};
use varu::warning::WarningKind;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::watch::Watch;
use crate::cli::{dump, sources};
use crate::config::{Config, Set, Source};

/// What is backed up, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The set's name.
    pub set: String,
    /// Its data.
    pub what: What,
    /// The kind of snapshot.
    pub kind: Kind,
    /// When all of it is stored again.
    pub rhythm: Rhythm,
    /// A snapshot that shrank by more than so many percent is suspect; None where that is right.
    pub max_shrink: Option<u8>,
    /// Whether it is a set of the configuration.
    pub configured: bool,
    /// Whether a set may be of something else from now on.
    pub change_paths: bool,
    /// Tags, each once.
    pub tags: Vec<String>,
    /// Whether what is missing is made.
    pub init: bool,
    /// Whether room isn't asked for.
    pub ignore_space: bool,
    /// How long another run is waited for.
    pub wait: Duration,
}

/// When a set is stored again, and how much of it. Days are those of the calendar in `zone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// A full is due so many days after the last.
    pub full_every: u32,
    /// A re-base is due so many days after the last.
    pub rebase_every: u32,
    /// How much of the set a full that is no re-base may store again, in percent.
    pub repack_budget: u32,
    /// The set's time zone.
    pub zone: Zone,
}

impl Rhythm {
    /// That of a set which the configuration doesn't have.
    pub fn unconfigured(context: &Context) -> Self {
        let rebase_every = whole_days(context.config.retention.keep);
        Self { full_every: FULL_EVERY, rebase_every, repack_budget: REPACK_BUDGET, zone: context.zone }
    }

    /// That of a set of the configuration.
    pub fn of(set: &Set, context: &Context) -> Self {
        let keep = set.keep.unwrap_or(context.config.retention.keep);
        Self {
            full_every: set.full_every,
            rebase_every: set.rebase_every.unwrap_or(whole_days(keep)),
            repack_budget: set.repack_budget.into(),
            zone: set.schedule.zone,
        }
    }
}

fn whole_days(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs() / (24 * 3600)).unwrap_or(u32::MAX).max(1)
}

/// The data of a backup.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// What a source reads.
    Source(Source),
    /// Standard input, as a stream of this name.
    Stdin(StreamName),
}

/// The kind of snapshot that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An incremental, or a full where one is due.
    Due,
    /// A full.
    Full,
    /// An incremental.
    Incremental,
    /// A full with everything plain.
    Rebase,
}

/// Days between fulls of a set that the configuration doesn't have.
const FULL_EVERY: u32 = 7;
/// Most bytes of the base cache of a set, where the configuration says nothing.
const BASE_CACHE_MAX: u64 = 8 << 30;
/// Bytes of a backup that may wait on this machine's disk for the remote, if the configuration says nothing.
const SPOOL_MAX: u64 = 4 << 30;
/// How much of such a set a full may store again, in percent.
const REPACK_BUDGET: u32 = 10;
/// Bytes of standard input, where that is a plain file.
fn size_of_stdin() -> Option<u64> {
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    input.metadata().ok().filter(Metadata::is_file).map(|file| file.len())
}

impl Options {
    /// Where the schedule says when a full is made, that goes before the days since the last one: a full is due once its
    /// time has come since the last was stored, also where the machine was off at that time.
    pub fn heed_calendar(&mut self, set: Option<&Set>, repository: &Repository) -> Result<(), Failure> {
        let Some((schedule, expression)) = set.map(|set| &set.schedule).and_then(|all| Some((all, all.full.as_ref()?)))
        else {
            return Ok(());
        };
        if self.kind != Kind::Due {
            return Ok(());
        }
        let rows = repository.index().snapshots().map_err(varu::repository::Error::from)?;
        let last = rows.iter().rev().find(|row| row.header.set == self.set && row.header.parent.is_none());
        match last {
            Some(last) if dump::is_due(expression, schedule.zone, last.header.stored_time)? => self.kind = Kind::Full,
            Some(_) => self.rhythm.full_every = u32::MAX,
            None => {}
        }
        Ok(())
    }

    /// Backs up; once again where the data changed while it was read, and from what is nearer to the data where a local copy
    /// can't be used or made.
    pub fn back_up(
        &self,
        repository: &Arc<Repository>,
        context: &Context,
        watch: &Arc<Watch>,
    ) -> Result<BackupReport, Failure> {
        let previous = self.previous_copy(repository, context)?;
        let once = |reading: &Reading| {
            let library = BackupOptions { previous: previous.clone(), ..self.library(reading, context) };
            let mut source = Deferred::new(|| self.source(reading, context, watch));
            backup(repository, &mut source, &library, &SystemClock, &**watch, &context.interrupt)
        };
        let mut reading = self.first_reading(context);
        let mut changed = false;
        loop {
            match once(&reading) {
                Err(Error::Source(source::Error::Changed(why))) if !changed => {
                    watch.note(&format!("{why}; it is tried once more"));
                    changed = true;
                }
                Err(Error::Source(source::Error::LocalCopy(why) | source::Error::NoRoom(why)))
                    if reading.is_of_copies() =>
                {
                    reading = reading.after(&why, watch);
                }
                result => return Ok(result?),
            }
        }
    }

    /// What the library is to do.
    fn library(&self, reading: &Reading, context: &Context) -> BackupOptions {
        let config = &context.config;
        BackupOptions {
            wanted: match self.kind {
                // What stays longer than the chains around it needs bases of its own, or theirs would stay, too.
                Kind::Due | Kind::Full if self.is_kept_longer(config) => Wanted::Rebase,
                Kind::Due => Wanted::Due,
                Kind::Full => Wanted::Full,
                Kind::Incremental => Wanted::Incremental,
                Kind::Rebase => Wanted::Rebase,
            },
            tags: self.tags.clone(),
            full_every: self.rhythm.full_every,
            rebase_every: self.rhythm.rebase_every,
            repack_budget: self.rhythm.repack_budget,
            base_cache_max: config.repository.base_cache_max.unwrap_or(BASE_CACHE_MAX),
            spool_max: match self.is_made_now(reading) && matches!(context.place(), Ok(Place::Sftp(_))) {
                true => config.repository.spool_max.unwrap_or(SPOOL_MAX),
                false => 0,
            },
            zone: self.rhythm.zone,
            keep: config.rules(&self.set).keep,
            max_shrink: self.max_shrink,
            origin: self.origin(),
            keep_origin: !self.configured && !self.change_paths,
            roots: self.roots(),
            isolate_chains: config.repository.isolate_chains,
            ignore_space: self.ignore_space,
            wait: self.wait,
            environment: config.environment.name.clone().unwrap_or_default(),
            configuration: config.text.clone().unwrap_or_default().into_bytes(),
            ..BackupOptions::new(&self.set)
        }
    }

    /// Where the data comes from, in words that are the same for the same.
    fn origin(&self) -> String {
        match &self.what {
            What::Stdin(name) => format!("standard input as {name}"),
            What::Source(Source::Files(files)) => {
                let shown = |path: &PathBuf| Escaped(path.as_os_str().as_bytes()).to_string();
                let paths: BTreeSet<String> = files.paths.iter().map(shown).collect();
                paths.into_iter().collect::<Vec<_>>().join("\n")
            }
            What::Source(source) => format!("the source {}", source.kind().name()),
        }
    }

    /// The folders that the set consists of.
    fn roots(&self) -> Vec<StreamName> {
        let What::Source(Source::Files(files)) = &self.what else { return Vec::new() };
        let name = |path: &PathBuf| {
            let path = path.as_os_str().as_bytes();
            let trimmed = path.iter().position(|byte| *byte != b'/').map_or(&[][..], |first| &path[first..]);
            StreamName::new(trimmed.strip_suffix(b"/").unwrap_or(trimmed)).ok()
        };
        files.paths.iter().filter_map(name).collect()
    }

    /// Where the local copy that the set's newest snapshot was made of has each stream.
    fn previous_copy(
        &self,
        repository: &Repository,
        context: &Context,
    ) -> Result<HashMap<StreamName, PreviousFile>, Failure> {
        let Some(options) = self.own_copies(context) else { return Ok(HashMap::new()) };
        let rows = repository.index().snapshots().map_err(varu::repository::Error::from)?;
        let Some(newest) = rows.iter().rev().find(|row| row.header.set == self.set) else { return Ok(HashMap::new()) };
        let streams = copy::streams_at(&options.folder, newest.header.data_time).into_iter();
        Ok(streams.map(|(name, path, offset)| (name, PreviousFile { path, offset })).collect())
    }

    /// Whether a program makes the data while it is read, and has to wait where the reader does.
    fn is_made_now(&self, reading: &Reading) -> bool {
        match &self.what {
            // A backup of InfluxDB lies in a folder before its first byte is read.
            What::Source(Source::Files(_) | Source::Influxdb(_)) => false,
            What::Source(_) => matches!(reading, Reading::Data),
            What::Stdin(_) => size_of_stdin().is_none(),
        }
    }

    /// Whether a tag's rule keeps the snapshot longer than its set's rule does.
    fn is_kept_longer(&self, config: &Config) -> bool {
        let rules = config.rules(&self.set);
        let longer = |rule: &TagRule| matches!(rule, TagRule::For(length) if *length > rules.keep);
        self.tags.iter().filter_map(|tag| rules.tags.get(tag)).any(longer)
    }

    /// Where the data is read first.
    fn first_reading(&self, context: &Context) -> Reading {
        match (&self.what, context.config.sets.get(&self.set)) {
            (What::Source(source), Some(set)) if set.source == *source && set.local_copy.is_some() => {
                match set.dumped_by_another {
                    true => Reading::Dumps,
                    false => Reading::Copy(RefCell::default()),
                }
            }
            _ => Reading::Data,
        }
    }

    /// The source that reads the newest local copy, or a new one where that isn't fresh or isn't wanted.
    fn copied(
        &self,
        read: Option<&RefCell<Option<PathBuf>>>,
        context: &Context,
        watch: &Arc<Watch>,
    ) -> Result<Box<dyn source::Source>, source::Error> {
        let set = self.set_in(context)?;
        let Some(options) = dump::copies(&self.set, set) else { return Err(self.has_no_copies()) };
        let copy = match read {
            None => dump::refresh(&self.set, set, &options, self.wait, context, watch)?,
            Some(read) => {
                let copy = dump::current(&self.set, set, &options, self.wait, context, watch)?;
                read.replace(Some(copy.path.clone()));
                copy
            }
        };
        Ok(Box::new(CopySource::open(&copy)?))
    }

    /// The source that reads what another job left.
    fn dumped(&self, context: &Context, watch: &Watch) -> Result<Box<dyn source::Source>, source::Error> {
        let set = self.set_in(context)?;
        let Some(options) = dump::copies(&self.set, set) else { return Err(self.has_no_copies()) };
        let (dumps, time) = sources::external(&set.source, &options.folder, context)?;
        if time > SystemClock.now().after(copy::AHEAD) {
            watch.warn(&WarningKind::WrongClock.warning(format!(
                "the dump in {} is of {time}, which hasn't come yet, so nobody can say whether it is the last one",
                options.folder.display()
            )));
        }
        let schedule = &set.schedule;
        if let Some(expression) = &schedule.dump
            && dump::is_due(expression, schedule.zone, time)?
        {
            return Err(source::Error::Failed(format!(
                "the dump in {} is from {time}, and one has been due since ({expression}): does the job that makes it run?",
                options.folder.display()
            )));
        }
        Ok(dumps)
    }

    fn set_in<'c>(&self, context: &'c Context) -> Result<&'c Set, source::Error> {
        let set = context.config.sets.get(&self.set);
        set.ok_or_else(|| source::Error::Config(format!("the configuration has no set {}", self.set)))
    }

    fn has_no_copies(&self) -> source::Error {
        source::Error::Config(format!("the set {} has no local_copy", self.set))
    }

    /// The set's local copies, where it makes them itself.
    fn own_copies(&self, context: &Context) -> Option<CopyOptions> {
        let set = context.config.sets.get(&self.set).filter(|set| !set.dumped_by_another);
        set.and_then(|set| dump::copies(&self.set, set))
    }

    /// Once a backup stands, older copies aren't its base any more.
    pub fn forget_copies(&self, context: &Context, watch: &Watch) {
        if let Some(options) = self.own_copies(context)
            && let Err(error) = copy::forget_old(&options, 0)
        {
            watch.warn(&WarningKind::OldCopies.warning(error.to_string()));
        }
    }

    /// The data's source.
    fn source(
        &self,
        reading: &Reading,
        context: &Context,
        watch: &Arc<Watch>,
    ) -> Result<Box<dyn source::Source>, source::Error> {
        Ok(match (&self.what, reading) {
            (What::Stdin(name), _) => {
                let input = std::io::stdin().as_fd().try_clone_to_owned();
                let input = File::from(input.map_err(|error| source::Error::failed("reading standard input", &error))?);
                let input = UntilInterrupted::new(input, context.interrupt.clone());
                Box::new(StdinSource::new(name.clone(), input, &SystemClock).expecting(size_of_stdin()))
            }
            (What::Source(_), Reading::Dumps) => return self.dumped(context, watch),
            (What::Source(_), Reading::Copy(read)) => return self.copied(Some(read), context, watch),
            (What::Source(_), Reading::NewCopy) => return self.copied(None, context, watch),
            (What::Source(source), Reading::Data) => return sources::fresh(&self.set, source, context, watch),
        })
    }
}

/// Where a backup reads its data. What lies on a local disk is only in between: where it can't be used the data is read.
enum Reading {
    /// The newest local copy, or a new one where that isn't fresh. It is noted which one was read.
    Copy(RefCell<Option<PathBuf>>),
    /// A new local copy.
    NewCopy,
    /// What another job has dumped.
    Dumps,
    /// The data itself.
    Data,
}

impl Reading {
    fn is_of_copies(&self) -> bool {
        matches!(self, Reading::Copy(_) | Reading::NewCopy)
    }

    /// Where it is read after a local copy could not be used. A copy that was read is put aside, and made anew once.
    fn after(self, why: &str, watch: &Watch) -> Self {
        let read = match self {
            Reading::Copy(read) => read.into_inner(),
            _ => None,
        };
        let (next, what) = match read.map(|read| copy::aside(&read)) {
            Some(Ok(())) => (Reading::NewCopy, "it isn't used, and the data is dumped anew"),
            Some(Err(_)) | None => (Reading::Data, "the data is backed up without a local copy"),
        };
        watch.warn(&WarningKind::LocalCopy.warning(format!("{why}; {what}")));
        next
    }
}
