//! `varu diff`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::diff::{Change, Difference, difference_of};
use varu::format::recipe::{PackRef, Run};
use varu::id::{ChunkId, PackId, SnapshotId};
use varu::repository::{self, Cost, Repository};

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::lines::PrintedList;
use super::values::{Pick, TrustArgs, short};
use varu::job::amount::{counted, size};

/// Show what changed between two snapshots.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier one: an id, the beginning of one, "latest" of all sets, or SET@yesterday, SET@2026-11-27.
    #[arg(value_name = "A", add = ArgValueCandidates::new(complete::snapshots))]
    one: Pick,

    /// The later one.
    #[arg(value_name = "B", add = ArgValueCandidates::new(complete::snapshots))]
    other: Pick,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    /// Prints a line for each stream that differs.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let opened = context.machine.open_to_look(&self.trust.vouched(), &progress.shared())?;
        let one = context.find(&opened, &self.one)?;
        let other = context.find(&opened, &self.other)?;
        let (a, b) = (&one.snapshot.id, &other.snapshot.id);
        if one.repository.id() != other.repository.id() {
            return Err(Failure::usage(format!(
                "{} and {} were written with different writer keys, so their content can't be compared",
                short(a),
                short(b)
            )));
        }
        let repository = &one.repository;
        let (earlier, later) = (repository.layers(a)?, repository.layers(b)?);
        let needed = other.snapshot.header.packs.iter().copied();
        let own = needed.filter(|pack| one.snapshot.header.packs.binary_search(pack).is_err()).collect();
        let mut costs = repository.costs(later.packs(), &own);
        let packs = Packs { repository, numbers: RefCell::default() };
        let tables = [earlier.packs(), later.packs()];
        let warnings = progress.end(&[one.warnings, other.warnings].concat());
        let mut printed = Printed::begin(context, a, b)?;
        for pair in earlier.compare(&later) {
            let (before, after) = pair?;
            let chunks = |of_later: bool, run: &Run| packs.chunks(tables[usize::from(of_later)], run);
            if let Some(found) = difference_of(before.as_ref(), after.as_ref(), chunks)? {
                let cost = after.as_ref().map(|stream| costs.of(stream)).transpose()?;
                printed.add(&found, cost.as_ref())?;
            }
        }
        printed.end(&warnings)?;
        Ok(progress.say_warnings())
    }
}

/// The packs of two recipes.
struct Packs<'a> {
    repository: &'a Arc<Repository>,
    numbers: RefCell<HashMap<PackId, u32>>,
}

impl Packs<'_> {
    /// Ids and lengths of a run's chunks.
    fn chunks(&self, table: &[PackRef], run: &Run) -> Result<Vec<(ChunkId, u32)>, Failure> {
        let damaged = || Failure::new(ExitStatus::Damaged, "a recipe names chunks that its packs don't have");
        let pack = table.get(run.pack as usize).ok_or_else(damaged)?;
        let known = self.numbers.borrow().get(&pack.id).copied();
        let number = match known {
            Some(number) => number,
            None => {
                let row = self.repository.enter_packs(std::iter::once(pack.id), table, None)?.pop();
                let row = row.ok_or_else(damaged)?.map_err(|why| Failure::new(ExitStatus::Damaged, why))?;
                self.numbers.borrow_mut().insert(pack.id, row.number);
                row.number
            }
        };
        let directory = self.repository.index().directory(number);
        let directory = directory.map_err(repository::Error::from)?.ok_or_else(damaged)?;
        let range = directory.run_range(run.segment, run.first, run.count).ok_or_else(damaged)?;
        let lengths = directory.lengths[range.clone()].iter().copied();
        Ok(directory.ids[range].iter().copied().zip(lengths).collect())
    }
}

/// Prints differences as they are found.
struct Printed {
    json: bool,
    lines: PrintedList,
    added: u64,
    removed: u64,
    changed: u64,
    metadata: u64,
}

impl Printed {
    fn begin(context: &Context, a: &SnapshotId, b: &SnapshotId) -> Result<Self, Failure> {
        let before = json!({ "a": a, "b": b });
        let lines = PrintedList::begin(context, &before, "differences")?;
        Ok(Self { json: context.json, lines, added: 0, removed: 0, changed: 0, metadata: 0 })
    }

    /// A line, as `+` added, `-` removed, `M` changed, `m` only its metadata changed.
    fn add(&mut self, one: &Difference, cost: Option<&Cost>) -> Result<(), Failure> {
        if self.json {
            return self.lines.document(&document(one, cost));
        }
        let (before, after) = (one.before.unwrap_or(0), one.after.unwrap_or(0));
        let cost = cost.filter(|cost| cost.stored > 0);
        let stored = cost.map(|cost| format!(", {} stored at depth {}", size(cost.stored), cost.depth));
        let stored = stored.unwrap_or_default();
        let (letter, what) = match &one.change {
            Change::Added => ('+', size(after) + &stored),
            Change::Removed => ('-', size(before)),
            Change::Content { new_bytes } => {
                ('M', format!("{} -> {}, {} new{stored}", size(before), size(after), size(*new_bytes)))
            }
            Change::Metadata => ('m', String::new()),
        };
        *match letter {
            '+' => &mut self.added,
            '-' => &mut self.removed,
            'M' => &mut self.changed,
            _ => &mut self.metadata,
        } += 1;
        self.lines.text(format!("{letter} {}  {what}", one.name).trim_end())
    }

    fn end(mut self, warnings: &[String]) -> Result<(), Failure> {
        if !self.json {
            let Self { added, removed, changed, metadata, .. } = self;
            self.lines.text(&format!(
                "{}: {added} added, {removed} removed, {changed} changed, {metadata} in metadata alone",
                counted(added + removed + changed + metadata, "difference")
            ))?;
        }
        self.lines.end(warnings)
    }
}

fn document(one: &Difference, cost: Option<&Cost>) -> serde_json::Value {
    let cost = cost.filter(|_| matches!(one.change, Change::Added | Change::Content { .. }));
    let (change, new_bytes) = match &one.change {
        Change::Added => ("added", None),
        Change::Removed => ("removed", None),
        Change::Content { new_bytes } => ("changed", Some(new_bytes)),
        Change::Metadata => ("metadata", None),
    };
    json!({
        "name": one.name.to_string(), "change": change, "before": one.before, "after": one.after, "new_bytes": new_bytes,
        "stored": cost.map(|cost| cost.stored), "depth": cost.map(|cost| cost.depth)
    })
}
