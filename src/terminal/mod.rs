//! Progress of long work: a bar on a terminal, a line now and then elsewhere, JSON lines for programs.

pub mod human;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use varu::progress::{Counter, Counts, Progress};
use varu::time::format_duration;
use varu::warning::Warning;

use human::one_line;
use varu::job::amount::{count, counted, rate, size};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar on standard error, a terminal.
    Bar,
    /// A line on standard error at most so often, and at the end of a phase.
    Lines(Duration),
    /// A JSON document a line on standard output at most so often, at the start and at the end of a phase.
    Json(Duration),
    /// Nothing but warnings.
    Quiet,
}

impl Style {
    /// The style for a run with `--json` or `-q`, and for where standard error goes.
    pub fn choose(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (_, true) => Style::Quiet,
            (true, _) => Style::Json(Duration::from_secs(1)),
            _ if io::stderr().is_terminal() => Style::Bar,
            _ => Style::Lines(Duration::from_secs(30)),
        }
    }
}

/// Draws the progress of one operation.
pub struct Terminal {
    style: Style,
    counts: Arc<Counts>,
    started: Instant,
    /// Milliseconds after `started` before which no line is written.
    next_line: AtomicU64,
    shown: Mutex<Shown>,
}

/// What is on the screen.
struct Shown {
    phase: Option<Phase>,
    bar: ProgressBar,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

/// A phase under way.
struct Phase {
    name: String,
    bytes: Option<u64>,
    streams: Option<u64>,
    started: Instant,
    bytes_before: u64,
    streams_before: u64,
}

/// How far a phase is.
struct Facts {
    bytes: u64,
    streams: u64,
    time: Duration,
}

impl Terminal {
    /// Progress in that style, on standard output and standard error.
    pub fn new(style: Style) -> Self {
        Self::on(style, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn on(style: Style, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let shown = Shown { phase: None, bar: ProgressBar::hidden(), out, err };
        Self {
            style,
            counts: Arc::default(),
            started: Instant::now(),
            next_line: AtomicU64::new(0),
            shown: Mutex::new(shown),
        }
    }

    /// Ends the last phase: its bar goes, its last line is written. To be called before a summary is printed.
    pub fn end(&self) {
        self.end_phase(&mut self.shown());
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // What a thread that panicked was drawing matters to nobody.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_phase(&self, shown: &mut Shown) {
        shown.bar.finish_and_clear();
        if let Some(phase) = shown.phase.take() {
            self.write_line(shown, &phase, "done, ");
        }
    }

    /// Writes a line on how far the phase is, where the style has lines. A closed pipe ends the lines, not the work.
    fn write_line(&self, shown: &mut Shown, phase: &Phase, state: &str) {
        let facts = phase.facts(&self.counts);
        let _ = match self.style {
            Style::Lines(_) => writeln!(shown.err, "{}: {state}{}", phase.name, phase.describe(&facts)),
            Style::Json(_) => writeln!(shown.out, "{}", phase.json(&facts)).and_then(|()| shown.out.flush()),
            Style::Bar | Style::Quiet => Ok(()),
        };
    }

    /// Writes a line if the last one is long enough ago.
    fn line_now_and_then(&self, every: Duration) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.started.elapsed());
        let due = self.next_line.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(every));
        if now < due || self.next_line.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let mut shown = self.shown();
        if let Some(phase) = shown.phase.take() {
            self.write_line(&mut shown, &phase, "");
            shown.phase = Some(phase);
        }
    }

    /// Writes a person's line on standard error, above the bar where there is one.
    fn say(&self, line: &str) {
        let mut shown = self.shown();
        let bar = shown.bar.clone();
        let _ = bar.suspend(|| writeln!(shown.err, "{line}"));
    }

    fn bar(&self, phase: &Phase) -> ProgressBar {
        let bar = match phase.bytes {
            Some(bytes) => ProgressBar::new(bytes),
            None => ProgressBar::new_spinner(),
        };
        let template = match phase.bytes {
            Some(_) => {
                "{prefix} {bar:24} {decimal_bytes} of {decimal_total_bytes}{streams}, {decimal_bytes_per_sec}, {eta} left"
            }
            None => "{prefix} {spinner} {decimal_bytes}{streams}, {decimal_bytes_per_sec}, {elapsed}",
        };
        let (counts, before, all) = (self.counts.clone(), phase.streams_before, phase.streams);
        let streams = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let done = counts.get(Counter::Streams).saturating_sub(before);
            let _ = out.write_str(&describe_streams(done, all));
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("streams", streams));
        bar.set_prefix(phase.name.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Progress for Terminal {
    fn phase(&self, name: &str, bytes: Option<u64>, streams: Option<u64>) {
        let mut shown = self.shown();
        self.end_phase(&mut shown);
        let phase = Phase {
            name: name.to_owned(),
            bytes,
            streams,
            started: Instant::now(),
            bytes_before: self.counts.get(Counter::Bytes),
            streams_before: self.counts.get(Counter::Streams),
        };
        match self.style {
            Style::Bar => shown.bar = self.bar(&phase),
            Style::Json(_) => self.write_line(&mut shown, &phase, ""),
            Style::Lines(every) => {
                let next = self.started.elapsed() + every;
                self.next_line.store(u64::try_from(next.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            Style::Quiet => {}
        }
        shown.phase = Some(phase);
    }

    fn add(&self, counter: Counter, n: u64) {
        self.counts.add(counter, n);
        match self.style {
            Style::Bar if counter == Counter::Bytes => self.shown().bar.inc(n),
            Style::Lines(every) | Style::Json(every) => self.line_now_and_then(every),
            Style::Bar | Style::Quiet => {}
        }
    }

    fn note(&self, message: &str) {
        if self.style != Style::Quiet {
            self.say(&one_line(message));
        }
    }

    fn warn(&self, warning: &Warning) {
        self.say(&format!("warning: {}", one_line(&warning.to_string())));
    }
}

impl Phase {
    fn facts(&self, counts: &Counts) -> Facts {
        Facts {
            bytes: counts.get(Counter::Bytes).saturating_sub(self.bytes_before),
            streams: counts.get(Counter::Streams).saturating_sub(self.streams_before),
            time: self.started.elapsed(),
        }
    }

    /// `1.2 GB of 4.6 GB (26 %), 12 of 80 streams, 98.2 MB/s, 35 s left`.
    fn describe(&self, facts: &Facts) -> String {
        let mut text = size(facts.bytes);
        if let Some(all) = self.bytes {
            let percent = (u128::from(facts.bytes) * 100).checked_div(u128::from(all)).unwrap_or(100);
            text += &format!(" of {} ({percent} %)", size(all));
        }
        text += &describe_streams(facts.streams, self.streams);
        if let Some(rate) = rate(facts.bytes, facts.time) {
            text += &format!(", {rate}");
        }
        if let Some(left) = self.time_left(facts) {
            text += &format!(", {} left", format_duration(left));
        }
        text
    }

    /// The time that the rest takes at the pace so far; None at the end, and where it can't be told.
    fn time_left(&self, facts: &Facts) -> Option<Duration> {
        let rest = self.bytes?.checked_sub(facts.bytes).filter(|rest| *rest > 0)?;
        let millis = facts.time.as_millis().checked_mul(u128::from(rest))?.checked_div(u128::from(facts.bytes))?;
        Some(Duration::from_secs(u64::try_from(millis / 1000).ok()?))
    }

    fn json(&self, facts: &Facts) -> serde_json::Value {
        serde_json::json!({
            "event": "progress",
            "phase": self.name,
            "bytes": facts.bytes,
            "bytes_total": self.bytes,
            "streams": facts.streams,
            "streams_total": self.streams,
            "seconds": facts.time.as_millis() as f64 / 1000.0,
        })
    }
}

/// `, 12 of 80 streams`; nothing where no stream was met and none is known.
fn describe_streams(done: u64, all: Option<u64>) -> String {
    match all {
        Some(all) => format!(", {} of {}", count(done), counted(all, "stream")),
        None if done > 0 => format!(", {}", counted(done, "stream")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varu::warning::WarningKind;

    /// A writer whose bytes the test sees.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seen {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// What an operation of two phases writes to standard output and standard error.
    fn written(style: Style) -> (Vec<String>, Vec<String>) {
        let (out, err) = (Seen::default(), Seen::default());
        let terminal = Terminal::on(style, Box::new(out.clone()), Box::new(err.clone()));
        terminal.phase("looking", None, None);
        terminal.add(Counter::Streams, 2);
        terminal.phase("backing up", Some(4_000_000), Some(2));
        terminal.note("waiting for \u{1b}[2J");
        terminal.warn(&WarningKind::LeftOut.warning("a\nb can't be read"));
        terminal.add(Counter::Bytes, 1_000_000);
        terminal.add(Counter::Streams, 1);
        terminal.end();
        terminal.end();
        assert_eq!(terminal.counts.get(Counter::Streams), 3);
        (out.lines(), err.lines())
    }

    #[test]
    fn off_the_terminal_each_phase_ends_with_a_line() {
        let (out, err) = written(Style::Lines(Duration::from_secs(3600)));
        assert!(out.is_empty());
        assert_eq!(err[1..3], ["waiting for \\u{1b}[2J", "warning: a\\nb can't be read [left-out]"]);
        assert!(err[0].starts_with("looking: done, 0 B, 2 streams"), "{err:?}");
        assert!(err[3].starts_with("backing up: done, 1.0 MB of 4.0 MB (25 %), 1 of 2 streams"), "{err:?}");
        assert_eq!(err.len(), 4, "{err:?}");
    }

    #[test]
    fn lines_come_as_often_as_they_may() {
        let (_, err) = written(Style::Lines(Duration::ZERO));
        assert!(err.iter().any(|line| line.starts_with("backing up: 1.0 MB of 4.0 MB (25 %), 0 of 2")), "{err:?}");
    }

    #[test]
    fn json_lines_are_documents_on_standard_output() {
        let (out, err) = written(Style::Json(Duration::from_secs(3600)));
        assert_eq!(err.len(), 2, "people's words go to standard error: {err:?}");
        let last: serde_json::Value = serde_json::from_str(out.last().unwrap()).unwrap();
        assert_eq!(last["phase"], "backing up");
        assert_eq!((&last["bytes"], &last["bytes_total"]), (&1_000_000.into(), &4_000_000.into()));
        assert_eq!((&last["streams"], &last["streams_total"]), (&1.into(), &2.into()));
        assert!(out.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"] == "progress"));
    }

    #[test]
    fn quiet_says_warnings_alone() {
        assert_eq!(written(Style::Quiet), (vec![], vec!["warning: a\\nb can't be read [left-out]".to_owned()]));
        assert_eq!(written(Style::Bar).1.len(), 2, "the bar draws by itself");
    }

    #[test]
    fn the_time_left_follows_the_pace() {
        let phase = |bytes| Phase {
            name: String::new(),
            bytes,
            streams: None,
            started: Instant::now(),
            bytes_before: 0,
            streams_before: 0,
        };
        let facts = |bytes| Facts { bytes, streams: 0, time: Duration::from_secs(10) };
        assert_eq!(phase(Some(400)).describe(&facts(100)), "100 B of 400 B (25 %), 10 B/s, 30 s left");
        assert_eq!(phase(Some(400)).describe(&facts(400)), "400 B of 400 B (100 %), 40 B/s");
        assert_eq!(phase(Some(0)).describe(&facts(0)), "0 B of 0 B (100 %), 0 B/s");
        assert_eq!(phase(None).describe(&facts(100)), "100 B, 10 B/s");
    }
}
