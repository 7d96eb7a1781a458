//! Fidelity of a restore: accounts, stored code, engines, foreign keys of other tables; losses are named.

use crate::mysql::site::Site;
use support::mariadb::is_mysql;

const RESTORE: [&str; 7] = ["restore", "agama", "--into", "mysql", "--yes", "--reason", "test"];

fn site(schema: &str, databases: &str) -> Option<Site> {
    let site = Site::new(schema)?;
    site.configure(&format!("socket = \"{}\"\ndatabases = {databases}", site.server.socket().display()));
    Some(site)
}

fn restore(site: &Site, words: &[&str]) -> support::machine::Ended {
    site.run(&[&RESTORE[..], words].concat())
}

#[test]
fn stored_code_keeps_its_comments_character_sets_and_modes() {
    let Some(site) = site("CREATE DATABASE agama; CREATE TABLE agama.t (a INT, v TEXT)", "[\"agama\"]") else { return };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if is_mysql() {
        return;
    }
    let make = |bytes: &[u8]| format!("EXECUTE IMMEDIATE 0x{};\n", hex(bytes));
    let mut sql = "USE agama;\n".to_owned();
    sql += &make(b"CREATE PROCEDURE p() BEGIN # why: ticket 12\n SELECT /*+ x */ 1; -- dash\nEND");
    sql += &make(
        b"CREATE TRIGGER agama.tr BEFORE INSERT ON agama.t FOR EACH ROW BEGIN /* do not touch */ SET NEW.a = 1; END",
    );
    sql += "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES';\n";
    sql += &make(b"CREATE EVENT e2 ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DO UPDATE t SET v = '\\'");
    sql += "SET SESSION sql_mode = '';\n";
    sql += &make(
        b"CREATE EVENT e3 ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' COMMENT 'DO' DO /* c */ UPDATE t SET v = 'z'",
    );
    sql += "SET NAMES latin1;\n";
    sql += &make(b"CREATE EVENT e1 ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' ON COMPLETION PRESERVE DO INSERT INTO t VALUES (1, 'Gr\xf6\xdfe')");
    site.server.sql(&sql);
    let seen = "SELECT HEX(body), character_set_client FROM mysql.proc WHERE db = 'agama';
        SELECT HEX(ACTION_STATEMENT), SQL_MODE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'agama';
        SELECT name, HEX(body), HEX(body_utf8), character_set_client, sql_mode, status FROM mysql.event WHERE db = 'agama' ORDER BY 1";
    let before = site.server.sql(seen);
    site.back_up();
    site.server.sql("DROP DATABASE agama");
    restore(&site, &[]).ends(0);
    assert_eq!(site.server.sql(seen), before);
    site.run(&["restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    let events = "SELECT EVENT_NAME, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'copy' ORDER BY 1";
    assert_eq!(site.server.sql(events), "e1\tDISABLED\ne2\tDISABLED\ne3\tDISABLED\n", "in a copy no event runs");
}

#[test]
fn grants_come_after_what_they_name_and_an_account_is_never_more_open() {
    // MySQL's accounts are those of `newer`.
    if is_mysql() {
        return;
    }
    let Some(site) = site(
        "CREATE DATABASE agama; USE agama; CREATE TABLE orders (id INT PRIMARY KEY, note TEXT); CREATE PROCEDURE p() SELECT 1;
         CREATE USER rep@'%' IDENTIFIED BY 'x'; GRANT SELECT ON agama.* TO rep@'%'; GRANT INSERT, UPDATE (note) ON agama.orders TO rep@'%';
         GRANT EXECUTE ON PROCEDURE agama.p TO rep@'%'; CREATE USER ''@localhost; GRANT SELECT ON agama.orders TO ''@localhost;
         INSTALL SONAME 'auth_ed25519'; CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('y'); GRANT ALL ON agama.* TO ed@'%';
         GRANT SELECT ON agama.* TO PUBLIC;
         GRANT SELECT ON *.* TO boss@'%' IDENTIFIED BY 'z' REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5 GRANT OPTION;
         GRANT RELOAD, PROCESS ON *.* TO `a REQUIRE b`@localhost IDENTIFIED VIA unix_socket WITH GRANT OPTION;",
        "[\"agama\"]",
    ) else {
        return;
    };
    let grants = "SHOW GRANTS FOR rep@'%'; SHOW GRANTS FOR ''@localhost; SHOW GRANTS FOR PUBLIC; SHOW GRANTS FOR boss@'%'; SHOW GRANTS FOR `a REQUIRE b`@localhost";
    let before = site.server.sql(grants);
    site.back_up();
    site.server.sql(
        "DROP USER rep@'%', ''@localhost, ed@'%', boss@'%', `a REQUIRE b`@localhost; REVOKE SELECT ON agama.* FROM PUBLIC; DROP DATABASE agama; UNINSTALL SONAME 'auth_ed25519'",
    );
    let ended = restore(&site, &[]).ends(3);
    assert_eq!(site.server.sql(grants), before);
    assert!(ended.err.contains("`ed`@`%` could not be made as it was, so it was not made"), "{}", ended.err);
    assert_eq!(site.server.sql("SELECT COUNT(*) FROM mysql.user WHERE User = 'ed'"), "0\n");
    // A second restore gives the missing grants on the restored databases, and nothing else.
    site.server.sql("REVOKE INSERT ON agama.orders FROM rep@'%'; INSTALL SONAME 'auth_ed25519'");
    restore(&site, &["--replace", "agama"]).ends(0);
    assert_eq!(site.server.sql(grants), before);
    assert!(site.server.sql("SHOW GRANTS FOR ed@'%'").contains("ed25519"));
}

#[test]
fn views_may_name_what_a_later_database_has() {
    let Some(site) = site(
        "CREATE DATABASE xa; CREATE DATABASE xb; CREATE TABLE xb.u (id INT PRIMARY KEY); CREATE VIEW xb.vb AS SELECT * FROM xb.u;
         CREATE FUNCTION xb.f() RETURNS INT DETERMINISTIC RETURN 1; CREATE VIEW xa.va AS SELECT *, xb.f() FROM xb.vb;",
        "[\"xa\", \"xb\"]",
    ) else {
        return;
    };
    site.back_up();
    site.server.sql("DROP DATABASE xa; DROP DATABASE xb");
    restore(&site, &[]).ends(0);
    restore(&site, &["--replace", "xa", "--replace", "xb"]).ends(0);
    site.server.sql("INSERT INTO xb.u VALUES (1)");
    assert_eq!(site.server.sql("SELECT * FROM xa.va"), "1\t1\n");
}

#[test]
fn rows_and_tables_that_a_server_would_not_take_today_come_back() {
    let columns: Vec<String> = (0..60).map(|n| format!("c{n} VARCHAR(255) CHARACTER SET utf8mb4")).collect();
    let Some(site) = site(
        &format!(
            "CREATE DATABASE agama; USE agama; SET innodb_strict_mode = 0; CREATE TABLE wide (id INT PRIMARY KEY, {}) ROW_FORMAT=COMPACT;
             CREATE TABLE ck (a INT CHECK (a < 10) /*!80000 NOT ENFORCED */); /*M! SET check_constraint_checks = 0 */; INSERT INTO ck VALUES (50);",
            columns.join(", ")
        ),
        "[\"agama\"]",
    ) else {
        return;
    };
    site.back_up();
    site.server.sql("DROP DATABASE agama");
    restore(&site, &[]).ends(0);
    assert_eq!(site.server.sql("SELECT a FROM agama.ck"), "50\n");
}

#[test]
fn an_engine_that_is_not_there_is_refused_before_anything_is_written() {
    // MySQL's servers have these, and none can be taken away.
    if is_mysql() {
        return;
    }
    let Some(site) = site(
        "INSTALL SONAME 'ha_archive'; INSTALL SONAME 'ha_blackhole'; CREATE DATABASE agama; USE agama;
         CREATE TABLE z (a INT) ENGINE=ARCHIVE; CREATE TABLE bh (a INT) ENGINE=BLACKHOLE; CREATE TABLE i (a INT); INSERT INTO i VALUES (1);
         CREATE VIEW v AS SELECT a FROM z; CREATE VIEW w AS SELECT a FROM i;",
        "[\"agama\"]",
    ) else {
        return;
    };
    site.run(&["backup", "agama"]).ends(3);
    site.server.sql("DROP DATABASE agama; UNINSTALL SONAME 'ha_archive'; UNINSTALL SONAME 'ha_blackhole'");
    let refused = restore(&site, &[]).ends(5);
    assert!(refused.err.contains("ARCHIVE, BLACKHOLE") && refused.err.contains("--keep-going"), "{}", refused.err);
    assert!(!site.server.sql("SHOW DATABASES").contains("agama"));
    // With `--keep-going`, it restores the rest and names the missing objects.
    let ended = restore(&site, &["--keep-going"]).ends(3);
    for what in ["agama.z", "agama.bh", "view agama.v", "ERROR"] {
        assert!(ended.err.contains(what), "{what}: {}", ended.err);
    }
    assert_eq!(site.server.sql("SELECT a FROM agama.w; SHOW TABLES FROM agama"), "1\ni\nw\n");
}

#[test]
fn foreign_keys_of_other_tables_keep_their_names_rules_and_indexes() {
    let Some(site) = site(
        "CREATE DATABASE agama; CREATE TABLE agama.p (id INT PRIMARY KEY); CREATE DATABASE other; USE other;
         CREATE TABLE ext (p INT, q INT, FOREIGN KEY (p) REFERENCES agama.p (id), CONSTRAINT k FOREIGN KEY (q) REFERENCES agama.p (id) ON DELETE CASCADE);",
        "[\"agama\"]",
    ) else {
        return;
    };
    let before = site.server.sql("SHOW CREATE TABLE other.ext");
    site.back_up();
    restore(&site, &["--replace", "agama"]).ends(0);
    assert_eq!(site.server.sql("SHOW CREATE TABLE other.ext"), before);
    restore(&site, &["--only", "agama/p", "--replace", "agama/p"]).ends(0);
    assert_eq!(site.server.sql("SHOW CREATE TABLE other.ext"), before);
}

#[test]
fn a_copy_is_refused_where_it_would_work_on_the_original_and_only_there() {
    let Some(site) = site(
        "CREATE DATABASE wiki; USE wiki; CREATE TABLE wiki (id INT PRIMARY KEY); CREATE TABLE p (a INT, b TEXT);
         CREATE VIEW vw AS SELECT wiki.id FROM wiki; CREATE TRIGGER wiki.tr BEFORE INSERT ON wiki.p FOR EACH ROW SET NEW.a = 1;",
        "[\"wiki\"]",
    ) else {
        return;
    };
    site.back_up();
    let copy = |name: &str| site.run(&["restore", "agama", "--into", &format!("mysql:{name}"), "--yes"]);
    copy("wiki2").ends(0);
    site.server.sql("INSERT INTO wiki2.p VALUES (5, 'x')");
    assert_eq!(
        site.server.sql("SELECT a FROM wiki2.p; SELECT COUNT(*) FROM wiki.p"),
        "1\n0\n",
        "the trigger is the copy's"
    );
    let long = copy(&"x".repeat(65)).ends(2);
    assert!(long.err.contains("longer than 64 characters"), "{}", long.err);
    for body in ["INSERT INTO wiki . p VALUES (2, 'b')", "INSERT INTO wiki/**/.p VALUES (2, 'b')", "CALL `wiki`.q()"] {
        site.server.sql(&format!("DROP PROCEDURE IF EXISTS wiki.pp; CREATE PROCEDURE wiki.pp() {body}"));
        site.back_up();
        assert!(copy("wiki3").ends(5).err.contains("names the schema wiki"), "{body}");
    }
}

#[test]
fn a_difference_is_named() {
    let Some(site) = site("CREATE DATABASE agama; CREATE TABLE agama.t (a INT) ROW_FORMAT=DYNAMIC", "[\"agama\"]")
    else {
        return;
    };
    // The effect of a statement that a server understands otherwise.
    site.wrap("\"$@\" | sed 's/ROW_FORMAT=DYNAMIC/ROW_FORMAT=DYNAMIC STATS_PERSISTENT=DEFAULT/'");
    site.back_up();
    site.server.sql("DROP DATABASE agama");
    let ended = restore(&site, &[]).ends(3);
    assert!(
        ended.err.contains("the table agama.t is not as it was") && ended.err.contains("STATS_PERSISTENT"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("[not-as-it-was]"), "{}", ended.err);
}
