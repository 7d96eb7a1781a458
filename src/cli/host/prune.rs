//! `varu host prune`.

use std::path::PathBuf;

use serde_json::{Map, json};
use varu::host::Places;
use varu::host::prune::{Fate, HostPruneOptions, HostPruneReport, KeptReason, prune};
use varu::retention::Reason;
use varu::time::SystemClock;

use super::{End, PATIENCE, account, damage_json, damage_text};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::cli::values::short;
use crate::config::load_policy;
use crate::terminal::human::one_line;
use varu::job::amount::{counted, size};

/// Delete what root's policy keeps no longer, by the times of arrival. What arrived is accepted before.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The accounts [default: all].
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    accounts: Vec<String>,

    /// Only say what would go, and why the rest stays.
    #[arg(long)]
    dry_run: bool,

    /// The policy [default: /etc/varu/host.toml, where there is one].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Args {
    /// Prunes and says what went.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let policy = load_policy(self.policy.as_deref())?;
        let dry_run = self.dry_run;
        let options = HostPruneOptions { places, accounts: self.accounts, wait: PATIENCE, policy, dry_run };
        let progress = context.progress();
        let reports = prune(&options, &SystemClock, &*progress, &context.machine.interrupt)?;
        let mut end = End::new(&progress);
        for report in reports {
            let (line, document) = (text(context, &report, dry_run), document(&report));
            end.account(&report.account, line, document, &report.warnings, !report.damage.is_empty(), report.failure);
        }
        end.finish(context, Map::from_iter([("dry_run".to_owned(), dry_run.into())]))
    }
}

fn text(context: &Context, report: &HostPruneReport, dry_run: bool) -> String {
    let account = &report.account;
    let mut text = damage_text(account, &report.damage);
    for fate in report.snapshots.iter().filter(|fate| dry_run || fate.reasons.is_empty()) {
        let why: Vec<String> = fate.reasons.iter().map(|why| one_line(&reason(context, why))).collect();
        let why = if why.is_empty() { "goes".to_owned() } else { format!("stays: {}", why.join("; ")) };
        let arrival = context.machine.zone.short(fate.arrival);
        text += &format!("{account}: {}  {arrival}  {}: {why}\n", short(&fate.id), fate.set);
    }
    if report.failure.is_some() {
        return text;
    }
    if !report.damage.is_empty() {
        return text + &format!("{account}: nothing was deleted, because something is damaged\n");
    }
    let gone = report.snapshots.iter().filter(|fate| fate.reasons.is_empty()).count() as u64;
    let verb = if dry_run { "would go" } else { "went" };
    let (snapshots, packs) = (counted(gone, "snapshot"), counted(report.packs, "pack"));
    text + &format!("{account}: {snapshots} and {packs} {verb} ({})\n", size(report.freed))
}

fn reason(context: &Context, why: &KeptReason) -> String {
    let day = |time| context.machine.zone.short(time);
    match why {
        KeptReason::Rule(Reason::Young { until }) => format!("young until {}", day(*until)),
        KeptReason::Rule(Reason::Silent { newest }) => {
            format!("the newest of its set arrived at {}, and ages are counted at it", day(*newest))
        }
        KeptReason::Rule(Reason::Newest) => "no newer chain of its set is whole and has been here as long".to_owned(),
        KeptReason::Rule(Reason::Last { what }) => format!("the last that has {what}"),
        KeptReason::Rule(Reason::Counted) => "among the newest chains".to_owned(),
        KeptReason::Rule(Reason::Tagged { tag, until: Some(until), .. }) => format!("tag {tag} until {}", day(*until)),
        KeptReason::Rule(Reason::Tagged { tag, until: None, .. }) => format!("among the newest with tag {tag}"),
        KeptReason::Rule(Reason::Gap { until }) => format!("nothing goes after a long gap until {}", day(*until)),
        KeptReason::Held(id) => format!("{} is held", short(id)),
        KeptReason::Parent(id) => format!("{} stands on it", short(id)),
        KeptReason::Damaged => "something of it is damaged: mend it or give it up".to_owned(),
    }
}

fn document(report: &HostPruneReport) -> serde_json::Value {
    let word = |why: &KeptReason| match why {
        KeptReason::Rule(Reason::Young { .. }) => "young",
        KeptReason::Rule(Reason::Silent { .. }) => "silent",
        KeptReason::Rule(Reason::Newest) => "newest",
        KeptReason::Rule(Reason::Counted) => "counted",
        KeptReason::Rule(Reason::Last { .. }) => "last",
        KeptReason::Rule(Reason::Tagged { .. }) => "tagged",
        KeptReason::Rule(Reason::Gap { .. }) => "gap",
        KeptReason::Held(_) => "held",
        KeptReason::Parent(_) => "parent",
        KeptReason::Damaged => "damaged",
    };
    let snapshot = |fate: &Fate| {
        json!({
            "id": fate.id,
            "set": fate.set,
            "arrival": fate.arrival.to_string(),
            "stays": fate.reasons.iter().map(word).collect::<Vec<_>>(),
        })
    };
    json!({
        "snapshots": report.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "packs": report.packs,
        "freed": report.freed,
        "damage": damage_json(&report.damage),
    })
}
