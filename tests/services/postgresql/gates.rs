//! Incomplete dumps, which make no snapshot.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::postgresql::{lines, site, wrap};
use support::machine::Ended;
use support::site::{Site, Small, is_long};

const SCHEMA: &str = "CREATE TABLE a0 (id int PRIMARY KEY, text text); INSERT INTO a0 VALUES (1, 'a');
    CREATE TABLE t (id int PRIMARY KEY, text text); INSERT INTO t SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 4000) i;
    CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1); CREATE VIEW v AS SELECT id FROM t; CREATE FUNCTION p() RETURNS int LANGUAGE sql AS 'SELECT 1';";

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_missing_privilege_is_named_with_the_statement_that_gives_it() {
    let Some((server, site)) = site(SCHEMA) else { return };
    server.sql(
        "agama",
        "CREATE SCHEMA own; CREATE TABLE own.w (a int); CREATE SEQUENCE own.s; SELECT lo_create(77);
         ALTER TABLE u ENABLE ROW LEVEL SECURITY; CREATE ROLE backup LOGIN BYPASSRLS;
         GRANT USAGE ON SCHEMA own TO backup; GRANT SELECT ON ALL TABLES IN SCHEMA own, public TO backup; GRANT SELECT ON SEQUENCE own.s TO backup;
         GRANT SELECT ON LARGE OBJECT 77 TO backup",
    );
    site.configure(&lines(&server, "user = \"backup\""));
    site.back_up();
    for (give, take) in [
        ("GRANT USAGE ON SCHEMA own TO backup;", "REVOKE USAGE ON SCHEMA own FROM backup"),
        ("GRANT SELECT ON TABLE own.w TO backup;", "REVOKE SELECT ON own.w FROM backup"),
        ("GRANT SELECT ON TABLE public.a0 TO backup;", "REVOKE SELECT ON a0 FROM backup"),
        ("GRANT SELECT ON SEQUENCE own.s TO backup;", "REVOKE SELECT ON SEQUENCE own.s FROM backup"),
        ("GRANT SELECT ON LARGE OBJECT 77 TO backup;", "REVOKE SELECT ON LARGE OBJECT 77 FROM backup"),
        ("ALTER ROLE backup BYPASSRLS;", "ALTER ROLE backup NOBYPASSRLS"),
    ] {
        server.sql("agama", take);
        let ended = site.run(&["backup", "agama"]).ends(2);
        assert!(ended.err.contains(give), "{give}: {}", ended.err);
        let checked = String::from_utf8(site.run(&["config", "check"]).ends(2).out).unwrap();
        assert!(checked.contains(give), "{give}: {checked}");
        server.sql("agama", give);
    }
    let checked = String::from_utf8(site.run(&["config", "check"]).ends(0).out).unwrap();
    assert!(checked.contains("PostgreSQL 1") && checked.contains("GRANT SELECT ON pg_authid"), "{checked}");
    site.back_up();
    assert_eq!(site.snapshots(), 2);
    site.configure(&lines(&server, "user = \"nobody\""));
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("role \"nobody\" does not exist"));
    site.configure(&lines(&server, "databases = [\"nothing\"]"));
    assert!(site.run(&["backup", "agama"]).ends(2).err.contains("no database nothing"));
    site.configure(&lines(&server, "exec = [\"/does/not/exist\"]"));
    assert!(site.run(&["backup", "agama"]).ends(2).err.contains("psql can't be run"));
    assert_eq!(site.snapshots(), 2);
}

/// The dump stops after its first 1,000 bytes until the file `go` is there, which it removes.
const PAUSE_EACH: &str = "\"$@\" | { head -c 1000; touch paused; while [ ! -e go ]; do sleep 0.02; done; rm go; cat; }";

/// A change during a dump; with `twice`, the second attempt sees it, too.
fn during(site: &Site, server: &support::postgresql::Postgres, statements: &str, twice: bool) -> Ended {
    let (paused, go) = (site.machine.at("paused"), site.machine.at("go"));
    let _ = (fs::remove_file(&paused), fs::remove_file(&go));
    let mut running = site.command(&["backup", "agama"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut left = 1 + u32::from(twice);
    while running.try_wait().unwrap().is_none() {
        if paused.exists() {
            fs::remove_file(&paused).unwrap();
            if left > 0 {
                left -= 1;
                // A statement that waits for the dump's lock runs right after it, and the second look sees it as well.
                let _ = server.try_sql("agama", &format!("SET lock_timeout = '200ms'; {statements}"));
            }
            fs::write(&go, "").unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    running.wait_with_output().unwrap().into()
}

#[test]
fn a_schema_that_changes_during_the_dump_is_tried_again_and_then_an_error() {
    let Some((server, site)) = site(SCHEMA) else { return };
    wrap(&site, &server, PAUSE_EACH);
    for (statements, what) in [
        ("CREATE OR REPLACE FUNCTION p() RETURNS int LANGUAGE sql AS 'SELECT 2'", "function public.p"),
        ("DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('a')", "type public.mood"),
        // One that the dump has seen is locked until its end: each time another.
        ("DO $$ BEGIN EXECUTE 'CREATE TABLE n' || (random() * 1e9)::bigint || ' (a int)'; END $$", "table public.n"),
        ("CREATE SCHEMA IF NOT EXISTS other; DROP SCHEMA other; CREATE SCHEMA other", "schema other"),
    ] {
        let ended = during(&site, &server, statements, true).ends(1);
        assert!(ended.err.contains(what) && ended.err.contains("tried once more"), "{what}: {}", ended.err);
        assert_eq!(site.snapshots(), 0, "{what}");
    }
    during(&site, &server, "CREATE TABLE newest (a int)", false).ends(0);
    assert_eq!(site.snapshots(), 1, "the second try was whole");
    // A table that went empty between the dump's snapshot and its lock: here before the dump's own first statement.
    let psql = format!("psql -X -q -U postgres -h {} -d agama", server.socket().display());
    wrap(
        &site,
        &server,
        &format!(
            "{psql} -c 'CREATE TABLE x AS SELECT * FROM u; TRUNCATE u; INSERT INTO u SELECT * FROM x; DROP TABLE x'; exec \"$@\""
        ),
    );
    let ended = site.run(&["backup", "agama"]).ends(1);
    assert!(ended.err.contains("table public.u"), "{}", ended.err);
    assert_eq!(site.snapshots(), 1);
}

#[test]
fn a_dump_that_ends_early_makes_no_snapshot() {
    let Some((server, site)) = site(SCHEMA) else { return };
    site.back_up();
    for (filter, why) in [
        ("\"$@\" | head -c -300", "completion line"),
        ("\"$@\" | head -n -8", "completion line"),
        ("\"$@\"; exit 2", "exit status 2"),
        ("\"$@\" | head -c 100000; kill -9 $$", "signal 9"),
        ("\"$@\" | sed '/^COPY public.u /,/^..$/d'", "public.u"),
        ("\"$@\"; echo 'SELECT 1;'", "completion line"),
    ] {
        wrap(&site, &server, filter);
        let ended = site.run(&["backup", "agama"]).ends(1);
        assert!(ended.err.contains(why), "{filter}: {}", ended.err);
        assert_eq!(site.snapshots(), 1, "{filter}");
    }
    wrap(&site, &server, "\"$@\"");
    site.back_up();
    // A server that dies in the middle.
    wrap(&site, &server, PAUSE_EACH);
    let running = site.command(&["backup", "agama"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&site.machine.at("paused"));
    let pid = server.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
    fs::write(site.machine.at("go"), "").unwrap();
    let ended = Ended::from(running.wait_with_output().unwrap()).ends(1);
    assert!(ended.err.contains("no snapshot was made"), "{}", ended.err);
    assert_eq!(site.snapshots(), 2);
}

#[test]
fn a_database_that_shrank_is_suspect_and_a_copy_is_a_dump() {
    let Some((server, site)) = site(SCHEMA) else { return };
    let copies = site.machine.at("copies");
    site.configure(&lines(&server, &format!("local_copy = \"{}\"\nlocal_reserve = \"0 %\"", copies.display())));
    let made = site.run(&["--json", "dump", "agama"]).ends(0).json();
    let path = Path::new(made["path"].as_str().unwrap()).join("dump.sql");
    let Some(second) = support::postgresql::Postgres::start() else { return };
    let text = fs::read_to_string(&path).unwrap().replace("CREATE ROLE postgres;", "");
    fs::write(site.machine.at("dump.sql"), text).unwrap();
    second.sql("postgres", &format!("\\i {}", site.machine.at("dump.sql").display()));
    assert_eq!(second.picture("agama"), server.picture("agama"));
    let good = site.back_up();
    server.sql("agama", "DELETE FROM t");
    let ended = site.run(&["backup", "agama"]).ends(3);
    assert!(ended.err.contains("suspect") && ended.err.contains("max_shrink"), "{}", ended.err);
    let restored = site.run(&["restore", "agama", "--into", "postgresql:copy", "--yes", "--json"]).ends(3);
    assert_eq!(restored.json()["restored"][0]["snapshot"].as_str().unwrap(), good);
    assert_eq!(server.sql("copy", "SELECT count(*) FROM t"), "4000\n");
    site.configure(&lines(&server, &format!("local_copy = \"{}\"\nlocal_reserve = \"100 %\"", copies.display())));
    assert!(site.run(&["dump", "agama"]).ends(8).err.contains("local_reserve"));
}

#[test]
fn a_line_that_stalls_costs_time_and_a_disk_that_is_full_no_snapshot() {
    let Some((server, site)) = site(SCHEMA) else { return };
    // A server that ends idle sessions after a second; a connection that takes much longer for the stored data.
    for setting in ["idle_in_transaction_session_timeout", "statement_timeout", "client_connection_check_interval"] {
        server.sql("postgres", &format!("ALTER SYSTEM SET {setting} = '1s'"));
    }
    server.sql("postgres", "SELECT pg_reload_conf()");
    let rate = if is_long() { "500" } else { "30000" };
    let start = Instant::now();
    site.run(&["--limit-upload", rate, "backup", "agama"]).ends(0);
    assert!(start.elapsed() > Duration::from_secs(2));
    site.run(&["restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(0);
    // The disk of the local copies, and that of the state and the base cache.
    let Some(small) = Small::on(site.machine.at("small"), "300k") else { return };
    site.configure(&lines(
        &server,
        &format!("local_copy = \"{}/copies\"\nlocal_reserve = \"0 %\"", site.machine.at("small").display()),
    ));
    assert!(site.run(&["dump", "agama"]).ends(8).err.contains("No space left"));
    let without = site.run(&["backup", "agama"]).ends(3);
    assert!(without.err.contains("the data is backed up without a local copy"), "{}", without.err);
    assert_eq!(
        fs::read_dir(site.machine.at("small/copies"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count(),
        0
    );
    assert_eq!(site.snapshots(), 2);
    drop(small);
    site.configure(&lines(&server, ""));
    site.back_up();
}

#[test]
fn a_restore_needs_rights_of_its_own() {
    let Some((server, site)) = site(SCHEMA) else { return };
    site.back_up();
    server.sql("agama", "CREATE ROLE backup LOGIN; GRANT pg_read_all_data TO backup");
    let words = ["restore", "agama", "--into", "postgresql:copy", "--yes", "--user"];
    let refused = site.run(&[&words[..], &["backup"]].concat()).ends(5);
    assert!(refused.err.contains("ALTER ROLE \"backup\" CREATEDB"), "{}", refused.err);
    server.sql("postgres", "ALTER ROLE backup CREATEDB");
    // It may make databases, but not give things to their owners.
    let failed = site.run(&[&words[..], &["backup"]].concat()).ends(3);
    let named = "ALTER TABLE public.t OWNER TO postgres of agama failed: 42501";
    assert!(failed.err.contains("copy is in place without this") && failed.err.contains(named), "{}", failed.err);
    assert_eq!(server.sql("copy", "SELECT count(*) FROM t"), "4000\n");
    server.sql("postgres", "DROP DATABASE copy");
    site.run(&[&words[..], &["postgres"]].concat()).ends(0);
    site.back_up();
    assert!(
        site.run(&["restore", "agama", "--into", "postgresql", "--yes", "--only", "agama/t"])
            .ends(2)
            .err
            .contains("restored as a whole")
    );
}

#[test]
fn what_only_a_superuser_sees_is_named_to_another_account_and_comes_back() {
    let schema = "CREATE ROLE app; CREATE FOREIGN DATA WRAPPER fw; CREATE SERVER sv FOREIGN DATA WRAPPER fw;
        CREATE USER MAPPING FOR app SERVER sv OPTIONS (password 'geheim', \"user\" 'u'); CREATE USER MAPPING FOR PUBLIC SERVER sv OPTIONS (a 'it''s');";
    let Some((server, site)) = site(schema) else { return };
    server.sql(
        "agama",
        "CREATE ROLE backup LOGIN BYPASSRLS; GRANT pg_read_all_data TO backup; GRANT SELECT ON pg_authid TO backup",
    );
    let refused = |what: &str| {
        site.configure(&lines(&server, "user = \"backup\""));
        let statement = format!("ALTER ROLE backup SUPERUSER; -- {what}");
        let ended = site.run(&["backup", "agama"]).ends(2);
        assert!(ended.err.contains(&statement) && !ended.err.contains("geheim"), "{}", ended.err);
        let checked = String::from_utf8(site.run(&["config", "check"]).ends(2).out).unwrap();
        assert!(checked.contains(&statement), "{checked}");
        assert_eq!(site.snapshots(), 0);
    };
    refused("the options of user mappings are hidden from others");
    server.sql("agama", "DROP USER MAPPING FOR app SERVER sv");
    refused("the options of user mappings are hidden from others");
    server.sql("agama", "DROP USER MAPPING FOR PUBLIC SERVER sv; CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=geheim' PUBLICATION p WITH (connect = false)");
    refused("the database has subscriptions");
    server.sql("agama", "CREATE USER MAPPING FOR app SERVER sv OPTIONS (password 'geheim', \"user\" 'u'); CREATE USER MAPPING FOR PUBLIC SERVER sv OPTIONS (a 'it''s')");
    site.configure(&lines(&server, ""));
    site.back_up();
    let look = "SELECT usename, umoptions FROM pg_user_mappings ORDER BY 1; SELECT subname, subconninfo, subenabled FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    site.run(&["restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(0);
    assert_eq!(server.sql("copy", look), server.sql("agama", look));
    // Of mappings without options, and of the account's own, nothing is hidden.
    server.sql("agama", "ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub; DROP USER MAPPING FOR app SERVER sv; DROP USER MAPPING FOR PUBLIC SERVER sv;
        GRANT USAGE ON FOREIGN SERVER sv TO backup; CREATE USER MAPPING FOR backup SERVER sv OPTIONS (a 'b')");
    site.configure(&lines(&server, "user = \"backup\""));
    site.back_up();
    let dump =
        String::from_utf8(site.run(&["restore", "agama", "--stdout", "--only", "agama.sql"]).ends(0).out).unwrap();
    assert!(dump.contains("CREATE USER MAPPING FOR backup SERVER sv OPTIONS (\n    a 'b'\n)"), "{dump}");
}
