//! Schedules: when a set's fulls are due, and how long what they store stays.

pub mod calendar;
pub mod timers;

use std::time::Duration;

use super::Machine;
use super::spec::{Configuration, Schedule, Set, defaults};
use crate::backup::WantedKind;
use crate::error::Result;
use crate::repository::Repository;
use crate::retention::TagRule;
use crate::time::Zone;

/// When all of a set is stored again, and how much of it. Days are those of the calendar in `zone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullPolicy {
    /// A full is due so many days after the last.
    pub full_every: u32,
    /// A re-base is due so many days after the last.
    pub rebase_every: u32,
    /// How much of the set a full that is no re-base may store again, in percent.
    pub repack_budget: u32,
    /// The set's time zone.
    pub zone: Zone,
}

impl FullPolicy {
    /// That of a set which the configuration doesn't have.
    pub fn unconfigured(machine: &Machine) -> Self {
        Self {
            full_every: defaults::FULL_EVERY,
            rebase_every: whole_days(machine.configuration.retention.keep),
            repack_budget: defaults::REPACK_BUDGET.into(),
            zone: machine.zone,
        }
    }

    /// That of a set of the configuration.
    pub fn of(set: &Set, machine: &Machine) -> Self {
        let keep = set.keep.unwrap_or(machine.configuration.retention.keep);
        Self {
            full_every: set.full_every,
            rebase_every: set.rebase_every.unwrap_or(whole_days(keep)),
            repack_budget: set.repack_budget.into(),
            zone: set.schedule.zone,
        }
    }

    /// Applies a set's schedule. Where it says when a full is made, that goes before the days since the last one: a full is due
    /// once its time has come since the last was stored, also where the machine was off at that time. Returns what is wanted
    /// then, where an incremental or a full was, whichever is due.
    ///
    /// # Errors
    ///
    /// Where the index can't be read, or the schedule can't be understood.
    pub fn apply_schedule(&mut self, set: &str, schedule: &Schedule, repository: &Repository) -> Result<WantedKind> {
        let Some(expression) = &schedule.full else { return Ok(WantedKind::Due) };
        let rows = repository.index().snapshots()?;
        let last = rows.iter().rev().find(|row| row.header.set == set && row.header.parent.is_none());
        match last {
            Some(last) if calendar::is_due(expression, schedule.zone, last.header.stored_time)? => Ok(WantedKind::Full),
            Some(_) => {
                self.full_every = u32::MAX;
                Ok(WantedKind::Due)
            }
            None => Ok(WantedKind::Due),
        }
    }
}

fn whole_days(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs() / (24 * 3600)).unwrap_or(u32::MAX).max(1)
}

/// The kind of full that is made of a snapshot with these tags. What a tag's rule keeps longer than the chains around it needs
/// bases of its own, or theirs would stay, too.
pub fn with_tags(wanted: WantedKind, set: &str, tags: &[String], configuration: &Configuration) -> WantedKind {
    let rules = configuration.rules(set);
    let is_longer = |rule: &TagRule| matches!(rule, TagRule::For(length) if *length > rules.keep);
    match wanted {
        WantedKind::Due | WantedKind::Full if tags.iter().filter_map(|tag| rules.tags.get(tag)).any(is_longer) => {
            WantedKind::Rebase
        }
        wanted => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_outlives_its_set_makes_a_rebase() {
        let day = Duration::from_secs(24 * 3600);
        let mut configuration = Configuration::default();
        configuration.retention.tags.insert("monthly".to_owned(), TagRule::For(365 * day));
        configuration.retention.tags.insert("weekly".to_owned(), TagRule::For(7 * day));
        configuration.retention.tags.insert("counted".to_owned(), TagRule::Newest(9));
        let wanted = |wanted, tag: &str| with_tags(wanted, "agama", &[tag.to_owned()], &configuration);
        assert_eq!(wanted(WantedKind::Due, "monthly"), WantedKind::Rebase);
        assert_eq!(wanted(WantedKind::Full, "monthly"), WantedKind::Rebase);
        assert_eq!(wanted(WantedKind::Incremental, "monthly"), WantedKind::Incremental);
        for tag in ["weekly", "counted", "other"] {
            assert_eq!(wanted(WantedKind::Due, tag), WantedKind::Due, "{tag}");
        }
    }

    #[test]
    fn a_rebase_is_due_after_as_many_days_as_snapshots_are_kept() {
        assert_eq!(whole_days(defaults::KEEP), 28);
        assert_eq!((whole_days(Duration::from_secs(1)), whole_days(Duration::MAX)), (1, u32::MAX));
    }
}
