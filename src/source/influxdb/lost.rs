//! Points that `influxd restore` is known to lose, though the backup has them.

use std::collections::BTreeSet;

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

/// The separator between a series and a field in a shard.
const SEPARATOR: &[u8] = b"#!~#";
/// The most bytes of a series that is looked at as a whole.
const KEY: usize = 1 << 10;

/// A measurement that may be written with a backslash before an equals sign.
#[derive(Debug)]
struct Sought {
    /// As the server shows it.
    name: String,
    /// The bytes between its equals signs, as a shard has them.
    parts: Vec<Vec<u8>>,
    /// Whether it was seen so.
    seen: bool,
}

impl Sought {
    /// None if it has no equals sign.
    fn new(name: &str) -> Option<Self> {
        let escape = |part: &str| part.replace(',', "\\,").replace(' ', "\\ ").into_bytes();
        // Of more backslashes the server shows some.
        let parts: Vec<Vec<u8>> = name.split('=').map(|part| escape(part.trim_end_matches('\\'))).collect();
        (parts.len() > 1).then(|| Self { name: name.to_owned(), parts, seen: false })
    }

    /// The most bytes that it has in a shard, with the separator that follows.
    fn longest(&self) -> usize {
        self.parts.iter().map(|part| part.len() + 2 * SIGN.len() + 1).sum::<usize>() + SEPARATOR.len()
    }

    /// Whether it occurs in `bytes` so that its first backslash before an equals sign is at `at`.
    fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let start = bytes[..at].iter().rposition(|byte| *byte != b'\\').map_or(0, |last| last + 1);
        (1..self.parts.len()).any(|number| {
            let (before, after) = self.parts.split_at(number);
            bytes[..start].ends_with(&before.join(&b'=')) && Self::goes_on(&bytes[start..], after)
        })
    }

    /// Whether those parts follow, each behind an equals sign with backslashes or without, and then a tag or a field.
    fn goes_on(mut bytes: &[u8], parts: &[Vec<u8>]) -> bool {
        for part in parts {
            let backslashes = bytes.iter().take_while(|byte| **byte == b'\\').count();
            let Some(rest) =
                bytes[backslashes..].strip_prefix(b"=").and_then(|rest| rest.strip_prefix(part.as_slice()))
            else {
                return false;
            };
            bytes = rest;
        }
        bytes.starts_with(b",") || bytes.starts_with(SEPARATOR)
    }
}

/// An equals sign that was written with a backslash before it.
const SIGN: &[u8] = b"\\=";

/// Searches for data that a restore loses or alters because of its encoding: measurements with a backslash before an
/// equals sign (`a\\=b`), which look like any other by their names, and series or fields that contain the server's
/// separator.
#[derive(Default)]
pub(super) struct EscapedNames {
    sought: Vec<Sought>,
    /// The end of the previous bytes, for a match across the border.
    rest: Vec<u8>,
    /// Those that were found.
    found: Vec<String>,
    /// Series whose end can't be determined.
    unclear: BTreeSet<String>,
}

impl EscapedNames {
    /// Looks for those among `measurements`.
    pub(super) fn new(measurements: &[String]) -> Self {
        Self { sought: measurements.iter().filter_map(|name| Sought::new(name)).collect(), ..Self::default() }
    }

    /// Looks at more of a shard.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let longest = self.sought.iter().map(Sought::longest).max().unwrap_or(0).max(KEY);
        self.rest.extend_from_slice(bytes);
        for at in memmem::find_iter(&self.rest, SIGN) {
            for sought in self.sought.iter_mut().filter(|sought| !sought.seen) {
                sought.seen = sought.is_at(&self.rest, at);
            }
        }
        let mut last = None;
        for at in memmem::find_iter(&self.rest, SEPARATOR) {
            // Between two keys there are always bytes that no text has.
            let one = last.map(|last: usize| &self.rest[last..at]);
            if one.is_some_and(|one| one.len() < KEY && !one.iter().any(|byte| *byte < b' '))
                && self.unclear.len() < SHOWN
            {
                let start = self.rest[..at].iter().rposition(|byte| *byte < b' ').map_or(0, |at| at + 1);
                let key = String::from_utf8_lossy(&self.rest[start..at]).into_owned();
                // Of one that was seen before the start may have gone.
                if !self.unclear.iter().any(|other| other.ends_with(&key)) {
                    self.unclear.insert(key);
                }
            }
            last = Some(at);
        }
        self.rest.drain(..self.rest.len().saturating_sub(longest));
    }

    /// Those that were warned of so far.
    pub(super) fn found(&self) -> &[String] {
        &self.found
    }

    /// Warns of those that were seen since the last call.
    pub(super) fn warnings(&mut self) -> Vec<Warning> {
        let (seen, sought): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sought).into_iter().partition(|one| one.seen);
        self.sought = sought;
        self.found.extend(seen.iter().map(|one| one.name.clone()));
        let escaped = seen.into_iter().map(|Sought { name, .. }| {
            format!(
                "the points of the measurement {name:?} are in the backup, and influxd restore loses them, because an equals sign of \
                 it was written with a backslash: write them anew without that"
            )
        });
        let unclear = std::mem::take(&mut self.unclear).into_iter().map(|key| {
            format!(
                "a series or a field has \"#!~#\" in its name, which influxd itself writes between the two, and influxd restore may take \
                 the one for the other: {key:?}"
            )
        });
        escaped.chain(unclear).map(|text| WarningKind::Unrestorable.warning(text)).collect()
    }
}

/// How many series with an undetermined end are named.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_equals_sign_is_found_also_on_a_border() {
        let names = ["a=b", "c d=e", "plain", "f\\=g", "a=b=c", "h=i=j,k", "l=m", "n=o"].map(str::to_owned);
        let text = b"xx a\\=b,host=1#!~#v\0c\\ d=e\0f\\\\=g#!~#v\0a\\=b=c#!~#v\0h=i\\=j\\,k,t=u#!~#v\0l=m,n\\=o=1#!~#v\0n\\=ox#!~#v";
        for step in [1, 3, 7, text.len()] {
            let mut escaped = EscapedNames::new(&names);
            text.chunks(step).for_each(|bytes| escaped.push(bytes));
            let found: Vec<String> = escaped.warnings().into_iter().map(|warning| warning.text).collect();
            assert_eq!(found.len(), 4, "{found:?}");
            for (said, name) in found.iter().zip(["\"a=b\"", "f\\\\=g", "\"a=b=c\"", "\"h=i=j,k\""]) {
                assert!(said.contains(name), "{name}: {found:?}");
            }
            assert!(escaped.warnings().is_empty());
        }
    }

    #[test]
    fn a_series_whose_end_is_unclear_is_found_also_on_a_border() {
        let text = b"\0\x08m#!~#f1\0\0\x01....\0\x09m,t=#!~##!~#v\0\0\x01 \0\x06n#!~#v\0\0";
        for step in [1, 3, 7, text.len()] {
            let mut escaped = EscapedNames::default();
            text.chunks(step).for_each(|bytes| escaped.push(bytes));
            let found: Vec<String> = escaped.warnings().into_iter().map(|warning| warning.text).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("\"m,t=#!~#"), "{found:?}");
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
