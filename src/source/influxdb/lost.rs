//! Points that `influxd restore` is known to lose, though they are whole in the backup.

use memchr::memmem;

use super::server::Shard;
use crate::warning::{Warning, WarningKind};

/// The first moment that a point may have: a shard that would begin before it begins after all others for a restore.
const FIRST: &str = "1677-09-21T00:12:43";

fn is_too_early(shard: &Shard) -> bool {
    let (from, to) = &shard.times;
    from.as_str() < FIRST || from > to
}

/// Warns of shards whose points a restore loses.
pub(super) fn too_early(database: &str, shards: &[Shard]) -> Vec<Warning> {
    let lost = shards.iter().filter(|shard| is_too_early(shard));
    let warning = |shard: &Shard| {
        WarningKind::Unrestorable.warning(format!(
            "the points of {database} before {} (shard {} of {}) are in the backup, and influxd restore loses them: they are at the \
             smallest time that there is, so delete them if they are a mistake",
            shard.times.1, shard.id, shard.policy
        ))
    };
    lost.map(warning).collect()
}

/// Looks for measurements whose equals sign was written with a backslash before it: `a\\=b`. They look like any other by their
/// names, and a restore loses them.
#[derive(Default)]
pub(super) struct Escaped {
    /// The measurement, how a shard would have it, and whether that was seen.
    sought: Vec<(String, Vec<u8>, bool)>,
    /// The end of what was looked at, for one that lies on the border.
    rest: Vec<u8>,
    /// Those that were found.
    found: Vec<String>,
}

impl Escaped {
    /// Looks for those among `measurements` that have an equals sign.
    pub(super) fn new(measurements: &[String]) -> Self {
        let escape = |name: &str| {
            let plain = name.replace("\\=", "=");
            plain.replace(',', "\\,").replace(' ', "\\ ").replace('=', "\\=").into_bytes()
        };
        let with_sign = measurements.iter().filter(|name| name.contains('='));
        Self { sought: with_sign.map(|name| (name.clone(), escape(name), false)).collect(), ..Self::default() }
    }

    /// Looks at more of a shard.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Some(longest) = self.sought.iter().map(|(_, escaped, _)| escaped.len()).max() else { return };
        self.rest.extend_from_slice(bytes);
        for (_, escaped, seen) in self.sought.iter_mut().filter(|(_, _, seen)| !seen) {
            *seen = memmem::find(&self.rest, escaped).is_some();
        }
        self.rest.drain(..self.rest.len().saturating_sub(longest));
    }

    /// Those that were warned of so far.
    pub(super) fn found(&self) -> &[String] {
        &self.found
    }

    /// Warns of those that were seen since the last call.
    pub(super) fn warnings(&mut self) -> Vec<Warning> {
        let sought = std::mem::take(&mut self.sought).into_iter();
        let (seen, sought): (Vec<_>, Vec<_>) = sought.partition(|(_, _, seen)| *seen);
        self.sought = sought;
        self.found.extend(seen.iter().map(|(name, _, _)| name.clone()));
        let warning = |(name, _, _): (String, Vec<u8>, bool)| {
            WarningKind::Unrestorable.warning(format!(
                "the points of the measurement {name:?} are in the backup, and influxd restore loses them, because its equals sign \
                 was written with a backslash: write them anew without that"
            ))
        };
        seen.into_iter().map(warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_equals_sign_is_found_also_on_a_border() {
        let names = ["a=b", "c d=e", "plain", "f\\=g"].map(str::to_owned);
        let text = b"xx a\\=b,host=1#!~#v ... c\\ d=e ... f\\=g end";
        for step in [1, 3, 7, text.len()] {
            let mut escaped = Escaped::new(&names);
            text.chunks(step).for_each(|bytes| escaped.push(bytes));
            let found: Vec<String> = escaped.warnings().into_iter().map(|warning| warning.text).collect();
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[0].contains("\"a=b\"") && found[1].contains("f\\\\=g"), "{found:?}");
            assert!(escaped.warnings().is_empty());
        }
    }

    #[test]
    fn a_shard_before_all_time_is_known() {
        let shard = |from: &str, to: &str| Shard { id: 1, policy: "p".into(), times: (from.into(), to.into()) };
        assert!(is_too_early(&shard("1677-09-20T00:00:00Z", "1677-09-27T00:00:00Z")));
        assert!(is_too_early(&shard("2262-04-10T23:34:33Z", "1677-09-27T00:00:00Z")));
        assert!(!is_too_early(&shard("1677-09-27T00:00:00Z", "1677-10-04T00:00:00Z")));
    }
}
