//! The holes of a sparse file.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::entry::Hole;

/// The most holes that are remembered of one file. Of a file with more the smaller ones are read, and stored as zeros.
const MOST: usize = 65_536;

/// The holes in the first `size` bytes, ascending and not touching. A file system that can't tell has none.
pub(super) fn find(file: impl AsFd, size: u64) -> Vec<Hole> {
    let mut holes = Holes::default();
    let mut from = 0;
    while from < size {
        let Ok(offset) = seek(&file, SeekFrom::Hole(from)) else { break };
        if offset >= size {
            break;
        }
        let end = match seek(&file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            Err(_) => break,
        };
        holes.push(Hole { offset, length: end.saturating_sub(offset) });
        from = end.max(offset + 1);
    }
    holes.list
}

/// A list that forgets its smallest members when it grows too long.
#[derive(Default)]
struct Holes {
    list: Vec<Hole>,
    smallest: u64,
}

impl Holes {
    fn push(&mut self, hole: Hole) {
        while self.list.len() >= MOST {
            self.smallest = (self.smallest * 2).max(4096);
            self.list.retain(|hole| hole.length > self.smallest);
        }
        if hole.length > self.smallest {
            self.list.push(hole);
        }
    }
}

/// How many of a file's bytes are outside of its holes.
pub(super) fn content(size: u64, holes: &[Hole]) -> u64 {
    holes.iter().fold(size, |size, hole| size.saturating_sub(hole.length))
}

/// The way through a file from its start to its end, past its holes.
#[derive(Debug, Default)]
pub(in crate::source) struct HolePath {
    position: u64,
    next_hole: usize,
}

impl HolePath {
    /// Where it is, in bytes from the start of the file.
    pub(in crate::source) fn position(&self) -> u64 {
        self.position
    }

    /// Skips the hole at this position, and returns the end of the following data: the next hole; None without another.
    pub(in crate::source) fn data(&mut self, holes: &[Hole]) -> Option<u64> {
        while let Some(hole) = holes.get(self.next_hole) {
            if hole.offset > self.position {
                return Some(hole.offset);
            }
            self.position = self.position.max(hole.offset.saturating_add(hole.length));
            self.next_hole += 1;
        }
        None
    }

    /// Passes that many bytes of data.
    pub(in crate::source) fn pass(&mut self, bytes: usize) {
        self.position = self.position.saturating_add(bytes as u64);
    }
}

/// Reads a file's content: the data between its holes, to the end.
pub(super) struct SparseContent {
    file: File,
    holes: Vec<Hole>,
    way: HolePath,
}

impl SparseContent {
    pub(super) fn new(file: File, holes: Vec<Hole>) -> Self {
        Self { file, holes, way: HolePath::default() }
    }
}

impl Read for SparseContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.way.data(&self.holes);
        let most = end.map_or(buffer.len(), |end| fitting(end - self.way.position(), buffer));
        let read = self.file.read_at(&mut buffer[..most], self.way.position())?;
        self.way.pass(read);
        Ok(read)
    }
}

/// How many of `bytes` bytes fit into the buffer.
pub(in crate::source) fn fitting(bytes: u64, buffer: &[u8]) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len())
}

/// Cuts the holes off at `size`.
pub(super) fn trim(holes: &mut Vec<Hole>, size: u64) {
    holes.retain(|hole| hole.offset < size);
    if let Some(last) = holes.last_mut() {
        last.length = last.length.min(size - last.offset);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_found_between_at_the_start_and_at_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(&[1; 4096], 65_536).unwrap();
        let expected = [Hole { offset: 0, length: 65_536 }, Hole { offset: 69_632, length: (1 << 20) - 69_632 }];
        assert_eq!(find(&file, 1 << 20), expected);
        assert_eq!(find(&file, 65_537), expected[..1], "only below the size that was asked for");
        let mut holes = expected.to_vec();
        trim(&mut holes, 70_000);
        assert_eq!(holes[1].length, 70_000 - 69_632);
    }

    #[test]
    fn memory_is_bounded_and_the_large_holes_stay() {
        let mut holes = Holes::default();
        for n in 0..5 * MOST as u64 {
            let length = if n % 1000 == 0 { 1 << 20 } else { 4096 };
            holes.push(Hole { offset: n << 21, length });
        }
        assert!(holes.list.len() <= MOST);
        assert_eq!(holes.list.iter().filter(|hole| hole.length == 1 << 20).count(), (5 * MOST).div_ceil(1000));
    }
}
