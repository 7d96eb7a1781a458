//! A year of daily backups for generations of several lengths: `cargo bench --bench generations -- [CHUNKS] [DAYS] [PLACES]`
//!
//! A table of about CHUNKS (2000) chunks, of which 16 % are others each day, goes through the real writer into a repository in
//! memory, with a full each week and chains that are kept four weeks. For each length of a generation: what a day adds, what
//! is held, and what a restore decodes. Sizes are given as MB and, beside DESIGN's table, as if the plain set had 185 MB.

use std::fmt::Write;
use std::time::Duration;

use support::vault::Vault;
use support::*;
use varu::backup::BackupOptions;
use varu::format::layout::{SnapshotKind, pack_name};
use varu::id::PackId;
use varu::index::SnapshotRow;
use varu::remote::Folder;
use varu::remote::memory::MemoryRemote;
use varu::repository::Repository;

const DAY: Duration = Duration::from_secs(86_400);
/// Bytes of a chunk, on average.
const CHUNK: usize = 16 << 10;
/// Bytes of a row, nearly.
const ROW: usize = 120;
/// Places at which a day changes rows, for each 1000 chunks, unless PLACES says otherwise: 16 % of the bytes are in chunks
/// that change.
const PLACES: usize = 90;
/// Rows that change at one place, and the rows among which they lie.
const CHANGED: usize = 22;
const NEAR: usize = 45;
/// What DESIGN's table says of the plain set, in MB.
const PLAIN: f64 = 185.0;

/// The versions of a table's rows.
struct Rows(Vec<u32>);

impl Rows {
    fn new(chunks: usize) -> Self {
        Self(vec![0; chunks * CHUNK / ROW])
    }

    fn change(&mut self, places: usize, random: &mut Random) {
        for _ in 0..places {
            let place = random.below(self.0.len() - NEAR);
            for _ in 0..CHANGED {
                self.0[place + random.below(NEAR)] += 1;
            }
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut text = String::with_capacity(self.0.len() * (ROW + 10));
        for (row, &version) in self.0.iter().enumerate() {
            let (mut stays, mut fresh) = (Random(row as u64), Random((row as u64) << 24 | u64::from(version)));
            let (name, street) = (stays.draw() % 9_973, stays.draw() % 7_919);
            let (paid, note) = (fresh.draw() % 1_000_000, fresh.draw() % 100_000);
            writeln!(
                text,
                "({row},'customer {name}','a street called {street}, at the corner',{paid},'2026-11-20 01:05:10','note {note}'),"
            )
            .unwrap();
        }
        text.into_bytes()
    }
}

/// One length of a generation, over a year.
struct Year {
    rebase_every: u32,
    repack_budget: u32,
    vault: Vault,
    clock: TestClock,
    incrementals: Mean,
    fulls: Mean,
    held: Mean,
    decoded: Mean,
    new: Mean,
    /// Bytes of the first full.
    plain: f64,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: f64,
    max: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
        self.max = self.max.max(value);
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }
}

impl Year {
    fn new(rebase_every: u32, repack_budget: u32) -> Self {
        Self {
            rebase_every,
            repack_budget,
            vault: Vault::new(),
            clock: TestClock::at(MONDAY),
            incrementals: Mean::default(),
            fulls: Mean::default(),
            held: Mean::default(),
            decoded: Mean::default(),
            new: Mean::default(),
            plain: 0.0,
        }
    }

    fn back_up(&mut self, day: usize, dump: &[u8]) {
        let options = BackupOptions { rebase_every: self.rebase_every, repack_budget: self.repack_budget, ..options() };
        let streams = Streams::from([("table".to_owned(), dump.to_vec())]);
        let before = size(&self.vault.memory);
        let report = back_up_with(&self.vault.writer(), &streams, &options, &self.clock).unwrap();
        let added = (size(&self.vault.memory) - before) as f64;
        self.clock.advance(DAY);
        let row = &report.snapshot;
        match (day, row.header.kind()) {
            (0, _) => self.plain = added,
            (_, SnapshotKind::Full) => self.fulls.add(added),
            (_, SnapshotKind::Incremental) => {
                self.incrementals.add(added);
                self.new.add(report.totals().new as f64 / dump.len() as f64);
            }
        }
        prune(&self.vault, &self.clock);
        // Until then nothing is old enough to go.
        if day >= 56 {
            self.held.add(size(&self.vault.memory) as f64);
        }
        self.decoded.add(row.about.decoded.unwrap() as f64 / dump.len() as f64);
    }

    fn print(&self) {
        let scaled = |bytes: f64| bytes / self.plain * PLAIN;
        println!(
            "| {} | {} | {:.3} ({:.2}) | {:.3} ({:.1}) | {:.2} ({:.0}) | {:.2} ({:.0}) | {:.1} / {:.1} |",
            self.rebase_every,
            self.repack_budget,
            self.incrementals.mean() / 1e6,
            scaled(self.incrementals.mean()),
            self.fulls.mean() / 1e6,
            scaled(self.fulls.mean()),
            self.held.mean() / 1e6,
            scaled(self.held.mean()),
            self.held.max / 1e6,
            scaled(self.held.max),
            self.decoded.mean(),
            self.decoded.max,
        );
    }
}

fn size(memory: &MemoryRemote) -> u64 {
    let of = |folder| memory.content(folder).iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    of(Folder::Packs) + of(Folder::Snapshots)
}

/// Takes away the chains whose newest snapshot is older than four weeks, and the packs that no snapshot needs.
fn prune(vault: &Vault, clock: &TestClock) {
    let writer = vault.writer();
    let rows = writer.index().snapshots().unwrap();
    let now = varu::time::Clock::now(clock);
    let old = |row: &&SnapshotRow| {
        let chain = rows.iter().filter(|other| other.header.chain == row.header.chain);
        let newest = chain.map(|other| other.header.stored_time).max().unwrap();
        now.since(newest) > 28 * DAY
    };
    let gone: Vec<_> = rows.iter().filter(old).collect();
    if gone.is_empty() {
        return;
    }
    gone.iter().for_each(|row| assert!(vault.memory.lose(&Repository::object_name(row))));
    let needed: std::collections::HashSet<PackId> = rows
        .iter()
        .filter(|row| gone.iter().all(|gone| gone.id != row.id))
        .flat_map(|row| row.header.packs.iter().copied())
        .collect();
    for pack in writer.pack_sizes().unwrap().keys().filter(|pack| !needed.contains(pack)) {
        assert!(vault.memory.lose(&pack_name(pack)));
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (chunks, days) = (numbers.first().copied().unwrap_or(2000), numbers.get(1).copied().unwrap_or(364));
    let places = numbers.get(2).copied().unwrap_or(PLACES);
    let policies = [(7, 10), (14, 10), (28, 10), (28, 0), (35, 10), (56, 10)];
    let mut years: Vec<Year> = policies.map(|(every, budget)| Year::new(every, budget)).into();
    let mut rows = Rows::new(chunks);
    let mut random = Random(1);
    for day in 0..days {
        let dump = rows.write();
        rows.change(chunks * places / 1000, &mut random);
        years.iter_mut().for_each(|year| year.back_up(day, &dump));
    }
    let first = &years[0];
    println!(
        "{chunks} chunks over {days} days; the plain set has {:.1} MB; a day changes {:.1} % of its bytes\n",
        first.plain / 1e6,
        first.new.mean() * 100.0
    );
    println!(
        "| re-base after days | budget % | an incremental adds | a full adds | held, mean | held, peak | a restore decodes, mean / max × |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    years.iter().for_each(Year::print);
}
