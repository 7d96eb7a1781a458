//! The machine that a job runs on: its configuration, its repository, its keys and its folders.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::nearest;
use super::spec::{Configuration, Set};
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::progress::Interrupt;
use crate::remote::limit::Rates;
use crate::remote::place::Location;
use crate::time::Zone;

/// Where the configuration is when nobody says.
pub const DEFAULT_CONFIGURATION: &str = "/etc/varu/varu.toml";

/// What every job knows of the machine that it runs on. Where command line, environment and configuration say different
/// things, that was decided before.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The configuration; all defaults where there is none.
    pub configuration: Configuration,
    /// The configuration's file, where there is one.
    pub configuration_file: Option<PathBuf>,
    /// The repository's path or URL.
    pub repository: Option<String>,
    /// The writer key's file, where one was named.
    pub writer_key: Option<PathBuf>,
    /// The identity's file, where one was named.
    pub identity: Option<PathBuf>,
    /// The folder in which keys are made, and found by the repository's id.
    pub keys: Option<PathBuf>,
    /// The folder of indexes, base caches and scratch files.
    pub state: Option<PathBuf>,
    /// The zone in which people are shown times.
    pub zone: Zone,
    /// How fast bytes go to the repository and come from it.
    pub rates: Rates,
    /// Set when the work should end.
    pub interrupt: Interrupt,
}

impl Machine {
    /// The repository's path or URL.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where none is named.
    pub fn repository(&self) -> Result<&str> {
        self.repository.as_deref().ok_or_else(|| {
            Error::Usage(
                "no repository is named: give --repo, set VARU_REPO, or write url into [repository] of the configuration"
                    .to_owned(),
            )
        })
    }

    /// Where the repository is.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where none is named, or its URL can't be read; [`Error::Failed`] where its folder can't be found.
    pub fn place(&self) -> Result<Location> {
        parse_place(self.repository()?)
    }

    /// The folder in which keys are made, and found by the repository's id.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is none.
    pub fn keys(&self) -> Result<&Path> {
        self.keys.as_deref().ok_or_else(|| {
            Error::Usage("there is no folder for keys: set HOME, or give --writer-key and --identity".to_owned())
        })
    }

    /// The state folder.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is none.
    pub fn state(&self) -> Result<&Path> {
        self.state
            .as_deref()
            .ok_or_else(|| Error::Usage("there is no folder for the state: set HOME, or give --state".to_owned()))
    }

    /// Where keys are looked for.
    pub fn keyring(&self) -> Keyring {
        Keyring {
            folder: self.keys.clone(),
            writer_key: self.writer_key.clone(),
            identity: self.identity.clone(),
            state: self.state.clone(),
        }
    }

    /// The writer keys of this machine: the one that was named, else those in the folder of keys.
    pub fn writer_keys(&self) -> Vec<PathBuf> {
        self.writer_key.as_ref().map_or_else(|| self.keyring().writer_key_files(), |path| vec![path.clone()])
    }

    /// The same, for another repository: with its identity and without a writer key.
    #[must_use]
    pub fn elsewhere(&self, repository: Option<&str>, identity: &Path) -> Self {
        Self {
            repository: repository.map(ToOwned::to_owned).or_else(|| self.repository.clone()),
            writer_key: None,
            identity: Some(identity.to_owned()),
            ..self.clone()
        }
    }

    /// The configured set of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is none, with the names that there are.
    pub fn set(&self, name: &str) -> Result<&Set> {
        let sets = &self.configuration.sets;
        if let Some(set) = sets.get(name) {
            return Ok(set);
        }
        let names: Vec<&str> = sets.keys().map(String::as_str).collect();
        let known = match (nearest(name, names.iter().copied()), names.is_empty()) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, false) => format!("it has {}", names.join(", ")),
            (None, true) => "it names none at all".to_owned(),
        };
        let file = self.configuration_file.as_deref().unwrap_or(Path::new(DEFAULT_CONFIGURATION));
        let shown = file.to_string_lossy();
        Err(Error::Usage(match names.is_empty() && !file.exists() {
            true => format!(
                "there is no configuration {shown}, so there is no set {name:?} (a PATH is a word with a slash: ./{name})"
            ),
            false => format!(
                "the configuration {shown} has no set {name:?}; {known} (a PATH is a word with a slash: ./{name})"
            ),
        }))
    }
}

/// Reads a repository's path or URL. A path becomes absolute.
///
/// # Errors
///
/// [`Error::Usage`] where it can't be read, [`Error::Failed`] where a folder can't be found.
pub fn parse_place(text: &str) -> Result<Location> {
    match Location::parse(text).map_err(|error| Error::Usage(error.to_string()))? {
        Location::Local(path) => {
            let path = absolute(path.as_os_str())
                .map_err(|error| Error::Failed(format!("the repository's folder {text} can't be found: {error}")))?;
            Ok(Location::Local(path))
        }
        place @ Location::Sftp(_) => Ok(place),
    }
}

/// `path` made absolute, without `.` and `..`. What leads up to a `..` has to exist, because a symbolic link there
/// decides where it goes.
///
/// # Errors
///
/// Where that can't be looked at.
pub fn absolute(path: &OsStr) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let parts: Vec<Component> = path.components().collect();
    match parts.iter().rposition(|part| *part == Component::ParentDir) {
        None => Ok(parts.iter().collect()),
        Some(last) => {
            let up_to: PathBuf = parts[..=last].iter().collect();
            Ok(up_to.canonicalize()?.join(parts[last + 1..].iter().collect::<PathBuf>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Class, Classified};

    #[test]
    fn a_repositorys_path_becomes_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse_place("./vault").unwrap(), Location::Local(here.join("vault")));
        assert_eq!(parse_place("/srv/./vault/").unwrap(), Location::Local("/srv/vault".into()));
        assert_eq!(parse_place("vm1@backup.example:repo").unwrap().to_string(), "sftp://vm1@backup.example/~/repo");
        assert_eq!(parse_place("s3://x").unwrap_err().class(), Class::Usage);
    }

    #[test]
    fn a_path_becomes_absolute_and_plain() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
        let of = |path: &str| absolute(root.join(path).as_os_str()).unwrap();
        assert_eq!(of("./a//b/."), root.join("a/b"));
        assert_eq!(of("link"), root.join("link"), "a link that is named is itself meant");
        assert_eq!(of("link/../c"), root.join("a/c"), "where the link leads decides");
        assert!(absolute(root.join("none/../c").as_os_str()).is_err());
        assert!(absolute("x/".as_ref()).unwrap().is_absolute());
    }
}
