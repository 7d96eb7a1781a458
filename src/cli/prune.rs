//! `varu prune` and `varu undelete`.

use std::time::Duration;

use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::job::amount::{counted, size};
use varu::job::prune::{PruneRequest, run, undelete};
use varu::prune::{ChainReport, PruneReport};
use varu::repository::Chosen;
use varu::retention::Reason;
use varu::shell;
use varu::time::{Timestamp, format_duration};

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::values::{SnapshotWord, TrustArgs, short};

/// Delete the chains that no rule keeps.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what stays and why, what goes and when, and what that frees.
    #[arg(long)]
    dry_run: bool,

    /// Delete at once what no rule keeps, without marks and without their grace: for a disk that is full. Ages are counted by this
    /// machine's clock.
    #[arg(long, conflicts_with = "dry_run")]
    now: bool,

    /// Let the last snapshots go of a path or a database that newer ones of its set lack. Can be given several times.
    #[arg(long, value_name = "NAME")]
    dropped: Vec<String>,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    /// Prunes, and says what became of each chain.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let request = PruneRequest {
            dry_run: self.dry_run,
            now: self.now,
            dropped: self.dropped.into_iter().collect(),
            trust: self.trust.vouched(),
        };
        let report = run(&request, &context.machine, &progress.shared())?;
        let warnings = progress.end(&report.warnings);
        let grace = context.machine.configuration.retention.grace;
        let summary = PruneSummary { report: &report, dry_run: self.dry_run, grace };
        match context.json {
            true => context.print_json(&summary.document(&warnings))?,
            // A dry run is asked for what it says.
            false if self.dry_run => context.print(&summary.text(context))?,
            false => context.tell(&summary.text(context))?,
        }
        Ok(progress.say_warnings())
    }
}

struct PruneSummary<'a> {
    report: &'a PruneReport,
    dry_run: bool,
    grace: Duration,
}

impl PruneSummary<'_> {
    fn text(&self, context: &Context) -> String {
        let mut text = String::new();
        let mut set = None;
        for chain in &self.report.chains {
            if set != Some(&chain.verdict.set) {
                set = Some(&chain.verdict.set);
                text += &format!("{}\n", chain.verdict.set);
            }
            text += &self.chain(context, chain);
        }
        text + &self.sums()
    }

    fn chain(&self, context: &Context, chain: &ChainReport) -> String {
        let time = |time: Timestamp| context.machine.zone.short(time);
        let span = match (chain.rows.first(), chain.rows.last()) {
            (Some(first), Some(last)) if first.id != last.id => {
                format!("{} to {}", time(first.header.data_time), time(last.header.data_time))
            }
            (Some(first), _) => time(first.header.data_time),
            _ => String::new(),
        };
        let fate = match chain.verdict.goes() {
            false => format!("stays: {}", reasons(context, chain)),
            true => format!("goes{}, and frees {}", self.when(context, chain), size(chain.alone)),
        };
        let ids: Vec<String> = chain.rows.iter().map(|row| short(&row.id)).collect();
        format!("  {span}, {}: {fate}\n    {}\n", counted(chain.rows.len() as u64, "snapshot"), ids.join(" "))
    }

    fn when(&self, context: &Context, chain: &ChainReport) -> String {
        match chain.due {
            _ if self.report.append_only => " when the host prunes".to_owned(),
            Some(due) => format!(" at the first prune after {}", context.machine.zone.short(due)),
            None if self.dry_run => format!(" {} after the next prune marks it", format_duration(self.grace)),
            None => format!(" at the first prune in {}", format_duration(self.grace)),
        }
    }

    fn sums(&self) -> String {
        let report = self.report;
        let mut text = String::new();
        if report.append_only {
            text += "this account can't delete: the backup host prunes, by its own policy (varu host prune)\n";
        } else if !self.dry_run {
            text += &format!(
                "{} deleted, {} with them: {}; {} marked\n",
                counted(report.deleted.len() as u64, "snapshot"),
                counted(report.packs_deleted, "pack"),
                size(report.bytes_deleted),
                counted(report.marked.len() as u64, "snapshot"),
            );
        }
        let (held, bases) = report.held;
        text += &format!("{} go when all marks are due; {} stay", size(report.bytes_marked), size(held));
        if bases > 0 {
            text += &format!(", {} of them only as bases of the newest snapshots", size(bases));
        }
        text += "\n";
        let (packs, bytes) = report.unneeded;
        if packs > 0 {
            text +=
                &format!("{}, {}, belong to no snapshot and go after 14 days\n", counted(packs, "pack"), size(bytes));
        }
        text
    }

    fn document(&self, warnings: &[String]) -> serde_json::Value {
        let report = self.report;
        let chains = report.chains.iter().map(|chain| {
            json!({
                "set": chain.verdict.set,
                "chain": chain.verdict.chain,
                "snapshots": chain.verdict.snapshots,
                "goes": chain.verdict.goes(),
                "reasons": chain.verdict.reasons.iter().map(reason_document).collect::<Vec<_>>(),
                "until": chain.verdict.until().map(|until| until.to_string()),
                "due": chain.due.map(|due| due.to_string()),
                "bytes": chain.alone,
            })
        });
        json!({
            "dry_run": self.dry_run,
            "append_only": report.append_only,
            "chains": chains.collect::<Vec<_>>(),
            "marked": report.marked,
            "deleted": report.deleted,
            "packs_deleted": report.packs_deleted,
            "bytes_deleted": report.bytes_deleted,
            "bytes_marked": report.bytes_marked,
            "bytes_held": report.held.0,
            "bytes_only_for_bases": report.held.1,
            "unneeded_packs": report.unneeded.0,
            "unneeded_bytes": report.unneeded.1,
            "warnings": warnings,
        })
    }
}

fn reasons(context: &Context, chain: &ChainReport) -> String {
    let said = chain.verdict.reasons.iter().map(|reason| match reason {
        Reason::Young { until } => format!("young until {}", context.machine.zone.short(*until)),
        Reason::Silent { newest } => {
            format!(
                "the set's newest snapshot is of {}, and ages are counted at it",
                context.machine.zone.short(*newest)
            )
        }
        Reason::Newest => "no newer chain is good".to_owned(),
        Reason::Counted => "keep_chains counts it".to_owned(),
        Reason::Last { what } => format!(
            "no newer one has {}; once that was dropped for good, --dropped {} lets it go",
            what,
            shell::quoted(&what.to_string())
        ),
        Reason::Tagged { tag, snapshot, until } => {
            let until = until.map(|until| format!(" until {}", context.machine.zone.short(until))).unwrap_or_default();
            format!("the tag {tag} of {} pins it{until}", short(snapshot))
        }
        Reason::Gap { until } => {
            format!("a long gap is before the last snapshots, until {}", context.machine.zone.short(*until))
        }
    });
    said.collect::<Vec<_>>().join("; ")
}

fn reason_document(reason: &Reason) -> serde_json::Value {
    match reason {
        Reason::Young { until } => json!({ "reason": "young", "until": until.to_string() }),
        Reason::Silent { newest } => json!({ "reason": "silent", "newest": newest.to_string() }),
        Reason::Newest => json!({ "reason": "newest" }),
        Reason::Counted => json!({ "reason": "counted" }),
        Reason::Last { what } => json!({ "reason": "last", "what": what.raw() }),
        Reason::Tagged { tag, snapshot, until } => {
            json!({ "reason": "tagged", "tag": tag, "snapshot": snapshot, "until": until.map(|until| until.to_string()) })
        }
        Reason::Gap { until } => json!({ "reason": "gap", "until": until.to_string() }),
    }
}

/// Remove the deletion mark of a snapshot.
#[derive(Debug, clap::Args)]
pub struct Undelete {
    /// The snapshot.
    #[arg(value_name = "SNAPSHOT", add = ArgValueCandidates::new(complete::ids))]
    snapshot: SnapshotWord,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Undelete {
    /// Unmarks the snapshot and all that its chain has before it.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let trust = self.trust.vouched();
        let report = undelete(&Chosen::from(&self.snapshot), &trust, &context.machine, &progress.shared())?;
        let warnings = progress.end(&report.warnings);
        let (id, unmarked) = (report.snapshot.short(), report.unmarked);
        match (context.json, unmarked.len() as u64) {
            (true, _) => context.print_json(&json!({ "unmarked": unmarked, "warnings": warnings }))?,
            (false, 0) => context.tell(&format!("snapshot {id} and those before it in its chain had no mark\n"))?,
            (false, count) => context.tell(&format!(
                "{} unmarked. The next prune marks them again unless a rule keeps them: raise keep in [retention], or give \
                 their tag a rule\n",
                counted(count, "snapshot")
            ))?,
        }
        Ok(progress.say_warnings())
    }
}
