//! `host accept`: gives each complete object to root, and enters it in the ledger.
//!
//! Until an object is accepted its account can still move it. So it is copied to a new inode of root's, hashed while it
//! is copied, and exchanged with the file of its name; a write handle that was left open writes to the old inode, which
//! is deleted. An object that was moved away before is identified by its bytes, and put back.
//!
//! The order: the copy is flushed, then renamed, then its folder is flushed, then the ledger's line is. Only then is the
//! old inode deleted. So a crash at any point loses nothing, and the ledger never lists a file that isn't root's; a file
//! of root's that the ledger lacks is entered by the next run.

mod misplaced;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::time::Duration;

use super::area::{Area, FileKind, FileLocation, NamedFile, RootCopy, is_of_one_file};
use super::check::{self, HostDamage};
use super::checkpoints::{Checkpoints, InterruptibleCheckpoints};
use super::ledger::{BATCH, Ledger, LedgerEntry};
use super::object::{Form, form, later, name_of, snapshot_header};
use super::owner::Fact;
use super::seen::Sightings;
use super::{Places, failed};
use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::layout::{info_name, is_key_name, parse_pack_name, parse_snapshot_name};
use crate::id::RepositoryId;
use crate::progress::{Counter, Interrupt, Progress};
use crate::remote::{Folder, ObjectName};
use crate::repository::{self, Lock};
use crate::time::{Clock, Timestamp};
use crate::warning::{Warning, WarningKind};

pub use misplaced::SWEEP_AFTER;

/// How many things that are no objects are named.
const NAMED: usize = 20;

/// Where to accept, and how long to wait for another run.
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The accounts; all that have a repository where none is named.
    pub accounts: Vec<String>,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
}

/// Result for one account.
#[derive(Debug, Default)]
pub struct AcceptReport {
    /// The account.
    pub account: String,
    /// Objects that are root's and in the ledger now, and weren't before.
    pub accepted: u64,
    /// Their bytes.
    pub bytes: u64,
    /// All objects that are root's and in the ledger.
    pub objects: u64,
    /// Objects that were put where they belong: from where, shown so that nothing in it drives a terminal, and to where.
    pub put_back: Vec<(String, ObjectName)>,
    /// Files swept from `pending/`.
    pub swept: u64,
    /// Objects that are missing, or differ from the ledger, and snapshots that lack packs or can't be read.
    pub damage: Vec<HostDamage>,
    /// An object of a later version of the format, where there is one, and that version. It is left where it is.
    pub later: Option<(String, u8)>,
    /// Findings that need a person's attention.
    pub warnings: Vec<Warning>,
    /// Why it ended early, where it did.
    pub failure: Option<Error>,
}

/// Accepts the objects in the accounts' folders. One account's failure, in its report, doesn't stop the others.
///
/// # Errors
///
/// Where the root can't be read, and on an interrupt.
pub fn accept(
    options: &AcceptOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<AcceptReport>> {
    let mut reports = Vec::new();
    for account in options.places.chosen(&options.accounts)? {
        if interrupt.is_set() {
            return Err(repository::Error::Interrupted.into());
        }
        let state = options.places.ledger(&account);
        let locked =
            make_state(&state).and_then(|()| Ok(Lock::take(&state, "host accept", options.wait, progress, interrupt)?));
        progress.phase(&format!("accepting {account}"), None, None);
        let report = match locked {
            Ok(_lock) => {
                accept_account(&options.places, &account, clock.now(), progress, &InterruptibleCheckpoints(interrupt))
            }
            Err(failure) => AcceptReport { account, failure: Some(failure), ..AcceptReport::default() },
        };
        reports.push(report);
    }
    Ok(reports)
}

/// Makes the folder of a ledger, which is root's alone.
pub(super) fn make_state(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed("making the folder", folder, error))
}

/// Accepts one account's objects. The caller holds its lock. `steps` is asked before each change: where it stops, the
/// next run continues.
pub fn accept_account(
    places: &Places,
    account: &str,
    now: Timestamp,
    progress: &dyn Progress,
    steps: &dyn Checkpoints,
) -> AcceptReport {
    let mut report = AcceptReport { account: account.to_owned(), ..AcceptReport::default() };
    let failure = Acceptance::open(places, account, now, progress, steps, &mut report).and_then(Acceptance::run);
    report.failure = failure.err();
    report
}

/// One run on one account.
struct Acceptance<'a> {
    area: Area<'a>,
    ledger: Ledger,
    seen: Sightings,
    now: Timestamp,
    progress: &'a dyn Progress,
    steps: &'a dyn Checkpoints,
    report: &'a mut AcceptReport,
    /// Objects that are root's.
    present: HashSet<ObjectName>,
    /// Objects that are root's, and will be entered in the ledger.
    new: Vec<(ObjectName, LedgerEntry)>,
    /// Repositories whose snapshots are among those, and that the ledger doesn't know yet.
    repositories: BTreeSet<RepositoryId>,
    /// Folders with new names that aren't flushed.
    touched: BTreeSet<Folder>,
    /// Names among the copies that are deleted once the ledger has their content.
    pending_deletes: Vec<Vec<u8>>,
    /// Files elsewhere that go then.
    second: Vec<NamedFile>,
    /// Files that may be objects which were moved away.
    misplaced: Vec<NamedFile>,
    /// Files that are no objects, in folders of objects: how many beyond those that are named.
    unnamed: u64,
}

/// Classification of a file.
enum Examined {
    /// A complete object, its copy, and its proper place.
    Whole(Box<RootCopy>, ObjectName),
    /// No complete object.
    Junk(&'static str),
    /// An object of that later version of the format; only a later program can tell whether it is complete.
    Later(u8),
    /// It went away, or changed while it was read.
    Gone,
}

impl<'a> Acceptance<'a> {
    fn open(
        places: &Places,
        account: &str,
        now: Timestamp,
        progress: &'a dyn Progress,
        steps: &'a dyn Checkpoints,
        report: &'a mut AcceptReport,
    ) -> Result<Self> {
        let chroot = places.chroot(account);
        let area =
            Area::open(&chroot, steps).map_err(|error| failed("opening the account's folder", &chroot, error))?;
        let opened = Ledger::open(&places.ledger(account))?;
        report.warnings.extend(opened.note.map(|why| WarningKind::CutLedger.warning(why)));
        Ok(Self {
            area,
            ledger: opened.ledger,
            seen: Sightings::open(&places.ledger(account))?,
            now,
            progress,
            steps,
            report,
            present: HashSet::new(),
            new: Vec::new(),
            repositories: BTreeSet::new(),
            touched: BTreeSet::new(),
            pending_deletes: Vec::new(),
            second: Vec::new(),
            misplaced: Vec::new(),
            unnamed: 0,
        })
    }

    fn run(mut self) -> Result<()> {
        self.clear_copies()?;
        // The packs of a snapshot are accepted before it.
        for folder in [Folder::Keys, Folder::Info, Folder::Packs, Folder::Snapshots] {
            for found in self.list(FileLocation::In(folder))? {
                let done = self.in_place(&found);
                self.pass(&found, done)?;
            }
            self.settle()?;
        }
        for spot in [FileLocation::Staging, FileLocation::In(Folder::Marks), FileLocation::In(Folder::Pending)] {
            let found = self.list(spot)?;
            self.misplaced.extend(found);
        }
        self.follow_misplaced()?;
        self.check_ledger();
        self.check_needs()?;
        self.seen.save(self.steps)?;
        self.report.objects = self.present.len() as u64;
        if self.unnamed > 0 {
            let more = format!("{} more things are no objects", self.unnamed);
            self.report.warnings.push(WarningKind::NoObject.warning(more));
        }
        Ok(())
    }

    fn list(&self, spot: FileLocation) -> Result<Vec<NamedFile>> {
        self.area.list(spot).map_err(|error| failed("listing a folder of", self.area.path(), error))
    }

    /// The error of a call on something that was found.
    fn fail(&self, tried: &'static str, what: impl std::fmt::Display, error: io::Error) -> Error {
        failed(tried, &self.area.path().join(what.to_string()), error)
    }

    /// Skips a file that the disk can't read: the other objects are accepted all the same.
    fn pass(&mut self, found: &NamedFile, done: Result<()>) -> Result<()> {
        match done {
            Err(Error::Repository(repository::Error::Io { source, .. })) if is_of_one_file(&source) => {
                self.warn_of(found, "unreadable, so the disk says");
                Ok(())
            }
            done => done,
        }
    }

    /// Deletes copies that an earlier run left. The account's own files stay.
    fn clear_copies(&mut self) -> Result<()> {
        for found in self.list(FileLocation::Staging)? {
            if matches!(found.what, FileKind::Ours(_)) {
                self.discard(&found.name)?;
            }
        }
        Ok(())
    }

    fn discard(&self, name: &[u8]) -> Result<()> {
        self.area.discard(name).map_err(|error| self.fail("deleting a copy in", super::area::STAGING, error))
    }

    /// Examines the files in a folder of objects.
    fn in_place(&mut self, found: &NamedFile) -> Result<()> {
        let place = object_name(found);
        match (found.what, &place) {
            (FileKind::Strange(what), _) => self.warn_of(found, what),
            (FileKind::Ours(inode), Some(name)) => match self.ledger.get(name) {
                Some(entry) if entry.size == inode.size => {
                    self.present.insert(name.clone());
                }
                Some(entry) => {
                    let reason = format!("it has {} bytes, and the ledger says {}", inode.size, entry.size);
                    self.report.damage.push(HostDamage { object: name.clone(), reason });
                    self.present.insert(name.clone());
                }
                // `host prune` was interrupted while it deleted it.
                None if self.ledger.gone().contains(name) => {}
                None => self.enter_ours(found, name.clone())?,
            },
            (FileKind::Ours(_), None) => self.warn_of(found, "not an object, and root's"),
            (FileKind::Theirs(_), _) if self.seen.is_judged(found) => self.junk(found, "no whole object"),
            (FileKind::Theirs(_), _) => match self.examine(found, place.as_ref())? {
                Examined::Whole(copy, name) if Some(&name) == place.as_ref() => self.put(*copy, name, found)?,
                Examined::Whole(copy, _) => {
                    self.discard(copy.name.as_bytes())?;
                    self.misplaced.push(found.clone());
                }
                Examined::Junk(why) => self.junk(found, why),
                Examined::Later(version) => self.later(found, version),
                Examined::Gone => {}
            },
        }
        Ok(())
    }

    /// Leaves an object of a later version of the format where it is.
    fn later(&mut self, found: &NamedFile, version: u8) {
        let text = format!(
            "{found} is of version {version} of the format, and this varu knows {VERSION}: update varu on this host. Until then it \
             isn't accepted, and nothing of its repository is pruned. If no varu of yours wrote it, delete it"
        );
        match self.report.later.is_none() || self.report.warnings.len() < NAMED {
            true => self.report.warnings.push(WarningKind::NewerFormat.warning(text)),
            false => self.unnamed += 1,
        }
        self.report.later.get_or_insert((found.to_string(), version));
    }

    /// Enters files that are root's already: a run was interrupted before it could, or root put them there.
    fn enter_ours(&mut self, found: &NamedFile, name: ObjectName) -> Result<()> {
        match self.examine(found, Some(&name))? {
            Examined::Whole(copy, belongs) => {
                self.discard(copy.name.as_bytes())?;
                if belongs != name {
                    self.warn_of(found, "root's, and not what its name says");
                    return Ok(());
                }
                self.touched.insert(name.folder());
                self.enter(name, &copy)?;
            }
            Examined::Junk(why) => self.warn_of(found, why),
            Examined::Later(version) => self.later(found, version),
            Examined::Gone => {}
        }
        Ok(())
    }

    /// Classifies a plain file. A complete object is returned with a copy.
    fn examine(&self, found: &NamedFile, place: Option<&ObjectName>) -> Result<Examined> {
        let fail = |error| self.fail("reading", found, error);
        let (FileKind::Ours(inode) | FileKind::Theirs(inode)) = found.what else {
            return Ok(Examined::Junk("no plain file"));
        };
        let Some(file) = self.area.read(found).map_err(fail)? else { return Ok(Examined::Gone) };
        let Some(form) = form(&file, inode.size, place).map_err(fail)? else {
            let later = later(&file).map_err(fail)?;
            return Ok(later.map_or(Examined::Junk("no whole object"), Examined::Later));
        };
        if form != Form::Info && self.area.is_sparse(&file).map_err(fail)? {
            return Ok(Examined::Junk("a file with holes, which no upload makes"));
        }
        let copy = self.area.copy(&file, inode.size).map_err(|error| self.fail("copying", found, error))?;
        let Some(copy) = copy else { return Ok(Examined::Gone) };
        self.progress.add(Counter::Bytes, copy.size);
        match name_of(form, &copy, place).map_err(fail)? {
            Some(name) => Ok(Examined::Whole(Box::new(copy), name)),
            None => {
                self.discard(copy.name.as_bytes())?;
                Ok(Examined::Junk("no whole object"))
            }
        }
    }

    /// Puts a copy under its name. `source` is the file that it was made from.
    fn put(&mut self, copy: RootCopy, name: ObjectName, source: &NamedFile) -> Result<()> {
        let displaced = self.area.place(&copy, &name).map_err(|error| self.fail("accepting", &name, error))?;
        self.touched.insert(name.folder());
        match displaced {
            // The file that was accepted before under this name and differs, or the source of the copy.
            Some(NamedFile { what: FileKind::Ours(_), name, .. }) => self.pending_deletes.push(name),
            Some(NamedFile { what, name, .. }) if what.is(&source.what) => self.pending_deletes.push(name),
            Some(other) => self.misplaced.push(other),
            None => {}
        }
        if FileLocation::In(name.folder()) != source.spot || name.name().as_bytes() != source.name {
            self.second.push(source.clone());
        }
        self.enter(name, &copy)
    }

    fn enter(&mut self, name: ObjectName, copy: &RootCopy) -> Result<()> {
        if name.folder() == Folder::Snapshots {
            let header = snapshot_header(&copy.file).map_err(|error| self.fail("reading", &name, error))?;
            let id = header.map(|(header, _)| header.repository);
            self.repositories.extend(id.filter(|id| !self.ledger.owner().repositories.contains(id)));
        }
        self.present.insert(name.clone());
        let entry = LedgerEntry { hash: copy.hash, size: copy.size, arrival: self.now };
        match self.ledger.get(&name) {
            // It was there before, and has come back: it arrived when it first did.
            Some(known) if (known.hash, known.size) == (entry.hash, entry.size) => {}
            _ => self.new.push((name, entry)),
        }
        self.report.accepted += 1;
        self.report.bytes += copy.size;
        match self.new.len() + self.pending_deletes.len() + self.second.len() >= BATCH {
            true => self.settle(),
            false => Ok(()),
        }
    }

    /// Makes accepted objects durable, then deletes the files that they were copied from.
    fn settle(&mut self) -> Result<()> {
        for folder in std::mem::take(&mut self.touched) {
            let flushed = self.area.flush(FileLocation::In(folder));
            flushed.map_err(|error| self.fail("flushing", folder.name(), error))?;
        }
        self.ledger.enter(std::mem::take(&mut self.new), self.steps)?;
        for id in std::mem::take(&mut self.repositories) {
            self.ledger.remember(Fact::Repository(id), self.now, self.steps)?;
        }
        for name in std::mem::take(&mut self.pending_deletes) {
            self.discard(&name)?;
        }
        for found in std::mem::take(&mut self.second) {
            self.remove(&found)?;
        }
        Ok(())
    }

    /// A file in a folder of objects that is none.
    fn junk(&mut self, found: &NamedFile, why: &str) {
        self.seen.judge(found, self.now);
        self.warn_of(found, why);
    }

    fn warn_of(&mut self, found: &NamedFile, why: &str) {
        match self.report.warnings.len() < NAMED {
            true => {
                let text = format!("{found} is {why}; it was left alone");
                self.report.warnings.push(WarningKind::NoObject.warning(text));
            }
            false => self.unnamed += 1,
        }
    }

    /// Compares the ledger with the files' names and sizes. Comparing bytes is the job of `host verify`.
    fn check_ledger(&mut self) {
        for name in self.ledger.entries().keys().filter(|name| !self.present.contains(*name)) {
            let reason = "it is in the ledger, and isn't there or isn't root's".to_owned();
            self.report.damage.push(HostDamage { object: name.clone(), reason });
        }
    }

    /// Looks whether each snapshot has its packs.
    fn check_needs(&mut self) -> Result<()> {
        let mut snapshots: Vec<_> = self.present.iter().filter(|name| name.folder() == Folder::Snapshots).collect();
        snapshots.sort();
        let has = |name: &ObjectName| self.present.contains(name) || self.ledger.marked_lost().contains(name);
        let lacking = check::lacking(&self.area, snapshots.into_iter(), &has)?;
        self.report.damage.extend(lacking);
        Ok(())
    }
}

/// The name of an object that belongs into the folder where this was found.
fn object_name(found: &NamedFile) -> Option<ObjectName> {
    let FileLocation::In(folder) = found.spot else { return None };
    let name = ObjectName::new(folder, std::str::from_utf8(&found.name).ok()?)?;
    let fits = parse_pack_name(&name).is_some()
        || parse_snapshot_name(&name).is_some()
        || is_key_name(&name)
        || name == info_name();
    fits.then_some(name)
}
