//! Killed restores: the next one recognises its predecessor's database, continues with it, and touches nothing else.

use crate::postgresql::{REPLACE, RESTORE, site};
use support::postgresql::Postgres;

const SCHEMA: &str =
    "CREATE TABLE a (id int PRIMARY KEY, text text); CREATE TABLE b (id int PRIMARY KEY REFERENCES a (id));
    INSERT INTO a SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i; INSERT INTO b SELECT id FROM a;";

/// The databases whose names begin so.
fn databases(server: &Postgres, start: &str) -> Vec<String> {
    let names = server.sql("postgres", "SELECT datname FROM pg_database");
    names.lines().filter(|name| name.starts_with(start)).map(str::to_owned).collect()
}

#[test]
fn a_killed_restore_is_taken_up_and_what_it_left_is_named() {
    let Some((server, site)) = site(SCHEMA) else { return };
    site.back_up();
    let expected = server.picture("agama");
    for again in [&RESTORE[..], &["restore", "--all", "--yes"]] {
        server.sql("postgres", "DROP DATABASE agama WITH (FORCE)");
        let mut left = Vec::new();
        for _ in 0..2 {
            site.kill_when(again, || databases(&server, "agama_loading_").len() > left.len());
            left = databases(&server, "agama_loading_");
        }
        let done = site.run(again).ends(0);
        assert_eq!(server.picture("agama"), expected);
        assert_eq!(databases(&server, "agama_").len(), 2);
        for name in &left {
            let drop = format!("DROP DATABASE \"{name}\"");
            assert!(done.err.contains(&drop), "{name}: {}", done.err);
            server.sql("postgres", &format!("{drop} WITH (FORCE)"));
        }
        site.back_up();
    }
    let refused = site.run(&RESTORE).ends(5);
    assert!(refused.err.contains("agama is there already"), "{}", refused.err);
    let replaced = site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    assert!(!replaced.err.contains("DROP DATABASE"), "the old data is nothing to drop: {}", replaced.err);
}

/// Killed after the names were changed and before it could say so: it is the restore's own, and may be replaced.
#[test]
fn a_restore_that_was_killed_at_its_end_is_taken_up() {
    let Some((server, site)) = site(SCHEMA) else { return };
    site.back_up();
    let expected = server.picture("agama");
    server.sql("postgres", "DROP DATABASE agama WITH (FORCE)");
    // The rights are looked at after the names were changed.
    site.kill_when(&RESTORE, || !databases(&server, "agama_loading_").is_empty());
    let loading = databases(&server, "agama_loading_").remove(0);
    server.sql(
        "postgres",
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{loading}'"),
    );
    server.sql("postgres", &format!("ALTER DATABASE \"{loading}\" RENAME TO agama"));
    let done = site.run(&RESTORE).ends(0);
    assert_eq!(server.picture("agama"), expected);
    let before = databases(&server, "agama_before_");
    assert!(before.len() == 1 && done.err.contains(&format!("DROP DATABASE \"{}\"", before[0])), "{}", done.err);
}

#[test]
fn a_killed_restore_gives_nothing_else_away() {
    let Some((server, site)) = site(SCHEMA) else { return };
    site.back_up();
    server.sql("agama", "DELETE FROM b; DELETE FROM a WHERE id > 10");
    let living = server.picture("agama");
    let reasoned = [&RESTORE[..], &["--reason", "test"]].concat();
    let is_refused = || {
        for words in [&["restore", "--all", "--yes", "--reason", "test"][..], &reasoned] {
            let refused = site.run(words).ends(5);
            assert!(refused.err.contains("agama is there already"), "{words:?}: {}", refused.err);
            assert_eq!(server.picture("agama"), living, "{words:?}");
            assert_eq!(databases(&server, "agama_before_"), Vec::<String>::new(), "{words:?}");
        }
    };
    let copy = ["restore", "agama", "--into", "postgresql:copy", "--yes"];
    site.kill_when(&copy, || !databases(&server, "copy_loading_").is_empty());
    is_refused();
    site.run(&copy).ends(0);
    site.kill_when(&[&RESTORE[..], &REPLACE].concat(), || !databases(&server, "agama_loading_").is_empty());
    is_refused();
}
