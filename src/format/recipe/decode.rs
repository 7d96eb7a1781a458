//! Bytes to recipes.

use super::{MAX_NAMES, MAX_RUNS, PackRef, Recipe, Run, Stream, entry, push_run};
use crate::format::checks::DirectoryCheck;
use crate::format::wire::{FieldReader, FormatError, unzigzag};
use crate::id::PackId;

type Result<T> = std::result::Result<T, FormatError>;

/// Reads a complete recipe.
pub fn decode_full(bytes: &[u8]) -> Result<Recipe> {
    decode(bytes, None)
}

/// Reads an edit and makes the recipe that it makes from `parent`.
pub fn apply_edit(parent: &Recipe, bytes: &[u8]) -> Result<Recipe> {
    decode(bytes, Some(parent))
}

fn decode(bytes: &[u8], parent: Option<&Recipe>) -> Result<Recipe> {
    let mut reader = FieldReader(bytes);
    let mut packs = parent.map(|parent| parent.packs.clone()).unwrap_or_default();
    let smallest = PackId::LEN + size_of::<DirectoryCheck>();
    packs.extend(reader.list(smallest, "the pack table", |reader| {
        let id = PackId::from_bytes(reader.array("a pack's id")?);
        Ok(PackRef { id, check: reader.array("a directory check")? })
    })?);
    let mut items = ItemDecoder {
        recipe: Recipe { packs, streams: Vec::new() },
        parent,
        last_name: Vec::new(),
        last_run: None,
        expected: 0,
        copied: vec![false; parent.map_or(0, |parent| parent.streams.len())],
        runs: 0,
        names: 0,
    };
    while !reader.0.is_empty() {
        items.item(&mut reader)?;
    }
    Ok(items.recipe)
}

struct ItemDecoder<'a> {
    recipe: Recipe,
    parent: Option<&'a Recipe>,
    last_name: Vec<u8>,
    last_run: Option<Run>,
    expected: usize,
    /// Which streams of the parent were copied.
    copied: Vec<bool>,
    /// Runs and streams so far.
    runs: usize,
    /// Bytes of names so far.
    names: usize,
}

impl ItemDecoder<'_> {
    fn item(&mut self, reader: &mut FieldReader<'_>) -> Result<()> {
        match reader.varint("a recipe's item")? {
            0 => self.copied(reader),
            1 => self.stream(reader, None),
            2 => {
                let number = self.parent_stream(reader)?;
                self.expected = number + 1;
                let parent = self.parent.and_then(|parent| parent.streams.get(number));
                let parent = parent.ok_or(FormatError::Invalid("an item names a stream that the parent lacks"))?;
                self.stream(reader, Some(&parent.runs))
            }
            _ => Err(FormatError::Invalid("a recipe has an unknown item")),
        }
    }

    fn parent_stream(&self, reader: &mut FieldReader<'_>) -> Result<usize> {
        let by = reader.zigzag("a parent's stream")?;
        let number = (self.expected as i64).checked_add(by).and_then(|number| usize::try_from(number).ok());
        number.ok_or(FormatError::Invalid("an item names a stream that the parent lacks"))
    }

    fn copied(&mut self, reader: &mut FieldReader<'_>) -> Result<()> {
        let first = self.parent_stream(reader)?;
        let count = usize::try_from(reader.varint("a count of streams")?).unwrap_or(usize::MAX);
        let end = first.checked_add(count).filter(|_| count > 0);
        let streams = self.parent.zip(end).and_then(|(parent, end)| parent.streams.get(first..end));
        let streams = streams.ok_or(FormatError::Invalid("an item copies streams that the parent lacks"))?;
        // So an edit can't make more of the parent than it is.
        if self.copied[first..first + count].contains(&true) {
            return Err(FormatError::Invalid("an item copies a stream of the parent again"));
        }
        self.copied[first..first + count].fill(true);
        self.grow(streams.iter().map(|stream| stream.runs.len() + 1).sum())?;
        self.name(streams.iter().map(|stream| stream.entry.name.as_bytes().len()).sum())?;
        self.recipe.streams.extend_from_slice(streams);
        self.expected = first + count;
        Ok(())
    }

    fn grow(&mut self, by: usize) -> Result<()> {
        self.runs += by;
        match self.runs <= MAX_RUNS {
            true => Ok(()),
            false => Err(FormatError::Invalid("a recipe has too many runs")),
        }
    }

    fn name(&mut self, bytes: usize) -> Result<()> {
        self.names = self.names.saturating_add(bytes);
        match self.names <= MAX_NAMES {
            true => Ok(()),
            false => Err(FormatError::Invalid("a recipe has too many long names")),
        }
    }

    fn stream(&mut self, reader: &mut FieldReader<'_>, parent: Option<&[Run]>) -> Result<()> {
        let (entry, hash) = entry::read(reader, &mut self.last_name)?;
        self.grow(1)?;
        self.name(entry.name.as_bytes().len())?;
        let mut runs = Vec::new();
        if entry.kind.has_content() {
            let mut cursor = parent.map(ParentPosition::new);
            for _ in 0..reader.count(1, "a stream's runs")? {
                self.op(reader, &mut runs, cursor.as_mut())?;
            }
        }
        self.recipe.streams.push(Stream { entry, hash, runs });
        Ok(())
    }

    fn op(
        &mut self,
        reader: &mut FieldReader<'_>,
        runs: &mut Vec<Run>,
        cursor: Option<&mut ParentPosition<'_>>,
    ) -> Result<()> {
        let op = reader.varint("an op")?;
        let before = runs.len();
        match (op & 3, op >> 2, cursor) {
            (0, count, Some(cursor)) => cursor.copy(count, runs, MAX_RUNS - self.runs)?,
            (1, by, Some(cursor)) => cursor.shift(unzigzag(by))?,
            (kind @ (2 | 3), count, _) => {
                let run = self.run(reader, kind, count)?;
                self.last_run = Some(run);
                push_run(runs, run);
            }
            _ => return Err(FormatError::Invalid("an op copies from a parent that isn't there")),
        }
        self.grow(runs.len() - before)
    }

    fn run(&self, reader: &mut FieldReader<'_>, kind: u64, count: u64) -> Result<Run> {
        const OUTSIDE: FormatError = FormatError::Invalid("a run lies outside of what a pack can hold");
        let count = u32::try_from(count).ok().filter(|&count| count > 0).ok_or(OUTSIDE)?;
        let run = if kind == 2 {
            let last = self.last_run.ok_or(FormatError::Invalid("an op goes on where nothing was"))?;
            Run { first: last.first.checked_add(last.count).ok_or(OUTSIDE)?, count, ..last }
        } else {
            let pack = reader.varint_u32("a run's pack")?;
            let segment = match self.last_run.filter(|last| last.pack == pack) {
                Some(last) => {
                    let by = reader.zigzag("a run's segment")?;
                    let segment = i64::from(last.segment).checked_add(by);
                    segment.and_then(|segment| u32::try_from(segment).ok()).ok_or(OUTSIDE)?
                }
                None => reader.varint_u32("a run's segment")?,
            };
            Run { pack, segment, first: reader.varint_u32("a run's first chunk")?, count }
        };
        let inside = (run.pack as usize) < self.recipe.packs.len() && run.first.checked_add(run.count).is_some();
        if inside { Ok(run) } else { Err(OUTSIDE) }
    }
}

/// A position among the chunks of the parent's stream.
struct ParentPosition<'a> {
    runs: &'a [Run],
    /// The number of the first chunk of each run, and the number of all.
    starts: Vec<u64>,
    position: u64,
}

impl<'a> ParentPosition<'a> {
    fn new(runs: &'a [Run]) -> Self {
        let mut starts = Vec::with_capacity(runs.len() + 1);
        let mut position = 0;
        starts.push(position);
        for run in runs {
            position += u64::from(run.count);
            starts.push(position);
        }
        Self { runs, starts, position: 0 }
    }

    fn end(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn shift(&mut self, by: i64) -> Result<()> {
        let position = self.position.checked_add_signed(by).filter(|&position| position <= self.end());
        self.position = position.ok_or(FormatError::Invalid("an op moves out of the parent's stream"))?;
        Ok(())
    }

    fn copy(&mut self, count: u64, out: &mut Vec<Run>, most: usize) -> Result<()> {
        let end = self.position.checked_add(count).filter(|&end| count > 0 && end <= self.end());
        let end = end.ok_or(FormatError::Invalid("an op copies more than the parent's stream has"))?;
        let mut number = self.starts.partition_point(|&start| start <= self.position) - 1;
        let limit = out.len().saturating_add(most);
        while self.position < end {
            if out.len() >= limit {
                return Err(FormatError::Invalid("a recipe has too many runs"));
            }
            let run = self.runs[number];
            let into = (self.position - self.starts[number]) as u32;
            let take = u64::from(run.count - into).min(end - self.position);
            push_run(out, Run { first: run.first + into, count: take as u32, ..run });
            self.position += take;
            number += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{encode_edit, encode_full};
    use super::*;
    use crate::entry::{Entry, FileTime, Hole, Kind, Metadata, StreamName, Xattr};
    use crate::id::StreamHash;
    use proptest::prelude::*;

    fn pack(number: u8) -> PackRef {
        PackRef { id: PackId::from_bytes([number; 32]), check: [number; 16] }
    }

    fn data(name: &str, runs: Vec<Run>) -> Stream {
        let size = runs.iter().map(|run| u64::from(run.count)).sum();
        let entry = Entry { name: StreamName::new(name).unwrap(), kind: Kind::Data, size, metadata: None };
        Stream { entry, hash: Some(StreamHash::from_bytes([size as u8; 32])), runs }
    }

    fn run(pack: u32, segment: u32, first: u32, count: u32) -> Run {
        Run { pack, segment, first, count }
    }

    #[test]
    fn every_kind_of_entry_reads_back() {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 7,
            gid: 8,
            user: b"agnes".to_vec(),
            group: vec![],
            mtime: FileTime { seconds: -1, nanoseconds: 999_999_999 },
            ctime: FileTime { seconds: 1 << 40, nanoseconds: 0 },
            inode: u64::MAX,
            flags: u32::MAX,
            xattrs: vec![Xattr { name: b"user.x".to_vec(), value: vec![0, 255] }],
            holes: vec![Hole { offset: 4096, length: 8192 }, Hole { offset: 1 << 40, length: 1 }],
        };
        let name = |number: usize| StreamName::new(format!("a/file{number}")).unwrap();
        let kinds = [
            Kind::Data,
            Kind::File,
            Kind::Directory,
            Kind::Above,
            Kind::Symlink(b"../x".to_vec()),
            Kind::Hardlink(name(1)),
            Kind::Fifo,
            Kind::Socket,
            Kind::CharDevice(1, 3),
            Kind::BlockDevice(8, 255),
        ];
        let streams = kinds.into_iter().enumerate().map(|(number, kind)| {
            let hash = kind.has_content().then(|| StreamHash::from_bytes([1; 32]));
            let metadata = entry_has_metadata(&kind).then(|| metadata.clone());
            Stream { entry: Entry { name: name(number), kind, size: 0, metadata }, hash, runs: vec![] }
        });
        let recipe = Recipe { packs: vec![pack(1)], streams: streams.collect() };
        let bytes = encode_full(&recipe);
        assert_eq!(decode_full(&bytes), Ok(recipe.clone()));
        let edit = encode_edit(&recipe, &recipe);
        assert!(edit.len() < 8, "{}", edit.len());
        assert_eq!(apply_edit(&recipe, &edit), Ok(recipe));
    }

    fn entry_has_metadata(kind: &Kind) -> bool {
        !matches!(kind, Kind::Data | Kind::Hardlink(_))
    }

    #[test]
    fn an_edit_of_a_few_runs_is_small() {
        let parent = Recipe {
            packs: vec![pack(1)],
            streams: vec![data("dump", (0..100).map(|segment| run(0, segment, 0, 64)).collect())],
        };
        let mut runs = parent.streams[0].runs.clone();
        runs[50] = run(0, 50, 0, 30);
        runs.insert(51, run(1, 0, 0, 2));
        runs.insert(52, run(0, 50, 32, 32));
        let new = Recipe { packs: vec![pack(1), pack(2)], streams: vec![data("dump", runs)] };
        let edit = encode_edit(&new, &parent);
        assert_eq!(apply_edit(&parent, &edit), Ok(new));
        assert!(edit.len() < 48 + 32 + 30, "{}", edit.len());
    }

    fn runs() -> impl Strategy<Value = Vec<Run>> {
        let any = (0u32..4, 0u32..5, 0u32..20, 1u32..8).prop_map(|(p, s, f, c)| run(p, s, f, c));
        proptest::collection::vec(any, 0..12).prop_map(|parts| {
            let mut runs = Vec::new();
            parts.into_iter().for_each(|part| push_run(&mut runs, part));
            runs
        })
    }

    fn recipes() -> impl Strategy<Value = Recipe> {
        proptest::collection::btree_map("[a-d]{1,2}", runs(), 0..6).prop_map(|streams| Recipe {
            packs: (0..4).map(pack).collect(),
            streams: streams.into_iter().map(|(name, runs)| data(&name, runs)).collect(),
        })
    }

    proptest! {
        #[test]
        fn recipes_and_edits_read_back((old, new) in (recipes(), recipes())) {
            prop_assert_eq!(decode_full(&encode_full(&new)), Ok(new.clone()));
            prop_assert_eq!(apply_edit(&old, &encode_edit(&new, &old)), Ok(new));
        }

        #[test]
        fn any_bytes_are_a_recipe_or_an_error(old in recipes(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_full(&bytes);
            let _ = apply_edit(&old, &bytes);
        }

        #[test]
        fn a_changed_edit_is_a_recipe_or_an_error(old in recipes(), new in recipes(), at: prop::sample::Index, bit in 0u8..8) {
            let mut edit = encode_edit(&new, &old);
            let at = at.index(edit.len());
            edit[at] ^= 1 << bit;
            let _ = apply_edit(&old, &edit);
        }
    }
}
