//! Pages of recipes: written once with their snapshot, read one at a time.
//!
//! [`Layers`] is the recipe of a snapshot as it is stored. It holds no stream; [`StreamWalk`] walks through all of them in the order
//! of their names, or from some name on, and holds a page of each layer.

mod cursor;
mod reader;
mod store;
mod writer;

pub use cursor::{Compared, DamagedRange, StreamWalk};
pub use store::Pages;
pub use writer::LayerWriter;

use self::reader::LayerReader;
use super::{Error, Repository, Result, broken};
use crate::crypto::Salt;
use crate::entry::{StreamName, is_at_or_below};
use crate::format::layout::MAX_CHAIN;
use crate::format::recipe::{Layer, LayerId, MAX_NAMES, MAX_RUNS, PackRef, Recipe, Stream};
use crate::id::{Hasher, PackId, SnapshotId};
use crate::index::Index;
use crate::remote::{Folder, ObjectName};

/// A layer, and where its pages lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedLayer {
    /// The layer.
    pub layer: Layer,
    /// The object that holds its pages: a snapshot, or a pack with a copy.
    pub object: ObjectName,
    /// Bytes of the object before them.
    pub offset: u64,
}

/// The recipe of a snapshot, layer by layer.
pub struct Layers<'a> {
    readers: Vec<LayerReader<'a>>,
    packs: Vec<PackRef>,
}

impl<'a> Layers<'a> {
    /// A recipe of these layers, from the lowest.
    pub fn new(repository: &'a Repository, layers: Vec<PlacedLayer>) -> Self {
        let mut packs = Vec::new();
        let mut readers = Vec::with_capacity(layers.len());
        for placed in layers {
            packs.extend_from_slice(&placed.layer.packs);
            readers.push(LayerReader::new(repository, placed, readers.is_empty(), packs.len() as u64));
        }
        Self { readers, packs }
    }

    /// A recipe whose layer on top was just written and is stored nowhere yet.
    pub fn with_new(repository: &'a Repository, below: Vec<PlacedLayer>, layer: &Layer, pages: &Pages) -> Self {
        let mut layers = Self::new(repository, below);
        layers.packs.extend_from_slice(&layer.packs);
        let (lowest, packs) = (layers.readers.is_empty(), layers.packs.len() as u64);
        layers.readers.push(LayerReader::written(repository, layer.clone(), pages, lowest, packs));
        layers
    }

    /// The packs that runs name by their number.
    pub fn packs(&self) -> &[PackRef] {
        &self.packs
    }

    /// How many streams there are, as the snapshot says.
    pub fn count(&self) -> u64 {
        self.readers.last().map_or(0, |reader| reader.placed.layer.streams)
    }

    /// The layers, from the lowest.
    pub fn placed(&self) -> impl DoubleEndedIterator<Item = &PlacedLayer> {
        self.readers.iter().map(|reader| &reader.placed)
    }

    /// All streams, by name.
    pub fn streams(&self) -> StreamWalk<'_> {
        StreamWalk::new(&self.readers)
    }

    /// The streams from this name on.
    pub fn streams_from(&self, name: &[u8]) -> Result<StreamWalk<'_>> {
        StreamWalk::from(&self.readers, name)
    }

    /// The stream of that name.
    pub fn find(&self, name: &StreamName) -> Result<Option<Stream>> {
        let first = self.streams_from(name.as_bytes())?.next().transpose()?;
        Ok(first.filter(|stream| stream.entry.name == *name))
    }

    /// The streams with that name and below it; all for an empty one.
    pub fn below<'b>(&'b self, name: &'b [u8]) -> Result<impl Iterator<Item = Result<Stream>> + 'b> {
        let is_below = |stream: &Stream| name.is_empty() || is_at_or_below(stream.entry.name.as_bytes(), name);
        let streams = self.streams_from(name)?;
        Ok(streams.take_while(move |stream| stream.as_ref().map_or(true, is_below)))
    }

    /// The streams in which this recipe and a later one may differ.
    pub fn compare<'b>(&'b self, later: &'b Layers<'b>) -> Compared<'b> {
        Compared::new(&self.readers, &later.readers)
    }

    /// The streams of which the layer on top has records: as they were below it, and as they are.
    pub fn changed(&self) -> Compared<'_> {
        let below = self.readers.len().saturating_sub(1);
        Compared::new(&self.readers[..below], &self.readers)
    }

    /// The packs that runs name.
    pub fn used_packs(&self) -> Result<Vec<PackId>> {
        let mut used = vec![false; self.packs.len()];
        for stream in self.streams() {
            stream?.runs.iter().for_each(|run| used[run.pack as usize] = true);
        }
        Ok(self.packs.iter().zip(used).filter(|(_, used)| *used).map(|(pack, _)| pack.id).collect())
    }

    /// The streams, held in memory: dumps in their order, others by name.
    ///
    /// # Errors
    ///
    /// Where they are more than may be held.
    pub fn collect(&self) -> Result<Recipe> {
        let mut streams: Vec<Stream> = Vec::new();
        let (mut runs, mut names) = (0_usize, 0_usize);
        for stream in self.streams() {
            let stream = stream?;
            runs += stream.runs.len() + 1;
            names += stream.entry.name.as_bytes().len();
            if runs > MAX_RUNS || names > MAX_NAMES {
                return Err(Error::Damaged("a recipe has more streams and runs than can be held in memory".to_owned()));
            }
            streams.push(stream);
        }
        streams.sort_by(|a, b| a.order.cmp(&b.order).then_with(|| a.entry.name.cmp(&b.entry.name)));
        Ok(Recipe { packs: self.packs.clone(), streams })
    }
}

impl Repository {
    /// The recipe of a snapshot.
    pub fn layers(&self, id: &SnapshotId) -> Result<Layers<'_>> {
        Ok(Layers::new(self, self.placed_layers(id)?))
    }

    /// The recipe of a snapshot, held in memory.
    pub fn recipe(&self, id: &SnapshotId) -> Result<Recipe> {
        self.layers(id)?.collect()
    }

    /// The layers of a snapshot's recipe, from the lowest.
    pub fn placed_layers(&self, id: &SnapshotId) -> Result<Vec<PlacedLayer>> {
        let index = self.index();
        let mut layers = Vec::new();
        let mut child = None;
        let mut next = Some(*id);
        while let Some(id) = next {
            let Some(row) = index.snapshot(&id)? else {
                let (below, is_own) = recovered(&index, &id, child.as_ref())?;
                if is_own {
                    layers.pop();
                }
                layers.extend(below.into_iter().rev());
                break;
            };
            let bytes =
                index.recipe(&id)?.ok_or_else(|| broken(format!("snapshot {id}"), "the index lacks its recipe"))?;
            let layer = Layer::decode(&bytes).map_err(|error| broken(format!("the recipe of snapshot {id}"), error))?;
            if layer.length != row.header.pages {
                return Err(broken(
                    format!("snapshot {id}"),
                    "its recipe and its header say different lengths of pages",
                ));
            }
            layers.push(PlacedLayer { layer, object: Self::object_name(&row), offset: row.size - row.header.pages });
            if layers.len() > MAX_CHAIN as usize {
                return Err(broken(
                    format!("the chain of snapshot {id}"),
                    "it has more snapshots than a chain can have",
                ));
            }
            next = row.header.parent.map(|parent| parent.id);
            child = Some(id);
        }
        layers.reverse();
        Ok(layers)
    }

    /// Writes a recipe that is held in memory as one layer, with nothing below.
    pub fn write_layer(&self, recipe: &Recipe) -> Result<(Layer, Pages)> {
        let mut streams: Vec<&Stream> = recipe.streams.iter().collect();
        streams.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        let mut writer = LayerWriter::new(self);
        for stream in streams {
            writer.stream(stream)?;
        }
        writer.finish(recipe.packs.clone(), recipe.streams.len() as u64)
    }
}

/// The layers of a snapshot that doesn't exist any more, or else those of the one that depends on it: then true.
fn recovered(index: &Index, id: &SnapshotId, child: Option<&SnapshotId>) -> Result<(Vec<PlacedLayer>, bool)> {
    let copies = [Some((id, false)), child.map(|child| (child, true))];
    for (id, is_own) in copies.into_iter().flatten() {
        if let Some(bytes) = index.recovered_recipe(id)? {
            let layers = decode_placed(&bytes)
                .ok_or_else(|| broken(format!("the copy of the recipe of snapshot {id}"), "it can't be read"))?;
            return Ok((layers, is_own));
        }
    }
    let lost = match child {
        Some(child) => format!("the snapshot {id}, on which {child} of its chain stands, isn't in the repository"),
        None => format!("the snapshot {id} isn't in the repository"),
    };
    Err(Error::Damaged(format!("{lost}; `varu index rebuild` looks for a copy of its recipe in the packs")))
}

/// Layers with their places, for the index: of each its length, its bytes, its place's length, the place, and the offset.
pub(super) fn encode_placed(layers: &[PlacedLayer]) -> Vec<u8> {
    let mut out = Vec::new();
    for placed in layers {
        let (layer, object) = (placed.layer.encode(), placed.object.to_string());
        out.extend_from_slice(&(layer.len() as u64).to_le_bytes());
        out.extend_from_slice(&layer);
        out.extend_from_slice(&(object.len() as u64).to_le_bytes());
        out.extend_from_slice(object.as_bytes());
        out.extend_from_slice(&placed.offset.to_le_bytes());
    }
    out
}

pub(super) fn decode_placed(mut bytes: &[u8]) -> Option<Vec<PlacedLayer>> {
    fn number(bytes: &mut &[u8]) -> Option<u64> {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*number))
    }
    fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(number(bytes)?).ok()?;
        let (counted, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(counted)
    }
    let mut layers = Vec::new();
    while !bytes.is_empty() {
        let layer = Layer::decode(counted(&mut bytes)?).ok()?;
        let (folder, name) = std::str::from_utf8(counted(&mut bytes)?).ok()?.split_once('/')?;
        let folder = [Folder::Snapshots, Folder::Packs].into_iter().find(|known| known.name() == folder)?;
        let object = ObjectName::new(folder, name)?;
        layers.push(PlacedLayer { layer, object, offset: number(&mut bytes)? });
    }
    Some(layers)
}

/// The salt of one page: each page is sealed under a key of its own.
fn page_salt(layer: &LayerId, offset: u64) -> Salt {
    Salt::from_bytes(Hasher::new().update(layer).update(&offset.to_le_bytes()).finish())
}

/// Zstd's level for pages.
const PAGE_LEVEL: i32 = 9;
