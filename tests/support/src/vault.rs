//! A repository in memory with its owner, and common operations of tests about damage, crashes and guards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use varu::chunker::ChunkSizes;
use varu::error::Error;
use varu::id::SnapshotId;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::remote::Remote;
use varu::remote::memory::MemoryRemote;
use varu::repository::Repository;
use varu::verify::{Level, VerifyOptions, VerifyReport, verify};

use crate::{MONDAY, Owner, Streams, TestClock, bring_back};

/// A repository in memory, with all its secrets and the state folder of its writer.
pub struct Vault {
    pub memory: MemoryRemote,
    pub remote: Arc<dyn Remote>,
    pub owner: Owner,
    pub state: TempDir,
    states: Mutex<Vec<TempDir>>,
}

impl Default for Vault {
    fn default() -> Self {
        Self::new()
    }
}

impl Vault {
    pub fn new() -> Self {
        Self::with_chunks(ChunkSizes::default())
    }

    /// One whose chunks have these sizes.
    pub fn with_chunks(sizes: ChunkSizes) -> Self {
        let memory = MemoryRemote::new();
        let remote: Arc<dyn Remote> = Arc::new(memory.clone());
        let owner = Owner::create_with(&*remote, sizes);
        Self { memory, remote, owner, state: state(), states: Mutex::default() }
    }

    /// The VM's view, on the vault's own state.
    pub fn writer(&self) -> Arc<Repository> {
        self.owner.writer(self.remote.clone(), self.state.path())
    }

    /// A state folder of its own, which is there as long as the vault.
    pub fn empty_state(&self) -> PathBuf {
        let state = state();
        let path = state.path().to_owned();
        self.states.lock().unwrap().push(state);
        path
    }

    /// The identity's view, on a machine that knows nothing.
    pub fn fresh_reader(&self) -> Arc<Repository> {
        self.reader(&self.empty_state()).unwrap()
    }

    /// The identity's view, on that state folder.
    pub fn reader(&self, state: &Path) -> Result<Arc<Repository>, varu::repository::Error> {
        self.owner.reader(self.remote.clone(), state)
    }
}

/// A state folder of its own, in memory where that can be had: tests make thousands.
pub fn state() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a state folder, as a snapshot of the machine would.
pub fn copy_state(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_state(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Verifies all.
pub fn check(repository: &Arc<Repository>, level: Level) -> Result<VerifyReport, Error> {
    let options = VerifyOptions { level, sample: 1.0 };
    verify(repository, &options, &TestClock::at(MONDAY), &Counts::default(), &Interrupt::default())
}

/// Fails unless the repository verifies without damage, chunk by chunk.
pub fn assert_whole(repository: &Arc<Repository>) -> VerifyReport {
    let report = check(repository, Level::Data).unwrap();
    assert_eq!(report.damage, Vec::new());
    report
}

/// The backed-up content, by snapshot.
pub type Expected = BTreeMap<SnapshotId, Streams>;

/// Restores a snapshot and fails unless all of it came back to the byte.
pub fn assert_restores(repository: &Arc<Repository>, snapshot: &SnapshotRow, expected: &Streams) {
    let (streams, report) = bring_back(repository, snapshot).unwrap();
    assert_eq!(report.damaged, Vec::<String>::new(), "snapshot {}", snapshot.id);
    assert!(streams == *expected, "snapshot {} came back otherwise", snapshot.id);
}

/// Fails unless a fresh machine with the identity alone restores all that is expected, and finds nothing else.
pub fn assert_all_restore(vault: &Vault, expected: &Expected) {
    let reader = vault.fresh_reader();
    reader.sync().unwrap();
    let rows = reader.index().snapshots().unwrap();
    assert_eq!(rows.len(), expected.len(), "as many snapshots as were committed");
    for row in rows {
        assert_restores(&reader, &row, &expected[&row.id]);
    }
}
