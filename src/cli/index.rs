//! `varu index`.

use clap::Subcommand;
use serde_json::json;
use varu::format::layout::pack_name;
use varu::job::amount::counted;
use varu::job::index::{IndexJob, RebuildReport};
use varu::repository::Salvaged;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use super::values::{TrustArgs, short};

/// Work with the local index.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: IndexCommand,

    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Subcommand)]
enum IndexCommand {
    /// Rebuild the index from the repository; chunk data isn't read.
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

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let shared = progress.shared();
        let job = IndexJob { machine: &context.machine, trust: self.trust.vouched(), progress: &shared };
        match self.what {
            IndexCommand::Rebuild { salvage: true, .. } => salvage(&job, context, &progress),
            IndexCommand::Rebuild { accept_loss, .. } => rebuild(&job, accept_loss, context, &progress),
            IndexCommand::Check => check(&job, context, &progress),
            IndexCommand::Adopt => adopt(&job, context, &progress),
        }
    }
}

fn rebuild(
    job: &IndexJob,
    accept_loss: bool,
    context: &Context,
    progress: &ProgressReporter,
) -> Result<ExitStatus, Failure> {
    let RebuildReport { snapshots, packs, hidden } = job.rebuild(accept_loss)?;
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

fn salvage(job: &IndexJob, context: &Context, progress: &ProgressReporter) -> Result<ExitStatus, Failure> {
    let brought_back = job.salvage()?;
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

fn check(job: &IndexJob, context: &Context, progress: &ProgressReporter) -> Result<ExitStatus, Failure> {
    let differences = job.check()?;
    progress.end(&[]);
    match context.json {
        true => context.print_json(&json!({ "differences": differences }))?,
        false if differences.is_empty() => context.tell("the index is as the repository has it\n")?,
        false => context.print(&differences.iter().map(|line| format!("{line}\n")).collect::<String>())?,
    }
    Ok(if differences.is_empty() { ExitStatus::Done } else { ExitStatus::Warnings })
}

fn adopt(job: &IndexJob, context: &Context, progress: &ProgressReporter) -> Result<ExitStatus, Failure> {
    let (newest, warnings) = job.adopt()?;
    progress.end(&warnings);
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
