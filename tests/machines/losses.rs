//! Machines that are lost, and come back: by the playbook, and by the page.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::fleet::{Fleet, Machine, SSH, run};
use super::playbooks::Ansible;
use super::shop::{STATE, change};
use super::{Clock, HOSTS, PRODUCTION, page, release, tell};

/// vm1 is lost. A fresh one waits until somebody restores it, and then is as the old one was at its last backup.
pub fn lose_and_restore(
    mut vm1: Machine,
    fleet: &Fleet,
    ansible: &mut Ansible,
    backup: &Machine,
    clock: &mut Clock,
) -> Machine {
    change(&vm1, 9);
    vm1.starts("varu-dump@shop", 0);
    for set in ["shop", "web", "metrics", "system"] {
        vm1.starts(&format!("varu-backup@{set}"), 0);
    }
    let (state, list) = (vm1.does(STATE), snapshots(&vm1));
    backup.starts("varu-host-accept", 0);
    let lost = LostKey::of(&vm1, fleet);
    lost.opens(backup, 0);
    vm1.cut();
    drop(vm1);
    clock.say("the last backup, and vm1 is gone");

    let gone = Instant::now();
    let vm1 = fresh(fleet);
    waits(&vm1, backup, ansible);
    lost.opens(backup, 255);
    clock.say("a fresh vm1 is installed, and waits");

    let restoring = Instant::now();
    ansible.plays("restore", &["-e", "varu_restore_machine=vm1"]);
    assert_eq!(vm1.does(STATE), state);
    lost.opens(backup, 255);
    tell(&format!(
        "{:7.1} s  from \"machine gone\" to \"service answers\", {:.1} s of them the restore playbook",
        gone.elapsed().as_secs_f64(),
        restoring.elapsed().as_secs_f64()
    ));
    assert_eq!(snapshots(&vm1), list);
    numbers_differ(&vm1);
    ansible.plays("restore", &["-e", "varu_restore_machine=vm1"]);
    assert_eq!((vm1.does(STATE), snapshots(&vm1)), (state, list));
    lost.opens(backup, 255);
    clock.say("the playbook restores it, and once more");
    assert_eq!(vm1.run("ls /run/varu-restore /etc/varu/*identity* /root/*identity*").status, 2, "the identity is gone");
    assert!(vm1.does("systemctl list-timers --no-pager 'varu-*'").contains("varu-backup@shop.timer"));
    vm1.starts("varu-dump@shop", 0);
    // A full: backups only build upon snapshots that this machine has written itself.
    assert!(vm1.starts("varu-backup@shop", 0).contains("(full of shop)"));
    // The second set says it as a warning.
    assert!(vm1.starts("varu-backup@web", 3).contains("[stored-again]"));
    vm1.starts("varu-verify", 0);
    let again = ansible.plays("client", &["--limit", "vm1"]);
    let changed: Vec<&str> = again.text.lines().filter(|line| line.starts_with("changed:")).collect();
    clock.say("the restored machine goes on");
    // The configuration is the inventory's again, and with that everything is as it was.
    assert!(changed.len() <= 2, "{changed:?}");
    vm1
}

/// The output of `varu list`, without ages.
fn snapshots(machine: &Machine) -> Vec<String> {
    let text = machine.run("varu --json list").text;
    let ids = text.split("\"id\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let ids: Vec<String> = ids.map(ToOwned::to_owned).collect();
    assert!(!ids.is_empty(), "{text}");
    ids
}

/// A fresh machine in vm1's place, with accounts of its own: they have the numbers that others had on the lost one.
fn fresh(fleet: &Fleet) -> Machine {
    let vm1 = fleet.boot("vm1", 1, &HOSTS);
    vm1.does("useradd --system first && useradd --system second && useradd --create-home resident");
    vm1.does("systemctl enable --quiet --now mariadb influxdb");
    vm1
}

/// The accounts that came back have numbers of this machine, and those of this machine theirs.
fn numbers_differ(vm1: &Machine) {
    let shopper = vm1.does("id --user shopper; stat -c %u /home/shopper/mine /srv/www/9.html");
    let numbers: Vec<&str> = shopper.lines().collect();
    assert!(numbers.len() == 3 && numbers.iter().all(|number| *number == numbers[0]), "{shopper}");
    let resident = vm1.does("id --user resident");
    assert_ne!(resident.trim(), numbers[0]);
    vm1.does("getent passwd first second resident admin varu && stat -c %U /var/lib/varu | grep -q varu");
}

/// The SSH key of a machine that is lost, in the hands of who found it.
struct LostKey(PathBuf);

impl LostKey {
    fn of(machine: &Machine, fleet: &Fleet) -> Self {
        let path = fleet.path(&format!("lost-{}", machine.name));
        fs::copy(machine.root().join("etc/varu/ssh_key"), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }

    /// How its way into the backup host ends.
    fn opens(&self, backup: &Machine, status: i32) {
        let mut sftp = Command::new("sftp");
        sftp.args(SSH).args(["-oIdentitiesOnly=yes", "-b", "/dev/null", "-i"]).arg(&self.0);
        run(sftp.arg(format!("vm1@{}", backup.address))).ends(status);
    }
}

/// vm2 is lost, and a fresh one is restored at once.
pub fn lose_postgresql(mut vm2: Machine, fleet: &Fleet, ansible: &mut Ansible, backup: &Machine) -> Machine {
    const STATE: &str = "cat /srv/notes/note; cd / && runuser -u postgres -- psql --dbname ledger --tuples-only --command \
                         'SELECT count(*), md5(string_agg(id || what, $$,$$ ORDER BY id)) FROM bookings'";
    let sql = "INSERT INTO bookings VALUES (20001, $$new$$); DELETE FROM bookings WHERE id % 7 = 0";
    vm2.does(&format!(
        "echo more >> /srv/notes/note; cd / && runuser -u postgres -- psql --quiet --dbname ledger --command '{sql}'"
    ));
    for set in ["ledger", "notes"] {
        vm2.starts(&format!("varu-backup@{set}"), 0);
    }
    backup.starts("varu-host-accept", 0);
    let state = vm2.does(STATE);
    vm2.cut();
    drop(vm2);
    let vm2 = fleet.boot_of(release("vm2"), "vm2", 2, &HOSTS);
    vm2.does("systemctl enable --quiet --now postgresql");
    ansible.plays("restore", &["-e", "varu_restore_machine=vm2"]);
    assert_eq!(vm2.does(STATE), state);
    vm2
}

/// vm1 is lost once more, and is restored by docs/restore.md.
pub fn by_the_page(vm1: Machine, fleet: &Fleet, package: &Path, backup: &Machine) {
    let state = vm1.does(STATE);
    let lost = LostKey::of(&vm1, fleet);
    drop(vm1);
    let vm1 = fresh(fleet);
    vm1.send(package, "/root/varu_0.1.0_amd64.deb");
    let page = fs::read_to_string("docs/restore.md").unwrap().replace("backup.example", "backup");
    let (mut variables, mut wrong) = (String::new(), Vec::new());
    for step in page::steps(&page) {
        match (step.who.as_str(), step.line.split(' ').next()) {
            ("you", _) => vm1.send(&fleet.path(PRODUCTION), "/run/varu-restore/identity.txt"),
            ("vm1", Some("export")) => variables += &format!("{}; ", step.line),
            ("vm1", Some("unset")) => variables.clear(),
            ("vm1", _) => wrong.extend(step.run(&vm1, &variables)),
            ("backup", _) => {
                backup.send(&vm1.root().join("etc/varu/ssh_key.pub"), "/tmp/vm1.pub");
                wrong.extend(step.run(backup, ""));
            }
            (who, _) => panic!("who is {who}?"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(vm1.does(STATE), state);
    numbers_differ(&vm1);
    lost.opens(backup, 255);
}

/// A fresh machine is let in only where somebody says so, and nothing of it becomes the latest backup before somebody restores it.
fn waits(vm1: &Machine, backup: &Machine, ansible: &mut Ansible) {
    let known = "cat /etc/varu/authorized_keys/vm1 /etc/ssh/sshd_config.d/varu-vm1.conf";
    let before = backup.does(known);
    ansible.refuses("client", &["--limit", "vm1"], "isn't given to another machine or key silently");
    assert_eq!(backup.does(known), before);
    let played = ansible.plays("client", &["--limit", "vm1", "-e", "varu_client_take_over=true"]);
    assert!(played.text.contains("so no timer is started and no backup is made"), "{}", played.text);
    assert_eq!(vm1.does("systemctl list-timers --all --no-pager --legend=no 'varu-*'").trim(), "");
    // Past its time, whoever starts it.
    for line in ["systemctl start varu-backup@web", "varu backup web", "varu backup web --full"] {
        assert_ne!(vm1.run(line).status, 0, "{line}");
    }
}
