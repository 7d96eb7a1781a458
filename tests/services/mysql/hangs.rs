//! Conditions under which a backup, or the program that it runs, would never end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mysql::site::{Site, picture};

const SCHEMA: &str =
    "CREATE DATABASE agama; USE agama; CREATE TABLE t (id INT PRIMARY KEY, tags TEXT); INSERT INTO t VALUES (1, 'a');
    CREATE TABLE u (id INT PRIMARY KEY); CREATE VIEW v AS SELECT id FROM t;";

fn lives(pid: &str) -> bool {
    // A zombie has no command line.
    fs::read(Path::new("/proc").join(pid).join("cmdline")).is_ok_and(|words| !words.is_empty())
}

#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server that is asked about the tables of all databases opens each, and waits for a statement that is making one.
#[test]
fn no_command_waits_for_a_statement_in_another_database() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "CREATE DATABASE other; CREATE TABLE other.child (id INT, KEY (id));
         USE agama; CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.tags = 'x'; CREATE SEQUENCE s;
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1; CREATE FUNCTION f() RETURNS INT RETURN 1;
         CREATE TABLE history (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; CREATE TABLE x (f FLOAT, p POINT, c TEXT CHARSET cp932);
         ALTER TABLE other.child ADD CONSTRAINT follows FOREIGN KEY (id) REFERENCES agama.u (id) ON DELETE CASCADE;
         SET GLOBAL log_output = 'TABLE', GLOBAL general_log = 1;",
    );
    let mut slow = Command::new("mariadb");
    slow.args(["--no-defaults", "-uroot", "--execute", "CREATE TABLE other.report AS SELECT SLEEP(600) x"]);
    slow.arg(format!("--socket={}", site.server.socket().display())).stderr(Stdio::null());
    let mut slow = slow.spawn().unwrap();
    let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CREATE TABLE other.report%'";
    until("the statement runs", || site.server.sql(running) == "1\n");

    let begun = Instant::now();
    site.run(&["config", "check"]);
    site.back_up();
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    site.run(&["-q", "restore", "agama", "--into", "mysql", "--replace", "agama", "--yes", "--reason", "test"]).ends(0);
    assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", begun.elapsed());
    assert_eq!(site.server.sql(running), "1\n", "it still runs");
    slow.kill().unwrap();
    slow.wait().unwrap();
    let follows = site.server.sql("SHOW CREATE TABLE other.child");
    assert!(follows.contains("REFERENCES `agama`.`u` (`id`) ON DELETE CASCADE"), "{follows}");

    // Nor is there any question that could.
    site.server.sql("SET GLOBAL general_log = 0");
    let asked = site.server.sql(
        "SELECT DISTINCT HEX(argument) FROM mysql.general_log WHERE command_type = 'Query' AND argument LIKE 'SELECT%information_schema.%'
         AND argument NOT LIKE '%PROCESSLIST%'",
    );
    assert!(asked.lines().count() > 20, "{asked}");
    for question in asked.lines() {
        let bytes: Vec<u8> =
            (0..question.len()).step_by(2).map(|at| u8::from_str_radix(&question[at..at + 2], 16).unwrap()).collect();
        let question = String::from_utf8_lossy(&bytes);
        let explained = site.server.sql(&format!("USE agama; EXPLAIN {question}"));
        assert!(!explained.contains("Scanned all databases"), "{question}\n{explained}");
    }
}

#[test]
fn events_at_which_the_dump_program_never_ends_come_back() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "USE agama; SET NAMES utf8mb4;
         CREATE EVENT n ON SCHEDULE EVERY 1 DAY DISABLE DO UPDATE t SET tags = CONCAT(tags, ';;');
         CREATE EVENT plain ON SCHEDULE EVERY 2 DAY ON COMPLETION PRESERVE ENABLE COMMENT 'Größe;;;' DO SELECT 'ü';
         SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+02:00';
         CREATE EVENT `;;``x` ON SCHEDULE AT '2037-01-01' DO UPDATE t SET \"tags\" = '\\';
         ALTER DATABASE agama COLLATE utf8mb4_bin;",
    );
    // An event of another client stays in its bytes.
    let mut latin = Command::new("mariadb");
    latin.args(["--no-defaults", "-uroot", "--default-character-set=latin1", "agama"]);
    let mut latin =
        latin.arg(format!("--socket={}", site.server.socket().display())).stdin(Stdio::piped()).spawn().unwrap();
    let statement = b"CREATE EVENT old ON SCHEDULE EVERY 1 DAY DISABLE DO UPDATE t SET tags = 'Gr\xf6\xdfe;;';\n";
    std::io::Write::write_all(&mut latin.stdin.take().unwrap(), statement).unwrap();
    assert!(latin.wait().unwrap().success());
    let events = "SELECT EVENT_NAME, STATUS, SQL_MODE, TIME_ZONE, STARTS, EXECUTE_AT, EVENT_COMMENT, EVENT_DEFINITION, \
                  IF(STATUS = 'DISABLED', DATABASE_COLLATION, '') FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'agama' ORDER BY 1";
    let (there, before) = (site.server.sql(events), picture(&site.server, "agama"));
    assert_eq!(there.lines().count(), 4);
    site.run(&["config", "check"]).ends(0);
    site.back_up();
    site.run(&["-q", "restore", "agama", "--into", "mysql", "--replace", "agama", "--yes", "--reason", "test"]).ends(0);
    assert_eq!(site.server.sql(events), there);
    assert_eq!(picture(&site.server, "agama"), before);
    let folder = site.machine.at("out");
    site.run(&["-q", "restore", "agama", "--to", folder.to_str().unwrap()]).ends(0);
    let whole = String::from_utf8_lossy(&fs::read(folder.join("agama/@events.sql")).unwrap()).into_owned();
    assert!(whole.contains("DELIMITER ;;;\n") && whole.contains("DELIMITER ;;;;\n"), "{whole}");
}

#[test]
fn a_program_that_stands_still_is_ended_and_the_place_is_named() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let socket = site.server.socket();
    for (filter, place) in [
        ("exec sleep 600", "@preamble.sql"),
        ("\"$@\" | { sed '/for table .u.$/q'; sleep 600 & echo $! > child; wait; }", "agama/t.sql"),
        // Without a byte and with all of a core.
        ("\"$@\" | sed '/for table .u.$/q'; while :; do :; done", "agama/t.sql"),
    ] {
        let wrapper = site.wrapper("mariadb-dump*--single-transaction*", filter);
        site.configure(&format!("socket = {socket:?}\nexec = [{wrapper:?}]\nstall_limit = \"2 s\""));
        let begun = Instant::now();
        let ended = site.run(&["backup", "agama"]).ends(1);
        assert!(ended.err.contains("wrote nothing for 2.0 s") && ended.err.contains("stall_limit"), "{}", ended.err);
        assert!(ended.err.contains(place), "{place}: {}", ended.err);
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert_eq!(site.snapshots(), 0);
    }
    let child = fs::read_to_string(site.machine.at("child")).unwrap();
    until("what the program had started is left", || !lives(child.trim()));
    // One that is slow, but writes, is let go on.
    let wrapper = site.wrapper(
        "mariadb-dump*--single-transaction*",
        "\"$@\" | while IFS= read -r line; do printf '%s\\n' \"$line\"; sleep 0.03; done",
    );
    site.configure(&format!("socket = {socket:?}\nexec = [{wrapper:?}]\nstall_limit = \"2 s\""));
    site.back_up();
}

#[test]
fn nothing_that_was_started_outlives_a_kill() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.wrap("echo $$ > leader; sleep 600 & echo $! > child; while :; do sleep 1; done");
    let mut running = site.command(&["backup", "agama"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let told = |name: &str| fs::read_to_string(site.machine.at(name)).unwrap_or_default().trim().to_owned();
    until("the program never began", || !told("child").is_empty());
    assert!(lives(&told("leader")) && lives(&told("child")));
    running.kill().unwrap();
    running.wait().unwrap();
    until("the program lives on", || !lives(&told("leader")) && !lives(&told("child")));
}
