//! A repository that takes the same streams day after day, and the bytes that a day adds beside those of `zstd
//! --patch-from`.

use std::sync::Arc;
use std::time::Duration;

use varu::backup::{BackupOptions, BackupReport};
use varu::index::SnapshotRow;
use varu::remote::Folder;
use varu::remote::memory::MemoryRemote;
use varu::repository::Repository;

use crate::dumps::{Table, patch};
use crate::vault::{Vault, assert_restores};
use crate::{MONDAY, Streams, TestClock, back_up_with, options};

pub const DAY: Duration = Duration::from_secs(86_400);

/// The allowed cost of a snapshot besides its new bytes: keys, headers, recipe.
pub const SNAPSHOT: u64 = 4096;
/// The allowed cost of a new chunk besides its bytes: its id and its length.
pub const CHUNK: u64 = 24;

/// All bytes of a repository.
pub fn size(memory: &MemoryRemote) -> u64 {
    let of = |folder| memory.content(folder).iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    of(Folder::Packs) + of(Folder::Snapshots)
}

/// A repository that takes one stream a day.
pub struct Days {
    pub vault: Vault,
    pub writer: Arc<Repository>,
    pub clock: TestClock,
    pub options: BackupOptions,
}

impl Default for Days {
    fn default() -> Self {
        Self::new()
    }
}

impl Days {
    pub fn new() -> Self {
        Self::with(options())
    }

    pub fn with(options: BackupOptions) -> Self {
        let vault = Vault::new();
        let writer = vault.writer();
        Self { vault, writer, clock: TestClock::at(MONDAY), options }
    }

    /// Backs up streams. Returns the report and the bytes that the repository grew by.
    pub fn next(&self, streams: &Streams) -> (BackupReport, u64) {
        let before = size(&self.vault.memory);
        let report = back_up_with(&self.writer, streams, &self.options, &self.clock).unwrap();
        self.clock.advance(DAY);
        (report, size(&self.vault.memory) - before)
    }

    pub fn restores(&self, snapshot: &SnapshotRow, streams: &Streams) {
        let reader = self.vault.fresh_reader();
        reader.sync().unwrap();
        assert_restores(&reader, snapshot, streams);
    }
}

pub fn one(bytes: &[u8]) -> Streams {
    Streams::from([("shop.sql".to_owned(), bytes.to_vec())])
}

/// Backs up two dumps. Fails if the second adds more than `percent` of the size of `patch-from`.
pub fn pays(what: &str, before: &[u8], now: &[u8], percent: u64) {
    let days = Days::new();
    let (_, full) = days.next(&one(before));
    let (report, added) = days.next(&one(now));
    let limit = patch(before, now);
    let metadata = SNAPSHOT + CHUNK * report.totals().new / 16_384;
    println!(
        "{what:>30}: dump {:>9}, full {full:>8}, added {added:>7}, patch-from {limit:>7}, for metadata {metadata:>6}",
        now.len()
    );
    days.restores(&report.snapshot, &one(now));
    assert!(added <= limit * percent / 100 + metadata, "{what}: {added} bytes, patch-from {limit}");
}

pub fn shop() -> Vec<Table> {
    vec![Table::new("customer", 12_000), Table::new("product", 4_000), Table::new("orders", 30_000)]
}
