//! The source `influxdb`: a database of an InfluxDB 1.x server, by the server's own programs.
//!
//! A portable backup is made and read: each shard is a stream, its inner tar, so that an unchanged shard has the same
//! bytes every day. It counts as complete only if every shard that the server names is in it, and each tar is complete
//! and has the manifest's length. A restore of an incomplete one ends with status 0 and fewer points.

pub mod checkup;
pub mod definitions;
pub mod into;
mod lost;
mod meta;
pub mod portable;
pub mod server;
mod standing;
mod tar;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use self::definitions::{ShowOutput, count};
use self::lost::EscapedNames;
use self::portable::{Portable, ShardFile};
use self::server::{InfluxdbServer, InfluxdbServerOptions, Shard};
use self::tar::TarCheck;
use super::reading::CurrentStream;
use super::{Error, Finished, Source};
use crate::entry::{Entry, Untrusted};
use crate::facts::{Facts, Range};
use crate::progress::Interrupt;
use crate::time::{Clock, Timestamp};
use crate::warning::Warning;

/// The database to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfluxdbOptions {
    /// The database.
    pub database: String,
    /// The server.
    pub server: InfluxdbServerOptions,
}

/// The stream with the output of `SHOW …`.
pub const DEFINITIONS: &str = "definitions.json";
/// The stream of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The stream of the metadata.
pub const META: &str = "meta";

/// A portable backup, stream by stream.
pub struct InfluxdbSource {
    portable: Portable,
    /// A folder of our own, which is removed with the source.
    _scratch: Option<ScratchFolder>,
    ready: VecDeque<(&'static str, Vec<u8>)>,
    shards: VecDeque<ShardFile>,
    current: Option<CurrentPart>,
    reading: CurrentStream,
    data_time: Timestamp,
    facts: Facts,
    /// Measurements that a restore loses if they were written in a certain way.
    escaped: EscapedNames,
    warnings: Vec<Warning>,
}

enum CurrentPart {
    Ready(Cursor<Vec<u8>>),
    Shard(ShardFile, Box<GzDecoder<BufReader<File>>>, TarCheck),
}

/// A folder that is removed at the end.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// Makes the folder anew.
    fn new(path: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::failed(&format!("making the folder {}", path.display()), &error);
        if path.exists() {
            fs::remove_dir_all(path).map_err(failed)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl InfluxdbSource {
    /// Has the server write a portable backup into the folder `scratch`, which is created for it and removed at the end,
    /// and checks that all shards are in it.
    ///
    /// # Errors
    /// [`Error::Config`] if a program or the database is missing, [`Error::Failed`] if the backup fails,
    /// [`Error::Changed`] if a shard isn't in it.
    pub fn new(
        options: &InfluxdbOptions,
        scratch: &Path,
        clock: &dyn Clock,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let server = connect(options, interrupt)?;
        let database = &options.database;
        let data_time = clock.now();
        let definitions = ShowOutput::take(&server, database)?;
        let before = server.shards(database)?;
        let scratch = ScratchFolder::new(scratch)?;
        let least = count(&server, database, &definitions.policies, data_time.nanos())?;
        server.back_up(database, &scratch.0)?;
        let portable = Portable::open(&scratch.0)?;
        // A shard that has disappeared in the meantime was too old to be kept.
        let after = server.shards(database)?;
        let both: Vec<_> = before.into_iter().filter(|shard| after.contains(shard)).collect();
        check_shards(&server, &portable, database, &both)?;
        let most = count(&server, database, &definitions.policies, data_time.nanos())?;
        let facts = Facts {
            rows: Some(least.values().sum()),
            points: points(&least, &most),
            points_until: Some(data_time),
            ..Facts::default()
        };
        Self::of(portable, Some(scratch), &server, &definitions, data_time, facts)
    }

    /// Reads the newest portable backup that another job has left in `folder`.
    ///
    /// # Errors
    /// As [`InfluxdbSource::new`], and where there is none.
    pub fn external(
        options: &InfluxdbOptions,
        folder: &Path,
        interrupt: &Interrupt,
    ) -> Result<(Self, Timestamp), Error> {
        let portable = Portable::open(folder)?;
        let data_time = Timestamp::from_compact(&portable.stem)
            .ok_or_else(|| Error::Failed(format!("{}{} isn't named by a time", portable.stem, portable::MANIFEST)))?;
        let server = connect(options, interrupt)?;
        let definitions = ShowOutput::take(&server, &options.database)?;
        // Those that came later have higher numbers.
        let last = portable.manifest.files.iter().map(|file| file.id).max().unwrap_or(0);
        let shards: Vec<_> = server.shards(&options.database)?.into_iter().filter(|shard| shard.id <= last).collect();
        check_shards(&server, &portable, &options.database, &shards)?;
        Ok((Self::of(portable, None, &server, &definitions, data_time, Facts::default())?, data_time))
    }

    fn of(
        mut portable: Portable,
        scratch: Option<ScratchFolder>,
        server: &InfluxdbServer,
        definitions: &ShowOutput,
        data_time: Timestamp,
        mut facts: Facts,
    ) -> Result<Self, Error> {
        let (meta, database) = (portable.meta()?, &definitions.database);
        // Shards created during the backup are left to the next one.
        portable.leave_out_all_but(database, &meta::shards(&meta, database)?)?;
        let ready = [(DEFINITIONS, definitions.text()?), (MANIFEST, portable.text.clone()), (META, meta)];
        let own = portable.manifest.files.iter().filter(|file| file.database == definitions.database);
        let shards: VecDeque<ShardFile> = own.cloned().collect();
        facts.server = Some("InfluxDB".into());
        facts.server_version = Some(server.version.as_str().into());
        facts.shards = Some(shards.len() as u64);
        let (current, reading) = (None, CurrentStream::default());
        let escaped = EscapedNames::new(&server.measurements(database)?);
        let warnings = lost::too_early(database, &server.shards(database)?);
        if !warnings.is_empty() {
            facts.unrestorable_shards = Some(warnings.len() as u64);
        }
        let ready = ready.into();
        Ok(Self { portable, _scratch: scratch, ready, shards, current, reading, data_time, facts, escaped, warnings })
    }

    /// The end of one shard: it has to be complete.
    fn close(&mut self) -> Result<(), Error> {
        let Some(CurrentPart::Shard(file, mut input, mut check)) = self.current.take() else { return Ok(()) };
        // The rest of a stream that wasn't wanted is read to its end all the same.
        let mut rest = vec![0; 1 << 16];
        loop {
            match input.read(&mut rest) {
                Ok(0) => break,
                Ok(length) => {
                    check.push(&rest[..length]);
                    self.escaped.push(&rest[..length]);
                }
                Err(error) => return Err(unreadable(&file, &error)),
            }
        }
        check_whole(&file, &check)
    }
}

/// # Errors
/// [`Error::Changed`] if one of `shards` isn't in the backup, and isn't empty: the server makes shards ahead of their
/// time, and leaves those out that nothing was written to.
fn check_shards(server: &InfluxdbServer, portable: &Portable, database: &str, shards: &[Shard]) -> Result<(), Error> {
    let lacking = portable.manifest.lacks(database, shards);
    if lacking.is_empty() {
        return Ok(());
    }
    let open = server.open_shards(database)?;
    let mut missing = Vec::new();
    for shard in lacking {
        if open.contains_key(&shard.id) || server.has_values(database, &shard)? {
            missing.push(shard.id.to_string());
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Changed(format!(
            "the backup of {database} lacks the shards {}, which the server has: it isn't whole",
            missing.join(", ")
        ))),
    }
}

fn unreadable(file: &ShardFile, error: &std::io::Error) -> Error {
    Error::failed(&format!("reading {} of the portable backup, which isn't whole,", file.file_name), error)
}

/// # Errors
/// [`Error::Failed`] if a shard's tar isn't whole, or not as long as the manifest says.
fn check_whole(file: &ShardFile, check: &TarCheck) -> Result<(), Error> {
    let why = check.why_not_whole().or_else(|| {
        (check.bytes() != file.size)
            .then(|| format!("it has {} bytes, and {} in the manifest", check.bytes(), file.size))
    });
    match why {
        None => Ok(()),
        Some(why) => {
            Err(Error::Failed(format!("the tar of the shard {} of {} isn't whole: {why}", file.id, file.policy)))
        }
    }
}

fn connect(options: &InfluxdbOptions, interrupt: &Interrupt) -> Result<InfluxdbServer, Error> {
    let server = InfluxdbServer::connect(&options.server, interrupt)?;
    let databases = server.databases()?;
    match databases.contains(&options.database) {
        true => Ok(server),
        false => Err(Error::Config(format!(
            "the server has no database {}, or the account may not see it; it sees {}",
            options.database,
            databases.join(", ")
        ))),
    }
}

/// The counts before the backup and after it: that of its content is between the two.
fn points(least: &BTreeMap<String, u64>, most: &BTreeMap<String, u64>) -> BTreeMap<Untrusted, Range> {
    let range = |(name, most): (&String, &u64)| {
        let least = least.get(name).copied().unwrap_or(0).min(*most);
        (name.as_str().into(), Range { least, most: *most })
    };
    most.iter().map(range).collect()
}

impl Source for InfluxdbSource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.close()?;
        let (name, current) = if let Some((name, bytes)) = self.ready.pop_front() {
            (name.to_owned(), CurrentPart::Ready(Cursor::new(bytes)))
        } else if let Some(file) = self.shards.pop_front() {
            let input = Box::new(self.portable.shard(&file)?);
            (file.stream(), CurrentPart::Shard(file, input, TarCheck::default()))
        } else {
            return Ok(None);
        };
        self.current = Some(current);
        self.reading.begin(name)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = match &mut self.current {
            Some(CurrentPart::Ready(bytes)) => {
                bytes.read(buffer).map_err(|error| Error::failed("reading a stream", &error))?
            }
            Some(CurrentPart::Shard(file, input, check)) => {
                let length = input.read(buffer).map_err(|error| unreadable(file, &error))?;
                check.push(&buffer[..length]);
                self.escaped.push(&buffer[..length]);
                length
            }
            None => 0,
        };
        Ok(self.reading.grow(length))
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.reading.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        self.close()?;
        self.warnings.extend(self.escaped.warnings());
        let mut facts = self.facts.clone();
        let named = |name: &String| (name.as_str().into(), "measurement".into());
        facts.unrestorable.extend(self.escaped.found().iter().map(named));
        Ok(Finished { data_time: self.data_time, facts })
    }

    fn warnings(&mut self) -> Vec<Warning> {
        let escaped = self.escaped.warnings();
        std::mem::take(&mut self.warnings).into_iter().chain(escaped).collect()
    }

    fn expected(&mut self) -> Option<u64> {
        Some(self.shards.iter().map(|file| file.size).sum())
    }
}
