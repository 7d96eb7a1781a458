//! `varu config`.

use clap::Subcommand;
use serde::Serialize;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use crate::config::DEFAULT_PATH;
use crate::terminal::human::counted;

/// Work with the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Try all that a backup needs, line by line.
    Check,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// As it should be.
    Ok,
    /// Worth to be known.
    Note,
    /// A backup can't be made this way.
    Failed,
}

/// One thing that was tried.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// How it ended.
    outcome: Outcome,
    /// What was tried: `configuration`, `set agama`.
    subject: String,
    /// What was found.
    message: String,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
}

impl Args {
    /// Tries, prints a line for each check, and ends with the worst outcome.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let What::Check = self.what;
        let checks = check_configuration(context);
        let worst = checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Ok);
        if context.json {
            context.print_json(&Report { checks })?;
        } else {
            context.print(&checks.iter().map(Check::line).collect::<String>())?;
        }
        Ok(match worst {
            Outcome::Ok | Outcome::Note => ExitStatus::Done,
            Outcome::Failed => ExitStatus::Usage,
        })
    }
}

impl Check {
    fn new(outcome: Outcome, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { outcome, subject: subject.into(), message: message.into() }
    }

    /// `ok       set agama: files`.
    fn line(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Note => "note",
            Outcome::Failed => "FAILED",
        };
        format!("{outcome:<8} {}: {}\n", self.subject, self.message)
    }
}

/// What the configuration itself says. A wrong one has ended the program before.
fn check_configuration(context: &Context) -> Vec<Check> {
    let config = &context.config;
    let sets = u64::try_from(config.sets.len()).unwrap_or(u64::MAX);
    let read = match &context.config_file {
        Some(file) => format!("{} was read: {}", file.display(), counted(sets, "set")),
        None => format!("there is none at {DEFAULT_PATH}; everything has its default"),
    };
    let mut checks = vec![Check::new(Outcome::Ok, "configuration", read)];
    if !config.not_acted_on.is_empty() {
        let keys = config.not_acted_on.join(", ");
        checks.push(Check::new(Outcome::Note, "configuration", format!("this version doesn't act on {keys}")));
    }
    for (name, set) in &config.sets {
        let (outcome, message) = match set.check_supported() {
            Ok(()) => (Outcome::Ok, set.source.kind().name().to_owned()),
            Err(why) => (Outcome::Failed, why),
        };
        checks.push(Check::new(outcome, format!("set {name}"), message));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    #[test]
    fn each_set_has_its_line_and_the_worst_counts() {
        let config = "[sets.a]\nsource = 'files'\npaths = ['/a']\n[sets.b]\nsource = 'mysql'\ndatabases = 'all'";
        let checks = check_configuration(&context(&[], config, true, &[]).unwrap());
        let lines: Vec<_> = checks.iter().map(Check::line).collect();
        assert!(lines[0].starts_with("ok       configuration: ") && lines[0].ends_with("was read: 2 sets\n"));
        assert_eq!(lines[1], "note     configuration: this version doesn't act on sets.b.databases\n");
        assert_eq!(lines[2], "ok       set a: files\n");
        assert!(lines[3].starts_with("FAILED   set b: its source is mysql"));
    }
}
