//! Progress on the terminal while an operation runs, and its warnings, which are said last.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use varu::job::spec::Acknowledged;
use varu::progress::{Counter, Progress};
use varu::warning::Warning;

use super::context::{Context, Verbosity};
use super::exit::ExitStatus;
use crate::terminal::{Style, Terminal};

/// Draws progress, and keeps warnings for the end. Those that were not said are said when it is dropped, so none is lost
/// with an operation that fails.
pub struct ProgressReporter {
    terminal: Terminal,
    warnings: Mutex<Vec<Warning>>,
    known: Known,
}

/// Warnings that somebody knows about and accepts.
#[derive(Default)]
struct Known {
    accepted: OnceLock<Vec<Acknowledged>>,
    /// Those that were said.
    said: Mutex<Vec<Warning>>,
}

impl Known {
    fn has(&self, warning: &Warning) -> bool {
        self.accepted.get().is_some_and(|accepted| accepted.iter().any(|accepted| accepted.takes(warning)))
    }

    /// Whether it wasn't said yet.
    fn is_new(&self, warning: &Warning) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !said.contains(warning);
        if is_new {
            said.push(warning.clone());
        }
        is_new
    }
}

impl ProgressReporter {
    fn warnings(&self) -> MutexGuard<'_, Vec<Warning>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, for what shares it among threads.
    pub fn shared(self: &Arc<Self>) -> Arc<dyn Progress> {
        self.clone()
    }

    /// From now on these warnings are only notes.
    pub fn acknowledge(&self, accepted: &[Acknowledged]) {
        let _ = self.known.accepted.set(accepted.to_vec());
    }

    /// Says several lines that a person should read now.
    pub fn note_lines(&self, text: &str) {
        text.lines().for_each(|line| self.terminal.note(line));
    }

    /// Ends what is drawn, and takes in the warnings of the operation's result. Returns all as they are printed, each once.
    /// To be called before the result is.
    pub fn end(&self, more: &[Warning]) -> Vec<String> {
        self.terminal.end();
        more.iter().for_each(|warning| self.warn(warning));
        self.warnings().iter().map(ToString::to_string).collect()
    }

    /// Says all warnings. The status with which an operation ends that had them.
    pub fn say_warnings(&self) -> ExitStatus {
        let warnings = std::mem::take(&mut *self.warnings());
        warnings.iter().for_each(|warning| self.terminal.warn(warning));
        match warnings.as_slice() {
            [] => ExitStatus::Done,
            some if some.iter().any(|warning| warning.kind.is_damage()) => ExitStatus::Damaged,
            _ => ExitStatus::Warnings,
        }
    }
}

impl Progress for ProgressReporter {
    fn phase(&self, name: &str, bytes: Option<u64>, streams: Option<u64>) {
        self.terminal.phase(name, bytes, streams);
    }

    fn add(&self, counter: Counter, n: u64) {
        self.terminal.add(counter, n);
    }

    fn note(&self, message: &str) {
        self.terminal.note(message);
    }

    fn warn(&self, warning: &Warning) {
        if self.known.has(warning) {
            if self.known.is_new(warning) {
                self.terminal.note(&format!("acknowledged: {warning}"));
            }
            return;
        }
        let mut warnings = self.warnings();
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        self.terminal.end();
        self.say_warnings();
    }
}

impl Context {
    /// What draws the progress of an operation whose result goes to standard output.
    pub fn progress(&self) -> Arc<ProgressReporter> {
        self.progress_in(Style::choose(self.json, self.verbosity == Verbosity::Quiet))
    }

    /// What draws the progress of an operation that fills standard output with something else.
    pub fn progress_aside(&self) -> Arc<ProgressReporter> {
        self.progress_in(Style::choose(false, self.json || self.verbosity == Verbosity::Quiet))
    }

    fn progress_in(&self, style: Style) -> Arc<ProgressReporter> {
        Arc::new(ProgressReporter {
            terminal: Terminal::new(style),
            warnings: Mutex::default(),
            known: Known::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;
    use varu::warning::WarningKind;

    #[test]
    fn what_is_acknowledged_is_no_warning() {
        let progress = context(&["-q"], "", true, &[]).unwrap().progress();
        let accepted =
            |text: Option<&str>| Acknowledged { kind: WarningKind::NoTransactions, text: text.map(str::to_owned) };
        progress.acknowledge(&[accepted(Some("agama.log"))]);
        let (log, orders) =
            ["agama.log", "agama.orders"].map(|table| WarningKind::NoTransactions.warning(table)).into();
        progress.warn(&log);
        progress.warn(&orders);
        assert_eq!(
            progress.end(&[log, WarningKind::Precompressed.warning("agama.log")]),
            ["agama.orders [no-transactions]", "agama.log [precompressed]"]
        );
        assert!(accepted(None).takes(&orders));
        assert_eq!(progress.say_warnings(), ExitStatus::Warnings);
    }
}
