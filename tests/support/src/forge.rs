//! Forged objects, as somebody with the writer key can make them: packs whose directories lie, and snapshots that name them.

use varu::crypto::{PackKey, Salt, SealPurpose, random_bytes};
use varu::format::layout::snapshot_name;
use varu::format::pack::{BaseRun, Directory, PackHeader, PackTrailer, SegmentEntry, directory_check};
use varu::format::recipe::{Layer, LayerId, PackRef, PageRef};
use varu::format::snapshot::SnapshotHeader;
use varu::id::{ChunkId, GenerationId, Hasher, PackId, SnapshotId};
use varu::remote::memory::MemoryRemote;
use varu::remote::{Folder, ObjectName};
use varu::repository::Repository;
use varu::segment::Compressor;

/// A segment as a thief writes it: nothing in it need fit.
#[derive(Clone)]
pub struct Crafted {
    pub frame: Vec<u8>,
    pub ids: Vec<ChunkId>,
    pub lengths: Vec<u32>,
    pub bases: Vec<BaseRun>,
    pub depth: u32,
}

/// Stores a pack of the set `set` by hand, under `name` or else its true hash.
pub fn forge_pack(
    writer: &Repository,
    memory: &MemoryRemote,
    name: Option<PackId>,
    generation: GenerationId,
    base_packs: &[PackId],
    segments: &[Crafted],
) -> PackRef {
    let keys = writer.keys();
    let (key, salt) = (PackKey::random(), Salt::random());
    let wrapped_key = keys.data().wrap_pack_key(&key);
    let header = PackHeader { repository: *writer.id(), salt: *salt.as_bytes(), wrapped_key }.encode();
    let mut directory = Directory::new("set", generation);
    directory.base_packs = base_packs.to_vec();
    let mut object = header.clone();
    for (number, segment) in (0..).zip(segments) {
        let sealed = key.seal_segment(number, &header, segment.frame.clone()).into_vec();
        directory.segments.push(SegmentEntry {
            sealed: sealed.len() as u32,
            first_chunk: directory.ids.len() as u32,
            chunks: segment.ids.len() as u32,
            bases: segment.bases.clone(),
            depth: segment.depth,
        });
        directory.ids.extend(&segment.ids);
        directory.lengths.extend(&segment.lengths);
        object.extend(sealed);
    }
    let plain = directory.encode();
    let trailer = PackTrailer {
        pages: 0,
        recipe_copy: 0,
        directory: (plain.len() + varu::crypto::TAG_LEN) as u32,
        segments: segments.len() as u32,
    }
    .encode();
    let sealed = keys.metadata.seal(SealPurpose::PackDirectory, &salt, &[&header, &trailer], plain).into_vec();
    let check = directory_check(&header, &sealed, &trailer);
    object.extend(sealed);
    object.extend(trailer);
    let id = name.unwrap_or_else(|| PackId::of(&object));
    memory.put(Folder::Packs, format!("{id}.pack"), object);
    PackRef { id, check }
}

/// Plain bytes as bodies and pages are packed before they are sealed.
pub fn packed(plain: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Compressor::new(9).unwrap().compress(plain, &mut frame).unwrap();
    [&(plain.len() as u32).to_le_bytes()[..], &frame].concat()
}

/// A snapshot object whose plain body is `body` and behind which `pages` lie, whatever these say, and its name.
pub fn forge_snapshot(writer: &Repository, header: SnapshotHeader, body: &[u8], pages: &[u8]) -> (ObjectName, Vec<u8>) {
    forge_packed(writer, header, packed(body), pages)
}

/// The same of a body that is packed.
pub fn forge_packed(
    writer: &Repository,
    header: SnapshotHeader,
    packed: Vec<u8>,
    pages: &[u8],
) -> (ObjectName, Vec<u8>) {
    let salt = Salt::random();
    let header = SnapshotHeader {
        salt: *salt.as_bytes(),
        body: (packed.len() + varu::crypto::TAG_LEN) as u64,
        pages: pages.len() as u64,
        pages_check: Hasher::new().update(pages).finish(),
        ..header
    };
    let clear = header.encode();
    let sealed = writer.keys().metadata.seal(SealPurpose::SnapshotBody, &salt, &[&clear], packed);
    let head = [&clear, sealed.as_bytes()].concat();
    let name = snapshot_name(header.stored_time, &header.set, header.kind(), &SnapshotId::of(&head));
    (name, [&head, pages].concat())
}

/// The id that a reader gives a snapshot's object, whatever its bytes are: the hash of its head, or of all of it where it doesn't
/// say how long that is.
pub fn id_of_object(object: &[u8]) -> SnapshotId {
    let head = SnapshotHeader::head_length(object).map_or(object.len(), |length| length as usize);
    SnapshotId::of(&object[..head.min(object.len())])
}

/// The pages of a stored snapshot, as they lie behind its head.
pub fn pages_of(object: &[u8]) -> &[u8] {
    &object[SnapshotHeader::head_length(object).unwrap() as usize..]
}

/// The pages of a layer, made by hand: nothing in them need fit.
pub struct CraftedPages {
    /// The layer's id, under which they are sealed.
    pub layer: LayerId,
    /// All of them, sealed, one behind the other.
    pub bytes: Vec<u8>,
}

impl CraftedPages {
    /// None so far, of a layer with a new id.
    pub fn new() -> Self {
        Self { layer: *random_bytes(), bytes: Vec::new() }
    }

    /// Appends a page of these plain bytes.
    pub fn push(&mut self, writer: &Repository, height: u8, plain: &[u8]) -> PageRef {
        let sealed = seal_page(writer, &self.layer, self.bytes.len() as u64, height, packed(plain));
        self.append(&sealed)
    }

    /// Appends bytes as they are.
    pub fn append(&mut self, sealed: &[u8]) -> PageRef {
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(sealed);
        let check = Hasher::new().update(sealed).finish_short();
        PageRef { offset, length: sealed.len() as u32, check }
    }

    /// A layer of them, with the last one as its root.
    pub fn layer(&self, height: u8, root: PageRef, packs: Vec<PackRef>, streams: u64) -> Layer {
        Layer { id: self.layer, packs, streams, length: self.bytes.len() as u64, height, root: Some(root) }
    }
}

impl Default for CraftedPages {
    fn default() -> Self {
        Self::new()
    }
}

/// Seals packed bytes as the page of that layer, place and height.
pub fn seal_page(writer: &Repository, layer: &LayerId, offset: u64, height: u8, packed: Vec<u8>) -> Vec<u8> {
    let salt = Salt::from_bytes(Hasher::new().update(layer).update(&offset.to_le_bytes()).finish());
    let aad: [&[u8]; 3] = [writer.id().as_bytes(), &offset.to_le_bytes(), &[height]];
    writer.keys().metadata.seal(SealPurpose::RecipePage, &salt, &aad, packed).into_vec()
}
