//! Layers: what one snapshot adds to the recipe of its chain.

use super::{PackRef, PageRef};
use crate::format::checks::DirectoryCheck;
use crate::format::layout::{MAX_HEIGHT, MAX_PAGE, MAX_PAGES};
use crate::format::wire::{FieldReader, FieldWriter, FormatError};
use crate::id::PackId;

type Result<T> = std::result::Result<T, FormatError>;

/// Random; names a layer and makes the keys of its pages.
pub type LayerId = [u8; 32];

/// A layer without its pages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// Its id.
    pub id: LayerId,
    /// Packs that its runs name and that the layers below don't have. Runs count through the tables of all layers, from the lowest.
    pub packs: Vec<PackRef>,
    /// How many streams the recipe has with this layer on top.
    pub streams: u64,
    /// Bytes of its pages.
    pub length: u64,
    /// Levels of pages: 0 for a layer without records, 1 where the root is a leaf.
    pub height: u8,
    /// The page at the top, where there is one.
    pub root: Option<PageRef>,
}

impl Layer {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.raw(&self.id);
        out.count(self.packs.len());
        for pack in &self.packs {
            out.raw(pack.id.as_bytes());
            out.raw(&pack.check);
        }
        out.varint(self.streams);
        out.varint(self.length);
        out.u8(self.height);
        if let Some(root) = &self.root {
            out.varint(root.offset);
            out.varint(u64::from(root.length));
            out.raw(&root.check);
        }
        out.0
    }

    /// Reads a layer.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = FieldReader(bytes);
        let id = reader.array("a layer's id")?;
        let smallest = PackId::LEN + size_of::<DirectoryCheck>();
        let packs = reader.list(smallest, "the pack table", |reader| {
            let id = PackId::from_bytes(reader.array("a pack's id")?);
            Ok(PackRef { id, check: reader.array("a directory check")? })
        })?;
        let streams = reader.varint("a layer's streams")?;
        let length = reader.varint("a layer's length")?;
        let height = reader.u8("a layer's height")?;
        let root = match height {
            0 => None,
            _ => Some(PageRef {
                offset: reader.varint("the root page")?,
                length: reader.varint_u32("the root page")?,
                check: reader.array("the root page")?,
            }),
        };
        reader.end()?;
        if length > MAX_PAGES || height > MAX_HEIGHT {
            return Err(FormatError::Invalid("a layer has more pages than can be"));
        }
        // The root is written last.
        let fits = match &root {
            None => length == 0,
            Some(root) => {
                u64::from(root.length) <= MAX_PAGE && root.offset.checked_add(u64::from(root.length)) == Some(length)
            }
        };
        match fits {
            true => Ok(Self { id, packs, streams, length, height, root }),
            false => Err(FormatError::Invalid("a layer's root isn't the last of its pages")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_read_back_and_end_with_their_root() {
        let pack = PackRef { id: PackId::from_bytes([7; 32]), check: [8; 16] };
        let root = PageRef { offset: 900, length: 100, check: [3; 16] };
        let layer =
            Layer { id: [1; 32], packs: vec![pack], streams: 5, length: 1000, height: 2, root: Some(root.clone()) };
        let empty = Layer { id: [2; 32], streams: 5, ..Layer::default() };
        for layer in [&layer, &empty] {
            assert_eq!(Layer::decode(&layer.encode()).as_ref(), Ok(layer));
        }
        for bad in [
            Layer { length: 1001, ..layer.clone() },
            Layer { height: 9, ..layer.clone() },
            Layer { length: 1, ..empty },
            Layer { root: Some(PageRef { offset: u64::MAX, ..root }), ..layer.clone() },
        ] {
            assert!(Layer::decode(&bad.encode()).is_err(), "{bad:?}");
        }
        let bytes = layer.encode();
        assert!((0..bytes.len()).all(|length| Layer::decode(&bytes[..length]).is_err()));
    }
}
