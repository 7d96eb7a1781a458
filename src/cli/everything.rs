//! `varu restore --all` to where everything was: each service's data into the service, each folder to its place.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use varu::index::{INTO_SERVICE, Outcome};
use varu::progress::Progress;
use varu::repository;
use varu::time::{Clock, SystemClock, format_duration};
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::into::IntoArgs;
use super::open::Found;
use super::restore::Options;
use super::watch::Watch;
use crate::config::{Set, Source, SourceKind};
use crate::terminal::human::{count, size};

/// A line of the table at the end.
struct Row {
    set: String,
    snapshot: String,
    bytes: u64,
    counted: Option<(u64, &'static str)>,
    took: Duration,
    checks: String,
}

/// The kind of a restore of files to where they were.
const INTO_PLACE: &str = "restore-back";
/// What is said of what needn't be done.
const DONE: &str = "restored by an earlier run";

/// What is to be done with a set.
enum Work {
    /// Its data goes into a service.
    Service(SourceKind),
    /// Its files go below the root folder.
    Files,
    /// Why nothing can be done.
    Nothing(String),
}

fn work(set: Option<&Set>, name: &str) -> Work {
    match set.map(|set| &set.source) {
        None => Work::Nothing(format!(
            "the set {name} isn't in the configuration, so it isn't known where it belongs; varu restore {name} --to DIR \
             restores it"
        )),
        Some(Source::Files(_)) => Work::Files,
        Some(Source::Command(command)) if command.restore_command.is_none() => Work::Nothing(format!(
            "the set {name} has no restore_command, so it isn't known how it goes back; varu restore {name} --to DIR restores \
             its streams as files"
        )),
        Some(source) => Work::Service(source.kind()),
    }
}

/// Restores everything, in `restore_order`, up to the first failure. What an earlier run has done stays done.
pub fn run(into: &IntoArgs, root: &Path, options: &Options, context: &Context) -> Result<ExitStatus, Failure> {
    let watch = context.watch();
    let opened = context.open_to_read(&options.trust, &watch)?;
    let mut found = options.all_found(&opened)?;
    let set = |found: &Found| context.config.sets.get(&found.snapshot.header.set);
    found.sort_by_key(|found| set(found).and_then(|set| set.restore_order).unwrap_or(u32::MAX));
    let started = Instant::now();
    let mut rows = Vec::new();
    let mut failure = None;
    for found in &found {
        found.warnings.iter().for_each(|warning| watch.warn(warning));
        let name = &found.snapshot.header.set;
        match one(into, root, found, options, context, &watch) {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => {}
            Err(error) => {
                let left = found_after(name, &rows);
                failure = Some(Failure {
                    message: format!(
                        "restoring the set {name} failed: {}\nWhat stands in the table is done{left}. Set right what failed, and run \
                         the same command again: it goes on here",
                        error.message
                    ),
                    ..error
                });
                break;
            }
        }
    }
    let warnings = watch.end(&[]);
    match context.json {
        true => context.print_json(&document(&rows, &warnings, failure.is_none(), started.elapsed()))?,
        false => context.print(&table(&rows, started.elapsed()))?,
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(watch.say_warnings()),
    }
}

fn found_after(name: &str, rows: &[Row]) -> String {
    match rows.is_empty() {
        true => format!("; nothing was restored before {name}"),
        false => String::new(),
    }
}

fn one(
    into: &IntoArgs,
    root: &Path,
    found: &Found,
    options: &Options,
    context: &Context,
    watch: &Arc<Watch>,
) -> Result<Option<Row>, Failure> {
    let name = &found.snapshot.header.set;
    let row = |bytes, counted, took, checks| Row {
        set: name.clone(),
        snapshot: found.snapshot.id.to_string(),
        bytes,
        counted,
        took,
        checks,
    };
    let began = Instant::now();
    match work(context.config.sets.get(name), name) {
        Work::Nothing(why) => {
            watch.warn(&WarningKind::NotRestored.warning(why));
            Ok(Some(row(0, None, Duration::ZERO, "left out".to_owned())))
        }
        Work::Files => {
            if before(INTO_PLACE, found)?.0 {
                return Ok(Some(row(0, None, Duration::ZERO, DONE.to_owned())));
            }
            watch.note(&format!("{name} goes below {}", root.display()));
            let failed = |error| Failure::from(repository::Error::from(error));
            let index = || found.repository.index();
            let number = index().begin_operation(INTO_PLACE, Some(name), SystemClock.now()).map_err(failed)?;
            let Some(report) = options.restore(found, Some(root), context, watch)? else { return Ok(None) };
            report.warnings.iter().for_each(|warning| watch.warn(warning));
            if let Some(damage) = report.damaged.first() {
                return Err(Failure::new(ExitStatus::Damaged, damage.clone()));
            }
            let what = format!("snapshot {}; below {}", found.snapshot.id, root.display());
            let outcome = if report.warnings.is_empty() { Outcome::Done } else { Outcome::Warnings };
            index().end_operation(number, SystemClock.now(), outcome, Some(&what), None).map_err(failed)?;
            let kept = if report.kept > 0 { format!(", {} kept", count(report.kept)) } else { String::new() };
            let checks = format!("each byte's hash is that of the backup{kept}");
            Ok(Some(row(report.bytes, Some((report.streams, "files")), began.elapsed(), checks)))
        }
        Work::Service(kind) => {
            let (done, unfinished) = before(INTO_SERVICE, found)?;
            if done {
                return Ok(Some(row(0, None, Duration::ZERO, DONE.to_owned())));
            }
            let (report, proof) =
                into.among_several(kind).one(kind, None, unfinished, found, options, context, watch)?;
            report.warnings.iter().for_each(|warning| watch.warn(warning));
            Ok(Some(row(report.bytes, proof.counted, began.elapsed(), proof.checks)))
        }
    }
}

/// Whether this very snapshot was the last that was restored so; and whether the last restore didn't end.
fn before(kind: &str, found: &Found) -> Result<(bool, bool), Failure> {
    let last =
        found.repository.index().last_of_set(kind, &found.snapshot.header.set).map_err(repository::Error::from)?;
    let Some(last) = last else { return Ok((false, false)) };
    let good = [Outcome::Done.word(), Outcome::Warnings.word()];
    let ended = last.outcome.as_deref().is_some_and(|outcome| good.contains(&outcome));
    let same = last.message.is_some_and(|message| message.starts_with(&format!("snapshot {};", found.snapshot.id)));
    Ok((ended && same, !ended))
}

fn table(rows: &[Row], took: Duration) -> String {
    let cells = |row: &Row| {
        let counted = row.counted.map_or_else(String::new, |(number, unit)| format!("{} {unit}", count(number)));
        let seconds = format!("{:.1}", row.took.as_secs_f64());
        [row.set.clone(), size(row.bytes), counted, seconds, row.checks.clone()]
    };
    let head = ["set", "bytes", "rows or points", "seconds", "checks"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
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

fn document(rows: &[Row], warnings: &[String], complete: bool, took: Duration) -> serde_json::Value {
    let restored = rows.iter().map(|row| {
        json!({
            "set": row.set,
            "snapshot": row.snapshot,
            "bytes": row.bytes,
            "counted": row.counted.map(|(number, _)| number),
            "unit": row.counted.map(|(_, unit)| unit),
            "seconds": row.took.as_millis() as f64 / 1000.0,
            "checks": row.checks,
        })
    });
    json!({
        "restored": restored.collect::<Vec<_>>(),
        "complete": complete,
        "seconds": took.as_millis() as f64 / 1000.0,
        "warnings": warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_set() {
        let row = |set: &str, counted| Row {
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
