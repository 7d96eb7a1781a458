//! `varu completions`.

use clap_complete::Shell;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::complete;
use super::context::print;
use super::exit::{ExitStatus, Failure};

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

impl Args {
    /// Prints the script with which the shell asks varu for them.
    pub fn run(self) -> Result<ExitStatus, Failure> {
        let completer: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Elvish => &Elvish,
            Shell::Fish => &Fish,
            Shell::PowerShell => &Powershell,
            Shell::Zsh => &Zsh,
            other => return Err(Failure::usage(format!("there are no completions for {other}"))),
        };
        let mut script = Vec::new();
        let written = completer.write_registration(complete::VARIABLE, "varu", "varu", "varu", &mut script);
        written.map_err(|error| Failure::usage(format!("making the script failed: {error}")))?;
        print(&script)?;
        Ok(ExitStatus::Done)
    }
}
