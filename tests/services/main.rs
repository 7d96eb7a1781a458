//! Real database servers: dumps, loads, gates, and the vendors' own tests.

mod influxdb;
mod mariadb;
mod matrix;
mod mysql;
mod postgresql;
mod vendors;
