//! The journal: operations that run, those of the past, and what restores into services have left.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Index, Result, row_check};
use crate::format::snapshot::Totals;
use crate::id::SnapshotId;
use crate::source::remains::{Remains, ServiceName};
use crate::time::Timestamp;
use crate::warning::Warning;

/// An enum whose values are words in a column.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $of:literal])+ $value:ident = $word:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $of])+ $value,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$value,)+];

            /// The word for it.
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$value => $word,)+
                }
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.word().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                Self::ALL.iter().copied().find(|one| one.word() == word).ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

words! {
    /// What an operation does.
    OperationKind {
        /// A backup of a set.
        Backup = "backup",
        /// A restore of streams to a folder or an output.
        Restore = "restore",
        /// A restore into the service that a set is of. Until the newest has succeeded, backups of its set are refused.
        RestoreIntoService = "restore-into-service",
        /// A restore of files to where they were.
        RestoreInPlace = "restore-in-place",
        /// A restore into a service that nobody uses, to see whether it succeeds.
        Drill = "drill",
        /// A verification.
        Verify = "verify",
        /// A prune.
        Prune = "prune",
        /// A dump into a local copy.
        Dump = "dump",
    }
}

words! {
    /// How an operation ended.
    Outcome {
        /// All went well.
        Done = "done",
        /// It did its work, with warnings.
        Warnings = "warnings",
        /// It failed.
        Failed = "failed",
        /// It was interrupted.
        Interrupted = "interrupted",
    }
}

impl Outcome {
    /// Whether the work was done.
    pub const fn is_success(self) -> bool {
        matches!(self, Outcome::Done | Outcome::Warnings)
    }
}

words! {
    /// What a name in a service is to a restore.
    NameKind {
        /// The restore writes there, and nothing stood there before but what an earlier restore had begun.
        Target = "target",
        /// What stands there is nothing but what restores have loaded, and no restore goes on with it.
        Leftover = "leftover",
    }
}

/// An operation that begins.
#[derive(Debug, Clone)]
pub struct Beginning<'a> {
    /// What it does.
    pub kind: OperationKind,
    /// The set; None where it is about the repository.
    pub set: Option<&'a str>,
    /// What it works on and who asked for it, for people.
    pub about: Option<&'a str>,
    /// The snapshot that is restored.
    pub snapshot: Option<SnapshotId>,
    /// What was asked for, where a later run needn't do the same once more.
    pub request: Option<&'a str>,
    /// What a restore makes in a service.
    pub remains: Remains,
}

impl<'a> Beginning<'a> {
    /// One of which no more is known.
    pub fn new(kind: OperationKind, set: Option<&'a str>) -> Self {
        Self { kind, set, about: None, snapshot: None, request: None, remains: Remains::default() }
    }
}

/// How an operation went.
#[derive(Debug, Clone)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// The error, or the first warning.
    pub message: Option<String>,
    /// The snapshot that it made.
    pub snapshot: Option<(SnapshotId, Totals)>,
    /// What stands where a restore wrote: a text that is another one once any of it is another.
    pub standing: Option<String>,
}

impl Ending {
    /// An end in few words.
    pub fn new(outcome: Outcome, message: Option<String>) -> Self {
        Self { outcome, message, snapshot: None, standing: None }
    }

    /// The end of what did its work.
    pub fn with_warnings(warnings: &[Warning]) -> Self {
        let outcome = if warnings.is_empty() { Outcome::Done } else { Outcome::Warnings };
        Self::new(outcome, warnings.first().map(ToString::to_string))
    }
}

/// An operation that was begun and has to be ended. One that isn't stays open, as after a kill.
#[derive(Debug)]
#[must_use]
pub struct Running {
    number: i64,
}

/// One operation of the past, or one that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number, ascending.
    pub number: i64,
    /// What it does.
    pub kind: OperationKind,
    /// The set; None where it was about the repository.
    pub set: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; None while it runs or where it was killed.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it works on and who asked for it.
    pub about: Option<String>,
    /// The error, or the first warning.
    pub message: Option<String>,
    /// The snapshot that it made or restored.
    pub snapshot: Option<SnapshotId>,
    /// What was asked for, where a later run needn't do the same once more.
    pub request: Option<String>,
    /// What stood where a restore wrote when it had ended.
    pub standing: Option<String>,
}

impl Operation {
    /// What it works on, and how it went: for people.
    pub fn described(&self) -> String {
        [&self.about, &self.message].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Whether it did its work.
    pub fn has_succeeded(&self) -> bool {
        self.outcome.is_some_and(Outcome::is_success)
    }
}

/// How many restores of a set are looked through for one that is unfinished.
const LOOKED_AT: usize = 200;

/// The columns that make an [`Operation`].
const COLUMNS: &str = "number, kind, set_name, started, ended, outcome, about, message, snapshot, request, standing";

impl Index {
    /// Notes that an operation begins.
    pub fn begin(&mut self, operation: &Beginning<'_>, now: Timestamp) -> Result<Running> {
        let Beginning { kind, set, about, snapshot, request, remains } = operation;
        let number = self.write(|database| {
            let insert = "INSERT INTO operation (kind, set_name, started, about, snapshot, request) VALUES (?1, ?2, ?3, \
                          ?4, ?5, ?6)";
            let snapshot = snapshot.as_ref().map(SnapshotId::as_bytes);
            database.execute(insert, params![kind, set, now.nanos(), about, snapshot, request])?;
            let number = database.last_insert_rowid();
            add_names(database, number, NameKind::Target, &remains.targets)?;
            add_names(database, number, NameKind::Leftover, &remains.leftovers)?;
            Ok(number)
        })?;
        Ok(Running { number })
    }

    /// Notes how an operation ended.
    pub fn end(&mut self, operation: Running, now: Timestamp, ending: &Ending) -> Result<()> {
        let Ending { outcome, message, snapshot, standing } = ending;
        let totals = snapshot.as_ref().map(|(_, totals)| *totals).unwrap_or_default();
        self.write(|database| {
            let update = "UPDATE operation SET ended = ?2, outcome = ?3, message = ?4, snapshot = coalesce(?5, snapshot), \
                          read = ?6, new = ?7, stored = ?8, standing = ?9 WHERE number = ?1";
            let snapshot = snapshot.as_ref().map(|(id, _)| id.as_bytes());
            let (read, new, stored) = (totals.read as i64, totals.new as i64, totals.stored as i64);
            let ended = params![operation.number, now.nanos(), outcome, message, snapshot, read, new, stored, standing];
            database.execute(update, ended)
        })?;
        Ok(())
    }

    /// Notes what a verification found.
    pub fn add_verification(&mut self, operation: &Running, level: &str, snapshots: u64, damaged: u64) -> Result<()> {
        self.write(|database| {
            let insert = "INSERT INTO verification (operation, level, snapshots, damaged) VALUES (?1, ?2, ?3, ?4)";
            database.execute(insert, params![operation.number, level, snapshots as i64, damaged as i64])
        })?;
        Ok(())
    }

    /// The newest operation of a kind.
    pub fn last_operation(&self, kind: OperationKind) -> Result<Option<Operation>> {
        self.newest("kind = ?1", params![kind])
    }

    /// The newest restore of a set that noted what was asked for.
    pub fn last_request(&self, kind: OperationKind, set: &str) -> Result<Option<Operation>> {
        self.newest("kind = ?1 AND set_name = ?2 AND request IS NOT NULL", params![kind, set])
    }

    /// The newest restore of a set into its service that has not succeeded.
    pub fn unfinished_restore(&self, set: &str) -> Result<Option<Operation>> {
        Ok(self.unfinished(set)?.map(|(restore, _)| restore))
    }

    /// What restores of a set that have not succeeded have made in its service, or had begun to make.
    pub fn unfinished_remains(&self, set: &str) -> Result<Remains> {
        Ok(self.unfinished(set)?.map(|(_, remains)| remains).unwrap_or_default())
    }

    /// The newest restore of a set into its service that has not succeeded, and what all such have made there. A later
    /// one that succeeded settles the names that it restored itself, and no others: half a database stays unfinished while
    /// another, or a copy under another name, is restored. An operation without a snapshot gives up all before it.
    fn unfinished(&self, set: &str) -> Result<Option<(Operation, Remains)>> {
        let restores: Vec<Operation> = self.read(|database| {
            let select = format!(
                "SELECT {COLUMNS} FROM operation WHERE kind = ?1 AND set_name = ?2 ORDER BY number DESC LIMIT {LOOKED_AT}"
            );
            let mut select = database.prepare_cached(&select)?;
            select.query_map(params![OperationKind::RestoreIntoService, set], operation)?.collect()
        })?;
        let (mut settled, mut has_success) = (Vec::new(), false);
        let mut found: Option<(Operation, Remains)> = None;
        for restore in restores {
            if restore.has_succeeded() && restore.snapshot.is_none() {
                break;
            }
            let Remains { targets, leftovers } = self.remains_of(&restore)?;
            if restore.has_succeeded() {
                settled.extend(targets);
                has_success = true;
                continue;
            }
            let targets: Vec<ServiceName> = targets.into_iter().filter(|name| !settled.contains(name)).collect();
            if targets.is_empty() && has_success {
                continue;
            }
            let remains = Remains { targets, leftovers };
            found = Some(match found {
                None => (restore, remains),
                Some((newest, others)) => (newest, others.and(&remains)),
            });
        }
        Ok(found)
    }

    /// What an operation has made in a service.
    pub fn remains_of(&self, operation: &Operation) -> Result<Remains> {
        let mut remains = Remains::default();
        let rows: Vec<(NameKind, ServiceName, Vec<u8>)> = self.read(|database| {
            let mut select = database.prepare_cached(
                "SELECT kind, server, name, row_check FROM service_name WHERE operation = ?1 ORDER BY name",
            )?;
            let row =
                |row: &Row<'_>| Ok((row.get(0)?, ServiceName { server: row.get(1)?, name: row.get(2)? }, row.get(3)?));
            select.query_map([operation.number], row)?.collect()
        })?;
        for (kind, name, check) in rows {
            self.expect(check == name_check(operation.number, kind, &name), "name in a service")?;
            match kind {
                NameKind::Target => remains.targets.push(name),
                NameKind::Leftover => remains.leftovers.push(name),
            }
        }
        Ok(remains)
    }

    fn newest(&self, condition: &str, values: impl rusqlite::Params) -> Result<Option<Operation>> {
        self.read(|database| {
            let select = format!("SELECT {COLUMNS} FROM operation WHERE {condition} ORDER BY number DESC LIMIT 1");
            database.query_row(&select, values, operation).optional()
        })
    }
}

fn add_names(database: &Connection, operation: i64, kind: NameKind, names: &[ServiceName]) -> rusqlite::Result<()> {
    for name in names {
        let insert =
            "INSERT OR IGNORE INTO service_name (operation, kind, server, name, row_check) VALUES (?1, ?2, ?3, ?4, ?5)";
        let check = name_check(operation, kind, name);
        database.execute(insert, params![operation, kind, name.server, name.name, check])?;
    }
    Ok(())
}

/// What stands under such a name may be replaced without being asked for: a flipped bit mustn't make it another one.
fn name_check(operation: i64, kind: NameKind, name: &ServiceName) -> [u8; 16] {
    row_check(&[
        &operation.to_le_bytes(),
        kind.word().as_bytes(),
        &(name.server.len() as u64).to_le_bytes(),
        name.server.as_bytes(),
        name.name.as_bytes(),
    ])
}

fn operation(row: &Row<'_>) -> rusqlite::Result<Operation> {
    Ok(Operation {
        number: row.get(0)?,
        kind: row.get(1)?,
        set: row.get(2)?,
        started: Timestamp::from_nanos(row.get(3)?),
        ended: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_nanos),
        outcome: row.get(5)?,
        about: row.get(6)?,
        message: row.get(7)?,
        snapshot: row.get::<_, Option<_>>(8)?.map(SnapshotId::from_bytes),
        request: row.get(9)?,
        standing: row.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::IndexError;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn an_operation_is_seen_while_it_runs_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        let running = index.begin(&Beginning::new(OperationKind::Backup, Some("agama")), at(5)).unwrap();
        let seen = index.last_operation(OperationKind::Backup).unwrap().unwrap();
        assert_eq!((seen.ended, seen.outcome, seen.set.as_deref()), (None, None, Some("agama")));
        index.end(running, at(9), &Ending::new(Outcome::Failed, Some("no room".to_owned()))).unwrap();
        let ended = index.last_operation(OperationKind::Backup).unwrap().unwrap();
        assert_eq!(
            (ended.ended, ended.outcome, ended.message.as_deref()),
            (Some(at(9)), Some(Outcome::Failed), Some("no room"))
        );
        assert_eq!(index.last_operation(OperationKind::Verify).unwrap(), None);
    }

    /// The schema lists them once more.
    #[test]
    fn each_kind_and_outcome_is_a_row_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        for kind in OperationKind::ALL {
            for outcome in Outcome::ALL {
                let running = index.begin(&Beginning::new(*kind, None), at(1)).unwrap();
                index.end(running, at(2), &Ending::new(*outcome, None)).unwrap();
                let found = index.last_operation(*kind).unwrap().unwrap();
                assert_eq!((found.kind, found.outcome), (*kind, Some(*outcome)));
            }
        }
        for (column, word) in [("kind", "nonsense"), ("outcome", "Done")] {
            let update = format!("UPDATE operation SET {column} = '{word}'");
            assert!(index.database.execute(&update, []).is_err(), "{word}");
        }
        index.database.execute_batch("PRAGMA ignore_check_constraints = on").unwrap();
        index.database.execute("UPDATE operation SET outcome = 'x' WHERE kind = 'prune'", []).unwrap();
        assert!(index.last_operation(OperationKind::Prune).unwrap_err().is_damage());
    }

    #[test]
    fn a_restore_notes_its_names_and_a_changed_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        let name = |name: &str| ServiceName { server: "a:3306".to_owned(), name: name.to_owned() };
        let remains =
            Remains { targets: vec![name("shop")], leftovers: vec![name("shop_loading_1"), name("shop_loading_1")] };
        let beginning = Beginning {
            request: Some("all"),
            snapshot: Some(SnapshotId::from_bytes([7; SnapshotId::LEN])),
            remains,
            ..Beginning::new(OperationKind::RestoreIntoService, Some("shop"))
        };
        let _killed = index.begin(&beginning, at(1)).unwrap();
        let unfinished = index.unfinished_restore("shop").unwrap().unwrap();
        let found = index.remains_of(&unfinished).unwrap();
        assert_eq!((found.targets, found.leftovers), (vec![name("shop")], vec![name("shop_loading_1")]));
        assert_eq!(index.unfinished_restore("other").unwrap(), None);
        index.database.execute("UPDATE service_name SET name = 'shoq' WHERE name = 'shop'", []).unwrap();
        assert!(matches!(index.remains_of(&unfinished), Err(IndexError::Changed { .. })));
        index.database.execute("UPDATE service_name SET name = 'shop' WHERE name = 'shoq'", []).unwrap();
        // One that noted no request hides none that did.
        let running = index.begin(&beginning, at(2)).unwrap();
        let ending = Ending { standing: Some("x".to_owned()), ..Ending::with_warnings(&[]) };
        index.end(running, at(3), &ending).unwrap();
        let other = index.begin(&Beginning { request: None, ..beginning }, at(4)).unwrap();
        index.end(other, at(5), &Ending::new(Outcome::Interrupted, None)).unwrap();
        let asked = index.last_request(OperationKind::RestoreIntoService, "shop").unwrap().unwrap();
        assert_eq!(
            (asked.standing.as_deref(), asked.snapshot),
            (Some("x"), Some(SnapshotId::from_bytes([7; SnapshotId::LEN])))
        );
        assert!(asked.has_succeeded() && index.unfinished_restore("shop").unwrap().is_some());
    }

    #[test]
    fn a_restore_settles_the_names_that_it_restored_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        let name = |name: &&str| ServiceName { server: "a:3306".to_owned(), name: (*name).to_owned() };
        let mut restore = |targets: &[&str], ends: bool| {
            let remains = Remains { targets: targets.iter().map(name).collect(), leftovers: Vec::new() };
            let snapshot = Some(SnapshotId::from_bytes([7; SnapshotId::LEN]));
            let beginning =
                Beginning { snapshot, remains, ..Beginning::new(OperationKind::RestoreIntoService, Some("shop")) };
            let running = index.begin(&beginning, at(1)).unwrap();
            if ends {
                index.end(running, at(2), &Ending::with_warnings(&[])).unwrap();
            }
            index.unfinished_remains("shop").unwrap().targets
        };
        assert_eq!(restore(&["one", "two"], false), [name(&"one"), name(&"two")]);
        assert_eq!(restore(&["copy"], true).len(), 2, "a copy settles nothing of the original");
        assert_eq!(restore(&["one"], true), [name(&"two")], "a part settles itself, and is nobody's own from then on");
        assert_eq!(restore(&[], true), [name(&"two")], "what replaced other data settles nothing");
        assert_eq!(restore(&["two"], true), []);
        assert_eq!(restore(&["one", "two"], false).len(), 2);
        let abandoned = Beginning::new(OperationKind::RestoreIntoService, Some("shop"));
        let running = index.begin(&abandoned, at(3)).unwrap();
        index.end(running, at(4), &Ending::new(Outcome::Done, None)).unwrap();
        assert_eq!(index.unfinished_restore("shop").unwrap(), None);
    }
}
