//! Round trips: a database with every feature, days under load, another name, the old database kept under a backup name.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::postgresql::{REPLACE, RESTORE, lines, site};
use support::postgresql::Postgres;
use support::site::{Stop, is_long};

/// Every kind of object, and rows that are easily bent.
pub const RICH: &str = r#"
CREATE ROLE app LOGIN PASSWORD 'pw' VALID UNTIL '2040-01-01'; CREATE ROLE reader NOLOGIN; GRANT reader TO app; ALTER ROLE app SET work_mem = '3MB';
CREATE ROLE "we""ird; role";
ALTER DATABASE agama OWNER TO app; ALTER DATABASE agama SET work_mem = '7MB'; ALTER ROLE app IN DATABASE agama SET search_path = public, shop;
COMMENT ON DATABASE agama IS 'the ''database''
\! touch x'; GRANT CONNECT ON DATABASE agama TO reader; REVOKE TEMPORARY ON DATABASE agama FROM PUBLIC;
CREATE EXTENSION pgcrypto; CREATE EXTENSION hstore;
CREATE SCHEMA shop AUTHORIZATION app;
CREATE TYPE shop.mood AS ENUM ('good', 'it''s bad'); CREATE DOMAIN shop.price AS numeric(10,2) CHECK (VALUE >= 0);
CREATE TABLE shop.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C", note text, photo bytea, since timestamptz, m shop.mood,
  h hstore, tags text[], j jsonb, upper_name text GENERATED ALWAYS AS (upper(name)) STORED, EXCLUDE USING hash (name WITH =));
CREATE TABLE shop.account (id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES shop.customer ON DELETE CASCADE DEFERRABLE, balance shop.price);
CREATE TABLE part (id int, at date NOT NULL, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part_2025 PARTITION OF part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE part_rest PARTITION OF part DEFAULT;
CREATE TABLE parent (id int); CREATE TABLE child (extra text) INHERITS (parent);
CREATE TABLE "we""ird.tab/le (1) FROM stdin;" ("a b;" int, "\! touch x" text);
CREATE UNLOGGED TABLE loose (a int); CREATE TABLE empty ();
CREATE SEQUENCE number START 5 INCREMENT 3; SELECT nextval('number'), nextval('number');
INSERT INTO shop.customer (name, note, photo, since, m, h, tags, j) VALUES ('null', E'it''s a \\ "x" ); DROP -- foo\n;\t\\.\n\\.', '\x00ff5c2e', '2001-01-01 00:00:01+03', 'it''s bad', 'a=>1', ARRAY['a,b', NULL, '\.'], '{"a": "\\."}'),
  ('õäöü😀', NULL, NULL, 'infinity', 'good', NULL, '{}', 'null'), ('\.', E'\\.', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO shop.customer (name, note, photo) SELECT 'Kund ' || i, repeat(md5(i::text), 12), sha512(i::text::bytea) FROM generate_series(1, 3000) i;
INSERT INTO shop.account (customer, balance) SELECT id, 1000 FROM shop.customer;
INSERT INTO part SELECT i, date '2025-12-01' + i, i FROM generate_series(1, 60) i; INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'x');
INSERT INTO "we""ird.tab/le (1) FROM stdin;" VALUES (1, '\.'), (2, E'COPY x FROM stdin;\n\\! touch x');
SELECT lo_from_bytea(0, sha512('a')), lo_from_bytea(0, decode(repeat('5c2e0a27', 30000), 'hex')); SELECT lo_create(4711);
CREATE VIEW shop.cheap AS SELECT id, name, 'a\b''c;'::text AS x FROM shop.customer WHERE name LIKE 'K%';
CREATE MATERIALIZED VIEW shop.sums AS SELECT sum(balance) FROM shop.account; CREATE INDEX ON shop.account (balance) WHERE balance > 7;
CREATE FUNCTION shop.slash() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''\''::text
;
-- PostgreSQL database dump complete
';
CREATE FUNCTION shop.body() RETURNS text LANGUAGE plpgsql AS $f$
BEGIN
/*
COPY public.t (id) FROM stdin;
\. */
  RETURN $$\! touch x$$;
END $f$;
CREATE FUNCTION shop.atomic(int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT $1 + 1; END;
CREATE PROCEDURE shop.pay(a int, b int, s numeric) LANGUAGE sql AS 'UPDATE shop.account SET balance = balance - s WHERE id = a; UPDATE shop.account SET balance = balance + s WHERE id = b';
CREATE FUNCTION shop.told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := coalesce(NEW.note, '') || '!'; RETURN NEW; END $$;
CREATE TRIGGER told BEFORE INSERT ON shop.customer FOR EACH ROW EXECUTE FUNCTION shop.told();
CREATE RULE r AS ON INSERT TO shop.cheap DO INSTEAD (SELECT 1; SELECT 2);
ALTER TABLE shop.account ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.account FORCE ROW LEVEL SECURITY; CREATE POLICY own ON shop.account FOR SELECT TO app USING (balance > 10);
ALTER TABLE shop.account OWNER TO app; GRANT SELECT (id, name) ON shop.customer TO reader; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT SELECT ON LARGE OBJECT 4711 TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO reader;
CREATE FUNCTION evt() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION evt();
CREATE PUBLICATION p FOR TABLE shop.customer; CREATE STATISTICS st ON id, at FROM part;
COMMENT ON TABLE shop.customer IS E'it''s \\ ; \n\\! touch x'
"#;

#[test]
fn everything_comes_back_on_an_empty_server() {
    let Some((server, site)) = site(RICH) else { return };
    let Some(second) = Postgres::start() else { return };
    let snapshot = site.back_up();
    assert_eq!(site.back_up().len(), snapshot.len());
    let ls = String::from_utf8(site.run(&["ls", "latest"]).ends(0).out).unwrap();
    assert!(ls.contains("agama.sql") && ls.contains("@globals.sql"), "{ls}");
    let again = site.run(&["--json", "-q", "backup", "agama"]).ends(0).json();
    assert_eq!(again["new"], 0, "nothing changed, and nothing is new: {again}");
    site.configure(&lines(&second, ""));
    site.run(&[&RESTORE[..], &["--snapshot", &snapshot]].concat()).ends(0);
    assert_eq!(second.picture("agama"), server.picture("agama"));
    assert_eq!(second.sql("agama", "SELECT nextval('number')"), "11\n");
    // A view of it that is only in memory of the server is filled anew.
    assert_eq!(second.sql("agama", "SELECT * FROM shop.sums"), server.sql("agama", "SELECT * FROM shop.sums"));
    assert!(!site.machine.at("x").exists() && !std::path::Path::new("x").exists(), "no shell was reached");
    // As files: a dump that psql loads.
    let files = site.machine.at("files");
    site.run(&["restore", "agama", "--to", files.to_str().unwrap()]).ends(0);
    assert!(std::fs::read_to_string(files.join("agama.sql")).unwrap().contains("database dump complete"));
    second.sql("postgres", "DROP DATABASE agama");
    second.sql("postgres", &format!("\\i {}", files.join("agama.sql").display()));
    assert_eq!(second.picture("agama"), server.picture("agama"));
}

#[test]
fn what_is_there_is_put_aside_whole_though_clients_come_back() {
    let Some((server, site)) = site(RICH) else { return };
    site.back_up();
    let stored = server.picture("agama");
    server.sql("agama", "DROP TABLE part; DELETE FROM shop.account; CREATE TABLE newer (id int); ALTER DATABASE agama SET work_mem = '8MB'");
    let changed = server.picture("agama");
    let refused = site.run(&RESTORE).ends(5);
    assert!(refused.err.contains("--replace agama"), "{}", refused.err);
    let refused = site.run(&[&RESTORE[..], &["--replace", "agama"]].concat()).ends(5);
    assert!(refused.err.contains("--reason"), "{}", refused.err);
    assert_eq!(server.picture("agama"), changed, "a refusal changes nothing");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database"), "4\n");
    let over = AtomicBool::new(false);
    let mut seen = 0;
    std::thread::scope(|scope| {
        let end = Stop(&over);
        let client = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::SeqCst) {
                seen += u32::from(server.try_sql("agama", "SELECT pg_sleep(0.01)").is_ok());
            }
            seen
        });
        let ended = site.run(&[&RESTORE[..], &REPLACE].concat());
        drop(end);
        seen += client.join().unwrap();
        ended.ends(0);
    });
    assert!(seen > 0);
    assert_eq!(server.picture("agama"), stored);
    let names = server.sql("postgres", "SELECT datname FROM pg_database ORDER BY 1");
    let before = names.lines().find(|name| name.starts_with("agama_before_")).unwrap();
    assert!(!names.contains("_loading_"), "{names}");
    assert_eq!(server.picture(before), changed);
    // The database with a backup name isn't backed up with the rest.
    site.configure(&lines(&server, "databases = \"all\""));
    site.back_up();
    let ls = String::from_utf8(site.run(&["ls", "latest"]).ends(0).out).unwrap();
    assert!(ls.contains("agama.sql") && !ls.contains("_before_") && !ls.contains("postgres.sql"), "{ls}");
    site.run(&["restore", "agama", "--into", "postgresql:a copy", "--yes"]).ends(0);
    assert_eq!(server.sql("a copy", "SELECT count(*) FROM shop.customer"), "3003\n");
}

#[test]
fn days_under_load_keep_the_sum() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY, balance int NOT NULL); CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE z (LIKE a INCLUDING ALL);
        INSERT INTO a SELECT i, 1000 FROM generate_series(1, 2000) i; INSERT INTO b SELECT * FROM a; INSERT INTO z SELECT * FROM a;
        CREATE PROCEDURE move() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..1000000 LOOP
          UPDATE a SET balance = balance - 7 WHERE id = 1 + i % 2000;
          UPDATE z SET balance = balance + 5 WHERE id = 1 + i * 31 % 2000;
          UPDATE b SET balance = balance + 2 WHERE id = 1 + i * 17 % 2000;
          COMMIT;
        END LOOP; END $$;";
    let Some((server, site)) = site(schema) else { return };
    let Some(second) = Postgres::start() else { return };
    let days = if is_long() { 10 } else { 3 };
    let over = AtomicBool::new(false);
    let snapshots: Vec<String> = std::thread::scope(|scope| {
        let end = Stop(&over);
        let mover = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let _ = server.try_sql("agama", "SET statement_timeout = '1s'; CALL move()");
            }
        });
        let snapshots = (0..days).map(|_| site.back_up()).collect();
        drop(end);
        mover.join().unwrap();
        snapshots
    });
    site.configure(&lines(&second, ""));
    let mut seen = std::collections::BTreeSet::new();
    for snapshot in &snapshots {
        let words = [&RESTORE[..], &REPLACE, &["--snapshot", snapshot]].concat();
        site.run(&words).ends(0);
        let sum = "SELECT (SELECT sum(balance) FROM a) + (SELECT sum(balance) FROM b) + (SELECT sum(balance) FROM z)";
        assert_eq!(second.sql("agama", sum), "6000000\n");
        seen.insert(second.sql("agama", "SELECT sum(balance) FROM a"));
    }
    assert_eq!(seen.len(), snapshots.len(), "money moved between the days");
}

#[test]
fn a_dump_of_another_job_reaches_no_shell() {
    let Some((server, site)) = site("CREATE TABLE t (id int); INSERT INTO t VALUES (1)") else { return };
    let folder = site.machine.at("theirs");
    std::fs::create_dir(&folder).unwrap();
    let external = format!("local_copy = \"{}\"\ndump_by = \"external\"\n", folder.display());
    site.configure(&lines(&server, &external));
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("there is no dump"));
    let dump = String::from_utf8(server.dump("agama")).unwrap();
    let write = |text: &str| std::fs::write(folder.join("agama.sql"), text).unwrap();
    write(&dump);
    site.back_up();
    let restore = [&RESTORE[..], &REPLACE].concat();
    site.run(&restore).ends(0);
    assert_eq!(server.sql("agama", "SELECT * FROM t"), "1\n");
    let touched = site.machine.at("touched");
    for bad in [
        format!("\\! touch {}\n", touched.display()),
        format!("\\unrestrict test\n\\! touch {}\n", touched.display()),
        format!("SELECT 1 \\! touch {}\n;\n", touched.display()),
        format!("COPY t FROM PROGRAM 'touch {}';\n", touched.display()),
        format!("SELECT 1; \\o |touch {}\n", touched.display()),
        format!("\\connect agama\n\\! touch {}\n", touched.display()),
    ] {
        write(&dump.replace("\nALTER TABLE", &format!("\n{bad}\nALTER TABLE")));
        site.back_up();
        let refused = site.run(&restore).ends(5);
        assert!(
            refused.err.contains("no dump needs") || refused.err.contains("no plain dump"),
            "{bad}: {}",
            refused.err
        );
        assert!(!touched.exists(), "{bad}");
        site.run(&["restore", "agama", "--abandon", "--reason", "test"]).ends(0);
    }
    write(&dump[..dump.find("-- PostgreSQL database dump complete").unwrap()]);
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("completion line"));
    write(&dump.replace("CREATE DATABASE", "-- CREATE DATABASE"));
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("--create"));
}
