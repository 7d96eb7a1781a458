//! Golden vectors: derivations, sealed bytes and key files that must never change, made by `tests/vectors/generate.py`
//! without any of varu's code.

use std::collections::{BTreeMap, BTreeSet};

use support::Random;
use varu::chunker::{ChunkSizes, Chunker};
use varu::crypto::{DataKeyPublic, DataKeySecret, IdentityFile, MetadataKey, Salt, SealPurpose, WriterSecret};
use varu::entry::Untrusted;
use varu::facts::Facts;
use varu::format::writer_key::WriterKeyFile;
use varu::id::{ChunkId, Hasher, RepositoryId, decode_hex, hex};
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
