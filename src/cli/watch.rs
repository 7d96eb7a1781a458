//! What is seen of an operation while it runs, and its warnings, which are said last.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use varu::progress::{Counter, Progress};

use super::context::{Context, Verbosity};
use super::exit::ExitStatus;
use crate::terminal::{Style, Terminal};

/// Draws progress, and keeps warnings for the end. Those that were not said are said when it is dropped, so none is lost
/// with an operation that fails.
pub struct Watch {
    terminal: Terminal,
    warnings: Mutex<Vec<String>>,
    known: Known,
}

/// Warnings that somebody knows about and accepts.
#[derive(Default)]
struct Known {
    /// A warning that has one of these in it is known.
    texts: OnceLock<Vec<String>>,
    /// Those that were said.
    said: Mutex<Vec<String>>,
}

impl Known {
    fn has(&self, warning: &str) -> bool {
        self.texts.get().is_some_and(|texts| texts.iter().any(|text| warning.contains(text)))
    }

    /// Whether it wasn't said yet.
    fn is_new(&self, warning: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !said.iter().any(|known| known == warning);
        if is_new {
            said.push(warning.to_owned());
        }
        is_new
    }
}

impl Watch {
    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a warning that has one of these texts in it is only a note.
    pub fn acknowledge(&self, texts: &[String]) {
        let _ = self.known.texts.set(texts.to_vec());
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
        if self.known.has(message) {
            if self.known.is_new(message) {
                self.terminal.note(&format!("acknowledged: {message}"));
            }
            return;
        }
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
        Arc::new(Watch { terminal: Terminal::new(style), warnings: Mutex::default(), known: Known::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    #[test]
    fn what_is_acknowledged_is_no_warning() {
        let watch = context(&["-q"], "", true, &[]).unwrap().watch();
        watch.acknowledge(&["agama.log".to_owned()]);
        watch.warn("the table agama.log has no transactions");
        watch.warn("the table agama.orders has no transactions");
        let more = ["the table agama.log has no transactions".to_owned()];
        assert_eq!(watch.end(&more), ["the table agama.orders has no transactions"]);
        assert_eq!(watch.say_warnings(), ExitStatus::Warnings);
    }
}
