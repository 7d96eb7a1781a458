//! Summaries of backups, for people and as documents.

use std::time::Duration;

use varu::backup::BackupReport;
use varu::repository::Repository;
use varu::time::format_duration;

use crate::cli::context::Context;
use crate::cli::list::snapshot_document;
use crate::cli::values::short;
use varu::job::amount::{counted, rate, ratio, size};

/// What is said of a backup.
pub struct BackupSummary<'a> {
    pub report: &'a BackupReport,
    pub repository: &'a Repository,
    pub warnings: &'a [String],
    pub took: Duration,
}

impl BackupSummary<'_> {
    /// For people.
    pub fn text(&self, context: &Context) -> String {
        let Self { report, repository, took, .. } = self;
        let (row, totals) = (&report.snapshot, report.totals());
        let header = &row.header;
        let tags: Vec<String> = header.tags.iter().map(ToString::to_string).collect();
        let tags = if tags.is_empty() { String::new() } else { format!(", tagged {}", tags.join(", ")) };
        let mut text = format!("snapshot {} ({} of {}{tags})\n", row.id, header.kind(), header.set);
        if let Some(note) = &report.note {
            text += &format!("  it is {note}\n");
        }
        let rate = rate(totals.read, *took).map(|rate| format!(", {rate}")).unwrap_or_default();
        text += &format!(
            "  read    {} in {}, in {}{rate}\n",
            size(totals.read),
            counted(report.streams, "stream"),
            format_duration(*took)
        );
        let ratio = ratio(totals.stored, totals.new)
            .filter(|_| totals.stored < totals.new)
            .map(|ratio| format!(", {ratio} of the new"))
            .unwrap_or_default();
        text += &format!("  new     {}\n  stored  {}{ratio}\n", size(totals.new), size(totals.stored));
        let place = repository.remote().place();
        text += &format!("  where   {place}\n");
        text += &format!(
            "To restore it: varu{} restore {} --snapshot {} --to DIR\n",
            context.repo_option(&place),
            header.set,
            short(&row.id)
        );
        text
    }

    /// For `--json`.
    pub fn document(&self) -> serde_json::Value {
        let Self { report, repository, warnings, took } = self;
        let totals = report.totals();
        let body = repository.index().body(&report.snapshot.id).ok().flatten();
        let stored = body.map(|body| body.warnings).unwrap_or_default();
        serde_json::json!({
            "repository": repository.id(),
            "place": repository.remote().place(),
            "snapshot": snapshot_document(repository.id(), &report.snapshot, &stored),
            "note": report.note,
            "streams": report.streams,
            "read": totals.read,
            "new": totals.new,
            "stored": totals.stored,
            "packs": totals.packs,
            "seconds": took.as_millis() as f64 / 1000.0,
            "warnings": warnings,
        })
    }
}
