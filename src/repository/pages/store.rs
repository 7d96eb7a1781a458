//! Pages on this machine: files of sealed pages in the state folder, one for each layer.
//!
//! A file has the pages of its layer at their offsets, as far as they were written or read here; what is missing is zeros. Each
//! page is checked where it is read, so a lost, cut or damaged file costs a page's way from the remote and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk::NewFile;
use crate::format::checks::PagesCheck;
use crate::format::recipe::{Layer, LayerId};
use crate::id::{Hasher, hex};
use crate::index::SnapshotRow;
use crate::repository::{Error, Repository, Result, broken, of_object};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// All pages of one layer, to be stored with its snapshot.
pub struct Pages {
    file: Option<PagesFile>,
    length: u64,
    check: PagesCheck,
}

enum PagesFile {
    New(NewFile),
    Kept(File),
}

impl Pages {
    /// Bytes of all pages.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Binds the pages.
    pub fn check(&self) -> &PagesCheck {
        &self.check
    }

    /// Gives all bytes to `take`, piece by piece.
    pub fn read(&self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let file = match &self.file {
            None => return Ok(()),
            Some(PagesFile::New(file)) => file.as_file(),
            Some(PagesFile::Kept(file)) => file,
        };
        let mut buffer = vec![0; PIECE.min(self.length as usize)];
        let mut offset = 0;
        while offset < self.length {
            let piece = &mut buffer[..PIECE.min((self.length - offset) as usize)];
            file.read_exact_at(piece, offset)
                .map_err(|error| Error::io("reading", Path::new("pages of a recipe"), error))?;
            take(piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Keeps them on this machine for the next run. The snapshot stands without.
    pub fn keep(self) {
        if let Some(PagesFile::New(file)) = self.file {
            let _ = file.replace_unflushed();
        }
    }
}

/// The pages of a layer that is being written.
pub(super) struct NewPages {
    path: PathBuf,
    file: Option<NewFile>,
    buffer: Vec<u8>,
    length: u64,
    hasher: Hasher,
}

impl NewPages {
    pub(super) fn new(repository: &Repository, layer: &LayerId) -> Self {
        let path = path_of(repository.folder(), layer);
        Self { path, file: None, buffer: Vec::new(), length: 0, hasher: Hasher::new() }
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let failed = |error| Error::io("writing", &self.path, error);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                make_folder(&self.path).map_err(failed)?;
                none.insert(NewFile::beside(&self.path, 0o600).map_err(failed)?)
            }
        };
        file.write_all(&self.buffer).map_err(failed)?;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Pages> {
        if !self.buffer.is_empty() {
            self.write()?;
        }
        Ok(Pages { file: self.file.map(PagesFile::New), length: self.length, check: self.hasher.finish() })
    }
}

/// The pages of one layer that are on this machine.
pub(super) struct KeptPages {
    path: PathBuf,
    file: Option<File>,
}

impl KeptPages {
    pub(super) fn open(repository: &Repository, layer: &LayerId) -> Self {
        let path = path_of(repository.folder(), layer);
        let file = File::open(&path).ok();
        Self { path, file }
    }

    /// The pages that were just written.
    pub(super) fn of(repository: &Repository, layer: &LayerId, pages: &Pages) -> Self {
        let file = match &pages.file {
            None => None,
            Some(PagesFile::New(file)) => file.reopen().ok(),
            Some(PagesFile::Kept(file)) => file.try_clone().ok(),
        };
        Self { path: path_of(repository.folder(), layer), file }
    }

    /// The bytes that lie there, whatever they are; None where there are none.
    pub(super) fn read(&self, offset: u64, length: u32) -> Option<Vec<u8>> {
        let file = self.file.as_ref()?;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Whether no page is kept in a range.
    pub(super) fn has_nothing(&self, offset: u64, length: usize) -> bool {
        let Some(file) = &self.file else { return true };
        let mut buffer = vec![0; length];
        let mut filled = 0;
        while let Ok(read @ 1..) = file.read_at(&mut buffer[filled..], offset + filled as u64) {
            filled += read;
        }
        buffer[..filled].iter().all(|byte| *byte == 0)
    }

    /// Keeps bytes that were read from the remote. Where that can't be done, they are read again the next time.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let write = |path: &Path| -> io::Result<File> {
            make_folder(path)?;
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            file.write_all_at(bytes, offset)?;
            Ok(file)
        };
        if let Ok(file) = write(&self.path) {
            self.file = Some(file);
        }
    }
}

impl Repository {
    /// All pages of a layer, where this machine has them as they were.
    pub(in crate::repository) fn kept_pages(
        &self,
        layer: &LayerId,
        length: u64,
        check: &PagesCheck,
    ) -> Result<Option<Pages>> {
        if length == 0 {
            return Ok(Some(Pages { file: None, length, check: *check }));
        }
        let Ok(file) = File::open(path_of(self.folder(), layer)) else { return Ok(None) };
        let pages = Pages { file: Some(PagesFile::Kept(file)), length, check: *check };
        let mut hasher = Hasher::new();
        let read = pages.read(|bytes| {
            hasher.update(bytes);
            Ok(())
        });
        Ok((read.is_ok() && hasher.finish() == *check).then_some(pages))
    }

    /// Keeps the pages of a layer, given by its bytes, that were read with their snapshot.
    pub(in crate::repository) fn keep_pages(&self, layer: &[u8], pages: &[u8]) {
        if let Ok(layer) = Layer::decode(layer)
            && !pages.is_empty()
        {
            let mut kept = KeptPages::open(self, &layer.id);
            if kept.file.is_none() {
                kept.write(0, pages);
            }
        }
    }

    /// All pages of a snapshot's layer, from this machine or from the remote.
    pub fn pages_of(&self, row: &SnapshotRow, layer: &Layer) -> Result<Pages> {
        if let Some(kept) = self.kept_pages(&layer.id, row.header.pages, &row.header.pages_check)? {
            return Ok(kept);
        }
        let name = Self::object_name(row);
        let mut pages = NewPages::new(self, &layer.id);
        let mut buffer = vec![0; PIECE.min(row.header.pages as usize)];
        while pages.length() < row.header.pages {
            let left = row.header.pages - pages.length();
            let piece = &mut buffer[..PIECE.min(left as usize)];
            self.remote.get_range(&name, row.size - left, piece).map_err(of_object)?;
            pages.append(piece)?;
        }
        let pages = pages.finish()?;
        match pages.check == row.header.pages_check {
            true => Ok(pages),
            false => Err(broken(&name, "the pages of its recipe aren't those that its header says")),
        }
    }

    /// Deletes the pages of all layers but those.
    pub(in crate::repository) fn forget_pages_but(&self, layers: &BTreeSet<LayerId>) {
        let known: BTreeSet<String> = layers.iter().map(file_name).collect();
        let entries = fs::read_dir(self.folder().join(FOLDER)).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if name.to_str().is_none_or(|name| !known.contains(name)) {
                // They are only copies; one that stays takes room.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The folder of the pages below the state folder.
const FOLDER: &str = "pages";

fn file_name(layer: &LayerId) -> String {
    hex(&layer[..16])
}

fn path_of(state: &Path, layer: &LayerId) -> PathBuf {
    state.join(FOLDER).join(file_name(layer))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::DirBuilder::new().recursive(true).mode(0o700).create(folder),
        None => Ok(()),
    }
}
