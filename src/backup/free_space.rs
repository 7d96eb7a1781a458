//! Estimate of whether the remote has enough free space for a backup.
//!
//! The size of a backup isn't known before its source was read. So only an unlikely fit is refused: the estimate is low,
//! and a backup that passes may still find the disk full.

use std::collections::HashSet;

use super::BackupOptions;
use super::start::Start;
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::index::SnapshotRow;
use crate::repository::{self, Repository};
use crate::source::Source;

/// The least that a backup asks for: one pack.
const FLOOR: u64 = 32 << 20;
/// The assumed compression ratio: one quarter. Most data compresses to less than a half, dumps to less than a quarter.
const COMPRESSES_TO: u64 = 4;
/// How many snapshots of a kind are looked at. The smallest of them counts, for one of them may be an outlier.
const LOOKED_AT: usize = 7;

/// The probable least size of a backup, and the reason for it.
struct Estimate {
    bytes: u64,
    reason: String,
}

/// Refuses a backup for which the remote has too little room. Where the remote doesn't say, nothing is refused.
pub(super) fn check(
    repository: &Repository,
    options: &BackupOptions,
    start: &Start<'_>,
    source: &mut dyn Source,
) -> Result<()> {
    if options.ignore_space {
        return Ok(());
    }
    let free = match repository.remote().free_space() {
        Ok(Some(free)) => free,
        Ok(None) => return Ok(()),
        Err(error) if error.kind.is_away() => return Err(repository::Error::from(error).into()),
        // The check is a courtesy. Real problems of the disk show when it is written to.
        Err(_) => return Ok(()),
    };
    let rows = repository.index().snapshots()?;
    let rows: Vec<&SnapshotRow> = rows.iter().filter(|row| row.header.set == options.set).collect();
    let Estimate { bytes, reason } = estimate(&rows, start, source);
    let there = left_over(repository, start)?;
    let needed = bytes.saturating_sub(there).max(FLOOR);
    if free >= needed {
        return Ok(());
    }
    let reason = if needed == FLOOR { "no backup is begun with less than one pack's room".to_owned() } else { reason };
    Err(Error::NoSpace(format!(
        "the backup of {} was not begun, and nothing was written: {} has {} free, and it needs about {} ({reason}); make \
         room there, or give --ignore-space where you know that it will fit",
        options.set,
        repository.remote().place(),
        shown(free),
        shown(needed),
    )))
}

/// The estimated size of the snapshot, by that of earlier ones of its set.
fn estimate(rows: &[&SnapshotRow], start: &Start<'_>, source: &mut dyn Source) -> Estimate {
    let stored = |row: &&SnapshotRow| row.about.totals.stored;
    if start.parent.is_some() {
        let incrementals = rows.iter().rev().filter(|row| row.header.parent.is_some());
        let bytes = incrementals.take(LOOKED_AT).map(stored).min().unwrap_or(0);
        return Estimate { bytes, reason: "as much as the smallest of the last incrementals stored".to_owned() };
    }
    if !start.rebase {
        let light = fulls(rows, false).take(LOOKED_AT).map(|row| row.about.totals.stored).min();
        let reason = "as much as the smallest of the last fulls stored".to_owned();
        return Estimate { bytes: light.unwrap_or(0), reason };
    }
    if let Some(last) = fulls(rows, true).next() {
        let reason = format!("as much as the last full that stored everything did, {}", last.id);
        return Estimate { bytes: last.about.totals.stored, reason };
    }
    let size = source.expected().unwrap_or(0);
    let reason = format!("a quarter of the data's {}, for it is all new", shown(size));
    Estimate { bytes: size / COMPRESSES_TO, reason }
}

/// The fulls that began a generation, or those that did not, the newest first.
fn fulls<'a>(rows: &'a [&SnapshotRow], rebased: bool) -> impl Iterator<Item = &'a SnapshotRow> {
    let before = |number: usize| number.checked_sub(1).map(|before| rows[before].about.generation);
    let begins = move |number: usize| before(number) != Some(rows[number].about.generation);
    let numbers = (0..rows.len()).rev();
    numbers
        .filter(move |&number| rows[number].header.parent.is_none() && begins(number) == rebased)
        .map(|number| rows[number])
}

/// Bytes of packs that a run which didn't reach its end left, or that a re-base keeps: they needn't be stored again.
fn left_over(repository: &Repository, start: &Start<'_>) -> Result<u64> {
    let index = repository.index();
    let rows = index.snapshots()?;
    let needed: HashSet<&PackId> = rows.iter().flat_map(|row| &row.header.packs).collect();
    let packs = index.packs()?;
    let spares = |number: u32, id: &PackId| start.shared.contains(&number) && (start.rebase || !needed.contains(id));
    Ok(packs.iter().filter(|pack| spares(pack.number, &pack.id)).map(|pack| pack.size).sum())
}

/// Bytes for people.
pub(super) fn shown(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_people_say_them() {
        let texts = [999, 20_000, 33_554_432, 12_345_678_901].map(shown);
        assert_eq!(texts, ["999 B", "0.02 MB", "33 MB", "12.3 GB"]);
    }
}
