//! `varu restore --into`: back into a service that runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::entry::Untrusted;
use varu::job::hooks::around_restore;
use varu::job::registry::{TargetOptions, connect_target};
use varu::job::spec::{Refresh, SourceKind};
use varu::progress::Progress;
use varu::repository::Repository;
use varu::restore::RestoreReport;
use varu::restore::service::{Guard, abandon, restore_into, standing};
use varu::source::{IntoOptions, Plan, Proof, Service};
use varu::time::{Clock, SystemClock, format_duration};

use super::complete;
use super::confirm::go_on;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use super::restore::{Options, What, Which};
use super::values::{SnapshotWord, short};
use varu::job::amount::{counted, rate, size};
use varu::job::open::OpenedSnapshot;

/// The options of a restore into a service.
#[derive(Debug, Clone, Default, Args)]
pub struct IntoArgs {
    /// Load into a service that runs: "mysql", "postgresql", "influxdb", "command"; with ":NAME" under
    /// another name of the one database.
    #[arg(long, value_name = "SERVICE[:NAME]", add = ArgValueCandidates::new(complete::services))]
    into: Option<String>,

    /// What is there under this name may be put aside for the restored data; may be given several times.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    replace: Vec<String>,

    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Don't ask.
    #[arg(long)]
    yes: bool,

    /// Name what can't be restored, pass over it, and put the rest in place.
    #[arg(long)]
    keep_going: bool,

    /// The option file with which the service is written to [default: the set's]. With --all, that of the MySQL sets.
    #[arg(long, value_name = "FILE")]
    option_file: Option<PathBuf>,

    /// The account with which the service is written to [default: the set's]. With --all, that of the PostgreSQL sets.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Forget a restore into a service that did not succeed, so that the set's backups go on.
    #[arg(long, requires = "set")]
    abandon: bool,

    /// Whether it is a refresh, which has a guard of its own.
    #[arg(skip)]
    refreshes: bool,
}

impl IntoArgs {
    /// The same, for one service of several: an option file is MySQL's.
    pub fn among_several(&self, kind: SourceKind) -> Self {
        Self {
            option_file: self.option_file.clone().filter(|_| kind.descriptor().takes_option_file_of_all),
            ..self.clone()
        }
    }

    /// Those of a refresh into `service`, which nobody is there to be asked about.
    pub fn of_refresh(refresh: &Refresh, service: &str, reason: &str) -> Self {
        Self {
            into: Some(service.to_owned()),
            replace: refresh.replace.clone(),
            reason: Some(reason.to_owned()),
            yes: true,
            keep_going: false,
            option_file: refresh.option_file.clone(),
            user: refresh.user.clone(),
            abandon: false,
            refreshes: true,
        }
    }
}

/// What the options of a restore into a service mean.
pub enum Wanted {
    /// This is to be done with one.
    Something(Into),
    /// No service is named; the other options stay.
    Nothing(IntoArgs),
}

/// What is to be done with a service.
pub enum Into {
    /// Restore into it.
    Load(IntoArgs, SourceKind, Option<String>),
    /// Forget an unfinished restore.
    Abandon(IntoArgs),
}

impl IntoArgs {
    /// What is wanted of a service.
    pub fn wanted(self) -> Result<Wanted, Failure> {
        if self.abandon {
            return Ok(Wanted::Something(Into::Abandon(self)));
        }
        let Some(service) = &self.into else { return Ok(Wanted::Nothing(self)) };
        let (service, name) = match service.split_once(':') {
            Some((service, name)) if !name.is_empty() => (service, Some(name.to_owned())),
            Some((service, _)) => (service, None),
            None => (service.as_str(), None),
        };
        match SourceKind::services().find(|kind| kind.name() == service) {
            Some(kind) => Ok(Wanted::Something(Into::Load(self, kind, name))),
            None => {
                let names = SourceKind::services().map(SourceKind::name).collect::<Vec<_>>().join(", ");
                Err(Failure::usage(format!("there is no service {service:?}; there are {names}")))
            }
        }
    }

    /// What of it decides where data goes, for the record. What may be replaced on the way doesn't.
    pub fn wish(&self) -> String {
        format!("{:?} {:?}", self.option_file, self.user)
    }

    /// Who restores, and why.
    fn reason(&self) -> String {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let who = variable("SUDO_USER").or_else(|| variable("USER")).or_else(|| variable("LOGNAME"));
        let who = who.unwrap_or_else(|| "somebody".to_owned());
        match &self.reason {
            Some(reason) => format!("by {who}, because: {reason}"),
            None => format!("by {who}"),
        }
    }
}

impl Into {
    /// Does it.
    pub fn run(self, options: &Options, context: &Context) -> Result<ExitStatus, Failure> {
        match self {
            Into::Abandon(args) => args.abandon(options, context),
            Into::Load(args, kind, name) => args.load(kind, name, options, context),
        }
    }
}

impl IntoArgs {
    fn abandon(&self, options: &Options, context: &Context) -> Result<ExitStatus, Failure> {
        let What::Set(set) = &options.what else { return Err(Failure::usage("--abandon takes a SET")) };
        let progress = context.progress();
        let opened = context.machine.open_to_look(&options.trust.vouched(), &progress.shared())?;
        let mut given_up = None;
        for (repository, _) in &opened.repositories {
            given_up = given_up.or(abandon(repository, set, &self.reason(), &SystemClock)?);
        }
        let text = match &given_up {
            Some(operation) => format!(
                "the restore of {set} that began at {} is given up\n{}\n",
                operation.started,
                Untrusted::from(operation.described())
            ),
            None => format!("there is no unfinished restore of {set}\n"),
        };
        match context.json {
            true => context.print_json(&json!({ "set": set, "abandoned": given_up.is_some() }))?,
            false => context.tell(&text)?,
        }
        Ok(progress.say_warnings())
    }

    fn load(
        &self,
        kind: SourceKind,
        name: Option<String>,
        options: &Options,
        context: &Context,
    ) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let opened = context.machine.open_to_read(&options.trust.vouched(), &progress.shared())?;
        let started = Instant::now();
        let mut done = Vec::new();
        for found in self.ordered(kind, options.all_found(&opened)?, options, context) {
            found.warnings.iter().for_each(|warning| progress.warn(warning));
            let began = Instant::now();
            let (report, service) = self.one(kind, name.clone(), None, &found, options, context, &progress)?;
            let proof = service.proof();
            report.warnings.iter().for_each(|warning| progress.warn(warning));
            done.push((report, proof, began.elapsed()));
        }
        let warnings = progress.end(&[]);
        match context.json {
            true => context.print_json(&document(&done, &warnings, started.elapsed()))?,
            false => context.tell(
                &done.iter().map(|(report, proof, took)| text(context, report, proof, *took)).collect::<String>(),
            )?,
        }
        Ok(progress.say_warnings())
    }

    /// The snapshots in the order in which their sets are restored; of several, only those of this service.
    fn ordered(
        &self,
        kind: SourceKind,
        mut found: Vec<OpenedSnapshot>,
        options: &Options,
        context: &Context,
    ) -> Vec<OpenedSnapshot> {
        let set = |found: &OpenedSnapshot| context.machine.configuration.sets.get(&found.snapshot.header.set);
        if options.what == What::All {
            found.retain(|found| set(found).is_some_and(|set| set.source.kind() == kind));
        }
        found.sort_by_key(|found| set(found).and_then(|set| set.restore_order).unwrap_or(u32::MAX));
        found
    }

    /// The service that a snapshot goes back into.
    fn service(
        &self,
        kind: SourceKind,
        name: Option<String>,
        found: &OpenedSnapshot,
        options: &Options,
        context: &Context,
    ) -> Result<Box<dyn Service>, Failure> {
        let snapshot = &found.snapshot;
        let set = context.machine.configuration.sets.get(&snapshot.header.set);
        let wanted = TargetOptions {
            set: snapshot.header.set.clone(),
            options: IntoOptions {
                name,
                only: options.only.clone(),
                replace: self.replace.clone(),
                keep_going: self.keep_going,
                stamp: SystemClock.now().compact(),
                folder: kept_folder(context, &found.repository)?,
            },
            option_file: self.option_file.clone(),
            user: self.user.clone(),
        };
        connect_target(kind, set.map(|set| &set.source), wanted, &context.machine).map_err(|error| Failure {
            message: format!("nothing was restored into {}: {error}", kind.name()),
            ..Failure::from(error)
        })
    }

    /// What a restore would replace without being allowed to, and what stands now where the data goes; None for what can't be
    /// looked at.
    pub fn standing(
        &self,
        kind: SourceKind,
        found: &OpenedSnapshot,
        options: &Options,
        context: &Context,
        progress: &Arc<ProgressReporter>,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let mut service = self.service(kind, None, found, options, context)?;
        let (repository, snapshot) = (&found.repository, &found.snapshot);
        let (plan, now) = standing(repository, snapshot, &mut *service, &**progress, &context.machine.interrupt)?;
        let kept = plan.replaces.into_iter().filter(|name| !self.replace.contains(name)).collect();
        Ok((kept, now))
    }

    /// Restores one snapshot into a service, and gives the service. `request` as of [`restore_into`].
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own")]
    pub fn one(
        &self,
        kind: SourceKind,
        name: Option<String>,
        request: Option<&str>,
        found: &OpenedSnapshot,
        options: &Options,
        context: &Context,
        progress: &Arc<ProgressReporter>,
    ) -> Result<(RestoreReport, Box<dyn Service>), Failure> {
        let (repository, snapshot) = (&found.repository, &found.snapshot);
        let set = context.machine.configuration.sets.get(&snapshot.header.set);
        let named = matches!(&options.which, Which::Snapshot(SnapshotWord::Prefix(_)) | Which::At(_));
        if set.is_some_and(|set| set.require_snapshot) && !named {
            return Err(refused(format!(
                "the set {} says require_snapshot, so the snapshot has to be named: --snapshot ID or --at TIME; `varu list` \
                 shows them",
                snapshot.header.set
            )));
        }
        let mut service = self.service(kind, name, found, options, context)?;
        let environment = &context.machine.configuration.environment;
        let guard = Guard {
            restore_from: environment.restore_from.clone(),
            refreshes: self.refreshes.then(|| environment.name.clone()),
            reason: self.reason(),
        };
        let mut refusal = None;
        let mut confirm = |plan: &Plan| match self.confirm(plan, snapshot_words(context, found), progress) {
            Ok(()) => true,
            Err(failure) => {
                refusal = Some(failure);
                false
            }
        };
        let clock = &SystemClock;
        let restore = || {
            let interrupt = &context.machine.interrupt;
            restore_into(
                repository,
                snapshot,
                &mut *service,
                &guard,
                request,
                &mut confirm,
                clock,
                &**progress,
                interrupt,
            )
        };
        let report = around_restore(&snapshot.header.set, set, &context.machine, &**progress, restore)?;
        let report = report.ok_or_else(|| refusal.unwrap_or_else(|| refused("nothing was done")))?;
        Ok((report, service))
    }

    /// Says what will be done, and asks.
    fn confirm(&self, plan: &Plan, what: String, progress: &ProgressReporter) -> Result<(), Failure> {
        progress.note_lines(&format!("{what} ({})", size(plan.bytes)));
        plan.lines.iter().for_each(|line| progress.note(&format!("  {line}")));
        if !plan.replaces.is_empty() && self.reason.is_none() {
            return Err(refused("it puts data aside that is there, so give a --reason, which is kept in the history"));
        }
        go_on(self.yes)
    }
}

fn refused(message: impl std::convert::Into<String>) -> Failure {
    Failure::new(ExitStatus::Refused, message)
}

/// Where the definitions of what is put aside are kept.
fn kept_folder(context: &Context, repository: &Repository) -> Result<PathBuf, Failure> {
    let state = context.machine.state()?;
    Ok(state.join(repository.id().to_string()).join("put-aside"))
}

fn snapshot_words(context: &Context, found: &OpenedSnapshot) -> String {
    let header = &found.snapshot.header;
    format!(
        "snapshot {} of {} from {}",
        short(&found.snapshot.id),
        header.set,
        context.machine.zone.stamp(header.data_time)
    )
}

fn text(context: &Context, report: &RestoreReport, proof: &Proof, took: Duration) -> String {
    let header = &report.snapshot.header;
    let rate = rate(report.bytes, took).map(|rate| format!(", {rate}")).unwrap_or_default();
    format!(
        "restored {} from snapshot {} ({}): {} in {}, in {}{rate}; {}\n",
        header.set,
        short(&report.snapshot.id),
        context.machine.zone.stamp(header.data_time),
        size(report.bytes),
        counted(report.streams, "stream"),
        format_duration(took),
        proof.checks
    )
}

fn document(done: &[(RestoreReport, Proof, Duration)], warnings: &[String], took: Duration) -> serde_json::Value {
    let restored: Vec<serde_json::Value> = done
        .iter()
        .map(|(report, proof, took)| {
            json!({
                "set": report.snapshot.header.set,
                "snapshot": report.snapshot.id,
                "streams": report.streams,
                "bytes": report.bytes,
                "counted": proof.counted.map(|(count, _)| count),
                "unit": proof.counted.map(|(_, unit)| unit),
                "checks": proof.checks,
                "seconds": took.as_millis() as f64 / 1000.0,
            })
        })
        .collect();
    json!({ "restored": restored, "seconds": took.as_millis() as f64 / 1000.0, "warnings": warnings })
}
