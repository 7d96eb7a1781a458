//! Connections that are cut or stall at any byte, and processes on both sides that are killed at any time: no committed
//! snapshot is ever broken, the status is right, and the next run finishes the work.
//!
//! By default a few bytes and times of each; with VARU_TEST_LONG=1 every n-th byte, 500 random ones, and 100 kills. The random
//! numbers come from a seed that is printed; VARU_TEST_SEED sets it.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Ended, IMPATIENT, Ship, assert_restores, id};
use support::proxy::{Fault, Proxy};
use support::sshd::Sshd;
use support::{Random, long, noise, table};

/// Random numbers from a seed that can be given again.
fn random() -> Random {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = std::env::var("VARU_TEST_SEED").ok().map_or_else(now, |seed| seed.parse().unwrap());
    println!("VARU_TEST_SEED={seed}");
    Random(seed)
}

/// A machine that backs up, day after day, over a host that fails.
struct Voyage {
    ship: Ship,
    noise: usize,
    day: u32,
    committed: Vec<(String, u32)>,
}

impl Voyage {
    /// `noise` bytes are new each day.
    fn new(ship: Ship, noise: usize) -> Self {
        ship.run(&["-q", "init"]).ends(0);
        let mut voyage = Self { ship, noise, day: 0, committed: Vec::new() };
        voyage.day(|child| child.wait_with_output().unwrap().into()).ends(0);
        voyage
    }

    fn data(&self, day: u32) -> Vec<u8> {
        let mut data = table(3000, |row| if row % 100 == 7 { day } else { 0 });
        data.extend(noise(self.noise, u64::from(day)));
        data
    }

    /// A backup of the next day, which `while_it_runs` waits for. Where it committed, its snapshot restores; where it didn't,
    /// the next run commits, and restores.
    fn day(&mut self, while_it_runs: impl FnOnce(Child) -> Ended) -> Ended {
        self.day += 1;
        fs::write(self.ship.at("data"), self.data(self.day)).unwrap();
        let words = ["--json", "-q", "backup", "--stdin", "data", "--wait", "1min"];
        let mut varu = self.ship.machine.varu(&words);
        varu.stdin(fs::File::open(self.ship.at("data")).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = while_it_runs(varu.spawn().unwrap());
        if let Some((snapshot, day)) = self.committed.last() {
            assert_restores(&self.ship.near(), snapshot, &self.data(*day));
        }
        let snapshot = match ended.status {
            0 => id(&ended),
            _ => id(&self.ship.back_up(&self.ship.at("data")).ends(0)),
        };
        assert_restores(&self.ship.near(), &snapshot, &self.data(self.day));
        self.committed.push((snapshot, self.day));
        ended
    }

    /// All committed snapshots exist, and are intact.
    fn ends(&self) {
        let near = self.ship.near();
        near.run(&["-q", "verify", "--level", "data"]).ends(0);
        for (snapshot, day) in &self.committed {
            assert_restores(&near, snapshot, &self.data(*day));
        }
    }
}

/// Runs a voyage through a proxy that fails at each of `at`, shares of the bytes of a usual run in thousandths.
fn fail_at(faults: impl Iterator<Item = (f64, Fault)>, noise: usize, more: &str) -> [u32; 2] {
    let server = Sshd::shared();
    let proxy = Proxy::start(server.port(), Duration::ZERO);
    let ship = Ship::beside(&server, more);
    ship.goes_to(&server, &server.place_through(proxy.port(), ship.vault()), more);
    let mut voyage = Voyage::new(ship, noise);
    let before = proxy.passed();
    voyage.day(|child| child.wait_with_output().unwrap().into()).ends(0);
    let usual = proxy.passed() - before;
    let mut ends = [0, 0];
    for (share, fault) in faults {
        let at = proxy.passed() + (usual as f64 * share) as u64;
        proxy.fault_at(at, fault);
        let ended = voyage.day(|child| {
            let ended = child.wait_with_output().unwrap().into();
            proxy.fault_at(u64::MAX, fault);
            proxy.up();
            ended
        });
        assert!(matches!(ended.status, 0 | 6), "{fault:?} at {share}: {}: {}", ended.status, ended.err);
        ends[usize::from(ended.status == 6)] += 1;
    }
    voyage.ends();
    ends
}

#[test]
fn a_connection_that_is_cut_or_stalls_at_any_byte_is_got_over() {
    let steps: u32 = if long() { 100 } else { 8 };
    let share = |step: u32| f64::from(step) / f64::from(steps);
    let kinds = [Fault::Cut, Fault::Stall, Fault::Cut, Fault::Pause];
    let faults = (0..steps).map(|step| (share(step), kinds[step as usize % 4]));
    let [done, away] = fail_at(faults, 20_000, IMPATIENT);
    assert_eq!(away, 0, "what is cut once is tried again: {done} were done");
}

#[test]
fn a_host_that_stays_away_ends_with_6_and_the_next_run_finishes() {
    let mut random = random();
    let times = if long() { 500 } else { 4 };
    let faults: Vec<(f64, Fault)> = (0..times).map(|_| (random.below(1000) as f64 / 1000.0, Fault::Down)).collect();
    let more = IMPATIENT.replace("retry_for = '60 s'", "retry_for = '1 s'");
    let [done, away] = fail_at(faults.into_iter(), 3_000_000, &more);
    println!("{away} of {times} runs ended with 6, {done} were done before the host went");
    assert!(away > 0, "the bytes are not random");
}

/// Kills the child after a part of `usual`, unless it has ended.
fn kill_within(mut child: Child, usual: Duration, random: &mut Random) -> Ended {
    std::thread::sleep(usual.mul_f64(random.below(1000) as f64 / 1000.0));
    let _ = child.kill();
    child.wait_with_output().unwrap().into()
}

#[test]
fn kills_of_the_program_and_of_the_sessions_break_nothing() {
    let mut random = random();
    let server = Sshd::start();
    let ship = Ship::beside(&server, IMPATIENT);
    let mut voyage = Voyage::new(ship, 3_000_000);
    let begun = Instant::now();
    voyage.day(|child| child.wait_with_output().unwrap().into()).ends(0);
    let usual = begun.elapsed();
    let (mut killed, mut cut) = (0, 0);
    for turn in 0..if long() { 200 } else { 10 } {
        if turn % 2 == 0 {
            let ended = voyage.day(|child| kill_within(child, usual, &mut random));
            assert!(matches!(ended.status, 0 | -9), "{}: {}", ended.status, ended.err);
            killed += u32::from(ended.status == -9);
        } else {
            let ended = voyage.day(|child| {
                std::thread::sleep(usual.mul_f64(random.below(1000) as f64 / 1000.0));
                cut += u32::from(server.sessions() > 0);
                server.kill_sessions();
                child.wait_with_output().unwrap().into()
            });
            // The first connection isn't tried again: an unreachable host is reported at once.
            assert!(matches!(ended.status, 0 | 6), "{}: {}", ended.status, ended.err);
        }
    }
    println!("{killed} kills of varu and {cut} of its sessions came in time; a run takes {usual:?}");
    assert!(killed > 0 && cut > 0, "the times are not random");
    voyage.ends();
}
