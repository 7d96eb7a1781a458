//! Execution of docs/install.md and docs/operations.md, from top to bottom.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::fleet::{Debian, Fleet, Machine, SSH, package, run};
use super::page::{Step, blocks, section, steps};
use super::playbooks::Core;
use super::{Clock, fleet, tell};

/// The machines and the last part of their addresses.
const HOSTS: [(&str, u32); 3] = [("backup", 0), ("vm1", 1), ("other", 2)];

/// Who does the steps of a page.
struct Doers<'a> {
    fleet: &'a Fleet,
    machines: Vec<(&'a str, &'a Machine)>,
    /// Placeholders of the page, and their real values.
    words: Vec<(&'a str, String)>,
    /// Of the programs on the control machine.
    environment: Vec<(&'a str, String)>,
    wrong: Vec<String>,
}

impl Doers<'_> {
    fn machine(&self, who: &str) -> &Machine {
        self.machines.iter().find(|(name, _)| *name == who).unwrap_or_else(|| panic!("who is {who}?")).1
    }

    fn all(&mut self, page: &str) {
        for step in steps(page) {
            self.does(step);
        }
    }

    fn does(&mut self, step: Step) {
        let vm1 = self.machine("vm1");
        let words = self.words.clone();
        let step = words.iter().fold(step, |step, (word, by)| step.with(word, by));
        let first = step.line.split(' ').next().unwrap_or_default();
        match (step.who.as_str(), first) {
            // The program is there: it was built for this test.
            ("you", "cargo") => {
                for who in ["vm1", "backup"] {
                    self.machine(who).send(Path::new(env!("CARGO_BIN_EXE_varu")), "/usr/local/bin/varu");
                    self.machine(who).does("chmod 755 /usr/local/bin/varu");
                }
            }
            ("you", "scp") => {
                let (from, to) = step.line.strip_prefix("scp ").and_then(|rest| rest.split_once(' ')).unwrap();
                vm1.send(Path::new(from), to.strip_prefix("root@vm1.example:").unwrap());
            }
            ("you", _) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &step.line]).current_dir(self.fleet.path("")).envs(self.environment.iter().cloned());
                let text = run(&mut shell).ends(0);
                self.wrong.extend(step.differs(&text));
                if let Some((_, recipient)) = text.split_once("Public key: ") {
                    self.words.push(("age1…", recipient.trim().to_owned()));
                }
            }
            (_, "editor") => {
                let file = step.line.split(' ').nth(1).unwrap();
                fs::write(vm1.root().join(file.trim_start_matches('/')), &step.shown).unwrap();
            }
            (who, _) => {
                let machine = self.machine(who);
                let key = vm1.root().join("etc/varu/ssh_key.pub");
                if who != "vm1" && key.exists() {
                    machine.send(&key, "/tmp/vm1.pub");
                }
                let wrong = step.run(machine, "");
                if step.line.starts_with("varu init") {
                    let id = vm1.does("basename /etc/varu/*.writer.key .writer.key").trim().to_owned();
                    self.words.push(("repository ID", format!("repository {id}")));
                }
                self.wrong.extend(wrong);
            }
        }
    }

    fn say(&self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n\n"));
    }
}

/// A page, with the names that its machines have here.
fn short(page: &str) -> String {
    let page = fs::read_to_string(page).unwrap();
    page.replace("backup.example", "backup").replace("other.example", "other")
}

/// The manual installation of docs/install.md on one release, then the sections of docs/operations.md about names, hosts
/// and sets.
#[test]
fn the_install_page_by_hand_and_the_operations_page() {
    let Some(fleet) = fleet(3) else { return };
    let mut clock = Clock::new();
    let backup = fleet.boot_of(Debian::Trixie, "backup", 0, &HOSTS);
    let vm1 = fleet.boot("vm1", 1, &HOSTS);
    let other = fleet.boot("other", 2, &HOSTS);
    let install = short("docs/install.md");
    let machines = vec![("backup", &backup), ("vm1", &vm1), ("other", &other)];
    let mut doers = Doers { fleet: &fleet, machines, words: Vec::new(), environment: Vec::new(), wrong: Vec::new() };
    doers.all(section(&install, "Manual installation"));
    doers.say();
    restores(&vm1, &fleet);
    clock.say("docs/install.md by hand, on Debian 12, with a host of Debian 13");

    let operations = short("docs/operations.md");
    vm1.does(
        "printf '[sets.wiki]\\nsource = \"files\"\\npaths = [\"/etc/ssl\"]\\nschedule = { full = \"weekly\" }\\n' >> /etc/varu/varu.toml && varu \
         schedule install && systemctl start varu-backup@wiki",
    );
    backup.does("systemctl start varu-host-accept");
    doers.all(section(&operations, "Renamed or removed set"));
    let status = backup.does("varu host status");
    assert!(status.contains("vm1: wiki: 1 snapshot") && status.contains(", retired"), "{status}");
    clock.say("a set is retired");

    // Root of one host may write to the other, as an administrator with an agent.
    backup.send(&fleet.path("key"), "/root/.ssh/id_ed25519");
    backup.does("chmod 600 /root/.ssh/id_ed25519 && printf 'StrictHostKeyChecking accept-new\\n' > /root/.ssh/config");
    other.send(Path::new(env!("CARGO_BIN_EXE_varu")), "/usr/local/bin/varu");
    other.does("chmod 755 /usr/local/bin/varu && groupadd --gid 990 taken; mkdir -p /srv/varu && varu host install");
    let before = vm1.does("varu list | wc -l");
    doers.all(section(&operations, "Move to another backup host"));
    doers.say();
    other.does("systemctl start varu-host-accept varu-host-verify");
    let after = vm1.does("varu list | wc -l");
    assert_eq!(after.trim().parse::<u32>().unwrap(), before.trim().parse::<u32>().unwrap() + 1);
    vm1.does("varu verify");
    clock.say("the machine has another host, and its history");

    doers.machines = vec![("backup", &other), ("vm1", &vm1)];
    doers.all(section(&operations, "Renamed machine"));
    doers.say();
    vm1.does("varu verify");
    clock.say("the machine has another name, and its history");

    doers.words.push(("retire vm1", "retire web1".to_owned()));
    doers.all(&section(&operations, "Decommissioned machine").replace("account vm1", "account web1"));
    doers.say();
    assert_eq!(vm1.does("systemctl list-timers --all --no-pager --legend=no 'varu-*'").trim(), "");
    assert_eq!(vm1.run("varu list").status, 6);
    clock.say("the machine left");
    tell(&format!("{:7.1} s  in all", clock.start.elapsed().as_secs_f64()));
}

/// docs/install.md by hand, on the other release.
#[test]
fn the_install_page_by_hand_the_other_way_round() {
    let Some(fleet) = fleet(4) else { return };
    let mut clock = Clock::new();
    let backup = fleet.boot("backup", 0, &HOSTS);
    let vm1 = fleet.boot_of(Debian::Trixie, "vm1", 1, &HOSTS);
    let install = short("docs/install.md");
    let machines = vec![("backup", &backup), ("vm1", &vm1)];
    let mut doers = Doers { fleet: &fleet, machines, words: Vec::new(), environment: Vec::new(), wrong: Vec::new() };
    doers.all(section(&install, "Manual installation"));
    doers.say();
    restores(&vm1, &fleet);
    clock.say("docs/install.md by hand, on Debian 13, with a host of Debian 12");
}

/// docs/install.md by package, on each release.
#[test]
fn the_install_page_by_package() {
    for (number, releases) in [(5, [Debian::Bookworm, Debian::Trixie]), (6, [Debian::Trixie, Debian::Bookworm])] {
        let Some(fleet) = fleet(number) else { return };
        let mut clock = Clock::new();
        let backup = fleet.boot_of(releases[0], "backup", 0, &HOSTS);
        let vm1 = fleet.boot_of(releases[1], "vm1", 1, &HOSTS);
        for machine in [&vm1, &backup] {
            machine.send(package(), "/root/varu_0.1.0_amd64.deb");
        }
        backup.does("apt-get install --yes ./varu_0.1.0_amd64.deb");
        let install = short("docs/install.md");
        let machines = vec![("backup", &backup), ("vm1", &vm1)];
        let mut doers =
            Doers { fleet: &fleet, machines, words: Vec::new(), environment: Vec::new(), wrong: Vec::new() };
        doers.all(section(&install, "Debian package"));
        // On as by hand, with the second step.
        let by_hand = section(&install, "Manual installation");
        doers.all(&by_hand[by_hand.find("\n2. ").unwrap()..]);
        doers.say();
        restores(&vm1, &fleet);
        clock.say(&format!("docs/install.md by package, on {:?}, with a host of {:?}", releases[1], releases[0]));
    }
}

/// The Ansible section of docs/install.md: its collection, its inventory, its commands, from an account that becomes
/// root with sudo. Only the folders of packages and identities are the test's.
#[test]
fn the_install_page_with_ansible() {
    const NAMES: [(&str, u32); 3] = [("backup.example", 0), ("vm1.example", 1), ("staging.example", 2)];
    let Some(fleet) = fleet(7) else { return };
    let mut clock = Clock::new();
    let backup = fleet.boot_of(Debian::Trixie, NAMES[0].0, 0, &NAMES);
    let vm1 = fleet.boot(NAMES[1].0, 1, &NAMES);
    let staging = fleet.boot(NAMES[2].0, 2, &NAMES);
    for machine in [&vm1, &staging] {
        machine.does("systemctl enable --quiet --now mariadb && mkdir -p /srv/data && echo data > /srv/data/file");
    }
    // However full the disk is that the test runs on, a tenth of this one is free.
    vm1.does("mkdir -p /var/backups && mount -t tmpfs -o size=300M,mode=755 tmpfs /var/backups");
    vm1.does(
        "mysql --execute 'CREATE DATABASE shop; USE shop; CREATE TABLE orders AS SELECT seq AS id FROM seq_1_to_1000'",
    );
    run(Command::new("cp").args(["-r", "ansible"]).arg(fleet.path(""))).ends(0);
    let (packages, secure) = (fleet.path("packages"), fleet.path("secure"));
    for folder in [&packages, &secure] {
        fs::create_dir(folder).unwrap();
    }
    fs::copy(package(), packages.join("varu_0.1.0_amd64.deb")).unwrap();

    let machines = vec![("backup", &backup), ("vm1", &vm1), ("staging", &staging)];
    let environment = control(&fleet, &NAMES);
    let mut doers = Doers { fleet: &fleet, machines, words: Vec::new(), environment, wrong: Vec::new() };
    let page = fs::read_to_string("docs/install.md").unwrap();
    let page = section(&page, "Ansible").replace("/srv/packages", &packages.display().to_string());
    let page = page.replace("/secure/varu", &secure.display().to_string());
    let (first, second) = page.split_once("\n### ").unwrap();
    let mut inventory = blocks(first, "yaml");
    fs::write(fleet.path("inventory.yml"), &inventory).unwrap();
    doers.all(first);
    let list = vm1.does("varu list");
    assert!(list.contains("shop") && list.contains("system"), "{list}");
    clock.say("docs/install.md with Ansible");

    backup.starts("varu-host-accept", 0);
    inventory += &blocks(second, "yaml");
    fs::write(fleet.path("inventory.yml"), &inventory).unwrap();
    let (before, after) = second.split_once("The backup host shows").unwrap();
    doers.all(before);
    backup.starts("varu-host-accept", 0);
    doers.all(after);
    doers.say();
    let count = "mysql --batch --execute 'CHECKSUM TABLE shop.orders'";
    assert_eq!(staging.does(count), vm1.does(count));
    clock.say("staging is refreshed from production");
    tell(&format!("{:7.1} s  in all", clock.start.elapsed().as_secs_f64()));
}

/// The control machine: the newest ansible-core, a folder for its collections, and how it reaches the machines by their names.
fn control(fleet: &Fleet, names: &[(&str, u32)]) -> Vec<(&'static str, String)> {
    let hosts = names.iter().map(|(name, number)| format!("Host {name}\nHostName {}\n", fleet.address(*number)));
    let rest = format!("Host *\nUser admin\nIdentityFile {}\n", fleet.path("key").display());
    fs::write(fleet.path("ssh_config"), hosts.collect::<String>() + &rest).unwrap();
    let path = |name: &str| fleet.path(name).display().to_string();
    let programs = Core::Newest.programs().display().to_string();
    vec![
        ("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default())),
        ("ANSIBLE_HOME", path("ansible-home")),
        ("ANSIBLE_COLLECTIONS_PATH", path("collections")),
        ("ANSIBLE_SSH_ARGS", format!("-F {} {}", path("ssh_config"), SSH.join(" "))),
        ("ANSIBLE_NOCOLOR", "1".to_owned()),
    ]
}

/// With the identity alone, the backup is restored to another folder.
fn restores(vm1: &Machine, fleet: &Fleet) {
    vm1.send(&fleet.path("vm1.identity.txt"), "/run/identity.txt");
    vm1.does("chmod 600 /run/identity.txt && varu --identity /run/identity.txt restore system --to /root/back && cmp /etc/passwd /root/back/etc/passwd");
    vm1.does("rm -r /run/identity.txt /root/back");
}
