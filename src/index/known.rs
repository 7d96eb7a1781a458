//! Chunk index: a filter in memory before a sorted file of fingerprints.
//!
//! Memory is 10 bits a chunk for the filter and at most [`RECENT_MAX`] entries that are newer than the file. The file is
//! a cache: it is rebuilt from the packs' directories whenever it doesn't match them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Index, IndexError, Result};
use crate::disk::NewFile;
use crate::id::{ChunkId, Hasher};

/// Entries in memory before they are merged into the file: as many as a table of 2^18 places takes before it doubles.
const RECENT_MAX: usize = (1 << 18) / 8 * 7;
/// Bits of the filter for each chunk.
const FILTER_BITS: usize = 10;
/// Bits that a chunk sets in the filter: ln 2 × 10, rounded down.
const FILTER_HASHES: u32 = 6;

const ENTRY: usize = 20;
const HEADER: usize = 32;
const MAGIC: &[u8; 8] = b"varukn01";

/// Where a chunk was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkLocation {
    /// The pack's number in the index.
    pub pack: u32,
    /// The segment.
    pub segment: u32,
    /// The chunk in the segment.
    pub chunk: u32,
}

/// The known chunks of a repository.
pub struct ChunkIndex {
    path: PathBuf,
    file: Option<Sorted>,
    recent: HashMap<u64, ChunkLocation>,
    /// The number of the newest pack that the file or `recent` holds.
    newest: u32,
}

struct Sorted {
    file: File,
    count: u64,
    filter: Vec<u64>,
}

fn fingerprint(id: &ChunkId) -> u64 {
    u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has 16 bytes"))
}

impl ChunkIndex {
    /// Opens the chunk index of `index` and adds the packs that are new to it: the trusted ones, since any other
    /// directory may lie about the content of its segments.
    pub fn open(index: &Index) -> Result<Self> {
        let path = index.folder().join("chunks");
        let (file, covered) = Sorted::open(&path).map_or((None, 0), |(file, covered)| (Some(file), covered));
        let newest_pack = index.packs()?.last().map_or(0, |pack| pack.number);
        let mut known = Self { path, file, recent: HashMap::new(), newest: covered };
        if covered > newest_pack {
            // The index was made again since: its numbers mean other packs.
            (known.file, known.newest) = (None, 0);
        }
        known.catch_up(index)?;
        Ok(known)
    }

    fn catch_up(&mut self, index: &Index) -> Result<()> {
        let trusted: HashSet<u32> = index.trusted_packs()?.into_iter().collect();
        for pack in index.packs_after(self.newest)? {
            if let Some(directory) = index.directory(pack.number)?.filter(|_| trusted.contains(&pack.number)) {
                for (segment, entry) in directory.segments.iter().enumerate() {
                    let ids = &directory.ids[entry.first_chunk as usize..][..entry.chunks as usize];
                    for (chunk, id) in ids.iter().enumerate() {
                        self.add(
                            id,
                            ChunkLocation { pack: pack.number, segment: segment as u32, chunk: chunk as u32 },
                        )?;
                    }
                }
            }
            self.newest = pack.number;
        }
        Ok(())
    }

    /// Adds a chunk. An older place of the same chunk is forgotten.
    pub fn add(&mut self, id: &ChunkId, found: ChunkLocation) -> Result<()> {
        self.recent.insert(fingerprint(id), found);
        if self.recent.len() >= RECENT_MAX {
            self.merge()?;
        }
        Ok(())
    }

    /// Where a chunk may lie: the fingerprint is only half of its id, and a pack may be gone since. The caller looks into
    /// the pack's directory.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkLocation> {
        let fingerprint = fingerprint(id);
        if let Some(found) = self.recent.get(&fingerprint) {
            return Some(*found);
        }
        self.file.as_ref()?.find(fingerprint)
    }

    /// Writes newer entries into the file, if that is worth it. All packs of `index` must have been added.
    pub fn save(&mut self, index: &Index) -> Result<()> {
        self.newest = index.packs()?.last().map_or(0, |pack| pack.number);
        let in_file = self.file.as_ref().map_or(0, |file| file.count as usize);
        if self.recent.len() > 4096.max(in_file / 20) {
            self.merge()?;
        }
        Ok(())
    }

    /// Forgets the file, as where packs were renumbered, or older ones became trusted.
    pub fn forget(index: &Index) {
        // It is a cache: that it is gone already is as good.
        let _ = std::fs::remove_file(index.folder().join("chunks"));
    }

    fn merge(&mut self) -> Result<()> {
        let mut recent: Vec<(u64, ChunkLocation)> = self.recent.drain().collect();
        recent.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        let old = self.file.take();
        let merged = write_merged(&self.path, old.as_ref(), &recent, self.newest);
        let error = |source| IndexError::Io { tried: "writing", path: self.path.clone(), source };
        self.file = Some(merged.map_err(error)?);
        Ok(())
    }
}

impl Sorted {
    /// Opens the file; None where it is missing or isn't whole.
    fn open(path: &std::path::Path) -> Option<(Self, u32)> {
        let file = File::open(path).ok()?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        let field = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (count, covered) = (field(8), field(16));
        let words = filter_words(usize::try_from(count).ok()?);
        let size = (HEADER as u64).checked_add(count.checked_mul(ENTRY as u64)?)?.checked_add(words as u64 * 8)?;
        if &header[..8] != MAGIC || file.metadata().ok()?.len() != size || field(24) != header_check(&header[..24]) {
            return None;
        }
        let mut bytes = vec![0; words * 8];
        file.read_exact_at(&mut bytes, HEADER as u64 + count * ENTRY as u64).ok()?;
        let filter = bytes.as_chunks::<8>().0.iter().map(|&word| u64::from_le_bytes(word)).collect();
        Some((Self { file, count, filter }, u32::try_from(covered).ok()?))
    }

    /// A read error is a miss: the chunk is stored again, and nothing is lost.
    fn find(&self, fingerprint: u64) -> Option<ChunkLocation> {
        if !filter_bits(fingerprint, self.filter.len()).all(|(word, bit)| self.filter[word] & bit != 0) {
            return None;
        }
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut entry = [0; ENTRY];
            self.file.read_exact_at(&mut entry, HEADER as u64 + middle * ENTRY as u64).ok()?;
            let (here, found) = decode_entry(&entry);
            match here.cmp(&fingerprint) {
                std::cmp::Ordering::Equal => return Some(found),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

fn header_check(header: &[u8]) -> u64 {
    let check = Hasher::new().update(header).finish();
    u64::from_le_bytes(*check.first_chunk().expect("a hash has 32 bytes"))
}

fn filter_words(count: usize) -> usize {
    (count.saturating_mul(FILTER_BITS)).div_ceil(64).max(1)
}

/// The bits of a fingerprint in a filter of `words` words. A fingerprint is a piece of a keyed hash, so its parts serve as
/// independent hashes (Kirsch and Mitzenmacher, "Less Hashing, Same Performance", 2006).
fn filter_bits(fingerprint: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let bits = words as u64 * 64;
    let step = (fingerprint >> 32) | 1;
    (0..FILTER_HASHES).map(move |hash| {
        let bit =
            fingerprint.wrapping_add(u64::from(hash).wrapping_mul(step.wrapping_mul(0x9e37_79b9_7f4a_7c15))) % bits;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

fn encode_entry((fingerprint, found): (u64, ChunkLocation)) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..8].copy_from_slice(&fingerprint.to_le_bytes());
    for (at, field) in [(8, found.pack), (12, found.segment), (16, found.chunk)] {
        entry[at..at + 4].copy_from_slice(&field.to_le_bytes());
    }
    entry
}

fn decode_entry(entry: &[u8; ENTRY]) -> (u64, ChunkLocation) {
    let field = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
    let fingerprint = u64::from(field(0)) | u64::from(field(4)) << 32;
    (fingerprint, ChunkLocation { pack: field(8), segment: field(12), chunk: field(16) })
}

/// Merges the old file with sorted `recent` entries into a new file, renamed into place.
fn write_merged(
    path: &std::path::Path,
    old: Option<&Sorted>,
    recent: &[(u64, ChunkLocation)],
    newest: u32,
) -> std::io::Result<Sorted> {
    let mut out = BufWriter::with_capacity(1 << 16, NewFile::beside(path, 0o600)?);
    out.write_all(&[0; HEADER])?;
    let most = old.map_or(0, |old| old.count as usize) + recent.len();
    let mut filter = vec![0u64; filter_words(most)];
    let mut count: u64 = 0;
    let mut put = |entry: (u64, ChunkLocation)| {
        count += 1;
        filter_bits(entry.0, filter.len()).for_each(|(word, bit)| filter[word] |= bit);
        out.write_all(&encode_entry(entry))
    };
    let mut recent = recent.iter().copied().peekable();
    if let Some(old) = old {
        let mut entries = std::io::BufReader::with_capacity(1 << 16, &old.file);
        std::io::Seek::seek(&mut entries, std::io::SeekFrom::Start(HEADER as u64))?;
        for _ in 0..old.count {
            let mut entry = [0; ENTRY];
            entries.read_exact(&mut entry)?;
            let entry = decode_entry(&entry);
            while let Some(newer) = recent.next_if(|newer| newer.0 < entry.0) {
                put(newer)?;
            }
            match recent.next_if(|newer| newer.0 == entry.0) {
                Some(newer) => put(newer)?,
                None => put(entry)?,
            }
        }
    }
    recent.try_for_each(&mut put)?;
    // The filter's size follows from the count; where entries were replaced it is made for the real one.
    if filter_words(count as usize) != filter.len() {
        return rewrite_filter(path, out, count, newest);
    }
    filter.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    finish(path, out, count, newest, filter)
}

fn rewrite_filter(
    path: &std::path::Path,
    mut out: BufWriter<NewFile>,
    count: u64,
    newest: u32,
) -> std::io::Result<Sorted> {
    out.flush()?;
    let mut filter = vec![0u64; filter_words(count as usize)];
    let mut entries = std::io::BufReader::with_capacity(1 << 16, out.get_ref().reopen()?);
    std::io::Seek::seek(&mut entries, std::io::SeekFrom::Start(HEADER as u64))?;
    for _ in 0..count {
        let mut entry = [0; ENTRY];
        entries.read_exact(&mut entry)?;
        filter_bits(decode_entry(&entry).0, filter.len()).for_each(|(word, bit)| filter[word] |= bit);
    }
    filter.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    finish(path, out, count, newest, filter)
}

fn finish(
    path: &std::path::Path,
    mut out: BufWriter<NewFile>,
    count: u64,
    newest: u32,
    filter: Vec<u64>,
) -> std::io::Result<Sorted> {
    out.flush()?;
    let new = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&count.to_le_bytes());
    header[16..24].copy_from_slice(&u64::from(newest).to_le_bytes());
    let check = header_check(&header[..24]);
    header[24..].copy_from_slice(&check.to_le_bytes());
    new.as_file().write_all_at(&header, 0)?;
    new.replace_unflushed()?;
    let file = File::open(path)?;
    Ok(Sorted { file, count, filter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ChunkId {
        ChunkId::of(&[7; 32], &number.to_le_bytes())
    }

    fn place(number: u32) -> ChunkLocation {
        ChunkLocation { pack: number / 100, segment: number % 100, chunk: number }
    }

    #[test]
    fn chunks_are_found_in_memory_and_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let mut known = ChunkIndex::open(&index).unwrap();
        for number in 0..20_000 {
            known.add(&id(number), place(number)).unwrap();
            if number % 7000 == 0 {
                known.merge().unwrap();
            }
        }
        known.add(&id(3), place(77)).unwrap();
        known.merge().unwrap();
        assert!(known.recent.is_empty());
        for number in 4..20_000 {
            assert_eq!(known.find(&id(number)), Some(place(number)));
        }
        assert_eq!(known.find(&id(3)), Some(place(77)), "the newer place counts");
        assert!((20_000..120_000).all(|number| known.find(&id(number)).is_none()));
    }

    #[test]
    fn the_filter_keeps_most_misses_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let mut known = ChunkIndex::open(&index).unwrap();
        (0..50_000).for_each(|number| known.add(&id(number), place(number)).unwrap());
        known.merge().unwrap();
        let filter = &known.file.as_ref().unwrap().filter;
        let passes = |number: &u32| {
            filter_bits(fingerprint(&id(*number)), filter.len()).all(|(word, bit)| filter[word] & bit != 0)
        };
        let false_positives = (100_000..200_000).filter(passes).count();
        assert!(false_positives < 2_500, "{false_positives} of 100,000");
    }

    #[test]
    fn a_damaged_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let mut known = ChunkIndex::open(&index).unwrap();
        (0..5000).for_each(|number| known.add(&id(number), place(number)).unwrap());
        known.save(&index).unwrap();
        assert!(ChunkIndex::open(&index).unwrap().find(&id(1)).is_some());
        let path = folder.path().join("chunks");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(ChunkIndex::open(&index).unwrap().find(&id(1)).is_none());
    }
}
