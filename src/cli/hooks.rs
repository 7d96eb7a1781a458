//! Commands round a backup and round a restore into a service.

use std::ffi::OsString;

use varu::progress::Progress;
use varu::source::command::talk::ask;
use varu::warning::WarningKind;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::watch::Watch;
use crate::config::{Hook, Set};

/// Most bytes that a command may print.
const OUTPUT: usize = 16 << 20;

/// Runs a command to its end. It finds the set's name in `VARU_SET`.
fn run(hook: &Hook, when: &str, name: &str, context: &Context) -> Result<(), Failure> {
    let mut argv = vec![OsString::from("env"), OsString::from(format!("VARU_SET={name}"))];
    argv.extend(hook.program.words.iter().map(OsString::from));
    let program = hook.program.words.last().cloned().unwrap_or_default();
    ask(&argv, b"", OUTPUT, hook.limit, &context.interrupt)
        .map(drop)
        .map_err(|error| Failure::new(ExitStatus::Failed, format!("the command {when}, {program:?}, failed: {error}")))
}

/// Runs all of them, and warns of those that fail.
fn run_all(hooks: &[Hook], when: &str, name: &str, context: &Context, watch: &Watch) {
    for hook in hooks {
        if let Err(failure) = run(hook, when, name, context) {
            watch.warn(&WarningKind::Command.warning(failure.message));
        }
    }
}

/// Does `work` between a set's commands: a command before that fails ends it, those after always run.
pub fn round_backup<T>(
    name: &str,
    set: Option<&Set>,
    context: &Context,
    watch: &Watch,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(hooks) = set.map(|set| &set.hooks) else { return work() };
    let before = hooks.before.iter().try_for_each(|hook| run(hook, "before the backup", name, context));
    let result = before.and_then(|()| work());
    if result.is_err() {
        run_all(&hooks.on_error, "on an error", name, context, watch);
    }
    run_all(&hooks.after, "after the backup", name, context, watch);
    result
}

/// Runs them one after the other, after a refresh. The first that fails ends it.
pub fn after_refresh(hooks: &[Hook], name: &str, context: &Context) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| run(hook, "after the refresh", name, context))
}

/// As [`round_backup`], for a restore into the service.
pub fn round_restore<T>(
    name: &str,
    set: Option<&Set>,
    context: &Context,
    watch: &Watch,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(hooks) = set.map(|set| &set.hooks) else { return work() };
    let before = hooks.restore_before.iter().try_for_each(|hook| run(hook, "before the restore", name, context));
    let result = before.and_then(|()| work());
    run_all(&hooks.restore_after, "after the restore", name, context, watch);
    result
}
