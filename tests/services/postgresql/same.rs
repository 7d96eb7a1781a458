//! Fidelity of a restore; losses are named.

use crate::postgresql::{RESTORE, lines, site};
use support::postgresql::Postgres;
use support::site::Site;

#[test]
fn a_definition_or_a_sequence_that_is_not_as_it_was_is_named() {
    let schema = "CREATE TABLE t (id serial, a int); ALTER TABLE t ALTER a SET STATISTICS 77; INSERT INTO t (a) VALUES (1); CREATE SEQUENCE s; SELECT setval('s', 41);
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 4711';";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    let proof = site.run(&["restore", "agama", "--into", "postgresql:same", "--yes"]).ends(0);
    assert!(!proof.err.contains("warning"), "{}", proof.err);
    // The effect of a statement that a server understands otherwise.
    let change = "sed -u \"s/STATISTICS 77/STATISTICS 78/; s/'public.s', 41/'public.s', 42/; s/SELECT 4711/SELECT 4712/\" | \"$@\"";
    let wrapper = site.wrapper("*\\ psql\\ *", change);
    site.configure(&lines(&server, &format!("exec = [\"{}\"]\n", wrapper.display())));
    let ended = site.run(&["restore", "agama", "--into", "postgresql:other", "--yes"]).ends(3);
    for what in [
        "other is not as it was: ALTER TABLE ONLY public.t ALTER COLUMN a SET STATISTICS 77 was in the dump, and isn't there",
        "ALTER TABLE ONLY public.t ALTER COLUMN a SET STATISTICS 78 is there, and wasn't in the dump",
        "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS isn't what it was in the dump",
        "the sequence public.s was at 41, true, and is at 42, true",
        "[not-as-it-was]",
    ] {
        assert!(ended.err.contains(what), "{what}: {}", ended.err);
    }
    assert_eq!(ended.err.matches("warning:").count(), 4, "{}", ended.err);
}

#[test]
fn columns_that_change_their_order_are_named() {
    let schema = "CREATE TABLE p (a int); CREATE TABLE c (x int) INHERITS (p); ALTER TABLE p ADD b int; INSERT INTO c VALUES (1, 2, 3);";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    server.sql("postgres", "DROP DATABASE agama");
    let ended = site.run(&RESTORE).ends(3);
    assert!(ended.err.contains("the columns of public.c were a, x, b, and are a, b, x"), "{}", ended.err);
    assert_eq!(server.sql("agama", "SELECT a, x, b FROM c"), "1|2|3\n");
}

#[test]
fn a_template_and_the_comment_of_a_role_come_back() {
    let Some(server) = Postgres::start() else { return };
    server.sql(
        "postgres",
        "CREATE ROLE app; COMMENT ON ROLE app IS 'it''s ours'; CREATE DATABASE tmpl OWNER app IS_TEMPLATE true",
    );
    server.sql("tmpl", "CREATE TABLE t AS SELECT 7 AS a");
    let site = Site::new("agama", &lines(&server, "databases = [\"tmpl\"]"));
    site.back_up();
    server.sql("postgres", "ALTER DATABASE tmpl IS_TEMPLATE false");
    server.sql("postgres", "DROP DATABASE tmpl");
    server.sql("postgres", "DROP ROLE app");
    site.run(&RESTORE).ends(0);
    let said = "SELECT datistemplate, shobj_description(r.oid, 'pg_authid') FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = 'tmpl'";
    assert_eq!(server.sql("postgres", said), "t|it's ours\n");
    assert_eq!(server.sql("tmpl", "SELECT a FROM t"), "7\n");
}

#[test]
fn a_second_restore_of_all_sees_whatever_was_changed() {
    let schema = "CREATE TABLE t (id serial, a int); INSERT INTO t (a) VALUES (1), (2); SELECT lo_from_bytea(4711, 'abc'); CREATE ROLE app;
        CREATE MATERIALIZED VIEW mv AS SELECT a FROM t; CREATE UNIQUE INDEX ON mv (a); CREATE TYPE mood AS ENUM ('good');
        CREATE EXTENSION hstore; CREATE FOREIGN DATA WRAPPER fw; CREATE SERVER sv FOREIGN DATA WRAPPER fw; CREATE USER MAPPING FOR app SERVER sv OPTIONS (a 'b');";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    let Some(second) = Postgres::start() else { return };
    drop(server);
    site.configure(&lines(&second, ""));
    let all = |words: &[&str]| site.run(&[&["restore", "--all", "--yes", "--reason", "test"], words].concat());
    all(&[]).ends(0);
    let again = all(&[]).ends(0);
    assert!(String::from_utf8_lossy(&again.out).contains("restored by an earlier run, and as it was then"));
    for change in [
        "SELECT setval('t_id_seq', 99)",
        "SELECT lo_put(4711, 0, 'x')",
        "ALTER DATABASE agama SET work_mem = '3MB'",
        "UPDATE t SET a = 7 WHERE a = 1; UPDATE t SET a = 1 WHERE a = 7",
        "GRANT SELECT ON t TO app",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app",
        "ALTER USER MAPPING FOR app SERVER sv OPTIONS (SET a 'c')",
        "COMMENT ON DATABASE agama IS 'x'",
        "ALTER TYPE mood ADD VALUE 'bad'",
        "ALTER TABLE t ALTER a SET STATISTICS 7",
        "UPDATE t SET a = a + 10; REFRESH MATERIALIZED VIEW CONCURRENTLY mv",
    ] {
        second.sql("agama", change);
        let ended = all(&[]).ends(3);
        assert!(ended.err.contains("what is there has changed since"), "{change}: {}", ended.err);
        all(&["--replace", "agama"]).ends(0);
        // An index that is looked at, statistics and a checkpoint are no change.
        second.sql("agama", "SELECT * FROM t; ANALYZE; VACUUM; CHECKPOINT");
    }
    all(&[]).ends(0);
}

#[test]
fn what_differs_is_named_though_the_servers_version_is_another() {
    let schema = "CREATE TABLE t (id serial, a int); ALTER TABLE t ALTER a SET STATISTICS 77; CREATE VIEW v AS SELECT 4711 AS a; SELECT setval('t_id_seq', 41)";
    let Some((server, site)) = site(schema) else { return };
    let version = server.sql("postgres", "SHOW server_version").split([' ', '\n']).next().unwrap().to_owned();
    let (major, _) = version.split_once('.').unwrap();
    let older = (major.parse::<u32>().unwrap() - 1).to_string();
    for (written, is_compared) in [(format!("{major}.1"), true), (format!("{older}.9"), false)] {
        let wrapper = site.wrapper("*", &format!("\"$@\" | sed -u 's/{}/{written}/'", version.replace('.', "\\.")));
        site.configure(&lines(&server, &format!("exec = [\"{}\"]\n", wrapper.display())));
        site.back_up();
        site.configure(&lines(&server, ""));
        let ended = site.run(&["restore", "agama", "--into", &format!("postgresql:same{written}"), "--yes"]).ends(0);
        assert_eq!(
            ended.err.contains("only where the dump is of this server's major version"),
            !is_compared,
            "{}",
            ended.err
        );
        assert!(!ended.err.contains("warning"), "{}", ended.err);
        let change = "sed -u \"s/STATISTICS 77/STATISTICS 78/; s/VIEW public.v/VIEW public.w/; s/, 41/, 42/\" | \"$@\"";
        let wrapper = site.wrapper("*\\ psql\\ *", change);
        site.configure(&lines(&server, &format!("exec = [\"{}\"]\n", wrapper.display())));
        let ended = site.run(&["restore", "agama", "--into", &format!("postgresql:other{written}"), "--yes"]).ends(3);
        let (statement, part) = (
            "SET STATISTICS 77 was in the dump, and isn't there",
            "v; Type: VIEW; Schema: public; Owner: postgres was in the dump, and isn't there",
        );
        assert_eq!(
            (ended.err.contains(statement), ended.err.contains(part)),
            (is_compared, !is_compared),
            "{}",
            ended.err
        );
        assert!(
            ended.err.contains("the sequence public.t_id_seq was at 41, true, and is at 42, true"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn rights_on_parameters_and_tablespaces_come_back_or_are_named() {
    let Some(server) = Postgres::start() else { return };
    let tablespace = "SET allow_in_place_tablespaces = on; CREATE TABLESPACE \"fast one\" LOCATION ''";
    server.sql("postgres", tablespace);
    server.sql(
        "postgres",
        "CREATE DATABASE agama; CREATE ROLE app; CREATE ROLE there; GRANT SET ON PARAMETER log_min_messages TO app, there; GRANT ALTER SYSTEM ON PARAMETER work_mem TO app WITH GRANT OPTION;
         GRANT CREATE ON TABLESPACE \"fast one\" TO app; GRANT SET ON PARAMETER log_statement TO PUBLIC; ALTER ROLE app IN DATABASE agama SET work_mem = '3MB'",
    );
    server.sql("agama", "CREATE SCHEMA s; ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA s GRANT SELECT ON TABLES TO there; ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE ALL ON FUNCTIONS FROM PUBLIC");
    let site = Site::new("agama", &lines(&server, ""));
    let snapshot = site.back_up();
    let Some(second) = Postgres::start() else { return };
    second.sql("postgres", "CREATE ROLE there");
    site.configure(&lines(&second, ""));
    let restore = [&RESTORE[..], &["--snapshot", &snapshot]].concat();
    let ended = site.run(&restore).ends(3);
    for right in [
        "GRANT ALL ON TABLESPACE \"fast one\" TO app;",
        "GRANT SET ON PARAMETER log_min_messages TO there;",
        "GRANT SET ON PARAMETER log_statement TO PUBLIC;",
    ] {
        assert!(ended.err.contains(&format!("isn't there as at the backup: {right}")), "{right}: {}", ended.err);
    }
    assert_eq!(ended.err.matches("warning:").count(), 3, "{}", ended.err);
    assert!(second.picture("agama").contains("GRANT ALTER SYSTEM ON PARAMETER work_mem TO app WITH GRANT OPTION;"));
    second.sql("postgres", "DROP DATABASE agama");
    second
        .sql("postgres", "REVOKE ALL ON PARAMETER log_min_messages, work_mem FROM app; DROP ROLE app; DROP ROLE there");
    second.sql("postgres", tablespace);
    second.sql("postgres", "GRANT SET ON PARAMETER log_statement TO PUBLIC");
    site.run(&restore).ends(0);
    let rights = |server: &Postgres| {
        let kinds = [" ON PARAMETER ", " ON TABLESPACE ", "ALTER DEFAULT PRIVILEGES ", " IN DATABASE "];
        let picture = server.picture("agama");
        let lines = picture.lines().filter(|line| kinds.iter().any(|kind| line.contains(kind)));
        lines.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(rights(&second), rights(&server));
    assert_eq!(rights(&server).len(), 8, "{:?}", rights(&server));
}

#[test]
fn what_a_language_needs_does_not_hold_up_an_extension_and_is_named_where_it_does() {
    let schema = "CREATE EXTENSION pg_trgm; CREATE EXTENSION hstore; CREATE TABLE t (h hstore); INSERT INTO t VALUES ('a=>1');
        CREATE FUNCTION handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
        CREATE TRUSTED LANGUAGE own HANDLER handler; CREATE FUNCTION x() RETURNS int LANGUAGE own AS 'begin return 1; end';";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    let ended = site.run(&["restore", "agama", "--into", "postgresql:same", "--yes"]).ends(3);
    assert!(ended.err.contains("only a superuser makes: ") && ended.err.contains("language own"), "{}", ended.err);
    assert!(ended.err.contains("LANGUAGE own HANDLER public.handler of agama failed"), "{}", ended.err);
    assert_eq!(server.sql("same", "SELECT h->'a' FROM t"), "1\n");
    // A type that a transform is for stands before all extensions, and an extension's script may find it.
    server.sql(
        "agama",
        "CREATE TYPE mood AS ENUM ('good'); CREATE FUNCTION from_sql(internal) RETURNS internal IMMUTABLE LANGUAGE c AS '$libdir/plpgsql', \
         'plpgsql_validator'; CREATE TRANSFORM FOR mood LANGUAGE plpgsql (FROM SQL WITH FUNCTION from_sql(internal))",
    );
    let ended = site.run(&["backup", "agama"]).ends(3);
    assert!(ended.err.contains("[unrestorable]") && ended.err.contains("restore_as_superuser = true"), "{}", ended.err);
    let ended = site.run(&["restore", "agama", "--into", "postgresql:other", "--yes"]).ends(5);
    assert!(ended.err.contains("and so needs restore_as_superuser = true in the set"), "{}", ended.err);
    // The message's advice.
    site.configure(&lines(&server, "user = \"postgres\"\nrestore_as_superuser = true"));
    site.run(&["restore", "agama", "--abandon"]).ends(0);
    site.run(&["restore", "agama", "--into", "postgresql:other", "--yes"]).ends(0);
    assert_eq!(server.sql("other", "SELECT x(), h->'a' FROM t"), "1|1\n");
}

#[test]
fn an_index_that_was_never_finished_is_named_by_the_backup() {
    let schema = "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1); CREATE TABLE p (a int) PARTITION BY RANGE (a);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (5); CREATE INDEX only_p ON ONLY p (a);";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    assert!(server.try_sql("agama", "CREATE UNIQUE INDEX CONCURRENTLY torn ON t (a)").is_err());
    let ended = site.run(&["backup", "agama"]).ends(3);
    assert!(ended.err.contains("the index public.torn of agama was never finished"), "{}", ended.err);
    assert!(ended.err.contains("[unrestorable]") && !ended.err.contains("only_p"), "{}", ended.err);
    site.configure(&lines(&server, "acknowledge = [\"unrestorable\"]"));
    site.back_up();
    site.configure(&lines(&server, ""));
    server.sql("agama", "DELETE FROM t WHERE ctid = '(0,2)'; REINDEX INDEX torn");
    site.back_up();
}

#[test]
fn all_databases_are_all_or_what_is_not_among_them_is_named() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE DATABASE \"tmpl\" IS_TEMPLATE true");
    server.sql("postgres", "CREATE DATABASE \"Closed\"");
    server.sql("tmpl", "CREATE TABLE t AS SELECT 7 AS a");
    server.sql("Closed", "CREATE TABLE t AS SELECT 8 AS a");
    server.sql("postgres", "ALTER DATABASE \"Closed\" ALLOW_CONNECTIONS false");
    let site = Site::new("agama", &lines(&server, "databases = \"all\""));
    let ended = site.run(&["-q", "backup", "agama"]).ends(3);
    let way = "ALTER DATABASE \"Closed\" ALLOW_CONNECTIONS true;";
    assert!(ended.err.contains("[left-out]") && ended.err.contains(way), "{}", ended.err);
    let checked = site.run(&["config", "check"]).ends(0);
    assert!(String::from_utf8_lossy(&checked.out).contains(way));
    site.configure(&lines(&server, "databases = [\"Closed\"]"));
    assert!(site.run(&["-q", "backup", "agama"]).ends(2).err.contains(way));
    site.configure(&lines(&server, "databases = \"all\"\nexclude = [\"Closed\"]"));
    site.back_up();
    // The message's advice.
    server.sql("postgres", way);
    site.configure(&lines(&server, "databases = \"all\""));
    site.back_up();
    server.sql("postgres", "ALTER DATABASE tmpl IS_TEMPLATE false");
    server.sql("postgres", "DROP DATABASE tmpl");
    server.sql("postgres", "DROP DATABASE \"Closed\"");
    site.run(&["-q", "restore", "agama", "--into", "postgresql", "--yes"]).ends(0);
    assert_eq!(server.sql("tmpl", "SELECT a FROM t") + &server.sql("Closed", "SELECT a FROM t"), "7\n8\n");
    server.sql("template1", "CREATE TABLE t AS SELECT 9 AS a");
    let ended = site.run(&["-q", "backup", "agama"]).ends(3);
    assert!(ended.err.contains("template1") && ended.err.contains("[left-out]"), "{}", ended.err);
    site.configure(&lines(&server, "databases = \"all\"\nexclude = [\"template1\"]"));
    site.back_up();
}

#[test]
fn a_membership_that_a_role_which_stays_has_not_is_named() {
    let schema = "CREATE ROLE \"Group\"; CREATE ROLE jack; CREATE ROLE jill; GRANT \"Group\" TO jack; GRANT \"Group\" TO jill WITH ADMIN OPTION;
        CREATE TABLE t AS SELECT 7 AS a; GRANT SELECT ON t TO \"Group\";";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    let Some(second) = Postgres::start() else { return };
    drop(server);
    second.sql("postgres", "CREATE ROLE jack");
    site.configure(&lines(&second, ""));
    let ended = site.run(&RESTORE).ends(3);
    // Since 16 a membership says more.
    let advised = match second.version() {
        ..16 => "GRANT \"Group\" TO jack;",
        _ => "GRANT \"Group\" TO jack WITH INHERIT TRUE;",
    };
    assert!(ended.err.contains(advised) && !ended.err.contains("TO jill"), "{}", ended.err);
    assert_eq!(ended.err.matches("[accounts]").count(), 1, "{}", ended.err);
    let members =
        "SELECT member::regrole, admin_option FROM pg_auth_members WHERE roleid = '\"Group\"'::regrole ORDER BY 1";
    assert_eq!(second.sql("postgres", members), "jill|t\n");
    second.sql("postgres", advised);
    site.run(&["-q", "restore", "agama", "--into", "postgresql:again", "--yes"]).ends(0);
}
