//! Value parsers of the command line that several commands use.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use clap::Args;
use varu::id::{RepositoryId, SnapshotId};
use varu::job::open::Trust;
use varu::job::spec::check_set_name;
use varu::repository::Chosen;

/// Which snapshot is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotWord {
    /// The newest one that isn't suspect.
    Latest,
    /// The one whose id starts with these hexadecimal digits, 1 to 32.
    Prefix(String),
}

impl FromStr for SnapshotWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match word {
            "latest" => Ok(Self::Latest),
            _ if (1..=SnapshotId::LEN * 2).contains(&word.len()) && word.bytes().all(digits) => {
                Ok(Self::Prefix(word.to_owned()))
            }
            _ => Err("a snapshot is an id, the beginning of one (0-9, a-f), or \"latest\"".to_owned()),
        }
    }
}

/// Which snapshot of a set is meant: what stands after the `@` of `SET@yesterday`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The newest one that isn't suspect.
    Latest,
    /// The newest of this time or before, in a form of a time.
    Until(String),
}

/// A set, and which of its snapshots where that is said: `SET` or `SET@WHEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetWord {
    /// The set.
    pub set: String,
    /// Which of its snapshots.
    pub when: Option<When>,
}

impl FromStr for SetWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (set, when) = match word.split_once('@') {
            None => (word, None),
            Some((_, "")) => return Err("after the @ comes latest, yesterday, or a time as 2026-11-27".to_owned()),
            Some((set, "latest")) => (set, Some(When::Latest)),
            Some((set, when)) => (set, Some(When::Until(when.to_owned()))),
        };
        Ok(Self { set: set_name(set)?, when })
    }
}

/// A snapshot of any set, or one of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// By its id, or the newest of all sets.
    Any(SnapshotWord),
    /// That of a set.
    Of(String, When),
}

impl FromStr for Pick {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if !word.contains('@') {
            return word
                .parse()
                .map(Self::Any)
                .map_err(|error: String| format!("{error}, or SET@latest, SET@yesterday"));
        }
        let SetWord { set, when } = word.parse()?;
        Ok(Self::Of(set, when.unwrap_or(When::Latest)))
    }
}

/// Reads the name of a set.
pub fn set_name(word: &str) -> Result<String, String> {
    check_set_name(word).map(|()| word.to_owned())
}

/// Reads a tag: it has the form of a set's name.
pub fn tag(word: &str) -> Result<String, String> {
    check_set_name(word).map(|()| word.to_owned()).map_err(|message| message.replace("can't name a set", "is no tag"))
}

/// Reads a share of the data, `5%`, as a number above 0 and up to 1.
pub fn sample(word: &str) -> Result<f64, String> {
    let number = word.trim().strip_suffix('%').map(str::trim_end).and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("a share above 0 % and up to 100 % is expected, as \"5%\"".to_owned()),
    }
}

/// The beginning of a snapshot's id, as people are shown it.
pub fn short(id: &SnapshotId) -> String {
    id.short()
}

/// Whether a word means a path: it has a slash.
pub fn is_path(word: &OsStr) -> bool {
    word.as_bytes().contains(&b'/')
}

/// The option with which a person vouches for a repository that the identity file doesn't name.
#[derive(Debug, Default, Clone, Args)]
pub struct TrustArgs {
    /// Trust this repository, although the identity file doesn't name it.
    #[arg(long, value_name = "ID")]
    pub trust_repository: Option<RepositoryId>,

    /// Continue with older snapshots, although there are keys or newer snapshots that the identity file doesn't account for.
    #[arg(long)]
    pub ignore_newer: bool,
}

impl TrustArgs {
    /// What a person vouches for.
    pub fn vouched(&self) -> Trust {
        Trust { repositories: self.trust_repository.into_iter().collect(), ignore_newer: self.ignore_newer }
    }
}

impl From<&SnapshotWord> for Chosen {
    fn from(word: &SnapshotWord) -> Self {
        match word {
            SnapshotWord::Latest => Chosen::Latest,
            SnapshotWord::Prefix(prefix) => Chosen::Id(prefix.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_an_id_a_prefix_or_latest() {
        assert_eq!("latest".parse(), Ok(SnapshotWord::Latest));
        assert_eq!("0af".parse(), Ok(SnapshotWord::Prefix("0af".to_owned())));
        for bad in ["", "Latest", "0AF", "xyz", &"a".repeat(33)] {
            assert!(bad.parse::<SnapshotWord>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_snapshot_of_a_set_is_said_by_its_time() {
        let of = |when| Ok(Pick::Of("shop".to_owned(), when));
        assert_eq!("shop@latest".parse(), of(When::Latest));
        assert_eq!("shop@2026-11-27 14:03".parse(), of(When::Until("2026-11-27 14:03".to_owned())));
        assert_eq!("latest".parse(), Ok(Pick::Any(SnapshotWord::Latest)));
        assert_eq!("shop".parse(), Ok(SetWord { set: "shop".to_owned(), when: None }));
        for bad in ["shop@", "@latest", "Shop@latest", "../x@latest", ""] {
            assert!(bad.parse::<Pick>().is_err() && bad.parse::<SetWord>().is_err(), "{bad}");
        }
        assert!("shop".parse::<Pick>().unwrap_err().contains("SET@latest"));
    }

    #[test]
    fn a_sample_is_a_share() {
        assert_eq!(sample("5%"), Ok(0.05));
        assert_eq!(sample("0.1 %"), Ok(0.001));
        for bad in ["5", "0%", "101%", "-1%", "NaN%", "inf%", "%"] {
            assert!(sample(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_word_with_a_slash_is_a_path() {
        assert!(is_path("a/".as_ref()) && !is_path("a".as_ref()));
    }
}
