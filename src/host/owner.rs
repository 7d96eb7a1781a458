//! Whose account it is. The ledger remembers it, so that no other machine takes an account over silently.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::RepositoryId;
use crate::time::Timestamp;

/// The ledger's record of an account's owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountOwner {
    /// The machine that writes here, by its machine-id; None if not given.
    pub machine: Option<MachineId>,
    /// The repositories whose snapshots arrived: one, and those that rotations of its keys made of it.
    pub repositories: BTreeSet<RepositoryId>,
    /// When the account was retired.
    pub retired: Option<Timestamp>,
    /// Retired sets, and when they were retired. A set with a later arrival is not retired.
    pub sets: BTreeMap<String, Timestamp>,
}

/// A machine's name for itself: the 32 hex digits of `/etc/machine-id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineId(String);

impl MachineId {
    /// Reads the file's current content.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!("{text:?} is no machine-id: give the 32 hex digits of the machine's /etc/machine-id")),
        }
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A statement for the ledger about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    /// A machine writes here from now on; None for one that didn't say which it is.
    Machine(Option<MachineId>),
    /// A snapshot of this repository arrived.
    Repository(RepositoryId),
    /// Nobody writes here any more.
    Retired,
    /// A set has no more backups.
    SetRetired(String),
}

impl Fact {
    /// Its words in the ledger, behind the time.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Machine(Some(machine)) => format!("machine {machine}"),
            Self::Machine(None) => "machine -".to_owned(),
            Self::Repository(id) => format!("repository {id}"),
            Self::Retired => "retired".to_owned(),
            Self::SetRetired(set) => format!("set-retired {set}"),
        }
    }

    /// Reads them.
    pub(super) fn parse(words: &str) -> Option<Self> {
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        match (word, rest) {
            ("machine", "-") => Some(Self::Machine(None)),
            ("machine", id) => MachineId::parse(id).ok().map(|id| Self::Machine(Some(id))),
            ("repository", id) => id.parse().ok().map(Self::Repository),
            ("retired", "") => Some(Self::Retired),
            ("set-retired", set) if !set.is_empty() => Some(Self::SetRetired(set.to_owned())),
            _ => None,
        }
    }
}

impl AccountOwner {
    /// Takes a fact in.
    pub(super) fn learn(&mut self, fact: Fact, time: Timestamp) {
        match fact {
            Fact::Machine(machine) => {
                self.machine = machine;
                self.retired = None;
            }
            Fact::Repository(id) => drop(self.repositories.insert(id)),
            Fact::Retired => self.retired = Some(time),
            Fact::SetRetired(set) => drop(self.sets.insert(set, time)),
        }
    }

    /// Whether a set whose newest snapshot arrived then, or its account, is retired.
    pub fn is_retired(&self, set: &str, newest: Option<Timestamp>) -> bool {
        let retired = self.retired.max(self.sets.get(set).copied());
        retired.is_some_and(|time| newest.is_none_or(|newest| newest <= time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_as_they_were_written() {
        let machine = MachineId::parse("0123456789ABCDEF0123456789abcdef\n").unwrap();
        for fact in [
            Fact::Machine(Some(machine)),
            Fact::Machine(None),
            Fact::Repository(RepositoryId::from_bytes([7; RepositoryId::LEN])),
            Fact::Retired,
            Fact::SetRetired("web".to_owned()),
        ] {
            assert_eq!(Fact::parse(&fact.words()), Some(fact));
        }
        for wrong in ["", "machine", "machine x", "repository 1", "retired now", "set-retired", "other"] {
            assert_eq!(Fact::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_arrives_after_a_set_was_retired_is_missed_again() {
        let at = Timestamp::from_seconds;
        let mut owner = AccountOwner::default();
        owner.learn(Fact::SetRetired("web".to_owned()), at(10));
        assert!(owner.is_retired("web", Some(at(10))) && owner.is_retired("web", None));
        assert!(!owner.is_retired("web", Some(at(11))) && !owner.is_retired("shop", None));
        owner.learn(Fact::Retired, at(20));
        assert!(owner.is_retired("shop", Some(at(15))));
        owner.learn(Fact::Machine(None), at(30));
        assert!(!owner.is_retired("shop", Some(at(15))));
    }
}
