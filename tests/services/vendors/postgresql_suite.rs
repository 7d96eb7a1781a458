//! PostgreSQL's `regression` database, and those of its contributed modules.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::vendors::compare::{Picture, differences, told};
use crate::vendors::is_long;
use crate::vendors::postgres_source::Suite;
use support::postgresql::Postgres;
use support::site::Site;

/// The modules of the sample.
const MODULES: [&str; 5] = ["citext", "hstore", "lo", "postgres_fdw", "tablefunc"];
/// The regression tests of the sample.
const SAMPLE: [&str; 26] = [
    "test_setup",
    "create_function_c",
    "create_misc",
    "create_operator",
    "create_procedure",
    "create_table",
    "create_type",
    "create_view",
    "create_aggregate",
    "create_cast",
    "constraints",
    "inherit",
    "typed_table",
    "rules",
    "identity",
    "generated",
    "matview",
    "enum",
    "arrays",
    "domain",
    "sequence",
    "largeobject",
    "foreign_data",
    "publication",
    "collate",
    "rangetypes",
];

/// Runs a test's file in a database, whatever fails of it.
fn run(server: &Postgres, suite: &Suite, database: &str, folder: &Path, file: &Path) {
    let mut client = Command::new("timeout");
    client.args(["60", "psql", "-X", "-a", "-q", "-U", "postgres", "-d", database, "-h"]).arg(server.socket());
    client.arg("-f").arg(file).current_dir(folder);
    client.env_remove("PGOPTIONS").env("PGTZ", "PST8PDT").env("PGDATESTYLE", "Postgres, MDY").env("LC_ALL", "C");
    client.env("PG_ABS_SRCDIR", folder).env("PG_ABS_BUILDDIR", folder).env("PG_LIBDIR", suite.library());
    client.env("PG_DLSUFFIX", ".so").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
}

fn make_database(server: &Postgres, name: &str) {
    server.sql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"));
    for setting in [
        "lc_messages TO 'C'",
        "lc_monetary TO 'C'",
        "lc_numeric TO 'C'",
        "lc_time TO 'C'",
        "timezone_abbreviations TO 'Default'",
    ] {
        server.sql("postgres", &format!("ALTER DATABASE \"{name}\" SET {setting}"));
    }
}

/// All that dumps of the databases show, object by object, and the roles.
fn picture(server: &Postgres, databases: &[String]) -> Picture {
    let mut picture = Picture::new();
    for database in databases {
        let text = String::from_utf8_lossy(&server.dump(database)).into_owned();
        let mut name = String::new();
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("-- Name: ").or_else(|| line.strip_prefix("-- Data for Name: ")) {
                name = format!("{database}: {next}");
            }
            // The next table decides where these belong.
            if !line.starts_with("SET default_") && !line.is_empty() && line != "--" {
                *picture.entry(name.clone()).or_default() += &format!("{line}\n");
            }
        }
    }
    // A table has no order of its own.
    for (_, text) in picture.iter_mut().filter(|(name, _)| name.contains("; Type: TABLE DATA;")) {
        let mut rows: Vec<&str> = text.lines().collect();
        rows.sort_unstable();
        *text = rows.join("\n");
    }
    let mut roles = Command::new("pg_dumpall");
    roles.args(["-U", "postgres", "-g", "--restrict-key=test", "-h"]).arg(server.socket());
    let roles = String::from_utf8(roles.output().unwrap().stdout).unwrap();
    picture.insert("roles".to_owned(), roles);
    picture
}

/// The result of plain dumps in another server.
fn copy_plainly(from: &Postgres, to: &Postgres, databases: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &[u8], database: &str| {
        let file = folder.path().join("dump");
        std::fs::write(&file, text).unwrap();
        let mut client = Command::new("psql");
        client.env_remove("PGOPTIONS").args(["-X", "-q", "-U", "postgres", "-d", database, "-h"]).arg(to.socket());
        client.arg("-f").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    };
    let mut roles = Command::new("pg_dumpall");
    roles.args(["-U", "postgres", "-g", "-h"]).arg(from.socket());
    load(&roles.output().unwrap().stdout, "postgres");
    for database in databases {
        load(&from.dump(database), "postgres");
    }
}

fn lines(server: &Postgres, databases: &[String], more: &str) -> String {
    format!(
        "source = \"postgresql\"\ndatabases = {databases:?}\nuser = \"postgres\"\nsocket = \"{}\"\n{more}",
        server.socket().display()
    )
}

/// Backs up, restores into another server, and compares: differences are named by the restore, and with `complete` there
/// are none but those of a plain dump. The suite creates at least `least` objects.
fn round(here: &Postgres, databases: &[String], more: &str, complete: bool, least: usize) {
    let (Some(there), Some(control)) = (Postgres::start(), Postgres::start()) else { return };
    let was = picture(here, databases);
    let site = Site::new("suite", &lines(here, databases, more));
    site.run(&["backup", "suite"]).ends(0);
    let checked = site.run(&["config", "check"]);
    let checked = String::from_utf8_lossy(&checked.out).into_owned();
    site.configure(&lines(&there, databases, more));
    let restore = site.run(&["restore", "suite", "--into", "postgresql", "--yes"]);
    let is = picture(&there, databases);
    copy_plainly(here, &control, databases);
    let plainly = differences(&was, &picture(&control, databases));
    let differences = differences(&was, &is);
    eprintln!(
        "{} databases, {} objects: {} differ, and of a plain dump {}",
        databases.len(),
        was.len(),
        differences.len(),
        plainly.len()
    );
    assert!(was.len() > least, "{} objects", was.len());
    assert_eq!(restore.status, if differences.is_empty() { 0 } else { 3 }, "{}", restore.err);
    for name in &differences {
        // `contrib-lo: f(text); Type: …`: its last word without what stands in parentheses.
        let object = name.split_once(": ").map_or("", |(_, rest)| rest).split("; Type:").next().unwrap();
        let word = object.split('(').next().unwrap().split_whitespace().last().unwrap_or_default();
        let shown = told(name, &was, &is);
        assert!(!word.is_empty() && restore.err.contains(word), "no warning names {word}: {shown}\n{}", restore.err);
        match complete {
            true => assert!(plainly.contains(name), "a plain dump brings it: {shown}"),
            false => assert!(checked.contains(word), "not known before: {shown}\n{checked}"),
        }
    }
}

#[test]
fn the_regression_database_comes_back() {
    let (Some(suite), Some(here)) = (Suite::fetch(), Postgres::start()) else { return };
    make_database(&here, "regression");
    let folder = suite.regress();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    for test in suite.schedule().iter().filter(|path| is_long() || SAMPLE.contains(&name(path).as_str())) {
        run(&here, &suite, "regression", &folder, test);
    }
    round(&here, &["regression".to_owned()], "restore_as_superuser = true\n", true, 500);
}

#[test]
fn databases_of_contributed_modules_come_back() {
    let (Some(suite), Some(here)) = (Suite::fetch(), Postgres::start()) else { return };
    let mut databases = Vec::new();
    let is_meant = |module: &str| is_long() || MODULES.contains(&module);
    for (module, folder, tests) in suite.modules().into_iter().filter(|(module, ..)| is_meant(module)) {
        let database = format!("contrib-{module}");
        make_database(&here, &database);
        for test in &tests {
            run(&here, &suite, &database, &folder, test);
        }
        databases.push(database);
    }
    round(&here, &databases, "", false, 150);
}
