//! An index that can't be used is put aside, and a new one begun with what the old one gives of this machine's own history.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::{FILE, Index, IndexError, Result};

/// The fact by which a new index knows that all is to be read from the repository, whatever was seen before.
const ANEW: &str = "anew";

impl Index {
    /// Opens the index in `folder` and looks through it. One that is damaged, or was made by another version of the program, is
    /// put aside, and a new one begun, which the repository has to fill: see [`Index::why_anew`].
    pub fn open_whole(folder: &Path) -> Result<Self> {
        match Self::open_looked_through(folder) {
            Err(error) if error.is_damage() => {}
            opened => return opened,
        }
        // Of two commands that find it damaged, the second waits and finds the new one.
        let path = folder.join("index.lock");
        let failed = |source| IndexError::Io { tried: "locking", path: path.clone(), source };
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let why = match Self::open_looked_through(folder) {
            Err(error) if error.is_damage() => error,
            opened => return opened,
        };
        let aside = set_aside(folder)?;
        let mut index = Self::open(folder)?;
        index.take_history(&aside);
        let why = why.to_string();
        let why = why.split("; ").next().unwrap_or_default();
        let said = format!("{why}: it lies in {} now, and was made again from the repository", aside.display());
        index.set_local(ANEW, said.as_bytes())?;
        Ok(index)
    }

    fn open_looked_through(folder: &Path) -> Result<Self> {
        // Leftovers of a killed command.
        let was_cut = folder.join(format!("{FILE}-wal")).exists();
        let index = Self::open(folder)?;
        if was_cut || index.should_be_looked_through() {
            index.look_through()?;
        }
        Ok(index)
    }

    /// Where all is to be read from the repository, whatever was seen before: why, as a sentence.
    pub fn why_anew(&self) -> Result<Option<String>> {
        Ok(self.local(ANEW)?.map(|why| String::from_utf8_lossy(&why).into_owned()))
    }

    /// All was read from the repository.
    pub fn was_filled(&mut self) -> Result<()> {
        self.forget_local(ANEW)
    }

    /// Copies the readable local state and history of an index that was set aside.
    fn take_history(&mut self, aside: &Path) {
        let Ok(old) = Connection::open_with_flags(aside, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return };
        for (name, value) in local_state(&old) {
            // A row with a wrong check is worse than none.
            let _ = self.set_local(&name, &value);
        }
        let trust = [("trusted_snapshot", "id"), ("trusted_pack", "id")];
        let journal =
            [("operation", "number"), ("service_name", "operation"), ("verification", "number"), ("drill", "number")];
        for (table, key) in journal.into_iter().chain(trust) {
            // Rows from the front, then rows from the end: a page in the middle may be the damaged one.
            for order in ["ASC", "DESC"] {
                let _ = self.take_rows(&old, table, &format!("{key} {order}"));
            }
        }
    }

    fn take_rows(&mut self, old: &Connection, table: &str, order: &str) -> rusqlite::Result<()> {
        let columns = |database: &Connection| -> rusqlite::Result<Vec<String>> {
            let select = database.prepare(&format!("SELECT * FROM {table}"))?;
            Ok(select.column_names().map(str::to_owned).collect())
        };
        let (ours, theirs) = (columns(&self.database)?, columns(old)?);
        let common: Vec<&str> = ours.iter().filter(|name| theirs.contains(name)).map(String::as_str).collect();
        let names = common.join(", ");
        let marks = vec!["?"; common.len()].join(", ");
        let mut select = old.prepare(&format!("SELECT {names} FROM {table} ORDER BY {order}"))?;
        let mut rows = select.query([])?;
        let transaction = self.database.transaction()?;
        {
            let mut insert =
                transaction.prepare(&format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"))?;
            // Up to the first page that doesn't read.
            while let Ok(Some(row)) = rows.next() {
                let values: rusqlite::Result<Vec<Value>> = (0..common.len()).map(|at| row.get(at)).collect();
                // A row that can't be, as a verification of no operation, is left out.
                let _ = values.and_then(|values| insert.execute(params_from_iter(values)));
            }
        }
        transaction.commit()
    }
}

/// The facts that can be read and are as they were written. An older index had no checks.
fn local_state(old: &Connection) -> Vec<(String, Vec<u8>)> {
    let checked = old.prepare("SELECT name, value, row_check FROM local_state");
    let with_checks = checked.is_ok();
    let Ok(mut select) = checked.or_else(|_| old.prepare("SELECT name, value, x'' FROM local_state")) else {
        return Vec::new();
    };
    let Ok(mut rows) = select.query([]) else { return Vec::new() };
    let mut state = Vec::new();
    while let Ok(Some(row)) = rows.next() {
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(String, Vec<u8>, Vec<u8>)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        };
        let Ok((name, value, check)) = read(row) else { continue };
        if !with_checks || check == super::row_check(&[name.as_bytes(), &value]) {
            state.push((name, value));
        }
    }
    state
}

/// Moves the index out of the way. Returns where it is then.
fn set_aside(folder: &Path) -> Result<PathBuf> {
    let aside = folder.join(format!("{FILE}.damaged"));
    for rest in ["", "-wal", "-shm"] {
        let (path, aside) = (folder.join(format!("{FILE}{rest}")), folder.join(format!("{FILE}.damaged{rest}")));
        match std::fs::rename(&path, &aside) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                // One that an earlier index left there isn't this one's.
                let _ = std::fs::remove_file(&aside);
            }
            Err(source) => return Err(IndexError::Io { tried: "moving away", path, source }),
            Ok(()) => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Beginning, Ending, OperationKind, Outcome};
    use crate::time::Timestamp;

    fn filled(folder: &Path) {
        let mut index = Index::open(folder).unwrap();
        index.set_local("highest", b"7").unwrap();
        for number in 0..500 {
            let beginning = Beginning::new(OperationKind::Backup, Some("s"));
            let operation = index.begin(&beginning, Timestamp::from_seconds(number)).unwrap();
            index.add_verification(&operation, "data", 1, 0).unwrap();
            let ending = Ending::new(Outcome::Done, Some("m".repeat(100)));
            index.end(operation, Timestamp::from_seconds(number + 1), &ending).unwrap();
        }
    }

    fn rows(index: &Index, table: &str) -> i64 {
        index
            .read(|database| database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)))
            .unwrap()
    }

    #[test]
    fn a_whole_index_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let index = Index::open_whole(folder.path()).unwrap();
        assert_eq!((index.why_anew().unwrap(), rows(&index, "operation")), (None, 500));
    }

    #[test]
    fn any_page_may_be_lost_and_the_history_of_the_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let pages = whole.len() / 4096;
        assert!(pages > 20, "{pages}");
        let (mut healed, mut most) = (0, 0);
        for page in 0..pages {
            let _ = std::fs::remove_file(folder.path().join("index.sqlite.damaged"));
            let mut bytes = whole.clone();
            bytes[page * 4096..(page + 1) * 4096].fill(0);
            std::fs::write(&path, bytes).unwrap();
            let mut index = Index::open_whole(folder.path()).unwrap_or_else(|error| panic!("{page}: {error}"));
            // A page that held nothing may be zero.
            let Some(said) = index.why_anew().unwrap() else { continue };
            assert!(said.contains("index.sqlite.damaged"), "{said}");
            index.look_through().unwrap();
            let beginning = Beginning::new(OperationKind::Backup, None);
            let _open = index.begin(&beginning, Timestamp::from_seconds(9)).unwrap();
            healed += 1;
            most = most.max(rows(&index, "operation"));
        }
        assert!(healed > pages / 2 && most > 400, "{healed} of {pages}, {most} rows");
    }

    #[test]
    fn what_is_no_database_and_what_is_another_versions_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, vec![b'x'; 9000]).unwrap();
        let said = Index::open_whole(folder.path()).unwrap().why_anew().unwrap().unwrap();
        assert!(said.contains("index.sqlite.damaged"), "{said}");
        assert_eq!(std::fs::read(folder.path().join("index.sqlite.damaged")).unwrap(), vec![b'x'; 9000]);
        for version in [1, 999] {
            let mut index = Index::open(folder.path()).unwrap();
            index.set_local("highest", b"7").unwrap();
            index.was_filled().unwrap();
            index.database.pragma_update(None, "user_version", version).unwrap();
            drop(index);
            let index = Index::open_whole(folder.path()).unwrap();
            assert!(index.why_anew().unwrap().unwrap().contains(&format!("has schema {version}")));
            assert_eq!(index.local("highest").unwrap().as_deref(), Some(b"7".as_slice()));
        }
    }

    #[test]
    fn a_changed_fact_is_found_and_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        index.set_local("highest", b"7").unwrap();
        index.set_local("place", b"/srv").unwrap();
        index.database.execute("UPDATE local_state SET value = x'38' WHERE name = 'highest'", []).unwrap();
        assert!(matches!(index.local("highest"), Err(IndexError::Changed { .. })));
        drop(index);
        let index = Index::open_whole(folder.path()).unwrap();
        assert!(index.why_anew().unwrap().is_some());
        assert_eq!((index.local("highest").unwrap(), index.local("place").unwrap()), (None, Some(b"/srv".to_vec())));
    }

    #[test]
    fn the_files_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        index.set_local("highest", b"7").unwrap();
        let entries: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert!(entries.len() >= 2);
        for entry in entries {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }
}
