//! Targets: a folder, and one writer that takes one stream.

use std::io::{self, Read, Write};
use std::path::Path;

use super::files::extract::{self, Begin, ExtractOptions, Extractor, FileWriter};
use super::files::holes::{HolePath, fitting};
use super::{Error, Target};
use crate::entry::{Entry, Hole, StreamName};
use crate::warning::{Warning, WarningKind};

/// Writes streams below a folder, as files.
pub struct FolderTarget {
    extractor: Option<Extractor>,
    current: Option<(StreamName, Box<FileWriter>)>,
}

impl FolderTarget {
    /// Opens the folder, which is made if it is missing.
    ///
    /// # Errors
    /// Where that can't be done.
    pub fn create(folder: &Path, options: ExtractOptions) -> Result<Self, Error> {
        let extractor = Extractor::create(folder, options).map_err(whole)?;
        Ok(Self { extractor: Some(extractor), current: None })
    }

    fn extractor(&mut self) -> Result<&mut Extractor, Error> {
        self.extractor.as_mut().ok_or_else(|| Error::Failed("the restore had ended before".to_owned()))
    }
}

/// The meaning of an extractor's error for the whole.
fn judged(name: &StreamName, error: extract::Error) -> Error {
    match error.is_fatal() {
        true => whole(error),
        false => Error::Skipped { name: name.clone(), reason: error.to_string() },
    }
}

/// An extractor's error that ends the whole.
fn whole(error: extract::Error) -> Error {
    let text = error.to_string();
    match error {
        extract::Error::Foreign { .. } => Error::Refused(text),
        _ if error.is_fatal() => Error::NoSpace(text),
        _ => Error::Failed(text),
    }
}

impl Target for FolderTarget {
    fn wants(&mut self, entry: &Entry) -> Result<bool, Error> {
        // Existing files may change until the entry's turn comes; its writer looks again then.
        self.extractor()?.wants(entry).map_err(|error| judged(&entry.name, error))
    }

    fn above(&mut self, folder: &Entry) {
        if let Some(extractor) = &mut self.extractor {
            extractor.above(folder);
        }
    }

    fn has(&mut self, entry: &Entry) -> bool {
        self.extractor.as_mut().is_some_and(|extractor| extractor.has(entry))
    }

    fn written_before(&mut self, entry: &Entry, names: u64) -> Result<Option<Box<dyn Read>>, Error> {
        let file = self.extractor()?.written_before(entry, names);
        Ok(file.map(|content| Box::new(content) as Box<dyn Read>))
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let extractor = self.extractor()?;
        if !entry.kind.has_content() {
            return extractor.place(entry).map_err(|error| judged(&entry.name, error));
        }
        match extractor.begin(entry).map_err(|error| judged(&entry.name, error))? {
            Begin::Write(writer) => self.current = Some((entry.name.clone(), writer)),
            Begin::Skip => self.current = None,
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.current {
            Some((name, writer)) => writer.write(bytes).map_err(|error| judged(name, error)),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.current.take() {
            Some((name, writer)) => writer.finish().map_err(|error| judged(&name, error)),
            None => Ok(()),
        }
    }

    fn abandon(&mut self) {
        // An unfinished writer leaves nothing.
        self.current = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        let lines = self.extractor.take().map(Extractor::finish).unwrap_or_default();
        Ok(lines.into_iter().map(|line| WarningKind::NotAsItWas.warning(line)).collect())
    }
}

/// Writes the bytes of one stream to a writer; holes of a file as zeros.
pub struct WriterTarget<W> {
    writer: W,
    holes: Vec<Hole>,
    way: HolePath,
    /// The kind of the writer, for messages: `"standard output"`.
    place: &'static str,
}

impl<W: Write> WriterTarget<W> {
    /// Writes to `writer`, which messages call `place`.
    pub fn new(writer: W, place: &'static str) -> Self {
        Self { writer, holes: Vec::new(), way: HolePath::default(), place }
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::failed(&format!("writing to {}", self.place), error)
    }

    /// Writes the zeros of the hole that is here, and says how many of `bytes` come before the next one.
    fn fill(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let begin = self.way.position();
        let end = self.way.data(&self.holes);
        let mut zeros = io::repeat(0).take(self.way.position() - begin);
        io::copy(&mut zeros, &mut self.writer).map_err(|error| self.failed(&error))?;
        Ok(end.map_or(bytes.len(), |end| fitting(end - self.way.position(), bytes)))
    }
}

impl<W: Write> Target for WriterTarget<W> {
    fn wants(&mut self, entry: &Entry) -> Result<bool, Error> {
        Ok(entry.kind.has_content())
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        (self.holes, self.way) = (entry.holes().to_vec(), HolePath::default());
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.fill(bytes)?);
            self.writer.write_all(piece).map_err(|error| self.failed(&error))?;
            self.way.pass(piece.len());
            bytes = rest;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.fill(&[])?;
        self.writer.flush().map_err(|error| self.failed(&error))
    }

    fn abandon(&mut self) {}

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        self.writer.flush().map_err(|error| self.failed(&error))?;
        Ok(Vec::new())
    }
}
