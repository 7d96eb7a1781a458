//! Shared code of the test suites and benchmarks: sources and targets in memory, a repository on any remote, a settable
//! clock, machines, servers and backup hosts.

pub mod apart;
pub mod away;
pub mod days;
pub mod dumps;
pub mod forge;
pub mod harm;
pub mod host;
pub mod influxdb;
pub mod machine;
pub mod mariadb;
pub mod medium;
pub mod postgresql;
pub mod proxy;
pub mod raw_sftp;
pub mod release;
pub mod schedule;
pub mod site;
pub mod sshd;
pub mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use varu::backup::{BackupOptions, BackupReport, backup};
use varu::chunker::ChunkSizes;
use varu::crypto::IdentityFile;
use varu::entry::{Entry, Kind, StreamName};
use varu::error::Error;
use varu::facts::Facts;
use varu::format::writer_key::WriterKeyFile;
use varu::id::derive_bytes;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::remote::Remote;
use varu::repository::{Keys, Repository, create, generate, unlock};
use varu::restore::{RestoreReport, restore};
use varu::source::{self, Finished, Source, Target};
use varu::time::{Clock, Timestamp};

/// The program under test, which cargo builds beside the suites.
pub fn program() -> PathBuf {
    let suite = std::env::current_exe().unwrap();
    suite.ancestors().nth(2).unwrap().join("varu")
}

/// Runs the calling test once more in a process of its own, and nothing more of it in this one. For properties of a
/// whole process, such as its memory.
#[macro_export]
macro_rules! alone {
    () => {
        if !$crate::is_alone(std::any::type_name_of_val(&|| {})) {
            return;
        }
    };
}

/// That this process runs one test alone. If it doesn't, one runs the test of that closure, and passes.
#[track_caller]
pub fn is_alone(closure: &str) -> bool {
    const ALONE: &str = "VARU_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let (_, test) = closure.trim_end_matches("::{{closure}}").split_once("::").unwrap();
    let mut suite = Command::new(std::env::current_exe().unwrap());
    let output = suite.args([test, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let ran = output.status.success() && out.contains("1 passed");
    assert!(
        ran,
        "{test} in a process of its own: {}\n{out}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// The most memory that this process ever held, in bytes.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

/// Streams by name.
pub type Streams = BTreeMap<String, Vec<u8>>;

/// Gives streams from memory.
pub struct MemorySource {
    streams: std::vec::IntoIter<(String, Vec<u8>)>,
    current: Option<(Entry, Vec<u8>, usize)>,
    /// The most bytes that one read gives.
    pub most: usize,
    /// When the streams were true.
    pub data_time: Timestamp,
}

impl MemorySource {
    pub fn new(streams: &Streams) -> Self {
        let streams: Vec<_> = streams.clone().into_iter().collect();
        Self {
            streams: streams.into_iter(),
            current: None,
            most: usize::MAX,
            data_time: Timestamp::from_seconds(MONDAY),
        }
    }
}

impl Source for MemorySource {
    fn next(&mut self) -> Result<Option<Entry>, source::Error> {
        self.current = self.streams.next().map(|(name, bytes)| {
            let name = StreamName::new(name).unwrap();
            (Entry { name, kind: Kind::Data, size: 0, metadata: None }, bytes, 0)
        });
        Ok(self.current.as_ref().map(|(entry, ..)| entry.clone()))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, source::Error> {
        let (_, bytes, at) = self.current.as_mut().unwrap();
        let length = buffer.len().min(bytes.len() - *at).min(self.most);
        buffer[..length].copy_from_slice(&bytes[*at..*at + length]);
        *at += length;
        Ok(length)
    }

    fn end(&mut self) -> Result<Entry, source::Error> {
        let (entry, bytes, _) = self.current.as_ref().unwrap();
        Ok(Entry { size: bytes.len() as u64, ..entry.clone() })
    }

    fn finish(&mut self) -> Result<Finished, source::Error> {
        Ok(Finished { data_time: self.data_time, facts: Facts::default() })
    }

    fn warnings(&mut self) -> Vec<varu::warning::Warning> {
        Vec::new()
    }
}

/// Takes streams into memory. Only completed ones are kept.
#[derive(Default)]
pub struct MemoryTarget {
    pub streams: Streams,
    current: Option<(String, Vec<u8>)>,
}

impl Target for MemoryTarget {
    fn wants(&mut self, _: &Entry) -> Result<bool, source::Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), source::Error> {
        self.current = Some((entry.name.to_string(), Vec::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), source::Error> {
        self.current.as_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), source::Error> {
        self.streams.extend(self.current.take());
        Ok(())
    }

    fn abandon(&mut self) {
        self.current = None;
    }

    fn finish(&mut self) -> Result<Vec<varu::warning::Warning>, source::Error> {
        Ok(Vec::new())
    }
}

/// A clock that a test sets.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds * 1_000_000_000))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as i64, Ordering::SeqCst);
    }

    /// Forward or back.
    pub fn advance_hours(&self, hours: i64) {
        self.0.fetch_add(hours * 3_600_000_000_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// 2026-11-16T01:05:10Z, a Monday.
pub const MONDAY: i64 = 1_794_791_110;

/// A repository with all its secrets, as an operator and a VM together have them.
pub struct Owner {
    pub identity: String,
    pub writer_key: String,
}

impl Owner {
    /// Makes a repository on `remote`.
    pub fn create(remote: &dyn Remote) -> Self {
        Self::create_with(remote, ChunkSizes::default())
    }

    /// Makes a repository on `remote` whose chunks have these sizes.
    pub fn create_with(remote: &dyn Remote, chunking: ChunkSizes) -> Self {
        let mut identity = IdentityFile::generate();
        let recipients = identity.recipients().iter().map(ToString::to_string).collect();
        let file = generate(recipients, chunking, None).unwrap();
        create(remote, &file).unwrap();
        identity.add_repository(file.repository_id());
        Self { identity: identity.to_text().to_string(), writer_key: file.to_text().to_string() }
    }

    /// Opens it as the VM does: it can write, and not read.
    pub fn writer(&self, remote: Arc<dyn Remote>, state: &Path) -> Arc<Repository> {
        let keys = Keys::new(WriterKeyFile::parse(&self.writer_key).unwrap()).unwrap();
        Arc::new(Repository::open(remote, keys, state).unwrap())
    }

    /// Opens it with the identity alone.
    pub fn reader(&self, remote: Arc<dyn Remote>, state: &Path) -> Result<Arc<Repository>, varu::repository::Error> {
        let identity = IdentityFile::parse(&self.identity).unwrap();
        let keys = unlock(&*remote, &identity, &[])?.remove(0);
        Ok(Arc::new(Repository::open(remote, keys, state)?))
    }
}

/// Backs streams up into the set `set`.
pub fn back_up(repository: &Arc<Repository>, streams: &Streams, clock: &dyn Clock) -> Result<BackupReport, Error> {
    back_up_with(repository, streams, &options(), clock)
}

pub fn options() -> BackupOptions {
    BackupOptions { wait: Duration::ZERO, zone: "UTC".parse().unwrap(), ..BackupOptions::new("set") }
}

pub fn back_up_with(
    repository: &Arc<Repository>,
    streams: &Streams,
    options: &BackupOptions,
    clock: &dyn Clock,
) -> Result<BackupReport, Error> {
    let mut source = MemorySource { data_time: clock.now(), ..MemorySource::new(streams) };
    backup(repository, &mut source, options, clock, &Counts::default(), &Interrupt::default())
}

/// Restores a snapshot: its streams, and the report.
pub fn bring_back(repository: &Arc<Repository>, snapshot: &SnapshotRow) -> Result<(Streams, RestoreReport), Error> {
    let mut target = MemoryTarget::default();
    let clock = TestClock::at(MONDAY);
    let (progress, interrupt) = (Counts::default(), Interrupt::default());
    let report = restore(repository, snapshot, &|_| true, &mut target, &clock, &progress, &interrupt)?;
    Ok((target.streams, report))
}

/// Bytes without any pattern, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; length];
    derive_bytes("varu test noise", &seed.to_le_bytes(), &mut data);
    data
}

/// A text like a table's dump: `rows` rows that depend on their number and on `salt(row)`.
pub fn table(rows: u32, salt: impl Fn(u32) -> u32) -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..rows {
        let mix = row.wrapping_mul(2_654_435_761).wrapping_add(salt(row));
        text.extend_from_slice(format!("({row},'customer {mix}',{},'street {}'),\n", mix % 9973, mix % 77).as_bytes());
    }
    text
}

/// Made-up numbers, the same for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }
}

/// Whether the long versions of tests were asked for.
pub fn long() -> bool {
    std::env::var_os("VARU_TEST_LONG").is_some()
}
