//! `varu index`.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use varu::format::layout::pack_name;
use varu::progress::Progress;
use varu::repository::{self, Lock, Repository, Salvaged};
use varu::time::{Clock, SystemClock};
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use super::values::{TrustArgs, short};
use varu::job::amount::counted;
use varu::job::open::remember_place;

/// Work with the local index.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,

    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the index again from the repository; chunk data isn't read.
    Rebuild {
        /// Go on without a newest snapshot that was seen before and is gone.
        #[arg(long)]
        accept_loss: bool,

        /// Bring back snapshots that are lost: as they were where this machine knows them, else from the copies of their recipes in
        /// packs.
        #[arg(long, conflicts_with = "accept_loss")]
        salvage: bool,
    },
    /// Compare the index with the repository.
    Check,
    /// Take the repository over from another machine that wrote to it.
    Adopt,
}

/// How long a backup that runs is waited for.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        // Who goes on at another place than the last backup's goes on there with the backups, too.
        let as_first = matches!(self.what, What::Rebuild { accept_loss: true, .. } | What::Adopt);
        let repositories = context.machine.open_indexes(&self.trust.vouched(), as_first, &progress.shared())?;
        match self.what {
            What::Rebuild { salvage: true, .. } => salvage(context, &progress, &repositories),
            What::Rebuild { accept_loss, .. } => rebuild(context, &progress, &repositories, accept_loss),
            What::Check => check(context, &progress, &repositories),
            What::Adopt => adopt(context, &progress, &repositories[0]),
        }
    }
}

fn rebuild(
    context: &Context,
    progress: &ProgressReporter,
    repositories: &[Arc<Repository>],
    accept_loss: bool,
) -> Result<ExitStatus, Failure> {
    let (mut snapshots, mut packs, mut hidden) = (0, 0, Vec::new());
    for repository in repositories {
        let _lock = Lock::take(repository.folder(), "index rebuild", PATIENCE, progress, &context.machine.interrupt)?;
        let changes = repository.rebuild(accept_loss)?;
        changes.warnings().for_each(|warning| progress.warn(&warning));
        changes.lost.iter().for_each(|why| progress.warn(&WarningKind::UnusableObject.warning(why)));
        if let Some(missing) = changes.hidden {
            progress.warn(&WarningKind::MissingSnapshot.warning(&missing));
            hidden.push(missing);
        }
        let index = repository.index();
        snapshots += index.snapshots().map_err(repository::Error::from)?.len() as u64;
        packs += index.packs().map_err(repository::Error::from)?.len() as u64;
    }
    if accept_loss {
        repositories.iter().try_for_each(|repository| remember_place(repository))?;
    }
    let warnings = progress.end(&[]);
    let left_alone = !hidden.is_empty() && !accept_loss;
    match context.json {
        true => context
            .print_json(&json!({ "snapshots": snapshots, "packs": packs, "hidden": hidden, "warnings": warnings }))?,
        false if left_alone => context.tell("the index was left as it is\n")?,
        false => context.tell(&format!(
            "the index was made again: {}, {}\n",
            counted(snapshots, "snapshot"),
            counted(packs, "pack")
        ))?,
    }
    let status = progress.say_warnings();
    Ok(if left_alone { ExitStatus::Damaged } else { status })
}

fn salvage(
    context: &Context,
    progress: &ProgressReporter,
    repositories: &[Arc<Repository>],
) -> Result<ExitStatus, Failure> {
    let mut found = Vec::new();
    for repository in repositories {
        let _lock = Lock::take(repository.folder(), "index rebuild", PATIENCE, progress, &context.machine.interrupt)?;
        found.push(repository.salvage(SystemClock.now())?);
    }
    // Whose a damaged object was none can tell, so each has named it. Where one of them has put it back that is over.
    let put_back = |salvaged: &&Salvaged| salvaged.from.is_none();
    let back: Vec<String> = found
        .iter()
        .flat_map(|(_, salvage)| salvage.brought_back.iter().filter(put_back))
        .map(|salvaged| salvaged.snapshot.id.to_string())
        .collect();
    let mut brought_back = Vec::new();
    for (mut changes, salvage) in found {
        changes.damaged.retain(|sentence| !back.iter().any(|id| sentence.contains(id)));
        changes.warnings().for_each(|warning| progress.warn(&warning));
        changes.lost.iter().for_each(|why| progress.warn(&WarningKind::UnusableObject.warning(why)));
        salvage.left.iter().for_each(|why| progress.warn(&WarningKind::MissingSnapshot.warning(why)));
        brought_back.extend(salvage.brought_back);
    }
    let warnings = progress.end(&[]);
    let document = |salvaged: &Salvaged| {
        json!({
            "id": salvaged.snapshot.id,
            "set": salvaged.snapshot.header.set,
            "data_time": salvaged.snapshot.header.data_time.to_string(),
            "from": salvaged.from.map(|pack| pack_name(&pack).to_string()),
            "left_out": salvaged.left_out,
        })
    };
    match context.json {
        true => context.print_json(&json!({
            "salvaged": brought_back.iter().map(document).collect::<Vec<_>>(),
            "warnings": warnings,
        }))?,
        false => {
            context
                .tell(&brought_back.iter().map(|salvaged| format!("{}\n", salvaged.sentence())).collect::<String>())?;
            context.tell(&format!("{} brought back\n", counted(brought_back.len() as u64, "snapshot")))?;
        }
    }
    Ok(progress.say_warnings())
}

fn check(
    context: &Context,
    progress: &ProgressReporter,
    repositories: &[Arc<Repository>],
) -> Result<ExitStatus, Failure> {
    let mut found = Vec::new();
    for repository in repositories {
        found.extend(repository.check_index()?);
    }
    progress.end(&[]);
    match context.json {
        true => context.print_json(&json!({ "differences": found }))?,
        false if found.is_empty() => context.tell("the index is as the repository has it\n")?,
        false => context.print(&found.iter().map(|line| format!("{line}\n")).collect::<String>())?,
    }
    Ok(if found.is_empty() { ExitStatus::Done } else { ExitStatus::Warnings })
}

fn adopt(context: &Context, progress: &ProgressReporter, repository: &Repository) -> Result<ExitStatus, Failure> {
    let _lock = Lock::take(repository.folder(), "index adopt", PATIENCE, progress, &context.machine.interrupt)?;
    let changes = repository.sync()?;
    if let Some(hidden) = changes.hidden {
        return Err(Failure::new(ExitStatus::Damaged, hidden));
    }
    let newest = repository.adopt()?;
    remember_place(repository)?;
    progress.end(&changes.warnings().collect::<Vec<_>>());
    match (context.json, &newest) {
        (true, _) => context.print_json(&json!({ "adopted": newest.as_ref().map(|row| row.id) }))?,
        (false, None) => context.tell("there is no snapshot yet, so there is nothing to adopt\n")?,
        (false, Some(row)) => context.tell(&format!(
            "this machine goes on from snapshot {} ({} of {}), which {:?} wrote\n",
            short(&row.id),
            row.header.kind(),
            row.header.set,
            row.about.host
        ))?,
    }
    Ok(progress.say_warnings())
}
