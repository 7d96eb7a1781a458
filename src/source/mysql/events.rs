//! Events at which the dump program would never end.
//!
//! It looks for a delimiter that an event's statement doesn't hold, begins with `;;`, and where that is in the statement
//! it looks for ever, with a core at 100 % and its locks on the tables. Such a set's events are dumped here instead, in
//! the same form.

use super::names::{DumpPart, literal, quoted};
use super::server::MysqlServer;
use crate::source::Error;

/// The delimiter that the dump program begins with.
const DELIMITER: &str = ";;";

/// An event as the server shows it.
struct Event {
    database: String,
    name: String,
    mode: String,
    zone: String,
    statement: Vec<u8>,
    /// The client's character set, the connection's collation and the database's.
    client: String,
    connection: String,
    collation: String,
}

/// Parts of a dump, each with its statements.
type Streams = Vec<(DumpPart, Vec<u8>)>;

/// The streams of the events of `databases`, where the dump program would not end with them; none where it would.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't tell.
pub(super) fn streams(server: &MysqlServer, databases: &[String]) -> Result<Option<Streams>, Error> {
    let events = events(server, databases)?;
    if !events.iter().any(|event| holds(&event.statement, DELIMITER)) {
        return Ok(None);
    }
    let mut streams = Vec::new();
    for database in databases {
        let own: Vec<&Event> = events.iter().filter(|event| event.database == *database).collect();
        if own.is_empty() {
            continue;
        }
        let name = quoted(database);
        let chosen = format!("\n--\n-- Current Database: {name}\n--\n\nUSE {name};\n");
        streams.push((DumpPart::Use(database.clone()), chosen.into_bytes()));
        let collation = format!(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
            literal(database)
        );
        streams.push((DumpPart::Events(database.clone()), dumped(database, &server.value(&collation)?, &own)));
    }
    Ok(Some(streams))
}

/// A dump with these streams before its end.
pub(super) fn within(mut dump: Vec<u8>, streams: Vec<(DumpPart, Vec<u8>)>) -> Vec<u8> {
    let end = memchr::memmem::rfind(&dump, b"\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE").unwrap_or(dump.len());
    let tail = dump.split_off(end);
    dump.extend(streams.into_iter().flat_map(|(_, bytes)| bytes).chain(tail));
    dump
}

fn holds(text: &[u8], part: &str) -> bool {
    memchr::memmem::find(text, part.as_bytes()).is_some()
}

fn events(server: &MysqlServer, databases: &[String]) -> Result<Vec<Event>, Error> {
    let list = |database: &String| {
        let name = literal(database);
        format!(
            "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name} ORDER BY EVENT_NAME;\n"
        )
    };
    let rows = server.ask(&databases.iter().map(list).collect::<String>())?;
    let names: Vec<(String, String)> = rows
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .map(|[database, name]| (database, name))
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let show =
        |(database, name): &(String, String)| format!("SHOW CREATE EVENT {}.{};\n", quoted(database), quoted(name));
    // Each statement comes in its original bytes, whose character set the dump declares.
    let question = format!(
        "SET character_set_results = binary;\n{}SET character_set_results = utf8mb4",
        names.iter().map(show).collect::<String>()
    );
    let rows = server.ask_bytes(&question)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let event = |((database, name), row): ((String, String), Vec<Vec<u8>>)| {
        let [_, mode, zone, statement, client, connection, collation] = <[Vec<u8>; 7]>::try_from(row).ok()?;
        let [mode, zone, client, connection, collation] =
            [mode, zone, client, connection, collation].map(|column| text(&column));
        Some(Event { database, name, mode, zone, statement, client, connection, collation })
    };
    let count = names.len();
    let events: Vec<Event> = names.into_iter().zip(rows).filter_map(event).collect();
    match events.len() == count {
        true => Ok(events),
        false => Err(Error::Changed(format!("the server described {} of {count} events", events.len()))),
    }
}

/// The shortest row of semicolons that a statement doesn't hold.
fn delimiter(statement: &[u8]) -> String {
    let mut delimiter = DELIMITER.to_owned();
    while holds(statement, &delimiter) {
        delimiter.push(';');
    }
    delimiter
}

/// The events of one database, whose collation is `now`, as the dump program writes them.
fn dumped(database: &str, now: &str, events: &[&Event]) -> Vec<u8> {
    let mut out = format!(
        "\n--\n-- Dumping events for database '{}'\n--\n/*!50106 SET @save_time_zone= @@TIME_ZONE */ ;\n",
        database.replace('\n', "\n-- ")
    )
    .into_bytes();
    for event in events {
        let end = delimiter(&event.statement);
        let settings = [
            ("@saved_cs_client     ", "@@character_set_client".to_owned()),
            ("@saved_cs_results    ", "@@character_set_results".to_owned()),
            ("@saved_col_connection", "@@collation_connection".to_owned()),
            ("character_set_client ", event.client.clone()),
            ("character_set_results", event.client.clone()),
            ("collation_connection ", event.connection.clone()),
            ("@saved_sql_mode      ", "@@sql_mode".to_owned()),
            ("sql_mode             ", format!("'{}'", event.mode)),
            ("@saved_time_zone     ", "@@time_zone".to_owned()),
            ("time_zone            ", format!("'{}'", event.zone)),
        ];
        let back = [
            ("time_zone            ", "@saved_time_zone"),
            ("sql_mode             ", "@saved_sql_mode"),
            ("character_set_client ", "@saved_cs_client"),
            ("character_set_results", "@saved_cs_results"),
            ("collation_connection ", "@saved_col_connection"),
        ];
        out.extend(format!("/*!50106 DROP EVENT IF EXISTS {} */;\nDELIMITER {end}\n", quoted(&event.name)).bytes());
        let alter = |collation: &str| {
            let set = collation.split('_').next().unwrap_or_default();
            format!("ALTER DATABASE {} CHARACTER SET {set} COLLATE {collation} {end}\n", quoted(database))
        };
        let is_other = event.collation != now;
        if is_other {
            out.extend(alter(&event.collation).bytes());
        }
        for (name, value) in settings {
            out.extend(format!("/*!50003 SET {name} = {value} */ {end}\n").bytes());
        }
        out.extend(&event.statement);
        // On a line of its own, for the statement may end with a comment.
        out.extend(format!("\n{end}\n").bytes());
        for (name, value) in back {
            out.extend(format!("/*!50003 SET {name} = {value} */ {end}\n").bytes());
        }
        if is_other {
            out.extend(alter(now).bytes());
        }
        out.extend(b"DELIMITER ;\n");
    }
    out.extend(b"/*!50106 SET TIME_ZONE= @save_time_zone */ ;\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_no_part_of_its_statement() {
        assert_eq!(delimiter(b"DO SELECT 1"), ";;");
        assert_eq!(delimiter(b"DO SELECT ';;'"), ";;;");
        assert_eq!(delimiter(b"DO SELECT ';;;;;'"), ";;;;;;");
    }
}
