//! `varu schedule`: systemd's timers from the configuration.
//!
//! The units themselves are in `systemd/`, and a package brings them. What the configuration says of times, files and
//! accounts stands in drop-ins, so nobody's own changes to a unit are lost.

mod dropins;
mod install;
mod overrides;
mod wait;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use varu::job::schedule::timers::{self, Timer};
use varu::time::parse_duration;

use super::context::Context;
use super::exit::{ExitStatus, Failure};

/// Show or install the timers of the configuration's schedules.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: ScheduleCommand,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    /// Show what runs when, and what isn't installed as the configuration says.
    Show {
        /// Compare with the drop-ins in this folder, and ask no systemd.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
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
            ScheduleCommand::Show { from } => return show(&checked(context)?, from.as_deref(), context),
            ScheduleCommand::Install { to } => install::install(&checked(context)?, to.as_deref(), context)?,
            ScheduleCommand::Wait { delay, limit } => wait::wait(delay, limit, context),
        }
        Ok(ExitStatus::Done)
    }
}

/// The jobs, of which systemd understands every time.
fn checked(context: &Context) -> Result<Vec<Timer<'_>>, Failure> {
    let jobs = timers::timers(&context.machine.configuration);
    for job in &jobs {
        job.next()?;
    }
    Ok(jobs)
}

/// What `config check` says of schedules: each that can't be installed, and how many aren't installed as they are.
pub fn check(context: &Context) -> (Vec<String>, Option<String>) {
    let jobs = timers::timers(&context.machine.configuration);
    let mut wrong: Vec<String> =
        jobs.iter().filter_map(|job| job.next().err()).map(|error| error.to_string()).collect();
    if jobs.is_empty() {
        return (wrong, None);
    }
    match install::pending(&jobs, None, context) {
        Ok(pending) if pending.is_empty() => (wrong, None),
        Ok(pending) => {
            let units = pending.into_iter().map(|(unit, why)| format!("{unit} ({why})")).collect::<Vec<_>>().join(", ");
            (wrong, Some(format!("{units}; varu schedule install makes them so")))
        }
        Err(failure) => {
            wrong.push(failure.message);
            (wrong, None)
        }
    }
}

fn show(jobs: &[Timer], from: Option<&Path>, context: &Context) -> Result<ExitStatus, Failure> {
    let mut pending = install::pending(jobs, from, context)?;
    let mut documents = Vec::new();
    let mut text = String::new();
    for job in jobs {
        let why = pending.remove(&job.unit);
        let own = match from {
            None => overrides::overridden(&format!("{}.timer", job.unit)),
            Some(_) => None,
        };
        let calendar = own.as_ref().map_or(job.calendar.as_slice(), |own| own.calendar.as_slice());
        let next = job.next_of_all(calendar)?;
        let by = own.as_ref().map(|own| format!(", by {}", own.from.join(" and "))).unwrap_or_default();
        text += &match (calendar, &why) {
            (_, Some(why)) => format!("{}: {}, {why}: varu schedule install\n", job.about, job.calendar.join(" and ")),
            ([], None) => format!("{}: {next}\n", job.about),
            (calendar, None) => format!("{}: {}, next {next}{by}\n", job.about, calendar.join(" and ")),
        };
        documents.push(json!({
            "unit": job.unit, "about": job.about, "calendar": calendar, "next": next, "pending": why,
            "overridden_by": own.as_ref().map(|own| &own.from),
        }));
    }
    for (unit, why) in &pending {
        text += &format!("{unit}: {why}: varu schedule install\n");
    }
    let is_pending = !pending.is_empty() || documents.iter().any(|document| !document["pending"].is_null());
    if jobs.is_empty() {
        text = "no set has a schedule\n".to_owned();
    }
    match context.json {
        true => context.print_json(&json!({ "timers": documents, "others": pending }))?,
        false => context.print(&text)?,
    }
    Ok(if is_pending { ExitStatus::Warnings } else { ExitStatus::Done })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use varu::class::{Class, Classified};

    pub(super) const CONFIG: &str = "
        [repository]\nurl = 'sftp://vm1@backup/repo'\nssh_key = '/etc/varu/ssh_key'\nknown_hosts = '/etc/varu/known_hosts'
        writer_key = '/etc/varu/writer.key'
        [sets.agama]\nsource = 'mysql'\ndatabases = 'all'\nlocal_copy = '/var/backups/varu/agama'
        option_file = '/etc/varu/mysql.cnf'
        schedule = { timezone = 'Europe/Tallinn', dump = '01:00', full = 'Sun 01:05', incremental = 'Mon..Sat 01:10' }
        [sets.etc]\nsource = 'files'\npaths = ['/etc']\nschedule = { full = 'weekly' }";

    #[test]
    fn each_set_has_one_timer_for_its_dumps_and_one_for_its_backups() {
        let context = context(&[], CONFIG, true, &[]).unwrap();
        let jobs = timers::timers(&context.machine.configuration);
        let names: Vec<&str> = jobs.iter().map(|job| job.unit.as_str()).collect();
        assert_eq!(names, ["varu-dump@agama", "varu-backup@agama", "varu-backup@etc", "varu-verify", "varu-prune"]);
        assert_eq!(jobs[1].calendar, ["Sun 01:05 Europe/Tallinn", "Mon..Sat 01:10 Europe/Tallinn"]);
        assert_eq!(jobs[2].calendar, ["weekly"]);
    }

    #[test]
    fn a_time_that_systemd_does_not_know_is_said() {
        let config = CONFIG.replace("Sun 01:05", "Sonntag");
        let context = context(&[], &config, true, &[]).unwrap();
        let failure = timers::timers(&context.machine.configuration).iter().find_map(|job| job.next().err()).unwrap();
        assert!(failure.class() == Class::Usage && failure.to_string().contains("backup of agama"), "{failure}");
    }
}
