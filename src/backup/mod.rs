//! Backup: from a source to a committed snapshot.
//!
//! [`backup`] names every stage of the way in, in order; [`crate::restore`] is its mirror image.

mod bases;
mod changes;
mod chunking;
mod clock;
mod collect;
mod commit;
mod gone;
mod reused;
mod parent;
mod parent_recipe;
mod pending;
mod pipeline;
mod rebase;
mod free_space;
mod sharing;
mod shrink;
mod start;
mod precompressed;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::random_bytes;
use crate::entry::StreamName;
use crate::error::{Error, Result, ending};
use crate::format::snapshot::Totals;
use crate::id::GenerationId;
use crate::index::{Beginning, Ending, OperationKind, SnapshotRow};
use crate::progress::{Interrupt, Progress};
use crate::remote::spool::Spool;
use crate::repository::{self, Lock, Repository};
use crate::retention::Rules;
use crate::source::Source;
use crate::time::{Clock, Zone};
use crate::warning::Warning;

use chunking::Chunking;
use collect::Collecting;
use commit::CommitPlan;
use pipeline::Pipeline;
use start::Start;

/// Which kind of snapshot is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WantedKind {
    /// A full where one is due, else an incremental.
    #[default]
    Due,
    /// A full that shares stored chunks.
    Full,
    /// An incremental, where there is a chain that can take one.
    Incremental,
    /// A full that stores everything plain again.
    Rebase,
}

/// Options of a backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The set.
    pub set: String,
    /// Full or incremental.
    pub wanted: WantedKind,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// Days of the calendar after which a full is due.
    pub full_every: u32,
    /// Days of the calendar after which a full stores everything plain again.
    pub rebase_every: u32,
    /// Most bytes that a full which is no re-base stores again, so that badly used packs can go: a share of the set, in percent.
    pub repack_budget: u32,
    /// Files that still have the content of streams of the previous snapshot. Their chunks are hashed before they are
    /// used, so a file that has changed since only makes the backup larger, and only if the base cache lacks them, too.
    pub previous: HashMap<StreamName, PreviousFile>,
    /// Most bytes of the local cache of the newest snapshot's chunks; 0 for none.
    pub base_cache_max: u64,
    /// Most bytes of sealed packs that wait on this machine's disk for the remote, so that the source isn't held up by
    /// the network; 0 for none.
    pub spool_max: u64,
    /// The time zone in whose days `full_every` and `rebase_every` count.
    pub zone: Zone,
    /// Whether chains share nothing.
    pub isolate_chains: bool,
    /// How long snapshots stay. Earlier losses are reported.
    pub keep: Duration,
    /// A snapshot that shrank by more than so many percent is suspect; None: no check.
    pub max_shrink: Option<u8>,
    /// Where the data comes from, as `paths` or a source's name: it is noted in the snapshot. Empty where nothing is to be noted.
    pub origin: String,
    /// Whether data from elsewhere than the set's newest snapshot is refused.
    pub keep_origin: bool,
    /// The folders that the set consists of: one that has lost all of its bytes makes the snapshot suspect.
    pub roots: Vec<StreamName>,
    /// zstd's level.
    pub level: i32,
    /// Whether it is begun even where the remote seems to have too little room.
    pub ignore_space: bool,
    /// How long to wait for another run on the same repository.
    pub wait: Duration,
    /// The environment's name, empty for none.
    pub environment: String,
    /// The configuration file, empty for none. It is stored, sealed.
    pub configuration: Vec<u8>,
}

/// The part of a file with a stream's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousFile {
    /// The file.
    pub path: PathBuf,
    /// Bytes of it that come before the stream.
    pub offset: u64,
}

impl BackupOptions {
    /// The defaults for a set.
    pub fn new(set: &str) -> Self {
        Self {
            set: set.to_owned(),
            wanted: WantedKind::default(),
            tags: Vec::new(),
            full_every: 7,
            rebase_every: 28,
            repack_budget: 10,
            previous: HashMap::new(),
            base_cache_max: 8 << 30,
            spool_max: 0,
            zone: Zone::Local,
            isolate_chains: false,
            keep: Rules::default().keep,
            max_shrink: None,
            origin: String::new(),
            keep_origin: false,
            roots: Vec::new(),
            level: 3,
            ignore_space: false,
            wait: Duration::from_secs(6 * 3600),
            environment: String::new(),
            configuration: Vec::new(),
        }
    }
}

/// Result of a backup.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// How many streams are in it.
    pub streams: u64,
    /// Why its kind isn't the requested one.
    pub note: Option<String>,
    /// Warnings of the run.
    pub warnings: Vec<Warning>,
}

impl BackupReport {
    /// Counts of the run.
    pub fn totals(&self) -> &Totals {
        &self.snapshot.about.totals
    }
}

/// Makes a snapshot of the streams of `source`, and commits it. After any failure there is no snapshot.
pub fn backup(
    repository: &Arc<Repository>,
    source: &mut dyn Source,
    options: &BackupOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<BackupReport> {
    let what = format!("backup of {}", options.set);
    let _lock = Lock::take(repository.folder(), &what, options.wait, progress, interrupt)?;
    let made = |report: &BackupReport| Ending {
        snapshot: Some((report.snapshot.id, *report.totals())),
        ..Ending::with_warnings(&report.warnings)
    };
    repository.record(
        &Beginning::new(OperationKind::Backup, Some(&options.set)),
        clock,
        |_| run(repository, source, options, clock, progress, interrupt),
        |result| ending(result, made),
    )
}

/// A half finished restore into a service must not be backed up.
fn refuse_unfinished_restore(repository: &Repository, set: &str) -> Result<()> {
    let last = repository.index().unfinished_restore(set)?;
    match last {
        None => Ok(()),
        Some(last) => Err(Error::Refused(format!(
            "a restore of {set} into its service began at {} and has not succeeded ({}), so what is there now is not backed up; \
             run the restore again, or give it up with: varu restore {set} --abandon",
            last.started,
            last.described()
        ))),
    }
}

fn run(
    repository: &Arc<Repository>,
    source: &mut dyn Source,
    options: &BackupOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<BackupReport> {
    refuse_unfinished_restore(repository, &options.set)?;
    let start = Start::look(repository, options, clock, progress)?;
    free_space::check(repository, options, &start, source)?;
    let generation = start.generation.unwrap_or_else(|| GenerationId::from_bytes(*random_bytes()));
    let bases = bases::open(repository, &start, options, generation, progress);
    let set = &options.set;
    let spool = (options.spool_max > 0).then(|| {
        let (remote, folder) = (repository.remote().clone(), repository.folder().join("spool"));
        Spool::new(remote, folder, options.spool_max, interrupt.clone())
    });
    let pipeline = Pipeline::start(repository.clone(), set, generation, options.level, spool, clock.now())?;
    let mut chunking = Chunking::new(repository, &start, pipeline, bases, progress, interrupt)?;
    progress.phase("backing up", None, None);
    let mut collected = Collecting::new(repository, &start, &options.roots).read(source, &mut chunking, progress)?;
    let finished = source.finish()?;
    collected.warnings.extend(source.warnings());
    if options.spool_max > 0 {
        progress.phase("sending what waits in the spool", None, None);
    }
    let stored = chunking.finish();
    if interrupt.is_set() {
        return Err(repository::Error::Interrupted.into());
    }
    let stored = stored?;
    let warnings = std::mem::take(&mut collected.warnings);
    let run = CommitPlan { repository, options, start: &start, generation, warnings, finished };
    run.commit(collected, stored, clock)
}
