//! The source `command`: the output of a program, as one stream.
//!
//! The program's exit status is part of the end of its output: [`read`](Source::read) returns 0 only after the program has
//! ended with status 0 and its output has passed the gates. It runs in a process group of its own, which ends with the
//! source.

pub mod apart;
pub(in crate::source) mod group;
pub mod into;
pub mod many;
pub mod talk;
pub(in crate::source) mod tail;

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{ChildStderr, ChildStdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::group::{Pipes, ProcessGroup, ProgramEnd};
use self::tail::{LineCutter, Tail};
use super::{Error, Finished, Source};
use crate::entry::{Entry, Escaped, Kind, StreamName};
use crate::facts::Facts;
use crate::progress::{Interrupt, Progress};
use crate::time::{Clock, Timestamp, format_duration};
use crate::warning::Warning;

/// The program to run, and the conditions for its output.
#[derive(Debug, Clone)]
pub struct CommandOptions {
    /// The stream's name.
    pub name: StreamName,
    /// The program and its arguments. No shell comes between.
    pub argv: Vec<OsString>,
    /// A text that must stand in the last [`CommandSource::COMPLETION`] bytes of the output: the dump's completion line.
    pub completion: Option<String>,
    /// The fewest bytes that the output may have.
    pub min_size: u64,
    /// How long the output may stay open, without a byte, after the program has ended: something that it started holds it.
    pub linger: Duration,
    /// How long the program may write nothing, to its output or to stderr, while its output is waited for.
    pub stall_limit: Duration,
    /// How long the process group has to end by itself when the source is dropped.
    pub grace: Duration,
    /// Begins of lines on stderr that say nothing about this run, and aren't passed on.
    pub unsaid: &'static [&'static str],
}

impl CommandOptions {
    /// Runs `argv` for the stream `name`, without gates, with 10 s to linger, an hour to be silent and 5 s of grace.
    pub fn new(name: StreamName, argv: Vec<OsString>) -> Self {
        let (linger, grace) = (Duration::from_secs(10), Duration::from_secs(5));
        Self { name, argv, completion: None, min_size: 0, linger, stall_limit: STALL_LIMIT, grace, unsaid: &[] }
    }
}

/// The key that says how long, which an error names and which is its code.
pub(in crate::source) const STALLED: &str = "stall_limit";
/// How long a program may write nothing where nobody says otherwise.
pub const STALL_LIMIT: Duration = Duration::from_secs(3600);

/// A running program. Its stderr is passed to the progress as notes, line by line.
pub struct CommandSource {
    options: CommandOptions,
    group: ProcessGroup,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    errors: Tail,
    error_lines: LineCutter,
    output: Tail,
    bytes: u64,
    /// Since when it is waited for something from it.
    waiting: Instant,
    /// Why nothing follows the bytes that were read last.
    broken: Option<Error>,
    state: State,
    started: Timestamp,
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Reading,
    Complete,
}

impl CommandSource {
    /// Where in the output the completion text must stand: in this many bytes at its end.
    pub const COMPLETION: usize = 4096;
    /// How much of stderr an error repeats, in bytes.
    const STDERR: usize = 2048;
    /// How often a silent program is looked after.
    const LOOK: Duration = Duration::from_millis(100);
    /// How long an empty pipe is left alone. A dump program writes 4 KiB at a time, and to wake up for each takes more time
    /// than to read it.
    const NAP: Duration = Duration::from_millis(2);

    /// Starts the program. The data time is `clock`'s now. A set `interrupt` makes the next read fail, also while the
    /// program says nothing.
    ///
    /// # Errors
    /// [`Error::Failed`] where the program can't be started.
    pub fn new(
        options: CommandOptions,
        clock: &dyn Clock,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> Result<Self, Error> {
        let started = clock.now();
        let (group, Pipes { stdout, stderr }) = ProcessGroup::spawn(&options.argv, options.grace)
            .map_err(|error| Error::failed(&format!("starting {} for {}", program(&options), options.name), &error))?;
        Ok(Self {
            options,
            group,
            stdout,
            stderr: Some(stderr),
            errors: Tail::new(Self::STDERR),
            error_lines: LineCutter::new(),
            output: Tail::new(Self::COMPLETION),
            bytes: 0,
            waiting: Instant::now(),
            broken: None,
            state: State::New,
            started,
            progress,
            interrupt,
        })
    }

    fn entry(&self) -> Entry {
        Entry { name: self.options.name.clone(), kind: Kind::Data, size: self.bytes, metadata: None }
    }

    /// An error with the program's end, and its last message.
    fn failed(&self, what: impl std::fmt::Display) -> Error {
        let said = self.errors.shown().map_or_else(
            || "; it wrote nothing to stderr".to_owned(),
            |lines| format!("; the last that it wrote to stderr:{lines}"),
        );
        Error::Failed(format!("{} (stream {}) {what}{said}", program(&self.options), self.options.name))
    }

    fn io_failed(&self, tried: &str, error: &io::Error) -> Error {
        Error::failed(&format!("{tried} {}", program(&self.options)), error)
    }

    /// Reads the present stderr.
    fn drain_stderr(&mut self) {
        let prefix = program(&self.options);
        let progress = &self.progress;
        let unsaid = self.options.unsaid;
        let show = |line: &str| {
            if !unsaid.iter().any(|begin| line.starts_with(begin)) {
                progress.note(&format!("{prefix}: {line}"));
            }
        };
        let mut buffer = [0; 4096];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(n) if n > 0 => {
                    self.waiting = Instant::now();
                    self.errors.push(&buffer[..n]);
                    self.error_lines.push(&buffer[..n], show);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    self.error_lines.flush(show);
                    self.stderr = None;
                }
            }
        }
    }

    /// Waits until there may be something new, `most` at the longest, and reads stderr.
    fn look(&mut self, stdout: bool, most: Duration) -> Result<(), Error> {
        if self.interrupt.is_set() {
            return Err(self.failed("was stopped because the run was interrupted"));
        }
        if self.waiting.elapsed() >= self.options.stall_limit {
            let limit = format_duration(self.options.stall_limit);
            let error = self.failed(format!(
                "wrote nothing for {limit}, the set's {STALLED}, and was ended with all that it started; where it only takes \
                 long, {STALLED} gives it more time"
            ));
            return Err(Error::Server { code: STALLED.to_owned(), text: error.to_string() });
        }
        let mut ends = Vec::with_capacity(2);
        if stdout {
            ends.push(PollFd::new(&self.stdout, PollFlags::IN));
        }
        if let Some(stderr) = &self.stderr {
            ends.push(PollFd::new(stderr, PollFlags::IN));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: most.subsec_nanos().into() };
        match poll(&mut ends, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.drain_stderr(),
            Err(error) => return Err(self.io_failed("waiting for", &error.into())),
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ProgramEnd>, Error> {
        self.group.ended().map_err(|error| self.io_failed("waiting for", &error))
    }

    /// An error where the program has ended with anything but status 0.
    fn check(&mut self, ended: Option<ProgramEnd>) -> Result<(), Error> {
        match ended {
            None | Some(ProgramEnd::Status(0)) => Ok(()),
            Some(ended) => {
                self.drain_stderr();
                Err(self.failed(ended))
            }
        }
    }

    /// Bytes of the output, at least one; 0 at its end.
    fn pull(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let (mut silent_since, mut rested) = (None, false);
        self.waiting = Instant::now();
        loop {
            match self.stdout.read(buffer) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !rested => {
                    std::thread::sleep(Self::NAP);
                    rested = true;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.io_failed("reading the output of", &error)),
            }
            let ended = self.ended()?;
            self.check(ended)?;
            let since = *silent_since.get_or_insert_with(Instant::now);
            if ended.is_none() {
                silent_since = None;
            } else if since.elapsed() >= self.options.linger {
                return Err(self.failed(
                    "has ended, but something that it started still holds its output open, so the output's end can't be \
                     known: let it close its output, or redirect it",
                ));
            }
            self.look(true, Self::LOOK)?;
        }
    }

    /// After the last byte: waits for the program's end, and looks at the gates.
    fn complete(&mut self) -> Result<(), Error> {
        let mut pause = Duration::from_millis(1);
        self.waiting = Instant::now();
        let ended = loop {
            if let Some(ended) = self.ended()? {
                break ended;
            }
            self.look(false, pause)?;
            if self.stderr.is_none() {
                std::thread::sleep(pause);
            }
            pause = (pause * 2).min(Self::LOOK);
        };
        self.drain_stderr();
        self.check(Some(ended))?;
        if self.bytes < self.options.min_size {
            let (bytes, min) = (self.bytes, self.options.min_size);
            return Err(self.failed(format!("wrote {bytes} bytes, fewer than the {min} that min_size asks for")));
        }
        match &self.options.completion {
            Some(text) if !self.output.contains(text.as_bytes()) => {
                Err(self
                    .failed(format!("ended with status 0, but its output doesn't end with {text:?}: it isn't whole")))
            }
            _ => Ok(()),
        }
    }
}

impl Source for CommandSource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        match self.state {
            State::New => {
                self.state = State::Reading;
                Ok(Some(self.entry()))
            }
            State::Reading => Err(self.failed("was not read to its end")),
            State::Complete => Ok(None),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.state != State::Reading {
            return Ok(0);
        }
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.pull(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if filled == 0 => return Err(error),
                // Earlier output is returned first: it shows how far the program came.
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        self.output.push(&buffer[..filled]);
        self.bytes += filled as u64;
        if filled == 0 && !buffer.is_empty() {
            self.complete()?;
            self.state = State::Complete;
        }
        Ok(filled)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        Ok(self.entry())
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        match self.state {
            State::Complete => Ok(Finished { data_time: self.started, facts: Facts::default() }),
            State::New | State::Reading => Err(self.failed("was not read to its end")),
        }
    }

    fn warnings(&mut self) -> Vec<Warning> {
        Vec::new()
    }
}

/// The program's name for people. Arguments may hold secrets, and are never shown.
fn program(options: &CommandOptions) -> String {
    use std::os::unix::ffi::OsStrExt;
    options.argv.first().map(|program| Escaped(program.as_bytes()).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
