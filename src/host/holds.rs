//! `host hold` and `host release`: snapshots that stay until somebody lets them go.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Places, failed};
use crate::disk::replace;
use crate::error::{Error, Result};
use crate::format::layout::parse_snapshot_name;
use crate::id::SnapshotId;
use crate::progress::{Interrupt, Progress};
use crate::repository::Lock;

/// A snapshot that was found in an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSnapshot {
    /// The account.
    pub account: String,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whether that was so before.
    pub already: bool,
}

/// The snapshot to hold or release.
#[derive(Debug, Clone)]
pub struct HoldOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The accounts to look in; all where none is named.
    pub accounts: Vec<String>,
    /// The beginning of the snapshot's id.
    pub prefix: String,
    /// Whether it is held, or released.
    pub hold: bool,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
}

/// Holds a snapshot, or releases it.
///
/// # Errors
///
/// [`Error::Usage`] if not exactly one snapshot is meant.
pub fn hold(options: &HoldOptions, progress: &dyn Progress, interrupt: &Interrupt) -> Result<HeldSnapshot> {
    let (account, snapshot) = find(options)?;
    let state = options.places.ledger(&account);
    let _lock = Lock::take(&state, "host hold", options.wait, progress, interrupt)?;
    let mut held = read(&state)?;
    let changed = if options.hold { held.insert(snapshot) } else { held.remove(&snapshot) };
    if changed {
        let text: String = held.iter().map(|id| format!("{id}\n")).collect();
        let path = state.join(FILE);
        replace(&path, text.as_bytes(), 0o600).map_err(|error| failed("writing", &path, error))?;
    }
    Ok(HeldSnapshot { account, snapshot, already: !changed })
}

const FILE: &str = "holds";

fn find(options: &HoldOptions) -> Result<(String, SnapshotId)> {
    let mut found = Vec::new();
    for (account, ledger) in options.places.ledgers(&options.accounts)? {
        let ids = ledger.entries().keys().filter_map(parse_snapshot_name).map(|name| name.id);
        found.extend(ids.filter(|id| id.to_string().starts_with(&options.prefix)).map(|id| (account.clone(), id)));
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Error::Usage(format!(
            "no account has an accepted snapshot whose id starts with {:?}; `varu host prune --dry-run` shows what there is",
            options.prefix
        ))),
        _ => Err(Error::Usage(format!(
            "{} snapshots have ids that start with {:?}; give more of it, or --account",
            found.len(),
            options.prefix
        ))),
    }
}

/// The snapshots of an account that are held.
pub(super) fn read(state: &Path) -> Result<BTreeSet<SnapshotId>> {
    let path = state.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read.map_err(|error| failed("reading", &path, error))?,
    };
    let ids: std::result::Result<_, _> = text.lines().map(str::parse).collect();
    // A hold that can't be read must not look like none.
    ids.map_err(|error| Error::Damaged(format!("{} is damaged: {error}; write one id a line", path.display())))
}
