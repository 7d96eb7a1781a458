//! `varu config`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;
use varu::id::RepositoryId;
use varu::job::amount::{counted, size};
use varu::job::local_copy;
use varu::job::machine::DEFAULT_CONFIGURATION;
use varu::job::spec::Refresh;
use varu::remote::Remote;
use varu::source::Finding;
use varu::source::copy::{self, CopyOptions};

use super::context::{Context, Verbosity};
use super::exit::{ExitStatus, Failure};

/// Work with the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Try everything that a backup needs, line by line.
    Check,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckOutcome {
    /// As it should be.
    Ok,
    /// Worth to be known.
    Note,
    /// A backup can't be made this way.
    Failed,
}

/// One thing that was tried.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// How it ended.
    outcome: CheckOutcome,
    /// What was tried: `configuration`, `set agama`.
    subject: String,
    /// What was found.
    message: String,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct CheckReport {
    checks: Vec<Check>,
}

impl Args {
    /// Tries, prints a line for each check, and ends with the worst outcome.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let ConfigCommand::Check = self.what;
        let mut checks = check_configuration(context);
        checks.extend(check_sources(context));
        checks.extend(check_schedules(context));
        checks.extend(check_state(context));
        let refreshes = &context.machine.configuration.restores;
        // Who only brings other machines' data in has no repository of its own.
        if !context.machine.configuration.sets.is_empty() || refreshes.is_empty() {
            checks.extend(check_repository(context));
        }
        checks.extend(refreshes.iter().map(|(name, refresh)| check_refresh(name, refresh, context)));
        let worst = checks.iter().map(|check| check.outcome).max().unwrap_or(CheckOutcome::Ok);
        if context.json {
            context.print_json(&CheckReport { checks })?;
        } else {
            let is_said = |check: &&Check| check.outcome != CheckOutcome::Ok || context.verbosity != Verbosity::Quiet;
            context.print(&checks.iter().filter(is_said).map(Check::line).collect::<String>())?;
        }
        Ok(match worst {
            CheckOutcome::Ok | CheckOutcome::Note => ExitStatus::Done,
            CheckOutcome::Failed => ExitStatus::Usage,
        })
    }
}

impl Check {
    fn new(outcome: CheckOutcome, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { outcome, subject: subject.into(), message: message.into() }
    }

    /// `ok`, or `FAILED` with why.
    fn of(subject: impl Into<String>, result: Result<String, String>) -> Self {
        match result {
            Ok(message) => Self::new(CheckOutcome::Ok, subject, message),
            Err(why) => Self::new(CheckOutcome::Failed, subject, why),
        }
    }

    /// `ok       set agama: files`.
    fn line(&self) -> String {
        let outcome = match self.outcome {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Note => "note",
            CheckOutcome::Failed => "FAILED",
        };
        format!("{outcome:<8} {}: {}\n", self.subject, self.message)
    }
}

/// What the configuration itself says. A wrong one has ended the program before.
fn check_configuration(context: &Context) -> Vec<Check> {
    let config = &context.machine.configuration;
    let sets = u64::try_from(config.sets.len()).unwrap_or(u64::MAX);
    let read = match &context.machine.configuration_file {
        Some(file) => format!("{} was read: {}", file.display(), counted(sets, "set")),
        None => format!("there is none at {DEFAULT_CONFIGURATION}; everything has its default"),
    };
    let mut checks = vec![Check::new(CheckOutcome::Ok, "configuration", read)];
    if !config.not_acted_on.is_empty() {
        let keys = config.not_acted_on.join(", ");
        checks.push(Check::new(CheckOutcome::Note, "configuration", format!("this version doesn't act on {keys}")));
    }
    for (name, set) in &config.sets {
        checks.push(Check::new(CheckOutcome::Ok, format!("set {name}"), set.source.kind().name()));
    }
    checks
}

/// Whether what the sets name is there.
fn check_sources(context: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, set) in &context.machine.configuration.sets {
        let subject = format!("set {name}");
        let found = set.source.descriptor().check(&context.machine.interrupt).into_iter();
        checks.extend(found.map(|finding| match finding {
            Finding::Good(message) => Check::new(CheckOutcome::Ok, &subject, message),
            Finding::Note(message) => Check::new(CheckOutcome::Note, &subject, message),
            Finding::Bad(message) => Check::new(CheckOutcome::Failed, &subject, message),
        }));
        checks.extend(local_copy::options(name, set).map(|copies| check_copies(&subject, &copies)));
    }
    checks
}

/// Whether systemd takes the times, and runs what the configuration says.
fn check_schedules(context: &Context) -> Vec<Check> {
    let (wrong, pending) = super::schedule::check(context);
    let failed = wrong.into_iter().map(|why| Check::new(CheckOutcome::Failed, "schedule", why));
    failed.chain(pending.map(|why| Check::new(CheckOutcome::Note, "schedule", why))).collect()
}

/// Whether a local copy has room.
fn check_copies(subject: &str, copies: &CopyOptions) -> Check {
    let folder = copies.folder.display();
    // The folder is made by the first dump; until then the one above counts.
    let there = copies.folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned();
    let room = copy::check_free_space(&CopyOptions { folder: there, ..copies.clone() });
    Check::of(
        subject,
        room.map(|()| format!("there is room for a local copy in {folder}")).map_err(|error| error.to_string()),
    )
}

/// Whether the state folder can be written.
fn check_state(context: &Context) -> Vec<Check> {
    let state = match context.machine.state() {
        Ok(state) => state,
        Err(failure) => return vec![Check::new(CheckOutcome::Failed, "state", failure.to_string())],
    };
    // What is missing is made by the first backup; until then the nearest folder above it decides.
    let there = state.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let written = tempfile::tempfile_in(there).map(|_| format!("{} can be written", state.display()));
    vec![Check::of("state", written.map_err(|error| format!("{} can't be written: {error}", state.display())))]
}

/// Whether the repository is there, has room, and belongs to the keys here.
fn check_repository(context: &Context) -> Vec<Check> {
    let remote = match context.machine.open_remote(&context.progress_aside().shared()) {
        Ok(remote) => remote,
        Err(failure) => return vec![Check::new(CheckOutcome::Failed, "repository", failure.to_string())],
    };
    let mut checks = vec![Check::new(CheckOutcome::Ok, "repository", format!("{} can be reached", remote.place()))];
    checks.push(match remote.free_space() {
        Ok(Some(free)) => Check::new(CheckOutcome::Ok, "room", format!("{} are free there", size(free))),
        Ok(None) => Check::new(CheckOutcome::Note, "room", "the remote doesn't say how much is free"),
        Err(error) => Check::new(CheckOutcome::Failed, "room", error.to_string()),
    });
    match context.machine.keyring().writer(&*remote) {
        Ok(writer) => {
            let message = format!("{} writes the repository {}", writer.path.display(), writer.keys.id());
            checks.push(Check::new(CheckOutcome::Ok, "writer key", message));
            checks.extend(check_identity(context, writer.keys.id()));
            checks.extend(check_snapshots(context, &remote));
        }
        Err(error) => checks.push(Check::new(CheckOutcome::Failed, "writer key", error.to_string())),
    }
    checks
}

/// Whether a refresh reaches what it brings in, and has the identity that opens it.
fn check_refresh(name: &str, refresh: &Refresh, context: &Context) -> Check {
    let subject = format!("refresh {name}");
    if let Err(error) = File::open(&refresh.identity) {
        let identity = refresh.identity.display();
        return Check::new(CheckOutcome::Failed, subject, format!("its identity {identity} can't be read: {error}"));
    }
    let elsewhere = context.machine.elsewhere(refresh.repository.as_deref(), &refresh.identity);
    let reached = elsewhere.open_remote(&context.progress_aside().shared());
    Check::of(
        subject,
        reached.map(|remote| format!("{} can be reached", remote.place())).map_err(|error| error.to_string()),
    )
}

/// An identity on the machine that it should restore is a thief's.
fn check_identity(context: &Context, id: &RepositoryId) -> Vec<Check> {
    let known = context
        .machine
        .place()
        .and_then(|place| context.machine.keyring().known(&place.to_string()))
        .unwrap_or_default();
    let ids: Vec<RepositoryId> = known.into_iter().chain([*id]).collect();
    let paths = context.machine.keyring().identities_here(&ids);
    let found = paths.iter().map(|path| {
        let message = format!(
            "{} is on this machine: whoever breaks in here reads all backups with it; keep it in a safe place (varu key \
             export), and move it away",
            path.display()
        );
        Check::new(CheckOutcome::Note, "identity", message)
    });
    match paths.is_empty() {
        true => vec![Check::new(CheckOutcome::Ok, "identity", "it isn't among the keys of this machine")],
        false => found.collect(),
    }
}

/// Whether the repository goes on from what this machine knows.
fn check_snapshots(context: &Context, remote: &Arc<dyn Remote>) -> Vec<Check> {
    let look = || -> Result<Vec<Check>, Failure> {
        let repository = context.machine.open_to_write(remote)?;
        let changes = repository.sync()?;
        let mut checks: Vec<Check> =
            changes.unusable().map(|refused| Check::new(CheckOutcome::Note, "snapshots", refused.clone())).collect();
        if let Some(hidden) = changes.hidden {
            return Err(Failure::new(ExitStatus::Damaged, hidden));
        }
        repository.check_instance()?;
        let newest = repository.newest()?.map_or_else(
            || "there is none yet".to_owned(),
            |row| {
                format!("the newest is from {} ({})", context.machine.zone.stamp(row.header.data_time), row.header.set)
            },
        );
        checks.push(Check::new(CheckOutcome::Ok, "snapshots", newest));
        Ok(checks)
    };
    look().unwrap_or_else(|failure| vec![Check::new(CheckOutcome::Failed, "snapshots", failure.message)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    #[test]
    fn each_set_has_its_line() {
        let config =
            "[sets.a]\nsource = 'files'\npaths = ['/a']\n[sets.b]\nsource = 'influxdb'\ndatabase = 'b'\nrpo = '1 h'";
        let checks = check_configuration(&context(&[], config, true, &[]).unwrap());
        let lines: Vec<_> = checks.iter().map(Check::line).collect();
        assert!(lines[0].starts_with("ok       configuration: ") && lines[0].ends_with("was read: 2 sets\n"));
        assert_eq!(lines[1], "note     configuration: this version doesn't act on sets.b.rpo\n");
        assert_eq!(lines[2..], ["ok       set a: files\n", "ok       set b: influxdb\n"]);
    }
}
