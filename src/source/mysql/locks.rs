//! Measurement of how long a dump's locks block other sessions.
//!
//! It takes no lock over all tables, but on a MySQL server whose account may read the binary log's position: that is known
//! to nobody without one, so the dump program holds it until it has begun its snapshot. While it reads a table, nobody can change that table's definition (a metadata lock),
//! and an attempt makes later queries on it wait; rows can be read and written all the time. A server that writes a
//! binary log releases such a lock only at the dump's end, because the program's rollback to a savepoint releases none
//! there.

use std::time::{Duration, Instant};

use super::dump::LogPosition;
use super::names::{DumpPart, ObjectKind};
use crate::time::format_duration;

/// The table that is being read, and the one that took longest so far.
#[derive(Debug)]
pub(super) struct Locks {
    /// Whether each lasts until the dump's end.
    until_end: bool,
    /// How the position of the binary log is read.
    position: LogPosition,
    /// Since when the program runs, until it has written its first lines.
    begun: Option<Instant>,
    /// For how long all tables were locked, at most.
    over_all: Option<Duration>,
    current: Option<(String, Instant)>,
    longest: Option<(String, Duration)>,
}

impl Locks {
    /// Of a dump that began then.
    pub fn new(position: LogPosition, until_end: bool, now: Instant) -> Self {
        let begun = (position == LogPosition::Locked).then_some(now);
        Self { until_end, position, begun, over_all: None, current: None, longest: None }
    }

    /// A stream of the dump begins, which ends the one before.
    pub fn begin(&mut self, part: &DumpPart, now: Instant) {
        // Its first lines have the position, and the lock is gone by then.
        if *part == DumpPart::Preamble
            && let Some(begun) = self.begun.take()
        {
            self.over_all = Some(now.saturating_duration_since(begun));
        }
        if self.until_end && self.current.is_some() {
            return;
        }
        self.end(now);
        if let DumpPart::Object(database, table, ObjectKind::Table) = part {
            self.current = Some((format!("{database}.{table}"), now));
        }
    }

    fn end(&mut self, now: Instant) {
        if let Some((table, begun)) = self.current.take() {
            let took = now.saturating_duration_since(begun);
            if self.longest.as_ref().is_none_or(|(_, longest)| *longest < took) {
                self.longest = Some((table, took));
            }
        }
    }

    /// After the last stream, for people.
    pub fn said(&mut self, now: Instant) -> String {
        self.end(now);
        let longest = self.longest.as_ref().map(|(table, took)| {
            let took = format_duration(*took);
            let why = if self.until_end { ", until the dump's end, for the server writes a binary log" } else { "" };
            format!("; the longest that a table couldn't be altered was {took} ({table}{why})")
        });
        let over_all = match (&self.position, self.over_all) {
            (LogPosition::Locked, Some(most)) => format!(
                "all tables were locked at the dump's begin, to read the binary log's position, for a part of the first {}",
                format_duration(most)
            ),
            (LogPosition::Busy(seconds), _) => format!(
                "no lock over all tables was held, so the binary log's position isn't known: a statement had run for {seconds} s, for \
                 which the lock would have waited, and all others for the lock"
            ),
            _ => "no lock over all tables was held".to_owned(),
        };
        format!("{over_all}{}", longest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_table_is_named() {
        let start = Instant::now();
        let mut locks = Locks::new(LogPosition::NoLog, false, start);
        let table = |name: &str| DumpPart::Object("a".to_owned(), name.to_owned(), ObjectKind::Table);
        let after = |seconds| start + Duration::from_secs(seconds);
        locks.begin(&DumpPart::Preamble, start);
        assert_eq!(locks.said(start), "no lock over all tables was held");
        locks.begin(&table("short"), after(1));
        locks.begin(&table("long"), after(3));
        locks.begin(&DumpPart::Postamble, after(8));
        let mut kept = Locks::new(LogPosition::Known, true, start);
        kept.begin(&table("first"), start);
        kept.begin(&table("second"), after(6));
        assert!(kept.said(after(9)).contains("was 9.0 s (a.first, until the dump's end"));
        let longest = "; the longest that a table couldn't be altered was 5.0 s (a.long)";
        assert_eq!(locks.said(after(60)), format!("no lock over all tables was held{longest}"));
    }

    #[test]
    fn a_lock_over_all_tables_is_said_with_its_time_or_why_it_was_not_asked_for() {
        let start = Instant::now();
        let mut locked = Locks::new(LogPosition::Locked, false, start);
        locked.begin(&DumpPart::Preamble, start + Duration::from_millis(40));
        locked.begin(&DumpPart::Postamble, start + Duration::from_secs(9));
        assert!(locked.said(start + Duration::from_secs(9)).ends_with("for a part of the first 40 ms"));
        assert!(Locks::new(LogPosition::Busy(30), false, start).said(start).contains("had run for 30 s"));
    }
}
