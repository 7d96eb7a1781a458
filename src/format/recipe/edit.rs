//! Streams as edits: their runs as copies of those that the stream of the same name had below.

use super::{MAX_RUNS, Run, Stream, push_run};
use crate::entry::Entry;
use crate::format::wire::FormatError;
use crate::id::StreamHash;

type Result<T> = std::result::Result<T, FormatError>;

/// One step of an edit. A cursor stands before the first chunk of the stream below at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditOp {
    /// So many chunks of the stream below from the cursor on, which moves behind them.
    Copy(u64),
    /// Moves the cursor by so many chunks.
    Move(i64),
    /// Other chunks.
    Run(Run),
}

/// A stream whose runs are told by those of the stream of its name in the layers below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedStream {
    /// Its name, kind, size and metadata.
    pub entry: Entry,
    /// The keyed hash of its bytes. None for kinds without content.
    pub hash: Option<StreamHash>,
    /// Its place among dumps.
    pub order: u64,
    /// How its runs are made.
    pub ops: Vec<EditOp>,
}

impl EditedStream {
    /// The edit that makes a stream from the runs of the one below.
    pub fn of(stream: Stream, below: &[Run]) -> Self {
        let ops = ops(&stream.runs, below);
        Self { entry: stream.entry, hash: stream.hash, order: stream.order, ops }
    }

    /// The stream that it makes from the runs of the one below.
    pub fn apply(self, below: &[Run]) -> Result<Stream> {
        let mut cursor = Cursor::new(below);
        let mut runs = Vec::new();
        for op in self.ops {
            match op {
                EditOp::Copy(count) => cursor.copy(count, &mut runs)?,
                EditOp::Move(by) => cursor.shift(by)?,
                EditOp::Run(run) => push_run(&mut runs, run),
            }
            if runs.len() > MAX_RUNS {
                return Err(FormatError::Invalid("a stream has too many runs"));
            }
        }
        Ok(Stream { entry: self.entry, hash: self.hash, runs, order: self.order })
    }
}

/// The steps that make `runs` from those below, found by comparing locations.
pub(super) fn ops(runs: &[Run], below: &[Run]) -> Vec<EditOp> {
    let by_location = ByLocation::new(below);
    let mut ops: Vec<EditOp> = Vec::new();
    let mut cursor = 0;
    for &run in runs {
        let mut rest = run;
        while rest.count > 0 {
            let (found, count) = by_location.find(rest, cursor);
            match found {
                Some(position) => {
                    push_copy(&mut ops, position as i64 - cursor as i64, u64::from(count));
                    cursor = position + u64::from(count);
                }
                None => ops.push(EditOp::Run(Run { count, ..rest })),
            }
            rest.first += count;
            rest.count -= count;
        }
    }
    ops
}

fn push_copy(ops: &mut Vec<EditOp>, by: i64, count: u64) {
    match ops.last_mut() {
        Some(EditOp::Copy(last)) if by == 0 => *last += count,
        _ => {
            if by != 0 {
                ops.push(EditOp::Move(by));
            }
            ops.push(EditOp::Copy(count));
        }
    }
}

/// The runs below by location, each with the number of its first chunk in the stream.
struct ByLocation(Vec<(Run, u64)>);

impl ByLocation {
    fn new(runs: &[Run]) -> Self {
        let mut position = 0;
        let mut sorted = Vec::with_capacity(runs.len());
        for &run in runs {
            sorted.push((run, position));
            position += u64::from(run.count);
        }
        // A binary search over runs instead of a table of chunks: a large stream has far fewer runs than chunks.
        sorted.sort_by_key(|&(run, position)| (key(run), position));
        Self(sorted)
    }

    /// For the start of `run`: how many of its chunks the stream below has from some position on, and that position. None, and
    /// the number of chunks before one occurs there, if it has none.
    fn find(&self, run: Run, cursor: u64) -> (Option<u64>, u32) {
        let after = self.0.partition_point(|&(other, _)| key(other) <= key(run));
        let here = |&(other, position): &(Run, u64)| -> Option<(u64, u32)> {
            let same = (other.pack, other.segment) == (run.pack, run.segment);
            let into = run.first.checked_sub(other.first).filter(|&into| same && into < other.count)?;
            Some((position + u64::from(into), (other.count - into).min(run.count)))
        };
        // The same location may occur in the stream below many times: the one at the cursor is encoded for free.
        let candidates = self.0[..after].iter().rev().take(16).filter_map(here);
        if let Some((position, count)) = candidates.max_by_key(|&(position, count)| (position == cursor, count)) {
            return (Some(position), count);
        }
        // Up to the next location that the stream below does have, so that the rest of the run can be copied again.
        let until = match self.0.get(after) {
            Some(&(next, _)) if (next.pack, next.segment) == (run.pack, run.segment) => next.first - run.first,
            _ => run.count,
        };
        (None, until.min(run.count))
    }
}

fn key(run: Run) -> (u32, u32, u32) {
    (run.pack, run.segment, run.first)
}

/// A position among the chunks of the stream below.
struct Cursor<'a> {
    runs: &'a [Run],
    /// The number of the first chunk of each run, and the number of all.
    starts: Vec<u64>,
    position: u64,
}

impl<'a> Cursor<'a> {
    fn new(runs: &'a [Run]) -> Self {
        let mut starts = Vec::with_capacity(runs.len() + 1);
        let mut position = 0;
        starts.push(position);
        for run in runs {
            position += u64::from(run.count);
            starts.push(position);
        }
        Self { runs, starts, position: 0 }
    }

    fn end(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn shift(&mut self, by: i64) -> Result<()> {
        let position = self.position.checked_add_signed(by).filter(|&position| position <= self.end());
        self.position = position.ok_or(FormatError::Invalid("an edit moves out of the stream below"))?;
        Ok(())
    }

    fn copy(&mut self, count: u64, out: &mut Vec<Run>) -> Result<()> {
        let end = self.position.checked_add(count).filter(|&end| count > 0 && end <= self.end());
        let end = end.ok_or(FormatError::Invalid("an edit copies more than the stream below has"))?;
        let mut number = self.starts.partition_point(|&start| start <= self.position) - 1;
        while self.position < end {
            if out.len() > MAX_RUNS {
                return Err(FormatError::Invalid("a stream has too many runs"));
            }
            let run = self.runs[number];
            let into = (self.position - self.starts[number]) as u32;
            let take = u64::from(run.count - into).min(end - self.position);
            push_run(out, Run { first: run.first + into, count: take as u32, ..run });
            self.position += take;
            number += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::entry::{Kind, StreamName};
    use proptest::prelude::*;

    pub fn data(name: &str, runs: Vec<Run>) -> Stream {
        let size = runs.iter().map(|run| u64::from(run.count)).sum();
        let entry = Entry { name: StreamName::new(name).unwrap(), kind: Kind::Data, size, metadata: None };
        Stream { entry, hash: Some(StreamHash::from_bytes([size as u8; 32])), runs, order: size }
    }

    pub fn run(pack: u32, segment: u32, first: u32, count: u32) -> Run {
        Run { pack, segment, first, count }
    }

    /// Runs in few places, so that two streams share many.
    pub fn runs() -> impl Strategy<Value = Vec<Run>> {
        let any = (0u32..4, 0u32..5, 0u32..20, 1u32..8).prop_map(|(p, s, f, c)| run(p, s, f, c));
        proptest::collection::vec(any, 0..12).prop_map(|parts| {
            let mut runs = Vec::new();
            parts.into_iter().for_each(|part| push_run(&mut runs, part));
            runs
        })
    }

    fn any_op() -> impl Strategy<Value = EditOp> {
        prop_oneof![
            (0u64..40).prop_map(EditOp::Copy),
            any::<u64>().prop_map(EditOp::Copy),
            (-40i64..40).prop_map(EditOp::Move),
            any::<i64>().prop_map(EditOp::Move),
            (0u32..4, 0u32..5, 0u32..20, 1u32..8).prop_map(|(p, s, f, c)| EditOp::Run(run(p, s, f, c))),
        ]
    }

    fn edited(ops: Vec<EditOp>) -> EditedStream {
        let Stream { entry, hash, order, .. } = data("dump", Vec::new());
        EditedStream { entry, hash, order, ops }
    }

    fn chunks(runs: &[Run]) -> Vec<(u32, u32, u32)> {
        runs.iter().flat_map(|run| (0..run.count).map(|at| (run.pack, run.segment, run.first + at))).collect()
    }

    #[test]
    fn an_edit_stays_inside_the_stream_below() {
        let below = [run(0, 0, 0, 10), run(0, 1, 0, 10)];
        let apply = |ops: &[EditOp]| edited(ops.to_vec()).apply(&below).map(|stream| stream.runs);
        assert_eq!(apply(&[EditOp::Copy(20)]), Ok(below.to_vec()));
        assert_eq!(apply(&[EditOp::Move(20), EditOp::Move(-15), EditOp::Copy(1)]), Ok(vec![run(0, 0, 5, 1)]));
        for bad in [
            &[EditOp::Copy(0)][..],
            &[EditOp::Copy(21)],
            &[EditOp::Copy(u64::MAX)],
            &[EditOp::Copy(20), EditOp::Copy(1)],
            &[EditOp::Move(21)],
            &[EditOp::Move(-1)],
            &[EditOp::Move(i64::MIN)],
            &[EditOp::Move(i64::MAX)],
        ] {
            assert!(apply(bad).is_err(), "{bad:?}");
        }
        assert!(edited(vec![EditOp::Copy(1)]).apply(&[]).is_err());
        assert_eq!(edited(vec![EditOp::Move(0)]).apply(&[]).map(|stream| stream.runs), Ok(Vec::new()));
    }

    #[test]
    fn an_edit_of_a_few_runs_has_few_ops() {
        let below: Vec<Run> = (0..100).map(|segment| run(0, segment, 0, 64)).collect();
        let mut new = below.clone();
        new[50] = run(0, 50, 0, 30);
        new.insert(51, run(1, 0, 0, 2));
        new.insert(52, run(0, 50, 32, 32));
        let ops = ops(&new, &below);
        let expected =
            [EditOp::Copy(50 * 64 + 30), EditOp::Run(run(1, 0, 0, 2)), EditOp::Move(2), EditOp::Copy(49 * 64 + 32)];
        assert_eq!(ops, expected);
        assert_eq!(edited(ops).apply(&below).map(|stream| stream.runs), Ok(new));
    }

    proptest! {
        #[test]
        fn the_ops_of_two_streams_make_one_of_the_other((old, new) in (runs(), runs())) {
            let made = edited(ops(&new, &old)).apply(&old).unwrap();
            prop_assert_eq!(made.runs, new);
        }

        #[test]
        fn any_ops_make_a_stream_of_known_chunks_or_an_error(
            below in runs(),
            ops in proptest::collection::vec(any_op(), 0..12),
        ) {
            let given: Vec<Run> =
                ops.iter().filter_map(|op| if let EditOp::Run(run) = op { Some(*run) } else { None }).collect();
            let known = [chunks(&below), chunks(&given)].concat();
            if let Ok(made) = edited(ops).apply(&below) {
                prop_assert!(chunks(&made.runs).iter().all(|chunk| known.contains(chunk)));
                prop_assert!(made.runs.windows(2).all(|pair| !{ pair[0] }.extend(pair[1])), "what follows is joined");
            }
        }
    }
}
