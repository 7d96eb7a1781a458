//! Kills of the real program (`kill -9`) at random times. Committed snapshots stay intact and restorable, the next
//! backup needs nobody and sends no complete pack again; a killed restore is completed by the next.
//!
//! 12 kills of a backup and 4 of a restore by default, 50 and 20 with VARU_TEST_LONG=1. The random times come from a seed that
//! is printed; VARU_TEST_SEED sets it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::machine::{Ended, Machine};
use support::{Random, long, noise, table};

const MIB: usize = 1 << 20;

/// A dump of tables with pictures between them: `parts` parts, each of a table's text and of bytes without a pattern. Some
/// rows and every fourth picture are of the day.
fn dump(parts: u32, day: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in 0..parts {
        bytes.extend(table(40_000, |row| part * 7 + if row % 500 == day { day } else { 0 }));
        let day = if part % 4 == 0 { day } else { 0 };
        bytes.extend(noise(4 * MIB, u64::from(part * 100 + day)));
    }
    bytes
}

/// Random numbers from a seed that can be given again.
fn random() -> Random {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = std::env::var("VARU_TEST_SEED").ok().map_or_else(now, |seed| seed.parse().unwrap());
    println!("VARU_TEST_SEED={seed}");
    Random(seed)
}

/// Lets a command run for a random part of `usual`, or a little longer, and kills it. Whether it was still running; where it
/// wasn't, `usual` becomes shorter.
fn kill_within(command: &mut Command, usual: &mut Duration, random: &mut Random) -> bool {
    let wait = usual.mul_f64(random.below(1100) as f64 / 1000.0);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(wait);
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    if !running {
        *usual = wait.min(*usual);
    }
    running
}

/// A copy of a machine: the same repository and keys, and a state of its own.
fn fork(machine: &Machine, to: PathBuf) -> Machine {
    fs::create_dir(&to).unwrap();
    for folder in ["vault", "keys", "state"] {
        assert!(Command::new("cp").arg("-a").args([machine.at(folder), to.join(folder)]).status().unwrap().success());
    }
    Machine::new(&to)
}

fn backup_of(machine: &Machine, dump: &Path) -> Command {
    // A minute is more than it takes to see that the lock's owner is dead; nobody takes a lock away by hand.
    let mut backup = machine.varu(&["--json", "-q", "backup", "--stdin", "shop.sql", "--wait", "1min"]);
    backup.stdin(File::open(dump).unwrap());
    backup
}

fn back_up(machine: &Machine, dump: &Path) -> serde_json::Value {
    Ended::from(backup_of(machine, dump).output().unwrap()).ends(0).json()
}

fn id(document: &serde_json::Value) -> String {
    document["snapshot"]["id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_restores(machine: &Machine, snapshot: &str, dump: &[u8]) {
    let back = machine.run_elsewhere(&["-q", "restore", "--snapshot", snapshot, "--stdout"]).ends(0);
    assert!(back.out == dump, "{} of {} bytes", back.out.len(), dump.len());
}

/// The bytes of the packs that are in `now` and not in `before`.
fn added(now: &Machine, before: &BTreeSet<String>) -> u64 {
    now.packs().into_iter().filter(|(name, _)| !before.contains(name)).map(|(_, size)| size).sum()
}

fn names(machine: &Machine) -> BTreeSet<String> {
    machine.packs().into_keys().collect()
}

fn snapshots(machine: &Machine) -> usize {
    fs::read_dir(machine.at("vault/snapshots")).unwrap().count()
}

#[test]
fn a_backup_that_is_killed_at_any_time_costs_nothing_that_was_committed() {
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(&folder.path().join("before"));
    fs::create_dir(&machine.top).unwrap();
    machine.init();
    let days = [dump(1, 1), dump(2, 2), dump(45, 3)];
    let paths = [0, 1, 2].map(|day| folder.path().join(format!("day {day}")));
    days.iter().zip(&paths).for_each(|(day, path)| fs::write(path, day).unwrap());
    let committed = [0, 1].map(|day| id(&back_up(&machine, &paths[day])));
    let before = names(&machine);

    let whole = fork(&machine, folder.path().join("whole"));
    let begun = Instant::now();
    back_up(&whole, &paths[2]);
    let mut usual = begun.elapsed();
    let all = added(&whole, &before);
    println!("{} bytes, stored in {all}, took {usual:?}", days[2].len());

    let (mut killed, mut shared) = (0, 0);
    let kills = if long() { 50 } else { 12 };
    // Until one was killed with a pack there and no snapshot yet.
    while killed < kills || (shared == 0 && killed < 10 * kills) {
        let fork = fork(&machine, folder.path().join("fork"));
        // Now and then several in a row.
        for _ in 0..=random.below(2) {
            killed += u32::from(kill_within(&mut backup_of(&fork, &paths[2]), &mut usual, &mut random));
        }
        let left = fork.packs();
        let sent = added(&fork, &before);
        let was_committed = snapshots(&fork) > committed.len();
        fork.run(&["-q", "verify", "--level", "data"]).ends(0);
        for (snapshot, dump) in committed.iter().zip(&days) {
            assert_restores(&fork, snapshot, dump);
        }
        let next = back_up(&fork, &paths[2]);
        let after = fork.packs();
        assert!(left.keys().all(|name| after.contains_key(name)), "a pack has gone");
        // Uploaded packs aren't sent again: both runs together send as much as one that nobody kills, but for the
        // directories of more packs, and for a chunk or two at the ends of the killed run's packs.
        let again = added(&fork, &left.keys().cloned().collect());
        println!("{} packs of {sent} bytes were left, then {again} sent", left.len() - before.len());
        assert!(sent + again < all + all / 100, "{sent} bytes, then {again}, and {all} without a kill");
        shared += u32::from(sent > 0 && !was_committed);
        assert_restores(&fork, &id(&next), &days[2]);
        fork.run(&["-q", "verify"]).ends(0);
        fs::remove_dir_all(&fork.top).unwrap();
    }
    assert!(shared > 0, "no killed run left a pack: the times are not random");
}

/// The differences that `rsync` finds.
fn differences(a: &Path, b: &Path) -> Vec<String> {
    let slashed = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync")
        .args(["-naiHAXc", "--modify-window=-1", "--delete"])
        .args([slashed(a), slashed(b)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Makes a tree of a few hundred files of many sizes, with hard links.
fn make_tree(tree: &Path) {
    for number in 0..400_usize {
        let folder = tree.join(format!("{}/{}", number % 7, number % 3));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("file {number}"));
        fs::write(&path, noise(number * number * 4, number as u64)).unwrap();
        if number % 10 == 0 {
            fs::hard_link(&path, tree.join(format!("link to {number}"))).unwrap();
        }
    }
}

#[test]
fn a_restore_that_is_killed_is_completed_by_the_next() {
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let (machine, tree) = (Machine::new(&top), top.join("tree"));
    make_tree(&tree);
    machine.init();
    machine.run(&["-q", "backup", tree.to_str().unwrap()]).ends(0);
    let out = top.join("out");
    let words = ["--json", "-q", "restore", "files", "--overwrite", "changed", "--to", out.to_str().unwrap()];
    let begun = Instant::now();
    machine.run(&words).ends(0);
    let mut usual = begun.elapsed();
    let restored = out.join(tree.strip_prefix("/").unwrap());
    let (mut killed, mut kept) = (0, 0);
    let kills = if long() { 20 } else { 4 };
    while killed < kills {
        fs::remove_dir_all(&out).unwrap();
        if !kill_within(&mut machine.varu(&words), &mut usual, &mut random) {
            fs::create_dir_all(&out).unwrap();
            continue;
        }
        killed += 1;
        let document = machine.run(&words).ends(0).json();
        kept += document["restored"][0]["kept"].as_u64().unwrap();
        assert_eq!(differences(&tree, &restored), Vec::<String>::new());
    }
    assert!(kept > 0, "each of the killed runs had written nothing: the times are not random");
}
