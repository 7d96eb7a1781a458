//! Failures as an administrator sees them, and their repair by the next run.

use std::process::Command;

use super::fleet::{Machine, run};
use super::tell;

/// What an administrator sees when something breaks, and that the next run makes up for it.
pub fn failures(vm1: &mut Machine, backup: &Machine) {
    let good = |vm1: &Machine| vm1.starts("varu-backup@web", 0);
    let route = |what: &str| vm1_route(vm1, what, backup);
    route("add");
    fails("the backup host is down", vm1, backup, ("varu-backup@web", 6), "sftp://vm1@backup/repo");
    route("del");
    good(vm1);

    backup.does("dd if=/dev/zero of=/srv/varu/filler bs=1M 2>/dev/null; true");
    vm1.does("head -c 2000000 /dev/urandom > /srv/www/img/second");
    fails("the host's disk is full", vm1, backup, ("varu-backup@web", 8), "free");
    backup.does("rm /srv/varu/filler");
    good(vm1);

    backup.does("mkdir /root/keys && mv /etc/ssh/ssh_host_* /root/keys/ && ssh-keygen -A && systemctl restart ssh");
    fails("the host's key changed", vm1, backup, ("varu-backup@web", 6), "key");
    backup.does("mv -f /root/keys/* /etc/ssh/ && systemctl restart ssh && mv /etc/varu/authorized_keys/vm1 /root/");
    fails("the machine's key was revoked", vm1, backup, ("varu-backup@web", 6), "Permission denied");
    backup.does("mv /root/vm1 /etc/varu/authorized_keys/");
    good(vm1);

    vm1.does("systemctl stop mariadb.socket mariadb");
    fails("the database is down", vm1, backup, ("varu-dump@shop", 1), "the last local copy stays as it is");
    vm1.does("systemctl start mariadb");
    vm1.starts("varu-dump@shop", 0);

    // Packages are being installed: the backup waits.
    vm1.does(
        "python3 -c 'import fcntl, time; f = open(\"/var/lib/dpkg/lock-frontend\", \"w\"); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(4)' \
         > /dev/null 2>&1 & sleep 1",
    );
    let journal = good(vm1);
    assert!(journal.contains("waiting while packages are installed (python3, process"), "{journal}");

    reboot(vm1, backup);
    assert!(backup.starts("varu-host-accept", 0).contains("vm1"));
    backup.starts("varu-host-verify", 0);
}

/// The network's message about a host that is down.
fn vm1_route(vm1: &Machine, what: &str, backup: &Machine) {
    vm1.does(&format!("ip route {what} unreachable {}/32", backup.address));
}

/// A unit fails with that status, gives the reason, and the notice does, too. Prints an administrator's view.
fn fails(what: &str, vm1: &Machine, backup: &Machine, (unit, status): (&str, i32), why: &str) {
    let journal = vm1.starts(unit, status);
    assert!(journal.contains(why), "{journal}");
    assert!(vm1.run(&format!("systemctl is-failed {unit}")).text.contains("failed"));
    let said = format!("{unit}.service failed (status {status}, exit-code)");
    vm1.does(&format!(
        "for i in $(seq 300); do journalctl --sync; journalctl --unit='varu-failed@*' | grep -qF '{said}' && exit 0; sleep 0.1; done; exit 1"
    ));
    let last = journal.lines().find(|line| line.starts_with("varu: ")).unwrap_or_default();
    show(what, vm1, backup, unit, last);
}

/// Prints an administrator's view: the unit's state, its last words, the snapshots, the host's status.
fn show(what: &str, vm1: &Machine, backup: &Machine, unit: &str, last: &str) {
    let shown = [
        format!(
            "systemctl show {unit}: {}",
            vm1.does(&format!(
                "systemctl show --value --property=ActiveState --property=SubState \
         --property=Result --property=ExecMainStatus {unit} | xargs"
            ))
        ),
        format!("journalctl --unit {unit}: {last}"),
        format!("varu list: {}", vm1.run("varu list 2>&1 | tail -1").text),
        format!("varu host status: {}", backup.run("varu host status vm1 2>&1 | grep web").text),
    ];
    tell(&format!("           {what}"));
    shown.iter().for_each(|line| tell(&format!("             {}", line.trim())));
}

/// The power goes during a backup, and the machine is off for three days.
fn reboot(vm1: &mut Machine, backup: &Machine) {
    let before = snapshots(vm1);
    let dropin = "/run/systemd/system/varu-backup@web.service.d";
    vm1.does(&format!(
        "head -c 50000000 /dev/urandom > /srv/www/img/large; mkdir -p {dropin} && printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/varu \
         --limit-upload 5M backup %%i\\n' > {dropin}/90-slow.conf && systemctl daemon-reload; systemctl start --no-block \
         varu-backup@web; sleep 4; systemctl is-active varu-backup@web | grep activating"
    ));
    vm1.cut();
    let pending = backup.does("ls /srv/varu/vm1/repo/pending | wc -l; varu host status vm1 2>&1 | grep web");
    tell(&format!(
        "           the power went during a backup: on the host, files under way, and status: {}",
        pending.trim().replace('\n', ", ")
    ));
    // Persistent timers look at when they last ran.
    let stamp = vm1.root().join("var/lib/systemd/timers/stamp-varu-backup@web.timer");
    run(Command::new("touch").args(["-d", "3 days ago"]).arg(stamp)).ends(0);
    vm1.start();
    vm1.does("for i in $(seq 400); do journalctl --boot --unit=varu-backup@web | grep -q Finished && exit 0; sleep 0.3; done; exit 1");
    let journal = vm1.journal("--boot --unit=varu-backup@web");
    assert!(journal.contains("of web)") && journal.contains("this host's own delay"), "{journal}");
    let last = journal.lines().find(|line| line.contains("of web)")).unwrap_or_default();
    show("the machine was off for three days, and its timer makes up for it", vm1, backup, "varu-backup@web", last);
    let after = snapshots(vm1);
    assert_eq!(after, before + 1, "what was cut left nothing, and what was missed was made up for");
    vm1.does("rm /srv/www/img/large");
    vm1.starts("varu-verify", 0);
}

fn snapshots(vm1: &Machine) -> usize {
    vm1.does("varu list").lines().filter(|line| line.contains(" web ")).count()
}
