//! Hooks: commands round a backup, and round a restore into a service.

use std::ffi::OsString;

use super::Machine;
use super::spec::{Hook, Set};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::source::command::talk::ask;
use crate::warning::WarningKind;

/// Most bytes that a command may print.
const OUTPUT: usize = 16 << 20;

/// Runs a command to its end. It finds the set's name in `VARU_SET`.
fn run(hook: &Hook, when: &str, name: &str, machine: &Machine) -> Result<()> {
    let mut argv = vec![OsString::from("env"), OsString::from(format!("VARU_SET={name}"))];
    argv.extend(hook.program.words.iter().map(OsString::from));
    let program = hook.program.words.last().cloned().unwrap_or_default();
    ask(&argv, b"", OUTPUT, hook.limit, &machine.interrupt)
        .map(drop)
        .map_err(|error| Error::Failed(format!("the command {when}, {program:?}, failed: {error}")))
}

/// Runs all of them, and warns of those that fail.
fn run_all(hooks: &[Hook], when: &str, name: &str, machine: &Machine, progress: &dyn Progress) {
    for hook in hooks {
        if let Err(failure) = run(hook, when, name, machine) {
            progress.warn(&WarningKind::Command.warning(failure.to_string()));
        }
    }
}

/// Runs them one after the other, and then does `work`. The first that fails ends it.
fn after_all<T>(
    hooks: &[Hook],
    when: &str,
    name: &str,
    machine: &Machine,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    hooks.iter().try_for_each(|hook| run(hook, when, name, machine))?;
    work()
}

/// Does `work` between a set's commands: a command before that fails ends it, those after always run.
///
/// # Errors
///
/// That of the first command before that failed, or of `work`.
pub fn around_backup<T>(
    name: &str,
    set: Option<&Set>,
    machine: &Machine,
    progress: &dyn Progress,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(hooks) = set.map(|set| &set.hooks) else { return work() };
    let result = after_all(&hooks.before, "before the backup", name, machine, work);
    if result.is_err() {
        run_all(&hooks.on_error, "on an error", name, machine, progress);
    }
    run_all(&hooks.after, "after the backup", name, machine, progress);
    result
}

/// Runs them one after the other, after a refresh. The first that fails ends it.
pub fn after_refresh(hooks: &[Hook], name: &str, machine: &Machine) -> Result<()> {
    after_all(hooks, "after the refresh", name, machine, || Ok(()))
}

/// As [`around_backup`], for a restore into the service.
pub fn around_restore<T>(
    name: &str,
    set: Option<&Set>,
    machine: &Machine,
    progress: &dyn Progress,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(hooks) = set.map(|set| &set.hooks) else { return work() };
    let result = after_all(&hooks.restore_before, "before the restore", name, machine, work);
    run_all(&hooks.restore_after, "after the restore", name, machine, progress);
    result
}
