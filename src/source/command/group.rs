//! A program and all that it starts, as one process group.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid};

use super::apart::Apart;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum ProgramEnd {
    /// It returned this exit status.
    Status(i32),
    /// This signal killed it.
    Signal(i32),
}

impl fmt::Display for ProgramEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ProgramEnd::Status(status) => write!(f, "ended with exit status {status}"),
            ProgramEnd::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
                Ok(signal) => write!(f, "was killed by signal {number} ({signal})"),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// The variables of a program's environment.
pub(in crate::source) type Variables = [(OsString, OsString)];

/// A program in a process group of its own. Dropped, it leaves no process of the group alive.
pub(in crate::source) struct ProcessGroup {
    child: Child,
    pid: Pid,
    grace: Duration,
    reaped: bool,
    /// Dropped after all of the group has ended.
    _guardian: Option<Guardian>,
}

/// A process that kills a group when this program is gone without having ended it: killed itself, or out of memory. A dump
/// program that nobody reads may go on for ever, with its locks on tables.
struct Guardian {
    child: Child,
    /// Its end of the pipe closes with this program, however that ends.
    stdin: Option<ChildStdin>,
}

impl Guardian {
    /// Waits for a line, and kills the group where the pipe ends without one.
    const SCRIPT: &str = r#"read -r done || kill -s KILL -- "-$1""#;

    /// None where there is no shell, and the group goes unguarded.
    fn of(group: Pid) -> Option<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", Self::SCRIPT, "sh", &group.as_raw_nonzero().to_string()]).process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let stdin = child.stdin.take();
        Some(Self { child, stdin })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // Where it is gone already there is nobody to tell.
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.child.wait();
    }
}

/// The near ends of a program's output. Reading never blocks.
pub(in crate::source) struct Pipes {
    pub(in crate::source) stdout: ChildStdout,
    pub(in crate::source) stderr: ChildStderr,
}

/// Bytes that a program can write before it has to wait for us; Linux gives no more to everybody.
const PIPE: usize = 1 << 20;

struct Started {
    group: ProcessGroup,
    pipes: Pipes,
}

impl ProcessGroup {
    /// Starts `argv` without input. When the group is stopped, `grace` lies between asking and killing.
    pub(in crate::source) fn spawn(argv: &[OsString], grace: Duration) -> io::Result<(Self, Pipes)> {
        let Started { group, pipes } = Self::start(argv, None, None, grace, Stdio::null())?;
        Ok((group, pipes))
    }

    /// As [`ProcessGroup::spawn`], with a pipe as input, and with these variables as its whole environment where they are given, and
    /// [`Apart`] from this machine where that is.
    pub(in crate::source) fn spawn_fed(
        argv: &[OsString],
        environment: Option<&Variables>,
        apart: Option<Apart>,
        grace: Duration,
    ) -> io::Result<(Self, Pipes, ChildStdin)> {
        let start = || Self::start(argv, environment, apart, grace, Stdio::piped());
        let Started { mut group, pipes } = apart.map_or_else(start, |apart| apart.start(start))?;
        let stdin = group.child.stdin.take().ok_or_else(|| io::Error::other("its input has no pipe"))?;
        Ok((group, pipes, stdin))
    }

    fn start(
        argv: &[OsString],
        environment: Option<&Variables>,
        apart: Option<Apart>,
        grace: Duration,
        stdin: Stdio,
    ) -> io::Result<Started> {
        let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no program is given"))?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        if let Some(variables) = environment {
            command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        }
        if let Some(apart) = apart {
            apart.settle(&mut command);
        }
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let pipes = child.stdout.take().zip(child.stderr.take());
        let group = Self { child, pid, grace, reaped: false, _guardian: Guardian::of(pid) };
        let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("its output has no pipe"))?;
        fcntl_setfl(&stdout, fcntl_getfl(&stdout)? | OFlags::NONBLOCK)?;
        fcntl_setfl(&stderr, fcntl_getfl(&stderr)? | OFlags::NONBLOCK)?;
        // Where a user's pipes have used up their pages it stays as small as it was, and only costs time.
        let _ = fcntl_setpipe_size(&stdout, PIPE);
        Ok(Started { group, pipes: Pipes { stdout, stderr } })
    }

    /// How the program itself ended, None while it runs. It stays a zombie, so that the group's number stays taken.
    pub(in crate::source) fn ended(&self) -> io::Result<Option<ProgramEnd>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), options)?.map(|status| {
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ProgramEnd::Status(code),
                (None, signal) => ProgramEnd::Signal(signal.unwrap_or_default()),
            }
        }))
    }

    /// Whether a process of the group is left. Reaps the program once it has ended.
    fn alive(&mut self) -> bool {
        if !self.reaped {
            self.reaped = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
        }
        !self.reaped || test_kill_process_group(self.pid).is_ok()
    }

    /// Asks all of the group to end (TERM), and kills the rest after the grace.
    fn stop(&mut self) {
        let _ = kill_process_group(self.pid, Signal::TERM);
        let deadline = Instant::now() + self.grace;
        let mut pause = Duration::from_millis(1);
        while self.alive() {
            if Instant::now() >= deadline {
                let _ = kill_process_group(self.pid, Signal::KILL);
                break;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        if !self.reaped {
            let _ = self.child.wait();
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.stop();
    }
}
