//! What is seen of an operation while it runs, and its warnings, which are said last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varu::progress::{Counter, Progress};

use super::context::{Context, Verbosity};
use super::exit::ExitStatus;
use crate::terminal::{Style, Terminal};

/// Draws progress, and keeps warnings for the end. Those that were not said are said when it is dropped, so none is lost
/// with an operation that fails.
pub struct Watch {
    terminal: Terminal,
    warnings: Mutex<Vec<String>>,
}

impl Watch {
    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says several lines that a person should read now.
    pub fn note_lines(&self, text: &str) {
        text.lines().for_each(|line| self.terminal.note(line));
    }

    /// Ends what is drawn, and takes in the warnings of the operation's result. Returns all, each once. To be called before
    /// the result is printed.
    pub fn end(&self, more: &[String]) -> Vec<String> {
        self.terminal.end();
        more.iter().for_each(|warning| self.warn(warning));
        self.warnings().clone()
    }

    /// Says all warnings. The status with which an operation ends that had them.
    pub fn say_warnings(&self) -> ExitStatus {
        let warnings = std::mem::take(&mut *self.warnings());
        warnings.iter().for_each(|warning| self.terminal.warn(warning));
        if warnings.is_empty() { ExitStatus::Done } else { ExitStatus::Warnings }
    }
}

impl Progress for Watch {
    fn phase(&self, name: &str, bytes: Option<u64>, streams: Option<u64>) {
        self.terminal.phase(name, bytes, streams);
    }

    fn add(&self, counter: Counter, n: u64) {
        self.terminal.add(counter, n);
    }

    fn note(&self, message: &str) {
        self.terminal.note(message);
    }

    fn warn(&self, message: &str) {
        let mut warnings = self.warnings();
        if !warnings.iter().any(|known| known == message) {
            warnings.push(message.to_owned());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.terminal.end();
        self.say_warnings();
    }
}

impl Context {
    /// What draws the progress of an operation whose result goes to standard output.
    pub fn watch(&self) -> Arc<Watch> {
        self.watch_in(Style::choose(self.json, self.verbosity == Verbosity::Quiet))
    }

    /// What draws the progress of an operation that fills standard output with something else.
    pub fn watch_aside(&self) -> Arc<Watch> {
        self.watch_in(Style::choose(false, self.json || self.verbosity == Verbosity::Quiet))
    }

    fn watch_in(&self, style: Style) -> Arc<Watch> {
        Arc::new(Watch { terminal: Terminal::new(style), warnings: Mutex::default() })
    }
}
