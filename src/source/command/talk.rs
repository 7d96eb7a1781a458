//! Programs that are given something to read: a question with its answer, and a feed that only has to be taken.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::apart::Apart;
use super::group::{Pipes, ProcessGroup, ProgramEnd};
use super::tail::Tail;
use crate::progress::Interrupt;
use crate::time::format_duration;

/// How much of stderr an error keeps, in bytes.
const STDERR: usize = 2048;
/// How often a silent program is looked after.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program has to end by itself when it is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// How long a program may neither take nor write a byte. Its input may make it work silently for hours: an index of a
/// large table.
const STALL_LIMIT: Duration = Duration::from_secs(12 * 3600);

/// The failure of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TalkError {
    /// The event: `ended with exit status 1`.
    pub what: String,
    /// The last that it wrote to stderr, at most 2 KiB, lines as they came.
    pub said: String,
}

impl fmt::Display for TalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said.is_empty() {
            true => write!(f, "it {}; it wrote nothing to stderr", self.what),
            false => write!(f, "it {}; the last that it wrote to stderr: {}", self.what, self.said),
        }
    }
}

/// A running program, and its input.
pub struct Feed {
    group: ProcessGroup,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    errors: Tail,
    /// Its stdout, if that is kept.
    output: Vec<u8>,
    most: usize,
    interrupt: Interrupt,
    deadline: Option<Instant>,
    /// When something last went to it or came from it, or it began to be waited for.
    moved: Instant,
    stall_limit: Duration,
    /// A text on stderr after which nothing good comes.
    hopeless: Option<&'static str>,
}

impl Feed {
    /// Starts `argv`. Up to `most` bytes of its output are kept; more than that is an error.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn start(argv: &[OsString], most: usize, interrupt: Interrupt) -> io::Result<Self> {
        Self::start_in(argv, None, None, most, interrupt)
    }

    /// As [`Feed::start`], with these variables as its whole environment where they are given, and
    /// [`Apart`] from this machine where that is.
    ///
    /// # Errors
    /// As [`Feed::start`].
    pub fn start_in(
        argv: &[OsString],
        environment: Option<&[(OsString, OsString)]>,
        apart: Option<Apart>,
        most: usize,
        interrupt: Interrupt,
    ) -> io::Result<Self> {
        let (group, Pipes { stdout, stderr }, stdin) = ProcessGroup::spawn_fed(argv, environment, apart, GRACE)?;
        fcntl_setfl(&stdin, fcntl_getfl(&stdin)? | OFlags::NONBLOCK)?;
        let (stdin, stdout, stderr) = (Some(stdin), Some(stdout), Some(stderr));
        let (errors, output) = (Tail::new(STDERR), Vec::new());
        let (moved, stall_limit) = (Instant::now(), STALL_LIMIT);
        let (deadline, hopeless) = (None, None);
        Ok(Self {
            group,
            stdin,
            stdout,
            stderr,
            errors,
            output,
            most,
            interrupt,
            deadline,
            moved,
            stall_limit,
            hopeless,
        })
    }

    /// It has to have ended after that time.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.deadline = Some(Instant::now() + limit);
        self
    }

    /// Up to `most` bytes of its stderr are kept, for [`Feed::take_said`].
    pub fn keeping(mut self, most: usize) -> Self {
        self.errors = Tail::new(most);
        self
    }

    /// The program's stderr since the last call.
    ///
    /// # Errors
    /// Where its output can't be read.
    pub fn take_said(&mut self) -> Result<Vec<u8>, TalkError> {
        self.drain().map_err(|what| self.failed(what))?;
        Ok(self.errors.take())
    }

    /// It is stopped once it writes this to stderr.
    pub fn stopping_at(mut self, text: &'static str) -> Self {
        self.hopeless = Some(text);
        self
    }

    fn failed(&mut self, what: impl fmt::Display) -> TalkError {
        let _ = self.drain();
        TalkError { what: what.to_string(), said: self.errors.shown().unwrap_or_default() }
    }

    /// Reads the program's output.
    fn drain(&mut self) -> Result<(), String> {
        let mut buffer = [0; 1 << 14];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(0) => self.stderr = None,
                Ok(length) => {
                    self.moved = Instant::now();
                    self.errors.push(&buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.stderr = None,
            }
        }
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(&mut buffer) {
                Ok(0) => self.stdout = None,
                Ok(length) if self.output.len() + length > self.most => {
                    return Err(format!("wrote more than {} bytes", self.most));
                }
                Ok(length) => {
                    self.moved = Instant::now();
                    self.output.extend_from_slice(&buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("can't be read from: {error}")),
            }
        }
        Ok(())
    }

    /// Waits a little for anything to happen, also for space in the input if `writing`, and reads the program's output.
    fn look(&mut self, wait: Duration, writing: bool) -> Result<(), TalkError> {
        if self.interrupt.is_set() {
            return Err(self.failed("was stopped because the run was interrupted"));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(self.failed("did not end in its time"));
        }
        if self.moved.elapsed() >= self.stall_limit {
            let limit = format_duration(self.stall_limit);
            return Err(self.failed(format!("neither took nor wrote anything for {limit}, and was ended")));
        }
        if self.hopeless.is_some_and(|text| self.errors.contains(text.as_bytes())) {
            return Err(self.failed("was stopped"));
        }
        let mut ends = Vec::with_capacity(3);
        ends.extend(
            self.stdin.as_ref().filter(|_| writing).map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::OUT)),
        );
        ends.extend(self.stdout.as_ref().map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)));
        ends.extend(self.stderr.as_ref().map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)));
        match ends.is_empty() {
            true => std::thread::sleep(wait),
            false => {
                let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
                let _ = poll(&mut ends, Some(&timeout));
            }
        }
        self.drain().map_err(|what| self.failed(what))
    }

    /// Gives the program all of `bytes`.
    ///
    /// # Errors
    /// Where it has ended, or the run is interrupted.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), TalkError> {
        self.moved = Instant::now();
        while !bytes.is_empty() {
            let Some(stdin) = &mut self.stdin else { return Err(self.failed("was written to after its end")) };
            match stdin.write(bytes) {
                Ok(length) => {
                    self.moved = Instant::now();
                    bytes = &bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.look(LOOK, true)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Its own message explains why it takes no more.
                Err(_) => {
                    self.stdin = None;
                    let ended = self.wait()?;
                    return Err(self.failed(format!("{ended} before it had read all")));
                }
            }
        }
        Ok(())
    }

    /// The program's output since the last answer, up to a line `end`, which it has to write within `limit`.
    ///
    /// # Errors
    /// Where it doesn't, or has ended.
    pub fn answer(&mut self, end: &str, limit: Duration) -> Result<Vec<u8>, TalkError> {
        self.deadline = Some(Instant::now() + limit);
        let line = format!("{end}\n");
        loop {
            let before = self.output.strip_suffix(line.as_bytes());
            if before.is_some_and(|before| before.is_empty() || before.ends_with(b"\n")) {
                let mut answer = std::mem::take(&mut self.output);
                answer.truncate(answer.len() - line.len());
                self.deadline = None;
                return Ok(answer);
            }
            if self.stdout.is_none() {
                let ended = self.wait()?;
                return Err(self.failed(ended));
            }
            self.look(LOOK, false)?;
        }
    }

    fn wait(&mut self) -> Result<ProgramEnd, TalkError> {
        self.moved = Instant::now();
        loop {
            let ended = self.group.ended().map_err(|error| self.failed(format!("can't be waited for: {error}")))?;
            if let Some(ended) = ended {
                self.drain().map_err(|what| self.failed(what))?;
                return Ok(ended);
            }
            // A program that has closed its output is about to end.
            let closing = self.stdout.is_none() && self.stderr.is_none();
            self.look(if closing { Duration::from_millis(1) } else { LOOK }, false)?;
        }
    }

    /// Ends the input, and waits for the program's end. Returns its output.
    ///
    /// # Errors
    /// Where it doesn't end with status 0.
    pub fn finish(self) -> Result<Vec<u8>, TalkError> {
        match self.finish_anyway()? {
            (output, None) => Ok(output),
            (_, Some(error)) => Err(error),
        }
    }

    /// As [`Feed::finish`], but its output also counts if it ended with another status, which is returned, too.
    ///
    /// # Errors
    /// Where it can't be waited for.
    pub fn finish_anyway(mut self) -> Result<(Vec<u8>, Option<TalkError>), TalkError> {
        self.stdin = None;
        let error = match self.wait()? {
            ProgramEnd::Status(0) => None,
            ended => Some(self.failed(ended)),
        };
        Ok((std::mem::take(&mut self.output), error))
    }
}

/// Runs `argv`, gives it `question` and returns its answer: at most `most` bytes, within `limit`.
///
/// # Errors
/// Where it can't be started or doesn't end with status 0.
pub fn ask(
    argv: &[OsString],
    question: &[u8],
    most: usize,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<Vec<u8>, TalkError> {
    let started = Feed::start(argv, most, interrupt.clone());
    let not_started = |error: io::Error| TalkError { what: format!("can't be started: {error}"), said: String::new() };
    let mut feed = started.map_err(not_started)?.with_limit(limit);
    feed.write(question)?;
    feed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_sh(script: &str, question: &[u8], most: usize, limit: Duration) -> Result<Vec<u8>, TalkError> {
        let argv = ["sh", "-c", script].map(OsString::from);
        ask(&argv, question, most, limit, &Interrupt::default())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_question_of_any_size_is_answered() {
        let question: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        assert!(ask_sh("cat", &question, 1 << 22, LONG).unwrap() == question);
        assert!(ask_sh("cat", &question, 1 << 20, LONG).unwrap_err().what.contains("more than 1048576 bytes"));
    }

    #[test]
    fn one_program_answers_several_questions() {
        let argv = ["sh", "-c", "while read x; do test $x = bad && exit 5; echo a $x; echo; echo end; done"];
        let mut feed = Feed::start(&argv.map(OsString::from), 100, Interrupt::default()).unwrap();
        for question in ["1", "2"] {
            feed.write(format!("{question}\n").as_bytes()).unwrap();
            assert_eq!(feed.answer("end", LONG).unwrap(), format!("a {question}\n\n").as_bytes());
        }
        assert_eq!(feed.answer("end", Duration::from_millis(50)).unwrap_err().what, "did not end in its time");
        feed.write(b"bad\n").unwrap();
        assert_eq!(feed.answer("end", LONG).unwrap_err().what, "ended with exit status 5");
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let error = ask_sh("echo no >&2; exit 3", &[b'x'; 1 << 20], 10, LONG).unwrap_err();
        assert_eq!((error.what.as_str(), error.said.trim()), ("ended with exit status 3 before it had read all", "no"));
        let error = ask_sh("cat >/dev/null; exit 4", b"x", 10, LONG).unwrap_err();
        assert_eq!((error.what.as_str(), error.said.as_str()), ("ended with exit status 4", ""));
        assert!(ask_sh("sleep 100", b"", 10, Duration::from_millis(50)).unwrap_err().what.contains("in its time"));
        let argv = ["sh", "-c", "while sleep 0.02; do echo .; done"].map(OsString::from);
        let mut feed = Feed::start(&argv, 1 << 20, Interrupt::default()).unwrap();
        feed.stall_limit = Duration::from_millis(300);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(600) {
            feed.look(LOOK, false).unwrap();
        }
        for script in ["sleep 100", "exec sleep 100 >/dev/null 2>&1"] {
            let argv = ["sh", "-c", script].map(OsString::from);
            let mut feed = Feed::start(&argv, 1, Interrupt::default()).unwrap();
            feed.stall_limit = Duration::from_millis(100);
            let error = feed.write(&vec![0; 1 << 20]).unwrap_err();
            assert_eq!(error.what, "neither took nor wrote anything for 100 ms, and was ended");
            let mut feed = Feed::start(&argv, 1, Interrupt::default()).unwrap();
            feed.stall_limit = Duration::from_millis(100);
            assert!(feed.finish().unwrap_err().what.contains("neither took nor wrote"));
        }
        let argv = ["sh", "-c", "echo 'no way' >&2; sleep 100"].map(OsString::from);
        let feed = Feed::start(&argv, 1, Interrupt::default()).unwrap().stopping_at("no way");
        assert_eq!(feed.finish().unwrap_err().what, "was stopped");
        let argv = [OsString::from("/does/not/exist")];
        assert!(ask(&argv, b"", 1, LONG, &Interrupt::default()).unwrap_err().what.starts_with("can't be started"));
    }
}
