//! Dump files: a database set as one file that its server's own client loads, the streams of a dump one after the other.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{NewFile, takes_nothing, way_out};
use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::job::open::OpenedSnapshot;
use crate::source::mysql::names::{DumpPart, POSTAMBLE, PREAMBLE};
use crate::source::postgresql::GLOBALS;
use crate::source::select::Selection;

/// Whether the streams are those of a dump of MySQL or PostgreSQL.
pub fn is_dump(opened: &OpenedSnapshot) -> Result<bool> {
    let layers = opened.repository.layers(&opened.snapshot.id)?;
    let (mut preamble, mut postamble, mut globals) = (false, false, false);
    for stream in layers.streams() {
        let entry = stream?.entry;
        if entry.kind != Kind::Data {
            return Ok(false);
        }
        let name = entry.name.as_bytes();
        preamble |= name == PREAMBLE.as_bytes();
        postamble |= name == POSTAMBLE.as_bytes();
        globals |= name == GLOBALS.as_bytes();
    }
    Ok(preamble && postamble || globals)
}

/// What a loadable dump of the chosen streams has beside them: what comes first and last, and what makes their databases.
pub struct DumpFrame {
    databases: BTreeSet<String>,
}

impl DumpFrame {
    /// The frame of what `selection` takes.
    pub fn of(opened: &OpenedSnapshot, selection: &Selection) -> Result<Self> {
        let mut databases = BTreeSet::new();
        for stream in opened.repository.layers(&opened.snapshot.id)?.streams() {
            let entry = stream?.entry;
            if selection.takes(&entry) {
                databases.extend(DumpPart::of(&entry.name).and_then(|part| part.database().map(str::to_owned)));
            }
        }
        Ok(Self { databases })
    }

    /// Whether an entry belongs to it.
    pub fn takes(&self, entry: &Entry) -> bool {
        match DumpPart::of(&entry.name) {
            Some(DumpPart::Preamble | DumpPart::Postamble) => true,
            Some(DumpPart::Database(name) | DumpPart::Use(name)) => self.databases.contains(&name),
            _ => entry.name.as_bytes() == GLOBALS.as_bytes(),
        }
    }
}

/// A file that gets its name once all of it is there.
pub struct DumpFile {
    path: PathBuf,
    new: NewFile,
    overwrite: bool,
}

impl DumpFile {
    /// Begins the file; one that is there already is only replaced with `overwrite`.
    pub fn create(path: &Path, overwrite: bool) -> Result<(Self, File)> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.is_file() => {
                return Err(Error::Usage(format!(
                    "{} is no plain file, and isn't replaced; --stdout writes the dump to standard output",
                    path.display()
                )));
            }
            Ok(_) if !overwrite => return Err(is_there(path)),
            _ => {}
        }
        // It holds what its readers on the server hold.
        let begin = || {
            let new = NewFile::beside(path, 0o600)?;
            let file = new.as_file().try_clone()?;
            Ok((Self { path: path.to_owned(), new, overwrite }, file))
        };
        begin().map_err(|error| failed("making", path, &error))
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<()> {
        let Self { path, new, overwrite } = self;
        let named = if overwrite { new.replace() } else { new.create() };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(&path),
            _ => failed("naming", &path, &error),
        })
    }
}

fn is_there(path: &Path) -> Error {
    Error::Usage(format!("{} is there already; --overwrite always replaces it", path.display()))
}

fn failed(tried: &str, path: &Path, error: &io::Error) -> Error {
    let text = format!("{tried} the dump {} failed: {error}{}", path.display(), way_out(error));
    if takes_nothing(error) { Error::NoSpace(text) } else { Error::Failed(text) }
}

/// Refuses a set that is no dump.
pub fn check(opened: &OpenedSnapshot) -> Result<()> {
    match is_dump(opened)? {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "the snapshot of {} is no dump of MySQL or PostgreSQL, so it makes no file that a server loads; --to DIR restores it \
             as files",
            opened.snapshot.header.set
        ))),
    }
}
