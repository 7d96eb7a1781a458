//! Decoded segments that memory has no room for, in a file without a name.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::repository::{Error, Result};

/// Where a segment lies in the file.
pub(super) struct Spilled {
    offset: u64,
    length: usize,
}

/// The file, made when it is first needed. It has no name, so it ends with the process.
#[derive(Default)]
pub(super) struct Spill {
    file: Option<File>,
    end: u64,
}

impl Spill {
    pub fn write(&mut self, segment: &[u8]) -> std::io::Result<Spilled> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.write_all_at(segment, self.end)?;
        let place = Spilled { offset: self.end, length: segment.len() };
        self.end += segment.len() as u64;
        Ok(place)
    }

    pub fn read(&self, place: &Spilled) -> Result<Vec<u8>> {
        let mut segment = vec![0; place.length];
        let file = self.file.as_ref().ok_or_else(|| Error::Failed("the spill file is gone".to_owned()))?;
        let read = file.read_exact_at(&mut segment, place.offset);
        read.map_err(|error| {
            Error::Failed(format!("reading decoded segments back from a temporary file failed: {error}"))
        })?;
        Ok(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_back() {
        let mut spill = Spill::default();
        let (a, b) = (spill.write(b"one").unwrap(), spill.write(b"three").unwrap());
        assert_eq!((spill.read(&b).unwrap(), spill.read(&a).unwrap()), (b"three".to_vec(), b"one".to_vec()));
    }
}
