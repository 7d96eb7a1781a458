//! A machine with three databases and a folder, lost and restored on an empty machine by one command.

use std::fs;
use std::path::Path;
use std::process::Command;

use support::influxdb::Influx;
use support::machine::Ended;
use support::mariadb::MariaDb;
use support::postgresql::Postgres;
use support::site::Site;

struct Servers {
    mariadb: MariaDb,
    postgres: Postgres,
    influx: Influx,
}

impl Servers {
    fn start() -> Option<Self> {
        Some(Self { mariadb: MariaDb::start()?, postgres: Postgres::start()?, influx: Influx::start()? })
    }

    fn config(&self, vault: &Path, folder: &Path, notes: &Path) -> String {
        let (notes, folder) = (notes.display(), folder.display());
        format!(
            "[repository]\nurl = \"{}\"\n[environment]\nname = \"production\"\nrestore_from = [\"production\"]\n\
             [sets.shop]\nsource = \"mysql\"\ndatabases = \"all\"\nsocket = \"{}\"\nrestore_order = 1\n\
             [sets.crm]\nsource = \"postgresql\"\ndatabases = \"all\"\nuser = \"postgres\"\nsocket = \"{}\"\nrestore_order = 2\n\
             [sets.telegraf]\n{}\nrestore_order = 3\n\
             [sets.notes]\nsource = \"command\"\ncommand = [\"cat\", \"{notes}\"]\nrestore_command = \"cat > {notes}\"\nrestore_order = 4\n\
             [sets.home]\nsource = \"files\"\npaths = [\"{folder}\"]\n",
            vault.display(),
            self.mariadb.socket().display(),
            self.postgres.socket().display(),
            self.influx.lines("")
        )
    }

    fn picture(&self) -> String {
        let checksums = self
            .mariadb
            .sql("CHECKSUM TABLE shop.item, shop.sale; SHOW CREATE TABLE shop.item; SELECT * FROM shop.v LIMIT 3");
        checksums + &self.postgres.picture("crm") + &self.influx.picture("telegraf", &["autogen"])
    }
}

/// The program on the empty machine, which has the configuration, the repository and the identity.
fn elsewhere(config: &Path, state: &Path, identity: &Path, words: &[&str]) -> Ended {
    let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
    varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", state);
    varu.arg("--config").arg(config).arg("--state").arg(state).arg("--identity").arg(identity).args(words);
    varu.output().unwrap().into()
}

#[test]
fn a_lost_machine_comes_back_with_one_command() {
    let Some(servers) = Servers::start() else { return };
    let site = Site::new("none", "source = \"files\"\npaths = [\"/etc\"]");
    let (folder, notes) = (site.machine.at("home of all"), site.machine.at("notes"));
    fs::create_dir_all(folder.join("deep")).unwrap();
    fs::write(folder.join("deep/file"), vec![7; 300_000]).unwrap();
    std::os::unix::fs::symlink("deep/file", folder.join("link")).unwrap();
    fs::write(&notes, "a note\n").unwrap();
    servers.mariadb.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE item (id INT PRIMARY KEY, text TEXT); CREATE TABLE sale LIKE item;
         INSERT INTO item SELECT seq, REPEAT(MD5(seq), 9) FROM seq_1_to_3000; INSERT INTO sale SELECT * FROM item; CREATE VIEW v AS SELECT id FROM item",
    );
    servers.postgres.sql("postgres", "CREATE ROLE crm LOGIN; CREATE DATABASE crm OWNER crm");
    servers.postgres.sql("crm", "CREATE TABLE person (id int PRIMARY KEY, text text); INSERT INTO person SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 4000) i; SELECT lo_from_bytea(0, '\\x01')");
    servers.influx.ask("CREATE DATABASE telegraf");
    let lines: String =
        (0..5000u64).map(|n| format!("cpu,host=a v={n}.5 {}000000000\n", 1_760_054_400 + n * 60)).collect();
    assert!(servers.influx.write("telegraf", "autogen", &lines));
    let vault = site.machine.at("vault");
    site.write(&servers.config(&vault, &folder, &notes));
    for set in ["shop", "crm", "telegraf", "notes", "home"] {
        site.run(&["-q", "backup", set]).ends(0);
    }
    let expected = servers.picture();
    drop(servers);
    fs::remove_dir_all(&folder).unwrap();
    fs::remove_file(&notes).unwrap();
    // The empty machine: servers with nothing in them, one of which is not up yet.
    let Some(servers) = Servers::start() else { return };
    let (state, identity) = (tempfile::tempdir().unwrap(), site.machine.at("keys/identity.txt"));
    let config = site.machine.at("new.toml");
    fs::write(&config, servers.config(&vault, &folder, &notes)).unwrap();
    let run = |words: &[&str]| elsewhere(&config, state.path(), &identity, words);
    let stored = String::from_utf8(run(&["restore", "--configuration", "--stdout"]).ends(0).out).unwrap();
    assert!(stored.contains("[sets.telegraf]"));
    assert!(run(&["restore", "--all"]).ends(5).err.contains("--yes answers for a script"));
    servers.influx.kill();
    let failed = run(&["restore", "--all", "--yes", "--reason", "lost"]).ends(1);
    let table = String::from_utf8(failed.out).unwrap();
    assert!(
        failed.err.contains("restoring the set telegraf failed") && failed.err.contains("it goes on here"),
        "{}",
        failed.err
    );
    assert!(
        table.contains("shop") && table.contains("crm") && !table.contains("home") && !table.contains("notes"),
        "{table}"
    );
    servers.influx.restart();
    let done = run(&["--json", "restore", "--all", "--yes", "--reason", "lost"]).ends(0).json();
    assert_eq!(done["complete"], true);
    let restored = done["restored"].as_array().unwrap();
    let sets: Vec<&str> = restored.iter().map(|row| row["set"].as_str().unwrap()).collect();
    assert_eq!(sets, ["shop", "crm", "telegraf", "notes", "home"], "the order is that of the configuration");
    assert_eq!(restored[0]["checks"], "restored by an earlier run, and as it was then");
    assert_eq!((&restored[2]["counted"], &restored[2]["unit"]), (&5000.into(), &"points".into()));
    assert_eq!(servers.picture(), expected);
    assert_eq!(fs::read(folder.join("link")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read_to_string(&notes).unwrap(), "a note\n");
    // Once more: nothing is done twice but the command, which can't be looked at, and the table says so.
    fs::remove_file(&notes).unwrap();
    let again = run(&["restore", "--all", "--yes", "--reason", "again"]).ends(0);
    let table = String::from_utf8(again.out).unwrap();
    println!("{table}");
    assert_eq!(table.matches("restored by an earlier run").count(), 4, "{table}");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "a note\n");
    assert_eq!(servers.picture(), expected);
    // Lost or changed data is detected, and nothing written since is lost without notice.
    let all = |words: &[&str]| run(&[&["restore", "--all", "--yes", "--reason", "again"], words].concat());
    servers.mariadb.sql("UPDATE shop.item SET text = 'new' WHERE id = 7");
    servers.postgres.sql("crm", "UPDATE person SET text = 'new' WHERE id = 7");
    servers.influx.ask("DROP DATABASE telegraf");
    fs::remove_file(folder.join("deep/file")).unwrap();
    let changed = all(&["--overwrite", "changed"]).ends(3);
    for set in ["shop", "crm"] {
        let way = format!("--replace={set} --reason TEXT");
        assert!(changed.err.contains(&way) && changed.err.contains("changed since"), "{}", changed.err);
    }
    assert_eq!(servers.mariadb.sql("SELECT text FROM shop.item WHERE id = 7"), "new\n");
    assert_eq!(fs::read(folder.join("link")).unwrap(), vec![7; 300_000]);
    all(&["--overwrite", "changed", "--replace", "shop", "--replace", "crm"]).ends(0);
    assert_eq!(servers.picture(), expected);
    servers.mariadb.sql("DROP DATABASE shop");
    servers.postgres.sql("postgres", "DROP DATABASE crm");
    all(&["--overwrite", "changed"]).ends(0);
    assert_eq!(servers.picture(), expected);
}

/// A site with one set of two files.
fn two_files() -> (Site, std::path::PathBuf) {
    let site = Site::new("none", "source = \"files\"\npaths = [\"/etc\"]");
    let folder = site.machine.at("data");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("f"), "1").unwrap();
    fs::write(folder.join("g"), "2").unwrap();
    let vault = site.machine.at("vault");
    site.write(&format!(
        "[repository]\nurl = \"{}\"\n[sets.s]\nsource = \"files\"\npaths = [\"{}\"]\n",
        vault.display(),
        folder.display()
    ));
    site.run(&["-q", "backup", "s"]).ends(0);
    (site, folder)
}

#[test]
fn a_second_restore_of_all_believes_what_is_there_and_no_record() {
    let (site, folder) = two_files();
    let all = |words: &[&str]| site.run(&[&["restore", "--all", "--yes"], words].concat());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    fs::write(folder.join("f"), "mine").unwrap();
    // A refused database isn't reported as the backup's.
    let refused = all(&[]).ends(3);
    let table = String::from_utf8(refused.out).unwrap();
    assert!(table.contains("NOT restored") && !table.contains("each byte's hash"), "{table}");
    // Refused again, and never done because it was tried before.
    all(&[]).ends(3);
    all(&["--overwrite", "changed"]).ends(0);
    assert_eq!((read("f"), read("g")), ("1".into(), "2".into()));
    let again = all(&["--overwrite", "changed"]).ends(0);
    assert!(String::from_utf8_lossy(&again.out).contains("restored by an earlier run, and as it was then"));
    // A file that is kept for its size and time isn't read, and nothing is claimed about its bytes.
    let time = fs::metadata(folder.join("g")).unwrap().modified().unwrap();
    fs::write(folder.join("g"), "3").unwrap();
    fs::File::options().write(true).open(folder.join("g")).unwrap().set_modified(time).unwrap();
    let kept = String::from_utf8(all(&["--overwrite", "changed"]).ends(0).out).unwrap();
    assert!(kept.contains("each byte that was written has the backup's hash, ") && kept.contains(" kept"), "{kept}");
    assert_eq!(read("g"), "3");
    all(&["--overwrite", "always"]).ends(0);
    // Each of these differs from the output of the run before.
    let lost: [&dyn Fn(); 6] = [
        &|| fs::remove_file(folder.join("f")).unwrap(),
        &|| fs::remove_dir_all(&folder).unwrap(),
        &|| fs::write(folder.join("g"), "3").unwrap(),
        &|| fs::set_permissions(folder.join("g"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap(),
        &|| fs::rename(folder.join("f"), folder.join("h")).unwrap(),
        &|| {
            // The same size and the same time.
            let time = fs::metadata(folder.join("g")).unwrap().modified().unwrap();
            fs::write(folder.join("g"), "3").unwrap();
            fs::File::options().write(true).open(folder.join("g")).unwrap().set_modified(time).unwrap();
        },
    ];
    let mode = fs::metadata(folder.join("g")).unwrap().permissions();
    for lose in lost {
        all(&["--overwrite", "always"]).ends(0);
        lose();
        all(&["--overwrite", "always"]).ends(0);
        assert_eq!((read("f"), read("g")), ("1".into(), "2".into()));
        assert_eq!(fs::metadata(folder.join("g")).unwrap().permissions(), mode);
    }
    // Another request is another restore: part of it, and an older snapshot in its place.
    fs::remove_file(folder.join("f")).unwrap();
    fs::remove_file(folder.join("g")).unwrap();
    all(&["--only", "f", "--overwrite", "always"]).ends(0);
    assert_eq!((read("f"), read("g")), ("1".into(), String::new()));
    all(&["--overwrite", "always"]).ends(0);
    assert_eq!(read("g"), "2");
    fs::write(folder.join("f"), "newer").unwrap();
    site.run(&["-q", "backup", "s"]).ends(0);
    all(&["--overwrite", "always"]).ends(0);
    site.run(&["restore", "s", "--at", "2000-01-01", "--to", "/"]).ends(2);
    let first = site.run(&["--json", "list"]).ends(0).json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    site.run(&["restore", "--snapshot", &first, "--to", "/", "--overwrite", "always"]).ends(0);
    assert_eq!(read("f"), "1");
    all(&["--overwrite", "always"]).ends(0);
    assert_eq!(read("f"), "newer");
}

/// Not only rows: each of these differs from the output of the run before.
#[test]
fn a_second_restore_of_all_looks_at_all_of_a_database() {
    let Some(mariadb) = support::mariadb::MariaDb::start() else { return };
    mariadb.sql(
        "CREATE DATABASE `-shop`; USE `-shop`; CREATE SEQUENCE s; CREATE TABLE t (id INT PRIMARY KEY); CREATE FUNCTION f() RETURNS INT RETURN 1;
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1; CREATE USER app@localhost; GRANT SELECT ON `-shop`.* TO app@localhost;
         CREATE TABLE h (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; INSERT INTO h VALUES (1, 1); UPDATE h SET v = 2",
    );
    let site =
        Site::new("shop", &format!("source = \"mysql\"\ndatabases = [\"-shop\"]\nsocket = {:?}", mariadb.socket()));
    site.run(&["-q", "backup", "shop"]).ends(0);
    let all = |words: &[&str]| site.run(&[&["restore", "--all", "--yes", "--reason", "test"], words].concat());
    let replaced = || all(&["--replace", "-shop"]).ends(0);
    replaced();
    assert!(String::from_utf8_lossy(&all(&[]).ends(0).out).contains("as it was then"));
    for change in [
        "SELECT NEXTVAL(`-shop`.s)",
        "DROP USER app@localhost",
        "DROP FUNCTION `-shop`.f",
        "DROP EVENT `-shop`.e",
        "DELETE HISTORY FROM `-shop`.h",
    ] {
        mariadb.sql(change);
        let told = all(&[]).ends(3);
        assert!(
            told.err.contains("changed since") && told.err.contains("--replace=-shop --reason TEXT"),
            "{change}: {}",
            told.err
        );
        replaced();
        assert!(String::from_utf8_lossy(&all(&[]).ends(0).out).contains("as it was then"), "{change}");
    }
    assert!(mariadb.sql("SHOW GRANTS FOR app@localhost").contains("`-shop`"));
}

#[test]
fn nothing_that_matches_is_a_wrong_command_line() {
    let (site, folder) = two_files();
    let to = site.machine.at("to");
    for words in [
        &["restore", "--all", "--yes", "--only", "nothing"][..],
        &["restore", "--all", "--yes", "--only", "nothing", "--only", "nor this"],
        &["restore", "--all", "--to", to.to_str().unwrap(), "--only", "nothing"],
        &["restore", "s", "--to", to.to_str().unwrap(), "--only", "nothing"],
    ] {
        let ended = site.run(words).ends(2);
        assert!(ended.err.contains("nothing matches --only nothing"), "{}", ended.err);
    }
    // Also where a set is left out, whatever the patterns say.
    site.run(&["-q", "backup", "--set", "other", folder.to_str().unwrap()]).ends(0);
    site.run(&["restore", "--all", "--yes", "--only", "nothing"]).ends(2);
}

#[test]
fn on_a_fresh_machine_one_table_shows_all() {
    let Some(servers) = Servers::start() else { return };
    let site = Site::new("none", "source = \"files\"\npaths = [\"/etc\"]");
    let (folder, notes) = (site.machine.at("data"), site.machine.at("notes"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    servers.mariadb.sql("CREATE DATABASE shop; USE shop; CREATE TABLE item (id INT PRIMARY KEY); INSERT INTO item SELECT seq FROM seq_1_to_500");
    let vault = site.machine.at("vault");
    site.write(&servers.config(&vault, &folder, &notes));
    for set in ["shop", "home"] {
        site.run(&["-q", "backup", set]).ends(0);
    }
    // A set that the configuration no longer has.
    site.run(&["-q", "backup", "--set", "other", folder.to_str().unwrap()]).ends(0);
    servers.mariadb.sql("DROP DATABASE shop");
    fs::remove_file(folder.join("file")).unwrap();
    let done = site.run(&["restore", "--all", "--yes"]).ends(3);
    let table = String::from_utf8(done.out).unwrap();
    println!("{table}");
    assert!(table.contains("500 rows") && table.contains("left out"), "{table}");
    assert!(done.err.contains("the set other isn't in the configuration"), "{}", done.err);
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "x");
    assert_eq!(servers.mariadb.sql("SELECT COUNT(*) FROM shop.item"), "500\n");
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let Some(servers) = Servers::start() else { return };
    let site = Site::new("none", "source = \"files\"\npaths = [\"/etc\"]");
    let (folder, notes) = (site.machine.at("data"), site.machine.at("notes"));
    fs::create_dir(&folder).unwrap();
    (0..200).for_each(|n| fs::write(folder.join(format!("file {n}")), vec![n as u8; 20_000]).unwrap());
    servers.mariadb.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE item (id INT PRIMARY KEY, text TEXT); CREATE TABLE sale LIKE item;
         INSERT INTO item SELECT seq, REPEAT(MD5(seq), 9) FROM seq_1_to_9000; INSERT INTO sale SELECT * FROM item; CREATE VIEW v AS SELECT id FROM item",
    );
    servers.postgres.sql("postgres", "CREATE DATABASE crm");
    servers.postgres.sql("crm", "CREATE TABLE person (id int PRIMARY KEY, text text); INSERT INTO person SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 9000) i");
    site.write(&servers.config(&site.machine.at("vault"), &folder, &notes));
    for set in ["shop", "crm", "home"] {
        site.run(&["-q", "backup", set]).ends(0);
    }
    let picture = || {
        let files: usize = fs::read_dir(&folder)
            .map_or(0, |entries| entries.map(|entry| fs::read(entry.unwrap().path()).unwrap().len()).sum());
        format!(
            "{}{}{files}",
            servers.mariadb.sql("CHECKSUM TABLE shop.item, shop.sale; SELECT COUNT(*) FROM shop.v"),
            servers.postgres.picture("crm")
        )
    };
    let expected = picture();
    let rounds: u64 = if support::site::is_long() { 20 } else { 3 };
    let mut killed = 0;
    for round in 0..rounds {
        let names = servers.mariadb.sql("SELECT CONCAT('DROP DATABASE `', SCHEMA_NAME, '`;') FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'shop%'");
        servers.mariadb.sql(&names);
        servers.postgres.sql("postgres", "DROP DATABASE crm WITH (FORCE)");
        let _ = fs::remove_dir_all(&folder);
        // Each time a machine that knows nothing of the time before.
        let state = tempfile::tempdir().unwrap();
        let command = || {
            let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
            varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", state.path());
            varu.arg("--config").arg(site.config()).arg("--state").arg(state.path());
            varu.arg("--identity").arg(site.machine.at("keys/identity.txt")).args(["restore", "--all", "--yes"]);
            varu.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            varu
        };
        for turn in 0..3u64 {
            let mut running = command().spawn().unwrap();
            // Early ones, too: a machine that is quick has done it all in a second.
            let random = (round * 3 + turn + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let moment = 50 + turn * 200 + random % 300;
            std::thread::sleep(std::time::Duration::from_millis(moment));
            let _ = running.kill();
            killed += u32::from(!running.wait().unwrap().success());
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let ended = Ended::from(command().output().unwrap());
        assert!(ended.status == 0 || ended.status == 3, "{}", ended.err);
        assert_eq!(picture(), expected, "round {round}");
    }
    println!("{killed} of {} runs were killed", rounds * 3);
    assert!(killed > 0);
}
