//! A second reader of the committed example, written from `docs/format.md` and without varu's code. Its order is that of
//! the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit, Nonce};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/example")
}

// ---- Notation ------------------------------------------------------------------------------------------------------

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

fn blake3(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn derive(context: &str, material: &[&[u8]]) -> [u8; 32] {
    blake3::derive_key(context, &material.concat())
}

fn open(key: &[u8; 32], nonce: u32, ad: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut bytes = sealed.to_vec();
    let mut full = [0; 12];
    full[..4].copy_from_slice(&nonce.to_le_bytes());
    ChaCha20Poly1305::new(&(*key).into()).decrypt_in_place(&Nonce::from(full), ad, &mut bytes).expect("it opens");
    bytes
}

fn parts(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u64).to_le_bytes()[..], part].concat()).collect()
}

/// Takes fields off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn raw(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.raw(N).try_into().unwrap()
    }

    fn u8(&mut self) -> u8 {
        self.raw(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.u8();
            assert!(byte != 0 || shift == 0, "the shortest form only");
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    }

    fn number(&mut self) -> usize {
        self.varint() as usize
    }

    fn zigzag(&mut self) -> i64 {
        unzigzag(self.varint())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number();
        self.raw(length)
    }

    fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes()).unwrap()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number()).map(|_| item(self)).collect()
    }

    fn short_text(&mut self) -> String {
        let length = self.u8();
        String::from_utf8(self.raw(length.into()).to_vec()).unwrap()
    }

    fn prefix(&mut self, kind: u8) {
        assert_eq!(self.raw(8), [b'V', b'A', b'R', b'U', kind, 1, 0, 0]);
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn age(identity: &age::x25519::Identity, file: &[u8]) -> Vec<u8> {
    let decryptor = age::Decryptor::new(file).unwrap();
    let mut plain = Vec::new();
    decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

// ---- Layout --------------------------------------------------------------------------------------------------------

/// The objects of a folder of the repository, by name.
fn objects(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder().join("repository").join(name)).unwrap();
    let objects = entries.map(|entry| entry.unwrap());
    objects.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

// ---- Keys ----------------------------------------------------------------------------------------------------------

struct Keys {
    repository: [u8; 16],
    data: age::x25519::Identity,
    chunk_ids: [u8; 32],
    stream_hashes: [u8; 32],
    metadata: [u8; 32],
    gear: Vec<u64>,
    /// Smallest, average, largest.
    chunks: [usize; 3],
}

/// From the identity file and the key objects alone.
fn keys() -> Keys {
    let text = std::fs::read_to_string(folder().join("identity.txt")).unwrap();
    let identity = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().parse().unwrap();
    let known: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# varu repository ")).collect();
    let objects = objects("keys");
    assert_eq!(objects.len(), 1, "the example has one key object");
    let (name, object) = objects.first_key_value().unwrap();
    assert_eq!(name.strip_suffix(".age").unwrap(), hex(&blake3(&[object])));
    let writer = String::from_utf8(age(&identity, object)).unwrap();
    let lines: Vec<&str> = writer.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines[0], "version 1");
    let value = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).unwrap();
    let data: age::x25519::Identity = value("data-secret").parse().unwrap();
    assert_eq!(value("data-key"), data.to_public().to_string());
    assert!(!value("recipient").is_empty() && lines.iter().all(|line| !line.starts_with("follows")));
    let secret: [u8; 32] = unhex(value("secret"));
    let chunks: Vec<u32> = value("chunks").split(' ').map(|size| size.parse().unwrap()).collect();
    let sizes: Vec<u8> = chunks.iter().flat_map(|size| size.to_le_bytes()).collect();
    let fingerprint =
        derive("varu 2026-11 repository id", &[&secret, &sizes, &[0], &[0; 16], value("data-key").as_bytes()]);
    assert_eq!(hex(&fingerprint[..16]), value("repository"));
    assert!(known.contains(&value("repository")), "the identity file names it");
    let seed = derive("varu 2026-11 chunker seed", &[&secret]);
    let mut table = [0; 2048];
    blake3::Hasher::new_derive_key("varu 2026-11 chunker table").update(&seed).finalize_xof().fill(&mut table);
    Keys {
        repository: unhex(value("repository")),
        data,
        chunk_ids: derive("varu 2026-11 chunk id key", &[&secret]),
        stream_hashes: derive("varu 2026-11 stream hash key", &[&secret]),
        metadata: derive("varu 2026-11 metadata key", &[&secret]),
        gear: table.chunks(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect(),
        chunks: [0, 1, 2].map(|at| chunks[at] as usize),
    }
}

// ---- Chunks --------------------------------------------------------------------------------------------------------

const MASKS: [u64; 15] = [
    0x0000000018035100,
    0x0000001800035300,
    0x0000019000353000,
    0x0000590003530000,
    0x0000d90003530000,
    0x0000d90103530000,
    0x0000d90303530000,
    0x0000d90313530000,
    0x0000d90f03530000,
    0x0000d90303537000,
    0x0000d90703537000,
    0x0000d90707537000,
    0x0000d91707537000,
    0x0000d91747537000,
    0x0000d91767537000,
];

fn mask(b: usize) -> u64 {
    MASKS[b - 7]
}

/// The length of the first chunk.
fn cut(keys: &Keys, x: &[u8]) -> usize {
    let [smallest, average, largest] = keys.chunks;
    let n = x.len().min(largest);
    if n <= smallest {
        return n;
    }
    let b = (average as f64).log2().round() as usize;
    let mut h: u64 = 0;
    for (i, &byte) in x.iter().enumerate().take(n - n % 2).skip(smallest) {
        h = (h << 1).wrapping_add(keys.gear[usize::from(byte)]);
        if h & mask(if i < average { b + 1 } else { b - 1 }) == 0 {
            return i;
        }
    }
    n
}

// ---- Packs ---------------------------------------------------------------------------------------------------------

struct Segment {
    sealed: Vec<u8>,
    first_chunk: usize,
    chunks: usize,
    /// Pack, segment, first chunk, count.
    bases: Vec<[usize; 4]>,
    depth: u64,
}

struct Pack {
    header: Vec<u8>,
    key: [u8; 32],
    check: [u8; 16],
    set: String,
    generation: [u8; 16],
    base_packs: Vec<String>,
    segments: Vec<Segment>,
    ids: Vec<[u8; 16]>,
    lengths: Vec<usize>,
    copy: Option<Copy>,
}

struct Copy {
    set: String,
    sequence: u64,
    data_time: i64,
    base_sequence: u64,
    base_layer: [u8; 32],
    layers: Vec<Layer>,
    /// Those of all its layers.
    pages: Vec<u8>,
}

type Packs = BTreeMap<String, Pack>;

fn pack(keys: &Keys, object: &[u8]) -> Pack {
    let mut fields = Fields(object);
    fields.prefix(b'p');
    assert_eq!(fields.array(), keys.repository);
    let salt: [u8; 32] = fields.array();
    let w = usize::from(fields.u16());
    let key = age(&keys.data, fields.raw(w)).try_into().unwrap();
    let (header, rest) = object.split_at(58 + w);
    let (rest, trailer) = rest.split_at(rest.len() - 32);
    let mut fields = Fields(trailer);
    let p = fields.u64() as usize;
    let [r, d, count, zero] = [(); 4].map(|()| fields.u32() as usize);
    assert_eq!((zero, fields.0), (0, &b"VARUpend"[..]));
    let (rest, sealed_directory) = rest.split_at(rest.len() - d);
    let (rest, sealed_copy) = rest.split_at(rest.len() - r);
    let (segments, pages) = rest.split_at(rest.len() - p);
    let directory_key = derive("varu 2026-11 pack directory", &[&keys.metadata, &salt]);
    let directory = open(&directory_key, 0, &parts(&[header, trailer]), sealed_directory);
    let copy_key = derive("varu 2026-11 recipe copy", &[&keys.metadata, &salt]);
    let copy = (r > 0).then(|| open(&copy_key, 0, &parts(&[header]), sealed_copy));
    let copy = copy.map(|copy| {
        let mut fields = Fields(&copy);
        Copy {
            set: fields.text().to_owned(),
            sequence: fields.u64(),
            data_time: i64::from_le_bytes(fields.array()),
            base_sequence: fields.u64(),
            base_layer: fields.array(),
            layers: fields.list(|fields| layer(fields.bytes())),
            pages: pages.to_vec(),
        }
    });
    let of_layers: usize = copy.iter().flat_map(|copy| &copy.layers).map(|layer| layer.length).sum();
    assert_eq!(of_layers, p, "the pages of the copy's layers fill their place");
    let mut fields = Fields(&directory);
    let set = fields.text().to_owned();
    let generation = fields.array();
    let base_packs = fields.list(|fields| hex(&fields.array::<32>()));
    let (mut sealed, mut first_chunk) = (Fields(segments), 0);
    let segments = fields.list(|fields| {
        let bytes = sealed.raw(fields.number()).to_vec();
        let chunks = fields.number();
        let bases = fields.list(|fields| [(); 4].map(|()| fields.number()));
        let depth = if bases.is_empty() { 0 } else { fields.varint() };
        first_chunk += chunks;
        Segment { sealed: bytes, first_chunk: first_chunk - chunks, chunks, bases, depth }
    });
    assert_eq!((segments.len(), sealed.0), (count, &[][..]), "the segments fill their place");
    let ids = (0..first_chunk).map(|_| fields.array()).collect();
    let lengths = (0..first_chunk).map(|_| fields.number()).collect();
    assert!(fields.0.is_empty());
    let check = blake3(&[header, sealed_directory, trailer])[..16].try_into().unwrap();
    Pack { header: header.to_vec(), key, check, set, generation, base_packs, segments, ids, lengths, copy }
}

fn packs(keys: &Keys) -> Packs {
    let read = |(name, object): (String, Vec<u8>)| {
        let id = hex(&blake3(&[&object]));
        assert_eq!(name, format!("{id}.pack"));
        (id, pack(keys, &object))
    };
    objects("packs").into_iter().map(read).collect()
}

/// The chunks of a segment.
fn segment(keys: &Keys, packs: &Packs, id: &str, number: usize) -> Vec<Vec<u8>> {
    let pack = &packs[id];
    let segment = &pack.segments[number];
    let mut prefix = Vec::new();
    let mut depth = None;
    for &[base_pack, base_segment, first, count] in &segment.bases {
        let base_id = if base_pack == 0 { id } else { &pack.base_packs[base_pack - 1] };
        let base = &packs[base_id];
        let base_depth = base.segments[base_segment].depth;
        assert!(base_depth == 0 || base.generation == pack.generation);
        depth = depth.max(Some(base_depth));
        prefix.extend(self::segment(keys, packs, base_id, base_segment)[first..first + count].concat());
    }
    assert_eq!(segment.depth, depth.map_or(0, |depth| depth + 1));
    let frame = open(&pack.key, number as u32, &pack.header, &segment.sealed);
    let range = segment.first_chunk..segment.first_chunk + segment.chunks;
    let length: usize = pack.lengths[range.clone()].iter().sum();
    let mut decoder = zstd::zstd_safe::DCtx::create();
    decoder.ref_prefix(&prefix).unwrap();
    let mut plain = Vec::with_capacity(length);
    decoder.decompress(&mut plain, &frame).unwrap();
    assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).ok().flatten(), Some(length as u64));
    assert_eq!(plain.len(), length);
    let mut rest = Fields(&plain);
    let chunks = range.map(|at| {
        let chunk = rest.raw(pack.lengths[at]);
        assert_eq!(blake3::keyed_hash(&keys.chunk_ids, chunk).as_bytes()[..16], pack.ids[at]);
        chunk.to_vec()
    });
    chunks.collect()
}

// ---- Snapshots and recipes -----------------------------------------------------------------------------------------

struct Snapshot {
    set: String,
    chain: [u8; 16],
    parent: [u8; 16],
    previous: [u8; 16],
    sequence: u64,
    data_time: i64,
    stored_time: i64,
    tags: Vec<String>,
    packs: Vec<String>,
    generation: [u8; 16],
    totals: [u64; 4],
    layer: Layer,
    pages: Vec<u8>,
}

fn snapshot(keys: &Keys, name: &str, object: &[u8]) -> Snapshot {
    let mut fields = Fields(object);
    fields.prefix(b's');
    let h = fields.u32() as usize;
    let (b, p) = (fields.u64() as usize, fields.u64() as usize);
    let pages_hash: [u8; 32] = fields.array();
    assert_eq!(object.len(), h + b + p);
    let (header, rest) = object.split_at(h);
    let (sealed, pages) = rest.split_at(b);
    assert!(p == 0 || blake3(&[pages]) == pages_hash);
    let id = hex(&blake3(&[header, sealed])[..16]);
    let mut fields = Fields(&header[60..]);
    assert_eq!(fields.array(), keys.repository);
    let salt: [u8; 32] = fields.array();
    let kind = fields.u8();
    assert_eq!(fields.u8(), 0, "nothing in the example is suspect");
    let chain = fields.array();
    let parent: [u8; 16] = fields.array();
    let parent_sequence = fields.u64();
    let previous = fields.array();
    let sequence = fields.u64();
    let (data_time, stored_time) = (fields.i64(), fields.i64());
    let set = fields.short_text();
    let tags = (0..fields.u8()).map(|_| fields.short_text()).collect();
    let packs: Vec<String> = (0..fields.u32()).map(|_| hex(&fields.array::<32>())).collect();
    let key_objects: Vec<String> = (0..fields.u8())
        .map(|_| {
            let n = fields.u32() as usize;
            hex(&blake3(&[fields.raw(n)]))
        })
        .collect();
    assert!(fields.0.is_empty() && packs.is_sorted());
    assert_eq!(kind == 1, parent == [0; 16]);
    let kept: Vec<String> = objects("keys").into_keys().map(|name| name.replace(".age", "")).collect();
    assert_eq!(key_objects, if kind == 1 { kept } else { Vec::new() }, "a full has the key object");
    assert!(parent_sequence < sequence);
    let word = if kind == 1 { "full" } else { "incremental" };
    let (time, rest) = name.split_once('-').unwrap();
    assert_eq!((time.len(), rest), (16, format!("{set}-{word}-{id}").as_str()));
    let body_key = derive("varu 2026-11 snapshot body", &[&keys.metadata, &salt]);
    let packed = open(&body_key, 0, &parts(&[header]), sealed);
    let (length, frame) = packed.split_at(4);
    let body = zstd::decode_all(frame).unwrap();
    assert_eq!(body.len(), u32::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut fields = Fields(&body);
    let _instance: [u8; 16] = fields.array();
    let (_host, program, environment) = (fields.text(), fields.text(), fields.text());
    assert!(program.starts_with("varu ") && environment == "production");
    let generation = fields.array();
    let facts = fields.list(|fields| (fields.text(), fields.text()));
    assert!(facts.is_sorted_by(|(one, _), (next, _)| one < next), "each key once");
    let fact = |key: &str| facts.iter().find(|(known, _)| *known == key).unwrap().1;
    assert!(fact("decoded_bytes").parse::<u64>().unwrap() > 0 && fact("depth").parse::<u64>().is_ok());
    assert_eq!(fact("points_until").parse(), Ok(data_time));
    let known = ["rows", "server", "rows shop/table.sql", "points autogen/cpu"].map(fact);
    assert_eq!(known, ["12", "MariaDB", "12", "5 7"]);
    assert_eq!(fields.list(|fields| fields.text().to_owned()), Vec::<String>::new());
    assert_eq!(fields.bytes(), b"[repository]\nurl = \"/srv/vault\"\n");
    let totals = [(); 4].map(|()| fields.varint());
    let (layer, pages) = (layer(fields.0), pages.to_vec());
    assert_eq!(layer.length, p);
    Snapshot {
        set,
        chain,
        parent,
        previous,
        sequence,
        data_time,
        stored_time,
        tags,
        packs,
        generation,
        totals,
        layer,
        pages,
    }
}

/// One chunk: the pack's number in the recipe's table, segment, chunk in the segment.
type Location = (usize, usize, usize);

#[derive(Clone)]
struct Stream {
    /// The entry as `listing.txt` has it.
    line: String,
    name: Vec<u8>,
    size: usize,
    hash: Option<[u8; 32]>,
    place: u64,
    chunks: Vec<Location>,
}

#[derive(Clone, PartialEq, Debug)]
struct Page {
    offset: usize,
    length: usize,
    check: [u8; 16],
}

#[derive(Clone, PartialEq, Debug)]
struct Layer {
    id: [u8; 32],
    packs: Vec<(String, [u8; 16])>,
    streams: usize,
    length: usize,
    height: u8,
    root: Option<Page>,
}

fn layer(bytes: &[u8]) -> Layer {
    let mut fields = Fields(bytes);
    let id = fields.array();
    let packs = fields.list(|fields| (hex(&fields.array::<32>()), fields.array()));
    let (streams, length, height) = (fields.number(), fields.number(), fields.u8());
    let root = (height > 0).then(|| Page { offset: fields.number(), length: fields.number(), check: fields.array() });
    assert!(fields.0.is_empty() && height <= 8);
    assert_eq!(root.as_ref().map_or(0, |root| root.offset + root.length), length, "the root is the last page");
    Layer { id, packs, streams, length, height, root }
}

/// A name in a form whose bytes are in tree order: no name has a zero byte.
fn tree(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

#[derive(Clone, Default)]
struct Recipe {
    packs: Vec<(String, [u8; 16])>,
    /// By name, in tree order.
    streams: BTreeMap<Vec<u8>, Stream>,
    /// How many layers it has.
    layers: usize,
    /// Which records and ops it is made of.
    made_of: BTreeSet<(&'static str, u64)>,
    /// The children of each inner page.
    children: Vec<usize>,
}

impl Recipe {
    /// In the order of a restore.
    fn streams(&self) -> Vec<&Stream> {
        let mut streams: Vec<&Stream> = self.streams.values().collect();
        streams.sort_by_key(|stream| stream.place);
        streams
    }
}

/// Lays a layer upon those below.
fn upon(keys: &Keys, mut recipe: Recipe, layer: &Layer, pages: &[u8]) -> Recipe {
    recipe.packs.extend(layer.packs.iter().cloned());
    if let Some(root) = &layer.root {
        page(keys, &mut recipe, layer, pages, root, layer.height, (None, None));
    }
    recipe.layers += 1;
    assert_eq!(recipe.streams.len(), layer.streams);
    recipe
}

/// Reads a page whose first name is the first of `names`, if that is known, and whose others come before the second.
fn page(
    keys: &Keys,
    recipe: &mut Recipe,
    layer: &Layer,
    pages: &[u8],
    page: &Page,
    height: u8,
    names: (Option<Vec<u8>>, Option<Vec<u8>>),
) {
    let sealed = &pages[page.offset..page.offset + page.length];
    assert_eq!(blake3(&[sealed])[..16], page.check);
    let offset = (page.offset as u64).to_le_bytes();
    let key = derive("varu 2026-11 recipe page", &[&keys.metadata, &blake3(&[&layer.id, &offset])]);
    let packed = open(&key, 0, &parts(&[&keys.repository, &offset, &[height]]), sealed);
    let (length, frame) = packed.split_at(4);
    let plain = zstd::decode_all(frame).unwrap();
    assert_eq!(plain.len(), u32::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut fields = Fields(&plain);
    let found = match height {
        1 => leaf(recipe, &mut fields),
        _ => {
            let children = children(&mut fields, page.offset);
            let found: Vec<Vec<u8>> = children.iter().map(|(name, _)| tree(name)).collect();
            recipe.children.push(children.len());
            for (at, (_, child)) in children.iter().enumerate() {
                let end = found.get(at + 1).cloned().or(names.1.clone());
                self::page(keys, recipe, layer, pages, child, height - 1, (Some(found[at].clone()), end));
            }
            found
        }
    };
    assert!(found.is_sorted_by(|one, next| one < next), "each name once, in tree order");
    assert!(names.0.is_none_or(|first| found[0] == first));
    assert!(names.1.is_none_or(|end| found[found.len() - 1] < end));
}

/// The children of an inner page that lies at `offset`, each with its first name.
fn children(fields: &mut Fields<'_>, offset: usize) -> Vec<(Vec<u8>, Page)> {
    let (mut name, mut end) = (Vec::new(), 0);
    let mut children = Vec::new();
    while !fields.0.is_empty() {
        self::name(fields, &mut name);
        let (start, length) = (end + fields.number(), fields.number());
        end = start + length;
        assert!(length > 0 && end <= offset, "children before their parents");
        children.push((name.clone(), Page { offset: start, length, check: fields.array() }));
    }
    children
}

/// Lays the records of a leaf upon the streams below. Returns their names.
fn leaf(recipe: &mut Recipe, fields: &mut Fields<'_>) -> Vec<Vec<u8>> {
    let (mut names, mut name) = (Vec::new(), Vec::new());
    let mut last: Option<Location> = None;
    while !fields.0.is_empty() {
        let t = fields.varint();
        assert!(t <= 2 && (t == 1 || recipe.layers > 0));
        recipe.made_of.insert(("record", t));
        if t == 0 {
            self::name(fields, &mut name);
            names.push(tree(&name));
            recipe.streams.remove(&tree(&name)).expect("what is removed is there");
            continue;
        }
        let mut stream = entry(fields, &mut name);
        names.push(tree(&name));
        let below = match t {
            2 => Some(recipe.streams[&tree(&name)].chunks.clone()),
            _ => None,
        };
        if stream.hash.is_some() {
            let mut cursor = 0;
            for _ in 0..fields.number() {
                let v = fields.varint();
                let n = v >> 2;
                recipe.made_of.insert(("op", v & 3));
                match v & 3 {
                    0 => {
                        stream.chunks.extend(&below.as_ref().unwrap()[cursor..cursor + n as usize]);
                        cursor += n as usize;
                    }
                    1 => cursor = (cursor as i64 + unzigzag(n)) as usize,
                    op => {
                        let first = if op == 2 {
                            let (pack, segment, chunk) = last.unwrap();
                            (pack, segment, chunk + 1)
                        } else {
                            let pack = fields.number();
                            let segment = match last.filter(|last| last.0 == pack) {
                                Some(last) => (last.1 as i64 + fields.zigzag()) as usize,
                                None => fields.number(),
                            };
                            (pack, segment, fields.number())
                        };
                        assert!(first.0 < recipe.packs.len());
                        let run = (0..n as usize).map(|at| (first.0, first.1, first.2 + at));
                        last = run.clone().next_back();
                        stream.chunks.extend(run);
                    }
                }
            }
        }
        recipe.streams.insert(tree(&name), stream);
    }
    names
}

/// A name, of which the start is that of the one before in the page.
fn name(fields: &mut Fields<'_>, name: &mut Vec<u8>) {
    name.truncate(fields.number());
    name.extend_from_slice(fields.bytes());
}

fn entry(fields: &mut Fields<'_>, name: &mut Vec<u8>) -> Stream {
    self::name(fields, name);
    let kind = fields.u8();
    let target = match kind {
        3 | 4 => fields.bytes().escape_ascii().to_string(),
        7 | 8 => format!("{}:{}", fields.varint(), fields.varint()),
        _ => String::new(),
    };
    let metadata = if matches!(kind, 0 | 4) { String::new() } else { metadata(fields) };
    let has_content = matches!(kind, 0 | 1);
    let size = if has_content { fields.number() } else { 0 };
    let hash = has_content.then(|| fields.array());
    let place = if kind == 0 { fields.varint() } else { 0 };
    let line = format!("{} kind={kind} target={target} size={size}{metadata}", name.escape_ascii());
    Stream { line, name: name.clone(), size, hash, place, chunks: Vec::new() }
}

fn metadata(fields: &mut Fields<'_>) -> String {
    let (mode, uid, gid) = (fields.varint(), fields.varint(), fields.varint());
    let (user, group) = (fields.bytes().escape_ascii(), fields.bytes().escape_ascii());
    let mut text = format!(" mode={mode:o} owner={uid}:{gid} {user}:{group}");
    for time in ["mtime", "ctime"] {
        write!(text, " {time}={}.{:09}", fields.zigzag(), fields.varint()).unwrap();
    }
    write!(text, " inode={} flags={:#x}", fields.varint(), fields.varint()).unwrap();
    for _ in 0..fields.number() {
        write!(text, " {}={}", fields.bytes().escape_ascii(), fields.bytes().escape_ascii()).unwrap();
    }
    let mut at = 0;
    for _ in 0..fields.number() {
        let (gap, length) = (fields.varint(), fields.varint());
        write!(text, " hole={}+{length}", at + gap).unwrap();
        at += gap + length;
    }
    text
}

// ---- All of it -----------------------------------------------------------------------------------------------------

/// The packs that a restore of the recipe reads, bases included.
fn needed(packs: &Packs, recipe: &Recipe) -> Vec<String> {
    let mut open: Vec<(String, usize)> = recipe
        .streams
        .values()
        .flat_map(|stream| &stream.chunks)
        .map(|&(pack, segment, _)| (recipe.packs[pack].0.clone(), segment))
        .collect();
    let mut needed = BTreeSet::new();
    let mut seen = BTreeSet::new();
    while let Some((id, segment)) = open.pop() {
        if seen.insert((id.clone(), segment)) {
            let pack = &packs[&id];
            let of = |&[base, segment, ..]: &[usize; 4]| match base {
                0 => (id.clone(), segment),
                base => (pack.base_packs[base - 1].clone(), segment),
            };
            open.extend(pack.segments[segment].bases.iter().map(of));
            needed.insert(id);
        }
    }
    needed.into_iter().collect()
}

fn check_streams(keys: &Keys, packs: &Packs, sequence: u64, recipe: &Recipe) {
    let expected = folder().join(format!("expected/{sequence}"));
    let listing = std::fs::read_to_string(expected.join("listing.txt")).unwrap();
    let streams = recipe.streams();
    let lines: Vec<&str> = streams.iter().map(|stream| stream.line.as_str()).collect();
    assert_eq!(lines, listing.lines().collect::<Vec<_>>(), "snapshot {sequence}");
    for (number, stream) in streams.into_iter().enumerate() {
        let Some(hash) = stream.hash else { continue };
        let mut bytes = Vec::new();
        let mut lengths = Vec::new();
        for &(pack, number, chunk) in &stream.chunks {
            let (id, check) = &recipe.packs[pack];
            assert_eq!(packs[id].check, *check);
            let chunk = &segment(keys, packs, id, number)[chunk];
            lengths.push(chunk.len());
            bytes.extend_from_slice(chunk);
        }
        assert_eq!((bytes.len(), *blake3::keyed_hash(&keys.stream_hashes, &bytes).as_bytes()), (stream.size, hash));
        if stream.size > 0 {
            assert_eq!(bytes, std::fs::read(expected.join(format!("{number}.bytes"))).unwrap());
        }
        // A writer would cut it so again.
        let (mut rest, mut again) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            again.push(cut(keys, rest));
            rest = &rest[again[again.len() - 1]..];
        }
        assert_eq!(again, lengths, "{}", stream.name.escape_ascii());
    }
}

#[test]
fn the_example_decodes_as_the_page_says() {
    let keys = keys();
    let packs = packs(&keys);
    let mut snapshots: Vec<(String, Snapshot)> = objects("snapshots")
        .into_iter()
        .map(|(name, object)| (name[name.len() - 32..].to_owned(), snapshot(&keys, &name, &object)))
        .collect();
    snapshots.sort_by_key(|(_, snapshot)| snapshot.sequence);
    assert_eq!(
        snapshots.iter().map(|(_, snapshot)| snapshot.sequence).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    let mut recipes: BTreeMap<String, Recipe> = BTreeMap::new();
    let mut before = [0; 16];
    for (id, snapshot) in &snapshots {
        assert_eq!(snapshot.previous, before);
        before = unhex(id);
        let parent = (snapshot.parent != [0; 16]).then(|| hex(&snapshot.parent));
        let before = parent.as_ref().map(|parent| &snapshots.iter().find(|(id, _)| id == parent).unwrap().1);
        if let Some(parent) = before {
            assert_eq!((parent.chain, &parent.set), (snapshot.chain, &snapshot.set));
        }
        let below = parent.map(|parent| recipes[&parent].clone()).unwrap_or_default();
        let recipe = upon(&keys, below, &snapshot.layer, &snapshot.pages);
        check_streams(&keys, &packs, snapshot.sequence, &recipe);
        assert_eq!(needed(&packs, &recipe), snapshot.packs);
        assert_eq!(snapshot.totals[0], recipe.streams.values().map(|stream| stream.size as u64).sum::<u64>());
        assert!(snapshot.data_time < snapshot.stored_time);
        recipes.insert(id.clone(), recipe);
    }
    assert_eq!(snapshots[1].1.tags, ["monthly", "pre-deploy"]);
    let made_of: BTreeSet<_> = recipes.values().flat_map(|recipe| recipe.made_of.iter().copied()).collect();
    let all = [("record", 0), ("record", 1), ("record", 2), ("op", 0), ("op", 1), ("op", 2), ("op", 3)];
    assert_eq!(made_of, all.into());
    let children: Vec<usize> = recipes.values().flat_map(|recipe| recipe.children.iter().copied()).collect();
    assert!(children.iter().any(|&children| children > 1), "several leaves under an inner page");
    let places = |stream: &Stream| (stream.place, stream.name.clone());
    let is_moved = |recipe: &Recipe| !recipe.streams().iter().is_sorted_by_key(|stream| places(stream).1);
    assert!(recipes.values().any(is_moved), "the places of dumps aren't the order of their names");
    let copies: Vec<usize> = snapshots.iter().map(|(_, snapshot)| check_copy(&packs, snapshot, &snapshots)).collect();
    assert_eq!(
        copies,
        [1, 1, 1, 1, 1, 1, 1, 0, 2],
        "one of them has no new packs, so the next copy has its layer, too"
    );
    shows_what_it_should(&packs, &snapshots);
}

/// The last new pack of a run has a copy of its layer, in which that pack is zeros, and of those down to the newest one that has
/// a copy, too. Returns how many layers the copy has.
fn check_copy(packs: &Packs, snapshot: &Snapshot, snapshots: &[(String, Snapshot)]) -> usize {
    let copies = packs.iter().filter_map(|(id, pack)| Some((id, pack, pack.copy.as_ref()?)));
    let copies: Vec<_> = copies.filter(|(_, _, copy)| copy.sequence == snapshot.sequence).collect();
    assert_eq!(copies.len(), usize::from(snapshot.totals[3] > 0), "one for each run with new packs");
    let Some((id, pack, copy)) = copies.first() else { return 0 };
    assert_eq!((&copy.set, copy.data_time), (&snapshot.set, snapshot.data_time));
    assert_eq!((&pack.set, pack.generation), (&snapshot.set, snapshot.generation));
    let parent = |snapshot: &Snapshot| snapshots.iter().find(|(id, _)| *id == hex(&snapshot.parent)).map(|(_, it)| it);
    let (mut layers, mut pages) = (Vec::new(), Vec::new());
    let mut next = Some(snapshot);
    while let Some(of) = next.filter(|of| layers.is_empty() || of.totals[3] == 0) {
        let mut layer = of.layer.clone();
        layer.packs.iter_mut().filter(|(listed, _)| listed == *id).for_each(|own| *own = ("00".repeat(32), [0; 16]));
        layers.insert(0, layer);
        pages.splice(0..0, of.pages.iter().copied());
        next = parent(of);
    }
    assert_eq!((&copy.layers, &copy.pages), (&layers, &pages));
    let base = next.map_or((0, [0; 32]), |base| (base.sequence, base.layer.id));
    assert_eq!((copy.base_sequence, copy.base_layer), base);
    copy.layers.len()
}

/// That all of the page is needed to read the example.
fn shows_what_it_should(packs: &Packs, snapshots: &[(String, Snapshot)]) {
    let segments = || packs.values().flat_map(|pack| &pack.segments);
    assert!(segments().any(|segment| segment.depth >= 2));
    assert!(segments().any(|segment| segment.bases.len() >= 2));
    assert!(
        snapshots.iter().any(|(_, snapshot)| snapshot.parent == [0; 16] && snapshot.packs.len() > 1),
        "a light full"
    );
    let generations: BTreeSet<_> = packs.values().map(|pack| pack.generation).collect();
    assert_eq!(generations.len(), 3, "two of the dump, one of the tree");
    assert!(snapshots.iter().all(|(_, snapshot)| snapshot.stored_time > 0));
}
