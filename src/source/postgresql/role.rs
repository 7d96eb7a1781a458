//! The role that loads a dump: it owns the objects that it loads, and may do nothing else.
//!
//! A dump's functions run while it is loaded: by a `CHECK`, a domain, an index, a generated column, a materialized view.
//! They would run with the rights of an administrator who loads it; and a session of his that takes on another role
//! leaves it again by `RESET`. So each database is loaded by a role of its own, which logs in by itself and is dropped
//! at the end.

use super::login::Login;
use super::said::INSUFFICIENT_PRIVILEGE;
use super::server::{PostgresqlServer, literal, quoted, runs_here};
use super::session::{PsqlSession, unknown_word};
use crate::source::Error;
use crate::source::command::apart::Apart;

/// The prefix of these roles' names.
pub const PREFIX: &str = "varu_restore_";

/// The name of the role number `number` of the restore of the time `stamp`.
pub fn name(stamp: &str, number: usize) -> String {
    format!("{PREFIX}{}_{number}", stamp.to_lowercase())
}

/// Makes a role, and tries that it can log in.
///
/// # Errors
/// [`Error::Refused`] if the server lets it log in nowhere, with what would let it.
pub fn make(server: &PostgresqlServer, common: &str, role: String) -> Result<Login, Error> {
    let password = unknown_word()?;
    let made = format!(
        "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS PASSWORD {}",
        quoted(&role),
        literal(&password)
    );
    server.ask(common, &made)?;
    grant_tablespaces(server, common, &role)?;
    let mut login = Login { role, password, at: None, apart: None };
    let mut why = Vec::new();
    let started = server.value(common, STARTED)?;
    for at in places(server, common)? {
        login.at = at;
        for apart in aparts(server) {
            login.apart = Some(apart);
            if logs_in_apart(server, common, &login, &started) {
                return Ok(login);
            }
        }
        login.apart = None;
        match PsqlSession::start(server, common, Some(&login)) {
            Ok(session) => {
                session.finish()?;
                return Ok(login);
            }
            // The login was accepted; only this database refuses it, and it will own another one.
            Err(error) if error.has_code(INSUFFICIENT_PRIVILEGE) => return Ok(login),
            Err(error) if error.is_failure() => why.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    remove(server, common, &login.role)?;
    Err(Error::Refused(format!(
        "a dump's functions are run while it is loaded, so a role that owns nothing else loads it; but the server lets it log in \
         neither where the account does nor at 127.0.0.1: have a line \"host all all 127.0.0.1/32 scram-sha-256\" in pg_hba.conf and \
         listen_addresses = 'localhost' (both are Debian's), or, where nobody but administrators may make objects in these \
         databases, restore_as_superuser = true in the set; tried: {}",
        why.join("; ")
    )))
}

/// Objects of a tablespace are created there again, so the role may use every existing tablespace. If the account may
/// not grant that, the load reports the tablespaces that it lacks.
fn grant_tablespaces(server: &PostgresqlServer, common: &str, role: &str) -> Result<(), Error> {
    let own = "SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_global', 'pg_default')";
    let mut there = server.names(common, own)?;
    if there.is_empty() {
        return Ok(());
    }
    // A database may be in another tablespace than this.
    there.push("pg_default".to_owned());
    for tablespace in there {
        let grant = format!("GRANT CREATE ON TABLESPACE {} TO {}", quoted(&tablespace), quoted(role));
        match server.ask(common, &grant) {
            Err(error) if !error.is_failure() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The statements that drop such a role, with its privileges on cluster-wide objects.
pub fn removed(role: &str) -> String {
    removal(role).join(" ")
}

fn removal(role: &str) -> [String; 2] {
    [format!("DROP OWNED BY {};", quoted(role)), format!("DROP ROLE {};", quoted(role))]
}

/// Takes a role away that owns no database any more.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer, or something is still its own elsewhere.
pub fn remove(server: &PostgresqlServer, common: &str, role: &str) -> Result<(), Error> {
    let [owned, role] = removal(role);
    // An account that isn't a superuser may not, and could give it no right to be removed.
    let _ = server.ask(common, &owned);
    server.ask(common, &role).map(drop)
}

/// Which server it is: where a role logs in there may be a copy of this one, which has it, too.
const STARTED: &str =
    "SELECT pg_catalog.pg_is_in_recovery()::text || extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text";

/// The ways in which a client that logs in by a password may be unprivileged, the strictest first. Certificates in a
/// home of ours may say whom to trust, and it has no home.
fn aparts(server: &PostgresqlServer) -> Vec<Apart> {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    let possible = runs_here(&server.options.exec) && !home.join(".postgresql").exists();
    Apart::new().filter(|_| possible).map_or_else(Vec::new, |apart| vec![apart.without_network(), apart])
}

fn logs_in_apart(server: &PostgresqlServer, common: &str, login: &Login, started: &str) -> bool {
    let started_there = || {
        let mut session = PsqlSession::start(server, common, Some(login))?;
        session.write(format!("{STARTED};\n").as_bytes())?;
        let (answer, _) = session.settle()?;
        session.finish().map(|()| answer)
    };
    started_there().is_ok_and(|answer: String| answer.trim_end() == started)
}

/// Where a role may log in: where the account does, and by the network of the server's own machine.
fn places(server: &PostgresqlServer, common: &str) -> Result<Vec<Option<(String, String)>>, Error> {
    let mut places = vec![None];
    if server.options.host.is_none() {
        let port = server.value(common, "SHOW port")?;
        places.extend(["127.0.0.1", "::1"].map(|host| Some((host.to_owned(), port.clone()))));
    }
    Ok(places)
}

/// Ends all sessions of a role, and lets it make no new ones.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn shut_out(server: &PostgresqlServer, common: &str, role: &str) -> Result<(), Error> {
    let end = format!(
        "ALTER ROLE {} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}",
        quoted(role),
        literal(role)
    );
    server.ask(common, &end).map(drop)
}

/// Drops the roles that interrupted restores left: those that own nothing and that nobody uses.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn sweep(server: &PostgresqlServer, common: &str) -> Result<(), Error> {
    let left = format!(
        "SELECT rolname FROM pg_roles r WHERE starts_with(rolname, {}) AND NOT EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid \
         = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o') AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usename = \
         r.rolname)",
        literal(PREFIX)
    );
    for role in server.names(common, &left)? {
        // Another restore may have begun to use it.
        let _ = remove(server, common, &role);
    }
    Ok(())
}

/// The roles that code must not be run as: their rights reach beyond the objects that they own.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn mighty(server: &PostgresqlServer, common: &str) -> Result<Vec<String>, Error> {
    let question = "SELECT rolname FROM pg_roles r WHERE rolsuper OR rolcreaterole OR rolreplication OR EXISTS (SELECT FROM pg_roles p \
                    WHERE p.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') AND \
                    pg_has_role(r.oid, p.oid, 'MEMBER'))";
    server.names(common, question)
}
