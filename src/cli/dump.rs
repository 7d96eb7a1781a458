//! `varu dump`.

use std::time::{Duration, Instant};

use clap_complete::ArgValueCandidates;
use varu::job::amount::{counted, size};
use varu::job::local_copy::{LocalCopyReport, dump};
use varu::time::{format_duration, parse_duration};

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::values::set_name;

/// Refresh a set's local copy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The set.
    #[arg(value_name = "SET", value_parser = set_name, add = ArgValueCandidates::new(complete::configured_sets))]
    set: String,

    /// How long to wait for another dump of the set.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = parse_duration)]
    wait: Duration,
}

impl Args {
    /// Dumps and says what was written.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let started = Instant::now();
        let LocalCopyReport { copy, warnings } = dump(&self.set, self.wait, &context.machine, &progress.shared())?;
        let warnings = progress.end(&warnings);
        let took = started.elapsed();
        match context.json {
            true => context.print_json(&serde_json::json!({
                "set": self.set,
                "path": copy.path,
                "data_time": copy.data_time.to_string(),
                "streams": copy.streams,
                "bytes": copy.bytes,
                "seconds": took.as_millis() as f64 / 1000.0,
                "warnings": warnings,
            }))?,
            false => context.tell(&format!(
                "dumped {} to {}: {} in {}, in {}\n",
                self.set,
                copy.path.display(),
                size(copy.bytes),
                counted(copy.streams, "stream"),
                format_duration(took)
            ))?,
        }
        Ok(progress.say_warnings())
    }
}
