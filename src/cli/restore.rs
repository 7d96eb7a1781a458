//! `varu restore`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgGroup, ValueEnum};
use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::entry::{Entry, Escaped, Kind};
use varu::job::spec::{Refresh, RefreshDestination};
use varu::progress::Progress;
use varu::repository::Chosen;
use varu::restore::service::check_refresh;
use varu::restore::{RestoreReport, chosen_streams, restore, restore_error};
use varu::source::Target;
use varu::source::files::extract::{self, ExtractOptions, Owners};
use varu::source::in_place::InPlaceTarget;
use varu::source::select::{Selection, is_exactly};
use varu::source::target::{FolderTarget, WriterTarget};
use varu::time::{SystemClock, Timestamp, format_duration};
use varu::warning::WarningKind;

use super::as_dump::{self, Frame, Output};
use super::complete;
use super::context::{Context, print};
use super::everything;
use super::exit::{ExitStatus, Failure};
use super::in_place::{InPlace, is_running, owners_below};
use super::into::{IntoArgs, Wanted};
use super::progress::ProgressReporter;
use super::values::{SetWord, SnapshotWord, TrustArgs, When, short};
use varu::job::amount::{count, counted, rate, size};
use varu::job::open::{OpenedRepositories, OpenedSnapshot};

/// Bring a set's data back.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "varu restore [OPTIONS] <SET|--configuration> <--to DIR|--into SERVICE|--stdout>\n       varu restore \
                      [OPTIONS] --all [--to DIR|--into SERVICE]",
    group = ArgGroup::new("what").args(["set", "all", "configuration"]),
    group = ArgGroup::new("when").args(["snapshot", "at"]),
    group = ArgGroup::new("where").args(["to", "into", "stdout", "as_dump", "abandon"])
)]
pub struct Args {
    /// The set, or SET@latest, SET@yesterday, SET@2026-11-27; with --snapshot ID it needn't be named.
    #[arg(value_name = "SET", add = ArgValueCandidates::new(complete::sets))]
    set: Option<SetWord>,

    /// Restore every set: below DIR, into SERVICE, or where nothing of that is given to where it was, each database into its
    /// server and each file to its place, in the order of restore_order.
    #[arg(long, conflicts_with_all = ["snapshot", "stdout"])]
    all: bool,

    /// Restore the configuration that was stored with the snapshot.
    #[arg(long)]
    configuration: bool,

    /// Which snapshot: an id, the beginning of one, or "latest" [default: latest].
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::ids))]
    snapshot: Option<SnapshotWord>,

    /// The newest snapshot whose data is from this time or before: "2026-11-20 14:03" as varu list
    /// shows it, 2026-11-20, "2 days ago", yesterday, now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

    /// Write below this folder.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,

    #[command(flatten)]
    into: IntoArgs,

    /// Write a dump of MySQL or PostgreSQL into one FILE that the server's own client loads: mariadb < FILE, psql < FILE. With
    /// --only, what is chosen and what it needs before and after it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "configuration", "strip_components"])]
    as_dump: Option<PathBuf>,

    /// Write the one stream that is meant to standard output, or all of a dump of MySQL or PostgreSQL.
    #[arg(long, conflicts_with_all = ["overwrite", "strip_components"])]
    stdout: bool,

    /// Restore only what this pattern of .gitignore's form matches; with --into, only this DATABASE or DATABASE/TABLE. May be
    /// given several times.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    only: Vec<String>,

    /// Restore only this path, exactly, as `varu ls` prints it, and what is below it. May be given several times.
    #[arg(long, value_name = "PATH", allow_hyphen_values = true, conflicts_with = "into")]
    path: Vec<OsString>,

    /// What happens to a file that is there already.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Overwrite::Never)]
    overwrite: Overwrite,

    /// Leave out so many leading folders of each path.
    #[arg(long, value_name = "N", default_value_t = 0)]
    strip_components: u32,

    /// Take the numbers of owners and groups as they were stored. Otherwise a name that the restored system knows goes before
    /// its number.
    #[arg(long, conflicts_with = "stdout")]
    numeric_owner: bool,

    /// Over the system that runs, restore also what belongs to one machine: machine-id, host name, fstab, network, ssh host
    /// keys, and its accounts as they were. What this restore itself uses stays all the same.
    #[arg(long, conflicts_with = "stdout")]
    with_machine_files: bool,

    #[command(flatten)]
    trust: TrustArgs,

    /// Whether it is a refresh, which has a guard of its own.
    #[arg(skip)]
    refreshes: bool,
}

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// It stays, and the restore says so.
    Never,
    /// It is replaced if size or time of last change differ.
    Changed,
    /// It is replaced.
    Always,
}

/// What is restored, and how.
#[derive(Debug)]
pub struct Options {
    /// What.
    pub what: What,
    /// From which snapshot.
    pub which: Which,
    /// To where.
    pub to: To,
    /// Patterns of which one has to match; all where there is none.
    pub only: Vec<String>,
    /// Exact paths, beside the patterns.
    pub paths: Vec<OsString>,
    /// What happens to a file that is there already.
    pub overwrite: Overwrite,
    /// How many leading folders are left out.
    pub strip_components: u32,
    /// Whether owners are their numbers, and not their names.
    pub numeric_owner: bool,
    /// Whether what belongs to one machine is restored over the running system, too.
    pub with_machine_files: bool,
    /// The repository that is vouched for.
    pub trust: TrustArgs,
}

/// What is restored.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// A set.
    Set(String),
    /// The set of the snapshot that is named.
    SetOfSnapshot,
    /// Every set.
    All,
    /// The stored configuration, of the named set's snapshot or the newest of all.
    Configuration,
}

/// From which snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that is named.
    Snapshot(SnapshotWord),
    /// The newest whose data is from this time or before.
    At(Timestamp),
}

/// To where.
#[derive(Debug, PartialEq, Eq)]
pub enum To {
    /// Below this folder.
    Folder(PathBuf),
    /// To standard output.
    Stdout,
    /// Into this file, as one dump.
    Dump(PathBuf),
    /// To where it was.
    Back,
}

impl Args {
    /// What a refresh does: the newest snapshot of its set, into the service or over what is in the folder.
    pub fn of_refresh(name: &str, refresh: &Refresh) -> Self {
        let (to, into) = match &refresh.to {
            RefreshDestination::Folder(folder) => (Some(folder.clone()), IntoArgs::default()),
            RefreshDestination::Service(service) => {
                (None, IntoArgs::of_refresh(refresh, service, &format!("refresh {name}")))
            }
        };
        Self {
            set: Some(SetWord { set: refresh.set.clone(), when: None }),
            all: false,
            configuration: false,
            snapshot: None,
            at: None,
            to,
            into,
            stdout: false,
            as_dump: None,
            only: Vec::new(),
            path: Vec::new(),
            overwrite: Overwrite::Changed,
            strip_components: 0,
            numeric_owner: false,
            with_machine_files: false,
            trust: TrustArgs::default(),
            refreshes: true,
        }
    }

    /// What these arguments mean.
    fn options(self, is_into: bool, context: &Context) -> Result<Options, Failure> {
        let names_a_snapshot = matches!(self.snapshot, Some(SnapshotWord::Prefix(_)));
        let when = self.set.as_ref().and_then(|word| word.when.clone());
        if when.is_some() && (self.snapshot.is_some() || self.at.is_some()) {
            return Err(Failure::usage("which snapshot is said twice: by SET@WHEN, and by --snapshot or --at"));
        }
        let what = match (self.set, self.all, self.configuration) {
            (Some(word), ..) => What::Set(word.set),
            (_, true, _) => What::All,
            (.., true) => What::Configuration,
            _ if names_a_snapshot => What::SetOfSnapshot,
            _ => {
                return Err(Failure::usage(
                    "what is to be restored? Name a SET, or give --all, --configuration or --snapshot ID; varu list shows \
                     what there is",
                ));
            }
        };
        let which = match (self.snapshot, self.at, when) {
            (Some(snapshot), ..) => Which::Snapshot(snapshot),
            (None, Some(at), _) | (None, None, Some(When::Until(at))) => Which::At(context.until(&at)?),
            (None, None, Some(When::Latest) | None) => Which::Snapshot(SnapshotWord::Latest),
        };
        let to = match (self.to, self.stdout, &what) {
            _ if self.as_dump.is_some() => To::Dump(self.as_dump.unwrap_or_default()),
            (Some(folder), ..) => To::Folder(folder),
            (None, true, _) => To::Stdout,
            (None, false, _) if is_into => To::Stdout,
            (None, false, What::All) => To::Back,
            (None, false, _) => {
                return Err(Failure::usage(
                    "to where is it to be restored? Give --to DIR, --into SERVICE or --stdout; --all alone restores everything to \
                     where it was",
                ));
            }
        };
        Ok(Options {
            what,
            which,
            to,
            only: self.only,
            paths: self.path,
            overwrite: self.overwrite,
            strip_components: self.strip_components,
            numeric_owner: self.numeric_owner,
            with_machine_files: self.with_machine_files,
            trust: self.trust,
        })
    }

    /// Restores and says what was written.
    pub fn run(mut self, context: &Context) -> Result<ExitStatus, Failure> {
        let into = std::mem::take(&mut self.into);
        let into = match into.wanted()? {
            Wanted::Something(into) => return into.run(&self.options(true, context)?, context),
            Wanted::Nothing(args) => args,
        };
        let refreshes = self.refreshes;
        let options = self.options(false, context)?;
        if options.to == To::Back {
            return everything::run(&into, Path::new("/"), &options, context);
        }
        let aside = options.to == To::Stdout;
        let progress = if aside { context.progress_aside() } else { context.progress() };
        let opened = context.machine.open_to_read(&options.trust.vouched(), &progress.shared())?;
        let started = Instant::now();
        let mut done = Vec::new();
        if options.what == What::Configuration {
            let found = options.find(&opened, None)?;
            return options.configuration(context, &found, &progress);
        }
        let all = options.all_found(&opened)?;
        let in_place = match &options.to {
            To::Folder(folder) if is_running(folder) && options.what != What::All => {
                Some(InPlace::prepare(&options, &all, context)?)
            }
            _ => None,
        };
        for found in &all {
            if refreshes {
                check_refresh(&found.snapshot, context.machine.configuration.environment.name.as_deref())?;
            }
            let folder = options.folder(found);
            found.warnings.iter().for_each(|warning| progress.warn(warning));
            let Some(report) = options.restore(found, folder.as_deref(), in_place.as_ref(), context, &progress)? else {
                continue;
            };
            report.damaged.iter().for_each(|damage| progress.warn(&WarningKind::Damaged.warning(damage)));
            report.warnings.iter().for_each(|warning| progress.warn(warning));
            let place = match &options.to {
                To::Dump(path) => Some(path.clone()),
                _ => folder,
            };
            done.push((report, place));
        }
        if done.is_empty() {
            return Err(options.nothing_matches());
        }
        options.warn_unmatched(all.iter(), &progress)?;
        let warnings = progress.end(&[]);
        let stayed = in_place.as_ref().map(InPlace::stayed).unwrap_or_default();
        in_place.iter().for_each(|in_place| in_place.end(&progress));
        let summary = Summary { done: &done, warnings: &warnings, stayed: &stayed, took: started.elapsed() };
        match (aside, context.json) {
            (true, _) => progress.note_lines(&summary.text(context)),
            (false, true) => context.print_json(&summary.document())?,
            (false, false) => context.tell(&summary.text(context))?,
        }
        let status = progress.say_warnings();
        Ok(if done.iter().any(|(report, _)| !report.damaged.is_empty()) { ExitStatus::Damaged } else { status })
    }
}

impl Options {
    /// What of a snapshot is meant.
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        let selection = Selection::parse(&self.only).map_err(|error| Failure::usage(format!("--only: {error}")))?;
        Ok(selection.with_paths(self.paths.iter().map(|path| path.as_bytes())))
    }

    /// Nothing in any snapshot is meant.
    pub(super) fn nothing_matches(&self) -> Failure {
        let only = self.only.iter().map(|only| format!("--only {only}"));
        let paths = self.paths.iter().map(|path| format!("--path {}", Escaped(path.as_bytes())));
        let asked: Vec<String> = only.chain(paths).collect();
        Failure::usage(format!(
            "nothing matches {}; `varu ls` shows what there is. --only takes patterns, in which * ? [ ! # \\ and blanks at the \
             end are special; --path takes a path as `varu ls` prints it",
            asked.join(" ")
        ))
    }

    /// Warns of patterns and paths that mean nothing in any of these snapshots, where others mean something.
    pub(super) fn warn_unmatched<'f>(
        &self,
        all: impl Iterator<Item = &'f OpenedSnapshot>,
        progress: &ProgressReporter,
    ) -> Result<(), Failure> {
        if self.only.len() + self.paths.len() < 2 {
            return Ok(());
        }
        let mut left = Vec::new();
        for only in &self.only {
            let pattern = only.strip_prefix('!').unwrap_or(only).to_owned();
            // As a whole they were understood before.
            let selection = Selection::parse(&[pattern]).map_err(|error| Failure::usage(format!("--only: {error}")))?;
            left.push((format!("--only {only}"), selection));
        }
        for path in &self.paths {
            let selection = Selection::default().with_paths([path.as_bytes()]);
            left.push((format!("--path {}", Escaped(path.as_bytes())), selection));
        }
        for found in all {
            let recipe = found.repository.recipe(&found.snapshot.id)?;
            let entries =
                || recipe.streams.iter().map(|stream| &stream.entry).filter(|entry| entry.kind != Kind::Above);
            left.retain(|(_, selection)| !entries().any(|entry| selection.takes(entry)));
        }
        for (asked, _) in &left {
            let text = format!("nothing matches {asked}, and so it was not restored; `varu ls` shows what there is");
            progress.warn(&WarningKind::NotRestored.warning(text));
        }
        Ok(())
    }

    fn chosen(&self) -> Chosen {
        match &self.which {
            Which::Snapshot(word) => word.into(),
            Which::At(time) => Chosen::At(*time),
        }
    }

    fn find(&self, opened: &OpenedRepositories, set: Option<&str>) -> Result<OpenedSnapshot, Failure> {
        Ok(opened.find(set, &self.chosen())?)
    }

    /// The snapshots that are restored: one, or one of each set that has one.
    pub(super) fn all_found(&self, opened: &OpenedRepositories) -> Result<Vec<OpenedSnapshot>, Failure> {
        let sets = match &self.what {
            What::Set(set) => {
                let found = self.find(opened, Some(set));
                return Ok(vec![found.map_err(|failure| no_set(failure, set))?]);
            }
            What::SetOfSnapshot | What::Configuration => return Ok(vec![self.find(opened, None)?]),
            What::All => opened.sets()?,
        };
        let mut all = Vec::new();
        let mut first = None;
        for set in sets {
            match self.find(opened, Some(&set)) {
                Ok(found) => all.push(found),
                // A set that was not there yet at that time.
                Err(failure) if failure.is_usage() => _ = first.get_or_insert(failure),
                Err(failure) => return Err(failure),
            }
        }
        match all.is_empty() {
            true => {
                Err(first.unwrap_or_else(|| Failure::usage("there is no snapshot; `varu list` shows what there is")))
            }
            false => Ok(all),
        }
    }

    /// Where a snapshot's streams go: with --all each set has its own folder below DIR.
    fn folder(&self, found: &OpenedSnapshot) -> Option<PathBuf> {
        match (&self.to, &self.what) {
            (To::Stdout | To::Back | To::Dump(_), _) => None,
            (To::Folder(folder), What::All) => Some(folder.join(&found.snapshot.header.set)),
            (To::Folder(folder), _) => Some(folder.clone()),
        }
    }

    /// Restores a snapshot. None where nothing in it is meant.
    pub(super) fn restore(
        &self,
        found: &OpenedSnapshot,
        folder: Option<&Path>,
        in_place: Option<&InPlace>,
        context: &Context,
        progress: &ProgressReporter,
    ) -> Result<Option<RestoreReport>, Failure> {
        let selection = self.selection()?;
        if self.is_part() {
            let recipe = found.repository.recipe(&found.snapshot.id)?;
            let entries = || recipe.streams.iter().map(|stream| &stream.entry);
            if !entries().any(|entry| entry.kind != Kind::Above && selection.takes(entry)) {
                return Ok(None);
            }
            let is_there = |path: &&OsString| entries().any(|entry| is_exactly(entry, path.as_bytes()));
            if let Some(path) = self.paths.iter().find(|path| !is_there(path)).filter(|_| self.what != What::All) {
                let path = Escaped(path.as_bytes());
                return Err(Failure::usage(format!("nothing has the path {path}; `varu ls` shows what there is")));
            }
            let not_meant = |only: &&String| {
                let name = only.trim_start_matches('/').trim_end_matches('/').as_bytes();
                entries().any(|entry| entry.name.as_bytes() == name && !selection.takes(entry))
            };
            for only in self.only.iter().filter(not_meant) {
                progress.warn(&WarningKind::NotRestored.warning(format!(
                    "--only {only} is a pattern, and doesn't mean the stream of that very name; --path {only} does"
                )));
            }
        }
        let run = |target: &mut dyn Target| {
            let takes = |entry: &Entry| selection.takes(entry);
            restore(
                &found.repository,
                &found.snapshot,
                &takes,
                target,
                &SystemClock,
                progress,
                &context.machine.interrupt,
            )
        };
        let report = match (folder, in_place) {
            (Some(folder), Some(in_place)) => {
                let options = self.extract_options(found, in_place.owners.clone());
                let target = FolderTarget::create(folder, options).map_err(restore_error)?;
                let mut target = InPlaceTarget::new(target, folder, in_place.spared.clone());
                let report = run(&mut target);
                in_place.keep(target.touched());
                report?
            }
            (Some(folder), None) => {
                let owners = owners_below(folder, self, found, context)?;
                run(&mut FolderTarget::create(folder, self.extract_options(found, owners)).map_err(restore_error)?)?
            }
            (None, _) if let To::Dump(path) = &self.to => {
                return self.dump(path, found, &selection, context, progress).map(Some);
            }
            (None, _) => {
                if !self.only.is_empty() || !as_dump::is_dump(&found.repository.recipe(&found.snapshot.id)?) {
                    only_one(found, &selection)?;
                }
                // Not through the standard library's buffer, which looks for the ends of lines.
                let out = std::io::stdout().as_fd().try_clone_to_owned();
                let out = out.map_err(|error| Failure::printing(&error))?;
                run(&mut WriterTarget::new(File::from(out), "standard output"))?
            }
        };
        Ok(Some(report))
    }

    /// Writes one file that a server's client loads.
    fn dump(
        &self,
        path: &Path,
        found: &OpenedSnapshot,
        selection: &Selection,
        context: &Context,
        progress: &ProgressReporter,
    ) -> Result<RestoreReport, Failure> {
        let recipe = found.repository.recipe(&found.snapshot.id)?;
        as_dump::check(found, &recipe)?;
        let frame = Frame::of(&recipe, selection);
        let takes = |entry: &Entry| selection.takes(entry) || frame.takes(entry);
        let (output, file) = Output::create(path, self.overwrite == Overwrite::Always)?;
        let mut target = WriterTarget::new(file, "the dump");
        let (repository, snapshot, interrupt) = (&found.repository, &found.snapshot, &context.machine.interrupt);
        let report = restore(repository, snapshot, &takes, &mut target, &SystemClock, progress, interrupt)?;
        // A part of a dump loads as if it were all of it.
        if let Some(damage) = report.damaged.first() {
            let message = format!("{damage}; no dump was made: restore another snapshot, or a part of it with --only");
            return Err(Failure::new(ExitStatus::Damaged, message));
        }
        output.finish()?;
        Ok(report)
    }

    /// How files are written: a restore that asks for another way isn't the same.
    pub(super) fn how(&self) -> String {
        let (numeric, machine) = (self.numeric_owner, self.with_machine_files);
        format!("{:?} {} {numeric} {machine} {:?}", self.overwrite, self.strip_components, self.paths)
    }

    /// Whether not all of a snapshot is meant.
    pub(super) fn is_part(&self) -> bool {
        !self.only.is_empty() || !self.paths.is_empty()
    }

    fn extract_options(&self, found: &OpenedSnapshot, owners: Owners) -> ExtractOptions {
        ExtractOptions {
            label: Some(found.snapshot.header.set.clone()),
            overwrite: match self.overwrite {
                Overwrite::Never => extract::Overwrite::Refuse,
                Overwrite::Changed => extract::Overwrite::Changed,
                Overwrite::Always => extract::Overwrite::Always,
            },
            strip_components: self.strip_components,
            owners,
        }
    }

    /// Writes the stored configuration to standard output, or as `varu.toml` below DIR.
    fn configuration(
        &self,
        context: &Context,
        found: &OpenedSnapshot,
        progress: &ProgressReporter,
    ) -> Result<ExitStatus, Failure> {
        let row = &found.snapshot;
        let body = found.repository.index().body(&row.id).map_err(varu::repository::Error::from)?;
        let text = &body.map(|body| body.configuration).unwrap_or_default();
        if text.is_empty() {
            return Err(Failure::usage(format!(
                "snapshot {} of {} was made without a configuration file, so none is stored with it",
                short(&row.id),
                row.header.set
            )));
        }
        progress.end(&found.warnings);
        match &self.to {
            To::Stdout | To::Back | To::Dump(_) => print(text)?,
            To::Folder(folder) => {
                let path = folder.join("varu.toml");
                let written = std::fs::create_dir_all(folder).and_then(|()| self.write_configuration(&path, text));
                written.map_err(|error| {
                    let message = format!("writing {} failed: {error}", path.display());
                    Failure::new(ExitStatus::Failed, message)
                })?;
                match context.json {
                    true => context.print_json(&json!({ "snapshot": row.id, "configuration": path }))?,
                    false => context.tell(&format!("the configuration is in {}\n", path.display()))?,
                }
            }
        }
        Ok(progress.say_warnings())
    }

    fn write_configuration(&self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).mode(0o600);
        match self.overwrite {
            Overwrite::Never => options.create_new(true),
            Overwrite::Changed | Overwrite::Always => options.create(true).truncate(true),
        };
        options.open(path)?.write_all(text)
    }
}

/// Says what to type where a snapshot was named in the place of a set.
fn no_set(failure: Failure, word: &str) -> Failure {
    let hint = match word.parse() {
        Ok(SnapshotWord::Latest) if failure.is_usage() => "latest is no set: name the set, and its latest is restored",
        Ok(SnapshotWord::Prefix(_)) if failure.is_usage() => {
            "if it is the id of a snapshot, write --snapshot before it"
        }
        _ => return failure,
    };
    Failure { message: format!("{}; {hint}", failure.message), ..failure }
}

/// Refuses where not one stream alone would go to standard output.
fn only_one(found: &OpenedSnapshot, selection: &Selection) -> Result<(), Failure> {
    let recipe = found.repository.recipe(&found.snapshot.id)?;
    let streams = chosen_streams(recipe.streams, &|entry| selection.takes(entry));
    let entries = streams.iter().map(|stream| &stream.entry);
    let names: Vec<String> =
        entries.filter(|entry| entry.kind.has_content()).map(|entry| entry.name.to_string()).collect();
    match names.as_slice() {
        [_] => Ok(()),
        [] => Err(Failure::usage("no stream matches, and --stdout needs one; varu ls shows what there is")),
        [first, second, ..] => Err(Failure::usage(format!(
            "{} match, as {first} and {second}, and --stdout takes one; choose it with --only",
            counted(names.len() as u64, "stream")
        ))),
    }
}

/// What is said of a restore.
struct Summary<'a> {
    done: &'a [(RestoreReport, Option<PathBuf>)],
    warnings: &'a [String],
    /// What stayed over the running system.
    stayed: &'a [String],
    took: Duration,
}

impl Summary<'_> {
    fn text(&self, context: &Context) -> String {
        let mut text = String::new();
        for (report, folder) in self.done {
            let header = &report.snapshot.header;
            let to = folder.as_ref().map_or_else(|| "standard output".to_owned(), |to| to.display().to_string());
            text += &format!(
                "restored {} from snapshot {} ({}) to {to}: {} in {}",
                header.set,
                short(&report.snapshot.id),
                context.machine.zone.stamp(header.data_time),
                size(report.bytes),
                counted(report.streams, "stream"),
            );
            if report.kept > 0 {
                text += &format!(", {} kept", count(report.kept));
            }
            if !report.damaged.is_empty() {
                text += &format!(", {} DAMAGED and left out", count(report.damaged.len() as u64));
            }
            text += "\n";
        }
        let bytes = self.done.iter().map(|(report, _)| report.bytes).sum();
        let rate = rate(bytes, self.took).map(|rate| format!(", {rate}")).unwrap_or_default();
        text + &format!("in {}{rate}\n", format_duration(self.took))
    }

    fn document(&self) -> serde_json::Value {
        let restored = self.done.iter().map(|(report, folder)| {
            json!({
                "snapshot": report.snapshot.id,
                "set": report.snapshot.header.set,
                "data_time": report.snapshot.header.data_time.to_string(),
                "to": folder,
                "streams": report.streams,
                "bytes": report.bytes,
                "kept": report.kept,
                "damaged": report.damaged,
            })
        });
        json!({
            "restored": restored.collect::<Vec<_>>(),
            "seconds": self.took.as_millis() as f64 / 1000.0,
            "stayed": self.stayed,
            "warnings": self.warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(words: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from(["restore"].iter().chain(words)).map_err(|error| error.to_string())?;
        let context = context(&["--repo", "./v"], "", true, &[]).unwrap();
        line.args.options(false, &context).map_err(|failure| failure.message)
    }

    #[test]
    fn what_and_where_are_needed() {
        let all = options(&["--all", "--to", "/x"]).unwrap();
        assert_eq!((all.what, all.to), (What::All, To::Folder("/x".into())));
        assert_eq!(options(&["--all"]).unwrap().to, To::Back);
        assert_eq!(options(&["agama", "--stdout"]).unwrap().to, To::Stdout);
        assert_eq!(options(&["--configuration", "--stdout"]).unwrap().what, What::Configuration);
        assert_eq!(options(&["--snapshot", "0af", "--to", "/x"]).unwrap().what, What::SetOfSnapshot);
        assert!(options(&["agama"]).unwrap_err().contains("--to"));
        assert!(options(&["--to", "/x"]).unwrap_err().contains("what is to be restored?"));
        assert!(options(&["--snapshot", "latest", "--to", "/x"]).unwrap_err().contains("what is to be restored?"));
        for bad in [
            &["agama", "--all", "--to", "/x"][..],
            &["agama", "--to", "/x", "--stdout"],
            &["--all", "--stdout"],
            &["agama", "--snapshot", "0af", "--at", "2026-11-20", "--to", "/x"],
            &["agama", "--stdout", "--overwrite", "always"],
        ] {
            assert!(options(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_snapshot_is_the_latest_unless_it_is_named_by_id_or_time() {
        let which = |words: &[&str]| options(&[&["agama", "--to", "/x"], words].concat()).map(|options| options.which);
        assert_eq!(which(&[]), Ok(Which::Snapshot(SnapshotWord::Latest)));
        assert_eq!(which(&["--snapshot", "0af"]), Ok(Which::Snapshot(SnapshotWord::Prefix("0af".to_owned()))));
        assert_eq!(
            which(&["--at", "2026-11-20T00:00:00Z"]),
            Ok(Which::At(Timestamp::from_nanos(1_795_132_800_999_999_999)))
        );
        let named = |word: &str| options(&[word, "--to", "/x"]).map(|options| options.which);
        assert_eq!(named("agama@latest"), which(&[]));
        assert_eq!(named("agama@2026-11-20T00:00:00Z"), which(&["--at", "2026-11-20T00:00:00Z"]));
        assert!(options(&["agama@latest", "--at", "now", "--to", "/x"]).unwrap_err().contains("said twice"));
        assert!(which(&["--at", "noon"]).unwrap_err().contains("is not a time"));
    }

    #[test]
    fn nothing_is_overwritten_unless_it_is_asked_for() {
        assert_eq!(options(&["agama", "--to", "/x"]).unwrap().overwrite, Overwrite::Never);
        assert_eq!(options(&["agama", "--to", "/x", "--overwrite", "changed"]).unwrap().overwrite, Overwrite::Changed);
    }
}
