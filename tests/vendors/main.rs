//! The vendors' own test suites as data: what their tests make is backed up, restored into another server and compared with
//! what stood there.

#[path = "../support/influxdb.rs"]
mod influxdb;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/site.rs"]
mod site;

mod debian;
mod influxdb_suite;
