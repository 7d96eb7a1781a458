//! Data that a dump can't hold exactly, or at all: it is named beforehand, and nothing else is lost.

use crate::mysql::site::Site;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1);";

/// The output of `config check`, and that of a backup that ends with `status`.
#[track_caller]
fn said(site: &Site, status: i32) -> (String, String) {
    let checked = site.run(&["config", "check"]);
    let checked = format!("{}{}", String::from_utf8_lossy(&checked.out), checked.err);
    (checked, site.run(&["backup", "agama"]).ends(status).err)
}

#[test]
fn values_that_a_dump_changes_are_named_and_no_others() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "USE agama; CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, f FLOAT, d DOUBLE, g FLOAT AS (d) VIRTUAL,
         cp VARCHAR(9) CHARSET cp932, uj VARCHAR(9) CHARSET ujis, a TEXT CHARSET ascii, e ENUM('x') CHARSET gbk, l TEXT CHARSET latin1);
         INSERT INTO plain (f, d, cp, uj, a, e, l) VALUES (0.5, 1.23456789012345, 'ｱ', 'あ', 'x', 'x', 0x8DFF), (1e30, NULL, NULL, NULL, NULL, NULL, '');",
    );
    let (checked, backup) = said(&site, 0);
    assert!(!checked.contains("plain.") && !backup.contains("[inexact]"), "{checked}{backup}");
    site.server.sql(
        "USE agama; CREATE TABLE f (id INT PRIMARY KEY, f FLOAT); INSERT INTO f VALUES (1, 16777215);
         CREATE TABLE j (id INT PRIMARY KEY, cp VARCHAR(9) CHARSET cp932, uj VARCHAR(9) CHARSET ujis, kr VARCHAR(9) CHARSET euckr, a TEXT CHARSET ascii);
         INSERT INTO j VALUES (1, 0xED40, 0xA1C0, 0xA2E8, 0xFF);
         CREATE TABLE n (c1 INT UNSIGNED AUTO_INCREMENT NULL UNIQUE KEY); INSERT INTO n VALUES (NULL), (NULL);",
    );
    let (checked, backup) = said(&site, 3);
    for name in ["agama.f.f", "agama.j.cp (cp932)", "agama.j.uj (ujis)", "agama.j.kr (euckr)", "agama.n.c1"] {
        assert!(checked.contains(name) && backup.contains(name), "{name}: {checked}{backup}");
    }
    assert!(!backup.contains("plain."), "{backup}");
    // The warnings are true: each of these, and nothing else, is restored as something else.
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]);
    let rows = |database: &str, what: &str| site.server.sql(&format!("SELECT {what} FROM {database}"));
    for (table, column, is_same) in [
        ("f", "f + 0e0", false),
        ("j", "HEX(cp)", false),
        ("j", "HEX(uj)", false),
        ("j", "HEX(kr)", false),
        ("j", "HEX(a)", !backup.contains("agama.j.a")),
        ("n", "c1", false),
        ("plain", "f + 0e0, d, g + 0e0, HEX(cp), HEX(uj), a, e, HEX(l)", true),
    ] {
        let (before, after) = (rows(&format!("agama.{table}"), column), rows(&format!("copy.{table}"), column));
        assert_eq!(before == after, is_same, "{table}.{column}: {before} {after}");
    }
    // Rows that were are looked at, too.
    site.server.sql(
        "USE agama; DROP TABLE f, j, n, plain; CREATE TABLE h (id INT PRIMARY KEY, f FLOAT, cp VARCHAR(9) CHARSET cp932) WITH SYSTEM VERSIONING;
         INSERT INTO h VALUES (1, 16777216.0 * 1.0000001, 'x'), (2, 0.5, 0xED40), (3, 0.5, 'x'); UPDATE h SET f = 0.5, cp = 'x';",
    );
    let (checked, backup) = said(&site, 3);
    for name in ["agama.h.f", "agama.h.cp (cp932)"] {
        assert!(checked.contains(name) && backup.contains(name), "{name}: {checked}{backup}");
    }
    // Known, it is no warning.
    site.configure(&format!("socket = {:?}\nacknowledge = [\"inexact\"]", site.server.socket()));
    site.run(&["backup", "agama"]).ends(0);
}

/// Values that a restore computes anew, values without a text of their own, and impossible dates.
#[test]
fn values_that_hang_on_the_session_are_named_or_come_back() {
    let Some(site) = Site::with(
        "CREATE DATABASE agama; USE agama;
         CREATE TABLE plain (id INT PRIMARY KEY, ts TIMESTAMP, u INT AS (id * 7) STORED, d DATE, e ENUM('a', 'b'), s SET('x', 'y')) WITH SYSTEM VERSIONING;
         SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'; INSERT INTO plain (id, ts, d, e, s) VALUES (1, '2026-03-01 00:30:00', '2023-02-31', 'a', 'x,y');
         SET sql_mode = ''; INSERT INTO plain (id, ts, e, s) VALUES (2, NOW(), 'none', 'none');
         CREATE TABLE zones (id INT PRIMARY KEY, ts TIMESTAMP, day DATE AS (DATE(ts)) STORED);
         CREATE TABLE moments (id INT PRIMARY KEY, d DATETIME, n BIGINT AS (UNIX_TIMESTAMP(d)) STORED);
         CREATE TABLE other (id INT PRIMARY KEY, ts TIMESTAMP(6), q DECIMAL(30,12) AS (id / 7) STORED, r DECIMAL(9,2) AS (id * 1.234) STORED, f FLOAT AS (id / 4) STORED,
           c VARCHAR(3) AS (CONCAT('n', id)) STORED, y DATE AS (ts + INTERVAL 12 HOUR) STORED);
         INSERT INTO other (id, ts) VALUES (1, '2026-03-01 10:30:00.654321'), (2, '2026-07-01 10:30:00.1');
         CREATE TABLE members (id INT PRIMARY KEY, e ENUM('', 'a'), s SET('', 'x'));
         CREATE TABLE settled (id INT PRIMARY KEY, t VARCHAR(20), d DATE AS (STR_TO_DATE(t, '%Y-%m-%d')) STORED, w DATE AS (t) STORED,
           p DECIMAL(40,25) AS (id / 7) STORED, v VARCHAR(5) AS (id / 7) STORED, k VARCHAR(60) CHARSET cp1251 AS (CONCAT(id / 7, '/Ä')) STORED);
         INSERT INTO settled (id, t) VALUES (1, '2023-02-28'), (2, '0000-00-00'), (3, 'none'), (4, NULL), (5, ''), (6, '10:30:01.9999'), (7, '2023-01-00')",
        &["--default-time-zone=+02:00"],
    ) else {
        return;
    };
    let (checked, backup) = said(&site, 0);
    assert!(!checked.contains("come out otherwise") && !backup.contains("[inexact]"), "{checked}{backup}");
    site.server.sql(
        "USE agama; SET time_zone = '+02:00'; INSERT INTO zones (id, ts) VALUES (1, '2026-03-01 00:30:00'); INSERT INTO moments (id, d) VALUES (1, '2026-03-01 00:30:00'); SET sql_mode = ''; INSERT INTO members VALUES (1, 'none', 'x'), (2, 'a', ',x');
         CREATE TABLE days (id INT PRIMARY KEY, t VARCHAR(20), d DATE AS (STR_TO_DATE(t, '%Y-%m-%d')) STORED, e DATE AS (t) STORED); INSERT INTO days (id, t) VALUES (1, '2023-02-31');
         SET div_precision_increment = 20; CREATE TABLE parts (id INT PRIMARY KEY, p DECIMAL(40,25) AS (id / 7) STORED, v VARCHAR(60) AS (id / 7) STORED, s VARCHAR(5) AS (id / 7) STORED);
         INSERT INTO parts (id) VALUES (1)",
    );
    let (checked, backup) = said(&site, 3);
    for said in [&checked, &backup] {
        assert!(
            said.contains("agama.days.d, agama.days.e, agama.moments.n, agama.parts.p, agama.parts.v, agama.zones.day")
                && said.contains("agama.members.e, agama.members.s"),
            "{said}"
        );
        assert!(
            !said.contains("plain.")
                && !said.contains("other.")
                && !said.contains("settled.")
                && !said.contains("parts.s"),
            "{said}"
        );
    }
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]);
    let rows = |database: &str, table: &str| {
        site.server.sql(&format!("SET time_zone = '+00:00'; SELECT * FROM {database}.{table} ORDER BY 1"))
    };
    assert!(rows("agama", "plain").contains("2023-02-31"));
    for (table, is_same) in [
        ("plain", true),
        ("other", true),
        ("settled", true),
        ("days", false),
        ("parts", false),
        ("zones", false),
        ("moments", false),
    ] {
        let (was, is) = (rows("agama", table), rows("copy", table));
        assert_eq!(was == is, is_same, "{table}: {was} {is}");
    }
}

#[test]
fn texts_of_stored_programs_that_a_dump_changes_are_named_and_no_others() {
    let Some(site) = Site::new(SCHEMA) else { return };
    // Text of a client of cp1251, whose letters are one byte each.
    let make = |programs: &str| {
        let letters = |text: &str| -> Vec<u8> {
            text.chars()
                .map(|c| if c.is_ascii() { c as u8 } else { u8::try_from(u32::from(c) - 0x410 + 0xC0).unwrap() })
                .collect()
        };
        let hex: String = letters(programs).iter().map(|byte| format!("{byte:02x}")).collect();
        site.server.sql(&format!("USE agama; SET NAMES cp1251; EXECUTE IMMEDIATE 0x{hex}"));
    };
    site.server.sql("CREATE USER 'хозяин'@localhost");
    for fine in [
        "CREATE EVENT e1 ON SCHEDULE EVERY 1 DAY DISABLE COMMENT 'plain' DO SELECT 'тело'",
        "CREATE PROCEDURE `имя`(`п` INT) COMMENT 'plain' SELECT 'тело', `п`",
        "CREATE TRIGGER `знак` BEFORE INSERT ON t FOR EACH ROW SET @a = 'тело'",
        "CREATE DEFINER=`хозяин`@localhost VIEW `вид` AS SELECT 'тело' AS `имя`",
    ] {
        make(fine);
    }
    let (checked, backup) = said(&site, 0);
    assert!(!checked.contains("stored programs") && !backup.contains("[inexact]"), "{checked}{backup}");
    for changed in [
        "CREATE EVENT `дело` ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
        "CREATE EVENT e2 ON SCHEDULE EVERY 1 DAY DISABLE COMMENT 'слово' DO SELECT 1",
        "CREATE DEFINER=`хозяин`@localhost EVENT e3 ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
        "CREATE FUNCTION f1() RETURNS INT COMMENT 'слово' RETURN 1",
        "CREATE DEFINER=`хозяин`@localhost TRIGGER t1 BEFORE UPDATE ON t FOR EACH ROW SET @a = 1",
    ] {
        make(changed);
    }
    let (checked, backup) = said(&site, 3);
    for said in [&checked, &backup] {
        let named = ": agama.e2, agama.e3, agama.дело, agama.f1, agama.t1";
        assert!(said.contains(named), "{said}");
    }
    // The warnings are true: the others are restored exactly, and each of these as something else.
    let r = site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]);
    eprintln!("{} {}", r.status, r.err);
    let texts = |database: &str, kind: &str, what: &str, names: &str| {
        let is = if names.is_empty() { String::new() } else { format!(" AND {kind}_NAME IN ({names})") };
        site.server.sql(&format!(
            "SET NAMES utf8mb4; SELECT {kind}_NAME, DEFINER, {what} FROM information_schema.{kind}S WHERE {kind}_SCHEMA = '{database}'{is}"
        ))
    };
    for (kind, what, names, is_same) in [
        ("EVENT", "EVENT_COMMENT, EVENT_DEFINITION", "'e1'", true),
        ("ROUTINE", "ROUTINE_COMMENT, ROUTINE_DEFINITION", "'имя'", true),
        ("TRIGGER", "ACTION_STATEMENT", "'знак'", true),
        ("EVENT", "1", "'дело'", false),
        ("EVENT", "EVENT_COMMENT", "'e2'", false),
        ("EVENT", "1", "'e3'", false),
        ("ROUTINE", "ROUTINE_COMMENT", "'f1'", false),
        ("TRIGGER", "1", "'t1'", false),
    ] {
        let (before, after) = (texts("agama", kind, what, names), texts("copy", kind, what, names));
        assert!(!before.is_empty(), "{kind} {names}");
        assert_eq!(before == after, is_same, "{kind} {names}: {before} {after}");
    }
}

#[test]
fn a_table_that_cannot_be_opened_is_named_before_the_dump_and_can_be_left_out() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "USE agama; CREATE TABLE m1 (a INT) ENGINE=MyISAM; CREATE TABLE m2 (a INT) ENGINE=MyISAM; CREATE TABLE fine (a INT) ENGINE=MERGE UNION=(m2);
         CREATE TABLE `merged it` (a INT) ENGINE=MERGE UNION=(m1); CREATE VIEW `over it` AS SELECT * FROM `merged it`; DROP TABLE m1;
         CREATE TABLE lost (a INT); INSERT INTO lost VALUES (1); CREATE TABLE away (a INT); ALTER TABLE away DISCARD TABLESPACE;
         CREATE SEQUENCE numbers; ALTER TABLE numbers DISCARD TABLESPACE; CREATE TABLE empty_one (a INT); ALTER TABLE empty_one DISCARD TABLESPACE;",
    );
    let data = site.server.socket().parent().unwrap().join("data/agama/lost.ibd");
    site.server.restart("-TERM");
    std::fs::remove_file(data).unwrap();
    site.server.restart("-TERM");
    let (checked, backup) = said(&site, 2);
    for (said, what) in [(&checked, "config check"), (&backup, "backup")] {
        for name in [
            "agama.merged it (ERROR 1168",
            "agama.over it (ERROR 1",
            "agama.lost (ERROR 1",
            "agama.away (ERROR 1814",
            "agama.numbers (ERROR 1",
            "exclude_tables",
        ] {
            assert!(said.contains(name), "{name}, {what}: {said}");
        }
        assert!(!said.contains("agama.fine") && !said.contains("agama.t "), "{what}: {said}");
    }
    let socket = site.server.socket();
    site.configure(&format!(
        "socket = {socket:?}\nexclude_tables = [\"agama.merged it\", \"agama.over it\", \"agama.lost\", \"agama.away\", \"agama.numbers\"]\nschema_only_tables = [\"agama.empty_one\"]\nacknowledge = [\"no-transactions\"]"
    ));
    site.run(&["config", "check"]).ends(0);
    site.back_up();
}

#[test]
fn a_table_that_cannot_be_loaded_is_known_before_and_named_by_the_restore() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "USE agama; CREATE TABLE fine (id INT PRIMARY KEY, p POINT, g GEOMETRY NOT NULL); INSERT INTO fine VALUES (1, NULL, ST_GeomFromText('POINT(1 2)'));
         CREATE TABLE places (id INT PRIMARY KEY); INSERT INTO places VALUES (1);
         SET sql_mode = ''; ALTER TABLE places ADD here GEOMETRY NOT NULL;",
    );
    let (checked, backup) = said(&site, 3);
    for (said, what) in [(&checked, "config check"), (&backup, "backup")] {
        assert!(said.contains("agama.places.here") && !said.contains("agama.fine."), "{what}: {said}");
    }
    assert!(backup.contains("[unrestorable]"), "{backup}");
    let ended = site.run(&["restore", "agama", "--into", "mysql:copy", "--yes"]).ends(1);
    assert!(
        ended.err.contains("ERROR 1416") && ended.err.contains("--keep-going loads each table by itself"),
        "{}",
        ended.err
    );
    let ended = site.run(&["restore", "agama", "--into", "mysql:rest", "--yes", "--keep-going"]).ends(3);
    assert!(ended.err.contains("the table agama.places could not be loaded"), "{}", ended.err);
    assert_eq!(site.server.sql("SELECT COUNT(*) FROM rest.fine"), "1\n");
}

#[test]
fn a_view_that_cannot_be_read_is_named_before_the_dump_and_can_be_left_out() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "USE agama; CREATE TABLE gone (a INT); CREATE USER away@localhost;
         CREATE DEFINER=away@localhost VIEW fine AS SELECT 1 a; CREATE FUNCTION one() RETURNS INT RETURN 1;
         CREATE VIEW broken AS SELECT * FROM gone; CREATE VIEW calls AS SELECT one() a; CREATE VIEW good AS SELECT * FROM t;
         DROP TABLE gone; DROP FUNCTION one; DROP USER away@localhost;",
    );
    let (checked, backup) = said(&site, 2);
    for (said, what) in [(&checked, "config check"), (&backup, "backup")] {
        assert!(
            said.contains("agama.broken") && said.contains("agama.calls") && said.contains("exclude_tables"),
            "{what}: {said}"
        );
        assert!(!said.contains("agama.fine") && !said.contains("agama.good"), "{what}: {said}");
    }
    let socket = site.server.socket();
    site.configure(&format!("socket = {socket:?}\nexclude_tables = [\"agama.broken\", \"agama.calls\"]"));
    site.run(&["config", "check"]).ends(0);
    site.back_up();
}

#[test]
fn tables_whose_history_counts_transactions_are_dumped_without_it() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "USE agama; CREATE TABLE h (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; INSERT INTO h VALUES (1), (2); DELETE FROM h WHERE id = 1;
         CREATE TABLE e (id INT PRIMARY KEY, rs BIGINT UNSIGNED GENERATED ALWAYS AS ROW START INVISIBLE,
         re BIGINT UNSIGNED GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (rs, re)) WITH SYSTEM VERSIONING ENGINE=InnoDB;
         INSERT INTO e VALUES (1), (2), (3); DELETE FROM e WHERE id = 1;",
    );
    let (checked, backup) = said(&site, 3);
    for said in [&checked, &backup] {
        assert!(said.contains("by transactions: agama.e") && said.contains("agama.h"), "{said}");
    }
    assert!(backup.contains("[history]"), "{backup}");
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    assert_eq!(site.server.sql("SELECT id FROM copy.e ORDER BY 1; SELECT id FROM copy.h"), "2\n3\n2\n");
    site.configure(&format!("socket = {:?}\nexclude_tables = [\"agama.e\"]", site.server.socket()));
    site.back_up();
    site.server.sql("DROP DATABASE copy");
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    assert_eq!(site.server.sql("SELECT COUNT(*) FROM copy.h FOR SYSTEM_TIME ALL"), "2\n");
}

#[test]
fn a_name_with_anything_in_it_ends_no_backup_and_reaches_no_terminal() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let names = ["a\nb", "a\n-- b", "x\ry", "`\n`", "-- Table structure for table `z`\n.", "\u{1b}[2Jfake"];
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    for (number, name) in names.iter().enumerate() {
        let name = quoted(name);
        site.server.sql(&format!(
            "USE agama; CREATE TABLE {name} (id INT) ENGINE=MyISAM; INSERT INTO {name} VALUES ({number})"
        ));
    }
    let (checked, backup) = said(&site, 3);
    assert!(!checked.contains('\u{1b}') && !backup.contains('\u{1b}'), "{checked}{backup}");
    assert!(checked.contains("a\\nb") && backup.contains("\\u{1b}[2Jfake"), "{checked}{backup}");
    // Each is a stream of its own, with its row.
    let dump = site.run(&["--json", "ls", "latest"]).ends(0).out;
    let dump = String::from_utf8_lossy(&dump).into_owned();
    for part in ["a%0Ab.sql", "a%0A-- b.sql", "`%0A`.sql", "x%0Dy.sql", "`z`%0A%2E.sql", "%1B[2Jfake.sql"] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
}

#[test]
fn what_lies_in_the_servers_own_databases_is_named() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.configure(&format!("socket = {:?}\ndatabases = \"all\"", site.server.socket()));
    let (checked, backup) = said(&site, 0);
    assert!(!checked.contains("own databases") && !backup.contains("own databases"), "{checked}{backup}");
    site.server.sql(
        "CREATE TABLE mysql.forgotten (id INT); CREATE VIEW mysql.seen AS SELECT 1; CREATE TABLE sys.`my table` (id INT);
         CREATE FUNCTION sys.mine() RETURNS INT RETURN 1; CREATE EVENT mysql.daily ON SCHEDULE EVERY 1 DAY DO SELECT 1;
         CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST '192.0.2.1', DATABASE 'x')",
    );
    let (checked, backup) = said(&site, 3);
    for name in ["mysql.forgotten", "mysql.seen", "sys.my table", "sys.mine", "mysql.daily", "CREATE SERVER far"] {
        assert!(checked.contains(name) && backup.contains(name), "{name}: {checked}{backup}");
    }
    assert!(backup.contains("[left-out]"), "{backup}");
    // A set of some databases promises nothing of the others.
    site.configure(&format!("socket = {:?}", site.server.socket()));
    site.run(&["backup", "agama"]).ends(0);
}
