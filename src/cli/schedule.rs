//! `varu schedule`: systemd timers from the configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Subcommand;
use serde_json::json;
use varu::time::Zone;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use crate::config::{DEFAULT_PATH, Schedule};

/// Show or install the timers of the configuration's schedules.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what runs when.
    Show,
    /// Write systemd's units and start the timers. Units of before that the configuration no longer has are removed.
    Install {
        /// Only write the units, into this folder.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

/// Where an administrator's units lie.
const UNITS: &str = "/etc/systemd/system";
/// The first line of a unit that was made here.
const MARK: &str = "# Made by varu schedule install from the configuration; it is written anew by the next.";

/// Something that runs at times.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    /// `varu-dump-agama`, without the unit's kind.
    unit: String,
    /// `dump of agama`.
    about: String,
    /// A calendar expression with its zone.
    calendar: String,
    /// The words after `varu --config FILE`.
    words: Vec<String>,
}

impl Args {
    /// Shows or installs.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let jobs = jobs(context);
        jobs.iter().try_for_each(check)?;
        match self.what {
            What::Show => show(&jobs, context)?,
            What::Install { to } => install(&jobs, to.as_deref(), context)?,
        }
        Ok(ExitStatus::Done)
    }
}

fn jobs(context: &Context) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (set, config) in &context.config.sets {
        let Schedule { zone, dump, full, incremental } = &config.schedule;
        let calendar = |expression: &String| match zone {
            Zone::Local => expression.clone(),
            Zone::Named(_) => format!("{expression} {zone}"),
        };
        let mut add = |kind: &str, about: &str, expression: &Option<String>, words: &[&str]| {
            if let Some(expression) = expression {
                let words = words.iter().map(|&word| word.to_owned()).collect();
                let (unit, about) = (format!("varu-{kind}-{set}"), format!("{about} of {set}"));
                jobs.push(Job { unit, about, calendar: calendar(expression), words });
            }
        };
        if !config.dumped_by_another && config.local_copy.is_some() {
            add("dump", "dump", dump, &["dump", set]);
        }
        add("full", "full backup", full, &["backup", set, "--full"]);
        // Without a flag: where a full was missed, this one makes it.
        add("backup", "backup", incremental, &["backup", set]);
    }
    jobs
}

/// Whether systemd understands the expression.
fn check(job: &Job) -> Result<(), Failure> {
    next(job).map(drop)
}

/// When it runs next, as systemd says it.
fn next(job: &Job) -> Result<String, Failure> {
    let mut analyze = Command::new("systemd-analyze");
    let output = analyze.args(["calendar", "--", &job.calendar]).env("LC_ALL", "C").output();
    let output = output.map_err(|error| {
        Failure::new(
            ExitStatus::Failed,
            format!("running systemd-analyze, which reads calendar expressions, failed: {error}"),
        )
    })?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::usage(format!("the time of the {}, {:?}, can't be read: {why}", job.about, job.calendar)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let next = text.lines().find_map(|line| line.trim().strip_prefix("Next elapse:"));
    Ok(next.unwrap_or("never").trim().to_owned())
}

fn show(jobs: &[Job], context: &Context) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let mut text = String::new();
    for job in jobs {
        let next = next(job)?;
        text += &format!("{}: {}, next {next}\n", job.about, job.calendar);
        documents.push(json!({ "unit": job.unit, "about": job.about, "calendar": job.calendar, "next": next }));
    }
    if jobs.is_empty() {
        text = "no set has a schedule\n".to_owned();
    }
    match context.json {
        true => context.print_json(&json!({ "timers": documents })),
        false => context.print(&text),
    }
}

/// The files of all jobs: names and texts.
fn units(jobs: &[Job], context: &Context) -> Result<BTreeMap<String, String>, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(ExitStatus::Failed, format!("where varu itself is can't be found: {error}")))?;
    let config = context.config_file.clone().unwrap_or_else(|| DEFAULT_PATH.into());
    let config = std::path::absolute(&config).unwrap_or(config);
    let mut units = BTreeMap::new();
    for job in jobs {
        let words = [program.to_string_lossy().into_owned(), "--config".into(), config.to_string_lossy().into_owned()];
        let line: Vec<String> = words.iter().chain(&job.words).map(|word| unit_word(word)).collect();
        // Status 3 is done, with warnings; they are in the journal.
        let service = format!(
            "{MARK}\n[Unit]\nDescription=varu: {0}\nWants=network-online.target\nAfter=network-online.target\n\n[Service]\n\
             Type=oneshot\nExecStart={1}\nSuccessExitStatus=3\nUMask=0077\nPrivateTmp=yes\nNoNewPrivileges=yes\n",
            job.about,
            line.join(" ")
        );
        let timer = format!(
            "{MARK}\n[Unit]\nDescription=varu: {0}\n\n[Timer]\nOnCalendar={1}\nPersistent=yes\n\n[Install]\n\
             WantedBy=timers.target\n",
            job.about, job.calendar
        );
        units.insert(format!("{}.service", job.unit), service);
        units.insert(format!("{}.timer", job.unit), timer);
    }
    Ok(units)
}

/// A word as `ExecStart` takes it.
fn unit_word(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if word.contains(char::is_whitespace) || word.contains(['\\', '"', '\'', ';']) {
        format!("\"{word}\"")
    } else {
        word
    }
}

fn install(jobs: &[Job], to: Option<&Path>, context: &Context) -> Result<(), Failure> {
    let units = units(jobs, context)?;
    let folder = to.unwrap_or(Path::new(UNITS));
    let failed = |tried: &str, error: std::io::Error| {
        Failure::new(ExitStatus::Failed, format!("{tried} {} failed: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed("making", error))?;
    let mut gone = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed("reading", error))? {
        let path = entry.map_err(|error| failed("reading", error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name.starts_with("varu-") && fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK));
        if ours && !units.contains_key(&name) {
            gone.push((name, path));
        }
    }
    if to.is_none() {
        let timers: Vec<&str> =
            gone.iter().map(|(name, _)| name.as_str()).filter(|name| name.ends_with(".timer")).collect();
        if !timers.is_empty() {
            systemctl(&[&["disable", "--now"], &timers[..]].concat())?;
        }
    }
    for (_, path) in &gone {
        fs::remove_file(path).map_err(|error| failed("removing an old unit from", error))?;
    }
    for (name, text) in &units {
        fs::write(folder.join(name), text).map_err(|error| failed("writing into", error))?;
    }
    if to.is_none() {
        systemctl(&["daemon-reload"])?;
        let timers: Vec<&str> = units.keys().map(String::as_str).filter(|name| name.ends_with(".timer")).collect();
        if !timers.is_empty() {
            systemctl(&[&["enable", "--now"], &timers[..]].concat())?;
        }
    }
    match context.json {
        true => context.print_json(&json!({ "folder": folder, "units": units.keys().collect::<Vec<_>>() })),
        false => {
            let names: String = units.keys().map(|name| format!("  {name}\n")).collect();
            let started = if to.is_none() { "; the timers run" } else { "" };
            context.tell(&format!("wrote {} units to {}{started}\n{names}", units.len(), folder.display()))
        }
    }
}

fn systemctl(words: &[&str]) -> Result<(), Failure> {
    let output = Command::new("systemctl").args(words).output();
    let why = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::new(ExitStatus::Failed, format!("systemctl {} failed: {why}", words.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::tests::context;

    const CONFIG: &str = "
        [sets.agama]\nsource = 'mysql'\ndatabases = 'all'\nlocal_copy = '/var/backups/varu/agama'
        schedule = { timezone = 'Europe/Tallinn', dump = '01:00', full = 'Sun 01:05', incremental = 'Mon..Sat 01:10' }
        [sets.etc]\nsource = 'files'\npaths = ['/etc']\nschedule = { full = 'weekly' }";

    #[test]
    fn each_time_of_a_schedule_is_a_timer_with_a_service() {
        let context = context(&[], CONFIG, true, &[]).unwrap();
        let jobs = jobs(&context);
        let names: Vec<&str> = jobs.iter().map(|job| job.unit.as_str()).collect();
        assert_eq!(names, ["varu-dump-agama", "varu-full-agama", "varu-backup-agama", "varu-full-etc"]);
        let units = units(&jobs, &context).unwrap();
        assert!(units["varu-full-agama.timer"].contains("OnCalendar=Sun 01:05 Europe/Tallinn\nPersistent=yes\n"));
        assert!(units["varu-full-agama.service"].contains(" backup agama --full\nSuccessExitStatus=3\n"));
        assert!(units["varu-full-etc.timer"].contains("OnCalendar=weekly\n"));
    }

    #[test]
    fn units_take_any_word_and_old_ones_go() {
        assert_eq!(unit_word("/etc/varu/my config%.toml"), "\"/etc/varu/my config%%.toml\"");
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("varu-full-old.timer");
        let other = folder.path().join("varu-own.timer");
        fs::write(&old, MARK).unwrap();
        fs::write(&other, "[Timer]").unwrap();
        let context = context(&["-q"], CONFIG, true, &[]).unwrap();
        install(&jobs(&context), Some(folder.path()), &context).unwrap();
        assert!(!old.exists() && other.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 9);
    }

    #[test]
    fn a_time_that_systemd_does_not_know_is_said() {
        let config = CONFIG.replace("Sun 01:05", "Sonntag");
        let context = context(&[], &config, true, &[]).unwrap();
        let failure = jobs(&context).iter().try_for_each(check).unwrap_err();
        assert!(failure.is_usage() && failure.message.contains("full backup of agama"), "{}", failure.message);
    }
}
