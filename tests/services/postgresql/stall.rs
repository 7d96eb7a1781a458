//! A backup host that is away for a while.

use std::fs;
use std::time::Duration;

use crate::postgresql::lines;
use support::away::Away;
use support::postgresql::Postgres;
use support::site::{Site, is_long};

/// Two tables, each with more than a pack's worth of bytes that hardly compress.
const SCHEMA: &str = "CREATE TABLE a (id int PRIMARY KEY, b text);
    INSERT INTO a SELECT i, (SELECT string_agg(md5(i || '-' || j), '') FROM generate_series(1, 60) j) FROM generate_series(1, 40000) i;
    CREATE TABLE z AS SELECT id, reverse(b) AS b FROM a;";

#[test]
fn a_dump_goes_on_while_the_host_is_away() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE DATABASE agama");
    server.sql("agama", SCHEMA);
    // A server that ends idle sessions after a second.
    for setting in ["idle_in_transaction_session_timeout", "idle_session_timeout", "client_connection_check_interval"] {
        server.sql("postgres", &format!("ALTER SYSTEM SET {setting} = '1s'"));
    }
    server.sql("postgres", "SELECT pg_reload_conf()");
    let site = Site::new("agama", &lines(&server, ""));
    let set = |server: &Postgres| format!("[sets.agama]\n{}", lines(server, ""));
    let away = Away::new(&site.machine.at("far"), &site.config(), &set(&server));
    away.back_up("agama", Duration::from_secs(if is_long() { 180 } else { 4 })).ends(0);
    let Some(second) = Postgres::start() else { return };
    fs::write(site.config(), format!("{}{}", away.repository, set(&second))).unwrap();
    away.machine.run(&["-q", "restore", "agama", "--into", "postgresql", "--yes"]).ends(0);
    assert!(second.picture("agama") == server.picture("agama"), "what came back isn't what was there");
}
