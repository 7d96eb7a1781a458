//! Names of objects, and the limits that a reader enforces.

use std::fmt;

use crate::id::{Hasher, PackId, SnapshotId, hex};
use crate::remote::{Folder, ObjectName};
use crate::time::Timestamp;

/// Most bytes of a key object, and of the text in it.
pub const MAX_KEY_OBJECT: u64 = 32 << 10;
/// Most key objects that a full snapshot has copies of.
pub const MAX_KEY_COPIES: usize = 16;
/// Most bytes of a snapshot's header and sealed body.
pub const MAX_SNAPSHOT_HEAD: u64 = 256 << 20;
/// Most bytes of a sealed page.
pub const MAX_PAGE: u64 = 128 << 20;
/// Most plain bytes of a page before its last record or child: each may take many times its bytes in memory.
pub const MAX_PAGE_RECORDS: usize = 256 << 10;
/// Most bytes of all names in a page, where what names share is counted each time.
pub const MAX_PAGE_NAMES: usize = 64 << 20;
/// Most extended attributes of an entry: more than a kernel lists.
pub const MAX_XATTRS: usize = 65_536;
/// Most levels of pages.
pub const MAX_HEIGHT: u8 = 8;
/// Most bytes of all pages of a layer.
pub const MAX_PAGES: u64 = 1 << 36;
/// Most bytes of a snapshot's body when decompressed.
pub const MAX_SNAPSHOT_BODY: u64 = 512 << 20;
/// Most bytes of a snapshot's body when decompressed, for each byte of its zstd frame, beyond [`FREE_SNAPSHOT_BODY`].
pub const MAX_SNAPSHOT_RATIO: u64 = 1000;
/// Bytes of a snapshot's body that may come of any frame.
pub const FREE_SNAPSHOT_BODY: u64 = 1 << 20;
/// Most bytes of a snapshot's body before its recipe.
pub const MAX_SNAPSHOT_ABOUT: usize = 4 << 20;
/// The longest name of a host, a program or an environment in it, which are held in memory of every snapshot.
pub const MAX_ABOUT_TEXT: usize = 1024;
/// Most facts of a snapshot.
pub const MAX_FACTS: usize = 131_072;
/// Most warnings of a snapshot.
pub const MAX_WARNINGS: usize = 1000;
/// Most bytes of a sealed directory or recipe copy.
pub const MAX_DIRECTORY: u64 = 1 << 30;
/// Most packs that a mark names.
pub const MAX_MARK_PACKS: usize = 65_536;
/// Most bytes of a mark.
pub const MAX_MARK_OBJECT: u64 = 4 << 20;
/// Most bytes of the pack key, wrapped to the data key.
pub const MAX_WRAPPED_KEY: usize = 1024;
/// Most segments in a pack.
pub const MAX_SEGMENTS: usize = 65_536;
/// Most chunks in a segment.
pub const MAX_SEGMENT_CHUNKS: usize = 65_536;
/// Most plain bytes of a segment.
pub const MAX_SEGMENT_BYTES: u64 = 4 << 20;
/// Most bytes of a sealed segment.
pub const MAX_SEALED_BYTES: u64 = 5 << 20;
/// Most plain bytes that a segment is based on.
pub const MAX_BASE_BYTES: u64 = 16 << 20;
/// Most base runs of a segment.
pub const MAX_BASE_RUNS: usize = 65_536;
/// Most bytes of a chunk.
pub const MAX_CHUNK: u32 = 1 << 20;
/// Most bases on a path under a segment.
pub const MAX_DEPTH: u32 = 64;
/// Most snapshots in a chain.
pub const MAX_CHAIN: u32 = 64;
/// The highest sequence of a snapshot.
pub const MAX_SEQUENCE: u64 = 1 << 48;

/// Whether a snapshot carries a complete recipe or an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotKind {
    /// A complete recipe.
    Full,
    /// An edit of the parent's recipe.
    Incremental,
}

impl SnapshotKind {
    /// The word for people and names.
    pub const fn word(self) -> &'static str {
        match self {
            SnapshotKind::Full => "full",
            SnapshotKind::Incremental => "incremental",
        }
    }
}

impl fmt::Display for SnapshotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whether `set` can name a set: `[a-z0-9][a-z0-9_.-]{0,62}`.
pub fn is_set_name(set: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-');
    let bytes = set.as_bytes();
    (1..=63).contains(&bytes.len()) && bytes.iter().all(|&byte| plain(byte)) && bytes[0].is_ascii_alphanumeric()
}

/// The path of a pack.
pub fn pack_name(id: &PackId) -> ObjectName {
    named(Folder::Packs, format!("{id}.pack"))
}

/// The pack with this path; None if the name is no pack's.
pub fn parse_pack_name(name: &ObjectName) -> Option<PackId> {
    if name.folder() != Folder::Packs {
        return None;
    }
    name.name().strip_suffix(".pack")?.parse().ok()
}

/// The parsed name of a snapshot object. The header repeats it and is authenticated; the name isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotName {
    /// When it was stored, to the second, as `20261120T010510Z`.
    pub time: String,
    /// The set.
    pub set: String,
    /// Full or incremental.
    pub kind: SnapshotKind,
    /// Its id.
    pub id: SnapshotId,
}

/// The path of a snapshot.
pub fn snapshot_name(stored: Timestamp, set: &str, kind: SnapshotKind, id: &SnapshotId) -> ObjectName {
    let time: String = stored.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    named(Folder::Snapshots, format!("{time}-{set}-{kind}-{id}"))
}

/// Takes a snapshot object's name apart; None if it is no snapshot's.
pub fn parse_snapshot_name(name: &ObjectName) -> Option<SnapshotName> {
    if name.folder() != Folder::Snapshots {
        return None;
    }
    let (rest, id) = name.name().rsplit_once('-')?;
    let (rest, kind) = rest.rsplit_once('-')?;
    let (time, set) = rest.split_once('-')?;
    let kind = match kind {
        "full" => SnapshotKind::Full,
        "incremental" => SnapshotKind::Incremental,
        _ => return None,
    };
    let (day, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let digits = |text: &str, n| text.len() == n && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(day, 8) || !digits(clock, 6) || !is_set_name(set) {
        return None;
    }
    Some(SnapshotName { time: time.to_owned(), set: set.to_owned(), kind, id: id.parse().ok()? })
}

/// The path of a key object with these bytes.
pub fn key_name(object: &[u8]) -> ObjectName {
    let mut hasher = Hasher::new();
    hasher.update(object);
    named(Folder::Keys, format!("{}.age", hex(&hasher.finish())))
}

/// Whether a name is a key object's.
pub fn is_key_name(name: &ObjectName) -> bool {
    let hash = name.name().strip_suffix(".age");
    name.folder() == Folder::Keys && hash.is_some_and(|hash| hash.parse::<PackId>().is_ok())
}

/// The path of a mark with these bytes: that of a snapshot is found by the snapshot's id.
pub fn mark_name(snapshot: Option<&SnapshotId>, object: &[u8]) -> ObjectName {
    let hash = SnapshotId::of(object);
    match snapshot {
        Some(id) => named(Folder::Marks, format!("snapshot-{id}-{hash}")),
        None => named(Folder::Marks, format!("packs-{hash}")),
    }
}

/// The snapshot that a mark is of; None if it is of packs, or the name isn't a mark's.
pub fn parse_mark_name(name: &ObjectName) -> Option<SnapshotId> {
    let (id, hash) = name.name().strip_prefix("snapshot-")?.split_once('-')?;
    hash.parse::<SnapshotId>().ok()?;
    id.parse().ok()
}

/// The text for people.
pub fn info_name() -> ObjectName {
    named(Folder::Info, "varu.toml".to_owned())
}

/// All names made here are plain: hex, digits, set names and fixed words, well below the longest name.
fn named(folder: Folder, name: String) -> ObjectName {
    ObjectName::new(folder, name).expect("a name made of checked parts is an object name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let pack = PackId::of(b"x");
        assert_eq!(parse_pack_name(&pack_name(&pack)), Some(pack));
        let id = SnapshotId::of(b"x");
        for set in ["a", "web-full", "x.y-1"] {
            let name = snapshot_name(Timestamp::from_seconds(1_800_000_000), set, SnapshotKind::Incremental, &id);
            let parsed = parse_snapshot_name(&name).unwrap();
            assert_eq!((parsed.set.as_str(), parsed.kind, parsed.id), (set, SnapshotKind::Incremental, id));
            assert_eq!(parsed.time, "20270115T080000Z");
        }
        assert!(is_key_name(&key_name(b"x")) && !is_key_name(&pack_name(&pack)));
    }

    #[test]
    fn a_mark_names_its_snapshot() {
        let id = SnapshotId::of(b"x");
        assert_eq!(parse_mark_name(&mark_name(Some(&id), b"mark")), Some(id));
        assert_eq!(parse_mark_name(&mark_name(None, b"mark")), None);
    }

    #[test]
    fn set_names_are_plain() {
        assert!(is_set_name("agama") && is_set_name("0.a-b_c") && is_set_name(&"a".repeat(63)));
        for bad in ["", "A", "-a", ".a", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_set_name(bad), "{bad:?}");
        }
    }
}
