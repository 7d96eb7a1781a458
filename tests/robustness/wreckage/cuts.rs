//! Commands that are cut, or find the disk full, at each of their calls. Then the same command again, which is the
//! documented way on: nothing is lost, and backups go on.
//!
//! By default a call of each kind, another each day; with VARU_TEST_LONG=1 all of them.

use super::*;
use support::harm::{FULL, KILLED, MUTATING, harmed};
use support::site::is_long;
use ways::{Wreck, written_by_another};

/// A command, and the state in which it is given.
struct Row {
    words: &'static [&'static str],
    make: fn(&mut Wreck),
}

const ROWS: [Row; 6] = [
    Row {
        words: &["index", "adopt"],
        make: |wreck| {
            fs::remove_dir_all(wreck.top("state")).unwrap();
            written_by_another(wreck);
        },
    },
    Row { words: &["index", "rebuild"], make: |wreck| fs::remove_dir_all(wreck.top("state")).unwrap() },
    Row { words: &["index", "rebuild", "--accept-loss"], make: |wreck| wreck.lose_newest() },
    Row { words: &["index", "rebuild", "--salvage"], make: |wreck| wreck.empty("snapshots") },
    Row { words: &["copy", "--to", "SECOND"], make: |_| () },
    Row { words: &["backup", "s"], make: |wreck| put(&wreck.site, "new", 30_000) },
];

/// The initial content of a wreck.
struct Saved<'a> {
    wreck: &'a Wreck,
    kept: tempfile::TempDir,
}

const PARTS: [&str; 5] = ["vault", "state", "keys", "second", "home"];

impl<'a> Saved<'a> {
    fn of(wreck: &'a Wreck) -> Self {
        let saved = Self { wreck, kept: tempfile::tempdir().unwrap() };
        for part in PARTS.iter().filter(|part| wreck.top(part).exists()) {
            ways::copy(&wreck.top(part), &saved.kept.path().join(part));
        }
        saved
    }

    fn put_back(&self) {
        for part in PARTS {
            let (there, kept) = (self.wreck.top(part), self.kept.path().join(part));
            let _ = fs::remove_dir_all(&there);
            if kept.exists() {
                ways::copy(&kept, &there);
            }
        }
    }
}

/// The points at which a command is harmed: kinds of calls, and their numbers.
fn points(count: impl Fn(&str) -> usize) -> Vec<(&'static str, usize)> {
    let day = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let mut points = Vec::new();
    for call in MUTATING {
        let count = count(call);
        let step = if is_long() { 1 } else { count.max(1) };
        let first = usize::try_from(day).unwrap() % step;
        points.extend((0..count).skip(first).step_by(step).map(|n| (call, n + 1)));
    }
    points
}

/// How many calls of a kind a command makes.
fn count(command: &Command, log: &Path, call: &str) -> usize {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log).args(["-e", &format!("trace={call}"), "-e", "signal=none"]);
    strace.arg(command.get_program()).args(command.get_args()).env_clear();
    strace.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    run(&mut strace);
    fs::read_to_string(log).unwrap().lines().filter(|line| line.contains(&format!("{call}("))).count()
}

/// Interrupts a command at each of its points, and has `after` examine the result; returns how many points there were.
pub fn harm_at_each(
    command: &Command,
    log: &Path,
    how: &str,
    put_back: impl Fn(),
    mut after: impl FnMut(&str, &Ended),
) -> usize {
    let points = points(|call| {
        put_back();
        count(command, log, call)
    });
    let mut hit = 0;
    for (call, n) in points {
        put_back();
        // Threads share the calls, so the last ones may not come.
        let Some(ended) = harmed(command, log, call, n, how) else { continue };
        hit += 1;
        after(&format!("{how} at {call} {n}, {}: {}", ended.status, ended.err), &ended);
    }
    hit
}

fn sweep(row: &Row, how: &str) {
    let mut wreck = Wreck::new();
    (row.make)(&mut wreck);
    let second = wreck.top("second").display().to_string();
    let words: Vec<&str> = row.words.iter().map(|word| if *word == "SECOND" { &second } else { *word }).collect();
    let saved = Saved::of(&wreck);
    let log = wreck.top("strace.log");
    let command = wreck.command(&words);
    let after = |what: &str, first: &Ended| {
        let what = format!("{words:?}, {what}");
        if how != KILLED {
            assert!([0, 3, 8].contains(&first.status), "{what}");
        }
        let again = wreck.run(&words);
        assert!([0, 3].contains(&again.status), "{what}\nagain: {} {}", again.status, again.err);
        if row.words.contains(&"SECOND") {
            let verified = run(wreck.command(&["--repo", &second]).args(["verify", "--level", "data"]));
            assert_eq!(verified.status, 0, "{what}\n{}", verified.err);
            for folder in ["keys", "packs", "snapshots"] {
                assert!(below(&wreck.top("second").join(folder)) == below(&wreck.here.join(folder)), "{what}");
            }
        }
        wreck.goes_on(&what);
    };
    let hit = harm_at_each(&command, &log, how, || saved.put_back(), after);
    println!("{words:?}, {how}: {hit} points");
    assert!(hit > 2, "{words:?} was harmed at {hit} points");
}

#[test]
fn commands_on_the_repository_may_be_cut_at_each_call() {
    ROWS.iter().for_each(|row| sweep(row, KILLED));
}

#[test]
fn commands_on_the_repository_may_find_the_disk_full_at_each_call() {
    ROWS.iter().for_each(|row| sweep(row, FULL));
}
