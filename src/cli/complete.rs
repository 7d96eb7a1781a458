//! Completion of values that only this machine knows: sets, snapshots, services.
//!
//! All of it comes from the configuration and from the indexes in the state folder: no remote is asked, nothing is written,
//! and what can't be read is passed over: a shell shows no errors while it completes.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{CommandFactory, Parser};
use clap_complete::CompletionCandidate;
use clap_complete::env::CompleteEnv;
use varu::index::{Index, SnapshotRow};
use varu::job::spec::SourceKind;
use varu::progress::Interrupt;
use varu::time::Zone;

use super::Cli;
use super::context::{Context, ProcessEnvironment};
use super::values::short;

/// The variable with which a shell's script asks.
pub const VARIABLE: &str = "VARU_COMPLETE";

/// The most snapshots that a shell is told of, the newest.
const SNAPSHOTS: usize = 100;

/// Answers a shell and ends the program, where it was a shell that started it.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin("varu").complete();
}

/// The global options of the line that is being completed.
const GLOBALS: [&str; 3] = ["--config", "--repo", "--state"];

/// What a command on this line would be run with. None where it can't be known.
fn context() -> Option<Context> {
    let mut words = vec![OsString::from("varu")];
    let mut line = std::env::args_os().skip_while(|word| word != "--").skip(2).peekable();
    while let Some(word) = line.next() {
        let text = word.to_string_lossy();
        match GLOBALS.iter().find(|option| text.starts_with(**option)) {
            Some(option) if text == **option => words.extend([Some(word), line.next()].into_iter().flatten()),
            Some(_) => words.push(word),
            None => {}
        }
    }
    words.extend(["completions", "bash"].map(OsString::from));
    let globals = Cli::try_parse_from(words).ok()?.globals;
    Context::resolve(globals, &ProcessEnvironment::of_the_process(), Interrupt::default()).ok()
}

/// The snapshots of all indexes in the state folder, oldest first.
fn known(context: &Context) -> Vec<SnapshotRow> {
    let folders =
        context.machine.state().ok().and_then(|state| std::fs::read_dir(state).ok()).into_iter().flatten().flatten();
    let indexes = folders.filter_map(|folder| Index::open_to_look(&folder.path()).ok());
    let mut rows: Vec<SnapshotRow> = indexes.filter_map(|index| index.snapshots().ok()).flatten().collect();
    rows.sort_by_key(|row| row.header.stored_time);
    rows.split_off(rows.len().saturating_sub(SNAPSHOTS))
}

/// The sets of the configuration.
pub fn configured_sets() -> Vec<CompletionCandidate> {
    context()
        .into_iter()
        .flat_map(|context| context.machine.configuration.sets.into_keys())
        .map(CompletionCandidate::new)
        .collect()
}

/// The sets of the configuration and of the snapshots.
pub fn sets() -> Vec<CompletionCandidate> {
    let Some(context) = context() else { return Vec::new() };
    let stored = known(&context).into_iter().map(|row| row.header.set);
    let sets: BTreeSet<String> = context.machine.configuration.sets.into_keys().chain(stored).collect();
    sets.into_iter().map(CompletionCandidate::new).collect()
}

/// The ids of the snapshots with their sets and times, the newest first, and `latest`.
pub fn ids() -> Vec<CompletionCandidate> {
    let Some(context) = context() else { return Vec::new() };
    let described = |row: SnapshotRow| {
        let about = format!("{} {}", row.header.set, Zone::Local.short(row.header.stored_time));
        CompletionCandidate::new(short(&row.id)).help(Some(about.into()))
    };
    let latest = CompletionCandidate::new("latest").help(Some("the newest".into()));
    std::iter::once(latest).chain(known(&context).into_iter().rev().map(described)).collect()
}

/// What names one snapshot: an id, `latest`, or `SET@latest`.
pub fn snapshots() -> Vec<CompletionCandidate> {
    let of_sets = sets().into_iter().map(|set| set.get_value().to_owned());
    let of_sets = of_sets.map(|mut set| {
        set.push("@latest");
        CompletionCandidate::new(set)
    });
    ids().into_iter().chain(of_sets).collect()
}

/// What a restore goes into.
pub fn services() -> Vec<CompletionCandidate> {
    SourceKind::services().map(|kind| CompletionCandidate::new(kind.name())).collect()
}

/// The refreshes of the configuration.
pub fn refreshes() -> Vec<CompletionCandidate> {
    context()
        .into_iter()
        .flat_map(|context| context.machine.configuration.restores.into_keys())
        .map(CompletionCandidate::new)
        .collect()
}
