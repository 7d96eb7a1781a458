//! Restore into a service that runs: guards, what will be done, the load, and the record that keeps backups away until it has
//! succeeded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Choice, RestoreReport, fetch, restore_error};
use crate::class::{Class, Classified};
use crate::entry::{Entry, StreamName, Untrusted};
use crate::error::{Error, Result, ending};
use crate::facts::Facts;
use crate::index::{Beginning, Ending, Operation, OperationKind, Outcome, SnapshotRow};
use crate::progress::{Counter, Interrupt, Progress};
use crate::repository::{self, Lock, Repository};
use crate::source::remains::Remains;
use crate::source::{self, Contents, Plan, RestoreTarget, Target};
use crate::time::Clock;
use crate::warning::Warning;

/// Most streams that are loaded at the same time.
const LOADERS: usize = 4;
/// How often an interrupt is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Most bytes of definitions that are held.
const DEFINITIONS: u64 = 512 << 20;

/// What a restore into a service is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// The data is needed: it is put in place, and until that has succeeded there is nothing to back up.
    #[default]
    Production,
    /// It is to be seen whether the snapshot can be restored: what was loaded is taken away again, however it went, and the set
    /// is backed up as before.
    Scratch,
}

impl Purpose {
    const fn operation(self) -> OperationKind {
        match self {
            Purpose::Production => OperationKind::RestoreIntoService,
            Purpose::Scratch => OperationKind::Drill,
        }
    }
}

/// Who restores, why, and what the machine allows.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// What for.
    pub purpose: Purpose,
    /// The environments whose snapshots may be restored here; None where nothing is said.
    pub restore_from: Option<Vec<String>>,
    /// For a refresh, the environment of this machine, None where it has no name: data goes into another one alone.
    pub refreshes: Option<Option<String>>,
    /// Who asked for it, and why, for the history.
    pub reason: String,
}

/// An environment's name, which may be empty, for people.
fn in_words(environment: &Untrusted) -> String {
    match environment.is_empty() {
        true => "no environment".to_owned(),
        false => format!("the environment {environment}"),
    }
}

/// A refresh brings the data of one environment into another: never into its own, nor from or into one without a name.
///
/// # Errors
///
/// [`Error::Refused`] where it would.
pub fn check_refresh(snapshot: &SnapshotRow, own: Option<&str>) -> Result<()> {
    let (environment, own) = (&snapshot.about.environment, own.unwrap_or_default());
    match own.is_empty() || environment.is_empty() || *environment == own {
        false => Ok(()),
        true => Err(Error::Refused(format!(
            "a refresh brings the data of one environment into another; the snapshot {} is of {}, and this machine is of {} \
             (name in [environment])",
            snapshot.id,
            in_words(environment),
            in_words(&own.into())
        ))),
    }
}

impl Guard {
    /// # Errors
    /// [`Error::Refused`] where the snapshot's environment isn't among those that may be restored here.
    fn check(&self, snapshot: &SnapshotRow) -> Result<Option<String>> {
        let environment = &snapshot.about.environment;
        let shown = in_words(environment);
        if let Some(own) = &self.refreshes {
            check_refresh(snapshot, own.as_deref())?;
        }
        match &self.restore_from {
            Some(list) if !list.iter().any(|name| *environment == name.as_str()) => Err(Error::Refused(format!(
                "the snapshot {} is of {shown}, and into services of this machine only {} may be restored (restore_from in \
                 [environment]); restore it to files with --to",
                snapshot.id,
                list.join(", ")
            ))),
            Some(_) => Ok(None),
            None => Ok(Some(format!(
                "the snapshot is of {shown}, and this machine's configuration doesn't say which ones may be restored here"
            ))),
        }
    }
}

/// What the source knew when the snapshot was made.
fn facts(repository: &Repository, snapshot: &SnapshotRow) -> Result<Facts> {
    let body = repository.index().body(&snapshot.id).map_err(repository::Error::from)?;
    Ok(body.map(|body| body.facts).unwrap_or_default())
}

/// Restores a snapshot into a service. `confirm` is asked with what will be done, before anything is written; false ends it
/// without a trace. Where the `request` is noted, so is what stands there at the end: a later run can see by both that the same
/// needn't be done once more.
///
/// Until a restore of a set for [production](Purpose::Production) has succeeded, backups of that set are refused. The next one
/// takes up what it had begun.
#[expect(clippy::too_many_arguments, reason = "each is a part of its own")]
pub fn restore_into(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    service: &mut dyn RestoreTarget,
    guard: &Guard,
    request: Option<&str>,
    confirm: &mut dyn FnMut(&Plan) -> bool,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Option<RestoreReport>> {
    let said = guard.check(snapshot)?;
    let set = &snapshot.header.set;
    let _lock = match guard.purpose {
        Purpose::Production => Some(Lock::of_restore(repository.folder(), set)?),
        Purpose::Scratch => None,
    };
    let unfinished = match guard.purpose {
        Purpose::Production => unfinished(repository, set)?,
        Purpose::Scratch => Remains::default(),
    };
    let entries = entries(repository, snapshot)?;
    let definitions = read_definitions(repository, snapshot, service, &entries, progress, interrupt)?;
    let facts = facts(repository, snapshot)?;
    let contents =
        Contents { entries: &entries, definitions, facts: &facts, unfinished: unfinished.clone(), looks_only: false };
    let mut plan = service.plan(contents).map_err(restore_error)?;
    plan.lines.splice(0..0, said);
    if !confirm(&plan) {
        return Ok(None);
    }
    let what = format!("snapshot {}; {}; {}", snapshot.id, guard.reason, service.undone());
    // Targets that only an earlier one has made stay its own: this one doesn't settle them.
    let remains = service.remains().and(&Remains { targets: Vec::new(), ..unfinished });
    let operation = Beginning {
        about: Some(&what),
        snapshot: Some(snapshot.id),
        request,
        remains: remains.clone(),
        ..Beginning::new(guard.purpose.operation(), Some(set))
    };
    let work = |_: &_| -> Result<(RestoreReport, Option<String>)> {
        let loaded = load(repository, snapshot, service, &entries, progress, interrupt);
        let report = match guard.purpose {
            Purpose::Production => loaded.and_then(|report| put_in_place(report, service)).map_err(|error| {
                if error.class() == Class::Interrupted {
                    progress.note(&format!("{}; {}", service.undone(), way_on(set)));
                }
                explained(error, service, set)
            })?,
            Purpose::Scratch => {
                // The load's own error says more than that what it left could not be taken away.
                let discarded = service.discard().map_err(restore_error);
                let report = loaded?;
                discarded?;
                report
            }
        };
        // The data is there, whatever can be told of what lies beside it. And a run that has noted its end has nothing left to
        // do: one that is killed then is told from one that was killed before.
        for line in service.still_there(&remains.leftovers).unwrap_or_default() {
            progress.note(&line);
        }
        // What can't be looked at is restored again the next time.
        let standing = request.and_then(|_| service.standing().ok().flatten());
        Ok((report, standing))
    };
    let done = |(report, standing): &(RestoreReport, Option<String>)| Ending {
        standing: standing.clone(),
        ..Ending::with_warnings(&report.warnings)
    };
    let (report, _) = repository.record(&operation, clock, work, |result| ending(result, done))?;
    Ok(Some(report))
}

/// Puts what was loaded and verified in place.
fn put_in_place(mut report: RestoreReport, service: &mut dyn RestoreTarget) -> Result<RestoreReport> {
    let proof = report.proof.clone().unwrap_or_default();
    report.warnings.extend(service.commit(&proof).map_err(restore_error)?);
    Ok(report)
}

/// What restores of the set that haven't succeeded have left in its service.
fn unfinished(repository: &Repository, set: &str) -> Result<Remains> {
    Ok(repository.index().unfinished_remains(set)?)
}

/// The entries of a dump, in its order.
fn entries(repository: &Repository, snapshot: &SnapshotRow) -> Result<Vec<Entry>> {
    Ok(repository.recipe(&snapshot.id)?.streams.into_iter().map(|stream| stream.entry).collect())
}

/// What a restore of the snapshot into the service would do, and what stands now where its data goes. Writes nothing.
pub fn standing(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    service: &mut dyn RestoreTarget,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<(Plan, Option<String>)> {
    let entries = entries(repository, snapshot)?;
    let definitions = read_definitions(repository, snapshot, service, &entries, progress, interrupt)?;
    let (facts, unfinished) = (facts(repository, snapshot)?, Remains::default());
    let contents = Contents { entries: &entries, definitions, facts: &facts, unfinished, looks_only: true };
    let plan = service.plan(contents).map_err(restore_error)?;
    Ok((plan, service.standing().map_err(restore_error)?))
}

/// What has to be done after a restore that did not end.
fn way_on(set: &str) -> String {
    format!(
        "backups of {set} are refused until a restore of it has succeeded, or it is given up: varu restore {set} --abandon"
    )
}

/// The error, and what stands in the service now.
fn explained(error: Error, service: &dyn RestoreTarget, set: &str) -> Error {
    let text = |why: String| format!("{why}\nThe restore did not end: {}; {}", service.undone(), way_on(set));
    match error {
        Error::Failed(why) => Error::Failed(text(why)),
        Error::NoSpace(why) => Error::NoSpace(text(why)),
        Error::Refused(why) => Error::Refused(text(why)),
        Error::Repository(repository::Error::Interrupted) => error,
        // An unreachable repository, or a damaged one: the service is as unfinished.
        other => other.described(text(other.to_string())),
    }
}

fn read_definitions(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    service: &dyn RestoreTarget,
    entries: &[Entry],
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<(StreamName, Vec<u8>)>> {
    let bytes: u64 = entries.iter().filter(|entry| service.is_definition(entry)).map(|entry| entry.size).sum();
    if bytes > DEFINITIONS {
        return Err(Error::Failed(format!(
            "the views, routines, triggers and events of the snapshot have {bytes} bytes, more than are read at once; restore \
             it to files with --to"
        )));
    }
    let mut held = Held::default();
    let chosen = |entry: &Entry| service.is_definition(entry);
    let report = fetch(repository, snapshot, &Choice::of(&chosen), &mut held, progress, interrupt)?;
    whole(&report)?;
    Ok(held.streams)
}

/// Loads all that is no definition and verifies it, several streams at the same time: a server takes one connection's
/// statements one after the other, on one core.
fn load(
    repository: &Arc<Repository>,
    snapshot: &SnapshotRow,
    service: &mut dyn RestoreTarget,
    entries: &[Entry],
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    let wanted: Vec<&Entry> = entries.iter().filter(|entry| service.takes(entry)).collect();
    let most =
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(LOADERS).min(service.max_loaders());
    let shares = shares(&wanted, most);
    progress.phase("restoring", Some(wanted.iter().map(|entry| entry.size).sum()), Some(wanted.len() as u64));
    service.prepare().map_err(restore_error)?;
    let mut targets = Vec::new();
    for _ in &shares {
        targets.push(service.loader().map_err(restore_error)?);
    }
    let (progress, stop) = (&Beside(progress), Interrupt::default());
    let results: Vec<Result<RestoreReport>> = std::thread::scope(|scope| {
        let loaders: Vec<_> = shares
            .iter()
            .zip(&mut targets)
            .map(|(share, target)| {
                let stop = &stop;
                scope.spawn(move || {
                    let chosen = |entry: &Entry| share.contains(&entry.name);
                    let result = fetch(repository, snapshot, &Choice::of(&chosen), &mut **target, progress, stop);
                    if result.is_err() {
                        stop.set();
                    }
                    result
                })
            })
            .collect();
        while loaders.iter().any(|loader| !loader.is_finished()) {
            if interrupt.is_set() {
                stop.set();
            }
            std::thread::sleep(LOOK);
        }
        let panicked = || Err(Error::Failed("a thread that loads ended by itself".to_owned()));
        loaders.into_iter().map(|loader| loader.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut report = merged(snapshot, results)?;
    whole(&report)?;
    report.proof = Some(service.verify().map_err(restore_error)?);
    Ok(report)
}

/// The entries in at most `most` shares of about the same size, the largest first.
fn shares(entries: &[&Entry], most: usize) -> Vec<HashSet<StreamName>> {
    let mut shares: Vec<(u64, HashSet<StreamName>)> = vec![(0, HashSet::new()); most.max(1)];
    let mut by_size = entries.to_vec();
    by_size.sort_by_key(|entry| std::cmp::Reverse(entry.size));
    for entry in by_size {
        if let Some((size, names)) = shares.iter_mut().min_by_key(|(size, _)| *size) {
            *size += entry.size + 1;
            names.insert(entry.name.clone());
        }
    }
    shares.into_iter().map(|(_, names)| names).filter(|names| !names.is_empty()).collect()
}

/// One report of all, or the error that made the others end.
fn merged(snapshot: &SnapshotRow, results: Vec<Result<RestoreReport>>) -> Result<RestoreReport> {
    let is_stop = |error: &Error| matches!(error, Error::Repository(repository::Error::Interrupted));
    let mut all = RestoreReport::new(snapshot);
    let mut stopped = None;
    for result in results {
        match result {
            Ok(report) => {
                all.streams += report.streams;
                all.bytes += report.bytes;
                all.damaged.extend(report.damaged);
                all.warnings.extend(report.warnings);
            }
            Err(error) if is_stop(&error) => stopped = Some(error),
            Err(error) => return Err(error),
        }
    }
    stopped.map_or(Ok(all), Err)
}

/// Progress of one of several that work on the same.
struct Beside<'a>(&'a dyn Progress);

impl Progress for Beside<'_> {
    fn phase(&self, _: &str, _: Option<u64>, _: Option<u64>) {}

    fn add(&self, counter: Counter, n: u64) {
        self.0.add(counter, n);
    }

    fn note(&self, message: &str) {
        self.0.note(message);
    }

    fn warn(&self, warning: &Warning) {
        self.0.warn(warning);
    }
}

/// Part of a database is no database.
fn whole(report: &RestoreReport) -> Result<()> {
    match report.damaged.first() {
        None => Ok(()),
        Some(first) => Err(Error::Damaged(format!("{first}; nothing is put in place: restore another snapshot"))),
    }
}

/// Forgets an unfinished restore of a set, so that backups of it go on. None where there is none.
pub fn abandon(repository: &Repository, set: &str, reason: &str, clock: &dyn Clock) -> Result<Option<Operation>> {
    let _lock = Lock::of_restore(repository.folder(), set)?;
    let Some(operation) = repository.index().unfinished_restore(set)? else { return Ok(None) };
    let message = format!("the restore before was given up; {reason}");
    repository.record(
        &Beginning::new(OperationKind::RestoreIntoService, Some(set)),
        clock,
        |_| Ok(()),
        |_: &Result<()>| Ending::new(Outcome::Done, Some(message)),
    )?;
    Ok(Some(operation))
}

/// Streams in memory.
#[derive(Default)]
struct Held {
    streams: Vec<(StreamName, Vec<u8>)>,
}

impl Target for Held {
    fn wants(&mut self, entry: &Entry) -> std::result::Result<bool, source::Error> {
        Ok(entry.kind.has_content())
    }

    fn begin(&mut self, entry: &Entry) -> std::result::Result<(), source::Error> {
        self.streams.push((entry.name.clone(), Vec::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), source::Error> {
        if let Some((_, held)) = self.streams.last_mut() {
            held.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> std::result::Result<(), source::Error> {
        Ok(())
    }

    fn abandon(&mut self) {
        self.streams.pop();
    }

    fn finish(&mut self) -> std::result::Result<Vec<Warning>, source::Error> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Kind;

    #[test]
    fn shares_are_about_as_large_and_have_each_entry_once() {
        let entry =
            |name: &str, size| Entry { name: StreamName::new(name).unwrap(), kind: Kind::Data, size, metadata: None };
        let entries = [entry("a", 10), entry("b", 6), entry("c", 5), entry("d", 0)];
        let shares = shares(&entries.iter().collect::<Vec<_>>(), 2);
        assert_eq!(shares.iter().map(HashSet::len).sum::<usize>(), 4);
        assert!(
            shares[0].contains(&entries[0].name)
                && shares[1].contains(&entries[1].name)
                && shares[1].contains(&entries[2].name)
        );
        assert_eq!(super::shares(&[&entries[0]], 4).len(), 1);
        assert!(super::shares(&[], 4).is_empty());
    }
}
