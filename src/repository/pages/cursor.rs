//! Walks through the streams of a recipe by name.

use std::cmp::Ordering;
use std::sync::Arc;
use std::{fmt, vec};

use super::reader::{LayerReader, PageContent};
use crate::entry::{StreamName, tree_order};
use crate::format::recipe::{Child, PageRef, Record, Stream};
use crate::repository::{Error, Result, broken};

/// A range of names of which nothing is known, because a page is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Where it begins; None for the first name there is.
    pub from: Option<StreamName>,
    /// The first name behind it; None where it reaches to the end.
    pub to: Option<StreamName>,
    /// Why.
    pub why: String,
}

impl DamagedRange {
    fn has(&self, name: &StreamName) -> bool {
        self.from.as_ref().is_none_or(|from| from <= name) && self.to.as_ref().is_none_or(|to| name < to)
    }
}

impl fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (None, None) => write!(f, "all entries: {}", self.why),
            (Some(from), Some(to)) => write!(f, "the entries from {from} up to {to}, without it: {}", self.why),
            (Some(from), None) => write!(f, "the entries from {from} on: {}", self.why),
            (None, Some(to)) => write!(f, "the entries before {to}: {}", self.why),
        }
    }
}

/// An inner page on the way to a leaf.
struct OpenPage {
    children: Arc<Vec<Child>>,
    /// The next of them.
    next: usize,
    /// Where the page's names end.
    end: Option<StreamName>,
}

impl OpenPage {
    /// The next page, and where its names end.
    fn take(&mut self) -> Option<(Child, Option<StreamName>)> {
        let child = self.children.get(self.next)?.clone();
        self.next += 1;
        let end = self.children.get(self.next).map(|next| next.first.clone()).or_else(|| self.end.clone());
        Some((child, end))
    }
}

/// A position among the records of one layer.
pub(super) struct LayerCursor<'a> {
    reader: &'a LayerReader<'a>,
    /// The inner pages on the way, from the root: what is left of each, and where its names end.
    open: Vec<OpenPage>,
    records: vec::IntoIter<Record>,
    next: Option<Record>,
    begun: bool,
    /// Damaged pages, where they are passed over.
    gaps: Option<Vec<DamagedRange>>,
}

impl<'a> LayerCursor<'a> {
    /// Before the first record.
    pub(super) fn new(reader: &'a LayerReader<'a>) -> Self {
        Self { reader, open: Vec::new(), records: Vec::new().into_iter(), next: None, begun: false, gaps: None }
    }

    /// Goes to the first record whose name is this or comes behind it.
    pub(super) fn seek(&mut self, name: &[u8]) -> Result<()> {
        *self = Self { begun: true, gaps: self.gaps.take(), ..Self::new(self.reader) };
        let Some(root) = self.root() else { return Ok(()) };
        self.enter(&root, None, None, Some(name))?;
        while let Some(record) = self.peek()? {
            if tree_order(record.name().as_bytes(), name) != Ordering::Less {
                break;
            }
            self.next()?;
        }
        Ok(())
    }

    /// The record of that name, which comes behind all that were taken.
    pub(super) fn take_named(&mut self, name: &StreamName) -> Result<Option<Record>> {
        let left = self.records.as_slice();
        let is_near = left.last().or(self.next.as_ref()).is_some_and(|last| last.name() >= name);
        if !self.begun || !is_near {
            self.seek(name.as_bytes())?;
        }
        while self.peek()?.is_some_and(|record| record.name() < name) {
            self.next()?;
        }
        match self.peek()?.is_some_and(|record| record.name() == name) {
            true => self.next(),
            false => Ok(None),
        }
    }

    fn root(&self) -> Option<PageRef> {
        self.reader.placed.layer.root.clone()
    }

    /// The next record.
    pub(super) fn peek(&mut self) -> Result<Option<&Record>> {
        if !self.begun {
            self.begun = true;
            if let Some(root) = self.root() {
                self.enter(&root, None, None, None)?;
            }
        }
        while self.next.is_none() {
            self.next = self.records.next();
            if self.next.is_some() {
                break;
            }
            let Some(page) = self.open.last_mut() else { return Ok(None) };
            match page.take() {
                None => _ = self.open.pop(),
                Some((child, end)) => self.enter(&child.page, Some(&child.first), end, None)?,
            }
        }
        Ok(self.next.as_ref())
    }

    /// What a record of this layer makes of the stream below.
    fn apply(&self, record: Record, below: Option<Stream>) -> Result<Option<Stream>> {
        let object = || format!("the recipe in {}", self.reader.placed.object);
        match (record, below) {
            (Record::Stream(stream), _) => Ok(Some(stream)),
            (Record::Removed(_), Some(_)) => Ok(None),
            (Record::Edited(edited), Some(below)) => {
                edited.apply(&below.runs).map(Some).map_err(|error| broken(object(), error))
            }
            (record, None) => {
                let why = format!("its record of {} builds upon a stream that isn't below", record.name());
                Err(broken(object(), why))
            }
        }
    }

    /// Takes the next record.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        self.peek()?;
        Ok(self.next.take())
    }

    fn gap(&mut self, from: Option<StreamName>, to: Option<StreamName>, why: String) -> Result<()> {
        match &mut self.gaps {
            Some(gaps) => {
                gaps.push(DamagedRange { from, to, why });
                Ok(())
            }
            None => Err(Error::Damaged(why)),
        }
    }

    /// Goes down to the leaf below a page: its first one, or that in which `name` is.
    fn enter(
        &mut self,
        page: &PageRef,
        first: Option<&StreamName>,
        end: Option<StreamName>,
        name: Option<&[u8]>,
    ) -> Result<()> {
        let (mut page, mut first, mut end) = (page.clone(), first.cloned(), end);
        loop {
            let height = self.reader.placed.layer.height.saturating_sub(self.open.len() as u8);
            let content = match self.reader.page(&page, height, name.is_none()) {
                Ok(content) => content,
                Err(Error::Damaged(why)) => return self.gap(first, end, why),
                Err(error) => return Err(error),
            };
            let names = match &content {
                PageContent::Leaf(records) => records.first().zip(records.last()).map(|(a, b)| (a.name(), b.name())),
                PageContent::Inner(children) => {
                    children.first().zip(children.last()).map(|(a, b)| (&a.first, &b.first))
                }
            };
            // A page that lies about its names would hide others.
            let fits = names.is_some_and(|(lowest, highest)| {
                first.as_ref().is_none_or(|first| first == lowest) && end.as_ref().is_none_or(|end| highest < end)
            });
            if !fits {
                let page = format!("the page at {} of the recipe in {}", page.offset, self.reader.placed.object);
                let why = format!("{page} is damaged: its names aren't those that the page above it says");
                return self.gap(first, end, why);
            }
            match content {
                PageContent::Leaf(records) => {
                    self.records = records.into_iter();
                    return Ok(());
                }
                PageContent::Inner(children) => {
                    let before = |child: &Child| {
                        name.is_some_and(|name| tree_order(child.first.as_bytes(), name) != Ordering::Greater)
                    };
                    let next = children.partition_point(before).saturating_sub(1);
                    let mut open = OpenPage { children, next, end };
                    let child = open.take();
                    self.open.push(open);
                    let Some((child, below)) = child else { return Ok(()) };
                    (page, first, end) = (child.page, Some(child.first), below);
                }
            }
        }
    }
}

/// A walk through the streams of a recipe, in the order of their names.
pub struct StreamWalk<'a> {
    cursors: Vec<LayerCursor<'a>>,
    /// Ended by an error.
    failed: bool,
}

impl<'a> StreamWalk<'a> {
    pub(super) fn new(readers: &'a [LayerReader<'a>]) -> Self {
        Self { cursors: readers.iter().map(LayerCursor::new).collect(), failed: false }
    }

    pub(super) fn from(readers: &'a [LayerReader<'a>], name: &[u8]) -> Result<Self> {
        let mut streams = Self::new(readers);
        streams.seek(name)?;
        Ok(streams)
    }

    /// Passes over damaged pages instead of ending there: [`StreamWalk::gaps`] has them.
    pub fn over_gaps(mut self) -> Self {
        self.cursors.iter_mut().for_each(|cursor| cursor.gaps = Some(Vec::new()));
        self
    }

    /// The damaged pages so far.
    pub fn gaps(&self) -> impl Iterator<Item = &DamagedRange> {
        self.cursors.iter().flat_map(|cursor| cursor.gaps.iter().flatten())
    }

    /// Goes to the first stream whose name is this or comes behind it.
    pub fn seek(&mut self, name: &[u8]) -> Result<()> {
        self.cursors.iter_mut().try_for_each(|cursor| cursor.seek(name))
    }

    fn take(&mut self) -> Result<Option<Stream>> {
        loop {
            let mut lowest: Option<StreamName> = None;
            if let [only] = self.cursors.as_mut_slice() {
                // A full: nothing is merged.
                return match only.next()? {
                    None => Ok(None),
                    Some(Record::Stream(stream)) => Ok(Some(stream)),
                    Some(record) => only.apply(record, None),
                };
            }
            for cursor in &mut self.cursors {
                if let Some(record) = cursor.peek()?
                    && lowest.as_ref().is_none_or(|lowest| record.name() < lowest)
                {
                    lowest = Some(record.name().clone());
                }
            }
            let Some(name) = lowest else { return Ok(None) };
            if self.gaps().any(|gap| gap.has(&name)) {
                for cursor in &mut self.cursors {
                    if cursor.peek()?.is_some_and(|record| *record.name() == name) {
                        cursor.next()?;
                    }
                }
                continue;
            }
            if let Some(stream) = fold(&mut self.cursors, &name, None)? {
                return Ok(Some(stream));
            }
        }
    }
}

/// What the next records of layers, from the lowest, make of a stream of that name below them.
fn fold(cursors: &mut [LayerCursor<'_>], name: &StreamName, below: Option<Stream>) -> Result<Option<Stream>> {
    let mut found = below;
    for cursor in cursors {
        if cursor.peek()?.is_none_or(|record| record.name() != name) {
            continue;
        }
        found = match (cursor.next()?, found) {
            (Some(record), found) => cursor.apply(record, found)?,
            (None, found) => found,
        };
    }
    Ok(found)
}

/// The streams of which two recipes have records that the other hasn't, by name: before and after, as far as they are there. What
/// both have of the same layers isn't read.
pub struct Compared<'a> {
    common: Vec<LayerCursor<'a>>,
    sides: [Vec<LayerCursor<'a>>; 2],
}

impl<'a> Compared<'a> {
    pub(super) fn new(before: &'a [LayerReader<'a>], after: &'a [LayerReader<'a>]) -> Self {
        let same = |(a, b): &(&LayerReader<'_>, &LayerReader<'_>)| a.placed.layer == b.placed.layer;
        let common = before.iter().zip(after).take_while(same).count();
        let cursors = |readers: &'a [LayerReader<'a>]| readers.iter().map(LayerCursor::new).collect::<Vec<_>>();
        let (common, before, after) =
            (cursors(&before[..common]), cursors(&before[common..]), cursors(&after[common..]));
        Self { common, sides: [before, after] }
    }

    fn take(&mut self) -> Result<Option<(Option<Stream>, Option<Stream>)>> {
        loop {
            let mut lowest: Option<StreamName> = None;
            for cursor in self.sides.iter_mut().flatten() {
                if let Some(record) = cursor.peek()?
                    && lowest.as_ref().is_none_or(|lowest| record.name() < lowest)
                {
                    lowest = Some(record.name().clone());
                }
            }
            let Some(name) = lowest else { return Ok(None) };
            let mut common = None;
            for cursor in &mut self.common {
                if let Some(record) = cursor.take_named(&name)? {
                    common = cursor.apply(record, common)?;
                }
            }
            let [before, after] = &mut self.sides;
            let found = (fold(before, &name, common.clone())?, fold(after, &name, common)?);
            if found != (None, None) {
                return Ok(Some(found));
            }
        }
    }
}

impl Iterator for Compared<'_> {
    type Item = Result<(Option<Stream>, Option<Stream>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

impl Iterator for StreamWalk<'_> {
    type Item = Result<Stream>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.take();
        self.failed = next.is_err();
        next.transpose()
    }
}
