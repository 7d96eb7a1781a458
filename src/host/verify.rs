//! `host verify`: reads every object against the ledger. No key is needed: the ledger has the hash of each.
//!
//! A run that was ended resumes where it stopped: its progress and findings are in a file beside the ledger.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::accept::make_state;
use super::area::{Area, hash};
use super::check::{HostDamage, Look, lacking, open_if_readable};
use super::checkpoints::InterruptibleCheckpoints;
use super::ledger::{Ledger, LedgerEntry, parse_name};
use super::{Places, failed};
use crate::crypto::random_bytes;
use crate::disk::replace;
use crate::error::{Error, Result};
use crate::id::Hasher;
use crate::progress::{Counter, Interrupt, Progress};
use crate::remote::{Folder, ObjectName};
use crate::repository::{self, Lock};
use crate::time::{Clock, Timestamp};
use crate::warning::{Warning, WarningKind};

/// Objects that are read at the same time and between two looks at the clock.
const GROUP: usize = 16;
/// How often it is written down how far it came.
const EVERY: Duration = Duration::from_secs(2);

/// The accounts and objects to verify.
#[derive(Debug, Clone)]
pub struct HostVerifyOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The accounts; all that have a repository where none is named.
    pub accounts: Vec<String>,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
    /// The share of the objects that is read, drawn at random; 1 for all.
    pub sample: f64,
    /// The most bytes that are read a second.
    pub limit: Option<u64>,
}

/// Findings for one account.
#[derive(Debug, Default)]
pub struct HostVerifyReport {
    /// The account.
    pub account: String,
    /// Objects that were read in this run.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of the ledger.
    pub of: u64,
    /// Whether an earlier run, which was ended, had read the others.
    pub resumed: bool,
    /// Objects that are missing or differ, and snapshots that lack packs.
    pub damage: Vec<HostDamage>,
    /// Findings for a person.
    pub warnings: Vec<Warning>,
    /// Why it ended early, where it did.
    pub failure: Option<Error>,
}

/// Verifies the accounts' objects. One account's failure, in its report, doesn't keep the others.
///
/// # Errors
///
/// Where the root can't be read, and on an interrupt.
pub fn verify(
    options: &HostVerifyOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<HostVerifyReport>> {
    let mut reports = Vec::new();
    for account in options.places.chosen(&options.accounts)? {
        let mut report = HostVerifyReport { account: account.clone(), ..HostVerifyReport::default() };
        match verify_account(options, &account, clock, progress, interrupt, &mut report) {
            Err(Error::Repository(repository::Error::Interrupted)) => return Err(repository::Error::Interrupted.into()),
            ended => report.failure = ended.err(),
        }
        reports.push(report);
    }
    Ok(reports)
}

fn verify_account(
    options: &HostVerifyOptions,
    account: &str,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
    report: &mut HostVerifyReport,
) -> Result<()> {
    let state = options.places.ledger(account);
    // A lock of its own: objects can be accepted at the same time.
    let own = state.join("verify");
    make_state(&own)?;
    let _lock = Lock::take(&own, "host verify", options.wait, progress, interrupt)?;
    let read_ledger = || {
        let _lock = Lock::take(&state, "host verify", options.wait, progress, interrupt)?;
        Ledger::open(&state)
    };
    let opened = read_ledger()?;
    report.warnings.extend(opened.note.map(|why| WarningKind::CutLedger.warning(why)));
    let ledger = opened.ledger;
    let chroot = options.places.chroot(account);
    let steps = InterruptibleCheckpoints(interrupt);
    let area = Area::open(&chroot, &steps).map_err(|error| failed("opening the account's folder", &chroot, error))?;
    report.of = ledger.entries().len() as u64;

    let mut run = AccountVerification {
        area: &area,
        options,
        progress,
        interrupt,
        report,
        reached: Reached::open(&own, options.sample)?,
    };
    run.all(&ledger)?;
    let damaged = std::mem::take(&mut run.reached.damage);
    // An object that was pruned in the meantime is no damage.
    let now = if damaged.is_empty() { ledger } else { read_ledger()?.ledger };
    report.damage = damaged.into_iter().filter(|damage| now.get(&damage.object).is_some()).collect();
    run_ended(&own, &report.damage, options.sample, clock.now())?;
    // Missing packs of snapshots are looked up each time, and not recorded.
    let snapshots = now.entries().keys().filter(|name| name.folder() == Folder::Snapshots);
    let lacking = lacking(&area, snapshots, &|name| now.accounts_for(name))?;
    let damaged: HashSet<ObjectName> = report.damage.iter().map(|damage| damage.object.clone()).collect();
    report.damage.extend(lacking.into_iter().filter(|damage| !damaged.contains(&damage.object)));
    Ok(())
}

/// Records the findings of a complete run, for `prune` and `status`. A sample can only add to them.
fn run_ended(own: &Path, damage: &[HostDamage], sample: f64, now: Timestamp) -> Result<()> {
    let path = own.join(DAMAGED);
    let mut all = if sample >= 1.0 { Vec::new() } else { read_damage(&path)? };
    all.extend_from_slice(damage);
    let text: String = all.iter().map(damage_line).collect();
    replace(&path, text.as_bytes(), 0o600).map_err(|error| failed("writing", &path, error))?;
    if sample < 1.0 {
        return Ok(());
    }
    let path = own.join(WHOLE);
    replace(&path, format!("{}\n", now.compact()).as_bytes(), 0o600)
        .map_err(|error| failed("writing", &path, error))?;
    Reached::forget(own)
}

/// The findings of the last run.
const DAMAGED: &str = "damaged";
/// When the last run over everything ended.
const WHOLE: &str = "whole";

/// Findings of verifications that have not been repaired since.
pub(super) fn known_damage(state: &Path) -> Result<Vec<HostDamage>> {
    read_damage(&state.join("verify").join(DAMAGED))
}

/// When everything was last verified.
pub(super) fn last_whole(state: &Path) -> Option<Timestamp> {
    Timestamp::from_compact(fs::read_to_string(state.join("verify").join(WHOLE)).ok()?.trim())
}

fn read_damage(path: &Path) -> Result<Vec<HostDamage>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("reading", path, error)),
        Ok(text) => Ok(text.lines().filter_map(parse_damage).collect()),
    }
}

fn damage_line(damage: &HostDamage) -> String {
    format!("damaged {} {}\n", damage.object, damage.reason.replace('\n', " "))
}

fn parse_damage(line: &str) -> Option<HostDamage> {
    let (name, reason) = line.strip_prefix("damaged ")?.split_once(' ')?;
    Some(HostDamage { object: parse_name(name)?, reason: reason.to_owned() })
}

/// One run on one account.
struct AccountVerification<'a> {
    area: &'a Area<'a>,
    options: &'a HostVerifyOptions,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    report: &'a mut HostVerifyReport,
    reached: Reached,
}

impl AccountVerification<'_> {
    fn all(&mut self, ledger: &Ledger) -> Result<()> {
        let seed = *random_bytes();
        let after = self.reached.after.clone();
        self.report.resumed = after.is_some();
        let chosen = |name: &ObjectName| {
            after.as_ref().is_none_or(|after| name > after) && is_drawn(&seed, name, self.options.sample)
        };
        let entries: Vec<_> = ledger.entries().iter().filter(|(name, _)| chosen(name)).collect();
        let bytes = entries.iter().map(|(_, entry)| entry.size).sum();
        self.progress.phase(&format!("verifying {}", self.report.account), Some(bytes), None);
        let started = Instant::now();
        let mut written = Instant::now();
        let group = if self.options.limit.is_some() { 1 } else { GROUP };
        for group in entries.chunks(group) {
            self.group(group)?;
            if written.elapsed() >= EVERY {
                self.reached.save()?;
                written = Instant::now();
            }
            self.slow_down(started)?;
        }
        Ok(())
    }

    fn group(&mut self, group: &[(&ObjectName, &LedgerEntry)]) -> Result<()> {
        let mut files = Vec::new();
        for (name, entry) in group {
            files.push((*name, *entry, open_if_readable(self.area, name)?));
        }
        let differences: Vec<Option<String>> =
            files.into_par_iter().map(|(_, entry, file)| difference(file, entry)).collect();
        for ((name, entry), difference) in group.iter().zip(differences) {
            self.report.objects += 1;
            self.report.bytes += entry.size;
            self.progress.add(Counter::Bytes, entry.size);
            if let Some(reason) = difference {
                self.reached.damage.push(HostDamage { object: (*name).clone(), reason });
            }
            self.reached.after = Some((*name).clone());
        }
        Ok(())
    }

    /// Waits where more was read than the limit allows, and ends where somebody asks for it.
    fn slow_down(&mut self, started: Instant) -> Result<()> {
        loop {
            if self.interrupt.is_set() {
                self.reached.save()?;
                return Err(repository::Error::Interrupted.into());
            }
            let due = self.options.limit.map_or(0.0, |limit| self.report.bytes as f64 / limit.max(1) as f64);
            let early = due - started.elapsed().as_secs_f64();
            if early <= 0.0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs_f64(early.min(0.1)));
        }
    }
}

/// Whether an object is in the sample.
fn is_drawn(seed: &[u8; 32], name: &ObjectName, sample: f64) -> bool {
    let mut hasher = Hasher::keyed(seed);
    hasher.update(name.to_string().as_bytes());
    let [a, b, c, d, ..] = hasher.finish();
    sample >= 1.0 || f64::from(u32::from_be_bytes([a, b, c, d])) < sample * 4_294_967_296.0
}

/// How an object differs from its entry.
pub(super) fn difference(file: Look<File>, entry: &LedgerEntry) -> Option<String> {
    let mut file = match file {
        Look::Read(file) => file,
        Look::Absent => return Some("it is in the ledger, and isn't there or isn't root's".to_owned()),
        Look::Unreadable(why) => return Some(why),
    };
    match hash(&mut file, entry.size) {
        Ok((size, hash)) if (size, hash) == (entry.size, entry.hash) => None,
        Ok((size, _)) if size != entry.size => Some(format!("it hasn't the {} bytes that the ledger says", entry.size)),
        Ok(_) => Some("its bytes are not those that arrived".to_owned()),
        Err(error) => Some(format!("it can't be read: {error}")),
    }
}

/// Progress and findings of a run.
struct Reached {
    path: PathBuf,
    after: Option<ObjectName>,
    damage: Vec<HostDamage>,
    whole: bool,
}

impl Reached {
    /// The state that an earlier run left. A sample starts anew each time.
    fn open(folder: &Path, sample: f64) -> Result<Self> {
        let path = folder.join("reached");
        let mut reached = Self { after: None, damage: Vec::new(), whole: sample >= 1.0, path };
        if !reached.whole {
            return Ok(reached);
        }
        let text = match fs::read_to_string(&reached.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(reached),
            read => read.map_err(|error| failed("reading", &reached.path, error))?,
        };
        reached.after = text.lines().find_map(|line| parse_name(line.strip_prefix("after ")?));
        reached.damage = text.lines().filter_map(parse_damage).collect();
        Ok(reached)
    }

    fn save(&self) -> Result<()> {
        let Some(after) = self.after.as_ref().filter(|_| self.whole) else { return Ok(()) };
        let mut text = format!("after {after}\n");
        self.damage.iter().for_each(|damage| text += &damage_line(damage));
        replace(&self.path, text.as_bytes(), 0o600).map_err(|error| failed("writing", &self.path, error))
    }

    fn forget(folder: &Path) -> Result<()> {
        let path = folder.join("reached");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("deleting", &path, error)),
            _ => Ok(()),
        }
    }
}
