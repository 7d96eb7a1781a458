//! Bytes from outside, to every decoder: made up, cut, changed in places, put together from parts of real ones. Each is read or
//! refused; nothing panics, and nothing takes more memory than its input and the stated limits allow.
//!
//! 20,000 inputs for each decoder by default, a million with VARU_TEST_LONG=1.

use std::collections::BTreeMap;
use std::hint::black_box;

use support::*;
use varu::chunker::ChunkSizes;
use varu::crypto::{DataKeySecret, IdentityFile, MAX_WRAPPED_PACK_KEY, Recipient, wrap};
use varu::entry::{Entry, FileTime, Hole, Kind, Metadata, StreamName, Xattr};
use varu::facts::{Facts, Range};
use varu::format::layout::{
    SnapshotKind, is_key_name, is_set_name, key_name, pack_name, parse_pack_name, parse_snapshot_name, snapshot_name,
};
use varu::format::mark::{Mark, MarkHeader};
use varu::format::pack::{
    BaseRun, CopyBase, Directory, PackHeader, PackTrailer, RecipeCopy, SegmentEntry, TRAILER_LEN,
};
use varu::format::recipe::{
    Child, InnerWriter, Layer, LeafWriter, PackRef, PageRef, Recipe, Record, Run, Stream, decode_inner, decode_leaf,
};
use varu::format::snapshot::{ParentRef, SnapshotBody, SnapshotDigest, SnapshotHeader, Totals};
use varu::format::writer_key::WriterKeyFile;
use varu::format::{FormatKind as ObjectKind, check_prefix};
use varu::id::{ChainId, ChunkId, GenerationId, Hasher, InstanceId, PackId, RepositoryId, SnapshotId, StreamHash};
use varu::remote::{Folder, ObjectName};
use varu::segment::{Compressor, Decompressor, compress_based};
use varu::time::Timestamp;

/// Most bytes that this process may ever hold, all tests at once.
const MEMORY: u64 = 192 << 20;

fn inputs() -> usize {
    if long() { 1_000_000 } else { 20_000 }
}

/// Bytes that matter to decoders: ends of ranges, signs of continuation, lengths.
const TELLING: [u8; 12] = [0, 1, 2, 3, 4, 15, 16, 0x7f, 0x80, 0x81, 0xfe, 0xff];

/// One more input: a real one that was harmed in some places, or none at all.
fn harm(random: &mut Random, real: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    let seed = &real[random.below(real.len())];
    match random.below(20) {
        0 => out.extend((0..random.below(200)).map(|_| random.draw() as u8)),
        1 => out.extend((0..random.below(200)).map(|_| TELLING[random.below(TELLING.len())])),
        2 => {
            let other = &real[random.below(real.len())];
            out.extend_from_slice(&seed[..random.below(seed.len() + 1)]);
            out.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        _ => out.extend_from_slice(seed),
    }
    for _ in 0..random.below(6) {
        let at = random.below(out.len() + 1);
        match random.below(8) {
            0 => out.truncate(at),
            1 => out.insert(at, TELLING[random.below(TELLING.len())]),
            2 if at < out.len() => drop(out.remove(at)),
            3 if at < out.len() => out[at] = out[at].wrapping_add(1),
            4 if at < out.len() => out[at] = TELLING[random.below(TELLING.len())],
            5 => {
                // A long number where there was a short one.
                let huge = [0xff; 9];
                out.splice(at..at, huge[..random.below(10)].iter().copied().chain([random.draw() as u8 & 1]));
            }
            6 => {
                let end = (at + random.below(40)).min(out.len());
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            _ if at < out.len() => out[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

/// Feeds a decoder. `decode` says whether it took the input: among so many some are taken and most are not.
fn feed(real: &[Vec<u8>], mut decode: impl FnMut(&[u8]) -> bool) {
    for bytes in real {
        assert!(decode(bytes), "the decoder takes what is real");
    }
    let (mut random, mut out, mut taken) = (Random(1), Vec::new(), 0usize);
    for _ in 0..inputs() {
        harm(&mut random, real, &mut out);
        taken += usize::from(decode(&out));
    }
    assert!((inputs() / 1000..inputs()).contains(&taken), "{taken} were taken");
    assert!(support::peak_memory() < MEMORY, "this process held {} MiB", support::peak_memory() >> 20);
}

/// The same for texts.
fn feed_texts(real: &[String], mut decode: impl FnMut(&str) -> bool) {
    let real: Vec<Vec<u8>> = real.iter().map(|text| text.clone().into_bytes()).collect();
    feed(&real, |bytes| decode(&String::from_utf8_lossy(bytes)));
}

// ---- Real ones -----------------------------------------------------------------------------------------------------

fn run(pack: u32, segment: u32, first: u32, count: u32) -> Run {
    Run { pack, segment, first, count }
}

fn metadata(number: u64) -> Metadata {
    Metadata {
        mode: 0o4755,
        uid: 1000,
        gid: u32::MAX,
        user: b"mari".to_vec(),
        group: Vec::new(),
        mtime: FileTime { seconds: -1, nanoseconds: 999_999_999 },
        ctime: FileTime { seconds: 1 << 40, nanoseconds: 0 },
        inode: number,
        flags: 0x10,
        xattrs: vec![Xattr { name: b"user.x".to_vec(), value: vec![0, 255] }],
        holes: vec![Hole { offset: 4096, length: 8192 }, Hole { offset: 1 << 40, length: 1 }],
    }
}

fn recipe(salt: u32) -> Recipe {
    let name = |number: usize| StreamName::new(format!("var/lib/{salt}/file{number}")).unwrap();
    let kinds = [
        Kind::Data,
        Kind::File,
        Kind::Directory,
        Kind::Symlink(b"../x".to_vec()),
        Kind::Hardlink(name(1)),
        Kind::Fifo,
        Kind::Socket,
        Kind::CharDevice(1, 3),
        Kind::BlockDevice(8, 255),
        Kind::File,
    ];
    let streams = kinds.into_iter().enumerate().map(|(number, kind)| {
        let metadata = (!matches!(kind, Kind::Data | Kind::Hardlink(_))).then(|| metadata(number as u64));
        let (hash, runs) = match kind.has_content() {
            false => (None, Vec::new()),
            true => {
                let runs = (0..20).map(|n| run(n % 2, n / 3, (7 * n + salt) % 50, 1 + n)).collect();
                (Some(StreamHash::from_bytes([number as u8; 32])), runs)
            }
        };
        let order = if kind == Kind::Data { 5 } else { 0 };
        Stream { entry: Entry { name: name(number), kind, size: 700, metadata }, hash, runs, order }
    });
    let pack = |number: u8| PackRef { id: PackId::from_bytes([number; 32]), check: [number; 16] };
    Recipe { packs: vec![pack(1), pack(2)], streams: streams.collect() }
}

/// A leaf with all streams of a recipe.
fn leaf(recipe: &Recipe) -> Vec<u8> {
    let mut leaf = LeafWriter::default();
    recipe.streams.iter().for_each(|stream| leaf.stream(stream));
    leaf.take().unwrap().1
}

/// A leaf of a layer that has every kind of record, upon streams of `below`.
fn upper_leaf(below: &Recipe) -> Vec<u8> {
    let mut new = below.clone();
    new.streams[0].runs.splice(5..7, [run(2, 0, 0, 9), run(2, 0, 9, 1), run(2, 1, 4, 4)]);
    new.streams[9].runs.rotate_left(6);
    let mut leaf = LeafWriter::default();
    leaf.edited(&new.streams[0], &below.streams[0]);
    leaf.removed(&new.streams[6].entry.name);
    leaf.edited(&new.streams[9], &below.streams[9]);
    recipe(9).streams[..2].iter().for_each(|stream| leaf.stream(stream));
    leaf.take().unwrap().1
}

fn child(name: &str, offset: u64, length: u32) -> Child {
    Child { first: StreamName::new(name).unwrap(), page: PageRef { offset, length, check: [9; 16] } }
}

fn inner(children: &[Child]) -> Vec<u8> {
    let mut page = InnerWriter::default();
    children.iter().for_each(|child| page.push(child));
    page.take().unwrap().1
}

fn layer(packs: u8, length: u64) -> Layer {
    let pack = |number| PackRef { id: PackId::from_bytes([number; 32]), check: [number; 16] };
    let packs = (0..packs).map(pack).collect();
    let root = (length > 0).then(|| PageRef { offset: length - 100, length: 100, check: [3; 16] });
    Layer { id: [5; 32], packs, streams: 7, length, height: if length > 0 { 2 } else { 0 }, root }
}

fn directory(segments: u32) -> Directory {
    let entry = |number: u32| SegmentEntry {
        sealed: 100 + number,
        first_chunk: 3 * number,
        chunks: 3,
        bases: match number % 3 {
            0 => Vec::new(),
            1 => vec![BaseRun { pack: 1, segment: number, first: 0, count: 2 }],
            _ => vec![
                BaseRun { pack: 0, segment: number - 1, first: 1, count: 2 },
                BaseRun { pack: 2, segment: 900, first: 0, count: 1 },
            ],
        },
        depth: number % 3,
    };
    Directory {
        set: "agama".to_owned(),
        generation: GenerationId::from_bytes([7; 16]),
        base_packs: vec![PackId::from_bytes([8; 32]), PackId::from_bytes([9; 32])],
        segments: (0..segments).map(entry).collect(),
        ids: (0..3 * segments).map(|n| ChunkId::from_bytes([n as u8; 16])).collect(),
        lengths: (0..3 * segments).map(|n| 1 + n * 977 % 65_536).collect(),
    }
}

/// What lies behind the heads of snapshots here.
const PAGES: &[u8] = b"pages";

fn header(tags: usize) -> SnapshotHeader {
    SnapshotHeader {
        body: 15,
        pages: PAGES.len() as u64,
        pages_check: Hasher::new().update(PAGES).finish(),
        repository: RepositoryId::from_bytes([1; 16]),
        salt: [2; 32],
        chain: ChainId::from_bytes([3; 16]),
        parent: (tags > 0).then(|| ParentRef { id: SnapshotId::from_bytes([4; 16]), sequence: 6 }),
        previous: Some(SnapshotId::from_bytes([5; 16])),
        sequence: 7,
        suspect: tags == 2,
        data_time: Timestamp::from_nanos(-1),
        stored_time: Timestamp::from_nanos(1 << 60),
        set: "agama".to_owned(),
        tags: (0..tags).map(|n| format!("tag{n:03}").into()).collect(),
        packs: (0..tags as u8).map(|n| PackId::from_bytes([n; 32])).collect(),
        key_objects: if tags == 0 { vec![vec![7; 300], Vec::new(), vec![8; 9]] } else { Vec::new() },
    }
}

fn body(recipe: Vec<u8>) -> SnapshotBody {
    SnapshotBody {
        instance: InstanceId::from_bytes([9; 16]),
        host: "vm1".into(),
        program: "varu 0.1.0".into(),
        environment: "production".into(),
        generation: GenerationId::from_bytes([8; 16]),
        facts: Facts {
            decoded_bytes: Some(12),
            points: [("autogen/cpu".into(), Range { least: 5, most: 7 })].into(),
            other: [("õ".into(), "õ".into())].into(),
            ..Facts::default()
        },
        warnings: vec!["x changed while it was read".into()],
        configuration: b"[repository]".to_vec(),
        totals: Totals { read: 1, new: 1 << 40, stored: 300, packs: 4 },
        recipe,
    }
}

fn writer_key(data_key: &str, recipients: Vec<String>) -> WriterKeyFile {
    WriterKeyFile {
        secret: [5; 32].into(),
        data_key: data_key.to_owned(),
        chunking: ChunkSizes::default(),
        follows: Some(RepositoryId::from_bytes([6; 16])),
        recipients,
        key_object: vec![9; 700],
    }
}

// ---- Each decoder --------------------------------------------------------------------------------------------------

#[test]
fn directories() {
    support::alone!();
    let real = [0, 1, 2, 3, 40].map(|segments| directory(segments).encode());
    feed(&real, |bytes| match Directory::decode(bytes) {
        Err(_) => false,
        Ok(directory) => {
            assert_eq!(directory.encode(), bytes, "one form for one directory");
            // The properties that other modules query.
            for segment in 0..directory.segments.len() as u32 + 1 {
                black_box((directory.plain_length(segment), directory.sealed_offset(segment)));
                black_box((directory.run_range(segment, u32::MAX, u32::MAX), directory.run_range(segment, 0, 1)));
            }
            true
        }
    });
}

#[test]
fn snapshot_headers() {
    support::alone!();
    let real = [0, 1, 2, 255].map(|tags| [header(tags).encode(), b"the sealed body".to_vec()].concat());
    feed(&real, |object| match SnapshotHeader::split(object, (object.len() + PAGES.len()) as u64) {
        Err(_) => false,
        Ok((header, clear, sealed)) => {
            assert_eq!(header.encode(), clear, "one form for one header");
            assert_eq!([clear, sealed].concat(), object);
            assert_eq!(SnapshotHeader::head_length(object), Ok(object.len() as u64));
            black_box(snapshot_name(header.stored_time, &header.set, header.kind(), &SnapshotId::of(object)));
            true
        }
    });
}

#[test]
fn snapshots_as_they_come() {
    support::alone!();
    let real = [0, 2].map(|tags| [&header(tags).encode(), &b"the sealed body"[..], PAGES].concat());
    let mut random = Random(5);
    feed(&real, |object| {
        let mut digest = SnapshotDigest::default();
        object.chunks(1 + random.below(300)).for_each(|bytes| digest.update(bytes));
        let Some(id) = digest.finish() else { return false };
        let head = SnapshotHeader::head_length(object).unwrap() as usize;
        assert_eq!(id, SnapshotId::of(&object[..head]));
        assert_eq!(
            SnapshotHeader::decode(&header(0).encode()).unwrap().pages_check,
            Hasher::new().update(PAGES).finish()
        );
        true
    });
}

#[test]
fn snapshot_bodies() {
    support::alone!();
    let real = [body(Vec::new()).encode(), body(layer(2, 1 << 20).encode()).encode()];
    feed(&real, |bytes| match SnapshotBody::decode(bytes) {
        Err(_) => false,
        Ok(body) => {
            assert_eq!(body.encode(), bytes, "one form for one body");
            true
        }
    });
}

#[test]
fn layers() {
    support::alone!();
    let real = [layer(0, 0), layer(0, 100), layer(3, 1 << 30)].map(|layer| layer.encode());
    feed(&real, |bytes| match Layer::decode(bytes) {
        Err(_) => false,
        Ok(layer) => {
            assert_eq!(layer.encode(), bytes, "one form for one layer");
            assert_eq!(layer.root.map_or(0, |root| root.offset + u64::from(root.length)), layer.length);
            true
        }
    });
}

/// What holds of the records of every leaf that a reader takes, with that many packs.
fn check_records(records: &[Record], packs: u32) {
    assert!(!records.is_empty() && records.is_sorted_by(|a, b| a.name() < b.name()));
    for record in records {
        let Record::Stream(stream) = record else { continue };
        let inside = |run: &Run| run.pack < packs && run.count > 0 && run.first.checked_add(run.count).is_some();
        assert!(stream.runs.iter().all(inside));
    }
}

#[test]
fn leaves_of_the_lowest_layer() {
    support::alone!();
    feed(&[leaf(&recipe(0)), leaf(&recipe(5))], |bytes| match decode_leaf(bytes, true, 2) {
        Err(_) => false,
        Ok(records) => {
            check_records(&records, 2);
            let mut again = LeafWriter::default();
            for record in &records {
                let Record::Stream(stream) = record else { panic!("there is nothing below") };
                again.stream(stream);
            }
            assert_eq!(decode_leaf(&again.take().unwrap().1, true, 2), Ok(records));
            true
        }
    });
}

#[test]
fn leaves_upon_other_layers() {
    support::alone!();
    let below = recipe(0);
    let runs = |name: &StreamName| {
        let stream = below.streams.iter().find(|stream| stream.entry.name == *name);
        stream.map_or(&[][..], |stream| stream.runs.as_slice())
    };
    feed(&[upper_leaf(&below), leaf(&recipe(3))], |bytes| match decode_leaf(bytes, false, 3) {
        Err(_) => false,
        Ok(records) => {
            check_records(&records, 3);
            for record in records {
                let Record::Edited(edited) = record else { continue };
                let name = edited.entry.name.clone();
                let Ok(made) = edited.apply(runs(&name)) else { continue };
                assert!(made.runs.iter().all(|run| run.pack < 3 && run.count > 0));
                let (mut again, old) = (LeafWriter::default(), Stream { runs: runs(&name).to_vec(), ..made.clone() });
                again.edited(&made, &old);
                let again = decode_leaf(&again.take().unwrap().1, false, 3).unwrap().remove(0);
                let Record::Edited(again) = again else { panic!("an edit was written") };
                assert_eq!(again.apply(&old.runs), Ok(made));
            }
            true
        }
    });
}

#[test]
fn inner_pages() {
    support::alone!();
    let names = ["a", "var/lib/mysql", "var/lib/mysql/b", "var/lib/mysql.x", "z"];
    let row = |count: usize| (0..count).map(|n| child(names[n], n as u64 * 1000, 900 + n as u32)).collect::<Vec<_>>();
    feed(&[inner(&row(2)), inner(&row(5))], |bytes| match decode_inner(bytes, 5000) {
        Err(_) => false,
        Ok(children) => {
            let end = |page: &PageRef| page.offset + u64::from(page.length);
            assert!(children.is_sorted_by(|a, b| a.first < b.first && end(&a.page) <= b.page.offset));
            assert!(children.iter().all(|child| child.page.length > 0 && end(&child.page) <= 5000));
            assert_eq!(decode_inner(&inner(&children), 5000), Ok(children));
            true
        }
    });
}

#[test]
fn pack_headers_and_trailers() {
    support::alone!();
    let header = |wrapped: usize| PackHeader {
        repository: RepositoryId::from_bytes([1; 16]),
        salt: [2; 32],
        wrapped_key: vec![3; wrapped],
    };
    let real = [1, 200, MAX_WRAPPED_PACK_KEY].map(|wrapped| header(wrapped).encode());
    feed(&real, |bytes| match PackHeader::decode(bytes) {
        Err(_) => false,
        Ok(header) => {
            assert!(bytes.starts_with(&header.encode()));
            assert_eq!(PackHeader::length(bytes), Ok(header.encode().len()));
            true
        }
    });
    let trailer = PackTrailer { pages: 7, recipe_copy: 5, directory: 50, segments: 3 }.encode();
    feed(&[trailer.to_vec()], |bytes| {
        let Ok(bytes) = <[u8; TRAILER_LEN]>::try_from(bytes) else { return false };
        match PackTrailer::decode(&bytes, 1000) {
            Err(_) => false,
            Ok(trailer) => {
                assert_eq!(trailer.encode(), bytes);
                assert!(trailer.pages + u64::from(trailer.recipe_copy) + u64::from(trailer.directory) < 1000);
                true
            }
        }
    });
}

#[test]
fn marks() {
    support::alone!();
    let mark = |snapshot| Mark {
        marked: Timestamp::from_nanos(-1),
        due: Timestamp::from_nanos(1 << 60),
        snapshot,
        packs: (0..5).map(|n| PackId::from_bytes([n; 32])).collect(),
    };
    let real = [mark(None).encode(), mark(Some(SnapshotId::from_bytes([1; 16]))).encode()];
    feed(&real, |bytes| match Mark::decode(bytes) {
        Err(_) => false,
        Ok(mark) => {
            assert_eq!(Mark::decode(&mark.encode()), Ok(mark));
            true
        }
    });
    let header = MarkHeader { repository: RepositoryId::from_bytes([1; 16]), salt: [2; 32] };
    feed(&[[&header.encode()[..], b"sealed"].concat()], |bytes| match MarkHeader::split(bytes) {
        Err(_) => false,
        Ok((header, clear, _)) => {
            assert_eq!(header.encode(), clear);
            true
        }
    });
}

#[test]
fn recipe_copies_and_prefixes() {
    support::alone!();
    let data_time = Timestamp::from_seconds(MONDAY);
    let copy = |base, layers| RecipeCopy { set: "agama".to_owned(), sequence: 9, data_time, base, layers }.encode();
    let real = [
        copy(None, vec![layer(2, 1 << 20), layer(0, 0), layer(1, 100)]),
        copy(Some(CopyBase { sequence: 8, layer: [1; 32] }), vec![layer(1, 300)]),
    ];
    feed(&real, |bytes| match RecipeCopy::decode(bytes) {
        Err(_) => false,
        Ok(copy) => {
            assert_eq!(copy.encode(), bytes);
            black_box(copy.pages());
            true
        }
    });
    feed(&[b"VARUp\x01\0\0".to_vec()], |bytes| check_prefix(ObjectKind::Pack, bytes).is_ok());
}

#[test]
fn writer_keys() {
    support::alone!();
    let data_key = DataKeySecret::generate().public().to_string();
    let recipients: Vec<String> = (0..3).map(|_| IdentityFile::generate().recipients()[0].to_string()).collect();
    let real = [1, 3].map(|count| writer_key(&data_key, recipients[..count].to_vec()).to_text().to_string());
    let secret = "05".repeat(32);
    feed_texts(&real, |text| match WriterKeyFile::parse(text) {
        Ok(key) => {
            assert_eq!(WriterKeyFile::parse(&key.to_text()).unwrap().repository_id(), key.repository_id());
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains(&secret[..8]), "an error repeats no secret");
            false
        }
    });
}

#[test]
fn identities_and_recipients() {
    support::alone!();
    let mut identity = IdentityFile::generate();
    identity.add_repository(RepositoryId::from_bytes([6; 16]));
    let text = identity.to_text().to_string();
    feed_texts(std::slice::from_ref(&text), |text| match IdentityFile::parse(text) {
        Ok(identity) => {
            assert!(!identity.recipients().is_empty());
            black_box(identity.repositories());
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains("AGE-SECRET-KEY-1Q"));
            false
        }
    });
    let recipient = identity.recipients()[0].to_string();
    feed_texts(&[recipient], |text| text.parse::<Recipient>().is_ok());
    let secret = DataKeySecret::generate().to_text().to_string();
    feed_texts(&[secret], |text| DataKeySecret::parse(text).is_ok());
}

/// age does real work for each file, so these are fewer.
#[test]
fn wrapped_secrets() {
    support::alone!();
    let identity = IdentityFile::generate();
    let data_key = DataKeySecret::generate();
    let wrapped_text = wrap(&identity.recipients(), b"a writer key's text").unwrap();
    let wrapped_key = data_key.public().wrap_pack_key(&varu::crypto::PackKey::random());
    let (mut random, mut out) = (Random(3), Vec::new());
    for _ in 0..inputs() / 20 {
        harm(&mut random, &[wrapped_text.clone(), wrapped_key.clone()], &mut out);
        if let Ok(opened) = identity.unwrap(&out, 1 << 16) {
            assert_eq!(*opened, *b"a writer key's text");
            assert_eq!(out, wrapped_text, "only the very bytes open");
        }
        assert!(data_key.unwrap_pack_key(&out).is_err() || out == wrapped_key);
    }
}

#[test]
fn frames() {
    support::alone!();
    let (base, block) = (table(3000, |_| 0), table(3000, |row| row / 100 % 7));
    let (mut plain, mut based) = (Vec::new(), Vec::new());
    Compressor::new(3).unwrap().compress(&block, &mut plain).unwrap();
    compress_based(3, &base, &block, &mut based).unwrap();
    let (mut random, mut harmed, mut out) = (Random(4), Vec::new(), Vec::new());
    let mut decompressor = Decompressor::new();
    let mut taken = 0;
    for number in 0..inputs() {
        let (real, prefix) = if number % 2 == 0 { (&plain, &[][..]) } else { (&based, base.as_slice()) };
        harm(&mut random, std::slice::from_ref(real), &mut harmed);
        taken += usize::from(decompressor.decompress(&harmed, prefix, block.len(), &mut out).is_ok());
        assert!(out.capacity() <= 2 * block.len(), "{}", out.capacity());
    }
    assert!(taken > 0 && taken < inputs());
    decompressor.decompress(&based, &base, block.len(), &mut out).unwrap();
    assert_eq!(out, block, "and after all that it works");
}

#[test]
fn names() {
    support::alone!();
    let pack = PackId::from_bytes([7; 32]);
    let id = SnapshotId::from_bytes([7; 16]);
    let real = BTreeMap::from([
        (Folder::Packs, pack_name(&pack)),
        (Folder::Snapshots, snapshot_name(Timestamp::from_seconds(MONDAY), "web-full", SnapshotKind::Full, &id)),
        (Folder::Keys, key_name(b"x")),
    ]);
    for (folder, name) in &real {
        feed_texts(&[name.name().to_owned()], |text| {
            let Some(name) = ObjectName::new(*folder, text) else { return false };
            assert!(!text.contains('/') && !text.starts_with('.') && text.len() <= ObjectName::MAX);
            let found = (parse_pack_name(&name), parse_snapshot_name(&name), is_key_name(&name).then_some(()));
            if let (Some(pack), ..) = &found {
                assert_eq!(pack_name(pack), name);
            }
            if let (_, Some(parts), _) = &found {
                assert!(is_set_name(&parts.set));
            }
            found.0.is_some() || found.1.is_some() || found.2.is_some()
        });
    }
    feed(&[b"var/lib/mysql".to_vec(), b"caf\xe9".to_vec()], |bytes| match StreamName::new(bytes) {
        Err(_) => false,
        Ok(name) => {
            let safe = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
            assert!(name.components().all(safe));
            assert!(name.to_string().chars().all(|c| !c.is_control()), "a terminal can show it");
            true
        }
    });
}
