//! `varu restore`.

use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};
use varu::time::Timestamp;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::{SnapshotWord, Trust, set_name};

/// Bring a set's data back.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "varu restore [OPTIONS] <SET|--all|--configuration> <--to DIR|--stdout>",
    group = ArgGroup::new("what").args(["set", "all", "configuration"]),
    group = ArgGroup::new("when").args(["snapshot", "at"]),
    group = ArgGroup::new("where").args(["to", "stdout"]).required(true)
)]
pub struct Args {
    /// The set; with --snapshot ID it needn't be named.
    #[arg(value_name = "SET", value_parser = set_name)]
    set: Option<String>,

    /// Restore every set.
    #[arg(long, conflicts_with_all = ["snapshot", "stdout"])]
    all: bool,

    /// Restore the configuration that was stored with the snapshot.
    #[arg(long)]
    configuration: bool,

    /// Which snapshot: an id, the beginning of one, or "latest" [default: latest].
    #[arg(long, value_name = "ID")]
    snapshot: Option<SnapshotWord>,

    /// The newest snapshot whose data is from this time or before: "2026-11-20 14:03", "2 days ago".
    #[arg(long, value_name = "TIME")]
    at: Option<String>,

    /// Write below this folder.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,

    /// Write the one stream that is meant to standard output.
    #[arg(long, conflicts_with_all = ["overwrite", "strip_components"])]
    stdout: bool,

    /// Restore only what this pattern of .gitignore's form matches; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,

    /// What happens to a file that is there already.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Overwrite::Never)]
    overwrite: Overwrite,

    /// Leave out so many leading folders of each path.
    #[arg(long, value_name = "N", default_value_t = 0)]
    strip_components: usize,

    /// Why, for the history of operations.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Don't ask.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    trust: Trust,
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
    /// The repository's path or URL.
    pub repository: String,
    /// What.
    pub what: What,
    /// From which snapshot.
    pub which: Which,
    /// To where.
    pub to: To,
    /// Patterns of which one has to match; all where there is none.
    pub only: Vec<String>,
    /// What happens to a file that is there already.
    pub overwrite: Overwrite,
    /// How many leading folders are left out.
    pub strip_components: usize,
    /// Why.
    pub reason: Option<String>,
    /// Whether questions are answered with yes.
    pub yes: bool,
    /// The repository that is vouched for.
    pub trust: Trust,
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
    /// The newest whose data is from this time or before. Stamps are shown to the second, so one of the same second counts.
    At(Timestamp),
}

/// To where.
#[derive(Debug, PartialEq, Eq)]
pub enum To {
    /// Below this folder.
    Folder(PathBuf),
    /// To standard output.
    Stdout,
}

impl Args {
    /// What these arguments mean.
    fn options(self, context: &Context) -> Result<Options, Failure> {
        let names_a_snapshot = matches!(self.snapshot, Some(SnapshotWord::Prefix(_)));
        let what = match (self.set, self.all, self.configuration) {
            (Some(set), ..) => What::Set(set),
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
        let which = match (self.snapshot, self.at) {
            (Some(snapshot), _) => Which::Snapshot(snapshot),
            (None, Some(at)) => Which::At(context.time(&at)?),
            (None, None) => Which::Snapshot(SnapshotWord::Latest),
        };
        Ok(Options {
            repository: context.repository()?.to_owned(),
            what,
            which,
            to: self.to.map_or(To::Stdout, To::Folder),
            only: self.only,
            overwrite: self.overwrite,
            strip_components: self.strip_components,
            reason: self.reason,
            yes: self.yes,
            trust: self.trust,
        })
    }

    /// Restores and says what was written.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let _options = self.options(context)?;
        Err(Failure::absent("restore"))
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
        line.args.options(&context).map_err(|failure| failure.message)
    }

    #[test]
    fn what_and_where_are_needed() {
        let all = options(&["--all", "--to", "/x"]).unwrap();
        assert_eq!((all.what, all.to), (What::All, To::Folder("/x".into())));
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
        assert_eq!(which(&["--at", "2026-11-20T00:00:00Z"]), Ok(Which::At(Timestamp::from_seconds(1_795_132_800))));
        assert!(which(&["--at", "noon"]).unwrap_err().contains("is not a time"));
    }

    #[test]
    fn nothing_is_overwritten_unless_it_is_asked_for() {
        assert_eq!(options(&["agama", "--to", "/x"]).unwrap().overwrite, Overwrite::Never);
        assert_eq!(options(&["agama", "--to", "/x", "--overwrite", "changed"]).unwrap().overwrite, Overwrite::Changed);
    }
}
