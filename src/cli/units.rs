//! systemd's units: those that this program carries for machines on which no package brought them, and how they are written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::exit::{ExitStatus, Failure};

/// The first line of what was made here.
pub const MARK: &str = "# Made by varu schedule install or varu host install; the next one writes it anew.";

/// Where an administrator's units lie.
pub const UNITS: &str = "/etc/systemd/system";
/// Where a package's lie.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// A unit's name below the folder of units, and its text.
pub type Unit = (&'static str, &'static str);

macro_rules! units {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../systemd/", $name)))),+]
    };
}

/// Those of a machine that backs itself up.
pub const MACHINE: &[Unit] = units![
    "varu-.service.d/10-common.conf",
    "varu-failed@.service",
    "varu-dump@.service",
    "varu-dump@.timer",
    "varu-backup@.service",
    "varu-backup@.timer",
    "varu-restore@.service",
    "varu-restore@.timer",
    "varu-verify.service",
    "varu-verify.timer",
    "varu-prune.service",
    "varu-prune.timer",
];

/// Those of a backup host.
pub const HOST: &[Unit] = units![
    "varu-.service.d/10-common.conf",
    "varu-failed@.service",
    "varu-host-accept.service",
    "varu-host-accept.timer",
    "varu-host-verify.service",
    "varu-host-verify.timer",
    "varu-host-prune.service",
    "varu-host-prune.timer",
    "varu-host-status.service",
    "varu-host-status.timer",
];

/// Where this program lies, as a unit's word.
pub fn program() -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(ExitStatus::Failed, format!("where varu itself is can't be found: {error}")))?;
    Ok(escaped(&program.to_string_lossy()))
}

/// Units that this program carries, for the place where it lies; none where a package brought them.
pub fn own(units: &[Unit]) -> Result<BTreeMap<String, String>, Failure> {
    if is_packaged() {
        return Ok(BTreeMap::new());
    }
    let program = program()?;
    let unit =
        |(name, text): &Unit| ((*name).to_owned(), format!("{MARK}\n{}", text.replace("/usr/bin/varu", &program)));
    Ok(units.iter().map(unit).collect())
}

/// Whether a package brought the units.
pub fn is_packaged() -> bool {
    PACKAGED.iter().any(|folder| Path::new(folder).join("varu-backup@.service").exists())
}

/// Writes what is new or differs. The names of those.
pub fn write(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    let mut written = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, text)?;
        written.push(name.clone());
    }
    Ok(written)
}

/// Removes a drop-in, and its folder where nothing else is in it.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    match path.parent().map(fs::remove_dir) {
        Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

/// What systemctl printed.
pub fn systemctl(words: &[&str]) -> Result<String, Failure> {
    let output = Command::new("systemctl").args(words).output();
    let why = match output {
        Ok(output) if output.status.success() => return Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::new(ExitStatus::Failed, format!("systemctl {} failed: {why}", words.join(" "))))
}

/// A word as a unit takes it.
pub fn escaped(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if word.contains(char::is_whitespace) || word.contains(['\\', '"', '\'', ';', '$']) {
        format!("\"{word}\"")
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_may_have_any_letter() {
        assert_eq!(escaped("/etc/varu/my config%.toml"), "\"/etc/varu/my config%%.toml\"");
        assert_eq!(escaped("/plain"), "/plain");
    }

    #[test]
    fn every_unit_of_the_folder_is_carried() {
        let carried: Vec<&str> = MACHINE.iter().chain(HOST).map(|(name, _)| *name).collect();
        let units = fs::read_dir("systemd").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for unit in units.filter(|name| name.ends_with(".service") || name.ends_with(".timer")) {
            assert!(carried.contains(&unit.as_str()), "{unit}");
        }
    }

    #[test]
    fn what_a_unit_calls_when_it_fails_is_carried_with_it() {
        for (name, text) in MACHINE.iter().chain(HOST).filter(|(name, _)| name.ends_with(".service")) {
            assert!(text.contains("OnFailure=varu-failed@%n.service\n") || *name == "varu-failed@.service", "{name}");
            assert!(!text.contains("/usr/lib/varu"), "{name} needs no file that only the package brings");
        }
    }
}
