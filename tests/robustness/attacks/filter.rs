//! MySQL: hostile streams, loaded by the real client into a real server that logs its statements: only permitted ones
//! are run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use varu::entry::{Entry, Kind, StreamName};
use varu::facts::Facts;
use varu::progress::Interrupt;
use varu::source::mysql::client::MysqlServerOptions;
use varu::source::mysql::into::MysqlTarget;
use varu::source::remains::Remains;
use varu::source::{Contents, Error, RestoreTarget, RestoreTargetOptions};

use support::mariadb::MariaDb;

type Streams = Vec<(String, Vec<u8>)>;

/// The parts of a small database's dump.
fn honest() -> Streams {
    let text: [(&str, &str); 8] = [
        (
            "@preamble.sql",
            "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT \
             */;\n/*!40101 SET NAMES utf8mb4 */;\n/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;\n/*!40103 SET TIME_ZONE='+00:00' */;\n\
             /*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n",
        ),
        (
            "shop/@database.sql",
            "--\n-- Current Database: `shop`\n--\n\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop` /*!40100 DEFAULT CHARACTER SET \
             utf8mb4 COLLATE utf8mb4_general_ci */ COMMENT 'it''s \\\\ mine';\n\nUSE `shop`;\n",
        ),
        (
            "shop/s.sequence.sql",
            "DROP SEQUENCE IF EXISTS `s`;\nCREATE SEQUENCE `s` start with 1 minvalue 1 maxvalue 900 increment by 1 cache 10 nocycle \
             ENGINE=InnoDB;\nDO SETVAL(`s`, 5, 0);\n",
        ),
        (
            "shop/t.sql",
            "--\n-- Table structure for table `t`\n--\n\nDROP TABLE IF EXISTS `t`;\n/*!40101 SET @saved_cs_client     = \
             @@character_set_client */;\n/*!40101 SET character_set_client = utf8mb4 */;\nCREATE TABLE `t` (\n  `id` int(11) NOT NULL,\n  \
             `1e` int(11) DEFAULT NULL,\n  `text` text DEFAULT NULL COMMENT 'a;b',\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB;\n/*!40101 SET \
             character_set_client = @saved_cs_client */;\n\nLOCK TABLES `t` WRITE;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\nINSERT INTO \
             `t` VALUES (1,NULL,'x'),\n(2,-1.5e-07,_binary 'it''s \\'; \\\\'),(3,0x10,\"\\n\");\n/*!40000 ALTER TABLE `t` ENABLE KEYS \
             */;\nUNLOCK TABLES;\n",
        ),
        (
            "shop/t.triggers.sql",
            "/*!50003 SET @saved_cs_client      = @@character_set_client */ ;\n/*!50003 SET @saved_sql_mode       = @@sql_mode */ \
             ;\n/*!50003 SET character_set_client  = latin1 */ ;\n/*!50003 SET sql_mode = \
             'STRICT_TRANS_TABLES,NO_AUTO_CREATE_USER' */ ;\nDELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ \
             /*!50003 TRIGGER tr BEFORE INSERT ON t FOR EACH ROW begin set @a='x;;y'; -- ';;\nend */;;\nDELIMITER ;\n/*!50003 SET \
             sql_mode              = @saved_sql_mode */ ;\n/*!50003 SET character_set_client  = @saved_cs_client */ ;\n",
        ),
        (
            "shop/v.view.sql",
            "/*!50001 DROP VIEW IF EXISTS `v`*/;\n/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`root`@`localhost` SQL \
             SECURITY DEFINER */\n/*!50001 VIEW `v` AS select `t`.`id` AS `id` from `t` */;\n",
        ),
        (
            "shop/@routines.sql",
            "/*!50003 DROP PROCEDURE IF EXISTS `p` */;\nDELIMITER ;;\nCREATE DEFINER=`root`@`localhost` PROCEDURE `p`()\nBEGIN SELECT \
             '\\\\e;;'; /* ;; */ END ;;\nDELIMITER ;\nALTER DATABASE `shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci ;\n",
        ),
        (
            "shop/@events.sql",
            "DELIMITER ;;\n/*!50106 CREATE*/ /*!50117 DEFINER=`root`@`localhost`*/ /*!50106 EVENT `ev` ON SCHEDULE EVERY 1 YEAR STARTS \
             '2037-01-01 00:00:00' ON COMPLETION NOT PRESERVE ENABLE DO BEGIN SELECT 1; END */ ;;\nDELIMITER ;\n",
        ),
    ];
    text.into_iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect()
}

/// Text that a server, its client and a reader of it may interpret differently.
const PIECES: [&[u8]; 62] = [
    b"'",
    b"\"",
    b"`",
    b"\\",
    b"\\'",
    b"''",
    b"--\x01",
    b"-- ",
    b"--",
    b"#",
    b"/*",
    b"*/",
    b"/*!",
    b"/*!50003 ",
    b"/*!50799 ",
    b"/*!99999 ",
    b"/*!101199 ",
    b"/*M",
    b"/*M ",
    b"/*M!",
    b"/*M!100100 ",
    b"/*M!999999 ",
    b";",
    b";;",
    b"\n",
    b"\r\n",
    b"\t",
    b"\0",
    b"\x0b",
    b"\xa0",
    b"\xbf",
    b"\x95\\",
    b"\x95`",
    b"\xb1\\",
    b"\xe2\x82\xac",
    b"1e-",
    b"0x",
    b".",
    b"(",
    b")",
    b",",
    b"\\e\n",
    b"\\! touch a-program-was-started\n",
    b"\\C gbk\n",
    b"\nsystem touch a-program-was-started\n",
    b"\nDELIMITER ;;\n",
    b"\ndelimiter ;\n",
    b"\nuse other\n",
    b";SET sql_mode='NO_BACKSLASH_ESCAPES';",
    b";SET sql_mode='ANSI_QUOTES';",
    b";SET sql_mode=1048580;",
    b";SET sql_mode=DEFAULT;",
    b";SET @a='NO_BACKSLASH_ESCAPES';SET @a='',sql_mode=@a;",
    b";SET NAMES gbk;",
    b";SET NAMES sjis;",
    b";SET character_set_client=28;",
    b";SET NAMES latin1;",
    b";DROP TABLE other.secret;",
    b"other.",
    b" SELECT * FROM other.secret ",
    b"nextval(other.s)",
    b"other.secret -- ",
];

/// Inputs by which a dump had an effect elsewhere, or nearly, each in its stream after an honest part.
const KNOWN: [(&str, &[u8]); 13] = [
    ("shop/t.sql", b"SET sql_mode = 1048576;\nINSERT INTO `t` VALUES (7,1,'\\');DROP TABLE other.secret; -- ');\n"),
    ("shop/t.sql", b"SET sql_mode = 0x4E4F5F4241434B534C4153485F45534341504553;\nINSERT INTO `t` VALUES (7,1,'\\');DROP TABLE other.secret; -- ');\n"),
    ("shop/t.sql", b"SET @a='NO_BACKSLASH_ESCAPES';\nSET @a='',sql_mode=@a;\nINSERT INTO `t` VALUES (7,1,'\\');DROP TABLE other.secret; -- ');\n"),
    ("shop/t.sql", b"SET @e='';\nSET @\xc3\xa9='NO_BACKSLASH_ESCAPES';\nSET sql_mode=@e;\nINSERT INTO `t` VALUES (7,1,'\\');DROP TABLE other.secret; -- ');\n"),
    ("shop/t.sql", b"SET character_set_client = 28;\nINSERT INTO `t` VALUES (7,1,'\x95\\');DROP TABLE other.secret; -- ');\n"),
    ("shop/t.sql", b"INSERT INTO `t` VALUES (7,1e-- '\n,1);DROP TABLE other.secret; -- ');\n"),
    ("shop/t.sql", b"DROP TABLE IF EXISTS /*M /* */ other.secret -- */ t\n;\n"),
    ("shop/t.sql", b"DROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (a bigint DEFAULT (setval(other.s, 500)));\nINSERT INTO `t` VALUES ();\n"),
    ("shop/@database.sql", b"SET sql_mode='NO_BACKSLASH_ESCAPES';\nCREATE DATABASE shop COMMENT '\\''; DROP TABLE other.secret; -- ';\n"),
    ("shop/t.triggers.sql", b"SET sql_mode='NO_BACKSLASH_ESCAPES';\n"),
    ("shop/@routines.sql", b"SET sql_mode='ANSI_QUOTES', collation_connection='none';\nDELIMITER ;;\nCREATE DEFINER=\"a\\\"@\" PROCEDURE other.p() SELECT 1; -- \" PROCEDURE p() SELECT 1;;\nDELIMITER ;\n"),
    ("shop/@routines.sql", b"SET NAMES latin1;\nDELIMITER ;;\nCREATE\xa0PROCEDURE\xa0other.p() SELECT 1;;\nDELIMITER ;\n"),
    ("shop/@routines.sql", b"SET NAMES sjis;\nDELIMITER ;;\nCREATE DEFINER='\xb1\\' PROCEDURE other.p() SELECT 1 -- ' PROCEDURE p() SELECT 1;;\nDELIMITER ;\n"),
];

/// A server that logs its statements, and a wrapper of each client that records its input.
struct Ground {
    server: MariaDb,
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let log = format!("--general-log-file={}", folder.path().join("log").display());
        let server = MariaDb::start_with(&["--general-log=1", "--log-output=FILE", &log])?;
        server.sql(
            "CREATE DATABASE other; CREATE TABLE other.secret (a TEXT); INSERT INTO other.secret VALUES ('x'); CREATE SEQUENCE other.s;
             CREATE PROCEDURE other.q() SELECT 1; CREATE USER somebody@localhost IDENTIFIED BY 'x';",
        );
        let wrapper = folder.path().join("wrapper");
        let given = folder.path().join("given");
        fs::create_dir(&given).unwrap();
        // Kept before it is given on: a client that is ended has then been given no more.
        let keep = "open F, '>', shift; while (sysread STDIN, $b, 65536) { syswrite F, $b; syswrite STDOUT, $b }";
        let script = format!(
            "#!/bin/sh\ncd {0} && perl -e \"{1}\" \"$(mktemp {0}/XXXXXX)\" | \"$@\"\n",
            given.display(),
            keep.replace('$', "\\$")
        );
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self { server, folder })
    }

    fn log(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("log")).unwrap()
    }

    fn given(&self) -> PathBuf {
        self.folder.path().join("given")
    }

    /// The recorded input of each client, by file.
    fn kept(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let paths = fs::read_dir(self.given()).unwrap().map(|file| file.unwrap().path());
        paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Objects that no restore of `shop` may touch.
    fn elsewhere(&self) -> String {
        self.server.sql(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT LIKE 'shop%' ORDER BY 1;
             SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT LIKE 'shop%' ORDER BY 1, 2;
             SELECT db, name, MD5(body) FROM mysql.proc WHERE db NOT LIKE 'shop%' ORDER BY 1, 2;
             SELECT db, name FROM mysql.event WHERE db NOT LIKE 'shop%'; SELECT * FROM mysql.global_priv ORDER BY 1, 2;
             SELECT * FROM mysql.db; SELECT * FROM mysql.func; SELECT * FROM mysql.plugin; SELECT * FROM mysql.servers;
             SELECT * FROM other.secret; SELECT * FROM other.s;
             SELECT VARIABLE_NAME, GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE <> 'SESSION ONLY' AND
             VARIABLE_NAME NOT LIKE 'gtid%' AND VARIABLE_NAME NOT LIKE 'innodb%' ORDER BY 1;",
        )
    }

    /// Loads the streams, as far as they are let through.
    fn load(&self, streams: &Streams, keep_going: bool) -> Result<Vec<String>, Error> {
        let clean = "SET @drop = COALESCE((SELECT CONCAT('DROP DATABASE `', REPLACE(SCHEMA_NAME, '`', '``'), '`') FROM \
                    information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'shop%' LIMIT 1), 'DO 1'); EXECUTE IMMEDIATE @drop;";
        self.server.sql(&clean.repeat(3));
        for file in fs::read_dir(self.given()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let wrapper = self.folder.path().join("wrapper").display().to_string();
        let server = MysqlServerOptions {
            socket: Some(self.server.socket()),
            exec: vec![wrapper],
            ..MysqlServerOptions::default()
        };
        let options = RestoreTargetOptions {
            name: None,
            only: Vec::new(),
            replace: Vec::new(),
            keep_going,
            stamp: "20261128T200000Z".to_owned(),
            folder: self.folder.path().join("kept"),
        };
        let mut target = MysqlTarget::connect(&server, options, &Interrupt::default())?;
        let name = |name: &str| StreamName::new(name).unwrap();
        let entry = |stream: &str, bytes: &[u8]| Entry {
            name: name(stream),
            kind: Kind::Data,
            size: bytes.len() as u64,
            metadata: None,
        };
        let entries: Vec<Entry> = streams.iter().map(|(stream, bytes)| entry(stream, bytes)).collect();
        let definitions = streams
            .iter()
            .zip(&entries)
            .filter(|(_, entry)| target.is_definition(entry))
            .map(|((stream, bytes), _)| (name(stream), bytes.clone()))
            .collect();
        let rows_of = [("shop/t.sql".into(), 3)].into();
        let facts = Facts { server: Some("MariaDB".into()), rows_of, ..Facts::default() };
        let plan = target.plan(Contents {
            entries: &entries,
            definitions,
            facts: &facts,
            unfinished: Remains::default(),
            looks_only: false,
        })?;
        target.prepare()?;
        let mut loader = target.loader()?;
        for ((_, bytes), entry) in streams.iter().zip(&entries) {
            if target.takes(entry) {
                loader.begin(entry)?;
                // In pieces, so that anything may be cut.
                bytes.chunks(41).try_for_each(|piece| loader.write(piece))?;
                loader.end()?;
            }
        }
        loader.finish()?;
        drop(loader);
        let proof = target.verify()?;
        target.commit(&proof)?;
        Ok(plan.lines)
    }

    /// Loads them, and fails where anything happened that wasn't let through.
    #[track_caller]
    fn is_held(&self, streams: &Streams, keep_going: bool, what: &str) -> Result<Vec<String>, Error> {
        let before = self.elsewhere();
        let logged = self.log().len();
        let loaded = self.load(streams, keep_going);
        let log = self.log()[logged..].to_vec();
        assert_eq!(self.elsewhere(), before, "{what}: {loaded:?}");
        let given = self.kept();
        let own = |path: &PathBuf| path.extension().is_none() && path.file_name().is_some_and(|name| name.len() == 6);
        assert!(given.iter().all(|(path, _)| own(path)), "{what}: a program was started, or a file written: {given:?}");
        for (thread, queries) in queries(&log) {
            // The test's own statements begin otherwise.
            if !queries.iter().any(|(_, text)| text == b"DO 0\n") {
                continue;
            }
            let explained = given.iter().any(|(_, text)| is_explained(&queries, text));
            assert!(
                explained,
                "{what}: no client was given what connection {thread} did: {:?}",
                queries
                    .iter()
                    .map(|(kind, text)| format!("{kind}: {}", String::from_utf8_lossy(text)))
                    .collect::<Vec<_>>()
            );
        }
        loaded
    }
}

/// The log's entries by connection: the kind and the text of each.
fn queries(log: &[u8]) -> BTreeMap<u64, Vec<(String, Vec<u8>)>> {
    const KINDS: [&str; 10] = [
        "Query",
        "Prepare",
        "Execute",
        "Init DB",
        "Connect",
        "Quit",
        "Close stmt",
        "Reset stmt",
        "Statistics",
        "Field List",
    ];
    let mut all: BTreeMap<u64, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    let mut last = None;
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let mut fields = line.splitn(4, |byte| *byte == b'\t');
        // A time or nothing, nothing more, the connection and the kind, the text.
        let head = (|| {
            let time = fields.next()?;
            let rest: Vec<&[u8]> = fields.collect();
            let (at, text) = match rest.as_slice() {
                [at, text] => (*at, text.to_vec()),
                [b"", at, text] => (*at, text.to_vec()),
                [at, one, two] => (*at, [one, &b"\t"[..], two].concat()),
                _ => return None,
            };
            let at = std::str::from_utf8(at).ok()?.trim_start();
            let (thread, kind) = at.split_once(' ')?;
            let is_time = time.is_empty() || (time.len() >= 14 && time[..6].iter().all(u8::is_ascii_digit));
            (is_time && KINDS.contains(&kind)).then_some((thread.parse::<u64>().ok()?, kind.to_owned(), text))
        })();
        match (head, last) {
            (Some((thread, kind, text)), _) => {
                all.entry(thread).or_default().push((kind, text));
                last = Some(thread);
            }
            (None, Some(thread)) => all.entry(thread).or_default().last_mut().unwrap().1.extend_from_slice(line),
            (None, None) => {}
        }
    }
    all
}

/// Whether the client that was given `text` asked the server for nothing else, in that order, and each of it as a whole:
/// what stands between is white space and what ends a statement.
fn is_explained(queries: &[(String, Vec<u8>)], text: &[u8]) -> bool {
    let mut rest = text;
    for (kind, query) in queries {
        let query = query.strip_suffix(b"\n").unwrap_or(query);
        let own = query == b"DO 0" || query.starts_with(b"select @@version_comment");
        if !matches!(kind.as_str(), "Query" | "Init DB") || own {
            continue;
        }
        rest = rest.trim_ascii_start();
        while let Some(after) = rest.strip_prefix(b";") {
            rest = after.trim_ascii_start();
        }
        if kind == "Init DB" {
            // By the line of our own, or by a prepared one.
            if let Some(after) = rest.strip_prefix(b"USE `").and_then(|after| after.strip_prefix(query)) {
                rest = after.strip_prefix(b"`").unwrap_or(after);
            }
            continue;
        }
        match rest.strip_prefix(query) {
            Some(after) if matches!(after.trim_ascii_start().first(), None | Some(b';')) => rest = after,
            _ => return false,
        }
    }
    true
}

#[test]
fn what_did_something_once_does_nothing() {
    let Some(ground) = Ground::new() else { return };
    for keep_going in [false, true] {
        ground.is_held(&honest(), keep_going, "an honest dump").unwrap();
        let seen = ground.server.sql(
            "SELECT COUNT(*) FROM shop.t; SELECT COUNT(*) FROM shop.v; SELECT name FROM mysql.proc WHERE db = 'shop';
             SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'; SELECT name FROM mysql.event WHERE db = 'shop';
             SELECT SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'",
        );
        assert_eq!(seen, "3\n3\np\ntr\nev\nit's \\\\ mine\n");
        // Where a restore continues behind what fails, stored code is what differs.
        for (stream, more) in KNOWN.into_iter().filter(|(stream, _)| !keep_going || *stream == "shop/@routines.sql") {
            let mut streams = honest();
            streams.iter_mut().find(|(name, _)| *name == stream).unwrap().1.extend_from_slice(more);
            let what = format!("{stream}: {}", String::from_utf8_lossy(more));
            let _ = ground.is_held(&streams, keep_going, &what);
        }
        // Names that a client could take for lines.
        for name in ["shop%0Ause other%0ADROP TABLE other%2Esecret;%0A-", "shop€%60; DROP TABLE other%2Esecret; -- x"]
        {
            let mut streams: Streams = honest();
            streams[0].1.extend_from_slice(b"SET NAMES gbk;\n");
            streams.push((format!("{name}/{name}.sequence.sql"), Vec::new()));
            let _ = ground.is_held(&streams, keep_going, name);
        }
    }
}

/// Whoever can write a snapshot can write its list of accounts. New accounts are shown before, and existing ones are
/// unchanged.
#[test]
fn a_forged_list_of_accounts_makes_what_is_shown_and_changes_nobody() {
    let Some(ground) = Ground::new() else { return };
    let accounts = "SELECT User, Host, Priv FROM mysql.global_priv WHERE User NOT IN ('evil', 'four') ORDER BY 1, 2; SELECT * FROM mysql.db";
    let before = ground.server.sql(accounts);
    let forged = "CREATE USER IF NOT EXISTS `evil`@`%` IDENTIFIED BY PASSWORD '*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9';\n\
        GRANT ALL PRIVILEGES ON *.* TO `evil`@`%` WITH GRANT OPTION;\n\
        CREATE USER `one`@`%`, `two`@`%`;\n\
        CREATE OR REPLACE USER `somebody`@`localhost` IDENTIFIED BY 'y';\n\
        CREATE USER IF NOT EXISTS `somebody`@`localhost` IDENTIFIED BY 'y';\n\
        ALTER USER `somebody`@`localhost` IDENTIFIED BY 'y';\n\
        SET PASSWORD FOR `somebody`@`localhost` = PASSWORD('y');\n\
        GRANT ALL PRIVILEGES ON *.* TO `somebody`@`localhost`;\n\
        GRANT ALL PRIVILEGES ON `other`.* TO `somebody`@`localhost`;\n\
        GRANT ALL PRIVILEGES ON `other`.* TO PUBLIC;\n\
        GRANT ALL PRIVILEGES ON *.* TO `root`@`%` IDENTIFIED BY 'x';\n\
        GRANT ALL PRIVILEGES ON *.* TO `three`@`%` IDENTIFIED BY 'x';\n\
        CREATE USER `four`@`%` IDENTIFIED BY 'x\\'; CREATE USER `five`@`%`; -- ';\n\
        CREATE USER IF NOT EXISTS `root`@`evil` IDENTIFIED BY 'x';\n\
        DROP USER `somebody`@`localhost`;\nDROP DATABASE other;\n\\! touch a-program-was-started\n";
    let mut streams = honest();
    streams.push(("@users.sql".to_owned(), forged.as_bytes().to_vec()));
    let shown = ground.load(&streams, false).unwrap().join("\n");
    assert_eq!(ground.server.sql(accounts), before);
    assert!(shown.contains("accounts that aren't there are made: `evil`@`%`, `four`@`%`\n"), "{shown}");
    assert!(shown.contains("GRANT ALL PRIVILEGES ON *.* TO `evil`@`%`"), "{shown}");
    assert_eq!(shown.matches('@').count(), 3, "nobody else is named: {shown}");
    assert_eq!(ground.server.sql("SELECT a FROM other.secret"), "x\n");
    assert_eq!(
        ground.server.sql("SELECT User FROM mysql.user WHERE User = 'evil'"),
        "evil\n",
        "the input is one that works"
    );
}

/// Pieces anywhere in a dump's streams, in a server that logs its statements.
#[test]
fn no_stream_makes_the_client_do_what_the_filter_did_not_see() {
    let Some(ground) = Ground::new() else { return };
    let changes = proptest::collection::vec((0..4_000_usize, 0..PIECES.len()), 1..5);
    let cases = if support::site::is_long() { 2_000 } else { 15 };
    crate::attacks::fuzz(cases, &(0..8_usize, changes, proptest::bool::ANY), |(stream, changes, keep_going)| {
        let mut streams = honest();
        for (at, piece) in changes {
            let text = &mut streams[stream].1;
            let at = at % (text.len() + 1);
            text.splice(at..at, PIECES[piece].iter().copied());
        }
        let what = String::from_utf8_lossy(&streams[stream].1).into_owned();
        let _ = ground.is_held(&streams, keep_going, &what);
    });
}
