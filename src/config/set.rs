//! A set: what it protects, when, and with what objectives.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;
use varu::time::Zone;

use super::document::Section;
use super::keys::Part;
use super::source::{Source, SourceKind};
use super::values::{self, Acknowledged, Program, Read};

/// One named thing to protect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What.
    pub source: Source,
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
    pub local_copy: Option<LocalCopy>,
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
pub struct LocalCopy {
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
    pub program: Program,
    /// How long it may run.
    pub limit: Duration,
}

/// The share by which a set may shrink, in percent, where nothing is said.
pub const MAX_SHRINK: u8 = 50;

/// How long a hook may run that names no limit.
const HOOK_LIMIT: Duration = Duration::from_secs(10 * 60);

impl Set {
    /// Reads a set. None where its source, or something that its source needs, is missing or wrong, which is noted.
    pub fn read(section: &Section) -> Option<Self> {
        let kind = section.need("source", SourceKind::read);
        section.check_keys(kind);
        let schedule = Schedule::read(&section.section("schedule", Part::Schedule));
        let hooks = Hooks::read(section);
        let local_copy = kind.filter(|kind| *kind != SourceKind::Files).and_then(|_| LocalCopy::read(section));
        let set = Self {
            schedule,
            full_every: section.take("full_every", values::days).unwrap_or(7),
            rebase_every: section.take("rebase_every", values::days),
            repack_budget: section.take("repack_budget", values::percent).unwrap_or(10),
            keep: section.take("keep", values::duration),
            keep_chains: section.take("keep_chains", values::count),
            max_shrink: section.take("max_shrink", values::percent).unwrap_or(MAX_SHRINK),
            rpo: section.take("rpo", values::duration),
            rto: section.take("rto", values::duration),
            dumped_by_another: read_dump_by(section, kind),
            local_copy,
            hooks,
            restore_order: section.take("restore_order", |value| values::number(value, 0, 1_000_000)),
            require_snapshot: section.take("require_snapshot", values::boolean).unwrap_or_default(),
            acknowledge: section
                .take("acknowledge", |value| values::list(value, values::acknowledged))
                .unwrap_or_default(),
            // Last, because without it there is no set; all else was read and checked by then.
            source: Source::read(kind?, section)?,
        };
        Some(set)
    }
}

fn read_dump_by(section: &Section, kind: Option<SourceKind>) -> bool {
    if matches!(kind, None | Some(SourceKind::Files | SourceKind::Command)) {
        return false;
    }
    let read = |value: &DeValue| match value.as_str() {
        Some("varu") => Ok(false),
        Some("external") => Ok(true),
        _ => Err("\"varu\" or \"external\" is expected".to_owned()),
    };
    let external = section.take("dump_by", read).unwrap_or_default();
    if external && !section.has("local_copy") {
        section.problem_of("dump_by", "a dump that another job makes is read from local_copy, which is missing");
    }
    external
}

impl Schedule {
    fn read(section: &Section) -> Self {
        Self {
            zone: section.take("timezone", values::zone).unwrap_or_default(),
            dump: section.take("dump", values::text),
            full: section.take("full", values::text),
            incremental: section.take("incremental", values::text),
        }
    }
}

impl LocalCopy {
    fn read(section: &Section) -> Option<Self> {
        let keep = section.take("keep_local", values::count).unwrap_or(1);
        let reserve = section.take("local_reserve", values::percent).unwrap_or(10);
        for key in ["keep_local", "local_reserve"] {
            if section.has(key) && !section.has("local_copy") {
                section.problem_of(key, "is about local_copy, which is missing");
            }
        }
        Some(Self { folder: section.take("local_copy", values::path)?, keep, reserve })
    }
}

impl Hooks {
    fn read(section: &Section) -> Self {
        let hooks = |key| section.take(key, |value| values::list(value, Hook::read)).unwrap_or_default();
        Self {
            before: hooks("before"),
            after: hooks("after"),
            on_error: hooks("on_error"),
            restore_before: hooks("restore_before"),
            restore_after: hooks("restore_after"),
        }
    }
}

impl Hook {
    /// A program, or a table of `run` and `limit`.
    pub(super) fn read(value: &DeValue) -> Read<Self> {
        let Some(table) = value.as_table() else {
            return Ok(Self { program: values::program(value)?, limit: HOOK_LIMIT });
        };
        if let Some(unknown) = table.keys().find(|key| !matches!(key.get_ref().as_ref(), "run" | "limit")) {
            return Err(format!("run and limit are the keys of a command, not {:?}", unknown.get_ref()));
        }
        let Some(run) = table.get("run") else { return Err("run is missing in the table of a command".to_owned()) };
        let program = values::program(run.get_ref()).map_err(|error| format!("run: {error}"))?;
        let limit = match table.get("limit") {
            None => HOOK_LIMIT,
            Some(limit) => values::duration(limit.get_ref()).map_err(|error| format!("limit: {error}"))?,
        };
        Ok(Self { program, limit })
    }
}
