//! `varu host prepare`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use varu::host::Places;
use varu::host::prepare::{PrepareOptions, Prepared, prepare};
use varu::host::sshd::Sshd;
use varu::progress::Progress;
use varu::warning::WarningKind;

use super::account;
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::terminal::human::one_line;

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

    /// The folder of the accounts' public keys.
    #[arg(long, value_name = "DIR", default_value = "/etc/varu/authorized_keys")]
    authorized_keys: PathBuf,

    /// The SSH server's program.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/sshd")]
    sshd: PathBuf,

    /// The SSH server's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config")]
    sshd_config: PathBuf,

    /// The folder whose *.conf that configuration includes.
    #[arg(long, value_name = "DIR", default_value = "/etc/ssh/sshd_config.d")]
    drop_ins: PathBuf,

    /// Make the SSH server read its configuration now.
    #[arg(long)]
    reload: bool,
}

/// What makes the SSH server read its configuration.
const RELOAD: [&str; 3] = ["systemctl", "reload", "ssh"];

impl Args {
    /// Prepares it and says what comes next.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let options = PrepareOptions {
            places,
            account: self.account,
            reader: self.reader,
            ssh_keys: self.ssh_keys,
            authorized_keys: self.authorized_keys,
            sshd: Sshd { program: self.sshd, config: self.sshd_config, drop_ins: self.drop_ins },
            address: self.address.unwrap_or_else(varu::host::prepare::own_name),
        };
        let prepared = prepare(&options)?;
        let watch = context.watch();
        prepared.notes.iter().for_each(|note| watch.warn(&WarningKind::Preparation.warning(note)));
        if self.reload {
            reload()?;
        }
        let warnings = watch.end(&[]);
        match context.json {
            true => context.print_json(&json!({
                "account": options.account,
                "url": prepared.url,
                "host_keys": prepared.host_keys.iter().map(|(kind, print)| json!({ "kind": kind, "fingerprint": print })).collect::<Vec<_>>(),
                "changes": prepared.changes,
                "reloaded": self.reload,
                "warnings": warnings,
            }))?,
            false => context.tell(&prepared_text(&options, &prepared, self.reload))?,
        }
        Ok(watch.say_warnings())
    }
}

fn reload() -> Result<(), Failure> {
    let done = Command::new(RELOAD[0]).args(&RELOAD[1..]).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Failure::new(ExitStatus::Failed, format!("{} failed: {}", RELOAD.join(" "), one_line(said.trim()))))
        }
        Err(error) => Err(Failure::new(ExitStatus::Failed, format!("{} can't be started: {error}", RELOAD[0]))),
    }
}

fn prepared_text(options: &PrepareOptions, prepared: &Prepared, reloaded: bool) -> String {
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
