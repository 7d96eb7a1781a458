//! `host rename`: an account under another name, with its history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Group, User};

use super::retire::readers;
use super::sshd::{Access, Sshd, run};
use super::{Places, failed};
use crate::error::{Error, Result};
use crate::progress::{Interrupt, Progress};
use crate::repository::Lock;

/// Which account gets which name.
#[derive(Debug, Clone)]
pub struct RenameOptions {
    /// Where the host keeps things.
    pub places: Places,
    /// The account.
    pub account: String,
    /// Its new name.
    pub name: String,
    /// The folder with a file of public keys for each account.
    pub authorized_keys: PathBuf,
    /// The SSH server.
    pub sshd: Sshd,
    /// How long another run on the same account is waited for.
    pub wait: Duration,
}

/// Renames an account. An interrupted run is continued by repeating it: whatever has the new name already is left alone.
/// Returns the changes, each a sentence.
///
/// # Errors
///
/// [`Error::Usage`] if there is no such account, [`Error::Refused`] if the new name is taken.
pub fn rename(options: &RenameOptions, progress: &dyn Progress, interrupt: &Interrupt) -> Result<Vec<String>> {
    let RenameOptions { places, account, name, .. } = options;
    let (old, new) = (places.ledger(account), places.ledger(name));
    let moves = [
        (places.chroot(account), places.chroot(name)),
        (options.authorized_keys.join(account), options.authorized_keys.join(name)),
        (old.clone(), new.clone()),
    ];
    if let Some((_, taken)) = moves.iter().find(|(from, to)| from.exists() && to.exists()) {
        return Err(Error::Refused(format!("{} is there already: choose another name", taken.display())));
    }
    let state = if old.join("ledger").exists() { &old } else { &new };
    if !state.join("ledger").exists() {
        return Err(Error::Usage(format!("there is no ledger of an account {account} in {}", places.state.display())));
    }
    let _lock = Lock::take(state, "host rename", options.wait, progress, interrupt)?;
    let mut changes = Vec::new();
    rename_user(account, name, &mut changes)?;
    for (from, to) in moves.iter().filter(|(from, _)| from.exists()) {
        fs::rename(from, to).map_err(|error| failed("renaming", from, error))?;
        changes.push(format!("{} is {} now", from.display(), to.display()));
    }
    let chroot = places.chroot(name);
    let allow = |login: &str, access, changes: &mut Vec<String>| {
        options.sshd.allow(login, access, &chroot, &options.authorized_keys, changes).map(drop)
    };
    for reader in readers(name)? {
        allow(&reader, Access::Read, &mut changes)?;
    }
    allow(name, Access::Append, &mut changes)?;
    if options.sshd.forget(account)? {
        changes.push(format!("sshd's settings for {account} were removed"));
    }
    Ok(changes)
}

/// Gives the user and its group the new name.
fn rename_user(account: &str, name: &str, changes: &mut Vec<String>) -> Result<()> {
    let failed = |error: nix::Error| failed("looking up", Path::new(account), error.into());
    let is_user = |name: &str| User::from_name(name).map(|user| user.is_some()).map_err(failed);
    let is_group = |name: &str| Group::from_name(name).map(|group| group.is_some()).map_err(failed);
    match (is_user(account)?, is_user(name)?) {
        (true, true) => return Err(Error::Refused(format!("there is an account {name} already: choose another name"))),
        (false, false) => return Err(Error::Usage(format!("there is no account {account}"))),
        (true, false) => {
            run(Command::new("usermod").args(["--login", name, account]))?;
            changes.push(format!("the account {account} is {name} now"));
        }
        (false, true) => {}
    }
    if is_group(account)? && !is_group(name)? {
        run(Command::new("groupmod").args(["--new-name", name, account]))?;
    }
    Ok(())
}
