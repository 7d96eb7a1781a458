//! A fresh machine and a far host: what the first listing, a restore of one file, a verification, a rebuild of the index and
//! a backup with nothing new take through a proxy of 100 ms round trip and 1.25 MB/s each way. See `benches/far.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::proxy::Proxy;
use support::sshd::Sshd;

const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Bytes a second in each direction.
const RATE: u32 = 1_250_000;
/// Bytes of the file that is restored alone.
const ONE_FILE: usize = 260_000;
/// Bytes that each day changes.
const CHANGED: usize = 2_000;

fn main() {
    let given: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let counts = if given.is_empty() { vec![10, 501] } else { given };
    let base = tempfile::Builder::new().prefix("varu-bench-").tempdir_in("/var/tmp").unwrap();
    let machine = Machine::new(base.path());
    let mut there = 0;
    println!("{:>9}  {:>22}  {:>7}  {:>6}  {:>8}", "snapshots", "", "s", "turns", "kB");
    for count in counts {
        while there < count {
            machine.change(there);
            machine.varu(&machine.near, "writer", &["backup", "set"]);
            there += 1;
        }
        machine.measure(there);
    }
}

/// A machine with a vault that it reaches as a folder, and over SFTP.
struct Machine {
    base: PathBuf,
    binary: PathBuf,
    server: Sshd,
    near: PathBuf,
}

impl Machine {
    fn new(base: &Path) -> Self {
        let binary = std::env::var_os("VARU").map_or_else(|| env!("CARGO_BIN_EXE_varu").into(), PathBuf::from);
        let server = Sshd::start();
        let near = base.join("near.toml");
        fs::create_dir(base.join("data")).unwrap();
        fs::write(base.join("data/one"), noise(ONE_FILE, 0)).unwrap();
        let machine = Self { base: base.to_owned(), binary, server, near };
        machine.configure(&machine.near, &machine.base.join("vault").display().to_string());
        machine.varu(&machine.near, "writer", &["init"]);
        machine
    }

    fn configure(&self, file: &Path, url: &str) {
        let text = format!(
            "[repository]\nurl = '{url}'\nssh_key = '{}'\nknown_hosts = '{}'\nssh_config = '/dev/null'\n\n\
             [sets.set]\nsource = 'files'\npaths = ['{}']\n",
            self.server.key().display(),
            self.server.known_hosts().display(),
            self.base.join("data").display(),
        );
        fs::write(file, text).unwrap();
    }

    fn change(&self, day: usize) {
        fs::write(self.base.join("data/changing"), noise(CHANGED, day as u64 + 1)).unwrap();
    }

    fn varu(&self, config: &Path, state: &str, words: &[&str]) {
        let mut varu = Command::new(&self.binary);
        varu.arg("--config").arg(config).arg("--state").arg(self.base.join(state)).arg("-q");
        varu.env("VARU_WRITER_KEY", self.base.join("writer.key")).env("VARU_IDENTITY", self.base.join("identity.txt"));
        let status = varu.args(words).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "varu {words:?}: {status}");
    }

    /// Prints the table for so many snapshots.
    fn measure(&self, snapshots: usize) {
        let one = self.base.join("data/one").display().to_string();
        let row = |what: &str, state: &str, words: &[&str]| {
            let proxy = Proxy::start_narrow(self.server.port(), ROUND_TRIP, Some(RATE));
            let far = self.base.join("far.toml");
            self.configure(&far, &self.server.place_through(proxy.port(), self.base.join("vault")).to_string());
            let start = Instant::now();
            self.varu(&far, state, words);
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{snapshots:>9}  {what:>22}  {seconds:>7.1}  {:>6}  {:>8.0}",
                proxy.turns(),
                proxy.passed() as f64 / 1e3
            );
        };
        let fresh = |name: &str| format!("{name}-{snapshots}");
        row("list, fresh", &fresh("list"), &["list"]);
        row("list, warm", &fresh("list"), &["list"]);
        let back = self.base.join(fresh("back")).display().to_string();
        row("one file, fresh", &fresh("one"), &["restore", "set", "--only", &one, "--to", &back]);
        row("verify", &fresh("list"), &["verify"]);
        row("index rebuild", &fresh("list"), &["index", "rebuild"]);
        row("backup, nothing new", "writer", &["backup", "set"]);
        for name in ["list", "one", "back"] {
            fs::remove_dir_all(self.base.join(fresh(name))).unwrap();
        }
    }
}

/// Bytes that nothing can compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}
