//! `varu dump`, and the local copies that `varu backup` reads.

use std::os::unix::fs::DirBuilderExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap_complete::ArgValueCandidates;
use varu::index::{Index, Outcome};
use varu::progress::Progress;
use varu::repository::{self, Lock};
use varu::source::copy::{self, Copy, CopyOptions};
use varu::source::{Error, Source as _};
use varu::time::{Clock, SystemClock, Timestamp, Zone, format_duration, parse_duration};
use varu::warning::WarningKind;

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::sources;
use super::watch::Watch;
use super::words::set_name;
use crate::config::{Set, SourceKind};
use crate::terminal::human::{counted, size};

/// Refresh a set's local copy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The set.
    #[arg(value_name = "SET", value_parser = set_name, add = ArgValueCandidates::new(complete::configured_sets))]
    set: String,

    /// How long to wait for another dump of the set.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = parse_duration)]
    wait: Duration,
}

impl Args {
    /// Dumps and says what was written.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let set = context.set(&self.set)?;
        let Some(options) = copies(&self.set, set) else {
            return Err(Failure::usage(format!(
                "the set {0} has no local_copy, the folder that dumps go to; varu backup {0} dumps by itself",
                self.set
            )));
        };
        if set.dumped_by_another {
            return Err(Failure::usage(format!("the dumps of the set {} are made by another job (dump_by)", self.set)));
        }
        let watch = context.watch();
        let started = Instant::now();
        let history = History::begin(context, &self.set);
        let result = refresh(&self.set, set, &options, self.wait, context, &watch);
        history.end(&result);
        let copy = result.map_err(|error| Failure { message: said(&error), ..Failure::from(error) })?;
        let mut source = copy::CopySource::open(&copy)?;
        let warnings = watch.end(&source.warnings());
        let took = started.elapsed();
        match context.json {
            true => context.print_json(&serde_json::json!({
                "set": self.set,
                "path": copy.path,
                "data_time": copy.data_time.to_string(),
                "streams": copy.streams,
                "bytes": copy.bytes,
                "seconds": took.as_millis() as f64 / 1000.0,
                "warnings": warnings,
            }))?,
            false => context.tell(&format!(
                "dumped {} to {}: {} in {}, in {}\n",
                self.set,
                copy.path.display(),
                size(copy.bytes),
                counted(copy.streams, "stream"),
                format_duration(took)
            ))?,
        }
        Ok(watch.say_warnings())
    }
}

fn said(error: &Error) -> String {
    format!("the dump failed, and the last local copy stays as it is: {error}")
}

/// The local copies of a set that has them.
pub fn copies(name: &str, set: &Set) -> Option<CopyOptions> {
    let local = set.local_copy.as_ref()?;
    let file = match set.source.kind() {
        SourceKind::Mysql | SourceKind::Postgresql => copy::SCRIPT,
        _ => copy::DATA,
    };
    Some(CopyOptions {
        set: name.to_owned(),
        folder: local.folder.clone(),
        keep: local.keep,
        reserve: local.reserve,
        file,
    })
}

/// Makes a new local copy, once again where the data changed meanwhile.
pub fn refresh(
    name: &str,
    set: &Set,
    options: &CopyOptions,
    wait: Duration,
    context: &Context,
    watch: &Arc<Watch>,
) -> Result<Copy, Error> {
    let _lock = lock(name, options, wait, context, watch)?;
    put_unusable_aside(options, watch)?;
    let dump = || {
        let mut source = sources::fresh(name, &set.source, context, watch)?;
        copy::make(options, &mut *source)
    };
    let copy = match dump() {
        Err(Error::Changed(why)) => {
            watch.note(&format!("{why}; it is tried once more"));
            dump()
        }
        result => result,
    }?;
    // The one before is the next backup's base.
    if let Err(error) = copy::forget_old(options, 1) {
        watch.warn(&WarningKind::OldCopies.warning(error.to_string()));
    }
    Ok(copy)
}

/// Puts those copies aside that nobody may read, and says why.
fn put_unusable_aside(options: &CopyOptions, watch: &Watch) -> Result<(), Error> {
    for why in copy::put_unusable_aside(options, SystemClock.now())? {
        watch.warn(&WarningKind::LocalCopy.warning(format!("{why}; it isn't used")));
    }
    Ok(())
}

/// One dump of a set at a time.
fn lock(
    name: &str,
    options: &CopyOptions,
    wait: Duration,
    context: &Context,
    watch: &Arc<Watch>,
) -> Result<Lock, Error> {
    // Dumps are for nobody else's eyes, whatever the umask.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.folder);
    made.map_err(|error| copy::failed("making the folder of local copies", &options.folder, &error))?;
    let what = format!("dump of {name}");
    Lock::take(&options.folder, &what, wait, &**watch, &context.interrupt).map_err(|error| match error {
        repository::Error::Io { tried, path, source } => copy::failed(tried, &path, &source),
        other => Error::Refused(other.to_string()),
    })
}

/// The copy that a backup reads: the newest, or a new one where that is older than the last time one was due.
pub fn current(
    name: &str,
    set: &Set,
    options: &CopyOptions,
    wait: Duration,
    context: &Context,
    watch: &Arc<Watch>,
) -> Result<Copy, Error> {
    {
        let _lock = lock(name, options, wait, context, watch)?;
        put_unusable_aside(options, watch)?;
        if let Some(copy) = copy::newest(&options.folder)?
            && let Some(dump) = &set.schedule.dump
            && !is_due(dump, set.schedule.zone, copy.data_time)?
        {
            return Ok(copy);
        }
    }
    refresh(name, set, options, wait, context, watch)
}

/// Whether a calendar expression has come since `last`.
pub fn is_due(expression: &str, zone: Zone, last: Timestamp) -> Result<bool, Error> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["calendar", "--base-time"]).arg(format!("@{}", last.seconds())).arg("--").arg(expression);
    if let Zone::Named(_) = zone {
        analyze.env("TZ", zone.to_string());
    }
    let output = analyze.env("LC_ALL", "C").output();
    let output =
        output.map_err(|error| Error::failed("running systemd-analyze, which knows when a dump is due,", &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Config(format!("the calendar expression {expression:?} can't be read: {why}")));
    }
    // "(in UTC): Sat 2026-11-21 01:00:00 UTC", or "Next elapse:" where the zone is UTC.
    let line = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start));
    let next = line("(in UTC):").or_else(|| line("Next elapse:")).unwrap_or_default().trim();
    let mut words = next.split_whitespace().skip(1);
    let (day, clock) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let next = Timestamp::from_compact(&format!("{}T{}Z", day.replace('-', ""), clock.replace(':', "")));
    Ok(next.is_some_and(|next| next <= SystemClock.now()))
}

/// The record of a dump, in the indexes of the repositories that this machine writes to.
struct History(Vec<(Index, i64)>);

impl History {
    fn begin(context: &Context, set: &str) -> Self {
        let place = context.place().map(|place| place.to_string()).unwrap_or_default();
        let ids = context.keyring().known(&place).unwrap_or_default();
        let open = |id: &varu::id::RepositoryId| {
            let mut index = Index::open(&context.state().ok()?.join(id.to_string())).ok()?;
            let number = index.begin_operation("dump", Some(set), SystemClock.now()).ok()?;
            Some((index, number))
        };
        // The newest id is the one that is written to.
        Self(ids.iter().take(1).filter_map(open).collect())
    }

    fn end(self, result: &Result<Copy, Error>) {
        for (mut index, number) in self.0 {
            let (outcome, message) = match result {
                Ok(_) => (Outcome::Done, None),
                Err(error) => (Outcome::Failed, Some(error.to_string())),
            };
            let _ = index.end_operation(number, SystemClock.now(), outcome, message.as_deref(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_due_once_its_time_has_come() {
        let zone: Zone = "Europe/Tallinn".parse().unwrap();
        let now = SystemClock.now();
        assert!(is_due("*-*-* 01:00", zone, now.before(Duration::from_secs(86_401))).unwrap());
        assert!(!is_due("*-*-* *:*:00", zone, now.after(Duration::from_secs(3600))).unwrap());
        assert!(is_due("nonsense", zone, now).is_err());
    }
}
