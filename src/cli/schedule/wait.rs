//! `varu schedule wait`: the delay of a service before it begins.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use varu::progress::Progress;
use varu::time::format_duration;

use crate::cli::context::Context;
use crate::cli::progress::ProgressReporter;

/// The files that dpkg and apt lock while they work.
const LOCKS: [&str; 2] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];
/// How often is looked.
const LOOK: Duration = Duration::from_millis(200);

/// Waits this host's own delay where a timer started the service, then while packages are installed.
pub fn wait(longest: Duration, limit: Duration, context: &Context) {
    let progress = context.progress();
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    // Who starts a service by hand doesn't want to wait.
    let triggered = std::env::var("TRIGGER_TIMER_REALTIME_USEC").ok().and_then(|time| time.parse().ok());
    if triggered.is_some_and(is_now) {
        let delay = delay(machine.trim(), longest);
        progress.note(&format!("this host's own delay is {}", format_duration(delay)));
        until(delay, context, || false);
    }
    wait_for_packages(limit, context, &progress);
}

/// Whether a timer has just elapsed. systemd leaves the time of the last one to those who start the unit by hand later.
fn is_now(microseconds: u64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(microseconds)) < Duration::from_secs(60)
}

/// A host's part of the longest delay: always the same, so a backup keeps its distance from its dump, and other hosts have
/// others.
fn delay(machine: &str, longest: Duration) -> Duration {
    let digits: String = machine.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    let share = u64::from_str_radix(&digits, 16).unwrap_or(0);
    Duration::from_secs(share % (longest.as_secs() + 1))
}

fn wait_for_packages(limit: Duration, context: &Context, progress: &ProgressReporter) {
    let Some(holder) = holder(Path::new("/proc")) else { return };
    progress.note(&format!("waiting while packages are installed ({holder})"));
    if !until(limit, context, || self::holder(Path::new("/proc")).is_none()) {
        progress.note(&format!("packages are still being installed after {}; going on", format_duration(limit)));
    }
}

/// Waits until `over`, at most so long, and not beyond an interrupt. Whether it was over.
fn until(limit: Duration, context: &Context, over: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit && !context.machine.interrupt.is_set() {
        if over() {
            return true;
        }
        std::thread::sleep(LOOK.min(limit));
    }
    false
}

/// Who holds a lock of dpkg's: of the processes that hold a lock, one that has such a file open.
fn holder(proc: &Path) -> Option<String> {
    let locks = fs::read_to_string(proc.join("locks")).ok()?;
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let processes = held.filter(|words| words.get(1) == Some(&"POSIX")).filter_map(|words| words.get(4).copied());
    processes.into_iter().find_map(|process| {
        let folder = proc.join(process);
        let files = fs::read_dir(folder.join("fd")).ok()?;
        let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| LOCKS.iter().any(|lock| target == Path::new(lock))).then(|| {
            let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            format!("{}, process {process}", name.trim())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_host_has_one_delay() {
        let longest = Duration::from_secs(300);
        let of = |machine: &str| delay(machine, longest);
        assert_eq!(of("0123456789abcdef0123456789abcdef"), of("0123456789abcdef0123456789abcdef"));
        assert_ne!(of("0123456789abcdef0123456789abcdef"), of("1123456789abcdef0123456789abcdef"));
        assert!(["ffffffff", "", "no"].iter().all(|machine| of(machine) <= longest));
        assert_eq!(delay("0123456789abcdef", Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_timer_of_long_ago_is_nobodys() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        assert!(is_now(now) && !is_now(now - 61_000_000));
    }

    #[test]
    fn who_installs_packages_is_found() {
        let proc = tempfile::tempdir().unwrap();
        let make = |process: &str, target: &str| {
            fs::create_dir_all(proc.path().join(process).join("fd")).unwrap();
            symlink(target, proc.path().join(process).join("fd/4")).unwrap();
            fs::write(proc.path().join(process).join("comm"), "apt-get\n").unwrap();
        };
        make("7", "/var/lib/mysql/ibdata1");
        make("9", LOCKS[0]);
        let lines = |process: &str| format!("1: POSIX  ADVISORY  WRITE {process} 08:02:131133 0 EOF\n");
        fs::write(proc.path().join("locks"), lines("7")).unwrap();
        assert_eq!(holder(proc.path()), None);
        fs::write(proc.path().join("locks"), lines("7") + &lines("9")).unwrap();
        assert_eq!(holder(proc.path()), Some("apt-get, process 9".to_owned()));
    }
}
