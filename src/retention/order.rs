//! Order of arrival, for stored times of a wrong clock.
//!
//! The order in which snapshots came is known: by their numbers, or by the lines of a ledger. A time that doesn't fit
//! that order is of a clock that was wrong, and the fewest times that don't fit are taken for those.

use crate::time::Timestamp;

/// The times, each corrected by the order; `now` is the clock's time.
///
/// One that fits stays as it is. One from the future becomes that of the next which fits, else `now`: a clock that ran
/// ahead pins nothing. Another that doesn't fit becomes the later of itself and the next: it can only be kept longer.
pub(super) fn in_order(times: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let fits = longest_ascending(times, now);
    let mut fitted = times.to_vec();
    let mut next = now;
    for place in (0..times.len()).rev() {
        match fits[place] {
            true => next = times[place],
            false if times[place] > now => fitted[place] = next,
            false => fitted[place] = times[place].max(next),
        }
    }
    fitted
}

/// The times of the longest ascending run, over all that aren't from the future.
fn longest_ascending(times: &[Timestamp], now: Timestamp) -> Vec<bool> {
    // `ends[n]` is the index of the smallest time at which a run of n + 1 ends.
    let (mut ends, mut before) = (Vec::<usize>::new(), vec![None; times.len()]);
    for (place, time) in times.iter().enumerate().filter(|(_, time)| **time <= now) {
        let length = ends.partition_point(|&end| times[end] <= *time);
        before[place] = length.checked_sub(1).map(|last| ends[last]);
        match ends.get_mut(length) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let mut fits = vec![false; times.len()];
    let mut at = ends.last().copied();
    while let Some(place) = at {
        fits[place] = true;
        at = before[place];
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(days: &[i64], now: i64) -> Vec<i64> {
        let times: Vec<Timestamp> = days.iter().map(|&day| Timestamp::from_seconds(day)).collect();
        in_order(&times, Timestamp::from_seconds(now)).into_iter().map(Timestamp::seconds).collect()
    }

    #[test]
    fn a_time_that_does_not_fit_the_order_is_a_wrong_clocks() {
        assert!(ordered(&[], 9).is_empty());
        assert_eq!(ordered(&[1, 1, 2, 5], 9), [1, 1, 2, 5]);
        assert_eq!(ordered(&[1, 2, 3, 0, 0, 5], 9), [1, 2, 3, 5, 5, 5], "set back for a while");
        assert_eq!(ordered(&[1, 2, 400, 3, 4], 9), [1, 2, 3, 3, 4], "ahead once");
        assert_eq!(ordered(&[1, 2, 400], 9), [1, 2, 9], "ahead now");
        assert_eq!(ordered(&[1, 2, 400, 3, 4], 500), [1, 2, 400, 3, 4], "that day has come");
        assert_eq!(ordered(&[400, 401], 9), [9, 9]);
        assert_eq!(ordered(&[5, 6, 7, 0], 9), [5, 6, 7, 9]);
    }
}
