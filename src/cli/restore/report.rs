//! Reports of restores, for people and as documents.

use std::time::Duration;

use serde_json::json;
use varu::job::amount::{count, counted, rate, size};
use varu::job::restore::files::FilesReport;
use varu::job::restore::service::LoadedSnapshot;
use varu::job::restore_all::{AllReport, SetReport};
use varu::time::format_duration;

use crate::cli::context::Context;
use crate::cli::exit::Failure;

/// Says what was restored into a service.
pub fn loaded(done: &[LoadedSnapshot], warnings: &[String], context: &Context) -> Result<(), Failure> {
    match context.json {
        true => context.print_json(&loaded_document(done, warnings)),
        false => context.tell(&done.iter().map(|loaded| loaded_text(context, loaded)).collect::<String>()),
    }
}

fn loaded_text(context: &Context, loaded: &LoadedSnapshot) -> String {
    let LoadedSnapshot { report, proof, took } = loaded;
    let header = &report.snapshot.header;
    let rate = rate(report.bytes, *took).map(|rate| format!(", {rate}")).unwrap_or_default();
    format!(
        "restored {} from snapshot {} ({}): {} in {}, in {}{rate}; {}\n",
        header.set,
        report.snapshot.id.short(),
        context.machine.zone.stamp(header.data_time),
        size(report.bytes),
        counted(report.streams, "stream"),
        format_duration(*took),
        proof.checks
    )
}

fn loaded_document(done: &[LoadedSnapshot], warnings: &[String]) -> serde_json::Value {
    let restored = done.iter().map(|LoadedSnapshot { report, proof, took }| {
        json!({
            "set": report.snapshot.header.set,
            "snapshot": report.snapshot.id,
            "streams": report.streams,
            "bytes": report.bytes,
            "counted": proof.counted.map(|(count, _)| count),
            "unit": proof.counted.map(|(_, unit)| unit),
            "checks": proof.checks,
            "seconds": seconds(*took),
        })
    });
    let took = done.iter().map(|loaded| loaded.took).sum();
    json!({ "restored": restored.collect::<Vec<_>>(), "seconds": seconds(took), "warnings": warnings })
}

/// What was restored to files, for people.
pub fn files_text(files: &FilesReport, context: &Context) -> String {
    let mut text = String::new();
    for (report, folder) in &files.done {
        let header = &report.snapshot.header;
        let to = folder.as_ref().map_or_else(|| "standard output".to_owned(), |to| to.display().to_string());
        text += &format!(
            "restored {} from snapshot {} ({}) to {to}: {} in {}",
            header.set,
            report.snapshot.id.short(),
            context.machine.zone.stamp(header.data_time),
            size(report.bytes),
            counted(report.streams, "stream"),
        );
        if report.kept > 0 {
            text += &format!(", {} kept", count(report.kept));
        }
        if !report.damaged.is_empty() {
            text += &format!(", {} DAMAGED and left out", count(report.damaged.len() as u64));
        }
        text += "\n";
    }
    let bytes = files.done.iter().map(|(report, _)| report.bytes).sum();
    let rate = rate(bytes, files.took).map(|rate| format!(", {rate}")).unwrap_or_default();
    text + &format!("in {}{rate}\n", format_duration(files.took))
}

/// What was restored to files, for `--json`.
pub fn files_document(files: &FilesReport, warnings: &[String]) -> serde_json::Value {
    let restored = files.done.iter().map(|(report, folder)| {
        json!({
            "snapshot": report.snapshot.id,
            "set": report.snapshot.header.set,
            "data_time": report.snapshot.header.data_time.to_string(),
            "to": folder,
            "streams": report.streams,
            "bytes": report.bytes,
            "kept": report.kept,
            "damaged": report.damaged,
        })
    });
    json!({
        "restored": restored.collect::<Vec<_>>(),
        "seconds": seconds(files.took),
        "stayed": files.stayed,
        "warnings": warnings,
    })
}

/// Says what has become of all sets.
pub fn all(report: &AllReport, warnings: &[String], context: &Context) -> Result<(), Failure> {
    match context.json {
        true => context.print_json(&all_document(report, warnings)),
        false => context.tell(&table(&report.sets, report.took)),
    }
}

fn table(sets: &[SetReport], took: Duration) -> String {
    let cells = |row: &SetReport| {
        let counted = row.counted.map_or_else(String::new, |(number, unit)| format!("{} {unit}", count(number)));
        let seconds = format!("{:.1}", row.took.as_secs_f64());
        [row.set.clone(), size(row.bytes), counted, seconds, row.checks.clone()]
    };
    let head = ["set", "bytes", "rows or points", "seconds", "checks"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(sets.iter().map(cells)).collect();
    let widths: Vec<usize> =
        (0..5).map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let [set, bytes, counted, seconds, checks] = line;
        text += &format!(
            "{set:<0$}  {bytes:>1$}  {counted:>2$}  {seconds:>3$}  {checks}\n",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    text + &format!("in {}\n", format_duration(took))
}

fn all_document(report: &AllReport, warnings: &[String]) -> serde_json::Value {
    let restored = report.sets.iter().map(|set| {
        json!({
            "set": set.set,
            "snapshot": set.snapshot,
            "bytes": set.bytes,
            "counted": set.counted.map(|(number, _)| number),
            "unit": set.counted.map(|(_, unit)| unit),
            "seconds": seconds(set.took),
            "checks": set.checks,
        })
    });
    json!({
        "restored": restored.collect::<Vec<_>>(),
        "complete": report.failure.is_none(),
        "stayed": report.stayed,
        "seconds": seconds(report.took),
        "warnings": warnings,
    })
}

fn seconds(took: Duration) -> f64 {
    took.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_set() {
        let row = |set: &str, counted| SetReport {
            set: set.to_owned(),
            snapshot: String::new(),
            bytes: 5_000_000,
            counted,
            took: Duration::from_millis(1260),
            checks: "as in the backup".to_owned(),
        };
        let table = table(&[row("agama", Some((1_234_567, "rows"))), row("etc", None)], Duration::from_secs(61));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[0].starts_with("set    ") && lines[0].ends_with("checks"), "{table}");
        assert!(
            lines[1].contains("rows") && lines[1].contains("1.3") && lines[1].ends_with("as in the backup"),
            "{table}"
        );
    }
}
