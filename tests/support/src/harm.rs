//! A program that strace harms at one of its calls: it is killed there, or the call fails.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::Ended;

/// Calls that change a disk's content.
pub const MUTATING: [&str; 15] = [
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "fsync",
    "fdatasync",
    "write",
    "pwrite64",
    "ftruncate",
    "fallocate",
];

/// The power goes, or the program is killed.
pub const KILLED: &str = "signal=KILL";
/// The disk is full.
pub const FULL: &str = "error=ENOSPC";

/// Runs a command that is harmed at its `n`-th call of one kind. None if it made fewer. `log` is a file for strace.
pub fn harmed(command: &Command, log: &Path, call: &str, n: usize, how: &str) -> Option<Ended> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log).args(["-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:{how}:when={n}")]);
    strace.arg(command.get_program()).args(command.get_args()).env_clear();
    strace.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ended = Ended::from(strace.stdin(Stdio::null()).output().expect("strace is there (tests/run installs it)"));
    let log = fs::read_to_string(log).unwrap();
    (log.contains("INJECTED") || log.contains("killed by SIGKILL")).then_some(ended)
}
