//! Visibility of an account, judged from its grants: a dump silently omits what the account can't see.

use std::collections::{BTreeMap, BTreeSet};

use super::names::quoted;
use super::program::Vendor;
use super::server::MysqlServer;
use crate::source::Error;

/// The privileges that a complete dump needs on each database.
const ON_DATABASES: [&str; 5] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "LOCK TABLES"];

/// The grants of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// On `*.*`.
    global: BTreeSet<String>,
    /// By the pattern of a database's name.
    databases: Vec<(String, BTreeSet<String>)>,
    /// Taken back, by database (MySQL's partial revokes).
    revoked: Vec<(String, BTreeSet<String>)>,
}

/// What a server has that asks for privileges of its own: it is asked, for a version says less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// The text of stored code has a privilege of its own (MySQL since 8.0.20).
    routines: bool,
    /// The text of stored code is for who may read everything (MySQL 8.0 before that).
    code_is_everythings: bool,
    /// Columns may show something else than they have (MySQL since 9.7).
    masks: bool,
}

impl Abilities {
    /// Asks the server.
    ///
    /// # Errors
    /// As [`MysqlServer::ask`].
    pub fn of(server: &MysqlServer) -> Result<Self, Error> {
        if server.vendor == Vendor::Mariadb {
            return Ok(Self::default());
        }
        let known: BTreeSet<String> =
            server.ask("SHOW PRIVILEGES")?.into_iter().filter_map(|row| row.into_iter().next()).collect();
        let routines = known.contains("SHOW_ROUTINE");
        Ok(Self {
            routines,
            code_is_everythings: !routines && server.series() >= (8, 0),
            masks: known.contains("MANAGE_DATA_MASKING_POLICY"),
        })
    }
}

/// A privilege that is missing: on `None` for `*.*`.
pub type MissingPrivilege = BTreeMap<Option<String>, BTreeSet<&'static str>>;

impl Grants {
    /// Reads the lines of `SHOW GRANTS`.
    pub fn parse<'l>(lines: impl IntoIterator<Item = &'l str>) -> Self {
        let mut grants = Self::default();
        for line in lines {
            grants.line(line);
        }
        grants
    }

    fn line(&mut self, line: &str) {
        let (revokes, rest) = match (line.strip_prefix("GRANT "), line.strip_prefix("REVOKE ")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return,
        };
        // A role that is granted has no ON.
        let Some((privileges, rest)) = split_outside(rest, " ON ") else { return };
        let privileges = privileges.split(", ").map(|word| word.trim().to_ascii_uppercase()).collect();
        let Some((object, _)) = split_outside(rest, if revokes { " FROM " } else { " TO " }) else { return };
        if object == "*.*" {
            self.global.extend(privileges);
        } else if let Some(database) = object.strip_suffix(".*") {
            let pattern = database.trim_matches('`').replace("``", "`");
            let list = if revokes { &mut self.revoked } else { &mut self.databases };
            list.push((pattern, privileges));
        }
    }

    /// Whether the account has a privilege on `*.*`.
    pub fn has_global(&self, privilege: &str) -> bool {
        holds(&self.global, privilege)
    }

    /// Whether the account has a privilege on all of a database.
    pub fn has(&self, database: &str, privilege: &str) -> bool {
        let meant = |list: &[(String, BTreeSet<String>)]| {
            list.iter().any(|(pattern, privileges)| holds(privileges, privilege) && matches(pattern, database))
        };
        meant(&self.databases) || (self.has_global(privilege) && !meant(&self.revoked))
    }

    /// The privileges that are missing for a complete dump of `databases`; with `all`, the account must see every
    /// database.
    pub fn missing(&self, abilities: Abilities, databases: &[String], all: bool) -> MissingPrivilege {
        let mut missing = MissingPrivilege::new();
        let mut need = |has: bool, on: Option<&str>, privilege| {
            if !has {
                missing.entry(on.map(str::to_owned)).or_default().insert(privilege);
            }
        };
        for privilege in ON_DATABASES {
            match all {
                true => need(self.has_global(privilege), None, privilege),
                false => databases.iter().for_each(|name| need(self.has(name, privilege), Some(name), privilege)),
            }
        }
        // Tables' numbers, by which a replaced table is detected.
        need(self.has_global("PROCESS"), None, "PROCESS");
        // Routines' bodies, users and their grants.
        need(self.has("mysql", "SELECT"), Some("mysql"), "SELECT");
        if abilities.routines {
            need(self.has_global("SHOW_ROUTINE") || self.has_global("SELECT"), None, "SHOW_ROUTINE");
        }
        if abilities.code_is_everythings {
            need(self.has_global("SELECT"), None, "SELECT");
        }
        // Which columns are masked, and so not dumped as they are.
        if abilities.masks {
            need(self.has("performance_schema", "SELECT"), Some("performance_schema"), "SELECT");
        }
        missing
    }
}

/// The statements that grant the missing privileges to `account`.
pub fn statements(missing: &MissingPrivilege, account: &str) -> Vec<String> {
    let account = account.rsplit_once('@').map_or_else(
        || quoted(account),
        |(user, host)| format!("{}@{}", quoted(user.trim_matches('`')), quoted(host.trim_matches('`'))),
    );
    let statement = |(on, privileges): (&Option<String>, &BTreeSet<&str>)| {
        let on = on.as_ref().map_or_else(|| "*.*".to_owned(), |database| format!("{}.*", quoted(database)));
        let privileges: Vec<&str> = privileges.iter().copied().collect();
        format!("GRANT {} ON {on} TO {account};", privileges.join(", "))
    };
    missing.iter().map(statement).collect()
}

/// The grants of the account of `server`, its own and those of its active roles.
pub fn granted(server: &MysqlServer) -> Result<(Grants, String), Error> {
    let account = server.value("SELECT CURRENT_USER()")?;
    let mut question = "SHOW GRANTS".to_owned();
    if server.vendor == Vendor::Mysql {
        let roles = server.value("SELECT CURRENT_ROLE()")?;
        if !roles.is_empty() && roles != "NONE" {
            question = format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}");
        }
    }
    let rows = server.ask(&question)?;
    Ok((Grants::parse(rows.iter().flatten().map(String::as_str)), account))
}

fn holds(privileges: &BTreeSet<String>, privilege: &str) -> bool {
    privileges.contains(privilege) || privileges.contains("ALL PRIVILEGES") || privileges.contains("ALL")
}

/// Splits at the first `separator` outside of backticks and parentheses.
fn split_outside<'t>(text: &'t str, separator: &str) -> Option<(&'t str, &'t str)> {
    let (mut in_name, mut depth) = (false, 0u32);
    for (at, c) in text.char_indices() {
        match c {
            '`' => in_name = !in_name,
            '(' if !in_name => depth += 1,
            ')' if !in_name => depth = depth.saturating_sub(1),
            _ if !in_name && depth == 0 && text[at..].starts_with(separator) => {
                return Some((&text[..at], &text[at + separator.len()..]));
            }
            _ => {}
        }
    }
    None
}

/// Whether a database's name is meant by a pattern of `%`, `_` and backslashes before them.
fn matches(pattern: &str, name: &str) -> bool {
    fn rest(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['%', more @ ..] => (0..=name.len()).any(|skip| rest(more, &name[skip..])),
            ['\\', c, more @ ..] => name.first() == Some(c) && rest(more, &name[1..]),
            ['_', more @ ..] => !name.is_empty() && rest(more, &name[1..]),
            [c, more @ ..] => name.first() == Some(c) && rest(more, &name[1..]),
        }
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    rest(&pattern, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: [&str; 5] = [
        "GRANT PROCESS ON *.* TO `backup`@`localhost` IDENTIFIED VIA unix_socket",
        "GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER ON `agama`.* TO `backup`@`localhost`",
        "GRANT SELECT ON `mysql`.* TO `backup`@`localhost`",
        "GRANT SELECT (`a`, `b`), INSERT ON `other`.`t` TO `backup`@`localhost`",
        "GRANT `r` TO `backup`@`localhost`",
    ];

    fn missing(lines: &[&str], databases: &[&str], all: bool) -> Vec<String> {
        let databases: Vec<String> = databases.iter().map(|&name| name.to_owned()).collect();
        let missing = Grants::parse(lines.iter().copied()).missing(Abilities::default(), &databases, all);
        statements(&missing, "backup@localhost")
    }

    #[test]
    fn what_is_missing_is_said_as_the_statement_that_gives_it() {
        assert!(missing(&ENOUGH, &["agama"], false).is_empty());
        let without: Vec<String> = ENOUGH.iter().map(|line| line.replace(", TRIGGER", "")).collect();
        let without: Vec<&str> = without.iter().map(String::as_str).collect();
        assert_eq!(missing(&without, &["agama"], false), ["GRANT TRIGGER ON `agama`.* TO `backup`@`localhost`;"]);
        assert_eq!(
            missing(&ENOUGH, &["agama"], true),
            ["GRANT EVENT, LOCK TABLES, SELECT, SHOW VIEW, TRIGGER ON *.* TO `backup`@`localhost`;"]
        );
        assert_eq!(missing(&ENOUGH[..2], &["agama"], false), ["GRANT SELECT ON `mysql`.* TO `backup`@`localhost`;"]);
        assert_eq!(missing(&ENOUGH, &["other"], false).len(), 1, "columns are no table, a table is no database");
        assert!(
            missing(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], &["x"], true).is_empty()
        );
    }

    #[test]
    fn what_a_newer_server_asks_for_is_missing_there() {
        let lines = ENOUGH;
        let missing = |abilities| {
            let missing = Grants::parse(lines.iter().copied()).missing(abilities, &["agama".to_owned()], false);
            statements(&missing, "backup@localhost")
        };
        let newest = Abilities { routines: true, masks: true, ..Abilities::default() };
        assert_eq!(
            missing(newest),
            [
                "GRANT SHOW_ROUTINE ON *.* TO `backup`@`localhost`;",
                "GRANT SELECT ON `performance_schema`.* TO `backup`@`localhost`;"
            ]
        );
        let old = Abilities { code_is_everythings: true, ..Abilities::default() };
        assert_eq!(missing(old), ["GRANT SELECT ON *.* TO `backup`@`localhost`;"]);
    }

    #[test]
    fn patterns_are_what_the_server_takes_them_for() {
        let grants = Grants::parse(["GRANT SELECT ON `a\\_b%`.* TO `u`@`%`"]);
        assert!(grants.has("a_bc", "SELECT") && grants.has("a_b", "SELECT") && !grants.has("axb", "SELECT"));
        let grants = Grants::parse(["GRANT SELECT ON `we``ird ON x`.* TO `u`@`%`"]);
        assert!(grants.has("we`ird ON x", "SELECT"));
    }

    #[test]
    fn what_was_taken_back_is_missing() {
        let grants = Grants::parse(["GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `agama`.* FROM `u`@`%`"]);
        assert!(!grants.has("agama", "SELECT") && grants.has("b", "SELECT"));
    }
}
