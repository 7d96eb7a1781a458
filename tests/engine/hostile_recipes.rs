//! Few bytes that mean much: recipes that grow as they are read stop at their limits.

use support::*;
use varu::entry::{Entry, Kind, StreamName};
use varu::format::recipe::{MAX_NAMES, MAX_RUNS, PackRef, Recipe, Run, Stream, apply_edit, decode_full};
use varu::id::{PackId, StreamHash};

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Ten streams of a thousand runs each.
fn parent() -> Recipe {
    let stream = |number: u32| {
        let runs = (0..1000).map(|n| Run { pack: 0, segment: n, first: number, count: 1 }).collect();
        let name = StreamName::new(format!("stream {number}")).unwrap();
        let entry = Entry { name, kind: Kind::Data, size: 1000, metadata: None };
        Stream { entry, hash: Some(StreamHash::from_bytes([1; 32])), runs }
    };
    Recipe {
        packs: vec![PackRef { id: PackId::from_bytes([1; 32]), check: [1; 16] }],
        streams: (0..10).map(stream).collect(),
    }
}

#[test]
fn no_stream_is_copied_twice() {
    support::alone!();
    let all = [0, 0, 0, 10];
    assert_eq!(apply_edit(&parent(), &all).unwrap(), parent());
    // Ten back, all ten again; and as often as a few bytes can say it.
    for again in [1, 100_000] {
        let edit = [&all[..], &[0, 19, 10].repeat(again)].concat();
        let error = apply_edit(&parent(), &edit).unwrap_err().to_string();
        assert!(error.contains("copies a stream of the parent again"), "{error}");
    }
}

#[test]
fn runs_are_bounded() {
    support::alone!();
    // A stream that copies a thousand chunks, goes back, and copies them again.
    let times = MAX_RUNS as u64 / 1000 + 1;
    let mut edit = vec![0, 2, 0, 0, 4];
    edit.extend(b"long\0\x01");
    edit.extend([1; 32]);
    varint(&mut edit, 2 * times);
    for _ in 0..times {
        varint(&mut edit, 1000 << 2);
        varint(&mut edit, 1999 << 2 | 1);
    }
    assert!(edit.len() < 100_000);
    let error = apply_edit(&parent(), &edit).unwrap_err().to_string();
    assert!(error.contains("too many runs"), "{error}");
    assert!(
        support::peak_memory() < if long() { 3 << 30 } else { 640 << 20 },
        "this process held {} MiB",
        support::peak_memory() >> 20
    );
}

/// A name that is like the one before costs few bytes, so names have a bound of their own.
#[test]
fn long_names_are_bounded() {
    support::alone!();
    const LENGTH: usize = 60_000;
    let mut bytes = vec![0, 1, 0];
    varint(&mut bytes, LENGTH as u64);
    bytes.extend([b'n'; LENGTH]);
    // Kind, target: a hard link.
    bytes.extend([4, 1, b'x']);
    let each = {
        let mut each = vec![1];
        varint(&mut each, LENGTH as u64 - 1);
        each.extend([1, b'm', 4, 1, b'x']);
        each
    };
    let fits = 100;
    let several = [&bytes[..], &each.repeat(fits)].concat();
    assert_eq!(decode_full(&several).unwrap().streams.len(), fits + 1);
    if long() {
        let too_many = [&bytes[..], &each.repeat(MAX_NAMES / LENGTH + 1)].concat();
        assert!(too_many.len() < 1 << 20);
        let error = decode_full(&too_many).unwrap_err().to_string();
        assert!(error.contains("names"), "{error}");
        assert!(support::peak_memory() < 3 << 30, "this process held {} MiB", support::peak_memory() >> 20);
    }
}
