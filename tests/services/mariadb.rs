//! The main job on a real server: ten days of a changing database, each restored to the byte, the last one loaded again.

use std::path::Path;
use std::process::{Command, Stdio};

use support::mariadb::MariaDb;

const SCHEMA: &str = "
CREATE DATABASE agama; USE agama;
CREATE TABLE customer (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), note TEXT, since DATETIME(6), photo BLOB) CHARSET utf8mb4;
CREATE TABLE account (id INT PRIMARY KEY, customer INT NOT NULL, balance DECIMAL(12,2) NOT NULL,
  FOREIGN KEY (customer) REFERENCES customer (id));
CREATE TABLE log (id INT PRIMARY KEY AUTO_INCREMENT, at DATETIME, text VARCHAR(200));
INSERT INTO customer (name, note, since, photo)
  SELECT CONCAT('Kund ', seq, ' õäöü'), REPEAT(MD5(seq), 12), '2020-01-01' + INTERVAL seq MINUTE, UNHEX(SHA2(seq, 512)) FROM seq_1_to_20000;
INSERT INTO account SELECT id, id, 1000 FROM customer;
DELIMITER //
CREATE TRIGGER moved AFTER UPDATE ON account FOR EACH ROW INSERT INTO log (at, text) VALUES ('2026-01-01', CONCAT(OLD.balance, ' -> ', NEW.balance))//
CREATE PROCEDURE pay(a INT, b INT, sum INT) BEGIN
  UPDATE account SET balance = balance - sum WHERE id = a; UPDATE account SET balance = balance + sum WHERE id = b; END//
DELIMITER ;
";

fn a_day(day: u32) -> String {
    format!(
        "USE agama; UPDATE customer SET note = CONCAT('day {day} ', note) WHERE id % 100 = {day};
         DELETE FROM log WHERE id % 7 = {day};
         CALL pay({day}, {day} + 100, {day});
         INSERT INTO customer (name, note, since) SELECT CONCAT('New ', seq), MD5({day} * 100000 + seq), '2026-11-01' FROM seq_1_to_200;"
    )
}

fn varu(folder: &Path) -> Command {
    let mut varu = Command::new(env!("CARGO_BIN_EXE_varu"));
    varu.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder);
    varu.env("XDG_CONFIG_HOME", folder.join("config")).arg("--repo").arg(folder.join("vault"));
    varu.arg("--state").arg(folder.join("state"));
    varu
}

fn key(folder: &Path, end: &str) -> std::path::PathBuf {
    let entries = std::fs::read_dir(folder.join("keys")).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find(|path| path.to_string_lossy().ends_with(end)).unwrap()
}

fn checksums(database: &MariaDb) -> String {
    database.sql("CHECKSUM TABLE agama.customer, agama.account, agama.log; SELECT SUM(balance) FROM agama.account;")
}

#[test]
fn ten_days_of_a_real_database_come_back() {
    let Some(database) = MariaDb::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    database.sql(SCHEMA);
    let output = varu(folder.path())
        .arg("init")
        .env("VARU_WRITER_KEY", folder.path().join("keys/writer.key"))
        .env("VARU_IDENTITY", folder.path().join("keys/identity.txt"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let with_keys = || {
        let mut varu = varu(folder.path());
        varu.arg("--writer-key").arg(key(folder.path(), "writer.key"));
        varu.arg("--identity").arg(key(folder.path(), "identity.txt"));
        varu
    };
    let mut dumps = Vec::new();
    let mut snapshots: Vec<String> = Vec::new();
    for day in 1..=10 {
        database.sql(&a_day(day));
        let dump = database.dump("agama").output().unwrap();
        assert!(dump.status.success());
        dumps.push(dump.stdout);
        let mut pipe = database.dump("agama").stdout(Stdio::piped()).spawn().unwrap();
        let backup = with_keys()
            .args(["--json", "-q", "backup", "--set", "agama", "--stdin", "agama.sql"])
            .stdin(pipe.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(pipe.wait().unwrap().success());
        assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
        let listed: serde_json::Value = serde_json::from_slice(&backup.stdout).unwrap();
        snapshots.push(listed["snapshot"]["id"].as_str().unwrap_or_else(|| panic!("{listed}")).to_owned());
    }
    let size: u64 = std::fs::read_dir(folder.path().join("vault/packs"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    println!("10 dumps of {} bytes in packs of {size} bytes", dumps[9].len());
    assert!(size < dumps[9].len() as u64, "ten days take less than one dump");
    for (day, (dump, snapshot)) in dumps.iter().zip(&snapshots).enumerate() {
        let back = with_keys().args(["-q", "restore", "agama", "--snapshot", snapshot, "--stdout"]).output().unwrap();
        assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
        assert!(back.stdout == *dump, "day {}", day + 1);
    }
    let out = folder.path().join("out");
    assert!(with_keys().args(["-q", "restore", "agama", "--to"]).arg(&out).status().unwrap().success());
    let Some(second) = MariaDb::start() else { return };
    second.load(&out.join("agama.sql"));
    assert_eq!(checksums(&second), checksums(&database));
    let objects = "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'agama';
                   SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'agama';";
    assert_eq!(second.sql(objects), "moved\npay\n");
}
