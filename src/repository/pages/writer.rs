//! Layers, from records in the order of their names to sealed pages.

use std::cmp::Ordering;

use super::store::{NewPages, Pages};
use super::{PAGE_LEVEL, page_salt};
use crate::crypto::{SealPurpose, random_bytes};
use crate::entry::StreamName;
use crate::format::layout::MAX_HEIGHT;
use crate::format::recipe::{Child, InnerWriter, Layer, LayerId, LeafWriter, PackRef, PageRef, Record, Stream};
use crate::id::Hasher;
use crate::repository::snapshots::compress_plain;
use crate::repository::{Error, Repository, Result};
use crate::segment::Compressor;

/// Plain bytes at which a page is full.
const FULL: usize = 24 << 10;

/// Writes a layer.
pub struct LayerWriter<'a> {
    repository: &'a Repository,
    id: LayerId,
    pages: NewPages,
    zstd: Option<Compressor>,
    leaf: LeafWriter,
    last: Option<StreamName>,
    /// The inner pages that are being filled, from the lowest level.
    levels: Vec<OpenLevel>,
}

#[derive(Default)]
struct OpenLevel {
    page: InnerWriter,
    /// Pages of the level below so far.
    count: u64,
    last: Option<PageRef>,
}

impl<'a> LayerWriter<'a> {
    /// A layer without records.
    pub fn new(repository: &'a Repository) -> Self {
        let id = *random_bytes();
        Self {
            repository,
            id,
            pages: NewPages::new(repository, &id),
            zstd: None,
            leaf: LeafWriter::default(),
            last: None,
            levels: Vec::new(),
        }
    }

    /// A stream with its runs.
    pub fn stream(&mut self, stream: &Stream) -> Result<()> {
        self.after(&stream.entry.name)?;
        self.leaf.stream(stream);
        self.spill()
    }

    /// A record as it is.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        self.after(record.name())?;
        self.leaf.record(record);
        self.spill()
    }

    /// Ends the layer. `packs` are those that the layers below don't have, `streams` the number of all with this layer on top.
    pub fn finish(mut self, packs: Vec<PackRef>, streams: u64) -> Result<(Layer, Pages)> {
        if let Some((first, plain)) = self.leaf.take() {
            self.page(0, first, &plain)?;
        }
        let mut level = 0;
        while level < self.levels.len() {
            let top = level + 1 == self.levels.len();
            let open = &mut self.levels[level];
            if open.count == 1 && top {
                break;
            }
            if let Some((first, plain)) = open.page.take() {
                self.page(level + 1, first, &plain)?;
            }
            level += 1;
        }
        let root = self.levels.pop().and_then(|top| top.last);
        let height = if root.is_some() { level as u8 + 1 } else { 0 };
        let length = self.pages.length();
        let layer = Layer { id: self.id, packs, streams, length, height, root };
        Ok((layer, self.pages.finish()?))
    }

    fn after(&mut self, name: &StreamName) -> Result<()> {
        match self.last.as_ref().map(|last| last.cmp(name)) {
            None | Some(Ordering::Less) => {
                self.last = Some(name.clone());
                Ok(())
            }
            Some(_) => Err(Error::Failed(format!("the stream {name} came twice, or out of its order"))),
        }
    }

    fn spill(&mut self) -> Result<()> {
        if self.leaf.size() < FULL {
            return Ok(());
        }
        match self.leaf.take() {
            Some((first, plain)) => self.page(0, first, &plain),
            None => Ok(()),
        }
    }

    /// Seals a page of that level, 0 for a leaf, and adds it to the level above.
    fn page(&mut self, level: usize, first: StreamName, plain: &[u8]) -> Result<()> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(Compressor::new(PAGE_LEVEL)?),
        };
        let packed = compress_plain(zstd, plain)?.map_err(|why| {
            Error::Usage(format!("the entry {first} can't be stored, for no reader would take it: {why}"))
        })?;
        let offset = self.pages.length();
        let salt = page_salt(&self.id, offset);
        let height = u8::try_from(level + 1).ok().filter(|height| *height <= MAX_HEIGHT);
        let height = [height.ok_or_else(|| {
            Error::Usage("the set has too many entries with very long names; divide it into smaller ones".to_owned())
        })?];
        let aad: [&[u8]; 3] = [self.repository.id().as_bytes(), &offset.to_le_bytes(), &height];
        let sealed = self.repository.keys().metadata.seal(SealPurpose::RecipePage, &salt, &aad, packed);
        let check = Hasher::new().update(sealed.as_bytes()).finish_short();
        let length = u32::try_from(sealed.len()).map_err(|_| Error::Failed("a page is too large".to_owned()))?;
        self.pages.append(sealed.as_bytes())?;
        let page = PageRef { offset, length, check };
        if self.levels.len() <= level {
            self.levels.push(OpenLevel::default());
        }
        let above = &mut self.levels[level];
        above.page.push(&Child { first, page: page.clone() });
        above.count += 1;
        above.last = Some(page);
        if above.page.size() >= FULL
            && let Some((first, plain)) = above.page.take()
        {
            self.page(level + 1, first, &plain)?;
        }
        Ok(())
    }
}
