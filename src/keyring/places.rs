//! Record, in the state folder, of the repository ids that were opened at each location.

use std::path::{Path, PathBuf};

use super::{Keyring, has_repository, lost};
use crate::error::Result;
use crate::id::{Hasher, RepositoryId, hex};
use crate::remote::Remote;
use crate::repository::{self, replace_secret};

impl Keyring {
    /// The ids of the repository that was opened at a location before, the newest first.
    pub fn known(&self, place: &str) -> Result<Vec<RepositoryId>> {
        self.memory(place).map_or(Ok(Vec::new()), |path| ids_in(&path, LINE))
    }

    /// Records that these ids, the newest first, were opened at a location.
    pub fn remember(&self, place: &str, ids: &[RepositoryId]) -> Result<()> {
        let Some(path) = self.memory(place) else { return Ok(()) };
        let before = self.known(place)?;
        let mut all = ids.to_vec();
        all.extend(before.iter().filter(|id| !ids.contains(id)));
        if all == before && self.begun(place)?.is_none() {
            return Ok(());
        }
        self.write(place, path, &all)
    }

    /// Records that a repository is about to be created at a location. Existing records of the location stay.
    pub fn begin(&self, place: &str, id: RepositoryId) -> Result<()> {
        let Some(path) = self.memory(place) else { return Ok(()) };
        let known: String = self.known(place)?.iter().map(|id| format!("{LINE}{id}\n")).collect();
        Ok(replace_secret(&path, format!("# {}\n{known}{BEGUN}{id}\n", plain(place)))?)
    }

    /// The repository whose creation at this location wasn't finished.
    pub fn begun(&self, place: &str) -> Result<Option<RepositoryId>> {
        match self.memory(place) {
            Some(path) => begun_in(&path),
            None => Ok(None),
        }
    }

    /// Whether the creation of that repository was begun at some location and not finished at any.
    pub fn is_begun(&self, id: &RepositoryId) -> Result<bool> {
        let Some(state) = &self.state else { return Ok(false) };
        let Ok(entries) = std::fs::read_dir(state.join(PLACES)) else { return Ok(false) };
        let mut is_begun = false;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if ids_in(&path, LINE)?.contains(id) {
                return Ok(false);
            }
            is_begun |= begun_in(&path)?.as_ref() == Some(id);
        }
        Ok(is_begun)
    }

    /// Records that only this id is at a location.
    pub fn replace(&self, place: &str, id: RepositoryId) -> Result<()> {
        match self.memory(place) {
            Some(path) => self.write(place, path, &[id]),
            None => Ok(()),
        }
    }

    fn write(&self, place: &str, path: PathBuf, ids: &[RepositoryId]) -> Result<()> {
        let lines: String = ids.iter().map(|id| format!("{LINE}{id}\n")).collect();
        Ok(replace_secret(&path, format!("# {}\n{lines}", plain(place)))?)
    }

    /// Refuses to create a repository at a location where another was before, unless that one is `forget`. To be called
    /// before anything is created there.
    pub fn refuse_lost(&self, place: &str, forget: Option<RepositoryId>) -> Result<()> {
        match self.known(place)?.first() {
            Some(id) if forget != Some(*id) => Err(lost(place, id)),
            _ => Ok(()),
        }
    }

    /// As [`Keyring::refuse_lost`], where nothing is on `remote`.
    pub fn refuse_lost_on(&self, remote: &dyn Remote, forget: Option<RepositoryId>) -> Result<()> {
        match has_repository(remote)? {
            true => Ok(()),
            false => self.refuse_lost(&remote.place(), forget),
        }
    }

    /// The file with the record of a location.
    fn memory(&self, place: &str) -> Option<PathBuf> {
        let mut hasher = Hasher::new();
        hasher.update(place.as_bytes());
        Some(self.state.as_ref()?.join(PLACES).join(hex(&hasher.finish_short())))
    }
}

/// The folder of these files in the state folder.
const PLACES: &str = "places";
/// How a line with an id begins.
const LINE: &str = "repository ";
/// How the line of a repository begins whose making isn't finished.
const BEGUN: &str = "begun ";

fn begun_in(path: &Path) -> Result<Option<RepositoryId>> {
    Ok(ids_in(path, BEGUN)?.pop())
}

/// The ids in the lines that begin so; none where there is no file.
fn ids_in(path: &Path, begin: &str) -> Result<Vec<RepositoryId>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.lines().filter_map(|line| line.strip_prefix(begin)?.trim().parse().ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(repository::Error::Io { tried: "reading", path: path.to_owned(), source }.into()),
    }
}

/// A location in one line.
fn plain(place: &str) -> String {
    place.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
