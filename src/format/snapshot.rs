//! Snapshots: clear header, sealed body. See `docs/format.md`, "Snapshot".

use std::cmp::Ordering;

use crate::entry::Untrusted;
use crate::facts::{Facts, Malformed};
use crate::format::checks::PagesCheck;
use crate::format::layout::{
    MAX_ABOUT_TEXT, MAX_FACTS, MAX_KEY_COPIES, MAX_KEY_OBJECT, MAX_PAGES, MAX_SEQUENCE, MAX_SNAPSHOT_ABOUT,
    MAX_SNAPSHOT_HEAD, MAX_WARNINGS, SnapshotKind, is_set_name,
};
use crate::format::wire::{FieldReader, FieldWriter, FormatError, FormatKind, PREFIX_LEN, check_kind, check_prefix};
use crate::id::{ChainId, GenerationId, Hasher, InstanceId, PackId, RepositoryId, SnapshotId};
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, FormatError>;

/// The parent of an incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentRef {
    /// Its id.
    pub id: SnapshotId,
    /// Its sequence.
    pub sequence: u64,
}

/// A snapshot's clear header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Bytes of the sealed body.
    pub body: u64,
    /// Bytes of the pages behind it: so that a complete object is distinguished from a truncated one.
    pub pages: u64,
    /// Binds the pages, for those who can't open them.
    pub pages_check: PagesCheck,
    /// Whose snapshot it is.
    pub repository: RepositoryId,
    /// Random; makes the body's key.
    pub salt: [u8; 32],
    /// Its chain.
    pub chain: ChainId,
    /// The parent, upon whose recipe its own builds; None for a full.
    pub parent: Option<ParentRef>,
    /// The snapshot before in the repository, of any set.
    pub previous: Option<SnapshotId>,
    /// Its number in the repository, from 1 on.
    pub sequence: u64,
    /// Whether its content looks wrong: it is kept, but isn't `latest`.
    pub suspect: bool,
    /// When its content was true.
    pub data_time: Timestamp,
    /// When it was stored.
    pub stored_time: Timestamp,
    /// The set.
    pub set: String,
    /// Its tags, ascending.
    pub tags: Vec<Untrusted>,
    /// All packs that a restore reads, bases included, ascending.
    pub packs: Vec<PackId>,
    /// Copies of the repository's key objects, so that the restore of a full doesn't depend on `keys/` alone. None in an
    /// incremental. They are not authenticated here: each proves itself when it is opened.
    pub key_objects: Vec<Vec<u8>>,
}

impl SnapshotHeader {
    /// Bytes of the header up to its length field's end.
    pub const START: usize = PREFIX_LEN + 4;
    /// Bytes of the header up to the body's length.
    pub const HEAD_START: usize = Self::START + 8;

    /// Full or incremental.
    pub fn kind(&self) -> SnapshotKind {
        match self.parent {
            None => SnapshotKind::Full,
            Some(_) => SnapshotKind::Incremental,
        }
    }

    /// The header's bytes: the start of the object and the body's associated data.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.raw(&FormatKind::Snapshot.prefix());
        out.raw(&[0; 4]);
        out.raw(&self.body.to_le_bytes());
        out.raw(&self.pages.to_le_bytes());
        out.raw(&self.pages_check);
        out.raw(self.repository.as_bytes());
        out.raw(&self.salt);
        out.u8(match self.kind() {
            SnapshotKind::Full => 1,
            SnapshotKind::Incremental => 2,
        });
        out.u8(u8::from(self.suspect));
        out.raw(self.chain.as_bytes());
        out.raw(&id_or_zeros(self.parent.map(|parent| parent.id)));
        out.raw(&self.parent.map_or(0, |parent| parent.sequence).to_le_bytes());
        out.raw(&id_or_zeros(self.previous));
        out.raw(&self.sequence.to_le_bytes());
        out.raw(&self.data_time.nanos().to_le_bytes());
        out.raw(&self.stored_time.nanos().to_le_bytes());
        short_text(&mut out, &self.set);
        out.u8(self.tags.len() as u8);
        self.tags.iter().for_each(|tag| short_text(&mut out, tag.raw()));
        out.raw(&(self.packs.len() as u32).to_le_bytes());
        self.packs.iter().for_each(|pack| out.raw(pack.as_bytes()));
        out.u8(self.key_objects.len() as u8);
        for object in &self.key_objects {
            out.raw(&(object.len() as u32).to_le_bytes());
            out.raw(object);
        }
        let length = (out.0.len() as u32).to_le_bytes();
        out.0[PREFIX_LEN..Self::START].copy_from_slice(&length);
        out.0
    }

    /// How long the header is, from its first [`SnapshotHeader::START`] bytes.
    pub fn length(start: &[u8]) -> Result<usize> {
        check_prefix(FormatKind::Snapshot, start)?;
        Ok(FieldReader(start.get(PREFIX_LEN..).unwrap_or_default()).u32("a snapshot's header")? as usize)
    }

    /// Reads a header's bytes.
    pub fn decode(header: &[u8]) -> Result<Self> {
        if Self::length(header)? != header.len() {
            return Err(FormatError::Truncated("a snapshot's header"));
        }
        let fields = header.get(Self::START..).ok_or(FormatError::Invalid("a snapshot's header is too short"))?;
        Self::read(&mut FieldReader(fields))
    }

    /// Bytes of the head, which are header and sealed body, from the first [`SnapshotHeader::HEAD_START`] bytes of an object. All
    /// versions of the format have these fields there: so an object of a later one has an id, too.
    pub fn head_length(start: &[u8]) -> Result<u64> {
        check_kind(FormatKind::Snapshot, start)?;
        let mut fields = FieldReader(start.get(PREFIX_LEN..).unwrap_or_default());
        let header = u64::from(fields.u32("a snapshot's header")?);
        let body = fields.u64("the body's length")?;
        match header.checked_add(body) {
            Some(head) if head <= MAX_SNAPSHOT_HEAD => Ok(head),
            _ => Err(FormatError::Invalid("a snapshot's header or body is too long")),
        }
    }

    /// Takes the head of an object of `size` bytes apart: its header, the header's bytes, and the sealed body.
    pub fn split(head: &[u8], size: u64) -> Result<(Self, &[u8], &[u8])> {
        let length = Self::length(head)?;
        let (clear, body) = head.split_at_checked(length).ok_or(FormatError::Truncated("a snapshot's header"))?;
        let header = Self::decode(clear)?;
        let said = header.size(length);
        // A host has no key: the stated length is its only way to tell a complete snapshot from a truncated one.
        match (body.len() as u64).cmp(&header.body).then(size.cmp(&said)) {
            Ordering::Equal => Ok((header, clear, body)),
            Ordering::Less => Err(FormatError::Truncated("a snapshot's body or its pages")),
            Ordering::Greater => {
                Err(FormatError::Trailing((size.max(head.len() as u64).saturating_sub(said)) as usize))
            }
        }
    }

    /// Bytes of the object whose header this is, with `length` bytes of its own.
    pub fn size(&self, length: usize) -> u64 {
        (length as u64).saturating_add(self.body).saturating_add(self.pages)
    }

    fn read(reader: &mut FieldReader<'_>) -> Result<Self> {
        let body = reader.u64("the body's length")?;
        let pages = reader.u64("the pages' length")?;
        let pages_check = reader.array("the pages' check")?;
        let repository = RepositoryId::from_bytes(reader.array("the repository id")?);
        let salt = reader.array("the salt")?;
        let kind = reader.u8("the kind")?;
        let suspect = match reader.u8("the flags")? {
            flags @ (0 | 1) => flags == 1,
            _ => return Err(FormatError::Invalid("a snapshot has unknown flags")),
        };
        let chain = ChainId::from_bytes(reader.array("the chain id")?);
        let parent = read_id(reader, "the parent")?;
        let parent_sequence = reader.u64("the parent's sequence")?;
        // The three are redundant; a header in which they disagree could be read in two ways.
        let parent = match (kind, parent, parent_sequence) {
            (1, None, 0) => None,
            (2, Some(id), sequence @ 1..) => Some(ParentRef { id, sequence }),
            _ => return Err(FormatError::Invalid("a snapshot's kind and its parent don't fit")),
        };
        let header = Self {
            body,
            pages,
            pages_check,
            repository,
            salt,
            chain,
            parent,
            previous: read_id(reader, "the snapshot before")?,
            sequence: reader.u64("the sequence")?,
            suspect,
            data_time: Timestamp::from_nanos(reader.i64("data_time")?),
            stored_time: Timestamp::from_nanos(reader.i64("stored_time")?),
            set: read_short_text(reader)?,
            tags: read_tags(reader)?,
            packs: read_packs(reader)?,
            key_objects: read_key_objects(reader)?,
        };
        reader.end()?;
        header.check()
    }

    fn check(self) -> Result<Self> {
        if self.pages > MAX_PAGES {
            return Err(FormatError::Invalid("a snapshot has more pages than can be"));
        }
        if !is_set_name(&self.set) {
            return Err(FormatError::Invalid("a snapshot names a set that can't be"));
        }
        if self.sequence == 0 || self.parent.is_some_and(|parent| parent.sequence >= self.sequence) {
            return Err(FormatError::Invalid("a snapshot has a sequence that can't be"));
        }
        if self.sequence > MAX_SEQUENCE {
            return Err(FormatError::Invalid("a snapshot has a sequence to which no writer counts"));
        }
        if !self.tags.is_sorted() || !self.packs.is_sorted_by(|a, b| a < b) {
            return Err(FormatError::Invalid("a snapshot's tags or packs aren't in order"));
        }
        if self.parent.is_some() && !self.key_objects.is_empty() {
            return Err(FormatError::Invalid("an incremental has copies of key objects"));
        }
        Ok(self)
    }
}

fn id_or_zeros(id: Option<SnapshotId>) -> [u8; SnapshotId::LEN] {
    id.map_or([0; SnapshotId::LEN], |id| *id.as_bytes())
}

fn short_text(out: &mut FieldWriter, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.u8(length);
    out.raw(&text.as_bytes()[..usize::from(length)]);
}

fn read_short_text(reader: &mut FieldReader<'_>) -> Result<String> {
    let length = reader.u8("a name")?;
    let bytes = reader.raw(usize::from(length), "a name")?;
    let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Invalid("a name isn't UTF-8"))?;
    Ok(text.to_owned())
}

fn read_tags(reader: &mut FieldReader<'_>) -> Result<Vec<Untrusted>> {
    let count = reader.u8("the tags")?;
    (0..count).map(|_| read_short_text(reader).map(Untrusted::from)).collect()
}

fn read_packs(reader: &mut FieldReader<'_>) -> Result<Vec<PackId>> {
    let count = reader.u32("the packs")? as usize;
    let bytes = reader.raw(count.saturating_mul(PackId::LEN), "the packs")?;
    Ok(bytes.as_chunks::<{ PackId::LEN }>().0.iter().map(|&id| PackId::from_bytes(id)).collect())
}

fn read_key_objects(reader: &mut FieldReader<'_>) -> Result<Vec<Vec<u8>>> {
    let count = usize::from(reader.u8("the key objects")?);
    if count > MAX_KEY_COPIES {
        return Err(FormatError::Invalid("a snapshot has too many copies of key objects"));
    }
    let mut objects = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.u32("a key object")?;
        if u64::from(length) > MAX_KEY_OBJECT {
            return Err(FormatError::Invalid("a snapshot has a key object that is too long"));
        }
        objects.push(reader.raw(length as usize, "a key object")?.to_vec());
    }
    Ok(objects)
}

fn read_id(reader: &mut FieldReader<'_>, what: &'static str) -> Result<Option<SnapshotId>> {
    let id: [u8; SnapshotId::LEN] = reader.array(what)?;
    Ok((id != [0; SnapshotId::LEN]).then(|| SnapshotId::from_bytes(id)))
}

/// The id of a snapshot object, from its bytes as they come.
#[derive(Default)]
pub struct SnapshotDigest {
    /// The first bytes, up to [`SnapshotDigest::START`].
    start: Vec<u8>,
    head: Hasher,
    pages: Hasher,
    /// Bytes so far.
    size: u64,
}

impl SnapshotDigest {
    /// Bytes of the header up to the check of its pages.
    const START: usize = SnapshotHeader::HEAD_START + 8 + size_of::<PagesCheck>();

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let missing = Self::START - self.start.len();
        let (start, rest) = bytes.split_at(bytes.len().min(missing));
        self.start.extend_from_slice(start);
        if !start.is_empty() {
            self.head.update(start);
            self.size += start.len() as u64;
        }
        let head = SnapshotHeader::head_length(&self.start).unwrap_or(u64::MAX);
        let of_head = head.saturating_sub(self.size).min(rest.len() as u64) as usize;
        let (of_head, pages) = rest.split_at(of_head);
        self.head.update(of_head);
        self.pages.update(pages);
        self.size += rest.len() as u64;
    }

    /// The id. None where the bytes were no complete snapshot, or its pages aren't those that its header says.
    pub fn finish(&self) -> Option<SnapshotId> {
        let head = SnapshotHeader::head_length(&self.start).ok()?;
        let (pages, check) = self.start.get(SnapshotHeader::HEAD_START..)?.split_first_chunk()?;
        let pages = u64::from_le_bytes(*pages);
        let whole = head.checked_add(pages) == Some(self.size) && check.len() == size_of::<PagesCheck>();
        let bound = pages == 0 || self.pages.finish()[..] == *check;
        let id = self.head.finish();
        (whole && bound).then(|| SnapshotId::from_bytes(*id.first_chunk().unwrap_or(&[0; SnapshotId::LEN])))
    }
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes of all streams.
    pub read: u64,
    /// Bytes of chunks that were new.
    pub new: u64,
    /// Bytes of the packs that the run wrote.
    pub stored: u64,
    /// Packs that the run wrote.
    pub packs: u64,
}

/// The part of each snapshot's body that is held in memory: nothing whose length its writer chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The machine that wrote it.
    pub instance: InstanceId,
    /// That machine's name.
    pub host: Untrusted,
    /// The environment, empty where none is configured.
    pub environment: Untrusted,
    /// The generation that the run wrote into.
    pub generation: GenerationId,
    /// Plain bytes that a restore decodes; None if the writer didn't say.
    pub decoded: Option<u64>,
    /// The number of bases under the deepest segment that a restore decodes; None if the writer didn't record it.
    pub depth: Option<u64>,
    /// How many warnings it has.
    pub warnings: u64,
    /// Counts of the run.
    pub totals: Totals,
}

impl About {
    /// Its bytes, for the index.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.raw(self.instance.as_bytes());
        [&self.host, &self.environment].into_iter().for_each(|text| out.bytes(text.raw().as_bytes()));
        out.raw(self.generation.as_bytes());
        for number in [self.decoded, self.depth] {
            out.u8(u8::from(number.is_some()));
            out.varint(number.unwrap_or(0));
        }
        out.varint(self.warnings);
        out.totals(&self.totals);
        out.0
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = FieldReader(bytes);
        let number = |reader: &mut FieldReader<'_>| -> Result<Option<u64>> {
            let is_there = reader.array::<1>("a number")? == [1];
            Ok(Some(reader.varint("a number")?).filter(|_| is_there))
        };
        let about = Self {
            instance: InstanceId::from_bytes(reader.array("the instance")?),
            host: reader.text("the host")?.into(),
            environment: reader.text("the environment")?.into(),
            generation: GenerationId::from_bytes(reader.array("the generation")?),
            decoded: number(&mut reader)?,
            depth: number(&mut reader)?,
            warnings: reader.varint("the warnings")?,
            totals: totals(&mut reader)?,
        };
        reader.end().map(|()| about)
    }
}

fn totals(reader: &mut FieldReader<'_>) -> Result<Totals> {
    Ok(Totals {
        read: reader.varint("the totals")?,
        new: reader.varint("the totals")?,
        stored: reader.varint("the totals")?,
        packs: reader.varint("the totals")?,
    })
}

/// A snapshot's sealed body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBody {
    /// The machine that wrote it.
    pub instance: InstanceId,
    /// That machine's name.
    pub host: Untrusted,
    /// Name and version of the writer.
    pub program: Untrusted,
    /// The environment, empty where none is configured.
    pub environment: Untrusted,
    /// The generation that the run wrote into.
    pub generation: GenerationId,
    /// The source's facts.
    pub facts: Facts,
    /// Warnings of the run.
    pub warnings: Vec<Untrusted>,
    /// The configuration file, empty where there was none.
    pub configuration: Vec<u8>,
    /// Counts of the run.
    pub totals: Totals,
    /// The bytes of its [`Layer`](crate::format::recipe::Layer) of the recipe.
    pub recipe: Vec<u8>,
}

impl SnapshotBody {
    /// The part that is held in memory.
    pub fn about(&self) -> About {
        About {
            instance: self.instance,
            host: self.host.clone(),
            environment: self.environment.clone(),
            generation: self.generation,
            decoded: self.facts.decoded_bytes,
            depth: self.facts.depth,
            warnings: self.warnings.len() as u64,
            totals: self.totals,
        }
    }

    /// The paths or databases that the snapshot has, as far as its writer said.
    pub fn holds(&self) -> impl Iterator<Item = Untrusted> {
        self.facts.holds.iter().flat_map(|holds| &holds.0).cloned()
    }

    /// The body's bytes, to be compressed and sealed.
    pub fn encode(&self) -> Vec<u8> {
        let (mut bytes, recipe) = self.encode_apart();
        bytes.extend_from_slice(recipe);
        bytes
    }

    /// The bytes before the recipe, and the recipe.
    pub fn encode_apart(&self) -> (Vec<u8>, &[u8]) {
        let mut out = FieldWriter::default();
        out.raw(self.instance.as_bytes());
        [&self.host, &self.program, &self.environment].into_iter().for_each(|text| out.bytes(text.raw().as_bytes()));
        out.raw(self.generation.as_bytes());
        let facts = self.facts.pairs();
        out.count(facts.len());
        for (key, value) in facts {
            out.bytes(key.raw().as_bytes());
            out.bytes(value.raw().as_bytes());
        }
        out.count(self.warnings.len());
        self.warnings.iter().for_each(|warning| out.bytes(warning.raw().as_bytes()));
        out.bytes(&self.configuration);
        out.totals(&self.totals);
        (out.0, &self.recipe)
    }

    /// Decodes a body. The part before its recipe is bounded, whatever the body's size.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let about = &bytes[..bytes.len().min(MAX_SNAPSHOT_ABOUT)];
        let mut reader = FieldReader(about);
        let body = Self {
            instance: InstanceId::from_bytes(reader.array("the instance")?),
            host: about_text(&mut reader, "the host")?,
            program: about_text(&mut reader, "the program")?,
            environment: about_text(&mut reader, "the environment")?,
            generation: GenerationId::from_bytes(reader.array("the generation")?),
            facts: read_facts(&mut reader)?,
            warnings: reader
                .list_of_at_most(MAX_WARNINGS, 1, "the warnings", |reader| Ok(reader.text("a warning")?.into()))?,
            configuration: reader.bytes("the configuration")?.to_vec(),
            totals: totals(&mut reader)?,
            recipe: Vec::new(),
        };
        let recipe = bytes[about.len() - reader.0.len()..].to_vec();
        Ok(Self { recipe, ..body })
    }
}

fn read_facts(reader: &mut FieldReader<'_>) -> Result<Facts> {
    let pairs = reader.list_of_at_most(MAX_FACTS, 2, "the facts", |reader| {
        Ok((reader.text("a fact")?.into(), reader.text("a fact")?.into()))
    })?;
    Facts::parse(pairs).map_err(|Malformed(what)| FormatError::Invalid(what))
}

/// A text that is held of every snapshot.
fn about_text(reader: &mut FieldReader<'_>, what: &'static str) -> Result<Untrusted> {
    match reader.text(what)? {
        text if text.len() <= MAX_ABOUT_TEXT => Ok(text.into()),
        _ => Err(FormatError::Invalid("the name of a host, a program or an environment is too long")),
    }
}

impl FieldWriter {
    fn totals(&mut self, totals: &Totals) {
        [totals.read, totals.new, totals.stored, totals.packs].into_iter().for_each(|total| self.varint(total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            body: 4,
            pages: 5,
            pages_check: [6; 32],
            repository: RepositoryId::from_bytes([1; 16]),
            salt: [2; 32],
            chain: ChainId::from_bytes([3; 16]),
            parent: Some(ParentRef { id: SnapshotId::from_bytes([4; 16]), sequence: 6 }),
            previous: Some(SnapshotId::from_bytes([5; 16])),
            sequence: 7,
            suspect: true,
            data_time: Timestamp::from_nanos(-1),
            stored_time: Timestamp::from_nanos(1 << 60),
            set: "agama".to_owned(),
            tags: vec!["monthly".into(), "pre-deploy".into()],
            packs: vec![PackId::from_bytes([1; 32]), PackId::from_bytes([2; 32])],
            key_objects: Vec::new(),
        }
    }

    #[test]
    fn headers_read_back() {
        let bytes = header().encode();
        let mut object = bytes.clone();
        object.extend_from_slice(b"body");
        let size = object.len() as u64 + 5;
        assert_eq!(SnapshotHeader::split(&object, size), Ok((header(), bytes.as_slice(), b"body".as_slice())));
        assert_eq!(SnapshotHeader::head_length(&bytes), Ok(object.len() as u64));
        let full = SnapshotHeader { parent: None, previous: None, suspect: false, tags: vec![], ..header() };
        let with_keys = SnapshotHeader { key_objects: vec![b"key".to_vec(); MAX_KEY_COPIES], ..full.clone() };
        for full in [full, with_keys] {
            assert_eq!(SnapshotHeader::decode(&full.encode()), Ok(full));
        }
    }

    #[test]
    fn the_id_binds_the_head_and_the_pages_however_they_come() {
        let pages = [9; 5];
        let header = SnapshotHeader { pages_check: Hasher::new().update(&pages).finish(), ..header() };
        let head = [header.encode().as_slice(), b"body"].concat();
        let object = [&head[..], &pages].concat();
        let digest = |object: &[u8], piece: usize| {
            let mut digest = SnapshotDigest::default();
            object.chunks(piece).for_each(|bytes| digest.update(bytes));
            digest.finish()
        };
        let id = Some(SnapshotId::of(&head));
        assert!([1, 7, 60, 1000].into_iter().all(|piece| digest(&object, piece) == id));
        for at in 0..object.len() {
            let mut changed = object.clone();
            changed[at] ^= 1;
            assert_ne!(digest(&changed, 1000), id, "{at}");
            assert_eq!(digest(&object[..at], 1000), None, "{at}");
        }
    }

    #[test]
    fn key_objects_are_few_and_small_and_in_fulls_alone() {
        let full = SnapshotHeader { parent: None, ..header() };
        let refused = |key_objects, header: SnapshotHeader| {
            SnapshotHeader::decode(&SnapshotHeader { key_objects, ..header }.encode()).is_err()
        };
        assert!(refused(vec![Vec::new(); MAX_KEY_COPIES + 1], full.clone()));
        assert!(refused(vec![vec![0; MAX_KEY_OBJECT as usize + 1]], full));
        assert!(refused(vec![b"key".to_vec()], header()));
    }

    #[test]
    fn every_cut_is_refused() {
        let header = header().encode();
        let object = [header.as_slice(), b"body"].concat();
        let size = object.len() as u64 + 5;
        for length in 0..object.len() {
            assert!(SnapshotHeader::split(&object[..length], size).is_err(), "{length}");
        }
        assert!((0..size).all(|size| SnapshotHeader::split(&object, size).is_err()));
        assert!((0..header.len()).all(|length| SnapshotHeader::decode(&header[..length]).is_err()));
        assert_eq!(SnapshotHeader::split(&object, size + 2), Err(FormatError::Trailing(2)));
        assert!(SnapshotHeader::split(&[&object[..], b"ab"].concat(), size).is_err());
    }

    #[test]
    fn packs_stand_in_order_and_once() {
        for packs in [vec![2, 1], vec![1, 1]] {
            let packs = packs.into_iter().map(|n| PackId::from_bytes([n; 32])).collect();
            assert!(SnapshotHeader::decode(&SnapshotHeader { packs, ..header() }.encode()).is_err());
        }
    }

    #[test]
    fn bodies_read_back() {
        let body = SnapshotBody {
            instance: InstanceId::from_bytes([9; 16]),
            host: "vm1".into(),
            program: "varu 0.1.0".into(),
            environment: Untrusted::default(),
            generation: GenerationId::from_bytes([8; 16]),
            facts: Facts { depth: Some(3), rows: Some(12), ..Facts::default() },
            warnings: vec!["x changed while it was read".into()],
            configuration: b"[repository]".to_vec(),
            totals: Totals { read: 1, new: 2, stored: 300, packs: 4 },
            recipe: vec![1, 2, 3],
        };
        assert_eq!(SnapshotBody::decode(&body.encode()), Ok(body.clone()));
        let about = body.about();
        assert_eq!((about.depth, about.decoded, about.warnings), (Some(3), None, 1));
        assert_eq!(About::decode(&about.encode()), Ok(about));
        let long = SnapshotBody { host: "x".repeat(MAX_ABOUT_TEXT + 1).into(), ..body };
        assert!(SnapshotBody::decode(&long.encode()).is_err(), "each snapshot's is held in memory");
    }
}
