//! Connections to the repository's remote: how it is reached, limited, and tried again.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::machine::parse_place;
use crate::class::Class;
use crate::error::{Error, Result};
use crate::id::RepositoryId;
use crate::keyring::Keyring;
use crate::progress::Progress;
use crate::remote::limit::{Limited, Rates};
use crate::remote::open::{create, open};
use crate::remote::options::Options;
use crate::remote::place::Location;
use crate::remote::reread::Reread;
use crate::remote::retry::{Patience, Retry, Tries};
use crate::remote::wait::RealTime;
use crate::remote::{self, Remote};

impl Machine {
    /// How the repository's host is reached.
    pub fn remote_options(&self) -> Options {
        let (configured, usual) = (&self.configuration.repository, Options::default());
        Options {
            connections: configured.connections as usize,
            ssh_key: configured.ssh_key.clone(),
            jump_host: configured.jump_host.clone(),
            connect_timeout: configured.connect_timeout.unwrap_or(usual.connect_timeout),
            stall_timeout: configured.stall_timeout.unwrap_or(usual.stall_timeout),
            known_hosts: configured.known_hosts.clone(),
            ssh_config: configured.ssh_config.clone(),
        }
    }

    /// Opens the repository's remote. What fails later for a while is tried again, and `progress` says so.
    pub fn open_remote(&self, progress: &Arc<dyn Progress>) -> Result<Arc<dyn Remote>> {
        let (place, options) = (self.place()?, self.remote_options());
        let opened = self.log_in(&place, progress, || open(&place, &options));
        Ok(self.patient(&place, opened.map_err(absent)?, progress))
    }

    /// Opens another place than the repository's, and makes it where it is missing.
    pub fn make_other(&self, url: &str, options: &Options, progress: &Arc<dyn Progress>) -> Result<Arc<dyn Remote>> {
        let place = parse_place(url)?;
        let made = self.log_in(&place, progress, || create(&place, options));
        Ok(self.patient(&place, made?, progress))
    }

    /// Opens the repository's remote, and makes it where it is missing. Refused where a repository was there before, unless
    /// that is `forget`.
    pub fn make_remote(
        &self,
        keyring: &Keyring,
        forget: Option<RepositoryId>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Arc<dyn Remote>> {
        let (place, options) = (self.place()?, self.remote_options());
        match self.log_in(&place, progress, || open(&place, &options)) {
            Ok(there) => keyring.refuse_lost_on(&*there, forget)?,
            Err(error) if error.kind == remote::ErrorKind::NotFound => {
                keyring.refuse_lost(&place.to_string(), forget)?
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.patient(&place, create(&place, &options)?, progress))
    }

    /// The network may come back; a local folder answers, or it doesn't.
    ///
    /// What is sent again counts against the limit, so the limit is the inner one.
    fn patient(&self, place: &Location, remote: Arc<dyn Remote>, progress: &Arc<dyn Progress>) -> Arc<dyn Remote> {
        let remote = match self.rates == Rates::default() {
            true => remote,
            false => Arc::new(Limited::new(remote, self.rates, Arc::new(RealTime::default()))),
        };
        let remote: Arc<dyn Remote> = Arc::new(Reread::new(remote, Arc::new(RealTime::default())));
        match place {
            Location::Local(_) => remote,
            Location::Sftp(_) => Arc::new(Retry::new(remote, self.tries(place, Duration::MAX, progress))),
        }
    }

    /// The first connection. A name that isn't known is tried for less long than a host that doesn't answer, unless a service
    /// asks: it may have been started before the network.
    fn log_in<T>(
        &self,
        place: &Location,
        progress: &Arc<dyn Progress>,
        mut call: impl FnMut() -> remote::Result<T>,
    ) -> remote::Result<T> {
        let is_service = std::env::var_os("STATE_DIRECTORY").is_some();
        if !is_service {
            match self.tries(place, LOOKING_UP, progress).answer(&mut call) {
                Err(error) if error.kind == remote::ErrorKind::Unreachable => {}
                answer => return answer,
            }
        }
        self.tries(place, LOGGING_IN, progress).answer(call)
    }

    /// How what fails on the way to `place` is tried again, for `most` at most.
    fn tries(&self, place: &Location, most: Duration, progress: &Arc<dyn Progress>) -> Tries {
        let usual = Patience::default();
        let total = match place {
            Location::Local(_) => Duration::ZERO,
            Location::Sftp(_) => self.configuration.repository.retry_for.unwrap_or(usual.total).min(most),
        };
        let progress = progress.clone();
        let note = move |message: &str| progress.note(message);
        Tries::new(Patience { total, ..usual }, Arc::new(RealTime::default()), self.interrupt.clone(), note)
    }
}

/// How long the first connection is tried: who has mistaken the host's name shouldn't wait long for the error.
const LOGGING_IN: Duration = Duration::from_secs(60);

/// How long a host's name is looked up.
const LOOKING_UP: Duration = Duration::from_secs(2);

/// A folder that isn't there may be a disk that isn't mounted.
fn absent(error: remote::Error) -> Error {
    match error.kind {
        remote::ErrorKind::NotFound => Error::Described {
            class: Class::Unreachable,
            message: format!("{error}. If there is to be a repository, `varu init` or `varu backup --init` makes one"),
        },
        _ => error.into(),
    }
}
