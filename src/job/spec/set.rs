//! Sets: what is protected, when, and with what objectives.

use std::path::PathBuf;
use std::time::Duration;

use super::SourceSpec;
use crate::time::Zone;
use crate::warning::{Warning, WarningKind};

/// One named thing to protect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What.
    pub source: SourceSpec,
    /// When.
    pub schedule: Schedule,
    /// A full is due this many calendar days after the last, where `schedule.full` doesn't say.
    pub full_every: u32,
    /// A re-base is due this many calendar days after the last; None is as long as snapshots are kept.
    pub rebase_every: Option<u32>,
    /// How much of the set a full may store again to free old packs, in percent.
    pub repack_budget: u8,
    /// How long snapshots of this set are kept, where not as `[retention]` says.
    pub keep: Option<Duration>,
    /// How many chains of this set are kept at least, where not as `[retention]` says.
    pub keep_chains: Option<u32>,
    /// A snapshot that shrank by more than this, in percent, is suspect.
    pub max_shrink: u8,
    /// The oldest that the newest snapshot may be.
    pub rpo: Option<Duration>,
    /// The longest that a restore may take.
    pub rto: Option<Duration>,
    /// The local copy, for sources that dump.
    pub local_copy: Option<LocalCopySpec>,
    /// Whether another job makes the local copy.
    pub dumped_by_another: bool,
    /// Commands round a backup and a restore.
    pub hooks: Hooks,
    /// Its place in a restore of everything; lower is earlier, sets without one come last.
    pub restore_order: Option<u32>,
    /// Whether a restore into the service has to name its snapshot.
    pub require_snapshot: bool,
    /// Warnings of a dump or a backup that somebody knows about.
    pub acknowledge: Vec<Acknowledged>,
}

/// When a set is dumped and backed up. The times are systemd's calendar expressions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The zone of the times, and of the calendar days that intervals count.
    pub zone: Zone,
    /// When the local copy is made.
    pub dump: Option<String>,
    /// When a full is made.
    pub full: Option<String>,
    /// When an incremental is made.
    pub incremental: Option<String>,
}

/// Where the last dumps of a set stay on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCopySpec {
    /// The folder.
    pub folder: PathBuf,
    /// How many dumps stay.
    pub keep: u32,
    /// How much of the file system stays free, in percent.
    pub reserve: u8,
}

/// Commands round a backup and a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Run before a backup; a failure ends it.
    pub before: Vec<Hook>,
    /// Run after a backup, always.
    pub after: Vec<Hook>,
    /// Run after a backup that failed.
    pub on_error: Vec<Hook>,
    /// Run before a restore into the service.
    pub restore_before: Vec<Hook>,
    /// Run after a restore into the service, always.
    pub restore_after: Vec<Hook>,
}

/// One command with its time limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub program: ProgramSpec,
    /// How long it may run.
    pub limit: Duration,
}

/// The words of a program's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramSpec {
    /// The program and its arguments, at least one word.
    pub words: Vec<String>,
}

/// A kind of warnings that somebody knows about, `changed-while-read`, or those of them that have a text in them,
/// `changed-while-read: /var/log/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The kind.
    pub kind: WarningKind,
    /// What has to stand in the warning.
    pub text: Option<String>,
}

impl Acknowledged {
    /// Whether it is about this warning.
    pub fn takes(&self, warning: &Warning) -> bool {
        self.kind == warning.kind && self.text.as_ref().is_none_or(|text| warning.text.contains(text))
    }
}

/// Checks that `name` can name a set.
///
/// # Errors
///
/// Why it can't.
pub fn check_set_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (1..=63).contains(&name.len()) && name.bytes().next().is_some_and(plain);
    if fits && name.bytes().all(|byte| plain(byte) || matches!(byte, b'_' | b'.' | b'-')) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(format!(
        "{shown:?} can't name a set: 1 to 63 of a-z, 0-9, '_', '.' and '-' are expected, a letter or digit first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_a_plain_name() {
        for good in ["a", "0", "agama", "a.b_c-d", &"a".repeat(63)] {
            assert_eq!(check_set_name(good), Ok(()), "{good}");
        }
        for bad in ["", "A", ".a", "-a", "_a", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert!(check_set_name(bad).is_err(), "{bad}");
        }
    }
}
