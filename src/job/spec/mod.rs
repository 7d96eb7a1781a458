//! Sets and all else that a configuration describes, as plain structs.
//!
//! Nothing here knows how a configuration is written: the binary's `config` reads the file into these.

pub mod defaults;
mod refresh;
mod set;
mod source;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use crate::retention::{Rules, TagRule};

pub use refresh::{Refresh, RefreshDestination};
pub use set::{Acknowledged, Hook, Hooks, LocalCopySpec, ProgramSpec, Schedule, Set, check_set_name};
pub use source::{CommandSpec, PostgresqlSpec, SourceKind, SourceSpec, StdinSpec};

/// All that a configuration describes, with the defaults of what it doesn't say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// `[repository]`.
    pub repository: RepositorySettings,
    /// `[retention]`.
    pub retention: Retention,
    /// `[environment]`.
    pub environment: Environment,
    /// `[sets.NAME]`, by name.
    pub sets: BTreeMap<String, Set>,
    /// `[restores.NAME]`, by name.
    pub restores: BTreeMap<String, Refresh>,
    /// The text that it was read from, which is stored with each snapshot; None where there is none.
    pub text: Option<String>,
    /// Keys that it has and that this version checks, but doesn't act on.
    pub not_acted_on: Vec<String>,
}

/// Where the repository is, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
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
    /// Whether chains share nothing.
    pub isolate_chains: bool,
    /// The most bytes of the base cache of a set.
    pub base_cache_max: u64,
    /// The most bytes of a backup that wait on this machine's disk for the remote.
    pub spool_max: u64,
}

impl Default for RepositorySettings {
    fn default() -> Self {
        Self {
            url: None,
            writer_key: None,
            identity: None,
            connections: defaults::CONNECTIONS,
            ssh_key: None,
            jump_host: None,
            known_hosts: None,
            ssh_config: None,
            connect_timeout: None,
            stall_timeout: None,
            retry_for: None,
            limit_upload: None,
            limit_download: None,
            isolate_chains: false,
            base_cache_max: defaults::BASE_CACHE_MAX,
            spool_max: defaults::SPOOL_MAX,
        }
    }
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

impl Default for Retention {
    fn default() -> Self {
        Self { keep: defaults::KEEP, keep_chains: None, grace: defaults::GRACE, tags: BTreeMap::new() }
    }
}

/// What kind of machine this is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Its name, stored with each snapshot.
    pub name: Option<String>,
    /// The environments whose snapshots may be restored into services here; None: nothing is said.
    pub restore_from: Option<Vec<String>>,
}

impl Configuration {
    /// The rules for how long the snapshots of a set stay: its own, else those of `[retention]`.
    pub fn rules(&self, set: &str) -> Rules {
        let set = self.sets.get(set);
        let common = &self.retention;
        Rules {
            keep: set.and_then(|set| set.keep).unwrap_or(common.keep),
            keep_chains: set.and_then(|set| set.keep_chains).or(common.keep_chains).unwrap_or(defaults::KEEP_CHAINS),
            tags: common.tags.clone(),
        }
    }

    /// The files that a service of another account than root is handed: secrets, and what ssh needs.
    pub fn secrets_mut(&mut self) -> Vec<&mut PathBuf> {
        let RepositorySettings { writer_key, identity, ssh_key, known_hosts, ssh_config, .. } = &mut self.repository;
        let ssh = ssh_key.iter_mut().chain(known_hosts).chain(ssh_config);
        let mut secrets: Vec<&mut PathBuf> = writer_key.iter_mut().chain(identity).chain(ssh).collect();
        secrets.extend(self.restores.values_mut().flat_map(Refresh::secrets_mut));
        secrets.extend(self.sets.values_mut().filter_map(|set| set.source.option_file_mut()));
        secrets
    }
}
