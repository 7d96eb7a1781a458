//! Independence of dumps and loads from settings of the machine, the database and the account.

use crate::postgresql::{REPLACE, RESTORE, lines, site};
use support::postgresql::Postgres;
use support::site::Site;

/// Values that depend on settings of the session that reads or writes them.
const TYPES: &str = r#"
CREATE TYPE mood AS ENUM ('good', 'NULL'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN short AS varchar(20);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TABLE every (id int PRIMARY KEY, b bool, i2 int2, i8 int8, n numeric, f4 float4, f8 float8, t text, v varchar(20), c char(9), nm name, ch "char",
  by bytea, d date, tm time, tz timetz, ts timestamp, tsz timestamptz, iv interval, m money, j json, jb jsonb, x xml, u uuid, ip inet, ci cidr, mac macaddr, mac8 macaddr8,
  bi bit(3), vb varbit, pt point, ln line, ls lseg, bx box, pa path, po polygon, ck circle, tv tsvector, tq tsquery, ia int[], ta text[], da date[], iva interval[],
  ra int4range, tr tstzrange, mr datemultirange, mo mood, mos mood[], pr pair, sh short, sp span, lsn pg_lsn, o oid, rc regclass);
INSERT INTO every VALUES
 (1, true, -32768, 9223372036854775807, 'NaN', '1.17549435e-38', '2.2250738585072014e-308', E'a\\b''c\n\t', 'v', 'c', 'nm', 'x', '\x005c27ff0a', '2001-02-03', '23:59:59.999999', '01:02:03+05:45',
  '2001-02-03 04:05:06.789', '2001-02-03 04:05:06.789+09', '-1 year -2 months +3 days -04:05:06.789', '-12345.67', '{"a": 1}', '{"b": null}', '<a>x</a>', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'101', B'1', '(1.1,2.2)', '{1,2,3}', '((1,2),(3,4))', '((3,4),(1,2))', '((1,2),(3,4))', '((1,2),(3,4),(5,6))', '<(1,2),3>',
  to_tsvector('simple', 'a b c'), to_tsquery('simple', 'a & b'), '{1,NULL,3}', '{a,NULL,"NULL","null","a,b","\\",""}', '{2001-02-03,NULL}', '{"-1 days +02:03:00",NULL}',
  '[1,5)', '[2001-01-01 00:00+09,)', '{[2001-01-01,2001-02-01),[2001-03-01,)}', 'NULL', '{NULL,"NULL",good}', ROW(1, NULL), 'x', '[0.1,0.30000000000000004)', '0/16B3748', 4294967295, 'every'),
 (2, NULL, NULL, NULL, '1e-20', '0.1', '0.1', '', '', '', '', '', '', '0044-03-15 BC', '00:00', '00:00-12', 'infinity', '-infinity', '1 day -00:00:01', '0', 'null', 'null', 'text only', NULL,
  '::1', '::/0', NULL, NULL, B'000', B'', NULL, NULL, NULL, NULL, '[(1,2),(3,4)]', NULL, NULL, '', '', '{}', '{NULL}', '{}', '{"1 mon -1 days",NULL}',
  'empty', NULL, '{}', 'good', '{}', ROW(NULL, 'NULL'), NULL, 'empty', NULL, 0, NULL),
 (3, false, 0, 0, 0, 'Infinity', '-0', 'x', 'x', 'x', 'x', 'x', '\x27', '9999-12-31', '24:00', '12:00+00', '1900-01-01', '1900-01-01', '-1 mons +00:00:01', '0.01', '1', '1', '<?xml version="1.0"?><a/>', NULL,
  '0.0.0.0', '0.0.0.0/0', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '[2:3]={4,NULL}', '{{a,NULL},{NULL,b}}', NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE made (a int[] DEFAULT '{1,NULL}', t text[] DEFAULT ARRAY['NULL', NULL], at timestamptz DEFAULT '2001-01-01 00:00+09', i interval DEFAULT '-1 day +01:00', m money DEFAULT '-1.50',
  b bytea DEFAULT '\x5c00', f float8 DEFAULT 0.1, CHECK (at > timestamptz '1999-01-01 00:00+09'), CHECK (t IS DISTINCT FROM '{NULL}'::text[]));
INSERT INTO made DEFAULT VALUES;
CREATE VIEW nulls AS SELECT id, t = NULL AS n, E'it''s \\' AS s FROM every; CREATE TABLE parts (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2001-01-01 00:00+09') TO ('2002-01-01 00:00+09'); INSERT INTO parts VALUES ('2001-12-31 16:00+02');
CREATE FUNCTION quote() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a\b' || E'\\'::text $$; CREATE INDEX ON every ((t || quote()));
"#;

/// Values of settings that change the meaning of a text, or its written form, unexpectedly.
const HOSTILE: [&str; 23] = [
    "array_nulls = off",
    "transform_null_equals = on",
    "backslash_quote = on",
    "standard_conforming_strings = off",
    "escape_string_warning = on",
    "xmloption = document",
    "xmlbinary = hex",
    "bytea_output = escape",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = sql_standard",
    "TimeZone = 'Asia/Kathmandu'",
    "timezone_abbreviations = 'India'",
    "extra_float_digits = -15",
    "default_text_search_config = 'pg_catalog.german'",
    "quote_all_identifiers = on",
    "row_security = off",
    "session_replication_role = replica",
    "idle_in_transaction_session_timeout = 1",
    "client_min_messages = debug1",
    "default_tablespace = ''",
    "default_toast_compression = lz4",
    "check_function_bodies = on",
    "gin_fuzzy_search_limit = 1",
];

/// Reads all of it in one way, whatever the server, the database or the account say.
const LOOK: &str = "SET array_nulls = on; SET bytea_output = hex; SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET extra_float_digits = 1;
    SET transform_null_equals = off; SET quote_all_identifiers = off; SET standard_conforming_strings = on; SET xmlbinary = base64; SET client_min_messages = error; SELECT md5(every::text), every FROM every ORDER BY id; SELECT made FROM made; SELECT * FROM nulls ORDER BY 1;
    SELECT tableoid::regclass, at FROM parts; INSERT INTO made DEFAULT VALUES RETURNING made; DELETE FROM made WHERE ctid <> '(0,1)'";

#[test]
fn hostile_settings_of_server_database_and_account_bend_no_value() {
    let Some((server, site)) = site(TYPES) else { return };
    let Some(second) = Postgres::start() else { return };
    let was = server.sql("agama", LOOK);
    let set = |server: &Postgres, how: &str| {
        for setting in HOSTILE {
            server.sql("postgres", &format!("SET client_min_messages = error; {how} SET {setting}"));
        }
        server.sql("postgres", "SELECT pg_reload_conf()");
    };
    for (database, way) in
        [("system", "ALTER SYSTEM"), ("role", "ALTER ROLE postgres"), ("database", "ALTER DATABASE agama")]
    {
        set(&server, way);
        site.back_up();
        if database != "database" {
            set(&second, way);
        }
        site.configure(&lines(&second, ""));
        let ended = site.run(&["restore", "agama", "--into", &format!("postgresql:{database}"), "--yes"]);
        assert_eq!((ended.status, second.sql(database, LOOK)), (0, was.clone()), "{way}: {}", ended.err);
        site.configure(&lines(&server, ""));
    }
}

#[test]
fn settings_that_would_end_a_dump_or_a_load_end_neither_and_come_back() {
    let Some((server, site)) = site("CREATE ROLE app; CREATE TABLE t (a int); INSERT INTO t VALUES (7)") else {
        return;
    };
    let settings = [
        "role = 'app'",
        "default_transaction_read_only = on",
        "session_replication_role = replica",
        "statement_timeout = 1",
        "lock_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "idle_session_timeout = 1",
        "search_path = ''",
        "client_encoding = 'LATIN1'",
        "default_tablespace = 'nonesuch'",
        "default_table_access_method = 'nonesuch'",
        "default_transaction_isolation = 'serializable'",
        "row_security = off",
        "xmloption = document",
    ];
    for setting in settings {
        server.sql("postgres", &format!("SET client_min_messages = error; ALTER DATABASE agama SET {setting}"));
    }
    let kept = |name: &str| {
        let of =
            "SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname";
        server.sql("postgres", &format!("{of} = '{name}' ORDER BY 1"))
    };
    assert_eq!(kept("agama").lines().count(), settings.len());
    site.back_up();
    site.run(&["restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(0);
    assert_eq!(kept("copy"), kept("agama"));
    server.sql("postgres", "ALTER DATABASE copy RESET ALL");
    assert_eq!(server.sql("copy", "SELECT a FROM t"), "7\n");
}

#[test]
fn what_a_load_computes_is_computed_with_the_databases_own_settings() {
    let schema = "CREATE TABLE t (id int, at timestamptz, i interval, d date);
        ALTER DATABASE agama SET \"TimeZone\" = 'Asia/Tokyo'; ALTER DATABASE agama SET DateStyle = 'SQL, DMY'; ALTER DATABASE agama SET IntervalStyle = iso_8601;
        ALTER DATABASE agama SET app.tenant = 'it''s 7'; ALTER DATABASE agama SET bytea_output = escape; ALTER DATABASE agama SET extra_float_digits = -10;
        ALTER DATABASE agama SET default_text_search_config = 'public.own';";
    let Some((server, site)) = site(schema) else { return };
    server.sql("postgres", "ALTER SYSTEM SET xmlbinary = hex; SELECT pg_reload_conf()");
    server.sql(
        "agama",
        "CREATE TEXT SEARCH CONFIGURATION own (COPY = pg_catalog.english); SET default_text_search_config = 'public.own';
        INSERT INTO t VALUES (1, '2001-02-03 20:00+00', '1 day 02:00', '2001-02-03');
        CREATE FUNCTION tenant() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT current_setting('app.tenant') $$;
        CREATE FUNCTION day(t timestamptz) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT t::date $$;
        CREATE TABLE ck (v text CHECK (v = tenant()), at timestamptz, day date GENERATED ALWAYS AS (day(at)) STORED, CHECK (day(at) = date '04/02/2001'));
        INSERT INTO ck VALUES ('it''s 7', '2001-02-03 20:00+00'); CREATE UNIQUE INDEX ON ck (day(at), tenant());
        CREATE MATERIALIZED VIEW mv AS SELECT at::date AS day, at::text, i::text, d::text AS d, '\\x00'::bytea::text AS b, (0.1::float8 + 0.2)::text AS f, tenant(),
          to_tsvector('the runners')::text AS words, xmlforest('\\x01'::bytea AS b)::text AS x FROM t",
    );
    let look = "SELECT * FROM mv; SELECT * FROM ck; SELECT v, day FROM ck WHERE day(at) = '04/02/2001' AND tenant() = 'it''s 7'";
    let was = server.sql("agama", look);
    assert!(was.contains("04/02/2001") && was.contains("P1DT2H") && was.contains("'runner'"), "{was}");
    let snapshot = site.back_up();
    let Some(second) = Postgres::start() else { return };
    second.sql("postgres", "ALTER SYSTEM SET \"TimeZone\" = 'America/New_York'; SELECT pg_reload_conf(); CREATE ROLE loader SUPERUSER LOGIN");
    second.sql(
        "postgres",
        "ALTER ROLE loader SET IntervalStyle = sql_standard; ALTER ROLE loader SET \"TimeZone\" = 'Europe/Paris'",
    );
    for more in ["", "user = \"loader\"", "user = \"postgres\"\nrestore_as_superuser = true"] {
        site.configure(&lines(&second, more));
        let ended = site.run(&[&RESTORE[..], &REPLACE, &["--snapshot", &snapshot]].concat()).ends(0);
        assert!(!ended.err.contains("warning"), "{}", ended.err);
        assert_eq!(second.sql("agama", look), was, "{more}");
    }
    // Where the server's own differ, and the database says nothing, they are those of the backup, too.
    server.sql("agama", "ALTER DATABASE agama RESET \"TimeZone\"; ALTER SYSTEM SET \"TimeZone\" = 'Asia/Tokyo'; SELECT pg_reload_conf()");
    site.configure(&lines(&server, ""));
    site.back_up();
    site.configure(&lines(&second, ""));
    site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    assert_eq!(
        second.sql("agama", "SET TimeZone = 'Asia/Tokyo'; SELECT day, at FROM mv; SELECT day FROM ck"),
        server.sql("agama", "SELECT day, at FROM mv; SELECT day FROM ck")
    );
}

#[test]
fn views_that_were_not_fresh_are_named_and_empty_ones_stay_empty() {
    let schema = "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); CREATE MATERIALIZED VIEW fresh AS SELECT a FROM t; CREATE MATERIALIZED VIEW stale AS SELECT a FROM t;
        CREATE MATERIALIZED VIEW \"it's\" AS SELECT * FROM t; CREATE MATERIALIZED VIEW nothing AS SELECT a FROM t WITH NO DATA;
        CREATE MATERIALIZED VIEW on_nothing AS SELECT a FROM nothing WITH NO DATA; INSERT INTO t VALUES (3); UPDATE t SET a = 7 WHERE a = 1; REFRESH MATERIALIZED VIEW fresh;";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    let ended = site.run(&["restore", "agama", "--into", "postgresql:copy", "--yes"]).ends(3);
    for name in ["public.stale", "public.\"it's\""] {
        let said = format!(
            "copy is not as it was: the materialized view {name} was filled anew, and has other rows than at the backup: 2 then, and 3 now"
        );
        assert!(ended.err.contains(&said), "{said}: {}", ended.err);
    }
    assert_eq!(ended.err.matches("warning:").count(), 2, "{}", ended.err);
    let populated = "SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1";
    assert_eq!(server.sql("copy", populated), server.sql("agama", populated));
    server.sql("agama", "REFRESH MATERIALIZED VIEW stale; REFRESH MATERIALIZED VIEW \"it's\"");
    site.back_up();
    site.run(&["restore", "agama", "--into", "postgresql:copy2", "--yes"]).ends(0);
}

#[test]
fn an_account_that_may_not_read_a_view_backs_up_all_the_same() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE DATABASE agama; CREATE ROLE backup LOGIN");
    server.sql(
        "agama",
        "CREATE TABLE t (a int); GRANT SELECT ON t TO backup; CREATE MATERIALIZED VIEW mv AS SELECT * FROM t",
    );
    let site = Site::new("agama", &lines(&server, "user = \"backup\""));
    site.back_up();
}
