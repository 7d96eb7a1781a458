//! The backup host's side of append-only accounts. It holds no key, and runs as root beside sshd.
//!
//! ```text
//!  ROOT/ACCOUNT             root's: the account's chroot
//!  ROOT/ACCOUNT/.accept     root's alone: copies under way, and what a copy took the place of
//!  ROOT/ACCOUNT/repo/…      root's: the repository, with the six folders root:ACCOUNT 1770
//!  STATE/ACCOUNT/           root's alone: the ledger, what was seen when, the lock
//! ```
//!
//! [`prepare`](prepare::prepare) creates all that, and the account. [`accept`](accept::accept) gives each complete
//! object to root and enters it in the [ledger](ledger::Ledger). All that an account can write is hostile input: no
//! symbolic link is followed, nothing but plain files is opened, and names are shown escaped.

pub mod accept;
mod area;
mod check;
pub mod mark_lost;
pub mod holds;
pub mod ledger;
mod object;
pub mod owner;
pub mod policy;
pub mod prepare;
pub mod prune;
pub mod rename;
pub mod retire;
mod seen;
pub mod sshd;
pub mod status;
pub mod checkpoints;
pub mod verify;

use std::path::{Path, PathBuf};

use self::ledger::Ledger;
use crate::error::{Error, Result};
use crate::repository;

pub use check::HostDamage;

/// Where the host keeps things.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of the accounts' folders.
    pub root: PathBuf,
    /// The folder of the ledgers.
    pub state: PathBuf,
}

impl Places {
    /// The chroot of an account.
    pub fn chroot(&self, account: &str) -> PathBuf {
        self.root.join(account)
    }

    /// The folder of an account's ledger.
    pub fn ledger(&self, account: &str) -> PathBuf {
        self.state.join(account)
    }

    /// The accounts that were named, or all that have a repository.
    fn chosen(&self, named: &[String]) -> Result<Vec<String>> {
        if named.is_empty() { self.accounts() } else { Ok(named.to_vec()) }
    }

    /// Those of the chosen accounts that have a ledger, each with it.
    fn ledgers(&self, named: &[String]) -> Result<Vec<(String, Ledger)>> {
        let mut found = Vec::new();
        for account in self.chosen(named)? {
            let state = self.ledger(&account);
            if state.join("ledger").exists() {
                found.push((account, Ledger::read(&state)?));
            }
        }
        Ok(found)
    }

    /// The accounts that have a repository, by name.
    ///
    /// # Errors
    ///
    /// Where the root can't be read.
    pub fn accounts(&self) -> Result<Vec<String>> {
        let failed = |error| failed("reading the accounts' folder", &self.root, error);
        let mut accounts = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
            if check_account(&name).is_ok() && self.root.join(&name).join(REPOSITORY).is_dir() {
                accounts.push(name);
            }
        }
        accounts.sort();
        Ok(accounts)
    }
}

/// The repository's folder inside the chroot.
pub const REPOSITORY: &str = "repo";

/// Checks that a word can name an account: `[a-z_][a-z0-9_-]{0,31}`.
///
/// # Errors
///
/// Where it can't.
pub fn check_account(word: &str) -> std::result::Result<(), String> {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let plain = |byte: u8| first(byte) || byte.is_ascii_digit() || byte == b'-';
    match word.as_bytes() {
        [start, rest @ ..] if first(*start) && rest.len() < 32 && rest.iter().all(|&byte| plain(byte)) => Ok(()),
        _ => Err(format!("{word:?} can't name an account: a-z, 0-9, _ and -, at most 32, not a digit first")),
    }
}

/// A failed call on a file of the host.
fn failed(tried: &'static str, path: &Path, source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::Interrupted => repository::Error::Interrupted.into(),
        _ => repository::Error::Io { tried, path: path.to_owned(), source }.into(),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod name_tests {
    use super::*;

    #[test]
    fn an_account_has_a_plain_name() {
        for good in ["vm1", "_x", "a-b_c", &"a".repeat(32)] {
            assert!(check_account(good).is_ok(), "{good}");
        }
        for bad in ["", "1vm", "-x", "a/b", "a b", "Vm", "..", "ä", "a%u", &"a".repeat(33)] {
            assert!(check_account(bad).is_err(), "{bad}");
        }
    }
}
