//! The command line: one file a command. Each takes its arguments, resolves them to options, makes one call of the
//! library, and prints.

mod backup;
mod complete;
mod completions;
mod config;
mod confirm;
mod context;
mod copy;
mod diff;
mod dump;
mod examples;
mod exit;
mod host;
mod index;
mod init;
mod key;
mod lines;
mod list;
mod ls;
mod man;
mod prune;
mod refresh;
mod restore;
mod schedule;
mod units;
mod verify;
mod progress;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use varu::progress::Interrupt;

use context::{Context, Globals, ProcessEnvironment, plain_json};
use exit::{ExitStatus, Failure};

use crate::terminal::human::one_line;

/// What the statuses mean, for the long help and the man page.
const EXIT_STATUS: &str = "\
Exit status:
  0    done
  1    failed
  2    wrong command line or configuration
  3    done, with warnings
  4    an objective is broken
  5    refused by a guard
  6    the remote can't be reached
  7    the repository is damaged
  8    no room, or a read-only disk
  130  interrupted";

/// Incremental, encrypted backups of self-hosted VMs.
#[derive(Debug, Parser)]
#[command(name = "varu", version, max_term_width = 100, disable_help_subcommand = true, after_long_help = EXIT_STATUS)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Dump(dump::Args),
    Backup(backup::Args),
    List(list::Args),
    Ls(ls::Args),
    Restore(restore::Args),
    Refresh(refresh::Args),
    Diff(diff::Args),
    Verify(verify::Args),
    Prune(prune::Args),
    Undelete(prune::Undelete),
    Copy(copy::Args),
    Index(index::Args),
    Key(key::Args),
    Config(config::Args),
    Host(host::Args),
    Schedule(schedule::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs a command line (the program's name first) to its end: its result goes to standard output, its errors to standard
/// error, and with `--json` also to standard output as a document.
pub fn main(words: impl Iterator<Item = OsString>, interrupt: Interrupt) -> ExitCode {
    complete::answer();
    let words: Vec<OsString> = words.collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return wrong_words(&error, words.iter().any(|word| word == "--json")),
    };
    let json = cli.globals.json;
    match cli.run(interrupt.clone()) {
        Ok(status) => status.into(),
        Err(mut failure) => {
            // An interrupt takes precedence over the error that it caused.
            if interrupt.is_set() {
                failure.status = ExitStatus::Interrupted;
            }
            report(&failure, json);
            failure.status.into()
        }
    }
}

/// Ends with clap's own words: help and version on standard output, an error on standard error.
fn wrong_words(error: &clap::Error, json: bool) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitStatus::Done.into()
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "{}", plain_lines(error.to_string().trim_end()));
            if json {
                let message = error.to_string();
                let failure = Failure::usage(message.trim_start_matches("error: ").trim_end());
                let _ = context::print(format!("{}\n", plain_json(&failure.json().to_string())).as_bytes());
            }
            ExitStatus::Usage.into()
        }
    }
}

/// Says why the program ends. Nothing is left to do where that can't be said.
fn report(failure: &Failure, json: bool) {
    if failure.message.is_empty() {
        return;
    }
    let _ = writeln!(std::io::stderr(), "varu: {}", plain_lines(&failure.message));
    if json {
        let _ = context::print(format!("{}\n", plain_json(&failure.json().to_string())).as_bytes());
    }
}

/// A message line by line, without anything that a terminal could take for a command.
fn plain_lines(message: &str) -> String {
    message.lines().map(one_line).collect::<Vec<_>>().join("\n")
}

impl Cli {
    fn run(self, interrupt: Interrupt) -> Result<ExitStatus, Failure> {
        match self.command {
            // These need no configuration, so a wrong one doesn't stop them.
            Command::Completions(args) => args.run(),
            Command::Man(args) => args.run(),
            command => command.run(&Context::resolve(self.globals, &ProcessEnvironment::of_the_process(), interrupt)?),
        }
    }
}

impl Command {
    fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        match self {
            Command::Init(args) => args.run(context),
            Command::Dump(args) => args.run(context),
            Command::Backup(args) => args.run(context),
            Command::List(args) => args.run(context),
            Command::Ls(args) => args.run(context),
            Command::Restore(args) => args.run(context),
            Command::Refresh(args) => args.run(context),
            Command::Diff(args) => args.run(context),
            Command::Verify(args) => args.run(context),
            Command::Prune(args) => args.run(context),
            Command::Undelete(args) => args.run(context),
            Command::Copy(args) => args.run(context),
            Command::Index(args) => args.run(context),
            Command::Key(args) => args.run(context),
            Command::Config(args) => args.run(context),
            Command::Host(args) => args.run(context),
            Command::Schedule(args) => args.run(context),
            Command::Completions(args) => args.run(),
            Command::Man(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_of_every_command_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
