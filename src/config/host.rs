//! The policy of a backup host, `/etc/varu/host.toml`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use varu::host::policy::{AccountPolicy, HostPolicy, Rule};
use varu::retention::TagRule;
use varu::time::parse_duration;

/// Where the policy is when nobody says.
pub const DEFAULT_POLICY: &str = "/etc/varu/host.toml";

/// A duration in words.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Length(Duration);

impl TryFrom<String> for Length {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match parse_duration(&text).map_err(|error| error.to_string())? {
            Duration::ZERO => Err("a duration above zero is expected".to_owned()),
            length => Ok(Self(length)),
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a number of snapshots, or a duration in quotes, as \"1 year\", is expected")]
enum Tag {
    Newest(u32),
    For(Length),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetTable {
    keep: Option<Length>,
    keep_chains: Option<u32>,
    tags: Option<BTreeMap<String, Tag>>,
    rpo: Option<Length>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountTable {
    keep: Option<Length>,
    keep_chains: Option<u32>,
    tags: Option<BTreeMap<String, Tag>>,
    rpo: Option<Length>,
    #[serde(default)]
    sets: BTreeMap<String, SetTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    keep: Option<Length>,
    keep_chains: Option<u32>,
    tags: Option<BTreeMap<String, Tag>>,
    rpo: Option<Length>,
    #[serde(default)]
    accounts: BTreeMap<String, AccountTable>,
}

fn rule(
    keep: Option<Length>,
    keep_chains: Option<u32>,
    tags: Option<BTreeMap<String, Tag>>,
    rpo: Option<Length>,
) -> Rule {
    let tag = |rule| match rule {
        Tag::Newest(count) => TagRule::Newest(count),
        Tag::For(length) => TagRule::For(length.0),
    };
    Rule {
        keep: keep.map(|length| length.0),
        keep_chains,
        tags: tags.map(|tags| tags.into_iter().map(|(name, rule)| (name, tag(rule))).collect()),
        rpo: rpo.map(|length| length.0),
    }
}

/// Reads the policy. The default one may be missing: then everything is kept four weeks.
///
/// # Errors
///
/// What is wrong with it, for people.
pub fn load_policy(named: Option<&Path>) -> Result<HostPolicy, String> {
    let path = named.unwrap_or(Path::new(DEFAULT_POLICY));
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|message| format!("the policy {} is wrong: {message}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(HostPolicy::default()),
        Err(error) => Err(format!("the policy {} can't be read: {error}", path.display())),
    }
}

fn parse(text: &str) -> Result<HostPolicy, String> {
    let table: PolicyTable = toml::from_str(text).map_err(|error| error.to_string())?;
    let set = |set: SetTable| rule(set.keep, set.keep_chains, set.tags, set.rpo);
    let account = |account: AccountTable| AccountPolicy {
        all: rule(account.keep, account.keep_chains, account.tags, account.rpo),
        sets: account.sets.into_iter().map(|(name, table)| (name, set(table))).collect(),
    };
    Ok(HostPolicy {
        all: rule(table.keep, table.keep_chains, table.tags, table.rpo),
        accounts: table.accounts.into_iter().map(|(name, table)| (name, account(table))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn what_is_nearer_goes_before() {
        let policy = parse(
            "keep = '4 weeks'\nrpo = '26 hours'\ntags = { pre-deploy = 2, monthly = '1 year' }\n\
             [accounts.vm1]\nkeep = '8 weeks'\n[accounts.vm1.sets.agama]\nrpo = '2 hours'\nkeep_chains = 3\n",
        )
        .unwrap();
        let rules = policy.rules("vm1", "agama");
        assert_eq!((rules.keep, rules.keep_chains), (56 * DAY, 3));
        assert_eq!(rules.tags["pre-deploy"], TagRule::Newest(2));
        assert_eq!(rules.tags["monthly"], TagRule::For(365 * DAY));
        assert_eq!((policy.rules("vm2", "x").keep, policy.rules("vm2", "x").keep_chains), (28 * DAY, 1));
        assert_eq!(policy.rpo("vm1", "agama"), Some(Duration::from_secs(7200)));
        assert_eq!(policy.rpo("vm1", "other"), Some(Duration::from_secs(26 * 3600)));
        assert_eq!(policy.sets("vm1").collect::<Vec<_>>(), ["agama"]);
        assert_eq!(HostPolicy::default().rules("x", "y").keep, 28 * DAY);
        assert_eq!(HostPolicy::default().rpo("x", "y"), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, said) in [
            ("kepp = '1 day'", "kepp"),
            ("\nkeep = '0 s'", "line 2"),
            ("keep = 4", "keep"),
            ("tags = { a = 1.5 }", "a number of snapshots"),
            ("[accounts.vm1.sets.x]\nurl = 'x'", "url"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
