//! `varu backup`.

mod summary;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgGroup;
use clap_complete::ArgValueCandidates;
use varu::backup::WantedKind;
use varu::entry::StreamName;
use varu::init::init;
use varu::job::backup::{BackupRequest, run};
use varu::job::machine::absolute;
use varu::job::schedule::FullPolicy;
use varu::job::spec::defaults::MAX_SHRINK;
use varu::job::spec::{Set, SourceSpec, StdinSpec};
use varu::keyring::has_repository;
use varu::remote::Remote;
use varu::source::files::{FilesOptions, check_exclude};
use varu::time::parse_duration;

use self::summary::BackupSummary;
use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use super::values::{is_path, set_name, tag};

/// Back up a set of the configuration, paths, or standard input.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "varu backup [OPTIONS] SET\n       varu backup [OPTIONS] [--set NAME] PATH...\n       varu backup \
                      [OPTIONS] [--set NAME] --stdin NAME",
    group = ArgGroup::new("what").args(["words", "stdin"]).required(true)
)]
pub struct Args {
    /// A SET of the configuration, or PATHs. A word with a slash is a PATH; with --init every word is one.
    #[arg(value_name = "SET|PATH", add = ArgValueCandidates::new(complete::configured_sets), value_hint = clap::ValueHint::AnyPath)]
    words: Vec<OsString>,

    /// Store standard input as the stream NAME.
    #[arg(long, value_name = "NAME")]
    stdin: Option<OsString>,

    /// The set that paths or standard input belong to [default: files, or the NAME of --stdin].
    #[arg(long, value_name = "NAME", value_parser = set_name)]
    set: Option<String>,

    /// Make a full.
    #[arg(long, group = "kind")]
    full: bool,

    /// Make an incremental, even where a full is due.
    #[arg(long, group = "kind")]
    incremental: bool,

    /// Make a full that stores everything plain in new packs.
    #[arg(long, group = "kind")]
    rebase: bool,

    /// Tag the snapshot; may be given several times.
    #[arg(long = "tag", value_name = "TAG", value_parser = tag)]
    tags: Vec<String>,

    /// Make the repository, the writer key and the identity where they are missing.
    #[arg(long)]
    init: bool,

    /// Exclude files that match this .gitignore pattern; may be given several times.
    #[arg(long, value_name = "PATTERN", conflicts_with = "stdin")]
    exclude: Vec<String>,

    /// Exclude other file systems that are mounted below a PATH.
    #[arg(long, conflicts_with = "stdin")]
    one_file_system: bool,

    /// Exclude the content of folders with a CACHEDIR.TAG.
    #[arg(long, conflicts_with = "stdin")]
    exclude_caches: bool,

    /// Begin even if the repository's disk seems to have too little free space.
    #[arg(long)]
    ignore_space: bool,

    /// Confirm that the set shrank: the snapshot isn't suspect.
    #[arg(long)]
    accept_shrink: bool,

    /// The set consists of these PATHs, or of this standard input, from now on.
    #[arg(long)]
    change_paths: bool,

    /// How long to wait for another run on the same repository.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = parse_duration)]
    wait: Duration,
}
impl Args {
    /// What these arguments ask for.
    fn request(self, context: &Context) -> Result<BackupRequest, Failure> {
        let machine = &context.machine;
        let unconfigured = |set, source| BackupRequest {
            set,
            source,
            wanted: WantedKind::Due,
            policy: FullPolicy::unconfigured(machine),
            max_shrink: Some(MAX_SHRINK),
            is_configured: false,
            change_paths: self.change_paths,
            tags: Vec::new(),
            ignore_space: self.ignore_space,
            wait: self.wait,
        };
        let request = match (&self.stdin, self.words.as_slice()) {
            (Some(name), _) => {
                let (set, stream) = self.stdin_names(name)?;
                unconfigured(set, SourceSpec::Stdin(StdinSpec { stream }))
            }
            (None, [word]) if !self.init && !is_path(word) => {
                let (name, set) = self.configured(word, context)?;
                let (max_shrink, policy) = (Some(set.max_shrink), FullPolicy::of(set, machine));
                BackupRequest { max_shrink, policy, is_configured: true, ..unconfigured(name, set.source.clone()) }
            }
            (None, words) => {
                let set = self.set.clone().unwrap_or_else(|| "files".to_owned());
                unconfigured(set, SourceSpec::Files(self.files(words, context)?))
            }
        };
        let mut tags = self.tags;
        tags.sort();
        tags.dedup();
        let wanted = match (self.full, self.incremental, self.rebase) {
            (true, ..) => WantedKind::Full,
            (_, true, _) => WantedKind::Incremental,
            (.., true) => WantedKind::Rebase,
            _ => WantedKind::Due,
        };
        let max_shrink = request.max_shrink.filter(|_| !self.accept_shrink && !self.change_paths);
        Ok(BackupRequest { wanted, tags, max_shrink, ..request })
    }

    /// A set of the configuration.
    fn configured<'c>(&self, word: &OsString, context: &'c Context) -> Result<(String, &'c Set), Failure> {
        let name = word.to_str().ok_or_else(|| Failure::usage(format!("{word:?} is neither a SET nor a PATH")))?;
        if let Some(set) = &self.set {
            return Err(Failure::usage(format!(
                "{name} has no slash, so it is a SET, and --set {set} goes with PATHs: write ./{name} for a PATH"
            )));
        }
        let set = context.machine.set(name)?;
        if self.change_paths {
            return Err(Failure::usage(format!(
                "--change-paths goes with PATHs; what the set {name} consists of is in the configuration"
            )));
        }
        if !self.exclude.is_empty() || self.one_file_system || self.exclude_caches {
            return Err(Failure::usage(format!(
                "--exclude, --exclude-caches and --one-file-system go with PATHs; what the set {name} leaves out is in the configuration"
            )));
        }
        Ok((name.to_owned(), set))
    }

    /// The paths of the command line, absolute.
    fn files(&self, words: &[OsString], context: &Context) -> Result<FilesOptions, Failure> {
        if let Some(word) = words.iter().find(|word| !self.init && !is_path(word)) {
            let word = word.to_string_lossy();
            return Err(Failure::usage(format!(
                "{word} has no slash, so it is a SET, which doesn't go with other words: write ./{word} for a PATH"
            )));
        }
        check_exclude(&self.exclude).map_err(|error| Failure::usage(error.to_string()))?;
        let paths: Vec<PathBuf> = words
            .iter()
            .map(|word| {
                with_slash(word).map_err(|error| {
                    Failure::new(
                        ExitStatus::Failed,
                        format!("{} can't be found: {error}", PathBuf::from(word).display()),
                    )
                })
            })
            .collect::<Result<_, Failure>>()?;
        if self.init {
            Self::check_init(words, &paths, context)?;
        }
        let (exclude, one_file_system) = (self.exclude.clone(), self.one_file_system);
        let exclude_caches = self.exclude_caches;
        Ok(FilesOptions { paths, exclude, one_file_system, exclude_caches, own: Vec::new() })
    }

    /// Refuses to make a repository for what can't be backed up.
    fn check_init(words: &[OsString], paths: &[PathBuf], context: &Context) -> Result<(), Failure> {
        for (word, path) in words.iter().zip(paths) {
            let name = word.to_string_lossy();
            if !is_path(word) && context.machine.configuration.sets.contains_key(&*name) {
                return Err(Failure::usage(format!(
                    "{name} is a set of the configuration, and --init takes PATHs: varu init makes the repository, then varu \
                     backup {name} backs the set up; ./{name} is a PATH"
                )));
            }
            std::fs::symlink_metadata(path).map_err(|error| {
                let message = format!("the path {} can't be backed up: {error}; nothing was made", path.display());
                Failure::new(ExitStatus::Failed, message)
            })?;
        }
        Ok(())
    }

    /// The set and the stream of `--stdin NAME`.
    fn stdin_names(&self, name: &OsString) -> Result<(String, StreamName), Failure> {
        let stream =
            StreamName::new(name.as_encoded_bytes()).map_err(|error| Failure::usage(format!("--stdin: {error}")))?;
        let set = match &self.set {
            Some(set) => set.clone(),
            None => set_name(&name.to_string_lossy())
                .map_err(|error| Failure::usage(format!("--stdin: {error}; --set NAME gives the set another name")))?,
        };
        Ok((set, stream))
    }

    /// Backs up and says what was stored.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let init = self.init;
        let request = self.request(context)?;
        let progress = context.progress();
        let set = context.machine.configuration.sets.get(&request.set).filter(|_| request.is_configured);
        progress.acknowledge(set.map_or(&[], |set| &set.acknowledge));
        let remote = match init {
            true => made_remote(context, &progress)?,
            false => context.machine.open_remote(&progress.shared())?,
        };
        let report = run(request, &remote, &context.machine, &progress.shared())?;
        let warnings = progress.end(&report.backup.warnings);
        let summary = BackupSummary {
            report: &report.backup,
            repository: &report.repository,
            warnings: &warnings,
            took: report.took,
        };
        match context.json {
            true => context.print_json(&summary.document())?,
            false => context.tell(&summary.text(context))?,
        }
        Ok(progress.say_warnings())
    }
}

/// A path, absolute. A slash at its end stays: it says that a link isn't meant itself.
fn with_slash(word: &OsString) -> std::io::Result<PathBuf> {
    let path = absolute(word)?;
    // A folder is the same with a slash and without; a set that is of one is of the other.
    let is_folder = std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir());
    match word.as_bytes().ends_with(b"/") && !is_folder && path.parent().is_some() {
        true => Ok(path.join("")),
        false => Ok(path),
    }
}

/// The repository's remote, which is made where there is no repository.
fn made_remote(context: &Context, progress: &Arc<ProgressReporter>) -> Result<Arc<dyn Remote>, Failure> {
    let keyring = context.machine.keyring();
    let remote = context.machine.make_remote(&keyring, None, &progress.shared())?;
    if !has_repository(&*remote)? {
        let made = init(&*remote, &keyring, &[], None)?;
        progress.note_lines(&super::init::text(&made));
    }
    Ok(remote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use clap::Parser;

    const CONFIG: &str = "
        [sets.etc]\nsource = 'files'\npaths = ['/etc']\nexclude = ['*.tmp']\nfull_every = '14 days'
        schedule = { timezone = 'Europe/Tallinn' }
        [sets.ldap]\nsource = 'command'\ncommand = ['slapcat']\nkeep = '3 weeks'\nrepack_budget = '0 %'
        [sets.agama]\nsource = 'mysql'\ndatabases = 'all'\n[sets.flux]\nsource = 'influxdb'\ndatabase = 'x'";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(words: &[&str]) -> Result<BackupRequest, String> {
        let line = Line::try_parse_from(["backup"].iter().chain(words)).map_err(|error| error.to_string())?;
        line.args.request(&context(&[], CONFIG, true, &[]).unwrap()).map_err(|failure| {
            assert!(matches!(failure.status, ExitStatus::Usage | ExitStatus::Failed));
            failure.message
        })
    }

    fn paths(request: &BackupRequest) -> &[PathBuf] {
        match &request.source {
            SourceSpec::Files(files) => &files.paths,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_word_without_a_slash_is_a_set() {
        let etc = options(&["etc"]).unwrap();
        assert_eq!(
            (etc.set.as_str(), etc.policy.full_every, etc.policy.zone),
            ("etc", 14, "Europe/Tallinn".parse().unwrap())
        );
        assert_eq!((etc.policy.rebase_every, etc.policy.repack_budget), (28, 10));
        let ldap = options(&["ldap"]).unwrap().policy;
        assert_eq!((ldap.rebase_every, ldap.repack_budget), (21, 0));
        assert_eq!(paths(&etc), [PathBuf::from("/etc")]);
        assert!(matches!(options(&["ldap"]).unwrap().source, SourceSpec::Command(_)));
        assert!(matches!(options(&["flux"]).unwrap().source, SourceSpec::Influxdb(_)));
        assert!(options(&["other"]).unwrap_err().contains("a PATH is a word with a slash: ./other"));
        assert!(options(&["etc", "--exclude", "x"]).unwrap_err().contains("go with PATHs"));
        assert!(options(&["etc", "--set", "x"]).unwrap_err().contains("write ./etc for a PATH"));
        assert!(options(&["etc", "/usr"]).unwrap_err().contains("doesn't go with other words"));
    }

    #[test]
    fn a_word_with_a_slash_is_a_path_and_with_init_every_word_is() {
        let files = options(&["/etc/", "./src", "--exclude", "*.o", "--one-file-system"]).unwrap();
        assert_eq!((files.set.as_str(), files.policy.full_every), ("files", 7));
        assert_eq!(paths(&files), [PathBuf::from("/etc"), std::env::current_dir().unwrap().join("src")]);
        assert!(matches!(&files.source, SourceSpec::Files(files) if files.one_file_system && files.exclude == ["*.o"]));
        let init = options(&["src", "--init", "--set", "x"]).unwrap();
        assert_eq!(init.set, "x");
        assert_eq!(paths(&init), [std::env::current_dir().unwrap().join("src")]);
        assert!(options(&["etc", "--init"]).unwrap_err().contains("etc is a set of the configuration"));
        assert!(options(&["none", "--init"]).unwrap_err().contains("nothing was made"));
    }

    #[test]
    fn standard_input_names_its_stream_and_its_set() {
        let dump = options(&["--stdin", "agama.sql"]).unwrap();
        assert_eq!(dump.set, "agama.sql");
        assert_eq!(dump.source, SourceSpec::Stdin(StdinSpec { stream: StreamName::new("agama.sql").unwrap() }));
        assert_eq!(options(&["--stdin", "a/B.sql", "--set", "agama"]).unwrap().set, "agama");
        assert!(options(&["--stdin", "a/B.sql"]).unwrap_err().contains("--set NAME gives the set another name"));
        assert!(options(&["--stdin", "/a", "--set", "agama"]).unwrap_err().contains("leaves its folder"));
        assert!(options(&["--stdin", "a", "etc"]).is_err());
        assert!(options(&["--stdin", "a", "--exclude", "x"]).is_err());
        assert!(options(&[]).is_err());
    }

    #[test]
    fn the_kind_is_one_of_three_or_what_is_due() {
        let kind = |words: &[&str]| options(&[&["etc"], words].concat()).map(|request| request.wanted);
        assert_eq!(kind(&[]), Ok(WantedKind::Due));
        assert_eq!(kind(&["--full"]), Ok(WantedKind::Full));
        assert_eq!(kind(&["--incremental"]), Ok(WantedKind::Incremental));
        assert_eq!(kind(&["--rebase"]), Ok(WantedKind::Rebase));
        assert!(kind(&["--full", "--rebase"]).is_err());
    }

    #[test]
    fn tags_and_the_wait_are_checked() {
        let tagged = options(&["etc", "--tag", "pre-deploy", "--tag", "a", "--tag", "a", "--wait", "90 min"]).unwrap();
        assert_eq!(tagged.tags, ["a", "pre-deploy"]);
        assert_eq!(tagged.wait, Duration::from_secs(5400));
        assert_eq!(options(&["etc"]).unwrap().wait, Duration::from_secs(6 * 3600));
        assert!(options(&["etc", "--tag", "A B"]).unwrap_err().contains("is no tag"));
        assert!(options(&["etc", "--wait", "5 m"]).unwrap_err().contains("min or months"));
    }
}
