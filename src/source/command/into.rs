//! The way back through a program that takes a stream on its standard input.

use std::ffi::OsString;

use super::talk::{Feed, TalkError};
use crate::entry::{Entry, StreamName};
use crate::progress::Interrupt;
use crate::source::remains::{Remains, ServiceName};
use crate::source::{Contents, Error, Plan, Proof, RestoreTarget, Target};
use crate::warning::Warning;

/// The program that is run for each stream.
#[derive(Debug, Clone)]
pub struct RestoreCommands {
    /// The set, for people.
    pub set: String,
    /// The program and its arguments. It finds the stream's name in `VARU_STREAM`.
    pub argv: Vec<OsString>,
}

/// What stands for the server, which only the program knows.
const SERVER: &str = "restore_command";
/// The most bytes that the program may print.
const OUTPUT: usize = 16 << 20;

/// A program that takes streams back, one after the other.
pub struct CommandTarget {
    options: RestoreCommands,
    interrupt: Interrupt,
    streams: usize,
}

impl CommandTarget {
    /// Nothing is started yet.
    pub fn new(options: RestoreCommands, interrupt: &Interrupt) -> Self {
        Self { options, interrupt: interrupt.clone(), streams: 0 }
    }
}

impl RestoreTarget for CommandTarget {
    fn is_definition(&self, _: &Entry) -> bool {
        false
    }

    fn plan(&mut self, contents: Contents<'_>) -> Result<Plan, Error> {
        let taken: Vec<&Entry> = contents.entries.iter().filter(|entry| self.takes(entry)).collect();
        self.streams = taken.len();
        let names: Vec<String> = taken.iter().map(|entry| entry.name.to_string()).collect();
        let is_unfinished = contents.unfinished.has_target(SERVER, &self.options.set);
        let program = self.options.argv.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Plan {
            lines: vec![format!(
                "{} goes to the input of {program:?}, which does with what is there as it does",
                names.join(", ")
            )],
            replaces: if is_unfinished { Vec::new() } else { vec![self.options.set.clone()] },
            bytes: taken.iter().map(|entry| entry.size).sum(),
        })
    }

    /// What the program writes to isn't known. Whoever let it do so once needn't give the reason again.
    fn remains(&self) -> Remains {
        let target = ServiceName { server: SERVER.to_owned(), name: self.options.set.clone() };
        Remains { targets: vec![target], leftovers: Vec::new() }
    }

    fn still_there(&self, _: &[ServiceName]) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn takes(&self, entry: &Entry) -> bool {
        entry.kind.has_content()
    }

    fn prepare(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn max_loaders(&self) -> usize {
        1
    }

    fn loader(&self) -> Result<Box<dyn Target + Send>, Error> {
        Ok(Box::new(CommandLoader { argv: self.options.argv.clone(), interrupt: self.interrupt.clone(), feed: None }))
    }

    /// The program judges by itself, and says so by its status.
    fn verify(&mut self) -> Result<Proof, Error> {
        let times = if self.streams == 1 { String::new() } else { format!(" {} times", self.streams) };
        Ok(Proof { counted: None, checks: format!("its restore_command ended{times} with status 0") })
    }

    fn commit(&mut self, _: &Proof) -> Result<Vec<Warning>, Error> {
        Ok(Vec::new())
    }

    /// What the program did, only it could undo.
    fn discard(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn undone(&self) -> String {
        format!("what the restore_command of {} did is not undone", self.options.set)
    }
}

struct CommandLoader {
    argv: Vec<OsString>,
    interrupt: Interrupt,
    feed: Option<(StreamName, Feed)>,
}

fn failed(name: &StreamName, error: &TalkError) -> Error {
    Error::Failed(format!("the restore_command for {name} failed: {error}"))
}

impl Target for CommandLoader {
    fn wants(&mut self, _: &Entry) -> Result<bool, Error> {
        Ok(true)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        let mut argv = vec![OsString::from("env"), OsString::from(format!("VARU_STREAM={}", entry.name))];
        argv.extend(self.argv.iter().cloned());
        let feed = Feed::start(&argv, OUTPUT, self.interrupt.clone())
            .map_err(|error| Error::failed(&format!("starting the restore_command for {}", entry.name), &error))?;
        self.feed = Some((entry.name.clone(), feed));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.feed {
            Some((name, feed)) => feed.write(bytes).map_err(|error| failed(name, &error)),
            None => Err(Error::Failed("the load had ended before".to_owned())),
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.feed.take() {
            Some((name, feed)) => feed.finish().map(drop).map_err(|error| failed(&name, &error)),
            None => Ok(()),
        }
    }

    fn abandon(&mut self) {
        // It is stopped before its input ends, so that it can't take half a stream for a whole one.
        self.feed = None;
    }

    fn finish(&mut self) -> Result<Vec<Warning>, Error> {
        Ok(Vec::new())
    }
}
