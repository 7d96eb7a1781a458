//! A server whose disk is too small for a restore.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::postgresql::{REPLACE, RESTORE, lines, site};
use support::postgresql::Postgres;
use support::site::Small;

const SCHEMA: &str = "CREATE TABLE big (id int PRIMARY KEY, text text);
    INSERT INTO big SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 40000) i; CREATE INDEX ON big (text); CREATE INDEX ON big (reverse(text));";

#[test]
fn a_server_without_room_is_refused_or_keeps_what_it_has() {
    let Some((_server, site)) = site(SCHEMA) else { return };
    site.back_up();
    let folder = site.machine.at("small");
    let Some(small) = Small::on(folder.clone(), "300m") else { return };
    for path in [&folder, &site.machine.top] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let Some(second) = Postgres::start_below(&folder) else { return };
    second.sql("postgres", "CREATE DATABASE agama");
    second.sql("agama", "CREATE TABLE big (id int PRIMARY KEY); INSERT INTO big VALUES (7)");
    let before = second.picture("agama");
    site.configure(&lines(&second, ""));
    let restore = [&RESTORE[..], &REPLACE[..]].concat();
    // The table has 26 MB in the dump: that can't fit.
    small.fill(20 << 20);
    let refused = site.run(&restore).ends(8);
    assert!(refused.err.contains("make room there"), "{}", refused.err);
    assert!(second.picture("agama") == before);
    // This might, but a server needs more than a dump.
    small.fill(36 << 20);
    let full = site.run(&restore).ends(1);
    assert!(full.err.contains("No space left") && full.err.contains("as it was"), "{}", full.err);
    small.empty();
    assert!(second.picture("agama") == before);
    for name in second.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'agama_loading_%'").lines() {
        second.sql("postgres", &format!("DROP DATABASE \"{name}\""));
    }
    site.run(&restore).ends(0);
    assert_eq!(second.sql("agama", "SELECT count(*) FROM big"), "40000\n");
}
