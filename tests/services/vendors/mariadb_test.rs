//! The statements of the vendor's test files, for a server on which their objects stay.

use std::path::{Path, PathBuf};

const FOLDER: &str = "/usr/share/mysql/mysql-test";

/// The beginnings of statements that create or fill an object.
const KEPT: [&str; 10] = ["CREATE", "INSERT", "REPLACE", "ALTER", "UPDATE", "DELETE", "SET", "GRANT", "LOAD", "RENAME"];
/// Words that a statement must not have: it would reach beyond its own database, or wait, or change the accounts of the
/// tests.
const WITHOUT: [&str; 25] = [
    "GLOBAL",
    "MYSQL.",
    "`MYSQL`",
    "PASSWORD",
    "ROOT",
    "CURRENT_USER",
    "ALTER USER",
    "USER()",
    "SET ROLE",
    "SET TRANSACTION",
    "INFORMATION_SCHEMA",
    "PERFORMANCE_SCHEMA",
    "SLEEP",
    "GET_LOCK",
    "BENCHMARK",
    "CREATE DATABASE",
    "CREATE SCHEMA",
    "ALTER DATABASE",
    "ALTER SCHEMA",
    "CREATE SERVER",
    "CREATE TEMPORARY",
    "DEBUG",
    "CREATE OR REPLACE DATABASE",
    "MAX_STATEMENT_TIME",
    "OUTFILE",
];

/// A file's statements, which are run in a database of its own.
pub struct Test {
    pub database: String,
    pub statements: Vec<Vec<u8>>,
}

/// The test files of these suites (`main`, `suite/vcol`), in the order of their names. None, with a word why, where they
/// aren't installed.
pub fn files(suites: &[&str]) -> Option<Vec<PathBuf>> {
    if !Path::new(FOLDER).is_dir() {
        eprintln!("skipped: mariadb-test is not installed");
        return None;
    }
    let mut found = Vec::new();
    for suite in suites {
        let folder = Path::new(FOLDER).join(suite);
        let folder = if folder.join("t").is_dir() { folder.join("t") } else { folder };
        let files = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path| path.extension().is_some_and(|end| end == "test")));
    }
    found.sort();
    Some(found)
}

/// The folder of the data that tests load.
pub fn data() -> PathBuf {
    Path::new(FOLDER).join("std_data")
}

impl Test {
    pub fn read(path: &Path, number: usize) -> Self {
        let stem: String = path.file_stem().unwrap().to_string_lossy().chars().take(40).collect();
        let database = format!("{stem}_{number}");
        let text = std::fs::read(path).unwrap();
        let own = format!("`{database}`.");
        let has_views = memchr::memmem::find(&text.to_ascii_uppercase(), b" VIEW ").is_some();
        let mut kept = Vec::new();
        for (number, statement) in statements(&text).into_iter().enumerate() {
            match is_kept(&statement) {
                true => kept.push(in_own_database(&statement, &own)),
                // A view would lose its tables.
                false if !has_views => kept.extend(moved_away(&statement, number)),
                false => {}
            }
        }
        Self { database, statements: kept }
    }

    /// The input of a client. A statement is passed as its bytes in hexadecimal: the client interprets none.
    pub fn script(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut script = format!(
            "CREATE DATABASE `{0}` CHARACTER SET latin1;\nUSE `{0}`;\nSET NAMES latin1, max_statement_time = 3;\n",
            self.database
        );
        for statement in &self.statements {
            script += &format!("EXECUTE IMMEDIATE 0x{};\n", hex(statement));
        }
        script
    }
}

fn word(line: &[u8]) -> String {
    let end = line.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(line.len());
    String::from_utf8_lossy(&line[..end]).to_ascii_uppercase()
}

/// A test's statements: commands of the test program and its blocks are left out.
fn statements(text: &[u8]) -> Vec<Vec<u8>> {
    let mut delimiter = b";".to_vec();
    let (mut found, mut current) = (Vec::new(), Vec::new());
    let mut lines = text.split(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        let plain = line.trim_ascii();
        if current.is_empty() {
            let command = plain.strip_prefix(b"--").map(|rest| word(rest.trim_ascii_start()));
            let first = command.clone().unwrap_or_else(|| word(plain));
            if first == "DELIMITER" {
                let at = plain.to_ascii_uppercase().windows(9).position(|some| some == b"DELIMITER").unwrap_or(0) + 9;
                let rest = plain[at..].trim_ascii();
                let rest = if command.is_none() { rest.strip_suffix(&delimiter[..]).unwrap_or(rest) } else { rest };
                delimiter = rest.trim_ascii().to_vec();
                continue;
            }
            // A text that lasts up to its own end.
            if matches!(first.as_str(), "PERL" | "WRITE_FILE" | "APPEND_FILE") {
                let end = plain.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                let end = end.strip_suffix(b";").unwrap_or(end);
                let end = if end.len() > 2 && end.iter().all(u8::is_ascii_uppercase) { end } else { b"EOF" };
                lines.by_ref().take_while(|line| line.trim_ascii() != end).for_each(drop);
                continue;
            }
            let is_block = matches!(first.as_str(), "WHILE" | "IF") || matches!(plain, b"{" | b"}");
            if command.is_some() || is_block || plain.is_empty() || plain.starts_with(b"#") {
                continue;
            }
        }
        current.extend_from_slice(line);
        current.push(b'\n');
        // Text after the end is useless.
        if !delimiter.is_empty() && line.trim_ascii_end().ends_with(&delimiter) {
            let end = current.trim_ascii_end().len() - delimiter.len();
            current.truncate(end);
            let whole = std::mem::take(&mut current);
            match delimiter == b";" {
                // Several in a line.
                true if !whole.contains(&b'\n') => found.extend(apart(&whole)),
                _ => found.push(whole),
            }
        }
    }
    found
}

/// The statements of one line, if none of its texts has their end in it.
fn apart(line: &[u8]) -> Vec<Vec<u8>> {
    match line.iter().any(|byte| matches!(byte, b'\'' | b'"' | b'`' | b'#')) {
        true => vec![line.to_vec()],
        false => line.split(|byte| *byte == b';').map(|some| some.trim_ascii().to_vec()).collect(),
    }
}

fn is_kept(statement: &[u8]) -> bool {
    let upper = statement.to_ascii_uppercase();
    let has = |word: &str| memchr::memmem::find(&upper, word.as_bytes()).is_some();
    // A variable of the test program.
    let is_filled_in = memchr::memchr(b'$', statement).is_some();
    KEPT.contains(&word(statement.trim_ascii_start()).as_str())
        && !is_filled_in
        && !WITHOUT.iter().any(|word| has(word))
}

/// Statements that give tables other names instead of dropping them, so that others may have theirs.
fn moved_away(statement: &[u8], number: usize) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(statement);
    let mut words = text.split_whitespace().skip_while(|word| word.eq_ignore_ascii_case("DROP"));
    if !word(statement.trim_ascii_start()).eq("DROP")
        || !words.next().is_some_and(|word| word.eq_ignore_ascii_case("TABLE"))
    {
        return Vec::new();
    }
    let names: String = words.filter(|word| !["IF", "EXISTS"].contains(&word.to_ascii_uppercase().as_str())).collect();
    let is_plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    names
        .split(',')
        .filter(is_plain)
        .map(|name| format!("RENAME TABLE {name} TO {name}_{number}").into_bytes())
        .collect()
}

/// With the test's database where it names the one that tests share.
fn in_own_database(statement: &[u8], own: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = statement;
    while let Some(at) = memchr::memmem::find(rest, b"test.") {
        let before = at.checked_sub(1).map(|at| rest[at]);
        let is_name =
            before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'.' | b'/' | b'`'));
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if is_name { own.as_bytes() } else { b"test." });
        rest = &rest[at + 5..];
    }
    out.extend_from_slice(rest);
    out
}
