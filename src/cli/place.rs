//! Where the repository is, and the way to it.

use std::sync::Arc;
use std::time::Duration;

use varu::id::RepositoryId;
use varu::keyring::Keyring;
use varu::progress::Progress;
use varu::remote::limit::{Limited, Rates};
use varu::remote::options::{Options, create, open};
use varu::remote::place::Place;
use varu::remote::reread::Reread;
use varu::remote::retry::{Patience, Retry, Tries};
use varu::remote::wait::RealTime;
use varu::remote::{self, Remote};

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::watch::Watch;
use super::words::absolute;

/// Reads a path or a URL. A path becomes absolute.
fn parse(text: &str) -> Result<Place, Failure> {
    match Place::parse(text).map_err(|error| Failure::usage(error.to_string()))? {
        Place::Local(path) => {
            let path = absolute(path.as_os_str()).map_err(|error| {
                Failure::new(ExitStatus::Failed, format!("the repository's folder {text} can't be found: {error}"))
            })?;
            Ok(Place::Local(path))
        }
        place @ Place::Sftp(_) => Ok(place),
    }
}

impl Context {
    /// Where the repository is.
    pub fn place(&self) -> Result<Place, Failure> {
        parse(self.repository()?)
    }

    /// How the repository's host is reached.
    pub fn remote_options(&self) -> Options {
        let (configured, usual) = (&self.config.repository, Options::default());
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

    /// Opens the repository's remote. What fails later for a while is tried again, and `watch` says so.
    pub fn open_remote(&self, watch: &Arc<Watch>) -> Result<Arc<dyn Remote>, Failure> {
        let (place, options) = (self.place()?, self.remote_options());
        let opened = self.log_in(&place, watch, || open(&place, &options));
        Ok(self.patient(&place, opened.map_err(absent)?, watch))
    }

    /// Opens another place than the repository's, and makes it where it is missing.
    pub fn make_other(&self, url: &str, options: &Options, watch: &Arc<Watch>) -> Result<Arc<dyn Remote>, Failure> {
        let place = parse(url)?;
        let made = self.log_in(&place, watch, || create(&place, options));
        Ok(self.patient(&place, made?, watch))
    }

    /// Opens the repository's remote, and makes it where it is missing. Refused where a repository was there before, unless
    /// that is `forget`.
    pub fn make_remote(
        &self,
        keyring: &Keyring,
        forget: Option<RepositoryId>,
        watch: &Arc<Watch>,
    ) -> Result<Arc<dyn Remote>, Failure> {
        let (place, options) = (self.place()?, self.remote_options());
        match self.log_in(&place, watch, || open(&place, &options)) {
            Ok(there) => keyring.refuse_lost_on(&*there, forget)?,
            Err(error) if error.kind == remote::ErrorKind::NotFound => {
                keyring.refuse_lost(&place.to_string(), forget)?
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.patient(&place, create(&place, &options)?, watch))
    }

    /// The network may come back; a local folder answers, or it doesn't.
    ///
    /// What is sent again counts against the limit, so the limit is the inner one.
    fn patient(&self, place: &Place, remote: Arc<dyn Remote>, watch: &Arc<Watch>) -> Arc<dyn Remote> {
        let remote = match self.rates == Rates::default() {
            true => remote,
            false => Arc::new(Limited::new(remote, self.rates, Arc::new(RealTime::default()))),
        };
        let remote: Arc<dyn Remote> = Arc::new(Reread::new(remote, Arc::new(RealTime::default())));
        match place {
            Place::Local(_) => remote,
            Place::Sftp(_) => Arc::new(Retry::new(remote, self.tries(place, Duration::MAX, watch))),
        }
    }

    /// The first connection. A name that isn't known is tried for less long than a host that doesn't answer, unless a service
    /// asks: it may have been started before the network.
    fn log_in<T>(
        &self,
        place: &Place,
        watch: &Arc<Watch>,
        mut call: impl FnMut() -> remote::Result<T>,
    ) -> remote::Result<T> {
        let is_service = std::env::var_os("STATE_DIRECTORY").is_some();
        if !is_service {
            match self.tries(place, LOOKING_UP, watch).answer(&mut call) {
                Err(error) if error.kind == remote::ErrorKind::Unreachable => {}
                answer => return answer,
            }
        }
        self.tries(place, LOGGING_IN, watch).answer(call)
    }

    /// How what fails on the way to `place` is tried again, for `most` at most.
    fn tries(&self, place: &Place, most: Duration, watch: &Arc<Watch>) -> Tries {
        let usual = Patience::default();
        let total = match place {
            Place::Local(_) => Duration::ZERO,
            Place::Sftp(_) => self.config.repository.retry_for.unwrap_or(usual.total).min(most),
        };
        let watch = watch.clone();
        let note = move |message: &str| watch.note(message);
        Tries::new(Patience { total, ..usual }, Arc::new(RealTime::default()), self.interrupt.clone(), note)
    }
}

/// How long the first connection is tried: who has mistaken the host's name shouldn't wait long for the error.
const LOGGING_IN: Duration = Duration::from_secs(60);

/// How long a host's name is looked up.
const LOOKING_UP: Duration = Duration::from_secs(2);

/// A folder that isn't there may be a disk that isn't mounted.
fn absent(error: remote::Error) -> Failure {
    match error.kind {
        remote::ErrorKind::NotFound => Failure::new(
            ExitStatus::Unreachable,
            format!("{error}. If there is to be a repository, `varu init` or `varu backup --init` makes one"),
        ),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse("./vault").unwrap(), Place::Local(here.join("vault")));
        assert_eq!(parse("/srv/./vault/").unwrap(), Place::Local("/srv/vault".into()));
        assert_eq!(parse("vm1@backup.example:repo").unwrap().to_string(), "sftp://vm1@backup.example/~/repo");
        assert_eq!(parse("s3://x").unwrap_err().status, ExitStatus::Usage);
    }
}
