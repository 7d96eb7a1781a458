//! Names of every kind, functions that depend on the search path, and restores of which a part fails.

use crate::postgresql::{REPLACE, RESTORE, lines, site};
use support::postgresql::Postgres;
use support::site::Site;

const ODD: [&str; 12] =
    ["my-shop", "My Shop", "o'hara", "a=b", "ü☃", "a/b", "-dash", "%s", "@globals", "q\"uote", "back\\slash", "a.b"];

/// Tables, keys and indexes are in their former tablespaces, where those exist, whoever loads them.
#[test]
fn what_lies_in_a_tablespace_comes_back_there() {
    let Some((server, site)) = site("SELECT 1") else { return };
    server.sql("postgres", "SET allow_in_place_tablespaces = on; CREATE TABLESPACE \"fast one\" LOCATION ''");
    server.sql(
        "agama",
        "CREATE TABLE placed (a int PRIMARY KEY USING INDEX TABLESPACE \"fast one\", b int) TABLESPACE \"fast one\"; INSERT INTO placed VALUES (1, 2);
         CREATE INDEX by_b ON placed (b) TABLESPACE \"fast one\"; CREATE MATERIALIZED VIEW m TABLESPACE \"fast one\" AS SELECT a FROM placed; CREATE TABLE plain (a int)",
    );
    let places = |database: &str| {
        let relations = "SELECT relname, spcname FROM pg_class LEFT JOIN pg_tablespace t ON t.oid = reltablespace WHERE relname ~ 'placed|by_b|^m$|plain' ORDER BY 1";
        server.sql(database, relations)
    };
    let was = places("agama");
    assert_eq!(was.matches("fast one").count(), 4, "{was}");
    site.run(&["-q", "backup", "agama"]).ends(0);
    site.run(&["-q", "restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(0);
    assert_eq!(places("copy"), was);
    let replace = ["-q", "restore", "agama", "--into", "postgresql", "--replace", "agama", "--yes", "--reason", "test"];
    site.run(&replace).ends(0);
    assert_eq!((places("agama"), server.sql("agama", "SELECT b FROM placed")), (was, "2\n".to_owned()));
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'varu_restore_%'"), "0\n");
}

#[test]
fn a_database_of_any_name_comes_back() {
    let Some(server) = Postgres::start() else { return };
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for (number, name) in ODD.iter().enumerate() {
        server.sql(
            "postgres",
            &format!(
                "CREATE DATABASE {0}; COMMENT ON DATABASE {0} IS 'x'; ALTER DATABASE {0} SET work_mem = '7MB'",
                quoted(name)
            ),
        );
        server.sql(
            &format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
            &format!("CREATE TABLE t AS SELECT {number} AS a"),
        );
    }
    let names: Vec<String> = ODD.iter().map(|name| format!("{name:?}")).collect();
    let site = Site::new("agama", &lines(&server, &format!("databases = [{}]", names.join(", "))));
    site.back_up();
    let check = |what: &str| {
        for (number, name) in ODD.iter().enumerate() {
            let address = format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"));
            assert_eq!(
                server.sql(&address, "SELECT a FROM t; SHOW work_mem"),
                format!("{number}\n7MB\n"),
                "{what}: {name}"
            );
        }
    };
    for name in ODD {
        server.sql("postgres", &format!("DROP DATABASE {}", quoted(name)));
    }
    site.run(&RESTORE).ends(0);
    check("where nothing was");
    let mut words = RESTORE.to_vec();
    words.extend(["--reason", "test"]);
    let replaced: Vec<String> = ODD.iter().map(|name| format!("--replace={name}")).collect();
    words.extend(replaced.iter().map(String::as_str));
    site.run(&words).ends(0);
    check("over what is there");
    site.run(&["restore", "agama", "--into", "postgresql:x-y 'z'", "--only", "o'hara", "--yes"]).ends(0);
    assert_eq!(server.sql("dbname='x-y \\'z\\''", "SELECT a FROM t"), "2\n");
}

#[test]
fn functions_that_rely_on_the_search_path_come_back() {
    let schema = "CREATE SCHEMA own; CREATE TABLE docs (a int); INSERT INTO docs VALUES (1), (2); CREATE TABLE own.inner_docs (a int); INSERT INTO own.inner_docs VALUES (1);
        ALTER DATABASE agama SET search_path = own, public; SET search_path = own, public;
        CREATE FUNCTION public.cnt() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM docs, inner_docs';
        CREATE FUNCTION public.low(a int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN a + cnt() - 2; END $$;
        CREATE TABLE public.t (a int CHECK (low(a) > 0)); INSERT INTO public.t VALUES (5);";
    let Some((server, site)) = site(schema) else { return };
    // Since 17 the server makes none that relies on the path.
    let makes_all = server.version() < 17;
    if makes_all {
        server
            .sql("agama", "CREATE MATERIALIZED VIEW public.mv AS SELECT cnt() c; CREATE INDEX i ON public.t (low(a))");
    }
    site.back_up();
    let stored = server.picture("agama");
    site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    assert_eq!(server.picture("agama"), stored);
    assert_eq!(server.sql("agama", "SELECT a FROM t"), "5\n");
    if makes_all {
        assert_eq!(server.sql("agama", "SELECT c FROM mv"), "2\n");
    }
}

#[test]
fn where_a_part_fails_the_rest_comes_back_and_nothing_that_lives_is_touched() {
    // A view that was right once, and a check that no row holds any more.
    let schema = "CREATE TABLE src (a int); INSERT INTO src VALUES (1); CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x');
        CREATE FUNCTION part(a int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 10 / a; END $$;
        CREATE MATERIALIZED VIEW mv AS SELECT part(a) FROM src; UPDATE src SET a = 0;
        CREATE TABLE ck (a int); CREATE FUNCTION fits(a int) RETURNS boolean LANGUAGE sql AS 'SELECT true'; ALTER TABLE ck ADD CONSTRAINT c CHECK (fits(a));
        INSERT INTO ck VALUES (4711); CREATE OR REPLACE FUNCTION fits(a int) RETURNS boolean LANGUAGE sql AS 'SELECT false'; CREATE INDEX later ON t (v);";
    let Some((server, site)) = site(schema) else { return };
    server.sql("postgres", "CREATE DATABASE second");
    server.sql("second", "CREATE TABLE t AS SELECT 7 AS a");
    site.configure(&lines(&server, "databases = [\"agama\", \"second\"]"));
    site.back_up();
    let stored = server.picture("agama");
    let words = [&RESTORE[..], &REPLACE, &["--replace", "second"]].concat();
    let ended = site.run(&words).ends(1);
    for part in [
        "REFRESH MATERIALIZED VIEW public.mv of agama failed: 22012: division by zero; in PL/pgSQL function ",
        "part(integer) line 1 at RETURN",
        "the load of public.ck of agama failed: 23514: new row for relation \"ck\" violates check constraint \"c\"; in COPY ck, line 1",
        "public.ck of agama has 0 rows after the load, and 1 in the dump",
        "agama stays as it was",
        "ALTER DATABASE \"agama\" RENAME TO",
    ] {
        assert!(ended.err.contains(part), "{part}: {}", ended.err);
    }
    assert!(!ended.err.contains("4711"), "{}", ended.err);
    assert_eq!(server.picture("agama"), stored, "what lives is untouched");
    let names = server.sql("postgres", "SELECT datname FROM pg_database");
    assert!(
        names.contains("second_before_") && !names.contains("second_loading"),
        "the other one is in place: {names}"
    );
    let left = names.lines().find(|name| name.starts_with("agama_loading_")).unwrap();
    assert_eq!(
        server.sql(left, "SELECT v FROM t WHERE id = 1; SELECT count(*) FROM pg_indexes WHERE indexname = 'later'"),
        "x\n1\n"
    );
    site.run(&["restore", "agama", "--abandon", "--reason", "test"]).ends(0);
    // If the name was free the rest is in place, and missing objects are named.
    let ended = site.run(&["restore", "agama", "--into", "postgresql:copy", "--only", "agama", "--yes"]).ends(3);
    assert!(
        ended.err.contains("copy is in place without this") && ended.err.contains("division by zero"),
        "{}",
        ended.err
    );
    assert_eq!(server.sql("copy", "SELECT v FROM t WHERE id = 1"), "x\n");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'varu%'"), "0\n");
}

#[test]
fn bytes_without_an_encoding_come_back_as_they_are() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE DATABASE agama TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
    server.sql(
        "agama",
        "SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (v text); INSERT INTO t VALUES (E'\\xf6\\xdf')",
    );
    let site = Site::new("agama", &lines(&server, ""));
    site.back_up();
    server.sql("postgres", "DROP DATABASE agama");
    site.run(&RESTORE).ends(0);
    assert_eq!(server.sql("agama", "SELECT encode(v::bytea, 'hex') FROM t"), "f6df\n");
}

#[test]
fn settings_of_roles_and_databases_and_of_the_environment_change_nothing() {
    let schema = "CREATE SCHEMA s; CREATE TABLE s.\"T\" (a int); INSERT INTO s.\"T\" SELECT generate_series(1, 5000); CREATE VIEW s.v AS SELECT a FROM s.\"T\";
        ALTER TABLE s.\"T\" ENABLE ROW LEVEL SECURITY; ALTER TABLE s.\"T\" FORCE ROW LEVEL SECURITY;
        CREATE TABLE pg_class (a int); CREATE FUNCTION count(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'";
    let Some((server, site)) = site(schema) else { return };
    for setting in [
        "search_path = public, pg_catalog",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "client_encoding = 'LATIN1'",
        "row_security = on",
        "bytea_output = 'escape'",
        "DateStyle = 'German'",
    ] {
        server.sql("postgres", &format!("SET default_transaction_read_only = off; ALTER ROLE postgres SET {setting}"));
        server.sql("postgres", &format!("SET default_transaction_read_only = off; SET statement_timeout = 0; ALTER ROLE postgres IN DATABASE agama SET {setting}"));
    }
    let run = |words: &[&str]| {
        let mut varu = site.command(words);
        varu.env("PGOPTIONS", "-c search_path=public -c statement_timeout=1ms").env("PGCLIENTENCODING", "LATIN1");
        varu.env("PGSERVICE", "nothing").env("PGHOSTADDR", "192.0.2.1").env("PGPORT", "1").env("PGDATABASE", "nothing");
        support::machine::Ended::from(varu.output().unwrap())
    };
    run(&["config", "check"]).ends(0);
    run(&["backup", "agama"]).ends(0);
    run(&["restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(0);
    let quiet = "SET statement_timeout = 0; SELECT pg_catalog.count(*) FROM s.\"T\"";
    assert_eq!(server.sql("copy", quiet), "5000\n");
}

#[test]
fn one_database_that_can_not_be_made_holds_up_no_other() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "SET allow_in_place_tablespaces = on; CREATE TABLESPACE fast LOCATION ''");
    server.sql("postgres", "CREATE DATABASE agama; CREATE DATABASE broken TABLESPACE fast; CREATE DATABASE last");
    for name in ["agama", "broken", "last"] {
        server.sql(name, "CREATE TABLE t AS SELECT 7 AS a");
    }
    let set = "databases = [\"agama\", \"broken\", \"last\"]";
    let site = Site::new("agama", &lines(&server, set));
    site.back_up();
    let Some(second) = Postgres::start() else { return };
    second.sql("postgres", "CREATE DATABASE broken");
    second.sql("broken", "CREATE TABLE lives (a int)");
    site.configure(&lines(&second, set));
    let ended = site.run(&[&RESTORE[..], &["--replace", "broken", "--reason", "test"]].concat()).ends(3);
    assert!(
        ended.err.contains("the dump of broken can't be loaded here")
            && ended.err.contains("tablespace \"fast\" does not exist"),
        "{}",
        ended.err
    );
    for name in ["agama", "last"] {
        assert_eq!(second.sql(name, "SELECT a FROM t"), "7\n");
    }
    assert_eq!(second.sql("broken", "SELECT count(*) FROM lives"), "0\n");
    let left = "SELECT (SELECT count(*) FROM pg_database WHERE datname ~ '_(loading|before)_'), (SELECT count(*) FROM pg_roles WHERE rolname ~ '^varu')";
    assert_eq!(second.sql("postgres", left), "0|0\n", "nothing is left over");
    site.back_up();
}

#[test]
fn names_and_definitions_without_an_encoding_come_back_as_they_are() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE DATABASE agama TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'; CREATE ROLE app");
    // Names as a client of Latin-1 wrote them: psql is given the bytes by a file.
    let text = "CREATE SCHEMA \"s@\"; CREATE TABLE \"s@\".\"t@\" (\"c@\" serial PRIMARY KEY, v text DEFAULT '@' CHECK (v <> 'x@')); INSERT INTO \"s@\".\"t@\" (v) VALUES ('@'), (NULL);
        CREATE VIEW \"v@\" AS SELECT \"c@\", 'a@'::text AS \"x@\" FROM \"s@\".\"t@\"; CREATE MATERIALIZED VIEW \"m@\" AS SELECT * FROM \"v@\";
        CREATE FUNCTION \"f@\"() RETURNS text LANGUAGE sql AS $$ SELECT '@'::text $$; CREATE TYPE \"e@\" AS ENUM ('@'); CREATE SEQUENCE \"q@\"; SELECT setval('\"q@\"', 41);
        CREATE INDEX \"i@\" ON \"s@\".\"t@\" (v); ALTER TABLE \"s@\".\"t@\" OWNER TO app; GRANT SELECT ON \"v@\" TO app; COMMENT ON TABLE \"s@\".\"t@\" IS 'k@'; COMMENT ON DATABASE agama IS 'd@';
        CREATE TABLE \"\u{FFFD}\" (a int); ALTER DATABASE agama SET app.x = '@'; ALTER DEFAULT PRIVILEGES IN SCHEMA \"s@\" GRANT SELECT ON TABLES TO app;";
    let bytes: Vec<u8> = text.bytes().map(|byte| if byte == b'@' { 0xf6 } else { byte }).collect();
    let site = Site::new("agama", &lines(&server, ""));
    let file = site.machine.at("names.sql");
    std::fs::write(&file, [b"SET client_encoding = 'SQL_ASCII';\n", &bytes[..]].concat()).unwrap();
    server.sql("agama", &format!("\\i {}", file.display()));
    let dump = server.dump("agama");
    assert!(dump.windows(3).any(|window| window == b"\"t\xf6"), "the bytes are what they are");
    site.back_up();
    for more in ["", "user = \"postgres\"\nrestore_as_superuser = true"] {
        site.configure(&lines(&server, more));
        let ended = site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
        assert!(!ended.err.contains("warning"), "{}", ended.err);
        assert!(server.dump("agama") == dump, "{}", String::from_utf8_lossy(&server.dump("agama")));
    }
}
