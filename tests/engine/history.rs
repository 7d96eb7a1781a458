//! Random histories: streams are edited, backed up in every way, lost and found again, on a machine that forgets, is set back
//! and has a wrong clock. Whatever was committed restores to the byte, compared with plain copies.
//!
//! 64 histories by default, 1,000 with VARU_TEST_LONG=1.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use support::vault::*;
use support::*;
use varu::backup::{BackupOptions, WantedKind, backup};
use varu::chunker::ChunkSizes;
use varu::class::{Class, Classified};
use varu::error::Error;
use varu::format::layout::SnapshotKind;
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::source::{self, Finished, Source};
use varu::warning::WarningKind;

const SETS: [&str; 2] = ["one", "two"];

#[derive(Debug, Clone)]
enum Step {
    Edit { set: usize, stream: Index, edit: Edit },
    Backup { set: usize, wanted: WantedKind, isolate: bool, cache: u64 },
    FailedBackup { set: usize },
    Restore { snapshot: Index },
    Verify,
    Rebuild,
    LoseState,
    SaveState,
    SetStateBack,
    LoseBaseCache,
    DamageBaseCache { seed: u64 },
    Clock { hours: i64 },
}

#[derive(Debug, Clone)]
enum Edit {
    New { kind: Content, length: usize, seed: u64 },
    Remove,
    Rename,
    Copy,
    Insert { at: Index, kind: Content, length: usize, seed: u64 },
    Overwrite { at: Index, length: usize, seed: u64 },
    Cut { at: Index, length: usize },
    Turn { at: Index },
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Noise,
    Rows,
    Zeros,
}

impl Content {
    fn bytes(self, length: usize, seed: u64) -> Vec<u8> {
        let mut bytes = match self {
            Content::Noise => noise(length, seed),
            Content::Rows => table(length as u32 / 30 + 1, |_| seed as u32 % 7),
            Content::Zeros => vec![0; length],
        };
        bytes.truncate(length);
        bytes
    }
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![Just(Content::Noise), Just(Content::Rows), Just(Content::Zeros)]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (content(), 0usize..40_000, any::<u64>()).prop_map(|(kind, length, seed)| Edit::New { kind, length, seed }),
        1 => Just(Edit::Remove),
        1 => Just(Edit::Rename),
        1 => Just(Edit::Copy),
        4 => (any::<Index>(), content(), 0usize..3000, any::<u64>())
            .prop_map(|(at, kind, length, seed)| Edit::Insert { at, kind, length, seed }),
        4 => (any::<Index>(), 1usize..500, any::<u64>()).prop_map(|(at, length, seed)| Edit::Overwrite { at, length, seed }),
        2 => (any::<Index>(), 1usize..5000).prop_map(|(at, length)| Edit::Cut { at, length }),
        1 => any::<Index>().prop_map(|at| Edit::Turn { at }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let wanted = prop_oneof![
        4 => Just(WantedKind::Due),
        3 => Just(WantedKind::Incremental),
        2 => Just(WantedKind::Full),
        1 => Just(WantedKind::Rebase),
    ];
    prop_oneof![
        10 => (0usize..2, any::<Index>(), edit()).prop_map(|(set, stream, edit)| Step::Edit { set, stream, edit }),
        8 => (0usize..2, wanted, prop::bool::weighted(0.1), prop_oneof![1 => Just(0), 3 => Just(40_000), 6 => Just(1 << 30)])
            .prop_map(|(set, wanted, isolate, cache)| Step::Backup { set, wanted, isolate, cache }),
        1 => (0usize..2).prop_map(|set| Step::FailedBackup { set }),
        3 => any::<Index>().prop_map(|snapshot| Step::Restore { snapshot }),
        1 => Just(Step::Verify),
        1 => Just(Step::Rebuild),
        1 => Just(Step::LoseState),
        1 => Just(Step::SaveState),
        1 => Just(Step::SetStateBack),
        1 => Just(Step::LoseBaseCache),
        2 => any::<u64>().prop_map(|seed| Step::DamageBaseCache { seed }),
        3 => (-100i64..400).prop_map(|hours| Step::Clock { hours }),
    ]
}

/// The repository, the machine, and plain copies of all that was committed.
struct World {
    vault: Vault,
    clock: TestClock,
    now: [Streams; 2],
    committed: Vec<(SnapshotRow, Streams)>,
    /// A copy of the state folder, from some time before.
    saved: Option<tempfile::TempDir>,
    renamed: u32,
}

impl World {
    fn new() -> Self {
        // Small chunks, so that small streams have many.
        let vault = Vault::with_chunks(ChunkSizes { min: 64, average: 512, max: 4096 });
        let start = || Streams::from([("customers".to_owned(), table(700, |_| 0)), ("log".to_owned(), noise(5000, 1))]);
        let now = [start(), start()];
        Self { vault, clock: TestClock::at(MONDAY), now, committed: Vec::new(), saved: None, renamed: 0 }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Edit { set, stream, edit } => self.edit(*set, stream, edit),
            Step::Backup { set, wanted, isolate, cache } => self.backup(*set, *wanted, *isolate, *cache),
            Step::FailedBackup { set } => self.failed_backup(*set),
            Step::Restore { snapshot } => self.restore(snapshot),
            Step::Verify => assert_eq!(self.reader().map(|reader| assert_whole(&reader).snapshots.len()), self.count()),
            Step::Rebuild => {
                let changes = self.vault.writer().rebuild(false).unwrap();
                assert_eq!((changes.hidden, changes.refused), (None, Vec::new()));
            }
            Step::LoseState => empty_folder(self.vault.state.path()),
            Step::SaveState => {
                let saved = state();
                copy_state(self.vault.state.path(), saved.path());
                self.saved = Some(saved);
            }
            Step::SetStateBack => {
                if let Some(saved) = &self.saved {
                    empty_folder(self.vault.state.path());
                    copy_state(saved.path(), self.vault.state.path());
                }
            }
            Step::LoseBaseCache => self.base_cache().iter().for_each(|file| std::fs::remove_file(file).unwrap()),
            Step::DamageBaseCache { seed } => self.damage_base_cache(*seed),
            Step::Clock { hours } => self.clock.advance_hours(*hours),
        }
    }

    fn count(&self) -> Option<usize> {
        Some(self.committed.len())
    }

    fn reader(&self) -> Option<Arc<varu::repository::Repository>> {
        self.vault.reader(self.vault.state.path()).ok()
    }

    fn edit(&mut self, set: usize, stream: &Index, edit: &Edit) {
        self.renamed += 1;
        let fresh = format!("stream {}", self.renamed);
        let streams = &mut self.now[set];
        let name = (!streams.is_empty()).then(|| streams.keys().nth(stream.index(streams.len())).unwrap().clone());
        let Some(name) = name else {
            streams.insert(fresh, Vec::new());
            return;
        };
        let bytes = streams.get_mut(&name).unwrap();
        let place = |at: &Index| at.index(bytes.len() + 1);
        match edit {
            Edit::New { kind, length, seed } => drop(streams.insert(fresh, kind.bytes(*length, *seed))),
            Edit::Remove => drop(streams.remove(&name)),
            Edit::Rename => {
                let bytes = streams.remove(&name).unwrap();
                streams.insert(fresh, bytes);
            }
            Edit::Copy => {
                let bytes = bytes.clone();
                self.now[1 - set].insert(fresh, bytes);
            }
            Edit::Insert { at, kind, length, seed } => {
                let at = place(at);
                bytes.splice(at..at, kind.bytes(*length, *seed));
            }
            Edit::Overwrite { at, length, seed } => {
                let at = place(at);
                let end = bytes.len().min(at + length);
                let new = noise(end - at, *seed);
                bytes[at..end].copy_from_slice(&new);
            }
            Edit::Cut { at, length } => {
                let at = place(at);
                drop(bytes.drain(at..bytes.len().min(at + length)));
            }
            Edit::Turn { at } => {
                let at = place(at);
                bytes.rotate_left(at);
            }
        }
    }

    fn options(&self, set: usize) -> BackupOptions {
        BackupOptions { set: SETS[set].to_owned(), ..options() }
    }

    fn backup(&mut self, set: usize, wanted: WantedKind, isolate_chains: bool, base_cache_max: u64) {
        let options = BackupOptions { wanted, isolate_chains, base_cache_max, ..self.options(set) };
        let report = back_up_with(&self.vault.writer(), &self.now[set], &options, &self.clock).unwrap();
        // A lost state takes the base cache with it, and the clock is set back at times.
        let expected = [WarningKind::BaseCache, WarningKind::WrongClock];
        assert!(report.warnings.iter().all(|warning| expected.contains(&warning.kind)), "{:?}", report.warnings);
        let header = &report.snapshot.header;
        assert_eq!(header.sequence, self.committed.len() as u64 + 1);
        assert_eq!(header.previous, self.committed.last().map(|(row, _)| row.id));
        if matches!(wanted, WantedKind::Full | WantedKind::Rebase) {
            assert_eq!(header.kind(), SnapshotKind::Full);
        }
        if let Some(parent) = header.parent {
            let before = self.committed.iter().rfind(|(row, _)| row.header.set == SETS[set]).unwrap();
            assert_eq!(parent.id, before.0.id);
        }
        self.committed.push((report.snapshot, self.now[set].clone()));
    }

    fn failed_backup(&mut self, set: usize) {
        let mut source = Failing(MemorySource::new(&self.now[set]));
        let (progress, interrupt) = (Counts::default(), Interrupt::default());
        let writer = self.vault.writer();
        let error = backup(&writer, &mut source, &self.options(set), &self.clock, &progress, &interrupt).unwrap_err();
        assert!(matches!(error, Error::Source(_)) && error.class() == Class::Failed, "{error}");
    }

    fn restore(&self, snapshot: &Index) {
        if self.committed.is_empty() {
            return;
        }
        let (row, expected) = &self.committed[snapshot.index(self.committed.len())];
        let reader = self.reader().unwrap();
        reader.sync().unwrap();
        assert_restores(&reader, row, expected);
    }

    /// The files of all base caches.
    fn base_cache(&self) -> Vec<std::path::PathBuf> {
        let folders = std::fs::read_dir(self.vault.state.path()).unwrap().map(|folder| folder.unwrap().path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("base-")).collect()
    }

    /// Each file is cut, gets other bytes here and there, or those of another one.
    fn damage_base_cache(&self, seed: u64) {
        let mut random = Random(seed);
        let files = self.base_cache();
        for file in &files {
            let mut bytes = std::fs::read(file).unwrap();
            if bytes.is_empty() {
                continue;
            }
            match random.below(4) {
                0 => bytes.truncate(random.below(bytes.len())),
                1 => bytes = std::fs::read(&files[random.below(files.len())]).unwrap(),
                _ => (0..20).for_each(|_| {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }),
            }
            std::fs::write(file, bytes).unwrap();
        }
    }

    fn end(&self) {
        let reader = self.vault.fresh_reader();
        assert_eq!(assert_whole(&reader).snapshots.len(), self.committed.len());
        for (row, expected) in &self.committed {
            assert_restores(&reader, row, expected);
        }
    }
}

fn empty_folder(folder: &std::path::Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
}

/// Gives its streams, and says at the end that they aren't complete.
struct Failing(MemorySource);

impl Source for Failing {
    fn next(&mut self) -> Result<Option<varu::entry::Entry>, source::Error> {
        self.0.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, source::Error> {
        self.0.read(buffer)
    }

    fn end(&mut self) -> Result<varu::entry::Entry, source::Error> {
        self.0.end()
    }

    fn finish(&mut self) -> Result<Finished, source::Error> {
        Err(source::Error::Failed("the dump ended early".to_owned()))
    }

    fn warnings(&mut self) -> Vec<varu::warning::Warning> {
        Vec::new()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if long() { 1000 } else { 64 },
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_was_committed_restores(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.end();
    }
}

/// A chain ends at 64 snapshots, whoever asks for more; all of them restore.
#[test]
fn a_chain_ends_at_64() {
    let mut world = World::new();
    for number in 0..66 {
        world.clock.advance(Duration::from_secs(60));
        let bytes = world.now[0].get_mut("customers").unwrap();
        let at = 100 + 200 * number;
        bytes[at..at + 8].copy_from_slice(&noise(8, number as u64));
        world.backup(0, WantedKind::Incremental, false, 1 << 30);
    }
    let fulls = world.committed.iter().map(|(row, _)| row.header.kind() == SnapshotKind::Full);
    let fulls: Vec<usize> = fulls.enumerate().filter(|(_, full)| *full).map(|(number, _)| number).collect();
    assert_eq!(fulls, [0, 64]);
    world.end();
}
