//! The owner of a database, who is no superuser, has code in it. A restore runs that code, as nobody who matters.

use std::path::Path;

use crate::postgresql::{REPLACE, RESTORE, lines};
use support::postgresql::Postgres;
use support::site::Site;

/// A function for each way to be somebody else, and objects that call it: whatever runs it as a superuser, or can get there,
/// touches a file. `volatility` and the rest are what such objects need.
fn hostile(touched: &Path) -> String {
    let copy = format!("COPY (SELECT 1) TO PROGRAM ''touch {}''", touched.display());
    let tries: String = [
        "",
        "RESET SESSION AUTHORIZATION",
        "RESET ROLE",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SET LOCAL SESSION AUTHORIZATION DEFAULT",
        "ALTER ROLE app SUPERUSER",
        "ALTER SYSTEM SET log_statement = 'all'",
    ]
    .iter()
    .map(|statement| {
        let first =
            if statement.is_empty() { String::new() } else { format!("EXECUTE '{}';", statement.replace('\'', "''")) };
        format!("BEGIN {first} EXECUTE '{copy}'; EXCEPTION WHEN OTHERS THEN NULL; END;\n")
    })
    .collect();
    format!(
        "CREATE SCHEMA trap;
         CREATE FUNCTION trap.act() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN {tries} END $f$;
         CREATE FUNCTION trap.run(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM trap.act(); RETURN a; END $f$;
         CREATE FUNCTION trap.as_definer(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER AS $f$ BEGIN PERFORM trap.act(); RETURN a; END $f$;
         CREATE FUNCTION trap.by_trigger() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM trap.run(1); RETURN NEW; END $f$;
         CREATE DOMAIN trap.d AS int CHECK (trap.run(VALUE) = VALUE);
         CREATE TABLE trap.checked (a int CHECK (trap.run(a) = a), b int CHECK (trap.as_definer(b) = b));
         CREATE TABLE trap.of_domain (a trap.d);
         CREATE TABLE trap.generated (a int DEFAULT trap.run(7), b int GENERATED ALWAYS AS (trap.run(a)) STORED);
         CREATE TABLE trap.indexed (a int); CREATE INDEX ON trap.indexed (trap.run(a)); CREATE UNIQUE INDEX ON trap.indexed (a) WHERE trap.run(a) > 0;
         CREATE STATISTICS trap.s ON trap.run(a), a FROM trap.indexed;
         CREATE TABLE trap.parted (a int) PARTITION BY RANGE (trap.run(a)); CREATE TABLE trap.part PARTITION OF trap.parted FOR VALUES FROM (0) TO (100);
         CREATE TABLE trap.keyed (a int PRIMARY KEY); CREATE TABLE trap.keys (a int REFERENCES trap.keyed);
         CREATE TRIGGER t BEFORE INSERT ON trap.keyed FOR EACH ROW EXECUTE FUNCTION trap.by_trigger();
         CREATE RULE r AS ON UPDATE TO trap.keys DO ALSO SELECT trap.run(1);
         ALTER TABLE trap.keys ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON trap.keys USING (trap.run(a) = a);
         CREATE VIEW trap.seen AS SELECT trap.run(a) FROM trap.indexed;
         INSERT INTO trap.checked VALUES (1, 2); INSERT INTO trap.of_domain VALUES (1); INSERT INTO trap.generated VALUES (1);
         INSERT INTO trap.indexed VALUES (1), (2); INSERT INTO trap.parted VALUES (3); INSERT INTO trap.keyed VALUES (1); INSERT INTO trap.keys VALUES (1);
         CREATE MATERIALIZED VIEW trap.kept AS SELECT trap.run(a) FROM trap.indexed;
         CREATE MATERIALIZED VIEW trap.seen_by AS SELECT current_user::text AS me, trap.as_definer(1), count(*) FROM trap.keys;"
    )
}

#[test]
fn no_code_of_a_databases_owner_runs_as_an_administrator() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE ROLE app LOGIN; CREATE DATABASE agama OWNER app; CREATE DATABASE other");
    server.sql("other", "CREATE TABLE t (a int)");
    let touched = server.socket().join("touched");
    server.sql_as("app", "agama", &hostile(&touched));
    assert!(!touched.exists(), "the owner can't do it by himself");
    let site = Site::new("agama", &lines(&server, ""));
    site.back_up();
    let stored = server.picture("agama");
    assert!(!touched.exists(), "a backup runs none of it");
    let is_held = |what: &str| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!touched.exists(), "{what}: code of the dump ran as a superuser");
        assert_eq!(server.picture("agama"), stored, "{what}");
        let left = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'varu%' OR rolsuper AND rolname <> 'postgres'";
        assert_eq!(server.sql("postgres", left), "", "{what}");
        assert_eq!(server.sql_as("app", "agama", "SELECT me FROM trap.seen_by"), "app\n", "{what}");
    };
    server.sql("postgres", "DROP DATABASE agama");
    site.run(&RESTORE).ends(0);
    is_held("where nothing was");
    site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    is_held("over what is there");
    site.run(&["restore", "agama", "--into", "postgresql:a copy", "--yes"]).ends(0);
    is_held("a copy");
    // With a trusted author, all of it is as it always was: this is the protection otherwise.
    site.configure(&lines(&server, "user = \"postgres\"\nrestore_as_superuser = true\n"));
    site.run(&["restore", "agama", "--into", "postgresql:trusted", "--yes"]).ends(0);
    assert!(touched.exists(), "the input is one that works");
}

#[test]
fn a_dump_that_somebody_wrote_commands_nobody() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE ROLE app LOGIN; CREATE DATABASE agama OWNER app; CREATE DATABASE other");
    server.sql("other", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    server.sql("agama", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let touched = server.socket().join("touched");
    let site = Site::new("agama", &lines(&server, ""));
    let folder = site.machine.at("theirs");
    std::fs::create_dir(&folder).unwrap();
    site.configure(&lines(&server, &format!("local_copy = \"{}\"\ndump_by = \"external\"\n", folder.display())));
    let dump = String::from_utf8(server.dump("agama")).unwrap();
    let program = format!("PROGRAM 'touch {}'", touched.display());
    let refused = [
        "ALTER ROLE app SUPERUSER;".to_owned(),
        "GRANT postgres TO app;".to_owned(),
        "ALTER SYSTEM SET log_statement = 'all';".to_owned(),
        "ALTER DATABASE other RENAME TO gone;".to_owned(),
        "ALTER DATABASE other OWNER TO app;".to_owned(),
        "GRANT ALL ON DATABASE other TO app;".to_owned(),
        "COMMENT ON DATABASE other IS 'x';".to_owned(),
        "\\connect other\nDROP TABLE t;".to_owned(),
        "\\connect -reuse-previous=on \"dbname='other'\"\nDROP TABLE t;".to_owned(),
        "CREATE DATABASE evil WITH TEMPLATE = other;".to_owned(),
        "\\unrestrict test\n\\! touch x".to_owned(),
        format!("COPY public.t FROM {program};"),
        format!("COPY (SELECT 1) TO {program};"),
        format!("/* x */ COPY (SELECT 1) TO {program};"),
        "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p;".to_owned(),
        "CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;".to_owned(),
        // Text that a client reads otherwise than the server, or than another client.
        "SELECT :E'\\' \\! touch x\n;'\n;".to_owned(),
        "SELECT E'a'\n'\\'' \\! touch x\n;'\n;".to_owned(),
        "SELECT 1$$'$$ \\! touch x\n;'\n;".to_owned(),
        "SELECT $1$$'$$ \\! touch x\n;'\n;".to_owned(),
        "SELECT $e'\\'' \\! touch x\n;'\n;".to_owned(),
        "SELECT :LAST_ERROR_MESSAGE;".to_owned(),
        "SET standard_conforming_strings TO off;\nSELECT '\\'' \\! touch x\n;'\n;".to_owned(),
        "SELECT set_config('standard_conforming_strings', 'off', false);\nSELECT '\\'' \\! touch x\n;'\n;".to_owned(),
        "SET client_encoding = 'SJIS';\nSELECT 1;".to_owned(),
        "BEGIN;\nSET standard_conforming_strings TO off;\nCOMMIT;".to_owned(),
        "begin;\nSELECT 1;".to_owned(),
        "copy public.t from stdin;".to_owned(),
    ];
    // These are run, by one who may not do that.
    let tried = [
        format!("DO $$ BEGIN EXECUTE 'COPY (SELECT 1) TO {}'; END $$;", program.replace('\'', "''")),
        format!("select 1; copy (SELECT 1) TO {program};"),
        "DROP DATABASE other;".to_owned(),
        "drop role app;".to_owned(),
        "CREATE ROLE evil SUPERUSER;".to_owned(),
        "SET ROLE postgres;".to_owned(),
        "UPDATE pg_catalog.pg_database SET datname = 'x' WHERE datname = 'other';".to_owned(),
        "CREATE FUNCTION public.f(cstring) RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'system';"
            .to_owned(),
        "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all';".to_owned(),
        "CREATE FOREIGN DATA WRAPPER w VALIDATOR public.v OPTIONS (a 'b');".to_owned(),
    ];
    let write = |name: &str, bad: &str| {
        let dump = dump.replace("agama", name);
        let at = dump.find("COPY public.t").unwrap();
        let text = format!("{}{bad}\n{}", &dump[..at], &dump[at..]);
        std::fs::write(folder.join(format!("{name}.sql")), text).unwrap();
    };
    refused.iter().enumerate().for_each(|(number, bad)| write(&format!("bad_{number}"), bad));
    write("tries", &tried.join("\n"));
    site.back_up();
    let ended = site.run(&RESTORE).ends(3);
    assert!(!touched.exists() && !Path::new("x").exists(), "{}", ended.err);
    for (number, bad) in refused.iter().enumerate() {
        assert!(ended.err.contains(&format!("the dump of bad_{number} ")), "{bad}: {}", ended.err);
    }
    assert_eq!(ended.err.matches("tries is in place without this").count(), tried.len(), "{}", ended.err);
    let roles = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'varu%' OR rolsuper AND rolname <> 'postgres' OR pg_has_role('app', oid, \
                 'MEMBER') AND rolname <> 'app'";
    assert_eq!(server.sql("postgres", roles), "", "no role is made, or given to anybody");
    let names = "SELECT datname FROM pg_database WHERE datname NOT LIKE 'template_' ORDER BY 1";
    assert_eq!(server.sql("postgres", names), "agama\nother\npostgres\ntries\n");
    assert_eq!(
        server.sql("other", "SELECT count(*) FROM t") + &server.sql("tries", "SELECT count(*) FROM t"),
        "1\n1\n"
    );
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    // Text that only looks like any of these is data.
    server.sql(
        "agama",
        &format!(
            "CREATE TABLE \"ALTER ROLE app SUPERUSER;\" (\"\\! touch x\" text DEFAULT 'RESET ROLE;'); INSERT INTO \"ALTER ROLE app SUPERUSER;\" VALUES
             ('\\connect other'), (E'\\\\.\\n\\\\! touch {0}'), ('COPY t FROM PROGRAM ''touch {0}'';'), ('DROP TABLE t;');
             COMMENT ON TABLE t IS E'x\\n\\\\connect other\\nALTER SYSTEM SET a = 1;';
             CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'GRANT postgres TO app;'; $$",
            touched.display()
        ),
    );
    std::fs::write(folder.join("agama.sql"), server.dump("agama")).unwrap();
    site.run(&["backup", "agama", "--accept-shrink"]).ends(0);
    site.run(&["restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(0);
    assert_eq!(server.picture("copy"), server.picture("agama"));
    assert!(!touched.exists() && !Path::new("x").exists());
}

/// The role that loads logs in by a password, so nothing of its client needs to be anybody, whoever `exec` makes of the others.
#[test]
fn the_client_that_loads_is_a_user_who_owns_nothing() {
    let Some(server) = Postgres::start() else { return };
    if !support::apart::is_root() {
        return eprintln!("skipped: not root");
    }
    server.sql("postgres", "CREATE ROLE app LOGIN; CREATE DATABASE agama OWNER app");
    server.sql_as(
        "app",
        "agama",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE MATERIALIZED VIEW slow AS SELECT pg_sleep(3)::text, a FROM t",
    );
    let site = Site::new("agama", &lines(&server, "exec = [\"runuser\", \"-u\", \"postgres\", \"--\"]\n"));
    site.back_up();
    let stored = server.picture("agama");
    server.sql("postgres", "DROP DATABASE agama");
    let seen = std::thread::scope(|scope| {
        let restore = scope.spawn(|| site.run(&RESTORE));
        // Where its end doesn't come it does nothing but load.
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'varu_restore%' AND wait_event = 'PgSleep'";
        while server.sql("postgres", waits) == "0\n" && !restore.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let seen = support::apart::Seen::of("psql", &["--username=varu_restore_"]);
        restore.join().unwrap().ends(0);
        seen
    });
    seen.is_apart(false);
    assert_eq!(server.picture("agama"), stored);
}
