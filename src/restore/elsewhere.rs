//! Alternative places of data that can't be had where the recipe says: the same chunks in another pack, the same stream in
//! another snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::entry::{Kind, StreamName};
use crate::error::{Error, Result};
use crate::format::recipe::{PackRef, Stream};
use crate::id::{ChunkId, SnapshotId, StreamHash};
use crate::index::SnapshotRow;
use crate::repository::{self, ChunkRun, Fetcher, Repository};

/// A stream as another snapshot has it, by the index's numbers of its packs.
#[derive(Clone)]
pub(super) struct Twin {
    /// The snapshot that has it.
    pub snapshot: SnapshotId,
    /// All of its bytes.
    pub pieces: Vec<ChunkRun>,
}

/// Searches for data that can't be had from its place. Nothing is searched before something is missing.
pub(super) struct Elsewhere<'a> {
    repository: &'a Arc<Repository>,
    snapshot: &'a SnapshotRow,
    /// By pack that something couldn't be read of: where else its chunks lie.
    places: HashMap<u32, HashMap<ChunkId, Vec<ChunkRun>>>,
    /// Whether the index has the directories of all packs that are there.
    has_all: bool,
    /// The other snapshots, the nearest first, once one was asked for.
    others: Option<Vec<SnapshotId>>,
    /// The stream that was asked for last, and where else its bytes are.
    twins: Option<(StreamName, Vec<Twin>)>,
    /// How many streams may still be looked through for such bytes under other names.
    left: u64,
}

/// Most streams of other snapshots that are looked through for bytes that can't be had from their place. Under its own name a
/// stream is found without that.
const LOOKED_THROUGH: u64 = 20_000_000;

impl<'a> Elsewhere<'a> {
    pub fn new(repository: &'a Arc<Repository>, snapshot: &'a SnapshotRow) -> Self {
        Self {
            repository,
            snapshot,
            places: HashMap::new(),
            has_all: false,
            others: None,
            twins: None,
            left: LOOKED_THROUGH,
        }
    }

    /// The bytes of a piece that can't be had where it lies, from other places of its chunks. None where a chunk has no other.
    pub fn piece(&mut self, piece: &ChunkRun) -> Result<Option<Vec<u8>>> {
        let directory = self.repository.index().directory(piece.pack)?;
        let Some(directory) = directory else { return Ok(None) };
        let Some(range) = directory.run_range(piece.segment, piece.first, piece.count) else { return Ok(None) };
        if !self.places.contains_key(&piece.pack) {
            self.enter_all()?;
            let places = self.places_of(directory.ids.iter().copied().collect())?;
            self.places.insert(piece.pack, places);
        }
        let places = &self.places[&piece.pack];
        let mut bytes = Vec::new();
        for (id, length) in directory.ids[range.clone()].iter().zip(&directory.lengths[range]) {
            let Some(places) = places.get(id) else { return Ok(None) };
            match self.chunk(places, *length as usize)? {
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    /// A chunk from the first of these places that has it. Each is checked by the chunk's id.
    fn chunk(&self, places: &[ChunkRun], length: usize) -> Result<Option<Vec<u8>>> {
        for place in places {
            let fetcher = Fetcher::start(self.repository, std::iter::once(*place))?;
            match fetcher.take(place) {
                Ok(fetched) if fetched.as_bytes().len() == length => return Ok(Some(fetched.as_bytes().to_vec())),
                Ok(_) | Err(repository::Error::Damaged(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// All places of these chunks, in the packs of the index.
    fn places_of(&self, wanted: HashSet<ChunkId>) -> Result<HashMap<ChunkId, Vec<ChunkRun>>> {
        let mut places: HashMap<ChunkId, Vec<ChunkRun>> = HashMap::new();
        let rows = self.repository.index().packs()?;
        for row in rows {
            let directory = self.repository.index().directory(row.number)?;
            let Some(directory) = directory else { continue };
            for (segment, entry) in (0..).zip(&directory.segments) {
                let ids = &directory.ids[entry.first_chunk as usize..][..entry.chunks as usize];
                for (first, id) in (0..).zip(ids).filter(|(_, id)| wanted.contains(id)) {
                    places.entry(*id).or_default().push(ChunkRun { pack: row.number, segment, first, count: 1 });
                }
            }
        }
        Ok(places)
    }

    /// Enters the directories of all packs that are there, once.
    fn enter_all(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.has_all, true) {
            // Those that don't read have nothing to give.
            self.repository.enter_packs_that_read()?;
        }
        Ok(())
    }

    /// A stream with the same bytes in another snapshot, whose packs are there. `skip` of them were tried before.
    pub fn twin(&mut self, stream: &Stream, skip: usize) -> Result<Option<Twin>> {
        let Some(hash) = stream.hash.filter(|_| stream.entry.kind.has_content()) else { return Ok(None) };
        if self.twins.as_ref().is_none_or(|(name, _)| *name != stream.entry.name) {
            let twins = self.twins_of(stream, &hash)?;
            self.twins = Some((stream.entry.name.clone(), twins));
        }
        Ok(self.twins.as_ref().and_then(|(_, twins)| twins.get(skip)).cloned())
    }

    fn twins_of(&mut self, stream: &Stream, hash: &StreamHash) -> Result<Vec<Twin>> {
        let others = match &self.others {
            Some(others) => others.clone(),
            None => self.others.insert(others(self.repository, self.snapshot)?).clone(),
        };
        let (mut twins, mut found) = (Vec::new(), HashSet::new());
        for by_name in [true, false] {
            for snapshot in &others {
                let added = self.add_twins(stream, hash, snapshot, by_name, &mut found, &mut twins);
                match added {
                    // What can't be read has nothing to give.
                    Ok(()) | Err(Error::Repository(repository::Error::Damaged(_))) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(twins)
    }

    fn add_twins(
        &mut self,
        stream: &Stream,
        hash: &StreamHash,
        snapshot: &SnapshotId,
        by_name: bool,
        found: &mut HashSet<Vec<(u32, u32, u32)>>,
        twins: &mut Vec<Twin>,
    ) -> Result<()> {
        let layers = self.repository.layers(snapshot)?;
        let mut add = |other: &Stream| -> Result<()> {
            if !is_twin(other, stream.entry.size, hash) {
                return Ok(());
            }
            let Some(pieces) = pieces(self.repository, layers.packs(), other)? else { return Ok(()) };
            // Most snapshots of a chain have it at the same place.
            if found.insert(pieces.iter().map(|piece| (piece.pack, piece.segment, piece.first)).collect()) {
                twins.push(Twin { snapshot: *snapshot, pieces });
            }
            Ok(())
        };
        if by_name {
            return layers.find(&stream.entry.name)?.as_ref().map_or(Ok(()), add);
        }
        for other in layers.streams().over_gaps() {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            add(&other?)?;
        }
        Ok(())
    }
}

/// The pieces of another snapshot's stream; None where a pack of it can't be had.
fn pieces(repository: &Repository, table: &[PackRef], stream: &Stream) -> Result<Option<Vec<ChunkRun>>> {
    let mut numbers = HashMap::new();
    let mut pieces = Vec::with_capacity(stream.runs.len());
    for run in &stream.runs {
        let Some(pack) = table.get(run.pack as usize) else { return Ok(None) };
        let number = match numbers.get(&run.pack) {
            Some(number) => *number,
            None => match repository.enter_packs(std::iter::once(pack.id), table, None)?.pop() {
                Some(Ok(row)) => *numbers.entry(run.pack).or_insert(row.number),
                _ => return Ok(None),
            },
        };
        pieces.push(ChunkRun { pack: number, segment: run.segment, first: run.first, count: run.count });
    }
    Ok(Some(pieces))
}

fn is_twin(other: &Stream, size: u64, hash: &StreamHash) -> bool {
    let has_bytes = matches!(other.entry.kind, Kind::Data | Kind::File);
    has_bytes && other.entry.size == size && other.hash.as_ref() == Some(hash)
}

/// All other snapshots whose packs can be had, the nearest first.
fn others(repository: &Repository, snapshot: &SnapshotRow) -> Result<Vec<SnapshotId>> {
    let mut rows = repository.index().snapshots()?;
    rows.retain(|row| row.id != snapshot.id);
    rows.sort_by_key(|row| row.header.sequence.abs_diff(snapshot.header.sequence));
    let mut others = Vec::new();
    for row in rows {
        match repository.layers(&row.id) {
            Ok(layers) => {
                // The bases, too.
                repository.enter_packs(row.header.packs.iter().copied(), layers.packs(), None)?;
                others.push(row.id);
            }
            Err(repository::Error::Damaged(_)) => {}
            Err(error) => return Err(Error::from(error)),
        }
    }
    Ok(others)
}
