//! `varu man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;

use super::Cli;
use super::context::print;
use super::examples;
use super::exit::{ExitStatus, Failure};

/// Print a man page, or write all of them into a folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command whose page is meant, as "key export"; without it varu's own.
    #[arg(value_name = "COMMAND", conflicts_with = "to")]
    command: Vec<String>,

    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Args {
    /// Prints the page, or writes all.
    pub fn run(self) -> Result<ExitStatus, Failure> {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        match &self.to {
            Some(folder) => write_all(&program, folder)?,
            None => print(&page(find(&program, &self.command)?).map_err(|error| Failure::printing(&error))?)?,
        }
        Ok(ExitStatus::Done)
    }
}

/// The command of that name.
fn find<'c>(program: &'c clap::Command, names: &[String]) -> Result<&'c clap::Command, Failure> {
    names.iter().try_fold(program, |command, name| {
        command
            .find_subcommand(name)
            .ok_or_else(|| Failure::usage(format!("there is no command {:?}; see varu --help", names.join(" "))))
    })
}

/// The page of a command, in roff.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut roff = Vec::new();
    Man::new(command.clone()).source(concat!("varu ", env!("CARGO_PKG_VERSION"))).manual("varu").render(&mut roff)?;
    let name = command.get_display_name().unwrap_or_default();
    roff.extend(examples::section(name.strip_prefix("varu-").unwrap_or_default()).bytes());
    Ok(roff)
}

/// Writes `varu.1`, `varu-backup.1` and so on.
fn write_all(command: &clap::Command, folder: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = folder.join(format!("{name}.1"));
    page(command).and_then(|page| fs::write(&file, page)).map_err(|error| {
        Failure::new(ExitStatus::Failed, format!("writing the man page {} failed: {error}", file.display()))
    })?;
    command.get_subcommands().try_for_each(|inner| write_all(inner, folder))
}
