//! A set of a database server as one file that the server's own client loads into an empty server.

use std::fs::{self, File};
use std::process::Command;

use support::mariadb::MariaDb;
use support::postgresql::Postgres;
use support::site::Site;

const SHOP: &str = "CREATE DATABASE shop; CREATE DATABASE crm; USE shop;
    CREATE TABLE customers (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80));
    CREATE TABLE orders (id INT PRIMARY KEY, customer INT, FOREIGN KEY (customer) REFERENCES customers (id));
    INSERT INTO customers SELECT seq, MD5(seq) FROM seq_1_to_500; INSERT INTO orders SELECT seq, seq FROM seq_1_to_400;
    CREATE VIEW a_view AS SELECT COUNT(*) AS n FROM orders; CREATE VIEW b AS SELECT * FROM a_view;
    CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW SET NEW.id = NEW.id + 0;
    CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 7;
    CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1;
    CREATE TABLE crm.people (id INT PRIMARY KEY); INSERT INTO crm.people VALUES (1), (2);";

const PICTURE: &str = "CHECKSUM TABLE shop.customers, shop.orders, crm.people; SELECT * FROM shop.b; SELECT shop.f();
    SHOW CREATE TABLE shop.orders; SHOW CREATE VIEW shop.b; SHOW TRIGGERS FROM shop LIKE 'orders'; SHOW CREATE FUNCTION shop.f";

/// Loads a file by the server's own client.
fn load(server: &MariaDb, file: &std::path::Path) {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--user=root"]).arg(format!("--socket={}", server.socket().display()));
    let ended = client.stdin(File::open(file).unwrap()).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// The definitions that are the same on every server: a trigger's time of creation isn't.
fn picture(server: &MariaDb) -> String {
    let lines = server.sql(PICTURE);
    lines.lines().map(|line| line.split("\t20").next().unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn a_set_of_mysql_is_one_file_that_an_empty_server_loads() {
    let Some(server) = MariaDb::start() else { return };
    server.sql(SHOP);
    let site = Site::new("shop", "source = \"files\"\npaths = [\"/etc\"]");
    site.configure(&format!("source = \"mysql\"\ndatabases = \"all\"\nsocket = \"{}\"", server.socket().display()));
    site.back_up();
    let expected = picture(&server);
    let file = site.machine.at("shop.sql");
    let path = file.to_str().unwrap();
    site.run(&["restore", "shop", "--as-dump", path]).ends(0);
    let all = fs::read(&file).unwrap();
    assert_eq!(site.run(&["restore", "shop@latest", "--stdout"]).ends(0).out, all, "the same on standard output");
    assert!(site.run(&["restore", "shop", "--as-dump", path]).ends(2).err.contains("--overwrite always replaces it"));
    site.run(&["restore", "shop", "--as-dump", path, "--overwrite", "always"]).ends(0);
    let Some(empty) = MariaDb::start() else { return };
    load(&empty, &file);
    assert_eq!(picture(&empty), expected);
    // A part of it, with its dependencies.
    let part = site.machine.at("part.sql");
    site.run(&["restore", "shop", "--as-dump", part.to_str().unwrap(), "--only", "shop/customers.sql"]).ends(0);
    let Some(empty) = MariaDb::start() else { return };
    load(&empty, &part);
    assert_eq!(empty.sql("SELECT COUNT(*) FROM shop.customers"), "500\n");
    assert_eq!(
        empty.sql("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('shop', 'crm')"),
        "1\n"
    );
    assert!(!site.machine.at(".part.sql.varu-new").exists());
}

#[test]
fn a_set_of_postgresql_is_one_file_that_an_empty_server_loads() {
    let Some(server) = Postgres::start() else { return };
    server.sql("postgres", "CREATE ROLE crm LOGIN; CREATE DATABASE crm OWNER crm");
    server.sql("crm", "CREATE TABLE person (id int PRIMARY KEY, text text); INSERT INTO person SELECT i, md5(i::text) FROM generate_series(1, 400) i");
    let site = Site::new("crm", "source = \"files\"\npaths = [\"/etc\"]");
    site.configure(&format!(
        "source = \"postgresql\"\ndatabases = [\"crm\"]\nuser = \"postgres\"\nsocket = \"{}\"",
        server.socket().display()
    ));
    site.back_up();
    let expected = server.picture("crm");
    let file = site.machine.at("crm.sql");
    site.run(&["restore", "crm", "--as-dump", file.to_str().unwrap()]).ends(0);
    let Some(empty) = Postgres::start() else { return };
    let mut client = Command::new("psql");
    client.args(["--no-psqlrc", "--quiet", "--username=postgres", "--dbname=postgres", "--host"]).arg(empty.socket());
    let ended = client.stdin(File::open(&file).unwrap()).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(empty.picture("crm"), expected);
}

#[test]
fn what_is_no_dump_makes_none() {
    let site = Site::new("s", "source = \"files\"\npaths = [\"/etc\"]");
    let folder = site.machine.at("data");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    site.configure(&format!("source = \"files\"\npaths = [\"{}\"]", folder.display()));
    site.back_up();
    let file = site.machine.at("dump.sql");
    let wrong = site.run(&["restore", "s", "--as-dump", file.to_str().unwrap()]).ends(2);
    assert!(wrong.err.contains("is no dump of MySQL or PostgreSQL"), "{}", wrong.err);
    assert!(!file.exists() && !site.machine.at(".dump.sql.varu-new").exists());
}
