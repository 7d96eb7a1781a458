//! Trees for tests: one with every kind of entry, and the way from a source to an extractor without a repository.
#![allow(dead_code)] // Each test binary uses a part.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags};
use rustix::fs::{lsetxattr, makedev, mkdirat, mknodat, openat, seek, utimensat};
use varu::entry::{Entry, Kind, StreamName};
use varu::source::files::extract::{self, Begin, ExtractOptions, Extractor};
use varu::source::files::{FilesOptions, FilesSource};
use varu::source::{Error, Source};
use varu::time::SystemClock;

/// Whether the tests run as root, and can make all that there is.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A source of one path.
pub fn source_of(path: &Path) -> FilesSource {
    source(FilesOptions { paths: vec![path.to_owned()], ..FilesOptions::default() })
}

/// A source that must begin.
pub fn source(options: FilesOptions) -> FilesSource {
    FilesSource::new(&options, &SystemClock).unwrap()
}

/// The first entry of a source that isn't a folder above the given paths.
pub fn first(source: &mut FilesSource) -> Entry {
    std::iter::from_fn(|| source.next().unwrap()).find(|entry| entry.kind != Kind::Above).unwrap()
}

/// The result of a walk.
#[derive(Default)]
pub struct Walked {
    /// All entries, after their content was read.
    pub entries: Vec<Entry>,
    /// Folders above the given paths.
    pub above: Vec<Entry>,
    /// The content of each.
    pub contents: Vec<Vec<u8>>,
    /// Streams that were skipped, with the reason.
    pub skipped: Vec<String>,
    /// All warnings.
    pub warnings: Vec<String>,
}

impl Walked {
    /// The names below `top`, as text.
    pub fn names(&self, top: &Path) -> Vec<String> {
        let top = top.as_os_str().as_bytes();
        let below = |entry: &Entry| {
            let name = [b"/", entry.name.as_bytes()].concat();
            let below = name.strip_prefix(top).map_or(&b"?"[..], |rest| rest.strip_prefix(b"/").unwrap_or(rest));
            String::from_utf8_lossy(below).into_owned()
        };
        self.entries.iter().map(below).collect()
    }

    /// The entry whose name ends so.
    pub fn entry(&self, end: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.name.as_bytes().ends_with(end.as_bytes())).unwrap()
    }
}

/// Reads all of a source.
pub fn walk(mut source: FilesSource) -> Walked {
    let mut walked = Walked::default();
    loop {
        match source.next() {
            Ok(None) => break,
            Ok(Some(entry)) if entry.kind == Kind::Above => walked.above.push(entry),
            Ok(Some(entry)) => match read(&mut source, &entry) {
                Ok((entry, content)) => {
                    walked.entries.push(entry);
                    walked.contents.push(content);
                }
                Err(error) => skip(&mut walked, error),
            },
            Err(error) => skip(&mut walked, error),
        }
    }
    source.finish().unwrap();
    walked.warnings = source.warnings().into_iter().map(|warning| warning.text).collect();
    walked
}

fn skip(walked: &mut Walked, error: Error) {
    assert!(matches!(error, Error::Skipped { .. } | Error::Vanished(_)), "{error}");
    walked.skipped.push(error.to_string());
}

/// Reads the current entry to its end.
pub fn read(source: &mut FilesSource, entry: &Entry) -> Result<(Entry, Vec<u8>), Error> {
    let (mut content, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    if !entry.kind.has_content() {
        return Ok((entry.clone(), content));
    }
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok((source.end()?, content)),
            n => content.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Writes one entry.
pub fn put(extractor: &mut Extractor, entry: &Entry, content: &[u8]) -> extract::Result<()> {
    if !entry.kind.has_content() {
        return extractor.place(entry);
    }
    if let Begin::Write(mut writer) = extractor.begin(entry)? {
        for piece in content.chunks(70_001) {
            writer.write(piece)?;
        }
        writer.finish()?;
    }
    Ok(())
}

/// Writes all entries of a walk. The errors, and the extractor's report.
pub fn extract(walked: &Walked, to: &Path, options: ExtractOptions) -> (Vec<String>, Vec<String>) {
    let mut extractor = Extractor::create(to, options).unwrap();
    let mut errors = Vec::new();
    for (entry, content) in walked.entries.iter().zip(&walked.contents) {
        errors.extend(put(&mut extractor, entry, content).err().map(|error| error.to_string()));
    }
    (errors, extractor.finish())
}

/// Options that take the path to `top` off.
pub fn stripping(top: &Path) -> ExtractOptions {
    let count = top.components().count() - 1;
    ExtractOptions { strip_components: count.try_into().unwrap(), ..ExtractOptions::default() }
}

/// A name of a stream.
pub fn name(text: impl AsRef<[u8]>) -> StreamName {
    StreamName::new(text.as_ref()).unwrap()
}

/// The differences that rsync finds between two trees: one line for each.
pub fn differences(a: &Path, b: &Path) -> String {
    let slashed = |path: &Path| {
        let mut path = path.as_os_str().to_owned();
        path.push("/");
        path
    };
    let output = Command::new("rsync")
        .args(["-naiHAXc", "--modify-window=-1", "--delete"])
        .args([slashed(a), slashed(b)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where a file's data begins and ends, and its holes.
pub fn hole_map(path: &Path) -> Vec<u64> {
    let file = File::open(path).unwrap();
    let (mut map, mut at) = (Vec::new(), 0);
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(data)).unwrap();
        map.extend([data, at]);
    }
    map.push(file.metadata().unwrap().len());
    map
}

/// Sets a time of last change to the nanosecond; a link isn't followed.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Sets an extended attribute of the entry itself.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Sets an ACL.
pub fn set_acl(path: &Path, arguments: &[&str]) {
    assert!(Command::new("setfacl").args(arguments).arg(path).status().unwrap().success());
}

/// Sets a mode.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a FIFO or device.
pub fn make_node(path: &Path, kind: FileType, device: (u32, u32)) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, makedev(device.0, device.1)).unwrap();
}

/// Makes folders one in the other until the path is `length` bytes long, with a file in the last. The file's content.
pub fn make_deep(top: &Path, length: usize) {
    let mut at = openat(CWD, top, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    let mut left = length - top.as_os_str().len() - "/f".len();
    while left > 0 {
        let most = if left - 1 > 200 { 199 } else { left - 1 };
        let part = "d".repeat(most);
        left -= most + 1;
        if left == 1 {
            left = 0;
        }
        mkdirat(&at, &part, Mode::RWXU).unwrap();
        at = openat(&at, &part, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = File::from(openat(&at, "f", flags, Mode::RUSR | Mode::WUSR).unwrap());
    file.write_all_at(b"deep", 0).unwrap();
}

/// Makes a tree with every kind of entry that the user may make.
pub fn make_everything(top: &Path) {
    make_files(top);
    make_links(top);
    make_sparse(top);
    make_special(top);
    make_deep(top, 4000);
    if is_root() {
        make_as_root(top);
    }
    set_mtime(&top.join("plain"), 1_700_000_000, 123_456_789);
    set_mtime(&top.join("folders/empty"), 1_600_000_000, 1);
    set_mtime(&top.join("folders"), 1_500_000_000, 999_999_999);
    set_mtime(top, 1_400_000_000, 5);
}

fn make_files(top: &Path) {
    fs::create_dir_all(top.join("folders/empty")).unwrap();
    fs::write(top.join("plain"), "plain").unwrap();
    fs::write(top.join("empty"), "").unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(top.join("large"), large).unwrap();
    fs::write(top.join("before 1970"), "x").unwrap();
    set_mtime(&top.join("before 1970"), -5, 7);
    for bytes in [&b"\xff\xfe not UTF-8"[..], b"new\nline", b"-dash", b" blank ", "õäöü".as_bytes(), b"back\\slash"]
    {
        fs::write(top.join(OsStr::from_bytes(bytes)), bytes).unwrap();
    }
    for mode in [if is_root() { 0o000 } else { 0o440 }, 0o400, 0o644, 0o777, 0o1644] {
        let path = top.join(format!("mode {mode:o}"));
        fs::write(&path, "x").unwrap();
        set_mode(&path, mode);
    }
    for mode in [if is_root() { 0o500 } else { 0o700 }, 0o1777] {
        let path = top.join(format!("folders/mode {mode:o}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        set_mode(&path, mode);
    }
    fs::write(top.join("attributes"), "x").unwrap();
    set_xattr(&top.join("attributes"), "user.comment", b"of a file\0\xff");
    set_xattr(&top.join("attributes"), "user.empty", b"");
    set_xattr(&top.join("folders"), "user.comment", b"of a folder");
    set_acl(&top.join("attributes"), &["-m", "u:4711:rw,g:4712:r,m::rw"]);
    set_acl(&top.join("folders"), &["-m", "u:4711:rwx,d:u:4713:rx,d:m::rwx"]);
}

fn make_links(top: &Path) {
    symlink("plain", top.join("link")).unwrap();
    symlink("/does/not/exist", top.join("absolute link")).unwrap();
    symlink(OsStr::from_bytes(b"../\xff"), top.join("folders/dangling link")).unwrap();
    set_mtime(&top.join("link"), 1_234_567_890, 987_654_321);
    fs::write(top.join("hard 1"), "hard").unwrap();
    fs::hard_link(top.join("hard 1"), top.join("hard 2")).unwrap();
    fs::hard_link(top.join("hard 1"), top.join("folders/empty.hard 3")).unwrap();
    fs::hard_link(top.join("link"), top.join("link's other name")).unwrap();
    set_mtime(&top.join("hard 1"), 1_000_000_000, 1);
}

fn make_sparse(top: &Path) {
    for (name, regions) in [
        ("sparse at its start", &[(10 << 20, 4096)][..]),
        ("sparse in between", &[(0, 5000), (1 << 20, 100_000), (8 << 20, 1)]),
        ("sparse at its end", &[(0, 4096)]),
        ("nothing but a hole", &[]),
    ] {
        let file = File::create(top.join(name)).unwrap();
        file.set_len((10 << 20) + 4096).unwrap();
        for &(offset, length) in regions {
            file.write_all_at(&vec![7; length], offset).unwrap();
        }
    }
}

fn make_special(top: &Path) {
    make_node(&top.join("fifo"), FileType::Fifo, (0, 0));
    fs::hard_link(top.join("fifo"), top.join("fifo's other name")).unwrap();
    let socket = std::env::temp_dir().join(format!("varu-test-socket-{}", std::process::id()));
    UnixListener::bind(&socket).unwrap();
    fs::rename(&socket, top.join("socket")).unwrap();
}

fn make_as_root(top: &Path) {
    make_node(&top.join("char device"), FileType::CharacterDevice, (1, 3));
    make_node(&top.join("block device"), FileType::BlockDevice, (259, 70_000));
    set_xattr(&top.join("link"), "trusted.comment", b"of a link");
    set_xattr(&top.join("fifo"), "trusted.comment", b"of a FIFO");
    for (name, owner, mode) in
        [("setuid", (1234, 4321), 0o4755), ("setgid", (65_534, 33), 0o2755), ("owned by daemon", (1, 1), 0o600)]
    {
        let path = top.join(name);
        fs::write(&path, "x").unwrap();
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        set_mode(&path, mode);
    }
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&top.join("owned by daemon"), "security.capability", &capability);
    std::os::unix::fs::lchown(top.join("absolute link"), Some(1234), Some(4321)).unwrap();
    let folder = top.join("folders/shared by a group");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(0), Some(100)).unwrap();
    set_mode(&folder, 0o2775);
    fs::write(folder.join("inside"), "x").unwrap();
}

/// Something mounted, as long as it lives.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a file system that needs no device.
    pub fn new(kind: &str, at: &Path) -> Self {
        assert!(Command::new("mount").args(["-t", kind, "none"]).arg(at).status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Runs `work` as an ordinary user: in a thread of its own, whose rights over files are those of 4711.
pub fn as_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_root() {
                nix::unistd::setfsgid(4711.into());
                nix::unistd::setfsuid(4711.into());
            }
            work()
        });
        thread.join().unwrap()
    })
}

/// A temporary folder, and its real path, in which [`as_user`] may write.
pub fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    if is_root() {
        std::os::unix::fs::chown(&path, Some(4711), Some(4711)).unwrap();
    }
    (folder, path)
}
