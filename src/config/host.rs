//! The policy of a backup host, `/etc/varu/host.toml`.

use std::io;
use std::path::Path;

use varu::host::policy::{AccountPolicy, HostPolicy, Rule};

use super::document::Section;
use super::keys::ConfigTable;
use super::{ConfigError, ConfigProblem, read_document, tag_rules, values};

/// Where the policy is when nobody says.
pub const DEFAULT_POLICY: &str = "/etc/varu/host.toml";

/// Reads the policy. The default one may be missing: then everything is kept four weeks.
///
/// # Errors
///
/// A file that can't be read, and every error in it at once.
pub fn load_policy(named: Option<&Path>) -> Result<HostPolicy, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_POLICY));
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(HostPolicy::default()),
        Err(source) => Err(ConfigError::UnreadablePolicy { path: path.to_owned(), source }),
    }
}

fn parse(text: &str) -> Result<HostPolicy, Vec<ConfigProblem>> {
    read_document(text, ConfigTable::Policy, read).map(|(policy, _)| policy)
}

fn read(root: &Section) -> HostPolicy {
    let account = |account: &Section| AccountPolicy {
        all: rule(account),
        sets: account
            .named_sections("sets", ConfigTable::AccountSet)
            .into_iter()
            .map(|(name, set)| (name, rule(&set)))
            .collect(),
    };
    let accounts = root.named_sections("accounts", ConfigTable::Account);
    HostPolicy {
        all: rule(root),
        accounts: accounts.into_iter().map(|(name, section)| (name, account(&section))).collect(),
    }
}

fn rule(section: &Section) -> Rule {
    Rule {
        keep: section.take("keep", values::duration),
        keep_chains: section.take("keep_chains", values::count),
        tags: section.take("tags", tag_rules),
        rpo: section.take("rpo", values::duration),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use varu::retention::TagRule;

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
    fn all_that_is_wrong_is_named_with_its_line() {
        let said = |text: &str| -> Vec<String> {
            let problems = parse(text).unwrap_err();
            problems.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
        };
        for (text, expected) in [
            ("kepp = '1 day'", "1: kepp: there is no such key; did you mean keep?"),
            ("\nkeep = '0 s'", "2: keep: a duration above zero is expected"),
            ("keep = 4", "1: keep: a duration in quotes"),
            ("keep_chains = 0", "1: keep_chains: a whole number from 1"),
            ("tags = { a = 1.5 }", "1: tags: a: a number of snapshots"),
            ("[accounts.vm1]\ngrace = '1 day'", "2: accounts.vm1.grace: there is no such key"),
            ("[accounts.vm1.sets.x]\nurl = 'x'", "2: accounts.vm1.sets.x.url: there is no such key"),
            ("accounts = 3", "1: accounts: a table is expected"),
            ("keep = ", "1: "),
        ] {
            let found = said(text);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{text}: {found:?}");
        }
        assert_eq!(said("keep = 4\nrpo = 5\n[accounts.a]\nx = 1").len(), 3);
    }
}
