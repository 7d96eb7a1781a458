//! Registry of sources: one descriptor a kind.
//!
//! A descriptor says what a kind of source can do and how. None of its questions has an answer of its own: a new source is a
//! folder in `source`, an entry in [`SourceKind`] and [`SourceSpec`], and a file here that answers each of them.

mod command;
mod files;
mod influxdb;
mod mysql;
mod postgresql;
mod stdin;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Machine;
use super::spec::{SourceKind, SourceSpec};
use crate::entry::StreamName;
use crate::progress::{Interrupt, Progress};
use crate::source::{Error, Finding, RestoreTarget, RestoreTargetOptions, Source};
use crate::time::Timestamp;

/// What holds for all sources of a kind.
#[derive(Debug)]
pub struct KindDescriptor {
    /// Whether sets of the configuration can be of it.
    pub is_configurable: bool,
    /// The source of a set that the configuration doesn't have, where a restore goes back into a service: its programs look
    /// for the server where they always do. None where data of this kind goes into no service.
    pub unconfigured: Option<fn() -> SourceSpec>,
    /// Whether the option file of a restore of several sets is meant for those of this kind.
    pub takes_option_file_of_all: bool,
}

impl SourceKind {
    /// What holds for all sources of this kind.
    pub fn descriptor(self) -> &'static KindDescriptor {
        match self {
            SourceKind::Files => &files::KIND,
            SourceKind::Mysql => &mysql::KIND,
            SourceKind::Postgresql => &postgresql::KIND,
            SourceKind::Influxdb => &influxdb::KIND,
            SourceKind::Command => &command::KIND,
            SourceKind::Stdin => &stdin::KIND,
        }
    }

    /// The kinds of which sets of the configuration can be.
    pub fn configurable() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| kind.descriptor().is_configurable)
    }

    /// The kinds whose data goes back into a service.
    pub fn services() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| kind.descriptor().unconfigured.is_some())
    }
}

/// What a source is opened with.
pub struct SourceContext<'a> {
    /// The set's name.
    pub set: &'a str,
    /// The machine.
    pub machine: &'a Machine,
    /// Who is told how it goes.
    pub progress: &'a Arc<dyn Progress>,
}

/// What is wanted of the service that a snapshot goes back into.
#[derive(Debug, Default)]
pub struct TargetOptions {
    /// The set's name.
    pub set: String,
    /// What is wanted of every service.
    pub options: RestoreTargetOptions,
    /// The option file with which it is written to, where that isn't the set's.
    pub option_file: Option<PathBuf>,
    /// The account with which it is written to, where that isn't the set's.
    pub user: Option<String>,
}

/// How the data of a set goes back to where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// As files.
    Files,
    /// Into its service, which is of this kind.
    Service(SourceKind),
    /// It isn't known how, for this reason.
    Unknown(String),
}

/// What another job left, and when the oldest of it was written.
pub type External = (Box<dyn Source>, Timestamp);

/// What a source can do, and how.
pub trait SourceDescriptor {
    /// The source that reads the data as it is now.
    ///
    /// # Errors
    ///
    /// Where it can't begin.
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error>;

    /// The source that reads what another job left in `folder`.
    ///
    /// # Errors
    ///
    /// Where there is nothing that can be used, or the source reads no dumps of another job.
    fn open_external(&self, folder: &Path, interrupt: &Interrupt) -> Result<External, Error>;

    /// Tries all that a backup of the data needs.
    fn check(&self, interrupt: &Interrupt) -> Vec<Finding>;

    /// The name of the file that a local copy's streams are in; None where the source makes no local copies.
    fn local_copy_file(&self) -> Option<&'static str>;

    /// Paths of this machine that are read, whoever they belong to.
    fn paths(&self) -> &[PathBuf];

    /// The streams of folders that the set consists of: one that has lost all of its bytes makes a snapshot suspect.
    fn roots(&self) -> Vec<StreamName>;

    /// Where the data comes from, in words that are the same for the same.
    fn origin(&self) -> String;

    /// Whether a program makes the data while it is read, and has to wait where the reader does.
    fn is_made_while_read(&self) -> bool;

    /// How the data of the set of that name goes back.
    fn way_back(&self, set: &str) -> WayBack;

    /// The service that a snapshot goes back into.
    ///
    /// # Errors
    ///
    /// Where it can't be reached, or the source has none.
    fn connect_target(&self, wanted: TargetOptions, machine: &Machine) -> Result<Box<dyn RestoreTarget>, Error>;
}

impl SourceSpec {
    /// What this source can do.
    pub fn descriptor(&self) -> &dyn SourceDescriptor {
        match self {
            SourceSpec::Files(files) => files,
            SourceSpec::Mysql(mysql) => mysql,
            SourceSpec::Postgresql(postgresql) => postgresql,
            SourceSpec::Influxdb(influxdb) => influxdb,
            SourceSpec::Command(command) => command,
            SourceSpec::Stdin(stdin) => stdin,
        }
    }
}

/// Connects to the service that a snapshot goes back into: that of the set's source where it is of this kind, else the one that
/// its programs find by themselves.
///
/// # Errors
///
/// Where it can't be reached, or there is no service of this kind.
pub fn connect_target(
    kind: SourceKind,
    source: Option<&SourceSpec>,
    wanted: TargetOptions,
    machine: &Machine,
) -> Result<Box<dyn RestoreTarget>, Error> {
    if let Some(source) = source.filter(|source| source.kind() == kind) {
        return source.descriptor().connect_target(wanted, machine);
    }
    match kind.descriptor().unconfigured {
        Some(unconfigured) => unconfigured().descriptor().connect_target(wanted, machine),
        None => Err(no_service(kind)),
    }
}

fn no_service(kind: SourceKind) -> Error {
    Error::Config(format!("{} is no service", kind.name()))
}

fn no_external_dumps(kind: SourceKind) -> Error {
    Error::Config(format!("the source {} reads no dumps of another job", kind.name()))
}

/// The origin of data that is known by its source's kind alone.
fn origin_of(kind: SourceKind) -> String {
    format!("the source {}", kind.name())
}

/// A folder for what a program writes before it is read.
fn scratch(machine: &Machine, name: &str) -> Result<PathBuf, Error> {
    let state = machine.state().map_err(|error| Error::Config(error.to_string()))?;
    Ok(state.join("scratch").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_not_configured_is_of_the_kind_that_was_asked_for() {
        let services: Vec<SourceKind> = SourceKind::services().collect();
        assert_eq!(
            services.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            ["mysql", "postgresql", "influxdb", "command"]
        );
        for kind in services {
            let unconfigured = kind.descriptor().unconfigured.unwrap()();
            assert_eq!(unconfigured.kind(), kind);
            assert!(unconfigured.descriptor().local_copy_file().is_some(), "{} dumps", kind.name());
        }
    }

    #[test]
    fn standard_input_is_no_source_of_the_configuration_and_no_service() {
        assert!(SourceKind::configurable().all(|kind| kind != SourceKind::Stdin));
        assert_eq!(SourceKind::configurable().count(), SourceKind::ALL.len() - 1);
        assert!(SourceKind::services().all(|kind| kind != SourceKind::Stdin && kind != SourceKind::Files));
    }
}
