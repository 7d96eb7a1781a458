//! Session settings of a database on which the results of a dump's code depend.
//!
//! A load refreshes materialized views, and evaluates `CHECK`s and domains. Their results for a time, a text or an
//! amount depend on settings of the session: of the database, which its dump has, and of the server, which no dump has.

use super::globals::unquoted;
use super::scan::name_end;
use super::server::{PostgresqlServer, is_ours, literal};
use super::session::PsqlSession;
use crate::source::Error;

/// Settings that are kept beside a dump, as ordinary sessions of the database have them.
const KEPT: [&str; 11] = [
    "TimeZone",
    "timezone_abbreviations",
    "DateStyle",
    "IntervalStyle",
    "bytea_output",
    "extra_float_digits",
    "xmlbinary",
    "default_text_search_config",
    "lc_numeric",
    "lc_time",
    MONEY,
];
/// How amounts are written. A dump of ours has them as the locale C writes them, which every server has.
const MONEY: &str = "lc_monetary";

/// The recorded settings of the sessions of `database`.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn of_sessions(server: &PostgresqlServer, database: &str) -> Result<Vec<(String, String)>, Error> {
    // A role's own settings override the database's, and the database's are recorded.
    let question = |name: &str| {
        format!(
            "SELECT {0}, coalesce((SELECT substr(c, strpos(c, '=') + 1) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
             CROSS JOIN unnest(s.setconfig) c WHERE s.setrole = 0 AND d.datname = current_database() AND starts_with(lower(c), \
             lower({0} || '='))), current_setting({0}, true))",
            literal(name)
        )
    };
    let rows = server.ask_as_it_is(database, &KEPT.map(question).join(" UNION ALL "))?;
    let pair = |row: Vec<String>| <[String; 2]>::try_from(row).ok().map(|[name, value]| (name, value));
    Ok(rows.into_iter().filter_map(pair).filter(|(_, value)| !value.is_empty()).collect())
}

/// The settings that a load gives its sessions.
#[derive(Debug, Default)]
pub struct Settings {
    /// By name, each with the statement that sets it. A later one overrides an earlier one.
    statements: Vec<(String, String)>,
    /// The statement about amounts, where it is only for views: the dump's own amounts are as in the locale C.
    for_views: Option<String>,
    /// Those that a session of the role that loads has taken.
    taken: Vec<String>,
    /// Settings that the session has not accepted so far, with the server's message: they may name something that the
    /// dump creates later.
    not_taken: Vec<(String, String)>,
}

impl Settings {
    /// Those that were kept beside a dump.
    pub fn kept(kept: &[(String, String)]) -> Self {
        let set = |name: &str, value: &str| format!("SET {name} TO {};", literal(value));
        let mut found = Self::default();
        for name in KEPT {
            let Some((_, value)) = kept.iter().find(|(other, _)| other == name) else { continue };
            if name == MONEY {
                found.for_views = Some(set(name, value));
                found.statements.push((name.to_owned(), set(name, "C")));
            } else {
                found.statements.push((name.to_owned(), set(name, value)));
            }
        }
        found
    }

    /// Parses the part after the name in `ALTER DATABASE name SET setting TO value;`.
    pub fn of_database(&mut self, rest: &str) {
        let Some(name) = rest.strip_prefix(" SET ").and_then(|rest| Some(unquoted(&rest[..name_end(rest)?]))) else {
            return;
        };
        // Text written in the locale C is read in it.
        let as_c = name.eq_ignore_ascii_case(MONEY) && self.for_views.is_some();
        if !is_ours(&name) && !as_c {
            self.statements.push((name, rest.trim_start().to_owned()));
        }
    }

    /// Sets them in a session of the loading role. Settings that the role may not change are left to the end.
    ///
    /// # Errors
    /// As [`PsqlSession::run`].
    pub fn set(&mut self, session: &mut PsqlSession) -> Result<(), Error> {
        let statements = self.statements.iter().map(|(_, statement)| statement.clone()).collect();
        self.taken.clear();
        self.try_all(statements, session)
    }

    fn try_all(&mut self, statements: Vec<String>, session: &mut PsqlSession) -> Result<(), Error> {
        self.not_taken.clear();
        for statement in statements {
            match session.run(&statement)? {
                None => self.taken.push(statement),
                Some(fault) if fault.code == NOT_ALLOWED => {}
                Some(fault) => self.not_taken.push((statement, fault.to_string())),
            }
        }
        Ok(())
    }

    /// Before a view is refreshed: sets the settings that were not accepted before, now that more objects exist.
    ///
    /// # Errors
    /// As [`PsqlSession::run`].
    pub fn set_for_views(&mut self, session: &mut PsqlSession) -> Result<(), Error> {
        let again = std::mem::take(&mut self.not_taken).into_iter().map(|(statement, _)| statement);
        let statements = again.chain(self.for_views.clone()).collect();
        self.try_all(statements, session)
    }

    /// After a view was filled.
    pub fn after_views(&self) -> &'static str {
        if self.for_views.is_some() { "SET lc_monetary TO 'C';\n" } else { "" }
    }

    /// The statements that the role that loads could run: another session may run them, too.
    pub fn taken(&self) -> Vec<String> {
        self.taken.clone()
    }

    /// The statements that the server rejects, with its message.
    pub fn not_taken(&self) -> &[(String, String)] {
        &self.not_taken
    }
}

/// The error code for insufficient privilege.
const NOT_ALLOWED: &str = "42501";
