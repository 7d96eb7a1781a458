//! What the state folder remembers of places: which repository ids were opened there.

use std::path::PathBuf;

use super::{Keyring, has_repository, lost};
use crate::error::Result;
use crate::id::{Hasher, RepositoryId, hex};
use crate::remote::Remote;
use crate::repository::{self, replace_secret};

impl Keyring {
    /// The ids of the repository that was opened at a place before, the newest first.
    pub fn known(&self, place: &str) -> Result<Vec<RepositoryId>> {
        let Some(path) = self.memory(place) else { return Ok(Vec::new()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.strip_prefix(LINE)?.trim().parse().ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(repository::Error::Io { tried: "reading", path, source }.into()),
        }
    }

    /// Remembers that these ids, the newest first, were opened at a place.
    pub fn remember(&self, place: &str, ids: &[RepositoryId]) -> Result<()> {
        let Some(path) = self.memory(place) else { return Ok(()) };
        let before = self.known(place)?;
        let mut all = ids.to_vec();
        all.extend(before.iter().filter(|id| !ids.contains(id)));
        if all == before {
            return Ok(());
        }
        self.write(place, path, &all)
    }

    /// Remembers that only this id is at a place.
    pub fn replace(&self, place: &str, id: RepositoryId) -> Result<()> {
        match self.memory(place) {
            Some(path) => self.write(place, path, &[id]),
            None => Ok(()),
        }
    }

    fn write(&self, place: &str, path: PathBuf, ids: &[RepositoryId]) -> Result<()> {
        let place: String = place.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let lines: String = ids.iter().map(|id| format!("{LINE}{id}\n")).collect();
        Ok(replace_secret(&path, &format!("# {place}\n{lines}"))?)
    }

    /// Refuses to make a repository at a place where another was before, unless that one is `forget`. To be called before
    /// anything is made there.
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

    /// The file that remembers a place.
    fn memory(&self, place: &str) -> Option<PathBuf> {
        let mut hasher = Hasher::new();
        hasher.update(place.as_bytes());
        Some(self.state.as_ref()?.join("places").join(hex(&hasher.finish_short())))
    }
}

/// How a line with an id begins.
const LINE: &str = "repository ";
