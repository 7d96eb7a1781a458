//! Interrupted restores, and a restore into a database that something writes to.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::influxdb::{POLICIES, REPLACE, RESTORE, site, wrap};
use support::site::Stop;

fn has(server: &support::influxdb::Influx, name: &str) -> bool {
    server.ask("SHOW DATABASES").to_string().contains(&format!("[\"{name}\"]"))
}

#[test]
fn a_restore_that_is_cut_leaves_one_of_both_whole_and_can_be_run_again() {
    let Some((server, site)) = site(2, 600) else { return };
    site.back_up();
    let stored = server.picture("telegraf", &POLICIES);
    server.write("telegraf", "raw", "newer x=1");
    let changed = server.picture("telegraf", &POLICIES);
    let again = |lines: &str| {
        site.configure(&server.lines(lines));
        site.run(&["restore", "telegraf", "--abandon", "--reason", "test"]).ends(0);
    };
    // A server that dies while it loads, and a load that ends with status 0 and lacks a shard.
    wrap(&site, &server, "restore", &format!("kill -9 {}; sleep 0.2; \"$@\"", server.pid()));
    let ended = site.run(&[&RESTORE[..], &REPLACE].concat()).ends(1);
    assert!(ended.err.contains("The restore did not end"), "{}", ended.err);
    server.restart();
    assert_eq!(server.picture("telegraf", &POLICIES), changed);
    assert!(site.run(&["backup", "telegraf"]).ends(5).err.contains("has not succeeded"));
    again("");
    wrap(&site, &server, "restore", "rm \"${@: -1}\"/*.s2.tar.gz; \"$@\"");
    let ended = site.run(&["restore", "telegraf", "--into", "influxdb:short", "--yes"]).ends(1);
    assert!(ended.err.contains("after the load"), "{}", ended.err);
    server.ask("DROP DATABASE short");
    let _ = server.ask("DROP DATABASE telegraf_varu");
    again("");
    // Killed after the old one was dropped: the second load is where that has happened.
    let count = site.machine.at("count");
    wrap(
        &site,
        &server,
        "restore",
        "echo >> count; if [ $(wc -l < count) = 2 ]; then kill -9 $PPID; exit 1; fi; \"$@\"",
    );
    let ended = site.run(&[&RESTORE[..], &REPLACE].concat());
    assert_eq!(ended.status, -9, "{}", ended.err);
    assert!(!has(&server, "telegraf") && has(&server, "telegraf_varu"));
    assert_eq!(server.picture("telegraf_varu", &POLICIES), stored);
    fs::write(&count, "\n\n\n").unwrap();
    let backup = site.run(&["backup", "telegraf"]);
    assert!(backup.status != 0);
    let done = site.run(&RESTORE).ends(0);
    assert!(done.err.contains("of a restore that was cut"), "{}", done.err);
    assert_eq!(server.picture("telegraf", &POLICIES), stored);
    assert!(!has(&server, "telegraf_varu"));
    site.back_up();
    // The load after the drop fails: the error names the state of each database.
    fs::write(&count, "").unwrap();
    wrap(&site, &server, "restore", "echo >> count; if [ $(wc -l < count) = 2 ]; then exit 7; fi; \"$@\"");
    let ended = site.run(&[&RESTORE[..], &REPLACE].concat()).ends(1);
    assert!(ended.err.contains("telegraf is absent; telegraf_varu holds the data"), "{}", ended.err);
    site.run(&RESTORE).ends(0);
    assert_eq!(server.picture("telegraf", &POLICIES), stored);
}

#[test]
fn nothing_is_dropped_while_something_writes() {
    let Some((server, site)) = site(1, 600) else { return };
    site.back_up();
    let cpu = "SELECT * FROM telegraf.raw.cpu GROUP BY *";
    let stored = server.ask(cpu);
    let stop = site.machine.at("stop");
    let hooks = format!("restore_before = [\"touch {0}; sleep 0.5\"]\nrestore_after = [\"rm {0}\"]", stop.display());
    let over = AtomicBool::new(false);
    let http = server.http;
    std::thread::scope(|scope| {
        let (over, stop) = (&over, &stop);
        let end = Stop(over);
        let writer = scope.spawn(move || {
            let mut number = 0;
            while !over.load(Ordering::SeqCst) {
                if !stop.exists() {
                    number +=
                        u32::from(support::influxdb::write(http, "telegraf", "raw", &format!("busy n={number}i")));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            number
        });
        let refused = site.run(&[&RESTORE[..], &REPLACE].concat()).ends(5);
        assert!(
            refused.err.contains("something writes to telegraf") && refused.err.contains("restore_before"),
            "{}",
            refused.err
        );
        assert!(server.ask("SELECT count(n) FROM telegraf.raw.busy").to_string().contains("count"), "it is as it was");
        let left = site.run(&[&RESTORE[..], &REPLACE].concat()).ends(5);
        assert!(left.err.contains("DROP DATABASE \"telegraf_varu\""), "{}", left.err);
        server.ask("DROP DATABASE telegraf_varu");
        site.configure(&server.lines(&hooks));
        site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
        drop(end);
        assert!(writer.join().unwrap() > 2);
    });
    assert_eq!(server.ask(cpu), stored);
}
