//! What newer servers have, and dumps of older ones.

use support::postgresql::Postgres;

use crate::postgresql::{REPLACE, RESTORE, lines, site};

/// PostgreSQL 18: virtual columns, keys over time, constraints that are not enforced or not valid, and what came before it.
const NEWEST: &str = "
    CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, u uuid DEFAULT uuidv7(), v text, g int GENERATED ALWAYS AS (length(v)) VIRTUAL,
      gs int GENERATED ALWAYS AS (length(v) * 2) STORED, r int4multirange, j jsonb);
    INSERT INTO t (v, r, j) SELECT repeat('ä', g % 50) || g, int4multirange(int4range(g, g + 2)), jsonb_build_object('k', g) FROM generate_series(1, 2000) g;
    CREATE TABLE span (id int4range, valid daterange, CONSTRAINT pk PRIMARY KEY (id, valid WITHOUT OVERLAPS)); INSERT INTO span VALUES ('[1,2)', '[2026-01-01,2026-02-01)');
    CREATE TABLE part_of (id int4range, valid daterange, FOREIGN KEY (id, PERIOD valid) REFERENCES span (id, PERIOD valid)); INSERT INTO part_of VALUES ('[1,2)', '[2026-01-05,2026-01-06)');
    CREATE TABLE ne (id int, CONSTRAINT nn CHECK (id > 0) NOT ENFORCED); INSERT INTO ne VALUES (-5), (NULL); ALTER TABLE ne ADD CONSTRAINT nnn NOT NULL id NOT VALID;
    CREATE TABLE pt (id int, d date) PARTITION BY RANGE (d); CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); INSERT INTO pt VALUES (1, '2026-05-05');
    CREATE MATERIALIZED VIEW mv AS SELECT count(*) c FROM t; CREATE VIEW vw AS SELECT * FROM t;
    CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a + 1; END;
    CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE words (w text COLLATE nd PRIMARY KEY); INSERT INTO words VALUES ('Ä');
    CREATE COLLATION plain (provider = builtin, locale = 'PG_UNICODE_FAST');
    CREATE PUBLICATION pub FOR TABLE t (id, v) WHERE (id > 5) WITH (publish_generated_columns = stored);
    CREATE STATISTICS st ON v, gs FROM t; CREATE ROLE app LOGIN PASSWORD 'x'; GRANT SELECT, MAINTAIN ON t TO app; GRANT pg_read_all_data TO app WITH INHERIT FALSE;";

#[test]
fn all_that_the_newest_server_has_comes_back() {
    if support::release::of_this_process().is_none() {
        return;
    }
    let Some((server, site)) = site(NEWEST) else { return };
    let picture = server.picture("agama");
    site.run(&["config", "check"]).ends(0);
    site.back_up();
    let Some(second) = Postgres::start() else { return };
    site.configure(&lines(&second, ""));
    site.run(&RESTORE).ends(0);
    assert_eq!(second.picture("agama"), picture);
    site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    assert_eq!(second.picture("agama"), picture);
}

#[test]
fn a_dump_of_an_older_release_comes_back_and_none_goes_the_other_way() {
    if support::release::of_this_process().is_none() {
        return;
    }
    let Some(older) = Postgres::start_of_this_machine() else { return };
    older.sql("postgres", "CREATE DATABASE agama");
    older.sql("agama", crate::postgresql::round::RICH);
    let site = support::site::Site::new("agama", &lines(&older, ""));
    site.back_up();
    let Some(newer) = Postgres::start() else { return };
    site.configure(&lines(&newer, ""));
    let ended = site.run(&RESTORE);
    assert!(matches!(ended.status, 0 | 3), "{}", ended.err);
    let tables = "SELECT string_agg(format('SELECT %L, count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM %s t', c.oid::regclass, c.oid::regclass), ';' ORDER BY c.oid::regclass::text)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%'";
    let questions = older.sql("agama", tables);
    assert!(questions.contains("SELECT"), "{questions}");
    assert_eq!(newer.sql("agama", &questions), older.sql("agama", &questions));
    site.back_up();
    site.configure(&lines(&older, ""));
    older.sql("postgres", "DROP DATABASE agama");
    let refused = site.run(&RESTORE).ends(5);
    assert!(refused.err.contains("older"), "{}", refused.err);
}
