//! A backup host that is away for longer than the server has patience.

use std::fs;
use std::time::{Duration, Instant};

use crate::machine::{Ended, Machine};
use crate::mariadb::MariaDb;
use crate::proxy::{Fault, Proxy};
use crate::site::{Site, picture};
use crate::sshd::Sshd;

/// Two tables, each with about a pack's worth of bytes that don't compress.
const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE a (id INT PRIMARY KEY, b BLOB);
    INSERT INTO a SELECT seq, RANDOM_BYTES(1000) FROM seq_1_to_30000; CREATE TABLE z (id INT PRIMARY KEY, b BLOB);
    INSERT INTO z SELECT id, RANDOM_BYTES(1000) FROM a;";

#[test]
fn a_dump_goes_on_while_the_host_is_away() {
    let Some(site) = Site::new(SCHEMA) else { return };
    // The server gives up on a client that reads nothing for a second: error 2013 in the dump.
    site.server.sql("SET GLOBAL net_write_timeout = 1");
    let host = Sshd::shared();
    let proxy = Proxy::start(host.port(), Duration::ZERO);
    let top = site.machine.at("far");
    fs::create_dir(&top).unwrap();
    let repository = format!(
        "[repository]\nurl = '{}'\nssh_key = '{}'\nknown_hosts = '{}'\nssh_config = '/dev/null'\n",
        host.place_through(proxy.port(), top.join("vault")),
        host.key().display(),
        host.known_hosts().display()
    );
    site.configure_all(&repository, &format!("socket = \"{}\"\n", site.server.socket().display()));
    let machine = Machine::configured(&top, &site.config());
    machine.init();
    proxy.fault_at(proxy.passed() + (2 << 20), Fault::Down);
    let mut varu = machine.varu(&["-q", "backup", "agama"]);
    let child = varu.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !proxy.has_failed() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // Several times the server's patience.
    std::thread::sleep(Duration::from_secs(4));
    proxy.up();
    let ended = Ended::from(child.wait_with_output().unwrap()).ends(0);
    assert!(begun.elapsed() > Duration::from_secs(4), "the host was not away: {}", ended.err);
    let Some(second) = MariaDb::start() else { return };
    let loaded = format!(
        "[sets.agama]\nsource = \"mysql\"\ndatabases = [\"agama\"]\nsocket = \"{}\"\n",
        second.socket().display()
    );
    fs::write(site.config(), format!("{repository}{loaded}")).unwrap();
    machine.run(&["-q", "restore", "agama", "--into", "mysql", "--yes"]).ends(0);
    assert_eq!(picture(&second, "agama"), picture(&site.server, "agama"));
}
