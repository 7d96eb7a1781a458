//! Sets, `[sets.NAME]`.

use toml::de::DeValue;
use varu::job::spec::{Hook, Hooks, LocalCopySpec, Schedule, Set, SourceKind, defaults};

use super::document::Section;
use super::keys::{self, ConfigTable};
use super::source;
use super::values::{self, Read};

/// Reads a set. None where its source, or something that its source needs, is missing or wrong, which is noted.
pub fn read(section: &Section) -> Option<Set> {
    let kind = section.need("source", source::read_kind);
    section.check_keys(kind);
    let schedule = read_schedule(&section.section("schedule", ConfigTable::Schedule));
    let hooks = read_hooks(section);
    let local_copy = has_key(kind, "local_copy").then(|| read_local_copy(section)).flatten();
    let set = Set {
        schedule,
        full_every: section.take("full_every", values::days).unwrap_or(defaults::FULL_EVERY),
        rebase_every: section.take("rebase_every", values::days),
        repack_budget: section.take("repack_budget", values::percent).unwrap_or(defaults::REPACK_BUDGET),
        keep: section.take("keep", values::duration),
        keep_chains: section.take("keep_chains", values::count),
        max_shrink: section.take("max_shrink", values::percent).unwrap_or(defaults::MAX_SHRINK),
        rpo: section.take("rpo", values::duration),
        rto: section.take("rto", values::duration),
        dumped_by_another: read_dump_by(section, kind),
        local_copy,
        hooks,
        restore_order: section.take("restore_order", |value| values::number(value, 0, 1_000_000)),
        require_snapshot: section.take("require_snapshot", values::boolean).unwrap_or_default(),
        acknowledge: section.take("acknowledge", |value| values::list(value, values::acknowledged)).unwrap_or_default(),
        // Last, because without it there is no set; all else was read and checked by then.
        source: source::read(kind?, section)?,
    };
    Some(set)
}

/// Whether sets of that kind have the key; what isn't theirs is told by the check of all keys.
fn has_key(kind: Option<SourceKind>, key: &str) -> bool {
    keys::find(ConfigTable::Set, key).zip(kind).is_some_and(|(key, kind)| key.sources.contains(&kind))
}

fn read_dump_by(section: &Section, kind: Option<SourceKind>) -> bool {
    if !has_key(kind, "dump_by") {
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

fn read_schedule(section: &Section) -> Schedule {
    Schedule {
        zone: section.take("timezone", values::zone).unwrap_or_default(),
        dump: section.take("dump", values::text),
        full: section.take("full", values::text),
        incremental: section.take("incremental", values::text),
    }
}

fn read_local_copy(section: &Section) -> Option<LocalCopySpec> {
    let keep = section.take("keep_local", values::count).unwrap_or(defaults::KEEP_LOCAL);
    let reserve = section.take("local_reserve", values::percent).unwrap_or(defaults::LOCAL_RESERVE);
    for key in ["keep_local", "local_reserve"] {
        if section.has(key) && !section.has("local_copy") {
            section.problem_of(key, "is about local_copy, which is missing");
        }
    }
    Some(LocalCopySpec { folder: section.take("local_copy", values::path)?, keep, reserve })
}

fn read_hooks(section: &Section) -> Hooks {
    let hooks = |key| section.take(key, |value| values::list(value, read_hook)).unwrap_or_default();
    Hooks {
        before: hooks("before"),
        after: hooks("after"),
        on_error: hooks("on_error"),
        restore_before: hooks("restore_before"),
        restore_after: hooks("restore_after"),
    }
}

/// A program, or a table of `run` and `limit`.
pub fn read_hook(value: &DeValue) -> Read<Hook> {
    let Some(table) = value.as_table() else {
        return Ok(Hook { program: values::program(value)?, limit: defaults::HOOK_LIMIT });
    };
    if let Some(unknown) = table.keys().find(|key| !matches!(key.get_ref().as_ref(), "run" | "limit")) {
        return Err(format!("run and limit are the keys of a command, not {:?}", unknown.get_ref()));
    }
    let Some(run) = table.get("run") else { return Err("run is missing in the table of a command".to_owned()) };
    let program = values::program(run.get_ref()).map_err(|error| format!("run: {error}"))?;
    let limit = match table.get("limit") {
        None => defaults::HOOK_LIMIT,
        Some(limit) => values::duration(limit.get_ref()).map_err(|error| format!("limit: {error}"))?,
    };
    Ok(Hook { program, limit })
}
