//! Measurement of how long a dump's locks block other sessions.
//!
//! It takes no lock over all tables. While it reads one, nobody can change that table's definition (a metadata lock),
//! and an attempt makes later queries on it wait; rows can be read and written all the time. A server that writes a
//! binary log releases such a lock only at the dump's end, because the program's rollback to a savepoint releases none
//! there.

use std::time::{Duration, Instant};

use super::names::{DumpPart, ObjectKind};
use crate::time::format_duration;

/// The table that is being read, and the one that took longest so far.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Whether each lasts until the dump's end.
    until_end: bool,
    current: Option<(String, Instant)>,
    longest: Option<(String, Duration)>,
}

impl Locks {
    /// Of a server that writes a binary log, or doesn't.
    pub fn new(has_log: bool) -> Self {
        Self { until_end: has_log, ..Self::default() }
    }

    /// A stream of the dump begins, which ends the one before.
    pub fn begin(&mut self, part: &DumpPart, now: Instant) {
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
        format!("no lock over all tables was held{}", longest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_table_is_named() {
        let mut locks = Locks::default();
        let table = |name: &str| DumpPart::Object("a".to_owned(), name.to_owned(), ObjectKind::Table);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        locks.begin(&DumpPart::Preamble, start);
        assert_eq!(locks.said(start), "no lock over all tables was held");
        locks.begin(&table("short"), after(1));
        locks.begin(&table("long"), after(3));
        locks.begin(&DumpPart::Postamble, after(8));
        let mut kept = Locks::new(true);
        kept.begin(&table("first"), start);
        kept.begin(&table("second"), after(6));
        assert!(kept.said(after(9)).contains("was 9.0 s (a.first, until the dump's end"));
        let longest = "; the longest that a table couldn't be altered was 5.0 s (a.long)";
        assert_eq!(locks.said(after(60)), format!("no lock over all tables was held{longest}"));
    }
}
