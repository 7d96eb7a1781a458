//! Plausibility of this machine's clock, against the last stored time and the backup host's clock.

use std::time::Duration;

use crate::index::SnapshotRow;
use crate::remote::Clocks;
use crate::time::{Timestamp, format_duration};

/// How far two clocks may be apart.
pub(super) const APART: Duration = Duration::from_secs(3600);
/// A pause that a machine seldom makes.
const LONG_PAUSE: Duration = Duration::from_secs(180 * 24 * 3600);

/// Why the clock looks wrong beside the newest snapshot, where it does.
pub(super) fn beside(newest: &SnapshotRow, now: Timestamp) -> Option<String> {
    let stored = newest.header.stored_time;
    if stored > now.after(APART) {
        return Some(format!(
            "this machine's clock says {now}, and the newest snapshot, {}, was stored at {stored}: the clock is wrong now, or it \
             was {} ahead then; ages are counted by the order of the snapshots until the clock has passed that",
            newest.id,
            format_duration(stored.since(now))
        ));
    }
    (now.since(stored) > LONG_PAUSE).then(|| {
        format!(
            "this machine's clock says {now}, {} after the newest snapshot was stored: unless nothing was backed up for so long, \
             the clock is ahead; set it right before the next backup",
            format_duration(now.since(stored))
        )
    })
}

/// How far a host's clock and this machine's may be apart.
const HOST_APART: Duration = Duration::from_secs(300);

/// Why one of the two clocks is wrong, if they differ: the host's, by the date of a fresh object, and this machine's.
pub(super) fn beside_host(place: &str, clocks: &Clocks) -> Option<String> {
    let Clocks { host, earliest, latest } = *clocks;
    let (own, apart, side) = if host > latest.after(HOST_APART) {
        (latest, host.since(latest), "behind")
    } else if host < earliest.before(HOST_APART) {
        (earliest, earliest.since(host), "ahead of")
    } else {
        return None;
    };
    Some(format!(
        "this machine's clock says {own}, and the clock of the host at {place} says {host}: this machine is {} {side} the host, and one \
         of the two is wrong; set that one right, because how long a snapshot stays is counted by both",
        format_duration(apart)
    ))
}

/// Whether that moment is in the future, so that nothing can be counted from it.
pub(super) fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time > now.after(APART)
}
