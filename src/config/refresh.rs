//! A refresh: data of another environment that is brought in again and again.

use std::path::PathBuf;

use varu::time::Zone;

use super::document::Section;
use super::set::Hook;
use super::values::{self, check_set_name};

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
    pub to: Destination,
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
pub enum Destination {
    /// Into a service that runs, as `restore --into` takes it.
    Service(String),
    /// Below a folder, in which what differs is overwritten.
    Folder(PathBuf),
}

impl Refresh {
    /// Reads one. None where something that it needs is missing or wrong, which is noted.
    pub fn read(section: &Section) -> Option<Self> {
        let set = section.need("set", |value| {
            let name = values::text(value)?;
            check_set_name(&name).map(|()| name)
        });
        let identity = section.need("identity", values::path);
        let into = section.take("into", values::text);
        let to = section.take("to", values::path);
        let to = match (into, to) {
            (Some(service), None) => Some(Destination::Service(service)),
            (None, Some(folder)) => Some(Destination::Folder(folder)),
            (None, None) => {
                section.problem("a refresh goes into a service (into) or to a folder (to), and neither is named");
                None
            }
            (Some(_), Some(_)) => {
                section.problem_of("to", "goes not together with into");
                None
            }
        };
        Some(Self {
            repository: section.take("repository", values::url),
            replace: section.take("replace", |value| values::list(value, values::text)).unwrap_or_default(),
            option_file: section.take("option_file", values::path),
            user: section.take("user", values::text),
            after: section.take("after", |value| values::list(value, Hook::read)).unwrap_or_default(),
            at: section.take("at", values::text),
            zone: section.take("timezone", values::zone).unwrap_or_default(),
            set: set?,
            identity: identity?,
            to: to?,
        })
    }

    /// The files of secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.identity].into_iter().chain(&self.option_file)
    }

    /// The same, to say where they are instead.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.identity].into_iter().chain(&mut self.option_file)
    }
}
