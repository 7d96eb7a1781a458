//! Definitions that a portable backup loses: continuous queries, users and their grants. Retention policies are kept beside
//! them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::server::{InfluxdbServer, quoted};
use crate::entry::Escaped;
use crate::source::Error;
use crate::source::names::escape;

/// The output of `SHOW …` for a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowOutput {
    /// The database.
    pub database: String,
    /// Retention policies.
    pub policies: Vec<RetentionPolicy>,
    /// Continuous queries: name and statement.
    pub queries: Vec<(String, String)>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Users of the server.
    pub users: Vec<User>,
}

/// Where points of a retention policy are sent to as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// The retention policy.
    pub policy: String,
    /// `ALL` or `ANY`.
    pub mode: String,
    /// Addresses.
    pub destinations: Vec<String>,
}

/// A retention policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// Its name.
    pub name: String,
    /// How long points stay.
    pub duration: String,
    /// How long a group of shards is.
    pub shard_duration: String,
    /// How many copies there are.
    pub replicas: String,
    /// Whether it is meant where none is named.
    pub is_default: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether it may do everything.
    pub is_admin: bool,
    /// Its privileges on the database.
    pub privilege: Option<String>,
}

impl ShowOutput {
    /// Asks the server.
    ///
    /// # Errors
    /// [`Error::Failed`] if it doesn't answer.
    pub fn take(server: &InfluxdbServer, database: &str) -> Result<Self, Error> {
        let mut found = Self { database: database.to_owned(), ..Self::default() };
        for series in server.ask(&format!("SHOW RETENTION POLICIES ON {}", quoted(database)))? {
            found.policies.extend(series.rows.iter().map(|row| {
                let text = |column: &str| series.text(row, column);
                RetentionPolicy {
                    name: text("name"),
                    duration: text("duration"),
                    shard_duration: text("shardGroupDuration"),
                    replicas: text("replicaN"),
                    is_default: text("default") == "true",
                }
            }));
        }
        for series in server.ask("SHOW CONTINUOUS QUERIES")?.iter().filter(|series| series.name == database) {
            found.queries.extend(series.rows.iter().map(|row| (series.text(row, "name"), series.text(row, "query"))));
        }
        for series in server.ask("SHOW SUBSCRIPTIONS")?.iter().filter(|series| series.name == database) {
            found.subscriptions.extend(series.rows.iter().map(|row| Subscription {
                name: series.text(row, "name"),
                policy: series.text(row, "retention_policy"),
                mode: series.text(row, "mode"),
                destinations: serde_json::from_str(&series.text(row, "destinations")).unwrap_or_default(),
            }));
        }
        for series in server.ask("SHOW USERS")? {
            for row in &series.rows {
                let name = series.text(row, "user");
                let is_admin = series.text(row, "admin") == "true";
                let privilege = privilege(server, &name, database)?;
                found.users.push(User { name, is_admin, privilege });
            }
        }
        found.policies.sort_by(|a, b| a.name.cmp(&b.name));
        found.queries.sort();
        found.subscriptions.sort();
        found.users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// As a stream.
    ///
    /// # Errors
    /// [`Error::Failed`] if it can't be written, which can't be.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Error::Failed(error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    /// From a stream.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is none of these.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(text)
            .map_err(|error| Error::Failed(format!("the definitions of the snapshot can't be understood: {error}")))
    }

    /// The statements that make the database `to` and its retention policies, for one without points: a portable restore
    /// makes none of that.
    pub fn make_database(&self, to: &str) -> Vec<String> {
        let about = |policy: &RetentionPolicy| {
            let duration = if policy.duration == "0s" { "INF" } else { &policy.duration };
            let (replicas, shard) = (&policy.replicas, &policy.shard_duration);
            format!("DURATION {duration} REPLICATION {replicas} SHARD DURATION {shard}")
        };
        let (default, others): (Vec<&RetentionPolicy>, Vec<&RetentionPolicy>) =
            self.policies.iter().partition(|policy| policy.is_default);
        let mut statements = vec![match default.first() {
            Some(policy) => {
                format!("CREATE DATABASE {} WITH {} NAME {}", quoted(to), about(policy), quoted(&policy.name))
            }
            None => format!("CREATE DATABASE {}", quoted(to)),
        }];
        statements.extend(others.into_iter().map(|policy| {
            format!("CREATE RETENTION POLICY {} ON {} {}", quoted(&policy.name), quoted(to), about(policy))
        }));
        statements
    }

    /// The statements that make the subscriptions of the database `to` that aren't among `there`.
    pub fn make_subscriptions(&self, there: &[Subscription], to: &str) -> Vec<String> {
        let missing = self.subscriptions.iter().filter(|one| !there.contains(one));
        let text = |text: &String| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        missing
            .map(|one| {
                format!(
                    "CREATE SUBSCRIPTION {} ON {}.{} DESTINATIONS {} {}",
                    quoted(&one.name),
                    quoted(to),
                    quoted(&one.policy),
                    if one.mode == "ANY" { "ANY" } else { "ALL" },
                    one.destinations.iter().map(text).collect::<Vec<_>>().join(", ")
                )
            })
            .collect()
    }

    /// Differences between the server's definitions under the name `to` and these, a sentence each. Absent users are
    /// none.
    pub fn differences(&self, there: &Self, to: &str) -> Vec<String> {
        let mut found = Vec::new();
        let policies = |of: &Self| -> BTreeMap<String, String> {
            let about = |policy: &RetentionPolicy| {
                let default = if policy.is_default { ", the default" } else { "" };
                format!("{}, shards of {}, {} copies{default}", policy.duration, policy.shard_duration, policy.replicas)
            };
            of.policies.iter().map(|policy| (policy.name.clone(), about(policy))).collect()
        };
        compare("retention policy", &policies(self), &policies(there), &mut found);
        let queries = |of: &Self| -> BTreeMap<String, String> {
            of.queries.iter().map(|(name, query)| (name.clone(), renamed(query, &of.database, to))).collect()
        };
        compare("continuous query", &queries(self), &queries(there), &mut found);
        let subscriptions = |of: &Self| -> BTreeMap<String, String> {
            let about = |one: &Subscription| format!("{} {}", one.mode, one.destinations.join(", "));
            of.subscriptions.iter().map(|one| (format!("{}.{}", one.policy, one.name), about(one))).collect()
        };
        compare("subscription", &subscriptions(self), &subscriptions(there), &mut found);
        let users = |of: &Self, in_other: &Self| -> BTreeMap<String, String> {
            let in_both = |user: &&User| in_other.users.iter().any(|other| other.name == user.name);
            let about = |user: &User| match (&user.privilege, user.is_admin) {
                (_, true) => "an administrator".to_owned(),
                (Some(privilege), false) => privilege.clone(),
                (None, false) => "without a privilege".to_owned(),
            };
            of.users.iter().filter(in_both).map(|user| (user.name.clone(), about(user))).collect()
        };
        compare("user", &users(self, there), &users(there, self), &mut found);
        found
    }

    /// The statements that make the continuous queries in the database `to`.
    pub fn make_queries(&self, to: &str) -> Vec<String> {
        self.queries.iter().map(|(_, query)| renamed(query, &self.database, to)).collect()
    }
}

/// Collects the differing definitions of one kind, each with its name.
fn compare(kind: &str, was: &BTreeMap<String, String>, is: &BTreeMap<String, String>, found: &mut Vec<String>) {
    for (name, was) in was {
        let shown = Escaped(name.as_bytes());
        match is.get(name) {
            Some(is) if is == was => {}
            Some(is) => found.push(format!("the {kind} {shown} was {was}, and is {is}")),
            None => found.push(format!("the {kind} {shown} was there, and isn't")),
        }
    }
    let new = is.keys().filter(|name| !was.contains_key(*name));
    found.extend(new.map(|name| format!("the {kind} {} is there, and wasn't in the backup", Escaped(name.as_bytes()))));
}

fn privilege(server: &InfluxdbServer, user: &str, database: &str) -> Result<Option<String>, Error> {
    let answer = server.ask(&format!("SHOW GRANTS FOR {}", quoted(user)))?;
    let rows = answer
        .iter()
        .flat_map(|series| series.rows.iter().map(|row| (series.text(row, "database"), series.text(row, "privilege"))));
    let mut rows = rows.filter(|(name, privilege)| name == database && privilege != "NO PRIVILEGES");
    Ok(rows.next().map(|(_, privilege)| privilege))
}

/// A statement with another name where it names the database: before a policy (`telegraf.raw.cpu`, `telegraf..cpu`), and
/// after `ON`.
fn renamed(query: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    let mut last = String::new();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\'' | '"' => end_of_quote(rest, c),
            // A pattern of names: it begins where a name could.
            '/' if matches!(last.as_str(), "." | "," | "FROM" | "=~" | "~" | "(") => end_of_quote(rest, '/'),
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        let names_it = word == from || (c == '"' && word == quoted(from));
        let place = last.eq_ignore_ascii_case("ON")
            || (after.starts_with('.') && ["INTO", "FROM", ","].iter().any(|word| last.eq_ignore_ascii_case(word)));
        match names_it && place {
            true => out += &quoted(to),
            false => out += word,
        }
        if !word.trim().is_empty() {
            last = word.to_owned();
        }
        rest = after;
    }
    out
}

/// Where a text ends that begins with a quote.
fn end_of_quote(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match (escaped, c) {
            (true, _) => escaped = false,
            (_, '\\') => escaped = true,
            (_, c) if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// How many values each measurement has up to a moment, by policy and measurement.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn count(
    server: &InfluxdbServer,
    database: &str,
    policies: &[RetentionPolicy],
    until: i64,
) -> Result<BTreeMap<String, u64>, Error> {
    let mut counts = BTreeMap::new();
    for policy in policies {
        let question =
            format!("SELECT count(*) FROM {}.{}./.*/ WHERE time <= {until}", quoted(database), quoted(&policy.name));
        for series in server.ask(&question)? {
            let columns = series.columns.iter().zip(series.rows.first().into_iter().flatten());
            let numbers = columns.filter(|(name, _)| *name != "time").filter_map(|(_, value)| value.as_u64());
            *counts.entry(format!("{}/{}", escape(&policy.name), escape(&series.name))).or_default() +=
                numbers.sum::<u64>();
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_other_database_only_where_it_named_the_first() {
        let query = r#"CREATE CONTINUOUS QUERY db ON db BEGIN SELECT mean(db) AS "db" INTO db.long.:MEASUREMENT FROM db.raw./db.*\/ FROM db./, "db".raw.db, db..x, other.db.db WHERE db = 'db.x ON db' GROUP BY time(1h), "db" END"#;
        let wanted = r#"CREATE CONTINUOUS QUERY db ON "x y" BEGIN SELECT mean(db) AS "db" INTO "x y".long.:MEASUREMENT FROM "x y".raw./db.*\/ FROM db./, "x y".raw.db, "x y"..x, other.db.db WHERE db = 'db.x ON db' GROUP BY time(1h), "db" END"#;
        assert_eq!(renamed(query, "db", "x y"), wanted);
        assert_eq!(
            renamed("CREATE CONTINUOUS QUERY q ON \"a b\" BEGIN", "a b", "c"),
            "CREATE CONTINUOUS QUERY q ON \"c\" BEGIN"
        );
    }

    #[test]
    fn each_difference_is_named() {
        let policy = RetentionPolicy {
            name: "raw".into(),
            duration: "0s".into(),
            shard_duration: "24h0m0s".into(),
            replicas: "1".into(),
            is_default: true,
        };
        let user = |name: &str, privilege: &str| User {
            name: name.into(),
            is_admin: false,
            privilege: Some(privilege.into()),
        };
        let was = ShowOutput {
            database: "a".into(),
            policies: vec![policy.clone()],
            queries: vec![("q".into(), "CREATE CONTINUOUS QUERY q ON a BEGIN SELECT 1 END".into())],
            subscriptions: vec![Subscription {
                name: "s".into(),
                policy: "raw".into(),
                mode: "ALL".into(),
                destinations: vec!["http://it's:9090".into()],
            }],
            users: vec![user("reader", "READ"), user("absent", "READ")],
        };
        let mut is = ShowOutput {
            database: "b".into(),
            queries: vec![("q".into(), "CREATE CONTINUOUS QUERY q ON b BEGIN SELECT 1 END".into())],
            users: vec![user("reader", "READ")],
            ..was.clone()
        };
        is.queries[0].1 = renamed(&was.queries[0].1, "a", "b");
        assert_eq!(was.differences(&is, "b"), Vec::<String>::new());
        is.policies[0].duration = "1h0m0s".into();
        is.queries.clear();
        is.subscriptions.clear();
        is.users[0].privilege = None;
        let said = was.differences(&is, "b");
        assert_eq!(
            said,
            [
                "the retention policy raw was 0s, shards of 24h0m0s, 1 copies, the default, and is 1h0m0s, shards of 24h0m0s, 1 copies, the default",
                "the continuous query q was there, and isn't",
                "the subscription raw.s was there, and isn't",
                "the user reader was READ, and is without a privilege",
            ]
        );
        let made = r#"CREATE SUBSCRIPTION "s" ON "b"."raw" DESTINATIONS ALL 'http://it\'s:9090'"#;
        assert_eq!(was.make_subscriptions(&[], "b"), [made]);
    }

    #[test]
    fn definitions_read_back() {
        let found =
            ShowOutput { database: "a".into(), queries: vec![("q".into(), "CREATE".into())], ..ShowOutput::default() };
        assert_eq!(ShowOutput::parse(&found.text().unwrap()).unwrap(), found);
        assert!(ShowOutput::parse(b"x").is_err());
    }
}
