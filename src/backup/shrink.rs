//! Detection of a set that shrank suspiciously.

use super::BackupOptions;
use super::parent_recipe::add_to_roots;
use super::start::Start;
use crate::entry::StreamName;
use crate::error::Result;
use crate::format::snapshot::Totals;
use crate::repository::Repository;

/// Why the snapshot is suspect, measured against the set's newest one that isn't; None where it isn't.
pub(super) fn shrunk(
    repository: &Repository,
    options: &BackupOptions,
    start: &Start<'_>,
    root_bytes: &[u64],
    totals: &Totals,
    now: Option<u64>,
) -> Result<Option<String>> {
    let Some(most) = options.max_shrink.filter(|most| *most < 100) else { return Ok(None) };
    let rows = repository.index().snapshots()?;
    let before = rows.into_iter().rev().find(|row| row.header.set == options.set && !row.header.suspect);
    let Some(before) = before else { return Ok(None) };
    let body = repository.index().body(&before.id)?;
    let rows_before = body.and_then(|body| body.facts.rows);
    if let Some(why) = judge(most, (rows_before, before.about.totals.read), totals, now) {
        return Ok(Some(why));
    }
    if options.roots.is_empty() {
        return Ok(None);
    }
    let known = start.before.as_ref().is_some_and(|newest| newest.id == before.id);
    let bytes_before = match start.recipe.as_ref().filter(|_| known) {
        Some(recipe) => recipe.root_bytes.clone(),
        None => {
            let mut bytes = vec![0; options.roots.len()];
            for stream in repository.layers(&before.id)?.streams() {
                let entry = stream?.entry;
                add_to_roots(&options.roots, &entry.name, entry.size, &mut bytes);
            }
            bytes
        }
    };
    Ok(emptied(&options.roots, &bytes_before, root_bytes))
}

/// The meaning of a suspect snapshot, and the remedy.
fn verdict(what: &str) -> String {
    format!(
        "{what}: the snapshot is stored, but it is suspect, and `latest` stays the one before; if that is right, back up once \
         more with --accept-shrink"
    )
}

/// The first of the folders that had bytes before and has none now: a disk that isn't mounted, most likely.
fn emptied(roots: &[StreamName], before: &[u64], now: &[u64]) -> Option<String> {
    let (root, (before, _)) =
        roots.iter().zip(before.iter().zip(now)).find(|(_, (before, now))| **before > 0 && **now == 0)?;
    Some(verdict(&format!("/{root} had {before} bytes before and has none now")))
}

fn judge(most: u8, (rows, read): (Option<u64>, u64), totals: &Totals, now: Option<u64>) -> Option<String> {
    let lost = |before: u64, now: u64| {
        let lost = before.saturating_sub(now);
        let share = (u128::from(lost) * 100).checked_div(u128::from(before)).unwrap_or(0);
        // More than so many percent, to the byte.
        (u128::from(lost) * 100 > u128::from(before) * u128::from(most)).then_some(share)
    };
    let say = |share: u128, before: u64, now: u64, what: &str| {
        verdict(&format!(
            "the set shrank by {share} %, from {before} to {now} {what}, more than the {most} % of max_shrink"
        ))
    };
    if let (Some(before), Some(now)) = (rows, now)
        && let Some(share) = lost(before, now)
    {
        return Some(say(share, before, now, "rows"));
    }
    lost(read, totals.read).map(|share| say(share, read, totals.read, "bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(most: u8, before: (u64, u64), now: (u64, u64)) -> Option<String> {
        let totals = |read| Totals { read, ..Totals::default() };
        judge(most, (Some(before.1), before.0), &totals(now.0), Some(now.1))
    }

    #[test]
    fn a_set_that_lost_more_than_allowed_is_suspect() {
        assert!(judged(50, (10 << 20, 5000), (1 << 20, 5000)).unwrap().contains("by 90 %"));
        assert!(judged(50, (10 << 20, 5000), (10 << 20, 2000)).unwrap().contains("from 5000 to 2000 rows"));
        assert_eq!(judged(50, (10 << 20, 5000), (5 << 20, 2500)), None);
        assert_eq!(judged(95, (10 << 20, 5000), (1 << 20, 500)), None);
        assert!(judged(50, (9, 0), (0, 0)).unwrap().contains("from 9 to 0 bytes"), "nothing is too little to judge");
        assert!(judged(50, (100, 9), (100, 4)).unwrap().contains("from 9 to 4 rows"));
        assert_eq!(judged(50, (0, 0), (0, 0)), None);
        assert_eq!(judged(50, (1000, 999), (1 << 30, 1 << 30)), None);
    }
}
