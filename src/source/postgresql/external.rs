//! Dumps that another job leaves in a folder: plain ones that `pg_dump --create` wrote, a file a database.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::scan::Scanner;
use super::{GLOBALS, check_whole, note_counts};
use crate::entry::Entry;
use crate::facts::Facts;
use crate::source::external::dumps_in;
use crate::source::names::escape;
use crate::source::reading::CurrentStream;
use crate::source::{Error, Finished, Source};
use crate::time::Timestamp;
use crate::warning::Warning;

/// Reads dumps from a folder. A file that isn't named `….sql` is stored as it is.
pub struct PostgresqlDumpFiles {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, File, Option<Box<Scanner>>)>,
    reading: CurrentStream,
    data_time: Timestamp,
    rows: u64,
    facts: Facts,
}

/// The name of a file with the roles, as `pg_dumpall --globals-only` writes it.
const THEIR_GLOBALS: &str = "globals.sql";

impl PostgresqlDumpFiles {
    /// Finds the files of `folder`.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is none, or one can't be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (files, data_time) = dumps_in(folder)?;
        let (current, reading, facts) = (None, CurrentStream::default(), Facts::default());
        Ok(Self { files: files.into_iter(), current, reading, data_time, rows: 0, facts })
    }

    /// When the oldest of the files was written.
    pub fn data_time(&self) -> Timestamp {
        self.data_time
    }

    /// The end of one file: it has to be complete.
    fn close(&mut self) -> Result<(), Error> {
        let (Some((path, _, Some(scanner))), Some(entry)) = (self.current.take(), self.reading.entry()) else {
            return Ok(());
        };
        check_whole(&path.display().to_string(), &scanner)?;
        if !scanner.makes_database {
            return Err(Error::Failed(format!(
                "{} doesn't make its database, so what belongs to that (owner, settings, rights) would be lost: have it made \
                 with pg_dump --create",
                path.display()
            )));
        }
        self.rows += scanner.rows.values().sum::<u64>();
        note_counts(&mut self.facts, &entry.name.to_string(), &scanner);
        Ok(())
    }
}

/// The stream of a file, and whether it is a dump.
fn stream_of(name: &str) -> (String, bool) {
    match name.strip_suffix(".sql") {
        Some(_) if name == THEIR_GLOBALS => (GLOBALS.to_owned(), false),
        Some(stem) => (format!("{}.sql", escape(stem)), true),
        None => (name.to_owned(), false),
    }
}

impl Source for PostgresqlDumpFiles {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.close()?;
        let Some(path) = self.files.next() else { return Ok(None) };
        let file = File::open(&path).map_err(|error| Error::failed(&format!("opening {}", path.display()), &error))?;
        let (name, is_dump) = stream_of(&path.file_name().unwrap_or_default().to_string_lossy());
        self.current = Some((path, file, is_dump.then(Box::default)));
        self.reading.begin(name)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some((path, file, scanner)) = &mut self.current else { return Ok(0) };
        let read = file.read(buffer).map_err(|error| Error::failed(&format!("reading {}", path.display()), &error))?;
        if let Some(scanner) = scanner {
            let Ok(()) = scanner.push(&buffer[..read], &mut |_| Ok::<(), Infallible>(()));
        }
        Ok(self.reading.grow(read))
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.reading.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        self.close()?;
        let mut facts = std::mem::take(&mut self.facts);
        facts.rows = Some(self.rows);
        facts.server = Some("PostgreSQL".into());
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        Vec::new()
    }
}
