//! First sightings of files that are no objects: when the host first saw each, and its state then.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::area::{FileKind, Inode, NamedFile};
use super::checkpoints::Checkpoints;
use super::failed;
use crate::disk::NewFile;
use crate::error::Result;
use crate::id::{Hasher, decode_hex, hex};
use crate::time::Timestamp;

/// The longest line.
const MOST_LINE: u64 = 256;
/// A file that was changed so shortly before it was looked at may be changed again within one tick of the kernel's clock.
const TICK: i64 = 2_000_000_000;

/// One name with one inode.
type SightKey = ([u8; 16], u64);

#[derive(Debug, Clone, Copy)]
struct Sight {
    first: Timestamp,
    /// Size and last change when it was found to be no object; None if it may have changed since.
    judged: Option<(u64, i64)>,
}

/// Files seen in earlier runs, and in this one.
pub(super) struct Sightings {
    path: PathBuf,
    before: HashMap<SightKey, Sight>,
    now: HashMap<SightKey, Sight>,
}

impl Sightings {
    /// Reads the sightings of earlier runs. Unparsable lines are skipped: their files are seen for the first time again.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("seen");
        let before = match File::open(&path) {
            Ok(file) => read(&mut BufReader::new(file)).map_err(|error| failed("reading", &path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(failed("reading", &path, error)),
        };
        Ok(Self { path, before, now: HashMap::new() })
    }

    /// Whether it was found to be no object, and nobody has changed it since.
    pub(super) fn is_judged(&self, found: &NamedFile) -> bool {
        let inode = inode(found);
        let judged = self.before.get(&key(found)).and_then(|sight| sight.judged);
        inode.is_some_and(|inode| judged == Some((inode.size, inode.changed)))
    }

    /// Records a file that is no object. Returns when it was first seen.
    pub(super) fn judge(&mut self, found: &NamedFile, now: Timestamp) -> Timestamp {
        let key = key(found);
        let first = self.before.get(&key).map_or(now, |sight| sight.first);
        let settled = |inode: &Inode| inode.changed < now.nanos().saturating_sub(TICK);
        let judged = inode(found).filter(settled).map(|inode| (inode.size, inode.changed));
        self.now.insert(key, Sight { first, judged });
        first
    }

    /// Keeps the files that this run saw, and forgets the others.
    pub(super) fn save(&self, steps: &dyn Checkpoints) -> Result<()> {
        let write = || -> io::Result<()> {
            steps.before("writing what was seen")?;
            let new = NewFile::beside(&self.path, 0o600)?;
            let mut file = BufWriter::new(new.as_file());
            for ((name, number), sight) in &self.now {
                let (size, changed) = sight.judged.map_or((String::from("-"), 0), |(size, at)| (size.to_string(), at));
                writeln!(file, "{} {} {number} {size} {changed}", sight.first.nanos(), hex(name))?;
            }
            file.flush()?;
            drop(file);
            steps.before("replacing what was seen")?;
            new.replace()
        };
        write().map_err(|error| failed("writing", &self.path, error))
    }
}

fn inode(found: &NamedFile) -> Option<Inode> {
    match found.what {
        FileKind::Ours(inode) | FileKind::Theirs(inode) => Some(inode),
        FileKind::Strange(_) => None,
    }
}

fn key(found: &NamedFile) -> SightKey {
    let mut hasher = Hasher::new();
    hasher.update(found.to_string().as_bytes());
    (hasher.finish_short(), inode(found).map_or(0, |inode| inode.number))
}

fn read(file: &mut impl BufRead) -> io::Result<HashMap<SightKey, Sight>> {
    let (mut before, mut line) = (HashMap::new(), Vec::new());
    loop {
        line.clear();
        if file.take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(before);
        }
        before.extend(std::str::from_utf8(&line).ok().and_then(parse));
    }
}

fn parse(line: &str) -> Option<(SightKey, Sight)> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let first = Timestamp::from_nanos(words.next()?.parse().ok()?);
    let mut name = [0; 16];
    decode_hex(words.next()?, &mut name).then_some(())?;
    let number = words.next()?.parse().ok()?;
    let judged = match (words.next()?, words.next()?) {
        ("-", _) => None,
        (size, changed) => Some((size.parse().ok()?, changed.parse().ok()?)),
    };
    Some(((name, number), Sight { first, judged }))
}
