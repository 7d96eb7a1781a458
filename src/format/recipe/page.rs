//! Pages of a layer: leaves with records, and inner pages that lead to them.

use super::edit::{self, EditOp, EditedStream};
use super::{MAX_RUNS, Run, Stream, entry, push_run};
use crate::entry::{Entry, Kind, StreamName};
use crate::format::checks::PageCheck;
use crate::format::layout::{MAX_PAGE, MAX_PAGE_NAMES, MAX_PAGE_RECORDS};
use crate::format::wire::{FieldReader, FieldWriter, FormatError, unzigzag, zigzag};
use crate::id::StreamHash;

type Result<T> = std::result::Result<T, FormatError>;

/// Where a page lies among those of its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// Bytes before it.
    pub offset: u64,
    /// Sealed bytes.
    pub length: u32,
    /// Binds its sealed bytes.
    pub check: PageCheck,
}

/// What a layer says of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The stream of the layers below is no more.
    Removed(StreamName),
    /// The stream with its runs, whatever the layers below say of its name.
    Stream(Stream),
    /// The stream as an edit of the one below.
    Edited(EditedStream),
}

impl Record {
    /// The name of the stream.
    pub fn name(&self) -> &StreamName {
        match self {
            Self::Removed(name) => name,
            Self::Stream(stream) => &stream.entry.name,
            Self::Edited(stream) => &stream.entry.name,
        }
    }
}

/// A page of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The first name in it.
    pub first: StreamName,
    /// Where it lies.
    pub page: PageRef,
}

/// Names that take as much of a page's bounds as one of its bytes.
const NAMES_FOR_A_BYTE: usize = MAX_PAGE_NAMES / MAX_PAGE_RECORDS;

fn size(out: &FieldWriter, names: usize, first: Option<&StreamName>) -> usize {
    let first = first.map_or(0, |first| first.as_bytes().len());
    (out.0.len() - first).max((names - first) / NAMES_FOR_A_BYTE)
}

/// Writes the records of a leaf, in the order of their names.
#[derive(Default)]
pub struct LeafWriter {
    out: FieldWriter,
    /// Bytes of all names.
    names: usize,
    first: Option<StreamName>,
    last_name: Vec<u8>,
    last_run: Option<Run>,
}

impl LeafWriter {
    /// Bytes so far, or more where names are long: a page is never full for a reader before it is for a writer. The first name isn't
    /// counted: a page would be full of one that is very long, and each page above it, too.
    pub fn size(&self) -> usize {
        size(&self.out, self.names, self.first.as_ref())
    }

    /// The name of the first record and the page's bytes, where it has any. It is empty afterwards.
    pub fn take(&mut self) -> Option<(StreamName, Vec<u8>)> {
        let page = std::mem::take(self);
        page.first.map(|first| (first, page.out.0))
    }

    fn begin(&mut self, op: u64, name: &StreamName) {
        self.first.get_or_insert_with(|| name.clone());
        self.names += name.as_bytes().len();
        self.out.varint(op);
    }

    /// A stream that is there no more.
    pub fn removed(&mut self, name: &StreamName) {
        self.begin(0, name);
        entry::write_name(&mut self.out, name.as_bytes(), &mut self.last_name);
    }

    /// A stream with its runs.
    pub fn stream(&mut self, stream: &Stream) {
        self.begin(1, &stream.entry.name);
        self.entry(&stream.entry, stream.hash.as_ref(), stream.order);
        if stream.entry.kind.has_content() {
            self.out.count(stream.runs.len());
            stream.runs.iter().for_each(|&run| self.run(run));
        }
    }

    /// A stream as an edit of that one below.
    pub fn edited(&mut self, stream: &Stream, below: &Stream) {
        let ops = edit::ops(&stream.runs, &below.runs);
        self.edit(&stream.entry, stream.hash.as_ref(), stream.order, &ops);
    }

    /// A record as it was read.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Removed(name) => self.removed(name),
            Record::Stream(stream) => self.stream(stream),
            Record::Edited(EditedStream { entry, hash, order, ops }) => self.edit(entry, hash.as_ref(), *order, ops),
        }
    }

    fn edit(&mut self, entry: &Entry, hash: Option<&StreamHash>, order: u64, ops: &[EditOp]) {
        self.begin(2, &entry.name);
        self.entry(entry, hash, order);
        if entry.kind.has_content() {
            self.out.count(ops.len());
            for &op in ops {
                match op {
                    EditOp::Copy(count) => self.out.varint(count << 2),
                    EditOp::Move(by) => self.out.varint(zigzag(by) << 2 | 1),
                    EditOp::Run(run) => self.run(run),
                }
            }
        }
    }

    fn entry(&mut self, entry: &Entry, hash: Option<&StreamHash>, order: u64) {
        entry::write(&mut self.out, entry, hash, &mut self.last_name);
        if entry.kind == Kind::Data {
            self.out.varint(order);
        }
    }

    fn run(&mut self, run: Run) {
        let out = &mut self.out;
        let count = u64::from(run.count) << 2;
        match self.last_run.replace(run) {
            Some(last) if { last }.extend(run) => out.varint(count | 2),
            last => {
                out.varint(count | 3);
                out.varint(u64::from(run.pack));
                match last.filter(|last| last.pack == run.pack) {
                    Some(last) => out.zigzag(i64::from(run.segment) - i64::from(last.segment)),
                    None => out.varint(u64::from(run.segment)),
                }
                out.varint(u64::from(run.first));
            }
        }
    }
}

/// Writes the children of an inner page.
#[derive(Default)]
pub struct InnerWriter {
    out: FieldWriter,
    /// Bytes of all names.
    names: usize,
    first: Option<StreamName>,
    last_name: Vec<u8>,
    end: u64,
}

impl InnerWriter {
    /// As [`LeafWriter::size`].
    pub fn size(&self) -> usize {
        size(&self.out, self.names, self.first.as_ref())
    }

    /// Adds the next page of the level below.
    pub fn push(&mut self, child: &Child) {
        self.first.get_or_insert_with(|| child.first.clone());
        self.names += child.first.as_bytes().len();
        entry::write_name(&mut self.out, child.first.as_bytes(), &mut self.last_name);
        self.out.varint(child.page.offset - self.end);
        self.out.varint(u64::from(child.page.length));
        self.out.raw(&child.page.check);
        self.end = child.page.offset + u64::from(child.page.length);
    }

    /// As [`LeafWriter::take`].
    pub fn take(&mut self) -> Option<(StreamName, Vec<u8>)> {
        let page = std::mem::take(self);
        page.first.map(|first| (first, page.out.0))
    }
}

/// Reads an inner page that lies at `offset`. Its children lie before it, one behind the other, with ascending names.
pub fn decode_inner(bytes: &[u8], offset: u64) -> Result<Vec<Child>> {
    let mut reader = FieldReader(bytes);
    let (mut last_name, mut end) = (Vec::new(), 0_u64);
    let mut children: Vec<Child> = Vec::new();
    let mut bounds = PageBounds::new(bytes);
    while !reader.0.is_empty() {
        bounds.begin(reader.0)?;
        let first = entry::read_name(&mut reader, &mut last_name)?;
        bounds.name(&first)?;
        let gap = reader.varint("a page's place")?;
        let length = reader.varint_u32("a page's length")?;
        let check = reader.array("a page's check")?;
        let start = end.checked_add(gap);
        end = start
            .and_then(|start| start.checked_add(u64::from(length)))
            .filter(|&end| end <= offset)
            .ok_or(FormatError::Invalid("a page names one that doesn't lie before it"))?;
        if length == 0 || u64::from(length) > MAX_PAGE {
            return Err(FormatError::Invalid("a page has a length that can't be"));
        }
        if children.last().is_some_and(|last| last.first >= first) {
            return Err(FormatError::Invalid("a page's names aren't in order"));
        }
        children.push(Child { first, page: PageRef { offset: end - u64::from(length), length, check } });
    }
    match children.is_empty() {
        true => Err(FormatError::Invalid("a page is empty")),
        false => Ok(children),
    }
}

/// Reads a leaf of a layer. `lowest` says whether there are layers below; `packs` is the number of packs that runs may name.
pub fn decode_leaf(bytes: &[u8], lowest: bool, packs: u64) -> Result<Vec<Record>> {
    let mut leaf = LeafReader { reader: FieldReader(bytes), last_name: Vec::new(), last_run: None, lowest, packs };
    let mut records: Vec<Record> = Vec::new();
    let mut bounds = PageBounds::new(bytes);
    while !leaf.reader.0.is_empty() {
        bounds.begin(leaf.reader.0)?;
        let record = leaf.record()?;
        bounds.name(record.name())?;
        if records.last().is_some_and(|last| last.name() >= record.name()) {
            return Err(FormatError::Invalid("a page's names aren't in order"));
        }
        records.push(record);
    }
    match records.is_empty() {
        true => Err(FormatError::Invalid("a page is empty")),
        false => Ok(records),
    }
}

/// Keeps a page from meaning much more than its bytes.
struct PageBounds {
    length: usize,
    names: usize,
}

impl PageBounds {
    fn new(page: &[u8]) -> Self {
        Self { length: page.len(), names: 0 }
    }

    /// Another record or child begins, with `rest` left.
    fn begin(&self, rest: &[u8]) -> Result<()> {
        match self.length - rest.len() < MAX_PAGE_RECORDS {
            true => Ok(()),
            false => Err(FormatError::Invalid("a page has more records than can be")),
        }
    }

    fn name(&mut self, name: &StreamName) -> Result<()> {
        self.names += name.as_bytes().len();
        match self.names <= MAX_PAGE_NAMES {
            true => Ok(()),
            false => Err(FormatError::Invalid("a page has too many long names")),
        }
    }
}

struct LeafReader<'a> {
    reader: FieldReader<'a>,
    last_name: Vec<u8>,
    last_run: Option<Run>,
    lowest: bool,
    packs: u64,
}

impl LeafReader<'_> {
    fn record(&mut self) -> Result<Record> {
        match self.reader.varint("a record")? {
            0 if !self.lowest => Ok(Record::Removed(entry::read_name(&mut self.reader, &mut self.last_name)?)),
            1 => {
                let edited = self.edited(false)?;
                let mut runs = Vec::with_capacity(edited.ops.len());
                for op in &edited.ops {
                    if let EditOp::Run(run) = op {
                        push_run(&mut runs, *run);
                    }
                }
                Ok(Record::Stream(Stream { entry: edited.entry, hash: edited.hash, runs, order: edited.order }))
            }
            2 if !self.lowest => Ok(Record::Edited(self.edited(true)?)),
            0 | 2 => Err(FormatError::Invalid("a record builds upon a layer that isn't there")),
            _ => Err(FormatError::Invalid("a page has an unknown record")),
        }
    }

    fn edited(&mut self, copies: bool) -> Result<EditedStream> {
        let (entry, hash) = entry::read(&mut self.reader, &mut self.last_name)?;
        let order = if entry.kind == Kind::Data { self.reader.varint("a dump's place")? } else { 0 };
        let mut ops = Vec::new();
        if entry.kind.has_content() {
            let count = self.reader.count(1, "a stream's runs")?;
            if count > MAX_RUNS {
                return Err(FormatError::Invalid("a stream has too many runs"));
            }
            for _ in 0..count {
                ops.push(self.op(copies)?);
            }
        }
        Ok(EditedStream { entry, hash, order, ops })
    }

    fn op(&mut self, copies: bool) -> Result<EditOp> {
        let op = self.reader.varint("a run")?;
        match (op & 3, op >> 2) {
            (0, count) if copies => Ok(EditOp::Copy(count)),
            (1, by) if copies => Ok(EditOp::Move(unzigzag(by))),
            (kind @ (2 | 3), count) => {
                let run = self.run(kind, count)?;
                self.last_run = Some(run);
                Ok(EditOp::Run(run))
            }
            _ => Err(FormatError::Invalid("a run copies from a stream that isn't there")),
        }
    }

    fn run(&mut self, kind: u64, count: u64) -> Result<Run> {
        const OUTSIDE: FormatError = FormatError::Invalid("a run lies outside of what a pack can hold");
        let count = u32::try_from(count).ok().filter(|&count| count > 0).ok_or(OUTSIDE)?;
        let run = if kind == 2 {
            let last = self.last_run.ok_or(FormatError::Invalid("a run goes on where nothing was"))?;
            Run { first: last.first.checked_add(last.count).ok_or(OUTSIDE)?, count, ..last }
        } else {
            let reader = &mut self.reader;
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
        match u64::from(run.pack) < self.packs && run.first.checked_add(run.count).is_some() {
            true => Ok(run),
            false => Err(OUTSIDE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::edit::tests::{data, run, runs};
    use super::*;
    use crate::entry::{Entry, FileTime, Hole, Metadata, Xattr};
    use crate::id::StreamHash;
    use proptest::prelude::*;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).unwrap()
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
        let kinds = [
            Kind::Data,
            Kind::File,
            Kind::Directory,
            Kind::Above,
            Kind::Symlink(b"../x".to_vec()),
            Kind::Hardlink(name("a/file1")),
            Kind::Fifo,
            Kind::Socket,
            Kind::CharDevice(1, 3),
            Kind::BlockDevice(8, 255),
        ];
        let streams = kinds.into_iter().enumerate().map(|(number, kind)| {
            let hash = kind.has_content().then(|| StreamHash::from_bytes([1; 32]));
            let metadata = (!matches!(kind, Kind::Data | Kind::Hardlink(_))).then(|| metadata.clone());
            let order = if kind == Kind::Data { u64::MAX } else { 0 };
            Stream {
                entry: Entry { name: name(&format!("a/file{number}")), kind, size: 0, metadata },
                hash,
                runs: vec![],
                order,
            }
        });
        let streams: Vec<Stream> = streams.collect();
        let mut leaf = LeafWriter::default();
        streams.iter().for_each(|stream| leaf.stream(stream));
        let (first, bytes) = leaf.take().unwrap();
        assert_eq!((first, leaf.take()), (streams[0].entry.name.clone(), None));
        assert_eq!(decode_leaf(&bytes, true, 0), Ok(streams.into_iter().map(Record::Stream).collect()));
    }

    #[test]
    fn what_builds_upon_a_layer_needs_one() {
        let write = |write: &dyn Fn(&mut LeafWriter)| {
            let mut leaf = LeafWriter::default();
            write(&mut leaf);
            leaf.take().unwrap().1
        };
        let stream = data("a", vec![run(0, 0, 0, 2)]);
        let removed = write(&|leaf| leaf.removed(&name("a")));
        let edited = write(&|leaf| leaf.edited(&stream, &stream));
        for bytes in [removed, edited] {
            assert!(decode_leaf(&bytes, false, 1).is_ok() && decode_leaf(&bytes, true, 1).is_err());
        }
        let stands = write(&|leaf| leaf.stream(&stream));
        assert!(decode_leaf(&stands, true, 1).is_ok() && decode_leaf(&stands, true, 0).is_err());
    }

    #[test]
    fn an_edit_of_a_few_runs_is_small() {
        let below = data("dump", (0..100).map(|segment| run(0, segment, 0, 64)).collect());
        let mut runs = below.runs.clone();
        runs[50] = run(0, 50, 0, 30);
        runs.insert(51, run(1, 0, 0, 2));
        runs.insert(52, run(0, 50, 32, 32));
        let mut leaf = LeafWriter::default();
        leaf.edited(&data("dump", runs), &below);
        let bytes = leaf.take().unwrap().1;
        assert!(bytes.len() < 32 + 30, "{}", bytes.len());
    }

    #[test]
    fn a_very_long_name_fills_no_page_alone() {
        let long = |end: &str| name(&format!("{}{end}", "n".repeat(60_000)));
        let (mut leaf, mut inner) = (LeafWriter::default(), InnerWriter::default());
        for (number, end) in ["a", "b", "c"].into_iter().enumerate() {
            leaf.removed(&long(end));
            let page = PageRef { offset: number as u64, length: 1, check: [0; 16] };
            inner.push(&Child { first: long(end), page });
            assert!(leaf.size() < 1000 && inner.size() < 1000, "{} {}", leaf.size(), inner.size());
        }
        assert_eq!(decode_leaf(&leaf.take().unwrap().1, false, 0).unwrap().len(), 3);
        assert_eq!(decode_inner(&inner.take().unwrap().1, 9).unwrap().len(), 3);
    }

    #[test]
    fn children_lie_before_their_page_one_behind_the_other() {
        let child =
            |text: &str, offset, length| Child { first: name(text), page: PageRef { offset, length, check: [7; 16] } };
        let bytes = |children: &[Child]| {
            let mut inner = InnerWriter::default();
            children.iter().for_each(|child| inner.push(child));
            inner.take().unwrap().1
        };
        let good = [child("a", 5, 10), child("b", 15, 1), child("b/c", 100, 900)];
        assert_eq!(decode_inner(&bytes(&good), 1000), Ok(good.to_vec()));
        assert!(decode_inner(&bytes(&good), 999).is_err(), "it would reach into the page");
        for bad in [
            vec![child("a", 0, 0)],
            vec![child("b", 0, 5), child("a", 5, 5)],
            vec![child("a", 0, 5), child("a", 5, 5)],
            vec![child("a", 0, MAX_PAGE as u32 + 1)],
        ] {
            assert!(decode_inner(&bytes(&bad), 1 << 40).is_err(), "{bad:?}");
        }
        assert!(decode_inner(&[], 1000).is_err());
    }

    /// What a layer may say of one name.
    #[derive(Debug, Clone)]
    enum Said {
        Removed,
        Whole(Vec<Run>),
        Edited(Vec<Run>, Vec<Run>),
    }

    fn said() -> impl Strategy<Value = std::collections::BTreeMap<String, Said>> {
        let said = prop_oneof![
            Just(Said::Removed),
            runs().prop_map(Said::Whole),
            (runs(), runs()).prop_map(|(new, old)| Said::Edited(new, old)),
        ];
        proptest::collection::btree_map("[a-d]{1,3}(/[a-c.]x?)?", said, 1..6)
    }

    fn write(said: &std::collections::BTreeMap<String, Said>) -> Vec<u8> {
        let mut sorted: Vec<(StreamName, &Said)> =
            said.iter().filter_map(|(name, said)| Some((StreamName::new(name.as_str()).ok()?, said))).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut leaf = LeafWriter::default();
        for (name, said) in sorted {
            let with = |runs: &[Run]| {
                let stream = data("x", runs.to_vec());
                Stream { entry: Entry { name: name.clone(), ..stream.entry }, ..stream }
            };
            match said {
                Said::Removed => leaf.removed(&name),
                Said::Whole(runs) => leaf.stream(&with(runs)),
                Said::Edited(new, old) => leaf.edited(&with(new), &with(old)),
            }
        }
        leaf.take().map(|(_, bytes)| bytes).unwrap_or_default()
    }

    proptest! {
        #[test]
        fn records_read_back(said in said()) {
            let bytes = write(&said);
            prop_assume!(!bytes.is_empty());
            let records = decode_leaf(&bytes, false, 4).unwrap();
            prop_assert!(records.is_sorted_by(|a, b| a.name() < b.name()));
            for record in records {
                let name = record.name().to_string();
                match (&said[&name], record) {
                    (Said::Removed, Record::Removed(_)) => {}
                    (Said::Whole(runs), Record::Stream(stream)) => prop_assert_eq!(runs, &stream.runs),
                    (Said::Edited(new, old), Record::Edited(edited)) => {
                        prop_assert_eq!(new, &edited.apply(old).unwrap().runs);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn any_bytes_are_a_page_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), lowest: bool) {
            let _ = decode_leaf(&bytes, lowest, 3);
            let _ = decode_inner(&bytes, 1 << 20);
        }

        #[test]
        fn a_changed_page_is_one_or_an_error(said in said(), at: prop::sample::Index, bit in 0u8..8, cut: bool) {
            let mut bytes = write(&said);
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if cut {
                bytes.truncate(at);
            }
            if let Ok(records) = decode_leaf(&bytes, false, 4) {
                prop_assert!(records.is_sorted_by(|a, b| a.name() < b.name()));
            }
        }
    }
}
