//! The room of the data file: which granules hold a chunk, as one bit for each.

use std::ops::Range;

/// Bytes of a granule: a chunk begins at the start of one.
pub(super) const GRANULE: u64 = 128;

/// Granules that so many bytes take.
pub(super) fn granules(bytes: u64) -> u64 {
    bytes.div_ceil(GRANULE)
}

/// Which granules are taken. Memory: 1 MiB for each GiB up to the last one that is.
#[derive(Default)]
pub(super) struct Room {
    bits: Vec<u64>,
    /// Where the last search ended: nothing is looked for before it, so that all searches together pass the bits once.
    next: u64,
    used: u64,
}

impl Room {
    /// How many granules are taken.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes a range, of which parts may be taken already.
    pub fn take(&mut self, range: Range<u64>) {
        let words = range.end.div_ceil(64) as usize;
        if words > self.bits.len() {
            self.bits.resize(words, 0);
        }
        let mut at = range.start;
        while at < range.end {
            let upto = (at / 64 * 64 + 64).min(range.end);
            let mask = u64::MAX >> (64 - (upto - at)) << (at % 64);
            let word = &mut self.bits[(at / 64) as usize];
            self.used += u64::from((mask & !*word).count_ones());
            *word |= mask;
            at = upto;
        }
    }

    /// Finds and takes so many granules in a row, behind all that were found before and before `limit`.
    pub fn find(&mut self, count: u64, limit: u64) -> Option<u64> {
        let mut start = self.first(self.next, false);
        // What lies behind the bits is free.
        while start < self.end() {
            let end = self.first(start, true);
            if end - start >= count || end == self.end() {
                break;
            }
            start = self.first(end, false);
            self.next = start;
        }
        let range = start..start + count;
        (range.end <= limit).then(|| {
            self.next = range.end;
            self.take(range);
            start
        })
    }

    /// The ranges before `end` that are taken here and not in `other`.
    pub fn without<'r>(&'r self, other: &'r Room, end: u64) -> impl Iterator<Item = Range<u64>> + 'r {
        let word = |at: u64| {
            let of = |room: &Room| room.bits.get((at / 64) as usize).copied().unwrap_or(0);
            of(self) & !of(other)
        };
        let mut at = 0;
        std::iter::from_fn(move || {
            let find = |from: u64, set: bool| find_bit(word, from, end.min(self.end()), set);
            let start = find(at, true);
            at = find(start, false);
            (start < at).then_some(start..at)
        })
    }

    /// The end of the last range that is taken.
    pub fn last(&self) -> u64 {
        let used = |&word: &usize| self.bits[word] != 0;
        let word = (0..self.bits.len()).rev().find(used);
        word.map_or(0, |word| word as u64 * 64 + 64 - u64::from(self.bits[word].leading_zeros()))
    }

    fn end(&self) -> u64 {
        self.bits.len() as u64 * 64
    }

    /// The first granule from `from` on that is taken (`set`) or free, or the end of the bits.
    fn first(&self, from: u64, set: bool) -> u64 {
        find_bit(|at| self.bits[(at / 64) as usize], from, self.end(), set)
    }
}

/// The first bit from `from` on, and before `end`, that is set or not.
fn find_bit(word: impl Fn(u64) -> u64, from: u64, end: u64, set: bool) -> u64 {
    let mut at = from;
    while at < end {
        let bits = if set { word(at) } else { !word(at) } >> (at % 64);
        if bits != 0 {
            return (at + u64::from(bits.trailing_zeros())).min(end);
        }
        at = at / 64 * 64 + 64;
    }
    end.max(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_found_in_gaps_then_behind_all_and_never_beyond_the_limit() {
        let mut room = Room::default();
        for range in [0..1, 3..70, 75..200, 260..261] {
            room.take(range);
        }
        room.take(60..64);
        assert_eq!(room.used(), 1 + 67 + 125 + 1);
        assert_eq!(room.find(2, 1000), Some(1));
        assert_eq!(room.find(5, 1000), Some(70));
        assert_eq!(room.find(50, 1000), Some(200));
        // The ten that are left of the gap are too few.
        assert_eq!(room.find(11, 1000), Some(261));
        assert_eq!((room.find(700, 900), room.find(600, 900), room.find(100, 900)), (None, Some(272), None));
        assert_eq!((room.find(28, 900), room.find(1, 900)), (Some(872), None));
        assert_eq!(room.used(), 194 + 2 + 5 + 50 + 11 + 600 + 28);
        assert_eq!(room.last(), 900);
    }

    #[test]
    fn all_searches_together_pass_the_bits_once() {
        let mut room = Room::default();
        // Each other granule is taken: a chunk of two finds no room among them.
        let granules = 1 << 22;
        (0..granules).step_by(2).for_each(|granule| room.take(granule..granule + 1));
        room.take(granules..granules + 1);
        let begun = std::time::Instant::now();
        assert!((0..100_000).all(|_| room.find(2, granules).is_none()));
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_one_has_and_the_other_not_is_told_in_ranges() {
        let (mut before, mut after) = (Room::default(), Room::default());
        before.take(5..300);
        before.take(400..401);
        after.take(10..20);
        after.take(64..128);
        after.take(290..1000);
        let all: Vec<_> = before.without(&after, u64::MAX).collect();
        assert_eq!(all, [5..10, 20..64, 128..290]);
        assert_eq!(before.without(&after, 130).last(), Some(128..130));
        assert_eq!(before.without(&Room::default(), u64::MAX).count(), 2);
    }
}
