//! The streams of a source, taken through the chunker, and what of them differs from the snapshot before.

use std::collections::{BTreeSet, HashSet};

use super::changes::{ChangeSpool, number_dumps};
use super::chunking::Chunking;
use super::parent_recipe::{ParentStream, ParentWalk, add_to_roots};
use super::start::{Start, kept_stream};
use crate::entry::{Entry, Escaped, Kind, StreamName, unchanged};
use crate::error::{Error, Result};
use crate::format::recipe::{EditedStream, Record, Stream};
use crate::progress::{Counter, Progress};
use crate::repository::Repository;
use crate::source::{self, Source};
use crate::warning::{Warning, WarningKind};

/// Most entries that are left out with a warning each; more are counted.
const MOST_NAMED: usize = 1000;

/// Most paths or databases that a snapshot names.
const MOST_HELD: usize = 1000;

/// The streams of a run.
pub(super) struct Collected {
    /// The dumps, in their order. The packs of their runs are the index's numbers, or stand for new ones.
    dumps: Vec<Stream>,
    /// All other streams of a full, and the changed ones of an incremental.
    pub others: ChangeSpool,
    /// How many streams there are.
    pub count: u64,
    /// Bytes of all streams.
    pub bytes: u64,
    /// Bytes of the streams below each of the set's folders.
    pub root_bytes: Vec<u64>,
    held: Option<BTreeSet<String>>,
    /// What went wrong.
    pub warnings: Vec<Warning>,
}

impl Collected {
    /// The paths of the set that are in the snapshot, or where it has none the databases: the folders of its dumps. Empty where
    /// those are too many to be named.
    pub fn held(&self) -> BTreeSet<String> {
        self.held.clone().unwrap_or_default()
    }

    /// What is to be recorded of the dumps, by name.
    pub fn dump_records(&mut self, start: &Start<'_>) -> Vec<Record> {
        let mut dumps = std::mem::take(&mut self.dumps);
        let recipe = start.recipe.as_ref();
        number_dumps(&mut dumps, |name| Some(recipe?.dump(name)?.stream.order));
        let mut records = Vec::new();
        if start.parent.is_some() {
            let there: HashSet<&StreamName> = dumps.iter().map(|dump| &dump.entry.name).collect();
            let before = recipe.into_iter().flat_map(|recipe| recipe.dumps());
            let gone = before.map(|dump| &dump.entry.name).filter(|name| !there.contains(name));
            records.extend(gone.cloned().map(Record::Removed));
        }
        for dump in dumps {
            match recipe.filter(|_| start.parent.is_some()).and_then(|recipe| recipe.dump(&dump.entry.name)) {
                Some(before) if *before.stream == dump => {}
                Some(before) => records.push(Record::Edited(EditedStream::of(dump, &before.stream.runs))),
                None => records.push(Record::Stream(dump)),
            }
        }
        records.sort_by(|a, b| a.name().cmp(b.name()));
        records
    }
}

/// Collects the streams of a source.
pub(super) struct Collecting<'a> {
    start: &'a Start<'a>,
    roots: &'a [StreamName],
    walk: Option<ParentWalk<'a, 'a>>,
    collected: Collected,
    precompressed: Vec<Warning>,
    /// Entries that were left out and that no warning of their own names.
    unnamed: u64,
}

impl<'a> Collecting<'a> {
    /// Of no stream yet.
    pub fn new(repository: &Repository, start: &'a Start<'a>, roots: &'a [StreamName]) -> Self {
        let collected = Collected {
            dumps: Vec::new(),
            others: ChangeSpool::new(repository),
            count: 0,
            bytes: 0,
            root_bytes: vec![0; roots.len()],
            held: Some(BTreeSet::new()),
            warnings: Vec::new(),
        };
        let walk = start.recipe.as_ref().map(|recipe| recipe.walk());
        Self { start, roots, walk, collected, precompressed: Vec::new(), unnamed: 0 }
    }

    /// Takes all streams of the source through the chunker.
    pub fn read(
        mut self,
        source: &mut dyn Source,
        chunking: &mut Chunking<'_>,
        progress: &dyn Progress,
    ) -> Result<Collected> {
        loop {
            match source.next() {
                Ok(Some(entry)) => self.entry(entry, source, chunking, progress)?,
                Ok(None) => break,
                Err(error) => self.skip(error, progress)?,
            }
        }
        if let Some(walk) = self.walk.take() {
            let others = &mut self.collected.others;
            let records = self.start.parent.is_some();
            walk.end(|name| if records { others.removed(name) } else { Ok(()) })?;
        }
        if self.unnamed > 0 {
            let text = format!("{} more entries are not in the snapshot", self.unnamed);
            let warning = WarningKind::LeftOut.warning(text);
            progress.warn(&warning);
            self.collected.warnings.push(warning);
        }
        self.precompressed.iter().for_each(|warning| progress.warn(warning));
        self.collected.warnings.append(&mut self.precompressed);
        Ok(self.collected)
    }

    fn entry(
        &mut self,
        entry: Entry,
        source: &mut dyn Source,
        chunking: &mut Chunking<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (name, kind) = (entry.name.clone(), entry.kind.clone());
        let (others, records) = (&mut self.collected.others, self.start.parent.is_some());
        let parent = match &mut self.walk {
            Some(walk) => walk.stream(&name, &kind, |name| if records { others.removed(name) } else { Ok(()) })?,
            None => None,
        };
        let stream = match &parent {
            Some(parent) if unchanged(&parent.stream.entry, &entry) && chunking.may_keep(&parent.stream) => {
                progress.add(Counter::Bytes, entry.size);
                chunking.keep(parent);
                Ok(kept_stream(entry, &parent.stream))
            }
            _ if kind.has_content() => chunking.stream(source, &entry, parent.as_ref()),
            _ => Ok(Stream { entry, hash: None, runs: Vec::new(), order: 0 }),
        };
        match stream {
            Ok(stream) => {
                if let Some(what) = chunking.take_packed().filter(|_| kind == Kind::Data) {
                    self.precompressed.push(WarningKind::Precompressed.warning(format!(
                        "{name} is {what}, so no two backups of it share anything: store it as it was before that, since varu \
                         compresses and encrypts by itself"
                    )));
                }
                progress.add(Counter::Streams, 1);
                self.add(stream, parent)
            }
            Err(Error::Source(error)) => {
                if records && kind != Kind::Data && parent.is_some() {
                    self.collected.others.removed(&name)?;
                }
                self.skip(error, progress)
            }
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, stream: Stream, parent: Option<ParentStream>) -> Result<()> {
        let collected = &mut self.collected;
        let (name, size) = (&stream.entry.name, stream.entry.size);
        collected.count += 1;
        collected.bytes += size;
        add_to_roots(self.roots, name, size, &mut collected.root_bytes);
        let held = match (self.roots.is_empty(), &stream.entry.kind) {
            (true, Kind::Data) => {
                name.as_bytes().iter().position(|byte| *byte == b'/').map(|end| &name.as_bytes()[..end])
            }
            (true, _) => None,
            (false, _) => self.roots.iter().find(|root| *root == name).map(StreamName::as_bytes),
        };
        if let (Some(held), Some(all)) = (held, &mut collected.held) {
            all.insert(Escaped(held).to_string());
            if all.len() > MOST_HELD {
                collected.held = None;
            }
        }
        if stream.entry.kind == Kind::Data {
            collected.dumps.push(stream);
            return Ok(());
        }
        match parent.filter(|_| self.start.parent.is_some()) {
            Some(parent) if *parent.stream == stream => Ok(()),
            Some(parent) => collected.others.edited(&stream, &parent.stream),
            None => collected.others.stream(&stream),
        }
    }

    /// An entry that isn't in the snapshot, where the backup goes on without it.
    fn skip(&mut self, error: source::Error, progress: &dyn Progress) -> Result<()> {
        let warning = match error {
            source::Error::Skipped { name, reason } => {
                WarningKind::LeftOut.warning(format!("/{name} is not in the snapshot: {reason}"))
            }
            source::Error::Vanished(name) => {
                let text = format!("/{name} is not in the snapshot: it went away while its folder was read");
                WarningKind::Vanished.warning(text)
            }
            error => return Err(Error::from(error)),
        };
        match self.collected.warnings.len() < MOST_NAMED {
            true => {
                progress.warn(&warning);
                self.collected.warnings.push(warning);
            }
            false => self.unnamed += 1,
        }
        Ok(())
    }
}
