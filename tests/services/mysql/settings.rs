//! Settings of a server, of sessions and of option files that change a dump's content.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::mysql::site::{Site, picture};

const SCHEMA: &str = "CREATE DATABASE agama; USE agama;
    CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(20) CHARACTER SET utf8mb4) DEFAULT CHARSET utf8mb4;
    INSERT INTO t SELECT seq, 'Grüße ☃' FROM seq_1_to_3000; CREATE TABLE u (id INT PRIMARY KEY); INSERT INTO u VALUES (1), (2), (3);
    CREATE TABLE h (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; INSERT INTO h VALUES (1), (2), (3); DELETE FROM h WHERE id = 1;
    CREATE USER backup@localhost IDENTIFIED BY 'geheim';
    GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, CREATE TEMPORARY TABLES ON agama.* TO backup@localhost;
    GRANT PROCESS ON *.* TO backup@localhost; GRANT SELECT ON mysql.* TO backup@localhost;";

/// A site whose set asks as the account of the documentation, with these lines in its option file.
fn with_account(site: &Site, more: &str) {
    let option_file = site.machine.at("my.cnf");
    let socket = site.server.socket();
    fs::write(&option_file, format!("[client]\nuser=backup\npassword=geheim\nsocket={}\n{more}\n", socket.display()))
        .unwrap();
    site.configure(&format!("option_file = \"{}\"", option_file.display()));
}

/// Both `config check` and a backup refuse, and name `what`.
#[track_caller]
fn is_refused(site: &Site, what: &str, case: &str) {
    let before = site.snapshots();
    let checked = site.run(&["config", "check"]);
    let said = format!("{}{}", String::from_utf8_lossy(&checked.out), checked.err);
    assert!(checked.status != 0 && said.contains(what), "{case}: {said}");
    let ended = site.run(&["backup", "agama"]).ends(2);
    assert!(ended.err.contains(what), "{case}: {}", ended.err);
    assert_eq!(site.snapshots(), before, "{case}");
}

/// A backup is complete: restored under another name it equals the original.
#[track_caller]
fn is_whole(site: &Site, case: &str) {
    let (counted, before) =
        (site.server.sql("SELECT COUNT(*) FROM agama.h FOR SYSTEM_TIME ALL"), picture(&site.server, "agama"));
    site.back_up();
    site.server.sql("SET GLOBAL init_connect = ''; SET GLOBAL sql_select_limit = 18446744073709551615; DROP DATABASE IF EXISTS copy");
    let socket = site.server.socket();
    site.configure(&format!("socket = \"{}\"", socket.display()));
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    assert_eq!(picture(&site.server, "copy"), before, "{case}");
    assert_eq!(site.server.sql("SELECT COUNT(*) FROM copy.h FOR SYSTEM_TIME ALL"), counted, "{case}");
}

#[test]
fn what_a_server_gives_its_sessions_hides_no_row() {
    let Some(site) = Site::new(SCHEMA) else { return };
    for (statements, what) in [
        ("sql_select_limit = 1000", "sql_select_limit is 1000"),
        ("sql_select_limit = 0", "sql_select_limit is 0"),
        ("system_versioning_asof = '2020-01-01 00:00:00'", "system_versioning_asof is 2020-01-01"),
    ] {
        let (name, _) = statements.split_once(' ').unwrap();
        with_account(&site, "");
        site.server.sql(&format!("SET GLOBAL init_connect = \"SET {statements}\""));
        is_refused(&site, what, statements);
        assert!(site.run(&["backup", "agama"]).err.contains("init_connect"));
        site.server.sql("SET GLOBAL init_connect = ''");
        // Global settings apply to root, too.
        site.configure(&format!("socket = \"{}\"", site.server.socket().display()));
        if name == "sql_select_limit" {
            site.server.sql(&format!("SET GLOBAL {statements}"));
            is_refused(&site, what, statements);
            site.server.sql("SET GLOBAL sql_select_limit = 18446744073709551615");
        }
    }
    site.server.restart_with("-TERM", &["--innodb-force-recovery=1"]);
    is_refused(&site, "innodb_force_recovery is 1", "innodb_force_recovery");
    site.server.restart("-TERM");
    with_account(&site, "");
    site.server.sql("SET GLOBAL init_connect = 'CREATE TEMPORARY TABLE agama.u (id INT PRIMARY KEY)'");
    let refused = site.run(&["backup", "agama"]).ends(2);
    assert!(refused.err.contains("temporary table in the place of agama.u"), "{}", refused.err);
    // Settings without an effect are no reason to refuse, and settings that would change the text of rows are
    // overridden.
    for harmless in [
        "SET NAMES latin1",
        "SET sql_mode = 'ANSI,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES'",
        "SET autocommit = 0, time_zone = '+09:00', sql_auto_is_null = 1, sql_safe_updates = 1",
        "SET old_mode = 'ZERO_DATE_TIME_CAST', tx_isolation = 'READ-UNCOMMITTED', group_concat_max_len = 4, lock_wait_timeout = 1",
        "SET max_statement_time = 0.5, sql_quote_show_create = 0, completion_type = 2, character_set_results = NULL",
    ] {
        with_account(&site, "");
        site.server.sql(&format!("SET GLOBAL init_connect = \"{harmless}\""));
        is_whole(&site, harmless);
    }
}

#[test]
fn a_setting_that_changes_just_before_the_dump_ends_it() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let set = |setting: &str| {
        format!(
            "mariadb --no-defaults -uroot --socket={} -e \"SET GLOBAL {setting}\"; \"$@\"",
            site.server.socket().display()
        )
    };
    site.wrap(&set("sql_select_limit = 1000"));
    let ended = site.run(&["backup", "agama"]).ends(2);
    assert!(ended.err.contains("sql_select_limit") && ended.err.contains("a moment ago"), "{}", ended.err);
    assert_eq!(site.snapshots(), 0);
    site.server.sql("SET GLOBAL sql_select_limit = 18446744073709551615");
    site.wrap(&set("sql_select_limit = 18446744073709551615"));
    site.back_up();
}

#[test]
fn an_option_file_hides_no_row() {
    let Some(site) = Site::new(SCHEMA) else { return };
    for group in ["mysqldump", "mariadb-dump"] {
        for (option, what) in [
            ("ignore-table-data=agama.t", "ignore-table-data"),
            ("ignore_table=agama.u", "ignore-table"),
            ("no-data", "no-data"),
            ("as-of=2020-01-01", "as-of"),
            ("insert-ignore", "insert-ignore"),
            ("skip-no-data-med\nforce", "force"),
            ("compatible=ansi", "compatible"),
            ("result-file=/dev/null", "result-file"),
            ("user=root", "another user"),
        ] {
            with_account(&site, &format!("[{group}]\n{option}"));
            is_refused(&site, what, option);
        }
    }
    for harmless in [
        "[mysqldump]\nwhere=id<10",
        "[mariadb-dump]\nskip-triggers\nskip-events\nskip-hex-blob\nquick\nskip-quote-names\nmax_allowed_packet=16M\nskip-opt\ndefault-character-set=latin1",
        "[mysql]\nsafe-updates\nhtml\nvertical\nselect_limit=5\ninit-command=\"SET sql_select_limit=1\"",
        "[mariadb]\nxml\ntable\nraw\nforce\nprompt=x",
    ] {
        with_account(&site, harmless);
        is_whole(&site, harmless);
    }
}

#[test]
fn a_statement_in_another_database_keeps_no_backup_waiting() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "CREATE DATABASE other; CREATE TRIGGER agama.told BEFORE INSERT ON agama.t FOR EACH ROW SET NEW.id = NEW.id",
    );
    let mut client = std::process::Command::new("mariadb");
    client.args(["--no-defaults", "-uroot", "-e", "CREATE TABLE other.report AS SELECT SLEEP(60) x"]);
    let mut busy =
        client.arg(format!("--socket={}", site.server.socket().display())).stderr(Stdio::null()).spawn().unwrap();
    let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'";
    while site.server.sql(running).trim() != "1" {
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    site.run(&["config", "check"]).ends(0);
    site.back_up();
    assert!(busy.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    site.server.sql("SELECT CONCAT('KILL ', ID) INTO @kill FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'; EXECUTE IMMEDIATE @kill");
    busy.wait().unwrap();
}

#[test]
fn a_table_that_only_looks_new_did_not_change() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql(
        "INSTALL SONAME 'ha_archive'; CREATE TABLE agama.z (id INT) ENGINE=ARCHIVE; INSERT INTO agama.z VALUES (1)",
    );
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1100));
        let ended = site.run(&["backup", "agama"]).ends(3);
        assert!(!ended.err.contains("changed while it was dumped"), "{}", ended.err);
        assert!(ended.err.contains("ARCHIVE"), "{}", ended.err);
    }
}
