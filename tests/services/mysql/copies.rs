//! Local copies, external dumps, and the checks before them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::mysql::site::{Site, picture};
use support::mariadb::MariaDb;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(99)); CREATE TABLE loose (a INT);
    INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_1000; CREATE VIEW v AS SELECT id FROM t;
    CREATE TABLE log (at INT PRIMARY KEY); INSERT INTO log VALUES (1), (2); CREATE TABLE scratch (a INT PRIMARY KEY);";

#[test]
fn a_backup_reads_the_local_copy_as_long_as_it_is_fresh() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let copies = site.machine.at("copies");
    let lines = |more: &str| {
        format!("socket = \"{}\"\nlocal_copy = \"{}\"\n{more}", site.server.socket().display(), copies.display())
    };
    site.configure(&lines("local_reserve = \"0 %\"\nschedule = { dump = \"*-01-01 00:00\" }"));
    let made = site.run(&["--json", "dump", "agama"]).ends(0).json();
    let path = std::path::PathBuf::from(made["path"].as_str().unwrap()).join("dump.sql");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    // Any client loads it.
    let Some(second) = MariaDb::start() else { return };
    second.load(&path);
    assert_eq!(picture(&second, "agama"), picture(&site.server, "agama"));
    site.server.sql("DELETE FROM agama.log");
    let backup = site.run(&["--json", "-q", "backup", "agama"]).ends(0).json();
    assert_eq!(backup["snapshot"]["data_time"], made["data_time"], "the copy was read, not the server");
    // An incomplete one leaves the last as it is.
    site.wrap("\"$@\" | head -c -10");
    let wrapped = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("{wrapped}local_copy = \"{}\"\nlocal_reserve = \"0 %\"\n", copies.display()))
        .unwrap();
    let failed = site.run(&["dump", "agama"]).ends(1);
    assert!(
        failed.err.contains("the last local copy stays") && failed.err.contains("completion line"),
        "{}",
        failed.err
    );
    assert!(path.exists());
    // Without a schedule a backup is of now.
    site.configure(&lines("local_reserve = \"0 %\""));
    let backup = site.run(&["--json", "-q", "backup", "agama"]).ends(0).json();
    assert_ne!(backup["snapshot"]["data_time"], made["data_time"]);
    assert!(!path.exists(), "the older copy went when the backup stood");
    let dumps = fs::read_dir(&copies).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(dumps, 1);
    site.configure(&lines("local_reserve = \"100 %\""));
    let refused = site.run(&["dump", "agama"]).ends(8);
    assert!(refused.err.contains("local_reserve"), "{}", refused.err);
}

#[test]
fn dumps_of_another_job_are_split_and_have_to_be_whole() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let folder = site.machine.at("theirs");
    fs::create_dir(&folder).unwrap();
    let lines = |more: &str| {
        let socket = site.server.socket();
        format!(
            "socket = \"{}\"\nlocal_copy = \"{}\"\ndump_by = \"external\"\n{more}",
            socket.display(),
            folder.display()
        )
    };
    site.configure(&lines(""));
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("there is no dump"));
    let dump = site.server.dump("agama").output().unwrap().stdout;
    fs::write(folder.join("agama.sql"), &dump).unwrap();
    site.back_up();
    let ls = String::from_utf8(site.run(&["ls", "latest"]).ends(0).out).unwrap();
    assert!(ls.contains("agama/t.sql") && ls.contains("agama/v.view.sql"), "{ls}");
    let Some(second) = MariaDb::start() else { return };
    site.configure(
        &lines("").replace(&site.server.socket().display().to_string(), &second.socket().display().to_string()),
    );
    site.run(&["restore", "agama", "--into", "mysql", "--yes"]).ends(0);
    assert_eq!(picture(&second, "agama"), picture(&site.server, "agama"));
    fs::write(folder.join("agama.sql"), &dump[..dump.len() - 9]).unwrap();
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("completion line"));
    fs::write(folder.join("agama.sql"), &dump).unwrap();
    let old =
        std::process::Command::new("touch").args(["-d", "3 days ago"]).arg(folder.join("agama.sql")).status().unwrap();
    assert!(old.success());
    site.configure(&lines("schedule = { dump = \"01:00\" }"));
    assert!(site.run(&["backup", "agama"]).ends(1).err.contains("one has been due since"));
    assert!(site.run(&["dump", "agama"]).ends(2).err.contains("another job"));
    // One of tomorrow would never be too old.
    let ahead =
        std::process::Command::new("touch").args(["-d", "2 days"]).arg(folder.join("agama.sql")).status().unwrap();
    assert!(ahead.success());
    assert!(site.run(&["backup", "agama"]).ends(3).err.contains("hasn't come yet"));
    // Packed by the other job: stored, and said why it costs more.
    site.configure(&lines(""));
    fs::remove_file(folder.join("agama.sql")).unwrap();
    fs::write(folder.join("agama.sql.gz"), b"\x1f\x8b\x08\0\0\0\0\0").unwrap();
    let taught = site.run(&["backup", "agama"]);
    assert!(taught.err.contains("agama.sql.gz is compressed with gzip"), "{}", taught.err);
}

#[test]
fn dumps_of_several_databases_come_back_together() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql("CREATE DATABASE crm; USE crm; CREATE TABLE t (id INT PRIMARY KEY, at DATETIME DEFAULT '0000-00-00'); INSERT INTO t VALUES (0, NOW())");
    let folder = site.machine.at("theirs");
    fs::create_dir(&folder).unwrap();
    let lines = |server: &MariaDb| {
        let (socket, folder) = (server.socket(), folder.display());
        format!(
            "databases = \"all\"\nsocket = \"{}\"\nlocal_copy = \"{folder}\"\ndump_by = \"external\"",
            socket.display()
        )
    };
    // As most scripts make them: a file for each database, silently about how that is made.
    let dump = |database: &str, file: &str, options: &[&str]| {
        let mut dump = std::process::Command::new("mariadb-dump");
        dump.args(["--no-defaults", "-u", "root", "--single-transaction", "--routines", "--events", "--triggers"]);
        dump.args(options).arg(format!("--socket={}", site.server.socket().display())).arg(database);
        let output = dump.output().unwrap();
        assert!(output.status.success());
        fs::write(folder.join(file), output.stdout).unwrap();
    };
    site.server.sql("CREATE TABLE agama.gone (a INT PRIMARY KEY)");
    dump("agama", "agama-monday.sql", &[]);
    site.server.sql("DROP TABLE agama.gone");
    std::thread::sleep(std::time::Duration::from_millis(20));
    dump("agama", "agama-tuesday.sql", &[]);
    dump("crm", "crm.sql", &[]);
    site.configure(&lines(&site.server));
    site.back_up();
    let Some(second) = MariaDb::start() else { return };
    site.configure(&lines(&second));
    site.run(&["restore", "agama", "--into", "mysql", "--yes"]).ends(0);
    for database in ["agama", "crm"] {
        assert_eq!(picture(&second, database), picture(&site.server, database), "{database}");
    }
    // Statements of one file don't fit the settings of another.
    dump("crm", "crm.sql", &["--skip-tz-utc"]);
    site.configure(&lines(&site.server));
    assert!(site.run(&["backup", "agama"]).ends(3).err.contains("different session settings"));
    site.configure(&lines(&second));
    let refused = site.run(&["restore", "agama", "--into", "mysql", "--yes", "--replace", "crm", "--reason", "test"]);
    assert!(refused.ends(5).err.contains("none fits them all"));
}

#[test]
fn a_check_names_what_is_missing_line_by_line() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql("CREATE TABLE agama.m (a INT PRIMARY KEY) ENGINE = MyISAM; CREATE TABLE agama.gone (a INT); CREATE VIEW agama.broken AS SELECT * FROM agama.gone; DROP TABLE agama.gone");
    let check = |status| {
        let ended = site.run(&["config", "check"]).ends(status);
        String::from_utf8(ended.out).unwrap()
    };
    let said = check(2);
    for line in [
        "mariadb and mariadb-dump are there",
        "MariaDB 10.11",
        "agama.loose",
        "agama.m (MyISAM)",
        "FAILED   set agama: tables and views that can't be read, at which a dump ends: agama.broken (ERROR 1356",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    site.server.sql("DROP VIEW agama.broken");
    check(0);
    site.server.sql("CREATE USER poor@localhost IDENTIFIED BY 'x'; GRANT SELECT ON agama.* TO poor@localhost");
    let option_file = site.machine.at("poor.cnf");
    fs::write(&option_file, format!("[client]\nuser=poor\npassword=x\nsocket={}\n", site.server.socket().display()))
        .unwrap();
    site.configure(&format!("option_file = \"{}\"", option_file.display()));
    let said = check(2);
    for line in [
        "GRANT EVENT, LOCK TABLES, SHOW VIEW, TRIGGER ON `agama`.* TO `poor`@`localhost`;",
        "GRANT PROCESS ON *.*",
        "GRANT SELECT ON `mysql`.*",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
}

#[test]
fn tables_and_rows_can_be_left_out_and_commands_run_round_it() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let noted = site.machine.at("noted");
    let note = |word: &str| format!("echo {word} $VARU_SET >> {}", noted.display());
    let lines = |before: &str| {
        format!(
            "socket = \"{}\"\nexclude_tables = [\"agama.scratch\"]\nschema_only_tables = [\"agama.log\"]\nbefore = [\"{before}\"]\nafter = \
             [\"{}\"]\non_error = [\"{}\"]\nrestore_before = [\"{}\"]\nrestore_after = [{{ run = [\"true\"], limit = \"5 s\" }}]",
            site.server.socket().display(),
            note("after"),
            note("error"),
            note("restore")
        )
    };
    site.configure(&lines(&note("before")));
    site.back_up();
    site.run(&["restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    assert_eq!(fs::read_to_string(&noted).unwrap(), "before agama\nafter agama\nrestore agama\n");
    assert_eq!(site.server.sql("SHOW TABLES FROM copy; SELECT COUNT(*) FROM copy.log"), "log\nloose\nt\nv\n0\n");
    site.configure(&lines("exit 7"));
    let failed = site.run(&["backup", "agama"]).ends(1);
    assert!(failed.err.contains("exit status 7") && site.snapshots() == 1, "{}", failed.err);
    assert!(fs::read_to_string(&noted).unwrap().ends_with("error agama\nafter agama\n"));
}
