//! Fingerprint of a database after a restore, to detect later changes.

use super::grants::OF_USERS;
use super::server::{PostgresqlServer, literal};
use crate::id::Hasher;
use crate::source::Error;
use crate::source::objects::Objects;

/// How many tables one question asks for.
const AT_ONCE: usize = 200;

/// Notes all that a dump of `database` would show: its definitions, settings and rights as the dump program writes them,
/// each table's rows by the transactions that wrote them, values of sequences, and large objects.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't answer.
pub fn note(server: &PostgresqlServer, database: &str, all: &mut Objects) -> Result<(), Error> {
    let mut hasher = Hasher::new();
    for line in server.definitions(database)?.split_inclusive(|byte| *byte == b'\n') {
        // These words are others each time.
        if !line.starts_with(b"\\restrict ") && !line.starts_with(b"\\unrestrict ") {
            hasher.update(line);
        }
    }
    let hash: String = hasher.finish_short().iter().map(|byte| format!("{byte:02x}")).collect();
    all.note(format!("definitions of {database}"), &hash);
    let question = format!(
        "SELECT format('%I.%I', n.nspname, c.relname), c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE \
         {OF_USERS} AND c.relkind IN ('r', 'm', 'S') ORDER BY 1"
    );
    let relations = server.ask(database, &question)?;
    let of = |row: &Vec<String>| match row.as_slice() {
        [name, kind] if kind == "S" => Some(format!("SELECT {}, last_value, is_called FROM {name}", literal(name))),
        // A row that was changed was written by another transaction.
        [name, _] => Some(format!(
            "SELECT {}, count(*), sum(hashtext(xmin::text || ctid::text)::bigint) FROM ONLY {name}",
            literal(name)
        )),
        _ => None,
    };
    let questions: Vec<String> = relations.iter().filter_map(of).collect();
    for some in questions.chunks(AT_ONCE) {
        for row in server.ask(database, &some.join(";\n"))? {
            all.note(format!("rows of {database}"), &row.join(" "));
        }
    }
    // Only a superuser may read the table of their parts.
    let large = match server.is_superuser {
        true => "SELECT count(*), sum(hashtext(xmin::text || ctid::text)::bigint) FROM pg_largeobject",
        false => "SELECT count(*), sum(hashtext(oid || ' ' || md5(lo_get(oid)))::bigint) FROM pg_largeobject_metadata",
    };
    for row in server.ask(database, large)? {
        all.note(format!("large objects of {database}"), &row.join(" "));
    }
    Ok(())
}
