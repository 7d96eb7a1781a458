//! MariaDB's `mariadb-test` files.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::vendors::compare::{Picture, cut, differences, told};
use crate::vendors::is_long;
use crate::vendors::mariadb_test::{Test, data, files};
use support::mariadb::MariaDb;
use support::site::Site;

const SUITES: [&str; 16] = [
    "main",
    "suite/archive",
    "suite/compat/oracle",
    "suite/csv",
    "suite/funcs_1",
    "suite/gcol",
    "suite/heap",
    "suite/innodb",
    "suite/innodb_gis",
    "suite/jp",
    "suite/json",
    "suite/maria",
    "suite/period",
    "suite/sql_sequence",
    "suite/vcol",
    "suite/versioning",
];
const OPTIONS: [&str; 8] = [
    "--plugin-load-add=ha_archive;ha_blackhole;ha_federatedx;ha_sphinx",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",
    "--event-scheduler=OFF",
    "--local-infile=OFF",
    "--innodb-buffer-pool-size=256M",
    "--performance-schema=OFF",
    "--max-allowed-packet=256M",
];

/// A client that continues behind a statement that fails, and is ended where it lasts.
fn client(server: &Path, seconds: u32, words: &[&str]) -> Command {
    let mut client = Command::new("timeout");
    client.args([&seconds.to_string(), "mariadb", "--no-defaults", "-uroot", "-N", "-B", "--force", "--comments"]);
    client.arg("--max-allowed-packet=256M").arg(format!("--socket={}", server.display())).args(words);
    client
}

/// Runs a script, whatever fails of it, and returns its output.
fn run(server: &Path, script: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let output = client(server, 600, &[]).stdin(File::open(file.path()).unwrap()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All databases that aren't the server's own, and the accounts.
fn picture(server: &Path) -> Picture {
    const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";
    // The statements that show each object, made by the server itself.
    let q = |column: &str| format!("CONCAT('`', REPLACE({column}, '`', '``'), '`')");
    let said = |kind: &str, database: &str, name: &str, statement: &str| {
        format!("CONCAT('SELECT ', QUOTE(CONCAT('@@ {kind} ', {database}, '.', {name})), '; ', {statement}, ';')")
    };
    let table = format!("CONCAT({}, '.', {})", q("TABLE_SCHEMA"), q("TABLE_NAME"));
    let show = said(
        "table",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        &format!(
            "CONCAT('SHOW CREATE TABLE ', {table}, '; CHECKSUM TABLE ', {table}, IF(TABLE_TYPE = 'SYSTEM VERSIONED', CONCAT('; \
             SELECT COUNT(*) FROM ', {table}, ' FOR SYSTEM_TIME ALL'), ''), IF(TABLE_TYPE = 'SEQUENCE', CONCAT('; SELECT * FROM ', {table}), ''))"
        ),
    );
    let database =
        said("database", "SCHEMA_NAME", "''", &format!("CONCAT('SHOW CREATE DATABASE ', {})", q("SCHEMA_NAME")));
    let trigger = said(
        "trigger",
        "TRIGGER_SCHEMA",
        "TRIGGER_NAME",
        &format!("CONCAT('SHOW CREATE TRIGGER ', {}, '.', {})", q("TRIGGER_SCHEMA"), q("TRIGGER_NAME")),
    );
    let account = "IF(is_role = 'Y', CONCAT('`', User, '`'), CONCAT('`', User, '`@`', Host, '`'))";
    let grants = format!(
        "CONCAT('SELECT ', QUOTE(CONCAT('@@ account ', User, '@', Host)), '; SHOW GRANTS FOR ', {account}, ';', IF(is_role = 'Y', \
         '', CONCAT(' SHOW CREATE USER ', {account}, ';')))"
    );
    let script = run(
        server,
        &format!(
            "SELECT {database} FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {OWN};
             SELECT {show} FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN {OWN} ORDER BY TABLE_SCHEMA, TABLE_NAME;
             SELECT {trigger} FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN {OWN};
             SELECT {grants} FROM mysql.user;"
        ),
    );
    let script = script.replace("\\n", "\n").replace("\\\\", "\\");
    let others = "SELECT CONCAT('@@ ', LOWER(type), ' ', db, '.', name, '\\n', HEX(body), ' ', HEX(param_list), ' ', HEX(returns), ' ', \
         sql_data_access, is_deterministic, security_type, definer, sql_mode, comment, character_set_client, collation_connection, \
         db_collation, aggregate) FROM mysql.proc WHERE db NOT IN ('mysql', 'sys');
         SELECT CONCAT('@@ event ', db, '.', name, '\\n', HEX(body), ' ', HEX(body_utf8), ' ', IFNULL(execute_at, ''), ' ', \
         IFNULL(interval_value, ''), IFNULL(interval_field, ''), ' ', IFNULL(starts, ''), ' ', IFNULL(ends, ''), status, on_completion, sql_mode, definer, \
         comment, time_zone, character_set_client, collation_connection, db_collation) FROM mysql.event;\n";
    let mut picture = cut(&run(server, &script));
    let raw = {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), others).unwrap();
        let output = client(server, 600, &["--raw"]).stdin(File::open(file.path()).unwrap()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    picture.extend(cut(&raw));
    // When a trigger was made is the last that the server says of it, and another time in each copy.
    for (_, shown) in picture.iter_mut().filter(|(name, _)| name.starts_with("trigger ")) {
        shown.truncate(shown.rfind('\t').unwrap_or(shown.len()));
    }
    picture
}

/// The result of a plain dump in another server.
fn copy_plainly(from: &Path, to: &Path, databases: &[String]) {
    let dump = tempfile::NamedTempFile::new().unwrap();
    let socket = format!("--socket={}", from.display());
    let said = |words: &[&str], names: &[String]| {
        let mut command = Command::new("mariadb-dump");
        command
            .args(["--no-defaults", "-uroot", "--force", "--max-allowed-packet=256M", &socket])
            .args(words)
            .args(names);
        let _ = command.stdout(File::options().append(true).open(dump.path()).unwrap()).stderr(Stdio::null()).status();
    };
    said(&["--routines", "--events", "--triggers", "--single-transaction", "--databases"], databases);
    said(&["--system=users"], &[]);
    let _ = client(to, 3600, &[]).stdin(File::open(dump.path()).unwrap()).output();
}

/// A sample of a suite: one file of so many.
const EACH: usize = 60;
/// A database with more bytes than this isn't kept: it is much of the same.
const MOST: usize = 20_000_000;

/// Runs the tests' files, and returns the databases that they made.
fn make(server: &MariaDb, files: &[PathBuf]) -> Vec<String> {
    std::os::unix::fs::symlink(data(), server.socket().parent().unwrap().join("std_data")).unwrap();
    let mut databases = Vec::new();
    let each = if is_long() { 1 } else { EACH };
    for (number, path) in files.iter().enumerate().filter(|(number, _)| number % each == 0) {
        let test = Test::read(path, number);
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(script.path(), test.script()).unwrap();
        let mut client = client(&server.socket(), 20, &[]);
        client.stdin(File::open(script.path()).unwrap()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        databases.push(test.database);
    }
    let large = server.sql(&format!(
        "SELECT TABLE_SCHEMA FROM information_schema.TABLES GROUP BY 1 HAVING SUM(DATA_LENGTH) > {MOST} AND TABLE_SCHEMA LIKE '%\\_%'"
    ));
    for name in large.lines().filter(|name| databases.iter().any(|database| database == name)) {
        server.sql(&format!("DROP DATABASE `{name}`"));
    }
    databases.retain(|database| !large.lines().any(|name| name == database));
    databases
}

fn lines(server: &Path, more: &str) -> String {
    format!("source = \"mysql\"\ndatabases = \"all\"\nsocket = \"{}\"\n{more}", server.display())
}

/// The tables and views that a refusal names.
fn unreadable(said: &str) -> Option<Vec<String>> {
    let (_, rest) = said.split_once("can't be read, at which a dump ends: ")?;
    let mut names: Vec<String> =
        rest.split(" (ERROR ").map(|part| part.rsplit(", ").next().unwrap().to_owned()).collect();
    names.pop();
    Some(names)
}

#[test]
fn what_the_tests_of_mariadb_make_comes_back() {
    let Some(files) = files(&SUITES) else { return };
    let start = || MariaDb::start_with(&OPTIONS);
    let (Some(here), Some(there), Some(control)) = (start(), start(), start()) else { return };
    let databases = make(&here, &files);
    copy_plainly(&here.socket(), &control.socket(), &databases);
    compare(&here.socket(), &there.socket(), &control.socket());
}

/// Backs up, restores into another server, and compares: differences also occur in a plain copy, and are named.
fn compare(here: &Path, there: &Path, control: &Path) {
    let was = picture(here);
    let site = Site::new("suite", &lines(here, ""));
    let mut backup = site.run(&["backup", "suite"]);
    let mut left_out = BTreeSet::new();
    if let Some(names) = unreadable(&backup.err) {
        let listed = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        left_out.extend(names.into_iter().flat_map(|name| [format!("table {name}"), format!("view {name}")]));
        site.configure(&lines(here, &format!("exclude_tables = [{listed}]")));
        backup = site.run(&["backup", "suite"]);
    }
    site.configure(&lines(there, ""));
    let restore = site.run(&["restore", "suite", "--into", "mysql", "--yes", "--keep-going"]);
    assert!(restore.status == 0 || restore.status == 3, "{}{}", backup.err, restore.err);
    let is = picture(there);
    let plain_copy = picture(control);
    let plainly: BTreeSet<String> = differences(&was, &plain_copy).into_iter().collect();
    let differences = differences(&was, &is).into_iter().filter(|name| !left_out.contains(name));
    let differences: Vec<String> = differences.collect();
    eprintln!(
        "{} objects, of which {} can't be read: {} differ, and of a plain dump {}",
        was.len(),
        left_out.len() / 2,
        differences.len(),
        plainly.len()
    );
    // An object in letters that are none is the one of the right name, and comes with a plain dump, too.
    let named = |name: &str| {
        let (_, object) = name.split_once(' ').unwrap();
        let renamed = || !was.contains_key(name) && plain_copy.get(name) == is.get(name);
        backup.err.contains(object) || restore.err.contains(object) || renamed()
    };
    let wrong: Vec<String> = differences
        .iter()
        .filter(|name| !plainly.contains(*name) || !named(name))
        .map(|name| {
            let plain = if plainly.contains(name) { "of a plain dump, too" } else { "not of a plain dump" };
            format!("{plain}: {}", told(name, &was, &is))
        })
        .collect();
    let warnings: Vec<&str> = restore.err.lines().filter(|line| line.starts_with("warning")).collect();
    assert!(wrong.is_empty(), "{}\n{}\n{}", wrong.join("\n"), backup.err, warnings.join("\n"));
}
