//! What newer servers have: a schema with all of it comes back, as the server's own dump shows it, and so do the accounts and
//! their passwords.

use std::process::{Command, Stdio};

use crate::mysql::site::Site;
use support::mariadb::{MariaDb, is_mysql};

/// MySQL 8.0 and later: invisible columns and keys, keys on expressions and on JSON, checks, SRID, vectors, compression.
const MYSQL: &str = r#"
CREATE DATABASE agama DEFAULT CHARACTER SET utf8mb4; USE agama;
CREATE TABLE customers (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), email VARCHAR(120) NOT NULL, j JSON, born DATE,
  created TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), full_name VARCHAR(220) GENERATED ALWAYS AS (CONCAT(name,' <',email,'>')) VIRTUAL,
  secret VARCHAR(20) DEFAULT 'x' INVISIBLE, u BINARY(16) DEFAULT (UUID_TO_BIN('8f1e9f5a-0000-4000-8000-000000000001')), CONSTRAINT chk CHECK (email <> ''),
  CONSTRAINT lax CHECK (born > '2000-01-01') NOT ENFORCED, UNIQUE KEY ue (email), KEY kf ((LOWER(name))), KEY hidden (born) INVISIBLE,
  KEY kj ((CAST(j->'$.tags' AS UNSIGNED ARRAY)))) ENGINE=InnoDB COMMENT='Kundén \\ ''x''';
CREATE TABLE orders (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, customer BIGINT UNSIGNED NOT NULL, total DECIMAL(12,2), b BLOB, g GEOMETRY NOT NULL SRID 4326,
  placed DATETIME, PRIMARY KEY (id), SPATIAL KEY (g), KEY (placed DESC), CONSTRAINT fk FOREIGN KEY (customer) REFERENCES customers (id)) ENGINE=InnoDB;
CREATE TABLE part (id INT NOT NULL, d DATE NOT NULL, t TEXT, PRIMARY KEY (id, d)) PARTITION BY RANGE (YEAR(d)) (PARTITION p0 VALUES LESS THAN (2025), PARTITION p1 VALUES LESS THAN MAXVALUE);
SET SESSION sql_generate_invisible_primary_key=ON; CREATE TABLE nopk (a INT, b TEXT); SET SESSION sql_generate_invisible_primary_key=OFF; CREATE TABLE bare (a INT); INSERT INTO bare VALUES (1), (1);
CREATE TABLE vecs (id INT PRIMARY KEY, v VECTOR(3)); CREATE TABLE comp (id INT PRIMARY KEY, t LONGTEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED;
INSERT INTO nopk VALUES (1,'a'),(1,'a'),(2,'Ä "q" \\ \n end'); INSERT INTO vecs VALUES (1, STRING_TO_VECTOR('[1.5,2.5,-3]'));
INSERT INTO comp VALUES (1, REPEAT('abc',10000)); INSERT INTO part VALUES (1,'2024-01-01','old'),(2,'2026-01-01','new');
INSERT INTO customers (name, email, j, born, secret) SELECT CONCAT('Ünal ',seq), CONCAT('u',seq,'@x.example'), JSON_OBJECT('tags', JSON_ARRAY(seq, seq+1),'k','v'), '1980-01-01', CONCAT('s',seq) FROM seq_1_to_900;
INSERT INTO orders (customer, total, b, g, placed) SELECT id, id*1.5, UNHEX(SHA2(id,256)), ST_GeomFromText(CONCAT('POINT(',id/20,' ',id/10,')'),4326), '2026-01-01' FROM customers;
CREATE VIEW big AS SELECT id, total FROM orders WHERE total > 100; CREATE SQL SECURITY INVOKER VIEW v2 AS SELECT * FROM big WHERE '\\' <> 'x';
DELIMITER //
CREATE TRIGGER tr BEFORE INSERT ON orders FOR EACH ROW BEGIN IF NEW.total IS NULL THEN SET NEW.total = 0; END IF; END//
CREATE PROCEDURE p1(IN a INT) BEGIN /* it's "so" */ SELECT REPLACE('a\\b', '\\', '/'), 'it\'s', '\n;' FROM orders WHERE id > a; END//
CREATE FUNCTION f1(a INT) RETURNS INT DETERMINISTIC RETURN a + 1//
CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' COMMENT 'a\\b' DO INSERT INTO nopk VALUES (9, 'e\\')//
DELIMITER ;
CREATE ROLE reader, writer; GRANT SELECT ON agama.* TO reader; GRANT INSERT ON agama.orders TO writer; CREATE USER app@localhost IDENTIFIED BY 'geheim';
GRANT reader TO app@localhost WITH ADMIN OPTION; GRANT writer TO app@localhost; SET DEFAULT ROLE reader, writer TO app@localhost;
CREATE USER app2@'%' IDENTIFIED BY 'geheim' REQUIRE SSL PASSWORD EXPIRE INTERVAL 90 DAY FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 PASSWORD HISTORY 5 COMMENT 'with a comment';
GRANT SELECT (id), UPDATE (total) ON agama.orders TO app2@'%'; GRANT EXECUTE ON PROCEDURE agama.p1 TO app2@'%'; GRANT BACKUP_ADMIN, SHOW_ROUTINE ON *.* TO app2@'%' WITH GRANT OPTION;
CREATE USER app3@localhost IDENTIFIED BY 'geheim' ATTRIBUTE '{"team": "a\\"b"}'; GRANT ALL ON agama.* TO app3@localhost WITH GRANT OPTION;
SET GLOBAL partial_revokes = ON; CREATE USER app4@localhost IDENTIFIED BY 'geheim'; GRANT SELECT ON *.* TO app4@localhost; REVOKE SELECT ON agama.* FROM app4@localhost;
"#;

/// MariaDB: vectors (11.7 and later), periods, types of its own, packages, parameters with defaults (11.8).
const MARIADB: &str = r#"
CREATE DATABASE agama; USE agama;
CREATE TABLE customers (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), email VARCHAR(120) NOT NULL, j JSON, u UUID DEFAULT UUID(), ip INET6,
  secret VARCHAR(20) INVISIBLE DEFAULT 'x', full_name VARCHAR(220) AS (CONCAT(name,email)) VIRTUAL, st VARCHAR(230) AS (CONCAT(name,'!')) STORED, CONSTRAINT chk CHECK (email<>''), UNIQUE KEY (email));
CREATE TABLE orders (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, customer BIGINT UNSIGNED NOT NULL, total DECIMAL(12,2), b BLOB, g POINT NOT NULL, CONSTRAINT fk FOREIGN KEY (customer) REFERENCES customers (id), SPATIAL KEY (g));
CREATE TABLE hist (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; CREATE SEQUENCE sq START WITH 100; CREATE TABLE usesq (id INT PRIMARY KEY DEFAULT NEXTVAL(sq), a INT);
/*M!110701 CREATE TABLE vecs (id INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v)) */; /*M!110701 INSERT INTO vecs VALUES (1, VEC_FromText('[1.5,2.5,-3]')) */;
CREATE TABLE per (id INT, s DATE, e DATE, PERIOD FOR p (s, e), UNIQUE (id, p WITHOUT OVERLAPS));
INSERT INTO hist VALUES (1,1),(2,2); UPDATE hist SET v=5; INSERT INTO usesq (a) VALUES (1),(2); INSERT INTO per VALUES (1,'2026-01-01','2026-02-01');
INSERT INTO customers (name, email, j, ip, secret) SELECT CONCAT('Ünal ',seq), CONCAT('u',seq,'@x'), JSON_OBJECT('a',seq), '2001:db8::1', CONCAT('s',seq) FROM seq_1_to_900;
INSERT INTO orders (customer, total, b, g) SELECT id, id*1.5, UNHEX(MD5(id)), POINT(id,id) FROM customers; CREATE VIEW big AS SELECT id, total FROM orders WHERE total>100;
DELIMITER //
CREATE TRIGGER tr BEFORE INSERT ON orders FOR EACH ROW BEGIN IF NEW.total IS NULL THEN SET NEW.total=0; END IF; END//
/*M!110801 CREATE PROCEDURE p1(IN a INT DEFAULT 3) BEGIN SELECT a; END */ //
CREATE FUNCTION f1(a INT) RETURNS INT DETERMINISTIC RETURN a+1//
CREATE AGGREGATE FUNCTION ag(x INT) RETURNS INT DETERMINISTIC BEGIN DECLARE s INT DEFAULT 0; DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN s; LOOP FETCH GROUP NEXT ROW; SET s=s+x; END LOOP; END//
CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DO INSERT INTO hist VALUES (9,9)//
SET sql_mode=ORACLE//
CREATE PACKAGE pk AS FUNCTION f RETURN INT; END//
CREATE PACKAGE BODY pk AS FUNCTION f RETURN INT DETERMINISTIC AS BEGIN RETURN 7; END; END//
SET sql_mode=DEFAULT//
DELIMITER ;
CREATE ROLE reader; GRANT SELECT ON agama.* TO reader; CREATE USER app@localhost IDENTIFIED BY 'geheim'; GRANT reader TO app@localhost WITH ADMIN OPTION; SET DEFAULT ROLE reader FOR app@localhost;
CREATE USER app2@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('geheim') OR unix_socket ACCOUNT LOCK; GRANT SELECT (id) ON agama.orders TO app2@localhost;
CREATE USER app3@localhost IDENTIFIED BY 'geheim'; GRANT ALL ON agama.* TO app3@localhost WITH GRANT OPTION;
/*M!110601 INSTALL SONAME 'auth_parsec' */; /*M!110601 CREATE USER app4@localhost IDENTIFIED VIA parsec USING PASSWORD('geheim') */;
"#;

/// The database as the server's own program dumps it.
fn own_dump(server: &MariaDb) -> String {
    let mut dump = server.dump("agama");
    if is_mysql() {
        dump.arg("--set-gtid-purged=OFF");
    }
    let output = dump.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All accounts that begin with `app`, and the roles, as the server shows them.
fn accounts(server: &MariaDb) -> String {
    let names = server.sql("SELECT CONCAT(QUOTE(User), IF(Host = '', '', CONCAT('@', QUOTE(Host)))) FROM mysql.user WHERE User LIKE 'app%' OR User IN ('reader', 'writer') ORDER BY User, Host");
    let show = |name: &str| {
        let hex = if is_mysql() { "SET print_identified_with_as_hex = 1; " } else { "" };
        let create = if name.contains('@') { format!("{hex}SHOW CREATE USER {name};\n") } else { String::new() };
        format!("{create}SHOW GRANTS FOR {name};\n")
    };
    server.sql(&names.lines().map(show).collect::<String>())
}

/// Whether somebody gets in with the password.
fn enters(server: &MariaDb, user: &str, password: &str) -> bool {
    let mut client = Command::new(MariaDb::client_program());
    client.args(["--no-defaults", &format!("-u{user}"), &format!("-p{password}"), "-e", "SELECT 1"]);
    client.arg(format!("--socket={}", server.socket().display())).stdout(Stdio::null()).stderr(Stdio::null());
    client.status().unwrap().success()
}

/// Accounts whose password is salted by chance: each byte comes at some time.
const SALTED: u32 = 25;

fn options() -> &'static [&'static str] {
    match is_mysql() {
        true => &["--log-bin=binlog", "--server-id=1", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"],
        false => &[],
    }
}

#[test]
fn all_that_the_server_has_comes_back_and_passwords_work() {
    let Some(site) = Site::with(if is_mysql() { MYSQL } else { MARIADB }, options()) else { return };
    let many: String =
        (0..SALTED).map(|number| format!("CREATE USER app_{number}@localhost IDENTIFIED BY 'pw{number}';\n")).collect();
    site.server.sql(&many);
    let (dump, users) = (own_dump(&site.server), accounts(&site.server));
    let checked = site.run(&["config", "check"]).ends(0);
    let said = String::from_utf8(checked.out).unwrap();
    assert!(!said.contains("FAILED"), "{said}");
    site.back_up();
    let Some(second) = MariaDb::start_with(options()) else { return };
    if is_mysql() {
        // What was made without a key comes back without one, though new tables have to have one there.
        second.sql("SET GLOBAL partial_revokes = ON; SET GLOBAL sql_generate_invisible_primary_key = ON; SET GLOBAL sql_require_primary_key = ON");
    } else {
        second.sql("/*M!110601 INSTALL SONAME 'auth_parsec' */");
    }
    site.configure(&format!("socket = \"{}\"", second.socket().display()));
    site.run(&["restore", "agama", "--into", "mysql", "--yes"]).ends(0);
    assert_eq!(own_dump(&second), dump);
    assert_eq!(accounts(&second), users);
    assert!(enters(&second, "app3", "geheim") && enters(&second, "app", "geheim") && !enters(&second, "app", "other"));
    for number in 0..SALTED {
        assert!(enters(&second, &format!("app_{number}"), &format!("pw{number}")), "app_{number}");
    }
    // Over what is there now, and the old whole beside it.
    let words = ["restore", "agama", "--into", "mysql", "--yes", "--replace", "agama", "--reason", "test"];
    site.run(&words).ends(0);
    assert_eq!(own_dump(&second), dump);
    let before =
        second.sql("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'agama\\_before%'");
    let kinds = format!(
        "SELECT (SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{0}'), (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{0}'),
         (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{0}'), (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{0}')",
        before.trim()
    );
    assert_eq!(second.sql(&kinds), second.sql(&kinds.replace(before.trim(), "agama")));
}

/// The binary log from where the dump says that it stands, up to now, makes the data of now of the dump's.
#[test]
fn the_position_of_the_binary_log_is_the_dumps_own_moment() {
    let schema = "CREATE DATABASE agama; USE agama; CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v INT); INSERT INTO t (v) SELECT seq FROM seq_1_to_2000;
        CREATE USER backup@localhost IDENTIFIED BY 'geheim'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON agama.* TO backup@localhost;
        GRANT PROCESS ON *.* TO backup@localhost; GRANT SELECT ON mysql.* TO backup@localhost;
        /*!80000 GRANT SHOW_ROUTINE ON *.* TO backup@localhost */; /*!80000 GRANT SELECT ON performance_schema.* TO backup@localhost */;";
    let with_log = if is_mysql() { options() } else { &["--log-bin=binlog", "--server-id=1", "--binlog-format=ROW"] };
    let Some(site) = Site::with(schema, with_log) else { return };
    let option_file = site.machine.at("my.cnf");
    let socket = site.server.socket();
    std::fs::write(&option_file, format!("[client]\nuser=backup\npassword=geheim\nsocket={}\n", socket.display()))
        .unwrap();
    site.configure(&format!("option_file = \"{}\"", option_file.display()));
    let checked = String::from_utf8(site.run(&["config", "check"]).ends(0).out).unwrap();
    let monitor = if is_mysql() { "RELOAD, REPLICATION CLIENT" } else { "BINLOG MONITOR, RELOAD" };
    let statement = format!("GRANT {monitor} ON *.* TO `backup`@`localhost`;");
    assert!(checked.contains(&statement), "{checked}");
    let told = site.run(&["backup", "agama"]).ends(0).err;
    assert!(told.contains("no lock over all tables was held") && !told.contains("dump: "), "{told}");
    site.server.sql(&statement);
    let writing = std::sync::atomic::AtomicBool::new(true);
    let (backup, preamble) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while writing.load(std::sync::atomic::Ordering::SeqCst) {
                site.server.sql("INSERT INTO agama.t (v) VALUES (7)");
            }
        });
        let backup = site.run(&["backup", "agama"]);
        writing.store(false, std::sync::atomic::Ordering::SeqCst);
        writer.join().unwrap();
        let files = site.machine.at("files");
        site.run(&["-q", "restore", "agama", "--to", files.to_str().unwrap()]).ends(0);
        let text = |name: &str| std::fs::read_to_string(files.join(name)).unwrap();
        (backup.ends(0), text("@preamble.sql") + &text("@postamble.sql"))
    });
    let how =
        if is_mysql() { "all tables were locked at the dump's begin" } else { "no lock over all tables was held" };
    // The program's own words about transactions aren't passed on.
    assert!(backup.err.contains(how) && !backup.err.contains("dump: "), "{}", backup.err);
    assert!(!preamble.contains("SQL_LOG_BIN"), "{preamble}");
    let word = if is_mysql() { "GTID_PURGED='+" } else { "gtid_slave_pos='" };
    assert!(preamble.contains(word), "{preamble}");
    let after = |mark: &str| {
        let (_, rest) = preamble.split_once(mark).unwrap_or_else(|| panic!("{mark}: {preamble}"));
        rest.trim_start_matches('\'').split(['\'', ',', ';']).next().unwrap().to_owned()
    };
    let (file, position) = (after("_LOG_FILE="), after("_LOG_POS="));
    // The copy has the data of the dump's moment, and the log the rest.
    site.configure(&format!("socket = \"{}\"", socket.display()));
    let count =
        |database: &str| site.server.sql(&format!("SELECT COUNT(*) FROM {database}.t")).trim().parse::<u32>().unwrap();
    let now = count("agama");
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    let then = count("copy");
    let events = site.server.sql(&format!("SHOW BINLOG EVENTS IN '{file}' FROM {position}"));
    let written = events.lines().filter(|line| line.contains("Write_rows")).count();
    // The rows that went into the copy are in the log, too, in fewer events than there are rows: those come last.
    let of_copy = events.lines().position(|line| line.contains("copy")).unwrap_or(usize::MAX);
    let live = events.lines().take(of_copy).filter(|line| line.contains("Write_rows")).count() as u32;
    assert!(live <= written as u32);
    assert_eq!(then + live, now, "{file}:{position}");
}

/// What the server's own program writes by itself, on a server with GTIDs, is a dump as any other.
#[test]
fn a_dump_of_another_job_with_the_servers_transactions_comes_back() {
    let Some(site) = Site::with(
        "CREATE DATABASE agama; CREATE TABLE agama.t (a INT PRIMARY KEY); INSERT INTO agama.t VALUES (7); CREATE VIEW agama.v AS SELECT a FROM agama.t",
        options(),
    ) else {
        return;
    };
    let copies = site.machine.at("copies");
    std::fs::create_dir(&copies).unwrap();
    // The server's own way; what it is told beside it is the rest of a whole dump.
    let output = site.server.dump("agama").output().unwrap();
    assert!(output.status.success());
    std::fs::write(copies.join("agama.sql"), output.stdout).unwrap();
    site.configure(&format!(
        "socket = \"{}\"\nlocal_copy = \"{}\"\ndump_by = \"external\"\nschedule = {{ timezone = \"UTC\", dump = \"00:00\" }}",
        site.server.socket().display(),
        copies.display()
    ));
    let ended = site.run(&["backup", "agama"]);
    assert!(matches!(ended.status, 0 | 3), "{}", ended.err);
    site.server.sql("DROP DATABASE agama");
    let ended = site.run(&["restore", "agama", "--into", "mysql", "--yes", "--reason", "test"]);
    assert!(matches!(ended.status, 0 | 3), "{}", ended.err);
    assert_eq!(site.server.sql("SELECT a FROM agama.v"), "7\n");
}

/// A dump of this machine's older MariaDB goes into a newer one, and into nothing else.
#[test]
fn a_dump_of_an_older_release_comes_back_and_one_of_another_vendor_is_refused() {
    if support::release::of_this_process().is_none() {
        return;
    }
    let Some(older) = MariaDb::start_of_this_machine() else { return };
    let Some(site) = Site::new("") else { return };
    older.sql(crate::mysql::round::RICH);
    let at = |server: &MariaDb| format!("socket = \"{}\"", server.socket().display());
    // By its own programs: a newer one of MariaDB's wants TLS of any server.
    let by_own = |words: &[&str]| {
        support::machine::Ended::from(site.command(words).env("PATH", "/usr/bin:/bin").output().unwrap())
    };
    site.configure(&at(&older));
    by_own(&["backup", "agama"]).ends(0);
    site.configure(&at(&site.server));
    let words = ["restore", "agama", "--into", "mysql", "--yes", "--reason", "test"];
    let ended = site.run(&words);
    if is_mysql() {
        assert!(ended.ends(5).err.contains("the dump is of MariaDB, and this server is MySQL"));
        return;
    }
    ended.ends(0);
    // A checksum of the newer server counts a column of the first table otherwise, so its values are compared.
    let sums = "SET group_concat_max_len = 1073741824, time_zone = '+00:00'; SELECT COUNT(*), SHA2(GROUP_CONCAT(CONCAT_WS('|', id, HEX(name), HEX(note), since, IFNULL(HEX(photo), 'NULL'), IFNULL(day, 'NULL'), HEX(up), HEX(lo)) ORDER BY id), 256) FROM agama.customer; CHECKSUM TABLE agama.account, agama.log, agama.part, agama.history, agama.numbered; SELECT agama.slash(), agama.tools.one(); SELECT COUNT(*) FROM agama.cheaper; SHOW GRANTS FOR app@'%'";
    assert_eq!(site.server.sql(sums), older.sql(sums));
    // The other way.
    site.back_up();
    site.configure(&at(&older));
    older.sql("DROP DATABASE agama");
    assert!(by_own(&words).ends(5).err.contains("this server is older"));
}

/// What no dump holds is named before it is missed.
#[test]
fn what_no_dump_holds_is_named() {
    if !is_mysql() {
        return;
    }
    let Some(site) = Site::new(
        "CREATE DATABASE agama; CREATE TABLESPACE many ADD DATAFILE 'many.ibd'; CREATE TABLE agama.t (a INT PRIMARY KEY) TABLESPACE many; CREATE RESOURCE GROUP slow TYPE = USER;
         CREATE USER app@localhost IDENTIFIED BY 'one'; ALTER USER app@localhost IDENTIFIED BY 'two' RETAIN CURRENT PASSWORD;",
    ) else {
        return;
    };
    let checked = site.run(&["config", "check"]).ends(0);
    let ended = site.run(&["backup", "agama"]).ends(3);
    for what in [
        "second passwords of accounts (RETAIN CURRENT PASSWORD)",
        "app@localhost",
        "resource groups",
        "slow",
        "general tablespaces",
        "many",
    ] {
        assert!(String::from_utf8_lossy(&checked.out).contains(what), "{what}");
        assert!(ended.err.contains(what), "{what}: {}", ended.err);
    }
}
