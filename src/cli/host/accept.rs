//! `varu host accept`.

use serde_json::json;
use varu::host::Places;
use varu::host::accept::{AcceptOptions, AcceptReport, accept};
use varu::time::SystemClock;

use super::{End, PATIENCE, account, damage_json, damage_text};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use varu::job::amount::{counted, size};

/// Give what was uploaded to root, and enter it in the ledger; to be run every few minutes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The accounts [default: all].
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    accounts: Vec<String>,
}

impl Args {
    /// Accepts and says what came.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let options = AcceptOptions { places, accounts: self.accounts, wait: PATIENCE };
        let progress = context.progress();
        let reports = accept(&options, &SystemClock, &*progress, &context.machine.interrupt)?;
        let mut end = End::new(&progress);
        for report in reports {
            let (line, document) = (text(&report), document(&report));
            end.account(&report.account, line, document, &report.warnings, !report.damage.is_empty(), report.failure);
        }
        end.finish(context, serde_json::Map::new())
    }
}

fn text(report: &AcceptReport) -> String {
    let mut text = String::new();
    let account = &report.account;
    for (from, object) in &report.put_back {
        text += &format!("{account}: {object} lay as {from} and was put back\n");
    }
    text += &damage_text(account, &report.damage);
    if report.failure.is_some() {
        return text;
    }
    // It runs every few minutes, and has nothing to say where nothing came.
    if report.accepted == 0 && report.swept == 0 {
        return text;
    }
    let swept = if report.swept > 0 { format!(", {} swept", report.swept) } else { String::new() };
    let (new, all) = (counted(report.accepted, "object"), counted(report.objects, "object"));
    text + &format!("{account}: {new} accepted ({}), {all} in all{swept}\n", size(report.bytes))
}

fn document(report: &AcceptReport) -> serde_json::Value {
    let put_back = report.put_back.iter().map(|(from, object)| json!({ "from": from, "object": object.to_string() }));
    json!({
        "account": report.account,
        "accepted": report.accepted,
        "bytes": report.bytes,
        "objects": report.objects,
        "put_back": put_back.collect::<Vec<_>>(),
        "swept": report.swept,
        "damage": damage_json(&report.damage),
        "failure": report.failure.as_ref().map(ToString::to_string),
    })
}
