//! `varu verify`.

use clap::ValueEnum;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::{SetOrSnapshot, Trust, sample};

/// Check that what is stored is whole.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this set, or only this snapshot: an id, the beginning of one, or "latest".
    #[arg(value_name = "SET|SNAPSHOT")]
    what: Option<SetOrSnapshot>,

    /// How deep.
    #[arg(long, value_enum, default_value_t = Level::Structure)]
    level: Level,

    /// Read only this share of the packs, drawn at random.
    #[arg(long, value_name = "N%", value_parser = sample)]
    sample: Option<f64>,

    #[command(flatten)]
    trust: Trust,
}

/// How deep a verification looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Every object is there, every reference resolves, every pack has its hash. Needs no identity.
    Structure,
    /// And every segment opens, every chunk has its id. Needs the identity.
    Data,
}

/// What is verified, and how.
#[derive(Debug)]
pub struct Options {
    /// The repository's path or URL.
    pub repository: String,
    /// What; all where nothing is named.
    pub what: Option<SetOrSnapshot>,
    /// How deep.
    pub level: Level,
    /// The share of the packs that are read, above 0 and up to 1.
    pub sample: f64,
    /// The repository that is vouched for.
    pub trust: Trust,
}

impl Args {
    /// What these arguments mean.
    fn options(self, context: &Context) -> Result<Options, Failure> {
        Ok(Options {
            repository: context.repository()?.to_owned(),
            what: self.what,
            level: self.level,
            sample: self.sample.unwrap_or(1.0),
            trust: self.trust,
        })
    }

    /// Verifies and names every damage.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let _options = self.options(context)?;
        Err(Failure::absent("verify"))
    }
}
