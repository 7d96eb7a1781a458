//! Restore: from a snapshot to a target. The mirror image of [`crate::backup`].

mod chosen;
mod elsewhere;
pub mod service;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::entry::{Entry, Kind, StreamName};
use crate::error::{Error, Result, ending};
use crate::format::recipe::Stream;
use crate::id::{PackId, StreamHash};
use crate::index::{Beginning, Ending, OperationKind, Outcome, SnapshotRow};
use crate::progress::{Counter, Counts, Interrupt, Progress};
use crate::repository::{self, ChunkRun, DamagedRange, Fetcher, Layers, Repository};
use crate::source::{self, Proof, Target};
use crate::time::Clock;
use crate::warning::{Warning, WarningKind};

use chosen::FoldersAbove;
pub use chosen::{Choice, ChosenStreams};
use elsewhere::Elsewhere;

/// Result of a restore.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// Streams that were written.
    pub streams: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Streams that were there already and were kept. Nothing of them was fetched.
    pub kept: u64,
    /// Streams that could not be restored because stored data is damaged, each a sentence. Nothing of them was written.
    pub damaged: Vec<String>,
    /// Other warnings.
    pub warnings: Vec<Warning>,
    /// What was compared in a service, before anything was put in place. None where files were restored.
    pub proof: Option<Proof>,
    unnamed_damaged: u64,
    unnamed_skipped: u64,
}

impl RestoreReport {
    fn new(snapshot: &SnapshotRow) -> Self {
        let (damaged, warnings) = (Vec::new(), Vec::new());
        Self {
            snapshot: snapshot.clone(),
            streams: 0,
            bytes: 0,
            kept: 0,
            damaged,
            warnings,
            proof: None,
            unnamed_damaged: 0,
            unnamed_skipped: 0,
        }
    }

    /// How the restore ended.
    pub fn ending(&self) -> Ending {
        match self.damaged.first() {
            Some(damage) => Ending::new(Outcome::Warnings, Some(damage.clone())),
            None => Ending::with_warnings(&self.warnings),
        }
    }

    fn lost(&mut self, gap: &DamagedRange, progress: &dyn Progress) {
        let damaged = format!("what the recipe said of {gap}; they can't be restored");
        self.add_damaged(damaged, progress);
    }

    fn add_damaged(&mut self, damaged: String, progress: &dyn Progress) {
        if self.damaged.len() < MOST_NAMED {
            progress.warn(&WarningKind::Damaged.warning(damaged.clone()));
            self.damaged.push(damaged);
        } else {
            self.unnamed_damaged += 1;
        }
    }

    fn skipped(&mut self, warning: Warning, progress: &dyn Progress) {
        if self.warnings.len() < MOST_NAMED {
            progress.warn(&warning);
        }
        self.note(warning);
    }

    fn note(&mut self, warning: Warning) {
        match self.warnings.len() < MOST_NAMED {
            true => self.warnings.push(warning),
            false => self.unnamed_skipped += 1,
        }
    }

    /// Says how many streams are that no sentence of their own names.
    fn count_unnamed(&mut self, progress: &dyn Progress) {
        if self.unnamed_damaged > 0 {
            let damaged = format!("{} more streams can't be restored", self.unnamed_damaged);
            progress.warn(&WarningKind::Damaged.warning(damaged.clone()));
            self.damaged.push(damaged);
        }
        if self.unnamed_skipped > 0 {
            let text = format!("{} more were not restored", self.unnamed_skipped);
            let warning = WarningKind::NotRestored.warning(text);
            progress.warn(&warning);
            self.warnings.push(warning);
        }
    }

    fn damaged(&mut self, stream: &Stream, why: &str, progress: &dyn Progress) {
        let damaged = format!("{} can't be restored: {why}", stream.entry.name);
        self.add_damaged(damaged, progress);
    }
}

/// Most streams that a report names with a sentence each; more are counted.
const MOST_NAMED: usize = 1000;

/// Restores the streams of a snapshot that `chosen` says yes to into `target`.
///
/// What an earlier restore into `target` that was cut has written whole is kept: its bytes are checked.
/// Each chunk is checked by its id and each stream by its hash. A damaged stream is left out and named; the others are
/// restored.
pub fn restore(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    chosen: &dyn Fn(&Entry) -> bool,
    target: &mut dyn Target,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    restore_chosen(repository, snapshot, &Choice::of(chosen), target, clock, progress, interrupt)
}

/// As [`restore`]; pages of the recipe in which nothing can be chosen aren't read.
pub fn restore_chosen(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    choice: &Choice<'_>,
    target: &mut dyn Target,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    let operation =
        Beginning { snapshot: Some(snapshot.id), ..Beginning::new(OperationKind::Restore, Some(&snapshot.header.set)) };
    let work = |_: &_| fetch(repository, snapshot, choice, target, progress, interrupt);
    repository.record(&operation, clock, work, |result| ending(result, RestoreReport::ending))
}

/// The content of small streams, by name, without a record of it. What isn't in the snapshot, isn't chosen, has no content or
/// is larger than `most` isn't given.
pub fn read_small(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    choice: &Choice<'_>,
    most: u64,
    interrupt: &Interrupt,
) -> Result<Vec<(StreamName, Vec<u8>)>> {
    let mut target = MemoryTarget::default();
    let takes = |entry: &Entry| entry.kind.has_content() && entry.size <= most && (choice.takes)(entry);
    let choice = Choice { takes: &takes, starts: choice.starts.clone() };
    let report = fetch(repository, snapshot, &choice, &mut target, &Counts::default(), interrupt)?;
    match report.damaged.first() {
        Some(damage) => Err(Error::Damaged(damage.clone())),
        None => Ok(target.0),
    }
}

/// Keeps streams in memory.
#[derive(Default)]
struct MemoryTarget(Vec<(StreamName, Vec<u8>)>);

impl Target for MemoryTarget {
    fn wants(&mut self, _: &Entry) -> std::result::Result<bool, source::Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> std::result::Result<(), source::Error> {
        self.0.push((entry.name.clone(), Vec::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), source::Error> {
        if let Some((_, content)) = self.0.last_mut() {
            content.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> std::result::Result<(), source::Error> {
        Ok(())
    }

    fn abandon(&mut self) {
        self.0.pop();
    }

    fn finish(&mut self) -> std::result::Result<Vec<Warning>, source::Error> {
        Ok(Vec::new())
    }
}

/// As [`restore`], without a record.
fn fetch(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    choice: &Choice<'_>,
    target: &mut dyn Target,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    let mut report = RestoreReport::new(snapshot);
    let layers = repository.layers_or_copy(&snapshot.id)?;
    let plan = RestorePlan::make(repository, &layers, choice, target, interrupt, &mut report)?;
    for gap in &plan.gaps {
        report.lost(gap, progress);
    }
    progress.phase("restoring", Some(plan.bytes), Some(plan.streams));
    let packs = RestorePacks::enter(repository, snapshot, &layers, &plan.used)?;
    let elsewhere = Elsewhere::new(repository, snapshot);
    let mut writing = Writing { repository, elsewhere, packs, target, progress, interrupt, report: &mut report };
    let mut batch = Vec::new();
    let mut runs = 0;
    for stream in plan.streams(&layers, choice) {
        let stream = stream?;
        runs += stream.runs.len();
        batch.push(stream);
        if batch.len() >= BATCH || runs >= BATCH_RUNS {
            writing.streams(&batch)?;
            batch.clear();
            runs = 0;
        }
    }
    writing.streams(&batch)?;
    report.warnings.extend(target.finish().map_err(restore_error)?);
    report.count_unnamed(progress);
    Ok(report)
}

/// Most streams, and most of their runs, that are fetched by one plan.
const BATCH: usize = 4096;
const BATCH_RUNS: usize = 1 << 18;

/// Which of the chosen streams are written.
struct RestorePlan {
    /// A bit for each chosen stream: whether it is written.
    written: Vec<u64>,
    stays: KeptFiles,
    /// How many are written, and their bytes.
    streams: u64,
    bytes: u64,
    /// Which packs of the recipe's table they need.
    used: Vec<bool>,
    /// Damaged pages: nothing is known of what they told.
    gaps: Vec<DamagedRange>,
}

impl RestorePlan {
    fn make(
        repository: &Repository,
        layers: &Layers<'_>,
        choice: &Choice<'_>,
        target: &mut dyn Target,
        interrupt: &Interrupt,
        report: &mut RestoreReport,
    ) -> Result<Self> {
        let used = vec![false; layers.packs().len()];
        let mut plan =
            Self { written: Vec::new(), stays: KeptFiles::new(), streams: 0, bytes: 0, used, gaps: Vec::new() };
        // How many names a file will have is known before it is written.
        let mut names: HashMap<StreamName, u64> = HashMap::new();
        let mut above = FoldersAbove::new(layers, choice);
        let mut chosen = ChosenStreams::new(layers, choice);
        for stream in &mut chosen {
            let entry = stream?.entry;
            above.above(&entry, |folder| target.above(folder))?;
            if let Kind::Hardlink(first) = entry.kind {
                *names.entry(first).or_insert(1) += 1;
            }
        }
        plan.gaps = chosen.gaps();
        for (number, stream) in ChosenStreams::new(layers, choice).enumerate() {
            if interrupt.is_set() {
                return Err(repository::Error::Interrupted.into());
            }
            if number % 64 == 0 {
                plan.written.push(0);
            }
            let (stream, first) = in_its_stead(&plan.stays, stream?);
            let several = names.get(first.as_ref().unwrap_or(&stream.entry.name)).copied().unwrap_or(1);
            let whole = is_whole(repository, &stream, several, target, interrupt)?;
            let wants = if whole { Ok(false) } else { target.wants(&stream.entry) };
            if let (Ok(taken), Some(first)) = (&wants, first)
                && (*taken || whole)
                && let Some((_, instead)) = plan.stays.get_mut(&first)
            {
                *instead = Some(stream.entry.name.clone());
            }
            match wants {
                Ok(true) => {
                    plan.written[number / 64] |= 1 << (number % 64);
                    plan.streams += 1;
                    plan.bytes += stream.entry.size;
                    stream.runs.iter().for_each(|run| plan.used[run.pack as usize] = true);
                }
                Ok(false) => report.kept += 1,
                Err(source::Error::Skipped { name, reason }) => {
                    report.note(skipped(&name, &reason));
                    if several > 1 && stream.entry.kind.has_content() && !target.has(&stream.entry) {
                        plan.stays.entry(name).or_insert((stream, None));
                    }
                }
                Err(error) => return Err(restore_error(error)),
            }
        }
        Ok(plan)
    }

    /// The streams that are written, in their order.
    fn streams<'s>(
        &'s self,
        layers: &'s Layers<'s>,
        choice: &'s Choice<'s>,
    ) -> impl Iterator<Item = Result<Stream>> + 's {
        let is_written =
            |number: usize| self.written.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1);
        let chosen = ChosenStreams::new(layers, choice).enumerate();
        chosen.filter(move |(number, _)| is_written(*number)).map(|(_, stream)| Ok(settled(&self.stays, stream?)))
    }
}

/// A stream as it is written, once it is known which names took the content of files that stay.
fn settled(stays: &KeptFiles, mut stream: Stream) -> Stream {
    let Kind::Hardlink(first) = &stream.entry.kind else { return stream };
    match stays.get(first) {
        Some((content, Some(instead))) if *instead == stream.entry.name => {
            let entry = Entry { name: stream.entry.name, ..content.entry.clone() };
            Stream { entry, ..content.clone() }
        }
        Some((_, Some(instead))) => {
            stream.entry.kind = Kind::Hardlink(instead.clone());
            stream
        }
        _ => stream,
    }
}

/// Files that aren't written, because something else is in their place: each with the name that took its content.
type KeptFiles = HashMap<StreamName, (Stream, Option<StreamName>)>;

/// A further name of a file that stays as it is becomes the file itself, or a link to the name that did.
fn in_its_stead(stays: &KeptFiles, mut stream: Stream) -> (Stream, Option<StreamName>) {
    let Kind::Hardlink(first) = &stream.entry.kind else { return (stream, None) };
    match stays.get(first) {
        None => (stream, None),
        Some((_, Some(instead))) => {
            stream.entry.kind = Kind::Hardlink(instead.clone());
            (stream, None)
        }
        Some((content, None)) => {
            let entry = Entry { name: stream.entry.name.clone(), ..content.entry.clone() };
            (Stream { entry, ..content.clone() }, Some(first.clone()))
        }
    }
}

/// Whether an earlier restore wrote the stream, and its bytes are right.
fn is_whole(
    repository: &Repository,
    stream: &Stream,
    names: u64,
    target: &mut dyn Target,
    interrupt: &Interrupt,
) -> Result<bool> {
    let Some(mut there) = target.written_before(&stream.entry, names).map_err(restore_error)? else {
        return Ok(false);
    };
    let mut hasher = repository.keys().stream_hashes.hasher();
    let (mut buffer, mut size) = (vec![0; 256 << 10], 0);
    loop {
        match there.read(&mut buffer) {
            Ok(0) => return Ok(check_stream(stream, size, &hasher.finish()).is_ok()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An unreadable file is written again.
            Err(_) => return Ok(false),
        }
        if interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
    }
}

/// The packs of a recipe's table, as far as streams that are written need them.
struct RestorePacks {
    /// The index's numbers; None for packs that aren't needed, or can't be had.
    numbers: Vec<Option<u32>>,
    /// Why those can't be had, by their number in the table.
    broken: HashMap<u32, String>,
}

impl RestorePacks {
    /// Bases are entered, too: their directories say how the based segments decode. A base that can't be had is a damage of the
    /// segments that stand on it, which are named when they are decoded.
    fn enter(repository: &Repository, snapshot: &SnapshotRow, layers: &Layers<'_>, used: &[bool]) -> Result<Self> {
        let table = layers.packs();
        let named: Vec<u32> = (0..).zip(used).filter(|(_, used)| **used).map(|(number, _)| number).collect();
        let ids: HashSet<PackId> = named.iter().map(|&number| table[number as usize].id).collect();
        let rows = repository.enter_packs(named.iter().map(|&number| table[number as usize].id), table, None)?;
        let bases = snapshot.header.packs.iter().copied().filter(|pack| !ids.contains(pack));
        if !named.is_empty() {
            repository.enter_packs(bases, table, None)?;
        }
        let mut packs = Self { numbers: vec![None; table.len()], broken: HashMap::new() };
        for (number, row) in named.into_iter().zip(rows) {
            match row {
                Ok(row) => packs.numbers[number as usize] = Some(row.number),
                Err(why) => drop(packs.broken.insert(number, why)),
            }
        }
        Ok(packs)
    }

    /// Why a pack of a stream can't be had.
    fn broken(&self, stream: &Stream) -> Option<&String> {
        stream.runs.iter().find_map(|run| self.broken.get(&run.pack))
    }

    fn pieces<'a>(&'a self, stream: &'a Stream) -> impl Iterator<Item = ChunkRun> + 'a {
        stream.runs.iter().filter_map(|run| {
            let pack = self.numbers.get(run.pack as usize).copied().flatten()?;
            Some(ChunkRun { pack, segment: run.segment, first: run.first, count: run.count })
        })
    }
}

struct Writing<'a> {
    repository: &'a Arc<Repository>,
    elsewhere: Elsewhere<'a>,
    packs: RestorePacks,
    target: &'a mut dyn Target,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    report: &'a mut RestoreReport,
}

impl Writing<'_> {
    /// Restores streams by one plan of what is fetched and decoded.
    fn streams(&mut self, streams: &[Stream]) -> Result<()> {
        let whole = streams.iter().filter(|stream| self.packs.broken(stream).is_none());
        let fetcher = Fetcher::start(self.repository, whole.flat_map(|stream| self.packs.pieces(stream)))?;
        streams.iter().try_for_each(|stream| self.stream(stream, &fetcher))
    }

    /// Restores one stream, or notes why it can't be.
    fn stream(&mut self, stream: &Stream, fetcher: &Fetcher) -> Result<()> {
        if self.interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
        if let Some(why) = self.packs.broken(stream).cloned() {
            return self.take_twin(stream, &why);
        }
        match self.target.begin(&stream.entry) {
            Ok(()) => {}
            Err(error) => {
                self.pass_over(stream, fetcher);
                return self.skip(error);
            }
        }
        if !stream.entry.kind.has_content() {
            return self.written(stream);
        }
        let pieces: Vec<ChunkRun> = self.packs.pieces(stream).collect();
        let content = self.pieces(stream, fetcher, &pieces);
        self.end(stream, content)?.map_or(Ok(()), |why| self.take_twin(stream, &why))
    }

    /// Ends a stream whose content was written, or not. Returns why it can't be had from where it was looked for.
    fn end(&mut self, stream: &Stream, content: Result<()>) -> Result<Option<String>> {
        match content {
            Ok(()) => match self.target.end() {
                Ok(()) => self.written(stream).map(|()| None),
                Err(error) => self.skip(error).map(|()| None),
            },
            Err(Error::Source(error)) => self.skip(error).map(|()| None),
            Err(Error::Repository(repository::Error::Damaged(why))) => {
                self.target.abandon();
                Ok(Some(why))
            }
            Err(error) => {
                self.target.abandon();
                Err(error)
            }
        }
    }

    fn written(&mut self, stream: &Stream) -> Result<()> {
        self.report.streams += 1;
        self.report.bytes += stream.entry.size;
        self.progress.add(Counter::Streams, 1);
        Ok(())
    }

    /// Restores a stream from another snapshot that has the same bytes, or notes why it can't be restored.
    fn take_twin(&mut self, stream: &Stream, why: &str) -> Result<()> {
        for tried in 0.. {
            let Some(twin) = self.elsewhere.twin(stream, tried)? else { break };
            if let Err(error) = self.target.begin(&stream.entry) {
                return self.skip(error);
            }
            let fetcher = Fetcher::start(self.repository, twin.pieces.iter().copied())?;
            let content = self.pieces(stream, &fetcher, &twin.pieces);
            if self.end(stream, content)?.is_none() {
                self.progress.note(&format!(
                    "{} comes from snapshot {}, which has the same bytes: {why}",
                    stream.entry.name, twin.snapshot
                ));
                return Ok(());
            }
        }
        self.report.damaged(stream, why, self.progress);
        Ok(())
    }

    /// Writes a stream's bytes. On an error the rest of its pieces is taken and dropped, so that the next stream's come.
    fn pieces(&mut self, stream: &Stream, fetcher: &Fetcher, pieces: &[ChunkRun]) -> Result<()> {
        let mut hasher = self.repository.keys().stream_hashes.hasher();
        let mut size = 0;
        let mut failed = None;
        for piece in pieces {
            if self.interrupt.is_set() {
                return Err(repository::Error::Interrupted.into());
            }
            let (fetched, elsewhere);
            let bytes = match fetcher.take(piece) {
                Ok(taken) => {
                    fetched = Some(taken);
                    fetched.as_ref().map_or(&[][..], |fetched| fetched.as_bytes())
                }
                Err(error @ repository::Error::Damaged(_)) => {
                    fetched = None;
                    let other = if failed.is_none() { self.elsewhere.piece(piece)? } else { None };
                    let Some(other) = other else {
                        failed.get_or_insert(Error::from(error));
                        continue;
                    };
                    elsewhere = other;
                    &elsewhere[..]
                }
                Err(error) => return Err(error.into()),
            };
            if failed.is_none() {
                hasher.update(bytes);
                size += bytes.len() as u64;
                match self.target.write(bytes) {
                    Ok(()) => self.progress.add(Counter::Bytes, bytes.len() as u64),
                    Err(error) => failed = Some(Error::Source(error)),
                }
            }
            if let Some(fetched) = fetched {
                fetcher.release(fetched);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => check_stream(stream, size, &hasher.finish()),
        }
    }

    /// Takes and drops the pieces of a stream that isn't written after all.
    fn pass_over(&self, stream: &Stream, fetcher: &Fetcher) {
        for piece in self.packs.pieces(stream) {
            if let Ok(fetched) = fetcher.take(&piece) {
                fetcher.release(fetched);
            }
        }
    }

    fn skip(&mut self, error: source::Error) -> Result<()> {
        match error {
            source::Error::Skipped { name, reason } => {
                self.target.abandon();
                self.report.skipped(skipped(&name, &reason), self.progress);
                Ok(())
            }
            error => Err(restore_error(error)),
        }
    }
}

fn skipped(name: &StreamName, reason: &str) -> Warning {
    WarningKind::NotRestored.warning(format!("{name} was not restored: {reason}"))
}

/// The meaning of a target's error for a restore as a whole.
pub fn restore_error(error: source::Error) -> Error {
    match error {
        source::Error::Refused(why) => Error::Refused(why),
        source::Error::Config(why) => Error::Usage(why),
        source::Error::NoSpace(why) => Error::NoSpace(why),
        error => Error::Failed(format!("the restore ended: {error}")),
    }
}

/// Whether the bytes are those that were backed up.
fn check_stream(stream: &Stream, size: u64, hash: &[u8; 32]) -> Result<()> {
    let why = if size != stream.entry.size {
        format!("it has {size} bytes and should have {}", stream.entry.size)
    } else if stream.hash != Some(StreamHash::from_bytes(*hash)) {
        "its bytes are not those that were backed up".to_owned()
    } else {
        return Ok(());
    };
    Err(repository::Error::Damaged(why).into())
}
