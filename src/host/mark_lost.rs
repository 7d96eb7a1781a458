//! `host mark-lost`: marks a damaged object without a second copy as lost, so that the machine's next backup stores its
//! content again.
//!
//! Only an object that is missing, unreadable or differs from the ledger can be marked lost, and a snapshot of which a
//! pack never came. Only root does it: a thief on the machine can't damage an accepted object, so this is no way in. The
//! ledger's line is written before the rest of the object is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::area::Area;
use super::check::{Look, fail, header, open_if_readable};
use super::checkpoints::{Checkpoints, InterruptibleCheckpoints};
use super::ledger::{Ledger, parse_name};
use super::verify::difference;
use super::{Places, failed};
use crate::error::{Error, Result};
use crate::format::layout::{pack_name, parse_pack_name, parse_snapshot_name};
use crate::id::SnapshotId;
use crate::progress::{Interrupt, Progress};
use crate::remote::{Folder, ObjectName};
use crate::repository::Lock;
use crate::time::{Clock, Timestamp};

/// The objects to mark lost.
#[derive(Debug, Clone)]
pub struct MarkLostOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The accounts to look in; all where none is named.
    pub accounts: Vec<String>,
    /// The objects, as `host verify` names them: `packs/….pack`, `snapshots/…`.
    pub objects: Vec<String>,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
}

/// The objects of an account that were marked lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedLost {
    /// The account.
    pub account: String,
    /// The objects.
    pub objects: Vec<ObjectName>,
    /// The snapshots that can't be completely restored without them, with the names of their objects.
    pub snapshots: BTreeMap<SnapshotId, ObjectName>,
}

/// Gives objects up that are damaged.
///
/// # Errors
///
/// [`Error::Usage`] if an object isn't one that exactly one account has, or is a key; [`Error::Refused`] if it is
/// intact. Then nothing was marked lost.
pub fn mark_lost(
    options: &MarkLostOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<MarkedLost> {
    let (account, objects) = find(options)?;
    let state = options.places.ledger(&account);
    let _lock = Lock::take(&state, "host mark-lost", options.wait, progress, interrupt)?;
    progress.phase(&format!("looking at what is damaged of {account}"), None, None);
    mark_objects_lost(&options.places, account, objects, clock.now(), &InterruptibleCheckpoints(interrupt))
}

/// Gives up an account's objects. Its lock is held.
pub(super) fn mark_objects_lost(
    places: &Places,
    account: String,
    objects: Vec<ObjectName>,
    now: Timestamp,
    steps: &dyn Checkpoints,
) -> Result<MarkedLost> {
    let chroot = places.chroot(&account);
    let area = Area::open(&chroot, steps).map_err(|error| failed("opening the account's folder", &chroot, error))?;
    let mut ledger = Ledger::open(&places.ledger(&account))?.ledger;
    for name in &objects {
        refuse_whole(&area, &ledger, name)?;
    }
    let snapshots = needing(&area, &ledger, &objects)?;
    // An interrupted run may have written the lines and not deleted the files: repeating it writes no second line.
    let fresh: Vec<ObjectName> = objects.iter().filter(|name| !ledger.marked_lost().contains(*name)).cloned().collect();
    ledger.mark_lost(&fresh, now, steps)?;
    let mut folders = BTreeSet::new();
    for name in &objects {
        if area.delete(name).map_err(|error| fail(&area, "deleting", name, error))? {
            folders.insert(name.folder());
        }
    }
    for folder in folders {
        let flushed = area.flush(super::area::FileLocation::In(folder));
        flushed.map_err(|error| failed("flushing", &area.path().join(folder.name()), error))?;
    }
    Ok(MarkedLost { account, objects, snapshots })
}

/// The account that has these objects, or lacks them and has snapshots that need them, or marked them lost in a run that
/// was interrupted.
fn find(options: &MarkLostOptions) -> Result<(String, Vec<ObjectName>)> {
    let mut objects = BTreeSet::new();
    for word in &options.objects {
        let name = parse_name(word).filter(|name| matches!(name.folder(), Folder::Packs | Folder::Snapshots));
        objects.insert(name.ok_or_else(|| {
            Error::Usage(format!(
                "{word:?} is no pack and no snapshot; name it as `varu host verify` does: packs/….pack or snapshots/…. A key that is \
                 damaged is put back from a second copy"
            ))
        })?);
    }
    let mut found = Vec::new();
    for (account, ledger) in options.places.ledgers(&options.accounts)? {
        let mut strange: BTreeSet<ObjectName> =
            objects.iter().filter(|name| !ledger.accounts_for(name)).cloned().collect();
        // A pack that never arrived is in no ledger; a snapshot that lists it shows whose it is.
        if !strange.is_empty() {
            strange = unneeded(&options.places, &account, &ledger, strange)?;
        }
        if strange.is_empty() {
            found.push(account);
        }
    }
    match found.len() {
        1 => Ok((found.remove(0), objects.into_iter().collect())),
        0 => Err(Error::Usage(
            "no account has all of these objects in its ledger, or snapshots that need them; `varu host verify` names what is \
             damaged"
                .to_owned(),
        )),
        // The same pack may be in the repositories of several accounts, as after a copy: then root has to choose.
        _ => Err(Error::Usage(format!("{} have such objects; give --account", found.join(" and ")))),
    }
}

/// Those of these objects that no snapshot of the account needs.
fn unneeded(
    places: &Places,
    account: &str,
    ledger: &Ledger,
    mut objects: BTreeSet<ObjectName>,
) -> Result<BTreeSet<ObjectName>> {
    let chroot = places.chroot(account);
    let interrupt = Interrupt::default();
    let steps = InterruptibleCheckpoints(&interrupt);
    let area = Area::open(&chroot, &steps).map_err(|error| failed("opening the account's folder", &chroot, error))?;
    for name in ledger.entries().keys().filter(|name| name.folder() == Folder::Snapshots) {
        if let Look::Read(header) = header(&area, name)? {
            objects.retain(|object| !header.packs.iter().any(|pack| pack_name(pack) == *object));
        }
    }
    Ok(objects)
}

/// Whether a snapshot needs a pack that never came, or that can't be read: it can be marked lost though its own bytes
/// are intact.
fn lacks(area: &Area, ledger: &Ledger, name: &ObjectName) -> Result<bool> {
    if name.folder() != Folder::Snapshots {
        return Ok(false);
    }
    Ok(match header(area, name)? {
        Look::Read(header) => header.packs.iter().any(|pack| ledger.get(&pack_name(pack)).is_none()),
        Look::Absent | Look::Unreadable(_) => true,
    })
}

/// An intact object is never marked lost.
fn refuse_whole(area: &Area, ledger: &Ledger, name: &ObjectName) -> Result<()> {
    let Some(entry) = ledger.get(name) else { return Ok(()) };
    match difference(open_if_readable(area, name)?, entry) {
        None if lacks(area, ledger, name)? => Ok(()),
        Some(_) => Ok(()),
        None => Err(Error::Refused(format!(
            "{name} is intact: its bytes are those that were accepted; nothing was marked lost"
        ))),
    }
}

/// The snapshots that list one of these packs, are one of these objects, or depend on such a snapshot.
fn needing(area: &Area, ledger: &Ledger, objects: &[ObjectName]) -> Result<BTreeMap<SnapshotId, ObjectName>> {
    let packs: BTreeSet<&ObjectName> = objects.iter().filter(|name| parse_pack_name(name).is_some()).collect();
    let (mut needing, mut children) = (BTreeMap::new(), BTreeMap::<SnapshotId, Vec<(SnapshotId, ObjectName)>>::new());
    let mut lost: Vec<SnapshotId> = Vec::new();
    for (name, parsed) in objects.iter().filter_map(|name| Some((name, parse_snapshot_name(name)?))) {
        lost.push(parsed.id);
        needing.insert(parsed.id, name.clone());
    }
    for name in ledger.entries().keys() {
        let Some(parsed) = parse_snapshot_name(name) else { continue };
        let Look::Read(header) = header(area, name)? else { continue };
        if let Some(parent) = header.parent {
            children.entry(parent.id).or_default().push((parsed.id, name.clone()));
        }
        if header.packs.iter().any(|pack| packs.contains(&pack_name(pack))) {
            needing.insert(parsed.id, name.clone());
        }
    }
    while let Some(id) = lost.pop() {
        for (child, name) in children.remove(&id).unwrap_or_default() {
            lost.push(child);
            needing.insert(child, name);
        }
    }
    Ok(needing)
}
