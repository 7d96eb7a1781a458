//! `varu diff`.

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::{SnapshotWord, Trust};

/// Show what changed between two snapshots.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier one: an id, the beginning of one, or "latest".
    #[arg(value_name = "A")]
    one: SnapshotWord,

    /// The later one.
    #[arg(value_name = "B")]
    other: SnapshotWord,

    #[command(flatten)]
    trust: Trust,
}

impl Args {
    /// Prints a line for each stream that differs.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        context.repository()?;
        Err(Failure::absent("diff"))
    }
}
