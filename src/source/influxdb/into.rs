//! The way back into a server that runs.
//!
//! The portable folder is made again from the shards, and `influxd restore` loads it as a new database, whose points are
//! counted. A database that is there can't be renamed, and nothing is loaded over it: so the new data is proven under
//! `NAME_varu` first, the old is backed up into a local folder, and only then, if nothing writes to it, it is dropped and the
//! data is loaded once more under its name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::definitions::{ShowOutput, count};
use super::portable::{self, PortableManifest, ShardFile};
use super::server::{InfluxdbServer, InfluxdbServerOptions, SHARD_IS_DISABLED, quoted};
use super::tar::TarCheck;
use super::{DEFINITIONS, MANIFEST, META, ScratchFolder, check_whole, standing};
use crate::entry::{Entry, StreamName};
use crate::facts::{Facts, Range};
use crate::progress::Interrupt;
use crate::source::names::{escape, leftover};
use crate::source::objects::Objects;
use crate::source::remains::{Remains, ServiceName};
use crate::source::{Contents, Error, Plan, Proof, RestoreTarget, RestoreTargetOptions, Target, free_space};
use crate::warning::{Warning, WarningKind};

/// What is needed beside what is wanted of every service.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// A folder of our own for the portable backup, which is made anew and goes at the end.
    pub scratch: PathBuf,
    /// How long nothing must have been written to a database before it is dropped.
    pub quiet: Duration,
}

/// A server that a snapshot goes back into.
pub struct InfluxdbTarget {
    server: InfluxdbServer,
    options: RestoreTargetOptions,
    needs: Needs,
    definitions: ShowOutput,
    manifest: PortableManifest,
    manifest_text: Vec<u8>,
    meta: Vec<u8>,
    /// The name that it gets.
    to: String,
    replaces: bool,
    /// Whether nothing stands there but what an earlier restore has begun.
    is_own: bool,
    /// Whether `NAME_varu` is of an earlier restore, and in the way.
    drops_aside: bool,
    /// What an earlier restore has left.
    unfinished: Remains,
    /// Whether nothing will be written.
    looks_only: bool,
    /// Whether `NAME_varu` is left of a restore that was cut, and `NAME` is gone.
    is_cut: bool,
    /// Between which two numbers the values of each measurement lie, and up to when they count.
    points: BTreeMap<String, Range>,
    until: i64,
    /// Measurements that influxd is known to lose, and whether it is known to lose a shard of any.
    may_lose: Vec<String>,
    loses_shard: bool,
    scratch: Option<ScratchFolder>,
    /// How many points had been written to what stands there, when that was looked at.
    written: Option<(u64, Instant)>,
    warnings: Vec<Warning>,
}

/// How long it may say that.
const BUSY: Duration = Duration::from_secs(600);
/// How long too few values have to stay as few to be all that will come.
const SETTLED: Duration = Duration::from_secs(5);
/// How often they are counted.
const LOOK: Duration = Duration::from_millis(250);
/// What the names of the files begin with.
const STEM: &str = "varu";

impl InfluxdbTarget {
    /// Finds the server.
    ///
    /// # Errors
    /// As [`InfluxdbServer::connect`].
    pub fn connect(
        server: &InfluxdbServerOptions,
        options: RestoreTargetOptions,
        needs: Needs,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let server = InfluxdbServer::connect(server, interrupt)?;
        Ok(Self {
            server,
            options,
            needs,
            definitions: ShowOutput::default(),
            manifest: PortableManifest { meta: portable::MetaFile { file_name: String::new() }, files: Vec::new() },
            manifest_text: Vec::new(),
            meta: Vec::new(),
            to: String::new(),
            replaces: false,
            is_own: false,
            drops_aside: false,
            unfinished: Remains::default(),
            looks_only: false,
            is_cut: false,
            points: BTreeMap::new(),
            until: 0,
            may_lose: Vec::new(),
            loses_shard: false,
            scratch: None,
            written: None,
            warnings: Vec::new(),
        })
    }

    /// Where data is proven before anything is dropped.
    fn aside(&self) -> String {
        format!("{}_varu", self.to)
    }

    /// Where what is dropped is kept.
    fn kept(&self) -> PathBuf {
        let plain = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
        let name: String = self.to.chars().map(plain).collect();
        self.options.folder.join(format!("{name}_before_{}", self.options.stamp))
    }

    fn read_definitions(&mut self, definitions: Vec<(StreamName, Vec<u8>)>) -> Result<(), Error> {
        let mut found = BTreeMap::new();
        for (name, bytes) in definitions {
            found.insert(name.to_string(), bytes);
        }
        let mut take = |name: &str| {
            found
                .remove(name)
                .ok_or_else(|| Error::Failed(format!("the snapshot has no {name}, so it is none of InfluxDB")))
        };
        self.definitions = ShowOutput::parse(&take(DEFINITIONS)?)?;
        self.manifest_text = take(MANIFEST)?;
        self.meta = take(META)?;
        self.manifest = PortableManifest::parse(&self.manifest_text)?;
        Ok(())
    }

    /// Every shard of the manifest is in the snapshot, and as long as it says.
    fn check_shards(&self, entries: &[Entry]) -> Result<(), Error> {
        for file in self.shards() {
            let entry = entries.iter().find(|entry| file.is(&entry.name));
            if entry.is_none_or(|entry| entry.size != file.size) {
                return Err(Error::Failed(format!(
                    "the snapshot has no whole shard {} of {}, which its manifest lists; a restore would lack its points: take \
                     another snapshot",
                    file.id, file.policy
                )));
            }
        }
        Ok(())
    }

    fn shards(&self) -> impl Iterator<Item = &ShardFile> {
        self.manifest.files.iter().filter(|file| file.database == self.definitions.database)
    }

    fn read_points(&mut self, facts: &Facts) {
        self.loses_shard = facts.unrestorable_shards.is_some();
        self.may_lose = facts.unrestorable.keys().map(|name| format!("/{}", escape(name.raw()))).collect();
        self.until = facts.points_until.map_or(0, |until| until.nanos());
        self.points = facts.points.iter().map(|(name, range)| (name.raw().to_owned(), *range)).collect();
    }

    fn check_names(&mut self) -> Result<(), Error> {
        let there = self.server.databases()?;
        self.replaces = there.contains(&self.to);
        let aside = self.aside();
        self.is_cut = !self.replaces && there.contains(&aside);
        self.is_own = !self.replaces || self.unfinished.has_target(&self.server.address(), &self.to);
        if !self.replaces {
            return Ok(());
        }
        self.drops_aside = there.contains(&aside) && self.unfinished.has_leftover(&self.server.address(), &aside);
        if there.contains(&aside) && !self.drops_aside && !self.looks_only {
            return Err(Error::Refused(format!(
                "{aside} is there, perhaps of a restore that was cut, and the data is proven under that name first; if nobody \
                 needs it: {}",
                self.drop_command(&aside)
            )));
        }
        if !self.is_own && !self.looks_only && !self.options.may_replace(&self.to) {
            return Err(Error::Refused(format!(
                "{0} is there already; --replace {0} --reason TEXT backs it up into {1}, drops it, and puts the restored data in \
                 its place",
                self.to,
                self.kept().display()
            )));
        }
        self.look_for_writers()
    }

    /// Whether what is loaded fits, where the server keeps its data on this machine; a line about it.
    fn check_free_space(&self, bytes: u64) -> Result<Option<String>, Error> {
        // Beside what is there, the new data is there twice for a while.
        let bytes = if self.replaces { bytes.saturating_mul(2) } else { bytes };
        self.server.data_folder()?.map_or(Ok(None), |folder| free_space::beside(&folder, bytes))
    }

    fn drop_command(&self, name: &str) -> String {
        format!("influx -execute 'DROP DATABASE {}'", quoted(name))
    }

    /// Notes how much has been written so far.
    fn look_for_writers(&mut self) -> Result<(), Error> {
        self.written = Some((self.server.written(&self.to)?, Instant::now()));
        Ok(())
    }

    /// Nothing has been written since the first look, and that is long enough ago.
    fn check_quiet(&self) -> Result<(), Error> {
        let Some((before, since)) = self.written else { return Ok(()) };
        std::thread::sleep(self.needs.quiet.saturating_sub(since.elapsed()));
        match self.server.written(&self.to)? {
            now if now == before => Ok(()),
            _ => Err(Error::Refused(format!(
                "something writes to {0}, and what it writes after now would be lost; Telegraf even makes a database again at \
                 once that is dropped: stop it, with restore_before and restore_after in the set if need be. {0} is as it was, \
                 and the restored data is in {1}; {2} takes that away",
                self.to,
                self.aside(),
                self.drop_command(&self.aside())
            ))),
        }
    }

    fn folder(&self) -> Result<&Path, Error> {
        let none = || Error::Failed("the load had not begun".to_owned());
        Ok(self.scratch.as_ref().ok_or_else(none)?.0.as_path())
    }

    /// Loads the folder as a new database, and proves it: how many values there are, and what is missing, a sentence each.
    fn load(&self, name: &str) -> Result<(u64, Vec<String>), Error> {
        match self.shards().next() {
            Some(_) => self.server.restore(&self.definitions.database, name, self.folder()?)?,
            // Of one without points its program says that it may be there already.
            None => self.definitions.make_database(name).iter().try_for_each(|statement| self.server.run(statement))?,
        }
        self.check_policies(name)?;
        self.check_points(name)
    }

    fn check_policies(&self, name: &str) -> Result<(), Error> {
        let found = ShowOutput::take(&self.server, name)?.policies;
        match found == self.definitions.policies {
            true => Ok(()),
            false => Err(Error::Failed(format!(
                "the retention policies of {name} aren't those of the backup after the load"
            ))),
        }
    }

    /// Each measurement has the values that it had in the backup. The server may still be busy with the last shards when the
    /// program has ended; it is waited for as long as the numbers grow.
    fn check_points(&self, name: &str) -> Result<(u64, Vec<String>), Error> {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let counts = match count(&self.server, name, &self.definitions.policies, self.until) {
                Err(error) if error.has_code(SHARD_IS_DISABLED) && since.elapsed() < BUSY => None,
                counts => Some(counts?),
            };
            if let Some(counts) = counts {
                let (shards, wanted) = (self.server.open_shards(name)?.len(), self.shards().count());
                let missing = self.missing(name, &counts);
                let unknown = missing.iter().find(|(measurement, _)| !self.is_known_to_lose(measurement));
                let has_settled = last.as_ref() == Some(&counts) && since.elapsed() >= SETTLED;
                if let (Some((_, line)), true) = (unknown, has_settled) {
                    return Err(Error::Failed(line.clone()));
                }
                if shards >= wanted && (missing.is_empty() || has_settled) {
                    let lines = missing.into_iter().map(|(_, line)| line);
                    return Ok((counts.values().sum(), lines.collect()));
                }
                if has_settled {
                    return Err(Error::Failed(format!(
                        "{name} has {shards} shards with points after the load, and {wanted} in the backup"
                    )));
                }
                if last.as_ref() != Some(&counts) {
                    (last, since) = (Some(counts), Instant::now());
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the backup has said that influxd loses values of a measurement.
    fn is_known_to_lose(&self, measurement: &str) -> bool {
        self.loses_shard || self.may_lose.iter().any(|name| measurement.ends_with(name))
    }

    /// Measurements that aren't as they were in the backup, each with a sentence.
    fn missing(&self, name: &str, counts: &BTreeMap<String, u64>) -> Vec<(String, String)> {
        let missing = self.points.iter().filter_map(|(measurement, Range { least, most })| {
            let counted = counts.get(measurement).copied().unwrap_or(0);
            let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
            (counted < *least || counted > *most).then(|| {
                let line =
                    format!("{measurement} of {name} has {counted} values after the load, and {wanted} in the backup");
                (measurement.clone(), line)
            })
        });
        missing.collect()
    }

    /// Continuous queries and grants, which no portable backup holds.
    fn make_definitions(&mut self) -> Result<(), Error> {
        let to = &self.to;
        for query in self.definitions.make_queries(to) {
            self.server.run(&query)?;
        }
        let there = ShowOutput::take(&self.server, to)?;
        for statement in self.definitions.make_subscriptions(&there.subscriptions, to) {
            self.server.run(&statement)?;
        }
        let there = there.users;
        let mut absent = Vec::new();
        for user in &self.definitions.users {
            let grant = user.privilege.as_ref().filter(|_| !user.is_admin).map(|privilege| {
                format!("GRANT {} ON {} TO {}", privilege.replace(" PRIVILEGES", ""), quoted(to), quoted(&user.name))
            });
            match (there.iter().any(|other| other.name == user.name), grant) {
                (true, Some(grant)) => self.server.run(&grant)?,
                (true, None) => {}
                (false, grant) => {
                    let all = if user.is_admin { " WITH ALL PRIVILEGES" } else { "" };
                    let grant = grant.map(|grant| format!("; {grant}")).unwrap_or_default();
                    absent.push(format!("CREATE USER {} WITH PASSWORD '…'{all}{grant}", quoted(&user.name)));
                }
            }
        }
        if !absent.is_empty() {
            self.warnings.push(WarningKind::Accounts.warning(format!(
                "these users are absent, and passwords can't be dumped, so make them: {}",
                absent.join("; ")
            )));
        }
        let now = ShowOutput::take(&self.server, to)?;
        let differs =
            |difference: String| WarningKind::NotAsItWas.warning(format!("{to} is not as it was: {difference}"));
        let differences: Vec<Warning> = self.definitions.differences(&now, to).into_iter().map(differs).collect();
        self.warnings.extend(differences);
        Ok(())
    }

    /// Warns of what influxd didn't restore.
    fn note(&mut self, missing: &[String]) {
        let warning = |line: &String| {
            WarningKind::NotRestored.warning(format!(
                "{line}: influxd lost them while it restored, and {} is in place without them",
                self.to
            ))
        };
        let warnings: Vec<Warning> = missing.iter().map(warning).collect();
        self.warnings.extend(warnings);
    }

    /// What stands there is backed up, dropped, and what was verified is loaded anew.
    fn replace(&mut self) -> Result<(), Error> {
        let aside = self.aside();
        let kept = self.kept();
        let failed = |error: std::io::Error| Error::failed(&format!("making {}", kept.display()), &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&kept).map_err(failed)?;
        self.server.back_up(&self.to, &kept)?;
        self.check_quiet()?;
        self.server.run(&format!("DROP DATABASE {}", quoted(&self.to)))?;
        let loaded = self.load(&self.to);
        if let Ok((_, missing)) = &loaded {
            self.note(missing);
        }
        if let Err(error) = loaded {
            let back = self.server.databases().is_ok_and(|names| names.contains(&self.to));
            return Err(Error::Failed(match back {
                true => format!(
                    "{0} came back, or isn't whole, after it was dropped: {error}; {aside} holds the restored data. If something \
                     made {0} again at once, stop that (restore_before, restore_after)",
                    self.to
                ),
                false => format!("{} is absent; {aside} holds the data: {error}", self.to),
            }));
        }
        self.server.run(&format!("DROP DATABASE {}", quoted(&aside)))?;
        Ok(())
    }
}

impl RestoreTarget for InfluxdbTarget {
    fn is_definition(&self, entry: &Entry) -> bool {
        [DEFINITIONS, MANIFEST, META].iter().any(|name| entry.name.as_bytes() == name.as_bytes())
    }

    fn plan(&mut self, contents: Contents<'_>) -> Result<Plan, Error> {
        let Contents { entries, definitions, facts, unfinished, looks_only } = contents;
        (self.unfinished, self.looks_only) = (unfinished, looks_only);
        if let Some(other) = facts.server.as_ref().filter(|server| **server != *"InfluxDB") {
            return Err(Error::Refused(format!("the snapshot is of {other}, and this server is InfluxDB")));
        }
        self.read_definitions(definitions)?;
        self.check_shards(entries)?;
        self.read_points(facts);
        self.to = self.options.name.clone().unwrap_or_else(|| self.definitions.database.clone());
        self.server.check_rpc()?;
        self.check_names()?;
        let mut plan = Plan::default();
        plan.lines.push(format!("the server is InfluxDB {}", self.server.version));
        let what = format!("the database {} with {} shards", self.definitions.database, self.shards().count());
        plan.lines.push(match self.replaces {
            true => format!(
                "{what} goes to {0}: it is proven as {1} first; what stands there is backed up into {2}, which stays until you \
                 remove it, and dropped",
                self.to,
                self.aside(),
                self.kept().display()
            ),
            false => format!("{what} goes to {}, where nothing is", self.to),
        });
        if self.is_cut {
            plan.lines.push(format!(
                "{} is there, of a restore that was cut; it is dropped once {} stands",
                self.aside(),
                self.to
            ));
        }
        if self.points.is_empty() {
            plan.lines.push("how many points there were isn't known, because another job made the backup".to_owned());
        }
        if self.drops_aside {
            plan.lines.push(format!("{} is of a restore that didn't end, and is dropped first", self.aside()));
        }
        if !self.is_own {
            plan.replaces.push(self.to.clone());
        }
        plan.bytes = self.shards().map(|file| file.size).sum();
        plan.lines.extend(self.check_free_space(plan.bytes)?);
        Ok(plan)
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.shards().any(|file| file.is(&entry.name))
    }

    fn remains(&self) -> Remains {
        let name = |name: &str| ServiceName { server: self.server.address(), name: name.to_owned() };
        let targets = if self.is_own { vec![name(&self.to)] } else { Vec::new() };
        let leftovers = if self.replaces { vec![name(&self.aside())] } else { Vec::new() };
        Remains { targets, leftovers }
    }

    fn still_there(&self, leftovers: &[ServiceName]) -> Result<Vec<String>, Error> {
        let there = self.server.databases()?;
        let is_there = |left: &&ServiceName| left.server == self.server.address() && there.contains(&left.name);
        let line = |left: &ServiceName| leftover(&left.name, &self.drop_command(&left.name));
        Ok(leftovers.iter().filter(is_there).map(line).collect())
    }

    fn prepare(&mut self) -> Result<(), Error> {
        if self.drops_aside {
            self.server.run(&format!("DROP DATABASE {}", quoted(&self.aside())))?;
        }
        let scratch = ScratchFolder::new(&self.needs.scratch)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = scratch.0.join(name);
            fs::write(&path, bytes).map_err(|error| Error::failed(&format!("writing {}", path.display()), &error))
        };
        write(&format!("{STEM}{}", portable::MANIFEST), &self.manifest_text)?;
        write(&self.manifest.meta.file_name, &self.meta)?;
        self.scratch = Some(scratch);
        Ok(())
    }

    fn loader(&self) -> Result<Box<dyn Target + Send>, Error> {
        let files = self.shards().cloned().collect();
        Ok(Box::new(ShardLoader { folder: self.folder()?.to_owned(), files, current: None }))
    }

    /// The server's own program loads and takes no other name later: what replaces something is loaded beside it first.
    fn verify(&mut self) -> Result<Proof, Error> {
        let name = if self.replaces { self.aside() } else { self.to.clone() };
        let (counted, missing) = self.load(&name)?;
        self.note(&missing);
        // What lives isn't dropped for less.
        if self.replaces && !missing.is_empty() {
            return Err(Error::Failed(format!(
                "{to} stays as it was, because influxd didn't restore all:{}\nWhat it did restore is in {name}, for you to look at; to \
                 have that in the place of {to}: {}, {}, and the same command without --replace",
                missing.iter().map(|line| format!("\n    {line}")).collect::<String>(),
                self.drop_command(&name),
                self.drop_command(&self.to),
                to = self.to,
            )));
        }
        let shards = self.shards().count();
        let checks = match (self.points.is_empty(), missing.is_empty()) {
            (true, _) => format!("all {shards} shards are there"),
            (false, false) => format!(
                "all {shards} shards are there; of {} measurements not all have the counts of the backup",
                self.points.len()
            ),
            (false, true) => format!(
                "all {shards} shards are there, and the counts of {} measurements are those of the backup",
                self.points.len()
            ),
        };
        Ok(Proof { counted: Some((counted, "points")), checks })
    }

    fn commit(&mut self, _: &Proof) -> Result<Vec<Warning>, Error> {
        if self.replaces {
            self.replace()?;
        }
        if self.is_cut {
            self.server.run(&format!("DROP DATABASE {}", quoted(&self.aside())))?;
        }
        self.make_definitions()?;
        self.scratch = None;
        Ok(std::mem::take(&mut self.warnings))
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.scratch = None;
        let name = if self.replaces { self.aside() } else { self.to.clone() };
        self.server.run(&format!("DROP DATABASE {}", quoted(&name)))
    }

    fn standing(&self) -> Result<Option<String>, Error> {
        let there = self.server.databases()?.contains(&self.to);
        let mut all = Objects::default();
        all.note(format!("database {}", self.to), if there { "there" } else { "absent" });
        if there {
            standing::note(&self.server, &self.to, self.until, &mut all)?;
        }
        Ok(Some(all.digest()))
    }

    fn undone(&self) -> String {
        let (to, aside) = (&self.to, self.aside());
        let command = |name: &str| self.drop_command(name);
        match self.replaces {
            true => format!(
                "{to} is as it was if {} is empty or absent; if {to} is absent, {aside} holds the restored data and that folder \
                 the old, and the same command goes on; if both are there, {} before that",
                self.kept().display(),
                command(&aside)
            ),
            false => format!("{to} was not there before; if it is there now it is unfinished: {}", command(to)),
        }
    }
}

/// Writes shards into the portable folder, beside others that write other ones.
struct ShardLoader {
    folder: PathBuf,
    files: Vec<ShardFile>,
    current: Option<(ShardFile, GzEncoder<BufWriter<File>>, TarCheck)>,
}

impl ShardLoader {
    fn path(&self, file: &ShardFile) -> PathBuf {
        self.folder.join(&file.file_name)
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::failed(&format!("writing {}", path.display()), error)
}

impl Target for ShardLoader {
    fn wants(&mut self, _: &Entry) -> Result<bool, Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let Some(file) = self.files.iter().find(|file| file.is(&entry.name)).cloned() else {
            return Err(Error::Failed(format!("{} is no shard of the backup", entry.name)));
        };
        let path = self.path(&file);
        let out = File::create_new(&path).map_err(|error| failed(&path, &error))?;
        // It is read once, and goes then.
        let out = GzEncoder::new(BufWriter::new(out), Compression::fast());
        self.current = Some((file, out, TarCheck::default()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some((file, out, check)) = &mut self.current else {
            return Err(Error::Failed("the load had ended before".to_owned()));
        };
        check.push(bytes);
        out.write_all(bytes).map_err(|error| failed(&self.folder.join(&file.file_name), &error))
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some((file, out, check)) = self.current.take() else { return Ok(()) };
        check_whole(&file, &check)?;
        let path = self.path(&file);
        let written = out.finish().and_then(|mut out| out.flush());
        written.map_err(|error| failed(&path, &error))
    }

    fn abandon(&mut self) {
        self.current = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        Ok(Vec::new())
    }
}
