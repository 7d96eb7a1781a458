//! Refreshes: data of another environment that is brought in again and again.

use std::path::PathBuf;

use super::Hook;
use crate::time::Zone;

/// `[restores.NAME]`: from which repository and set, when, into what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The repository; None is this machine's own.
    pub repository: Option<String>,
    /// The set in it.
    pub set: String,
    /// The identity that opens it.
    pub identity: PathBuf,
    /// Where it goes.
    pub to: RefreshDestination,
    /// What is there under this name may be put aside.
    pub replace: Vec<String>,
    /// The option file with which the service is written to.
    pub option_file: Option<PathBuf>,
    /// The account with which the service is written to.
    pub user: Option<String>,
    /// Run after it succeeded.
    pub after: Vec<Hook>,
    /// When, as systemd's calendar expression; None is by hand.
    pub at: Option<String>,
    /// The zone of that time.
    pub zone: Zone,
}

/// Where a refresh goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshDestination {
    /// Into a service that runs, as `restore --into` takes it.
    Service(String),
    /// Below a folder, in which what differs is overwritten.
    Folder(PathBuf),
}

impl Refresh {
    /// The files of secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.identity].into_iter().chain(&self.option_file)
    }

    /// The same, to say where they are instead.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.identity].into_iter().chain(&mut self.option_file)
    }
}
