//! The recipe of the snapshot before, read in step with the source. In memory are its dumps and a page of each layer; of files only
//! how many chunks come before each is kept, on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::unlinked_file;
use crate::entry::{Kind, StreamName, is_at_or_below};
use crate::error::{Error, Result};
use crate::format::recipe::Stream;
use crate::index::PackRow;
use crate::repository::{self, Layers, Repository, StreamWalk};

/// A stream of the snapshot before.
#[derive(Debug, Clone)]
pub(super) struct ParentStream {
    /// The stream. The packs of its runs are the index's numbers.
    pub stream: Arc<Stream>,
    /// Its number: dumps in their order, then others by name.
    pub number: u64,
    /// The number of its first chunk among all of the recipe.
    pub ordinal: u64,
}

impl ParentStream {
    /// The numbers of its chunks among all of the recipe.
    pub fn ordinals(&self) -> Range<u64> {
        self.ordinal..self.ordinal + chunks(&self.stream)
    }
}

fn chunks(stream: &Stream) -> u64 {
    stream.runs.iter().map(|run| u64::from(run.count)).sum()
}

/// How many streams lie between two whose names are kept.
const APART: u64 = 512;

/// The recipe.
pub(super) struct ParentRecipe<'a> {
    folder: PathBuf,
    layers: Layers<'a>,
    /// The index's rows of its packs, in the order of its table.
    pub packs: Vec<PackRow>,
    /// Dumps, in their order.
    dumps: Vec<ParentStream>,
    dump_numbers: HashMap<StreamName, usize>,
    /// Chunks of all dumps.
    dump_chunks: u64,
    /// Of each other stream the number of the chunks before it, 8 bytes little-endian.
    firsts: File,
    /// How many other streams there are.
    others: u64,
    /// Every so many of their names.
    names: Vec<StreamName>,
    /// Bytes of the streams below each of the set's folders.
    pub root_bytes: Vec<u64>,
}

impl<'a> ParentRecipe<'a> {
    /// Goes through the recipe once. `rows` gives the index's rows of its packs, when it is known which of them runs name.
    pub fn survey(
        repository: &Repository,
        layers: Layers<'a>,
        roots: &[StreamName],
        rows: impl FnOnce(&Layers<'a>, &[bool]) -> Result<Vec<PackRow>>,
    ) -> Result<Self> {
        let folder = repository.folder();
        let failed = |source| Error::from(repository::Error::temporary(folder, source));
        let mut firsts = BufWriter::new(unlinked_file(folder).map_err(failed)?);
        let mut used = vec![false; layers.packs().len()];
        let mut root_bytes = vec![0; roots.len()];
        let (mut dumps, mut names, mut others, mut next) = (Vec::new(), Vec::new(), 0, 0_u64);
        for stream in layers.streams() {
            let stream = stream?;
            stream.runs.iter().for_each(|run| used[run.pack as usize] = true);
            add_to_roots(roots, &stream.entry.name, stream.entry.size, &mut root_bytes);
            if stream.entry.kind == Kind::Data {
                dumps.push(stream);
                continue;
            }
            if others % APART == 0 {
                names.push(stream.entry.name.clone());
            }
            firsts.write_all(&next.to_le_bytes()).map_err(failed)?;
            next += chunks(&stream);
            others += 1;
        }
        let firsts = firsts.into_inner().map_err(|error| failed(error.into_error()))?;
        dumps.sort_by_key(|stream| stream.order);
        let packs = rows(&layers, &used)?;
        let mut recipe = Self {
            folder: folder.to_owned(),
            layers,
            packs,
            dumps: Vec::new(),
            dump_numbers: HashMap::new(),
            dump_chunks: 0,
            firsts,
            others,
            names,
            root_bytes,
        };
        for stream in dumps {
            let (number, ordinal) = (recipe.dumps.len(), recipe.dump_chunks);
            recipe.dump_numbers.insert(stream.entry.name.clone(), number);
            recipe.dump_chunks += chunks(&stream);
            let stream = Arc::new(recipe.by_index(stream));
            recipe.dumps.push(ParentStream { stream, number: number as u64, ordinal });
        }
        Ok(recipe)
    }

    /// The dumps, in their order.
    pub fn dumps(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.dumps.iter().map(|dump| &dump.stream)
    }

    /// All streams, with the index's numbers of their packs.
    pub fn streams(&self) -> impl Iterator<Item = Result<Stream>> {
        self.layers.streams().map(|stream| Ok(self.by_index(stream?)))
    }

    /// The dump of that name.
    pub fn dump(&self, name: &StreamName) -> Option<&ParentStream> {
        self.dump_numbers.get(name).map(|&number| &self.dumps[number])
    }

    fn by_index(&self, mut stream: Stream) -> Stream {
        stream.runs.iter_mut().for_each(|run| run.pack = self.packs[run.pack as usize].number);
        stream
    }

    fn other(&self, number: u64, stream: Stream) -> Result<ParentStream> {
        let ordinal = self.first(number)?;
        Ok(ParentStream { stream: Arc::new(self.by_index(stream)), number: self.dumps.len() as u64 + number, ordinal })
    }

    /// The number of the first chunk of another stream than a dump.
    fn first(&self, number: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        let read = self.firsts.read_exact_at(&mut bytes, number * 8);
        read.map_err(|source| repository::Error::temporary(&self.folder, source))?;
        Ok(self.dump_chunks + u64::from_le_bytes(bytes))
    }

    /// The number of the stream that has the chunk of that ordinal.
    pub fn number_of(&self, ordinal: u64) -> Result<Option<u64>> {
        // Empty streams start where the next one starts; the last of those that start here has the chunk.
        if ordinal < self.dump_chunks {
            let after = self.dumps.partition_point(|dump| dump.ordinal <= ordinal);
            return Ok(after.checked_sub(1).map(|number| number as u64));
        }
        let (mut low, mut high) = (0, self.others);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first(middle)? <= ordinal {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low.checked_sub(1).map(|number| self.dumps.len() as u64 + number))
    }

    /// The stream of that number.
    pub fn numbered(&self, number: u64) -> Result<Option<ParentStream>> {
        let Some(other) = number.checked_sub(self.dumps.len() as u64) else {
            return Ok(self.dumps.get(number as usize).cloned());
        };
        let Some(name) = self.names.get((other / APART) as usize) else { return Ok(None) };
        let others = self.layers.streams_from(name.as_bytes())?;
        let mut others = others.filter(|stream| stream.as_ref().map_or(true, |stream| stream.entry.kind != Kind::Data));
        match others.nth((other % APART) as usize) {
            Some(stream) => self.other(other, stream?).map(Some),
            None => Ok(None),
        }
    }

    /// A walk through it in step with a source.
    pub fn walk(&self) -> ParentWalk<'_, 'a> {
        ParentWalk { recipe: self, streams: self.layers.streams(), next: None, passed: 0, last: None }
    }
}

/// Adds bytes to those of the folders that a stream is below.
pub(super) fn add_to_roots(roots: &[StreamName], name: &StreamName, size: u64, bytes: &mut [u64]) {
    for (root, bytes) in roots.iter().zip(bytes) {
        if is_at_or_below(name.as_bytes(), root.as_bytes()) {
            *bytes += size;
        }
    }
}

/// A position in the recipe that follows the names of a source.
pub(super) struct ParentWalk<'a, 'b> {
    recipe: &'a ParentRecipe<'b>,
    streams: StreamWalk<'a>,
    next: Option<Stream>,
    /// How many streams but dumps came before `next`.
    passed: u64,
    last: Option<StreamName>,
}

impl ParentWalk<'_, '_> {
    /// The stream of the name of a source's next entry. Those other than dumps that lie between the last one and it are handed to
    /// `gone`: the source has them no more.
    pub fn stream(
        &mut self,
        name: &StreamName,
        kind: &Kind,
        mut gone: impl FnMut(&StreamName) -> Result<()>,
    ) -> Result<Option<ParentStream>> {
        if *kind == Kind::Data {
            return Ok(self.recipe.dump(name).cloned());
        }
        if self.last.as_ref().is_some_and(|last| last >= name) {
            return Err(Error::Failed(format!("the entry /{name} came twice, or out of its order")));
        }
        self.last = Some(name.clone());
        while let Some(stream) = self.peek()? {
            if stream.entry.name > *name {
                break;
            }
            let Some(stream) = self.take() else { break };
            if stream.entry.name == *name {
                return self.recipe.other(self.passed - 1, stream).map(Some);
            }
            gone(&stream.entry.name)?;
        }
        Ok(None)
    }

    /// Hands the rest to `gone`: the source has ended.
    pub fn end(mut self, mut gone: impl FnMut(&StreamName) -> Result<()>) -> Result<()> {
        while self.peek()?.is_some() {
            if let Some(stream) = self.take() {
                gone(&stream.entry.name)?;
            }
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<&Stream>> {
        while self.next.is_none() {
            match self.streams.next().transpose()? {
                Some(stream) if stream.entry.kind == Kind::Data => {}
                Some(stream) => self.next = Some(stream),
                None => return Ok(None),
            }
        }
        Ok(self.next.as_ref())
    }

    fn take(&mut self) -> Option<Stream> {
        self.passed += 1;
        self.next.take()
    }
}
