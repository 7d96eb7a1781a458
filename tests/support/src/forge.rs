//! Forged objects, as somebody with the writer key can make them: packs whose directories lie, and snapshots that name them.

use varu::crypto::{PackKey, Salt, SealPurpose};
use varu::format::layout::snapshot_name;
use varu::format::pack::{BaseRun, Directory, PackHeader, PackTrailer, SegmentEntry, directory_check};
use varu::format::recipe::PackRef;
use varu::format::snapshot::SnapshotHeader;
use varu::id::{ChunkId, GenerationId, PackId, SnapshotId};
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

/// A snapshot object whose plain body is `body`, whatever that says, and its name.
pub fn forge_snapshot(writer: &Repository, header: SnapshotHeader, body: &[u8]) -> (ObjectName, Vec<u8>) {
    let mut frame = Vec::new();
    Compressor::new(9).unwrap().compress(body, &mut frame).unwrap();
    let packed = [&(body.len() as u32).to_le_bytes()[..], &frame].concat();
    let salt = Salt::random();
    let length = (packed.len() + varu::crypto::TAG_LEN) as u64;
    let header = SnapshotHeader { salt: *salt.as_bytes(), body: length, ..header };
    let clear = header.encode();
    let sealed = writer.keys().metadata.seal(SealPurpose::SnapshotBody, &salt, &[&clear], packed);
    let object = [&clear, sealed.as_bytes()].concat();
    (snapshot_name(header.stored_time, &header.set, header.kind(), &SnapshotId::of(&object)), object)
}
