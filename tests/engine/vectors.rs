//! Golden vectors: derivations, sealed bytes and key files that must never change, made by `tests/vectors/generate.py`
//! without any of varu's code.

use std::collections::{BTreeMap, BTreeSet};

use support::Random;
use varu::chunker::{ChunkSizes, Chunker};
use varu::crypto::{DataKeyPublic, DataKeySecret, IdentityFile, MetadataKey, Salt, SealPurpose, WriterSecret};
use varu::entry::{Entry, FileTime, Hole, Kind, Metadata, StreamName, Untrusted, Xattr};
use varu::facts::Facts;
use varu::format::recipe::{
    Child, InnerWriter, Layer, LeafWriter, PackRef, PageRef, Record, Run, Stream, decode_inner, decode_leaf,
};
use varu::format::writer_key::WriterKeyFile;
use varu::id::{ChunkId, Hasher, PackId, RepositoryId, StreamHash, decode_hex, derive_key, hex};
use varu::segment::Decompressor;
use zeroize::Zeroizing;

struct Vectors(BTreeMap<String, Vec<u8>>);

impl Vectors {
    fn read() -> Self {
        let text = std::fs::read_to_string("tests/vectors/keys.txt").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines.map(|line| line.split_once(" =").unwrap()).map(|(name, value)| (name.into(), bytes(value))).collect(),
        )
    }

    fn get(&self, name: &str) -> &[u8] {
        self.0.get(name).unwrap_or_else(|| panic!("no vector named {name}"))
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.get(name).try_into().unwrap()
    }

    fn text(&self, name: &str) -> &str {
        std::str::from_utf8(self.get(name)).unwrap()
    }

    fn writer_secret(&self) -> WriterSecret {
        WriterSecret::from_bytes(Zeroizing::new(self.array("writer secret")))
    }

    fn associated_data(&self) -> [&[u8]; 3] {
        [self.get("associated data 1"), self.get("associated data 2"), self.get("associated data 3")]
    }
}

fn bytes(value: &str) -> Vec<u8> {
    let value = value.trim();
    let mut bytes = vec![0; value.len() / 2];
    assert!(decode_hex(value, &mut bytes), "{value}");
    bytes
}

#[test]
fn one_secret_derives_the_same_keys_for_ever() {
    let vectors = Vectors::read();
    let secret = vectors.writer_secret();
    let chunk = vectors.get("chunk");
    let id = secret.chunk_id_key().id(chunk);
    assert_eq!(id.as_bytes(), vectors.get("chunk id"));
    assert_eq!(id, ChunkId::of(&vectors.array("chunk id key"), chunk));
    assert_eq!(secret.chunk_id_key().id(b"").as_bytes(), vectors.get("chunk id of nothing"));
    let stream = secret.stream_hash_key().hasher().update(chunk).finish();
    assert_eq!(stream, vectors.get("stream hash"));
    assert_eq!(stream, Hasher::keyed(&vectors.array("stream hash key")).update(chunk).finish());
    assert_eq!(secret.chunker_seed().as_slice(), vectors.get("chunker seed"));
}

#[test]
fn metadata_seals_to_the_same_bytes_and_opens() {
    let vectors = Vectors::read();
    let key: MetadataKey = vectors.writer_secret().metadata_key();
    let salt = Salt::from_bytes(vectors.array("salt"));
    let (aad, plaintext) = (vectors.associated_data(), vectors.get("metadata plaintext"));
    for (purpose, name) in [
        (SealPurpose::SnapshotBody, "sealed snapshot body"),
        (SealPurpose::PackDirectory, "sealed pack directory"),
        (SealPurpose::RecipeCopy, "sealed recipe copy"),
    ] {
        let sealed = key.seal(purpose, &salt, &aad, plaintext.to_vec());
        assert_eq!(hex(sealed.as_bytes()), hex(vectors.get(name)), "{name}");
        let opened = key.open(purpose, &salt, &aad, vectors.get(name).to_vec()).ok().unwrap();
        assert_eq!(opened.as_bytes(), plaintext, "{name}");
    }
}

#[test]
fn pages_have_keys_of_their_own_and_seal_to_the_same_bytes() {
    let vectors = Vectors::read();
    let key: MetadataKey = vectors.writer_secret().metadata_key();
    for (name, height) in [("leaf", 1), ("inner page", 2)] {
        let vector = |what: &str| vectors.get(&format!("{name} {what}"));
        let salt = Hasher::new().update(vectors.get("layer id")).update(vector("offset")).finish();
        assert_eq!(salt, vector("salt"));
        let page_key = derive_key("varu 2026-11 recipe page", &[vectors.get("metadata key"), &salt]);
        assert_eq!(page_key.as_slice(), vector("key"));
        let aad: [&[u8]; 3] = [vectors.get("page repository id"), vector("offset"), &[height]];
        let salt = Salt::from_bytes(salt);
        let sealed = key.seal(SealPurpose::RecipePage, &salt, &aad, vector("packed").to_vec());
        assert_eq!(hex(sealed.as_bytes()), hex(vector("sealed")), "{name}");
        let opened = key.open(SealPurpose::RecipePage, &salt, &aad, vector("sealed").to_vec()).ok().unwrap();
        let (length, frame) = opened.as_bytes().split_first_chunk().unwrap();
        let mut plain = Vec::new();
        Decompressor::new().decompress(frame, &[], u32::from_le_bytes(*length) as usize, &mut plain).unwrap();
        assert_eq!(plain, vectors.get(name));
        assert_eq!(Hasher::new().update(vector("sealed")).finish_short(), vector("check"));
    }
}

/// The leaf's records, as `tests/vectors/generate.py` describes them.
#[test]
fn a_leaf_an_inner_page_and_a_layer_have_the_same_bytes_for_ever() {
    let vectors = Vectors::read();
    let name = |name: &str| StreamName::new(name).unwrap();
    let run = |pack, segment, first, count| Run { pack, segment, first, count };
    let hash = |from: u8| Some(StreamHash::from_bytes(std::array::from_fn(|at| from + at as u8)));
    let orders = Stream {
        entry: Entry { name: name("shop/orders.sql"), kind: Kind::Data, size: 46, metadata: None },
        hash: hash(0),
        runs: vec![run(1, 7, 1, 3), run(1, 7, 4, 2), run(1, 5, 0, 1)],
        order: 5,
    };
    let metadata = Metadata {
        mode: 0o640,
        uid: 1000,
        user: b"mari".to_vec(),
        mtime: FileTime { seconds: 1_700_000_000, nanoseconds: 5 },
        ctime: FileTime { seconds: -1, nanoseconds: 999_999_999 },
        inode: 77,
        flags: 0x10,
        xattrs: vec![Xattr { name: b"user.x".to_vec(), value: vec![0, 255] }],
        holes: vec![Hole { offset: 4096, length: 8192 }],
        ..Metadata::default()
    };
    let below = vec![run(0, 3, 0, 400)];
    let photos = Stream {
        entry: Entry { name: name("shop/photos"), kind: Kind::File, size: 70_000, metadata: Some(metadata) },
        hash: hash(32),
        runs: vec![run(0, 3, 0, 4), run(0, 3, 6, 300), run(2, 0, 9, 1)],
        order: 0,
    };
    let mut leaf = LeafWriter::default();
    leaf.removed(&name("shop/old"));
    leaf.stream(&orders);
    leaf.edited(&photos, &Stream { runs: below.clone(), ..photos.clone() });
    assert_eq!(hex(&leaf.take().unwrap().1), hex(vectors.get("leaf")));
    let records = decode_leaf(vectors.get("leaf"), false, 3).unwrap();
    let [Record::Removed(old), Record::Stream(stream), Record::Edited(edited)] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(*old, name("shop/old"));
    assert_eq!(*stream, Stream { runs: vec![run(1, 7, 1, 5), run(1, 5, 0, 1)], ..orders });
    assert_eq!(edited.clone().apply(&below), Ok(photos));
    let number = |name: &str| u64::from_le_bytes(vectors.array(name));
    let page = |name: &str| PageRef {
        offset: number(&format!("{name} offset")),
        length: vectors.get(&format!("{name} sealed")).len() as u32,
        check: vectors.array(&format!("{name} check")),
    };
    let first = PageRef { offset: 0, length: 500, check: std::array::from_fn(|at| at as u8) };
    let children =
        vec![Child { first: name("shop/a"), page: first }, Child { first: name("shop/old"), page: page("leaf") }];
    assert_eq!(decode_inner(vectors.get("inner page"), page("inner page").offset).as_ref(), Ok(&children));
    let mut inner = InnerWriter::default();
    children.iter().for_each(|child| inner.push(child));
    assert_eq!(hex(&inner.take().unwrap().1), hex(vectors.get("inner page")));
    let root = page("inner page");
    let layer = Layer {
        id: vectors.array("layer id"),
        packs: vec![PackRef {
            id: PackId::from_bytes(std::array::from_fn(|at| 192 + at as u8)),
            check: std::array::from_fn(|at| at as u8),
        }],
        streams: 1_000_000,
        length: root.offset + u64::from(root.length),
        height: 2,
        root: Some(root),
    };
    assert_eq!(hex(&layer.encode()), hex(vectors.get("layer")));
    assert_eq!(Layer::decode(vectors.get("layer")), Ok(layer));
}

#[test]
fn a_wrapped_pack_key_opens_and_seals_segments_to_the_same_bytes() {
    let vectors = Vectors::read();
    let data_key = DataKeySecret::parse(vectors.text("data key secret")).ok().unwrap();
    assert_eq!(data_key.public().to_string(), vectors.text("data key public"));
    let pack_key = data_key.unwrap_pack_key(vectors.get("wrapped pack key")).ok().unwrap();
    let (header, plaintext) = (vectors.get("pack header"), vectors.get("segment plaintext"));
    for (number, name) in [(0, "sealed segment 0"), (258, "sealed segment 258")] {
        let sealed = pack_key.seal_segment(number, header, plaintext.to_vec());
        assert_eq!(hex(sealed.as_bytes()), hex(vectors.get(name)), "{name}");
        let opened = pack_key.open_segment(number, header, vectors.get(name).to_vec()).ok().unwrap();
        assert_eq!(opened.as_bytes(), plaintext, "{name}");
    }
}

#[test]
fn a_writer_key_file_has_the_same_text_and_fingerprint() {
    let vectors = Vectors::read();
    let text = std::fs::read_to_string("tests/vectors/writer.key").unwrap();
    let mut key = WriterKeyFile::parse(&text).ok().unwrap();
    assert_eq!(*key.to_text(), text);
    assert_eq!(key.secret.as_slice(), vectors.get("writer secret"));
    assert_eq!(key.chunking, ChunkSizes { min: 4096, average: 16384, max: 65536 });
    assert_eq!(key.repository_id().as_bytes(), vectors.get("repository id after a rotation"));
    assert_eq!(key.follows, Some(RepositoryId::from_bytes(vectors.array("repository id"))));
    // The key object is the same text with the data key's secret, wrapped to the recipient.
    let secret = vectors.text("data key secret");
    let identity = IdentityFile::parse(secret).ok().unwrap();
    let sealed = identity.unwrap(&key.key_object, 1 << 16).unwrap();
    assert_eq!(std::str::from_utf8(&sealed).unwrap(), &**key.to_sealed_text(&format!("{secret}\n")));
    key.follows = None;
    assert_eq!(key.repository_id().as_bytes(), vectors.get("repository id"));
    let data_key: DataKeyPublic = key.data_key.parse().unwrap();
    assert_eq!(data_key.to_string(), vectors.text("data key public"));
}

/// The keys are those of the table in `docs/format.md`, and those that the program knows.
#[test]
fn each_fact_reads_back_and_a_malformed_one_is_refused() {
    let text = std::fs::read_to_string("tests/vectors/facts.txt").unwrap();
    let lines: Vec<Vec<String>> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').map(|column| column.replace("\\n", "\n")).collect())
        .collect();
    let pair = |key: &str, value: &str| (Untrusted::from(key), Untrusted::from(value));
    let pairs: Vec<_> = lines.iter().map(|columns| pair(&columns[0], &columns[1])).collect();
    let facts = Facts::parse(pairs.clone()).unwrap();
    assert_eq!(facts.pairs(), pairs);
    assert!(facts.other.is_empty(), "{:?}", facts.other);
    let mut malformed = 0;
    for columns in lines.iter().filter(|columns| columns.len() > 2) {
        let refused = Facts::parse(vec![pair(&columns[0], &columns[2])]).unwrap_err();
        assert!(refused.0.contains(columns[0].split(' ').next().unwrap()), "{columns:?}: {refused}");
        malformed += 1;
    }
    assert!(malformed > 8);
    let format = std::fs::read_to_string("docs/format.md").unwrap();
    let (_, section) = format.split_once("### Facts\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let listed: BTreeSet<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', ' ']).next()).collect();
    let known: BTreeSet<&str> = [Facts::ONCE, Facts::EACH].concat().into_iter().collect();
    let tried: BTreeSet<&str> = lines.iter().filter_map(|columns| columns[0].split(' ').next()).collect();
    assert_eq!((&listed, &tried), (&known, &known));
}

/// The data that `tests/vectors/cuts.py` calls `content`.
fn content() -> Vec<u8> {
    let mut words = Random(2);
    let mut data: Vec<u8> = (0..50_000).flat_map(|_| words.draw().to_le_bytes()).collect();
    data.resize(data.len() + 150_001, 0);
    for n in 0..10_000 {
        data.extend_from_slice(format!("({n},'Tamm {}','Pikk {}'),\n", words.draw() % 9973, n % 90).as_bytes());
    }
    data
}

#[test]
fn streams_are_cut_at_the_same_places() {
    let mut words = Random(1);
    let table: Vec<u8> = (0..256).flat_map(|_| words.draw().to_le_bytes()).collect();
    let data = content();
    let text = std::fs::read_to_string("tests/vectors/cuts.txt").unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        let (sizes, lengths) = line.split_once(": ").unwrap();
        let numbers = |text: &str| -> Vec<usize> { text.split(' ').map(|word| word.parse().unwrap()).collect() };
        let (sizes, lengths) = (numbers(sizes), numbers(lengths));
        let sizes = ChunkSizes { min: sizes[0] as u32, average: sizes[1] as u32, max: sizes[2] as u32 };
        assert!(sizes.is_valid());
        let chunker = Chunker::new(sizes, table.as_slice().try_into().unwrap());
        let mut rest = data.as_slice();
        let mut cuts = Vec::new();
        while !rest.is_empty() {
            cuts.push(chunker.cut(&rest[..rest.len().min(chunker.max())]));
            rest = &rest[cuts[cuts.len() - 1]..];
        }
        assert_eq!(cuts, lengths, "{sizes:?}");
    }
}
