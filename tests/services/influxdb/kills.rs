//! Kills at any moment: a backup leaves no incomplete snapshot, and a restore leaves the old or the new database intact.

use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use crate::influxdb::{POLICIES, REPLACE, RESTORE, site, wrap};
use support::influxdb::Influx;
use support::site::{Attacked, Site, TELLING, is_long, random};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Varu,
    Program,
    Server,
}

const VICTIMS: [Victim; 3] = [Victim::Varu, Victim::Program, Victim::Server];

impl Victim {
    /// Kills it while `running` runs, and waits for the end of that. The server is there then.
    fn kill(self, mut running: Child, server: &Influx, site: &Site) -> Output {
        match self {
            Victim::Varu => running.kill().unwrap(),
            Victim::Program => site.kill_told(),
            Victim::Server => server.kill(),
        }
        let ended = running.wait_with_output().unwrap();
        if self == Victim::Server {
            server.restart();
        }
        ended
    }
}

fn start(site: &Site, words: &[&str]) -> Child {
    site.forget_told();
    site.command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_backup_that_is_killed_leaves_whole_snapshots_alone() {
    let Some((server, site)) = site(2, 60) else { return };
    wrap(&site, &server, "backup", TELLING);
    let begun = Instant::now();
    site.back_up();
    let whole = begun.elapsed().as_millis() as u64;
    let expected = server.picture("telegraf", &POLICIES);
    let rounds = if is_long() { 50 } else { 3 };
    let mut attacked = Attacked { snapshots: 1, cut: 0 };
    for victim in VICTIMS {
        for round in 0..rounds {
            let moment = whole * random(round) / 1000;
            let mut running = start(&site, &["-q", "backup", "telegraf"]);
            match round {
                // At least one is interrupted in the middle, however fast the others are.
                0 => while !site.has_told() && running.try_wait().unwrap().is_none() {},
                _ => std::thread::sleep(Duration::from_millis(moment)),
            }
            let ended = victim.kill(running, &server, &site);
            attacked.ended(&site, &ended, victim == Victim::Varu, &format!("{victim:?} after {moment} ms"));
        }
    }
    println!("{} of {} backups were cut, {} snapshots", attacked.cut, 3 * rounds, attacked.snapshots);
    assert!(attacked.cut > 0);
    assert_eq!(server.picture("telegraf", &POLICIES), expected);
    site.configure(&server.lines(""));
    site.run(&[&RESTORE[..], &REPLACE].concat()).ends(0);
    assert_eq!(server.picture("telegraf", &POLICIES), expected);
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new_whole() {
    let Some((server, site)) = site(2, 60) else { return };
    let good = site.back_up();
    let stored = server.picture("telegraf", &POLICIES);
    let restore = [&RESTORE[..], &REPLACE, &["--snapshot", &good]].concat();
    let begun = Instant::now();
    site.run(&restore).ends(0);
    let whole = begun.elapsed().as_millis() as u64;
    assert_eq!(server.picture("telegraf", &POLICIES), stored);
    wrap(&site, &server, "restore", TELLING);
    let rounds = if is_long() { 50 } else { 3 };
    let (mut old, mut new) = (0, 0);
    for round in 0..rounds {
        let victim = VICTIMS[round as usize % VICTIMS.len()];
        assert!(server.write("telegraf", "raw", &format!("newer x={round}")));
        let changed = server.picture("telegraf", &POLICIES);
        // A fifth of them near the end, where names change.
        let moment = match round % 5 {
            0 => whole * (900 + random(round) / 10) / 1000,
            _ => whole * random(round) / 1000,
        };
        let running = start(&site, &restore);
        std::thread::sleep(Duration::from_millis(moment));
        victim.kill(running, &server, &site);
        // Requests sent to the server may still run there.
        std::thread::sleep(Duration::from_millis(300));
        let names = server.ask("SHOW DATABASES").to_string();
        let picture = |name: &str| names.contains(&format!("[\"{name}\"]")).then(|| server.picture(name, &POLICIES));
        let (now, aside) = (picture("telegraf"), picture("telegraf_varu"));
        let is = |picture: &Option<String>, what: &String| picture.as_ref() == Some(what);
        let (old_is_whole, new_is_whole) = (is(&now, &changed), is(&now, &stored) || is(&aside, &stored));
        assert!(old_is_whole || new_is_whole, "{victim:?}, round {round} after {moment} ms: {names}");
        (old, new) = (old + u32::from(old_is_whole), new + u32::from(!old_is_whole));
        // The next one reports the necessary steps, or does them.
        let next = site.run(&restore);
        if next.status != 0 {
            assert!(next.err.contains("DROP DATABASE \"telegraf_varu\""), "round {round}: {}", next.err);
            server.ask("DROP DATABASE telegraf_varu");
            site.run(&restore).ends(0);
        }
        assert_eq!(server.picture("telegraf", &POLICIES), stored, "round {round}");
    }
    println!("killed {rounds} times: {old} times the old data was whole, {new} times only the new");
    site.configure(&server.lines(""));
    site.back_up();
}
