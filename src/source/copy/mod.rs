//! Local copies: the last dumps of a set, on this machine, and the source that reads one.
//!
//! A copy is a folder named by its time. In it is one file with all streams, one after the other (for `mysql` and
//! `postgresql` that is a dump that any client loads), and a manifest with the beginning of each. It gets its name when
//! it is complete.
//!
//! A copy on this machine's disk may be damaged after a day. Such a copy is never stored: it is renamed, and removed
//! once there is a new one.

mod manifest;
mod reader;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use self::manifest::CopyManifest;
pub use self::reader::CopySource;
use super::{Error, Finished, Source, open_plain};
use crate::disk::Space;
use crate::entry::StreamName;
use crate::id::Hasher;
use crate::time::Timestamp;

/// Where copies lie, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// The set.
    pub set: String,
    /// The folder of the set's copies.
    pub folder: PathBuf,
    /// How many stay.
    pub keep: u32,
    /// How much of the file system stays free, in percent.
    pub reserve: u8,
    /// The name of the file with all streams.
    pub file: &'static str,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCopy {
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
/// The name of the manifest.
const MANIFEST: &str = "manifest";
/// The suffix of an incomplete copy.
const PART: &str = ".part";
/// The suffix of an unusable copy.
const UNUSABLE: &str = ".unusable";
/// How far a clock may be set back silently.
pub const AHEAD: std::time::Duration = std::time::Duration::from_secs(60);

/// Makes a copy of all that `source` gives. The one before stays until the next backup stands: it is its base.
///
/// # Errors
/// [`Error::NoSpace`] where it would not fit, [`Error::LocalCopy`] where the disk fails, else what the source says. What was begun
/// is gone then.
pub fn make(options: &CopyOptions, source: &mut dyn Source) -> Result<LocalCopy, Error> {
    make_folder(&options.folder)?;
    let part = options.folder.join(format!("new{PART}"));
    remove(&part)?;
    make_free_space(options)?;
    let result = write(&part, options, source).and_then(|(copy, manifest)| finish(options, &part, copy, &manifest));
    if result.is_err() {
        let _ = remove(&part);
    }
    result
}

/// Removes all copies but the newest that stay, and `more` of them, and those that can't be used.
///
/// # Errors
/// Names what could not be removed.
pub fn forget_old(options: &CopyOptions, more: u32) -> Result<(), Error> {
    let keep = options.keep.saturating_add(more).max(1);
    let old = all(&options.folder)?.into_iter().rev().skip(keep as usize);
    // Under a name of its own, so that the leftovers of a killed run don't look like a copy.
    let part = options.folder.join(format!("old{PART}"));
    remove(&part)?;
    old.chain(put_aside(&options.folder)?).try_for_each(|copy| {
        fs::rename(&copy, &part).map_err(|error| failed("removing", &copy, &error))?;
        remove(&part)
    })
}

/// The newest copy.
///
/// # Errors
/// [`Error::LocalCopy`] where it can't be read.
pub fn newest(folder: &Path) -> Result<Option<LocalCopy>, Error> {
    match all(folder)?.pop() {
        None => Ok(None),
        Some(path) => Ok(Some(CopyManifest::read(&path)?.copy(&path))),
    }
}

/// Puts those copies aside that can't be used, as far as that shows without reading their data. Returns why, for each.
///
/// # Errors
/// [`Error::LocalCopy`] or [`Error::NoSpace`] where that can't be done.
pub fn put_unusable_aside(options: &CopyOptions, now: Timestamp) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for path in all(&options.folder)? {
        if let Err(error) = check(&path, &options.set, now) {
            found.push(error.to_string());
            aside(&path)?;
        }
    }
    Ok(found)
}

/// Gives a copy another name, by which no backup finds it.
///
/// # Errors
/// [`Error::LocalCopy`] or [`Error::NoSpace`] where that can't be done.
pub fn aside(copy: &Path) -> Result<(), Error> {
    let mut name = copy.as_os_str().to_owned();
    name.push(UNUSABLE);
    let name = PathBuf::from(name);
    remove(&name)?;
    fs::rename(copy, &name).map_err(|error| failed("putting aside", copy, &error))
}

/// Whether a copy looks like one of the set, from a time that has been.
fn check(path: &Path, set: &str, now: Timestamp) -> Result<(), Error> {
    let manifest = CopyManifest::read(path)?;
    data_of(path, &manifest)?;
    let wrong = |what: String| Err(Error::LocalCopy(format!("the local copy {} {what}", path.display())));
    if manifest.set != set {
        return wrong(format!("is one of the set {}: each set needs a local_copy of its own", manifest.set));
    }
    // It would be the newest one until then, and would be backed up again and again.
    let named = path.file_name().and_then(|name| Timestamp::from_compact(name.to_str()?));
    let time = Timestamp::from_nanos(manifest.data_time).max(named.unwrap_or(now));
    match time > now.after(AHEAD) {
        true => wrong(format!("is of {time}, which hasn't come yet: the clock was ahead when it was made")),
        false => Ok(()),
    }
}

/// The data of a copy, opened.
fn data_of(path: &Path, manifest: &CopyManifest) -> Result<(PathBuf, File), Error> {
    let path = path.join(&manifest.file);
    let (file, length) = open_plain(&path).map_err(|error| failed("opening the local copy", &path, &error))?;
    let had = manifest.copy(&path).bytes;
    match length == had {
        true => Ok((path, file)),
        false => Err(Error::LocalCopy(format!(
            "the local copy {} has {length} bytes and had {had} when it was made",
            path.display()
        ))),
    }
}

/// Where the copy whose content was true at `data_time` has each stream: its name, the file, and the bytes in that before it.
/// Empty where there is no such copy, or it can't be read.
pub fn streams_at(folder: &Path, data_time: Timestamp) -> Vec<(StreamName, PathBuf, u64)> {
    let whole = |path: PathBuf| Some((CopyManifest::read(&path).ok()?, path));
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

/// Copies, the oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    folders(folder, |name| Timestamp::from_compact(name).is_some())
}

/// Copies that were put aside.
fn put_aside(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    folders(folder, |name| name.strip_suffix(UNUSABLE).is_some_and(|name| Timestamp::from_compact(name).is_some()))
}

/// The folders in `folder` whose names are such, by name.
fn folders(folder: &Path, is_such: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let broken = |error: &io::Error| failed("reading the folder of local copies", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(broken(&error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| broken(&error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(&is_such) && path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Removes a file or a folder, where it is there.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path, &error)),
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

/// Makes space: if there is too little, unusable copies are removed, and those that stay only as a base.
fn make_free_space(options: &CopyOptions) -> Result<(), Error> {
    match check_free_space(options) {
        Err(Error::NoSpace(_)) => {
            forget_old(options, 0)?;
            check_free_space(options)
        }
        result => result,
    }
}

/// Whether 1.2 × the last copy fits, and the reserve stays.
///
/// # Errors
/// [`Error::NoSpace`] where it doesn't.
pub fn check_free_space(options: &CopyOptions) -> Result<(), Error> {
    let last = newest(&options.folder).ok().flatten().map_or(0, |copy| copy.bytes);
    let Space { free, total } =
        Space::of(&options.folder).map_err(|error| failed("asking for the free space of", &options.folder, &error))?;
    let reserve = u128::from(total) * u128::from(options.reserve) / 100;
    let needed = u128::from(last) * 12 / 10;
    if u128::from(free) < needed + reserve {
        return Err(Error::NoSpace(format!(
            "{} has {free} bytes free, and a dump needs {needed} (1.2 × the last) beside the {} % that stay free \
             (local_reserve, {reserve} bytes): make room there, or move local_copy",
            options.folder.display(),
            options.reserve
        )));
    }
    Ok(())
}

/// The error of the copies' disk for an operation.
pub fn failed(tried: &str, path: &Path, error: &io::Error) -> Error {
    match Error::failed(&format!("{tried} {}", path.display()), error) {
        Error::Failed(text) => Error::LocalCopy(text),
        other => other,
    }
}

fn create(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| failed("making", path, &error))
}

/// Writes all streams. Whether the source was whole is known at its end.
fn write(path: &Path, options: &CopyOptions, source: &mut dyn Source) -> Result<(LocalCopy, CopyManifest), Error> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| failed("making", path, &error))?;
    let data = path.join(options.file);
    let mut out = BufWriter::with_capacity(1 << 20, create(&data)?);
    let mut manifest =
        CopyManifest { set: options.set.clone(), file: options.file.to_owned(), ..CopyManifest::default() };
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
fn finish(options: &CopyOptions, part: &Path, copy: LocalCopy, manifest: &CopyManifest) -> Result<LocalCopy, Error> {
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
    Ok(LocalCopy { path, ..copy })
}

#[cfg(test)]
mod tests;
