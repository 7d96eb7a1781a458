//! The way back into a server that runs.
//!
//! Each database is loaded into one of its own, `NAME_loading_TIME`, by a client that takes no commands of its own and a role
//! that owns nothing else ([`super::load`]), and its rows are counted. Only then both change their names, in one transaction, after connections were ended; what stood there
//! is `NAME_before_TIME`, where it stays until somebody drops it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::compare::DefinitionSet;
use super::globals::{self, Absent, for_absent};
use super::load::{Job, LoadEnd, Stage};
use super::login::Login;
use super::role;
use super::said::OBJECT_IN_USE;
use super::scan::{Scanner, name_end};
use super::server::{COMMON, PostgresqlServer, PostgresqlServerOptions, TEMPLATE, literal, quoted};
use super::session::PsqlSession;
use super::text::bytes_of;
use super::{GLOBALS, check_whole, database_of, standing, stream_of, views};
use crate::entry::{Entry, Untrusted};
use crate::facts::Facts;
use crate::progress::Interrupt;
use crate::source::names::{aside, free_stamp, leftover};
use crate::source::objects::Objects;
use crate::source::remains::{Remains, ServiceName};
use crate::source::{Contents, Error, Plan, Proof, RestoreTarget, RestoreTargetOptions, Target, free_space};
use crate::warning::{Warning, WarningKind};

/// The most bytes of a name.
const NAME: usize = 63;
/// How often the two names are tried to be changed: a client may be back between the end of its connection and that.
const TRIES: u32 = 20;

/// One database that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LoadingDatabase {
    from: String,
    to: String,
    loading: String,
    before: String,
    /// Whether something stands where it goes to.
    replaces: bool,
    /// Whether nothing stands there but what an earlier restore has begun.
    is_own: bool,
    /// The rows of each table, by its name as the dump writes it.
    rows: BTreeMap<String, u64>,
    large_objects: Option<u64>,
    /// Settings that sessions of it had, and what its materialized views held, each by name.
    settings: Vec<(String, String)>,
    views: Vec<(String, String)>,
    /// The role that loads it; the account where that is told to.
    role: Option<String>,
    login: Option<Login>,
}

/// How the load of a database ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LoadOutcome {
    /// To its end, but for what failed, and what isn't as it was, a sentence each.
    But(Vec<String>, Vec<String>),
    /// It was refused, and nothing of it is left.
    Refused(String),
}

/// What the loads were found to be.
#[derive(Debug, Default)]
struct Verified {
    /// What may be put in place, without what failed, and with what isn't as it was.
    complete: Vec<(LoadingDatabase, Vec<String>, Vec<String>)>,
    /// What is said of databases that stay as they were.
    kept: Vec<String>,
    /// Why dumps were refused.
    refused: Vec<String>,
}

/// How the loads ended, by the database's name in the dump.
type Ends = Arc<Mutex<BTreeMap<String, LoadOutcome>>>;

/// A server that dumps go back into.
pub struct PostgresqlTarget {
    server: PostgresqlServer,
    options: RestoreTargetOptions,
    places: Vec<LoadingDatabase>,
    /// What makes the roles which are absent.
    absent: Absent,
    /// The roles of the dump, as a stream.
    globals: Vec<u8>,
    /// The database from which others are made and renamed.
    common: &'static str,
    /// Whether the account itself loads, with all its rights.
    as_account: bool,
    is_told: bool,
    /// Whether the dump is of this server's major version, so that its definitions can be compared word by word.
    compares: bool,
    ends: Ends,
    verified: Verified,
    /// Databases that nothing more is to be said of: they are in place, or it was said what is left.
    in_place: BTreeSet<String>,
    warnings: Vec<Warning>,
    /// What tells this server from others.
    identity: String,
    /// What an earlier restore has left.
    unfinished: Remains,
    /// Whether nothing will be written.
    looks_only: bool,
}

impl PostgresqlTarget {
    /// Finds the server.
    ///
    /// # Errors
    /// As [`PostgresqlServer::connect`].
    pub fn connect(
        server: &PostgresqlServerOptions,
        options: RestoreTargetOptions,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let server = PostgresqlServer::connect(server, interrupt)?;
        let (places, absent, globals, warnings) = (Vec::new(), Absent::default(), Vec::new(), Vec::new());
        let common = server.common();
        let as_account = !server.is_superuser;
        let (ends, in_place) = (Ends::default(), BTreeSet::new());
        let (is_told, compares) = (false, false);
        let identity = server.identity();
        Ok(Self {
            server,
            options,
            places,
            absent,
            globals,
            common,
            as_account,
            is_told,
            compares,
            ends,
            verified: Verified::default(),
            in_place,
            warnings,
            identity,
            unfinished: Remains::default(),
            looks_only: false,
        })
    }

    /// Has the account itself load, though the code in a dump is run with its rights then.
    pub fn as_superuser(mut self, wanted: bool) -> Self {
        self.as_account |= wanted;
        self.is_told = wanted;
        self
    }

    /// Who loads as himself must not be able to reach the machine.
    fn check_account(&self) -> Result<(), Error> {
        let account = &self.server.account;
        if self.as_account && !self.is_told && role::mighty(&self.server, self.common)?.contains(account) {
            return Err(Error::Refused(format!(
                "the code in a dump would be run with the rights of {}, which reach beyond databases; give a --user who is a \
                 superuser, who loads by a role without rights, or one who has CREATEDB alone",
                quoted(account)
            )));
        }
        Ok(())
    }

    /// Whether what is loaded fits, where the server keeps its data on this machine; a line about it.
    fn check_free_space(&self, bytes: u64) -> Result<Option<String>, Error> {
        let question = "SELECT current_setting('data_directory', true) WHERE inet_server_addr() IS NULL";
        // Where an account may not read the setting, it isn't known.
        let folder = self.server.value(self.common, question).unwrap_or_default();
        if folder.is_empty() { Ok(None) } else { free_space::beside(Path::new(&folder), bytes) }
    }

    fn check_server(&self, facts: &Facts) -> Result<(), Error> {
        if let Some(other) = facts.server.as_ref().filter(|server| **server != *"PostgreSQL") {
            return Err(Error::Refused(format!("the snapshot is of {other}, and this server is PostgreSQL")));
        }
        if let Some(there) = facts.server_version.as_ref().and_then(|version| major(version.raw()))
            && there > self.server.version / 10_000
        {
            return Err(Error::Refused(format!(
                "the dump is of version {there}, and this server is older: {}; upgrade it first",
                self.server.version_text
            )));
        }
        let may = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
        if self.server.value(self.common, may)? != "t" {
            let account = quoted(&self.server.account);
            return Err(Error::Refused(format!(
                "the account {account} may not make databases: ALTER ROLE {account} CREATEDB; or give a --user who may"
            )));
        }
        Ok(())
    }

    fn find_places(&mut self, entries: &[Entry], facts: &Facts) -> Result<(), Error> {
        let databases: Vec<String> = entries.iter().filter_map(|entry| database_of(&entry.name)).collect();
        if let Some(missing) = self.options.only.iter().find(|name| !databases.contains(name)) {
            return Err(Error::Config(format!(
                "the snapshot has no database {missing}; it has {}, and a database is restored as a whole: under another name, \
                 with --into postgresql:NAME, a table can be copied from it",
                databases.join(", ")
            )));
        }
        let only = &self.options.only;
        let wanted: Vec<String> = databases.into_iter().filter(|name| only.is_empty() || only.contains(name)).collect();
        if wanted.is_empty() {
            return Err(Error::Config("the snapshot has no database".to_owned()));
        }
        if let (Some(name), true) = (&self.options.name, wanted.len() > 1) {
            return Err(Error::Config(format!(
                "the snapshot has {} databases, and :{name} names one; choose one with --only",
                wanted.len()
            )));
        }
        let names: Vec<&String> = self.options.name.iter().chain(&wanted).collect();
        let there: BTreeSet<String> =
            self.server.names(self.common, "SELECT datname FROM pg_database")?.into_iter().collect();
        let stamp = free_stamp(&self.options.stamp, &names, &there, NAME)?;
        for (number, from) in wanted.into_iter().enumerate() {
            let to = self.options.name.clone().unwrap_or_else(|| from.clone());
            let stream = stream_of(&from);
            let rows = Facts::of_stream(&facts.rows_of, &stream)
                .filter(|(table, _)| name_end(table) == Some(table.len()))
                .map(|(table, rows)| (table.to_owned(), *rows));
            let about = |known: &BTreeMap<Untrusted, Untrusted>| {
                let named = |(name, value): (&str, &Untrusted)| (name.to_owned(), value.raw().to_owned());
                Facts::of_stream(known, &stream).map(named).collect::<Vec<_>>()
            };
            let replaces = there.contains(&to);
            self.places.push(LoadingDatabase {
                settings: about(&facts.session_settings),
                views: about(&facts.views),
                rows: rows.collect(),
                large_objects: facts.large_objects.get(&stream.as_str().into()).copied(),
                loading: aside(&to, "loading", &stamp, NAME),
                before: aside(&to, "before", &stamp, NAME),
                replaces,
                is_own: !replaces || self.unfinished.has_target(&self.identity, &to),
                role: (!self.as_account).then(|| role::name(&stamp, number)),
                login: None,
                from,
                to,
            });
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), Error> {
        for place in &self.places {
            if place.large_objects.is_none() {
                return Err(Error::Failed(format!(
                    "the snapshot doesn't say how many rows {} has, so a load can't be proven",
                    place.from
                )));
            }
            if !place.is_own && !self.looks_only && !self.options.may_replace(&place.to) {
                return Err(Error::Refused(format!(
                    "{0} is there already; --replace {0} --reason TEXT puts what is there aside, as {1}, and the restored data \
                     in its place",
                    place.to, place.before
                )));
            }
        }
        Ok(())
    }

    fn described(&self, entries: &[Entry], facts: &Facts) -> Plan {
        let mut plan = Plan::default();
        plan.lines.push(format!("the server is PostgreSQL {}", self.server.version_text));
        if !self.compares {
            let version = facts
                .server_version
                .as_ref()
                .map_or_else(|| "a version that isn't known".to_owned(), Untrusted::to_string);
            plan.lines.push(format!(
                "after the load it is compared what there is, and what each definition says only where the dump is of this server's \
                 major version: it is of {version}"
            ));
        }
        if !self.server.restricts {
            plan.lines.push(
                "psql here is older than 13.22, 14.19, 15.14, 16.10 or 17.6 and can't be told to take no commands of its own; what \
                 looks like one ends the restore all the same"
                    .to_owned(),
            );
        }
        for place in &self.places {
            let what = format!("the database {} with {} tables", place.from, place.rows.len());
            plan.lines.push(match place.replaces {
                true if place.is_own => format!(
                    "{what} goes to {}; what stands there is of a restore that didn't end: the connections to it are ended, and it \
                     is put aside as {}",
                    place.to, place.before
                ),
                true => format!(
                    "{what} goes to {}; the connections to what stands there are ended, and it is put aside as {} and stays until \
                     you drop it",
                    place.to, place.before
                ),
                false => format!("{what} goes to {}, where nothing is", place.to),
            });
            if let Some(why) = facts.unfit.get(&stream_of(&place.from).into()) {
                plan.lines.push(format!("{} will be refused, and the others not: {why}", place.from));
            }
            if let Some(objects) = facts.superuser.get(&stream_of(&place.from).into())
                && place.role.is_some()
            {
                plan.lines.push(format!(
                    "{} has what only a superuser makes: {objects}; it will lack that, unless restore_as_superuser = true in the set",
                    place.from
                ));
            }
            if !place.is_own {
                plan.replaces.push(place.to.clone());
            }
        }
        plan.bytes = entries.iter().filter(|entry| self.takes(entry)).map(|entry| entry.size).sum();
        plan
    }

    /// Warns of rights on something of the whole server that aren't there.
    fn warn_of_rights(&mut self) -> Result<(), Error> {
        if globals::lacking(&self.globals, b"")?.is_empty() && self.absent.roles.is_empty() {
            return Ok(());
        }
        let (now, _) = globals::globals(&self.server, &self.server.interrupt)?;
        let warning = |right: String| {
            WarningKind::Accounts
                .warning(format!("a right on something of the whole server isn't there as at the backup: {right}"))
        };
        self.warnings.extend(globals::lacking(&self.globals, &now)?.into_iter().map(warning));
        let memberships = globals::lacking_memberships(&self.globals, &now, &self.absent.roles)?;
        let warning = |membership: String| {
            WarningKind::Accounts.warning(format!(
                "a role that was there stays as it is, and isn't a member as at the backup: {membership}"
            ))
        };
        self.warnings.extend(memberships.into_iter().map(warning));
        Ok(())
    }

    /// What is said of databases that were refused, or stay as they were.
    fn judge(&mut self) -> Result<(), Error> {
        let Verified { kept, refused, .. } = std::mem::take(&mut self.verified);
        match refused.first() {
            Some(first) if refused.len() == self.places.len() => return Err(Error::Refused(first.clone())),
            _ => self.warnings.extend(refused.into_iter().map(|why| WarningKind::NotRestored.warning(why))),
        }
        if kept.is_empty() {
            return Ok(());
        }
        let warned = std::mem::take(&mut self.warnings).into_iter().map(|warning| warning.text);
        Err(Error::Failed(kept.into_iter().chain(warned).collect::<Vec<_>>().join("\n")))
    }

    /// Both databases change their names, in one transaction.
    fn put_in_place(&self, place: &LoadingDatabase) -> Result<(), Error> {
        let (to, loading) = (quoted(&place.to), quoted(&place.loading));
        let rename_in = format!("ALTER DATABASE {loading} RENAME TO {to}");
        // What is loaded may be analyzed or looked at by somebody, too.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({}, {}) AND pid <> pg_backend_pid()",
            literal(&place.to),
            literal(&place.loading)
        );
        let statements = match place.replaces {
            true => format!("BEGIN; ALTER DATABASE {to} RENAME TO {}; {rename_in}; COMMIT", quoted(&place.before)),
            false => rename_in,
        };
        let mut last = None;
        for try_number in 0..TRIES {
            self.server.ask(self.common, &end)?;
            match self.server.ask(self.common, &statements) {
                Ok(_) => return Ok(()),
                // Somebody was back before the name could be changed.
                Err(error) if error.has_code(OBJECT_IN_USE) => last = Some(error.to_string()),
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(u64::from(10 * try_number)));
        }
        Err(Error::Failed(format!(
            "{} could not be put aside, because its clients come back at once: stop them, with restore_before and \
             restore_after if need be: {}",
            place.to,
            last.unwrap_or_default()
        )))
    }
}

impl RestoreTarget for PostgresqlTarget {
    fn is_definition(&self, entry: &Entry) -> bool {
        entry.name.as_bytes() == GLOBALS.as_bytes()
    }

    fn plan(&mut self, contents: Contents<'_>) -> Result<Plan, Error> {
        let Contents { entries, definitions, facts, unfinished, looks_only } = contents;
        (self.unfinished, self.looks_only) = (unfinished, looks_only);
        let meant = |name: &String| name == COMMON;
        if self
            .options
            .name
            .as_ref()
            .map_or_else(|| entries.iter().filter_map(|entry| database_of(&entry.name)).any(|name| meant(&name)), meant)
        {
            self.common = TEMPLATE;
        }
        self.check_server(facts)?;
        self.check_account()?;
        let of_dump = facts.server_version.as_ref().and_then(|version| major(version.raw()));
        self.compares = of_dump == Some(self.server.version / 10_000);
        self.find_places(entries, facts)?;
        self.check_names()?;
        let there = self.server.names(self.common, "SELECT rolname FROM pg_roles")?.into_iter().collect();
        for (_, globals) in definitions {
            self.absent = for_absent(&globals, &there)?;
            self.globals = globals;
        }
        let mut plan = self.described(entries, facts);
        if !self.absent.roles.is_empty() {
            let names = self.absent.roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            plan.lines.push(format!("these roles are absent and are made: {names}"));
            if facts.role_passwords == Some(false) {
                self.warnings.push(WarningKind::Accounts.warning(format!(
                    "the roles {names} have no password: the account of the backup may not read them; set them with ALTER ROLE"
                )));
            }
        }
        plan.lines.extend(self.check_free_space(plan.bytes)?);
        Ok(plan)
    }

    fn remains(&self) -> Remains {
        let name = |name: &String| ServiceName { server: self.identity.clone(), name: name.clone() };
        let own = || self.places.iter().filter(|place| place.is_own);
        let before = own().filter(|place| place.replaces).map(|place| &place.before);
        Remains {
            targets: own().map(|place| name(&place.to)).collect(),
            leftovers: self.places.iter().map(|place| &place.loading).chain(before).map(name).collect(),
        }
    }

    fn still_there(&self, leftovers: &[ServiceName]) -> Result<Vec<String>, Error> {
        let there = self.server.names(self.common, "SELECT datname FROM pg_database")?;
        let is_there = |left: &&ServiceName| left.server == self.identity && there.contains(&left.name);
        let line = |left: &ServiceName| leftover(&left.name, &format!("DROP DATABASE {}", quoted(&left.name)));
        Ok(leftovers.iter().filter(is_there).map(line).collect())
    }

    fn takes(&self, entry: &Entry) -> bool {
        database_of(&entry.name).is_some_and(|name| self.places.iter().any(|place| place.from == name))
    }

    fn prepare(&mut self) -> Result<(), Error> {
        if !self.as_account {
            role::sweep(&self.server, self.common)?;
        }
        for place in &mut self.places {
            if let Some(role) = &place.role {
                place.login = Some(role::make(&self.server, self.common, role.clone())?);
            }
        }
        if self.absent.roles.is_empty() {
            return Ok(());
        }
        let mut session = PsqlSession::start(&self.server, self.common, None)?;
        session.write(&bytes_of(&format!("BEGIN;\n{}", self.absent.statements)))?;
        if let Some(fault) = session.run("COMMIT;")? {
            return Err(Error::Failed(format!("making the roles that are absent failed: {fault}")));
        }
        for right in &self.absent.rights {
            // What isn't there at the end is named then.
            session.run(right)?;
        }
        session.finish()
    }

    fn loader(&self) -> Result<Box<dyn Target + Send>, Error> {
        let (server, places, ends) = (self.server.clone(), self.places.clone(), self.ends.clone());
        Ok(Box::new(DatabaseLoader { server, places, common: self.common, ends, current: None }))
    }

    /// Each load was compared as it ended, under the name that it was loaded with: here it is decided what may be put in place.
    fn verify(&mut self) -> Result<Proof, Error> {
        let ends = std::mem::take(&mut *self.ends.lock().unwrap_or_else(PoisonError::into_inner));
        for place in &self.places {
            match ends.get(&place.from) {
                Some(LoadOutcome::But(failures, differences)) if failures.is_empty() || !place.replaces => {
                    self.verified.complete.push((place.clone(), failures.clone(), differences.clone()));
                }
                Some(LoadOutcome::But(failures, _)) => {
                    self.verified.kept.push(not_all(place, failures));
                    self.in_place.insert(place.to.clone());
                }
                Some(LoadOutcome::Refused(why)) => {
                    self.in_place.insert(place.to.clone());
                    self.verified.refused.push(why.clone());
                }
                None => self.verified.kept.push(format!("{} wasn't loaded to its end", place.from)),
            }
        }
        if self.verified.complete.is_empty() {
            self.warn_of_rights()?;
            self.judge()?;
        }
        let tables: usize = self.places.iter().map(|place| place.rows.len()).sum();
        let rows = self.places.iter().flat_map(|place| place.rows.values()).sum();
        let more = if self.compares { "the definitions were" } else { "the list of objects was" };
        let has_failures = self.verified.complete.iter().any(|(_, failures, _)| !failures.is_empty());
        let counts = match has_failures {
            true => "were compared with the dump, and not all are the same",
            false => "are those of the dump",
        };
        Ok(Proof {
            counted: Some((rows, "rows")),
            checks: format!("the row counts of {tables} tables {counts}, and {more} compared with it"),
        })
    }

    fn commit(&mut self, _: &Proof) -> Result<Vec<Warning>, Error> {
        for (place, failures, differences) in std::mem::take(&mut self.verified.complete) {
            self.put_in_place(&place)?;
            self.in_place.insert(place.to.clone());
            let warning = |failure: &String| {
                WarningKind::NotRestored.warning(format!("{} is in place without this: {failure}", place.to))
            };
            self.warnings.extend(failures.iter().map(warning));
            let differs = |difference: &String| {
                WarningKind::NotAsItWas.warning(format!("{} is not as it was: {difference}", place.to))
            };
            self.warnings.extend(differences.iter().map(differs));
        }
        self.warn_of_rights()?;
        self.judge()?;
        Ok(std::mem::take(&mut self.warnings))
    }

    fn discard(&mut self) -> Result<(), Error> {
        for place in self.places.iter().filter(|place| !self.in_place.contains(&place.to)) {
            self.server.ask(self.common, &format!("DROP DATABASE IF EXISTS {}", quoted(&place.loading)))?;
            if let Some(role) = &place.role {
                self.server.ask(self.common, &role::removed(role))?;
            }
        }
        Ok(())
    }

    fn standing(&self) -> Result<Option<String>, Error> {
        let mut all = Objects::default();
        for place in &self.places {
            let list = format!("SELECT oid FROM pg_database WHERE datname = {}", literal(&place.to));
            let number = self.server.value(self.common, &list)?;
            all.note(format!("database {}", place.to), &number);
            if !number.is_empty() {
                standing::note(&self.server, &place.to, &mut all)?;
            }
        }
        Ok(Some(all.digest()))
    }

    fn undone(&self) -> String {
        let left = |place: &LoadingDatabase| {
            let mut commands = format!("DROP DATABASE {};", quoted(&place.loading));
            if let Some(role) = &place.role {
                commands += &format!(" {}", role::removed(role));
            }
            commands
        };
        let names: Vec<String> = self
            .places
            .iter()
            .filter(|place| !self.in_place.contains(&place.to))
            .map(|place| match place.replaces {
                true => format!(
                    "{} is as it was unless {} is there, which then has the old data; what is unfinished goes with: {}",
                    place.to,
                    place.before,
                    left(place)
                ),
                false => format!("{} was not there before; what is unfinished goes with: {}", place.to, left(place)),
            })
            .collect();
        match names.is_empty() {
            true => "all that is left is named above".to_owned(),
            false => names.join("\n"),
        }
    }
}

/// The major version.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// What is said where a load wasn't complete, and data that lives stands in its place.
fn not_all(place: &LoadingDatabase, failures: &[String]) -> String {
    format!(
        "{to} stays as it was, because not all could be loaded:{}\nWhat was loaded is {loading}; to put it in place without that: \
         ALTER DATABASE {to_quoted} RENAME TO {before_quoted}; ALTER DATABASE {loading_quoted} RENAME TO {to_quoted};",
        failures.iter().map(|failure| format!("\n    {failure}")).collect::<String>(),
        to = place.to,
        loading = place.loading,
        to_quoted = quoted(&place.to),
        before_quoted = quoted(&place.before),
        loading_quoted = quoted(&place.loading),
    )
}

/// Loads databases, one after the other, beside others that load other ones.
struct DatabaseLoader {
    server: PostgresqlServer,
    places: Vec<LoadingDatabase>,
    common: &'static str,
    ends: Ends,
    current: Option<Loading>,
}

struct Loading {
    from: String,
    scanner: Scanner,
    /// What the dump defines.
    definitions: DefinitionSet,
    loading: String,
    /// None where the dump was refused.
    stage: Option<Stage>,
}

impl DatabaseLoader {
    fn ended(&self, from: &str, how: LoadOutcome) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(from.to_owned(), how);
    }

    /// A dump that is refused is no reason not to load the others.
    fn judged(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match (result, &mut self.current) {
            (Err(Error::Refused(why)), Some(Loading { from, stage, .. })) => {
                let from = from.clone();
                stage.take().map_or(Ok(()), Stage::discard)?;
                self.ended(&from, LoadOutcome::Refused(why));
                Ok(())
            }
            (result, _) => result,
        }
    }
}

/// An error that says whose dump it is about.
fn named(from: &str, error: Error) -> Error {
    match error {
        Error::Refused(why) if !why.starts_with("the dump of ") => {
            Error::Refused(format!("the dump of {from} was given no further: {why}"))
        }
        error => error,
    }
}

impl Target for DatabaseLoader {
    fn wants(&mut self, _: &Entry) -> Result<bool, Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let database = database_of(&entry.name);
        let Some(place) = self.places.iter().find(|place| Some(&place.from) == database.as_ref()).cloned() else {
            return Err(Error::Failed(format!("{} is no database of the dump", entry.name)));
        };
        let job = Job {
            from: place.from.clone(),
            loading: place.loading,
            rows: place.rows,
            large_objects: place.large_objects,
            settings: place.settings,
            login: place.login,
            common: self.common,
        };
        let loading = job.loading.clone();
        let stage = Some(Stage::new(&self.server, job));
        let definitions = DefinitionSet::default();
        self.current = Some(Loading { from: place.from, scanner: Scanner::default(), definitions, loading, stage });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(Loading { from, scanner, definitions, stage, .. }) = &mut self.current else {
            return Err(Error::Failed("the load had ended before".to_owned()));
        };
        let Some(stage) = stage else { return Ok(()) };
        let taken = scanner.push(bytes, &mut |piece| {
            definitions.take(piece);
            stage.take(piece)
        });
        let taken = taken.map_err(|error| named(from, error));
        let result = taken.and_then(|()| match &scanner.suspicious {
            Some(why) => Err(Error::Refused(format!("the dump of {from} is no plain dump of pg_dump: {why}"))),
            None => Ok(()),
        });
        self.judged(result)
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(Loading { from, scanner, stage: Some(stage), .. }) = &mut self.current else { return Ok(()) };
        let taken = scanner.finish(&mut |piece| stage.take(piece)).map_err(|error| named(from, error));
        let taken = taken.and_then(|()| check_whole(from, scanner));
        self.judged(taken)?;
        if let Some(Loading { from, stage: Some(stage), mut definitions, loading, .. }) = self.current.take() {
            let LoadEnd { failures, mut differences } = stage.finish().map_err(|error| named(&from, error))?;
            // What failed is named already.
            let is_known = |about: &str| failures.iter().any(|failure| failure.starts_with(about));
            differences.extend(definitions.differences(&self.server, &loading, &is_known)?);
            if let Some(place) = self.places.iter().find(|place| place.from == from) {
                differences.extend(views::against(&self.server, &loading, &place.views)?);
            }
            self.ended(&from, LoadOutcome::But(failures, differences));
        }
        Ok(())
    }

    fn abandon(&mut self) {
        // The client is stopped at once; what it loaded lies aside.
        self.current = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        Ok(Vec::new())
    }
}
