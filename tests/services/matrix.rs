//! The suites of a service on other releases of its server than this machine's: the same tests, each release in a process
//! of its own.

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

fn runs(row: &Row) {
    support::release::runs(row.name, row.folder, row.suites, concat!(env!("CARGO_TARGET_TMPDIR"), "/matrix"));
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
