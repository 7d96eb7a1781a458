//! `varu list`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

use serde_json::json;
use varu::entry::Untrusted;
use varu::id::{RepositoryId, SnapshotId};
use varu::index::SnapshotRow;
use varu::repository::{self, Changes};
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::open::Opened;
use super::words::{Trust, set_name, short};
use crate::terminal::human::{Side, Table, size};

/// List the chains and snapshots that can be restored.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this set's.
    #[arg(value_name = "SET", value_parser = set_name)]
    set: Option<String>,

    #[command(flatten)]
    trust: Trust,
}

impl Args {
    /// Prints a table of the snapshots.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let watch = context.watch();
        let opened = context.open_to_look(&self.trust, &watch)?;
        let listing = Listing::read(&opened, self.set.as_deref())?;
        let warnings =
            watch.end(&listing.hidden.iter().map(|why| WarningKind::MissingSnapshot.warning(why)).collect::<Vec<_>>());
        match context.json {
            true => context.print_json(&listing.document(&warnings))?,
            false => context.print(&listing.text(context))?,
        }
        let status = watch.say_warnings();
        Ok(if listing.hidden.is_empty() { status } else { ExitStatus::Damaged })
    }
}

/// What is listed.
struct Listing {
    set: Option<String>,
    /// Snapshots by sequence, with the id of their repository, the oldest repository id first.
    rows: Vec<(RepositoryId, SnapshotRow)>,
    /// What keeps snapshots from being restored.
    broken: BTreeMap<SnapshotId, &'static str>,
    /// Sequences that no snapshot has, each first and last.
    gaps: Vec<(u64, u64)>,
    hidden: Vec<String>,
}

impl Listing {
    fn read(opened: &Opened, set: Option<&str>) -> Result<Self, Failure> {
        let (mut rows, mut hidden, mut broken) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (repository, Changes { hidden: missing, gone, .. }) in opened.repositories.iter().rev() {
            let known = repository.index().snapshots().map_err(repository::Error::from)?;
            let stand_ins = repository.index().stand_ins().map_err(repository::Error::from)?;
            broken.extend(unrestorable(&known, gone, stand_ins));
            rows.extend(known.into_iter().map(|row| (*repository.id(), row)));
            hidden.extend(missing.clone());
        }
        let gaps = gaps(rows.iter().map(|(_, row)| row.header.sequence));
        rows.retain(|(_, row)| set.is_none_or(|set| row.header.set == set));
        Ok(Self { set: set.map(str::to_owned), rows, broken, gaps, hidden })
    }

    fn text(&self, context: &Context) -> String {
        if self.rows.is_empty() {
            let of_set = self.set.as_ref().map(|set| format!(" of the set {set}")).unwrap_or_default();
            return format!("there is no snapshot{of_set} yet\n");
        }
        let mut table = Table::new([
            ("SNAPSHOT", Side::Left),
            ("SET", Side::Left),
            ("KIND", Side::Left),
            ("DATA FROM", Side::Left),
            ("SIZE", Side::Right),
            ("NEW", Side::Right),
            ("STORED", Side::Right),
            ("DEPTH", Side::Right),
            ("NOTES", Side::Left),
        ]);
        // A chain is a full and the incrementals under it, so the sets stand one after the other.
        let mut by_set: BTreeMap<&str, Vec<&SnapshotRow>> = BTreeMap::new();
        for (_, row) in &self.rows {
            by_set.entry(&row.header.set).or_default().push(row);
        }
        let mut red = Vec::new();
        for row in by_set.into_values().flatten() {
            red.push(row.header.suspect || self.broken.contains_key(&row.id));
            table.row(cells(context, row, self.broken.get(&row.id).copied()));
        }
        let table = coloured(&table.to_string(), &red);
        let gaps = self.gaps.iter().map(|(first, last)| match first == last {
            true => format!("the snapshot with sequence {first} isn't there any more\n"),
            false => format!("the snapshots with sequences {first} to {last} aren't there any more\n"),
        });
        format!("{table}{}", gaps.collect::<String>())
    }

    fn row_document(&self, repository: &RepositoryId, row: &SnapshotRow) -> serde_json::Value {
        let mut document = snapshot_document(repository, row);
        document["broken"] = json!(self.broken.get(&row.id));
        document
    }

    fn document(&self, warnings: &[String]) -> serde_json::Value {
        json!({
            "snapshots": self.rows.iter().map(|(id, row)| self.row_document(id, row)).collect::<Vec<_>>(),
            "gaps": self.gaps,
            "hidden": self.hidden,
            "warnings": warnings,
        })
    }
}

/// Snapshots that the remote no longer has, and those that stand on one, but where a copy of its recipe stands in.
fn unrestorable(
    rows: &[SnapshotRow],
    gone: &[SnapshotId],
    stand_ins: Vec<SnapshotId>,
) -> BTreeMap<SnapshotId, &'static str> {
    let mut broken: BTreeMap<SnapshotId, &'static str> = gone.iter().map(|id| (*id, "MISSING")).collect();
    let known: BTreeSet<SnapshotId> = rows.iter().map(|row| row.id).chain(stand_ins).collect();
    // By sequence: a parent comes before what stands on it.
    for row in rows {
        if let Some(parent) = row.header.parent
            && (broken.contains_key(&parent.id) || !known.contains(&parent.id))
        {
            broken.entry(row.id).or_insert("its chain is BROKEN");
        }
    }
    broken
}

/// The table with the rows of what can't be relied on in red, where a person looks at it.
fn coloured(table: &str, red: &[bool]) -> String {
    let shown = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // The first line is the heading.
    let is_red = |number: usize| shown && number.checked_sub(1).and_then(|row| red.get(row)).copied().unwrap_or(false);
    let line = |(number, line): (usize, &str)| match is_red(number) {
        true => format!("\x1b[31m{line}\x1b[0m\n"),
        false => format!("{line}\n"),
    };
    table.lines().enumerate().map(line).collect()
}

fn cells(context: &Context, row: &SnapshotRow, broken: Option<&str>) -> [String; 9] {
    let (header, totals) = (&row.header, &row.about.totals);
    let suspect = header.suspect.then(|| "suspect".to_owned());
    let warned = (!row.about.warnings.is_empty()).then(|| "with warnings".to_owned());
    let notes: Vec<String> = broken
        .map(str::to_owned)
        .into_iter()
        .chain(suspect)
        .chain(warned)
        .chain(header.tags.iter().map(Untrusted::to_string))
        .collect();
    [
        short(&row.id),
        header.set.clone(),
        header.kind().to_string(),
        context.zone.short(header.data_time),
        size(totals.read),
        size(totals.new),
        size(totals.stored),
        row.about.depth().map(|depth| depth.to_string()).unwrap_or_default(),
        notes.join(", "),
    ]
}

/// The numbers that are missing between the first and the last, each first and last. `numbers` ascend.
fn gaps(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut before: Option<u64> = None;
    for number in numbers {
        if let Some(before) = before
            && number > before + 1
        {
            gaps.push((before + 1, number - 1));
        }
        before = Some(number);
    }
    gaps
}

/// Texts for a JSON document, which escapes by itself.
fn raw(texts: &[Untrusted]) -> Vec<&str> {
    texts.iter().map(Untrusted::raw).collect()
}

/// A snapshot as JSON documents show it.
pub fn snapshot_document(repository: &RepositoryId, row: &SnapshotRow) -> serde_json::Value {
    let (header, totals) = (&row.header, &row.about.totals);
    json!({
        "id": row.id,
        "repository": repository,
        "set": header.set,
        "kind": header.kind().to_string(),
        "chain": header.chain,
        "parent": header.parent.map(|parent| parent.id),
        "sequence": header.sequence,
        "data_time": header.data_time.to_string(),
        "stored_time": header.stored_time.to_string(),
        "tags": raw(&header.tags),
        "suspect": header.suspect,
        "host": row.about.host.raw(),
        "environment": row.about.environment.raw(),
        "read": totals.read,
        "new": totals.new,
        "stored": totals.stored,
        "depth": row.about.depth(),
        "decoded": row.about.decoded(),
        "warnings": raw(&row.about.warnings),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_missing_between() {
        assert_eq!(gaps([2, 3, 5, 9, 10].into_iter()), [(4, 4), (6, 8)]);
        assert!(gaps([].into_iter()).is_empty() && gaps([7].into_iter()).is_empty());
    }
}
