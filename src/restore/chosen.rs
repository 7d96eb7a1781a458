//! The streams of a snapshot that a restore is about, found without holding them.

use std::collections::HashMap;
use std::vec;

use crate::entry::{Entry, Kind, StreamName};
use crate::error::Result;
use crate::format::recipe::Stream;
use crate::repository::{self, DamagedRange, Layers, StreamWalk};

/// Which streams are chosen.
pub struct Choice<'a> {
    /// Whether an entry is.
    pub takes: &'a dyn Fn(&Entry) -> bool,
    /// How the names of all those begin that can be, or None where any may: others aren't read.
    pub starts: Option<Vec<Vec<u8>>>,
}

impl<'a> Choice<'a> {
    /// Those that `takes` says yes to.
    pub fn of(takes: &'a dyn Fn(&Entry) -> bool) -> Self {
        Self { takes, starts: None }
    }

    /// Whether an entry is chosen. A folder above a path never is.
    fn has(&self, entry: &Entry) -> bool {
        entry.kind != Kind::Above && (self.takes)(entry)
    }

    /// The beginnings, each of which begins none of the others, in order; one that is empty where any name may be.
    fn ranges(&self) -> vec::IntoIter<Vec<u8>> {
        let mut starts = self.starts.clone().unwrap_or_else(|| vec![Vec::new()]);
        starts.sort_by(|a, b| crate::entry::tree_order(a, b));
        starts.dedup_by(|later, before| later.starts_with(before));
        starts.into_iter()
    }
}

/// The chosen streams: others by name, then dumps in their order. A file with several names is stored under its first one: where
/// that isn't chosen, the first name that is becomes the file, and the others are links to it.
pub struct ChosenStreams<'a> {
    layers: &'a Layers<'a>,
    choice: &'a Choice<'a>,
    ranges: vec::IntoIter<Vec<u8>>,
    range: Option<Vec<u8>>,
    streams: StreamWalk<'a>,
    /// Names that took the content of one that isn't chosen.
    instead: HashMap<StreamName, StreamName>,
    dumps: Vec<Stream>,
    sorted: Option<vec::IntoIter<Stream>>,
}

impl<'a> ChosenStreams<'a> {
    /// Those of a recipe. Damaged pages are passed over.
    pub fn new(layers: &'a Layers<'a>, choice: &'a Choice<'a>) -> Self {
        let streams = layers.streams().over_gaps();
        Self {
            layers,
            choice,
            ranges: choice.ranges(),
            range: None,
            streams,
            instead: HashMap::new(),
            dumps: Vec::new(),
            sorted: None,
        }
    }

    /// The damaged pages so far.
    pub fn gaps(&self) -> Vec<DamagedRange> {
        self.streams.gaps().cloned().collect()
    }

    fn take(&mut self) -> Result<Option<Stream>> {
        if let Some(sorted) = &mut self.sorted {
            return Ok(sorted.next());
        }
        while let Some(stream) = self.in_range()? {
            if !self.choice.has(&stream.entry) {
                continue;
            }
            let stream = self.in_place_of_first(stream)?;
            match stream.entry.kind {
                Kind::Data => self.dumps.push(stream),
                _ => return Ok(Some(stream)),
            }
        }
        self.dumps.sort_by_key(|dump| dump.order);
        let sorted = self.sorted.insert(std::mem::take(&mut self.dumps).into_iter());
        Ok(sorted.next())
    }

    /// The next stream whose name has one of the beginnings.
    fn in_range(&mut self) -> Result<Option<Stream>> {
        loop {
            let start = match &self.range {
                Some(start) => start,
                None => {
                    let Some(start) = self.ranges.next() else { return Ok(None) };
                    if !start.is_empty() {
                        self.streams.seek(&start)?;
                    }
                    self.range.insert(start)
                }
            };
            match self.streams.next().transpose()? {
                Some(stream) if stream.entry.name.as_bytes().starts_with(start) => return Ok(Some(stream)),
                _ => self.range = None,
            }
        }
    }

    fn in_place_of_first(&mut self, mut stream: Stream) -> Result<Stream> {
        let Kind::Hardlink(first) = &stream.entry.kind else { return Ok(stream) };
        if let Some(instead) = self.instead.get(first) {
            stream.entry.kind = Kind::Hardlink(instead.clone());
            return Ok(stream);
        }
        let content = find(self.layers, first)?.filter(|content| !self.choice.has(&content.entry));
        let is_file = |kind: &Kind| !matches!(kind, Kind::Directory | Kind::Above | Kind::Hardlink(_));
        let Some(content) = content.filter(|content| is_file(&content.entry.kind)) else { return Ok(stream) };
        let name = stream.entry.name;
        self.instead.insert(first.clone(), name.clone());
        Ok(Stream { entry: Entry { name, ..content.entry }, ..content })
    }
}

impl Iterator for ChosenStreams<'_> {
    type Item = Result<Stream>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

/// The stream of a name; None, too, where a page is damaged: the walk through all streams names that.
fn find(layers: &Layers<'_>, name: &StreamName) -> Result<Option<Stream>> {
    match layers.find(name) {
        Err(repository::Error::Damaged(_)) => Ok(None),
        found => Ok(found?),
    }
}

/// Finds the folders above chosen streams that aren't chosen themselves.
pub(super) struct FoldersAbove<'a> {
    layers: &'a Layers<'a>,
    choice: &'a Choice<'a>,
    /// The folders on the way to the last stream that were looked at.
    path: Vec<Vec<u8>>,
}

impl<'a> FoldersAbove<'a> {
    pub fn new(layers: &'a Layers<'a>, choice: &'a Choice<'a>) -> Self {
        Self { layers, choice, path: Vec::new() }
    }

    /// Hands over those above the next chosen stream that weren't yet.
    pub fn above(&mut self, entry: &Entry, mut found: impl FnMut(&Entry)) -> Result<()> {
        let name = entry.name.as_bytes();
        let is_above = |folder: &[u8]| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"));
        while self.path.last().is_some_and(|last| !is_above(last)) {
            self.path.pop();
        }
        let seen = self.path.last().map_or(0, |last| last.len() + 1);
        for (at, _) in name.iter().enumerate().skip(seen).filter(|(_, byte)| **byte == b'/') {
            let folder = &name[..at];
            if let Ok(folder) = StreamName::new(folder)
                && let Some(stream) = find(self.layers, &folder)?
                && stream.entry.kind.is_folder()
                && !self.choice.has(&stream.entry)
            {
                found(&stream.entry);
            }
            self.path.push(folder.to_vec());
        }
        if entry.kind.is_folder() {
            self.path.push(name.to_vec());
        }
        Ok(())
    }
}
