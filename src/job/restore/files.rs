//! Restore to a folder, to standard output, or into a dump file.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::dump_file::{self, DumpFile, DumpFrame};
use super::in_place::{InPlace, is_running, owners_below};
use super::request::{Destination, RestoreJob, RestoreSubject};
use crate::disk::takes_nothing;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::job::amount::counted;
use crate::job::open::OpenedSnapshot;
use crate::restore::service::check_refresh;
use crate::restore::{Choice, ChosenStreams, RestoreReport, restore_chosen, restore_error};
use crate::source::Target;
use crate::source::files::extract::{ExtractOptions, Overwrite, OwnerMapping};
use crate::source::in_place::InPlaceTarget;
use crate::source::select::Selection;
use crate::source::target::{FolderTarget, WriterTarget};
use crate::time::SystemClock;
use crate::warning::WarningKind;

/// What a restore of files has written.
pub struct FilesReport {
    /// Each snapshot that was restored, and where it is; None is standard output.
    pub done: Vec<(RestoreReport, Option<PathBuf>)>,
    /// What stayed over the running system, with the reasons.
    pub stayed: Vec<String>,
    /// What there is to know about the running system, a line each.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl RestoreJob<'_> {
    /// Restores to a folder, to standard output or into a dump file, as the request says.
    ///
    /// # Errors
    ///
    /// Where a snapshot can't be found or written, or nothing in it is meant.
    pub fn restore_files(&self) -> Result<FilesReport> {
        let (request, progress) = (self.request, &**self.progress);
        let opened = self.open()?;
        let started = Instant::now();
        let snapshots = self.snapshots(&opened)?;
        let in_place = match &request.destination {
            Destination::Folder(folder) if is_running(folder) && request.what != RestoreSubject::All => {
                Some(InPlace::prepare(self, &snapshots)?)
            }
            _ => None,
        };
        let mut done = Vec::new();
        for snapshot in &snapshots {
            if request.is_refresh {
                let environment = &self.machine.configuration.environment;
                check_refresh(&snapshot.snapshot, environment.name.as_deref())?;
            }
            snapshot.warnings.iter().for_each(|warning| progress.warn(warning));
            let folder = self.folder_of(snapshot);
            let Some(report) = self.restore_snapshot(snapshot, folder.as_deref(), in_place.as_ref())? else { continue };
            report.damaged.iter().for_each(|damage| progress.warn(&WarningKind::Damaged.warning(damage)));
            report.warnings.iter().for_each(|warning| progress.warn(warning));
            let to = match &request.destination {
                Destination::DumpFile(path) => Some(path.clone()),
                _ => folder,
            };
            done.push((report, to));
        }
        if done.is_empty() {
            return Err(request.parts.nothing_matches());
        }
        request.parts.warn_unmatched(snapshots.iter(), progress)?;
        let took = started.elapsed();
        let stayed = in_place.as_ref().map(InPlace::stayed).unwrap_or_default();
        let notes = in_place.as_ref().map(InPlace::finish).unwrap_or_default();
        Ok(FilesReport { done, stayed, notes, took })
    }

    /// The folder that a snapshot goes to: with --all each set has one of its own below DIR.
    fn folder_of(&self, snapshot: &OpenedSnapshot) -> Option<PathBuf> {
        let Destination::Folder(folder) = &self.request.destination else { return None };
        Some(match self.request.what {
            RestoreSubject::All => folder.join(&snapshot.snapshot.header.set),
            RestoreSubject::Set(_) | RestoreSubject::SetOfSnapshot | RestoreSubject::Configuration => folder.clone(),
        })
    }

    /// Restores a snapshot: below `folder`, where that is the running system with what `in_place` says of it, else as the
    /// request says. None where nothing in it is meant.
    pub(in crate::job) fn restore_snapshot(
        &self,
        opened: &OpenedSnapshot,
        folder: Option<&Path>,
        in_place: Option<&InPlace>,
    ) -> Result<Option<RestoreReport>> {
        let parts = &self.request.parts;
        let each = self.request.what != RestoreSubject::All;
        if parts.is_part() && !parts.are_in(opened, each, &**self.progress)? {
            return Ok(None);
        }
        let selection = parts.selection()?;
        let report = match (folder, in_place, &self.request.destination) {
            (Some(folder), Some(in_place), _) => {
                let options = self.extract_options(opened, in_place.owners.clone());
                let target = FolderTarget::create(folder, options).map_err(restore_error)?;
                let mut target = InPlaceTarget::new(target, folder, in_place.spared.clone());
                let report = self.write(opened, &selection, &mut target);
                in_place.keep(target.touched());
                report?
            }
            (Some(folder), None, _) => {
                let options = self.extract_options(opened, owners_below(folder, self, opened)?);
                let mut target = FolderTarget::create(folder, options).map_err(restore_error)?;
                self.write(opened, &selection, &mut target)?
            }
            (None, _, Destination::DumpFile(path)) => self.write_dump(path, opened, &selection)?,
            (None, ..) => {
                if !parts.only.is_empty() || !dump_file::is_dump(opened)? {
                    only_one(opened, &selection)?;
                }
                // Not through the standard library's buffer, which looks for the ends of lines.
                let out = std::io::stdout().as_fd().try_clone_to_owned().map_err(|error| not_printed(&error))?;
                let mut target = WriterTarget::new(File::from(out), "standard output");
                self.write(opened, &selection, &mut target)?
            }
        };
        Ok(Some(report))
    }

    fn write(&self, opened: &OpenedSnapshot, selection: &Selection, target: &mut dyn Target) -> Result<RestoreReport> {
        let takes = |entry: &Entry| selection.takes(entry);
        self.write_chosen(opened, &Choice { takes: &takes, starts: selection.starts() }, target)
    }

    fn write_chosen(
        &self,
        opened: &OpenedSnapshot,
        choice: &Choice<'_>,
        target: &mut dyn Target,
    ) -> Result<RestoreReport> {
        let (progress, interrupt) = (&**self.progress, &self.machine.interrupt);
        restore_chosen(&opened.repository, &opened.snapshot, choice, target, &SystemClock, progress, interrupt)
    }

    /// Writes one file that a server's client loads.
    fn write_dump(&self, path: &Path, opened: &OpenedSnapshot, selection: &Selection) -> Result<RestoreReport> {
        dump_file::check(opened)?;
        let frame = DumpFrame::of(opened, selection)?;
        let takes = |entry: &Entry| selection.takes(entry) || frame.takes(entry);
        let (output, file) = DumpFile::create(path, self.request.files.overwrite == Overwrite::Always)?;
        let report = self.write_chosen(opened, &Choice::of(&takes), &mut WriterTarget::new(file, "the dump"))?;
        // A part of a dump loads as if it were all of it.
        if let Some(damage) = report.damaged.first() {
            return Err(Error::Damaged(format!(
                "{damage}; no dump was made: restore another snapshot, or a part of it with --only"
            )));
        }
        output.finish()?;
        Ok(report)
    }

    fn extract_options(&self, opened: &OpenedSnapshot, owners: OwnerMapping) -> ExtractOptions {
        let files = &self.request.files;
        ExtractOptions {
            label: Some(opened.snapshot.header.set.clone()),
            overwrite: files.overwrite,
            strip_components: files.strip_components,
            owners,
        }
    }
}

/// Refuses where not one stream alone would go to standard output.
fn only_one(opened: &OpenedSnapshot, selection: &Selection) -> Result<()> {
    let layers = opened.repository.layers(&opened.snapshot.id)?;
    let takes = |entry: &Entry| selection.takes(entry);
    let choice = Choice { takes: &takes, starts: selection.starts() };
    let (mut names, mut count) = (Vec::new(), 0_u64);
    for stream in ChosenStreams::new(&layers, &choice) {
        let entry = stream?.entry;
        if entry.kind.has_content() {
            count += 1;
            if names.len() < 2 {
                names.push(entry.name);
            }
        }
    }
    match names.as_slice() {
        [_] => Ok(()),
        [] => Err(Error::Usage("no stream matches, and --stdout needs one; varu ls shows what there is".to_owned())),
        [first, second, ..] => Err(Error::Usage(format!(
            "{} match, as {first} and {second}, and --stdout takes one; choose it with --only",
            counted(count, "stream")
        ))),
    }
}

fn not_printed(error: &std::io::Error) -> Error {
    let text = format!("writing to standard output failed: {error}");
    if takes_nothing(error) { Error::NoSpace(text + "; make room there") } else { Error::Failed(text) }
}
