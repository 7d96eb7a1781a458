//! `varu host status`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use varu::class::Class;
use varu::disk::{replace, way_out};
use varu::host::Places;
use varu::host::status::{AccountStatus, HostStatus, SetStatus, status};
use varu::time::{Clock, SystemClock, Timestamp, format_duration};

use super::{End, account, damage_json, damage_text};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::config::load_policy;
use varu::job::amount::{counted, size};

/// Say how old the newest backup of each set is, by its arrival, and when the disk is full.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The accounts [default: all].
    #[arg(value_name = "ACCOUNT", value_parser = account)]
    accounts: Vec<String>,

    /// Also write it for Prometheus' node exporter into this file.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,

    /// The policy [default: /etc/varu/host.toml, where there is one].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Args {
    /// Says how everything stands. Where a set is late, the status is 4.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let policy = load_policy(self.policy.as_deref())?;
        let host = status(&places, &self.accounts, &policy, &SystemClock)?;
        let now = SystemClock.now();
        if let Some(path) = &self.metrics {
            write(path, &metrics(&host))?;
        }
        let late = host.accounts.iter().flat_map(|account| &account.sets).any(|set| set.late);
        let progress = context.progress();
        let mut end = End::new(&progress);
        let (free, days_until_full) = (host.free, host.days_until_full);
        for account in host.accounts {
            let (line, document) = (text(&account, now), document(&account));
            end.account(&account.account, line, document, &[], !account.damage.is_empty(), account.failure);
        }
        let full = days_until_full.map(|days| format!(", full in {} at this growth", counted(days, "day")));
        end.text += &format!("{} are free{}\n", size(free), full.unwrap_or_default());
        let more = [("free".to_owned(), free.into()), ("days_until_full".to_owned(), days_until_full.into())];
        match end.finish(context, Map::from_iter(more))? {
            ExitStatus::Done if late => Ok(ExitStatus::Objective),
            status => Ok(status),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    replace(path, text.as_bytes(), 0o644).map_err(|error| {
        let text = format!("writing the metrics to {} failed: {error}{}", path.display(), way_out(&error));
        Failure::new(Class::of_io(&error).into(), text)
    })
}

fn text(account: &AccountStatus, now: Timestamp) -> String {
    let name = &account.account;
    let mut text = damage_text(name, &account.damage);
    for set in &account.sets {
        let age = set.newest.map_or("none arrived".to_owned(), |newest| {
            format!("the newest arrived {} ago", format_duration(now.since(newest)))
        });
        let late = match (set.late, set.rpo) {
            (true, Some(rpo)) => format!(", LATE: at most {} are allowed", format_duration(rpo)),
            _ if set.retired => ", retired".to_owned(),
            _ => String::new(),
        };
        text += &format!("{name}: {}: {}, {age}{late}\n", set.set, counted(set.snapshots, "snapshot"));
    }
    let verified = account
        .verified
        .map_or("never verified".to_owned(), |time| format!("verified {} ago", format_duration(now.since(time))));
    let held = if account.held > 0 { format!(", {} held", account.held) } else { String::new() };
    let (objects, grown) = (counted(account.objects, "object"), size(account.grown));
    text + &format!("{name}: {objects}, {} ({grown} in 28 days), {verified}{held}\n", size(account.bytes))
}

fn document(account: &AccountStatus) -> serde_json::Value {
    let set = |set: &SetStatus| {
        json!({
            "set": set.set,
            "snapshots": set.snapshots,
            "newest": set.newest.map(|time| time.to_string()),
            "rpo": set.rpo.map(|rpo| rpo.as_secs()),
            "late": set.late,
            "retired": set.retired,
        })
    };
    json!({
        "sets": account.sets.iter().map(set).collect::<Vec<_>>(),
        "objects": account.objects,
        "bytes": account.bytes,
        "grown": account.grown,
        "held": account.held,
        "machine": account.owner.machine.as_ref().map(ToString::to_string),
        "repositories": account.owner.repositories,
        "retired": account.owner.retired.map(|time| time.to_string()),
        "verified": account.verified.map(|time| time.to_string()),
        "damage": damage_json(&account.damage),
    })
}

/// The text format of Prometheus. Names of accounts and sets are plain.
fn metrics(host: &HostStatus) -> String {
    let mut text = String::new();
    let mut line = |name: &str, labels: &str, value: u64| {
        // Writing to a text doesn't fail.
        let _ = writeln!(text, "varu_host_{name}{labels} {value}");
    };
    line("free_bytes", "", host.free);
    for account in &host.accounts {
        let of = format!("{{account=\"{}\"}}", account.account);
        line("objects", &of, account.objects);
        line("bytes", &of, account.bytes);
        line("grown_bytes", &of, account.grown);
        line("damaged_objects", &of, account.damage.len() as u64);
        line("failed", &of, u64::from(account.failure.is_some()));
        if let Some(verified) = account.verified {
            line("verified_timestamp_seconds", &of, verified.seconds().unsigned_abs());
        }
        for set in &account.sets {
            let of = format!("{{account=\"{}\",set=\"{}\"}}", account.account, set.set);
            line("snapshots", &of, set.snapshots);
            line("late", &of, u64::from(set.late));
            line("newest_timestamp_seconds", &of, set.newest.map_or(0, |time| time.seconds().unsigned_abs()));
        }
    }
    text
}
