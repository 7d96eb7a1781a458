//! Values that a dump can't represent exactly: it is text, in one character set, with as many digits as the server prints.
//!
//! The columns that may be affected are few, and their rows are queried: a warning is given only if a value would really
//! be restored as another one.

use std::collections::HashMap;

use super::names::{SHOWN, listed, literal, quoted, shown};
use super::server::MysqlServer;
use super::sessions::LOADS;
use super::sql::charset::Charset;
use super::table::MysqlTable;
use crate::source::Error;
use crate::warning::{Warning, WarningKind};

/// Types that have no empty value, and get one where a column is added to rows that are there.
const SPATIAL: [&str; 8] = [
    "geometry",
    "geometrycollection",
    "linestring",
    "multilinestring",
    "multipoint",
    "multipolygon",
    "point",
    "polygon",
];

/// Whether a column has empty text among its members.
const EMPTY: &str = "(DATA_TYPE IN ('enum', 'set') AND (COLUMN_TYPE LIKE '%('''',%' OR COLUMN_TYPE LIKE '%('''')%' OR COLUMN_TYPE \
                     LIKE '%,'''',%' OR COLUMN_TYPE LIKE '%,'''')%'))";

/// Whether a column is computed and stored; the times of a versioned table aren't.
const COMPUTED: &str =
    "(EXTRA LIKE '%STORED GENERATED%' AND IFNULL(GENERATION_EXPRESSION, '') NOT IN ('', 'ROW START', 'ROW END'))";

/// Makes the session the one in which a restore computes columns.
fn restores() -> String {
    format!(
        "SET @own_mode=@@sql_mode, time_zone='+00:00', sql_mode='NO_AUTO_VALUE_ON_ZERO,{LOADS}', \
         div_precision_increment=DEFAULT"
    )
}

/// Restores its previous value.
const OWN: &str = "SET time_zone=@@GLOBAL.time_zone, sql_mode=@own_mode";

/// A column that is to be looked at.
struct Column {
    database: String,
    table: String,
    name: String,
    kind: String,
    /// Its character set; empty where it is no text.
    set: String,
    numbers_itself: bool,
    /// The expression of a stored generated column.
    computed: String,
    /// Its type with all that belongs to it: `datetime(6)`.
    whole_kind: String,
    /// Whether it is an ENUM or a SET with empty text among its members.
    has_empty: bool,
    /// Whether its table keeps the rows that were.
    has_history: bool,
}

impl Column {
    /// A condition on rows whose value is restored as another one; None if it isn't about rows.
    fn changes(&self) -> Option<String> {
        let name = quoted(&self.name);
        match (self.kind.as_str(), self.set.as_str()) {
            _ if self.numbers_itself => None,
            (kind, _) if !self.computed.is_empty() => {
                let computed = match kind {
                    "date" | "time" | "datetime" => format!("CAST({} AS {})", self.computed, self.whole_kind),
                    "timestamp" => {
                        format!("CAST({} AS {})", self.computed, self.whole_kind.replace("timestamp", "datetime"))
                    }
                    kind if kind.ends_with("int") => format!("ROUND({})", self.computed),
                    "decimal" => format!("CAST({} AS {})", self.computed, self.whole_kind),
                    "varchar" => {
                        let length = self.whole_kind.trim_start_matches("varchar");
                        let text = format!("CONVERT(CONCAT({}) USING {})", self.computed, self.set);
                        return Some(format!("NOT (BINARY {name} <=> BINARY LEFT({text}, {length}))"));
                    }
                    _ => self.computed.clone(),
                };
                Some(format!("NOT ({name} <=> ({computed}))"))
            }
            // A member that is empty text is written as no member is.
            ("enum", _) if self.has_empty => Some(format!("{name} + 0 = 0")),
            ("set", _) if self.has_empty => {
                Some(format!("FIND_IN_SET('', {name}) > 0 OR ({name} = '' AND {name} + 0 <> 0)"))
            }
            (kind, _) if SPATIAL.contains(&kind) => Some(format!("LENGTH({name}) = 0")),
            ("float", _) => Some(format!("CAST(CONCAT({name}) AS FLOAT) <> {name}")),
            (_, set) => Some(format!("BINARY CONVERT(CONVERT({name} USING utf8mb4) USING {set}) <> BINARY {name}")),
        }
    }
}

/// Warns of columns of `tables` whose values or definition a dump changes; of the tables `schema_only` no row is looked
/// at, and where `history` is dumped, too, each row that was. And of stored programs of `databases` whose texts it
/// changes.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't tell.
pub(super) fn warnings(
    server: &MysqlServer,
    databases: &[String],
    tables: &[MysqlTable],
    schema_only: &[String],
    history: bool,
) -> Result<Vec<Warning>, Error> {
    let (mut rounded, mut converted, mut nullable, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut empty, mut computed, mut members) = (Vec::new(), Vec::new(), Vec::new());
    for column in columns(server, tables)? {
        let name = shown(&[&column.database, &column.table, &column.name]);
        let Some(condition) = column.changes() else {
            nullable.push(name);
            continue;
        };
        if schema_only.contains(&format!("{}.{}", column.database, column.table)) {
            continue;
        }
        let all = if column.has_history && history { " FOR SYSTEM_TIME ALL" } else { "" };
        let question = format!(
            "SELECT 1 FROM {}.{}{all} WHERE {condition} LIMIT 1",
            quoted(&column.database),
            quoted(&column.table)
        );
        let is_computed = !column.computed.is_empty();
        let question = if is_computed { format!("{};\n{question};\n{OWN}", restores()) } else { question };
        match server.ask(&question) {
            Ok(rows) if rows.is_empty() => {}
            Ok(_) if is_computed => computed.push(name),
            Ok(_) if column.has_empty => members.push(name),
            Ok(_) if SPATIAL.contains(&column.kind.as_str()) => empty.push(name),
            Ok(_) if column.set.is_empty() => rounded.push(name),
            Ok(_) => converted.push(format!("{name} ({})", column.set)),
            // A table of another engine, or one that takes too long.
            Err(error) if error.is_failure() => unknown.push(name),
            Err(error) => return Err(error),
        }
    }
    let sentences = [
        (
            rounded,
            "FLOAT columns whose values are rounded to six digits in a dump, for the server shows no more (ALTER TABLE … MODIFY \
             … DOUBLE keeps them)",
        ),
        (
            converted,
            "columns with text that comes back as other bytes, for Unicode has no character of its own for each of theirs \
             (a VARBINARY or utf8mb4 column keeps what it holds)",
        ),
        (
            nullable,
            "AUTO_INCREMENT columns that may be NULL come back as NOT NULL, and a NULL as the next number, for the server's \
             own definition doesn't say so (ALTER TABLE … MODIFY … NOT NULL makes them plain)",
        ),
        (
            computed,
            "generated columns whose stored values come out otherwise when a restore computes them anew, for they depend on the \
             session that wrote them: its time zone (computed of a DATETIME column they don't), its sql_mode or its \
             div_precision_increment",
        ),
        (
            members,
            "ENUM and SET columns with empty text among their members, of which a dump doesn't tell a member from none",
        ),
        (
            programs(server, databases, &CHANGED, "NOT LIKE 'utf8%'")?,
            "stored programs that a client made whose character set isn't Unicode: an event's name, definer and comment, a \
             routine's comment and a trigger's definer come back in other letters, for the dump program writes them in UTF-8 and \
             says otherwise (made again after SET NAMES utf8mb4, they come back as they are)",
        ),
        (unknown, "columns of which it could not be told whether a dump holds their values exactly"),
    ];
    let empty = (
        empty,
        "columns of a spatial type with values that are empty, which the server has and takes from nobody, so a restore can't \
         load these tables (set a value in those rows)",
    );
    let unread = (
        programs(server, databases, &NAMED, &format!("IN ('{}')", Charset::UNKNOWN.join("', '")))?,
        "views and stored programs whose names a restore can't read and refuses, for a client made them whose character set it \
         doesn't know (made again after SET NAMES utf8mb4, they come back)",
    );
    let said = |kind: WarningKind, (names, what): (Vec<String>, &str)| {
        (!names.is_empty()).then(|| kind.warning(format!("{what}: {}", listed(&names, SHOWN))))
    };
    let inexact = sentences.into_iter().filter_map(|sentence| said(WarningKind::Inexact, sentence));
    let unrestorable = [empty, unread].into_iter().filter_map(|sentence| said(WarningKind::Unrestorable, sentence));
    Ok(inexact.chain(unrestorable).collect())
}

/// A catalogue of objects: the column of their database, their name, and a text of theirs. The column is the one by
/// which the server finds a database without examining all others.
type Texts = [(&'static str, &'static str, &'static str, &'static str)];

/// Objects that the dump program writes in UTF-8 and declares otherwise, as seen with MariaDB 10.11.
const CHANGED: [(&str, &str, &str, &str); 3] = [
    ("EVENTS", "EVENT_SCHEMA", "EVENT_NAME", "CONCAT(EVENT_NAME, DEFINER, EVENT_COMMENT)"),
    ("ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME", "ROUTINE_COMMENT"),
    ("TRIGGERS", "EVENT_OBJECT_SCHEMA", "TRIGGER_NAME", "DEFINER"),
];

/// The names that a restore reads.
const NAMED: [(&str, &str, &str, &str); 4] = [
    ("EVENTS", "EVENT_SCHEMA", "EVENT_NAME", "EVENT_NAME"),
    ("ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME", "ROUTINE_NAME"),
    ("TRIGGERS", "EVENT_OBJECT_SCHEMA", "TRIGGER_NAME", "CONCAT(TRIGGER_NAME, EVENT_OBJECT_TABLE)"),
    ("VIEWS", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_NAME"),
];

/// The stored programs with one of these texts beyond ASCII whose client had such a character set.
fn programs(server: &MysqlServer, databases: &[String], texts: &Texts, client: &str) -> Result<Vec<String>, Error> {
    let asked = |database: &String, (table, schema, name, texts): &(&str, &str, &str, &str)| {
        format!(
            "SELECT {schema}, {name} FROM information_schema.{table} WHERE {schema} = {} AND CHARACTER_SET_CLIENT {client} AND \
             LENGTH({texts}) <> CHAR_LENGTH({texts}) ORDER BY {name};\n",
            literal(database)
        )
    };
    let question = |database: &String| texts.iter().map(|text| asked(database, text)).collect::<String>();
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = server.ask(&databases.iter().map(question).collect::<String>())?;
    Ok(rows.iter().map(|row| shown(&row.iter().map(String::as_str).collect::<Vec<_>>())).collect())
}

fn columns(server: &MysqlServer, tables: &[MysqlTable]) -> Result<Vec<Column>, Error> {
    let mut databases: Vec<&String> = tables.iter().map(|table| &table.database).collect();
    databases.dedup();
    // latin1 has a character for each byte; the others are Unicode themselves.
    let question = |database: &&String| {
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, IFNULL(CHARACTER_SET_NAME, ''), \
             EXTRA LIKE '%auto_increment%', IF({COMPUTED}, GENERATION_EXPRESSION, ''), \
             {EMPTY}, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND \
             ({EMPTY} OR {COMPUTED} OR DATA_TYPE = 'timestamp' OR DATA_TYPE IN ('{}') OR (DATA_TYPE = 'float' AND EXTRA NOT LIKE '%GENERATED%') OR (EXTRA NOT LIKE '%GENERATED%' AND \
             CHARACTER_SET_NAME NOT IN ('utf8', 'utf8mb3', 'utf8mb4', 'latin1', 'binary')) OR \
             (EXTRA LIKE '%auto_increment%' AND IS_NULLABLE = 'YES')) ORDER BY TABLE_NAME, ORDINAL_POSITION;\n",
            literal(database),
            SPATIAL.join("', '")
        )
    };
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = server.ask(&databases.iter().map(question).collect::<String>())?;
    let by_name: HashMap<(&str, &str), &MysqlTable> =
        tables.iter().map(|table| ((table.database.as_str(), table.name.as_str()), table)).collect();
    let column = |row: Vec<String>| {
        let [database, table, name, kind, set, numbers, computed, empty, whole_kind] =
            <[String; 9]>::try_from(row).ok()?;
        let of = by_name.get(&(database.as_str(), table.as_str()))?;
        let has_history = of.kind == "SYSTEM VERSIONED";
        let numbers_itself = numbers == "1";
        (has_history || of.kind == "BASE TABLE").then_some(Column {
            database,
            table,
            name,
            kind,
            set,
            numbers_itself,
            computed,
            whole_kind,
            has_empty: empty == "1",
            has_history,
        })
    };
    let all: Vec<Column> = rows.into_iter().filter_map(column).collect();
    let is_moment = |column: &&Column| column.kind == "timestamp" && column.computed.is_empty();
    let moments: Vec<(String, String, String)> = all
        .iter()
        .filter(is_moment)
        .map(|column| (column.database.clone(), column.table.clone(), quoted(&column.name)))
        .collect();
    // A computed column depends on the session's time zone where it is of a moment, or of a function that makes one; on its
    // sql_mode where it is a day that may be read of a text, and on its precision where it divides.
    let is_asked = |column: &Column| {
        let of_moment = |(database, table, name): &(String, String, String)| {
            *database == column.database && *table == column.table && column.computed.contains(name)
        };
        let text = column.computed.to_ascii_lowercase();
        let by_zone = ["unix_timestamp(", "from_unixtime("].iter().any(|function| text.contains(function));
        match column.computed.is_empty() {
            true => column.kind != "timestamp",
            false => {
                let is_day = ["date", "datetime", "time"].contains(&column.kind.as_str());
                let divides = text.contains('/')
                    && (column.kind == "varchar" || column.kind == "decimal" && column.whole_kind.ends_with(')'));
                by_zone || is_day || divides || moments.iter().any(of_moment)
            }
        }
    };
    Ok(all.into_iter().filter(is_asked).collect())
}
