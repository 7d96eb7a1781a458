//! The notation of `docs/format.md`: fixed little-endian integers, shortest-form varints, counted bytes.
//!
//! A reader never allocates more than the bytes that it was given justify.

/// The format version that this crate reads and writes.
pub const VERSION: u8 = 1;

/// Length of the prefix that packs, snapshots and marks start with.
pub const PREFIX_LEN: usize = 8;

const MAGIC: &[u8; 4] = b"VARU";

/// The reason why bytes don't follow the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end inside a field.
    #[error("it ends inside {0}")]
    Truncated(&'static str),
    /// A field has an impossible value.
    #[error("{0}")]
    Invalid(&'static str),
    /// There are more of something than any writer makes.
    #[error("{0} are more than {1}")]
    TooMany(&'static str, usize),
    /// There are bytes after the end.
    #[error("{0} bytes stand behind its end")]
    Trailing(usize),
    /// The object starts with something else than an object of this kind does.
    #[error("it isn't a {0}")]
    NotThis(&'static str),
    /// The object was written in another version of the format.
    #[error("it has format version {0}, and this program knows version {VERSION} only; use a newer varu")]
    Version(u8),
}

type Result<T> = std::result::Result<T, FormatError>;

/// The kinds of objects that start with a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatKind {
    /// A pack.
    Pack,
    /// A snapshot.
    Snapshot,
    /// A mark.
    Mark,
}

impl FormatKind {
    const fn byte(self) -> u8 {
        match self {
            FormatKind::Pack => b'p',
            FormatKind::Snapshot => b's',
            FormatKind::Mark => b'm',
        }
    }

    const fn word(self) -> &'static str {
        match self {
            FormatKind::Pack => "pack",
            FormatKind::Snapshot => "snapshot",
            FormatKind::Mark => "mark",
        }
    }

    pub(super) fn prefix(self) -> [u8; PREFIX_LEN] {
        [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], self.byte(), VERSION, 0, 0]
    }
}

/// Checks that an object is of that kind, of whatever version. Returns its first eight bytes.
pub(super) fn check_kind(kind: FormatKind, object: &[u8]) -> Result<&[u8; PREFIX_LEN]> {
    let Some(prefix) = object.first_chunk::<PREFIX_LEN>() else {
        return Err(FormatError::Truncated("its first eight bytes"));
    };
    match &prefix[..4] == MAGIC && prefix[4] == kind.byte() {
        true => Ok(prefix),
        false => Err(FormatError::NotThis(kind.word())),
    }
}

/// Checks the first eight bytes of an object.
pub fn check_prefix(kind: FormatKind, object: &[u8]) -> Result<()> {
    let prefix = check_kind(kind, object)?;
    if prefix[5] != VERSION {
        return Err(FormatError::Version(prefix[5]));
    }
    match prefix[6..] {
        [0, 0] => Ok(()),
        _ => Err(FormatError::Invalid("its prefix holds unknown flags")),
    }
}

/// Appends fields to bytes.
#[derive(Default)]
pub(super) struct FieldWriter(pub Vec<u8>);

impl FieldWriter {
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn zigzag(&mut self, value: i64) {
        self.varint(zigzag(value));
    }

    pub fn count(&mut self, count: usize) {
        self.varint(count as u64);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }
}

pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes fields off the front of bytes.
pub(super) struct FieldReader<'a>(pub &'a [u8]);

impl<'a> FieldReader<'a> {
    pub fn raw(&mut self, length: usize, what: &'static str) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(FormatError::Truncated(what))?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or(FormatError::Truncated(what))?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64> {
        self.array(what).map(i64::from_le_bytes)
    }

    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if (shift == 63 && part > 1) || (byte == 0 && shift > 0) {
                return Err(FormatError::Invalid("a number isn't in its shortest form"));
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FormatError::Invalid("a number has too many bytes"))
    }

    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32> {
        u32::try_from(self.varint(what)?).map_err(|_| FormatError::Invalid("a number is too large"))
    }

    pub fn zigzag(&mut self, what: &'static str) -> Result<i64> {
        self.varint(what).map(unzigzag)
    }

    /// A count of things that take at least `smallest` bytes each.
    pub fn count(&mut self, smallest: usize, what: &'static str) -> Result<usize> {
        let count = self.varint(what)?;
        if count > (self.0.len() / smallest.max(1)) as u64 {
            return Err(FormatError::Truncated(what));
        }
        Ok(count as usize)
    }

    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let length = self.count(1, what)?;
        self.raw(length, what)
    }

    pub fn text(&mut self, what: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| FormatError::Invalid("a text isn't UTF-8"))
    }

    pub fn list<T>(
        &mut self,
        smallest: usize,
        what: &'static str,
        read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.list_of_at_most(usize::MAX, smallest, what, read)
    }

    /// A list that is refused, before memory is taken for it, where it has more than `most` items.
    pub fn list_of_at_most<T>(
        &mut self,
        most: usize,
        smallest: usize,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(smallest, what)?;
        if count > most {
            return Err(FormatError::TooMany(what, most));
        }
        // Grows as items are really read: a struct may be many times its encoding.
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub fn end(&self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(FormatError::Trailing(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut writer = FieldWriter::default();
            writer.varint(value);
            assert_eq!(FieldReader(&writer.0).varint("n"), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_number_has_one_form() {
        assert!(FieldReader(&[0x80, 0x00]).varint("n").is_err());
        assert!(FieldReader(&[0xff; 10]).varint("n").is_err());
        assert!(FieldReader(&[0x80]).varint("n").is_err());
    }

    #[test]
    fn a_count_needs_its_bytes() {
        assert_eq!(FieldReader(&[200, 1, 0]).count(1, "things"), Err(FormatError::Truncated("things")));
    }

    #[test]
    fn prefixes_are_told_apart() {
        let mut prefix = FormatKind::Pack.prefix();
        assert_eq!(check_prefix(FormatKind::Pack, &prefix), Ok(()));
        assert_eq!(check_prefix(FormatKind::Snapshot, &prefix), Err(FormatError::NotThis("snapshot")));
        prefix[5] = 9;
        assert_eq!(check_prefix(FormatKind::Pack, &prefix), Err(FormatError::Version(9)));
        assert!(check_prefix(FormatKind::Pack, b"VARU").is_err());
    }
}
