//! PostgreSQL as a source and as a service that a snapshot goes back into, on real servers of the tests' own.

mod attacks;
mod gates;
mod kills;
mod newer;
mod parts;
mod programs;
mod room;
mod round;
mod same;
mod settings;
mod stall;
mod unfinished;

use support::postgresql::Postgres;
use support::site::Site;

/// Lines of a set whose database is on the server.
fn lines(server: &Postgres, more: &str) -> String {
    let databases = if more.contains("databases") { "" } else { "databases = [\"agama\"]\n" };
    let user = if more.contains("user =") { "" } else { "user = \"postgres\"\n" };
    format!("source = \"postgresql\"\n{databases}{user}socket = \"{}\"\n{more}", server.socket().display())
}

/// A server with that schema in the database `agama`, and a site that backs it up. None if there is no server to be had.
fn site(schema: &str) -> Option<(Postgres, Site)> {
    let server = Postgres::start()?;
    server.sql("postgres", "CREATE DATABASE agama");
    server.sql("agama", schema);
    let site = Site::new("agama", &lines(&server, ""));
    Some((server, site))
}

/// The set's programs run through a wrapper; a dump by the line `filter`.
fn wrap(site: &Site, server: &Postgres, filter: &str) {
    let wrapper = site.wrapper("*\\ pg_dump\\ *", filter);
    site.configure(&lines(server, &format!("exec = [\"{}\"]\n", wrapper.display())));
}

const RESTORE: [&str; 5] = ["restore", "agama", "--into", "postgresql", "--yes"];
const REPLACE: [&str; 4] = ["--replace", "agama", "--reason", "test"];
