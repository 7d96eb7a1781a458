//! Restores over the running system: machine-specific files and those of the restore stay, and owners are restored by
//! name. The system is a mount namespace with an /etc and a /boot of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::machine::{Ended, Machine};

/// Machines with an /etc of their own.
struct Hosts {
    machine: Machine,
    folder: tempfile::TempDir,
    /// They share one `/`, and a restore's marker is in it.
    _alone: MutexGuard<'static, ()>,
}

impl Hosts {
    fn new() -> Option<Self> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return None;
        }
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        machine.init();
        let config = "[sets.system]\nsource = \"files\"\npaths = [\"/boot/srvx\", \"/etc\"]\n";
        fs::write(machine.at("varu.toml"), config).unwrap();
        Some(Self { machine, folder, _alone: alone })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Makes the /etc of a machine: its accounts, each with a number, and its other files.
    fn etc(&self, host: &str, accounts: &[(&str, u32)], files: &[(&str, &str)]) {
        let etc = self.at(host);
        let lines = |line: &dyn Fn(&str, u32) -> String| -> String {
            [("root", 0)].iter().chain(accounts).map(|&(name, number)| line(name, number)).collect()
        };
        let mut all = vec![
            ("passwd", lines(&|name, number| format!("{name}:x:{number}:{number}::/:/bin/sh\n"))),
            ("group", lines(&|name, number| format!("{name}:x:{number}:\n"))),
            ("shadow", lines(&|name, _| format!("{name}:{host}-{name}:1::::::\n"))),
            ("nsswitch.conf", "passwd: files\ngroup: files\n".to_owned()),
        ];
        all.extend(files.iter().map(|&(name, text)| (name, text.to_owned())));
        for (name, text) in all {
            fs::create_dir_all(etc.join(name).parent().unwrap()).unwrap();
            fs::write(etc.join(name), text).unwrap();
        }
        fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    }

    /// Runs a line of a shell on that machine, with an empty /boot below which `boot` is found again. `$VARU` is the program with
    /// its configuration.
    fn on(&self, host: &str, state: &str, line: &str) -> Ended {
        let varu = self.machine.varu(&["--config"]);
        let mut shell = Command::new("unshare");
        shell.env_clear().envs(varu.get_envs().filter_map(|(key, value)| Some((key, value?))));
        shell.env("PROGRAM", env!("CARGO_BIN_EXE_varu")).env("TOP", self.folder.path()).env("STATE", self.at(state));
        fs::create_dir_all(self.at(&format!("{host}-boot"))).unwrap();
        let script = format!(
            "set -e; mount --bind \"$TOP/{host}-boot\" /boot; mount --bind \"$TOP/{host}\" /etc\n\
             varu() {{ \"$PROGRAM\" --repo \"$TOP/vault\" --state \"$STATE\" --config \"$TOP/varu.toml\" \"$@\"; }}\n{line}"
        );
        shell.args(["--mount", "bash", "-c", &script]);
        shell.output().unwrap().into()
    }
}

fn owner(path: &Path) -> u32 {
    let there = fs::metadata(path).unwrap();
    assert_eq!(there.uid(), there.gid(), "{}", path.display());
    there.uid()
}

const BACK_UP: &str = "mkdir -p /boot/srvx; echo r > /boot/srvx/redis.rdb; chown redisx: /boot/srvx/redis.rdb
    echo a > /boot/srvx/app.db; chown appx: /boot/srvx/app.db; echo j > /boot/srvx/jack; chown jackx: /boot/srvx/jack
    chown redisx: /etc/redis.conf; varu backup system";

const LOST: &[(&str, &str)] = &[
    ("redis.conf", "lost"),
    ("hosts", "lost"),
    ("fstab", "lost"),
    ("machine-id", "lost"),
    ("hostname", "lost"),
    ("ssh/ssh_host_rsa_key", "lost"),
    ("ssh/sshd_config", "lost"),
    ("network/interfaces", "lost"),
    ("varu/ssh_key", "lost"),
    ("varu/influxdb.env", "lost"),
];
const NEW: &[(&str, &str)] = &[
    ("hosts", "new!"),
    ("fstab", "new!"),
    ("machine-id", "new!"),
    ("hostname", "new!"),
    ("ssh/ssh_host_rsa_key", "new!"),
    ("varu/ssh_key", "new!"),
];

impl Hosts {
    /// A machine that was backed up and lost, and a new one whose accounts have other numbers.
    fn lost() -> Option<Self> {
        let hosts = Self::new()?;
        hosts.etc("lost", &[("redisx", 712), ("appx", 713), ("jackx", 1000)], LOST);
        hosts.etc("new", &[("redisx", 713), ("appx", 712), ("adminx", 1000)], NEW);
        hosts.on("lost", "state", BACK_UP).ends(0);
        Some(hosts)
    }

    fn is(&self, path: &str, text: &str) {
        assert_eq!(fs::read_to_string(self.at(path)).unwrap_or_default(), text, "{path}");
    }

    /// The files that a restore over the new machine must have kept and written.
    fn is_restored(&self) {
        let boot = self.at("new-boot/srvx");
        assert_eq!(owner(&boot.join("redis.rdb")), 713);
        assert_eq!(owner(&boot.join("app.db")), 712);
        assert_eq!(owner(&boot.join("jack")), 1001, "1000 is another's here");
        assert_eq!(owner(&self.at("new/redis.conf")), 713);
        for stays in ["fstab", "machine-id", "hostname", "ssh/ssh_host_rsa_key", "varu/ssh_key"] {
            self.is(&format!("new/{stays}"), "new!");
        }
        for comes in ["hosts", "ssh/sshd_config", "varu/influxdb.env"] {
            self.is(&format!("new/{comes}"), "lost");
        }
        self.is("new/network/interfaces", "");
        let read = |name: &str| fs::read_to_string(self.at("new").join(name)).unwrap();
        assert!(read("passwd").contains("redisx:x:713:713:") && read("passwd").contains("jackx:x:1001:1001:"));
        let shadow = read("shadow");
        assert!(shadow.contains("root:new-root:") && shadow.contains("jackx:lost-jackx:"), "{shadow}");
        assert_eq!(fs::metadata(self.at("new/shadow")).unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn everything_restored_over_another_machine_spares_what_is_its_own() {
    let Some(hosts) = Hosts::lost() else { return };
    let ended = hosts.on("new", "state2", "varu restore --all --overwrite changed --yes").ends(0);
    hosts.is_restored();
    for said in [
        "/etc/fstab: it belongs to this machine",
        "/etc/network/interfaces: it belongs to this machine",
        "/etc/varu/ssh_key: this restore uses it",
        "/etc/passwd: its accounts were added",
        "accounts were added: jackx (group), jackx",
        "jackx: 1001 in place of 1000",
    ] {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
}

#[test]
fn one_set_restored_over_another_machine_spares_what_is_its_own() {
    let Some(hosts) = Hosts::lost() else { return };
    let ended = hosts.on("new", "state2", "varu --json restore system --to / --overwrite always").ends(0);
    hosts.is_restored();
    let stayed = ended.json()["stayed"].to_string();
    assert!(stayed.contains("/etc/fstab") && stayed.contains("/etc/varu/ssh_key"), "{stayed}");
}

#[test]
fn what_belongs_to_a_machine_comes_where_that_is_asked_for() {
    let Some(hosts) = Hosts::lost() else { return };
    let line = "varu restore system --to / --overwrite changed --with-machine-files";
    hosts.on("new", "state2", line).ends(0);
    hosts.is("new/fstab", "lost");
    hosts.is("new/varu/ssh_key", "new!");
    let passwd = fs::read_to_string(hosts.at("new/passwd")).unwrap();
    assert_eq!(passwd, fs::read_to_string(hosts.at("lost/passwd")).unwrap());
    // By the accounts as they will be, also where a file comes before them.
    assert_eq!(owner(&hosts.at("new-boot/srvx/redis.rdb")), 712);
}

#[test]
fn nothing_is_merged_where_nothing_may_be_overwritten() {
    let Some(hosts) = Hosts::lost() else { return };
    let before = fs::read(hosts.at("new/passwd")).unwrap();
    let ended = hosts.on("new", "state2", "varu restore system --to /").ends(3);
    assert!(ended.err.contains("etc/passwd was not restored"), "{}", ended.err);
    assert_eq!(fs::read(hosts.at("new/passwd")).unwrap(), before);
    hosts.is("new/fstab", "new!");
    assert_eq!(owner(&hosts.at("new-boot/srvx/redis.rdb")), 713);
}

#[test]
fn a_mounted_disk_has_the_numbers_of_its_own_accounts() {
    let Some(hosts) = Hosts::lost() else { return };
    let disk = |name: &str| hosts.at(name);
    // An empty disk: the accounts that are restored are its own.
    hosts.on("new", "state2", "varu restore system --to \"$TOP/disk\"").ends(0);
    assert_eq!(owner(&disk("disk/boot/srvx/redis.rdb")), 712);
    assert_eq!(owner(&disk("disk/boot/srvx/app.db")), 713);
    hosts.is("disk/etc/fstab", "lost");
    // A disk with a system, which the restored folder joins.
    let system = "mkdir -p \"$TOP/system/etc\"; echo redisx:x:555:555::/:/bin/sh > \"$TOP/system/etc/passwd\"
        echo redisx:x:555: > \"$TOP/system/etc/group\"; varu restore system --to \"$TOP/system\" --only boot/srvx/redis.rdb";
    hosts.on("new", "state2", system).ends(0);
    assert_eq!(owner(&disk("system/boot/srvx/redis.rdb")), 555);
    // By this machine's names, and by numbers.
    hosts.on("new", "state2", "varu restore system --to \"$TOP/part\" --only boot/srvx").ends(0);
    assert_eq!(owner(&disk("part/boot/srvx/redis.rdb")), 713);
    hosts.on("new", "state2", "varu restore system --to \"$TOP/numbers\" --only boot/srvx --numeric-owner").ends(0);
    assert_eq!(owner(&disk("numbers/boot/srvx/redis.rdb")), 712);
}
