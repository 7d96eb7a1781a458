//! A machine with a configuration of one set, and a repository.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::machine::{Ended, Machine};

pub struct Site {
    pub machine: Machine,
    /// The set's name.
    pub set: &'static str,
    folder: tempfile::TempDir,
}

impl Site {
    /// A site whose set `set` has these lines.
    pub fn new(set: &'static str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { machine: Machine::new(folder.path()), set, folder };
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

    /// A program that runs what it is given; where its words match `pattern`, a case of bash, by the line `filter`. It is run in
    /// the site's folder.
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
    /// None where nothing can be mounted.
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
    /// Fills it, but for so many bytes. What was filled before is free again.
    pub fn fill(&self, leaving: u64) {
        self.empty();
        let stat = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&self.0).output().unwrap();
        let text = String::from_utf8(stat.stdout).unwrap();
        let free: u64 = text.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product();
        let bytes = free.saturating_sub(leaving).to_string();
        assert!(Command::new("fallocate").args(["-l", &bytes]).arg(self.ballast()).status().unwrap().success());
    }

    /// Takes away what filled it.
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

/// Whether the long counts are wanted.
pub fn is_long() -> bool {
    std::env::var_os("VARU_TEST_LONG").is_some()
}
