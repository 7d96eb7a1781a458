//! The suites of a service on other releases of its server than this machine's: the same tests, each release in a process
//! of its own.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use support::release::Release;

/// A release, by its name and its folder in the image, and the suites that run on it.
struct Row {
    name: &'static str,
    folder: &'static str,
    suites: &'static [&'static str],
}

/// Beside this machine's MariaDB 10.11 and PostgreSQL 15, on which all suites run.
const MARIADB: Row = Row {
    name: "MariaDB 11.8",
    folder: "mariadb",
    suites: &["mysql::round", "mysql::same", "mysql::gates", "mysql::programs", "mysql::newer"],
};
const MYSQL: Row = Row {
    name: "MySQL 9.7",
    folder: "mysql",
    suites: &["mysql::round", "mysql::same", "mysql::gates", "mysql::load", "mysql::programs", "mysql::newer"],
};
const POSTGRESQL: Row = Row {
    name: "PostgreSQL 18",
    folder: "postgresql",
    suites: &[
        "postgresql::round",
        "postgresql::same",
        "postgresql::gates",
        "postgresql::programs",
        "postgresql::newer",
    ],
};

/// One release at a time: a suite starts servers enough by itself.
static ONE: Mutex<()> = Mutex::new(());

/// Runs a release's suites.
#[track_caller]
fn runs(row: &Row) {
    // In such a process the tests of the matrix aren't meant.
    if support::release::of_this_process().is_some() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let release = match Release::of_image(row.folder) {
        Ok(release) => release,
        Err(why) => return eprintln!("SKIPPED: {} can't be had: {why}", row.name),
    };
    let begun = Instant::now();
    let mut suites = Command::new(std::env::current_exe().unwrap());
    suites.args(row.suites).args(["--test-threads", "2", "--nocapture"]).stdin(Stdio::null());
    release.tell(&mut suites);
    let output = suites.output().unwrap();
    let seconds = begun.elapsed().as_secs();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let passed = out.lines().filter(|line| line.contains("... ok") || *line == "ok").count();
    println!("{}: {} in {seconds} s: {passed} tests", row.name, row.suites.join(", "));
    for line in err.lines().filter(|line| line.starts_with("skipped")) {
        println!("{}: {line}", row.name);
    }
    assert!(output.status.success(), "{}:\n{out}\n{err}", row.name);
}

#[test]
fn mariadb_11_8() {
    runs(&MARIADB);
}

#[test]
fn mysql_9_7() {
    runs(&MYSQL);
}

#[test]
fn postgresql_18() {
    runs(&POSTGRESQL);
}
