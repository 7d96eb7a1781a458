//! Conformance suite of the sources: consistent data, complete data, equivalent local copies, no snapshot of a dump that was
//! killed or truncated, refusal of an account that sees too little, and restores.
//!
//! A new source is one more [`Subject`] and one more test at the end (see CONTRIBUTING.md).

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use support::influxdb::Influx;
use support::mariadb::MariaDb;
use support::postgresql::Postgres;
use support::site::{Site, Stop};

/// A service with data, and the properties of its source that the suite needs.
trait Subject: Sync {
    /// The lines of the set `data`.
    fn lines(&self) -> String;

    /// The lines of a set whose programs run through a wrapper.
    fn wrapped(&self, wrapper: &str) -> String {
        format!("{}\nexec = [\"{wrapper}\"]", self.lines())
    }

    /// The words of the program that dumps, as a pattern of bash.
    fn dump(&self) -> &'static str;

    /// A line of bash that runs `"$@"` and lets its result be short, though it ends with status 0.
    fn short(&self) -> &'static str;

    /// The lines of a set that can't be dumped completely, and the message about it. The status is 2.
    fn refused(&self) -> (String, &'static str);

    /// The service, for `restore --into`.
    fn service(&self) -> &'static str;

    /// All that is there.
    fn picture(&self) -> String;

    /// Changes things that belong together, as one change.
    fn change(&self);

    /// Whether related data is consistent.
    fn holds_together(&self) -> bool;

    /// All is lost.
    fn lose(&self);

    /// Whether a restore over existing data has to name it.
    fn replaces(&self) -> Option<&'static str>;
}

fn restore(site: &Site, subject: &dyn Subject, more: &[&str]) -> support::machine::Ended {
    site.run(&[&["restore", "data", "--into", subject.service(), "--yes", "--reason", "test"][..], more].concat())
}

/// The suite.
fn conforms(subject: &dyn Subject) {
    let site = Site::new("data", &subject.lines());
    consistent(&site, subject);
    complete_and_restored(&site, subject);
    copied(&site, subject);
    neither_killed_nor_short(&site, subject);
    refused(&site, subject);
}

/// Backups are made while things change, and each one's data holds together.
fn consistent(site: &Site, subject: &dyn Subject) {
    let over = AtomicBool::new(false);
    let snapshots: Vec<String> = std::thread::scope(|scope| {
        let end = Stop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                subject.change();
            }
        });
        let snapshots = (0..3).map(|_| site.back_up()).collect();
        drop(end);
        snapshots
    });
    for snapshot in &snapshots {
        subject.lose();
        restore(site, subject, &["--snapshot", snapshot]).ends(0);
        assert!(subject.holds_together(), "{snapshot}");
    }
}

/// All that was there comes back, into nothing and over something.
fn complete_and_restored(site: &Site, subject: &dyn Subject) {
    let snapshot = site.back_up();
    let before = subject.picture();
    subject.lose();
    restore(site, subject, &["--snapshot", &snapshot]).ends(0);
    assert_eq!(subject.picture(), before);
    subject.change();
    let changed = subject.picture();
    assert!(changed != before, "nothing changed");
    if let Some(name) = subject.replaces() {
        assert!(restore(site, subject, &[]).ends(5).err.contains("--replace"));
        assert_eq!(subject.picture(), changed);
        restore(site, subject, &["--snapshot", &snapshot, "--replace", name]).ends(0);
    } else {
        restore(site, subject, &["--snapshot", &snapshot]).ends(0);
    }
    assert_eq!(subject.picture(), before);
    site.back_up();
}

/// A backup reads the local copy as long as that is fresh.
fn copied(site: &Site, subject: &dyn Subject) {
    let copies = site.machine.at("copies");
    let more = "local_reserve = \"0 %\"\nschedule = { dump = \"*-01-01 00:00\" }";
    site.configure(&format!("{}\nlocal_copy = \"{}\"\n{more}", subject.lines(), copies.display()));
    let before = subject.picture();
    let made = site.run(&["--json", "dump", "data"]).ends(0).json();
    subject.change();
    let backup = site.run(&["--json", "-q", "backup", "data"]).ends(0).json();
    assert_eq!(backup["snapshot"]["data_time"], made["data_time"], "the copy was read");
    subject.lose();
    restore(site, subject, &[]).ends(0);
    assert_eq!(subject.picture(), before);
    site.configure(&subject.lines());
}

/// A dump that was killed, one that failed, and one that is short: none makes a snapshot.
fn neither_killed_nor_short(site: &Site, subject: &dyn Subject) {
    let before = site.snapshots();
    for filter in ["\"$@\"; kill -9 $$", "\"$@\"; exit 3", "kill -9 $$", subject.short()] {
        let wrapper = site.wrapper(subject.dump(), filter);
        site.configure(&subject.wrapped(wrapper.to_str().unwrap()));
        let ended = site.run(&["backup", "data"]).ends(1);
        assert!(ended.err.contains("no snapshot was made"), "{filter}: {}", ended.err);
        assert_eq!(site.snapshots(), before, "{filter}");
    }
    site.configure(&subject.lines());
    site.back_up();
}

/// A set that can't be dumped completely is refused before anything is read, and `config check` says the same.
fn refused(site: &Site, subject: &dyn Subject) {
    let before = site.snapshots();
    let (lines, why) = subject.refused();
    site.configure(&lines);
    let checked = String::from_utf8(site.run(&["config", "check"]).ends(2).out).unwrap();
    assert!(checked.contains(why), "{checked}");
    let ended = site.run(&["backup", "data"]);
    assert!(ended.status == 2 || ended.status == 1, "{}", ended.err);
    assert!(ended.err.contains(why), "{}", ended.err);
    assert_eq!(site.snapshots(), before);
}

struct OnMariaDb(MariaDb);

impl Subject for OnMariaDb {
    fn lines(&self) -> String {
        format!("source = \"mysql\"\ndatabases = [\"d\"]\nsocket = \"{}\"", self.0.socket().display())
    }

    fn dump(&self) -> &'static str {
        "*dump\\ *--single-transaction*"
    }

    fn short(&self) -> &'static str {
        "\"$@\" | head -c -10"
    }

    fn refused(&self) -> (String, &'static str) {
        self.0.sql("CREATE USER IF NOT EXISTS poor@localhost; GRANT SELECT ON d.* TO poor@localhost");
        let file = self.0.socket().with_file_name("poor.cnf");
        fs::write(&file, format!("[client]\nuser=poor\nsocket={}\n", self.0.socket().display())).unwrap();
        (
            format!("source = \"mysql\"\ndatabases = [\"d\"]\noption_file = \"{}\"", file.display()),
            "GRANT EVENT, LOCK TABLES, SHOW VIEW, TRIGGER ON `d`.* TO `poor`@`localhost`;",
        )
    }

    fn service(&self) -> &'static str {
        "mysql"
    }

    fn picture(&self) -> String {
        self.0.sql("USE d; SELECT * FROM a ORDER BY id; SELECT * FROM z ORDER BY id; SHOW CREATE VIEW v")
    }

    fn change(&self) {
        self.0.sql(
            "USE d; SET @id = FLOOR(1 + RAND() * 400); START TRANSACTION; UPDATE a SET n = n - 1 WHERE id = @id; \
             UPDATE z SET n = 500000 - (SELECT SUM(n) FROM a) WHERE id = 1; COMMIT",
        );
    }

    fn holds_together(&self) -> bool {
        self.0.sql("SELECT (SELECT SUM(n) FROM d.a) + (SELECT n FROM d.z)") == "500000\n"
    }

    fn lose(&self) {
        self.0.sql("DROP DATABASE d");
    }

    fn replaces(&self) -> Option<&'static str> {
        Some("d")
    }
}

struct OnPostgres(Postgres);

impl Subject for OnPostgres {
    fn lines(&self) -> String {
        format!(
            "source = \"postgresql\"\ndatabases = [\"d\"]\nuser = \"postgres\"\nsocket = \"{}\"",
            self.0.socket().display()
        )
    }

    fn dump(&self) -> &'static str {
        "*\\ pg_dump\\ *"
    }

    fn short(&self) -> &'static str {
        "\"$@\" | head -c -300"
    }

    fn refused(&self) -> (String, &'static str) {
        let _ = self.0.try_sql("d", "CREATE ROLE poor LOGIN");
        (self.lines().replace("\"postgres\"", "\"poor\""), "GRANT SELECT ON TABLE public.a TO poor;")
    }

    fn service(&self) -> &'static str {
        "postgresql"
    }

    fn picture(&self) -> String {
        self.0.picture("d")
    }

    fn change(&self) {
        self.0.sql(
            "d",
            "BEGIN; UPDATE a SET n = n - 1 WHERE id = (SELECT (1 + random() * 399)::int); \
             UPDATE z SET n = 500000 - (SELECT sum(n) FROM a); COMMIT",
        );
    }

    fn holds_together(&self) -> bool {
        self.0.sql("d", "SELECT (SELECT sum(n) FROM a) + (SELECT n FROM z)") == "500000\n"
    }

    fn lose(&self) {
        self.0.sql("postgres", "DROP DATABASE d WITH (FORCE)");
    }

    fn replaces(&self) -> Option<&'static str> {
        Some("d")
    }
}

/// Numbers that follow one another: there must be no gap in them.
struct OnInflux(Influx, AtomicU32);

impl OnInflux {
    fn count(&self, what: &str) -> String {
        self.0.ask(&format!("SELECT {what}(n) FROM d.autogen.number"))["results"][0]["series"][0]["values"][0][1]
            .to_string()
    }
}

impl Subject for OnInflux {
    fn lines(&self) -> String {
        self.0.lines("").replace("telegraf", "d")
    }

    fn dump(&self) -> &'static str {
        "*influxd\\ backup*"
    }

    fn short(&self) -> &'static str {
        "\"$@\"; rm \"$(ls \"${@: -1}\"/*.tar.gz | head -n 1)\""
    }

    fn refused(&self) -> (String, &'static str) {
        (
            self.lines().replace(&format!("rpc = \"127.0.0.1:{}\"", self.0.rpc), "rpc = \"127.0.0.1:1\""),
            "can't be reached",
        )
    }

    fn service(&self) -> &'static str {
        "influxdb"
    }

    fn picture(&self) -> String {
        self.0.picture("d", &["autogen"])
    }

    fn change(&self) {
        let number = self.1.fetch_add(1, Ordering::SeqCst) + 1;
        // A day each, so that there are many shards.
        let line = format!("number n={number}i {}000000000", 1_600_000_000 + u64::from(number) * 40_000);
        assert!(self.0.write("d", "autogen", &line));
    }

    fn holds_together(&self) -> bool {
        self.count("count") == self.count("max")
    }

    fn lose(&self) {
        self.0.ask("DROP DATABASE d");
    }

    fn replaces(&self) -> Option<&'static str> {
        Some("d")
    }
}

/// A program that prints a file; its restore program is another.
struct OnCommand {
    folder: tempfile::TempDir,
}

impl OnCommand {
    fn file(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn set(&self, before: &str) -> String {
        let file = self.file().display().to_string();
        format!(
            "source = \"command\"\ncommand = [{before}\"cat\", \"{file}\"]\ncompletion = \"end\"\nrestore_command = \"cat > {file}\""
        )
    }
}

impl Subject for OnCommand {
    fn lines(&self) -> String {
        self.set("")
    }

    fn wrapped(&self, wrapper: &str) -> String {
        self.set(&format!("\"{wrapper}\", "))
    }

    fn dump(&self) -> &'static str {
        "cat*"
    }

    fn short(&self) -> &'static str {
        "\"$@\" | head -c -2"
    }

    fn refused(&self) -> (String, &'static str) {
        (self.lines().replace("\"cat\"", "\"/does/not/exist\""), "/does/not/exist")
    }

    fn service(&self) -> &'static str {
        "command"
    }

    fn picture(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn change(&self) {
        let number = self.picture().lines().next().and_then(|line| line.parse::<u64>().ok()).unwrap_or(0) + 1;
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{number}\n{}{number}\nend\n", "filling\n".repeat(10_000))).unwrap();
        fs::rename(&new, self.file()).unwrap();
    }

    fn holds_together(&self) -> bool {
        let text = self.picture();
        let lines: Vec<&str> = text.lines().collect();
        lines.len() == 10_003 && lines[0] == lines[10_001]
    }

    fn lose(&self) {
        fs::remove_file(self.file()).unwrap();
    }

    fn replaces(&self) -> Option<&'static str> {
        None
    }
}

#[test]
fn mysql_conforms() {
    let Some(server) = MariaDb::start() else { return };
    server.sql(
        "CREATE DATABASE d; USE d; CREATE TABLE a (id INT PRIMARY KEY, n INT); CREATE TABLE m LIKE a; CREATE TABLE z LIKE a; \
         INSERT INTO a SELECT seq, 1000 FROM seq_1_to_400; INSERT INTO m SELECT seq, seq FROM seq_1_to_20000; INSERT INTO z VALUES (1, 100000); \
         CREATE VIEW v AS SELECT id FROM a",
    );
    conforms(&OnMariaDb(server));
}

/// The same on other releases, as tests/services/matrix.rs does it.
#[test]
fn other_releases_conform() {
    for (name, folder, test) in [
        ("MariaDB 11.8", "mariadb", "sources::mysql_conforms"),
        ("MySQL 9.7", "mysql", "sources::mysql_conforms"),
        ("PostgreSQL 18", "postgresql", "sources::postgresql_conforms"),
    ] {
        support::release::runs(name, folder, &[test], concat!(env!("CARGO_TARGET_TMPDIR"), "/matrix"));
    }
}

#[test]
fn postgresql_conforms() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE DATABASE d");
    server.sql(
        "d",
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE m (LIKE a); CREATE TABLE z (LIKE a); INSERT INTO a SELECT i, 1000 FROM \
         generate_series(1, 400) i; INSERT INTO m SELECT i, i FROM generate_series(1, 20000) i; INSERT INTO z VALUES (1, 100000)",
    );
    conforms(&OnPostgres(server));
}

#[test]
fn influxdb_conforms() {
    let Some(server) = Influx::start() else { return };
    server.ask("CREATE DATABASE d");
    let subject = OnInflux(server, AtomicU32::new(0));
    (0..50).for_each(|_| subject.change());
    conforms(&subject);
}

#[test]
fn command_conforms() {
    let subject = OnCommand { folder: tempfile::tempdir().unwrap() };
    subject.change();
    conforms(&subject);
}
