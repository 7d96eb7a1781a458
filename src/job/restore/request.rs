//! Requests of restores: what, from when, to where.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::class::{Class, Classified};
use crate::entry::{Entry, Escaped, StreamName};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::job::machine::Machine;
use crate::job::open::{OpenedRepositories, OpenedSnapshot, Trust};
use crate::job::spec::SourceKind;
use crate::progress::Progress;
use crate::repository::{Chosen, Layers};
use crate::restore::{Choice, ChosenStreams};
use crate::source::files::extract::Overwrite;
use crate::source::select::Selection;
use crate::warning::WarningKind;

/// What is restored, from when, to where, and how.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// What.
    pub what: RestoreSubject,
    /// Which snapshot of it.
    pub when: Chosen,
    /// To where.
    pub destination: Destination,
    /// What of the snapshot.
    pub parts: SnapshotParts,
    /// How files are written.
    pub files: FileOptions,
    /// What a person vouches for.
    pub trust: Trust,
    /// Whether it is a refresh, which has a guard of its own.
    pub is_refresh: bool,
}

/// What is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreSubject {
    /// A set.
    Set(String),
    /// The set of the snapshot that is named.
    SetOfSnapshot,
    /// Every set.
    All,
    /// The stored configuration, of the newest snapshot of all or the one that is named.
    Configuration,
}

/// To where it is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Below this folder.
    Folder(PathBuf),
    /// To standard output.
    Stdout,
    /// Into this file, as one dump that a server's client loads.
    DumpFile(PathBuf),
    /// Each set to where it was: databases into their services, files to their places.
    OriginalPlaces(ServiceOptions),
    /// Into a service that runs.
    Service {
        /// The kind of the service.
        kind: SourceKind,
        /// Another name for the one database.
        name: Option<String>,
        /// How it is loaded.
        options: ServiceOptions,
    },
}

/// How a service is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceOptions {
    /// What is there under this name may be put aside for the restored data.
    pub replace: Vec<String>,
    /// Who restores, for the history.
    pub who: String,
    /// Why, for the history.
    pub reason: Option<String>,
    /// Whether what can't be restored is named and passed over, and the rest put in place.
    pub keep_going: bool,
    /// The option file with which the service is written to, where that isn't the set's.
    pub option_file: Option<PathBuf>,
    /// The account with which the service is written to, where that isn't the set's.
    pub user: Option<String>,
}

/// Parts of snapshots. All where none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotParts {
    /// Patterns, of which one has to match.
    pub only: Vec<String>,
    /// Exact paths, beside the patterns.
    pub paths: Vec<OsString>,
}

/// How files are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// The treatment of a file that is there already.
    pub overwrite: Overwrite,
    /// How many leading folders are left out.
    pub strip_components: u32,
    /// Whether owners are their numbers, and not their names.
    pub numeric_owner: bool,
    /// Whether what belongs to one machine is restored over the running system, too.
    pub with_machine_files: bool,
}

/// A restore at work.
pub struct RestoreJob<'a> {
    /// What is asked for.
    pub request: &'a RestoreRequest,
    /// The machine.
    pub machine: &'a Machine,
    /// Who is told how it goes.
    pub progress: &'a Arc<dyn Progress>,
    /// Asks a person whether to go on with what was said.
    pub ask: &'a dyn Fn() -> Result<()>,
}

impl ServiceOptions {
    /// Who restores, and why.
    pub fn reason(&self) -> String {
        match &self.reason {
            Some(reason) => format!("by {}, because: {reason}", self.who),
            None => format!("by {}", self.who),
        }
    }
}

impl SnapshotParts {
    /// Whether not all of a snapshot is meant.
    pub fn is_part(&self) -> bool {
        !self.only.is_empty() || !self.paths.is_empty()
    }

    /// The selection of these parts.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where a pattern can't be read.
    pub fn selection(&self) -> Result<Selection> {
        let selection = Selection::parse(&self.only).map_err(|error| Error::Usage(format!("--only: {error}")))?;
        Ok(selection.with_paths(self.paths.iter().map(|path| path.as_bytes())))
    }

    /// The error of parts that no snapshot has.
    pub fn nothing_matches(&self) -> Error {
        let only = self.only.iter().map(|only| format!("--only {only}"));
        let paths = self.paths.iter().map(|path| format!("--path {}", Escaped(path.as_bytes())));
        let asked: Vec<String> = only.chain(paths).collect();
        Error::Usage(format!(
            "nothing matches {}; `varu ls` shows what there is. --only takes patterns, in which * ? [ ! # \\ and blanks at the \
             end are special; --path takes a path as `varu ls` prints it",
            asked.join(" ")
        ))
    }

    /// Warns of patterns and paths that mean nothing in any of these snapshots, where others mean something.
    ///
    /// # Errors
    ///
    /// Where a snapshot's recipe can't be read.
    pub fn warn_unmatched<'f>(
        &self,
        all: impl Iterator<Item = &'f OpenedSnapshot>,
        progress: &dyn Progress,
    ) -> Result<()> {
        if self.only.len() + self.paths.len() < 2 {
            return Ok(());
        }
        let mut left = Vec::new();
        for only in &self.only {
            let pattern = only.strip_prefix('!').unwrap_or(only).to_owned();
            // All patterns together were understood before.
            let selection = Selection::parse(&[pattern]).map_err(|error| Error::Usage(format!("--only: {error}")))?;
            left.push((format!("--only {only}"), selection));
        }
        for path in &self.paths {
            let selection = Selection::default().with_paths([path.as_bytes()]);
            left.push((format!("--path {}", Escaped(path.as_bytes())), selection));
        }
        for opened in all {
            let layers = opened.repository.layers(&opened.snapshot.id)?;
            for at in (0..left.len()).rev() {
                if any(&layers, left[at].1.starts(), |entry| left[at].1.takes(entry))? {
                    left.remove(at);
                }
            }
        }
        for (asked, _) in &left {
            let text = format!("nothing matches {asked}, and so it was not restored; `varu ls` shows what there is");
            progress.warn(&WarningKind::NotRestored.warning(text));
        }
        Ok(())
    }

    /// Whether a snapshot has any of these parts. With `each`, every path has to be there; patterns that look as if a stream of
    /// that very name were meant are warned of.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where a pattern can't be read, or a path isn't there.
    pub fn are_in(&self, opened: &OpenedSnapshot, each: bool, progress: &dyn Progress) -> Result<bool> {
        let selection = self.selection()?;
        let layers = opened.repository.layers(&opened.snapshot.id)?;
        if !any(&layers, selection.starts(), |entry| selection.takes(entry))? {
            return Ok(false);
        }
        for path in self.paths.iter().filter(|_| each) {
            let exact = Selection::default().with_paths([path.as_bytes()]);
            if !any(&layers, exact.starts(), |entry| exact.takes(entry))? {
                let path = Escaped(path.as_bytes());
                return Err(Error::Usage(format!("nothing has the path {path}; `varu ls` shows what there is")));
            }
        }
        for only in &self.only {
            let name = StreamName::new(only.trim_start_matches('/').trim_end_matches('/'));
            let found = name.map_or(Ok(None), |name| layers.find(&name))?;
            if found.is_none_or(|stream| selection.takes(&stream.entry)) {
                continue;
            }
            progress.warn(&WarningKind::NotRestored.warning(format!(
                "--only {only} is a pattern, and doesn't mean the stream of that very name; --path {only} does"
            )));
        }
        Ok(true)
    }
}

impl RestoreJob<'_> {
    /// Opens the repository to read what is restored.
    ///
    /// # Errors
    ///
    /// Where it can't be reached or opened, or isn't trusted.
    pub fn open(&self) -> Result<OpenedRepositories> {
        self.machine.open_to_read(&self.request.trust, self.progress)
    }

    /// The snapshots that are restored: one, or one of each set that has one.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn snapshots(&self, opened: &OpenedRepositories) -> Result<Vec<OpenedSnapshot>> {
        let find = |set: Option<&str>| opened.find(set, &self.request.when);
        let sets = match &self.request.what {
            RestoreSubject::Set(set) => return Ok(vec![find(Some(set)).map_err(|error| no_set(error, set))?]),
            RestoreSubject::SetOfSnapshot | RestoreSubject::Configuration => return Ok(vec![find(None)?]),
            RestoreSubject::All => opened.sets()?,
        };
        let mut all = Vec::new();
        let mut first = None;
        for set in sets {
            match find(Some(&set)) {
                Ok(snapshot) => all.push(snapshot),
                // A set that was not there yet at that time.
                Err(error) if error.class() == Class::Usage => _ = first.get_or_insert(error),
                Err(error) => return Err(error),
            }
        }
        match all.is_empty() {
            true => Err(first
                .unwrap_or_else(|| Error::Usage("there is no snapshot; `varu list` shows what there is".to_owned()))),
            false => Ok(all),
        }
    }
}

/// Says what to type where a snapshot was named in the place of a set.
fn no_set(error: Error, word: &str) -> Error {
    let is_id = word.len() <= SnapshotId::LEN * 2 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let hint = match word {
        _ if error.class() != Class::Usage => return error,
        "latest" => "latest is no set: name the set, and its latest is restored",
        _ if is_id => "if it is the id of a snapshot, write --snapshot before it",
        _ => return error,
    };
    error.described(format!("{error}; {hint}"))
}

/// Whether a snapshot has an entry that `takes` says yes to. `starts` are the beginnings of the names of all those that it can.
fn any(layers: &Layers<'_>, starts: Option<Vec<Vec<u8>>>, takes: impl Fn(&Entry) -> bool) -> Result<bool> {
    let choice = Choice { takes: &takes, starts };
    Ok(ChosenStreams::new(layers, &choice).next().transpose()?.is_some())
}
