//! `varu key`.

use clap::Subcommand;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::Trust;

/// Work with the repository's keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,

    #[command(flatten)]
    trust: Trust,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the repository's ids and recipients, and where the keys are. No secret is shown.
    Show,
    /// Print the identity for a safe, as text and as a QR code.
    Export {
        /// Print a recovery sheet: identity, repository ids, URL, host key, and the commands that restore.
        #[arg(long)]
        sheet: bool,
    },
    /// Let one more age recipient open all backups; needs the identity.
    AddRecipient {
        /// Its public half, age1….
        recipient: String,
    },
    /// Make a new writer key and data key; what comes after shares nothing with what was before.
    Rotate,
}

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        context.repository()?;
        Err(Failure::absent(match self.what {
            What::Show => "key show",
            What::Export { .. } => "key export",
            What::AddRecipient { .. } => "key add-recipient",
            What::Rotate => "key rotate",
        }))
    }
}
