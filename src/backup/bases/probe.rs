//! Probe of a guessed base: whether new bytes resemble those at the guessed place.

use memchr::memmem;

/// Pieces that are looked for, and their bytes.
const PIECES: usize = 8;
const PIECE: usize = 32;

/// Looks for a few pieces of `new` in `base`, each at most `margin` bytes from where it is expected if `new` were to begin at
/// `expected`. Returns by how much the last one that was found lies further on than expected; None where fewer than half are
/// found.
pub(super) fn shift(new: &[u8], base: &[u8], expected: usize, margin: usize) -> Option<i64> {
    let last = new.len().checked_sub(PIECE)?;
    let (mut found, mut shift) = (0, 0);
    for piece in 1..=PIECES {
        let at = last * piece / PIECES;
        let lies = expected.saturating_add_signed(shift as isize) + at;
        if let Some(position) = nearest(&new[at..at + PIECE], base, lies, margin) {
            found += 1;
            shift = position as i64 - (expected + at) as i64;
        }
    }
    (found * 2 >= PIECES).then_some(shift)
}

/// Where `piece` stands in `base`, nearest to `at` and within `margin` of it.
fn nearest(piece: &[u8], base: &[u8], at: usize, margin: usize) -> Option<usize> {
    let at = at.min(base.len());
    if base[at..].starts_with(piece) {
        return Some(at);
    }
    let (from, to) = (at.saturating_sub(margin), (at + margin + PIECE).min(base.len()));
    let before = memmem::rfind(&base[from..(at + PIECE - 1).min(to)], piece).map(|found| from + found);
    let behind = memmem::find(&base[at..to], piece).map(|found| at + found);
    [before, behind].into_iter().flatten().min_by_key(|found| found.abs_diff(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: std::ops::Range<u32>) -> Vec<u8> {
        rows.flat_map(|row| format!("({row},'customer {}'),", row.wrapping_mul(2_654_435_761)).into_bytes()).collect()
    }

    #[test]
    fn what_lies_further_on_is_found_there() {
        let base = rows(0..5000);
        let from = rows(0..1000).len();
        let mut new = rows(1000..3000);
        assert_eq!(shift(&new, &base, from, 500), Some(0));
        assert_eq!(shift(&new, &base, from - 300, 500), Some(300));
        assert_eq!(shift(&new, &base, from + 300, 500), Some(-300));
        assert_eq!(shift(&new, &base, from + 600, 500), None);
        // Inserted rows shift the following ones.
        let at = new.len() / 2;
        new.splice(at..at, rows(9000..9010));
        assert_eq!(shift(&new, &base, from, 500), Some(-(rows(9000..9010).len() as i64)));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let base = rows(0..5000);
        assert_eq!(shift(&rows(7000..9000), &base, 0, 100_000), None);
        assert_eq!(shift(&rows(0..1), &base, 0, 100), None);
        assert_eq!(shift(&rows(0..500), &[], 0, 100), None);
        assert_eq!(shift(&rows(0..500), &base[..50], 1000, 100), None);
    }
}
