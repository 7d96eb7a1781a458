//! The vendors' own test suites as data: their objects are kept, backed up, restored into another server and compared.
//! If the vendor has a plain dump, a third server gets it, as a control.
//!
//! A sample by default, all with VARU_TEST_LONG=1.

mod compare;
mod debian;
mod influxdb_suite;
mod mariadb_test;
mod mysql;
mod postgres_source;
mod postgresql_suite;

/// Whether all of a suite is run, not a sample.
fn is_long() -> bool {
    std::env::var_os("VARU_TEST_LONG").is_some()
}
