//! `varu init`.

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::Trust;

/// Make a repository, a writer key and, unless --recipient is given, an identity.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An age recipient (age1…) that can open the repository's backups; may be given several times.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,

    #[command(flatten)]
    trust: Trust,
}

/// What is to be made.
#[derive(Debug)]
pub struct Options {
    /// Where.
    pub repository: String,
    /// For whom; with none an identity is made.
    pub recipients: Vec<String>,
    /// The repository that is known to the state and may be gone.
    pub trust: Trust,
}

impl Args {
    /// What these arguments mean.
    fn options(self, context: &Context) -> Result<Options, Failure> {
        Ok(Options { repository: context.repository()?.to_owned(), recipients: self.recipients, trust: self.trust })
    }

    /// Makes the repository and says where everything is.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let _options = self.options(context)?;
        Err(Failure::absent("init"))
    }
}
