//! The keys that a configuration may have, as data: what the parser knows, and what `docs/configuration.md` explains.

use varu::job::spec::SourceKind::{self, Command, Files, Influxdb, Mysql, Postgresql};

/// A table of the configuration, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigTable {
    /// The document itself.
    Root,
    /// `[repository]`.
    Repository,
    /// `[retention]`.
    Retention,
    /// `[environment]`.
    Environment,
    /// `[sets.NAME]`.
    Set,
    /// `[restores.NAME]`.
    Restore,
    /// A set's `schedule`.
    Schedule,
    /// A command round a backup, written as a table.
    Hook,
    /// The policy of a backup host, its document itself.
    Policy,
    /// `[accounts.NAME]` of a policy.
    Account,
    /// `[accounts.NAME.sets.NAME]` of a policy.
    AccountSet,
}

impl ConfigTable {
    /// How the documentation heads it.
    #[cfg(test)]
    pub const ALL: [(ConfigTable, &str); 7] = [
        (ConfigTable::Repository, "[repository]"),
        (ConfigTable::Retention, "[retention]"),
        (ConfigTable::Environment, "[environment]"),
        (ConfigTable::Set, "[sets.NAME]"),
        (ConfigTable::Restore, "[restores.NAME]"),
        (ConfigTable::Schedule, "schedule"),
        (ConfigTable::Hook, "Commands round a backup"),
    ];
}

/// A key.
#[derive(Debug)]
pub struct Key {
    /// The table that it stands in.
    pub part: ConfigTable,
    /// Its name.
    pub name: &'static str,
    /// The sources of whose sets it is; all where there is none.
    pub sources: &'static [SourceKind],
    /// Whether this version acts on it. A key that isn't acted on is checked all the same, and `config check` names it.
    pub acted_on: bool,
}

const fn key(part: ConfigTable, name: &'static str) -> Key {
    Key { part, name, sources: &[], acted_on: true }
}

const fn later(part: ConfigTable, name: &'static str) -> Key {
    Key { part, name, sources: &[], acted_on: false }
}

const fn of(sources: &'static [SourceKind], name: &'static str) -> Key {
    Key { part: ConfigTable::Set, name, sources, acted_on: true }
}

/// Sources that dump: all but `files`.
const DUMPS: &[SourceKind] = &[Mysql, Influxdb, Postgresql, Command];
const SERVERS: &[SourceKind] = &[Mysql, Influxdb, Postgresql];

/// Every key.
pub const KEYS: &[Key] = &[
    key(ConfigTable::Root, "repository"),
    key(ConfigTable::Root, "retention"),
    key(ConfigTable::Root, "environment"),
    key(ConfigTable::Root, "sets"),
    key(ConfigTable::Root, "restores"),
    key(ConfigTable::Repository, "url"),
    key(ConfigTable::Repository, "writer_key"),
    key(ConfigTable::Repository, "identity"),
    key(ConfigTable::Repository, "connections"),
    key(ConfigTable::Repository, "ssh_key"),
    key(ConfigTable::Repository, "jump_host"),
    key(ConfigTable::Repository, "known_hosts"),
    key(ConfigTable::Repository, "ssh_config"),
    key(ConfigTable::Repository, "connect_timeout"),
    key(ConfigTable::Repository, "stall_timeout"),
    key(ConfigTable::Repository, "retry_for"),
    key(ConfigTable::Repository, "limit_upload"),
    key(ConfigTable::Repository, "limit_download"),
    key(ConfigTable::Repository, "isolate_chains"),
    key(ConfigTable::Repository, "base_cache_max"),
    key(ConfigTable::Repository, "spool_max"),
    key(ConfigTable::Retention, "keep"),
    key(ConfigTable::Retention, "keep_chains"),
    key(ConfigTable::Retention, "grace"),
    key(ConfigTable::Retention, "tags"),
    key(ConfigTable::Environment, "name"),
    key(ConfigTable::Environment, "restore_from"),
    key(ConfigTable::Set, "source"),
    of(&[Files], "paths"),
    of(&[Files, Mysql, Postgresql], "exclude"),
    of(&[Files], "one_file_system"),
    of(&[Files], "exclude_caches"),
    of(&[Command], "command"),
    of(&[Command], "commands"),
    of(&[Command], "restore_command"),
    of(&[Command], "completion"),
    of(&[Command], "min_size"),
    of(&[Mysql, Postgresql, Command], "stall_limit"),
    of(&[Mysql, Postgresql], "databases"),
    of(&[Influxdb], "database"),
    of(&[Mysql, Postgresql], "exclude_tables"),
    of(&[Mysql, Postgresql], "schema_only_tables"),
    of(&[Mysql, Influxdb], "option_file"),
    of(&[Postgresql], "user"),
    of(&[Postgresql], "restore_as_superuser"),
    of(&[Mysql, Postgresql], "socket"),
    of(SERVERS, "host"),
    of(&[Influxdb], "rpc"),
    of(SERVERS, "exec"),
    of(SERVERS, "dump_by"),
    of(DUMPS, "local_copy"),
    of(DUMPS, "keep_local"),
    of(DUMPS, "local_reserve"),
    key(ConfigTable::Set, "schedule"),
    key(ConfigTable::Set, "full_every"),
    key(ConfigTable::Set, "rebase_every"),
    key(ConfigTable::Set, "repack_budget"),
    key(ConfigTable::Set, "keep"),
    key(ConfigTable::Set, "keep_chains"),
    key(ConfigTable::Set, "max_shrink"),
    later(ConfigTable::Set, "rpo"),
    later(ConfigTable::Set, "rto"),
    key(ConfigTable::Set, "before"),
    key(ConfigTable::Set, "after"),
    key(ConfigTable::Set, "on_error"),
    key(ConfigTable::Set, "restore_before"),
    key(ConfigTable::Set, "restore_after"),
    key(ConfigTable::Set, "restore_order"),
    key(ConfigTable::Set, "require_snapshot"),
    key(ConfigTable::Set, "acknowledge"),
    key(ConfigTable::Restore, "repository"),
    key(ConfigTable::Restore, "set"),
    key(ConfigTable::Restore, "identity"),
    key(ConfigTable::Restore, "into"),
    key(ConfigTable::Restore, "to"),
    key(ConfigTable::Restore, "replace"),
    key(ConfigTable::Restore, "option_file"),
    key(ConfigTable::Restore, "user"),
    key(ConfigTable::Restore, "after"),
    key(ConfigTable::Restore, "at"),
    key(ConfigTable::Restore, "timezone"),
    key(ConfigTable::Schedule, "timezone"),
    key(ConfigTable::Schedule, "dump"),
    key(ConfigTable::Schedule, "full"),
    key(ConfigTable::Schedule, "incremental"),
    key(ConfigTable::Hook, "run"),
    key(ConfigTable::Hook, "limit"),
];

/// Every key of a host's policy.
pub const POLICY_KEYS: &[Key] = &[
    key(ConfigTable::Policy, "keep"),
    key(ConfigTable::Policy, "keep_chains"),
    key(ConfigTable::Policy, "tags"),
    key(ConfigTable::Policy, "rpo"),
    key(ConfigTable::Policy, "accounts"),
    key(ConfigTable::Account, "keep"),
    key(ConfigTable::Account, "keep_chains"),
    key(ConfigTable::Account, "tags"),
    key(ConfigTable::Account, "rpo"),
    key(ConfigTable::Account, "sets"),
    key(ConfigTable::AccountSet, "keep"),
    key(ConfigTable::AccountSet, "keep_chains"),
    key(ConfigTable::AccountSet, "tags"),
    key(ConfigTable::AccountSet, "rpo"),
];

/// The keys of the document that has a table of that kind.
pub fn keys_of_document(part: ConfigTable) -> &'static [Key] {
    match part {
        ConfigTable::Policy | ConfigTable::Account | ConfigTable::AccountSet => POLICY_KEYS,
        _ => KEYS,
    }
}

/// The key of that name in that part.
pub fn find(part: ConfigTable, name: &str) -> Option<&'static Key> {
    keys_of_document(part).iter().find(|key| key.part == part && key.name == name)
}

/// Whether a key of that name looks as if its value were a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "private_key", "api_key", "apikey"]
        .iter()
        .any(|word| name.contains(word))
        || matches!(name.as_str(), "pass" | "pw" | "pwd")
}
