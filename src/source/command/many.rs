//! Several programs, one after the other: each one's output is a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{CommandOptions, CommandSource};
use crate::entry::Entry;
use crate::facts::Facts;
use crate::progress::{Interrupt, Progress};
use crate::source::{Error, Finished, Source};
use crate::time::{Clock, SystemClock, Timestamp};
use crate::warning::Warning;

/// The outputs of several programs. Each starts when the one before it has ended well.
pub struct CommandsSource {
    waiting: VecDeque<CommandOptions>,
    current: Option<CommandSource>,
    started: Timestamp,
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
}

impl CommandsSource {
    /// Runs `commands` in that order. The data time is `clock`'s now.
    pub fn new(
        commands: Vec<CommandOptions>,
        clock: &dyn Clock,
        progress: Arc<dyn Progress>,
        interrupt: Interrupt,
    ) -> Self {
        Self { waiting: commands.into(), current: None, started: clock.now(), progress, interrupt }
    }

    fn current(&mut self) -> Result<&mut CommandSource, Error> {
        self.current.as_mut().ok_or_else(|| Error::Failed("no program runs".to_owned()))
    }

    fn close(&mut self) -> Result<(), Error> {
        self.current.take().map_or(Ok(()), |mut current| current.finish().map(drop))
    }
}

impl Source for CommandsSource {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.close()?;
        let Some(options) = self.waiting.pop_front() else { return Ok(None) };
        let mut command = CommandSource::new(options, &SystemClock, self.progress.clone(), self.interrupt.clone())?;
        let entry = command.next()?;
        self.current = Some(command);
        Ok(entry)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.current()?.read(buffer)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        self.current()?.end()
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        self.close()?;
        match self.waiting.front() {
            Some(left) => Err(Error::Failed(format!("the program of {} was not run", left.name))),
            None => Ok(Finished { data_time: self.started, facts: Facts::default() }),
        }
    }

    fn warnings(&mut self) -> Vec<Warning> {
        Vec::new()
    }
}
