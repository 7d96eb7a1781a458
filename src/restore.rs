//! Restore: from a snapshot to a target. The mirror image of [`crate::backup`].

mod elsewhere;
pub mod service;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::entry::{Entry, Kind, StreamName};
use crate::error::{Error, Result, ending};
use crate::format::recipe::{Recipe, Stream};
use crate::id::{PackId, StreamHash};
use crate::index::{Beginning, Ending, OperationKind, Outcome, SnapshotRow};
use crate::progress::{Counter, Counts, Interrupt, Progress};
use crate::repository::{self, ChunkRun, Fetcher, Repository};
use crate::source::{self, Proof, Target};
use crate::time::Clock;
use crate::warning::{Warning, WarningKind};

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
}

impl RestoreReport {
    fn new(snapshot: &SnapshotRow) -> Self {
        let (damaged, warnings) = (Vec::new(), Vec::new());
        Self { snapshot: snapshot.clone(), streams: 0, bytes: 0, kept: 0, damaged, warnings, proof: None }
    }

    /// How the restore ended.
    pub fn ending(&self) -> Ending {
        match self.damaged.first() {
            Some(damage) => Ending::new(Outcome::Warnings, Some(damage.clone())),
            None => Ending::with_warnings(&self.warnings),
        }
    }

    fn damaged(&mut self, stream: &Stream, why: &str, progress: &dyn Progress) {
        let damaged = format!("{} can't be restored: {why}", stream.entry.name);
        progress.warn(&WarningKind::Damaged.warning(damaged.clone()));
        self.damaged.push(damaged);
    }
}

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
    let operation =
        Beginning { snapshot: Some(snapshot.id), ..Beginning::new(OperationKind::Restore, Some(&snapshot.header.set)) };
    let work = |_: &_| fetch(repository, snapshot, chosen, target, progress, interrupt);
    repository.record(&operation, clock, work, |result| ending(result, RestoreReport::ending))
}

/// The content of small streams, by name, without a record of it. What isn't in the snapshot, isn't chosen, has no content or
/// is larger than `most` isn't given.
pub fn read_small(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    chosen: &dyn Fn(&Entry) -> bool,
    most: u64,
    interrupt: &Interrupt,
) -> Result<Vec<(StreamName, Vec<u8>)>> {
    let mut target = MemoryTarget::default();
    let chosen = |entry: &Entry| entry.kind.has_content() && entry.size <= most && chosen(entry);
    let report = fetch(repository, snapshot, &chosen, &mut target, &Counts::default(), interrupt)?;
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
    chosen: &dyn Fn(&Entry) -> bool,
    target: &mut dyn Target,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    let mut report = RestoreReport::new(snapshot);
    let mut recipe = repository.recipe_or_copy(&snapshot.id)?;
    folders_above(&recipe.streams, chosen).into_iter().for_each(|folder| target.above(folder));
    let streams = chosen_streams(recipe.streams, chosen);
    recipe.streams = choose(repository, streams, target, interrupt, &mut report)?;
    let bytes = recipe.streams.iter().map(|stream| stream.entry.size).sum();
    progress.phase("restoring", Some(bytes), Some(recipe.streams.len() as u64));
    let (streams, packs) = with_packs(repository, snapshot, recipe)?;
    let whole = streams.iter().filter(|(_, broken)| broken.is_none());
    let fetcher = Fetcher::start(repository, whole.flat_map(|(stream, _)| pieces(stream, &packs)))?;
    let elsewhere = Elsewhere::new(repository, snapshot);
    let fetcher = Arc::new(fetcher);
    let mut writing =
        Writing { repository, elsewhere, fetcher, packs, target, progress, interrupt, report: &mut report };
    streams.iter().try_for_each(|(stream, broken)| writing.stream(stream, broken.as_deref()))?;
    report.warnings.extend(target.finish().map_err(restore_error)?);
    Ok(report)
}

/// The streams that `chosen` says yes to. A file with several names is stored under its first one: where that isn't chosen,
/// the first name that is becomes the file, and the others are links to it.
pub fn chosen_streams(streams: Vec<Stream>, chosen: &dyn Fn(&Entry) -> bool) -> Vec<Stream> {
    let mut taken = Vec::new();
    // What isn't chosen, for the sake of links to it, and under which name it went instead.
    let mut left: HashMap<StreamName, (Stream, Option<StreamName>)> = HashMap::new();
    for mut stream in streams {
        if stream.entry.kind == Kind::Above || !chosen(&stream.entry) {
            if !matches!(stream.entry.kind, Kind::Directory | Kind::Above | Kind::Hardlink(_)) {
                left.insert(stream.entry.name.clone(), (stream, None));
            }
            continue;
        }
        if let Kind::Hardlink(first) = &stream.entry.kind
            && let Some((content, instead)) = left.get_mut(first)
        {
            match instead {
                Some(instead) => stream.entry.kind = Kind::Hardlink(instead.clone()),
                None => {
                    let name = stream.entry.name;
                    *instead = Some(name.clone());
                    let entry = Entry { name, ..content.entry.clone() };
                    stream = Stream { entry, hash: content.hash, runs: std::mem::take(&mut content.runs) };
                }
            }
        }
        taken.push(stream);
    }
    taken
}

/// The folders above what is chosen that aren't chosen themselves.
fn folders_above<'s>(streams: &'s [Stream], chosen: &dyn Fn(&Entry) -> bool) -> Vec<&'s Entry> {
    let is_chosen = |entry: &Entry| entry.kind != Kind::Above && chosen(entry);
    let entries = || streams.iter().map(|stream| &stream.entry);
    let others: HashMap<&[u8], &Entry> = entries()
        .filter(|entry| entry.kind.is_folder() && !is_chosen(entry))
        .map(|entry| (entry.name.as_bytes(), entry))
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    let (mut above, mut seen) = (Vec::new(), HashSet::new());
    for entry in entries().filter(|entry| is_chosen(entry)) {
        let mut path = entry.name.as_bytes();
        while let Some(slash) = path.iter().rposition(|&byte| byte == b'/') {
            path = &path[..slash];
            if !seen.insert(path) {
                break;
            }
            above.extend(others.get(path));
        }
    }
    above
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

/// The streams that are to be written.
fn choose(
    repository: &Repository,
    streams: Vec<Stream>,
    target: &mut dyn Target,
    interrupt: &Interrupt,
    report: &mut RestoreReport,
) -> Result<Vec<Stream>> {
    let mut wanted = Vec::new();
    let mut names: HashMap<StreamName, u64> = HashMap::new();
    for stream in &streams {
        if let Kind::Hardlink(first) = &stream.entry.kind {
            *names.entry(first.clone()).or_insert(1) += 1;
        }
    }
    let mut stays = KeptFiles::new();
    for stream in streams {
        if interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
        let (stream, first) = in_its_stead(&stays, stream);
        let several = names.get(first.as_ref().unwrap_or(&stream.entry.name)).copied().unwrap_or(1);
        let whole = is_whole(repository, &stream, several, target, interrupt)?;
        let wants = if whole { Ok(false) } else { target.wants(&stream.entry) };
        if let (Ok(taken), Some(first)) = (&wants, first)
            && (*taken || whole)
            && let Some((_, instead)) = stays.get_mut(&first)
        {
            *instead = Some(stream.entry.name.clone());
        }
        match wants {
            Ok(true) => wanted.push(stream),
            Ok(false) => report.kept += 1,
            Err(source::Error::Skipped { name, reason }) => {
                report.warnings.push(skipped(&name, &reason));
                if several > 1 && stream.entry.kind.has_content() && !target.has(&stream.entry) {
                    stays.entry(name).or_insert((stream, None));
                }
            }
            Err(error) => return Err(restore_error(error)),
        }
    }
    Ok(wanted)
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

/// The index's numbers of a recipe's packs, in the order of its table; None for those that no run needs any more.
type PackNumbers = Vec<Option<u32>>;

/// A stream, with why a pack of it can't be had.
type Judged = (Stream, Option<String>);

/// The streams, each with why a pack of it can't be had, and the packs that can. Bases are entered, too: their directories say how the based segments
/// decode. A base that can't be had is a damage of the segments that stand on it, which are named when they are decoded.
fn with_packs(repository: &Repository, snapshot: &SnapshotRow, recipe: Recipe) -> Result<(Vec<Judged>, PackNumbers)> {
    let used = recipe.used_packs();
    let ids = || used.iter().map(|&pack| recipe.packs[pack as usize].id);
    let named: HashSet<PackId> = ids().collect();
    let rows = repository.enter_packs(ids(), &recipe, None)?;
    let bases = snapshot.header.packs.iter().copied().filter(|pack| !named.contains(pack));
    if !named.is_empty() {
        repository.enter_packs(bases, &recipe, None)?;
    }
    let mut packs = vec![None; recipe.packs.len()];
    let mut broken = HashMap::new();
    for (pack, row) in used.iter().zip(rows) {
        match row {
            Ok(row) => packs[*pack as usize] = Some(row.number),
            Err(why) => drop(broken.insert(*pack, why)),
        }
    }
    let streams = recipe.streams.into_iter().map(|stream| {
        let why = stream.runs.iter().find_map(|run| broken.get(&run.pack)).cloned();
        (stream, why)
    });
    Ok((streams.collect(), packs))
}

fn pieces<'a>(stream: &'a Stream, packs: &'a PackNumbers) -> impl Iterator<Item = ChunkRun> + 'a {
    stream.runs.iter().filter_map(|run| {
        let pack = packs.get(run.pack as usize).copied().flatten()?;
        Some(ChunkRun { pack, segment: run.segment, first: run.first, count: run.count })
    })
}

struct Writing<'a> {
    repository: &'a Arc<Repository>,
    elsewhere: Elsewhere<'a>,
    fetcher: Arc<Fetcher>,
    packs: PackNumbers,
    target: &'a mut dyn Target,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    report: &'a mut RestoreReport,
}

impl Writing<'_> {
    /// Restores one stream, or notes why it can't be: `broken` says so where it is known before.
    fn stream(&mut self, stream: &Stream, broken: Option<&str>) -> Result<()> {
        if self.interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
        if let Some(why) = broken {
            return self.take_twin(stream, why);
        }
        match self.target.begin(&stream.entry) {
            Ok(()) => {}
            Err(error) => {
                self.pass_over(stream);
                return self.skip(error);
            }
        }
        if !stream.entry.kind.has_content() {
            return self.written(stream);
        }
        let content = self.content(stream);
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
    fn content(&mut self, stream: &Stream) -> Result<()> {
        let pieces: Vec<ChunkRun> = pieces(stream, &self.packs).collect();
        // It is put back, whatever comes of it.
        let fetcher = self.fetcher.clone();
        self.pieces(stream, &fetcher, &pieces)
    }

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
    fn pass_over(&self, stream: &Stream) {
        for piece in pieces(stream, &self.packs) {
            if let Ok(fetched) = self.fetcher.take(&piece) {
                self.fetcher.release(fetched);
            }
        }
    }

    fn skip(&mut self, error: source::Error) -> Result<()> {
        match error {
            source::Error::Skipped { name, reason } => {
                self.target.abandon();
                let warning = skipped(&name, &reason);
                self.progress.warn(&warning);
                self.report.warnings.push(warning);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    fn stream(text: &str, kind: Kind, size: u64) -> Stream {
        let entry = Entry { name: name(text), kind, size, metadata: None };
        Stream { entry, hash: None, runs: Vec::new() }
    }

    #[test]
    fn a_link_whose_first_name_is_not_chosen_becomes_the_file() {
        let streams = vec![
            stream("a/first", Kind::File, 5),
            stream("b/second", Kind::Hardlink(name("a/first")), 0),
            stream("b/third", Kind::Hardlink(name("a/first")), 0),
        ];
        let of = |prefix: &'static str| {
            let chosen = chosen_streams(streams.clone(), &|entry| entry.name.as_bytes().starts_with(prefix.as_bytes()));
            chosen.into_iter().map(|stream| (stream.entry.name.to_string(), stream.entry.kind)).collect::<Vec<_>>()
        };
        let link = |text: &str, to: &str| (text.to_owned(), Kind::Hardlink(name(to)));
        let file = |text: &str| (text.to_owned(), Kind::File);
        assert_eq!(of(""), [file("a/first"), link("b/second", "a/first"), link("b/third", "a/first")]);
        assert_eq!(of("b"), [file("b/second"), link("b/third", "b/second")]);
        assert_eq!(of("b/t"), [file("b/third")]);
        assert_eq!(of("a"), [file("a/first")]);
    }
}
