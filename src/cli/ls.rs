//! `varu ls`.

use std::ffi::OsString;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::{SnapshotWord, Trust};

/// List the streams inside a snapshot.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which: an id, the beginning of one, or "latest".
    snapshot: SnapshotWord,

    /// Only what is at or below this path.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,

    /// Show modes, owners, sizes and times.
    #[arg(short)]
    long: bool,

    #[command(flatten)]
    trust: Trust,
}

impl Args {
    /// Prints a line for each stream.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        context.repository()?;
        Err(Failure::absent("ls"))
    }
}
