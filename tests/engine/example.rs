//! The committed example, `tests/example/`: a small repository, its keys, and its contents. This program must read it
//! for ever; `tests/engine/format_by_hand.rs` reads it with the help of `docs/format.md` alone.
//!
//! `VARU_WRITE_EXAMPLE=1 cargo test --test engine example` makes it anew. That is for a change of the format, while there may be one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use support::*;
use varu::backup::{BackupOptions, WantedKind, backup};
use varu::chunker::ChunkSizes;
use varu::entry::{Entry, FileTime, Hole, Kind, Metadata, StreamName, Xattr};
use varu::facts::{Facts, Range};
use varu::progress::{Counts, Interrupt};
use varu::remote::local::LocalRemote;
use varu::source::{self, Finished, Source, Target};
use varu::time::Timestamp;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/example")
}

type Streams = Vec<(Entry, Vec<u8>)>;

/// Gives entries with their metadata and content.
struct Listed {
    streams: std::vec::IntoIter<(Entry, Vec<u8>)>,
    current: Option<(Entry, Vec<u8>, usize)>,
    data_time: Timestamp,
}

impl Source for Listed {
    fn next(&mut self) -> Result<Option<Entry>, source::Error> {
        self.current = self.streams.next().map(|(entry, bytes)| (entry, bytes, 0));
        Ok(self.current.as_ref().map(|(entry, ..)| entry.clone()))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, source::Error> {
        let (_, bytes, at) = self.current.as_mut().unwrap();
        let length = buffer.len().min(bytes.len() - *at);
        buffer[..length].copy_from_slice(&bytes[*at..*at + length]);
        *at += length;
        Ok(length)
    }

    fn end(&mut self) -> Result<Entry, source::Error> {
        Ok(self.current.as_ref().unwrap().0.clone())
    }

    fn finish(&mut self) -> Result<Finished, source::Error> {
        let facts = Facts {
            rows: Some(12),
            server: Some("MariaDB".into()),
            points_until: Some(self.data_time),
            rows_of: [("shop/table.sql".into(), 12)].into(),
            points: [("autogen/cpu".into(), Range { least: 5, most: 7 })].into(),
            ..Facts::default()
        };
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<varu::warning::Warning> {
        Vec::new()
    }
}

/// Keeps entries and content in order.
#[derive(Default)]
struct Kept(Streams);

impl Target for Kept {
    fn wants(&mut self, _: &Entry) -> Result<bool, source::Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), source::Error> {
        self.0.push((entry.clone(), Vec::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), source::Error> {
        self.0.last_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), source::Error> {
        Ok(())
    }

    fn abandon(&mut self) {
        unreachable!("nothing in the example is damaged");
    }

    fn finish(&mut self) -> Result<Vec<varu::warning::Warning>, source::Error> {
        Ok(Vec::new())
    }
}

// ---- What is in it -------------------------------------------------------------------------------------------------

/// A dump on a day: rows change, rows come, and on the third day two parts change places. From the second day on another dump
/// comes between the two, which has the last name.
fn dump(day: u32) -> Streams {
    let rows = |range: std::ops::Range<u32>| -> Vec<u8> {
        let row = |n: u32| {
            let touched = if n % 53 == 7 * day % 53 { day } else { 0 };
            format!("({n},'Tamm, Mari {}','Pikk {}',{touched}),\n", n.wrapping_mul(2_654_435_761) >> 12, n * 7 % 90)
        };
        range.flat_map(|n| row(n).into_bytes()).collect()
    };
    let text = match day {
        0..=2 => rows(0..150 + 4 * day),
        _ => [rows(80..150 + 4 * day), rows(0..80)].concat(),
    };
    let entry =
        |name: &str, size| Entry { name: StreamName::new(name).unwrap(), kind: Kind::Data, size, metadata: None };
    let mut dumps = vec![(entry("agama.sql", text.len() as u64), text), (entry("empty.sql", 0), Vec::new())];
    if day > 0 {
        let text = b"CREATE TABLE z (id INT);\n".to_vec();
        dumps.insert(1, (entry("z.sql", text.len() as u64), text));
    }
    dumps
}

/// A tree with every kind of entry, and with more than a leaf holds. On the second day a file changed, one came, one went; on the
/// third a mode changed and nothing else, and on the fourth a file changed again.
fn tree(day: u32) -> Streams {
    let time = |seconds| FileTime { seconds, nanoseconds: 123_456_789 };
    let metadata = |mode, inode| Metadata {
        mode,
        uid: 1000,
        gid: 4_000_000_000,
        user: b"mari".to_vec(),
        group: Vec::new(),
        mtime: time(1_700_000_000),
        ctime: FileTime { seconds: -1, nanoseconds: 999_999_999 },
        inode,
        flags: 0,
        xattrs: Vec::new(),
        holes: Vec::new(),
    };
    let mut streams = Vec::new();
    let mut add = |name: &[u8], kind: Kind, bytes: Vec<u8>, metadata: Option<Metadata>| {
        let entry = Entry { name: StreamName::new(name).unwrap(), kind, size: bytes.len() as u64, metadata };
        streams.push((entry, bytes));
    };
    add(b"etc", Kind::Directory, Vec::new(), Some(metadata(0o755, 1)));
    let last_change = if day == 2 { 1 } else { day };
    let hosts = format!("127.0.0.1 localhost\n192.0.2.{last_change} db\n").into_bytes();
    add(
        b"etc/hosts",
        Kind::File,
        hosts,
        Some(Metadata { mtime: time(1_700_000_000 + i64::from(last_change)), ..metadata(0o644, 2) }),
    );
    add(b"etc/hosts.too", Kind::Hardlink(StreamName::new("etc/hosts").unwrap()), Vec::new(), None);
    add(b"etc/mtab", Kind::Symlink(b"../proc/self/mounts".to_vec()), Vec::new(), Some(metadata(0o777, 3)));
    let sparse = [noise(300, 1), noise(100, 2)].concat();
    let holes = vec![Hole { offset: 300, length: 2000 }, Hole { offset: 2400, length: 1000 }];
    let xattrs = vec![
        Xattr { name: b"security.capability".to_vec(), value: vec![0, 1, 255] },
        Xattr { name: b"user.comment".to_vec(), value: Vec::new() },
    ];
    add(b"etc/sparse", Kind::File, sparse, Some(Metadata { flags: 0x90, xattrs, holes, ..metadata(0o4755, 4) }));
    match day {
        0 => add(b"etc/went", Kind::File, b"soon gone\n".to_vec(), Some(metadata(0o600, 5))),
        _ => add(b"etc/came", Kind::File, Vec::new(), Some(metadata(0o600, 6))),
    }
    add(b"notes", Kind::Directory, Vec::new(), Some(metadata(if day < 2 { 0o700 } else { 0o750 }, 11)));
    // Behind all that is in the folder.
    add(b"notes.txt", Kind::File, Vec::new(), Some(metadata(0o600, 12)));
    for number in 0..60 {
        let note = Xattr { name: b"user.note".to_vec(), value: format!("{number} ").repeat(200).into_bytes() };
        let metadata = Metadata { xattrs: vec![note], ..metadata(0o600, 20 + number) };
        add(format!("notes/{number:02}").as_bytes(), Kind::Fifo, Vec::new(), Some(metadata));
    }
    add(b"run/caf\xe9", Kind::Fifo, Vec::new(), Some(metadata(0o660, 7)));
    add(b"run/null", Kind::CharDevice(1, 3), Vec::new(), Some(metadata(0o666, 8)));
    add(b"run/sda", Kind::BlockDevice(8, 1000), Vec::new(), Some(metadata(0o660, 9)));
    add(b"run/socket", Kind::Socket, Vec::new(), Some(metadata(0o700, 10)));
    streams.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    streams
}

/// The snapshots, in their order: set, kind, day.
const SNAPSHOTS: [(&str, WantedKind, u32); 9] = [
    ("dump", WantedKind::Full, 0),
    ("dump", WantedKind::Incremental, 1),
    ("tree", WantedKind::Full, 0),
    ("dump", WantedKind::Incremental, 2),
    ("tree", WantedKind::Incremental, 1),
    ("dump", WantedKind::Full, 3),
    ("dump", WantedKind::Rebase, 3),
    ("tree", WantedKind::Incremental, 2),
    ("tree", WantedKind::Incremental, 3),
];

fn streams(set: &str, day: u32) -> Streams {
    if set == "tree" { tree(day) } else { dump(day) }
}

/// All that is known of the streams, one line each.
fn listing(streams: &Streams) -> String {
    let mut text = String::new();
    for (entry, bytes) in streams {
        let (kind, target) = match &entry.kind {
            Kind::Data => (0, String::new()),
            Kind::File => (1, String::new()),
            Kind::Directory => (2, String::new()),
            Kind::Above => (9, String::new()),
            Kind::Symlink(target) => (3, target.escape_ascii().to_string()),
            Kind::Hardlink(target) => (4, target.as_bytes().escape_ascii().to_string()),
            Kind::Fifo => (5, String::new()),
            Kind::Socket => (6, String::new()),
            Kind::CharDevice(major, minor) => (7, format!("{major}:{minor}")),
            Kind::BlockDevice(major, minor) => (8, format!("{major}:{minor}")),
        };
        write!(text, "{} kind={kind} target={target} size={}", entry.name.as_bytes().escape_ascii(), bytes.len())
            .unwrap();
        if let Some(metadata) = &entry.metadata {
            write!(
                text,
                " mode={:o} owner={}:{} {}:{} mtime={}.{:09} ctime={}.{:09} inode={} flags={:#x}",
                metadata.mode,
                metadata.uid,
                metadata.gid,
                metadata.user.escape_ascii(),
                metadata.group.escape_ascii(),
                metadata.mtime.seconds,
                metadata.mtime.nanoseconds,
                metadata.ctime.seconds,
                metadata.ctime.nanoseconds,
                metadata.inode,
                metadata.flags
            )
            .unwrap();
            for xattr in &metadata.xattrs {
                write!(text, " {}={}", xattr.name.escape_ascii(), xattr.value.escape_ascii()).unwrap();
            }
            for hole in &metadata.holes {
                write!(text, " hole={}+{}", hole.offset, hole.length).unwrap();
            }
        }
        text.push('\n');
    }
    text
}

// ---- Writing and reading it ----------------------------------------------------------------------------------------

/// Creates the whole folder again.
fn write_example() {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    let remote = Arc::new(LocalRemote::create(folder.join("repository")).unwrap());
    let owner = Owner::create_with(&*remote, ChunkSizes { min: 64, average: 256, max: 1024 });
    std::fs::write(folder.join("identity.txt"), &owner.identity).unwrap();
    std::fs::write(folder.join("writer.key"), &owner.writer_key).unwrap();
    let state = tempfile::tempdir().unwrap();
    let writer = owner.writer(remote, state.path());
    let clock = TestClock::at(MONDAY);
    for (number, (set, wanted, day)) in SNAPSHOTS.into_iter().enumerate() {
        let options = BackupOptions {
            set: set.to_owned(),
            wanted,
            tags: if number == 1 { vec!["pre-deploy".into(), "monthly".into()] } else { Vec::new() },
            environment: "production".to_owned(),
            configuration: b"[repository]\nurl = \"/srv/vault\"\n".to_vec(),
            ..options()
        };
        let streams = streams(set, day);
        let data_time = Timestamp::from_seconds(MONDAY - 10 + i64::from(day) * 86_400);
        let mut source = Listed { streams: streams.clone().into_iter(), current: None, data_time };
        backup(&writer, &mut source, &options, &clock, &Counts::default(), &Interrupt::default()).unwrap();
        let expected = folder.join(format!("expected/{}", number + 1));
        std::fs::create_dir_all(&expected).unwrap();
        std::fs::write(expected.join("listing.txt"), listing(&streams)).unwrap();
        for (number, (_, bytes)) in streams.iter().enumerate().filter(|(_, (entry, _))| entry.size > 0) {
            std::fs::write(expected.join(format!("{number}.bytes")), bytes).unwrap();
        }
        clock.advance(Duration::from_secs(86_400));
    }
    for empty in ["pending", "marks"] {
        std::fs::write(folder.join("repository").join(empty).join(".keep"), "").unwrap();
    }
}

#[test]
fn the_example_restores_as_it_was_made() {
    if std::env::var_os("VARU_WRITE_EXAMPLE").is_some() {
        write_example();
    }
    let folder = folder();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let owner = Owner { identity: read("identity.txt"), writer_key: read("writer.key") };
    let state = tempfile::tempdir().unwrap();
    let remote = Arc::new(LocalRemote::open(folder.join("repository")).unwrap());
    let reader = owner.reader(remote, state.path()).unwrap();
    support::vault::assert_whole(&reader);
    let rows = reader.index().snapshots().unwrap();
    assert_eq!(rows.len(), SNAPSHOTS.len());
    for (row, (set, _, day)) in rows.iter().zip(SNAPSHOTS) {
        let mut target = Kept::default();
        let (clock, progress, interrupt) = (TestClock::at(MONDAY), Counts::default(), Interrupt::default());
        let report =
            varu::restore::restore(&reader, row, &|_| true, &mut target, &clock, &progress, &interrupt).unwrap();
        assert_eq!((report.damaged, report.warnings), (Vec::new(), Vec::new()));
        assert_eq!(row.header.set, set);
        let expected = format!("expected/{}", row.header.sequence);
        assert_eq!(listing(&target.0), read(&format!("{expected}/listing.txt")));
        assert_eq!(target.0, streams(set, day));
        for (number, (_, bytes)) in target.0.iter().enumerate().filter(|(_, (entry, _))| entry.size > 0) {
            assert_eq!(*bytes, std::fs::read(folder.join(format!("{expected}/{number}.bytes"))).unwrap());
        }
    }
    // The example contains everything that it is to show.
    let packs = reader.index().packs().unwrap();
    let depths = packs.iter().flat_map(|pack| {
        let directory = reader.index().directory(pack.number).unwrap().unwrap();
        directory.segments.iter().map(|segment| segment.depth).collect::<Vec<_>>()
    });
    assert!(depths.max() >= Some(2), "segments stand on based segments");
}
