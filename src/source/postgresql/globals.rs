//! Cluster-wide objects: roles, their memberships and settings, tablespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use super::KEY;
use super::grants::sees_passwords;
use super::scan::{DumpPiece, Scanner, name_end};
use super::server::PostgresqlServer;
use super::text::text_of;
use crate::progress::Interrupt;
use crate::source::Error;
use crate::source::command::talk::ask;

/// The most bytes of all roles.
const MOST: usize = 64 << 20;

/// The statements that make the server's roles, and whether their passwords are among them.
///
/// # Errors
/// [`Error::Config`] if the program is missing, [`Error::Failed`] if it fails or its output isn't whole.
pub fn globals(server: &PostgresqlServer, interrupt: &Interrupt) -> Result<(Vec<u8>, bool), Error> {
    let help = server.help("pg_dumpall")?;
    let common = server.common();
    let passwords = sees_passwords(server, common)?;
    let mut argv = server.argv("pg_dumpall", common);
    argv.push("--globals-only".into());
    if !passwords {
        argv.push("--no-role-passwords".into());
    }
    if help.contains("--restrict-key") {
        argv.push(OsString::from(format!("--restrict-key={KEY}")));
    }
    let text = ask(&argv, b"", MOST, Duration::from_secs(600), interrupt)
        .map_err(|error| Error::Failed(format!("dumping the roles with pg_dumpall failed: {error}")))?;
    let whole = b"-- PostgreSQL database cluster dump complete";
    match text.windows(whole.len()).any(|window| window == whole) {
        true => Ok((text, passwords)),
        false => {
            Err(Error::Failed("the dump of the roles doesn't end with its completion line: it isn't whole".to_owned()))
        }
    }
}

fn statements(globals: &[u8]) -> Result<Vec<String>, Error> {
    let mut statements = Vec::new();
    let mut scanner = Scanner::default();
    let mut take = |piece: DumpPiece<'_>| {
        if let DumpPiece::Statement(bytes) = piece {
            statements.push(text_of(bytes).into_owned());
        }
        Ok::<(), Error>(())
    };
    scanner.push(globals, &mut take)?;
    scanner.finish(&mut take)?;
    match scanner.suspicious {
        Some(why) => Err(Error::Refused(format!("the dump of the roles is no such dump: {why}"))),
        None => Ok(statements),
    }
}

/// Roles that a server lacks, and the statements that create them.
#[derive(Debug, Default)]
pub struct Absent {
    /// Their names.
    pub roles: BTreeSet<String>,
    /// The statements that make them, with their settings and memberships.
    pub statements: String,
    /// Their rights on parameters and tablespaces, a statement each: such a tablespace may be absent, too.
    pub rights: Vec<String>,
}

/// The roles of a dump of globals which aren't among `there`.
///
/// Statements about existing roles are skipped: those are as somebody wants them.
///
/// # Errors
/// [`Error::Refused`] if the dump holds what no dump of globals holds.
pub fn for_absent(globals: &[u8], there: &BTreeSet<String>) -> Result<Absent, Error> {
    let statements = statements(globals)?;
    // A restore that ran beside the backup has a role of its own for a while.
    let is_wanted = |role: &String| !there.contains(role) && !role.starts_with(super::role::PREFIX);
    let made: BTreeSet<String> =
        statements.iter().filter_map(|text| role(text, "CREATE ROLE ")).filter(is_wanted).collect();
    let meant = |text: &&String| {
        let of = |start: &str| role(text, start).is_some_and(|role| made.contains(&role));
        let is_given = || membership(text).is_some_and(|(_, member)| made.contains(&member));
        of("CREATE ROLE ") || of("ALTER ROLE ") || of("COMMENT ON ROLE ") || is_given()
    };
    let text = statements.iter().filter(meant).map(|text| format!("{}\n", without_grantor(text))).collect();
    let is_theirs = |text: &&String| of_server(text).is_some_and(|to| to.is_some_and(|role| made.contains(&role)));
    let rights = statements.iter().filter(is_theirs).map(|text| without_grantor(text)).collect();
    Ok(Absent { roles: made, statements: text, rights })
}

/// The grantee of a privilege on a cluster-wide object, if it is a role: `GRANT SET ON PARAMETER work_mem TO app;`, and
/// the same of a tablespace. None for any other statement.
fn of_server(text: &str) -> Option<Option<String>> {
    let (_, rest) = text.strip_prefix("GRANT ")?.split_once(" ON ")?;
    let rest = ["PARAMETER ", "TABLESPACE "].into_iter().find_map(|kind| rest.strip_prefix(kind))?;
    let to = rest[name_end(rest)?..].strip_prefix(" TO ")?;
    Some(role(to, "").filter(|_| !to.starts_with("PUBLIC")))
}

/// The rights on parameters and tablespaces that a dump of globals gives, and that another one, of the server now,
/// doesn't give.
///
/// # Errors
/// As [`for_absent`].
pub fn lacking(globals: &[u8], now: &[u8]) -> Result<Vec<String>, Error> {
    let rights = |globals: &[u8]| -> Result<BTreeSet<String>, Error> {
        let all = statements(globals)?;
        Ok(all.into_iter().filter(|text| of_server(text).is_some()).map(|text| without_grantor(&text)).collect())
    };
    Ok(rights(globals)?.difference(&rights(now)?).cloned().collect())
}

/// The memberships of a dump of globals that have to do with one of the roles `made`, and that another one, of the
/// server now, doesn't have.
///
/// # Errors
/// As [`for_absent`].
pub fn lacking_memberships(globals: &[u8], now: &[u8], made: &BTreeSet<String>) -> Result<Vec<String>, Error> {
    let all = |globals: &[u8]| -> Result<BTreeMap<(String, String), String>, Error> {
        let of = |text: String| Some((membership(&text)?, without_grantor(&text)));
        Ok(statements(globals)?.into_iter().filter_map(of).collect())
    };
    let now = all(now)?;
    let is_lost =
        |pair: &(String, String)| !now.contains_key(pair) && (made.contains(&pair.0) || made.contains(&pair.1));
    Ok(all(globals)?.into_iter().filter(|(pair, _)| is_lost(pair)).map(|(_, text)| text).collect())
}

/// The role and its member, of `GRANT a TO b …`. None if a statement is any other.
fn membership(text: &str) -> Option<(String, String)> {
    let rest = text.strip_prefix("GRANT ")?;
    let end = name_end(rest)?;
    Some((unquoted(&rest[..end]), role(&rest[end..], " TO ")?))
}

/// A membership without who gave it: that role may be no administrator here.
fn without_grantor(text: &str) -> String {
    match text.strip_prefix("GRANT ").and_then(|rest| rest.find(" GRANTED BY ").map(|at| &text[..6 + at])) {
        Some(before) => format!("{before};"),
        None => text.to_owned(),
    }
}

/// The name after `start`, as it is.
fn role(text: &str, start: &str) -> Option<String> {
    let rest = text.strip_prefix(start)?;
    Some(unquoted(&rest[..name_end(rest)?]))
}

/// A name without its quotes, from a statement.
pub fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(name) => name.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roles_that_are_absent_are_made() {
        let globals = "\\restrict x\nSET client_encoding = 'UTF8';\nCREATE ROLE app;\nALTER ROLE app WITH LOGIN PASSWORD \
                       'a;CREATE ROLE x;';\nCREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE \"a \"\"b\";\n\
                       ALTER ROLE app SET work_mem TO '1MB';\nCOMMENT ON ROLE app IS 'x';\nCOMMENT ON ROLE postgres IS 'y';\nGRANT postgres TO app GRANTED BY postgres;\nGRANT app TO postgres;\n\
                       CREATE TABLESPACE s OWNER app LOCATION '/x';\nGRANT SET ON PARAMETER app.x TO app WITH GRANT OPTION;\nGRANT CREATE ON \
                       TABLESPACE \"a b\" TO PUBLIC;\nGRANT SET ON PARAMETER a.b TO postgres GRANTED BY x;\n";
        let there = BTreeSet::from(["postgres".to_owned()]);
        let Absent { roles, statements: text, rights } = for_absent(globals.as_bytes(), &there).unwrap();
        assert_eq!(rights, ["GRANT SET ON PARAMETER app.x TO app WITH GRANT OPTION;"]);
        let now = "GRANT CREATE ON TABLESPACE \"a b\" TO PUBLIC;\n";
        assert_eq!(
            lacking(globals.as_bytes(), now.as_bytes()).unwrap(),
            ["GRANT SET ON PARAMETER a.b TO postgres;", rights[0].as_str()]
        );
        assert_eq!(roles.into_iter().collect::<Vec<_>>(), ["a \"b", "app"]);
        assert_eq!(
            text,
            "CREATE ROLE app;\nALTER ROLE app WITH LOGIN PASSWORD 'a;CREATE ROLE x;';\nCREATE ROLE \"a \"\"b\";\nALTER ROLE app SET \
             work_mem TO '1MB';\nCOMMENT ON ROLE app IS 'x';\nGRANT postgres TO app;\n"
        );
        assert!(for_absent(b"CREATE ROLE a \\! x\n;", &there).is_err());
    }
}
