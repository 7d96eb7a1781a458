//! Local history: operations and verifications.

use rusqlite::{OptionalExtension, Row, params};

use super::{Index, Result};
use crate::format::snapshot::Totals;
use crate::id::SnapshotId;
use crate::time::Timestamp;

/// The kind of a restore into a service. Until one has succeeded, backups of its set are refused.
pub const INTO_SERVICE: &str = "restore-into";

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All went well.
    Done,
    /// It did its work, with warnings.
    Warnings,
    /// It failed.
    Failed,
    /// It was interrupted.
    Interrupted,
}

impl Outcome {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Warnings => "warnings",
            Outcome::Failed => "failed",
            Outcome::Interrupted => "interrupted",
        }
    }
}

/// One operation of the past, or one that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number, ascending.
    pub number: i64,
    /// `backup`, `restore`, `verify`.
    pub kind: String,
    /// The set; None where it was about the repository.
    pub set: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; None while it runs or where it was killed.
    pub ended: Option<Timestamp>,
    /// How it ended, as [`Outcome::word`] says it.
    pub outcome: Option<String>,
    /// The error, or the first warning.
    pub message: Option<String>,
}

impl Index {
    /// Notes that an operation begins. Returns its number.
    pub fn begin_operation(&mut self, kind: &str, set: Option<&str>, now: Timestamp) -> Result<i64> {
        self.write(|database| {
            let insert = "INSERT INTO operation (kind, set_name, started) VALUES (?1, ?2, ?3)";
            database.execute(insert, params![kind, set, now.nanos()])?;
            Ok(database.last_insert_rowid())
        })
    }

    /// Notes what an operation that runs is about.
    pub fn note_operation(&mut self, number: i64, message: &str) -> Result<()> {
        self.write(|database| {
            database.execute("UPDATE operation SET message = ?2 WHERE number = ?1", params![number, message])
        })?;
        Ok(())
    }

    /// The newest operation of a kind on a set.
    pub fn last_of_set(&self, kind: &str, set: &str) -> Result<Option<Operation>> {
        self.read(|database| {
            let select = "SELECT number, kind, set_name, started, ended, outcome, message FROM operation \
                          WHERE kind = ?1 AND set_name = ?2 ORDER BY number DESC LIMIT 1";
            database.query_row(select, [kind, set], operation).optional()
        })
    }

    /// The newest restore of a set into a service, where that has not succeeded.
    pub fn unfinished_restore(&self, set: &str) -> Result<Option<Operation>> {
        let last = self.last_of_set(INTO_SERVICE, set)?;
        Ok(last.filter(|last| !matches!(last.outcome.as_deref(), Some("done" | "warnings"))))
    }

    /// Notes how an operation ended.
    pub fn end_operation(
        &mut self,
        number: i64,
        now: Timestamp,
        outcome: Outcome,
        message: Option<&str>,
        made: Option<(&SnapshotId, &Totals)>,
    ) -> Result<()> {
        let totals = made.map(|(_, totals)| *totals).unwrap_or_default();
        self.write(|database| {
            let update = "UPDATE operation SET ended = ?2, outcome = ?3, message = ?4, snapshot = ?5, read = ?6, new = ?7, \
                          stored = ?8 WHERE number = ?1";
            database.execute(
                update,
                params![
                    number,
                    now.nanos(),
                    outcome.word(),
                    message,
                    made.map(|(id, _)| id.as_bytes()),
                    totals.read as i64,
                    totals.new as i64,
                    totals.stored as i64
                ],
            )
        })?;
        Ok(())
    }

    /// Notes what a verification found.
    pub fn add_verification(&mut self, operation: i64, level: &str, snapshots: u64, damaged: u64) -> Result<()> {
        self.write(|database| {
            let insert = "INSERT INTO verification (operation, level, snapshots, damaged) VALUES (?1, ?2, ?3, ?4)";
            database.execute(insert, params![operation, level, snapshots as i64, damaged as i64])
        })?;
        Ok(())
    }

    /// The newest operation of a kind.
    pub fn last_operation(&self, kind: &str) -> Result<Option<Operation>> {
        self.read(|database| {
            let select = "SELECT number, kind, set_name, started, ended, outcome, message FROM operation \
                          WHERE kind = ?1 ORDER BY number DESC LIMIT 1";
            database.query_row(select, [kind], operation).optional()
        })
    }
}

fn operation(row: &Row<'_>) -> rusqlite::Result<Operation> {
    Ok(Operation {
        number: row.get(0)?,
        kind: row.get(1)?,
        set: row.get(2)?,
        started: Timestamp::from_nanos(row.get(3)?),
        ended: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_nanos),
        outcome: row.get(5)?,
        message: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_seen_while_it_runs_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        let number = index.begin_operation("backup", Some("agama"), Timestamp::from_seconds(5)).unwrap();
        let running = index.last_operation("backup").unwrap().unwrap();
        assert_eq!((running.ended, running.set.as_deref()), (None, Some("agama")));
        let end = Timestamp::from_seconds(9);
        index.end_operation(number, end, Outcome::Failed, Some("no room"), None).unwrap();
        let ended = index.last_operation("backup").unwrap().unwrap();
        assert_eq!(
            (ended.ended, ended.outcome.as_deref(), ended.message.as_deref()),
            (Some(end), Some("failed"), Some("no room"))
        );
        assert_eq!(index.last_operation("verify").unwrap(), None);
    }
}
