//! `varu verify`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;
use varu::progress::Progress;
use varu::repository::Repository;
use varu::time::{SystemClock, format_duration};
use varu::verify::{Damage, Level, VerifyOptions, VerifyReport, verify};
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::values::{TrustArgs, sample, short};
use crate::terminal::human::one_line;
use varu::job::amount::{counted, rate, size};

/// Check that stored objects are intact.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How deep.
    #[arg(long, value_parser = level(), default_value = Level::Structure.word())]
    level: Level,

    /// Read only this share of the packs, drawn at random.
    #[arg(long, value_name = "N%", value_parser = sample)]
    sample: Option<f64>,

    #[command(flatten)]
    trust: TrustArgs,
}

/// Reads how deep a verification looks.
fn level() -> impl TypedValueParser<Value = Level> {
    let values = [
        PossibleValue::new(Level::Structure.word())
            .help("Every object is there, every reference resolves, every pack has its hash. Needs no identity"),
        PossibleValue::new(Level::Data.word())
            .help("And every segment opens, every chunk has its id. Needs the identity"),
    ];
    PossibleValuesParser::new(values).map(|word| match word == Level::Data.word() {
        true => Level::Data,
        false => Level::Structure,
    })
}

impl Args {
    /// Verifies and names every damage.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let level = self.level;
        let mut opened =
            context.machine.open_unseen(&self.trust.vouched(), level == Level::Data, &progress.shared())?;
        let options = VerifyOptions { level, sample: self.sample.unwrap_or(1.0) };
        let started = Instant::now();
        let mut reports = Vec::new();
        for (repository, changes) in &mut opened.repositories {
            let mut report = verify(repository, &options, &SystemClock, &*progress, &context.machine.interrupt)?;
            if let Some(why) = opened.missing.take() {
                report.damage.push(Damage { object: "keys/".to_owned(), reason: why, affects: BTreeMap::new() });
            }
            changes.strangers.clone_from(&report.strangers);
            reports.push((repository.clone(), report));
        }
        opened.newer_strangers()?.iter().for_each(|why| progress.warn(&WarningKind::NewerRepository.warning(why)));
        let notes: Vec<String> = reports.iter().flat_map(|(_, report)| report.notes.clone()).collect();
        notes.iter().for_each(|note| progress.note(note));
        let later = reports.iter().flat_map(|(_, report)| &report.later);
        later.for_each(|why| progress.warn(&WarningKind::NewerFormat.warning(format!("{why}; it was not verified"))));
        let warnings = progress.end(&[]);
        let summary = VerifySummary { reports: &reports, level, sample: options.sample, took: started.elapsed() };
        match context.json {
            true => context.print_json(&summary.document(&warnings))?,
            false if summary.is_damaged() => context.print(&summary.text(context))?,
            false => context.tell(&summary.text(context))?,
        }
        let status = progress.say_warnings();
        Ok(if summary.is_damaged() { ExitStatus::Damaged } else { status })
    }
}

/// What is said of a verification.
struct VerifySummary<'a> {
    reports: &'a [(Arc<Repository>, VerifyReport)],
    level: Level,
    sample: f64,
    took: Duration,
}

impl VerifySummary<'_> {
    fn is_damaged(&self) -> bool {
        self.damage().next().is_some()
    }

    fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.reports.iter().flat_map(|(_, report)| &report.damage)
    }

    fn text(&self, context: &Context) -> String {
        let mut text: String = self.damage().map(damage_text).collect();
        let rows = || self.reports.iter().flat_map(|(_, report)| report.snapshots.iter().map(move |row| (report, row)));
        if self.is_damaged() {
            for (report, row) in rows() {
                let (id, header) = (short(&row.id), &row.header);
                let state = if report.is_whole(&row.id) { "whole  " } else { "DAMAGED" };
                text += &format!("{state}  {id}  {}  {}\n", context.machine.zone.short(header.data_time), header.set);
            }
        }
        let (packs, bytes) = self
            .reports
            .iter()
            .fold((0, 0), |(packs, bytes), (_, report)| (packs + report.packs, bytes + report.bytes));
        let found = match self.damage().count() as u64 {
            0 if self.reports.iter().any(|(_, report)| !report.later.is_empty()) => {
                "all that this varu knows is whole".to_owned()
            }
            0 => "everything is intact".to_owned(),
            count => format!("{} DAMAGED", counted(count, "object")),
        };
        let of = if self.sample < 1.0 { format!(", a sample of {} %", self.sample * 100.0) } else { String::new() };
        let rate = rate(bytes, self.took).map(|rate| format!(", {rate}")).unwrap_or_default();
        text + &format!(
            "{found}: {} verified at level {}, {} of {} read{of}, in {}{rate}\n",
            counted(rows().count() as u64, "snapshot"),
            self.level.word(),
            size(bytes),
            counted(packs, "pack"),
            format_duration(self.took),
        )
    }

    fn document(&self, warnings: &[String]) -> serde_json::Value {
        let snapshots = self.reports.iter().flat_map(|(repository, report)| {
            report.snapshots.iter().map(|row| {
                json!({
                    "id": row.id,
                    "repository": repository.id(),
                    "set": row.header.set,
                    "data_time": row.header.data_time.to_string(),
                    "whole": report.is_whole(&row.id),
                })
            })
        });
        let damage = self
            .damage()
            .map(|damage| json!({ "object": damage.object, "reason": damage.reason, "affects": damage.affects }));
        json!({
            "level": self.level.word(),
            "sample": self.sample,
            "snapshots": snapshots.collect::<Vec<_>>(),
            "damage": damage.collect::<Vec<_>>(),
            "notes": self.reports.iter().flat_map(|(_, report)| &report.notes).collect::<Vec<_>>(),
            "packs": self.reports.iter().map(|(_, report)| report.packs).sum::<u64>(),
            "bytes": self.reports.iter().map(|(_, report)| report.bytes).sum::<u64>(),
            "seconds": self.took.as_millis() as f64 / 1000.0,
            "warnings": warnings,
        })
    }
}

/// How many streams of a damaged snapshot people are shown.
const SHOWN: usize = 10;

fn damage_text(damage: &Damage) -> String {
    let mut text = format!("{}: {}\n", damage.object, one_line(&damage.reason));
    for (id, streams) in &damage.affects {
        text += &match streams.len() {
            0 => format!("  snapshot {}: all is lost\n", short(id)),
            count => format!("  snapshot {}: {} lost\n", short(id), counted(count as u64, "stream")),
        };
        streams.iter().take(SHOWN).for_each(|stream| text += &format!("    {}\n", one_line(stream)));
        if streams.len() > SHOWN {
            text += &format!("    and {} more; --json names all\n", streams.len() - SHOWN);
        }
    }
    text
}
