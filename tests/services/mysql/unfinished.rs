//! Killed restores: the next one recognises its predecessor's database, continues with it, and touches nothing else.

use crate::mysql::site::{Site, picture};
use support::mariadb::MariaDb;

const SCHEMA: &str = "CREATE DATABASE agama; USE agama; CREATE TABLE a (id INT PRIMARY KEY, text TEXT); CREATE TABLE b LIKE a; CREATE TABLE c LIKE a;
    INSERT INTO a SELECT seq, REPEAT(MD5(seq), 20) FROM seq_1_to_9000; INSERT INTO b SELECT * FROM a; INSERT INTO c SELECT * FROM a;
    CREATE VIEW v AS SELECT id FROM a;";

const RESTORE: [&str; 5] = ["restore", "agama", "--into", "mysql", "--yes"];

/// The databases whose names begin so.
fn databases(server: &MariaDb, start: &str) -> Vec<String> {
    server.sql("SHOW DATABASES").lines().filter(|name| name.starts_with(start)).map(str::to_owned).collect()
}

fn has_tables(server: &MariaDb, pattern: &str) -> bool {
    server.sql(&format!("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE '{pattern}'")) != "0\n"
}

#[test]
fn a_killed_restore_is_taken_up_and_what_it_left_is_named() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.back_up();
    let expected = picture(&site.server, "agama");
    for again in [&RESTORE[..], &["restore", "--all", "--yes"]] {
        site.server.sql("DROP DATABASE agama");
        site.kill_when(again, || has_tables(&site.server, "agama"));
        let refused = site.run(&["backup", "agama"]).ends(5);
        assert!(refused.err.contains("the same restore goes on with it"), "{}", refused.err);
        site.kill_when(again, || has_tables(&site.server, "agama\\_loading\\_%"));
        let left = databases(&site.server, "agama_loading_");
        assert_eq!(left.len(), 1);
        let done = site.run(again).ends(0);
        assert_eq!(picture(&site.server, "agama"), expected);
        // The half that was put aside, and the one beside it that was never put in place.
        let aside = databases(&site.server, "agama_");
        assert!(aside.len() == 2 && aside.contains(&left[0]), "{aside:?}");
        for name in &aside {
            let drop = format!("DROP DATABASE `{name}`");
            assert!(done.err.contains(&drop), "{name}: {}", done.err);
            site.server.sql(&drop);
        }
        site.back_up();
    }
    // One that ended leaves nothing for the next.
    let refused = site.run(&RESTORE).ends(5);
    assert!(refused.err.contains("agama is there already"), "{}", refused.err);
    let replaced = site.run(&[&RESTORE[..], &["--replace", "agama", "--reason", "test"]].concat()).ends(0);
    assert!(!replaced.err.contains("DROP DATABASE"), "the old data is nothing to drop: {}", replaced.err);
}

#[test]
fn a_killed_restore_gives_nothing_else_away() {
    let Some(site) = Site::new(SCHEMA) else { return };
    site.back_up();
    let stored = picture(&site.server, "agama");
    site.server.sql("DELETE FROM agama.a WHERE id > 10");
    let living = picture(&site.server, "agama");
    let all = ["restore", "--all", "--yes", "--reason", "test"];
    let is_refused = |words: &[&str]| {
        let refused = site.run(words).ends(5);
        assert!(refused.err.contains("agama is there already"), "{words:?}: {}", refused.err);
        assert_eq!(picture(&site.server, "agama"), living, "{words:?}");
        assert_eq!(databases(&site.server, "agama_before_"), Vec::<String>::new(), "{words:?}");
    };
    let reasoned = [&RESTORE[..], &["--reason", "test"]].concat();
    // A half restored copy lets the copy be replaced, and not its original.
    let copy = ["restore", "agama", "--into", "mysql:copy", "--yes"];
    site.kill_when(&copy, || has_tables(&site.server, "copy"));
    is_refused(&all);
    is_refused(&reasoned);
    site.run(&copy).ends(0);
    assert_eq!(picture(&site.server, "copy"), stored.replace("agama", "copy"));
    // A database that lived before a restore lives after it was killed.
    let replace = [&reasoned[..], &["--replace", "agama"]].concat();
    site.kill_when(&replace, || has_tables(&site.server, "agama\\_loading\\_%"));
    is_refused(&all);
    is_refused(&reasoned);
    // One table that was begun is no database.
    site.server.sql("CREATE DATABASE other; RENAME TABLE agama.c TO other.c");
    let living = picture(&site.server, "agama");
    let table = [&reasoned[..], &["--only", "agama/c"]].concat();
    site.kill_when(&table, || has_tables(&site.server, "agama\\_loading\\_%"));
    assert!(site.run(&all).ends(5).err.contains("agama is there already"));
    assert_eq!(picture(&site.server, "agama"), living);
    // The same name on another server is another database.
    site.run(&["restore", "agama", "--abandon"]).ends(0);
    site.server.sql("DROP DATABASE agama");
    site.kill_when(&RESTORE, || has_tables(&site.server, "agama"));
    let Some(second) = MariaDb::start() else { return };
    second.sql("CREATE DATABASE agama; CREATE TABLE agama.a (id INT PRIMARY KEY); INSERT INTO agama.a VALUES (7)");
    let before = picture(&second, "agama");
    site.configure(&format!("socket = \"{}\"", second.socket().display()));
    for words in [&all[..], &reasoned] {
        assert!(site.run(words).ends(5).err.contains("agama is there already"));
        assert_eq!(picture(&second, "agama"), before);
    }
}
