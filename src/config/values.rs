//! The values of keys: each reader takes a TOML value and says what it expected where it can't read it.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;
use varu::job::nearest;
use varu::job::spec::{Acknowledged, ProgramSpec};
use varu::time::{Zone, parse_duration};
use varu::warning::WarningKind;

/// A value, or what is wrong with it (without the key's name).
pub type Read<T> = Result<T, String>;

/// Says that something else was expected than what is there.
pub fn expected<T>(what: &str, found: &DeValue) -> Read<T> {
    let article = if found.type_str().starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    Err(format!("{what} is expected, found {article} {}", found.type_str()))
}

/// Text that isn't empty and holds no control character.
pub fn text(value: &DeValue) -> Read<String> {
    match value.as_str() {
        Some("") => Err("a text is expected, found an empty one".to_owned()),
        Some(text) if text.chars().any(char::is_control) => {
            Err("a text without control characters is expected".to_owned())
        }
        Some(text) => Ok(text.to_owned()),
        None => expected("a text in quotes", value),
    }
}

/// True or false.
pub fn boolean(value: &DeValue) -> Read<bool> {
    value.as_bool().map_or_else(|| expected("true or false", value), Ok)
}

/// A whole number from `least` to `most`.
pub fn number(value: &DeValue, least: u32, most: u32) -> Read<u32> {
    let what = format!("a whole number from {least} to {most}");
    let Some(integer) = value.as_integer() else { return expected(&what, value) };
    let number =
        i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{what} is expected, found {integer}"))
}

/// A number of things to keep, at least 1.
pub fn count(value: &DeValue) -> Read<u32> {
    number(value, 1, 1_000_000)
}

/// An absolute path.
pub fn path(value: &DeValue) -> Read<PathBuf> {
    let path = text(value)?;
    if !path.starts_with('/') {
        return Err(format!("an absolute path is expected, found {path:?}"));
    }
    Ok(PathBuf::from(path))
}

/// A duration above zero: `"4 weeks"`.
pub fn duration(value: &DeValue) -> Read<Duration> {
    let Some(text) = value.as_str() else { return expected("a duration in quotes, as \"4 weeks\",", value) };
    match parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("a duration above zero is expected".to_owned()),
        duration => Ok(duration),
    }
}

/// A whole number of days: `"7 days"`.
pub fn days(value: &DeValue) -> Read<u32> {
    let seconds = duration(value)?.as_secs();
    match (seconds % 86_400, u32::try_from(seconds / 86_400)) {
        (0, Ok(days)) => Ok(days),
        _ => Err("whole days are expected, as \"7 days\", because it is calendar days that count".to_owned()),
    }
}

/// Bytes: a whole number, or one with a unit, `"512 MiB"`, `"1 GB"`.
pub fn size(value: &DeValue) -> Read<u64> {
    const WHAT: &str = "a size in bytes, as \"512 MiB\" or \"1 GB\",";
    if value.is_integer() {
        return number(value, 0, u32::MAX).map(u64::from);
    }
    let Some(text) = value.as_str() else { return expected(WHAT, value) };
    parse_size(text).ok_or_else(|| format!("{WHAT} is expected, found {text:?}"))
}

/// Bytes a second, above zero: `"2M"`, `"10 MB"`.
pub fn rate(value: &DeValue) -> Read<NonZeroU64> {
    match value.as_str() {
        Some(text) => parse_rate(text),
        None => parse_rate(&number(value, 0, u32::MAX).map_or_else(|_| String::new(), |number| number.to_string())),
    }
}

/// Reads a rate: bytes a second as a number alone, with a unit of sizes, or as other programs write it, with `k`, `M` or `G`
/// for 2^10, 2^20 and 2^30.
pub fn parse_rate(text: &str) -> Read<NonZeroU64> {
    let number = |digits: &str| digits.trim_end().parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let short = |unit: char| match unit {
        'k' | 'K' => Some(1 << 10),
        'm' | 'M' => Some(1 << 20),
        'g' | 'G' => Some(1_u64 << 30),
        _ => None,
    };
    let text = text.trim();
    let unit = text.chars().last().and_then(short);
    let rate = match unit {
        Some(unit) => number(&text[..text.len() - 1]).and_then(|number| number.checked_mul(unit)),
        None => number(text).or_else(|| parse_size(text)),
    };
    rate.and_then(NonZeroU64::new).ok_or_else(|| {
        format!("bytes a second are expected, above zero, as \"500k\", \"2M\" or \"10 MB\", found {text:?}")
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A share in whole percent: `"50 %"`.
pub fn percent(value: &DeValue) -> Read<u8> {
    const WHAT: &str = "a share from 0 to 100 in quotes, as \"50 %\",";
    let Some(text) = value.as_str() else { return expected(WHAT, value) };
    let number =
        text.trim().strip_suffix('%').map(str::trim_end).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let share = number.and_then(|digits| digits.parse().ok()).filter(|share| *share <= 100);
    share.ok_or_else(|| format!("{WHAT} is expected, found {text:?}"))
}

/// A list of what `read` reads.
pub fn list<T>(value: &DeValue, read: impl Fn(&DeValue) -> Read<T>) -> Read<Vec<T>> {
    let Some(values) = value.as_array() else { return expected("a list in brackets", value) };
    values.iter().map(|value| read(value.get_ref())).collect()
}

/// A list of texts.
pub fn texts(value: &DeValue) -> Read<Vec<String>> {
    list(value, text)
}

/// A list with at least one absolute path.
pub fn paths(value: &DeValue) -> Read<Vec<PathBuf>> {
    let paths = list(value, path)?;
    if paths.is_empty() { Err("at least one path is expected".to_owned()) } else { Ok(paths) }
}

/// A program: its words in a list, or a line for `sh -c`.
pub fn program(value: &DeValue) -> Read<ProgramSpec> {
    if let Some(script) = value.as_str() {
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        if script.trim().is_empty() || script.contains(odd) {
            return Err("lines for the shell are expected, without other control characters".to_owned());
        }
        return Ok(ProgramSpec { words: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()] });
    }
    let words = texts(value).map_err(|_| "a line for the shell, or a list of words, is expected".to_owned())?;
    if words.is_empty() {
        Err("a program is expected, found an empty list".to_owned())
    } else {
        Ok(ProgramSpec { words })
    }
}

/// Programs by the names of their streams, ascending.
pub fn programs(value: &DeValue) -> Read<Vec<(String, ProgramSpec)>> {
    let Some(table) = value.as_table().filter(|table| !table.is_empty()) else {
        return Err("a table of programs is expected: { NAME = PROGRAM, … }".to_owned());
    };
    let mut programs = Vec::new();
    for (name, value) in table {
        let name = name.get_ref().to_string();
        if let Err(error) = varu::entry::StreamName::new(name.as_bytes()) {
            return Err(format!("{name:?} can't name a stream: {error}"));
        }
        programs.push((name.clone(), program(value.get_ref()).map_err(|error| format!("{name}: {error}"))?));
    }
    programs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(programs)
}

/// A zone by its name.
pub fn zone(value: &DeValue) -> Read<Zone> {
    let name = text(value)?;
    name.parse().map_err(|error| match nearest(&name, Zone::names()) {
        Some(near) => format!("{error}; did you mean {near:?}?"),
        None => format!("{error}"),
    })
}

/// Where a repository lies: an absolute path, `sftp://…`, or `user@host:path`.
pub fn url(value: &DeValue) -> Read<String> {
    let url = text(value)?;
    if let Some((_, rest)) = url.split_once("://") {
        let account = rest.split('/').next().unwrap_or_default().rsplit_once('@').map_or("", |(account, _)| account);
        if account.contains(':') {
            return Err("a password stands in the URL; secrets are never in this file, and SSH takes a key".to_owned());
        }
        return Ok(url);
    }
    let before_slash = url.split('/').next().unwrap_or_default();
    if !url.starts_with('/') && !before_slash.contains(':') {
        return Err(format!("an absolute path or a URL is expected, found {url:?}"));
    }
    Ok(url)
}

/// What is acknowledged.
pub fn acknowledged(value: &DeValue) -> Read<Acknowledged> {
    let words = text(value)?;
    let (name, text) = match words.split_once(": ") {
        Some((name, text)) => (name, Some(text.to_owned())),
        None => (words.as_str(), None),
    };
    let kind = WarningKind::named(name).ok_or_else(|| {
        let meant = nearest(name, WarningKind::ALL.iter().map(|kind| kind.name()));
        let meant = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        format!(
            "no warning has the name {name:?}{meant} (it stands in brackets after each; docs/configuration.md has all)"
        )
    })?;
    Ok(Acknowledged { kind, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    /// What `read` makes of `text`, a TOML value.
    fn read<T>(text: &str, read: impl Fn(&DeValue) -> Read<T>) -> Read<T> {
        let document = format!("value = {text}");
        let table = DeTable::parse(&document).unwrap();
        read(table.get_ref().get("value").unwrap().get_ref())
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1_000", 1_000),
            ("'1 B'", 1),
            ("'1 GiB'", 1 << 30),
            ("'1GB'", 1_000_000_000),
            ("' 20 kB'", 20_000),
        ] {
            assert_eq!(read(text, size), Ok(bytes), "{text}");
        }
        for bad in ["''", "'1'", "'GiB'", "'-1 GiB'", "'1.5 GiB'", "'99999999999 TiB'", "-1", "1.0", "true", "'1 gib'"]
        {
            assert!(read(bad, size).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_bytes_a_second_with_long_units_and_short_ones() {
        for (text, bytes) in
            [("4096", 4096), ("'500k'", 500 << 10), ("'2M'", 2 << 20), ("'1 G'", 1 << 30), ("'10 MB'", 10_000_000)]
        {
            assert_eq!(read(text, rate).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for bad in ["0", "'0M'", "'M'", "''", "'-1M'", "'+1M'", "'1.5M'", "'2Mb'", "'99999999999G'", "true", "'2 é'"] {
            assert!(read(bad, rate).unwrap_err().contains("bytes a second"), "{bad}");
        }
    }

    #[test]
    fn shares_are_whole_percent() {
        assert_eq!(read("'50 %'", percent), Ok(50));
        assert_eq!(read("'0%'", percent), Ok(0));
        for bad in ["'101 %'", "50", "'50'", "'+5 %'", "'%'", "'5.5 %'", "'300 %'"] {
            assert!(read(bad, percent).is_err(), "{bad}");
        }
    }

    #[test]
    fn calendar_intervals_are_whole_days() {
        assert_eq!(read("'7 days'", days), Ok(7));
        assert_eq!(read("'48 hours'", days), Ok(2));
        assert!(read("'36 hours'", days).unwrap_err().contains("calendar days"));
        assert!(read("'0 days'", days).unwrap_err().contains("above zero"));
    }

    #[test]
    fn a_program_is_words_or_a_line_for_the_shell() {
        assert_eq!(read("['slapcat', '-n', '1']", program).unwrap().words, ["slapcat", "-n", "1"]);
        assert_eq!(read("'slapcat | cat'", program).unwrap().words, ["sh", "-c", "slapcat | cat"]);
        assert_eq!(read("\"\"\"\na\n\tb\"\"\"", program).unwrap().words[2], "a\n\tb");
        for bad in ["[]", "''", "[1]", "1", "['']", "\"a\\u0007\"", "\" \\n\""] {
            assert!(read(bad, program).is_err(), "{bad}");
        }
    }

    #[test]
    fn several_programs_have_the_names_of_their_streams() {
        let both = read("{ b = 'slapcat', a = ['x', 'y'] }", programs).unwrap();
        assert_eq!(both.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        for bad in ["{}", "'x'", "{ a = [] }", "{ '/a' = 'x' }"] {
            assert!(read(bad, programs).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_holds_no_password() {
        for good in
            ["'/srv/vault'", "'sftp://vm1@backup.example/repo'", "'vm1@backup.example:repo'", "'sftp://h:22/~/r'"]
        {
            assert!(read(good, url).is_ok(), "{good}");
        }
        assert!(read("'sftp://vm1:geheim@backup.example/repo'", url).unwrap_err().contains("password"));
        assert!(!read("'sftp://vm1:geheim@backup.example/repo'", url).unwrap_err().contains("geheim"));
        assert!(read("'vault'", url).is_err());
    }
}
