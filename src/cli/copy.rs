//! `varu copy`.

use std::path::PathBuf;

use serde_json::json;
use varu::copy::{CopyReport, copy};
use varu::progress::Progress;
use varu::remote::options::Options;
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use varu::job::amount::{counted, size};

/// Make a second repository from the first, or bring it up to date. It takes no key.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the second repository is: a path or a URL.
    #[arg(long, value_name = "URL")]
    to: String,

    /// Copy also snapshots that are older than the newest copied one of their set, which the copy may have pruned.
    #[arg(long)]
    all: bool,

    /// The only key to log in with there [default: as ssh's own configuration says].
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,

    /// The only file in which that host's key is looked up [default: as ssh's own configuration says].
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

impl Args {
    /// Copies, and says what both places have then.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let from = context.machine.open_remote(&progress.shared())?;
        let usual = context.machine.remote_options();
        let (ssh_key, known_hosts) = (self.ssh_key, self.known_hosts);
        let options = Options { ssh_key, known_hosts, jump_host: None, ..usual };
        let to = context.machine.make_other(&self.to, &options, &progress.shared())?;
        if from.place() == to.place() {
            return Err(Failure::usage(format!("{} is where the repository is: give another place", to.place())));
        }
        let report = copy(&*from, &*to, self.all, &*progress, &context.machine.interrupt)?;
        if report.waiting > 0 {
            progress.warn(&WarningKind::NotCopied.warning(format!(
                "{} wait for the next copy: a prune of {} is about to delete packs that they need",
                counted(report.waiting, "snapshot"),
                to.place()
            )));
        }
        let warnings = progress.end(&[]);
        match context.json {
            true => context.print_json(&json!({
                "from": from.place(),
                "to": to.place(),
                "snapshots": report.snapshots,
                "objects": report.objects,
                "bytes": report.bytes,
                "common": report.common,
                "older": report.older,
                "waiting": report.waiting,
                "damaged": report.damaged,
                "warnings": warnings,
            }))?,
            false => context.tell(&text(&report, &from.place(), &to.place()))?,
        }
        match report.damaged.is_empty() {
            true => Ok(progress.say_warnings()),
            false => Err(Failure::new(
                ExitStatus::Damaged,
                format!("what is damaged at {} was left out:\n  {}", from.place(), report.damaged.join("\n  ")),
            )),
        }
    }
}

fn text(report: &CopyReport, from: &str, to: &str) -> String {
    let mut text = format!(
        "copied {}, {} in {}, to {to}; {} at both places\n",
        counted(report.snapshots.len() as u64, "snapshot"),
        size(report.bytes),
        counted(report.objects, "object"),
        counted(report.common, "snapshot"),
    );
    if report.older > 0 {
        text += &format!(
            "{} of {from} stayed out: there are newer ones of their sets, and it may have pruned these (--all copies them)\n",
            counted(report.older, "older snapshot")
        );
    }
    text
}
