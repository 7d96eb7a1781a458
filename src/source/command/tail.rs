//! The end of a program's output.

use crate::entry::Escaped;

/// The last bytes of a longer sequence.
pub(in crate::source) struct Tail {
    bytes: Vec<u8>,
    most: usize,
}

impl Tail {
    /// Keeps the last `most` bytes.
    pub(in crate::source) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most }
    }

    pub(in crate::source) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.most)..];
        let surplus = (self.bytes.len() + bytes.len()).saturating_sub(self.most);
        self.bytes.drain(..surplus);
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes, which are forgotten.
    pub(in crate::source) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(in crate::source) fn contains(&self, text: &[u8]) -> bool {
        text.is_empty() || self.bytes.windows(text.len()).any(|window| window == text)
    }

    /// The lines, indented, with control characters escaped; None where there is nothing to show.
    pub(in crate::source) fn shown(&self) -> Option<String> {
        let lines = self.bytes.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end());
        let shown: String =
            lines.filter(|line| !line.is_empty()).map(|line| format!("\n    {}", Escaped(line))).collect();
        (!shown.is_empty()).then_some(shown)
    }
}

/// Cuts bytes that come in pieces into lines.
pub(in crate::source) struct LineCutter {
    rest: Vec<u8>,
}

impl LineCutter {
    /// A line that is longer is cut.
    const LONGEST: usize = 4096;

    pub(in crate::source) fn new() -> Self {
        Self { rest: Vec::new() }
    }

    /// Calls `show` with each line that `bytes` complete, control characters escaped.
    pub(in crate::source) fn push(&mut self, bytes: &[u8], mut show: impl FnMut(&str)) {
        for &byte in bytes {
            let ends = matches!(byte, b'\n' | b'\r');
            if !ends {
                self.rest.push(byte);
            }
            if ends || self.rest.len() >= Self::LONGEST {
                self.flush(&mut show);
            }
        }
    }

    /// Calls `show` with the line that has no end yet.
    pub(in crate::source) fn flush(&mut self, mut show: impl FnMut(&str)) {
        if !self.rest.is_empty() {
            show(&Escaped(&self.rest).to_string());
            self.rest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_bytes_however_they_came() {
        let mut tail = Tail::new(8);
        tail.push(b"0123456789");
        tail.push(b"ab");
        assert!(tail.contains(b"456789ab") && !tail.contains(b"3"));
        assert_eq!(tail.shown().unwrap(), "\n    456789ab");
        assert_eq!(Tail::new(8).shown(), None);
    }

    #[test]
    fn lines_are_cut_and_hold_no_control_character() {
        let mut lines = LineCutter::new();
        let mut seen = Vec::new();
        lines.push(b"one\r\ntw", |line| seen.push(line.to_owned()));
        lines.push(b"o\n\x1b[2J", |line| seen.push(line.to_owned()));
        lines.flush(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two", "\\u{1b}[2J"]);
        let mut count = 0;
        lines.push(&vec![b'x'; 3 * LineCutter::LONGEST], |_| count += 1);
        assert_eq!(count, 3);
    }
}
