//! Forgeries by a thief with the writer key: packs, directories, recipes and snapshots that are sealed correctly and lie.
//!
//! Each forgery is an error by name in the one stream that depends on it: a restore returns all other streams, verify
//! reports it, nothing hangs, and memory stays bounded. A thief who is also the host, or has the host's help, gives
//! objects any name; so rings of packs can be made here, which a host that checks names by their hashes would refuse.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use support::forge::{Crafted, forge_pack};
use support::*;
use varu::crypto::random_bytes;
use varu::entry::{Entry, Kind, StreamName};
use varu::format::layout::pack_name;
use varu::format::pack::BaseRun;
use varu::format::recipe::{PackRef, Recipe, Run, Stream};
use varu::format::snapshot::{SnapshotBody, SnapshotHeader, Totals};
use varu::id::{ChainId, ChunkId, GenerationId, PackId, StreamHash};
use varu::index::SnapshotRow;
use varu::progress::{Counts, Interrupt};
use varu::remote::memory::MemoryRemote;
use varu::repository::{Chosen, PackBuilder, Repository, SegmentParts, instance};
use varu::segment::{Compressor, compress_based};
use varu::time::Timestamp;
use varu::verify::{Level, VerifyOptions, VerifyReport, verify};

/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes that this process may ever hold, bombs and all tests at once included.
const MEMORY: u64 = 256 << 20;

const GENERATION: GenerationId = GenerationId::from_bytes([7; 16]);

/// The thief's desk: the writer key, and a hand on the remote.
struct Desk {
    memory: MemoryRemote,
    owner: Owner,
    writer: Arc<Repository>,
    _state: tempfile::TempDir,
}

fn frame(prefix: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    match prefix {
        [] => Compressor::new(3).unwrap().compress(plain, &mut frame).unwrap(),
        _ => compress_based(3, prefix, plain, &mut frame).unwrap(),
    }
    frame
}

fn run(pack: u32, segment: u32, first: u32, count: u32) -> BaseRun {
    BaseRun { pack, segment, first, count }
}

impl Desk {
    fn new() -> Self {
        let memory = MemoryRemote::new();
        let owner = Owner::create(&memory);
        let state = tempfile::tempdir().unwrap();
        let writer = owner.writer(Arc::new(memory.clone()), state.path());
        Self { memory, owner, writer, _state: state }
    }

    fn id(&self, chunk: &[u8]) -> ChunkId {
        self.writer.keys().chunk_ids.id(chunk)
    }

    /// An honest segment of these chunks.
    fn plain(&self, chunks: &[&[u8]]) -> Crafted {
        self.based(&[], chunks, Vec::new(), 0)
    }

    /// A segment that was compressed against `prefix` and says that this is `bases`.
    fn based(&self, prefix: &[u8], chunks: &[&[u8]], bases: Vec<BaseRun>, depth: u32) -> Crafted {
        Crafted {
            frame: frame(prefix, &chunks.concat()),
            ids: chunks.iter().map(|chunk| self.id(chunk)).collect(),
            lengths: chunks.iter().map(|chunk| chunk.len() as u32).collect(),
            bases,
            depth,
        }
    }

    /// Stores a forged pack: any directory, under `name` or else its true hash.
    fn pack(
        &self,
        name: Option<PackId>,
        generation: GenerationId,
        base_packs: &[PackId],
        segments: &[Crafted],
    ) -> PackRef {
        forge_pack(&self.writer, &self.memory, name, generation, base_packs, segments)
    }

    fn stream(&self, name: &str, bytes: &[u8], runs: &[(u32, u32, u32, u32)]) -> Stream {
        let name = StreamName::new(name.to_owned()).unwrap();
        let mut hasher = self.writer.keys().stream_hashes.hasher();
        hasher.update(bytes);
        let runs = runs.iter().map(|&(pack, segment, first, count)| Run { pack, segment, first, count });
        Stream {
            entry: Entry { name, kind: Kind::Data, size: bytes.len() as u64, metadata: None },
            hash: Some(StreamHash::from_bytes(hasher.finish())),
            runs: runs.collect(),
            order: 0,
        }
    }

    /// Stores a snapshot that lists `listed`.
    fn snapshot(&self, packs: &[PackRef], listed: &[PackRef], streams: Vec<Stream>) -> SnapshotRow {
        let now = Timestamp::from_seconds(MONDAY);
        let mut listed: Vec<PackId> = listed.iter().map(|pack| pack.id).collect();
        listed.sort();
        listed.dedup();
        let header = SnapshotHeader {
            body: 0,
            pages: 0,
            pages_check: [0; 32],
            repository: *self.writer.id(),
            salt: [0; 32],
            chain: ChainId::from_bytes(*random_bytes()),
            parent: None,
            previous: None,
            sequence: 1,
            suspect: false,
            data_time: now,
            stored_time: now,
            set: "set".to_owned(),
            tags: Vec::new(),
            packs: listed,
            key_objects: Vec::new(),
        };
        let (layer, pages) = self.writer.write_layer(&Recipe { packs: packs.to_vec(), streams }).unwrap();
        let body = SnapshotBody {
            instance: instance(),
            host: "thief".into(),
            program: "by hand".into(),
            environment: "".into(),
            generation: GENERATION,
            facts: varu::facts::Facts::default(),
            warnings: Vec::new(),
            configuration: Vec::new(),
            totals: Totals { read: 0, new: 0, stored: 0, packs: 0 },
            recipe: layer.encode(),
        };
        let snapshot = self.writer.seal_snapshot(header, body, pages).unwrap();
        self.writer.store_snapshot(&snapshot).unwrap();
        snapshot.row
    }

    /// Stores `segments` as one pack beside an honest one, with a stream "bad" of the last segment and a stream "good".
    fn judge_last(&self, segments: &[Crafted], bytes: &[u8], words: &str) {
        let pack = self.pack(None, GENERATION, &[], segments);
        let (last, chunks) = (segments.len() as u32 - 1, segments.last().unwrap().ids.len() as u32);
        self.judge(&[pack], self.stream("bad", bytes, &[(0, last, 0, chunks)]), words);
    }

    /// Judges a snapshot of `bad` and of an honest stream in a pack of its own, behind `packs` in the table.
    fn judge(&self, packs: &[PackRef], bad: Stream, words: &str) {
        self.judge_listed(packs, packs, bad, words, words);
    }

    /// Expects verify to report packs under names that aren't their hashes.
    fn judge_named(&self, packs: &[PackRef], bad: Stream, words: &str) {
        self.judge_listed(packs, packs, bad, words, "its bytes aren't those that it was named by");
    }

    fn judge_listed(&self, packs: &[PackRef], listed: &[PackRef], bad: Stream, words: &str, verified: &str) {
        let row = self.listed(packs, listed, bad);
        self.judge_snapshot(&row, words, verified);
    }

    /// A snapshot of `bad` and of an honest stream, whose header lists `listed` and the honest pack.
    fn listed(&self, packs: &[PackRef], listed: &[PackRef], bad: Stream) -> SnapshotRow {
        let honest = self.pack(None, GENERATION, &[], &[self.plain(&[b"an honest row"])]);
        let good = self.stream("good", b"an honest row", &[(packs.len() as u32, 0, 0, 1)]);
        let all = [packs, &[honest]].concat();
        self.snapshot(&all, &[listed, &[honest]].concat(), vec![bad, good])
    }

    /// A fresh machine with the identity.
    fn reader(&self) -> (Arc<Repository>, tempfile::TempDir) {
        let state = tempfile::tempdir().unwrap();
        let reader = self.owner.reader(Arc::new(self.memory.clone()), state.path()).unwrap();
        reader.sync().unwrap();
        (reader, state)
    }

    /// A fresh machine restores the good stream alone, and says why it lacks the bad one; verify says so, too.
    fn judge_snapshot(&self, row: &SnapshotRow, words: &str, verified: &str) {
        let (fresh, _state) = self.reader();
        let snapshot = fresh.find_snapshot(Some("set"), &Chosen::Id(row.id.to_string())).unwrap();
        let (streams, report) = in_time(move || bring_back(&fresh, &snapshot).unwrap());
        assert_eq!(streams.keys().collect::<Vec<_>>(), ["good"], "{:?}", report.damaged);
        assert_eq!(streams["good"], b"an honest row");
        assert_eq!(report.damaged.len(), 1, "{:?}", report.damaged);
        assert!(report.damaged[0].starts_with("bad can't be restored: "), "{:?}", report.damaged);
        assert!(report.damaged[0].contains(words), "{:?}", report.damaged);
        self.judge_verified(row, verified);
    }

    /// Verify on a fresh machine says why the bad stream is damaged, and that the good one isn't.
    fn judge_verified(&self, row: &SnapshotRow, verified: &str) {
        let (fresh, _state) = self.reader();
        let found = in_time(move || look(&fresh));
        assert!(!found.is_whole(&row.id), "{:?}", found.damage);
        let reasons: Vec<&str> = found.damage.iter().map(|damage| damage.reason.as_str()).collect();
        assert!(reasons.iter().any(|reason| reason.contains(verified)), "{reasons:?}");
        let affected = found.damage.iter().filter_map(|damage| damage.affects.get(&row.id));
        assert!(affected.into_iter().all(|streams| !streams.contains(&"good".to_owned())), "{:?}", found.damage);
        assert!(support::peak_memory() < MEMORY, "{} MiB", support::peak_memory() >> 20);
    }
}

fn look(reader: &Arc<Repository>) -> VerifyReport {
    let options = VerifyOptions { level: Level::Data, sample: 1.0 };
    verify(reader, &options, &TestClock::at(MONDAY), &Counts::default(), &Interrupt::default()).unwrap()
}

/// Runs on a thread of its own, and fails where that doesn't end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    let thread = std::thread::spawn(move || done.send(work()));
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(_) if thread.is_finished() => panic!("it failed"),
        Err(_) => panic!("it hangs"),
    }
}

fn rows(salt: u32) -> Vec<u8> {
    table(300, |row| if row % 50 == 0 { salt } else { 0 })
}

#[test]
fn what_is_honest_is_restored() {
    support::alone!();
    let desk = Desk::new();
    let (old, new) = (rows(0), rows(1));
    let base = desk.pack(None, GENERATION, &[], &[desk.plain(&[&old])]);
    let pack = desk.pack(None, GENERATION, &[base.id], &[desk.based(&old, &[&new], vec![run(1, 0, 0, 1)], 1)]);
    let stream = desk.stream("good", &new, &[(1, 0, 0, 1)]);
    let row = desk.snapshot(&[base, pack], &[base, pack], vec![stream]);
    let (reader, _state) = desk.reader();
    let (streams, report) = bring_back(&reader, &row).unwrap();
    assert_eq!((report.damaged, streams), (Vec::new(), Streams::from([("good".to_owned(), new)])));
    assert_eq!(look(&reader).damage, []);
}

#[test]
fn a_base_whose_pack_is_gone() {
    support::alone!();
    let desk = Desk::new();
    let (old, new) = (rows(0), rows(1));
    let base = desk.pack(None, GENERATION, &[], &[desk.plain(&[&old])]);
    let pack = desk.pack(None, GENERATION, &[base.id], &[desk.based(&old, &[&new], vec![run(1, 0, 0, 1)], 1)]);
    desk.memory.lose(&pack_name(&base.id));
    desk.judge(&[base, pack], desk.stream("bad", &new, &[(1, 0, 0, 1)]), "is missing");
}

#[test]
fn a_base_whose_pack_the_snapshot_does_not_list() {
    support::alone!();
    let (old, new) = (rows(0), rows(1));
    // Whether in the recipe's table or not, a prune may delete packs that the header doesn't list. As long as it exists,
    // everything is restored, and verify names it.
    for in_table in [true, false] {
        let desk = Desk::new();
        let base = desk.pack(None, GENERATION, &[], &[desk.plain(&[&old])]);
        let pack = desk.pack(None, GENERATION, &[base.id], &[desk.based(&old, &[&new], vec![run(1, 0, 0, 1)], 1)]);
        let (packs, at) = if in_table { (vec![base, pack], 1) } else { (vec![pack], 0) };
        let name = pack_name(&base.id);
        let row = desk.listed(&packs, &[pack], desk.stream("bad", &new, &[(at, 0, 0, 1)]));
        let (fresh, _state) = desk.reader();
        let snapshot = fresh.find_snapshot(Some("set"), &Chosen::Id(row.id.to_string())).unwrap();
        let (streams, report) = in_time(move || bring_back(&fresh, &snapshot).unwrap());
        assert_eq!(report.damaged, Vec::<String>::new());
        assert_eq!(streams["bad"], new);
        desk.judge_verified(&row, &name.to_string());
        desk.memory.lose(&name);
        desk.judge_snapshot(&row, &name.to_string(), &name.to_string());
    }
}

#[test]
fn a_segment_that_stands_on_itself() {
    support::alone!();
    let new = rows(1);
    let desk = Desk::new();
    let own = desk.based(&new, &[&new], vec![run(0, 0, 0, 1)], 1);
    desk.judge_last(&[own], &new, "a base run lies outside of its pack");
    // The same by the pack's own name, as if it were another's.
    for depth in [1, 2] {
        let desk = Desk::new();
        let name = PackId::from_bytes([9; 32]);
        let own = desk.based(&new, &[&new], vec![run(1, 0, 0, 1)], depth);
        let pack = desk.pack(Some(name), GENERATION, &[name], &[own]);
        desk.judge_named(&[pack], desk.stream("bad", &new, &[(0, 0, 0, 1)]), "claims depth");
    }
}

#[test]
fn a_ring_of_packs() {
    support::alone!();
    let new = rows(1);
    for length in [2, 3, 7] {
        for depths in [[1, 1], [1, 2], [2, 1], [63, 64], [64, 64]] {
            let desk = Desk::new();
            let names: Vec<PackId> = (0..length).map(|number| PackId::from_bytes([number + 1; 32])).collect();
            let packs: Vec<PackRef> = (0..names.len())
                .map(|number| {
                    let next = names[(number + 1) % names.len()];
                    let segment = desk.based(&new, &[&new], vec![run(1, 0, 0, 1)], depths[number % 2]);
                    desk.pack(Some(names[number]), GENERATION, &[next], &[segment])
                })
                .collect();
            let runs: Vec<_> = (0..u32::from(length)).map(|pack| (pack, 0, 0, 1)).collect();
            let bytes = new.repeat(packs.len());
            desk.judge_named(&packs, desk.stream("bad", &bytes, &runs), "claims depth");
        }
    }
}

/// A pack in which each segment depends on the one before, with depths that `claim` gives.
fn tower(desk: &Desk, height: u32, claim: impl Fn(u32) -> u32) -> Vec<Crafted> {
    let chunk = b"the same row in every segment";
    let plain = desk.plain(&[chunk]);
    let based = desk.based(chunk, &[chunk], vec![run(0, 0, 0, 1)], 1);
    let floor = |number: u32| Crafted { bases: vec![run(0, number - 1, 0, 1)], depth: claim(number), ..based.clone() };
    std::iter::once(plain).chain((1..=height).map(floor)).collect()
}

#[test]
fn a_tower_of_more_than_64_bases() {
    support::alone!();
    let chunk = b"the same row in every segment";
    let desk = Desk::new();
    desk.judge_last(&tower(&desk, 65, |number| number), chunk, "a segment has a depth that can't be");
    for claim in [|number: u32| number.min(64), |number: u32| number % 64 + 1, |_| 1] {
        let desk = Desk::new();
        desk.judge_last(&tower(&desk, 70, claim), chunk, "a segment isn't deeper than its base");
    }
}

#[test]
fn a_tower_of_thousands_overflows_no_stack() {
    support::alone!();
    let desk = Desk::new();
    desk.judge_last(
        &tower(&desk, 4000, |_| 1),
        b"the same row in every segment",
        "a segment isn't deeper than its base",
    );
}

#[test]
fn a_depth_that_is_claimed_falsely() {
    support::alone!();
    let (old, new) = (rows(0), rows(1));
    for depth in [2, 64] {
        let desk = Desk::new();
        let segments = [desk.plain(&[&old]), desk.based(&old, &[&new], vec![run(0, 0, 0, 1)], depth)];
        desk.judge_last(&segments, &new, "claims depth");
    }
}

#[test]
fn a_run_outside_of_its_pack() {
    support::alone!();
    let (old, new) = (rows(0), rows(1));
    let far =
        [run(1, 1, 0, 1), run(1, 0, 1, 1), run(1, 0, 0, 2), run(1, 0, u32::MAX, u32::MAX), run(1, u32::MAX, 0, 1)];
    for base_run in far {
        let desk = Desk::new();
        let base = desk.pack(None, GENERATION, &[], &[desk.plain(&[&old])]);
        let pack = desk.pack(None, GENERATION, &[base.id], &[desk.based(&old, &[&new], vec![base_run], 1)]);
        desk.judge(&[base, pack], desk.stream("bad", &new, &[(1, 0, 0, 1)]), "that its pack lacks");
    }
    // And so a run of the recipe.
    for (segment, first, count) in [(1, 0, 1), (0, 1, 1), (0, 0, 2), (0, 0, u32::MAX), (u32::MAX, 0, 1)] {
        let desk = Desk::new();
        let pack = desk.pack(None, GENERATION, &[], &[desk.plain(&[&old])]);
        desk.judge(&[pack], desk.stream("bad", &old, &[(0, segment, first, count)]), "that its pack lacks");
    }
}

#[test]
fn a_run_outside_of_what_any_pack_can_hold() {
    support::alone!();
    let desk = Desk::new();
    let pack = desk.pack(None, GENERATION, &[], &[desk.plain(&[b"row"])]);
    let row = desk.snapshot(&[pack], &[pack], vec![desk.stream("bad", b"row", &[(0, 0, 1 << 31, 1 << 31)])]);
    let (reader, _state) = desk.reader();
    let (restored, report) = bring_back(&reader, &row).unwrap();
    assert!(restored.is_empty() && report.damaged.len() == 1, "{report:?}");
    assert!(report.damaged[0].contains("a run lies outside of what a pack can hold"), "{report:?}");
    assert!(!look(&reader).is_whole(&row.id));
}

#[test]
fn a_stream_longer_or_shorter_than_it_says() {
    support::alone!();
    for runs in [vec![(0, 0, 0, 1)], vec![(0, 0, 0, 2); 2]] {
        let desk = Desk::new();
        let pack = desk.pack(None, GENERATION, &[], &[desk.plain(&[b"one", b"two"])]);
        desk.judge(&[pack], desk.stream("bad", b"onetwo", &runs), "bytes and should have");
    }
}

#[test]
fn a_based_segment_of_another_generation_as_base() {
    support::alone!();
    let desk = Desk::new();
    let (first, second, third) = (rows(0), rows(1), rows(2));
    let other = GenerationId::from_bytes([8; 16]);
    let segments = [desk.plain(&[&first]), desk.based(&first, &[&second], vec![run(0, 0, 0, 1)], 1)];
    let base = desk.pack(None, other, &[], &segments);
    let pack = desk.pack(None, GENERATION, &[base.id], &[desk.based(&second, &[&third], vec![run(1, 1, 0, 1)], 2)]);
    let stream = desk.stream("bad", &third, &[(1, 0, 0, 1)]);
    desk.judge(&[base, pack], stream, "based segment of another generation");
}

#[test]
fn a_frame_with_more_or_less_than_it_says() {
    support::alone!();
    let (old, new) = (rows(0), rows(1));
    let zeros = vec![0; 1 << 30];
    let bomb = frame(&[], &zeros);
    drop(zeros);
    let mut two = frame(&[], &new);
    two.extend(&bomb);
    let frames = [bomb, two, frame(&[], &new[1..]), frame(&[], &[&new[..], b"x"].concat()), b"no frame".to_vec()];
    for frame in frames {
        for based in [false, true] {
            let desk = Desk::new();
            let honest = match based {
                true => desk.based(&old, &[&new], vec![run(0, 0, 0, 1)], 1),
                false => desk.plain(&[&new]),
            };
            let lie = Crafted { frame: frame.clone(), ..honest };
            desk.judge_last(&[desk.plain(&[&old]), lie], &new, "segment 1 of packs/");
        }
    }
}

#[test]
fn chunks_that_are_not_what_their_ids_say() {
    support::alone!();
    let (old, new) = (rows(0), rows(1));
    let desk = Desk::new();
    let lie = Crafted { ids: vec![desk.id(&old)], ..desk.plain(&[&new]) };
    desk.judge_last(&[lie], &new, "has other bytes");
    // The right bytes, cut at another place.
    let desk = Desk::new();
    let honest = desk.plain(&[&new[..5000], &new[5000..]]);
    let lengths = vec![4999, new.len() as u32 - 4999];
    desk.judge_last(&[Crafted { lengths, ..honest }], &new, "has other bytes");
    // Decoded against other bytes than it was made with.
    let desk = Desk::new();
    let lie = Crafted { bases: vec![run(0, 0, 0, 1)], depth: 1, ..desk.based(&rows(3), &[&new], Vec::new(), 0) };
    desk.judge_last(&[desk.plain(&[&old]), lie], &new, "segment 1 of packs/");
}

#[test]
fn a_stream_that_is_not_what_its_hash_says() {
    support::alone!();
    let desk = Desk::new();
    let pack = desk.pack(None, GENERATION, &[], &[desk.plain(&[b"one row", b"two row", b"an honest row"])]);
    let good = desk.stream("good", b"an honest row", &[(0, 0, 2, 1)]);
    let bad = desk.stream("bad", b"one row", &[(0, 0, 1, 1)]);
    let row = desk.snapshot(&[pack], &[pack], vec![bad, good]);
    let (reader, _state) = desk.reader();
    let (streams, report) = in_time(move || bring_back(&reader, &row).unwrap());
    assert_eq!(streams.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(report.damaged, ["bad can't be restored: its bytes are not those that were backed up"]);
}

#[test]
fn bases_without_end() {
    support::alone!();
    // 4 MiB of zeros cost a few hundred bytes to store. Named often enough they would fill any memory.
    let desk = Desk::new();
    let zeros = vec![0; 1 << 20];
    let large = desk.plain(&[&zeros, &zeros, &zeros, &zeros]);
    let new = rows(1);
    for count in [5, 60_000] {
        let lie = desk.based(&[], &[&new], vec![run(0, 0, 0, 4); count], 1);
        desk.judge_last(&[large.clone(), lie], &new, "is based on more than");
        let desk = Desk::new();
        let lie = desk.based(&[], &[&new], vec![run(0, 0, 0, 4); count + 66_000], 1);
        desk.judge_last(&[large.clone(), lie], &new, "too many base runs");
    }
}

#[test]
fn a_sealed_segment_as_large_as_a_disk() {
    support::alone!();
    let desk = Desk::new();
    let new = rows(1);
    let lie = Crafted { frame: vec![0; 6 << 20], ..desk.plain(&[&new]) };
    desk.judge_last(&[lie], &new, "a segment has a length that can't be");
}

#[test]
fn a_pack_made_by_the_library_with_a_lie_in_it() {
    support::alone!();
    let desk = Desk::new();
    let (old, new) = (rows(0), rows(1));
    let mut pack = PackBuilder::begin(&desk.writer, desk.writer.remote().begin().unwrap(), "set", GENERATION).unwrap();
    let parts = |crafted: Crafted, bases| SegmentParts {
        frame: crafted.frame,
        ids: crafted.ids,
        lengths: crafted.lengths,
        bases,
        depth: crafted.depth,
    };
    pack.push(parts(desk.plain(&[&old]), Vec::new())).unwrap();
    let nowhere = PackId::of(b"a pack that never was");
    pack.push(parts(desk.based(&old, &[&new], Vec::new(), 1), vec![(nowhere, run(0, 0, 0, 1))])).unwrap();
    let closed = pack.close(&desk.writer, None).unwrap();
    let pack = closed.pack;
    closed.place(&desk.writer, Timestamp::from_seconds(MONDAY)).unwrap();
    desk.judge(&[pack], desk.stream("bad", &new, &[(0, 1, 0, 1)]), &pack_name(&nowhere).to_string());
}
