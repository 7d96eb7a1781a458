//! `varu host`: one file a command, and what they share.

mod accept;
mod mark_lost;
mod hold;
mod install;
mod prepare;
mod prune;
mod retire;
mod ssh;
mod status;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Map, Value, json};
use varu::error::Error;
use varu::host::{HostDamage, Places, check_account};
use varu::progress::Progress;
use varu::warning::Warning;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use crate::terminal::human::one_line;

/// The folder of the accounts' folders, where none is named.
const ROOT: &str = "/srv/varu";
/// That of the ledgers.
const LEDGERS: &str = "/var/lib/varu-host";

/// Manage the repositories of other machines: on the backup host, as root and without any key.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with a folder for each account.
    #[arg(long, global = true, value_name = "DIR", default_value = ROOT)]
    root: PathBuf,

    /// The folder of the ledgers, which no account reaches.
    #[arg(long, global = true, value_name = "DIR", default_value = LEDGERS)]
    ledgers: PathBuf,

    #[command(subcommand)]
    what: HostCommand,
}

#[derive(Debug, Subcommand)]
enum HostCommand {
    Prepare(prepare::Args),
    Accept(accept::Args),
    Verify(verify::Args),
    Prune(prune::Args),
    Hold(hold::HoldArgs),
    Release(hold::ReleaseArgs),
    MarkLost(mark_lost::Args),
    Status(status::Args),
    Install(install::Args),
    Rename(retire::RenameArgs),
    Retire(retire::RetireArgs),
}

/// How long another run on the same account is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);

fn account(word: &str) -> Result<String, String> {
    check_account(word).map(|()| word.to_owned())
}

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let places = Places { root: self.root, state: self.ledgers };
        match self.what {
            HostCommand::Prepare(args) => args.run(context, places),
            HostCommand::Accept(args) => args.run(context, places),
            HostCommand::Verify(args) => args.run(context, places),
            HostCommand::Prune(args) => args.run(context, places),
            HostCommand::Hold(args) => args.run(context, places),
            HostCommand::Release(args) => args.run(context, places),
            HostCommand::MarkLost(args) => args.run(context, places),
            HostCommand::Status(args) => args.run(context, places),
            HostCommand::Install(args) => args.run(context, places),
            HostCommand::Rename(args) => args.run(context, places),
            HostCommand::Retire(args) => args.run(context, places),
        }
    }
}

/// How a command over several accounts ends: what it says of each, and the status of the worst.
struct End<'a> {
    progress: &'a ProgressReporter,
    text: String,
    documents: Vec<Value>,
    damaged: bool,
    failed: Option<Failure>,
}

impl<'a> End<'a> {
    fn new(progress: &'a ProgressReporter) -> Self {
        Self { progress, text: String::new(), documents: Vec::new(), damaged: false, failed: None }
    }

    /// Takes in what is said of one account. `document` gets its name and why it ended early.
    fn account(
        &mut self,
        account: &str,
        text: String,
        mut document: Value,
        warnings: &[Warning],
        damaged: bool,
        failure: Option<Error>,
    ) {
        let named = |warning: &Warning| warning.kind.warning(format!("{account}: {}", warning.text));
        warnings.iter().for_each(|warning| self.progress.warn(&named(warning)));
        self.text += &text;
        document["account"] = account.into();
        document["failure"] = failure.as_ref().map(ToString::to_string).into();
        self.documents.push(document);
        self.damaged |= damaged;
        if let Some(error) = failure {
            self.text += &format!("{account}: FAILED: {}\n", one_line(&error.to_string()));
            let failure = Failure::from(error);
            let named = Failure::new(failure.status, format!("{account}: {}", failure.message));
            self.failed.get_or_insert(named);
        }
    }

    /// Says all of it, with more members for the document.
    fn finish(self, context: &Context, mut document: Map<String, Value>) -> Result<ExitStatus, Failure> {
        let warnings = self.progress.end(&[]);
        document.insert("accounts".to_owned(), self.documents.into());
        document.insert("warnings".to_owned(), warnings.into());
        match context.json {
            true => context.print_json(&document)?,
            false if self.damaged => context.print(&self.text)?,
            false => context.tell(&self.text)?,
        }
        let status = self.progress.say_warnings();
        match self.failed {
            Some(failure) => Err(failure),
            None if self.damaged => Ok(ExitStatus::Damaged),
            None => Ok(status),
        }
    }
}

/// How many damaged objects people are shown.
const SHOWN: usize = 50;

fn damage_text(account: &str, damage: &[HostDamage]) -> String {
    let line = |damage: &HostDamage| format!("{account}: {} is DAMAGED: {}\n", damage.object, one_line(&damage.reason));
    let text: String = damage.iter().take(SHOWN).map(line).collect();
    match damage.len().checked_sub(SHOWN) {
        None | Some(0) => text,
        Some(more) => text + &format!("{account}: {more} more are DAMAGED; --json names all\n"),
    }
}

fn damage_json(damage: &[HostDamage]) -> Vec<Value> {
    damage.iter().map(|damage| json!({ "object": damage.object.to_string(), "reason": damage.reason })).collect()
}
