//! Restores of one table, under another name, and across environments.

use crate::mysql::site::Site;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama;
    CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(20));
    CREATE TABLE orders (id INT PRIMARY KEY, customer INT, CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES customer (id));
    CREATE TABLE line (id INT PRIMARY KEY, of_order INT, FOREIGN KEY (of_order) REFERENCES orders (id) ON UPDATE CASCADE);
    CREATE TABLE log (text VARCHAR(20));
    CREATE TRIGGER told AFTER INSERT ON orders FOR EACH ROW INSERT INTO log VALUES (NEW.id);
    INSERT INTO customer VALUES (1, 'a'), (2, 'b'); INSERT INTO orders VALUES (10, 1), (11, 2); INSERT INTO line VALUES (100, 10);
    CREATE DATABASE other; CREATE TABLE other.note (of_order INT, FOREIGN KEY (of_order) REFERENCES agama.orders (id));
    INSERT INTO other.note VALUES (11);";

/// Schemas that foreign keys name.
const KEYS: &str = "SELECT k.CONSTRAINT_SCHEMA, k.TABLE_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME FROM \
                    information_schema.KEY_COLUMN_USAGE k WHERE k.REFERENCED_TABLE_NAME IS NOT NULL AND k.CONSTRAINT_SCHEMA IN \
                    ('agama', 'other') ORDER BY 1, 2";

/// A table continues to count on the sequence of its own database, whatever that is called.
/// Tables whose rows are those of others, or of nobody, come back without being counted, and what they show is the same.
#[test]
fn tables_without_rows_of_their_own_come_back() {
    let Some(site) = Site::with(
        "CREATE DATABASE agama; USE agama; CREATE TABLE m1 (a INT PRIMARY KEY) ENGINE=MyISAM; CREATE TABLE m2 LIKE m1;
         INSERT INTO m1 VALUES (1), (2); INSERT INTO m2 VALUES (3); CREATE TABLE both_of (a INT NOT NULL, KEY (a)) ENGINE=MERGE UNION=(m1, m2) INSERT_METHOD=LAST;
         CREATE TABLE hole (a INT) ENGINE=BLACKHOLE; INSERT INTO hole VALUES (1); CREATE VIEW v AS SELECT SUM(a) FROM both_of",
        &["--plugin-load-add=ha_blackhole"],
    ) else {
        return;
    };
    site.configure(&format!("socket = {:?}\nacknowledge = [\"no-transactions\"]", site.server.socket()));
    site.back_up();
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    let shown = |database: &str| {
        let rows = format!(
            "USE {database}; SELECT * FROM both_of ORDER BY a; SELECT * FROM v; SELECT COUNT(*) FROM hole; SHOW CREATE TABLE both_of"
        );
        site.server.sql(&rows)
    };
    assert_eq!(shown("copy"), shown("agama"));
    site.server.sql("INSERT INTO copy.both_of VALUES (4)");
    assert_eq!(site.server.sql("SELECT COUNT(*) FROM agama.m2; SELECT COUNT(*) FROM copy.m2"), "1\n2\n");
}

#[test]
fn an_archive_that_numbers_its_rows_comes_back() {
    let archive = "--plugin-load-add=ha_archive";
    let Some(site) = Site::with(
        "CREATE DATABASE agama; USE agama; CREATE TABLE z (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT COMMENT 'AUTO_INCREMENT=7') ENGINE=ARCHIVE;
         INSERT INTO z (v) SELECT MD5(seq) FROM seq_1_to_5000",
        &[archive],
    ) else {
        return;
    };
    site.configure(&format!("socket = {:?}\nacknowledge = [\"no-transactions\"]", site.server.socket()));
    site.back_up();
    site.run(&["-q", "restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    let sum = |database: &str| site.server.sql(&format!("CHECKSUM TABLE {database}.z")).replace(database, "");
    assert_eq!(sum("copy"), sum("agama"));
    site.server.sql("INSERT INTO copy.z (v) VALUES ('next')");
    assert_eq!(site.server.sql("SELECT MAX(id) FROM copy.z"), "5001\n");
}

#[test]
fn a_copy_counts_on_its_own_sequences() {
    let Some(site) = Site::new(
        "CREATE DATABASE agama; USE agama; CREATE SEQUENCE s; CREATE SEQUENCE `it's`;
         CREATE TABLE t (id INT PRIMARY KEY DEFAULT NEXTVAL(s), b INT DEFAULT (NEXT VALUE FOR `it's` + 1), v INT); INSERT INTO t (v) VALUES (1), (2);",
    ) else {
        return;
    };
    site.back_up();
    let copy = |more: &[&str]| {
        let words = ["-q", "restore", "agama", "--into", "mysql:copy", "--yes", "--reason", "test"];
        site.run(&[&words, more].concat()).ends(0);
        let made = site.server.sql("SHOW CREATE TABLE copy.t");
        assert!(made.contains("nextval(`copy`.`s`)") && made.contains("nextval(`copy`.`it's`)"), "{made}");
        site.server.sql("INSERT INTO copy.t (v) VALUES (3)");
        assert_eq!(site.server.sql("SELECT COUNT(*) FROM copy.t"), "3\n");
    };
    let counted = || site.server.sql("SELECT next_not_cached_value FROM agama.s");
    let before = counted();
    copy(&[]);
    copy(&["--replace", "copy"]);
    assert_eq!(counted(), before, "the original's stands still");
    site.server.sql("DROP DATABASE copy; DROP DATABASE agama");
    copy(&[]);
    site.run(&["-q", "restore", "agama", "--into", "mysql", "--yes"]).ends(0);
    assert!(site.server.sql("SHOW CREATE TABLE agama.t").contains("nextval(`agama`.`s`)"));
}

#[test]
fn one_table_comes_back_into_a_living_database() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let keys = site.server.sql(KEYS);
    site.back_up();
    site.server.sql("USE agama; SET foreign_key_checks = 0; DELETE FROM orders WHERE id = 11; INSERT INTO customer VALUES (3, 'c'); DELETE FROM log");
    let words = ["restore", "agama", "--into", "mysql", "--only", "agama/orders", "--yes", "--reason", "gone"];
    let refused = site.run(&words).ends(5);
    assert!(refused.err.contains("agama/orders is there already"), "{}", refused.err);
    site.run(&[&words[..], &["--replace", "agama/orders"]].concat()).ends(0);
    assert_eq!(site.server.sql("SELECT id FROM agama.orders ORDER BY 1; SELECT COUNT(*) FROM agama.customer; SELECT COUNT(*) FROM agama.log"), "10\n11\n3\n0\n");
    assert_eq!(site.server.sql(KEYS), keys);
    assert!(site.server.try_sql("INSERT INTO agama.orders VALUES (12, 99)").unwrap_err().contains("foreign key"));
    assert!(site.server.try_sql("DELETE FROM agama.orders WHERE id = 11").unwrap_err().contains("foreign key"));
    site.server.sql("INSERT INTO agama.orders VALUES (12, 1)");
    assert_eq!(site.server.sql("SELECT text FROM agama.log"), "12\n", "the trigger is there, once");
    let databases = site.server.sql("SHOW DATABASES");
    let before = databases.lines().find(|name| name.starts_with("agama_before_")).unwrap();
    assert_eq!(site.server.sql(&format!("SELECT id FROM `{before}`.orders")), "10\n");
    assert!(!databases.contains("_loading_"));
    let unknown = site.run(&["restore", "agama", "--into", "mysql", "--only", "agama/nothing", "--yes"]).ends(2);
    assert!(unknown.err.contains("agama/nothing"), "{}", unknown.err);
}

#[test]
fn another_name_is_refused_where_something_names_the_first() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.server.sql("CREATE EVENT agama.e ON SCHEDULE EVERY 1 DAY DO SELECT 1");
    site.back_up();
    site.run(&["restore", "agama", "--into", "mysql:copy", "--yes"]).ends(0);
    assert_eq!(
        site.server.sql(
            "SELECT COUNT(*) FROM copy.orders; SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'copy'"
        ),
        "2\nDISABLED\n"
    );
    site.server.sql("CREATE VIEW agama.v AS SELECT 1; CREATE PROCEDURE agama.p() SELECT * FROM agama.orders;");
    site.back_up();
    let refused = site.run(&["restore", "agama", "--into", "mysql:second", "--yes"]).ends(5);
    assert!(refused.err.contains("names the schema agama"), "{}", refused.err);
    assert!(!site.server.sql("SHOW DATABASES").contains("second"));
}

#[test]
fn only_the_environments_that_are_allowed_come_in() {
    let Some(site) = Site::new(SCHEMA) else { return };
    let socket = format!("socket = \"{}\"", site.server.socket().display());
    site.configure_all("[environment]\nname = \"production\"", &socket);
    site.back_up();
    let words = ["restore", "agama", "--into", "mysql:copy", "--yes"];
    site.configure_all("[environment]\nname = \"preview\"\nrestore_from = [\"development\"]", &socket);
    let refused = site.run(&words).ends(5);
    assert!(
        refused.err.contains("the environment production") && refused.err.contains("development"),
        "{}",
        refused.err
    );
    site.configure_all("[environment]\nname = \"staging\"\nrestore_from = [\"production\"]", &socket);
    site.run(&words).ends(0);
    site.configure(&format!("{socket}\nrequire_snapshot = true"));
    let refused = site.run(&["restore", "agama", "--into", "mysql:third", "--yes"]).ends(5);
    assert!(refused.err.contains("require_snapshot"), "{}", refused.err);
}
