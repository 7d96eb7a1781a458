//! `varu host prepare`.

use std::path::PathBuf;

use serde_json::json;
use varu::host::Places;
use varu::host::owner::MachineId;
use varu::host::prepare::{PrepareOptions, PreparedAccount, prepare};
use varu::id::RepositoryId;
use varu::progress::Progress;
use varu::time::SystemClock;
use varu::warning::WarningKind;

use super::ssh::{RELOAD, SshArgs};
use super::{PATIENCE, account};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};

/// Make an account that can add objects and nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The account, one for each machine.
    #[arg(value_parser = account)]
    account: String,

    /// Make this account instead, which may only read what the account stores: for a staging machine that is refreshed from it.
    #[arg(long, value_name = "NAME", value_parser = account)]
    reader: Option<String>,

    /// A file with the public half of the machine's SSH key; may be given several times.
    #[arg(long = "ssh-key", value_name = "FILE")]
    ssh_keys: Vec<PathBuf>,

    /// The name or address under which the machine reaches this host [default: this host's name].
    #[arg(long, value_name = "HOST")]
    address: Option<String>,

    /// The machine whose account it is, by its /etc/machine-id: another one is refused later.
    #[arg(long, value_name = "MACHINE-ID", value_parser = MachineId::parse)]
    machine: Option<MachineId>,

    /// A repository that the machine writes; may be given several times. An account with another's backups is refused.
    #[arg(long = "repository", value_name = "ID")]
    repositories: Vec<RepositoryId>,

    /// The machine takes the place of the one that the account had: the keys of that one are revoked.
    #[arg(long)]
    take_over: bool,

    #[command(flatten)]
    ssh: SshArgs,
}

impl Args {
    /// Prepares it and says what comes next.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let options = PrepareOptions {
            places,
            account: self.account,
            reader: self.reader,
            ssh_keys: self.ssh_keys,
            machine: self.machine,
            repositories: self.repositories,
            take_over: self.take_over,
            wait: PATIENCE,
            authorized_keys: self.ssh.authorized_keys.clone(),
            sshd: self.ssh.sshd(),
            address: self.address.unwrap_or_else(varu::host::prepare::own_name),
        };
        let progress = context.progress();
        let prepared = prepare(&options, &SystemClock, &*progress, &context.machine.interrupt)?;
        prepared.notes.iter().for_each(|note| progress.warn(&WarningKind::Preparation.warning(note)));
        self.ssh.reload_if_asked()?;
        let warnings = progress.end(&[]);
        match context.json {
            true => context.print_json(&json!({
                "account": options.account,
                "url": prepared.url,
                "host_keys": prepared.host_keys.iter().map(|(kind, print)| json!({ "kind": kind, "fingerprint": print })).collect::<Vec<_>>(),
                "changes": prepared.changes,
                "reloaded": self.ssh.reload,
                "warnings": warnings,
            }))?,
            false => context.tell(&prepared_text(&options, &prepared, self.ssh.reload))?,
        }
        Ok(progress.say_warnings())
    }
}

fn prepared_text(options: &PrepareOptions, prepared: &PreparedAccount, reloaded: bool) -> String {
    let account = options.reader.as_ref().unwrap_or(&options.account);
    let mut text = match prepared.changes.is_empty() {
        true => format!("the account {account} is prepared already\n"),
        false => format!("the account {account} is prepared\n"),
    };
    prepared.changes.iter().for_each(|change| text += &format!("  {change}\n"));
    for (kind, fingerprint) in &prepared.host_keys {
        text += &format!("  host key {kind}: {fingerprint}\n");
    }
    text += "next:\n";
    if !reloaded {
        text += &format!("  here            {}\n", RELOAD.join(" "));
    }
    if options.reader.is_some() {
        return text + &format!("  on the machine  repository = {:?}, in a [restores.NAME]\n", prepared.url);
    }
    let trusted = prepared.host_keys.iter().find(|(kind, _)| kind == "ed25519").or(prepared.host_keys.first());
    let trust = trusted.map(|(_, fingerprint)| format!(" --trust-host-key {fingerprint}")).unwrap_or_default();
    text += &format!("  on the machine  varu --repo {} init{trust}\n", prepared.url);
    text + "  here            varu host accept, every few minutes: until then the machine can move what it uploaded\n"
}
