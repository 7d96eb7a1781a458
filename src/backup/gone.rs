//! Snapshots that this machine had seen and that somebody else removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::Result;
use crate::id::ChainId;
use crate::index::SnapshotRow;
use crate::repository::{Gone, Repository};
use crate::warning::{Warning, WarningKind};

/// Most snapshots that one warning names.
const NAMED: usize = 5;

/// Says which snapshots are gone though no policy that keeps for `keep` lets them go.
///
/// A backup host prunes whole chains, and only where they are older than its policy says and the set has a newer one.
pub(super) fn unexpected(repository: &Repository, keep: Duration) -> Result<Option<Warning>> {
    let gone = repository.take_gone()?;
    if gone.is_empty() {
        return Ok(None);
    }
    let rows = repository.index().snapshots()?;
    Ok(judge(&gone, &rows, keep).map(|(ids, count)| {
        let more = if count > ids.len() { format!(" and {} more", count - ids.len()) } else { String::new() };
        WarningKind::MissingSnapshot.warning(format!(
            "snapshots that were seen before are gone from {}, and this machine didn't delete them: {}{more}. A policy there keeps \
             less than `keep` here says, or somebody took them away; while their packs are there, `varu index rebuild --salvage` \
             brings them back",
            repository.remote().place(),
            ids.join(", ")
        ))
    }))
}

fn judge(gone: &[Gone], rows: &[SnapshotRow], keep: Duration) -> Option<(Vec<String>, usize)> {
    let left: BTreeSet<ChainId> = rows.iter().map(|row| row.header.chain).collect();
    let mut chains: BTreeMap<ChainId, Vec<&Gone>> = BTreeMap::new();
    for gone in gone {
        chains.entry(gone.chain).or_default().push(gone);
    }
    let by_policy = |chain: &ChainId, members: &[&Gone]| {
        let last = members.iter().map(|gone| gone.time).max();
        let newest = rows.iter().filter(|row| row.header.set == members[0].set).map(|row| row.header.data_time).max();
        let old = newest.zip(last).is_some_and(|(newest, last)| last.after(keep) <= newest);
        old && !left.contains(chain)
    };
    let lost: Vec<&Gone> = chains
        .iter()
        .filter(|(chain, members)| !by_policy(chain, members))
        .flat_map(|(_, members)| members)
        .copied()
        .collect();
    let text = |gone: &&Gone| format!("{} of {} from {}", gone.id, gone.set, gone.time);
    (!lost.is_empty()).then(|| (lost.iter().take(NAMED).map(text).collect(), lost.len()))
}
