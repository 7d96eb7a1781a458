//! `varu completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::context::print;
use super::exit::{ExitStatus, Failure};

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

impl Args {
    /// Prints them.
    pub fn run(self) -> Result<ExitStatus, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "varu", &mut script);
        print(&script)?;
        Ok(ExitStatus::Done)
    }
}
