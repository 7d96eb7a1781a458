//! MySQL as a source and as a service that a snapshot goes back into, on real MariaDB servers of the tests' own.

#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/mariadb.rs"]
mod mariadb;

mod copies;
mod gates;
mod kills;
mod load;
mod round;
mod site;
mod tables;
