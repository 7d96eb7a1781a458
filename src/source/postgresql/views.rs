//! Contents of materialized views: a dump has only their definitions, and a load refreshes them.

use super::grants::OF_USERS;
use super::server::PostgresqlServer;
use crate::entry::Escaped;
use crate::source::Error;

/// How many rows each filled materialized view of `database` has, and a sum over their texts, by its name as a dump
/// writes it. None that the account may not read, and none of `exclude`.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn filled(server: &PostgresqlServer, database: &str, exclude: &[String]) -> Result<Vec<(String, String)>, Error> {
    let question = format!(
        "SELECT format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = \
         c.relnamespace WHERE {OF_USERS} AND c.relkind = 'm' AND c.relispopulated AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1"
    );
    let mut found = Vec::new();
    for row in server.ask(database, &question)? {
        let [name, plain] = row.as_slice() else { continue };
        if exclude.contains(plain) {
            continue;
        }
        // A type's own output, and no cast: a cast to text may be somebody's function.
        let rows = format!(
            "SELECT count(*) || ' ' || coalesce(sum(('x' || substr(md5(textin(record_out(r))), 1, 15))::bit(60)::bigint), 0) FROM ONLY \
             {name} AS r"
        );
        match server.value(database, &rows) {
            Ok(rows) => found.push((name.clone(), rows)),
            // Whose rows can't be read is filled all the same.
            Err(error) if error.is_failure() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Differences of the materialized views of `database` from their recorded contents, a sentence each.
///
/// # Errors
/// As [`filled`].
pub fn against(server: &PostgresqlServer, database: &str, were: &[(String, String)]) -> Result<Vec<String>, Error> {
    if were.is_empty() {
        return Ok(Vec::new());
    }
    let are = filled(server, database, &[])?;
    let count = |rows: &str| rows.split(' ').next().unwrap_or_default().to_owned();
    let differs = |(name, was): &(String, String)| {
        let (_, is) = are.iter().find(|(other, is)| other == name && is != was)?;
        Some(format!(
            "the materialized view {} was filled anew, and has other rows than at the backup: {} then, and {} now; it hadn't been \
             refreshed since what it reads changed, or what it computes depends on when or by whom",
            Escaped(name.as_bytes()),
            count(was),
            count(is)
        ))
    };
    Ok(were.iter().filter_map(differs).collect())
}
