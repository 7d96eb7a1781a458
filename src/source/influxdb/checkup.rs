//! Pre-flight checks of everything that a backup needs.

use super::definitions::{ShowOutput, count};
use super::{InfluxdbOptions, connect, lost};
use crate::progress::Interrupt;
use crate::source::{Error, Finding};

/// Tries all that a backup of `options` needs.
pub fn check(options: &InfluxdbOptions, interrupt: &Interrupt) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(error) = look(options, interrupt, &mut found) {
        found.push(Finding::Bad(error.to_string()));
    }
    found
}

fn look(options: &InfluxdbOptions, interrupt: &Interrupt, found: &mut Vec<Finding>) -> Result<(), Error> {
    let server = connect(options, interrupt)?;
    found.push(Finding::Good("the programs influx and influxd are there".to_owned()));
    found.push(Finding::Good(format!("InfluxDB {} answers", server.version)));
    let definitions = ShowOutput::take(&server, &options.database)?;
    let shards = server.shards(&options.database)?;
    found.push(Finding::Good(format!(
        "{}: {} shards, {} retention policies, {} continuous queries, {} users",
        options.database,
        shards.len(),
        definitions.policies.len(),
        definitions.queries.len(),
        definitions.users.len()
    )));
    let limits = server.limits()?;
    if !limits.is_empty() {
        let until = i64::MAX - 1;
        let counted = count(&server, &options.database, &definitions.policies, until);
        let why = counted.err().map(|error| error.to_string());
        let limits = limits.join(", ");
        found.push(match why {
            None => Finding::Note(format!("the server limits questions ({limits}); the values can be counted so far")),
            Some(why) => {
                Finding::Bad(format!("the server limits questions ({limits}), and the values can't be counted: {why}"))
            }
        });
    }
    for warning in lost::too_early(&options.database, &shards) {
        found.push(Finding::Note(warning.text));
    }
    server.check_rpc()?;
    found.push(Finding::Good("the port of backups can be reached".to_owned()));
    Ok(())
}
