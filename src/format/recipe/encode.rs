//! Recipes to bytes.

use std::collections::HashMap;

use super::{PackRef, Recipe, Run, Stream, entry};
use crate::format::checks::RecipeCheck;
use crate::format::wire::{FieldWriter, zigzag};
use crate::id::{Hasher, PackId};

/// Writes the complete recipe.
pub fn encode_full(recipe: &Recipe) -> Vec<u8> {
    let mut out = FieldWriter::default();
    write_packs(&mut out, &recipe.packs);
    let mut items = ItemEncoder::default();
    for stream in &recipe.streams {
        items.explicit(&mut out, stream);
    }
    out.0
}

/// The check of a recipe, whether it is stored complete or as an edit.
pub fn recipe_check(recipe: &Recipe) -> RecipeCheck {
    let mut hasher = Hasher::new();
    hasher.update(&encode_full(recipe));
    hasher.finish_short()
}

/// Writes the edit that turns `parent` into `recipe`. The pack table of `recipe` must start with all of `parent`'s.
pub fn encode_edit(recipe: &Recipe, parent: &Recipe) -> Vec<u8> {
    debug_assert!(recipe.packs.starts_with(&parent.packs));
    let mut out = FieldWriter::default();
    write_packs(&mut out, recipe.packs.get(parent.packs.len()..).unwrap_or_default());
    let by_name: HashMap<_, _> =
        parent.streams.iter().enumerate().map(|(number, stream)| (&stream.entry.name, number)).collect();
    let mut items = ItemEncoder::default();
    for stream in &recipe.streams {
        match by_name.get(&stream.entry.name) {
            Some(&number) if parent.streams[number] == *stream => items.copy(&mut out, number),
            Some(&number) => items.edit(&mut out, stream, number, &parent.streams[number]),
            None => items.explicit(&mut out, stream),
        }
    }
    items.flush(&mut out);
    out.0
}

fn write_packs(out: &mut FieldWriter, packs: &[PackRef]) {
    out.count(packs.len());
    for pack in packs {
        out.raw(pack.id.as_bytes());
        out.raw(&pack.check);
    }
}

/// The state that items are encoded relative to.
#[derive(Default)]
struct ItemEncoder {
    last_name: Vec<u8>,
    last_run: Option<Run>,
    /// The parent's stream after the last one that was named.
    expected: usize,
    /// Copied streams that were not written yet: the first, and how many.
    copied: Option<(usize, u64)>,
}

impl ItemEncoder {
    fn copy(&mut self, out: &mut FieldWriter, number: usize) {
        match &mut self.copied {
            Some((first, count)) if *first + *count as usize == number => *count += 1,
            _ => {
                self.flush(out);
                self.copied = Some((number, 1));
            }
        }
    }

    fn flush(&mut self, out: &mut FieldWriter) {
        if let Some((first, count)) = self.copied.take() {
            out.varint(0);
            self.name_parent(out, first);
            out.varint(count);
            self.expected = first + count as usize;
        }
    }

    fn name_parent(&self, out: &mut FieldWriter, number: usize) {
        out.zigzag(number as i64 - self.expected as i64);
    }

    fn explicit(&mut self, out: &mut FieldWriter, stream: &Stream) {
        self.flush(out);
        out.varint(1);
        self.entry(out, stream);
        if stream.entry.kind.has_content() {
            out.count(stream.runs.len());
            stream.runs.iter().for_each(|&run| self.run(out, run));
        }
    }

    fn edit(&mut self, out: &mut FieldWriter, stream: &Stream, number: usize, parent: &Stream) {
        self.flush(out);
        out.varint(2);
        self.name_parent(out, number);
        self.expected = number + 1;
        self.entry(out, stream);
        if stream.entry.kind.has_content() {
            let ops = edit_ops(&stream.runs, &parent.runs);
            out.count(ops.len());
            for op in ops {
                match op {
                    Op::Copy(count) => out.varint(count << 2),
                    Op::Move(by) => out.varint(zigzag(by) << 2 | 1),
                    Op::Run(run) => self.run(out, run),
                }
            }
        }
    }

    fn entry(&mut self, out: &mut FieldWriter, stream: &Stream) {
        entry::write(out, &stream.entry, stream.hash.as_ref(), &mut self.last_name);
    }

    fn run(&mut self, out: &mut FieldWriter, run: Run) {
        let count = u64::from(run.count) << 2;
        match self.last_run.replace(run) {
            Some(last) if { last }.extend(run) => out.varint(count | 2),
            last => {
                out.varint(count | 3);
                out.varint(u64::from(run.pack));
                match last.filter(|last| last.pack == run.pack) {
                    Some(last) => out.zigzag(i64::from(run.segment) - i64::from(last.segment)),
                    None => out.varint(u64::from(run.segment)),
                }
                out.varint(u64::from(run.first));
            }
        }
    }
}

enum Op {
    Copy(u64),
    Move(i64),
    Run(Run),
}

/// The parent's runs by location, each with the number of its first chunk in the stream.
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

    /// For the start of `run`: how many of its chunks the parent's stream has from some position on, and that position.
    /// None, and the number of chunks before one occurs there, if it has none.
    fn find(&self, run: Run, cursor: u64) -> (Option<u64>, u32) {
        let after = self.0.partition_point(|&(other, _)| key(other) <= key(run));
        let here = |&(other, position): &(Run, u64)| -> Option<(u64, u32)> {
            let same = (other.pack, other.segment) == (run.pack, run.segment);
            let into = run.first.checked_sub(other.first).filter(|&into| same && into < other.count)?;
            Some((position + u64::from(into), (other.count - into).min(run.count)))
        };
        // The same location may occur in the parent's stream many times: the one at the cursor is encoded for free.
        let candidates = self.0[..after].iter().rev().take(16).filter_map(here);
        if let Some((position, count)) = candidates.max_by_key(|&(position, count)| (position == cursor, count)) {
            return (Some(position), count);
        }
        // Up to the next location that the parent does have, so that the rest of the run can be copied again.
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

fn edit_ops(runs: &[Run], parent: &[Run]) -> Vec<Op> {
    let by_location = ByLocation::new(parent);
    let mut ops: Vec<Op> = Vec::new();
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
                None => ops.push(Op::Run(Run { count, ..rest })),
            }
            rest.first += count;
            rest.count -= count;
        }
    }
    ops
}

fn push_copy(ops: &mut Vec<Op>, by: i64, count: u64) {
    match ops.last_mut() {
        Some(Op::Copy(last)) if by == 0 => *last += count,
        _ => {
            if by != 0 {
                ops.push(Op::Move(by));
            }
            ops.push(Op::Copy(count));
        }
    }
}

impl Recipe {
    /// The same recipe with a table of just the packs that runs name, in the order of their first use.
    pub fn compacted(mut self) -> Self {
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut packs = Vec::new();
        for run in self.streams.iter_mut().flat_map(|stream| &mut stream.runs) {
            run.pack = *numbers.entry(run.pack).or_insert_with(|| {
                packs.push(self.packs[run.pack as usize]);
                packs.len() as u32 - 1
            });
        }
        self.packs = packs;
        self
    }

    /// The number of a pack in the table.
    pub fn pack_number(&self, id: &PackId) -> Option<u32> {
        self.packs.iter().position(|pack| pack.id == *id).map(|number| number as u32)
    }
}
