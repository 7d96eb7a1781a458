//! `varu list`.

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::{Trust, set_name};

/// List the chains and snapshots that can be restored.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this set's.
    #[arg(value_name = "SET", value_parser = set_name)]
    set: Option<String>,

    #[command(flatten)]
    trust: Trust,
}

impl Args {
    /// Prints a table of the snapshots.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        context.repository()?;
        Err(Failure::absent("list"))
    }
}
