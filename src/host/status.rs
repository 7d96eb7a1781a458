//! `host status`: how old the newest backup of each set is, by its arrival, so that a machine that has gone silent is seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Places;
use super::area::Area;
use super::check::{HostDamage, at_a_glance};
use super::checkpoints::InterruptibleCheckpoints;
use super::ledger::Ledger;
use super::owner::AccountOwner;
use super::policy::HostPolicy;
use super::{failed, holds, verify};
use crate::disk::Space;
use crate::error::{Error, Result};
use crate::format::layout::parse_snapshot_name;
use crate::progress::Interrupt;
use crate::time::{Clock, Timestamp};

/// Over how long growth is counted.
pub const GROWTH: Duration = Duration::from_secs(28 * 24 * 3600);

/// Status of a set of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatus {
    /// The set.
    pub set: String,
    /// Its snapshots.
    pub snapshots: u64,
    /// When the newest arrived; None if the policy names a set that has none.
    pub newest: Option<Timestamp>,
    /// How old the newest may be.
    pub rpo: Option<Duration>,
    /// Whether it is older, and isn't retired.
    pub late: bool,
    /// Whether the set, or its account, was retired after its newest snapshot.
    pub retired: bool,
}

/// Status of an account.
#[derive(Debug, Default)]
pub struct AccountStatus {
    /// The account.
    pub account: String,
    /// Its sets, by name.
    pub sets: Vec<SetStatus>,
    /// Objects that were accepted and are kept.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that arrived within [`GROWTH`] and are kept.
    pub grown: u64,
    /// Whose account it is.
    pub owner: AccountOwner,
    /// Snapshots that are held.
    pub held: u64,
    /// When everything was last verified.
    pub verified: Option<Timestamp>,
    /// Missing and differing objects, by name and size now and according to the last verification.
    pub damage: Vec<HostDamage>,
    /// Why it isn't known, if it isn't.
    pub failure: Option<Error>,
}

/// Status of the host.
#[derive(Debug, Default)]
pub struct HostStatus {
    /// The accounts, by name.
    pub accounts: Vec<AccountStatus>,
    /// Bytes that are free.
    pub free: u64,
    /// In how many days they are used up, at the growth of the last weeks and with nothing pruned. None if nothing grows.
    pub days_until_full: Option<u64>,
}

/// Examines the accounts. Nothing is changed, and no lock is waited for.
///
/// # Errors
///
/// Where the root can't be read.
pub fn status(places: &Places, accounts: &[String], policy: &HostPolicy, clock: &dyn Clock) -> Result<HostStatus> {
    let now = clock.now();
    let mut host = HostStatus::default();
    for account in places.chosen(accounts)? {
        let mut status = AccountStatus { account: account.clone(), ..AccountStatus::default() };
        status.failure = look(places, policy, now, &mut status).err();
        host.accounts.push(status);
    }
    host.free = Space::of(&places.root).map_err(|error| failed("looking at", &places.root, error))?.free;
    let grown: u64 = host.accounts.iter().map(|account| account.grown).sum();
    let days = u128::from(GROWTH.as_secs() / (24 * 3600));
    host.days_until_full = u128::from(host.free)
        .saturating_mul(days)
        .checked_div(u128::from(grown))
        .map(|days| u64::try_from(days).unwrap_or(u64::MAX));
    Ok(host)
}

fn look(places: &Places, policy: &HostPolicy, now: Timestamp, status: &mut AccountStatus) -> Result<()> {
    let state = places.ledger(&status.account);
    let ledger = Ledger::read(&state)?;
    let mut sets: BTreeMap<String, (u64, Option<Timestamp>)> = BTreeMap::new();
    for set in policy.sets(&status.account) {
        sets.insert(set.clone(), (0, None));
    }
    for (name, entry) in ledger.entries() {
        status.objects += 1;
        status.bytes += entry.size;
        status.grown += if now.since(entry.arrival) < GROWTH { entry.size } else { 0 };
        if let Some(name) = parse_snapshot_name(name) {
            let (snapshots, newest) = sets.entry(name.set).or_default();
            *snapshots += 1;
            *newest = (*newest).max(Some(entry.arrival));
        }
    }
    let described = sets.into_iter().map(|(set, (snapshots, newest))| {
        let rpo = policy.rpo(&status.account, &set);
        let retired = ledger.owner().is_retired(&set, newest);
        let late = !retired && rpo.is_some_and(|rpo| newest.is_none_or(|newest| now.since(newest) > rpo));
        SetStatus { set, snapshots, newest, rpo, late, retired }
    });
    status.sets = described.collect();
    status.owner = ledger.owner().clone();
    status.held = holds::read(&state)?.len() as u64;
    status.verified = verify::last_whole(&state);
    let chroot = places.chroot(&status.account);
    let interrupt = Interrupt::default();
    let steps = InterruptibleCheckpoints(&interrupt);
    let area = Area::open(&chroot, &steps).map_err(|error| failed("opening the account's folder", &chroot, error))?;
    status.damage = at_a_glance(&area, &ledger)?;
    let known = verify::known_damage(&state)?.into_iter();
    status.damage.extend(known.filter(|damage| ledger.get(&damage.object).is_some()));
    status.damage.dedup_by(|a, b| a.object == b.object);
    Ok(())
}
