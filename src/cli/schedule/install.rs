//! `varu schedule install`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use varu::job::schedule::timers::Timer;

use super::dropins::{self, NAME};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::cli::units::{self, MACHINE, MARK, UNITS, systemctl};

/// What was done.
struct Installed {
    /// Files that were written, because they are new or differ.
    written: Vec<String>,
    /// Drop-ins that were removed.
    removed: Vec<String>,
    /// The timers of the configuration.
    timers: Vec<String>,
}

/// Writes the drop-ins, and the units where no package brought them; then starts the timers, unless they are written
/// elsewhere.
pub fn install(jobs: &[Timer], to: Option<&Path>, context: &Context) -> Result<(), Failure> {
    let folder = to.unwrap_or(Path::new(UNITS));
    let mut files = units::own(MACHINE)?;
    for (dropin, text) in dropins::all(jobs, context)? {
        files.insert(format!("{dropin}/{NAME}"), text);
    }
    let failed = |error: io::Error| {
        Failure::new(ExitStatus::Failed, format!("writing the units into {} failed: {error}", folder.display()))
    };
    let old = old_dropins(folder).map_err(failed)?;
    let gone: Vec<String> = old.into_iter().filter(|name| !files.contains_key(name)).collect();
    if to.is_none() {
        disable(&gone)?;
    }
    gone.iter().try_for_each(|name| units::remove(&folder.join(name))).map_err(failed)?;
    let written = units::write(folder, &files).map_err(failed)?;
    let timers = jobs.iter().map(|job| format!("{}.timer", job.unit)).collect();
    let installed = Installed { written, removed: gone, timers };
    if to.is_none() {
        systemctl(&["daemon-reload"])?;
        let timers: Vec<&str> = installed.timers.iter().map(String::as_str).collect();
        if !timers.is_empty() {
            systemctl(&[&["enable", "--now", "--quiet"], &timers[..]].concat())?;
            // A timer that runs heeds new times only so.
            if !installed.written.is_empty() {
                systemctl(&[&["restart"], &timers[..]].concat())?;
            }
        }
    }
    say(&installed, folder, to.is_none(), context)
}

/// Which units aren't as an installation would make them, each with why; `from` is the folder of the drop-ins where it isn't
/// systemd's, which is then not asked whether timers run.
pub fn pending(jobs: &[Timer], from: Option<&Path>, context: &Context) -> Result<BTreeMap<String, String>, Failure> {
    let folder = from.unwrap_or(Path::new(UNITS));
    let mut pending = BTreeMap::new();
    let files: BTreeMap<String, String> =
        dropins::all(jobs, context)?.into_iter().map(|(dropin, text)| (format!("{dropin}/{NAME}"), text)).collect();
    for job in jobs {
        let starts = [format!("{}.timer.d/", job.unit), format!("{}.service.d/", job.unit)];
        let own = files.iter().filter(|(name, _)| starts.iter().any(|start| name.starts_with(start)));
        let there: Vec<Option<bool>> =
            own.map(|(name, text)| fs::read_to_string(folder.join(name)).ok().map(|there| there == *text)).collect();
        let runs = from.is_some() || systemctl(&["is-active", "--quiet", &format!("{}.timer", job.unit)]).is_ok();
        let why = match () {
            () if there.iter().any(Option::is_none) => "NOT INSTALLED",
            () if there.contains(&Some(false)) => "INSTALLED OTHERWISE than the configuration says",
            () if !runs => "its timer DOESN'T RUN",
            () => continue,
        };
        pending.insert(job.unit.clone(), why.to_owned());
    }
    let old = old_dropins(folder).map_err(|error| {
        Failure::new(ExitStatus::Failed, format!("reading the units in {} failed: {error}", folder.display()))
    })?;
    for name in old.into_iter().filter(|name| !files.contains_key(name)) {
        let unit = name.split(".timer.d/").next().and_then(|name| name.split(".service.d/").next()).unwrap_or(&name);
        pending.insert(unit.to_owned(), "INSTALLED, and not in the configuration".to_owned());
    }
    Ok(pending)
}

fn say(installed: &Installed, folder: &Path, started: bool, context: &Context) -> Result<(), Failure> {
    let Installed { written, removed, timers } = installed;
    if context.json {
        return context.print_json(&json!({
            "folder": folder, "written": written, "removed": removed, "timers": timers, "started": started,
        }));
    }
    let mut text = match written.len() + removed.len() {
        0 => format!("everything in {} is as the configuration says\n", folder.display()),
        _ => format!("{} files written into {}, {} removed\n", written.len(), folder.display(), removed.len()),
    };
    if started && !timers.is_empty() {
        text += "these timers run:\n";
        timers.iter().for_each(|timer| text += &format!("  {timer}\n"));
    }
    context.tell(&text)
}

/// The drop-ins that were made here, as names below `folder`.
fn old_dropins(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut old = Vec::new();
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let file = folder.join(&name).join(NAME);
        if name.starts_with("varu-") && fs::read_to_string(file).is_ok_and(|text| text.starts_with(MARK)) {
            old.push(format!("{name}/{NAME}"));
        }
    }
    old.sort();
    Ok(old)
}

/// Stops the timers whose drop-ins go.
fn disable(gone: &[String]) -> Result<(), Failure> {
    let end = format!(".service.d/{NAME}");
    let timers: Vec<String> =
        gone.iter().filter_map(|name| name.strip_suffix(&end)).map(|unit| format!("{unit}.timer")).collect();
    if timers.is_empty() {
        return Ok(());
    }
    let words: Vec<&str> =
        ["disable", "--now", "--quiet"].into_iter().chain(timers.iter().map(String::as_str)).collect();
    systemctl(&words).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::tests::CONFIG;
    use super::*;
    use crate::cli::context::tests::context;

    #[test]
    fn a_second_install_writes_nothing_and_old_drop_ins_go() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("varu-backup@old.timer.d");
        let own = folder.path().join("varu-backup@own.timer.d");
        for (dropin, text) in [(&old, MARK), (&own, "[Timer]")] {
            fs::create_dir_all(dropin).unwrap();
            fs::write(dropin.join(NAME), text).unwrap();
        }
        let context = context(&["-q"], CONFIG, true, &[]).unwrap();
        let install = || {
            install(&varu::job::schedule::timers::timers(&context.machine.configuration), Some(folder.path()), &context)
                .unwrap()
        };
        install();
        assert!(!old.exists() && own.join(NAME).exists());
        let backup = folder.path().join("varu-backup@agama.service.d").join(NAME);
        let before = fs::metadata(&backup).unwrap().modified().unwrap();
        install();
        assert_eq!(fs::metadata(&backup).unwrap().modified().unwrap(), before);
    }
}
