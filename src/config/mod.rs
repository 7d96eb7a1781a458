//! The configuration file, `/etc/varu/varu.toml`: read into [`varu::job::spec`] and checked whole, every error at once.

mod document;
mod host;
mod keys;
mod refresh;
mod set;
mod source;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use varu::class::{Class, Classified};
use varu::job::spec::{Configuration, Environment, RepositorySettings, Retention, check_set_name};
use varu::retention::TagRule;
use varu::time::parse_duration;

pub use document::ConfigProblem;
use document::Findings;
use document::Section;
pub use host::load_policy;
use keys::ConfigTable;
use values::Read;
pub use values::parse_rate;

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
    /// A host's policy can't be read.
    UnreadablePolicy {
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
        problems: Vec<ConfigProblem>,
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
            Self::UnreadablePolicy { path, source } => {
                write!(f, "the policy {} can't be read: {source}", path.display())
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

/// Reads the file at `path`.
///
/// # Errors
///
/// A file that can't be read, and every error in it at once.
pub fn load(path: &Path) -> Result<Configuration, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(text).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
}

/// Reads a configuration's text.
///
/// # Errors
///
/// All errors, by line. Where the text isn't TOML these are the errors of its form alone.
pub fn parse(text: String) -> Result<Configuration, Vec<ConfigProblem>> {
    let (configuration, not_acted_on) = read_document(&text, ConfigTable::Root, read)?;
    Ok(Configuration { text: Some(text), not_acted_on, ..configuration })
}

/// Reads a document whose own table is of that kind: what `read` makes of it, and the keys that this version doesn't act on.
fn read_document<T>(
    text: &str,
    part: ConfigTable,
    read: impl FnOnce(&Section) -> T,
) -> Result<(T, Vec<String>), Vec<ConfigProblem>> {
    let findings = Findings::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        findings.problem(error.span().map_or(0, |span| span.start), error.message());
    }
    let made = errors.is_empty().then(|| read(&Section::root(part, document.get_ref(), &findings)));
    match (made, findings.end()) {
        (Some(made), (problems, not_acted_on)) if problems.is_empty() => Ok((made, not_acted_on)),
        (_, (problems, _)) => Err(problems),
    }
}

fn read(root: &Section) -> Configuration {
    let mut sets = BTreeMap::new();
    for (name, section) in root.named_sections("sets", ConfigTable::Set) {
        if let Err(message) = check_set_name(&name) {
            section.problem(message);
        }
        if let Some(set) = set::read(&section) {
            sets.insert(name, set);
        }
    }
    let mut restores = BTreeMap::new();
    for (name, section) in root.named_sections("restores", ConfigTable::Restore) {
        section.check_keys(None);
        if let Err(message) = check_set_name(&name) {
            section.problem(message);
        }
        if let Some(refresh) = refresh::read(&section) {
            restores.insert(name, refresh);
        }
    }
    Configuration {
        repository: read_repository(&root.section("repository", ConfigTable::Repository)),
        retention: read_retention(&root.section("retention", ConfigTable::Retention)),
        environment: read_environment(&root.section("environment", ConfigTable::Environment)),
        sets,
        restores,
        ..Configuration::default()
    }
}

fn read_repository(section: &Section) -> RepositorySettings {
    let usual = RepositorySettings::default();
    RepositorySettings {
        url: section.take("url", values::url),
        writer_key: section.take("writer_key", values::path),
        identity: section.take("identity", values::path),
        connections: section.take("connections", |value| values::number(value, 1, 64)).unwrap_or(usual.connections),
        ssh_key: section.take("ssh_key", values::path),
        jump_host: section.take("jump_host", values::text),
        known_hosts: section.take("known_hosts", values::path),
        ssh_config: section.take("ssh_config", values::path),
        connect_timeout: section.take("connect_timeout", values::duration),
        stall_timeout: section.take("stall_timeout", values::duration),
        retry_for: section.take("retry_for", values::duration),
        limit_upload: section.take("limit_upload", values::rate),
        limit_download: section.take("limit_download", values::rate),
        isolate_chains: section.take("isolate_chains", values::boolean).unwrap_or(usual.isolate_chains),
        base_cache_max: section.take("base_cache_max", values::size).unwrap_or(usual.base_cache_max),
        spool_max: section.take("spool_max", values::size).unwrap_or(usual.spool_max),
    }
}

fn read_retention(section: &Section) -> Retention {
    let usual = Retention::default();
    Retention {
        keep: section.take("keep", values::duration).unwrap_or(usual.keep),
        keep_chains: section.take("keep_chains", values::count),
        grace: section.take("grace", values::duration).unwrap_or(usual.grace),
        tags: section.take("tags", tag_rules).unwrap_or_default(),
    }
}

fn read_environment(section: &Section) -> Environment {
    Environment { name: section.take("name", values::text), restore_from: section.take("restore_from", values::texts) }
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

#[cfg(test)]
mod tests;
