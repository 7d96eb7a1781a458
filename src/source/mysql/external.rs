//! Dumps that another job leaves in a folder: SQL files of the dump program, one or many.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::own;
use super::split::Splitter;
use crate::entry::Entry;
use crate::source::external::dumps_in;
use crate::source::reading::Reading;
use crate::source::{Error, Finished, Source};
use crate::time::Timestamp;
use crate::warning::Warning;

/// Reads dumps from a folder, each split as one of our own. Where there are several, each one's streams stand below its name.
pub struct ExternalDumps {
    files: std::vec::IntoIter<PathBuf>,
    many: bool,
    current: Option<Current>,
    reading: Reading,
    data_time: Timestamp,
    rows: u64,
    longest: u64,
    facts: Vec<(String, String)>,
}

type Input = Box<dyn FnMut(&mut [u8]) -> io::Result<usize>>;

struct Current {
    path: PathBuf,
    prefix: String,
    bytes: Bytes,
}

enum Bytes {
    Dump(Box<Splitter<Input>>),
    /// Anything else is one stream.
    Raw(Option<File>),
}

impl ExternalDumps {
    /// Finds the files of `folder`.
    ///
    /// # Errors
    /// [`Error::Failed`] where there is none, or one can't be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (files, data_time) = dumps_in(folder)?;
        let many = files.len() > 1;
        let (current, reading, facts) = (None, Reading::default(), Vec::new());
        Ok(Self { files: files.into_iter(), many, current, reading, data_time, rows: 0, longest: 0, facts })
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
        let prefix = if self.many { format!("{name}/") } else { String::new() };
        let (prefix, bytes) = match name.strip_suffix(".sql") {
            Some(stem) => {
                let input: Input = Box::new(move |buffer| file.read(buffer));
                (prefix, Bytes::Dump(Box::new(Splitter::new(input, stem))))
            }
            None => (name, Bytes::Raw(Some(file))),
        };
        self.current = Some(Current { path, prefix, bytes });
        Ok(true)
    }

    /// The end of one file: it has to be whole.
    fn close(&mut self) -> Result<(), Error> {
        let Some(Current { path, prefix, bytes: Bytes::Dump(splitter) }) = self.current.take() else { return Ok(()) };
        let (counted, whole) = splitter.finish_counts();
        if !whole {
            return Err(Error::Failed(format!(
                "{} doesn't end with the completion line, \"-- Dump completed\": it isn't whole",
                path.display()
            )));
        }
        self.rows += counted.rows.values().sum::<u64>();
        self.longest = self.longest.max(counted.longest);
        let rows = counted.rows.into_iter().map(|(name, rows)| (format!("rows {prefix}{name}"), rows.to_string()));
        self.facts.extend(rows);
        Ok(())
    }
}

impl Source for ExternalDumps {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let name = match &mut self.current {
                None => None,
                Some(Current { prefix, bytes: Bytes::Dump(splitter), .. }) => {
                    splitter.next_stream().map_err(own)?.map(|name| format!("{prefix}{name}"))
                }
                Some(Current { prefix, bytes: Bytes::Raw(file), .. }) => {
                    let fresh = file.is_some()
                        && self.reading.entry().is_none_or(|entry| entry.name.as_bytes() != prefix.as_bytes());
                    fresh.then(|| prefix.clone())
                }
            };
            let Some(name) = name else {
                self.close()?;
                continue;
            };
            return self.reading.begin(name);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = match &mut self.current {
            Some(Current { bytes: Bytes::Dump(splitter), .. }) => splitter.read(buffer).map_err(own)?,
            Some(Current { bytes: Bytes::Raw(Some(file)), path, .. }) => {
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
        facts.push(("rows".to_owned(), self.rows.to_string()));
        facts.push(("longest_statement".to_owned(), self.longest.to_string()));
        facts.sort();
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Result<Vec<String>, Error> {
        let mut source = ExternalDumps::open(folder)?;
        let mut names = Vec::new();
        while let Some(entry) = source.next()? {
            while source.read(&mut [0; 7])? > 0 {}
            assert!(source.end()?.size > 0);
            names.push(entry.name.to_string());
        }
        source.finish().map(|_| names)
    }

    #[test]
    fn one_dump_has_the_names_of_its_own_and_many_stand_below_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert!(names(folder.path()).unwrap_err().to_string().contains("there is no dump"));
        let table = "SET a = 1;\n\n--\n-- Table structure for table `t`\n--\n\nINSERT INTO t VALUES (1);\n-- Dump completed on 2026\n";
        write("shop.sql", table);
        assert_eq!(names(folder.path()).unwrap(), ["@preamble.sql", "shop/t.sql"]);
        write("x.sql.gz", "\x1f");
        let both = ["shop.sql/@preamble.sql", "shop.sql/shop/t.sql", "x.sql.gz"];
        assert_eq!(names(folder.path()).unwrap(), both);
        write("shop.sql", table.strip_suffix("6\n").unwrap());
        assert!(names(folder.path()).unwrap_err().to_string().contains("isn't whole"));
    }
}
