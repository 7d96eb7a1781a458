//! Restore of all sets to where they were: databases into their services, files to their places.

use std::path::Path;
use std::time::{Duration, Instant};

use super::amount::count;
use super::open::OpenedSnapshot;
use super::registry::WayBack;
use super::restore::in_place::{InPlace, is_running};
use super::restore::record::{RestoreRecord, of_files};
use super::restore::request::{RestoreJob, ServiceOptions};
use super::restore::service::ServiceRequest;
use super::spec::SourceKind;
use crate::class::{Class, Classified};
use crate::error::{Error, Result, ending};
use crate::index::{Beginning, Ending, OperationKind, Outcome};
use crate::progress::Progress;
use crate::restore::RestoreReport;
use crate::shell;
use crate::time::SystemClock;
use crate::warning::WarningKind;

/// What a restore of all sets has done.
pub struct AllReport {
    /// The sets, in the order in which they were restored.
    pub sets: Vec<SetReport>,
    /// Why it ended before the last set.
    pub failure: Option<Error>,
    /// What stayed over the running system, with the reasons.
    pub stayed: Vec<String>,
    /// What there is to know about the running system, a line each.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// What has become of a set.
pub struct SetReport {
    /// The set.
    pub set: String,
    /// The snapshot.
    pub snapshot: String,
    /// Bytes that were restored.
    pub bytes: u64,
    /// How many of what can be counted: rows, points, files.
    pub counted: Option<(u64, &'static str)>,
    /// How long it took.
    pub took: Duration,
    /// What was proven, or why nothing was done.
    pub checks: String,
}

/// The checks of a set that needn't be restored again.
const DONE: &str = "restored by an earlier run, and as it was then";

/// The checks of a set that nothing can be done with.
const LEFT_OUT: &str = "left out";

impl RestoreJob<'_> {
    /// Restores all sets, files below `root`, in `restore_order`, up to the first failure. What an earlier run has done stays
    /// done.
    ///
    /// # Errors
    ///
    /// Where nothing could be begun, or no set has the parts that are meant. That a set could not be restored is in the report.
    pub fn restore_all(&self, root: &Path, options: &ServiceOptions) -> Result<AllReport> {
        let (parts, progress) = (&self.request.parts, &**self.progress);
        let opened = self.open()?;
        let mut snapshots = self.snapshots(&opened)?;
        self.order(&mut snapshots);
        let started = Instant::now();
        let in_place = is_running(root).then(|| InPlace::prepare(self, &snapshots)).transpose()?;
        let restore = SetRestore { job: self, root, options, in_place: in_place.as_ref() };
        let mut sets: Vec<SetReport> = Vec::new();
        let (mut failure, mut missed) = (None, None);
        for snapshot in &snapshots {
            snapshot.warnings.iter().for_each(|warning| progress.warn(warning));
            let name = &snapshot.snapshot.header.set;
            match restore.run(snapshot) {
                Ok(report) => sets.extend(report),
                // The patterns name parts of other sets.
                Err(error) if error.class() == Class::Usage && parts.is_part() => {
                    progress.note(&format!("nothing of the set {name} is meant: {error}"));
                    missed.get_or_insert(error);
                }
                Err(error) => {
                    let before = match sets.is_empty() {
                        true => format!("; nothing was restored before {name}"),
                        false => String::new(),
                    };
                    failure = Some(error.described(format!(
                        "restoring the set {name} failed: {error}\nWhat stands in the table is done{before}. Set right what \
                         failed, and run the same command again: it goes on here"
                    )));
                    break;
                }
            }
        }
        if failure.is_none() && parts.is_part() && sets.iter().all(|report| report.checks == LEFT_OUT) {
            return Err(missed.unwrap_or_else(|| parts.nothing_matches()));
        }
        let is_of_files = |snapshot: &&OpenedSnapshot| self.way_back(snapshot) == WayBack::Files;
        let is_restored = |name: &str| sets.iter().any(|report| report.set == name && report.checks != LEFT_OUT);
        // A service that was restored has all that was named.
        let mut others = snapshots.iter().filter(|snapshot| !is_of_files(snapshot));
        if failure.is_none() && !others.any(|snapshot| is_restored(&snapshot.snapshot.header.set)) {
            parts.warn_unmatched(snapshots.iter().filter(is_of_files), progress)?;
        }
        let took = started.elapsed();
        let stayed = in_place.as_ref().map(InPlace::stayed).unwrap_or_default();
        let notes = in_place.as_ref().map(InPlace::finish).unwrap_or_default();
        Ok(AllReport { sets, failure, stayed, notes, took })
    }

    /// How the data of a snapshot's set goes back to where it was.
    fn way_back(&self, opened: &OpenedSnapshot) -> WayBack {
        let name = &opened.snapshot.header.set;
        match self.set(opened) {
            Some(set) => set.source.descriptor().way_back(name),
            None => WayBack::Unknown(format!(
                "the set {name} isn't in the configuration, so it isn't known where it belongs; varu restore {name} --to DIR \
                 restores it"
            )),
        }
    }
}

/// The restore of one set after the other.
struct SetRestore<'a> {
    job: &'a RestoreJob<'a>,
    root: &'a Path,
    options: &'a ServiceOptions,
    in_place: Option<&'a InPlace>,
}

impl SetRestore<'_> {
    /// Restores a set. None where nothing of it is meant.
    fn run(&self, opened: &OpenedSnapshot) -> Result<Option<SetReport>> {
        match self.job.way_back(opened) {
            WayBack::Files => self.files(opened),
            WayBack::Service(kind) => self.service(kind, opened).map(Some),
            WayBack::Unknown(why) => {
                self.job.progress.warn(&WarningKind::NotRestored.warning(why));
                Ok(Some(without_work(opened, LEFT_OUT)))
            }
        }
    }

    fn files(&self, opened: &OpenedSnapshot) -> Result<Option<SetReport>> {
        let Self { job, root, in_place, .. } = self;
        let (name, files) = (&opened.snapshot.header.set, &job.request.files);
        let how = format!(
            "{:?} {} {} {} {:?}",
            files.overwrite,
            files.strip_components,
            files.numeric_owner,
            files.with_machine_files,
            job.request.parts.paths
        );
        let request = self.noted(&how);
        let selection = job.request.parts.selection()?;
        let look = || of_files(opened, root, &selection, files.strip_components);
        if let Some(record) = RestoreRecord::of(opened, OperationKind::RestoreInPlace, &request)?
            && record.warning.is_none()
            && look()?.as_ref() == Some(&record.standing)
        {
            return Ok(Some(without_work(opened, DONE)));
        }
        let began = Instant::now();
        job.progress.note(&format!("{name} goes below {}", root.display()));
        let about = format!("snapshot {}; below {}", opened.snapshot.id, root.display());
        let operation = Beginning {
            about: Some(&about),
            snapshot: Some(opened.snapshot.id),
            request: Some(&request),
            ..Beginning::new(OperationKind::RestoreInPlace, Some(name))
        };
        let work = |_: &_| {
            let Some(report) = job.restore_snapshot(opened, Some(root), *in_place)? else { return Ok(None) };
            report.warnings.iter().for_each(|warning| job.progress.warn(warning));
            if let Some(damage) = report.damaged.first() {
                return Err(Error::Damaged(damage.clone()));
            }
            let standing = if report.warnings.is_empty() { look()? } else { None };
            Ok(Some((report, standing)))
        };
        let done = |restored: &Option<(RestoreReport, Option<String>)>| match restored {
            None => Ending::new(Outcome::Done, Some("nothing".to_owned())),
            Some((report, standing)) => Ending { standing: standing.clone(), ..report.ending() },
        };
        let restored = opened.repository.record(&operation, &SystemClock, work, |result| ending(result, done))?;
        let Some((report, _)) = restored else { return Ok(None) };
        Ok(Some(SetReport {
            bytes: report.bytes,
            counted: Some((report.streams, "files")),
            took: began.elapsed(),
            ..without_work(opened, &checks(&report))
        }))
    }

    fn service(&self, kind: SourceKind, opened: &OpenedSnapshot) -> Result<SetReport> {
        let job = self.job;
        let takes_option_file = kind.descriptor().takes_option_file_of_all;
        let option_file = self.options.option_file.clone().filter(|_| takes_option_file);
        let options = ServiceOptions { option_file, ..self.options.clone() };
        // What may be replaced on the way doesn't decide where data goes.
        let request = self.noted(&format!("{kind:?} {:?} {:?}", options.option_file, options.user));
        let wanted = ServiceRequest { kind, name: None, options: &options, noted: Some(&request) };
        let unfinished = opened.repository.index().unfinished_restore(&opened.snapshot.header.set)?;
        let record = RestoreRecord::of(opened, OperationKind::RestoreIntoService, &request)?;
        if let (None, Some(record)) = (unfinished, record)
            && let Ok((kept, Some(now))) = job.standing(&wanted, opened)
            && let Some(said) = said_before(opened, &record, &kept, &now, &**job.progress)
        {
            return Ok(without_work(opened, &said));
        }
        let began = Instant::now();
        let report = job.load(&wanted, opened)?;
        report.warnings.iter().for_each(|warning| job.progress.warn(warning));
        let proof = report.proof.clone().unwrap_or_default();
        Ok(SetReport {
            bytes: report.bytes,
            counted: proof.counted,
            took: began.elapsed(),
            ..without_work(opened, &proof.checks)
        })
    }

    /// What was asked for in one line, as far as it decides what is written to where.
    fn noted(&self, how: &str) -> String {
        format!("{} {:?} {how}", self.root.display(), self.job.request.parts.only)
    }
}

fn without_work(opened: &OpenedSnapshot, checks: &str) -> SetReport {
    SetReport {
        set: opened.snapshot.header.set.clone(),
        snapshot: opened.snapshot.id.to_string(),
        bytes: 0,
        counted: None,
        took: Duration::ZERO,
        checks: checks.to_owned(),
    }
}

/// What is said of a set whose data an earlier run loaded into a service and which needn't, or mustn't, be loaded again; None
/// where it is. `kept` are names of what is there and may not be replaced.
fn said_before(
    opened: &OpenedSnapshot,
    record: &RestoreRecord,
    kept: &[String],
    now: &str,
    progress: &dyn Progress,
) -> Option<String> {
    let name = &opened.snapshot.header.set;
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
