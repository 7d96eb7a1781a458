//! `varu schedule`: systemd's timers from the configuration.
//!
//! The units themselves are in `systemd/`, and a package brings them. What the configuration says of times, files and
//! accounts stands in drop-ins, so nobody's own changes to a unit are lost.

mod dropins;
mod install;
mod jobs;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use varu::time::parse_duration;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use jobs::Job;

/// Show or install the timers of the configuration's schedules.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what runs when.
    Show,
    /// Write systemd's drop-ins and start the timers. Those of before that the configuration no longer has are removed.
    Install {
        /// Only write, into this folder.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Wait before a service begins: as long as this host's own delay where a timer started it, then while packages are
    /// installed.
    Wait {
        /// The longest delay of a host.
        #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = parse_duration)]
        delay: Duration,

        /// How long packages are waited for.
        #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = parse_duration)]
        limit: Duration,
    },
}

impl Args {
    /// Shows, installs or waits.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        match self.what {
            What::Show => show(&checked(context)?, context)?,
            What::Install { to } => install::install(&checked(context)?, to.as_deref(), context)?,
            What::Wait { delay, limit } => wait::wait(delay, limit, context),
        }
        Ok(ExitStatus::Done)
    }
}

/// The jobs, of which systemd understands every time.
fn checked(context: &Context) -> Result<Vec<Job<'_>>, Failure> {
    let jobs = jobs::jobs(context);
    for job in &jobs {
        job.next()?;
    }
    Ok(jobs)
}

fn show(jobs: &[Job], context: &Context) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let mut text = String::new();
    for job in jobs {
        let next = job.next()?;
        text += &format!("{}: {}, next {next}\n", job.about, job.calendar.join(" and "));
        documents.push(json!({ "unit": job.unit, "about": job.about, "calendar": job.calendar, "next": next }));
    }
    if jobs.is_empty() {
        text = "no set has a schedule\n".to_owned();
    }
    match context.json {
        true => context.print_json(&json!({ "timers": documents })),
        false => context.print(&text),
    }
}
