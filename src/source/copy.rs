//! Local copies: the last dumps of a set, on this machine, and the source that reads one.
//!
//! A copy is a folder named by its time. In it is one file with all streams, one after the other (for `mysql` and `postgresql`
//! that is a dump that any client loads), and a manifest that says where each begins. It gets its name when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Error, Finished, Source};
use crate::entry::{Entry, Kind, StreamName};
use crate::id::Hasher;
use crate::time::Timestamp;
use crate::warning::{Warning, WarningKind};

/// Where copies lie, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// The folder of the set's copies.
    pub folder: PathBuf,
    /// How many stay.
    pub keep: u32,
    /// How much of the file system stays free, in percent.
    pub reserve: u8,
    /// What the file of all streams is called.
    pub file: &'static str,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Its folder.
    pub path: PathBuf,
    /// When its content was true.
    pub data_time: Timestamp,
    /// Bytes of all streams.
    pub bytes: u64,
    /// How many streams there are.
    pub streams: u64,
}

/// The file of all streams, where together they are a script of SQL.
pub const SCRIPT: &str = "dump.sql";
/// As [`SCRIPT`], where they are anything else.
pub const DATA: &str = "data";
/// The file that says what they are.
const MANIFEST: &str = "manifest";
/// The manifest's first line.
const MAGIC: &str = "varu local copy 1";
/// What a copy that isn't whole ends with.
const PART: &str = ".part";

/// Makes a copy of all that `source` gives.
///
/// # Errors
/// [`Error::NoRoom`] where it would not fit, else what the source or the disk says. What was begun is gone then.
pub fn make(options: &CopyOptions, source: &mut dyn Source) -> Result<Copy, Error> {
    make_folder(&options.folder)?;
    sweep(&options.folder)?;
    check_room(options)?;
    let path = options.folder.join(format!("new{PART}"));
    let result =
        write(&path, options.file, source).and_then(|(copy, manifest)| finish(options, &path, copy, &manifest));
    if result.is_err() {
        let _ = fs::remove_dir_all(&path);
    }
    let copy = result?;
    // The one before stays until the next backup stands.
    forget(options, options.keep.saturating_add(1))?;
    Ok(copy)
}

/// Removes all copies but the newest that stay. For after a backup.
///
/// # Errors
/// [`Error::Failed`] names what could not be removed.
pub fn forget_old(options: &CopyOptions) -> Result<(), Error> {
    forget(options, options.keep)
}

fn forget(options: &CopyOptions, keep: u32) -> Result<(), Error> {
    for copy in all(&options.folder)?.into_iter().rev().skip(keep.max(1) as usize) {
        fs::remove_dir_all(&copy).map_err(|error| failed("removing the old local copy", &copy, &error))?;
    }
    Ok(())
}

/// The newest whole copy.
///
/// # Errors
/// [`Error::Failed`] where it can't be read.
pub fn newest(folder: &Path) -> Result<Option<Copy>, Error> {
    match all(folder)?.pop() {
        None => Ok(None),
        Some(path) => Ok(Some(Manifest::read(&path)?.copy(&path))),
    }
}

/// Where the copy whose content was true at `data_time` has each stream: its name, the file, and the bytes in that before it.
/// Empty where there is no such copy, or it can't be read.
pub fn streams_at(folder: &Path, data_time: Timestamp) -> Vec<(StreamName, PathBuf, u64)> {
    let whole = |path: PathBuf| Some((Manifest::read(&path).ok()?, path));
    let mut copies = all(folder).unwrap_or_default().into_iter().rev().filter_map(whole);
    let Some((manifest, path)) = copies.find(|(manifest, _)| manifest.data_time == data_time.nanos()) else {
        return Vec::new();
    };
    let mut end = 0;
    let places = manifest.streams.iter().filter_map(|(name, length)| {
        let offset = end;
        end += length;
        Some((StreamName::new(name.as_bytes()).ok()?, path.join(&manifest.file), offset))
    });
    places.collect()
}

/// Whole copies, the oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("reading the folder of local copies", folder, &error)),
    };
    let is_copy = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| Timestamp::from_compact(name).is_some()) && path.join(MANIFEST).is_file()
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_copy).collect();
    paths.sort();
    Ok(paths)
}

/// Removes what a run that was cut has left.
fn sweep(folder: &Path) -> Result<(), Error> {
    let part = folder.join(format!("new{PART}"));
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &part, &error)),
        _ => Ok(()),
    }
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed("making the folder of local copies", folder, &error))
}

/// Whether 1.2 × the last copy fits, and the reserve stays.
///
/// # Errors
/// [`Error::NoRoom`] where it doesn't.
pub fn check_room(options: &CopyOptions) -> Result<(), Error> {
    let last = newest(&options.folder).ok().flatten().map_or(0, |copy| copy.bytes);
    let about = rustix::fs::statvfs(&options.folder)
        .map_err(|error| failed("asking for the free space of", &options.folder, &error.into()))?;
    let free = u128::from(about.f_bavail) * u128::from(about.f_frsize);
    let reserve = u128::from(about.f_blocks) * u128::from(about.f_frsize) * u128::from(options.reserve) / 100;
    let needed = u128::from(last) * 12 / 10;
    if free < needed + reserve {
        return Err(Error::NoRoom(format!(
            "{} has {free} bytes free, and a dump needs {needed} (1.2 × the last) beside the {} % that stay free \
             (local_reserve, {reserve} bytes): make room there, or move local_copy",
            options.folder.display(),
            options.reserve
        )));
    }
    Ok(())
}

fn failed(tried: &str, path: &Path, error: &io::Error) -> Error {
    Error::failed(&format!("{tried} {}", path.display()), error)
}

/// What a copy holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Manifest {
    /// The file of all streams.
    file: String,
    data_time: i64,
    hash: String,
    /// Each stream's name and length, in order.
    streams: Vec<(String, u64)>,
    facts: Vec<(String, String)>,
    warnings: Vec<Warning>,
}

impl Manifest {
    fn copy(&self, path: &Path) -> Copy {
        Copy {
            path: path.to_owned(),
            data_time: Timestamp::from_nanos(self.data_time),
            bytes: self.streams.iter().map(|(_, length)| length).sum(),
            streams: self.streams.len() as u64,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{MAGIC}\nfile\t{}\ndata_time\t{}\nhash\t{}\n", self.file, self.data_time, self.hash);
        self.streams.iter().for_each(|(name, length)| text += &format!("stream\t{length}\t{}\n", escaped(name)));
        self.facts.iter().for_each(|(key, value)| text += &format!("fact\t{}\t{}\n", escaped(key), escaped(value)));
        self.warnings.iter().for_each(|warning| {
            text += &format!("warning\t{}\t{}\n", warning.kind.name(), escaped(&warning.text));
        });
        text + "end\n"
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let file = path.join(MANIFEST);
        let text = fs::read_to_string(&file).map_err(|error| failed("reading", &file, &error))?;
        Self::parse(&text)
            .ok_or_else(|| Error::Failed(format!("{} can't be understood: make a new dump", file.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("end\n")?.lines();
        (lines.next()? == MAGIC).then_some(())?;
        let mut manifest = Self { file: SCRIPT.to_owned(), ..Self::default() };
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            match columns.as_slice() {
                ["file", file] => manifest.file = (*file).to_owned(),
                ["data_time", nanos] => manifest.data_time = nanos.parse().ok()?,
                ["hash", hash] => manifest.hash = (*hash).to_owned(),
                ["stream", length, name] => manifest.streams.push((unescaped(name), length.parse().ok()?)),
                ["fact", key, value] => manifest.facts.push((unescaped(key), unescaped(value))),
                ["warning", kind, text] => manifest.warnings.push(WarningKind::named(kind)?.warning(unescaped(text))),
                _ => return None,
            }
        }
        Some(manifest)
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                other => out.extend(other),
            },
            (c, _) => out.push(c),
        }
    }
    out
}

fn create(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| failed("making", path, &error))
}

/// Writes all streams. Whether the source was whole is known at its end.
fn write(path: &Path, file: &str, source: &mut dyn Source) -> Result<(Copy, Manifest), Error> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| failed("making", path, &error))?;
    let data = path.join(file);
    let mut out = BufWriter::with_capacity(1 << 20, create(&data)?);
    let mut manifest = Manifest { file: file.to_owned(), ..Manifest::default() };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let failed = |error: io::Error| failed("writing", &data, &error);
    while let Some(entry) = source.next()? {
        let mut length = 0;
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            out.write_all(&buffer[..read]).map_err(failed)?;
            length += read as u64;
        }
        source.end()?;
        let name = String::from_utf8(entry.name.as_bytes().to_vec());
        let name =
            name.map_err(|_| Error::Failed(format!("{} is no text, so it has no place in a local copy", entry.name)))?;
        manifest.streams.push((name, length));
    }
    let Finished { data_time, facts } = source.finish()?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    manifest.data_time = data_time.nanos();
    manifest.hash = hex(&hasher.finish_short());
    manifest.facts = facts;
    manifest.warnings = source.warnings();
    Ok((manifest.copy(path), manifest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives a whole copy its name.
fn finish(options: &CopyOptions, part: &Path, copy: Copy, manifest: &Manifest) -> Result<Copy, Error> {
    let file = part.join(MANIFEST);
    let mut out = create(&file)?;
    out.write_all(manifest.text().as_bytes())
        .and_then(|()| out.sync_all())
        .map_err(|error| failed("writing", &file, &error))?;
    let mut time = copy.data_time;
    let path = loop {
        let path = options.folder.join(time.compact());
        if !path.exists() {
            break path;
        }
        time = time.after(std::time::Duration::from_secs(1));
    };
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
    sync(part).map_err(|error| failed("writing", part, &error))?;
    fs::rename(part, &path).map_err(|error| failed("naming", &path, &error))?;
    sync(&options.folder).map_err(|error| failed("writing", &options.folder, &error))?;
    Ok(Copy { path, ..copy })
}

/// Reads a copy.
pub struct CopySource {
    path: PathBuf,
    data: BufReader<File>,
    manifest: Manifest,
    next: usize,
    left: u64,
    hasher: Option<Hasher>,
}

impl CopySource {
    /// Opens a copy.
    ///
    /// # Errors
    /// [`Error::Failed`] where it can't be read, or isn't as long as it was.
    pub fn open(copy: &Copy) -> Result<Self, Error> {
        let manifest = Manifest::read(&copy.path)?;
        let path = copy.path.join(&manifest.file);
        let file = File::open(&path).map_err(|error| failed("opening", &path, &error))?;
        let length = file.metadata().map_err(|error| failed("looking at", &path, &error))?.len();
        if length != copy.bytes {
            return Err(Error::Failed(format!(
                "the local copy {} has {length} bytes and had {} when it was made: make a new dump",
                path.display(),
                copy.bytes
            )));
        }
        let data = BufReader::with_capacity(1 << 18, file);
        Ok(Self { path, data, manifest, next: 0, left: 0, hasher: Some(Hasher::new()) })
    }

    fn entry(&self, number: usize) -> Result<Entry, Error> {
        let (name, size) = &self.manifest.streams[number];
        let name = StreamName::new(name.as_bytes()).map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Entry { name, kind: Kind::Data, size: *size, metadata: None })
    }
}

impl Source for CopySource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut rest = [0; 1 << 12];
        while self.read(&mut rest)? > 0 {}
        if self.next == self.manifest.streams.len() {
            return Ok(None);
        }
        let entry = self.entry(self.next)?;
        self.left = entry.size;
        self.next += 1;
        Ok(Some(entry))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.data.read(&mut buffer[..most]).map_err(|error| failed("reading", &self.path, &error))?;
        if read == 0 && most > 0 {
            return Err(Error::Failed(format!("{} ends too early", self.path.display())));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        self.left -= read as u64;
        Ok(read)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.entry(self.next.saturating_sub(1))
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        let hash = self.hasher.take().map(|hasher| hex(&hasher.finish_short())).unwrap_or_default();
        if hash != self.manifest.hash {
            return Err(Error::Failed(format!(
                "the local copy {} isn't what was dumped: it was changed since; make a new dump",
                self.path.display()
            )));
        }
        let data_time = Timestamp::from_nanos(self.manifest.data_time);
        Ok(Finished { data_time, facts: self.manifest.facts.clone() })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.manifest.warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two(u32, Option<&'static [u8]>, bool);

    impl Source for Two {
        fn next(&mut self) -> Result<Option<Entry>, Error> {
            self.0 += 1;
            self.1 = [&b"one\n"[..], b"second"].get(self.0 as usize - 1).copied();
            let name = StreamName::new(format!("s\t{}", self.0)).unwrap();
            Ok(self.1.map(|_| Entry { name, kind: Kind::Data, size: 0, metadata: None }))
        }
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
            let bytes = self.1.replace(b"").unwrap();
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
        fn end(&mut self) -> Result<Entry, Error> {
            Ok(Entry { name: StreamName::new("x").unwrap(), kind: Kind::Data, size: 0, metadata: None })
        }
        fn finish(&mut self) -> Result<Finished, Error> {
            match self.2 {
                true => Ok(Finished {
                    data_time: Timestamp::from_seconds(1_800_000_000),
                    facts: vec![("a".into(), "b\n\\".into())],
                }),
                false => Err(Error::Failed("not whole".into())),
            }
        }
        fn warnings(&mut self) -> Vec<Warning> {
            vec![WarningKind::Packed.warning("w")]
        }
    }

    type Streams = Vec<(String, Vec<u8>)>;

    fn read_all(copy: &Copy) -> Result<(Streams, Finished), Error> {
        let mut source = CopySource::open(copy)?;
        let mut all = Vec::new();
        while let Some(entry) = source.next()? {
            let mut bytes = vec![0; 100];
            let length = source.read(&mut bytes)?;
            bytes.truncate(length);
            all.push((String::from_utf8(entry.name.as_bytes().to_vec()).unwrap(), bytes));
        }
        let finished = source.finish()?;
        assert_eq!(source.warnings(), [WarningKind::Packed.warning("w")]);
        Ok((all, finished))
    }

    #[test]
    fn a_copy_gives_back_what_was_dumped_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let options = CopyOptions { folder: folder.path().join("copies"), keep: 1, reserve: 0, file: DATA };
        assert_eq!(newest(&options.folder).unwrap(), None);
        let made = make(&options, &mut Two(0, None, true)).unwrap();
        assert_eq!(newest(&options.folder).unwrap().unwrap(), made);
        let (streams, finished) = read_all(&made).unwrap();
        assert_eq!(streams, [("s\t1".to_owned(), b"one\n".to_vec()), ("s\t2".to_owned(), b"second".to_vec())]);
        assert_eq!(finished.facts, [("a".to_owned(), "b\n\\".to_owned())]);
        assert!(make(&options, &mut Two(0, None, false)).is_err());
        assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 1, "nothing of what failed stays");
        let second = make(&options, &mut Two(0, None, true)).unwrap();
        make(&options, &mut Two(0, None, true)).unwrap();
        assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 2, "the one before stays");
        forget_old(&options).unwrap();
        assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 1);
        assert!(!second.path.exists() && !made.path.exists());
    }

    #[test]
    fn a_copy_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let options = CopyOptions { folder: folder.path().to_owned(), keep: 1, reserve: 0, file: DATA };
        let made = make(&options, &mut Two(0, None, true)).unwrap();
        fs::write(made.path.join(DATA), b"one\nsecone").unwrap();
        assert!(read_all(&made).unwrap_err().to_string().contains("changed since"));
        fs::write(made.path.join(DATA), b"one\n").unwrap();
        assert!(read_all(&made).unwrap_err().to_string().contains("has 4 bytes and had 10"));
        fs::write(made.path.join(MANIFEST), "varu local copy 1\n").unwrap();
        assert!(newest(folder.path()).is_err());
    }

    #[test]
    fn a_reserve_that_can_not_be_kept_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = CopyOptions { folder: folder.path().to_owned(), keep: 1, reserve: 100, file: DATA };
        assert!(matches!(make(&options, &mut Two(0, None, true)), Err(Error::NoRoom(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
