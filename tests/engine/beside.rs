//! Two runs with two state folders on one repository: a cloned machine, or a state that was restored elsewhere. One at least says
//! so, nothing is lost, and nobody talks of forgeries afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::vault::*;
use support::*;
use varu::backup::BackupReport;
use varu::class::{Class, Classified};
use varu::error::Error;
use varu::remote::memory::MemoryRemote;
use varu::remote::{Folder, Listed, ObjectName, Remote, Result, Upload};
use varu::repository::Repository;
use varu::warning::WarningKind;

type Deed = Box<dyn FnOnce() + Send>;

/// Does something else before the upload of that number is begun.
struct Meanwhile {
    inner: MemoryRemote,
    /// The number of uploads, and the action after them.
    what: Mutex<(usize, Option<Deed>)>,
}

impl Meanwhile {
    fn over(inner: &MemoryRemote, uploads: usize, what: impl FnOnce() + Send + 'static) -> Arc<dyn Remote> {
        Arc::new(Self { inner: inner.clone(), what: Mutex::new((uploads, Some(Box::new(what)))) })
    }
}

impl Remote for Meanwhile {
    fn begin(&self) -> Result<Box<dyn Upload>> {
        let due = {
            let mut what = self.what.lock().unwrap();
            let due = if what.0 == 0 { what.1.take() } else { None };
            what.0 = what.0.saturating_sub(1);
            due
        };
        if let Some(due) = due {
            due();
        }
        self.inner.begin()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.inner.create_folders()
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.inner.get(name, limit)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.get_range(name, offset, buffer)
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.inner.stat(name)
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.inner.list(folder)
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.inner.flush(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn can_delete(&self) -> Result<bool> {
        self.inner.can_delete()
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space()
    }
}

fn day(number: u64) -> Streams {
    BTreeMap::from([("log".to_owned(), noise(20_000, number))])
}

/// One vault with two state folders that both know its first snapshot.
struct Two {
    vault: Arc<Vault>,
    other: std::path::PathBuf,
    clock: Arc<TestClock>,
}

impl Two {
    fn new() -> Self {
        let (vault, clock) = (Arc::new(Vault::new()), Arc::new(TestClock::at(MONDAY)));
        back_up(&vault.writer(), &day(0), &*clock).unwrap();
        let other = vault.empty_state();
        copy_state(vault.state.path(), &other);
        clock.advance(Duration::from_secs(3600));
        Self { vault, other, clock }
    }

    fn on(&self, state: &Path, number: u64) -> std::result::Result<BackupReport, Error> {
        back_up(&self.vault.owner.writer(self.vault.remote.clone(), state), &day(number), &*self.clock)
    }

    /// A backup of this state during which the other one makes a complete one, before the upload of that number.
    fn overlapping(&self, uploads: usize) -> Error {
        let (vault, other, clock) = (self.vault.clone(), self.other.clone(), self.clock.clone());
        let remote = Meanwhile::over(&self.vault.memory, uploads, move || {
            back_up(&vault.owner.writer(vault.remote.clone(), &other), &day(2), &*clock).unwrap();
        });
        let writer = self.vault.owner.writer(remote, self.vault.state.path());
        back_up(&writer, &day(1), &*self.clock).unwrap_err()
    }

    /// Both continue, and both find everything intact.
    fn go_on(&self, snapshots: usize) {
        for (number, state) in [self.vault.state.path(), &*self.other, self.vault.state.path()].into_iter().enumerate()
        {
            self.clock.advance(Duration::from_secs(3600));
            let report = self.on(state, 10 + number as u64).unwrap();
            // Each has a base cache of its own.
            assert!(report.warnings.iter().all(|warning| warning.kind == WarningKind::BaseCache), "{report:?}");
            let repository: Arc<Repository> = self.vault.owner.writer(self.vault.remote.clone(), state);
            let changes = repository.sync().unwrap();
            assert!(changes.hidden.is_none() && changes.unusable().count() == 0, "{changes:?}");
            assert_whole(&self.vault.reader(state).unwrap());
        }
        assert_eq!(self.vault.memory.content(Folder::Snapshots).len(), snapshots + 3);
    }
}

#[test]
fn a_run_beside_which_another_one_wrote_stores_nothing_and_the_next_goes_on() {
    let two = Two::new();
    let error = two.overlapping(0);
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("nothing was stored: another run"), "{error}");
    assert_eq!(two.vault.memory.content(Folder::Snapshots).len(), 2);
    two.go_on(2);
}

#[test]
fn of_two_that_store_at_the_same_moment_one_says_so_and_both_snapshots_are_good() {
    let two = Two::new();
    // The pack is there, and the snapshot has its number.
    let error = two.overlapping(1);
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("was stored, and is whole; but another run"), "{error}");
    assert_eq!(two.vault.memory.content(Folder::Snapshots).len(), 3);
    two.go_on(3);
}
