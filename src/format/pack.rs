//! Packs: header, directory, trailer, recipe copy. See `docs/format.md`, "Pack".

use crate::format::checks::DirectoryCheck;
use crate::format::layout::{
    MAX_BASE_RUNS, MAX_CHAIN, MAX_CHUNK, MAX_DEPTH, MAX_DIRECTORY, MAX_SEALED_BYTES, MAX_SEGMENT_BYTES,
    MAX_SEGMENT_CHUNKS, MAX_SEGMENTS, MAX_WRAPPED_KEY, is_set_name,
};
use crate::format::recipe::{Layer, LayerId};
use crate::format::wire::{FieldReader, FieldWriter, FormatError, FormatKind, PREFIX_LEN, check_prefix};
use crate::id::{ChunkId, GenerationId, Hasher, PackId, RepositoryId};
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, FormatError>;

/// Bytes of the header before the wrapped key.
pub const HEADER_FIXED: usize = PREFIX_LEN + RepositoryId::LEN + SALT_LEN + 2;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 32;
/// Bytes that sealing adds.
pub const TAG_LEN: u64 = 16;

const SALT_LEN: usize = 32;
const TRAILER_MAGIC: &[u8; 8] = b"VARUpend";

/// A pack's clear header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackHeader {
    /// Whose pack it is.
    pub repository: RepositoryId,
    /// Random; makes the keys of the directory and the recipe copy.
    pub salt: [u8; SALT_LEN],
    /// The pack key as an age file to the data key.
    pub wrapped_key: Vec<u8>,
}

impl PackHeader {
    /// The header's bytes: the start of the pack and the associated data of all that is sealed in it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter(Vec::with_capacity(HEADER_FIXED + self.wrapped_key.len()));
        out.raw(&FormatKind::Pack.prefix());
        out.raw(self.repository.as_bytes());
        out.raw(&self.salt);
        out.raw(&(self.wrapped_key.len() as u16).to_le_bytes());
        out.raw(&self.wrapped_key);
        out.0
    }

    /// How long the whole header is, from its first [`HEADER_FIXED`] bytes.
    pub fn length(start: &[u8]) -> Result<usize> {
        check_prefix(FormatKind::Pack, start)?;
        let field = start.get(HEADER_FIXED - 2..HEADER_FIXED).ok_or(FormatError::Truncated("a pack's header"))?;
        let wrapped = usize::from(u16::from_le_bytes([field[0], field[1]]));
        match wrapped {
            1..=MAX_WRAPPED_KEY => Ok(HEADER_FIXED + wrapped),
            _ => Err(FormatError::Invalid("a pack's wrapped key has a length that can't be")),
        }
    }

    /// Reads the header that `bytes` start with.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let length = Self::length(bytes)?;
        let mut reader = FieldReader(bytes.get(..length).ok_or(FormatError::Truncated("a pack's header"))?);
        reader.raw(PREFIX_LEN, "the prefix")?;
        let repository = RepositoryId::from_bytes(reader.array("the repository id")?);
        let salt = reader.array("the salt")?;
        reader.u16("the wrapped key's length")?;
        Ok(Self { repository, salt, wrapped_key: reader.0.to_vec() })
    }
}

/// A pack's clear trailer: the lengths of its parts, for a reader that starts from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackTrailer {
    /// Bytes of the pages before the recipe copy, which are those of its layers.
    pub pages: u64,
    /// Bytes of the sealed recipe copy, 0 where there is none.
    pub recipe_copy: u32,
    /// Bytes of the sealed directory.
    pub directory: u32,
    /// Number of segments.
    pub segments: u32,
}

impl PackTrailer {
    /// The trailer's bytes.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        out[0..8].copy_from_slice(&self.pages.to_le_bytes());
        out[8..12].copy_from_slice(&self.recipe_copy.to_le_bytes());
        out[12..16].copy_from_slice(&self.directory.to_le_bytes());
        out[16..20].copy_from_slice(&self.segments.to_le_bytes());
        out[24..32].copy_from_slice(TRAILER_MAGIC);
        out
    }

    /// Reads a trailer and checks it against the size of its pack.
    pub fn decode(bytes: &[u8; TRAILER_LEN], pack_size: u64) -> Result<Self> {
        let mut reader = FieldReader(bytes);
        let trailer = Self {
            pages: reader.u64("the trailer")?,
            recipe_copy: reader.u32("the trailer")?,
            directory: reader.u32("the trailer")?,
            segments: reader.u32("the trailer")?,
        };
        if reader.u32("the trailer")? != 0 || reader.0 != TRAILER_MAGIC {
            return Err(FormatError::Invalid("a pack doesn't end as a pack does"));
        }
        let (copy, directory) = (u64::from(trailer.recipe_copy), u64::from(trailer.directory));
        let fits = (HEADER_FIXED + TRAILER_LEN) as u64 + copy + directory <= pack_size.saturating_sub(trailer.pages);
        let bounded = copy <= MAX_DIRECTORY && (TAG_LEN..=MAX_DIRECTORY).contains(&directory);
        let bounded = bounded && (trailer.pages == 0 || copy > 0);
        if !fits || !bounded || trailer.segments as usize > MAX_SEGMENTS {
            return Err(FormatError::Invalid("a pack's trailer names lengths that can't be"));
        }
        Ok(trailer)
    }
}

/// The check that binds a directory to the recipes that rely on it.
pub fn directory_check(header: &[u8], sealed_directory: &[u8], trailer: &[u8; TRAILER_LEN]) -> DirectoryCheck {
    Hasher::new().update(header).update(sealed_directory).update(trailer).finish_short()
}

/// Chunks of one segment that another was compressed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BaseRun {
    /// 0 for the same pack, n for the n-th base pack.
    pub pack: u32,
    /// The segment.
    pub segment: u32,
    /// The first chunk in it.
    pub first: u32,
    /// How many chunks, at least 1.
    pub count: u32,
}

/// One segment as the directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Sealed bytes, tag included.
    pub sealed: u32,
    /// The first of its chunks among all of the pack.
    pub first_chunk: u32,
    /// How many chunks.
    pub chunks: u32,
    /// The bases that it was compressed against; empty for a plain segment.
    pub bases: Vec<BaseRun>,
    /// 0 for a plain segment.
    pub depth: u32,
}

/// A pack's directory: its segments, chunks and bases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The set that the pack was written for.
    pub set: String,
    /// The generation that it was written into.
    pub generation: GenerationId,
    /// Other packs that hold bases.
    pub base_packs: Vec<PackId>,
    /// The segments, in order.
    pub segments: Vec<SegmentEntry>,
    /// The chunks' ids, of all segments, in order.
    pub ids: Vec<ChunkId>,
    /// The chunks' lengths, of all segments, in order.
    pub lengths: Vec<u32>,
}

impl Directory {
    /// A directory without segments.
    pub fn new(set: &str, generation: GenerationId) -> Self {
        Self {
            set: set.to_owned(),
            generation,
            base_packs: Vec::new(),
            segments: Vec::new(),
            ids: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// The indices of a segment's chunks in [`ids`](Self::ids) and [`lengths`](Self::lengths). None if there is no such
    /// segment.
    pub fn chunk_range(&self, segment: u32) -> Option<std::ops::Range<usize>> {
        let entry = self.segments.get(segment as usize)?;
        Some(entry.first_chunk as usize..entry.first_chunk as usize + entry.chunks as usize)
    }

    /// The indices of a run of chunks inside a segment. None if it reaches outside.
    pub fn run_range(&self, segment: u32, first: u32, count: u32) -> Option<std::ops::Range<usize>> {
        let range = self.chunk_range(segment)?;
        let start = range.start.checked_add(first as usize)?;
        let end = start.checked_add(count as usize)?;
        (end <= range.end).then_some(start..end)
    }

    /// Plain bytes of a segment.
    pub fn plain_length(&self, segment: u32) -> Option<u64> {
        let range = self.chunk_range(segment)?;
        Some(self.lengths[range].iter().map(|&length| u64::from(length)).sum())
    }

    /// Sealed bytes of all segments before `segment`.
    pub fn sealed_offset(&self, segment: u32) -> u64 {
        self.segments.iter().take(segment as usize).map(|entry| u64::from(entry.sealed)).sum()
    }

    /// The directory's bytes, to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter(Vec::with_capacity(64 + self.segments.len() * 8 + self.ids.len() * 19));
        out.bytes(self.set.as_bytes());
        out.raw(self.generation.as_bytes());
        out.count(self.base_packs.len());
        self.base_packs.iter().for_each(|pack| out.raw(pack.as_bytes()));
        out.count(self.segments.len());
        for segment in &self.segments {
            out.varint(u64::from(segment.sealed));
            out.varint(u64::from(segment.chunks));
            out.count(segment.bases.len());
            for run in &segment.bases {
                [run.pack, run.segment, run.first, run.count]
                    .into_iter()
                    .for_each(|field| out.varint(u64::from(field)));
            }
            if !segment.bases.is_empty() {
                out.varint(u64::from(segment.depth));
            }
        }
        self.ids.iter().for_each(|id| out.raw(id.as_bytes()));
        self.lengths.iter().for_each(|&length| out.varint(u64::from(length)));
        out.0
    }

    /// Reads a directory and checks all that can be checked without another pack.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = FieldReader(bytes);
        let set = reader.text("the set's name")?.to_owned();
        if !is_set_name(&set) {
            return Err(FormatError::Invalid("a directory names a set that can't be"));
        }
        let generation = GenerationId::from_bytes(reader.array("the generation")?);
        let base_packs =
            reader.list(PackId::LEN, "the base packs", |reader| reader.array("a base pack").map(PackId::from_bytes))?;
        let mut chunks = 0;
        let mut count = 0;
        let segments = reader.list(3, "the segments", |reader| {
            count += 1;
            if count > MAX_SEGMENTS {
                return Err(FormatError::Invalid("a pack has too many segments"));
            }
            let segment = read_segment(reader, chunks, base_packs.len())?;
            chunks += segment.chunks;
            Ok(segment)
        })?;
        let (ids, lengths) = read_chunks(&mut reader, chunks as usize)?;
        reader.end()?;
        let directory = Self { set, generation, base_packs, segments, ids, lengths };
        directory.check_segments()?;
        Ok(directory)
    }

    fn check_segments(&self) -> Result<()> {
        for number in 0..self.segments.len() as u32 {
            if self.plain_length(number).is_none_or(|length| length > MAX_SEGMENT_BYTES) {
                return Err(FormatError::Invalid("a segment has too many plain bytes"));
            }
            for run in &self.segments[number as usize].bases {
                let inside = || self.run_range(run.segment, run.first, run.count).is_some();
                // A base precedes the segments that depend on it, so no cycle is possible inside a pack.
                if run.pack == 0 && !(run.segment < number && inside()) {
                    return Err(FormatError::Invalid("a base run lies outside of its pack"));
                }
                // Depths bound the decoding work: an understated one would hide a long chain of deltas from that limit.
                let above = |base: u32| self.segments[number as usize].depth > self.segments[base as usize].depth;
                if run.pack == 0 && !above(run.segment) {
                    return Err(FormatError::Invalid("a segment isn't deeper than its base"));
                }
            }
        }
        Ok(())
    }
}

fn read_segment(reader: &mut FieldReader<'_>, first_chunk: u32, base_packs: usize) -> Result<SegmentEntry> {
    let sealed = reader.varint_u32("a segment's length")?;
    let chunks = reader.varint_u32("a segment's chunks")?;
    let sealed_fits = (TAG_LEN + 1..=MAX_SEALED_BYTES).contains(&u64::from(sealed));
    if !sealed_fits || !(1..=MAX_SEGMENT_CHUNKS as u32).contains(&chunks) {
        return Err(FormatError::Invalid("a segment has a length that can't be"));
    }
    if first_chunk.checked_add(chunks).is_none() {
        return Err(FormatError::Invalid("a pack has too many chunks"));
    }
    let bases = reader.list(4, "a segment's bases", |reader| {
        let run = BaseRun {
            pack: reader.varint_u32("a base run")?,
            segment: reader.varint_u32("a base run")?,
            first: reader.varint_u32("a base run")?,
            count: reader.varint_u32("a base run")?,
        };
        match run.pack as usize <= base_packs && run.count > 0 {
            true => Ok(run),
            false => Err(FormatError::Invalid("a base run names a pack or a count that can't be")),
        }
    })?;
    if bases.len() > MAX_BASE_RUNS {
        return Err(FormatError::Invalid("a segment has too many base runs"));
    }
    let depth = if bases.is_empty() { 0 } else { reader.varint_u32("a segment's depth")? };
    if !bases.is_empty() && !(1..=MAX_DEPTH).contains(&depth) {
        return Err(FormatError::Invalid("a segment has a depth that can't be"));
    }
    Ok(SegmentEntry { sealed, first_chunk, chunks, bases, depth })
}

fn read_chunks(reader: &mut FieldReader<'_>, chunks: usize) -> Result<(Vec<ChunkId>, Vec<u32>)> {
    let ids = reader.raw(chunks.saturating_mul(ChunkId::LEN), "the chunk ids")?;
    let ids = ids.as_chunks::<{ ChunkId::LEN }>().0.iter().map(|&id| ChunkId::from_bytes(id)).collect();
    let mut lengths = Vec::with_capacity(chunks);
    for _ in 0..chunks {
        match reader.varint_u32("the chunk lengths")? {
            length @ 1..=MAX_CHUNK => lengths.push(length),
            _ => return Err(FormatError::Invalid("a chunk has a length that can't be")),
        }
    }
    Ok((ids, lengths))
}

/// The layer below the first one of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyBase {
    /// The sequence of its snapshot, which is of the same set.
    pub sequence: u64,
    /// The layer on top of that snapshot's recipe.
    pub layer: LayerId,
}

/// A sealed copy of the layers of a snapshot's recipe, in the last new pack of its run, with all that is needed to recreate the
/// snapshot. Its pages lie before it, those of one layer behind those of the layer below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeCopy {
    /// The set.
    pub set: String,
    /// The sequence that the snapshot was to have.
    pub sequence: u64,
    /// When its content was true.
    pub data_time: Timestamp,
    /// The layer below; None if the copy has all of them.
    pub base: Option<CopyBase>,
    /// The layers, from the lowest.
    pub layers: Vec<Layer>,
}

impl RecipeCopy {
    /// The copy's bytes, to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.bytes(self.set.as_bytes());
        out.raw(&self.sequence.to_le_bytes());
        out.raw(&self.data_time.nanos().to_le_bytes());
        let base = self.base.unwrap_or(CopyBase { sequence: 0, layer: NO_LAYER });
        out.raw(&base.sequence.to_le_bytes());
        out.raw(&base.layer);
        out.count(self.layers.len());
        self.layers.iter().for_each(|layer| out.bytes(&layer.encode()));
        out.0
    }

    /// Reads a copy.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = FieldReader(bytes);
        let set = reader.text("the set's name")?.to_owned();
        let sequence = reader.u64("the sequence")?;
        let data_time = Timestamp::from_nanos(i64::from_le_bytes(reader.array("the data's time")?));
        let base = CopyBase { sequence: reader.u64("the base's sequence")?, layer: reader.array("the base's layer")? };
        let base = match base {
            CopyBase { sequence: 0, layer } if layer == NO_LAYER => None,
            CopyBase { sequence: 0, .. } => return Err(FormatError::Invalid("a copy's base has no sequence")),
            base if base.sequence >= sequence => return Err(FormatError::Invalid("a copy's base is not before it")),
            base => Some(base),
        };
        let layers = reader.list_of_at_most(MAX_CHAIN as usize, LayerId::default().len(), "the layers", |reader| {
            Layer::decode(reader.bytes("a layer")?)
        })?;
        reader.end()?;
        match layers.is_empty() {
            true => Err(FormatError::Invalid("a copy has no layer")),
            false => Ok(Self { set, sequence, data_time, base, layers }),
        }
    }

    /// Bytes of all pages of its layers.
    pub fn pages(&self) -> u64 {
        self.layers.iter().map(|layer| layer.length).fold(0, u64::saturating_add)
    }
}

/// Stands for the layer below of a copy that has all layers.
const NO_LAYER: LayerId = [0; 32];

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let segment = |first_chunk, chunks, bases: Vec<BaseRun>| SegmentEntry {
            sealed: 100,
            first_chunk,
            chunks,
            depth: u32::from(!bases.is_empty()),
            bases,
        };
        Directory {
            set: "agama".to_owned(),
            generation: GenerationId::from_bytes([7; 16]),
            base_packs: vec![PackId::of(b"base")],
            segments: vec![
                segment(0, 2, vec![]),
                segment(2, 1, vec![BaseRun { pack: 1, segment: 4, first: 0, count: 9 }]),
                segment(3, 1, vec![BaseRun { pack: 0, segment: 0, first: 1, count: 1 }]),
            ],
            ids: (0..4).map(|n| ChunkId::from_bytes([n; 16])).collect(),
            lengths: vec![1, 70_000, 300, 5],
        }
    }

    #[test]
    fn directories_read_back() {
        let directory = directory();
        assert_eq!(Directory::decode(&directory.encode()), Ok(directory));
    }

    #[test]
    fn runs_stay_inside_their_segment() {
        let directory = directory();
        assert_eq!(directory.run_range(0, 1, 1), Some(1..2));
        assert_eq!(directory.run_range(0, 1, 2), None);
        assert_eq!(directory.run_range(3, 0, 1), None);
        assert_eq!(directory.run_range(0, u32::MAX, u32::MAX), None);
        assert_eq!((directory.plain_length(0), directory.sealed_offset(2)), (Some(70_001), 200));
    }

    #[test]
    fn a_base_after_or_outside_is_refused() {
        for run in [
            BaseRun { pack: 0, segment: 1, first: 0, count: 1 },
            BaseRun { pack: 0, segment: 2, first: 0, count: 1 },
            BaseRun { pack: 0, segment: 0, first: 1, count: 2 },
            BaseRun { pack: 2, segment: 0, first: 0, count: 1 },
            BaseRun { pack: 1, segment: 0, first: 0, count: 0 },
        ] {
            let mut directory = directory();
            directory.segments[1].bases = vec![run];
            assert!(Directory::decode(&directory.encode()).is_err(), "{run:?}");
        }
        let mut deep = directory();
        deep.segments[1].depth = MAX_DEPTH + 1;
        assert!(Directory::decode(&deep.encode()).is_err());
    }

    #[test]
    fn every_cut_of_a_directory_is_refused() {
        let bytes = directory().encode();
        for length in 0..bytes.len() {
            assert!(Directory::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn copies_read_back_and_a_base_comes_before() {
        let layer = |id| Layer { id: [id; 32], streams: 3, ..Layer::default() };
        let copy = RecipeCopy {
            set: "agama".to_owned(),
            sequence: 7,
            data_time: Timestamp::from_seconds(1_794_791_110),
            base: Some(CopyBase { sequence: 6, layer: [5; 32] }),
            layers: vec![layer(1), layer(2)],
        };
        let whole = RecipeCopy { base: None, ..copy.clone() };
        for copy in [&copy, &whole] {
            assert_eq!(RecipeCopy::decode(&copy.encode()).as_ref(), Ok(copy));
        }
        for base in [CopyBase { sequence: 7, layer: [5; 32] }, CopyBase { sequence: 0, layer: [5; 32] }] {
            assert!(RecipeCopy::decode(&RecipeCopy { base: Some(base), ..copy.clone() }.encode()).is_err());
        }
        assert!(RecipeCopy::decode(&RecipeCopy { layers: Vec::new(), ..copy }.encode()).is_err());
    }

    #[test]
    fn headers_and_trailers_read_back() {
        let header =
            PackHeader { repository: RepositoryId::from_bytes([1; 16]), salt: [2; 32], wrapped_key: vec![3; 200] };
        let bytes = header.encode();
        assert_eq!(PackHeader::length(&bytes[..HEADER_FIXED]), Ok(bytes.len()));
        assert_eq!(PackHeader::decode(&bytes), Ok(header));
        let trailer = PackTrailer { pages: 7, recipe_copy: 5, directory: 50, segments: 3 };
        assert_eq!(PackTrailer::decode(&trailer.encode(), 1000), Ok(trailer));
        assert!(PackTrailer::decode(&trailer.encode(), 100).is_err());
        let many = PackTrailer { pages: u64::MAX, ..trailer };
        assert!(PackTrailer::decode(&many.encode(), 1000).is_err());
    }
}
