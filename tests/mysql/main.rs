//! MySQL as a source and as a service that a snapshot goes back into, on real MariaDB servers of the tests' own.

#[path = "../support/away.rs"]
mod away;
#[path = "../support/site.rs"]
mod ground;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/mariadb.rs"]
mod mariadb;
#[path = "../support/medium.rs"]
mod medium;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/sshd.rs"]
mod sshd;

mod copies;
mod gates;
mod hangs;
mod kills;
mod load;
mod obstacles;
mod round;
mod same;
mod settings;
mod site;
mod stall;
mod tables;
mod wrecked;
