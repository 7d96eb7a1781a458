//! A machine with a configuration of one set, and a repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{Ended, Machine};

pub struct Site {
    pub machine: Machine,
    /// The set's name.
    pub set: &'static str,
    _folder: tempfile::TempDir,
}

impl Site {
    /// A site whose set `set` has these lines.
    pub fn new(set: &'static str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { machine: Machine::new(folder.path()), set, _folder: folder };
        site.machine.init();
        site.configure(lines);
        site
    }

    /// Writes the configuration anew, with these lines in the set.
    pub fn configure(&self, lines: &str) {
        self.write(&format!("[sets.{}]\n{lines}\n", self.set));
    }

    /// Writes the whole configuration.
    pub fn write(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.machine.at("varu.toml")
    }

    /// The program with the configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut varu = self.machine.varu(&["--config"]);
        varu.arg(self.config()).args(words);
        varu
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        self.command(words).output().unwrap().into()
    }

    #[track_caller]
    pub fn back_up(&self) -> String {
        let ended = self.run(&["--json", "-q", "backup", self.set]).ends(0);
        ended.json()["snapshot"]["id"].as_str().unwrap().to_owned()
    }

    pub fn snapshots(&self) -> usize {
        self.run(&["--json", "list"]).json()["snapshots"].as_array().unwrap().len()
    }

    /// A program that runs its arguments; if they match `pattern`, a case of bash, through the line `filter`. It is run
    /// in the site's folder.
    pub fn wrapper(&self, pattern: &str, filter: &str) -> PathBuf {
        let path = self.machine.at("wrapper");
        let text = format!(
            "#!/bin/bash\nset -o pipefail\ncase \"$*\" in *--help*) exec \"$@\" ;; {pattern}) ;; *) exec \"$@\" ;; esac\ncd \
             {}\n{filter}\n",
            self.machine.top.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

/// Tells a thread to end, at the end of a block or where that fails.
pub struct Stop<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A small file system of its own on a folder.
pub struct Small(PathBuf);

impl Small {
    /// None if nothing can be mounted.
    pub fn on(folder: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&folder).output();
        match mounted.is_ok_and(|mounted| mounted.status.success()) {
            true => Some(Self(folder)),
            false => {
                eprintln!("skipped: nothing can be mounted");
                None
            }
        }
    }
}

impl Small {
    /// Fills it, but for so many bytes. Earlier filling is freed.
    pub fn fill(&self, leaving: u64) {
        self.empty();
        let stat = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&self.0).output().unwrap();
        let text = String::from_utf8(stat.stdout).unwrap();
        let free: u64 = text.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product();
        let bytes = free.saturating_sub(leaving).to_string();
        assert!(Command::new("fallocate").args(["-l", &bytes]).arg(self.ballast()).status().unwrap().success());
    }

    /// Removes the filling.
    pub fn empty(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A number below 1,000, without a pattern.
pub fn random(round: u64) -> u64 {
    (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) % 1000
}

/// A wrapper's line by which the program tells its number, for [`Site::kill_told`].
pub const TELLING: &str = "\"$@\" & echo $! > program.pid; wait $!";

impl Site {
    /// Whether a program has told its number since the last [`Site::forget_told`].
    pub fn has_told(&self) -> bool {
        !fs::read(self.machine.at("program.pid")).unwrap_or_default().is_empty()
    }

    /// Forgets the number that a program told.
    pub fn forget_told(&self) {
        let _ = fs::remove_file(self.machine.at("program.pid"));
    }

    /// Kills the program that told its number, if one did.
    pub fn kill_told(&self) {
        if let Ok(pid) = fs::read_to_string(self.machine.at("program.pid")) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status();
        }
    }
}

impl Site {
    /// Starts the program, and kills it once `is_time`. What its clients were given is run by then.
    #[track_caller]
    pub fn kill_when(&self, words: &[&str], is_time: impl Fn() -> bool) {
        let mut running = self.command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !is_time() {
            assert!(running.try_wait().unwrap().is_none(), "it ended before it was killed");
            assert!(begun.elapsed() < Duration::from_secs(60), "the time doesn't come");
        }
        running.kill().unwrap();
        let ended = running.wait_with_output().unwrap();
        assert!(!ended.status.success(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Backups that something was killed under.
pub struct Attacked {
    /// Snapshots by now.
    pub snapshots: usize,
    /// Backups that failed.
    pub cut: u32,
}

impl Attacked {
    /// Sees that one that ended well made a snapshot, and one that failed none. One that was killed after its commit could
    /// not say so: `is_victim`.
    #[track_caller]
    pub fn ended(&mut self, site: &Site, ended: &Output, is_victim: bool, what: &str) {
        let made = site.snapshots();
        match ended.status.success() {
            true => assert_eq!(made, self.snapshots + 1, "{what}"),
            false if is_victim => assert!(made <= self.snapshots + 1, "{what}"),
            false => assert_eq!(made, self.snapshots, "{what}: {}", String::from_utf8_lossy(&ended.stderr)),
        }
        self.cut += u32::from(!ended.status.success());
        self.snapshots = made;
    }
}

/// Whether the long counts are wanted.
pub fn is_long() -> bool {
    std::env::var_os("VARU_TEST_LONG").is_some()
}
