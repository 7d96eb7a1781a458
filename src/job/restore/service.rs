//! Restore into a service that runs: which service, what a person is asked, and the record of who gave a restore up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::{RestoreJob, RestoreSubject, ServiceOptions};
use crate::error::{Error, Result};
use crate::index::Operation;
use crate::job::amount::size;
use crate::job::hooks::around_restore;
use crate::job::machine::Machine;
use crate::job::open::{OpenedSnapshot, Trust};
use crate::job::registry::{TargetOptions, connect_target};
use crate::job::spec::{Set, SourceKind};
use crate::progress::Progress;
use crate::repository::{Chosen, Repository};
use crate::restore::RestoreReport;
use crate::restore::service::{Guard, Purpose, abandon, restore_into, standing};
use crate::source::{Plan, Proof, RestoreTarget, RestoreTargetOptions};
use crate::time::{Clock, SystemClock};

/// The service that a snapshot goes back into.
pub struct ServiceRequest<'a> {
    /// Its kind.
    pub kind: SourceKind,
    /// Another name for the one database.
    pub name: Option<&'a str>,
    /// How it is loaded.
    pub options: &'a ServiceOptions,
    /// The whole request in one line, where it is noted so that the same needn't be done once more.
    pub noted: Option<&'a str>,
}

/// A snapshot that was restored into a service.
pub struct LoadedSnapshot {
    /// What was restored.
    pub report: RestoreReport,
    /// What was compared before it was put in place.
    pub proof: Proof,
    /// How long it took.
    pub took: Duration,
}

impl RestoreJob<'_> {
    /// Restores into a service: one set, or all sets of that service in the order in which sets are restored.
    ///
    /// # Errors
    ///
    /// Where one could not be restored.
    pub fn restore_into_service(&self, wanted: &ServiceRequest<'_>) -> Result<Vec<LoadedSnapshot>> {
        let mut snapshots = self.snapshots(&self.open()?)?;
        if self.request.what == RestoreSubject::All {
            snapshots.retain(|opened| self.set(opened).is_some_and(|set| set.source.kind() == wanted.kind));
        }
        self.order(&mut snapshots);
        let mut done = Vec::new();
        for opened in snapshots {
            opened.warnings.iter().for_each(|warning| self.progress.warn(warning));
            let began = Instant::now();
            let report = self.load(wanted, &opened)?;
            report.warnings.iter().for_each(|warning| self.progress.warn(warning));
            let proof = report.proof.clone().unwrap_or_default();
            done.push(LoadedSnapshot { report, proof, took: began.elapsed() });
        }
        Ok(done)
    }

    /// The configured set of a snapshot.
    pub(in crate::job) fn set(&self, opened: &OpenedSnapshot) -> Option<&Set> {
        self.machine.configuration.sets.get(&opened.snapshot.header.set)
    }

    /// Puts snapshots in the order in which their sets are restored.
    pub(in crate::job) fn order(&self, snapshots: &mut [OpenedSnapshot]) {
        snapshots.sort_by_key(|opened| self.set(opened).and_then(|set| set.restore_order).unwrap_or(u32::MAX));
    }

    /// Connects to the service that a snapshot goes back into.
    fn connect(&self, wanted: &ServiceRequest<'_>, opened: &OpenedSnapshot) -> Result<Box<dyn RestoreTarget>> {
        let ServiceRequest { kind, name, options, .. } = wanted;
        let target = TargetOptions {
            set: opened.snapshot.header.set.clone(),
            options: RestoreTargetOptions {
                name: name.map(str::to_owned),
                only: self.request.parts.only.clone(),
                replace: options.replace.clone(),
                keep_going: options.keep_going,
                stamp: SystemClock.now().compact(),
                folder: self.kept_folder(&opened.repository)?,
            },
            option_file: options.option_file.clone(),
            user: options.user.clone(),
        };
        let source = self.set(opened).map(|set| &set.source);
        connect_target(*kind, source, target, self.machine).map_err(|error| {
            let message = format!("nothing was restored into {}: {error}", kind.name());
            Error::Source(error).described(message)
        })
    }

    /// Where the definitions of what is put aside are kept.
    fn kept_folder(&self, repository: &Repository) -> Result<PathBuf> {
        Ok(self.machine.state()?.join(repository.id().to_string()).join("put-aside"))
    }

    /// What a restore would replace without being allowed to, and what stands now where the data goes; None for what can't be
    /// looked at.
    pub(in crate::job) fn standing(
        &self,
        wanted: &ServiceRequest<'_>,
        opened: &OpenedSnapshot,
    ) -> Result<(Vec<String>, Option<String>)> {
        let mut service = self.connect(wanted, opened)?;
        let (progress, interrupt) = (&**self.progress, &self.machine.interrupt);
        let (plan, now) = standing(&opened.repository, &opened.snapshot, &mut *service, progress, interrupt)?;
        let kept = plan.replaces.into_iter().filter(|name| !wanted.options.replace.contains(name)).collect();
        Ok((kept, now))
    }

    /// Restores one snapshot into a service.
    pub(in crate::job) fn load(&self, wanted: &ServiceRequest<'_>, opened: &OpenedSnapshot) -> Result<RestoreReport> {
        let name = &opened.snapshot.header.set;
        let set = self.set(opened);
        if set.is_some_and(|set| set.require_snapshot) && self.request.when == Chosen::Latest {
            return Err(Error::Refused(format!(
                "the set {name} says require_snapshot, so the snapshot has to be named: --snapshot ID or --at TIME; `varu \
                 list` shows them"
            )));
        }
        let mut service = self.connect(wanted, opened)?;
        let environment = &self.machine.configuration.environment;
        let guard = Guard {
            purpose: Purpose::Production,
            restore_from: environment.restore_from.clone(),
            refreshes: self.request.is_refresh.then(|| environment.name.clone()),
            reason: wanted.options.reason(),
        };
        let mut refusal = None;
        let mut confirm = |plan: &Plan| match self.confirm(wanted, plan, opened) {
            Ok(()) => true,
            Err(error) => {
                refusal = Some(error);
                false
            }
        };
        let (progress, interrupt) = (&**self.progress, &self.machine.interrupt);
        let restore = || {
            restore_into(
                &opened.repository,
                &opened.snapshot,
                &mut *service,
                &guard,
                wanted.noted,
                &mut confirm,
                &SystemClock,
                progress,
                interrupt,
            )
        };
        let report = around_restore(name, set, self.machine, progress, restore)?;
        report.ok_or_else(|| refusal.unwrap_or_else(|| Error::Refused("nothing was done".to_owned())))
    }

    /// Says what will be done, and asks.
    fn confirm(&self, wanted: &ServiceRequest<'_>, plan: &Plan, opened: &OpenedSnapshot) -> Result<()> {
        let (id, header) = (opened.snapshot.id.short(), &opened.snapshot.header);
        let time = self.machine.zone.stamp(header.data_time);
        self.progress.note(&format!("snapshot {id} of {} from {time} ({})", header.set, size(plan.bytes)));
        plan.lines.iter().for_each(|line| self.progress.note(&format!("  {line}")));
        if !plan.replaces.is_empty() && wanted.options.reason.is_none() {
            return Err(Error::Refused(
                "it puts data aside that is there, so give a --reason, which is kept in the history".to_owned(),
            ));
        }
        (self.ask)()
    }
}

/// Forgets an unfinished restore of a set, so that its backups go on. None where there is none.
///
/// # Errors
///
/// Where the repository can't be opened, or the index be written.
pub fn abandon_restore(
    set: &str,
    options: &ServiceOptions,
    trust: &Trust,
    machine: &Machine,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Operation>> {
    let opened = machine.open_to_look(trust, progress)?;
    let mut abandoned = None;
    for (repository, _) in &opened.repositories {
        abandoned = abandoned.or(abandon(repository, set, &options.reason(), &SystemClock)?);
    }
    Ok(abandoned)
}
