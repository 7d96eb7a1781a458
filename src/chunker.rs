//! Content-defined chunks: keyed FastCDC.
//!
//! FastCDC with two-byte rolling and normalised chunking: Xia and others, "The Design of Fast Content-Defined Chunking for
//! Data Deduplication Based Storage Systems", IEEE TPDS 31 (2020). The gear table is secret, so that the sizes of chunks
//! tell an outsider nothing. The crate's version is pinned: it decides bytes on disk.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::Zeroizing;

/// Smallest, average and largest chunk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    /// No chunk but a stream's last is smaller.
    pub min: u32,
    /// The target size.
    pub average: u32,
    /// No chunk is larger.
    pub max: u32,
}

impl Default for ChunkSizes {
    /// 4, 16 and 64 KiB.
    fn default() -> Self {
        Self { min: 4096, average: 16_384, max: 65_536 }
    }
}

impl ChunkSizes {
    /// Whether the chunker can cut with these sizes: even numbers, min < average < max, each between its bounds.
    pub fn is_valid(&self) -> bool {
        let Self { min, average, max } = *self;
        let even = [min, average, max].iter().all(|size| size % 2 == 0);
        even && min >= 64 && average >= 256 && max >= 1024 && min < average && average < max && max <= 1 << 20
    }
}

/// Bytes of the secret table that a [`Chunker`] takes.
pub const TABLE_LEN: usize = 2048;

/// Cuts streams. The same bytes and table give the same cuts, on every machine.
pub struct Chunker {
    sizes: ChunkSizes,
    masks: [u64; 4],
    gear: Zeroizing<Vec<u64>>,
    gear_shifted: Zeroizing<Vec<u64>>,
}

impl Chunker {
    /// A chunker of these sizes and this table.
    pub fn new(sizes: ChunkSizes, table: &[u8; TABLE_LEN]) -> Self {
        let gear: Vec<u64> = table.as_chunks::<8>().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
        let gear_shifted = gear.iter().map(|value| value << 1).collect();
        let (short, long) = select_masks(sizes.average as usize, Normalization::Level1);
        Self {
            sizes,
            masks: [short, long, short << 1, long << 1],
            gear: Zeroizing::new(gear),
            gear_shifted: Zeroizing::new(gear_shifted),
        }
    }

    /// The largest chunk, in bytes.
    pub fn max(&self) -> usize {
        self.sizes.max as usize
    }

    /// The length of the first chunk of `data`, which must hold [`max`](Self::max) bytes or end where the stream ends.
    /// 0 for no data.
    pub fn cut(&self, data: &[u8]) -> usize {
        let [short, long, short_shifted, long_shifted] = self.masks;
        let ChunkSizes { min, average, max } = self.sizes;
        let (min, average, max) = (min as usize, average as usize, max as usize);
        let (gear, gear_shifted) = (&self.gear, &self.gear_shifted);
        cut_gear(data, min, average, max, short, long, short_shifted, long_shifted, gear, gear_shifted).1
    }

    /// Whether `data` is cut after `length` bytes, if another stream with the same `length` bytes was cut there. That is
    /// not certain: the byte after a chunk has an influence on its end.
    pub fn cuts_again(&self, data: &[u8], length: usize) -> bool {
        let ChunkSizes { min, average, max } = self.sizes;
        let end = data.len().min(max as usize);
        if length >= end {
            return length == end;
        }
        // Bytes are tested in pairs, so the last one of an odd number isn't.
        if length < min as usize || length / 2 >= end / 2 {
            return false;
        }
        // An older byte has left the hash.
        let from = length.saturating_sub(u64::BITS as usize).max(min as usize);
        let hash =
            data[from..=length].iter().fold(0u64, |hash, &byte| (hash << 1).wrapping_add(self.gear[byte as usize]));
        let mask = if length < average as usize { self.masks[0] } else { self.masks[1] };
        hash & mask == 0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: ChunkSizes = ChunkSizes { min: 4096, average: 16_384, max: 65_536 };

    fn table(seed: u8) -> [u8; TABLE_LEN] {
        let mut table = [0; TABLE_LEN];
        crate::id::derive_bytes("varu test table", &[seed], &mut table);
        table
    }

    fn cuts(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut cuts = Vec::new();
        while !data.is_empty() {
            let length = chunker.cut(&data[..data.len().min(chunker.max())]);
            cuts.push(length);
            data = &data[length..];
        }
        cuts
    }

    fn noise(length: usize, seed: u8) -> Vec<u8> {
        let mut data = vec![0; length];
        crate::id::derive_bytes("varu test noise", &[seed], &mut data);
        data
    }

    #[test]
    fn chunks_have_their_sizes() {
        let chunker = Chunker::new(SIZES, &table(1));
        let data = noise(4 << 20, 1);
        let cuts = cuts(&chunker, &data);
        assert_eq!(cuts.iter().sum::<usize>(), data.len());
        let (_, whole) = cuts.split_last().unwrap();
        assert!(whole.iter().all(|cut| (4096..=65_536).contains(cut)));
        let average = data.len() / cuts.len();
        assert!((12_000..24_000).contains(&average), "{average}");
    }

    #[test]
    fn a_cut_stands_or_falls_with_the_byte_behind_it() {
        let sizes = ChunkSizes { min: 64, average: 256, max: 1024 };
        let chunker = Chunker::new(sizes, &table(1));
        let data = noise(300_000, 1);
        let mut fallen = 0;
        let mut from = 0;
        for length in cuts(&chunker, &data) {
            let chunk = &data[from..data.len().min(from + length + 2000)];
            from += length;
            if from == data.len() {
                break;
            }
            for byte in 0..=255 {
                let mut other = chunk.to_vec();
                other[length] = byte;
                let cut = chunker.cut(&other[..other.len().min(chunker.max())]);
                assert_eq!(chunker.cuts_again(&other, length), cut == length);
                fallen += u32::from(cut != length);
            }
            for end in length..chunk.len().min(length + 5) {
                assert_eq!(chunker.cuts_again(&chunk[..end], length), chunker.cut(&chunk[..end.min(1024)]) == length);
            }
        }
        assert!(fallen > 10_000);
    }

    #[test]
    fn another_table_cuts_elsewhere() {
        let data = noise(1 << 20, 1);
        assert_ne!(cuts(&Chunker::new(SIZES, &table(1)), &data), cuts(&Chunker::new(SIZES, &table(2)), &data));
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_near_it() {
        let chunker = Chunker::new(SIZES, &table(1));
        let data = noise(4 << 20, 1);
        let mut changed = data.clone();
        changed.splice(1_000_000..1_000_000, *b"a new row");
        let ends = |data: &[u8], shift: usize| -> std::collections::HashSet<usize> {
            cuts(&chunker, data)
                .iter()
                .scan(0, |at, cut| {
                    *at += cut;
                    Some(*at + shift)
                })
                .collect()
        };
        let (old, new) = (ends(&data, 9), ends(&changed, 0));
        let after = |at: &&usize| **at > 1_200_000;
        assert!(old.iter().filter(after).all(|end| new.contains(end)));
    }

    proptest! {
        #[test]
        fn no_data_is_lost(length in 0usize..300_000, seed: u8) {
            let chunker = Chunker::new(SIZES, &table(seed));
            prop_assert_eq!(cuts(&chunker, &noise(length, seed)).iter().sum::<usize>(), length);
        }
    }
}
