//! The configuration file, `/etc/varu/varu.toml`: read and checked whole, every error at once.

mod document;
mod host;
mod keys;
mod options;
mod refresh;
mod set;
mod source;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use varu::class::{Class, Classified};
use varu::retention::{Rules, TagRule};
use varu::time::parse_duration;

use document::Findings;
pub use document::Problem;
use document::Section;
pub use host::load_policy;
use keys::Part;
pub use keys::nearest;
pub use refresh::{Destination, Refresh};
pub use set::{Hook, MAX_SHRINK, Schedule, Set};
pub use source::{Files, Source, SourceKind};
use values::Read;
pub use values::{Acknowledged, check_set_name, parse_rate};

/// Where the configuration is when nobody says.
pub const DEFAULT_PATH: &str = "/etc/varu/varu.toml";

/// All that a configuration file says, with the defaults of what it doesn't say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[repository]`.
    pub repository: Repository,
    /// `[retention]`.
    pub retention: Retention,
    /// `[environment]`.
    pub environment: Environment,
    /// `[sets.NAME]`, by name.
    pub sets: BTreeMap<String, Set>,
    /// `[restores.NAME]`, by name.
    pub restores: BTreeMap<String, Refresh>,
    /// The file's own text; None where there is no file.
    pub text: Option<String>,
    /// Keys that stand in the file and that this version checks, but doesn't act on.
    pub not_acted_on: Vec<String>,
}

/// Where the repository is, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// An absolute path or a URL.
    pub url: Option<String>,
    /// The writer key's file.
    pub writer_key: Option<PathBuf>,
    /// The identity's file, where this machine may restore unattended.
    pub identity: Option<PathBuf>,
    /// The most connections to the remote at one time.
    pub connections: u32,
    /// The only key to log in with.
    pub ssh_key: Option<PathBuf>,
    /// The hosts to go through, as `ssh -J` takes them.
    pub jump_host: Option<String>,
    /// The only file in which the host's key is looked up.
    pub known_hosts: Option<PathBuf>,
    /// ssh's configuration file, in place of the account's and the system's.
    pub ssh_config: Option<PathBuf>,
    /// How long reaching the host may take.
    pub connect_timeout: Option<Duration>,
    /// How long no byte may move while an answer is awaited.
    pub stall_timeout: Option<Duration>,
    /// How long a remote that is away is tried again.
    pub retry_for: Option<Duration>,
    /// The most bytes a second to the remote.
    pub limit_upload: Option<NonZeroU64>,
    /// The most bytes a second from the remote.
    pub limit_download: Option<NonZeroU64>,
    /// Whether every full stands alone.
    pub isolate_chains: bool,
    /// The most bytes of the base cache; None is as many as a set has.
    pub base_cache_max: Option<u64>,
    /// The most bytes that wait on this machine's disk for the remote.
    pub spool_max: Option<u64>,
}

/// How long snapshots stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The age of a chain's newest snapshot after which the chain goes.
    pub keep: Duration,
    /// The number of chains that stay at least.
    pub keep_chains: Option<u32>,
    /// The time between a snapshot's mark and its end.
    pub grace: Duration,
    /// Rules for tags.
    pub tags: BTreeMap<String, TagRule>,
}

/// What kind of machine this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its name, stored with each snapshot.
    pub name: Option<String>,
    /// The environments whose snapshots may be restored into services here; None: nothing is said.
    pub restore_from: Option<Vec<String>>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read, and these things are wrong with it.
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, by line.
        problems: Vec<Problem>,
    },
}

impl std::error::Error for ConfigError {}

impl Classified for ConfigError {
    fn class(&self) -> Class {
        Class::Usage
    }
}

/// One line for each problem: `/etc/varu/varu.toml:12: …`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => {
                write!(
                    f,
                    "the configuration {} can't be read: {source}; --config names another, /dev/null none",
                    path.display()
                )
            }
            Self::Invalid { path, problems } => {
                let count = problems.len();
                write!(f, "the configuration has {count} error{}:", if count == 1 { "" } else { "s" })?;
                problems
                    .iter()
                    .try_for_each(|problem| write!(f, "\n  {}:{}: {}", path.display(), problem.line, problem.message))
            }
        }
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// A file that can't be read, and every error in it at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(text).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// What holds where there is no file.
    pub fn absent() -> Self {
        Self::read(&Section::root(&DeTable::new(), &Findings::new("")))
    }

    /// Reads a configuration's text.
    ///
    /// # Errors
    ///
    /// All errors, by line. Where the text isn't TOML these are the errors of its form alone.
    pub fn parse(text: String) -> Result<Self, Vec<Problem>> {
        let findings = Findings::new(&text);
        let (document, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            findings.problem(error.span().map_or(0, |span| span.start), error.message());
        }
        let config = errors.is_empty().then(|| Self::read(&Section::root(document.get_ref(), &findings)));
        match (config, findings.end()) {
            (Some(config), (problems, not_acted_on)) if problems.is_empty() => {
                Ok(Self { text: Some(text), not_acted_on, ..config })
            }
            (_, (problems, _)) => Err(problems),
        }
    }

    /// The files that a service of another account than root is handed: secrets, and what ssh needs.
    pub fn secrets_mut(&mut self) -> Vec<&mut PathBuf> {
        let Repository { writer_key, identity, ssh_key, known_hosts, ssh_config, .. } = &mut self.repository;
        let ssh = ssh_key.iter_mut().chain(known_hosts).chain(ssh_config);
        let mut secrets: Vec<&mut PathBuf> = writer_key.iter_mut().chain(identity).chain(ssh).collect();
        secrets.extend(self.restores.values_mut().flat_map(Refresh::secrets_mut));
        secrets.extend(self.sets.values_mut().filter_map(|set| set.source.option_file_mut()?.as_mut()));
        secrets
    }

    fn read(root: &Section) -> Self {
        let mut sets = BTreeMap::new();
        for (name, section) in root.named_sections("sets", Part::Set) {
            if let Err(message) = check_set_name(&name) {
                section.problem(message);
            }
            if let Some(set) = Set::read(&section) {
                sets.insert(name, set);
            }
        }
        let mut restores = BTreeMap::new();
        for (name, section) in root.named_sections("restores", Part::Restore) {
            section.check_keys(None);
            if let Err(message) = check_set_name(&name) {
                section.problem(message);
            }
            if let Some(refresh) = Refresh::read(&section) {
                restores.insert(name, refresh);
            }
        }
        Self {
            repository: Repository::read(&root.section("repository", Part::Repository)),
            retention: Retention::read(&root.section("retention", Part::Retention)),
            environment: Environment::read(&root.section("environment", Part::Environment)),
            sets,
            restores,
            text: None,
            not_acted_on: Vec::new(),
        }
    }
}

impl Repository {
    fn read(section: &Section) -> Self {
        Self {
            url: section.take("url", values::url),
            writer_key: section.take("writer_key", values::path),
            identity: section.take("identity", values::path),
            connections: section.take("connections", |value| values::number(value, 1, 64)).unwrap_or(8),
            ssh_key: section.take("ssh_key", values::path),
            jump_host: section.take("jump_host", values::text),
            known_hosts: section.take("known_hosts", values::path),
            ssh_config: section.take("ssh_config", values::path),
            connect_timeout: section.take("connect_timeout", values::duration),
            stall_timeout: section.take("stall_timeout", values::duration),
            retry_for: section.take("retry_for", values::duration),
            limit_upload: section.take("limit_upload", values::rate),
            limit_download: section.take("limit_download", values::rate),
            isolate_chains: section.take("isolate_chains", values::boolean).unwrap_or_default(),
            base_cache_max: section.take("base_cache_max", values::size),
            spool_max: section.take("spool_max", values::size),
        }
    }
}

impl Config {
    /// The rules for how long the snapshots of a set stay: its own, else those of `[retention]`.
    pub fn rules(&self, set: &str) -> Rules {
        let set = self.sets.get(set);
        let common = &self.retention;
        Rules {
            keep: set.and_then(|set| set.keep).unwrap_or(common.keep),
            keep_chains: set.and_then(|set| set.keep_chains).or(common.keep_chains).unwrap_or(1),
            tags: common.tags.clone(),
        }
    }
}

impl Retention {
    fn read(section: &Section) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            keep: section.take("keep", values::duration).unwrap_or(28 * DAY),
            keep_chains: section.take("keep_chains", values::count),
            grace: section.take("grace", values::duration).unwrap_or(DAY),
            tags: section.take("tags", tag_rules).unwrap_or_default(),
        }
    }
}

fn tag_rules(value: &DeValue) -> Read<BTreeMap<String, TagRule>> {
    let Some(table) = value.as_table() else { return values::expected("a table of tags", value) };
    let rules = table.iter().map(|(tag, rule)| {
        let name: &str = tag.get_ref();
        let wrong = |message: String| format!("{}: {message}", varu::entry::Escaped(name.as_bytes()));
        Ok((name.to_owned(), tag_rule(rule.get_ref()).map_err(wrong)?))
    });
    rules.collect()
}

fn tag_rule(value: &DeValue) -> Read<TagRule> {
    match value.as_str() {
        None => values::count(value)
            .map(TagRule::Newest)
            .map_err(|_| "a number of snapshots, or a duration as \"1 year\", is expected".to_owned()),
        Some(text) => match parse_duration(text) {
            Ok(Duration::ZERO) => Err("a duration above zero is expected".to_owned()),
            Ok(duration) => Ok(TagRule::For(duration)),
            Err(error) => Err(error.to_string()),
        },
    }
}

impl Environment {
    fn read(section: &Section) -> Self {
        Self { name: section.take("name", values::text), restore_from: section.take("restore_from", values::texts) }
    }
}

#[cfg(test)]
mod tests;
