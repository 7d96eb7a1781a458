//! `varu restore --all` to where everything was: each service's data into the service, each folder to its place.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use varu::index::{Beginning, Ending, OperationKind, Outcome};
use varu::job::registry::WayBack;
use varu::job::spec::{Set, SourceKind};
use varu::progress::Progress;
use varu::repository;
use varu::restore::RestoreReport;
use varu::shell;
use varu::time::{SystemClock, format_duration};
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::in_place::{InPlace, is_running};
use super::into::IntoArgs;
use super::progress::ProgressReporter;
use super::restore::Options;
use super::standing::{self, Record};
use varu::job::amount::{count, size};
use varu::job::open::OpenedSnapshot;

/// A line of the table at the end.
struct Row {
    set: String,
    snapshot: String,
    bytes: u64,
    counted: Option<(u64, &'static str)>,
    took: Duration,
    checks: String,
}

/// What is said of what needn't be done.
const DONE: &str = "restored by an earlier run, and as it was then";

/// What is said of a set that nothing can be done with.
const LEFT_OUT: &str = "left out";

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
        Some(source) => match source.descriptor().way_back(name) {
            WayBack::Files => Work::Files,
            WayBack::Service => Work::Service(source.kind()),
            WayBack::Unknown(why) => Work::Nothing(why),
        },
    }
}

/// Restores everything, in `restore_order`, up to the first failure. What an earlier run has done stays done.
pub fn run(into: &IntoArgs, root: &Path, options: &Options, context: &Context) -> Result<ExitStatus, Failure> {
    let progress = context.progress();
    let opened = context.machine.open_to_read(&options.trust.vouched(), &progress.shared())?;
    let mut found = options.all_found(&opened)?;
    let set = |found: &OpenedSnapshot| context.machine.configuration.sets.get(&found.snapshot.header.set);
    found.sort_by_key(|found| set(found).and_then(|set| set.restore_order).unwrap_or(u32::MAX));
    let started = Instant::now();
    let in_place = is_running(root).then(|| InPlace::prepare(options, &found, context)).transpose()?;
    let mut rows = Vec::new();
    let (mut failure, mut missed) = (None, None);
    for found in &found {
        found.warnings.iter().for_each(|warning| progress.warn(warning));
        let name = &found.snapshot.header.set;
        match one(into, root, found, in_place.as_ref(), options, context, &progress) {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => {}
            // The patterns name parts of other sets.
            Err(error) if error.is_usage() && options.is_part() => {
                progress.note(&format!("nothing of the set {name} is meant: {}", error.message));
                missed.get_or_insert(error);
            }
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
    if failure.is_none() && options.is_part() && rows.iter().all(|row| row.checks == LEFT_OUT) {
        return Err(missed.unwrap_or_else(|| options.nothing_matches()));
    }
    let is_of_files = |found: &&OpenedSnapshot| matches!(work(set(found), &found.snapshot.header.set), Work::Files);
    // A service that was restored has all that was named.
    let others = found.iter().filter(|found| !is_of_files(found)).map(|found| &found.snapshot.header.set);
    if failure.is_none()
        && !others.into_iter().any(|name| rows.iter().any(|row| row.set == *name && row.checks != LEFT_OUT))
    {
        options.warn_unmatched(found.iter().filter(is_of_files), &progress)?;
    }
    let warnings = progress.end(&[]);
    let stayed = in_place.as_ref().map(InPlace::stayed).unwrap_or_default();
    in_place.iter().for_each(|in_place| in_place.end(&progress));
    match context.json {
        true => context.print_json(&document(&rows, &stayed, &warnings, failure.is_none(), started.elapsed()))?,
        false => context.tell(&table(&rows, started.elapsed()))?,
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(progress.say_warnings()),
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
    found: &OpenedSnapshot,
    in_place: Option<&InPlace>,
    options: &Options,
    context: &Context,
    progress: &Arc<ProgressReporter>,
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
    match work(context.machine.configuration.sets.get(name), name) {
        Work::Nothing(why) => {
            progress.warn(&WarningKind::NotRestored.warning(why));
            Ok(Some(row(0, None, Duration::ZERO, LEFT_OUT.to_owned())))
        }
        Work::Files => {
            let request = request(root, &options.only, &options.how());
            let selection = options.selection()?;
            let look = || standing::of_files(found, root, &selection, options.strip_components);
            if let Some(record) = Record::of(found, OperationKind::RestoreInPlace, &request)?
                && record.warning.is_none()
                && look()?.as_ref() == Some(&record.standing)
            {
                return Ok(Some(row(0, None, Duration::ZERO, DONE.to_owned())));
            }
            progress.note(&format!("{name} goes below {}", root.display()));
            let about = format!("snapshot {}; below {}", found.snapshot.id, root.display());
            let operation = Beginning {
                about: Some(&about),
                snapshot: Some(found.snapshot.id),
                request: Some(&request),
                ..Beginning::new(OperationKind::RestoreInPlace, Some(name))
            };
            let work = |_: &_| {
                let Some(report) = options.restore(found, Some(root), in_place, context, progress)? else {
                    return Ok(None);
                };
                report.warnings.iter().for_each(|warning| progress.warn(warning));
                if let Some(damage) = report.damaged.first() {
                    return Err(Failure::new(ExitStatus::Damaged, damage.clone()));
                }
                let standing = if report.warnings.is_empty() { look()? } else { None };
                Ok(Some((report, standing)))
            };
            let ending = |result: &Result<Option<(RestoreReport, Option<String>)>, Failure>| match result {
                Ok(None) => Ending::new(Outcome::Done, Some("nothing".to_owned())),
                Ok(Some((report, standing))) => Ending { standing: standing.clone(), ..report.ending() },
                Err(failure) => failure.ending(),
            };
            let restored = found.repository.record(&operation, &SystemClock, work, ending)?;
            let Some((report, _)) = restored else { return Ok(None) };
            let checks = checks(&report);
            Ok(Some(row(report.bytes, Some((report.streams, "files")), began.elapsed(), checks)))
        }
        Work::Service(kind) => {
            let into = into.among_several(kind);
            let request = request(root, &options.only, &format!("{kind:?} {}", into.wish()));
            let unfinished = found.repository.index().unfinished_restore(name).map_err(repository::Error::from)?;
            if let (None, Some(record)) = (&unfinished, Record::of(found, OperationKind::RestoreIntoService, &request)?)
                && let Ok((kept, Some(now))) = into.standing(kind, found, options, context, progress)
                && let Some(said) = said_before(found, &record, &kept, &now, progress)
            {
                return Ok(Some(row(0, None, Duration::ZERO, said)));
            }
            let (report, service) = into.one(kind, None, Some(&request), found, options, context, progress)?;
            report.warnings.iter().for_each(|warning| progress.warn(warning));
            let proof = service.proof();
            Ok(Some(row(report.bytes, proof.counted, began.elapsed(), proof.checks)))
        }
    }
}

/// What was asked for, as far as it decides what is written to where.
fn request(root: &Path, only: &[String], how: &str) -> String {
    format!("{} {only:?} {how}", root.display())
}

/// What is said of a set whose data an earlier run loaded into a service and which needn't, or mustn't, be loaded again; None
/// where it is. `kept` are names of what is there and may not be replaced.
fn said_before(
    found: &OpenedSnapshot,
    record: &Record,
    kept: &[String],
    now: &str,
    progress: &ProgressReporter,
) -> Option<String> {
    let name = &found.snapshot.header.set;
    if record.standing == now {
        if let Some(warning) = &record.warning {
            let text = format!("the set {name} was restored at {}, with warnings; the first: {warning}", record.time);
            progress.warn(&WarningKind::NotAsItWas.warning(text));
        }
        return Some(DONE.to_owned());
    }
    let replace: Vec<String> = kept.iter().map(|name| format!("--replace={}", shell::quoted(name))).collect();
    if replace.is_empty() {
        return None;
    }
    progress.warn(&WarningKind::NotRestored.warning(format!(
        "the set {name} was restored at {}, and what is there has changed since, so it stays as it is; {} --reason TEXT \
         restores it again, and puts what is there aside",
        record.time,
        replace.join(" ")
    )));
    Some("NOT restored: changed since an earlier run restored it".to_owned())
}

/// What a restore of files proved.
fn checks(report: &RestoreReport) -> String {
    let kept = if report.kept > 0 { format!(", {} kept", count(report.kept)) } else { String::new() };
    let left = report.warnings.iter().filter(|warning| warning.kind == WarningKind::NotRestored).count();
    match (left, report.warnings.is_empty()) {
        // What was kept for its size and time was not read.
        (0, true) if report.kept > 0 => format!("each byte that was written has the backup's hash{kept}"),
        (0, true) => "each byte's hash is that of the backup".to_owned(),
        (0, false) => format!("each byte that was written has the backup's hash, with warnings{kept}"),
        (left, _) => format!("{} NOT restored{kept}", count(left as u64)),
    }
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

fn document(rows: &[Row], stayed: &[String], warnings: &[String], complete: bool, took: Duration) -> serde_json::Value {
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
        "stayed": stayed,
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
