//! Plausible sequence numbers of snapshots.
//!
//! One writer counts up by one, so numbers lie close together, also where a prune took some away. Who has the writer key can write
//! any number; one that is far beyond all others would be the newest for ever, and leave no room for the next.

use crate::format::layout::MAX_SEQUENCE;

/// How far a number may be beyond the one before it: no writer gets so far in a hundred years.
pub(crate) const JUMP: u64 = 1 << 32;
/// Up to where numbers are believed: thousands of jumps are left then.
const ROOM: u64 = MAX_SEQUENCE / 2;

/// The highest number that is believed: the end of those that lie together and are the most. Zero where none is.
///
/// Numbers that reach so far that there would be no room beyond them are never believed while there are others.
pub(crate) fn highest_believed(numbers: impl Iterator<Item = u64>) -> u64 {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    let together = numbers.chunk_by(|a, b| b - a <= JUMP).filter(|group| group.last().is_some_and(|n| *n <= ROOM));
    // Of as many the lower ones: those came first.
    let most = together.rev().max_by_key(|group| group.len());
    most.and_then(|group| group.last().copied()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_far_beyond_the_others_is_not_believed() {
        let believed = |numbers: &[u64]| highest_believed(numbers.iter().copied());
        assert_eq!(believed(&[]), 0);
        assert_eq!(believed(&[7]), 7);
        assert_eq!(believed(&[3, 1, 2]), 3);
        assert_eq!(believed(&[1, 2, 900, 1_000_000]), 1_000_000, "a prune left few");
        assert_eq!(believed(&[1, 2, 1 << 40]), 2);
        assert_eq!(believed(&[1, 2, (1 << 40) - 1, 1 << 40, u64::MAX]), 2, "the lower ones of as many");
        assert_eq!(believed(&[1, 1 << 40, (1 << 40) + 1]), (1 << 40) + 1);
        assert_eq!(believed(&[1, u64::MAX - 2, u64::MAX - 1, u64::MAX]), 1, "no room beyond");
    }
}
