//! What runs when, from the configuration.

use std::process::Command;

use varu::time::Zone;

use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::config::{Refresh, Schedule, Set};

/// Something that runs at times.
#[derive(Debug)]
pub struct Job<'c> {
    /// `varu-dump@agama`, without the unit's kind.
    pub unit: String,
    /// `dump of agama`.
    pub about: String,
    /// Calendar expressions with their zone; empty where the unit's own times hold.
    pub calendar: Vec<String>,
    /// What it works on.
    pub on: Work<'c>,
}

/// What a job works on.
#[derive(Debug, Clone, Copy)]
pub enum Work<'c> {
    /// Makes a set's local copy.
    Dump(&'c Set),
    /// Makes a set's snapshots.
    Backup(&'c Set),
    /// Brings another repository's data in.
    Refresh(&'c Refresh),
    /// Looks after the repository.
    Repository,
}

/// All jobs of the configuration.
pub fn jobs(context: &Context) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for (name, set) in &context.config.sets {
        let Schedule { zone, dump, full, incremental } = &set.schedule;
        let times = |expressions: &[&Option<String>]| -> Vec<String> {
            expressions.iter().filter_map(|expression| expression.as_ref()).map(|time| zoned(time, *zone)).collect()
        };
        let mut add = |kind: &str, calendar: Vec<String>, on| {
            if !calendar.is_empty() {
                jobs.push(Job {
                    unit: format!("varu-{kind}@{name}"),
                    about: format!("{kind} of {name}"),
                    calendar,
                    on,
                });
            }
        };
        if !set.dumped_by_another && set.local_copy.is_some() {
            add("dump", times(&[dump]), Work::Dump(set));
        }
        // One timer for both: the backup itself knows when a full is due.
        add("backup", times(&[full, incremental]), Work::Backup(set));
    }
    if !jobs.is_empty() {
        for kind in ["verify", "prune"] {
            let (unit, about) = (format!("varu-{kind}"), kind.to_owned());
            jobs.push(Job { unit, about, calendar: Vec::new(), on: Work::Repository });
        }
    }
    for (name, refresh) in &context.config.restores {
        if let Some(time) = &refresh.at {
            let (unit, about) = (format!("varu-restore@{name}"), format!("refresh {name}"));
            jobs.push(Job { unit, about, calendar: vec![zoned(time, refresh.zone)], on: Work::Refresh(refresh) });
        }
    }
    jobs
}

fn zoned(expression: &str, zone: Zone) -> String {
    match zone {
        Zone::Local => expression.to_owned(),
        Zone::Named(_) => format!("{expression} {zone}"),
    }
}

impl Job<'_> {
    /// When it runs next, as systemd says it.
    ///
    /// # Errors
    ///
    /// Where systemd doesn't understand a time.
    pub fn next(&self) -> Result<String, Failure> {
        self.next_of_all(&self.calendar)
    }

    /// When it runs next at these times.
    ///
    /// # Errors
    ///
    /// Where systemd doesn't understand one.
    pub fn next_of_all(&self, calendar: &[String]) -> Result<String, Failure> {
        let mut all = Vec::new();
        for expression in calendar {
            all.push(self.next_of(expression)?);
        }
        Ok(match all.is_empty() {
            true => "as the unit says".to_owned(),
            false => all.join(" and "),
        })
    }

    fn next_of(&self, expression: &str) -> Result<String, Failure> {
        let mut analyze = Command::new("systemd-analyze");
        let output = analyze.args(["calendar", "--", expression]).env("LC_ALL", "C").output();
        let output = output.map_err(|error| {
            Failure::new(
                ExitStatus::Failed,
                format!("running systemd-analyze, which reads calendar expressions, failed: {error}"),
            )
        })?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::usage(format!(
                "the time of the {}, {expression:?}, can't be read: {why}",
                self.about
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let next = text.lines().find_map(|line| line.trim().strip_prefix("Next elapse:"));
        Ok(next.unwrap_or("never").trim().to_owned())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    pub const CONFIG: &str = "
        [repository]\nurl = 'sftp://vm1@backup/repo'\nssh_key = '/etc/varu/ssh_key'\nknown_hosts = '/etc/varu/known_hosts'
        writer_key = '/etc/varu/writer.key'
        [sets.agama]\nsource = 'mysql'\ndatabases = 'all'\nlocal_copy = '/var/backups/varu/agama'
        option_file = '/etc/varu/mysql.cnf'
        schedule = { timezone = 'Europe/Tallinn', dump = '01:00', full = 'Sun 01:05', incremental = 'Mon..Sat 01:10' }
        [sets.etc]\nsource = 'files'\npaths = ['/etc']\nschedule = { full = 'weekly' }";

    #[test]
    fn each_set_has_one_timer_for_its_dumps_and_one_for_its_backups() {
        let context = context(&[], CONFIG, true, &[]).unwrap();
        let jobs = jobs(&context);
        let names: Vec<&str> = jobs.iter().map(|job| job.unit.as_str()).collect();
        assert_eq!(names, ["varu-dump@agama", "varu-backup@agama", "varu-backup@etc", "varu-verify", "varu-prune"]);
        assert_eq!(jobs[1].calendar, ["Sun 01:05 Europe/Tallinn", "Mon..Sat 01:10 Europe/Tallinn"]);
        assert_eq!(jobs[2].calendar, ["weekly"]);
    }

    #[test]
    fn a_time_that_systemd_does_not_know_is_said() {
        let config = CONFIG.replace("Sun 01:05", "Sonntag");
        let context = context(&[], &config, true, &[]).unwrap();
        let failure = jobs(&context).iter().find_map(|job| job.next().err()).unwrap();
        assert!(failure.is_usage() && failure.message.contains("backup of agama"), "{}", failure.message);
    }
}
