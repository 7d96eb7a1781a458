//! One segment: fetched, opened, decompressed, and the chunks that are wanted of it checked by their ids.

use std::collections::HashMap;

use super::SegmentKey;
use super::plan::plain_range;
use crate::crypto::PackKey;
use crate::format::layout::{MAX_WRAPPED_KEY, pack_name};
use crate::format::pack::{HEADER_FIXED, PackHeader};
use crate::index::PackRow;
use crate::remote::{self, ErrorKind};
use crate::repository::{Error, Repository, Result, broken};
use crate::segment::Decompressor;

/// Packs whose key is kept open.
const OPEN_MAX: usize = 64;

/// A decoder for one thread, with the buffers and pack keys that it uses again.
#[derive(Default)]
pub(super) struct Decoder {
    /// The plain bytes of the bases, to be set before each segment.
    pub prefix: Vec<u8>,
    decompressor: Decompressor,
    sealed: Vec<u8>,
    open: HashMap<u32, OpenPack>,
}

struct OpenPack {
    row: PackRow,
    key: PackKey,
    header: Vec<u8>,
}

impl Decoder {
    /// The plain bytes of a segment, in `out`'s buffer. The chunks of `pieces` (the first one's number in the segment, and how
    /// many) are checked by their ids. `fill` gives its sealed bytes where they were read ahead.
    pub fn segment(
        &mut self,
        repository: &Repository,
        (pack, number): SegmentKey,
        pieces: &[(u32, u32)],
        fill: impl FnOnce(&mut Vec<u8>) -> remote::Result<bool>,
        mut out: Vec<u8>,
    ) -> Result<Vec<u8>> {
        if !self.open.contains_key(&pack) {
            let opened = OpenPack::new(repository, pack)?;
            if self.open.len() >= OPEN_MAX {
                self.open.clear();
            }
            self.open.insert(pack, opened);
        }
        let open = &self.open[&pack];
        let directory = repository.index().directory(pack)?;
        let directory = directory.ok_or_else(|| broken(pack_name(&open.row.id), "its directory is missing"))?;
        let lacks = || broken(pack_name(&open.row.id), format_args!("it has no segment {number}"));
        let entry = directory.segments.get(number as usize).ok_or_else(lacks)?;
        let plain_length = directory.plain_length(number).ok_or_else(lacks)? as usize;
        let offset = open.row.header_length + directory.sealed_offset(number);
        let mut sealed = std::mem::take(&mut self.sealed);
        if !fill(&mut sealed)? {
            sealed.resize(entry.sealed as usize, 0);
            let read = repository.remote().get_range(&pack_name(&open.row.id), offset, &mut sealed);
            read.map_err(|error| missing(&open.row, error))?;
        }
        let at = || format!("segment {number} of {}", pack_name(&open.row.id));
        let frame = open.key.open_segment(number, &open.header, sealed).map_err(|error| broken(at(), error))?;
        let decompressed = self.decompressor.decompress(frame.as_bytes(), &self.prefix, plain_length, &mut out);
        decompressed.map_err(|error| broken(at(), error))?;
        self.sealed = frame.into_vec();
        let ids = &repository.keys().chunk_ids;
        for &(first, count) in pieces {
            // Whoever asks for chunks that aren't there is told so.
            let run = directory.run_range(number, first, count).zip(plain_range(&directory, number, first, count));
            let Some((run, plain)) = run else { continue };
            let mut rest = &out[plain];
            for (id, &length) in directory.ids[run.clone()].iter().zip(&directory.lengths[run]) {
                let (chunk, after) = rest.split_at(length as usize);
                if ids.id(chunk) != *id {
                    return Err(broken(at(), format_args!("the chunk {id} has other bytes")));
                }
                rest = after;
            }
        }
        Ok(out)
    }
}

impl OpenPack {
    fn new(repository: &Repository, number: u32) -> Result<Self> {
        let row = repository.index().pack_by_number(number)?;
        let row = row.ok_or_else(|| Error::Failed("the index lost a pack".to_owned()))?;
        let name = pack_name(&row.id);
        let length = row.header_length.min((HEADER_FIXED + MAX_WRAPPED_KEY) as u64);
        let mut header = vec![0; length as usize];
        repository.remote().get_range(&name, 0, &mut header).map_err(|error| missing(&row, error))?;
        let parsed = PackHeader::decode(&header).map_err(|error| broken(&name, error))?;
        let Some(data) = repository.keys().data_secret() else {
            return Err(Error::Usage(
                "reading stored data needs the identity; give its file with --identity (or VARU_IDENTITY)".to_owned(),
            ));
        };
        let key = data.unwrap_pack_key(&parsed.wrapped_key).map_err(|error| broken(&name, error))?;
        Ok(Self { row, key, header })
    }
}

fn missing(row: &PackRow, error: remote::Error) -> Error {
    match error.kind {
        ErrorKind::NotFound => broken(pack_name(&row.id), "it is missing"),
        ErrorKind::Short => broken(pack_name(&row.id), "it is shorter than it was"),
        _ if error.is_of_object() => broken(pack_name(&row.id), format_args!("it can't be read: {}", error.reason)),
        _ => error.into(),
    }
}
