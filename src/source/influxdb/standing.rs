//! Fingerprint of a database after a restore, to detect later changes.

use crate::id::Hasher;
use crate::source::Error;
use crate::source::objects::Objects;
use crate::time::Timestamp;

use super::definitions::{RetentionPolicy, ShowOutput};
use super::server::{InfluxdbServer, quoted};

/// The smallest time that a point may have.
const FIRST: i64 = i64::MIN + 2;
/// About how many values are read at once.
const AT_ONCE: u64 = 200_000;

/// Records all of `database`: its definitions, and each point up to a moment, with its tags and values. Users are not
/// included: an absent one may have been created since.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub(super) fn note(server: &InfluxdbServer, database: &str, until: i64, all: &mut Objects) -> Result<(), Error> {
    let mut definitions = ShowOutput::take(server, database)?;
    definitions.users.clear();
    all.note(format!("definitions of {database}"), &String::from_utf8_lossy(&definitions.text()?));
    let shards = server.shards(database)?;
    let end = i128::from(until) + 1;
    for policy in &definitions.policies {
        let mut points = Points { server, database, policy, hasher: Hasher::new() };
        for shard in shards.iter().filter(|shard| shard.policy == policy.name) {
            let time = |text: &str, beyond: i64| {
                let nanos = Timestamp::from_compact(&text.replace(['-', ':'], "")).map_or(beyond, Timestamp::nanos);
                i128::from(nanos.max(FIRST))
            };
            let (from, to) = (time(&shard.times.0, FIRST), time(&shard.times.1, i64::MAX));
            points.take(from, to.min(end))?;
        }
        let hash: String = points.hasher.finish_short().iter().map(|byte| format!("{byte:02x}")).collect();
        all.note(format!("points of {database} in {}", policy.name), &hash);
    }
    Ok(())
}

/// Reads points of a retention policy.
struct Points<'s> {
    server: &'s InfluxdbServer,
    database: &'s str,
    policy: &'s RetentionPolicy,
    hasher: Hasher,
}

impl Points<'_> {
    /// Takes those from a moment on and before another, some at once.
    fn take(&mut self, from: i128, to: i128) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        let place = format!("{}.{}./.*/", quoted(self.database), quoted(&self.policy.name));
        let meant = format!("FROM {place} WHERE time >= {from} AND time < {to}");
        let counted = self.server.ask(&format!("SELECT count(*) {meant}"))?;
        let numbers = counted.iter().flat_map(|series| series.rows.iter().flat_map(|row| row.iter().skip(1)));
        let count: u64 = numbers.filter_map(serde_json::Value::as_u64).sum();
        if count > AT_ONCE && to - from > 1 {
            let middle = from + (to - from) / 2;
            self.take(from, middle)?;
            return self.take(middle, to);
        }
        if count == 0 {
            return Ok(());
        }
        for series in self.server.ask(&format!("SELECT * {meant} GROUP BY *"))? {
            self.hasher.update(format!("{:?} {:?} {:?}\n", series.name, series.tags, series.columns).as_bytes());
            for row in &series.rows {
                let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                self.hasher.update(format!("{}\n", values.join(",")).as_bytes());
            }
        }
        Ok(())
    }
}
