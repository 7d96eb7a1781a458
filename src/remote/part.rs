//! Names of uploads under way.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use super::{Folder, ObjectName};
use crate::id::Hasher;
use crate::time::{Clock, SystemClock, Timestamp};

/// A number that is most likely unique. Not for secrets.
pub(super) fn random() -> u64 {
    // The standard library seeds each thread's first state from the system and makes every state different.
    RandomState::new().hash_one(0_u8)
}

/// How long the part of another machine's upload stays.
const LEFT_OVER: Duration = Duration::from_secs(14 * 24 * 3600);

/// A new name in `pending/`: the start time of the upload, and the process and machine that it belongs to, so that
/// leftovers can be distinguished from uploads under way. Names of two writers may collide by chance, so create it
/// exclusively, and draw again if it exists.
pub(super) fn part_name() -> ObjectName {
    let began = SystemClock.now().seconds().unsigned_abs();
    let (own, start) = (own(), started("self").unwrap_or(0));
    let name = format!("{began:x}-{own:016x}-{:x}-{start:x}-{:016x}.part", std::process::id(), random());
    ObjectName { folder: Folder::Pending, name }
}

/// Whether a name in `pending/` is of an upload that has ended: its process was of this machine and is gone, or it began
/// long ago.
pub fn is_left_over(name: &ObjectName, now: Timestamp) -> bool {
    let number = |word: Option<&str>| u64::from_str_radix(word?, 16).ok();
    let mut words = name.name().strip_suffix(".part").unwrap_or_default().split('-');
    let (Some(began), Some(of), Some(process), Some(start), Some(_), None) = (
        number(words.next()),
        number(words.next()),
        number(words.next()),
        number(words.next()),
        number(words.next()),
        words.next(),
    ) else {
        return false;
    };
    match of == own() {
        true => started(&process.to_string()) != Some(start),
        false => i64::try_from(began).is_ok_and(|began| now.since(Timestamp::from_seconds(began)) >= LEFT_OVER),
    }
}

/// This machine as long as it runs, and this view of its processes: a clone of it is another one.
fn own() -> u64 {
    static OWN: OnceLock<u64> = OnceLock::new();
    *OWN.get_or_init(|| {
        let mut hasher = Hasher::new();
        for file in ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"] {
            hasher.update(&std::fs::read(file).unwrap_or_default());
        }
        let view = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        hasher.update(view.as_os_str().as_encoded_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hasher.finish();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    })
}

/// When a process began, in ticks since the machine did; None if there is none of that number.
fn started(process: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses, may have anything in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn part_names_are_object_names_and_all_differ() {
        let draw = || (0..1000).map(|_| part_name()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let names: BTreeSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(names.len(), 4000);
        assert!(names.iter().all(|name| ObjectName::new(Folder::Pending, name.name()).as_ref() == Some(name)));
    }

    #[test]
    fn a_part_is_left_over_once_its_process_has_ended_or_after_two_weeks() {
        let now = SystemClock.now();
        let later = now.after(2 * LEFT_OVER);
        let own_part = part_name();
        assert!(!is_left_over(&own_part, now) && !is_left_over(&own_part, later), "it is under way");
        let named = |name: String| ObjectName::new(Folder::Pending, name).unwrap();
        let words: Vec<&str> = own_part.name().split('-').collect();
        let with = |at: usize, word: &str| {
            let mut words = words.clone();
            words[at] = word;
            named(words.join("-"))
        };
        assert!(is_left_over(&with(3, "1"), now), "another process has its number now");
        assert!(is_left_over(&with(2, "7fffffff"), now));
        let elsewhere = with(1, "00000000000000aa");
        assert!(!is_left_over(&elsewhere, now) && is_left_over(&elsewhere, later));
        for other in ["x.part", "photo.jpg", "1-2-3.part", "0123456789abcdef.part"] {
            assert!(!is_left_over(&named(other.to_owned()), later), "{other}");
        }
    }
}
