//! Similar chunks: bases for streams with a new name, for moved data, and for data in another form.
//!
//! Where position finds no base, content does. A chunk's features are the largest values, under a few hash functions, of a
//! rolling hash at a sample of its positions; chunks that share much of their text share features with a probability that
//! grows with it (Broder, "On the resemblance and containment of documents", 1997; sampled as Xia and others do in "Odess",
//! 2021). They are made from the base cache when they are first needed, stay on this machine and die with the run.

use super::cache::BaseCache;
use crate::crypto::random_bytes;

/// Features of a chunk.
const FEATURES: usize = 6;
/// Most chunks that are looked through: their features are held in memory.
const MOST_CHUNKS: usize = 400_000;
/// One position in so many is looked at.
const SAMPLE_MASK: u32 = 0x1f << 20;

/// Makes features, under tables that are drawn anew for each run.
pub(super) struct Features {
    gear: [u32; 256],
    factors: [u32; FEATURES],
}

impl Features {
    pub fn new() -> Self {
        let bytes = random_bytes::<{ 4 * (256 + FEATURES) }>();
        let mut words = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word));
        let mut next = || words.next().unwrap_or_default();
        Self { gear: std::array::from_fn(|_| next()), factors: std::array::from_fn(|_| next() | 1) }
    }

    /// The features of a chunk. The hash rolls over 32 bytes, about a row's worth of text.
    fn of(&self, chunk: &[u8]) -> [u32; FEATURES] {
        let mut features = [0; FEATURES];
        let mut hash: u32 = 0;
        for &byte in chunk {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(byte)]);
            if hash & SAMPLE_MASK == 0 {
                for (feature, factor) in features.iter_mut().zip(self.factors) {
                    *feature = (*feature).max(hash.wrapping_mul(factor).rotate_left(7).wrapping_mul(factor));
                }
            }
        }
        features
    }
}

/// The features of all chunks in the base cache.
pub(super) struct Similar {
    features: Features,
    /// Each feature with the ordinal of its chunk, by feature.
    chunks: Vec<(u32, u32)>,
}

impl Similar {
    /// Chunks whose feature many others have say nothing.
    const MOST_ALIKE: usize = 8;

    /// Reads the cache's chunks, as many as it is worth: `most` bytes.
    pub fn read(cache: &mut BaseCache, most: u64) -> Self {
        let features = Features::new();
        let mut chunks = Vec::new();
        let (mut chunk, mut read) = (Vec::new(), 0);
        for ordinal in 0..cache.count_before().min(u64::from(u32::MAX)) {
            if read > most || chunks.len() >= FEATURES * MOST_CHUNKS || !cache.read_at(ordinal, &mut chunk) {
                continue;
            }
            read += chunk.len() as u64;
            let of_chunk = features.of(&chunk);
            chunks.extend(of_chunk.iter().filter(|feature| **feature != 0).map(|&feature| (feature, ordinal as u32)));
        }
        chunks.sort_unstable();
        Self { features, chunks }
    }

    /// The ordinal of the chunk that shares most features with this one, the one nearest to `near` where several do.
    pub fn find(&self, chunk: &[u8], near: Option<u32>) -> Option<u32> {
        let mut found: Vec<(u32, u32)> = Vec::new();
        for feature in self.features.of(chunk).into_iter().filter(|feature| *feature != 0) {
            let start = self.chunks.partition_point(|(other, _)| *other < feature);
            let alike = self.chunks[start..].iter().take_while(|(other, _)| *other == feature);
            for &(_, ordinal) in alike.take(Self::MOST_ALIKE) {
                match found.iter_mut().find(|(other, _)| *other == ordinal) {
                    Some((_, count)) => *count += 1,
                    None => found.push((ordinal, 1)),
                }
            }
        }
        let distance = |ordinal: u32| near.map_or(0, |near| ordinal.abs_diff(near));
        found
            .into_iter()
            .max_by_key(|&(ordinal, count)| (count, u32::MAX - distance(ordinal)))
            .map(|(ordinal, _)| ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::Arrival;
    use super::*;

    fn rows(from: u32, to: u32, form: impl Fn(u32) -> String) -> Vec<u8> {
        (from..to).flat_map(|row| form(row).into_bytes()).collect()
    }

    fn row(row: u32) -> String {
        let mix = row.wrapping_mul(2_654_435_761);
        format!("({row},'customer {mix} of the {}th street','{}'),", mix >> 9, mix >> 3)
    }

    #[test]
    fn a_chunk_finds_what_it_was_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = BaseCache::open(folder.path(), "x", None, 1 << 30).unwrap();
        (0..200).for_each(|part| cache.add(&rows(part * 200, part * 200 + 200, row), Arrival::New).unwrap());
        let id = crate::id::SnapshotId::from_bytes([1; 16]);
        cache.commit(&id).unwrap();
        let mut cache = BaseCache::open(folder.path(), "x", Some(&id), 1 << 30).unwrap();
        let similar = Similar::read(&mut cache, u64::MAX);
        let in_other_form =
            |part: u32| rows(part * 200, part * 200 + 190, |n| format!("INSERT INTO `t` VALUES {}\n", row(n)));
        let right = (0..200).filter(|&part| similar.find(&in_other_form(part), None) == Some(part)).count();
        assert!(right > 130, "{right} of 200");
        assert_eq!(similar.find(&[0; 20_000], None), None);
    }
}
