//! Drop-ins of units: times, account, secrets and folders, as the configuration says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use varu::job::machine::DEFAULT_CONFIGURATION;
use varu::job::schedule::timers::{TimedWork, Timer};
use varu::job::spec::Set;
use varu::remote::place::Location;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::units::{MARK, escaped};

/// The name of the drop-ins. What is to hold against it has a later name.
pub const NAME: &str = "50-schedule.conf";

/// The account of the services.
const ACCOUNT: &str = "varu";

/// The drop-ins of all jobs: a folder's name, `varu-dump@agama.timer.d`, and the text.
///
/// # Errors
///
/// Where the configuration leaves out what a service needs that is not root's.
pub fn all(jobs: &[Timer], context: &Context) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for job in jobs {
        all.insert(format!("{}.service.d", job.unit), service(job, context)?);
        if !job.calendar.is_empty() {
            all.insert(format!("{}.timer.d", job.unit), timer(job));
        }
    }
    Ok(all)
}

/// The times. The first line takes those of the unit away.
fn timer(job: &Timer) -> String {
    let times: String = job.calendar.iter().map(|time| format!("OnCalendar={}\n", time.replace('%', "%%"))).collect();
    format!("{MARK}\n[Timer]\nOnCalendar=\n{times}")
}

fn service(job: &Timer, context: &Context) -> Result<String, Failure> {
    let mut lines = DropInLines::default();
    let config = context.machine.configuration_file.clone().unwrap_or_else(|| DEFAULT_CONFIGURATION.into());
    lines.secret(&std::path::absolute(&config).unwrap_or(config))?;
    let name = lines.secrets.keys().next().cloned().unwrap_or_default();
    lines.add("Environment", &format!("VARU_CONFIG=%d/{}", escaped(&name)));
    let as_root = match job.on {
        TimedWork::Refresh(refresh) => lines.way(refresh.repository.as_deref(), context)?,
        _ => lines.way(context.machine.repository().ok(), context)?,
    };
    match job.on {
        TimedWork::Dump(set) | TimedWork::Backup(set) => {
            lines.set(set, as_root, matches!(job.on, TimedWork::Dump(_)))?
        }
        TimedWork::Refresh(refresh) => refresh.secrets().try_for_each(|secret| lines.secret(secret))?,
        TimedWork::Repository => {}
    }
    match job.on {
        TimedWork::Refresh(_) => {}
        TimedWork::Dump(_) | TimedWork::Backup(_) | TimedWork::Repository => lines.keys(context)?,
    }
    Ok(lines.text())
}

/// The lines of a service's drop-in.
#[derive(Default)]
struct DropInLines {
    text: String,
    /// Secrets that systemd hands over, by the names of their files.
    secrets: BTreeMap<String, PathBuf>,
}

impl DropInLines {
    fn add(&mut self, key: &str, value: &str) {
        // Writing to a text doesn't fail.
        let _ = writeln!(self.text, "{key}={value}");
    }

    fn text(self) -> String {
        let secret = |(name, path): (&String, &PathBuf)| {
            format!("LoadCredential={}:{}\n", escaped(name), escaped(&path.to_string_lossy()))
        };
        let secrets: String = self.secrets.iter().map(secret).collect();
        format!("{MARK}\n[Service]\n{secrets}{}", self.text)
    }

    /// A file that the service gets a copy of. It is found by its name, so two can't have the same.
    fn secret(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self.secrets.insert(name, path.to_owned()) {
            Some(other) if other != path => Err(Failure::usage(format!(
                "{} and {} have the same name, by which a service finds them: give one of them another",
                other.display(),
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// The way to the repository. Whether only root can go it.
    fn way(&mut self, repository: Option<&str>, context: &Context) -> Result<bool, Failure> {
        let Some(Ok(place)) = repository.map(Location::parse) else {
            return Err(Failure::usage(
                "the services need the repository in the configuration: write url into [repository]",
            ));
        };
        match place {
            Location::Local(path) => {
                // Its objects are whoever's they are; root goes on with them.
                self.add("User", "root");
                self.add("Group", "root");
                self.add("CapabilityBoundingSet", "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER");
                self.add("ReadWritePaths", &format!("-{}", escaped(&path.to_string_lossy())));
                Ok(true)
            }
            Location::Sftp(_) => {
                let repository = &context.machine.configuration.repository;
                let (Some(key), Some(hosts)) = (&repository.ssh_key, &repository.known_hosts) else {
                    return Err(Failure::usage(format!(
                        "the services run as the account {ACCOUNT}, which doesn't have root's SSH key nor the hosts that \
                         root knows: write ssh_key and known_hosts into [repository] (`ssh-keygen -F HOST` shows a host's \
                         line)"
                    )));
                };
                self.secret(key)?;
                self.secret(hosts)?;
                repository.ssh_config.iter().try_for_each(|file| self.secret(file))?;
                Ok(false)
            }
        }
    }

    /// The writer keys, and the identity where the machine may restore unattended.
    fn keys(&mut self, context: &Context) -> Result<(), Failure> {
        for path in context.machine.writer_keys() {
            self.secret(&path)?;
        }
        context.machine.identity.as_deref().map_or(Ok(()), |path| self.secret(path))
    }

    fn set(&mut self, set: &Set, as_root: bool, dumps: bool) -> Result<(), Failure> {
        let paths = set.source.descriptor().paths();
        let reads_all = !paths.is_empty() || set.dumped_by_another;
        if reads_all && !as_root {
            self.add("CapabilityBoundingSet", "CAP_DAC_READ_SEARCH");
            self.add("AmbientCapabilities", "CAP_DAC_READ_SEARCH");
        }
        if !paths.is_empty() {
            self.add("ProtectHome", "read-only");
            let temporary = |path: &PathBuf| ["/tmp", "/var/tmp"].iter().any(|folder| overlap(path, folder));
            if paths.iter().any(temporary) {
                self.add("PrivateTmp", "no");
            }
        }
        set.source.option_file().map_or(Ok(()), |file| self.secret(file))?;
        if let Some(copy) = set.local_copy.as_ref().filter(|_| !set.dumped_by_another) {
            let folder = escaped(&copy.folder.to_string_lossy());
            let owner = if as_root { "root" } else { ACCOUNT };
            self.add("ExecStartPre", &format!("+/usr/bin/install -d -o {owner} -g {owner} -m 0700 {folder}"));
            self.add("ExecStartPre", &format!("+/bin/chown --recursive --no-dereference {owner}:{owner} {folder}"));
            self.add("ReadWritePaths", &format!("-{folder}"));
        }
        if dumps {
            self.add("IOSchedulingClass", "best-effort");
            self.add("IOSchedulingPriority", "7");
        }
        Ok(())
    }
}

/// Whether one of them lies in the other.
fn overlap(path: &Path, folder: &str) -> bool {
    path.starts_with(folder) || Path::new(folder).starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::CONFIG;
    use super::*;
    use crate::cli::context::tests::context;
    use crate::cli::exit::ExitStatus;
    use varu::job::schedule::timers::timers;

    #[test]
    fn a_service_gets_what_its_set_needs_and_no_more() {
        let context = context(&[], CONFIG, true, &[]).unwrap();
        let all = all(&timers(&context.machine.configuration), &context).unwrap();
        let timer = &all["varu-backup@agama.timer.d"];
        assert!(timer.ends_with(
            "[Timer]\nOnCalendar=\nOnCalendar=Sun 01:05 Europe/Tallinn\nOnCalendar=Mon..Sat 01:10 Europe/Tallinn\n"
        ));
        let backup = &all["varu-backup@agama.service.d"];
        for line in [
            "LoadCredential=mysql.cnf:/etc/varu/mysql.cnf\n",
            "LoadCredential=ssh_key:/etc/varu/ssh_key\n",
            "LoadCredential=writer.key:/etc/varu/writer.key\n",
            "Environment=VARU_CONFIG=%d/varu.toml\n",
            "ReadWritePaths=-/var/backups/varu/agama\n",
        ] {
            assert!(backup.contains(line), "{line}{backup}");
        }
        assert!(!backup.contains("CAP_"));
        let files = &all["varu-backup@etc.service.d"];
        assert!(files.contains("AmbientCapabilities=CAP_DAC_READ_SEARCH\n") && !files.contains("mysql.cnf"));
        assert!(!all.contains_key("varu-verify.timer.d"));
        assert!(all["varu-verify.service.d"].contains("writer.key"));
    }

    #[test]
    fn what_only_root_has_is_asked_for() {
        let without = CONFIG.replace("ssh_key = '/etc/varu/ssh_key'\n", "");
        let context = context(&[], &without, true, &[]).unwrap();
        let failure = all(&timers(&context.machine.configuration), &context).unwrap_err();
        assert!(failure.status == ExitStatus::Usage && failure.message.contains("ssh_key"), "{}", failure.message);
    }
}
