//! `varu host retire` and `varu host rename`.

use serde_json::json;
use varu::host::Places;
use varu::host::rename::{RenameOptions, rename};
use varu::host::retire::{RetireOptions, retire};
use varu::time::SystemClock;

use super::ssh::{RELOAD, SshArgs};
use super::{PATIENCE, account};
use crate::cli::confirm::go_on;
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};

/// Let nobody into an account any more, and miss no new backups of it. What arrived stays.
#[derive(Debug, clap::Args)]
pub struct RetireArgs {
    /// The account.
    #[arg(value_parser = account)]
    account: String,

    /// Only this set of it: its machine goes on with the others.
    #[arg(long, value_name = "SET", conflicts_with = "delete")]
    set: Option<String>,

    /// Delete all that arrived, too, and the ledger.
    #[arg(long)]
    delete: bool,

    /// Don't ask before something is deleted.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    ssh: SshArgs,
}

/// Give an account another name, with all that arrived.
#[derive(Debug, clap::Args)]
pub struct RenameArgs {
    /// The account.
    #[arg(value_parser = account)]
    account: String,

    /// Its new name.
    #[arg(value_parser = account)]
    name: String,

    #[command(flatten)]
    ssh: SshArgs,
}

impl RetireArgs {
    /// Retires it and says what was done.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        if self.delete {
            let (chroot, ledger) = (places.chroot(&self.account), places.ledger(&self.account));
            progress.note_lines(&format!(
                "{} and {} are going to be deleted: all backups of {}\n",
                chroot.display(),
                ledger.display(),
                self.account
            ));
            go_on(self.yes)?;
        }
        let options = RetireOptions {
            places,
            account: self.account,
            set: self.set,
            delete: self.delete,
            authorized_keys: self.ssh.authorized_keys.clone(),
            sshd: self.ssh.sshd(),
            wait: PATIENCE,
        };
        let done = retire(&options, &SystemClock, &*progress, &context.machine.interrupt)?;
        self.ssh.reload_if_asked()?;
        say(context, &options.account, &done.changes, done.reload && !self.ssh.reload)
    }
}

impl RenameArgs {
    /// Renames it and says what was done.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let options = RenameOptions {
            places,
            account: self.account,
            name: self.name,
            authorized_keys: self.ssh.authorized_keys.clone(),
            sshd: self.ssh.sshd(),
            wait: PATIENCE,
        };
        let changes = rename(&options, &*progress, &context.machine.interrupt)?;
        self.ssh.reload_if_asked()?;
        say(context, &options.name, &changes, !changes.is_empty() && !self.ssh.reload)
    }
}

fn say(context: &Context, account: &str, changes: &[String], reload: bool) -> Result<ExitStatus, Failure> {
    if context.json {
        context.print_json(&json!({ "account": account, "changes": changes, "reload": reload }))?;
        return Ok(ExitStatus::Done);
    }
    let mut text: String = changes.iter().map(|change| format!("{change}\n")).collect();
    if changes.is_empty() {
        text = format!("{account}: everything is so already\n");
    }
    if reload {
        text += &format!("next: {}\n", RELOAD.join(" "));
    }
    context.tell(&text)?;
    Ok(ExitStatus::Done)
}
