//! Names that sources have in common: a server's names in those of streams, and names beside a name.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Error;
use crate::time::Timestamp;

/// A name as a part of a stream's name.
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '.' | '/' | '@' | '%' => out.push_str(&format!("%{:02X}", u32::from(c))),
            c if c.is_ascii_control() => out.push_str(&format!("%{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The name that was escaped; None where it can't have been.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = u8::from_str_radix(after.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        out.push(char::from(code));
        rest = &after[2..];
    }
    out.push_str(rest);
    (!out.is_empty() && !text.contains(['.', '/', '@'])).then_some(out)
}

/// A name beside `name`, with at most `most` bytes: `agama_before_20261121T140000Z`.
pub fn aside(name: &str, mark: &str, stamp: &str, most: usize) -> String {
    let most = most.saturating_sub(mark.len() + stamp.len() + 2);
    let end = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last().unwrap_or(0);
    format!("{}_{mark}_{stamp}", &name[..end])
}

/// What is said of what earlier restores have left: by which statement it goes.
pub fn leftover(name: &str, drop: &str) -> String {
    format!(
        "{name} is left of a restore that didn't end; once you have seen that nobody wrote to it since, it goes by {drop}"
    )
}

/// Whether a database of that name was made by a restore: the old data, or what is being loaded.
pub fn is_aside(name: &str) -> bool {
    let stamp = |end: &str| end.len() == 16 && end.ends_with('Z') && end[..8].bytes().all(|byte| byte.is_ascii_digit());
    ["_before_", "_loading_"].iter().any(|mark| name.rsplit_once(mark).is_some_and(|(_, end)| stamp(end)))
}

/// The first time from `stamp` on by which nothing that is `there` is named beside one of `names`.
///
/// # Errors
/// [`Error::Failed`] where `stamp` is no time.
pub fn free_stamp(stamp: &str, names: &[&String], there: &BTreeSet<String>, most: usize) -> Result<String, Error> {
    let mut stamp = stamp.to_owned();
    let taken = |stamp: &str| {
        let is_there =
            |name: &String| ["before", "loading"].iter().any(|mark| there.contains(&aside(name, mark, stamp, most)));
        names.iter().any(|name| is_there(name))
    };
    while taken(&stamp) {
        let next = Timestamp::from_compact(&stamp).map(|time| time.after(Duration::from_secs(1)).compact());
        stamp = next.ok_or_else(|| Error::Failed(format!("{stamp} is no time to name a database by")))?;
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_left_is_no_database_of_the_user() {
        assert!(is_aside("agama_before_20261121T140000Z") && is_aside("a_before_b_loading_20261121T140000Z"));
        assert!(!is_aside("agama_before_christmas") && !is_aside("agama"));
    }

    #[test]
    fn a_name_beside_another_is_short_enough_and_free() {
        let stamp = "20261121T140000Z";
        assert_eq!(aside("agama", "before", stamp, 63), "agama_before_20261121T140000Z");
        let long = aside(&"õ".repeat(60), "loading", stamp, 63);
        assert!(long.len() <= 63 && long.starts_with("õõ") && is_aside(&long));
        let there = BTreeSet::from(["a_loading_20261121T140000Z".to_owned()]);
        assert_eq!(free_stamp(stamp, &[&"a".to_owned()], &there, 63).unwrap(), "20261121T140001Z");
        assert!(free_stamp("x", &[&"a".to_owned()], &BTreeSet::from(["a_before_x".to_owned()]), 63).is_err());
    }
}
