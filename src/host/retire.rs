//! `host retire`: a machine, or one of its sets, that has no more backups.
//!
//! Logins are refused, and no backup is missed any more. Stored objects stay until their deletion is requested.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Group, User};

use super::accept::accept_account;
use super::checkpoints::InterruptibleCheckpoints;
use super::ledger::Ledger;
use super::owner::Fact;
use super::sshd::{Sshd, run};
use super::{Places, failed};
use crate::error::{Error, Result};
use crate::format::layout::parse_snapshot_name;
use crate::progress::{Interrupt, Progress};
use crate::repository::Lock;
use crate::time::Clock;

/// The account or set to retire.
#[derive(Debug, Clone)]
pub struct RetireOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The account.
    pub account: String,
    /// One of its sets; None for the whole account.
    pub set: Option<String>,
    /// Whether all that arrived is deleted, with the ledger.
    pub delete: bool,
    /// The folder with a file of public keys for each account.
    pub authorized_keys: PathBuf,
    /// The SSH server.
    pub sshd: Sshd,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
}

/// Result.
#[derive(Debug)]
pub struct Retired {
    /// Changes, each a sentence.
    pub changes: Vec<String>,
    /// Whether sshd has to read its configuration.
    pub reload: bool,
}

/// Retires an account or a set. It can be run again: completed steps are left alone.
///
/// # Errors
///
/// [`Error::Usage`] if there is no such account or set.
pub fn retire(
    options: &RetireOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Retired> {
    let RetireOptions { places, account, .. } = options;
    let state = places.ledger(account);
    if !state.join("ledger").exists() {
        return Err(Error::Usage(format!("there is no ledger of an account {account} in {}", places.state.display())));
    }
    let steps = InterruptibleCheckpoints(interrupt);
    let mut done = Retired { changes: Vec::new(), reload: false };
    let lock = Lock::take(&state, "host retire", options.wait, progress, interrupt)?;
    if let Some(set) = &options.set {
        let mut ledger = Ledger::open(&state)?.ledger;
        let known = ledger.entries().keys().filter_map(parse_snapshot_name).any(|name| name.set == *set);
        if !known && !ledger.owner().sets.contains_key(set) {
            return Err(Error::Usage(format!("no snapshot of a set {set} of {account} has arrived")));
        }
        ledger.remember(Fact::SetRetired(set.clone()), clock.now(), &steps)?;
        done.changes.push(format!("the set {set} of {account} is retired: nobody misses its backups"));
        return Ok(done);
    }
    shut_out(options, &mut done)?;
    if options.delete {
        // The ledger is deleted last: with it this can be run again.
        let chroot = places.chroot(account);
        remove(fs::remove_dir_all(&chroot)).map_err(|error| failed("deleting", &chroot, error))?;
        drop(lock);
        fs::remove_dir_all(&state).map_err(|error| failed("deleting", &state, error))?;
        done.changes.push(format!("{} and {} were deleted", chroot.display(), state.display()));
        return Ok(done);
    }
    // Objects uploaded until now are kept like the rest.
    let accepted = accept_account(places, account, clock.now(), progress, &steps);
    if let Some(failure) = accepted.failure {
        return Err(failure);
    }
    let mut ledger = Ledger::open(&state)?.ledger;
    if ledger.owner().retired.is_none() {
        ledger.remember(Fact::Retired, clock.now(), &steps)?;
        done.changes.push(format!("the account {account} is retired: its backups stay, and nobody misses new ones"));
    }
    Ok(done)
}

/// Takes keys, sshd's settings and accounts away, those of the readers first.
fn shut_out(options: &RetireOptions, done: &mut Retired) -> Result<()> {
    let account = &options.account;
    let mut logins = readers(account)?;
    logins.push(account.clone());
    for login in logins {
        let keys = options.authorized_keys.join(&login);
        if remove(fs::remove_file(&keys)).map_err(|error| failed("removing", &keys, error))? {
            done.changes.push(format!("no key is let into {login} any more"));
        }
        done.reload |= options.sshd.forget(&login)?;
        let user = User::from_name(&login).map_err(|error| failed("looking up", &keys, error.into()))?;
        if user.is_some() {
            run(Command::new("userdel").arg(&login))?;
            done.changes.push(format!("the account {login} was removed"));
        }
    }
    Ok(())
}

/// The accounts that read an account's objects: those whose group is the account's.
pub(super) fn readers(account: &str) -> Result<Vec<String>> {
    let users = run(Command::new("getent").arg("passwd"))?;
    let look = |error: nix::Error| failed("looking up", std::path::Path::new(account), error.into());
    let Some(group) = Group::from_name(account).map_err(look)? else { return Ok(Vec::new()) };
    let own = group.gid.as_raw().to_string();
    let words = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let readers = words.filter(|words| words.get(3) == Some(&own.as_str()) && words[0] != account);
    Ok(readers.map(|words| words[0].to_owned()).collect())
}

/// Whether something was removed; it is no error if it was absent.
fn remove(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
