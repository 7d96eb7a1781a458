//! Dumps that another job leaves in a folder: SQL files of the dump program, one or many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::names::DumpPart;
use super::own;
use super::split::Splitter;
use crate::entry::Entry;
use crate::facts::Facts;
use crate::source::external::dumps_in;
use crate::source::reading::CurrentStream;
use crate::source::{Error, Finished, Source};
use crate::time::Timestamp;
use crate::warning::{Warning, WarningKind};

/// Reads dumps from a folder, each split as one of our own.
///
/// Together they are like one dump, so each database's streams have the same names as if it had been dumped alone. Parts
/// that only one of them can have are prefixed by its file's name: the session settings of all but the first file, and
/// databases that a newer file has, too.
pub struct MysqlDumpFiles {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<CurrentFile>,
    reading: CurrentStream,
    data_time: Timestamp,
    /// The databases of the files so far.
    databases: HashSet<String>,
    /// The first file's session settings, and whether another's are different.
    settings: Option<Vec<u8>>,
    differ: bool,
    rows: u64,
    longest: u64,
    facts: Facts,
}

type DumpInput = Box<dyn FnMut(&mut [u8]) -> io::Result<usize>>;

struct CurrentFile {
    path: PathBuf,
    /// The file's name.
    name: String,
    bytes: Bytes,
}

enum Bytes {
    Dump(Box<OpenDump>),
    /// Anything else is one stream; None once that has begun to be read.
    Raw(Option<File>),
}

/// A dump, and the state of its streams.
struct OpenDump {
    splitter: Splitter<DumpInput>,
    /// The databases that are its own.
    databases: HashSet<String>,
    /// Streams by the names that the splitter gave, and those that they got.
    names: BTreeMap<String, String>,
    preamble: Vec<u8>,
}

/// How much of a file's session settings is compared, in bytes.
const SETTINGS: usize = 64 << 10;

impl MysqlDumpFiles {
    /// Finds the files of `folder`.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is none, or one can't be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (mut files, data_time) = dumps_in(folder)?;
        // Of two dumps of the same database the newer counts.
        files.sort_by_cached_key(|path| Reverse(fs::metadata(path).and_then(|about| about.modified()).ok()));
        Ok(Self {
            files: files.into_iter(),
            current: None,
            reading: CurrentStream::default(),
            data_time,
            databases: HashSet::new(),
            settings: None,
            differ: false,
            rows: 0,
            longest: 0,
            facts: Facts::default(),
        })
    }

    /// When the oldest of the files was written.
    pub fn data_time(&self) -> Timestamp {
        self.data_time
    }

    /// The next file, opened; false where there is none.
    fn open_next(&mut self) -> Result<bool, Error> {
        let Some(path) = self.files.next() else { return Ok(false) };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut file =
            File::open(&path).map_err(|error| Error::failed(&format!("opening {}", path.display()), &error))?;
        let bytes = match name.strip_suffix(".sql") {
            Some(stem) => {
                let input: DumpInput = Box::new(move |buffer| file.read(buffer));
                let splitter = Splitter::new(input, stem);
                let (databases, names, preamble) = Default::default();
                Bytes::Dump(Box::new(OpenDump { splitter, databases, names, preamble }))
            }
            None => Bytes::Raw(Some(file)),
        };
        self.current = Some(CurrentFile { path, name, bytes });
        Ok(true)
    }

    /// The name of the current file's next stream.
    fn next_name(&mut self) -> Result<Option<String>, Error> {
        let Some(CurrentFile { name: file, bytes, .. }) = &mut self.current else { return Ok(None) };
        match bytes {
            Bytes::Raw(input) => {
                let begun = self.reading.entry().is_some_and(|entry| entry.name.as_bytes() == file.as_bytes());
                Ok((input.is_some() && !begun).then(|| file.clone()))
            }
            Bytes::Dump(dump) => {
                let Some(own) = dump.splitter.next_stream().map_err(own)? else { return Ok(None) };
                let stays = match dump.splitter.part().database() {
                    None => self.settings.is_none(),
                    Some(database) => {
                        let is_new = self.databases.insert(database.to_owned());
                        if is_new {
                            dump.databases.insert(database.to_owned());
                        }
                        dump.databases.contains(database)
                    }
                };
                let name = if stays { own.clone() } else { format!("{file}/{own}") };
                dump.names.insert(own, name.clone());
                Ok(Some(name))
            }
        }
    }

    /// The end of one file: it has to be complete.
    fn close(&mut self) -> Result<(), Error> {
        let Some(CurrentFile { path, bytes: Bytes::Dump(dump), .. }) = self.current.take() else { return Ok(()) };
        let (counted, whole) = dump.splitter.finish_counts();
        if !whole {
            return Err(Error::Failed(format!(
                "{} doesn't end with the completion line, \"-- Dump completed\": it isn't whole",
                path.display()
            )));
        }
        self.rows += counted.rows.values().sum::<u64>();
        self.longest = self.longest.max(counted.longest);
        let named = |name: String| dump.names.get(&name).cloned().unwrap_or(name);
        self.facts.rows_of.extend(counted.rows.into_iter().map(|(name, rows)| (named(name).into(), rows)));
        let settings = settings(&dump.preamble);
        if !dump.databases.is_empty() {
            self.differ |= self.settings.as_ref().is_some_and(|first| *first != settings);
        }
        self.settings.get_or_insert(settings);
        Ok(())
    }
}

/// The statements of a preamble, without its comments, which name the host and the time.
fn settings(preamble: &[u8]) -> Vec<u8> {
    let lines = preamble.split(|&byte| byte == b'\n');
    let statements = lines.filter(|line| !line.is_empty() && !line.starts_with(b"--"));
    statements.flat_map(|line| line.iter().chain(b"\n")).copied().collect()
}

impl Source for MysqlDumpFiles {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            match self.next_name()? {
                Some(name) => return self.reading.begin(name),
                None => self.close()?,
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = match &mut self.current {
            Some(CurrentFile { bytes: Bytes::Dump(dump), .. }) => {
                let read = dump.splitter.read(buffer).map_err(own)?;
                if *dump.splitter.part() == DumpPart::Preamble {
                    let most = SETTINGS.saturating_sub(dump.preamble.len());
                    dump.preamble.extend_from_slice(&buffer[..read.min(most)]);
                }
                read
            }
            Some(CurrentFile { bytes: Bytes::Raw(Some(file)), path, .. }) => {
                file.read(buffer).map_err(|error| Error::failed(&format!("reading {}", path.display()), &error))?
            }
            _ => 0,
        };
        Ok(self.reading.grow(read))
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.reading.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        let mut facts = std::mem::take(&mut self.facts);
        facts.rows = Some(self.rows);
        facts.longest_statement = Some(self.longest);
        facts.settings = self.differ.then(|| "differ".into());
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        let why = "the dumps were made with different session settings, so they can be restored to files only: make them all with \
                   the same program and options";
        if self.differ { vec![WarningKind::SessionSettings.warning(why)] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn facts(folder: &Path, wanted: &str) -> Option<String> {
        let mut source = MysqlDumpFiles::open(folder).unwrap();
        while source.next().unwrap().is_some() {
            while source.read(&mut [0; 7]).unwrap() > 0 {}
        }
        let facts = source.finish().unwrap().facts.pairs();
        facts.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.raw().to_owned())
    }

    fn names(folder: &Path) -> Result<Vec<String>, Error> {
        let mut source = MysqlDumpFiles::open(folder)?;
        let mut names = Vec::new();
        while let Some(entry) = source.next()? {
            while source.read(&mut [0; 7])? > 0 {}
            assert!(source.end()?.size > 0);
            names.push(entry.name.to_string());
        }
        source.finish().map(|_| names)
    }

    #[test]
    fn several_dumps_are_as_one_and_the_newest_of_a_database_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, age: u64| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        assert!(names(folder.path()).unwrap_err().to_string().contains("there is no dump"));
        let dump = |table: &str| {
            format!(
                "SET a = 1;\n\n--\n-- Table structure for table `{table}`\n--\n\nINSERT INTO t VALUES (1);\n-- Dump completed on 2026\n"
            )
        };
        write("shop.sql", &dump("t"), 20);
        assert_eq!(names(folder.path()).unwrap(), ["@preamble.sql", "shop/t.sql"]);
        write("crm.sql", &dump("t"), 10);
        write("x.sql.gz", "\x1f", 5);
        // An older one of the same database has a table that isn't there any more.
        let old = dump("gone").replace("SET a", "-- Host: h    Database: shop\nSET a");
        write("old.sql", &old, 30);
        let all = [
            "x.sql.gz",
            "@preamble.sql",
            "crm/t.sql",
            "shop.sql/@preamble.sql",
            "shop/t.sql",
            "old.sql/@preamble.sql",
            "old.sql/shop/gone.sql",
        ];
        assert_eq!(names(folder.path()).unwrap(), all);
        assert_eq!(facts(folder.path(), "settings"), None);
        assert_eq!(facts(folder.path(), "rows old.sql/shop/gone.sql").as_deref(), Some("1"));
        write("crm.sql", &dump("t").replace("a = 1", "a = 2"), 10);
        assert_eq!(facts(folder.path(), "settings").as_deref(), Some("differ"));
        write("crm.sql", dump("t").strip_suffix("6\n").unwrap(), 10);
        assert!(names(folder.path()).unwrap_err().to_string().contains("isn't whole"));
    }
}
