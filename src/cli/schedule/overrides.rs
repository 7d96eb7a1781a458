//! Timers that an administrator's drop-in has given other times.

use std::path::Path;

use super::dropins::NAME;
use crate::cli::units::systemctl;

/// The times that a timer has from a drop-in behind that of `varu schedule install`.
#[derive(Debug, PartialEq, Eq)]
pub struct Override {
    /// Calendar expressions.
    pub calendar: Vec<String>,
    /// The drop-ins.
    pub from: Vec<String>,
}

/// Asks systemd whether the times of a timer come from elsewhere. None where they don't, or systemd isn't there.
pub fn overridden(timer: &str) -> Option<Override> {
    let shown = systemctl(&["show", "--property=DropInPaths", "--property=TimersCalendar", timer]).ok()?;
    read(&shown, |path| std::fs::read_to_string(path).unwrap_or_default())
}

fn read(shown: &str, text: impl Fn(&Path) -> String) -> Option<Override> {
    let paths = shown.lines().find_map(|line| line.strip_prefix("DropInPaths="))?;
    let later = |path: &&str| Path::new(path).file_name().is_some_and(|name| name > NAME);
    let times = |path: &&str| text(Path::new(path)).lines().any(|line| line.trim_start().starts_with("OnCalendar"));
    let from: Vec<String> = paths.split_whitespace().filter(later).filter(times).map(ToOwned::to_owned).collect();
    if from.is_empty() {
        return None;
    }
    let calendar = shown.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix("TimersCalendar=")?.split_once("OnCalendar=")?;
        Some(rest.split(" ; ").next()?.trim().to_owned())
    });
    Some(Override { calendar: calendar.collect(), from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_drop_in_with_times_overrides() {
        let shown = |paths: &str| {
            format!(
                "DropInPaths={paths}\nTimersCalendar={{ OnCalendar=*-*-* 03:00:00 ; next_elapse=Sun }}\n\
                 TimersCalendar={{ OnCalendar=Sun *-*-* 04:00:00 Europe/Tallinn ; next_elapse=n/a }}\n"
            )
        };
        let text = |path: &Path| match path.ends_with("override.conf") || path.ends_with(NAME) {
            true => "[Timer]\nOnCalendar=\nOnCalendar=03:00\n".to_owned(),
            false => "[Timer]\nAccuracySec=1m\n".to_owned(),
        };
        let own = "/etc/systemd/system/varu-backup@web.timer.d/50-schedule.conf";
        assert_eq!(read(&shown(own), text), None);
        assert_eq!(read(&shown(&format!("{own} /x/90-accuracy.conf")), text), None);
        let found = read(&shown(&format!("{own} /x/override.conf")), text).unwrap();
        assert_eq!(found.calendar, ["*-*-* 03:00:00", "Sun *-*-* 04:00:00 Europe/Tallinn"]);
        assert_eq!(found.from, ["/x/override.conf"]);
    }
}
