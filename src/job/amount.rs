//! Amounts as people read them.

use std::time::Duration;

/// Bytes in decimal units: `512 B`, `461.3 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1000;
    let mut unit = 0;
    while tenths >= 10_000 {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Bytes a second: `98.2 MB/s`; none for a time too short to tell.
pub fn rate(bytes: u64, time: Duration) -> Option<String> {
    let per_second = u128::from(bytes) * 1000 / Some(time.as_millis()).filter(|millis| *millis > 0)?;
    Some(format!("{}/s", size(u64::try_from(per_second).unwrap_or(u64::MAX))))
}

/// A part of a whole in percent: `23 %`, `0.4 %`; none of nothing.
pub fn ratio(part: u64, of: u64) -> Option<String> {
    let tenths = u128::from(part) * 1000 / u128::from(Some(of).filter(|of| *of > 0)?);
    Some(if tenths < 100 { format!("{}.{} %", tenths / 10, tenths % 10) } else { format!("{} %", tenths / 10) })
}

/// A number with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A count with its thing: `1 stream`, `12 streams`.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (461_312_345, "461.3 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn rates_and_counts_are_readable() {
        assert_eq!(rate(500_000_000, Duration::from_millis(2500)).as_deref(), Some("200.0 MB/s"));
        assert_eq!(rate(5, Duration::ZERO), None);
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "stream"), counted(12, "stream")], ["1 stream", "12 streams"]);
    }

    #[test]
    fn a_part_is_in_percent() {
        assert_eq!(
            [ratio(1, 250), ratio(1, 4), ratio(5, 4), ratio(1, 0)].map(Option::unwrap_or_default),
            ["0.4 %", "25 %", "125 %", ""]
        );
    }
}
