//! What comes back is what it was, and what isn't is named.

use crate::postgresql::Postgres;
use crate::site::Site;
use crate::{RESTORE, lines, site};

#[test]
fn a_definition_or_a_sequence_that_is_not_as_it_was_is_named() {
    let schema = "CREATE TABLE t (id serial, a int); ALTER TABLE t ALTER a SET STATISTICS 77; INSERT INTO t (a) VALUES (1); CREATE SEQUENCE s; SELECT setval('s', 41);
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 4711';";
    let Some((server, site)) = site(schema) else { return };
    site.back_up();
    let proof = site.run(&["restore", "agama", "--into", "postgresql:same", "--yes"]).ends(0);
    assert!(!proof.err.contains("warning"), "{}", proof.err);
    // What a server makes of a statement that it understands otherwise.
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
