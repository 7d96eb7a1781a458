//! `varu index`.

use clap::Subcommand;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::Trust;

/// Work with the local index.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,

    #[command(flatten)]
    trust: Trust,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the index again from the repository; chunk data isn't read.
    Rebuild,
    /// Compare the index with the repository.
    Check,
    /// Take the repository over from another machine that wrote to it.
    Adopt,
}

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        context.repository()?;
        Err(Failure::absent(match self.what {
            What::Rebuild => "index rebuild",
            What::Check => "index check",
            What::Adopt => "index adopt",
        }))
    }
}
