//! `varu restore`: a request of its arguments, handed to a job, and the report of it.

mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgGroup;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap_complete::ArgValueCandidates;
use serde_json::json;
use varu::entry::Untrusted;
use varu::job::refresh::parse_service;
use varu::job::restore::request::{
    Destination, FileOptions, RestoreJob, RestoreRequest, RestoreSubject, ServiceOptions, SnapshotParts,
};
use varu::job::restore::service::{ServiceRequest, abandon_restore};
use varu::progress::Progress;
use varu::repository::Chosen;
use varu::source::files::extract::Overwrite;

use super::complete;
use super::confirm::go_on;
use super::context::{Context, print};
use super::exit::{ExitStatus, Failure};
use super::values::{SetWord, SnapshotWord, TrustArgs, When};

/// Restore a set.
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

    /// Restore every set: below DIR, into SERVICE, or without either to the original places, databases into their servers and
    /// files to their paths, in the order of restore_order.
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
    service: ServiceArgs,

    /// Write a dump of MySQL or PostgreSQL into one FILE that the server's own client loads: mariadb < FILE, psql < FILE. With
    /// --only, what is chosen and what it needs before and after it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "configuration", "strip_components"])]
    as_dump: Option<PathBuf>,

    /// Write the one selected stream to standard output, or all of a dump of MySQL or PostgreSQL.
    #[arg(long, conflicts_with_all = ["overwrite", "strip_components"])]
    stdout: bool,

    /// Restore only files that match this .gitignore pattern; with --into, only this DATABASE or DATABASE/TABLE. May be
    /// given several times.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    only: Vec<String>,

    /// Restore only this path, exactly, as `varu ls` prints it, and what is below it. May be given several times.
    #[arg(long, value_name = "PATH", allow_hyphen_values = true, conflicts_with = "into")]
    path: Vec<OsString>,

    /// The treatment of existing files.
    #[arg(long, value_name = "WHEN", value_parser = overwrite(), default_value = "never")]
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
}

/// The options of a restore into a service.
#[derive(Debug, clap::Args)]
struct ServiceArgs {
    /// Load into a service that runs: "mysql", "postgresql", "influxdb", "command"; with ":NAME" under
    /// another name of the one database.
    #[arg(long, value_name = "SERVICE[:NAME]", add = ArgValueCandidates::new(complete::services))]
    into: Option<String>,

    /// Allow replacing what has this name: the old data is renamed and kept; may be given several times.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    replace: Vec<String>,

    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Don't ask.
    #[arg(long)]
    yes: bool,

    /// Report objects that can't be restored, and restore the rest.
    #[arg(long)]
    keep_going: bool,

    /// The option file with which the service is written to [default: the set's]. With --all, that of the MySQL sets.
    #[arg(long, value_name = "FILE")]
    option_file: Option<PathBuf>,

    /// The account with which the service is written to [default: the set's]. With --all, that of the PostgreSQL sets.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Forget a restore into a service that did not succeed, so that the set's backups go on.
    #[arg(long, requires = "set")]
    abandon: bool,
}

/// Reads what happens to a file that is there already.
fn overwrite() -> impl TypedValueParser<Value = Overwrite> {
    let values = [
        PossibleValue::new("never").help("It stays, and the restore says so"),
        PossibleValue::new("changed").help("It is replaced if size or time of last change differ"),
        PossibleValue::new("always").help("It is replaced"),
    ];
    PossibleValuesParser::new(values).map(|word| match word.as_str() {
        "changed" => Overwrite::Changed,
        "always" => Overwrite::Always,
        _ => Overwrite::Refuse,
    })
}

/// Who runs the command, for the history.
pub fn who() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let who = variable("SUDO_USER").or_else(|| variable("USER")).or_else(|| variable("LOGNAME"));
    who.unwrap_or_else(|| "somebody".to_owned())
}

impl ServiceArgs {
    fn options(self) -> ServiceOptions {
        let Self { replace, reason, keep_going, option_file, user, .. } = self;
        ServiceOptions { replace, who: who(), reason, keep_going, option_file, user }
    }
}

impl Args {
    /// What these arguments ask for.
    fn request(self, context: &Context) -> Result<RestoreRequest, Failure> {
        let service = self.service.into.as_deref().map(parse_service).transpose()?;
        let names_a_snapshot = matches!(self.snapshot, Some(SnapshotWord::Prefix(_)));
        let when = self.set.as_ref().and_then(|word| word.when.clone());
        if when.is_some() && (self.snapshot.is_some() || self.at.is_some()) {
            return Err(Failure::usage("which snapshot is said twice: by SET@WHEN, and by --snapshot or --at"));
        }
        let what = match (self.set, self.all, self.configuration) {
            (Some(word), ..) => RestoreSubject::Set(word.set),
            (_, true, _) => RestoreSubject::All,
            (.., true) => RestoreSubject::Configuration,
            _ if names_a_snapshot => RestoreSubject::SetOfSnapshot,
            _ => {
                return Err(Failure::usage(
                    "what is to be restored? Name a SET, or give --all, --configuration or --snapshot ID; varu list shows \
                     what there is",
                ));
            }
        };
        let when = match (self.snapshot, self.at, when) {
            (Some(snapshot), ..) => Chosen::from(&snapshot),
            (None, Some(at), _) | (None, None, Some(When::Until(at))) => Chosen::At(context.until(&at)?),
            (None, None, Some(When::Latest) | None) => Chosen::Latest,
        };
        let options = self.service.options();
        let destination = match (service, self.as_dump, self.to, self.stdout) {
            (Some((kind, name)), ..) => Destination::Service { kind, name, options },
            (None, Some(file), ..) => Destination::DumpFile(file),
            (None, None, Some(folder), _) => Destination::Folder(folder),
            (None, None, None, true) => Destination::Stdout,
            (None, None, None, false) if what == RestoreSubject::All => Destination::OriginalPlaces(options),
            (None, None, None, false) => {
                return Err(Failure::usage(
                    "to where is it to be restored? Give --to DIR, --into SERVICE or --stdout; --all alone restores everything to \
                     where it was",
                ));
            }
        };
        Ok(RestoreRequest {
            what,
            when,
            destination,
            parts: SnapshotParts { only: self.only, paths: self.path },
            files: FileOptions {
                overwrite: self.overwrite,
                strip_components: self.strip_components,
                numeric_owner: self.numeric_owner,
                with_machine_files: self.with_machine_files,
            },
            trust: self.trust.vouched(),
            is_refresh: false,
        })
    }

    /// Restores and says what was written.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        match self.service.abandon {
            true => self.abandon(context),
            false => {
                let yes = self.service.yes;
                run(&self.request(context)?, yes, context)
            }
        }
    }

    fn abandon(self, context: &Context) -> Result<ExitStatus, Failure> {
        let Some(SetWord { set, .. }) = self.set else { return Err(Failure::usage("--abandon takes a SET")) };
        let progress = context.progress();
        let (options, trust) = (self.service.options(), self.trust.vouched());
        let abandoned = abandon_restore(&set, &options, &trust, &context.machine, &progress.shared())?;
        let text = match &abandoned {
            Some(operation) => format!(
                "the restore of {set} that began at {} is given up\n{}\n",
                operation.started,
                Untrusted::from(operation.described())
            ),
            None => format!("there is no unfinished restore of {set}\n"),
        };
        match context.json {
            true => context.print_json(&json!({ "set": set, "abandoned": abandoned.is_some() }))?,
            false => context.tell(&text)?,
        }
        Ok(progress.say_warnings())
    }
}

/// Runs a request and prints its report. With `yes` nobody is asked. Damage of what was restored ends with status 7.
pub fn run(request: &RestoreRequest, yes: bool, context: &Context) -> Result<ExitStatus, Failure> {
    let to_stdout = request.destination == Destination::Stdout;
    let progress = if to_stdout { context.progress_aside() } else { context.progress() };
    let (shared, ask) = (progress.shared(), || go_on(yes));
    let job = RestoreJob { request, machine: &context.machine, progress: &shared, ask: &ask };
    match (&request.destination, &request.what) {
        (Destination::Service { kind, name, options }, _) => {
            let wanted = ServiceRequest { kind: *kind, name: name.as_deref(), options, noted: None };
            let loaded = job.restore_into_service(&wanted)?;
            let warnings = progress.end(&[]);
            report::loaded(&loaded, &warnings, context)?;
            Ok(progress.say_warnings())
        }
        (Destination::OriginalPlaces(options), _) => {
            let all = job.restore_all(Path::new("/"), options)?;
            let warnings = progress.end(&[]);
            all.notes.iter().for_each(|note| progress.note(note));
            report::all(&all, &warnings, context)?;
            match all.failure {
                Some(failure) => Err(failure.into()),
                None => Ok(progress.say_warnings()),
            }
        }
        (destination, RestoreSubject::Configuration) => {
            let stored = job.stored_configuration()?;
            progress.end(&stored.warnings);
            match destination {
                Destination::Folder(folder) => {
                    let path = job.write_configuration(folder, &stored.text)?;
                    match context.json {
                        true => {
                            context.print_json(&json!({ "snapshot": stored.snapshot.id, "configuration": path }))?
                        }
                        false => context.tell(&format!("the configuration is in {}\n", path.display()))?,
                    }
                }
                _ => print(&stored.text)?,
            }
            Ok(progress.say_warnings())
        }
        (Destination::Folder(_) | Destination::Stdout | Destination::DumpFile(_), _) => {
            let files = job.restore_files()?;
            let warnings = progress.end(&[]);
            files.notes.iter().for_each(|note| progress.note(note));
            match (to_stdout, context.json) {
                (true, _) => progress.note_lines(&report::files_text(&files, context)),
                (false, true) => context.print_json(&report::files_document(&files, &warnings))?,
                (false, false) => context.tell(&report::files_text(&files, context))?,
            }
            let status = progress.say_warnings();
            let is_damaged = files.done.iter().any(|(report, _)| !report.damaged.is_empty());
            Ok(if is_damaged { ExitStatus::Damaged } else { status })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use clap::Parser;
    use varu::time::Timestamp;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn request(words: &[&str]) -> Result<RestoreRequest, String> {
        let line = Line::try_parse_from(["restore"].iter().chain(words)).map_err(|error| error.to_string())?;
        let context = context(&["--repo", "./v"], "", true, &[]).unwrap();
        line.args.request(&context).map_err(|failure| failure.message)
    }

    #[test]
    fn what_and_where_are_needed() {
        let all = request(&["--all", "--to", "/x"]).unwrap();
        assert_eq!((all.what, all.destination), (RestoreSubject::All, Destination::Folder("/x".into())));
        assert!(matches!(request(&["--all"]).unwrap().destination, Destination::OriginalPlaces(_)));
        assert_eq!(request(&["agama", "--stdout"]).unwrap().destination, Destination::Stdout);
        assert_eq!(request(&["--configuration", "--stdout"]).unwrap().what, RestoreSubject::Configuration);
        assert_eq!(request(&["--snapshot", "0af", "--to", "/x"]).unwrap().what, RestoreSubject::SetOfSnapshot);
        assert!(request(&["agama"]).unwrap_err().contains("--to"));
        assert!(request(&["--to", "/x"]).unwrap_err().contains("what is to be restored?"));
        assert!(request(&["--snapshot", "latest", "--to", "/x"]).unwrap_err().contains("what is to be restored?"));
        for bad in [
            &["agama", "--all", "--to", "/x"][..],
            &["agama", "--to", "/x", "--stdout"],
            &["--all", "--stdout"],
            &["agama", "--snapshot", "0af", "--at", "2026-11-20", "--to", "/x"],
            &["agama", "--stdout", "--overwrite", "always"],
        ] {
            assert!(request(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_snapshot_is_the_latest_unless_it_is_named_by_id_or_time() {
        let which = |words: &[&str]| request(&[&["agama", "--to", "/x"], words].concat()).map(|request| request.when);
        assert_eq!(which(&[]), Ok(Chosen::Latest));
        assert_eq!(which(&["--snapshot", "0af"]), Ok(Chosen::Id("0af".to_owned())));
        assert_eq!(
            which(&["--at", "2026-11-20T00:00:00Z"]),
            Ok(Chosen::At(Timestamp::from_nanos(1_795_132_800_999_999_999)))
        );
        let named = |word: &str| request(&[word, "--to", "/x"]).map(|request| request.when);
        assert_eq!(named("agama@latest"), which(&[]));
        assert_eq!(named("agama@2026-11-20T00:00:00Z"), which(&["--at", "2026-11-20T00:00:00Z"]));
        assert!(request(&["agama@latest", "--at", "now", "--to", "/x"]).unwrap_err().contains("said twice"));
        assert!(which(&["--at", "noon"]).unwrap_err().contains("is not a time"));
    }

    #[test]
    fn nothing_is_overwritten_unless_it_is_asked_for() {
        assert_eq!(request(&["agama", "--to", "/x"]).unwrap().files.overwrite, Overwrite::Refuse);
        assert_eq!(
            request(&["agama", "--to", "/x", "--overwrite", "changed"]).unwrap().files.overwrite,
            Overwrite::Changed
        );
    }
}
