//! Level data: every segment opens, and every chunk has its id.

use std::collections::HashSet;
use std::sync::Arc;

use super::structure::{Structure, draw};
use super::{Bad, VerifyReport};
use crate::error::Result;
use crate::format::layout::pack_name;
use crate::progress::{Counter, Interrupt, Progress};
use crate::repository::{self, ChunkRun, Fetcher, Repository};

/// Decodes each segment of each pack that a snapshot needs.
pub(super) fn segments(
    repository: &Arc<Repository>,
    structure: &Structure,
    bad: &[Bad],
    sample: f64,
    report: &mut VerifyReport,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<Bad>> {
    let bad: HashSet<Bad> = bad.iter().copied().collect();
    let mut pieces = Vec::new();
    for id in structure.needed().filter(|id| !bad.contains(&Bad::Pack(**id))) {
        let index = repository.index();
        let Some(row) = index.pack(id)? else { continue };
        let Some(directory) = index.directory(row.number)? else { continue };
        let known = |segment: u32| bad.contains(&Bad::Segment(*id, segment));
        let all = directory.segments.iter().zip(0..).filter(|(_, segment)| draw(sample) && !known(*segment));
        pieces.extend(
            all.map(|(entry, segment)| (*id, ChunkRun { pack: row.number, segment, first: 0, count: entry.chunks })),
        );
    }
    let fetcher = Fetcher::start(repository, pieces.iter().map(|(_, piece)| *piece))?;
    progress.phase("decoding segments", Some(fetcher.decodes()), None);
    let mut found = Vec::new();
    for (id, piece) in &pieces {
        if interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
        match fetcher.take(piece) {
            Ok(fetched) => {
                progress.add(Counter::Bytes, fetched.as_bytes().len() as u64);
                fetcher.release(fetched);
            }
            Err(repository::Error::Damaged(why)) => {
                report.damaged(format!("{} segment {}", pack_name(id), piece.segment), why);
                found.push(Bad::Segment(*id, piece.segment));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
