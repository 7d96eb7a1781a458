//! The forms in which a command line takes a time.

use crate::class::{Class, Classified};
use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};

use super::duration::{DurationError, parse_duration};
use super::zone::OnTheWall;
use super::{Timestamp, Zone};

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// No form of a time.
    #[error(
        "{0:?} is not a time: write 2026-11-20T14:03:00Z (RFC 3339), \"2026-11-20 14:03\", 2026-11-20, now, \
         today, yesterday or \"2 days ago\""
    )]
    Form(String),
    /// The part before `ago` is no duration.
    #[error(transparent)]
    Ago(#[from] DurationError),
    /// The clocks go back over it.
    #[error("{text} happens twice in {zone}, the clocks go back: write \"{first}\" or \"{second}\"")]
    Twice {
        /// The input.
        text: String,
        /// Where.
        zone: Zone,
        /// The earlier moment, in a form that is clear.
        first: String,
        /// The later moment.
        second: String,
    },
    /// The clocks go forward over it.
    #[error("{text} never happens in {zone}, the clocks go forward over it")]
    Never {
        /// The input.
        text: String,
        /// Where.
        zone: Zone,
    },
    /// Before 1677 or after 2262.
    #[error("{0} is too far away: times from 1678 to 2261 can be told")]
    Range(String),
}

impl Classified for TimeError {
    fn class(&self) -> Class {
        Class::Usage
    }
}

/// Reads a time: RFC 3339; `2026-11-20 14:03` or `2026-11-20 14:03:05` on the clocks of `zone`; `2026-11-20`, `today` or
/// `yesterday`, the first moment of that day in `zone`; `now`; or `2 days ago`, that duration before `now` (a day is 24 hours
/// here).
///
/// # Errors
///
/// A text of another form, and a time that the clocks of `zone` show twice or never.
pub fn parse_time(text: &str, now: Timestamp, zone: Zone) -> Result<Timestamp, TimeError> {
    Ok(parse(text, now, zone)?.0)
}

/// Like [`parse_time`], but the last moment of the given period: a day, a minute and a second are meant as a whole.
///
/// # Errors
///
/// As [`parse_time`].
pub fn parse_until(text: &str, now: Timestamp, zone: Zone) -> Result<Timestamp, TimeError> {
    Ok(parse(text, now, zone)?.1)
}

/// The first and the last moment of the given period.
fn parse(text: &str, now: Timestamp, zone: Zone) -> Result<(Timestamp, Timestamp), TimeError> {
    let text = text.trim();
    let shown = || text.chars().take(80).collect::<String>();
    if let Some(duration) = text.strip_suffix("ago").filter(|duration| duration.ends_with(' ')) {
        let time = now.before(parse_duration(duration)?);
        return Ok((time, time));
    }
    let range = |time: DateTime<FixedOffset>| {
        time.timestamp_nanos_opt().map(Timestamp::from_nanos).ok_or_else(|| TimeError::Range(shown()))
    };
    let whole = |first: Timestamp, length: u64| (first, first.after(Duration::from_nanos(length * SECOND - 1)));
    if let Some((time, length)) = wall_clock(text) {
        return match zone.moment(time) {
            OnTheWall::Once(time) => Ok(whole(range(time)?, length)),
            OnTheWall::Never => Err(TimeError::Never { text: shown(), zone }),
            OnTheWall::Twice(one, other) => {
                let clear = |time: DateTime<FixedOffset>| time.format("%Y-%m-%d %H:%M:%S%:z").to_string();
                Err(TimeError::Twice { text: shown(), zone, first: clear(one), second: clear(other) })
            }
        };
    }
    let day = match text {
        "now" => return Ok((now, now)),
        "today" => Some(zone.date(now).0),
        "yesterday" => zone.date(now).0.pred_opt(),
        _ => day(text),
    };
    if let Some(day) = day {
        let first = zone.start_of(day).map_or_else(|| Err(TimeError::Never { text: shown(), zone }), range)?;
        // The next day may be one that the zone left out.
        let next = day.iter_days().skip(1).take(3).find_map(|next| zone.start_of(next)).map(range).transpose()?;
        let last = next.map_or(Timestamp::from_nanos(i64::MAX), |next| next.before(Duration::from_nanos(1)));
        return Ok((first, last));
    }
    match DateTime::parse_from_rfc3339(text) {
        // Times are shown to the second.
        Ok(time) if time.timestamp_subsec_nanos() == 0 => Ok(whole(range(time)?, 1)),
        Ok(time) => range(time).map(|time| (time, time)),
        Err(_) => Err(TimeError::Form(shown())),
    }
}

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// `2026-11-20`.
fn day(text: &str) -> Option<NaiveDate> {
    let [year, month, day] = numbers(text, [(4, None), (2, Some(b"-")), (2, Some(b"-"))])?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

/// `2026-11-20 14:03` or `2026-11-20T14:03`, with or without seconds; and how many seconds are meant.
fn wall_clock(text: &str) -> Option<(NaiveDateTime, u64)> {
    let (date, time) = (text.get(..10)?, text.get(10..)?);
    let ([hour, minute, second], length) = match time.len() {
        6 => {
            let [hour, minute] = numbers(time, [(2, Some(b" Tt")), (2, Some(b":"))])?;
            ([hour, minute, 0], 60)
        }
        _ => (numbers(time, [(2, Some(b" Tt")), (2, Some(b":")), (2, Some(b":"))])?, 1),
    };
    Some((day(date)?.and_hms_opt(hour, minute, second)?, length))
}

/// Numbers of so many digits, each after one of the given separators; None unless that is the whole text.
fn numbers<const N: usize>(text: &str, parts: [(usize, Option<&[u8]>); N]) -> Option<[u32; N]> {
    let mut rest = text.as_bytes();
    let mut found = [0; N];
    for (number, (digits, separators)) in found.iter_mut().zip(parts) {
        if let Some(separators) = separators {
            let (first, after) = rest.split_first()?;
            separators.contains(first).then_some(())?;
            rest = after;
        }
        for _ in 0..digits {
            let (digit, after) = rest.split_first()?;
            digit.is_ascii_digit().then_some(())?;
            *number = *number * 10 + u32::from(digit - b'0');
            rest = after;
        }
    }
    rest.is_empty().then_some(found)
}

impl Timestamp {
    /// The moment to the second, in UTC, for names of objects: `20261120T010510Z`. As text it sorts by time.
    pub fn compact(self) -> String {
        DateTime::from_timestamp_nanos(self.nanos()).format("%Y%m%dT%H%M%SZ").to_string()
    }

    /// Parses the output of [`Timestamp::compact`], and nothing else.
    pub fn from_compact(text: &str) -> Option<Self> {
        let text = text.strip_suffix('Z')?;
        let (date, time) = (text.get(..8)?, text.get(8..)?);
        let [year, month, day] = numbers(date, [(4, None), (2, None), (2, None)])?;
        let [hour, minute, second] = numbers(time, [(2, Some(b"T")), (2, None), (2, None)])?;
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        let time = date.and_hms_opt(hour, minute, second)?.and_utc();
        time.timestamp_nanos_opt().map(Self::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

    fn tallinn() -> Zone {
        "Europe/Tallinn".parse().unwrap()
    }

    fn read(text: &str) -> Result<String, String> {
        parse_time(text, NOW, tallinn()).map(|time| time.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_is_read_in_the_zone() {
        for (text, time) in [
            ("2026-11-20T14:03:00Z", "2026-11-20T14:03:00Z"),
            ("2026-11-20T14:03:00.5+02:00", "2026-11-20T12:03:00Z"),
            ("2026-11-20 14:03:05+02:00", "2026-11-20T12:03:05Z"),
            ("2026-11-20 14:03", "2026-11-20T12:03:00Z"),
            ("2026-11-20 14:03:05", "2026-11-20T12:03:05Z"),
            ("2026-11-20T14:03", "2026-11-20T12:03:00Z"),
            ("2026-07-20 14:03", "2026-07-20T11:03:00Z"),
            ("2026-11-20", "2026-11-19T22:00:00Z"),
            (" 2026-11-20 ", "2026-11-19T22:00:00Z"),
        ] {
            assert_eq!(read(text), Ok(time.to_owned()), "{text}");
        }
        assert_eq!(read("2 days ago"), Ok(Timestamp::from_seconds(1_795_000_000 - 2 * 86_400).to_string()));
    }

    #[test]
    fn a_day_a_minute_and_a_second_are_meant_as_a_whole() {
        let until = |text: &str| parse_until(text, NOW, tallinn()).map(|time| time.nanos());
        let at = |text: &str| parse_time(text, NOW, tallinn()).map(|time| time.nanos());
        let seconds = |text: &str| (until(text).unwrap() + 1 - at(text).unwrap()) / 1_000_000_000;
        assert_eq!([seconds("2026-11-20 14:03"), seconds("2026-11-20 14:03:05")], [60, 1]);
        assert_eq!([seconds("2026-11-20T14:03:05Z"), seconds("2026-11-20"), seconds("yesterday")], [1, 86_400, 86_400]);
        assert_eq!(seconds("2026-10-25"), 25 * 3600, "the day on which the clocks go back");
        assert_eq!((until("now"), until("2 days ago")), (Ok(NOW.nanos()), at("2 days ago")));
        assert!(until("today").unwrap() > NOW.nanos() && at("today").unwrap() < NOW.nanos());
        assert_eq!(until("yesterday").unwrap() + 1, at("today").unwrap());
        let samoa = parse_until("2011-12-29", NOW, "Pacific/Apia".parse().unwrap()).unwrap();
        assert_eq!(samoa.after(Duration::from_nanos(1)).to_string(), "2011-12-30T10:00:00Z", "the 30th never was");
    }

    #[test]
    fn an_hour_that_happens_twice_or_never_is_refused_and_says_so() {
        assert_eq!(
            read("2026-10-25 03:30").unwrap_err(),
            "2026-10-25 03:30 happens twice in Europe/Tallinn, the clocks go back: write \"2026-10-25 \
             03:30:00+03:00\" or \"2026-10-25 03:30:00+02:00\""
        );
        assert_eq!(read("2026-10-25 03:30:00+03:00"), Ok("2026-10-25T00:30:00Z".to_owned()), "as the message says");
        assert_eq!(
            read("2026-03-29 03:30").unwrap_err(),
            "2026-03-29 03:30 never happens in Europe/Tallinn, the clocks go forward over it"
        );
        let apia = parse_time("2011-12-30", NOW, "Pacific/Apia".parse().unwrap());
        assert!(matches!(apia, Err(TimeError::Never { .. })));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "ago",
            "2026-1-2",
            "26-11-20",
            "2026-11-20 14",
            "2026-11-20 24:00",
            "2026-02-30",
            "2026-11-20 14:03 UTC",
            "+2026-11-20",
            "20261120",
            "2 days",
            "2 daysago",
            "x ago",
            "é-11-20",
            "2026-11-20x14:03",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read("1500-01-01").unwrap_err().contains("too far away"));
        assert!(read("9999-12-31T23:59:59Z").unwrap_err().contains("too far away"));
    }

    #[test]
    fn a_compact_stamp_has_one_spelling() {
        let time = Timestamp::from_compact("20261120T010510Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-20T01:05:10Z");
        for bad in [
            "",
            "Z",
            "20261120T010510",
            "20261120T010510z",
            "20261120t010510Z",
            "20261120T010560Z",
            "20260230T000000Z",
            "20261120T240000Z",
            "+0261120T010510Z",
            "20261120T010510ZZ",
            " 20261120T010510Z",
            "00010101T000000Z",
            "2026112éT10510Z",
        ] {
            assert_eq!(Timestamp::from_compact(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn compact_stamps_read_back_to_the_second(nanos in -9_000_000_000_000_000_000_i64..) {
            let time = Timestamp::from_nanos(nanos);
            prop_assert_eq!(Timestamp::from_compact(&time.compact()), Some(Timestamp::from_seconds(time.seconds())));
        }

        #[test]
        fn compact_stamps_sort_by_time(one in any::<i64>(), other in any::<i64>()) {
            let (one, other) = (Timestamp::from_nanos(one), Timestamp::from_nanos(other));
            prop_assert_eq!(one.compact().cmp(&other.compact()), one.seconds().cmp(&other.seconds()));
        }

        #[test]
        fn a_stamp_of_any_zone_reads_back(seconds in 0_i64..4_000_000_000, index in any::<prop::sample::Index>()) {
            let names: Vec<&str> = Zone::names().collect();
            let zone: Zone = index.get(&names).parse().unwrap();
            let time = Timestamp::from_seconds(seconds);
            // The offsets of before 1972 have seconds that a stamp doesn't show.
            prop_assume!(seconds > 100_000_000);
            prop_assert_eq!(parse_time(&zone.stamp(time), NOW, tallinn()), Ok(time));
        }

        #[test]
        fn the_wall_clock_of_a_zone_leads_back_or_is_told_to_be_twice(seconds in 100_000_000_i64..4_000_000_000) {
            let time = Timestamp::from_seconds(seconds / 60 * 60);
            match parse_time(&tallinn().short(time), NOW, tallinn()) {
                Ok(back) => prop_assert_eq!(back, time),
                Err(TimeError::Twice { .. }) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9TZ: +é]{0,24}|.{0,40}") {
            let _ = parse_time(&text, NOW, tallinn());
            let _ = Timestamp::from_compact(&text);
        }
    }
}
