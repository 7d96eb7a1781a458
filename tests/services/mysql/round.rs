//! Round trips: a schema with every feature, days under load, another name, the old database kept under a backup name.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mysql::site::{Site, picture};
use support::mariadb::{MariaDb, is_mysql};

/// Every kind of object, and rows that are easily bent. `/*M!` is MariaDB's alone, and `/*!80000` MySQL's.
pub const RICH: &str = r#"
CREATE DATABASE agama CHARACTER SET utf8mb4 COLLATE utf8mb4_estonian_ci;
USE agama;
SET time_zone = '+03:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO', names utf8mb4;
CREATE TABLE customer (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), note TEXT, since TIMESTAMP NOT NULL DEFAULT '2000-01-01 00:00:00',
  photo BLOB, day DATE, up VARCHAR(80) AS (UPPER(name)) STORED, lo VARCHAR(80) AS (LOWER(name)) VIRTUAL, KEY (name), FULLTEXT (note));
CREATE TABLE account (id INT PRIMARY KEY, customer INT NOT NULL, balance DECIMAL(12,2) NOT NULL CHECK (balance > -100000),
  FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE);
CREATE TABLE log (at DATETIME(6), text VARCHAR(200));
CREATE TABLE part (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);
CREATE TABLE `we``ird.tab/le` (`a'b` INT PRIMARY KEY, `c;d` VARCHAR(30), g GEOMETRY, b BIT(9), j JSON);
/*M! CREATE SEQUENCE number START WITH 5 */;
/*M! CREATE TABLE numbered (id BIGINT PRIMARY KEY DEFAULT NEXTVAL(number), v INT) */;
/*M! CREATE TABLE history (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING */;
/*M! INSERT INTO history VALUES (1, 1), (2, 2) */; /*M! UPDATE history SET v = 5 WHERE id = 1 */; /*M! DELETE FROM history WHERE id = 2 */;
/*M! INSERT INTO numbered (v) VALUES (1), (2) */;
INSERT INTO customer (id, name, note, since, photo, day) VALUES
  (0, 'null', 'it''s a \\ "x" ); DROP -- foo\n;\0', '2001-01-01 00:00:01', x'00ff', '0000-00-00'), (1, 'õäöü😀', '/* */ -- Dump completed', '2001-01-02 00:00:01', NULL, NULL);
INSERT INTO customer (name, note, photo) SELECT CONCAT('Kund ', seq), REPEAT(MD5(seq), 12), UNHEX(SHA2(seq, 512)) FROM seq_1_to_3000;
INSERT INTO account SELECT id, id, 1000 FROM customer;
INSERT INTO log VALUES ('2026-01-01 01:02:03.000004', REPEAT('x', 200));
INSERT INTO part SELECT seq, seq FROM seq_1_to_20;
INSERT INTO `we``ird.tab/le` VALUES (1, '),(', ST_GeomFromText('POINT(1 2)'), b'101', '{"a": "),("}');
INSERT INTO customer (name, note) VALUES ('large', REPEAT('0123456789abcdef', 4096));
CREATE VIEW cheap AS SELECT id, name FROM customer WHERE name LIKE 'K%';
CREATE SQL SECURITY INVOKER VIEW cheaper AS SELECT * FROM cheap;
DELIMITER //
CREATE TRIGGER moved AFTER UPDATE ON account FOR EACH ROW INSERT INTO log (at, text) VALUES ('2026-01-01', CONCAT(OLD.balance, ' -> ', NEW.balance))//
CREATE TRIGGER checked BEFORE INSERT ON account FOR EACH ROW BEGIN SET NEW.balance = ROUND(NEW.balance, 2); END//
CREATE PROCEDURE pay(a INT, b INT, sum INT) BEGIN
/* not the end:
-- Dump completed
*/
  UPDATE account SET balance = balance - sum WHERE id = a; UPDATE account SET balance = balance + sum WHERE id = b; END//
CREATE FUNCTION next_of(x INT) RETURNS INT DETERMINISTIC RETURN x + 1//
SET sql_mode = 'NO_BACKSLASH_ESCAPES'//
CREATE FUNCTION slash() RETURNS VARCHAR(9) DETERMINISTIC RETURN '\'//
/*M! SET sql_mode = 'ORACLE' */ //
/*M! CREATE PACKAGE tools AS FUNCTION one RETURN INT; END */ //
/*M! CREATE PACKAGE BODY tools AS FUNCTION one RETURN INT AS BEGIN RETURN 1; END; END */ //
SET sql_mode = DEFAULT//
CREATE EVENT clean ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO BEGIN DELETE FROM log WHERE at < NOW() - INTERVAL 10 YEAR; END//
CREATE EVENT never ON SCHEDULE EVERY 1 DAY DISABLE COMMENT 'PRESERVE ENABLE' DO DELETE FROM log//
DELIMITER ;
CREATE ROLE reader; GRANT SELECT ON agama.* TO reader;
CREATE USER app@'%' IDENTIFIED BY 'pw'; GRANT ALL ON agama.* TO app@'%'; GRANT reader TO app@'%'; /*M! SET DEFAULT ROLE reader FOR app@'%' */; /*!80000 SET DEFAULT ROLE reader TO app@'%' */;
CREATE DEFINER = app@'%' VIEW of_app AS SELECT 1 AS one;
"#;

const USERS: &str = "SELECT User, Host /*M! , is_role */ FROM mysql.user WHERE User IN ('app', 'reader'); SHOW GRANTS FOR app@'%'; SHOW \
                     GRANTS FOR reader; SHOW CREATE USER app@'%';";

#[test]
fn everything_comes_back_on_an_empty_server() {
    let Some(site) = Site::with(RICH, &["--event-scheduler=ON"]) else { return };
    let options = ["--event-scheduler=ON", "--default-time-zone=-07:00", "--autocommit=0"];
    let Some(second) = MariaDb::start_with(&options) else { return };
    let snapshot = site.back_up();
    let ls = String::from_utf8(site.run(&["ls", "latest"]).ends(0).out).unwrap();
    for stream in
        ["@preamble.sql", "agama/customer.sql", "agama/account.triggers.sql", "agama/cheap.view.sql", "@users.sql"]
    {
        assert!(ls.contains(stream), "{stream} in {ls}");
    }
    site.configure(&format!("socket = \"{}\"", second.socket().display()));
    site.run(&["restore", "agama", "--into", "mysql", "--yes", "--snapshot", &snapshot]).ends(0);
    assert_eq!(picture(&second, "agama"), picture(&site.server, "agama"));
    assert_eq!(second.sql(USERS), site.server.sql(USERS));
    assert_eq!(
        second.sql("SELECT UNIX_TIMESTAMP(since), id FROM agama.customer WHERE id < 2"),
        "978307201\t0\n978393601\t1\n"
            .replace(
                "978307201",
                site.server.sql("SELECT UNIX_TIMESTAMP(since) FROM agama.customer WHERE id = 0").trim()
            )
            .replace(
                "978393601",
                site.server.sql("SELECT UNIX_TIMESTAMP(since) FROM agama.customer WHERE id = 1").trim()
            )
    );
    let next = "SELECT agama.next_of(1), agama.slash()";
    assert_eq!(second.sql(next), site.server.sql(next));
    if !is_mysql() {
        let next = "SELECT NEXTVAL(agama.number) > 6; SELECT agama.tools.one();";
        assert_eq!(second.sql("SELECT COUNT(*) FROM agama.history FOR SYSTEM_TIME ALL"), "3\n");
        assert_eq!(second.sql(next), site.server.sql(next));
        assert_eq!(second.sql("INSERT INTO agama.numbered (v) VALUES (9); SELECT COUNT(*) FROM agama.numbered"), "3\n");
    }
    // The dump as files is a dump.
    let files = site.machine.at("files");
    site.run(&["restore", "agama", "--to", files.to_str().unwrap()]).ends(0);
    assert!(fs::read_to_string(files.join("@postamble.sql")).unwrap().ends_with("-- Dump completed\n"));
}

#[test]
fn what_is_there_is_put_aside_whole() {
    // A session that has read a table keeps a lock on it until it commits.
    let Some(site) = Site::with(RICH, &["--autocommit=0", "--lock-wait-timeout=20"]) else { return };
    site.back_up();
    site.server.sql("CREATE DATABASE other; CREATE TABLE other.child (id INT, FOREIGN KEY (id) REFERENCES agama.customer (id) ON DELETE CASCADE);
        USE agama; DROP TABLE log; DELETE FROM account; CREATE TABLE newer (id INT); CREATE VIEW newest AS SELECT * FROM newer; DROP VIEW cheap;
        CREATE PROCEDURE p() SELECT 1;");
    let changed = picture(&site.server, "agama");
    let refused = site.run(&["restore", "agama", "--into", "mysql", "--yes"]).ends(5);
    assert!(refused.err.contains("--replace agama"), "{}", refused.err);
    let refused = site.run(&["restore", "agama", "--into", "mysql", "--yes", "--replace", "agama"]).ends(5);
    assert!(refused.err.contains("--reason"), "{}", refused.err);
    assert_eq!(picture(&site.server, "agama"), changed, "a refusal changes nothing");
    site.run(&["restore", "agama", "--into", "mysql", "--replace", "agama", "--reason", "lost rows"]).ends(5);
    let words = ["restore", "agama", "--into", "mysql", "--yes", "--replace", "agama", "--reason", "lost rows"];
    // A view of the old database is broken, which is reported and stops nothing.
    let done = site.run(&words).ends(3);
    assert!(done.err.contains("could be kept, because it is broken"), "{}", done.err);
    let Some(second) = MariaDb::start() else { return };
    second.sql(RICH);
    let fresh = |server: &MariaDb| {
        let names =
            "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'agama' ORDER BY 1;
            SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'agama' ORDER BY 1;
            SELECT EVENT_NAME, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'agama' ORDER BY 1;
            CHECKSUM TABLE agama.customer, agama.account, agama.log, agama.part";
        server.sql(names)
    };
    assert_eq!(fresh(&site.server), fresh(&second));
    let databases = site.server.sql("SHOW DATABASES");
    let before = databases.lines().find(|name| name.starts_with("agama_before_")).unwrap();
    assert!(!databases.contains("_loading_"), "{databases}");
    let old = picture(&site.server, before);
    let same = |text: &str| {
        text.replace("ENABLED", "DISABLED")
            .lines()
            .filter(|line| {
                !line.contains("CREATE DATABASE") && !line.starts_with("cheaper\t") && !line.contains("nextval")
            })
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (old, changed) = (same(&old), same(&changed));
    let differs: Vec<_> = old.iter().zip(&changed).filter(|(old, changed)| old != changed).collect();
    assert!(differs.is_empty() && old.len() == changed.len(), "{differs:?}, {} and {} lines", old.len(), changed.len());
    assert!(
        !site
            .server
            .sql(&format!("SELECT EVENT_NAME, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{before}'"))
            .contains("ENABLED")
    );
    let child = site.server.sql("SHOW CREATE TABLE other.child");
    assert!(child.contains("REFERENCES `agama`.`customer`") && child.contains("ON DELETE CASCADE"), "{child}");
}

#[test]
fn days_under_load_keep_the_sum() {
    let schema = "CREATE DATABASE agama; USE agama;
        CREATE TABLE a (id INT PRIMARY KEY, balance INT NOT NULL); CREATE TABLE b LIKE a; CREATE TABLE z LIKE a;
        INSERT INTO a SELECT seq, 1000 FROM seq_1_to_2000; INSERT INTO b SELECT * FROM a; INSERT INTO z SELECT * FROM a;
        DELIMITER //
        CREATE PROCEDURE move() BEGIN DECLARE i INT DEFAULT 0; WHILE i < 3000 DO
          SET i = i + 1; START TRANSACTION;
          UPDATE a SET balance = balance - 7 WHERE id = 1 + i % 2000;
          UPDATE z SET balance = balance + 5 WHERE id = 1 + i * 31 % 2000;
          UPDATE b SET balance = balance + 2 WHERE id = 1 + i * 17 % 2000;
          COMMIT;
        END WHILE; END//
        DELIMITER ;";
    let Some(site) = Site::new(schema) else { return };
    let Some(second) = MariaDb::start() else { return };
    let days = if std::env::var_os("VARU_TEST_LONG").is_some() { 10 } else { 3 };
    let moving = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            while moving.load(Ordering::SeqCst) {
                let _ = site.server.try_sql("CALL agama.move()");
            }
        });
        let snapshots: Vec<String> = (0..days).map(|_| site.back_up()).collect();
        moving.store(false, Ordering::SeqCst);
        mover.join().unwrap();
        site.configure(&format!("socket = \"{}\"", second.socket().display()));
        let sum = "SELECT (SELECT SUM(balance) FROM agama.a) + (SELECT SUM(balance) FROM agama.b) + (SELECT SUM(balance) FROM agama.z)";
        let mut seen = std::collections::BTreeSet::new();
        for snapshot in &snapshots {
            let words = [
                "restore",
                "agama",
                "--into",
                "mysql",
                "--yes",
                "--replace",
                "agama",
                "--reason",
                "test",
                "--snapshot",
            ];
            site.run(&[&words[..], &[snapshot]].concat()).ends(0);
            assert_eq!(second.sql(sum), "6000000\n");
            seen.insert(second.sql("SELECT SUM(balance) FROM agama.a"));
            second.sql(&second.sql("SELECT CONCAT('DROP DATABASE `', SCHEMA_NAME, '`;') FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'agama\\_before%'"));
        }
        assert_eq!(seen.len(), snapshots.len(), "money moved between the days");
    });
}
