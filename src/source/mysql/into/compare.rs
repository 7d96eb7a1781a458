//! What was restored, compared with what it was: each definition as the server shows it now with that of the dump.

use super::MysqlTarget;
use super::define::Defined;
use super::filter::{Made, Object};
use crate::entry::Escaped;
use crate::source::Error;
use crate::source::mysql::names::quoted;
use crate::source::mysql::server::MysqlServer;
use crate::source::mysql::sql::charset::Charset;
use crate::source::mysql::sql::tokens::{ReadingConditions, TokenKind};
use crate::warning::{Warning, WarningKind};

/// How many objects one question asks for.
const AT_ONCE: usize = 200;
/// How many differences are named one by one.
const NAMED: usize = 20;

/// What was made: where, what, and by which text.
pub(super) struct Wanted<'w> {
    pub database: &'w str,
    pub made: &'w Made,
    pub text: &'w [u8],
}

/// What a server shows of an object.
struct ShownObject {
    text: String,
    mode: Option<String>,
    charset: Option<String>,
    collation: Option<String>,
}

impl MysqlTarget {
    /// A warning for each object that isn't what it was in the dump.
    pub(super) fn compare(&self, defined: &[Defined]) -> Result<Vec<Warning>, Error> {
        let tables = self.tables_made();
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        for (database, step) in &tables {
            let place = self.places.iter().find(|place| place.from == *database);
            if let (Some(place), Some(made)) = (place, &step.makes)
                && !self.has_failed(database, &made.object.name)
            {
                wanted.push(Wanted { database: &place.to, made, text: &step.text });
            }
        }
        wanted.extend(defined.iter().map(|one| Wanted {
            database: &one.place.to,
            made: &one.made,
            text: &one.step.text,
        }));
        let mut differences = Vec::new();
        for some in wanted.chunks(AT_ONCE) {
            let shown = match show(&self.server, some) {
                Ok(shown) => shown,
                // One that can't be shown must not hide the others.
                Err(_) => some.iter().map(|one| show(&self.server, std::slice::from_ref(one)).ok()?.pop()?).collect(),
            };
            for (one, shown) in some.iter().zip(shown) {
                if let Some(what) = difference(one, shown.as_ref()) {
                    differences.push(format!(
                        "the {} {} is not as it was: {what}",
                        one.made.object.kind.to_lowercase(),
                        Escaped(format!("{}.{}", one.database, one.made.object.name).as_bytes())
                    ));
                }
            }
        }
        let more = differences.len().saturating_sub(NAMED);
        differences.truncate(NAMED);
        if more > 0 {
            differences.push(format!("{more} more objects are not as they were"));
        }
        Ok(differences.into_iter().map(|text| WarningKind::NotAsItWas.warning(text)).collect())
    }
}

/// Asks for objects, and returns what is shown of each.
fn show(server: &MysqlServer, wanted: &[Wanted<'_>]) -> Result<Vec<Option<ShownObject>>, Error> {
    // A dump has times in this zone.
    let mut question = "SET time_zone='+00:00';\n".to_owned();
    for one in wanted {
        // In its own database the server shows names as a dump has them.
        question += &format!(
            "USE {};\nSHOW CREATE {} {};\n",
            quoted(one.database),
            one.made.object.kind,
            quoted(&one.made.object.name)
        );
    }
    let rows = server.ask(&format!("{question}SET time_zone=@@GLOBAL.time_zone"))?;
    if rows.len() != wanted.len() {
        return Err(Error::Failed(format!("the server showed {} of {} objects", rows.len(), wanted.len())));
    }
    Ok(wanted.iter().zip(rows).map(|(one, row)| shown(&one.made.object, &row)).collect())
}

fn shown(object: &Object, row: &[String]) -> Option<ShownObject> {
    let at = |column: Option<usize>| column.and_then(|column| row.get(column)).cloned();
    let (text, mode, charset) = match object.kind {
        "TABLE" | "SEQUENCE" => (1, None, None),
        "VIEW" => (1, None, Some(2)),
        "EVENT" => (3, Some(1), Some(4)),
        _ => (2, Some(1), Some(3)),
    };
    Some(ShownObject {
        text: row.get(text)?.clone(),
        mode: at(mode),
        charset: at(charset),
        collation: at(charset.map(|column| column + 1)),
    })
}

/// What is different, in a few words.
fn difference(wanted: &Wanted<'_>, shown: Option<&ShownObject>) -> Option<String> {
    let Some(shown) = shown else { return Some("it isn't there, or can't be shown".to_owned()) };
    let made = wanted.made;
    let pairs = [
        ("its sql_mode", Some(&made.mode), &shown.mode),
        ("its character set", Some(&made.charset), &shown.charset),
        ("its collation", Some(&made.collation).filter(|collation| !collation.is_empty()), &shown.collation),
    ];
    for (what, was, is) in pairs {
        if let (Some(was), Some(is)) = (was, is)
            && !was.eq_ignore_ascii_case(is)
        {
            return Some(format!("{what} was {}, and is {}", Escaped(was.as_bytes()), Escaped(is.as_bytes())));
        }
    }
    // In another character set the text itself is written otherwise.
    if made.reading.charset != Charset::Utf8 && !wanted.text.is_ascii() {
        return None;
    }
    let reading = made.reading;
    let (was, is) =
        (pieces(reading, made.object.kind, wanted.text)?, pieces(reading, made.object.kind, shown.text.as_bytes())?);
    if was == is {
        return None;
    }
    let at = was.iter().zip(&is).position(|(was, is)| was != is).unwrap_or(was.len().min(is.len()));
    let near = |pieces: &[Vec<u8>]| {
        let some: Vec<String> =
            pieces.iter().skip(at).take(6).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        Escaped(some.join(" ").chars().take(80).collect::<String>().as_bytes()).to_string()
    };
    Some(format!("the dump has “{}…”, and the server has “{}…”", near(&was), near(&is)))
}

/// The tokens of a definition, with the comments of stored code, and without a table's counter.
fn pieces(reading: ReadingConditions, kind: &str, text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let tokens = reading.tokens(text).ok()?;
    let mut pieces: Vec<Vec<u8>> = tokens
        .iter()
        .filter(|token| kind != "TABLE" || token.kind != TokenKind::Comment)
        .filter_map(|token| Some(text.get(token.at.start..token.at.end.min(text.len()))?.trim_ascii().to_vec()))
        .collect();
    if kind == "TABLE"
        && let Some(at) = pieces.windows(2).position(|pair| pair[0] == b"AUTO_INCREMENT" && pair[1] == b"=")
    {
        pieces.drain(at..(at + 3).min(pieces.len()));
    }
    // A collation says its character set, and a server may say that once more.
    let says_twice = |five: &[Vec<u8>]| match five {
        [character, set, name, collate, collation] => {
            let (name, collation) = (name.to_ascii_lowercase(), collation.to_ascii_lowercase());
            let is_its_own = collation.strip_prefix(name.as_slice()).is_some_and(|rest| rest.starts_with(b"_"));
            character == b"CHARACTER" && set == b"SET" && collate == b"COLLATE" && is_its_own
        }
        _ => false,
    };
    while kind == "TABLE"
        && let Some(at) = pieces.windows(5).position(says_twice)
    {
        pieces.drain(at..at + 3);
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mysql::sql::session::SqlSession;

    fn differs(kind: &'static str, was: &str, is: &str) -> Option<String> {
        let reading = SqlSession::new(101_119, true).reading;
        let made = Made {
            object: Object { kind, name: "x".into() },
            reading,
            mode: String::new(),
            charset: "utf8mb4".into(),
            collation: String::new(),
        };
        let wanted = Wanted { database: "shop", made: &made, text: was.as_bytes() };
        difference(&wanted, Some(&ShownObject { text: is.into(), mode: None, charset: None, collation: None }))
    }

    #[test]
    fn a_definition_is_the_same_in_the_dump_and_on_the_server() {
        let was = "/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t BEFORE INSERT ON t FOR EACH ROW set @a=1 -- why\n*/";
        let is = "CREATE DEFINER=`a`@`b` TRIGGER t BEFORE INSERT ON t FOR EACH ROW set @a=1 -- why";
        assert_eq!(differs("TRIGGER", was, is), None);
        assert!(differs("TRIGGER", was, &is.replace(" -- why", "")).is_some());
        let table = "CREATE TABLE `x` (`a` int) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=latin1";
        assert_eq!(differs("TABLE", table, &table.replace("=7", "=9")), None);
        let text = "CREATE TABLE `x` (`a` text COLLATE utf8mb4_bin)";
        assert_eq!(differs("TABLE", text, &text.replace("COLLATE", "CHARACTER SET utf8mb4 COLLATE")), None);
        assert!(differs("TABLE", text, &text.replace("COLLATE", "CHARACTER SET utf8mb3 COLLATE")).is_some());
        assert!(differs("TABLE", &table.replace("InnoDB", "ARCHIVE"), table).unwrap().contains("ARCHIVE"));
    }
}
