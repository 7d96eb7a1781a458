//! Few bytes that mean much: pages that grow as they are read stop at their limits.

use std::sync::Arc;

use support::vault::Vault;
use support::*;
use varu::entry::{Entry, Kind, StreamName};
use varu::format::layout::{MAX_PAGE_NAMES, MAX_PAGE_RECORDS};
use varu::format::recipe::{LeafWriter, MAX_NAMES, MAX_RUNS, Recipe, Record, Run, Stream, decode_inner, decode_leaf};
use varu::id::StreamHash;
use varu::repository::Repository;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A stream of a thousand runs.
fn stream(number: u32) -> Stream {
    let runs = (0..1000).map(|n| Run { pack: 0, segment: n, first: number, count: 1 }).collect();
    let name = StreamName::new(format!("stream {number}")).unwrap();
    let entry = Entry { name, kind: Kind::Data, size: 1000, metadata: None };
    Stream { entry, hash: Some(StreamHash::from_bytes([1; 32])), runs, order: 0 }
}

fn leaf(streams: &[Stream]) -> Vec<u8> {
    let mut leaf = LeafWriter::default();
    streams.iter().for_each(|stream| leaf.stream(stream));
    leaf.take().unwrap().1
}

#[test]
fn no_stream_is_told_twice() {
    support::alone!();
    let all: Vec<Stream> = (0..10).map(stream).collect();
    let records: Vec<Record> = all.iter().cloned().map(Record::Stream).collect();
    assert_eq!(decode_leaf(&leaf(&all), true, 1), Ok(records));
    // One once more, one of those before, and all as often as a few bytes can say it.
    let hard_link = |name: &str| {
        let mut bytes = vec![1, 0];
        varint(&mut bytes, name.len() as u64);
        bytes.extend(name.as_bytes());
        bytes.extend([4, 1, b'x']);
        bytes
    };
    let again = [1, 6, 0, 4, 1, b'x'];
    for names in [
        [hard_link("name b"), again.to_vec()].concat(),
        [hard_link("name b"), hard_link("name a")].concat(),
        [hard_link("name b"), again.repeat(100_000)].concat(),
    ] {
        let error = decode_leaf(&names, true, 1).unwrap_err().to_string();
        assert!(error.contains("names aren't in order"), "{error}");
    }
}

#[test]
fn runs_are_bounded() {
    support::alone!();
    // A stream that copies a thousand chunks, goes back, and copies them again.
    let times = MAX_RUNS as u64 / 1000 + 1;
    let mut bytes = vec![2, 0, 4];
    bytes.extend(b"long\0\x01");
    bytes.extend([1; 32]);
    bytes.push(0);
    varint(&mut bytes, 2 * times);
    for _ in 0..times {
        varint(&mut bytes, 1000 << 2);
        varint(&mut bytes, 1999 << 2 | 1);
    }
    assert!(bytes.len() < 100_000);
    let Record::Edited(edited) = decode_leaf(&bytes, false, 1).unwrap().remove(0) else { panic!("it is an edit") };
    let error = edited.apply(&stream(0).runs).unwrap_err().to_string();
    assert!(error.contains("too many runs"), "{error}");
    assert!(
        support::peak_memory() < if long() { 3 << 30 } else { 640 << 20 },
        "this process held {} MiB",
        support::peak_memory() >> 20
    );
}

/// A name that is like the one before costs few bytes, so the names of a page have a bound of their own.
#[test]
fn long_names_of_a_page_are_bounded() {
    support::alone!();
    const LENGTH: usize = 60_000;
    let link = |n: usize| {
        let end = format!("{n:06}");
        match n {
            0 => [&varints(&[1, 0, LENGTH as u64 + 6])[..], &[b'n'; LENGTH], end.as_bytes(), &[4, 1, b'x']].concat(),
            _ => [&varints(&[1, LENGTH as u64, 6])[..], end.as_bytes(), &[4, 1, b'x']].concat(),
        }
    };
    let page = |count: usize| (0..count).flat_map(link).collect::<Vec<u8>>();
    let fits = MAX_PAGE_NAMES / (LENGTH + 6);
    assert_eq!(decode_leaf(&page(fits), true, 1).unwrap().len(), fits);
    let error = decode_leaf(&page(fits + 1), true, 1).unwrap_err().to_string();
    assert!(error.contains("names"), "{error}");
    // The same of the names in an inner page.
    let child = |n: usize| {
        let end = format!("{n:06}");
        let name = match n {
            0 => [&varints(&[0, LENGTH as u64 + 6])[..], &[b'n'; LENGTH], end.as_bytes()].concat(),
            _ => [&varints(&[LENGTH as u64, 6])[..], end.as_bytes()].concat(),
        };
        [&name[..], &[0, 1], &[7; 16]].concat()
    };
    let page: Vec<u8> = (0..=fits).flat_map(child).collect();
    let error = decode_inner(&page, 1 << 30).unwrap_err().to_string();
    assert!(error.contains("names"), "{error}");
    assert!(support::peak_memory() < 512 << 20, "this process held {} MiB", support::peak_memory() >> 20);
}

fn varints(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|&value| varint(&mut out, value));
    out
}

/// A record takes many times the memory of its bytes, so a page has no more of them than a writer makes.
#[test]
fn records_of_a_page_are_bounded() {
    support::alone!();
    let removed = |n: u32| {
        let name = format!("{n:08}");
        [&[0, 0, 8], name.as_bytes()].concat()
    };
    let most = MAX_PAGE_RECORDS.div_ceil(11) as u32;
    let page = |count: u32| (0..count).flat_map(removed).collect::<Vec<u8>>();
    assert_eq!(decode_leaf(&page(most), false, 1).unwrap().len(), most as usize);
    let error = decode_leaf(&page(most + 1), false, 1).unwrap_err().to_string();
    assert!(error.contains("more records"), "{error}");
}

/// The names of all streams have a bound where they are held in memory.
#[test]
fn long_names_of_a_recipe_are_bounded() {
    support::alone!();
    const LENGTH: usize = 60_000;
    let stream = |n: usize| {
        let name = StreamName::new(format!("{}{n:06}", "n".repeat(LENGTH))).unwrap();
        let kind = Kind::Hardlink(StreamName::new("x").unwrap());
        Stream { entry: Entry { name, kind, size: 0, metadata: None }, hash: None, runs: Vec::new(), order: 0 }
    };
    let vault = Vault::new();
    let writer: Arc<Repository> = vault.writer();
    let made = |count: usize| {
        let recipe = Recipe { packs: Vec::new(), streams: (0..count).map(stream).collect() };
        writer.write_layer(&recipe).unwrap()
    };
    let (layer, pages) = made(1000);
    // Each page is one that a reader takes, and they take few bytes.
    assert!(pages.length() < 1 << 20 && layer.height == 2, "{} bytes", pages.length());
    let (header, body) = head_of(&vault, &writer);
    let body = varu::format::snapshot::SnapshotBody { recipe: layer.encode(), ..body };
    let snapshot = writer.seal_snapshot(header, body, pages).unwrap();
    writer.store_snapshot(&snapshot).unwrap();
    let reader = vault.fresh_reader();
    reader.sync().unwrap();
    assert_eq!(reader.recipe(&snapshot.row.id).unwrap().streams.len(), 1000);
    drop(reader);
    if long() {
        let (layer, pages) = made(MAX_NAMES / LENGTH + 1);
        let (header, body) = head_of(&vault, &writer);
        let body = varu::format::snapshot::SnapshotBody { recipe: layer.encode(), ..body };
        let snapshot = writer.seal_snapshot(header, body, pages).unwrap();
        writer.store_snapshot(&snapshot).unwrap();
        let reader = vault.fresh_reader();
        reader.sync().unwrap();
        let error = reader.recipe(&snapshot.row.id).unwrap_err().to_string();
        assert!(error.contains("more streams and runs than can be held"), "{error}");
        assert!(support::peak_memory() < 4 << 30, "this process held {} MiB", support::peak_memory() >> 20);
    }
}

/// Header and body of a full with no packs.
fn head_of(
    vault: &Vault,
    writer: &Arc<Repository>,
) -> (varu::format::snapshot::SnapshotHeader, varu::format::snapshot::SnapshotBody) {
    use varu::format::snapshot::SnapshotHeader;
    let clock = TestClock::at(MONDAY);
    let row = back_up(writer, &Streams::new(), &clock).unwrap().snapshot;
    let body = writer.index().whole_body(&row.id).unwrap().unwrap();
    assert!(!vault.memory.content(varu::remote::Folder::Snapshots).is_empty());
    let header = SnapshotHeader {
        parent: None,
        previous: Some(row.id),
        sequence: row.header.sequence + 1,
        packs: Vec::new(),
        key_objects: Vec::new(),
        ..row.header
    };
    (header, body)
}
