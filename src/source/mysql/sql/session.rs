//! Tracking of the session variables that a dump sets, since they change how later text is read.

use std::collections::HashMap;

use super::charset::Charset;
use super::tokens::{ReadingConditions, SqlToken, TokenCursor, TokenKind};

/// Variables of a session that a dump sets. Any other is no part of a dump.
const VARIABLES: [&str; 18] = [
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "check_constraint_checks",
    "collation_connection",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "foreign_key_checks",
    "innodb_strict_mode",
    "note_verbosity",
    "show_create_table_verbosity",
    "sql_mode",
    "sql_notes",
    "system_versioning_insert_history",
    "time_zone",
    "timestamp",
    "unique_checks",
];

/// Modes that quote names with `"`.
const QUOTE_NAMES: [&str; 7] = ["ANSI_QUOTES", "ANSI", "ORACLE", "MSSQL", "DB2", "MAXDB", "POSTGRESQL"];

/// Modes that a dump may set. A number, or another word, is no part of a dump: its meaning to the server isn't known.
const MODES: [&str; 37] = [
    "ALLOW_INVALID_DATES",
    "ANSI",
    "ANSI_QUOTES",
    "DB2",
    "EMPTY_STRING_IS_NULL",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "HIGH_NOT_PRECEDENCE",
    "IGNORE_BAD_TABLE_OPTIONS",
    "IGNORE_SPACE",
    "MAXDB",
    "MSSQL",
    "MYSQL323",
    "MYSQL40",
    "NO_AUTO_CREATE_USER",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_BACKSLASH_ESCAPES",
    "NO_DIR_IN_CREATE",
    "NO_ENGINE_SUBSTITUTION",
    "NO_FIELD_OPTIONS",
    "NO_KEY_OPTIONS",
    "NO_TABLE_OPTIONS",
    "NO_UNSIGNED_SUBTRACTION",
    "NO_ZERO_DATE",
    "NO_ZERO_IN_DATE",
    "NOT_USED",
    "ONLY_FULL_GROUP_BY",
    "ORACLE",
    "PAD_CHAR_TO_FULL_LENGTH",
    "PIPES_AS_CONCAT",
    "POSTGRESQL",
    "REAL_AS_FLOAT",
    "SIMULTANEOUS_ASSIGNMENT",
    "STRICT_ALL_TABLES",
    "STRICT_TRANS_TABLES",
    "TIME_ROUND_FRACTIONAL",
    "TIME_TRUNCATE_FRACTIONAL",
    "TRADITIONAL",
];

/// A session as far as it matters to reading.
#[derive(Debug, Clone)]
pub(in crate::source::mysql) struct SqlSession {
    /// How text is read now.
    pub reading: ReadingConditions,
    /// The sql_mode.
    mode: String,
    /// Its character set.
    charset: String,
    /// Its collation.
    collation: String,
    /// Variables of the dump's own, and their values.
    saved: HashMap<String, String>,
}

impl SqlSession {
    /// One that has just begun, with `sql_mode` empty and its text in UTF-8.
    pub fn new(version: u32, mariadb: bool) -> Self {
        let reading =
            ReadingConditions { version, mariadb, quotes_names: false, plain_backslash: false, charset: Charset::Utf8 };
        Self {
            reading,
            mode: String::new(),
            charset: "utf8mb4".to_owned(),
            collation: String::new(),
            saved: HashMap::new(),
        }
    }

    /// The sql_mode that is set.
    pub fn mode(&self) -> &str {
        &self.mode
    }

    /// The character set of the client that is set.
    pub fn charset(&self) -> &str {
        &self.charset
    }

    /// The collation of the connection, where the dump has set one.
    pub fn collation(&self) -> &str {
        &self.collation
    }

    /// Follows a statement whose first word was `SET`. None if it sets anything that no dump sets.
    pub fn set(&mut self, cursor: &mut TokenCursor<'_>) -> Option<()> {
        // The server reads the values before it assigns the first, so one that was assigned here isn't read here.
        let mut assigned = Vec::new();
        loop {
            self.assign(cursor, &mut assigned)?;
            match cursor.is_end() {
                true => return Some(()),
                false if cursor.sign(b',') => {}
                false => return None,
            }
        }
    }

    fn assign(&mut self, cursor: &mut TokenCursor<'_>, assigned: &mut Vec<String>) -> Option<()> {
        if cursor.words(&["NAMES"]) {
            let name = value(cursor)?;
            if cursor.word("COLLATE") {
                value(cursor)?;
            }
            assigned.extend(["character_set_client", "collation_connection"].map(str::to_owned));
            return self.put("character_set_client", &name);
        }
        let own = match (cursor.sign(b'@'), cursor.sign(b'@')) {
            (true, true) => {
                if cursor.word("SESSION") && !cursor.sign(b'.') {
                    return None;
                }
                false
            }
            (true, false) => true,
            _ => {
                let _ = cursor.word("SESSION");
                false
            }
        };
        let name = if own { own_name(cursor)? } else { cursor.name()?.to_ascii_lowercase() };
        if !own && !VARIABLES.contains(&name.as_str()) {
            return None;
        }
        let _ = cursor.sign(b':');
        if !cursor.sign(b'=') {
            return None;
        }
        let value = self.value(cursor, assigned)?;
        assigned.push(if own { format!("@{name}") } else { name.clone() });
        match (own, value) {
            (true, Some(value)) => {
                self.saved.insert(name, value);
            }
            (true, None) => {
                self.saved.remove(&name);
            }
            (false, Some(value)) => self.put(&name, &value)?,
            // The value isn't known, so the following text can't be read.
            (false, None) if matches!(name.as_str(), "sql_mode" | "character_set_client") => return None,
            (false, None) => {}
        }
        Some(())
    }

    /// A literal, a variable of the dump's own, or one of the session. Some(None) is one that isn't followed.
    fn value(&self, cursor: &mut TokenCursor<'_>, assigned: &[String]) -> Option<Option<String>> {
        if !cursor.sign(b'@') {
            return value(cursor).map(Some);
        }
        if !cursor.sign(b'@') {
            let name = own_name(cursor)?;
            let is_old = !assigned.contains(&format!("@{name}"));
            return is_old.then(|| self.saved.get(&name).cloned());
        }
        if cursor.word("SESSION") && !cursor.sign(b'.') {
            return None;
        }
        let name = cursor.name()?.to_ascii_lowercase();
        if !VARIABLES.contains(&name.as_str()) || assigned.contains(&name) {
            return None;
        }
        Some(match name.as_str() {
            "sql_mode" => Some(self.mode.clone()),
            "character_set_client" => Some(self.charset.clone()),
            "collation_connection" => Some(self.collation.clone()),
            _ => None,
        })
    }

    /// None if the value's effect on the reading of text isn't known.
    fn put(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "sql_mode" => {
                let modes: Vec<String> = value.split(',').map(|mode| mode.trim().to_ascii_uppercase()).collect();
                if modes.iter().any(|mode| !mode.is_empty() && !MODES.contains(&mode.as_str())) {
                    return None;
                }
                self.mode = value.to_owned();
                self.reading.quotes_names = modes.iter().any(|mode| QUOTE_NAMES.contains(&mode.as_str()));
                self.reading.plain_backslash = modes.iter().any(|mode| mode == "NO_BACKSLASH_ESCAPES");
            }
            "character_set_client" => {
                self.reading.charset = Charset::named(value)?;
                self.charset = value.to_owned();
            }
            "collation_connection" => value.clone_into(&mut self.collation),
            _ => {}
        }
        Some(())
    }
}

/// The name of a variable of the dump's own. To a server é is e there, and a blank at the end is nothing.
fn own_name(cursor: &mut TokenCursor<'_>) -> Option<String> {
    let name = cursor.name()?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
    plain.then(|| name.to_ascii_lowercase())
}

/// A word, a number or a string without anything that has to be escaped.
fn value(cursor: &mut TokenCursor<'_>) -> Option<String> {
    let minus = if cursor.sign(b'-') { "-" } else { "" };
    let token: &SqlToken = cursor.take()?;
    let bytes = cursor.bytes(token);
    let text = match token.kind {
        TokenKind::Word => bytes,
        TokenKind::Text => bytes.get(1..bytes.len().checked_sub(1)?)?,
        _ => return None,
    };
    let plain = text
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\'' | b'"' | b'\\' | b'`') || *byte == b' ');
    // A fraction comes as three tokens.
    let mut text = plain.then(|| format!("{minus}{}", String::from_utf8_lossy(text)))?;
    if cursor.sign(b'.') {
        let part = cursor.take()?;
        text = format!("{text}.{}", String::from_utf8_lossy(cursor.bytes(part)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(session: &mut SqlSession, text: &str) -> bool {
        let tokens = session.reading.tokens(text.as_bytes()).unwrap();
        let mut cursor = TokenCursor::new(session.reading.charset, text.as_bytes(), &tokens);
        cursor.word("SET") && session.set(&mut cursor).is_some()
    }

    #[test]
    fn what_a_dump_sets_is_followed() {
        let mut session = SqlSession::new(101_119, true);
        assert!(set(&mut session, "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */"));
        assert!(set(&mut session, "/*!50003 SET @saved_sql_mode       = @@sql_mode */ "));
        assert!(set(&mut session, "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"));
        assert!(session.reading.quotes_names && session.reading.plain_backslash);
        assert!(set(&mut session, "SET sql_mode              = @saved_sql_mode"));
        assert!(!session.reading.quotes_names && session.mode() == "NO_AUTO_VALUE_ON_ZERO");
        assert!(set(&mut session, "SET NAMES cp932") && matches!(session.reading.charset, Charset::Pairs(_)));
        assert!(set(&mut session, "/*!50003 SET time_zone = '+03:00' */"));
        assert!(
            set(
                &mut session,
                "/*M!101100 SET @old=@@session.system_versioning_insert_history, @@session.system_versioning_insert_history=1 */"
            ) || session.reading.version < 101_100
        );
        assert!(set(&mut session, "SET character_set_client = utf8mb4") && session.reading.charset == Charset::Utf8);
    }

    #[test]
    fn what_no_dump_sets_is_refused() {
        for text in [
            "SET GLOBAL sql_mode = ''",
            "SET @@GLOBAL.general_log = 1",
            "SET PERSIST sql_mode = ''",
            "SET PASSWORD = 'x'",
            "SET sql_log_bin = 0",
            "SET @x = (SELECT 1)",
            "SET @x = f(1)",
            "SET sql_mode = @unknown",
            "SET sql_mode = CONCAT('a', 'b')",
            "SET ROLE admin",
            "SET DEFAULT ROLE x",
            "SET STATEMENT sql_mode='' FOR DROP DATABASE x",
            "SET time_zone = '+00:00' DROP",
            "SET init_connect = 'x'",
            "SET sql_mode = 1048576",
            "SET sql_mode = 0x4E4F5F4241434B534C4153485F45534341504553",
            "SET sql_mode = DEFAULT",
            "SET @x = 4, sql_mode = 'ANSI', sql_mode = 4",
            "SET character_set_client = 28",
            "SET character_set_client = DEFAULT",
            "SET NAMES DEFAULT",
            "SET NAMES utf16",
            "SET @a = '', sql_mode = @a",
            "SET sql_mode = '', @a = @@sql_mode",
            "SET NAMES gbk, @a = @@character_set_client",
            "SET @é = ''",
            "SET @`e ` = ''",
        ] {
            assert!(!set(&mut SqlSession::new(101_119, true), text), "{text}");
        }
    }
}
