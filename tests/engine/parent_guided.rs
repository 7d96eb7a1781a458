//! Chunks that a parent predicted are those that the chunker alone would have cut.
//!
//! The failure that this pins: a chunk's last cut depends on the byte behind it, and the end of a stream cuts where nothing
//! else would. A prediction that trusts the bytes of the chunk alone would cut elsewhere than a backup without a parent, and
//! two repositories of the same bytes would share less than they could.

use std::sync::Arc;
use std::time::Duration;

use support::*;
use varu::backup::{BackupOptions, WantedKind};
use varu::chunker::{ChunkSizes, Chunker};
use varu::id::SnapshotId;
use varu::remote::Remote;
use varu::remote::memory::MemoryRemote;
use varu::repository::Repository;

const SMALL: ChunkSizes = ChunkSizes { min: 64, average: 256, max: 1024 };

/// The lengths of the chunks that plain FastCDC cuts.
fn plain(chunker: &Chunker, mut data: &[u8]) -> Vec<u32> {
    let mut lengths = Vec::new();
    while !data.is_empty() {
        let length = chunker.cut(&data[..data.len().min(chunker.max())]);
        lengths.push(length as u32);
        data = &data[length..];
    }
    lengths
}

/// The lengths of the chunks of each stream of a snapshot, as its recipe and the packs' directories say.
fn stored(repository: &Repository, snapshot: &SnapshotId) -> Vec<(String, Vec<u32>)> {
    let recipe = repository.recipe(snapshot).unwrap();
    let lengths = |stream: &varu::format::recipe::Stream| {
        let mut lengths = Vec::new();
        for run in &stream.runs {
            let row = repository.index().pack(&recipe.packs[run.pack as usize].id).unwrap().unwrap();
            let directory = repository.index().directory(row.number).unwrap().unwrap();
            lengths.extend(&directory.lengths[directory.run_range(run.segment, run.first, run.count).unwrap()]);
        }
        lengths
    };
    recipe.streams.iter().map(|stream| (stream.entry.name.to_string(), lengths(stream))).collect()
}

fn content(random: &mut Random, length: usize) -> Vec<u8> {
    match random.below(4) {
        0 => noise(length, random.draw()),
        1 => vec![random.draw() as u8; length],
        2 => noise(97, random.draw()).into_iter().cycle().take(length).collect(),
        _ => {
            let salt = random.draw() as u32;
            let mut text = table(1 + length as u32 / 40, |_| salt);
            text.truncate(length);
            text
        }
    }
}

/// A place in `data`: anywhere, or next to one of its cuts, where the ways to be wrong are.
fn place(random: &mut Random, chunker: &Chunker, data: &[u8]) -> usize {
    if random.below(2) == 0 {
        return random.below(data.len() + 1);
    }
    let cuts = plain(chunker, data);
    let number = random.below(cuts.len() + 1);
    let at = cuts[..number].iter().sum::<u32>() as usize;
    (at + random.below(5)).saturating_sub(2).min(data.len())
}

fn edit(random: &mut Random, chunker: &Chunker, data: &mut Vec<u8>, size: usize) {
    let at = place(random, chunker, data);
    let length = [1, 1, 2, 40, size / 20, size / 4][random.below(6)];
    let end = (at + random.below(length) + 1).min(data.len());
    match random.below(10) {
        0 | 1 if at < data.len() => data[at] = random.draw() as u8,
        2 => data[at..end].iter_mut().for_each(|byte| *byte ^= 1),
        3 => drop(data.splice(at..at, content(random, length))),
        4 => drop(data.drain(at..end)),
        5 => drop(data.splice(at..end, content(random, length))),
        6 => data.extend(content(random, length)),
        7 => data.truncate(at),
        // A part that moves, and a part that repeats.
        8 => data.rotate_left(at),
        9 => data.extend_from_within(at..end),
        _ => {}
    }
    data.truncate(2 * size);
}

/// Backs up edited streams day after day and compares each stream's chunks. Returns how many edits were made.
fn compare(sizes: ChunkSizes, streams: usize, size: usize, days: usize, seed: u64) -> usize {
    let remote: Arc<dyn Remote> = Arc::new(MemoryRemote::new());
    let owner = Owner::create_with(&*remote, sizes);
    let state = tempfile::tempdir().unwrap();
    let writer = owner.writer(remote.clone(), state.path());
    let chunker = writer.keys().chunker();
    let clock = TestClock::at(MONDAY);
    let mut random = Random(seed);
    let mut edits = 0;
    let mut now = Streams::new();
    for number in 0..streams {
        let length = random.below(size);
        now.insert(format!("stream {number}"), content(&mut random, length));
    }
    let mut last = None;
    for day in 0..days {
        let wanted = match random.below(12) {
            0 => WantedKind::Full,
            1 => WantedKind::Rebase,
            _ => WantedKind::Due,
        };
        let options = BackupOptions { wanted, ..options() };
        let report = back_up_with(&writer, &now, &options, &clock).unwrap();
        for (name, lengths) in stored(&writer, &report.snapshot.id) {
            assert!(lengths == plain(&chunker, &now[&name]), "seed {seed}, day {day}, {name}");
        }
        last = Some((report.snapshot, now.clone()));
        for data in now.values_mut() {
            for _ in 0..random.below(4) {
                edit(&mut random, &chunker, data, size);
                edits += 1;
            }
        }
        clock.advance(Duration::from_secs(86_400));
    }
    let reader = owner.reader(remote, tempfile::tempdir().unwrap().path()).unwrap();
    reader.sync().unwrap();
    let (snapshot, streams) = last.unwrap();
    assert!(bring_back(&reader, &snapshot).unwrap().0 == streams, "seed {seed}");
    edits
}

#[test]
fn thousands_of_edits_cut_as_without_a_parent() {
    let rounds = if long() { 40 } else { 4 };
    let edits: usize = (0..rounds).map(|seed| compare(SMALL, 40, 20_000, 20, seed)).sum();
    assert!(edits > 1000 * rounds as usize, "{edits} edits");
    println!("{edits} edits");
}

#[test]
fn large_streams_with_chunks_of_the_default_size_too() {
    let days = if long() { 60 } else { 8 };
    compare(ChunkSizes::default(), 3, 4 << 20, days, 1000);
}

#[test]
fn the_chunk_that_the_end_cut_is_cut_anew_where_the_stream_goes_on() {
    let remote: Arc<dyn Remote> = Arc::new(MemoryRemote::new());
    let owner = Owner::create_with(&*remote, SMALL);
    let state = tempfile::tempdir().unwrap();
    let writer = owner.writer(remote, state.path());
    let chunker = writer.keys().chunker();
    let all = noise(5000, 1);
    for length in (1..1200).step_by(9).chain([5000, 4999, 1, 0, 5000]) {
        let streams = Streams::from([("log".to_owned(), all[..length].to_vec())]);
        let report = back_up(&writer, &streams, &TestClock::at(MONDAY)).unwrap();
        let stored = stored(&writer, &report.snapshot.id);
        assert!(stored[0].1 == plain(&chunker, &all[..length]), "{length} bytes");
    }
}
