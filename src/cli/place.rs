//! Where the repository is, and the way to it.

use std::path::PathBuf;
use std::sync::Arc;

use varu::id::RepositoryId;
use varu::keyring::Keyring;
use varu::remote::local::LocalRemote;
use varu::remote::{self, Remote};

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::absolute;

/// The place of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, absolute.
    Folder(PathBuf),
}

impl Place {
    /// Reads a path or a URL.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let before_slash = text.split('/').next().unwrap_or_default();
        if text.contains("://") || before_slash.contains(':') {
            return Err(Failure::usage(format!(
                "the repository {text} can't be reached: this version has local folders only; name a folder's path"
            )));
        }
        let path = absolute(&text.into()).map_err(|error| {
            Failure::new(ExitStatus::Failed, format!("the repository's folder {text} can't be found: {error}"))
        })?;
        Ok(Self::Folder(path))
    }

    /// The place as messages name it.
    pub fn name(&self) -> String {
        match self {
            Place::Folder(path) => path.display().to_string(),
        }
    }

    /// Opens the remote there.
    pub fn open(&self) -> Result<Arc<dyn Remote>, Failure> {
        match self {
            Place::Folder(path) => Ok(Arc::new(LocalRemote::open(path).map_err(absent)?)),
        }
    }

    /// Opens the remote there, and makes it where it is missing. Refused where a repository was there before, unless that is
    /// `forget`.
    pub fn make(&self, keyring: &Keyring, forget: Option<RepositoryId>) -> Result<Arc<dyn Remote>, Failure> {
        match self {
            Place::Folder(path) => {
                match LocalRemote::open(path) {
                    Ok(there) => keyring.refuse_lost_on(&there, forget)?,
                    Err(_) => keyring.refuse_lost(&self.name(), forget)?,
                }
                Ok(Arc::new(LocalRemote::create(path)?))
            }
        }
    }
}

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

impl Context {
    /// Where the repository is.
    pub fn place(&self) -> Result<Place, Failure> {
        Place::parse(self.repository()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Place::parse("./vault").unwrap(), Place::Folder(here.join("vault")));
        assert_eq!(Place::parse("/srv/a:b/").unwrap(), Place::Folder("/srv/a:b".into()));
        for url in ["sftp://vm1@backup.example/repo", "vm1@backup.example:repo", "s3://x"] {
            assert_eq!(Place::parse(url).unwrap_err().status, ExitStatus::Usage, "{url}");
        }
    }
}
