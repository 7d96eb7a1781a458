//! Facts: what a source knows of what it read beside the bytes. Restores, re-bases and guards go by them.
//!
//! They are stored as pairs of texts (`docs/format.md`, "Facts"), and their writer may be a stranger: each key that is known here
//! has values of one form, and a text in one is [`Untrusted`].

use std::collections::BTreeMap;

use crate::entry::Untrusted;
use crate::time::Timestamp;

/// A fact as it is stored: its key and its value.
pub type Pair = (Untrusted, Untrusted);

/// A value, which has one form as a text.
trait Value: Sized {
    /// The text.
    fn text(&self) -> String;

    /// The value; None where the text is none.
    fn parse(text: &str) -> Option<Self>;
}

impl Value for u64 {
    fn text(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for Untrusted {
    fn text(&self) -> String {
        self.raw().to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

impl Value for bool {
    fn text(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }
}

impl Value for Timestamp {
    fn text(&self) -> String {
        self.nanos().to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Timestamp::from_nanos)
    }
}

/// Texts in one, each ended by the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Separated<const BY: char>(pub Vec<Untrusted>);

/// One a line.
pub type Lines = Separated<'\n'>;
/// One a word.
pub type Words = Separated<' '>;

impl<const BY: char> Value for Separated<BY> {
    fn text(&self) -> String {
        let mut text = String::new();
        for (number, part) in self.0.iter().enumerate() {
            if number > 0 {
                text.push(BY);
            }
            text += part.raw();
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        match text.is_empty() {
            true => Some(Self::default()),
            false => Some(Self(text.split(BY).map(Untrusted::from).collect())),
        }
    }
}

/// Between which two numbers a count lies, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The least that it may be.
    pub least: u64,
    /// The most that it may be.
    pub most: u64,
}

impl Value for Range {
    fn text(&self) -> String {
        format!("{} {}", self.least, self.most)
    }

    fn parse(text: &str) -> Option<Self> {
        let (least, most) = text.split_once(' ')?;
        let range = Self { least: least.parse().ok()?, most: most.parse().ok()? };
        (range.least <= range.most).then_some(range)
    }
}

/// A fact that isn't of the form that its key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// The facts: those that stand once, and those that stand once for each of some names. The key of the second kind is the word
/// here, a space and the name.
macro_rules! facts {
    (
        once { $($(#[doc = $about:literal])+ $field:ident: $type:ty = $key:literal,)+ }
        each { $($(#[doc = $of:literal])+ $map:ident: $value:ty = $word:literal,)+ }
    ) => {
        /// What a source knows of what it read.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Facts {
            $($(#[doc = $about])+ pub $field: Option<$type>,)+
            $($(#[doc = $of])+ pub $map: BTreeMap<Untrusted, $value>,)+
            /// What another version wrote.
            pub other: BTreeMap<Untrusted, Untrusted>,
        }

        impl Facts {
            /// The keys that stand once.
            pub const ONCE: &[&str] = &[$($key,)+];
            /// The words that begin the keys of those which stand for each of some names.
            pub const EACH: &[&str] = &[$($word,)+];

            /// As they are stored: ascending by key.
            pub fn pairs(&self) -> Vec<Pair> {
                let mut pairs: Vec<Pair> = self.other.clone().into_iter().collect();
                $(pairs.extend(self.$field.as_ref().map(|value| ($key.into(), value.text().into())));)+
                $(
                    let pair = |(name, value): (&Untrusted, &$value)| {
                        (format!(concat!($word, " {}"), name.raw()).into(), value.text().into())
                    };
                    pairs.extend(self.$map.iter().map(pair));
                )+
                pairs.sort();
                pairs
            }

            /// Reads what is stored.
            ///
            /// # Errors
            /// Where the keys don't ascend, or a value isn't of the form that its key has.
            pub fn parse(pairs: Vec<Pair>) -> Result<Self, Malformed> {
                if !pairs.is_sorted_by(|(one, _), (next, _)| one < next) {
                    return Err(Malformed("a snapshot's facts aren't in order"));
                }
                let mut facts = Self::default();
                for (key, value) in pairs {
                    match key.raw() {
                        $($key => facts.$field = Some(read(&value, concat!("a snapshot's fact \"", $key, "\" has no value of its form"))?),)+
                        text => match text.split_once(' ') {
                            $(Some(($word, name)) => {
                                let value = read(&value, concat!("a snapshot's fact \"", $word, " …\" has no value of its form"))?;
                                facts.$map.insert(name.into(), value);
                            })+
                            _ => _ = facts.other.insert(key, value),
                        },
                    }
                }
                Ok(facts)
            }
        }
    };
}

/// The value of a text that is written as it would be.
fn read<T: Value>(text: &Untrusted, malformed: &'static str) -> Result<T, Malformed> {
    T::parse(text.raw()).filter(|value| value.text() == text.raw()).ok_or(Malformed(malformed))
}

facts! {
    once {
        /// How many plain bytes a restore of the snapshot decodes.
        decoded_bytes: u64 = "decoded_bytes",
        /// How many bases lie under the deepest segment that a restore decodes.
        depth: u64 = "depth",
        /// What the set consists of: its paths or its databases.
        holds: Lines = "holds",
        /// Where the data comes from: what isn't a backup of the same mustn't stand upon it.
        origin: Untrusted = "origin",
        /// How many rows or points there are; a set that lost many is suspect.
        rows: u64 = "rows",
        /// Whose server it is: `MariaDB`, `MySQL`, `PostgreSQL`, `InfluxDB`.
        server: Untrusted = "server",
        /// The server's version.
        server_version: Untrusted = "server_version",
        /// The program that made the dump.
        dump_program: Untrusted = "dump_program",
        /// The engines of the tables.
        engines: Words = "engines",
        /// Bytes of the longest statement.
        longest_statement: u64 = "longest_statement",
        /// The binary log's file and the position in it: `binlog.000002:344`.
        binlog: Untrusted = "binlog",
        /// The transactions that it had by then: a set of GTIDs.
        gtids: Untrusted = "gtids",
        /// What locks the dump took, and for how long, in words.
        locks: Untrusted = "locks",
        /// Whether there are dumps with different session settings.
        settings: Untrusted = "settings",
        /// Whether the dump of the roles has their passwords.
        role_passwords: bool = "role_passwords",
        /// Up to when points count, in ns since 1970 UTC.
        points_until: Timestamp = "points_until",
        /// How many shards there are.
        shards: u64 = "shards",
        /// How many shards the server is known to lose in a restore.
        unrestorable_shards: u64 = "unrestorable_shards",
    }
    each {
        /// How many rows a table has: by its stream, or by its database's stream and its name.
        rows_of: u64 = "rows",
        /// How many large objects a database has, by its stream.
        large_objects: u64 = "large_objects",
        /// The settings of a database's sessions, by its stream and the setting's name.
        session_settings: Untrusted = "setting",
        /// What a materialized view held, by its database's stream and its name.
        views: Untrusted = "view",
        /// Why a restore refuses a database's dump, by its stream.
        unfit: Untrusted = "unfit",
        /// What only a superuser makes of a database, by its stream.
        superuser: Untrusted = "superuser",
        /// How many values a measurement has, by its retention policy and name.
        points: Range = "points",
        /// What the server is known to lose values of in a restore, by its name.
        unrestorable: Untrusted = "unrestorable",
    }
}

impl Facts {
    /// Those of a map whose names begin with a stream and a space, by the rest.
    pub fn of_stream<'f, T>(
        map: &'f BTreeMap<Untrusted, T>,
        stream: &str,
    ) -> impl Iterator<Item = (&'f str, &'f T)> + use<'f, T> {
        let start = format!("{stream} ");
        let from = Untrusted::from(start.as_str());
        map.range(from..).map_while(move |(name, value)| Some((name.raw().strip_prefix(&start)?, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> Pair {
        (key.into(), value.into())
    }

    #[test]
    fn a_value_has_one_form() {
        let facts =
            Facts::parse(vec![pair("holds", "/etc\n/home"), pair("points autogen/cpu", "5 7"), pair("rows", "7")]);
        let facts = facts.unwrap();
        assert_eq!(facts.holds.unwrap().0, ["/etc", "/home"].map(Untrusted::from));
        assert_eq!((facts.points[&"autogen/cpu".into()], facts.rows), (Range { least: 5, most: 7 }, Some(7)));
        for (key, value) in [("rows", "+7"), ("rows", "07"), ("rows", ""), ("points a", "7 5"), ("role_passwords", "")]
        {
            assert!(
                Facts::parse(vec![pair(key, value)]).unwrap_err().0.contains(key.split(' ').next().unwrap()),
                "{key}"
            );
        }
    }

    #[test]
    fn what_isnt_known_is_kept_and_the_order_is_one() {
        let pairs = vec![pair("", "x"), pair("new", "1"), pair("new thing", "a\u{1b}")];
        let facts = Facts::parse(pairs.clone()).unwrap();
        assert_eq!((facts.other.len(), facts.pairs()), (3, pairs.clone()));
        for pairs in [vec![pair("b", ""), pair("a", "")], vec![pair("a", "1"), pair("a", "2")]] {
            assert!(Facts::parse(pairs).is_err());
        }
    }

    #[test]
    fn the_facts_of_a_stream_are_no_others() {
        let names = ["a.sql", "a.sql t", "a.sql u", "a.sql2 t", "b.sql t"];
        let map: BTreeMap<Untrusted, u64> = names.iter().map(|name| ((*name).into(), 1)).collect();
        assert_eq!(Facts::of_stream(&map, "a.sql").map(|(name, _)| name).collect::<Vec<_>>(), ["t", "u"]);
    }
}
