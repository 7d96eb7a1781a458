//! MySQL as a source and as a service that a snapshot goes back into, on real MariaDB servers of the tests' own.

mod copies;
mod gates;
mod hangs;
mod kills;
mod load;
mod newer;
mod obstacles;
mod programs;
mod round;
mod same;
mod settings;
mod site;
mod stall;
mod tables;
mod unfinished;
mod wrecked;
