//! `varu diff`.

use std::collections::HashMap;
use std::sync::Arc;

use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::diff::{Change, Difference, diff};
use varu::entry::StreamName;
use varu::format::recipe::{Recipe, Run};
use varu::id::{ChunkId, PackId};
use varu::index::SnapshotRow;
use varu::repository::{self, Cost, Repository};

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
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
        let (earlier, later) = (repository.recipe(a)?, repository.recipe(b)?);
        let packs = Packs::find(repository, [&earlier, &later])?;
        let found = diff(&earlier, &later, |recipe, run| packs.chunks(recipe, run))?;
        let costs = costs(repository, (&one.snapshot, &other.snapshot), &later)?;
        let warnings = progress.end(&[one.warnings, other.warnings].concat());
        match context.json {
            true => {
                let differences: Vec<_> = found.iter().map(|one| document(one, costs.get(&one.name))).collect();
                context.print_json(&json!({ "a": a, "b": b, "differences": differences, "warnings": warnings }))?;
            }
            false => context.print(&text(&found, &costs))?,
        }
        Ok(progress.say_warnings())
    }
}

/// What the streams of the later snapshot take in packs that the earlier one doesn't need.
fn costs(
    repository: &Repository,
    (earlier, later): (&SnapshotRow, &SnapshotRow),
    recipe: &Recipe,
) -> Result<HashMap<StreamName, Cost>, Failure> {
    let needed = later.header.packs.iter().copied();
    let own = needed.filter(|pack| earlier.header.packs.binary_search(pack).is_err()).collect();
    let names = recipe.streams.iter().map(|stream| stream.entry.name.clone());
    Ok(names.zip(repository.costs(recipe, &own)?).collect())
}

/// The packs of two recipes.
struct Packs<'a> {
    repository: &'a Arc<Repository>,
    numbers: HashMap<PackId, u32>,
}

impl<'a> Packs<'a> {
    fn find(repository: &'a Arc<Repository>, recipes: [&Recipe; 2]) -> Result<Self, Failure> {
        let mut numbers = HashMap::new();
        for recipe in recipes {
            let used = recipe.used_packs().into_iter().map(|number| recipe.packs[number as usize].id);
            for row in repository.enter_packs(used, recipe, None)? {
                let row = row.map_err(|why| Failure::new(ExitStatus::Damaged, why))?;
                numbers.insert(row.id, row.number);
            }
        }
        Ok(Self { repository, numbers })
    }

    /// Ids and lengths of a run's chunks.
    fn chunks(&self, recipe: &Recipe, run: &Run) -> Result<Vec<(ChunkId, u32)>, Failure> {
        let damaged = || Failure::new(ExitStatus::Damaged, "a recipe names chunks that its packs don't have");
        let pack = recipe.packs.get(run.pack as usize).and_then(|pack| self.numbers.get(&pack.id));
        let directory = self.repository.index().directory(*pack.ok_or_else(damaged)?);
        let directory = directory.map_err(repository::Error::from)?.ok_or_else(damaged)?;
        let range = directory.run_range(run.segment, run.first, run.count).ok_or_else(damaged)?;
        let lengths = directory.lengths[range.clone()].iter().copied();
        Ok(directory.ids[range].iter().copied().zip(lengths).collect())
    }
}

/// A line for each stream, as `+` added, `-` removed, `M` changed, `m` only its metadata changed.
fn text(found: &[Difference], costs: &HashMap<StreamName, Cost>) -> String {
    let (mut added, mut removed, mut changed, mut metadata) = (0, 0, 0, 0);
    let mut text = String::new();
    for one in found {
        let (before, after) = (one.before.unwrap_or(0), one.after.unwrap_or(0));
        let cost = costs.get(&one.name).filter(|cost| cost.stored > 0);
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
            '+' => &mut added,
            '-' => &mut removed,
            'M' => &mut changed,
            _ => &mut metadata,
        } += 1_u64;
        text += format!("{letter} {}  {what}", one.name).trim_end();
        text.push('\n');
    }
    text + &format!(
        "{}: {added} added, {removed} removed, {changed} changed, {metadata} in metadata alone\n",
        counted(found.len() as u64, "difference")
    )
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
