//! `varu host verify`.

use std::num::NonZeroU64;

use serde_json::{Map, json};
use varu::host::Places;
use varu::host::verify::{HostVerifyOptions, HostVerifyReport, verify};
use varu::time::SystemClock;

use super::{End, PATIENCE, account, damage_json, damage_text};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::cli::values::sample;
use crate::config::parse_rate;
use varu::job::amount::{count, counted, size};

/// Read every object against the ledger, and look whether each snapshot has its packs.
///
/// A run that was ended is gone on with by the next one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The accounts [default: all].
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    accounts: Vec<String>,

    /// Read only this share of the objects, drawn at random.
    #[arg(long, value_name = "N%", value_parser = sample)]
    sample: Option<f64>,

    /// Read at most so many bytes a second: 500k, 20M, "10 MB".
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    limit_read: Option<NonZeroU64>,
}

impl Args {
    /// Verifies and names all damage.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let sample = self.sample.unwrap_or(1.0);
        let options = HostVerifyOptions {
            places,
            accounts: self.accounts,
            wait: PATIENCE,
            sample,
            limit: self.limit_read.map(NonZeroU64::get),
        };
        let progress = context.progress();
        let reports = verify(&options, &SystemClock, &*progress, &context.machine.interrupt)?;
        let mut end = End::new(&progress);
        for report in reports {
            let (line, document) = (text(&report), document(&report));
            end.account(&report.account, line, document, &report.warnings, !report.damage.is_empty(), report.failure);
        }
        end.finish(context, Map::from_iter([("sample".to_owned(), sample.into())]))
    }
}

fn text(report: &HostVerifyReport) -> String {
    let text = damage_text(&report.account, &report.damage);
    if report.failure.is_some() {
        return text;
    }
    let found = if report.damage.is_empty() { "everything is intact" } else { "DAMAGED" };
    let resumed = if report.resumed { "; the others were read by the run before" } else { "" };
    let (read, of) = (counted(report.objects, "object"), count(report.of));
    text + &format!("{}: {found}: {read} of {of} read ({}){resumed}\n", report.account, size(report.bytes))
}

fn document(report: &HostVerifyReport) -> serde_json::Value {
    json!({
        "objects": report.objects,
        "bytes": report.bytes,
        "of": report.of,
        "resumed": report.resumed,
        "damage": damage_json(&report.damage),
    })
}
