//! Durations as people write them: `4 weeks`, `6h`, `1 h 30 min`.

use crate::class::{Class, Classified};
use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It isn't numbers with units.
    #[error("{0:?} is not a duration: write \"4 weeks\", \"24 hours\", \"6h\" or \"1 h 30 min\"")]
    Form(String),
    /// A unit that isn't known.
    #[error(
        "{0:?} is not a unit of time: s, min, h, days, weeks, months (30 days) and years (365 days) are known{hint}",
        hint = if .0 == "m" { "; is it min or months?" } else { "" }
    )]
    Unit(String),
    /// A part isn't smaller than the one before it, as in `1 min 2 h`.
    #[error("{0:?} is not a duration: its parts must go from the largest unit to the smallest, each once")]
    Order(String),
    /// More than 2^64 seconds.
    #[error("{0:?} is too long a time")]
    TooLong(String),
}

impl Classified for DurationError {
    fn class(&self) -> Class {
        Class::Usage
    }
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Reads whole numbers with units, largest unit first: `4 weeks`, `24 hours`, `6h`, `90 min`, `2 days 3 h`.
///
/// A day has 24 hours, a week 7 days, a month 30 days, a year 365 days.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let shown = || text.chars().take(80).collect::<String>();
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return Err(DurationError::Form(shown()));
    }
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after.trim_start(), |c| !c.is_ascii_alphabetic());
        if number.is_empty() || unit.is_empty() {
            return Err(DurationError::Form(shown()));
        }
        let seconds = unit_seconds(unit).ok_or_else(|| DurationError::Unit(unit.chars().take(80).collect()))?;
        if seconds >= last {
            return Err(DurationError::Order(shown()));
        }
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| DurationError::TooLong(shown()))?;
        last = seconds;
        rest = after.trim_start();
    }
    Ok(Duration::from_secs(total))
}

/// Splits before the first character for which `ends` holds.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Seconds in a unit.
fn unit_seconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "month" | "months" => 30 * DAY,
        "y" | "year" | "years" => 365 * DAY,
        _ => return None,
    })
}

/// A duration for people, in its two largest units, cut off below: `2 days 3 h`, `5 min 10 s`, `42 s`, `3.2 s`, `40 ms`.
/// [`parse_duration`] reads it back from 10 seconds on.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match seconds % large / small {
        0 => format!("{} {large_unit}", seconds / large),
        rest => format!("{} {large_unit} {rest} {small_unit}", seconds / large),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        10..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => pair(MINUTE, "min", 1, "s"),
        HOUR..DAY => pair(HOUR, "h", MINUTE, "min"),
        _ if seconds / DAY == 1 => pair(DAY, "day", HOUR, "h"),
        _ => pair(DAY, "days", HOUR, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, seconds) in [
            ("4 weeks", 28 * DAY),
            ("24 hours", DAY),
            ("6h", 6 * HOUR),
            ("90 min", 90 * MINUTE),
            ("1 year", 365 * DAY),
            ("2 months", 60 * DAY),
            ("1h30min", HOUR + 30 * MINUTE),
            (" 1 day  12 hours ", DAY + 12 * HOUR),
            ("0 s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        let message = |text: &str| parse_duration(text).unwrap_err().to_string();
        for bad in ["", " ", "4", "weeks", "-4 weeks", "1.5 h", "4 weeks,", "4 weeks ago!", "٤ weeks"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(message("5 m").ends_with("is it min or months?"));
        assert!(message("5 fortnights").starts_with("\"fortnights\" is not a unit of time"));
        assert!(message("1 min 2 h").contains("from the largest unit"));
        assert!(message("1 h 1 hour").contains("each once"));
        assert!(message("99999999999999999999 s").contains("too long"));
        assert!(message("999999999999999 years").contains("too long"));
    }

    #[test]
    fn what_is_shown_is_short() {
        let shown = |millis| format_duration(Duration::from_millis(millis));
        assert_eq!(shown(40), "40 ms");
        assert_eq!(shown(3_290), "3.2 s");
        assert_eq!(shown(42_900), "42 s");
        assert_eq!(shown(310_000), "5 min 10 s");
        assert_eq!(shown(3_600_000), "1 h");
        assert_eq!(shown(86_400_000), "1 day");
        assert_eq!(shown((2 * DAY + 3 * HOUR + 59 * MINUTE) * 1000), "2 days 3 h");
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back_cut_off_to_its_units(seconds in 10..400 * DAY) {
            let back = parse_duration(&format_duration(Duration::from_secs(seconds))).unwrap().as_secs();
            let unit = match seconds { 0..HOUR => 1, HOUR..DAY => MINUTE, _ => HOUR };
            prop_assert_eq!(back, seconds / unit * unit);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn parts_add_up(days in 0_u64..10_000, hours in 0_u64..24, minutes in 0_u64..60) {
            let text = format!("{days} days {hours}h {minutes} min");
            prop_assert_eq!(parse_duration(&text).unwrap().as_secs(), days * DAY + hours * HOUR + minutes * MINUTE);
        }
    }
}
