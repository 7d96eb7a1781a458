//! Streaming check of a tar: each header's checksum, each file to its end, the two empty blocks.

/// The state of the check.
#[derive(Default)]
pub struct TarCheck {
    block: Vec<u8>,
    /// Bytes of a file's blocks that are still to come.
    left: u64,
    empty: u32,
    wrong: Option<String>,
    bytes: u64,
}

const BLOCK: usize = 512;

impl TarCheck {
    /// Looks at more of it.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() && self.wrong.is_none() {
            if self.left > 0 {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[most..];
                self.left -= most as u64;
                continue;
            }
            let most = (BLOCK - self.block.len()).min(bytes.len());
            self.block.extend_from_slice(&bytes[..most]);
            bytes = &bytes[most..];
            if self.block.len() == BLOCK {
                self.header();
                self.block.clear();
            }
        }
    }

    fn header(&mut self) {
        if self.block.iter().all(|byte| *byte == 0) {
            self.empty += 1;
            return;
        }
        if self.empty > 0 {
            self.wrong = Some("something stands behind its end".to_owned());
            return;
        }
        let sum: u64 = self
            .block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        match (octal(&self.block[148..156]), size(&self.block[124..136])) {
            (Some(wanted), Some(size)) if wanted == sum => {
                self.left = size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
            }
            _ => self.wrong = Some("a header of it is damaged".to_owned()),
        }
    }

    /// How many bytes there were.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// After the last byte: why it is incomplete; None if it is complete.
    pub fn why_not_whole(&self) -> Option<String> {
        match &self.wrong {
            Some(wrong) => Some(wrong.clone()),
            None if self.left > 0 || !self.block.is_empty() || self.empty < 2 => Some("it ends too early".to_owned()),
            None => None,
        }
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

/// A size in octal digits, or for large ones as a number of base 256.
fn size(field: &[u8]) -> Option<u64> {
    match field.first()? {
        0x80 => field[field.len() - 8..]
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
            .filter(|_| field[1..4].iter().all(|byte| *byte == 0)),
        _ => octal(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn why(bytes: &[u8], step: usize) -> Option<String> {
        let mut check = TarCheck::default();
        bytes.chunks(step).for_each(|bytes| check.push(bytes));
        assert_eq!(check.bytes(), bytes.len() as u64);
        check.why_not_whole()
    }

    #[test]
    fn a_tar_is_whole_or_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![7; 3000]).unwrap();
        std::fs::write(folder.path().join("b"), []).unwrap();
        let tar =
            Command::new("tar").args(["-C", folder.path().to_str().unwrap(), "-b1", "-cf", "-", "a", "b"]).output();
        let tar = tar.unwrap().stdout;
        for step in [1, 511, 512, 1000, 1 << 20] {
            assert_eq!(why(&tar, step), None);
            for cut in [0, 1, 511, 512, 2000, tar.len() - 1, tar.len() - 512, tar.len() - 1024] {
                assert_eq!(why(&tar[..cut], step).unwrap(), "it ends too early", "{cut}");
            }
        }
        let mut bent = tar.clone();
        bent[130] ^= 1;
        assert_eq!(why(&bent, 100).unwrap(), "a header of it is damaged");
        assert_eq!(why(&[&tar[..], &tar[..]].concat(), 100).unwrap(), "something stands behind its end");
        assert_eq!(why(&[0; 1024], 100), None, "a shard without a file is an empty tar");
        assert_eq!(size(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(0x2_0000_0000));
    }
}
