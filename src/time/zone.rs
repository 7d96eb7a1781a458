//! Time zones: the calendar day of a moment, and the moment that a clock on the wall shows.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Local, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone};

use super::Timestamp;

/// A time zone: one by its name, or the machine's own (`TZ`, else `/etc/localtime`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// The machine's zone.
    #[default]
    Local,
    /// A zone of the IANA database.
    Named(chrono_tz::Tz),
}

/// Why a text is not a zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time zone: a name of the IANA database is expected, as \"Europe/Tallinn\" or \"UTC\"")]
pub struct UnknownZone(String);

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        name.parse().map(Zone::Named).map_err(|_| UnknownZone(name.chars().take(80).collect()))
    }
}

/// The zone's name, `Europe/Tallinn`, or `the local time zone`.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zone::Local => f.write_str("the local time zone"),
            Zone::Named(zone) => f.write_str(zone.name()),
        }
    }
}

/// A zone's local time, as a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnTheWall {
    /// At one moment.
    Once(DateTime<chrono::FixedOffset>),
    /// At two: the clocks were set back.
    Twice(DateTime<chrono::FixedOffset>, DateTime<chrono::FixedOffset>),
    /// At none: the clocks were set forward.
    Never,
}

impl Zone {
    /// The names that [`Zone::from_str`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// The calendar day of `time` in this zone.
    pub fn date(&self, time: Timestamp) -> Date {
        Date(self.at(time).date_naive())
    }

    /// Calendar days from `earlier` to `later` in this zone: 1 from 23:59 to 00:01, 0 from 00:01 to 23:59 of one day,
    /// negative where `later` is on an earlier day.
    pub fn days_between(&self, earlier: Timestamp, later: Timestamp) -> i64 {
        self.date(later).days_since(self.date(earlier))
    }

    /// `time` to the second with its offset, as people read it and as a command takes it back: `2026-11-20 14:03:05+02:00`.
    pub fn stamp(&self, time: Timestamp) -> String {
        self.at(time).format("%Y-%m-%d %H:%M:%S%:z").to_string()
    }

    /// `time` to the minute, for tables that name the zone elsewhere: `2026-11-20 14:03`.
    pub fn short(&self, time: Timestamp) -> String {
        self.at(time).format("%Y-%m-%d %H:%M").to_string()
    }

    /// `time` with this zone's offset.
    fn at(&self, time: Timestamp) -> DateTime<chrono::FixedOffset> {
        let utc = DateTime::from_timestamp_nanos(time.nanos());
        match self {
            Zone::Local => utc.with_timezone(&Local).fixed_offset(),
            Zone::Named(zone) => utc.with_timezone(zone).fixed_offset(),
        }
    }

    /// The moment at which a clock on the wall shows `local`.
    pub(super) fn moment(&self, local: NaiveDateTime) -> OnTheWall {
        let mapped = match self {
            Zone::Local => Local.from_local_datetime(&local).map(|time| time.fixed_offset()),
            Zone::Named(zone) => zone.from_local_datetime(&local).map(|time| time.fixed_offset()),
        };
        match mapped {
            MappedLocalTime::Single(time) => OnTheWall::Once(time),
            MappedLocalTime::Ambiguous(one, other) => OnTheWall::Twice(one.min(other), one.max(other)),
            MappedLocalTime::None => OnTheWall::Never,
        }
    }

    /// The first moment of a day; None if the zone left the day out.
    pub(super) fn start_of(&self, day: NaiveDate) -> Option<DateTime<chrono::FixedOffset>> {
        let midnight = day.and_time(chrono::NaiveTime::MIN);
        // Some zones skip midnight itself; offsets change in whole minutes since 1972.
        (0..24 * 60).find_map(|minute| match self.moment(midnight + TimeDelta::minutes(minute)) {
            OnTheWall::Once(time) | OnTheWall::Twice(time, _) => Some(time),
            OnTheWall::Never => None,
        })
    }
}

/// A day of the calendar, in a zone that its maker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub(super) NaiveDate);

impl Date {
    /// Days from `earlier` to this day; negative where this is the earlier one.
    pub fn days_since(self, earlier: Self) -> i64 {
        self.0.signed_duration_since(earlier.0).num_days()
    }
}

/// `2026-11-20`.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallinn() -> Zone {
        "Europe/Tallinn".parse().unwrap()
    }

    /// 2026-10-24T22:30:00Z: half past one at night in Tallinn, before the clocks go back.
    const NIGHT: Timestamp = Timestamp::from_seconds(1_792_881_000);

    #[test]
    fn a_day_is_the_day_of_its_zone() {
        assert_eq!(NIGHT.to_string(), "2026-10-24T22:30:00Z");
        assert_eq!(tallinn().date(NIGHT).to_string(), "2026-10-25");
        assert_eq!("UTC".parse::<Zone>().unwrap().date(NIGHT).to_string(), "2026-10-24");
        assert_eq!(tallinn().stamp(NIGHT), "2026-10-25 01:30:00+03:00");
        assert_eq!(tallinn().short(NIGHT), "2026-10-25 01:30");
    }

    #[test]
    fn days_between_counts_midnights_not_hours() {
        let hours = |n: u64| NIGHT.after(std::time::Duration::from_secs(n * 3600));
        assert_eq!(tallinn().days_between(NIGHT, hours(22)), 0, "23:30 of the same day, which has 25 hours");
        assert_eq!(tallinn().days_between(NIGHT, hours(23)), 0);
        assert_eq!(tallinn().days_between(NIGHT, hours(24)), 1, "00:30 of the next");
        assert_eq!(tallinn().days_between(hours(24), NIGHT), -1);
        assert_eq!(tallinn().days_between(NIGHT, hours(24 * 7)), 7);
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let error = "Europe/Talinn".parse::<Zone>().unwrap_err();
        assert!(error.to_string().starts_with("\"Europe/Talinn\" is not a time zone"), "{error}");
        assert!(Zone::names().any(|name| name == "Europe/Tallinn"));
    }

    #[test]
    fn the_start_of_a_day_is_its_first_moment_even_where_midnight_is_skipped() {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
        let cairo: Zone = "Africa/Cairo".parse().unwrap();
        let start = cairo.start_of(day(2024, 4, 26)).unwrap();
        assert_eq!(start.to_rfc3339(), "2024-04-26T01:00:00+03:00");
        let apia: Zone = "Pacific/Apia".parse().unwrap();
        assert_eq!(apia.start_of(day(2011, 12, 30)), None, "Samoa went from the 29th to the 31st");
    }

    #[test]
    fn the_ends_of_time_have_a_day() {
        for zone in [Zone::Local, tallinn()] {
            assert!(zone.stamp(Timestamp::from_nanos(i64::MIN)).starts_with("1677-09-21"));
            assert!(zone.stamp(Timestamp::from_nanos(i64::MAX)).starts_with("2262-04-1"));
        }
    }
}
