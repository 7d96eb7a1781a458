//! Killed restores: the next one recognises its predecessor's database, continues with it, and touches nothing else.

use crate::influxdb::{POLICIES, REPLACE, RESTORE, site};

#[test]
fn a_killed_restore_is_taken_up_and_gives_nothing_else_away() {
    let Some((server, site)) = site(2, 60) else { return };
    site.back_up();
    let stored = server.picture("telegraf", &POLICIES);
    let is_there = |name: &str| server.ask("SHOW DATABASES").to_string().contains(&format!("[\"{name}\"]"));
    for again in [&RESTORE[..], &["restore", "--all", "--yes"]] {
        server.ask("DROP DATABASE telegraf");
        site.kill_when(again, || is_there("telegraf"));
        // The half is proven anew under another name, and killed there, too.
        site.kill_when(again, || is_there("telegraf_varu"));
        site.run(again).ends(0);
        assert_eq!(server.picture("telegraf", &POLICIES), stored);
        assert!(!is_there("telegraf_varu"));
        site.back_up();
    }
    assert!(server.write("telegraf", "raw", "newer x=1"));
    let living = server.picture("telegraf", &POLICIES);
    let reasoned = [&RESTORE[..], &["--reason", "test"]].concat();
    let is_refused = || {
        for words in [&["restore", "--all", "--yes", "--reason", "test"][..], &reasoned] {
            let refused = site.run(words).ends(5);
            assert!(refused.err.contains("telegraf is there already"), "{words:?}: {}", refused.err);
            assert_eq!(server.picture("telegraf", &POLICIES), living, "{words:?}");
        }
    };
    let copy = ["restore", "telegraf", "--into", "influxdb:copy", "--yes"];
    site.kill_when(&copy, || is_there("copy"));
    is_refused();
    site.run(&copy).ends(0);
    site.kill_when(&[&RESTORE[..], &REPLACE].concat(), || is_there("telegraf_varu"));
    is_refused();
}
