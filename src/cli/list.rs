//! `varu list`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::entry::Untrusted;
use varu::id::{RepositoryId, SnapshotId};
use varu::index::SnapshotRow;
use varu::repository::{self, Changes, Repository};
use varu::time::{Clock, SystemClock, Timestamp};
use varu::warning::WarningKind;

use super::complete;
use super::context::{Context, json_text, print};
use super::exit::{ExitStatus, Failure};
use super::values::{TrustArgs, set_name, short};
use crate::terminal::human::{Side, Table};
use varu::job::amount::size;
use varu::job::open::OpenedRepositories;

/// List the chains and snapshots that can be restored.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this set's.
    #[arg(value_name = "SET", value_parser = set_name, add = ArgValueCandidates::new(complete::sets))]
    set: Option<String>,

    /// Only the newest N of each set.
    #[arg(long, value_name = "N")]
    last: Option<usize>,

    /// Only those with data from this time or after: 2026-11-20, "2 days ago", yesterday.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Show new bytes and delta depths, too.
    #[arg(short)]
    long: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    /// Prints a table of the snapshots.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let opened = context.machine.open_to_look(&self.trust.vouched(), &progress.shared())?;
        if let Some(set) = &self.set {
            opened.check_set(set, &context.machine)?;
        }
        let mut listing = Listing::read(&opened, self.set.as_deref())?;
        let since = self.since.as_ref().map(|since| context.time(since)).transpose()?;
        listing.retain(since, self.last);
        let warnings = progress
            .end(&listing.hidden.iter().map(|why| WarningKind::MissingSnapshot.warning(why)).collect::<Vec<_>>());
        match context.json {
            true => listing.print_json(context, &opened, &warnings)?,
            false => context.print(&listing.text(context, self.long))?,
        }
        let status = progress.say_warnings();
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
    /// Whether there are snapshots that are damaged, or lost ones.
    is_damaged: bool,
    /// Whether only some of them are meant.
    is_part: bool,
}

impl Listing {
    fn read(opened: &OpenedRepositories, set: Option<&str>) -> Result<Self, Failure> {
        let (mut rows, mut hidden, mut broken) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (repository, Changes { hidden: missing, gone, .. }) in opened.repositories.iter().rev() {
            let known = repository.index().snapshots().map_err(repository::Error::from)?;
            let recovered_recipes = repository.index().recovered_recipes().map_err(repository::Error::from)?;
            broken.extend(unrestorable(&known, gone, recovered_recipes));
            rows.extend(known.into_iter().map(|row| (*repository.id(), row)));
            hidden.extend(missing.clone());
        }
        let gaps = gaps(rows.iter().map(|(_, row)| row.header.sequence));
        rows.retain(|(_, row)| set.is_none_or(|set| row.header.set == set));
        Ok(Self {
            set: set.map(str::to_owned),
            rows,
            broken,
            gaps,
            hidden,
            is_damaged: opened.damaged().is_some(),
            is_part: false,
        })
    }

    /// Leaves out what is older than `since`, and all but the newest `last` of each set.
    fn retain(&mut self, since: Option<Timestamp>, last: Option<usize>) {
        if since.is_none() && last.is_none() {
            return;
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut kept: Vec<_> = std::mem::take(&mut self.rows).into_iter().rev().collect();
        kept.retain(|(_, row)| {
            let number = seen.entry(row.header.set.clone()).or_default();
            *number += 1;
            last.is_none_or(|last| *number <= last) && since.is_none_or(|since| row.header.data_time >= since)
        });
        self.rows = kept.into_iter().rev().collect();
        self.is_part = true;
        self.gaps.clear();
    }

    fn text(&self, context: &Context, long: bool) -> String {
        if self.rows.is_empty() {
            let of_set = self.set.as_ref().map(|set| format!(" of the set {set}")).unwrap_or_default();
            let which = match (self.is_part, self.is_damaged) {
                (true, _) => " that is meant",
                (false, true) => " that can be read",
                (false, false) => " yet",
            };
            return format!("there is no snapshot{of_set}{which}\n");
        }
        let now = SystemClock.now();
        // A chain is a full and the incrementals under it, so the sets stand one after the other.
        let mut by_set: BTreeMap<&str, Vec<&SnapshotRow>> = BTreeMap::new();
        for (_, row) in &self.rows {
            by_set.entry(&row.header.set).or_default().push(row);
        }
        let rows: Vec<(&SnapshotRow, String)> =
            by_set.into_values().flatten().map(|row| (row, notes(row, self.broken.get(&row.id).copied()))).collect();
        let table = match long {
            true => long_table(context, &rows, now),
            false => table(context, &rows, now),
        };
        let notes = std::iter::once("NOTES").chain(rows.iter().map(|(_, notes)| notes.as_str()));
        // The heading is no snapshot.
        let is_red = |(row, _): &(&SnapshotRow, String)| row.header.suspect || self.broken.contains_key(&row.id);
        let red: Vec<bool> = std::iter::once(false).chain(rows.iter().map(is_red)).collect();
        let table = coloured(&with_notes(&table, notes), &red);
        let gaps = self.gaps.iter().map(|(first, last)| match first == last {
            true => format!("the snapshot with sequence {first} isn't there any more\n"),
            false => format!("the snapshots with sequences {first} to {last} aren't there any more\n"),
        });
        format!("{table}{}", gaps.collect::<String>())
    }

    fn row_document(&self, repository: &Repository, row: &SnapshotRow) -> Result<serde_json::Value, Failure> {
        let body = repository.index().body(&row.id).map_err(repository::Error::from)?;
        let warnings = body.map(|body| body.warnings).unwrap_or_default();
        let mut document = snapshot_document(repository.id(), row, &warnings);
        document["broken"] = json!(self.broken.get(&row.id));
        Ok(document)
    }

    /// Prints the document piece by piece: what a snapshot's writer said of it may be long, and is held of one at a time.
    fn print_json(&self, context: &Context, opened: &OpenedRepositories, warnings: &[String]) -> Result<(), Failure> {
        let mut before = "{\"snapshots\":[";
        for (id, row) in &self.rows {
            let of_id = opened.repositories.iter().find(|(repository, _)| repository.id() == id);
            let Some((repository, _)) = of_id else { continue };
            print(before.as_bytes())?;
            print(json_text(&self.row_document(repository, row)?)?.as_bytes())?;
            before = ",";
        }
        if self.rows.is_empty() {
            print(before.as_bytes())?;
        }
        let rest = json_text(&json!({ "gaps": self.gaps, "hidden": self.hidden, "warnings": warnings }))?;
        context.print(&format!("],{}\n", rest.trim_start_matches('{')))
    }
}

/// Snapshots that the remote no longer has, and those that stand on one, but where a copy of its recipe stands in.
fn unrestorable(
    rows: &[SnapshotRow],
    gone: &[SnapshotId],
    recovered_recipes: Vec<SnapshotId>,
) -> BTreeMap<SnapshotId, &'static str> {
    let mut broken: BTreeMap<SnapshotId, &'static str> = gone.iter().map(|id| (*id, "MISSING")).collect();
    let known: BTreeSet<SnapshotId> = rows.iter().map(|row| row.id).chain(recovered_recipes).collect();
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

/// The rows with those of what can't be relied on in red, where a person looks at it.
fn coloured(rows: &[String], red: &[bool]) -> String {
    let shown = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let row = |(row, red): (&String, &bool)| match shown && *red {
        true => format!("\x1b[31m{row}\x1b[0m\n"),
        false => format!("{row}\n"),
    };
    rows.iter().zip(red).map(row).collect()
}

/// What a terminal shows in a line.
const WIDTH: usize = 80;

/// Each row of the table with its notes: behind it where that fits, else below it.
fn with_notes<'a>(table: &str, notes: impl Iterator<Item = &'a str>) -> Vec<String> {
    let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let with = |(line, notes): (&str, &str)| match notes {
        "" => line.to_owned(),
        notes if widest + 2 + notes.chars().count() <= WIDTH => format!("{line:<widest$}  {notes}"),
        notes => format!("{line}\n    {notes}"),
    };
    table.lines().zip(notes).map(with).collect()
}

/// How old data is, in the largest unit of which there are two.
fn age(data_time: Timestamp, now: Timestamp) -> String {
    let Ok(seconds) = u64::try_from(now.seconds() - data_time.seconds()) else { return "ahead".to_owned() };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}min", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn table(context: &Context, rows: &[(&SnapshotRow, String)], now: Timestamp) -> String {
    let mut table = Table::new([
        ("SNAPSHOT", Side::Left),
        ("SET", Side::Left),
        ("KIND", Side::Left),
        ("DATA FROM", Side::Left),
        ("AGE", Side::Right),
        ("SIZE", Side::Right),
        ("STORED", Side::Right),
    ]);
    for (row, _) in rows {
        let [id, set, data_time, age, size, _, stored, _] = cells(context, row, now);
        let kind = if row.header.parent.is_some() { "incr" } else { "full" };
        table.row([id, set, kind.to_owned(), data_time, age, size, stored]);
    }
    table.to_string()
}

fn long_table(context: &Context, rows: &[(&SnapshotRow, String)], now: Timestamp) -> String {
    let mut table = Table::new([
        ("SNAPSHOT", Side::Left),
        ("SET", Side::Left),
        ("KIND", Side::Left),
        ("DATA FROM", Side::Left),
        ("AGE", Side::Right),
        ("SIZE", Side::Right),
        ("NEW", Side::Right),
        ("STORED", Side::Right),
        ("DEPTH", Side::Right),
    ]);
    for (row, _) in rows {
        let [id, set, data_time, age, size, new, stored, depth] = cells(context, row, now);
        table.row([id, set, row.header.kind().to_string(), data_time, age, size, new, stored, depth]);
    }
    table.to_string()
}

/// What there is to know of a snapshot that isn't usual.
fn notes(row: &SnapshotRow, broken: Option<&str>) -> String {
    let header = &row.header;
    let suspect = header.suspect.then(|| "suspect".to_owned());
    let warned = (row.about.warnings > 0).then(|| "with warnings".to_owned());
    let tags = header.tags.iter().map(Untrusted::to_string);
    broken.map(str::to_owned).into_iter().chain(suspect).chain(warned).chain(tags).collect::<Vec<_>>().join(", ")
}

fn cells(context: &Context, row: &SnapshotRow, now: Timestamp) -> [String; 8] {
    let (header, totals) = (&row.header, &row.about.totals);
    [
        short(&row.id),
        header.set.clone(),
        context.machine.zone.short(header.data_time),
        age(header.data_time, now),
        size(totals.read),
        size(totals.new),
        size(totals.stored),
        row.about.depth.map(|depth| depth.to_string()).unwrap_or_default(),
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
pub fn snapshot_document(repository: &RepositoryId, row: &SnapshotRow, warnings: &[Untrusted]) -> serde_json::Value {
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
        "depth": row.about.depth,
        "decoded": row.about.decoded,
        "warnings": raw(warnings),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_short() {
        let now = Timestamp::from_seconds(1_000_000_000);
        let of = |seconds: i64| age(Timestamp::from_seconds(1_000_000_000 - seconds), now);
        assert_eq!(
            [of(0), of(119), of(120), of(7200), of(172_800), of(-1)],
            ["0s", "119s", "2min", "2h", "2d", "ahead"]
        );
    }

    #[test]
    fn notes_stand_behind_where_they_fit_and_else_below() {
        let table = format!("HEAD\n{}\nb\n", "a".repeat(70));
        let rows = with_notes(&table, ["NOTES", "suspect", "with warnings, monthly"].into_iter());
        assert_eq!(rows[1], format!("{}  suspect", "a".repeat(70)));
        assert_eq!(rows[2], "b\n    with warnings, monthly");
        assert!(rows.iter().flat_map(|row| row.lines()).all(|line| line.len() <= 80));
    }

    #[test]
    fn gaps_are_what_is_missing_between() {
        assert_eq!(gaps([2, 3, 5, 9, 10].into_iter()), [(4, 4), (6, 8)]);
        assert!(gaps([].into_iter()).is_empty() && gaps([7].into_iter()).is_empty());
    }
}
