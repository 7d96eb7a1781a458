//! Entries: the name, kind and metadata of the streams in a snapshot.

use std::cmp::Ordering;
use std::fmt;

/// Why bytes can't name a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the name of a stream is empty")]
    Empty,
    /// The name is longer than [`StreamName::MAX`] bytes.
    #[error("the name of a stream has {0} bytes; at most {max} are allowed", max = StreamName::MAX)]
    TooLong(usize),
    /// The name is absolute, or a component is empty, `.`, `..` or holds a NUL byte.
    #[error("the name of a stream leaves its folder or isn't plain: {0:?}")]
    Unsafe(String),
}

/// The name of a stream: bytes, components separated by `/`, relative, without `.` and `..`.
///
/// A name that was made by [`StreamName::new`] can't lead out of the folder that it is joined to (symbolic links that are
/// met on the way are the business of the code that writes).
///
/// Names are ordered as a walk of a tree meets them, by [`tree_order`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamName(Box<[u8]>);

impl Ord for StreamName {
    fn cmp(&self, other: &Self) -> Ordering {
        tree_order(&self.0, &other.0)
    }
}

impl PartialOrd for StreamName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether a name is that path, or one below it.
pub fn is_at_or_below(name: &[u8], path: &[u8]) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The order in which a walk meets names whose folders are sorted by bytes, a folder before its content: that of their bytes, with
/// `/` before all others.
pub fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((&a, &b)) => rank(a).cmp(&rank(b)),
        None => a.len().cmp(&b.len()),
    }
}

impl StreamName {
    /// The most bytes a name may have.
    pub const MAX: usize = 65_536;

    /// Checks `bytes` and makes them a name.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > Self::MAX {
            return Err(NameError::TooLong(bytes.len()));
        }
        let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
        if !bytes.split(|&byte| byte == b'/').all(plain) {
            return Err(NameError::Unsafe(String::from_utf8_lossy(&bytes).chars().take(200).collect()));
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, first to last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }
}

/// Shows the name with control characters, backslashes and bytes that aren't UTF-8 escaped, so that a terminal can't be
/// driven by a file's name.
impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(&self.0, f)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Writes `bytes` for people: UTF-8 as it is, all that a terminal could take for a command as `\n`, `\xNN` or `\u{N}`.
fn escape(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                // Marks that change the direction of text, line separators, and characters without width.
                '\u{061c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}' => write!(f, "{}", c.escape_unicode())?,
                c => write!(f, "{c}")?,
            }
        }
        for byte in part.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// The bytes of which `shown` is what [`Escaped`] shows; where it can't be that, `shown` itself.
pub fn unescaped(shown: &[u8]) -> Vec<u8> {
    unescape(shown).unwrap_or_else(|| shown.to_vec())
}

fn unescape(shown: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(shown.len()), shown);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            b'\\' => bytes.push(b'\\'),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            b'u' => {
                let inner = rest.strip_prefix(b"{")?;
                let end = inner.iter().position(|&byte| byte == b'}')?;
                let number = u32::from_str_radix(std::str::from_utf8(&inner[..end]).ok()?, 16).ok()?;
                bytes.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &inner[end + 1..];
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// Any bytes, shown as [`StreamName`] shows them.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0, f)
    }
}

/// Untrusted text, from an object of the repository, a server or another program. It is only shown escaped: it can't
/// control a terminal.
///
/// It derefs to nothing and gives its text by [`Untrusted::raw`] alone, for comparison and storage. To show it, format
/// it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Untrusted(String);

impl Untrusted {
    /// The text as it is: to compare it, to store it, to write it into a JSON document. Not for people.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for Untrusted {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Untrusted {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// Escaped as [`StreamName`] is.
impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0.as_bytes(), f)
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A time of a file: seconds since 1970 UTC (may be negative) and nanoseconds (below 1,000,000,000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds past `seconds`.
    pub nanoseconds: u32,
}

/// A region of a file that no block backs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where it starts, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// An extended attribute. POSIX ACLs are the attributes `system.posix_acl_access` and `system.posix_acl_default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The full name with its namespace, `user.comment`.
    pub name: Vec<u8>,
    /// The value's bytes.
    pub value: Vec<u8>,
}

/// Inode flags of files and folders, with the kernel's numbers (`FS_*_FL` in `linux/fs.h`).
pub mod flags {
    /// Neither content, nor name nor metadata may change: `chattr +i`.
    pub const IMMUTABLE: u32 = 0x10;
    /// Content may only grow: `chattr +a`.
    pub const APPEND: u32 = 0x20;
    /// Those that are stored and restored: synchronous writes (S, D), immutable (i), append only (a), no dump (d), no access times
    /// (A), and of btrfs no copy on write (C). What compresses or encrypts is the file system's own affair.
    pub const KEPT: u32 = 0x0000_0008 | IMMUTABLE | APPEND | 0x0000_0040 | 0x0000_0080 | 0x0001_0000 | 0x0080_0000;
}

/// The file system's metadata of an entry, apart from its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission, setuid, setgid and sticky bits (`mode & 0o7777`).
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, empty where the machine has none.
    pub user: Vec<u8>,
    /// The group's name, empty where the machine has none.
    pub group: Vec<u8>,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of the inode. Never restored; tells an unchanged file.
    pub ctime: FileTime,
    /// The inode's number. Never restored; tells an unchanged file.
    pub inode: u64,
    /// Inode flags as `chattr` sets them, of those that are kept: see [`flags`].
    pub flags: u32,
    /// Extended attributes, by name.
    pub xattrs: Vec<Xattr>,
    /// Holes of a sparse file, ascending, not touching.
    pub holes: Vec<Hole>,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that a program made: no metadata.
    Data,
    /// A regular file: the stream is its bytes without those of its holes.
    File,
    /// A folder.
    Directory,
    /// A folder above a given path: its metadata, and only that part of its content which other entries have.
    Above,
    /// A symbolic link and the bytes that it points to.
    Symlink(Vec<u8>),
    /// One more name of the file (regular, or a symbolic link, FIFO, socket or device) of that name, which stands earlier in
    /// the snapshot.
    Hardlink(StreamName),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device, major and minor number.
    CharDevice(u32, u32),
    /// A block device, major and minor number.
    BlockDevice(u32, u32),
}

impl Kind {
    /// Whether an entry of this kind has bytes.
    pub fn has_content(&self) -> bool {
        matches!(self, Kind::Data | Kind::File)
    }

    /// Whether it is a folder of either kind.
    pub fn is_folder(&self) -> bool {
        matches!(self, Kind::Directory | Kind::Above)
    }
}

/// One stream of a snapshot without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, unique in its snapshot.
    pub name: StreamName,
    /// Its kind.
    pub kind: Kind,
    /// Bytes of content, which holes don't belong to; 0 for kinds without content. For a stream whose length isn't known
    /// beforehand, 0 until it was read.
    pub size: u64,
    /// None for [`Kind::Data`] and [`Kind::Hardlink`].
    pub metadata: Option<Metadata>,
}

impl Entry {
    /// The holes of its file.
    pub fn holes(&self) -> &[Hole] {
        self.metadata.as_ref().map(|metadata| &metadata.holes[..]).unwrap_or_default()
    }

    /// How long its file is in bytes: content and holes.
    pub fn length(&self) -> u64 {
        self.holes().iter().fold(self.size, |length, hole| length.saturating_add(hole.length))
    }
}

/// Whether a regular file's content is what it was when `old` was stored, judged without reading it: the same length, inode,
/// time of the content's last change and time of the inode's last change. Extended attributes and holes are then the same,
/// too.
pub fn unchanged(old: &Entry, new: &Entry) -> bool {
    let (Some(before), Some(now)) = (&old.metadata, &new.metadata) else { return false };
    old.kind == Kind::File
        && new.kind == Kind::File
        // Some file systems say 0 of every file.
        && new.length() > 0
        && old.length() == new.length()
        && before.mtime == now.mtime
        && before.ctime == now.ctime
        && before.inode == now.inode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_unchanged_only_if_size_times_and_inode_are() {
        let file = |change: fn(&mut Entry, &mut Metadata)| {
            let mut metadata = Metadata { inode: 7, ..Metadata::default() };
            let name = StreamName::new("a").unwrap();
            let mut entry = Entry { name, kind: Kind::File, size: 3, metadata: None };
            change(&mut entry, &mut metadata);
            entry.metadata.get_or_insert(metadata);
            entry
        };
        let old = file(|_, _| {});
        assert!(unchanged(&old, &file(|_, metadata| metadata.mode = 0o600)));
        assert!(!unchanged(&old, &file(|entry, _| entry.size = 4)));
        assert!(!unchanged(&old, &file(|_, metadata| metadata.mtime.nanoseconds = 1)));
        assert!(!unchanged(&old, &file(|_, metadata| metadata.ctime.seconds = 1)));
        assert!(!unchanged(&old, &file(|_, metadata| metadata.inode = 8)));
        assert!(!unchanged(&old, &file(|entry, _| entry.kind = Kind::Fifo)));
        assert!(!unchanged(&Entry { metadata: None, ..old.clone() }, &old));
    }

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for bad in ["", "/", "/etc", "a//b", "a/", ".", "..", "a/../b", "./a", "a\0b"] {
            assert!(StreamName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "...", "a/..b", " ", "a\nb"] {
            assert!(StreamName::new(good).is_ok(), "{good:?}");
        }
        assert!(StreamName::new(vec![b'a'; StreamName::MAX + 1]).is_err());
    }

    #[test]
    fn untrusted_text_is_shown_escaped_whichever_way() {
        let text = Untrusted::from("a\u{1b}]0;x\u{7}\u{202e}\u{9b}2J\n");
        let shown = "a\\u{1b}]0;x\\u{7}\\u{202e}\\u{9b}2J\\n";
        assert_eq!(text.to_string(), shown);
        assert_eq!(format!("{text:?}"), format!("\"{shown}\""));
        assert_eq!(text.raw().len(), 15);
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for bytes in [&b"a/b"[..], b"a\x1b[2J\n\\\xff\xe2\x80\xae\r\t", b"\\n", b"\xc2\x85 [x]*?"] {
            assert_eq!(unescaped(Escaped(bytes).to_string().as_bytes()), bytes, "{}", Escaped(bytes));
        }
        for raw in [&b"a\\b"[..], b"a\\", b"\\x1", b"\\u{110000}", b"\\u{", b"\xff"] {
            assert_eq!(unescaped(raw), raw, "what can't be shown so is meant as it is");
        }
    }

    #[test]
    fn a_shown_name_holds_no_control_character() {
        let name = StreamName::new(b"a\x1b[2J\n\\\xff\xe2\x80\xae".to_vec()).unwrap();
        assert_eq!(name.to_string(), "a\\u{1b}[2J\\n\\\\\\xff\\u{202e}");
    }
}
