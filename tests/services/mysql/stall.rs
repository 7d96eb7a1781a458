//! A backup host that is away for longer than the server has patience.

use std::fs;
use std::time::Duration;

use crate::mysql::site::{Site, picture};
use support::away::Away;
use support::mariadb::MariaDb;
use support::site::is_long;

/// Two tables, each with about a pack's worth of bytes that don't compress.
const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE a (id INT PRIMARY KEY, b BLOB);
    INSERT INTO a SELECT seq, RANDOM_BYTES(1000) FROM seq_1_to_30000; CREATE TABLE z (id INT PRIMARY KEY, b BLOB);
    INSERT INTO z SELECT id, RANDOM_BYTES(1000) FROM a;";

#[test]
fn a_dump_goes_on_while_the_host_is_away() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let set = |server: &MariaDb| {
        let socket = server.socket();
        format!("[sets.agama]\nsource = \"mysql\"\ndatabases = [\"agama\"]\nsocket = \"{}\"\n", socket.display())
    };
    // A server gives up on a client that reads nothing for so long (error 2013 in the dump): a minute, if nobody says less.
    let gone = match is_long() {
        true => 180,
        false => {
            site.server.sql("SET GLOBAL net_write_timeout = 1");
            4
        }
    };
    let away = Away::new(&site.machine.at("far"), &site.config(), &set(&site.server));
    away.back_up("agama", Duration::from_secs(gone)).ends(0);
    let Some(second) = MariaDb::start() else { return };
    fs::write(site.config(), format!("{}{}", away.repository, set(&second))).unwrap();
    away.machine.run(&["-q", "restore", "agama", "--into", "mysql", "--yes"]).ends(0);
    assert_eq!(picture(&second, "agama"), picture(&site.server, "agama"));
}
