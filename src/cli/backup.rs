//! `varu backup`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgGroup;
use varu::backup::{BackupOptions, BackupReport, PreviousFile, Wanted, backup};
use varu::entry::StreamName;
use varu::error::Error;
use varu::init::init;
use varu::keyring::has_repository;
use varu::progress::Progress;
use varu::remote::Remote;
use varu::remote::place::Place;
use varu::repository::Repository;
use varu::retention::TagRule;
use varu::source;
use varu::source::copy::{self, CopyOptions, CopySource};
use varu::source::deferred::Deferred;
use varu::source::files::check_exclude;
use varu::source::stdin::StdinSource;
use varu::source::until::UntilInterrupted;
use varu::time::{SystemClock, Zone, format_duration, parse_duration};
use varu::warning::WarningKind;

use super::context::Context;
use super::dump;
use super::exit::{ExitStatus, Failure};
use super::hooks::round_backup;
use super::open::remember_place;
use super::sources;
use super::watch::Watch;
use super::words::{absolute, is_path, set_name, short, tag};
use crate::config::{Config, Files, Set, Source};
use crate::terminal::human::{counted, rate, ratio, size};

/// Back up a set of the configuration, paths, or standard input.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "varu backup [OPTIONS] SET\n       varu backup [OPTIONS] [--set NAME] PATH...\n       varu backup \
                      [OPTIONS] [--set NAME] --stdin NAME",
    group = ArgGroup::new("what").args(["words", "stdin"]).required(true)
)]
pub struct Args {
    /// A SET of the configuration, or PATHs. A word with a slash is a PATH; with --init every word is one.
    #[arg(value_name = "SET|PATH")]
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

    /// Leave out what this pattern of .gitignore's form matches; may be given several times.
    #[arg(long, value_name = "PATTERN", conflicts_with = "stdin")]
    exclude: Vec<String>,

    /// Leave out other file systems that are mounted below a PATH.
    #[arg(long, conflicts_with = "stdin")]
    one_file_system: bool,

    /// Begin even where the repository's disk seems to have too little room.
    #[arg(long)]
    ignore_space: bool,

    /// How long to wait for another run on the same repository.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = parse_duration)]
    wait: Duration,
}

/// What is backed up, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The set's name.
    pub set: String,
    /// Its data.
    pub what: What,
    /// The kind of snapshot.
    pub kind: Kind,
    /// When all of it is stored again.
    pub rhythm: Rhythm,
    /// A snapshot that shrank by more than so many percent is suspect.
    pub max_shrink: Option<u8>,
    /// Tags, each once.
    pub tags: Vec<String>,
    /// Whether what is missing is made.
    pub init: bool,
    /// Whether room isn't asked for.
    pub ignore_space: bool,
    /// How long another run is waited for.
    pub wait: Duration,
}

/// When a set is stored again, and how much of it. Days are those of the calendar in `zone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// A full is due so many days after the last.
    pub full_every: u32,
    /// A re-base is due so many days after the last.
    pub rebase_every: u32,
    /// How much of the set a full that is no re-base may store again, in percent.
    pub repack_budget: u32,
    /// The set's time zone.
    pub zone: Zone,
}

impl Rhythm {
    /// That of a set which the configuration doesn't have.
    fn unconfigured(context: &Context) -> Self {
        let rebase_every = whole_days(context.config.retention.keep);
        Self { full_every: FULL_EVERY, rebase_every, repack_budget: REPACK_BUDGET, zone: context.zone }
    }

    /// That of a set of the configuration.
    fn of(set: &Set, context: &Context) -> Self {
        let keep = set.keep.unwrap_or(context.config.retention.keep);
        Self {
            full_every: set.full_every,
            rebase_every: set.rebase_every.unwrap_or(whole_days(keep)),
            repack_budget: set.repack_budget.into(),
            zone: set.schedule.zone,
        }
    }
}

fn whole_days(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs() / (24 * 3600)).unwrap_or(u32::MAX).max(1)
}

/// The data of a backup.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// What a source reads.
    Source(Source),
    /// Standard input, as a stream of this name.
    Stdin(StreamName),
}

/// The kind of snapshot that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An incremental, or a full where one is due.
    Due,
    /// A full.
    Full,
    /// An incremental.
    Incremental,
    /// A full with everything plain.
    Rebase,
}

/// Days between fulls of a set that the configuration doesn't have.
const FULL_EVERY: u32 = 7;
/// Most bytes of the base cache of a set, where the configuration says nothing.
const BASE_CACHE_MAX: u64 = 8 << 30;
/// Bytes of a backup that may wait on this machine's disk for the remote, if the configuration says nothing.
const SPOOL_MAX: u64 = 4 << 30;
/// How much of such a set a full may store again, in percent.
const REPACK_BUDGET: u32 = 10;

impl Args {
    /// What these arguments mean.
    fn options(self, context: &Context) -> Result<Options, Failure> {
        let unconfigured = |set, what| {
            let (rhythm, init, ignore_space) = (Rhythm::unconfigured(context), self.init, self.ignore_space);
            let (tags, wait, kind) = (Vec::new(), self.wait, Kind::Due);
            Options { set, what, kind, max_shrink: None, rhythm, tags, init, ignore_space, wait }
        };
        let options = match (&self.stdin, self.words.as_slice()) {
            (Some(name), _) => {
                let (set, stream) = self.stdin_names(name)?;
                unconfigured(set, What::Stdin(stream))
            }
            (None, [word]) if !self.init && !is_path(word) => {
                let (name, set, what) = self.configured(word, context)?;
                let (max_shrink, rhythm) = (Some(set.max_shrink), Rhythm::of(set, context));
                Options { max_shrink, rhythm, ..unconfigured(name, what) }
            }
            (None, words) => {
                let set = self.set.clone().unwrap_or_else(|| "files".to_owned());
                unconfigured(set, What::Source(Source::Files(self.files(words)?)))
            }
        };
        let mut tags = self.tags;
        tags.sort();
        tags.dedup();
        let kind = match (self.full, self.incremental, self.rebase) {
            (true, ..) => Kind::Full,
            (_, true, _) => Kind::Incremental,
            (.., true) => Kind::Rebase,
            _ => Kind::Due,
        };
        Ok(Options { kind, tags, ..options })
    }

    /// A set of the configuration.
    fn configured<'c>(&self, word: &OsString, context: &'c Context) -> Result<(String, &'c Set, What), Failure> {
        let name = word.to_str().ok_or_else(|| Failure::usage(format!("{word:?} is neither a SET nor a PATH")))?;
        if let Some(set) = &self.set {
            return Err(Failure::usage(format!(
                "{name} has no slash, so it is a SET, and --set {set} goes with PATHs: write ./{name} for a PATH"
            )));
        }
        let set = context.set(name)?;
        if !self.exclude.is_empty() || self.one_file_system {
            return Err(Failure::usage(format!(
                "--exclude and --one-file-system go with PATHs; what the set {name} leaves out is in the configuration"
            )));
        }
        let what = What::Source(set.source.clone());
        Ok((name.to_owned(), set, what))
    }

    /// The paths of the command line, absolute.
    fn files(&self, words: &[OsString]) -> Result<Files, Failure> {
        if let Some(word) = words.iter().find(|word| !self.init && !is_path(word)) {
            let word = word.to_string_lossy();
            return Err(Failure::usage(format!(
                "{word} has no slash, so it is a SET, which doesn't go with other words: write ./{word} for a PATH"
            )));
        }
        check_exclude(&self.exclude).map_err(|error| Failure::usage(error.to_string()))?;
        let paths: Result<Vec<PathBuf>, Failure> = words
            .iter()
            .map(|word| {
                absolute(word).map_err(|error| {
                    Failure::new(
                        ExitStatus::Failed,
                        format!("{} can't be found: {error}", PathBuf::from(word).display()),
                    )
                })
            })
            .collect();
        Ok(Files { paths: paths?, exclude: self.exclude.clone(), one_file_system: self.one_file_system })
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
        let mut options = self.options(context)?;
        let watch = context.watch();
        let set = context.config.sets.get(&options.set).filter(|_| options.max_shrink.is_some());
        watch.acknowledge(set.map_or(&[], |set| &set.acknowledge));
        let remote = match options.init {
            true => made_remote(context, &watch)?,
            false => context.open_remote(&watch)?,
        };
        let repository = context.open_to_write(&remote)?;
        options.heed_calendar(set, &repository)?;
        let started = Instant::now();
        let back_up = || options.back_up(&repository, context, &watch);
        let report = round_backup(&options.set, set, context, &watch, back_up)?;
        remember_place(&repository)?;
        options.forget_copies(context, &watch);
        let warnings = watch.end(&report.warnings);
        let summary =
            Summary { report: &report, repository: &repository, warnings: &warnings, took: started.elapsed() };
        match context.json {
            true => context.print_json(&summary.document())?,
            false => context.tell(&summary.text(context))?,
        }
        Ok(watch.say_warnings())
    }
}

/// The repository's remote, which is made where there is no repository.
fn made_remote(context: &Context, watch: &Arc<Watch>) -> Result<Arc<dyn Remote>, Failure> {
    let keyring = context.keyring();
    let remote = context.make_remote(&keyring, None, watch)?;
    if !has_repository(&*remote)? {
        let made = init(&*remote, &keyring, &[], None)?;
        watch.note_lines(&super::init::text(&made));
    }
    Ok(remote)
}

/// Bytes of standard input, where that is a plain file.
fn size_of_stdin() -> Option<u64> {
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    input.metadata().ok().filter(Metadata::is_file).map(|file| file.len())
}

impl Options {
    /// Where the schedule says when a full is made, that goes before the days since the last one: a full is due once its
    /// time has come since the last was stored, also where the machine was off at that time.
    fn heed_calendar(&mut self, set: Option<&Set>, repository: &Repository) -> Result<(), Failure> {
        let Some((schedule, expression)) = set.map(|set| &set.schedule).and_then(|all| Some((all, all.full.as_ref()?)))
        else {
            return Ok(());
        };
        if self.kind != Kind::Due {
            return Ok(());
        }
        let rows = repository.index().snapshots().map_err(varu::repository::Error::from)?;
        let last = rows.iter().rev().find(|row| row.header.set == self.set && row.header.parent.is_none());
        match last {
            Some(last) if dump::is_due(expression, schedule.zone, last.header.stored_time)? => self.kind = Kind::Full,
            Some(_) => self.rhythm.full_every = u32::MAX,
            None => {}
        }
        Ok(())
    }

    /// Backs up; once again where the data changed while it was read.
    fn back_up(
        &self,
        repository: &Arc<Repository>,
        context: &Context,
        watch: &Arc<Watch>,
    ) -> Result<BackupReport, Failure> {
        let previous = self.previous_copy(repository, context)?;
        let library = BackupOptions { previous, ..self.library(context) };
        let once = || {
            let mut source = Deferred::new(|| self.source(context, watch));
            backup(repository, &mut source, &library, &SystemClock, &**watch, &context.interrupt)
        };
        match once() {
            Err(Error::Source(source::Error::Changed(why))) => {
                watch.note(&format!("{why}; it is tried once more"));
                Ok(once()?)
            }
            result => Ok(result?),
        }
    }

    /// What the library is to do.
    fn library(&self, context: &Context) -> BackupOptions {
        let config = &context.config;
        BackupOptions {
            wanted: match self.kind {
                // What stays longer than the chains around it needs bases of its own, or theirs would stay, too.
                Kind::Due | Kind::Full if self.is_kept_longer(config) => Wanted::Rebase,
                Kind::Due => Wanted::Due,
                Kind::Full => Wanted::Full,
                Kind::Incremental => Wanted::Incremental,
                Kind::Rebase => Wanted::Rebase,
            },
            tags: self.tags.clone(),
            full_every: self.rhythm.full_every,
            rebase_every: self.rhythm.rebase_every,
            repack_budget: self.rhythm.repack_budget,
            base_cache_max: config.repository.base_cache_max.unwrap_or(BASE_CACHE_MAX),
            spool_max: match self.is_made_now(config) && matches!(context.place(), Ok(Place::Sftp(_))) {
                true => config.repository.spool_max.unwrap_or(SPOOL_MAX),
                false => 0,
            },
            zone: self.rhythm.zone,
            max_shrink: self.max_shrink,
            isolate_chains: config.repository.isolate_chains,
            ignore_space: self.ignore_space,
            wait: self.wait,
            environment: config.environment.name.clone().unwrap_or_default(),
            configuration: config.text.clone().unwrap_or_default().into_bytes(),
            ..BackupOptions::new(&self.set)
        }
    }

    /// Where the local copy that the set's newest snapshot was made of has each stream.
    fn previous_copy(
        &self,
        repository: &Repository,
        context: &Context,
    ) -> Result<HashMap<StreamName, PreviousFile>, Failure> {
        let Some(options) = self.own_copies(context) else { return Ok(HashMap::new()) };
        let rows = repository.index().snapshots().map_err(varu::repository::Error::from)?;
        let Some(newest) = rows.iter().rev().find(|row| row.header.set == self.set) else { return Ok(HashMap::new()) };
        let streams = copy::streams_at(&options.folder, newest.header.data_time).into_iter();
        Ok(streams.map(|(name, path, offset)| (name, PreviousFile { path, offset })).collect())
    }

    /// Whether a program makes the data while it is read, and has to wait where the reader does.
    fn is_made_now(&self, config: &Config) -> bool {
        match &self.what {
            // A backup of InfluxDB lies in a folder before its first byte is read.
            What::Source(Source::Files(_) | Source::Influxdb(_)) => false,
            What::Source(_) => config.sets.get(&self.set).is_none_or(|set| set.local_copy.is_none()),
            What::Stdin(_) => size_of_stdin().is_none(),
        }
    }

    /// Whether a tag's rule keeps the snapshot longer than its set's rule does.
    fn is_kept_longer(&self, config: &Config) -> bool {
        let rules = config.rules(&self.set);
        let longer = |rule: &TagRule| matches!(rule, TagRule::For(length) if *length > rules.keep);
        self.tags.iter().filter_map(|tag| rules.tags.get(tag)).any(longer)
    }

    /// The source that reads the set's local copy, or what another job left in its place.
    fn copied(
        &self,
        set: &Set,
        context: &Context,
        watch: &Arc<Watch>,
    ) -> Result<Box<dyn source::Source>, source::Error> {
        let Some(options) = dump::copies(set) else {
            return Err(source::Error::Config(format!("the set {} has no local_copy", self.set)));
        };
        if !set.dumped_by_another {
            let copy = dump::current(&self.set, set, &options, self.wait, context, watch)?;
            return Ok(Box::new(CopySource::open(&copy)?));
        }
        let (dumps, time) = sources::external(&set.source, &options.folder, context)?;
        let schedule = &set.schedule;
        if let Some(expression) = &schedule.dump
            && dump::is_due(expression, schedule.zone, time)?
        {
            return Err(source::Error::Failed(format!(
                "the dump in {} is from {time}, and one has been due since ({expression}): does the job that makes it run?",
                options.folder.display()
            )));
        }
        Ok(dumps)
    }

    /// The set's local copies, where it makes them itself.
    fn own_copies(&self, context: &Context) -> Option<CopyOptions> {
        let set = context.config.sets.get(&self.set).filter(|set| !set.dumped_by_another);
        set.and_then(dump::copies)
    }

    /// Once a backup stands, older copies aren't its base any more.
    fn forget_copies(&self, context: &Context, watch: &Watch) {
        if let Some(options) = self.own_copies(context)
            && let Err(error) = copy::forget_old(&options)
        {
            watch.warn(&WarningKind::OldCopies.warning(error.to_string()));
        }
    }

    /// The data's source.
    fn source(&self, context: &Context, watch: &Arc<Watch>) -> Result<Box<dyn source::Source>, source::Error> {
        Ok(match &self.what {
            What::Stdin(name) => {
                let input = std::io::stdin().as_fd().try_clone_to_owned();
                let input = File::from(input.map_err(|error| source::Error::failed("reading standard input", &error))?);
                let input = UntilInterrupted::new(input, context.interrupt.clone());
                Box::new(StdinSource::new(name.clone(), input, &SystemClock).expecting(size_of_stdin()))
            }
            What::Source(source) => match context.config.sets.get(&self.set) {
                Some(set) if set.source == *source && set.local_copy.is_some() => {
                    return self.copied(set, context, watch);
                }
                _ => return sources::fresh(&self.set, source, context, watch),
            },
        })
    }
}

/// What is said of a backup.
struct Summary<'a> {
    report: &'a BackupReport,
    repository: &'a Repository,
    warnings: &'a [String],
    took: Duration,
}

impl Summary<'_> {
    fn text(&self, context: &Context) -> String {
        let Self { report, repository, took, .. } = self;
        let (row, totals) = (&report.snapshot, report.totals());
        let header = &row.header;
        let tags = if header.tags.is_empty() { String::new() } else { format!(", tagged {}", header.tags.join(", ")) };
        let mut text = format!("snapshot {} ({} of {}{tags})\n", row.id, header.kind(), header.set);
        if let Some(note) = &report.note {
            text += &format!("  it is {note}\n");
        }
        let rate = rate(totals.read, *took).map(|rate| format!(", {rate}")).unwrap_or_default();
        text += &format!(
            "  read    {} in {}, in {}{rate}\n",
            size(totals.read),
            counted(report.streams, "stream"),
            format_duration(*took)
        );
        let ratio = ratio(totals.stored, totals.new)
            .filter(|_| totals.stored < totals.new)
            .map(|ratio| format!(", {ratio} of the new"))
            .unwrap_or_default();
        text += &format!("  new     {}\n  stored  {}{ratio}\n", size(totals.new), size(totals.stored));
        let place = repository.remote().place();
        text += &format!("  where   {place}\n");
        text += &format!(
            "To restore it: varu{} restore {} --snapshot {} --to DIR\n",
            context.repo_option(&place),
            header.set,
            short(&row.id)
        );
        text
    }

    fn document(&self) -> serde_json::Value {
        let Self { report, repository, warnings, took } = self;
        let totals = report.totals();
        serde_json::json!({
            "repository": repository.id(),
            "place": repository.remote().place(),
            "snapshot": super::list::snapshot_document(repository.id(), &report.snapshot),
            "note": report.note,
            "streams": report.streams,
            "read": totals.read,
            "new": totals.new,
            "stored": totals.stored,
            "packs": totals.packs,
            "seconds": took.as_millis() as f64 / 1000.0,
            "warnings": warnings,
        })
    }
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

    fn options(words: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from(["backup"].iter().chain(words)).map_err(|error| error.to_string())?;
        line.args.options(&context(&[], CONFIG, true, &[]).unwrap()).map_err(|failure| {
            assert!(matches!(failure.status, ExitStatus::Usage | ExitStatus::Failed));
            failure.message
        })
    }

    fn paths(options: &Options) -> &[PathBuf] {
        match &options.what {
            What::Source(Source::Files(files)) => &files.paths,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_word_without_a_slash_is_a_set() {
        let etc = options(&["etc"]).unwrap();
        assert_eq!(
            (etc.set.as_str(), etc.rhythm.full_every, etc.rhythm.zone),
            ("etc", 14, "Europe/Tallinn".parse().unwrap())
        );
        assert_eq!((etc.rhythm.rebase_every, etc.rhythm.repack_budget), (28, 10));
        let ldap = options(&["ldap"]).unwrap().rhythm;
        assert_eq!((ldap.rebase_every, ldap.repack_budget), (21, 0));
        assert_eq!(paths(&etc), [PathBuf::from("/etc")]);
        assert!(matches!(options(&["ldap"]).unwrap().what, What::Source(Source::Command(_))));
        assert!(matches!(options(&["flux"]).unwrap().what, What::Source(Source::Influxdb(_))));
        assert!(options(&["other"]).unwrap_err().contains("a PATH is a word with a slash: ./other"));
        assert!(options(&["etc", "--exclude", "x"]).unwrap_err().contains("go with PATHs"));
        assert!(options(&["etc", "--set", "x"]).unwrap_err().contains("write ./etc for a PATH"));
        assert!(options(&["etc", "/usr"]).unwrap_err().contains("doesn't go with other words"));
    }

    #[test]
    fn a_word_with_a_slash_is_a_path_and_with_init_every_word_is() {
        let files = options(&["/etc/", "./src", "--exclude", "*.o", "--one-file-system"]).unwrap();
        assert_eq!((files.set.as_str(), files.rhythm.full_every), ("files", 7));
        assert_eq!(paths(&files), [PathBuf::from("/etc"), std::env::current_dir().unwrap().join("src")]);
        assert!(
            matches!(&files.what, What::Source(Source::Files(files)) if files.one_file_system && files.exclude == ["*.o"])
        );
        let init = options(&["etc", "--init", "--set", "x"]).unwrap();
        assert_eq!((init.set.as_str(), init.init), ("x", true));
        assert_eq!(paths(&init), [std::env::current_dir().unwrap().join("etc")]);
    }

    #[test]
    fn standard_input_names_its_stream_and_its_set() {
        let dump = options(&["--stdin", "agama.sql"]).unwrap();
        assert_eq!(dump.set, "agama.sql");
        assert_eq!(dump.what, What::Stdin(StreamName::new("agama.sql").unwrap()));
        assert_eq!(options(&["--stdin", "a/B.sql", "--set", "agama"]).unwrap().set, "agama");
        assert!(options(&["--stdin", "a/B.sql"]).unwrap_err().contains("--set NAME gives the set another name"));
        assert!(options(&["--stdin", "/a", "--set", "agama"]).unwrap_err().contains("leaves its folder"));
        assert!(options(&["--stdin", "a", "etc"]).is_err());
        assert!(options(&["--stdin", "a", "--exclude", "x"]).is_err());
        assert!(options(&[]).is_err());
    }

    #[test]
    fn the_kind_is_one_of_three_or_what_is_due() {
        let kind = |words: &[&str]| options(&[&["etc"], words].concat()).map(|options| options.kind);
        assert_eq!(kind(&[]), Ok(Kind::Due));
        assert_eq!(kind(&["--full"]), Ok(Kind::Full));
        assert_eq!(kind(&["--incremental"]), Ok(Kind::Incremental));
        assert_eq!(kind(&["--rebase"]), Ok(Kind::Rebase));
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
