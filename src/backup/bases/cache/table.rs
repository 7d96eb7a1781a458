//! The table: where each chunk of the newest snapshot lies, in recipe order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::room::{GRANULE, granules};
use crate::format::layout::MAX_CHUNK;
use crate::id::{Hasher, SnapshotId};

/// Bytes of an entry.
pub(super) const ENTRY: usize = 12;
/// Bytes of the header.
pub(super) const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"varubc02";
/// Entries that are read at once.
const PAGE: usize = 4096;

/// Backups after which a chunk that didn't change is as idle as it gets.
pub(super) const MOST_IDLE: u8 = 15;

/// Where the bytes of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum CacheSlot {
    /// Nowhere, as it found no room.
    NoRoom,
    /// A copy of its file has it.
    Elsewhere,
    /// Nowhere, as it would be of no use: its stream is compressed already.
    Useless,
    /// The data file has it.
    At(CacheFrame),
    /// It is the chunk of that number among those that were added in this run.
    Added(u32),
}

/// A chunk in the data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) struct CacheFrame {
    pub granule: u32,
    /// Bytes there.
    pub stored: u32,
    pub form: FrameForm,
}

/// How a chunk lies in the data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum FrameForm {
    Compressed,
    /// As it is, for it can't be made smaller.
    Incompressible,
    /// As it is, for it will hardly live long enough to be worth the work.
    Raw,
}

impl CacheFrame {
    /// Where it begins, in bytes.
    pub fn at(&self) -> u64 {
        u64::from(self.granule) * GRANULE
    }

    /// The granules that it takes.
    pub fn granules(&self) -> std::ops::Range<u64> {
        let first = u64::from(self.granule);
        first..first + granules(self.stored.into())
    }
}

/// An entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) struct CacheEntry {
    pub slot: CacheSlot,
    /// Bytes of the chunk.
    pub length: u32,
    /// Since how many backups the chunk is as it is. 0 for one that took another's place in the newest.
    pub idle: u8,
}

impl CacheEntry {
    /// The same chunk one backup later; it is never counted as more than `most` idle.
    pub fn older(self, most: u8) -> Self {
        Self { idle: self.idle.saturating_add(1).min(most).max(self.idle), ..self }
    }

    pub fn encode(&self) -> [u8; ENTRY] {
        let (first, second, kind) = match self.slot {
            CacheSlot::NoRoom => (0, 0, 0),
            CacheSlot::Elsewhere => (0, 0, 1),
            CacheSlot::Useless => (0, 0, 2),
            CacheSlot::At(CacheFrame { granule, stored, form: FrameForm::Compressed }) => (granule, stored, 3),
            CacheSlot::At(CacheFrame { granule, stored, form: FrameForm::Incompressible }) => (granule, stored, 4),
            CacheSlot::At(CacheFrame { granule, stored, form: FrameForm::Raw }) => (granule, stored, 5),
            CacheSlot::Added(number) => (number, 0, 6),
        };
        let [a, b, c, d] = first.to_le_bytes();
        let [e, f, g, _] = second.to_le_bytes();
        let [h, i, j, _] = self.length.to_le_bytes();
        [a, b, c, d, e, f, g, kind, h, i, j, self.idle]
    }

    /// An entry that no run wrote is one of a chunk without room: the file may be damaged.
    pub fn decode(bytes: &[u8; ENTRY]) -> Self {
        let &[a, b, c, d, e, f, g, kind, h, i, j, idle] = bytes;
        let first = u32::from_le_bytes([a, b, c, d]);
        let stored = u32::from_le_bytes([e, f, g, 0]);
        let length = u32::from_le_bytes([h, i, j, 0]);
        let frame = |form| CacheSlot::At(CacheFrame { granule: first, stored, form });
        let is_sound = length <= MAX_CHUNK && (1..=length).contains(&stored);
        let slot = match kind {
            1 => CacheSlot::Elsewhere,
            2 => CacheSlot::Useless,
            3 if is_sound => frame(FrameForm::Compressed),
            4 if is_sound => frame(FrameForm::Incompressible),
            5 if is_sound => frame(FrameForm::Raw),
            6 => CacheSlot::Added(first),
            _ => CacheSlot::NoRoom,
        };
        Self { slot, length, idle: idle.min(MOST_IDLE) }
    }
}

/// What a table says before its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TableHeader {
    /// Entries.
    pub count: u64,
    /// Granules that the chunks took, or would have, that took another's place in this snapshot: as many may come with the next.
    pub changed: u64,
    /// Whether much of what was read had changed: such chunks don't live long.
    pub volatile: bool,
}

impl TableHeader {
    pub fn encode(&self, snapshot: &SnapshotId) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..24].copy_from_slice(snapshot.as_bytes());
        header[24..32].copy_from_slice(&self.count.to_le_bytes());
        header[32..40].copy_from_slice(&self.changed.to_le_bytes());
        header[40] = self.volatile.into();
        let check = Hasher::new().update(&header[..48]).finish_short();
        header[48..].copy_from_slice(&check);
        header
    }

    fn decode(bytes: &[u8; HEADER], snapshot: &SnapshotId) -> Option<Self> {
        let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let header = Self { count: field(24), changed: field(32), volatile: bytes[40] != 0 };
        (header.encode(snapshot) == *bytes).then_some(header)
    }
}

/// Entries of a file, a page at a time.
pub(super) struct Entries {
    file: File,
    /// Where the first one is.
    from: u64,
    count: u64,
    page: Vec<u8>,
    /// The entry that `page` starts with.
    first: u64,
}

impl Entries {
    /// The entries of `file` from that byte on.
    pub fn new(file: File, from: u64, count: u64) -> Self {
        Self { file, from, count, page: Vec::new(), first: 0 }
    }

    /// The table at `path`, if it is that of `snapshot`, and whole.
    pub fn of_table(path: &Path, snapshot: &SnapshotId) -> Option<(Self, TableHeader)> {
        let file = File::open(path).ok()?;
        let mut found = [0; HEADER];
        file.read_exact_at(&mut found, 0).ok()?;
        let header = TableHeader::decode(&found, snapshot)?;
        let size = header.count.checked_mul(ENTRY as u64)?.checked_add(HEADER as u64)?;
        let whole = file.metadata().ok()?.len() == size;
        whole.then(|| (Self::new(file, HEADER as u64, header.count), header))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The entry of that number, where there is one and it can be read.
    pub fn get(&mut self, number: u64) -> Option<CacheEntry> {
        let inside = |entries: &Self| {
            let at = usize::try_from(number.checked_sub(entries.first)?).ok()?.checked_mul(ENTRY)?;
            entries.page.get(at..)?.first_chunk().copied()
        };
        let bytes = match inside(self) {
            None if number < self.count => {
                self.load(number)?;
                inside(self)
            }
            bytes => bytes,
        };
        bytes.map(|bytes| CacheEntry::decode(&bytes))
    }

    fn load(&mut self, number: u64) -> Option<()> {
        // Bases precede the chunks that are kept next.
        self.first = number.saturating_sub(PAGE as u64 / 4);
        let entries = (self.count - self.first).min(PAGE as u64) as usize;
        self.page.resize(entries * ENTRY, 0);
        let read = self.file.read_exact_at(&mut self.page, self.from + self.first * ENTRY as u64);
        if read.is_err() {
            self.page.clear();
        }
        read.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_nonsense_is_no_place() {
        let frame = |form| CacheSlot::At(CacheFrame { granule: u32::MAX, stored: 700, form });
        let nowhere = [CacheSlot::NoRoom, CacheSlot::Elsewhere, CacheSlot::Useless, CacheSlot::Added(77)];
        let forms = [FrameForm::Compressed, FrameForm::Incompressible, FrameForm::Raw].map(frame);
        for slot in nowhere.into_iter().chain(forms) {
            let entry = CacheEntry { slot, length: 1 << 20, idle: 3 };
            assert_eq!(CacheEntry::decode(&entry.encode()), entry);
        }
        for kind in 0..=255 {
            let mut bytes = CacheEntry { slot: frame(FrameForm::Raw), length: 600, idle: 3 }.encode();
            bytes[7] = kind;
            let slot = CacheEntry::decode(&bytes).slot;
            assert!(!matches!(slot, CacheSlot::At(_)), "more is stored than the chunk has: {slot:?}");
        }
    }

    #[test]
    fn a_chunk_grows_idle_up_to_a_limit_and_never_less_so() {
        let at = |idle: u8| CacheEntry { slot: CacheSlot::NoRoom, length: 1, idle };
        assert_eq!([0, 7, 8, 12, 15].map(|idle| at(idle).older(8).idle), [1, 8, 8, 12, 15]);
    }
}
