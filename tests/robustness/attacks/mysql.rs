//! MySQL: a dump that commands the client, the machine or another database.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use support::apart::Seen;
use support::mariadb::MariaDb;
use support::site::Site;

/// A server, a site that backs up its database `shop`, and a program that leaves a mark where a client starts it.
struct Ground {
    server: MariaDb,
    site: Site,
}

impl Ground {
    fn new(schema: &str) -> Option<Self> {
        let server = MariaDb::start()?;
        server.sql(schema);
        let site = Site::new("shop", "source = \"mysql\"\ndatabases = \"all\"");
        let ground = Self { server, site };
        ground.configure("");
        let marks = format!("#!/bin/sh\ntouch {}\n", ground.mark().display());
        for name in ["editor", "less", "vi"] {
            let program = ground.site.machine.at(name);
            fs::write(&program, &marks).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Some(ground)
    }

    fn mark(&self) -> std::path::PathBuf {
        self.site.machine.at("a-program-was-started")
    }

    fn configure(&self, lines: &str) {
        self.site.configure(&format!(
            "source = \"mysql\"\ndatabases = [\"shop\"]\nsocket = \"{}\"\n{lines}",
            self.server.socket().display()
        ));
    }

    /// Takes the dumps of another job, from the folder that it makes and names.
    fn takes_dumps(&self) -> std::path::PathBuf {
        let folder = self.site.machine.at("dumps");
        fs::create_dir(&folder).unwrap();
        self.configure(&format!(
            "dump_by = \"external\"\nlocal_copy = \"{}\"\nmax_shrink = \"100 %\"",
            folder.display()
        ));
        folder
    }

    /// The program, on a machine whose editor and pager leave a mark.
    fn run(&self, words: &[&str]) -> support::machine::Ended {
        let path = format!("{}:{}", self.site.machine.top.display(), std::env::var("PATH").unwrap());
        let editor = self.site.machine.at("editor");
        let mut command = self.site.command(words);
        command
            .env("PATH", path)
            .env("EDITOR", &editor)
            .env("VISUAL", &editor)
            .env("PAGER", self.site.machine.at("less"));
        command.current_dir(&self.site.machine.top).output().unwrap().into()
    }

    /// Whether nothing was done that the dump had no business with.
    #[track_caller]
    fn is_untouched(&self, what: &str) {
        assert!(!self.mark().exists(), "{what}: a program was started");
        let seen = self.server.sql(
            "SELECT COUNT(*) FROM other.secret; SELECT COUNT(*) FROM mysql.user WHERE User = 'evil'; \
             SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME = 'loot'; SELECT @@GLOBAL.general_log;",
        );
        assert_eq!(seen, "1\n0\n0\n0\n", "{what}");
    }
}

const SCHEMA: &str = "CREATE DATABASE other; CREATE TABLE other.secret (a TEXT); INSERT INTO other.secret VALUES ('x');
    CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, text TEXT); INSERT INTO shop.t VALUES (1, 'a');";

const INTO: [&str; 7] = ["restore", "shop", "--into", "mysql", "--yes", "--replace", "shop"];

/// The stored code of a database, byte by byte.
const CODE: &str = "SELECT name, HEX(body), HEX(comment) FROM mysql.proc WHERE db = 'shop' ORDER BY 1;
    SELECT TRIGGER_NAME, HEX(ACTION_STATEMENT) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' ORDER BY 1;
    SELECT EVENT_NAME, HEX(EVENT_DEFINITION), STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'shop' ORDER BY 1;
    SELECT TABLE_NAME, HEX(TABLE_COMMENT) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' ORDER BY 1;
    SELECT HEX(text) FROM shop.t ORDER BY id;";

/// Text that a client takes for a command, inside of text that a server takes for a comment.
fn hostile() -> Vec<String> {
    let commands = [
        "\\e",
        "\\!touch a-program-was-started",
        "\\r other",
        "\\. evil.sql",
        "\\T loot",
        "\\P less",
        "\\u other",
        "\\d ;;",
        "\\C gbk",
        "system touch a-program-was-started",
        "source evil.sql",
        "edit",
        "delimiter ;",
        "DELIMITER ;;",
        ";; DROP DATABASE other ;;",
        ";;\nDROP DATABASE other;;\n",
        "; DROP DATABASE other;",
    ];
    let around = [
        ("-- ", "\n"),
        ("--\u{1} ", "\n"),
        ("--\u{b}", "\n"),
        ("# ", "\n"),
        ("/* ", " */"),
        ("/*\n", "\n*/"),
        ("--\t\n", "\n"),
    ];
    let mut all = Vec::new();
    for command in commands {
        for (open, close) in around {
            // Outside of a comment the server wouldn't take it.
            let ends_before = open.ends_with('\n') && open.starts_with("--");
            let ends_within = (open.starts_with('-') || open == "# ") && command.contains('\n');
            if !ends_before && !ends_within {
                all.push(format!("{open}{command}{close}"));
            }
        }
    }
    all
}

/// A user who may make routines in his own database, and an honest backup.
#[test]
fn a_body_that_commands_the_client_comes_back_and_runs_nothing() {
    let Some(ground) = Ground::new(SCHEMA) else { return };
    let server = &ground.server;
    let mut sql = String::from("USE shop; SET NAMES utf8mb4;\n");
    let make =
        |text: &str| format!("EXECUTE IMMEDIATE 0x{};\n", text.bytes().map(|b| format!("{b:02x}")).collect::<String>());
    for (number, text) in hostile().into_iter().enumerate() {
        sql += &make(&format!(
            "CREATE PROCEDURE p{number}() COMMENT '{}' BEGIN SELECT 1; {text} SELECT 2; END",
            text.replace(['\'', '\\'], "")
        ));
        let literal = text.replace('\\', "\\\\").replace('\'', "''");
        sql += &make(&format!("INSERT INTO t VALUES ({}, '{literal}')", number + 100));
    }
    let long = format!(
        "CREATE PROCEDURE longest() BEGIN SELECT 1; --\u{1} \\e\n{} /* :!touch a-program-was-started\n:q!\n */ END",
        "-- pad\n".repeat(60_000)
    );
    sql += &make(&long);
    sql += &make("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN --\u{1} \\e\n SET @x = 1; END");
    sql += &make("CREATE EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01' DO BEGIN --\u{1} \\e\n SET @x = 1; END");
    sql += &make(
        "CREATE TABLE `\\e` (a INT) COMMENT '\\\\e\n\\\\! touch a-program-was-started\nsystem touch a-program-was-started\n'",
    );
    sql += &make("CREATE TABLE `;; DROP DATABASE other; --` (a INT)");
    sql += &make("CREATE VIEW `\\! touch a-program-was-started` AS SELECT ';; \\\\e' AS `\\e`");
    server.sql(&sql);
    let before = server.sql(CODE);
    ground.run(&["backup", "shop"]).ends(0);
    ground.run(&[&INTO[..], &["--reason", "test"]].concat()).ends(0);
    ground.is_untouched("an honest backup");
    assert_eq!(server.sql(CODE), before);
}

/// A dump of the attacker's own, as another job leaves it in the folder of the set.
fn forged(table: &str, routines: &str) -> String {
    format!(
        "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n/*!40101 SET NAMES utf8mb4 */;\n/*!40101 SET \
         @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n\n--\n-- Current Database: `shop`\n--\n\nCREATE DATABASE \
         /*!32312 IF NOT EXISTS*/ `shop`;\n\nUSE `shop`;\n\n--\n-- Table structure for table `t`\n--\n\nCREATE TABLE `t` (\n  `id` int(11) DEFAULT NULL\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;\n\n\
         --\n-- Dumping data for table `t`\n--\n\nINSERT INTO `t` VALUES (1);\n{table}\n\n--\n-- Dumping routines for database \
         'shop'\n--\n{routines}\n/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;\n\n-- Dump completed on 2026-11-28\n"
    )
}

#[test]
fn a_forged_dump_stops_at_its_first_statement_of_another_kind() {
    let Some(ground) = Ground::new(SCHEMA) else { return };
    let folder = ground.takes_dumps();
    fs::write(ground.site.machine.at("evil.sql"), "DROP DATABASE other;\n").unwrap();
    fs::write(ground.site.machine.at("secret"), "x\n").unwrap();
    let secret = ground.site.machine.at("secret").display().to_string();
    let load = format!("LOAD DATA LOCAL INFILE '{secret}' INTO TABLE t;");
    // In the stream of a table.
    let table = [
        "DROP TABLE `other`.`secret`;",
        "DROP TABLE IF EXISTS other.secret;",
        "DROP TABLE IF EXISTS `other` . `secret`;",
        "INSERT INTO `other`.`secret` VALUES (1);",
        "INSERT INTO `t` SELECT a FROM other.secret;",
        "INSERT INTO `t` VALUES ((SELECT COUNT(*) FROM other.secret));",
        "INSERT INTO `t` VALUES (1) ON DUPLICATE KEY UPDATE id = 2;",
        "CREATE TABLE `t` AS SELECT * FROM other.secret;",
        "CREATE TABLE loot (a INT);",
        "/*!50003 DROP DATABASE `other` */;",
        "/*M!100100 DROP DATABASE `other` */;",
        "/*! DROP DATABASE `other` */;",
        "DROP /*!50003 DATABASE */ /* x */ `other`;",
        "GRANT ALL ON *.* TO evil@localhost IDENTIFIED BY 'x';",
        "CREATE USER evil@localhost;",
        "SET GLOBAL general_log = 1;",
        "SET @@GLOBAL.general_log = 1;",
        "INSTALL SONAME 'ha_archive';",
        "CREATE FUNCTION f RETURNS INTEGER SONAME 'x.so';",
        "SELECT 1 INTO OUTFILE '/tmp/loot';",
        "PREPARE x FROM 'DROP DATABASE other';",
        "EXECUTE IMMEDIATE 'DROP DATABASE other';",
        "USE other;",
        "\\e",
        "\\! touch a-program-was-started",
        "system touch a-program-was-started",
        "source evil.sql",
        "\\. evil.sql",
        "\\r other",
        "\\T loot",
        "SET character_set_client = gbk; INSERT INTO `t` VALUES ('\u{bf}');",
        load.as_str(),
        "SET sql_mode = 1048576; INSERT INTO `t` VALUES ('\\');DROP DATABASE other; -- ');",
        "SET sql_mode = DEFAULT; INSERT INTO `t` VALUES ('\\');DROP DATABASE other; -- ');",
        "SET @a='NO_BACKSLASH_ESCAPES'; SET @a='', sql_mode=@a; INSERT INTO `t` VALUES ('\\');DROP DATABASE other; -- ');",
        "SET character_set_client = 28; INSERT INTO `t` VALUES ('\u{bf}');",
        "INSERT INTO `t` VALUES (1e-- '\n);DROP DATABASE other; -- ');",
        "DROP TABLE IF EXISTS /*M /* */ `other`.`secret` -- */ t\n;",
        "DROP TABLE IF EXISTS `t`; CREATE TABLE `t` (a int DEFAULT (SETVAL(`other`.`s`, 5)));",
        "INSERT INTO `t` VALUES (@@GLOBAL.general_log);",
        "INSERT INTO `t` VALUES (LOAD_FILE('/etc/shadow'));",
        "INSERT INTO `t` VALUES (1) RETURNING (SELECT a FROM other.secret);",
        "INSERT INTO `t` SET id = (SELECT 1);",
        "REPLACE INTO `other`.`secret` VALUES ('y');",
        "ALTER TABLE `other`.`secret` DISABLE KEYS;",
        "CREATE TABLE `t2` LIKE other.secret;",
        "DROP TABLE IF EXISTS `t`; CREATE TABLE `t` (a text) ENGINE=MERGE UNION=(other.secret) INSERT_METHOD=LAST;",
        "SET STATEMENT max_statement_time=9 FOR DROP DATABASE other;",
        "SET PASSWORD = PASSWORD('x');",
        "SET ROLE x;",
        "HANDLER other.secret OPEN;",
        "BEGIN NOT ATOMIC DROP DATABASE other; END;",
        "FLUSH PRIVILEGES;",
        "KILL 1;",
        "SHUTDOWN;",
        "CHANGE MASTER TO MASTER_HOST='evil';",
        "BINLOG 'x';",
        "XA START 'x';",
        "RENAME TABLE other.secret TO shop.loot;",
        "TRUNCATE other.secret;",
        "WITH x AS (SELECT 1) SELECT * FROM x;",
        "VALUES (1);",
        "EXPLAIN EXTENDED DELETE FROM other.secret;",
        "ANALYZE UPDATE other.secret SET a = 'y';",
        "SIGNAL SQLSTATE '45000';",
        "INSERT INTO `t` VALUES (NEXT VALUE FOR other.s);",
        "INSERT INTO `t` VALUES (x'41' 'a' COLLATE (SELECT 1));",
        "CREATE OR REPLACE TABLE other.secret (a INT);",
        "CREATE TABLE `t`.`x` (a INT);",
    ];
    for statement in table {
        fs::write(folder.join("shop.sql"), forged(statement, "")).unwrap();
        ground.run(&["backup", "shop"]).ends(0);
        let ended = ground.run(&[&INTO[..], &["--reason", "test"]].concat());
        assert!([1, 5].contains(&ended.status), "{statement}: {}", ended.err);
        assert!(ended.err.contains("no dump of `shop` consists of"), "{statement}: {}", ended.err);
        ground.is_untouched(statement);
        assert_eq!(ground.server.sql("SELECT text FROM shop.t"), "a\n", "{statement}: what was there stays");
        ground.run(&["restore", "shop", "--abandon"]).ends(0);
    }
    // In that of routines, which is looked at before anything is written.
    for statement in [
        "DROP PROCEDURE other.p;",
        "CREATE PROCEDURE other.p() SELECT 1;",
        "CREATE PROCEDURE `p`() SELECT 1; DROP DATABASE other;",
        "DELIMITER ;;\nCREATE PROCEDURE `p`() SELECT 1;;\nDROP DATABASE other;;\nDELIMITER ;",
        "DELIMITER ;;\nCREATE PROCEDURE `p`() BEGIN SELECT 1; --\u{1} ;;\nEND;;\nDROP DATABASE other;;\nDELIMITER ;",
        "CREATE FUNCTION f RETURNS INTEGER SONAME 'x.so';",
        "ALTER DATABASE other CHARACTER SET latin1;",
        "CALL p();",
    ] {
        fs::write(folder.join("shop.sql"), forged("", statement)).unwrap();
        ground.run(&["backup", "shop"]).ends(0);
        let ended = ground.run(&[&INTO[..], &["--reason", "test"]].concat()).ends(5);
        assert!(ended.err.contains("no dump of `shop` consists of"), "{statement}: {}", ended.err);
        ground.is_untouched(statement);
    }
    // The same words where they are honest.
    fs::write(
        folder.join("shop.sql"),
        forged("", "DELIMITER ;;\nCREATE DEFINER=`root`@`localhost` PROCEDURE `p`() BEGIN SELECT '\\\\e'; --\u{1} \\e ;;\nEND;;\nDELIMITER ;"),
    )
    .unwrap();
    ground.run(&["backup", "shop"]).ends(0);
    ground.run(&[&INTO[..], &["--reason", "test"]].concat()).ends(0);
    ground.is_untouched("an honest dump of another job");
    assert!(ground.server.sql("SELECT body FROM mysql.proc WHERE db = 'shop'").contains("\\\\e ;;"));
}

/// Pieces of which a client and a server may think differently.
const PIECES: [&str; 34] = [
    "'",
    "\"",
    "`",
    "\\",
    "\\'",
    "--\u{1}",
    "-- ",
    "--",
    "#",
    "/*",
    "*/",
    "/*!",
    "/*!50003 ",
    "/*!99999 ",
    "/*M!100100 ",
    "/*M!999999 ",
    ";",
    ";;",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{b}",
    "\u{a0}",
    "\u{bf}",
    "\\e",
    "\\! touch a-program-was-started",
    "DELIMITER ;;\n",
    "delimiter ;\n",
    "DROP DATABASE other",
    "CREATE USER evil",
    "CREATE TABLE shop.loot (a INT)",
    "system touch a-program-was-started\n",
    "SELECT 1",
];

/// Whatever the dump, with the real client: nothing is started, and nothing outside of the database is touched.
#[test]
fn no_dump_makes_the_client_do_what_the_filter_did_not_see() {
    let Some(ground) = Ground::new(SCHEMA) else { return };
    let folder = ground.takes_dumps();
    let cases = if support::site::is_long() { 1_000 } else { 12 };
    let choices = proptest::collection::vec(proptest::collection::vec(0..PIECES.len(), 1..8), 3);
    crate::attacks::fuzz(cases, &choices, |choices| {
        let text = |number: usize| choices[number].iter().map(|&piece| PIECES[piece]).collect::<String>();
        let table = format!("INSERT INTO `t` VALUES (2{});\n", text(0));
        let routines =
            format!("DELIMITER ;;\nCREATE PROCEDURE `p`() BEGIN SELECT 1; {} END;;\n{}\nDELIMITER ;", text(1), text(2));
        for dump in [forged(&table, ""), forged("", &routines)] {
            fs::write(folder.join("shop.sql"), &dump).unwrap();
            // A dump that is incomplete to the reader isn't stored.
            if ground.run(&["backup", "shop"]).status != 0 {
                continue;
            }
            ground.run(&[&INTO[..], &["--reason", "test"]].concat());
            ground.is_untouched(&dump);
            ground.run(&["restore", "shop", "--abandon"]);
        }
    });
}

/// A client in the middle of a restore, and the restore's result.
fn seen_while_it_loads(ground: &Ground, words: &[&str]) -> (Seen, support::machine::Ended) {
    let mut holder = std::process::Command::new("mariadb");
    holder.args(["--no-defaults", "-u", "root", "-N", "-B", "-n"]);
    holder.arg(format!("--socket={}", ground.server.socket().display()));
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = holder.stdin.take().unwrap();
    // Nothing can be written until it goes.
    told.write_all(b"FLUSH TABLES WITH READ LOCK; SELECT 1;\n").unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
    let socket = ground.server.socket().display().to_string();
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| ground.run(words));
        let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock'";
        let begun = std::time::Instant::now();
        while ground.server.sql(waits) == "0\n" && !restore.is_finished() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "the restore writes nothing");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(!restore.is_finished(), "{}", restore.join().unwrap().err);
        let seen = Seen::of("mariadb", &["--binary-mode", &socket]);
        drop(told);
        holder.wait().unwrap();
        (seen, restore.join().unwrap())
    })
}

/// Where the client is told who it is by a password, nothing of it needs root.
#[test]
fn the_client_that_loads_is_a_user_who_owns_nothing() {
    let Some(ground) = Ground::new(SCHEMA) else { return };
    if !support::apart::is_root() {
        return eprintln!("skipped: not root");
    }
    // The way to the socket of a server is everybody's.
    fs::set_permissions(ground.server.socket().parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    ground.server.sql(
        "CREATE USER loader@localhost IDENTIFIED BY 'ge#h\"eim\\\\'; GRANT ALL ON *.* TO loader@localhost WITH GRANT OPTION",
    );
    let file = ground.site.machine.at("mysql.cnf");
    fs::write(&file, "# of the operator\n[client]\nuser=loader\npassword=\"ge#h\\\"eim\\\\\"").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let with_file = format!("option_file = \"{}\"", file.display());
    ground.configure(&with_file);
    ground.run(&["backup", "shop"]).ends(0);
    let words = [&INTO[..], &["--reason", "test"]].concat();
    let (seen, ended) = seen_while_it_loads(&ground, &words);
    ended.ends(0);
    seen.is_apart(false);
    assert!(!seen.words.contains("ge#h") && !seen.words.contains("mysql.cnf"), "{seen:?}");
    assert_eq!(ground.server.sql("SELECT text FROM shop.t"), "a\n");

    // An account that the server knows by the user's number: as it always was, and restored all the same.
    ground.server.sql("ALTER USER root@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING 'invalid';");
    ground.configure("");
    let (seen, ended) = seen_while_it_loads(&ground, &words);
    ended.ends(0);
    assert_eq!(seen.user, 0);
    assert_eq!(ground.server.sql("SELECT text FROM shop.t"), "a\n");
}

/// The remaining power of a dump's author: a foreign key is a part of a table, and may point anywhere.
#[test]
fn a_foreign_key_to_another_database_comes_back_and_holds_its_rows() {
    let Some(ground) = Ground::new(SCHEMA) else { return };
    ground.server.sql("CREATE TABLE other.parent (id INT PRIMARY KEY); INSERT INTO other.parent VALUES (1), (2);");
    let folder = ground.takes_dumps();
    let key =
        "DEFAULT NULL,\n  KEY `k` (`id`),\n  CONSTRAINT `c` FOREIGN KEY (`id`) REFERENCES `other`.`parent` (`id`)\n)";
    fs::write(folder.join("shop.sql"), forged("", "").replace("DEFAULT NULL\n)", key)).unwrap();
    ground.run(&["backup", "shop"]).ends(0);
    let ended = ground.run(&[&INTO[..], &["--reason", "test"]].concat());
    assert!([0, 3].contains(&ended.status), "{}", ended.err);
    ground.is_untouched("a foreign key");
    assert!(ground.server.try_sql("DELETE FROM other.parent WHERE id = 1").unwrap_err().contains("foreign key"));
    ground.server.sql("DELETE FROM other.parent WHERE id = 2");
}
