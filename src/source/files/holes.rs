//! The holes of a sparse file.

use std::os::fd::AsFd;

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
