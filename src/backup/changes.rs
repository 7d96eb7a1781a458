//! What a run finds changed, until its packs have their names: dumps in memory, others in an unlinked file.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::vec;

use crate::disk::unlinked_file;
use crate::entry::{Kind, StreamName};
use crate::error::{Error, Result};
use crate::format::recipe::{LeafWriter, Record, Stream, decode_leaf};
use crate::repository::{self, Repository};

/// Bytes of records that are written at once.
const BLOCK: usize = 64 << 10;

/// The records of all entries but dumps, in the order of their names. The packs of their runs are the index's numbers, or stand for
/// new ones.
pub(super) struct ChangeSpool {
    folder: PathBuf,
    block: LeafWriter,
    file: Option<BufWriter<File>>,
}

impl ChangeSpool {
    pub fn new(repository: &Repository) -> Self {
        Self { folder: repository.folder().to_owned(), block: LeafWriter::default(), file: None }
    }

    /// A stream with its runs.
    pub fn stream(&mut self, stream: &Stream) -> Result<()> {
        self.block.stream(stream);
        self.added()
    }

    /// A stream that was that one in the snapshot before.
    pub fn edited(&mut self, stream: &Stream, below: &Stream) -> Result<()> {
        self.block.edited(stream, below);
        self.added()
    }

    /// A stream of the snapshot before that is there no more.
    pub fn removed(&mut self, name: &StreamName) -> Result<()> {
        self.block.removed(name);
        self.added()
    }

    fn added(&mut self) -> Result<()> {
        if self.block.size() < BLOCK { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let Some((_, block)) = self.block.take() else { return Ok(()) };
        let failed = |source| repository::Error::temporary(&self.folder, source);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(unlinked_file(&self.folder).map_err(failed)?)),
        };
        let length = (block.len() as u64).to_le_bytes();
        file.write_all(&length).and_then(|()| file.write_all(&block)).map_err(failed)?;
        Ok(())
    }

    /// Reads all of them, from the first.
    pub fn read(mut self) -> Result<ChangeReader> {
        self.write()?;
        let failed = |source| Error::from(repository::Error::temporary(&self.folder, source));
        let file = match self.file {
            None => None,
            Some(file) => {
                let mut file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                Some(BufReader::new(file))
            }
        };
        Ok(ChangeReader { folder: self.folder, file, records: Vec::new().into_iter() })
    }
}

/// Reads the records of a [`ChangeSpool`].
pub(super) struct ChangeReader {
    folder: PathBuf,
    file: Option<BufReader<File>>,
    records: vec::IntoIter<Record>,
}

impl ChangeReader {
    /// The next record.
    pub fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.records.next() {
                return Ok(Some(record));
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let failed = |source| Error::from(repository::Error::temporary(&self.folder, source));
            let mut length = [0; 8];
            match file.read_exact(&mut length) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
            let mut block = vec![0; u64::from_le_bytes(length) as usize];
            file.read_exact(&mut block).map_err(failed)?;
            // Any number may be an index's, or stand for a new pack.
            let records = decode_leaf(&block, false, u64::MAX)
                .map_err(|error| Error::Failed(format!("the list of what changed can't be read back: {error}")))?;
            self.records = records.into_iter();
        }
    }
}

/// How far apart the places of dumps are at first, so that others fit in between.
const APART: u64 = 1 << 20;

/// Gives dumps their places, in the order in which they came. Those that come in the order of `before` keep theirs, so that a new one
/// changes no other.
pub(super) fn number_dumps(dumps: &mut [Stream], before: impl Fn(&StreamName) -> Option<u64>) {
    debug_assert!(dumps.iter().all(|dump| dump.entry.kind == Kind::Data));
    let mut last = 0;
    let kept: Vec<Option<u64>> = dumps
        .iter()
        .map(|dump| {
            let order = before(&dump.entry.name).filter(|order| *order > last)?;
            last = order;
            Some(order)
        })
        .collect();
    let orders = filled(&kept).unwrap_or_else(|| (1..=kept.len() as u64).map(|at| at * APART).collect());
    dumps.iter_mut().zip(orders).for_each(|(dump, order)| dump.order = order);
}

/// Ascending places, with the missing ones spread over the gaps. None where they don't fit.
fn filled(kept: &[Option<u64>]) -> Option<Vec<u64>> {
    let mut orders = Vec::with_capacity(kept.len());
    let mut last = 0_u64;
    while orders.len() < kept.len() {
        let at = orders.len();
        let missing = kept[at..].iter().take_while(|order| order.is_none()).count();
        let next = kept.get(at + missing).copied().flatten();
        let step = next.map_or(APART, |next| (next - last) / (missing as u64 + 1));
        for _ in 0..missing {
            last = last.checked_add(step).filter(|_| step > 0)?;
            orders.push(last);
        }
        if let Some(next) = next {
            orders.push(next);
            last = next;
        }
    }
    Some(orders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_dumps_stay_and_new_ones_fit_between() {
        assert_eq!(filled(&[None, None]), Some(vec![APART, 2 * APART]));
        assert_eq!(filled(&[Some(8), None, Some(16), None]), Some(vec![8, 12, 16, 16 + APART]));
        assert_eq!(filled(&[None, Some(3)]), Some(vec![1, 3]));
        assert_eq!(filled(&[Some(3), None, Some(4)]), None);
        assert_eq!(filled(&[Some(u64::MAX), None]), None);
        assert_eq!(filled(&[]), Some(vec![]));
    }
}
