//! Timers: what runs when, as the configuration says.

use super::calendar;
use crate::error::Result;
use crate::job::spec::{Configuration, Refresh, Schedule, Set};
use crate::time::Zone;

/// Something that runs at times.
#[derive(Debug)]
pub struct Timer<'c> {
    /// `varu-dump@agama`, without the unit's kind.
    pub unit: String,
    /// `dump of agama`.
    pub about: String,
    /// Calendar expressions with their zone; empty where the unit's own times hold.
    pub calendar: Vec<String>,
    /// What it works on.
    pub on: TimedWork<'c>,
}

/// What a timer starts work on.
#[derive(Debug, Clone, Copy)]
pub enum TimedWork<'c> {
    /// Makes a set's local copy.
    Dump(&'c Set),
    /// Makes a set's snapshots.
    Backup(&'c Set),
    /// Brings another repository's data in.
    Refresh(&'c Refresh),
    /// Looks after the repository.
    Repository,
}

/// All timers of the configuration.
pub fn timers(configuration: &Configuration) -> Vec<Timer<'_>> {
    let mut timers = Vec::new();
    for (name, set) in &configuration.sets {
        let Schedule { zone, dump, full, incremental } = &set.schedule;
        let times = |expressions: &[&Option<String>]| -> Vec<String> {
            expressions.iter().filter_map(|expression| expression.as_ref()).map(|time| zoned(time, *zone)).collect()
        };
        let mut add = |kind: &str, calendar: Vec<String>, on| {
            if !calendar.is_empty() {
                timers.push(Timer {
                    unit: format!("varu-{kind}@{name}"),
                    about: format!("{kind} of {name}"),
                    calendar,
                    on,
                });
            }
        };
        if !set.dumped_by_another && set.local_copy.is_some() {
            add("dump", times(&[dump]), TimedWork::Dump(set));
        }
        // One timer for both: the backup itself knows when a full is due.
        add("backup", times(&[full, incremental]), TimedWork::Backup(set));
    }
    if !timers.is_empty() {
        for kind in ["verify", "prune"] {
            let (unit, about) = (format!("varu-{kind}"), kind.to_owned());
            timers.push(Timer { unit, about, calendar: Vec::new(), on: TimedWork::Repository });
        }
    }
    for (name, refresh) in &configuration.restores {
        if let Some(time) = &refresh.at {
            let (unit, about) = (format!("varu-restore@{name}"), format!("refresh {name}"));
            timers.push(Timer {
                unit,
                about,
                calendar: vec![zoned(time, refresh.zone)],
                on: TimedWork::Refresh(refresh),
            });
        }
    }
    timers
}

fn zoned(expression: &str, zone: Zone) -> String {
    match zone {
        Zone::Local => expression.to_owned(),
        Zone::Named(_) => format!("{expression} {zone}"),
    }
}

impl Timer<'_> {
    /// When it runs next, as systemd says it.
    ///
    /// # Errors
    ///
    /// Where systemd doesn't understand a time.
    pub fn next(&self) -> Result<String> {
        self.next_of_all(&self.calendar)
    }

    /// When it runs next at these times.
    ///
    /// # Errors
    ///
    /// Where systemd doesn't understand one.
    pub fn next_of_all(&self, calendar: &[String]) -> Result<String> {
        let mut all = Vec::new();
        for expression in calendar {
            all.push(calendar::next(expression, &self.about)?);
        }
        Ok(match all.is_empty() {
            true => "as the unit says".to_owned(),
            false => all.join(" and "),
        })
    }
}
