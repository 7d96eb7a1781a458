//! `varu host install`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use varu::host::Places;

use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use crate::cli::units::{self, HOST, MARK, UNITS, escaped, systemctl};

/// Start the timers that accept, verify, prune and report. Units are written where no package brought them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only write, into this folder.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// The drop-ins that name the places, where they aren't those of the units.
const NAME: &str = "50-places.conf";

/// The commands of the units.
const COMMANDS: [&str; 4] = ["accept", "verify", "prune", "status"];

impl Args {
    /// Installs them and says what was done.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let folder = self.to.as_deref().unwrap_or(Path::new(UNITS));
        let failed = |error: io::Error| {
            Failure::new(ExitStatus::Failed, format!("writing the units into {} failed: {error}", folder.display()))
        };
        let mut files = units::own(HOST)?;
        files.extend(dropins(&places)?);
        let mut removed = Vec::new();
        for command in COMMANDS {
            let name = format!("varu-host-{command}.service.d/{NAME}");
            if !files.contains_key(&name) && folder.join(&name).exists() {
                units::remove(&folder.join(&name)).map_err(failed)?;
                removed.push(name);
            }
        }
        let written = units::write(folder, &files).map_err(failed)?;
        let timers: Vec<String> = COMMANDS.iter().map(|command| format!("varu-host-{command}.timer")).collect();
        let mut started = Vec::new();
        if self.to.is_none() {
            let names: Vec<&str> = timers.iter().map(String::as_str).collect();
            let runs = |timer: &&str| {
                ["is-enabled", "is-active"].iter().all(|ask| systemctl(&[ask, "--quiet", timer]).is_ok())
            };
            started.extend(names.iter().filter(|timer| !runs(timer)).map(|timer| (*timer).to_owned()));
            if !written.is_empty() || !removed.is_empty() {
                systemctl(&["daemon-reload"])?;
            }
            systemctl(&[&["enable", "--now", "--quiet"], &names[..]].concat())?;
        }
        if context.json {
            context.print_json(&json!({
                "folder": folder, "written": written, "removed": removed, "timers": timers, "started": started,
            }))?;
            return Ok(ExitStatus::Done);
        }
        let mut text = match written.len() + removed.len() {
            0 => format!("every unit in {} is as it should be\n", folder.display()),
            _ => format!("{} files written into {}, {} removed\n", written.len(), folder.display(), removed.len()),
        };
        if self.to.is_none() {
            text += "these timers run:\n";
            timers.iter().for_each(|timer| text += &format!("  {timer}\n"));
        }
        context.tell(&text)?;
        Ok(ExitStatus::Done)
    }
}

/// Drop-ins for places that aren't those of the units.
fn dropins(places: &Places) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    if places.root == Path::new(super::ROOT) && places.state == Path::new(super::LEDGERS) {
        return Ok(files);
    }
    let (root, ledgers) = (escaped(&places.root.to_string_lossy()), escaped(&places.state.to_string_lossy()));
    let program = if units::is_packaged() { "/usr/bin/varu".to_owned() } else { units::program()? };
    for command in COMMANDS {
        let more = match command {
            "status" => format!(" --metrics {}", escaped(&places.state.join("varu.prom").to_string_lossy())),
            _ => String::new(),
        };
        let text = format!(
            "{MARK}\n[Unit]\nConditionPathIsDirectory=\nConditionPathIsDirectory={root}\n[Service]\nExecStart=\nExecStart={program} host \
             --root {root} --ledgers {ledgers} {command}{more}\nReadWritePaths=-{root}\nReadWritePaths=-{ledgers}\n"
        );
        files.insert(format!("varu-host-{command}.service.d/{NAME}"), text);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_places_have_drop_ins() {
        let places = |root: &str| Places { root: root.into(), state: super::super::LEDGERS.into() };
        assert!(dropins(&places(super::super::ROOT)).unwrap().is_empty());
        let files = dropins(&places("/backup/my accounts")).unwrap();
        let accept = &files["varu-host-accept.service.d/50-places.conf"];
        assert!(
            accept.contains(" host --root \"/backup/my accounts\" --ledgers /var/lib/varu-host accept\n"),
            "{accept}"
        );
        assert!(
            files["varu-host-status.service.d/50-places.conf"].contains("--metrics /var/lib/varu-host/varu.prom\n")
        );
    }
}
