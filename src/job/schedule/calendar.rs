//! Calendar expressions, as systemd reads them: the one place where `systemd-analyze` is asked.

use std::process::Command;

use crate::error;
use crate::source::Error;
use crate::time::{Clock, SystemClock, Timestamp, Zone};

/// Whether a calendar expression has come since `last`.
///
/// # Errors
///
/// Where `systemd-analyze` isn't there, or doesn't understand the expression.
pub fn is_due(expression: &str, zone: Zone, last: Timestamp) -> Result<bool, Error> {
    let since = format!("@{}", last.seconds());
    let text = match analyze(&["--base-time", &since, "--", expression], zone) {
        Ok(text) => text,
        Err(NotAnalyzed::NotRun(error)) => {
            return Err(Error::failed("running systemd-analyze, which knows when a dump is due,", &error));
        }
        Err(NotAnalyzed::NotUnderstood(why)) => {
            return Err(Error::Config(format!("the calendar expression {expression:?} can't be read: {why}")));
        }
    };
    // "(in UTC): Sat 2026-11-21 01:00:00 UTC", or "Next elapse:" where the zone is UTC.
    let line = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start));
    let next = line("(in UTC):").or_else(|| line("Next elapse:")).unwrap_or_default().trim();
    let mut words = next.split_whitespace().skip(1);
    let (day, clock) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let next = Timestamp::from_compact(&format!("{}T{}Z", day.replace('-', ""), clock.replace(':', "")));
    Ok(next.is_some_and(|next| next <= SystemClock.now()))
}

/// When a calendar expression, which may name its zone, comes next, in systemd's words. `about` is what it is the time of.
///
/// # Errors
///
/// Where `systemd-analyze` isn't there, or doesn't understand the expression.
pub fn next(expression: &str, about: &str) -> error::Result<String> {
    let text = analyze(&["--", expression], Zone::Local).map_err(|error| match error {
        NotAnalyzed::NotRun(error) => {
            error::Error::Failed(format!("running systemd-analyze, which reads calendar expressions, failed: {error}"))
        }
        NotAnalyzed::NotUnderstood(why) => {
            error::Error::Usage(format!("the time of the {about}, {expression:?}, can't be read: {why}"))
        }
    })?;
    let next = text.lines().find_map(|line| line.trim().strip_prefix("Next elapse:"));
    Ok(next.unwrap_or("never").trim().to_owned())
}

enum NotAnalyzed {
    NotRun(std::io::Error),
    NotUnderstood(String),
}

fn analyze(words: &[&str], zone: Zone) -> Result<String, NotAnalyzed> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.arg("calendar").args(words).env("LC_ALL", "C");
    if let Zone::Named(_) = zone {
        analyze.env("TZ", zone.to_string());
    }
    let output = analyze.output().map_err(NotAnalyzed::NotRun)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(NotAnalyzed::NotUnderstood(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_dump_is_due_once_its_time_has_come() {
        let zone: Zone = "Europe/Tallinn".parse().unwrap();
        let now = SystemClock.now();
        assert!(is_due("*-*-* 01:00", zone, now.before(Duration::from_secs(86_401))).unwrap());
        assert!(!is_due("*-*-* *:*:00", zone, now.after(Duration::from_secs(3600))).unwrap());
        assert!(is_due("nonsense", zone, now).is_err());
    }
}
