//! The host's retention policy and age limits, by account and set.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::retention::{Rules, TagRule};

/// The rules at one level of the policy. A missing rule is taken from the next outer level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// As [`Rules::keep`].
    pub keep: Option<Duration>,
    /// As [`Rules::keep_chains`].
    pub keep_chains: Option<u32>,
    /// As [`Rules::tags`].
    pub tags: Option<BTreeMap<String, TagRule>>,
    /// The age that the newest backup of a set may have.
    pub rpo: Option<Duration>,
}

/// The rules of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountPolicy {
    /// For all its sets.
    pub all: Rule,
    /// For one set, by name.
    pub sets: BTreeMap<String, Rule>,
}

/// Root's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// For all accounts.
    pub all: Rule,
    /// For one account, by name.
    pub accounts: BTreeMap<String, AccountPolicy>,
}

impl HostPolicy {
    /// The first rule that is given, from the set outwards.
    fn find<T>(&self, account: &str, set: &str, of: impl Fn(&Rule) -> Option<T>) -> Option<T> {
        let account = self.accounts.get(account);
        let rules =
            [account.and_then(|account| account.sets.get(set)), account.map(|account| &account.all), Some(&self.all)];
        rules.into_iter().flatten().find_map(of)
    }

    /// How long the snapshots of a set stay.
    pub fn rules(&self, account: &str, set: &str) -> Rules {
        let default = Rules::default();
        Rules {
            keep: self.find(account, set, |rule| rule.keep).unwrap_or(default.keep),
            keep_chains: self.find(account, set, |rule| rule.keep_chains).unwrap_or(default.keep_chains),
            tags: self.find(account, set, |rule| rule.tags.clone()).unwrap_or(default.tags),
        }
    }

    /// The maximum age of a set's newest backup; None without a rule.
    pub fn rpo(&self, account: &str, set: &str) -> Option<Duration> {
        self.find(account, set, |rule| rule.rpo)
    }

    /// The sets that the policy names for an account.
    pub fn sets(&self, account: &str) -> impl Iterator<Item = &String> {
        self.accounts.get(account).into_iter().flat_map(|account| account.sets.keys())
    }
}
