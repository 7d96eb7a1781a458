//! `varu host`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use varu::host::Places;
use varu::host::accept::{AcceptOptions, AcceptReport, accept};
use varu::host::prepare::{PrepareOptions, Prepared, prepare};
use varu::host::sshd::Sshd;
use varu::progress::Progress;
use varu::time::SystemClock;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use crate::terminal::human::{counted, one_line, size};

/// Look after the repositories of other machines, on the backup host, as root and without any key.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with a folder for each account.
    #[arg(long, global = true, value_name = "DIR", default_value = "/srv/varu")]
    root: PathBuf,

    /// The folder of the ledgers, which no account reaches.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/varu-host")]
    ledgers: PathBuf,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Prepare(PrepareArgs),
    Accept(AcceptArgs),
}

/// Make an account that can add objects and nothing else.
#[derive(Debug, clap::Args)]
struct PrepareArgs {
    /// The account, one for each machine.
    #[arg(value_parser = account)]
    account: String,

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

/// Give what was uploaded to root, and enter it in the ledger; to be run every few minutes.
#[derive(Debug, clap::Args)]
struct AcceptArgs {
    /// The accounts [default: all].
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    accounts: Vec<String>,
}

/// How long another run on the same account is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What makes the SSH server read its configuration.
const RELOAD: [&str; 3] = ["systemctl", "reload", "ssh"];

fn account(word: &str) -> Result<String, String> {
    varu::host::check_account(word).map(|()| word.to_owned())
}

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let places = Places { root: self.root, state: self.ledgers };
        match self.what {
            What::Prepare(args) => args.run(context, places),
            What::Accept(args) => args.run(context, places),
        }
    }
}

impl PrepareArgs {
    fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let options = PrepareOptions {
            places,
            account: self.account,
            ssh_keys: self.ssh_keys,
            authorized_keys: self.authorized_keys,
            sshd: Sshd { program: self.sshd, config: self.sshd_config, drop_ins: self.drop_ins },
            address: self.address.unwrap_or_else(varu::host::prepare::own_name),
        };
        let prepared = prepare(&options)?;
        let watch = context.watch();
        prepared.notes.iter().for_each(|note| watch.warn(note));
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
    let mut text = match prepared.changes.is_empty() {
        true => format!("the account {} is prepared already\n", options.account),
        false => format!("the account {} is prepared\n", options.account),
    };
    prepared.changes.iter().for_each(|change| text += &format!("  {change}\n"));
    for (kind, fingerprint) in &prepared.host_keys {
        text += &format!("  host key {kind}: {fingerprint}\n");
    }
    text += "next:\n";
    if !reloaded {
        text += &format!("  here            {}\n", RELOAD.join(" "));
    }
    let trusted = prepared.host_keys.iter().find(|(kind, _)| kind == "ed25519").or(prepared.host_keys.first());
    let trust = trusted.map(|(_, fingerprint)| format!(" --trust-host-key {fingerprint}")).unwrap_or_default();
    text += &format!("  on the machine  varu --repo {} init{trust}\n", prepared.url);
    text + "  here            varu host accept, every few minutes: until then the machine can move what it uploaded\n"
}

impl AcceptArgs {
    fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let options = AcceptOptions { places, accounts: self.accounts, wait: PATIENCE };
        let watch = context.watch();
        let mut reports = accept(&options, &SystemClock, &*watch, &context.interrupt)?;
        for report in &reports {
            report.warnings.iter().for_each(|warning| watch.warn(&format!("{}: {warning}", report.account)));
        }
        let warnings = watch.end(&[]);
        match context.json {
            true => {
                let accounts: Vec<_> = reports.iter().map(document).collect();
                context.print_json(&json!({ "accounts": accounts, "warnings": warnings }))?;
            }
            false => {
                let lines: String = reports.iter().map(accept_text).collect();
                let quiet = reports.iter().all(|report| report.damage.is_empty());
                if quiet { context.tell(&lines)? } else { context.print(&lines)? }
            }
        }
        let status = watch.say_warnings();
        let damaged = reports.iter().any(|report| !report.damage.is_empty());
        let failed = reports.iter_mut().find_map(|report| Some((&report.account, report.failure.take()?)));
        match failed {
            Some((account, error)) => {
                let failure = Failure::from(error);
                Err(Failure::new(failure.status, format!("{account}: {}", failure.message)))
            }
            None if damaged => Ok(ExitStatus::Damaged),
            None => Ok(status),
        }
    }
}

fn accept_text(report: &AcceptReport) -> String {
    let mut text = String::new();
    let account = &report.account;
    for (from, object) in &report.put_back {
        text += &format!("{account}: {object} lay as {from} and was put back\n");
    }
    for damage in &report.damage {
        text += &format!("{account}: {} is DAMAGED: {}\n", damage.object, one_line(&damage.reason));
    }
    if let Some(failure) = &report.failure {
        return text + &format!("{account}: FAILED: {}\n", one_line(&failure.to_string()));
    }
    let swept = if report.swept > 0 { format!(", {} swept", report.swept) } else { String::new() };
    let (new, all) = (counted(report.accepted, "object"), counted(report.objects, "object"));
    text + &format!("{account}: {new} accepted ({}), {all} in all{swept}\n", size(report.bytes))
}

fn document(report: &AcceptReport) -> serde_json::Value {
    let put_back = report.put_back.iter().map(|(from, object)| json!({ "from": from, "object": object.to_string() }));
    let damage = report.damage.iter();
    let damage = damage.map(|damage| json!({ "object": damage.object.to_string(), "reason": damage.reason }));
    json!({
        "account": report.account,
        "accepted": report.accepted,
        "bytes": report.bytes,
        "objects": report.objects,
        "put_back": put_back.collect::<Vec<_>>(),
        "swept": report.swept,
        "damage": damage.collect::<Vec<_>>(),
        "failure": report.failure.as_ref().map(ToString::to_string),
    })
}
