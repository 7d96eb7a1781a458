//! `varu host hold` and `varu host release`.

use serde_json::json;
use varu::host::Places;
use varu::host::holds::{HoldOptions, hold};

use super::{PATIENCE, account};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::cli::values::{SnapshotWord, short};

/// Keep a snapshot, and its chain, until it is released.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    #[command(flatten)]
    which: Which,
}

/// Let the policy decide about a snapshot again.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The beginning of the snapshot's id.
    #[arg(value_name = "SNAPSHOT")]
    snapshot: SnapshotWord,

    /// The account, where several have such a snapshot.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    account: Option<String>,
}

impl HoldArgs {
    /// Holds it.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        self.which.run(context, places, true)
    }
}

impl ReleaseArgs {
    /// Releases it.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        self.which.run(context, places, false)
    }
}

impl Which {
    fn run(self, context: &Context, places: Places, held: bool) -> Result<ExitStatus, Failure> {
        let SnapshotWord::Prefix(prefix) = self.snapshot else {
            return Err(Failure::usage("which snapshot is the latest is the machine's word; name one by its id"));
        };
        let accounts = self.account.into_iter().collect();
        let options = HoldOptions { places, accounts, prefix, hold: held, wait: PATIENCE };
        let progress = context.progress();
        let done = hold(&options, &*progress, &context.machine.interrupt)?;
        progress.end(&[]);
        let state = if held { "held" } else { "not held" };
        match context.json {
            true => context.print_json(&json!({
                "account": done.account, "snapshot": done.snapshot, "held": held, "already": done.already
            }))?,
            false => {
                let already = if done.already { " already" } else { "" };
                context.tell(&format!("{}: {} is {state}{already}\n", done.account, short(&done.snapshot)))?;
            }
        }
        Ok(progress.say_warnings())
    }
}
