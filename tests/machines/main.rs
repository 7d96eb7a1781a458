//! Machines with systemd, from their installation by Ansible to their loss and their restore: `varu` as it is used.
//!
//! They are booted from a cached image, so this needs root, systemd-nspawn and, the first time, a Debian mirror. Where that
//! isn't to be had the test says so and passes.

mod fleet;
mod failures;
mod losses;
mod names;
mod packages;
mod page;
mod pages;
mod playbooks;
mod shop;

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use failures::failures;
use fleet::{Debian, Fleet, Machine, package, run};
use losses::{by_the_page, lose_and_restore, lose_postgresql};
use playbooks::{Ansible, Core, collection};
use shop::{change, fill, inventory, quotas, zone};

/// The machines and the last part of their addresses.
const HOSTS: [(&str, u32); 4] = [("backup", 0), ("vm1", 1), ("vm2", 2), ("staging", 3)];

/// The restore identity of vm1, in a folder that the role makes.
const PRODUCTION: &str = "secure/production/identity.txt";

/// The release of a machine.
fn release(name: &str) -> Debian {
    if name == "vm2" { Debian::Trixie } else { Debian::Bookworm }
}

/// A fleet, or why there is none.
fn fleet(number: u32) -> Option<Fleet> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let fleet = if root { Fleet::new(number) } else { Err("only root can boot machines".to_owned()) };
    fleet.map_err(|why| tell(&format!("SKIPPED: {why}"))).ok()
}

/// Says something that is to be seen of a test that passes, too.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says how long each part took.
struct Clock {
    start: Instant,
    part: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), part: Instant::now() }
    }

    fn say(&mut self, what: &str) {
        tell(&format!("{:7.1} s  {what}", self.part.elapsed().as_secs_f64()));
        self.part = Instant::now();
    }
}

#[test]
fn machines_live_are_lost_and_come_back() {
    let Some(fleet) = fleet(0) else { return };
    let mut clock = Clock::new();
    let package = package();
    clock.say("the package is built");
    let [backup, mut vm1, mut vm2, staging] =
        HOSTS.map(|(name, number)| fleet.boot_of(release(name), name, number, &HOSTS));
    // Another port beside the usual one.
    backup.does("printf 'Port 22\\nPort 2222\\n' > /etc/ssh/sshd_config.d/ports.conf && systemctl restart ssh");
    backup.does("mkdir -p /srv/varu && mount -t tmpfs -o size=300M,mode=755 tmpfs /srv/varu");
    quotas(&backup);
    fill(&vm1);
    vm2.does(
        "mkdir -p /srv/notes && echo private > /srv/notes/note && systemctl enable --quiet --now postgresql && cd / && runuser -u \
         postgres -- psql --quiet --command 'CREATE DATABASE ledger' && runuser -u postgres -- psql --quiet --dbname ledger --command \
         'CREATE TABLE bookings AS SELECT n AS id, md5(n::text) AS what FROM generate_series(1, 20000) n'",
    );
    staging.does("systemctl enable --quiet --now mariadb");
    let aside = "SELECT CONCAT('DROP DATABASE `', SCHEMA_NAME, '`;') FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'shop_before_%'";
    let script = format!(
        "#!/bin/sh\nrun() {{ mysql --defaults-extra-file=$CREDENTIALS_DIRECTORY/mysql-refresh.cnf -N; }}\necho \"{}\" | run | run\n",
        aside.replace('`', "\\`")
    );
    fs::write(staging.root().join("usr/local/bin/drop-aside"), script).unwrap();
    staging.does("chmod 755 /usr/local/bin/drop-aside");
    clock.say("four machines are booted and filled");

    run(Command::new("age-keygen").arg("-o").arg(fleet.path("staging.txt"))).ends(0);
    let mut ansible = Ansible::new(&fleet, Core::Debian, "life", &inventory(&fleet, package));
    let vaulted = fleet.path("secure/vm2.txt");
    fs::create_dir_all(vaulted.parent().unwrap()).unwrap();
    run(Command::new("age-keygen").arg("-o").arg(&vaulted)).ends(0);
    ansible.encrypt(&vaulted);
    install(&fleet, &mut ansible, &mut clock);
    let limited = backup.does("sed s/$(id --user vm1)/ID/g /root/limited");
    assert_eq!(limited.trim(), "-x -c project -s -p /srv/varu/vm1 ID -c limit -p bhard=256000k ID /srv/varu");
    assert!(ansible.printed.contains("/srv/varu/vm2 has no quota: its file system (tmpfs)"));
    for machine in [&vm1, &backup] {
        check_units(machine);
    }
    calendars(&vm1);
    clock.say("units, times and hardening are checked");

    encrypted(&vm1);
    days(&vm1, &backup);
    clock.say("three days of dumps, backups, accept, verify and prune");
    strangers(&vm1, &vm2);
    refresh(&fleet, &vm1, &staging, &backup);
    clock.say("a refresh into staging, none into production");
    failures(&mut vm1, &backup);
    clock.say("failures");
    secrets(&[&backup, &vm1, &vm2, &staging], &ansible, &fleet);
    clock.say("no secret is seen");

    let vm1 = lose_and_restore(vm1, &fleet, &mut ansible, &backup, &mut clock);
    vm2 = lose_postgresql(vm2, &fleet, &mut ansible, &backup);
    vm2.starts("varu-backup@notes", 0);
    clock.say("vm2 is lost, and restored");
    by_the_page(vm1, &fleet, package, &backup);
    clock.say("vm1 is lost again, and comes back by docs/restore.md");
    tell(&format!("{:7.1} s  in all", clock.start.elapsed().as_secs_f64()));
}

/// The inventory's machines are installed; a second run changes nothing, nor does one that only checks.
fn install(fleet: &Fleet, ansible: &mut Ansible, clock: &mut Clock) {
    let checked = ansible.plays("site", &["--check"]);
    assert!(checked.changed > 0 && !fleet.path("vm1/root/usr/bin/varu").exists(), "{}", checked.text);
    assert!(!fleet.path("secure/production").exists(), "nothing was made on the control machine either");
    clock.say("a run in check mode before the first one");
    ansible.plays("site", &[]);
    clock.say("Ansible installed them; each made its first backup and verified it");
    let again = ansible.plays("site", &[]);
    assert_eq!(again.changed, 0, "{}", again.text);
    let checked = ansible.plays("site", &["--check", "--limit", "backup,vm1,vm2"]);
    assert_eq!(checked.changed, 0, "{}", checked.text);
    clock.say("a second run and one in check mode change nothing");
    // The identity stayed here, and names the repository.
    let identity = fs::read_to_string(fleet.path(PRODUCTION)).unwrap();
    assert_eq!(identity.matches("# varu repository ").count(), 1, "a line for its machine");
    let beside = fs::read_to_string(fleet.path("secure/vm2.txt.repositories")).unwrap();
    assert_eq!(beside.matches("# varu repository ").count(), 1, "{beside}");
    assert!(fs::read_to_string(fleet.path("secure/vm2.txt")).unwrap().starts_with("$ANSIBLE_VAULT"));
    for line in identity.lines().filter(|line| line.starts_with("# varu repository ")) {
        let path = fleet.path("staging.txt");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{line}\n{text}")).unwrap();
    }
    ansible.plays("client", &["--limit", "staging"]);
}

/// systemd finds nothing wrong with the units, and each is hardened.
fn check_units(machine: &Machine) {
    let units = machine.does("ls /usr/lib/systemd/system | grep '^varu-.*\\.service$'");
    for unit in units.lines() {
        let unit = unit.replace("@.", "@x.");
        let verified = machine.does(&format!("systemd-analyze verify --man=no {unit} 2>&1 | grep varu || true"));
        assert_eq!(verified, "", "{unit}");
        let security = machine.does(&format!("systemd-analyze security --no-pager {unit} | tail -1"));
        let score = security.split_whitespace().find_map(|word| word.parse::<f64>().ok()).expect("a score");
        tell(&format!("           {:32} {score} on {}", unit, machine.name));
        assert!(score <= 2.0, "{security}");
    }
    for unit in ["varu-backup@web", "varu-backup@shop", "varu-dump@shop"] {
        if machine.name == "vm1" {
            machine.does(&format!("systemd-analyze security --no-pager --threshold=20 {unit}.service > /dev/null"));
        }
    }
}

/// The timers have the configuration's times, and these fall where they should.
fn calendars(vm1: &Machine) {
    let timers = vm1.does("systemctl show --property=TimersCalendar varu-dump@shop.timer varu-backup@shop.timer");
    for time in ["01:00:00", "Sun *-*-* 01:05:00", "Mon..Sat *-*-* 01:10:00"] {
        assert!(timers.contains(&format!("{time} {}", zone())), "{timers}");
    }
    assert_eq!(timers.matches("OnCalendar=").count(), 3, "the units' own times don't hold: {timers}");
    // Through a Sunday, and over the end of summer time.
    for (base, times) in [
        ("2026-11-21 12:00", ["2026-11-22 01:05:00 EET", "2026-11-23 01:10:00 EET"]),
        ("2026-10-24 12:00", ["2026-10-25 01:05:00 EEST", "2026-10-26 01:10:00 EET"]),
    ] {
        let next = |time: &str| {
            vm1.does(&format!(
                "TZ=Europe/Tallinn systemd-analyze calendar --base-time '{base}' '{time} Europe/Tallinn'"
            ))
        };
        assert!(next("Sun 01:05").contains(times[0]), "{}", next("Sun 01:05"));
        assert!(next("Mon..Sat 01:10").contains(times[1]), "{}", next("Mon..Sat 01:10"));
    }
}

/// A secret may lie on the disk encrypted with the machine's own key.
fn encrypted(vm1: &Machine) {
    let dropin = "/etc/systemd/system/varu-verify.service.d/90-encrypted.conf";
    vm1.does(&format!(
        "systemd-creds encrypt --with-key=host --name=ssh_key /etc/varu/ssh_key /etc/varu/ssh_key.cred && mv /etc/varu/ssh_key /root/ && \
         printf '[Service]\\nLoadCredentialEncrypted=ssh_key:/etc/varu/ssh_key.cred\\n' > {dropin} && systemctl daemon-reload"
    ));
    assert!(vm1.starts("varu-verify", 0).contains("everything is intact"));
    vm1.does(&format!("mv /root/ssh_key /etc/varu/ && rm {dropin} /etc/varu/ssh_key.cred && systemctl daemon-reload"));
}

/// The services run as their timers run them, and one is really started by its timer.
fn days(vm1: &Machine, backup: &Machine) {
    for day in 1..=3 {
        change(vm1, day);
        let since = backup.does("journalctl --sync; date +@%s.%N");
        let dumped = vm1.starts("varu-dump@shop", 0);
        assert!(dumped.contains("dumped shop to /var/backups/varu/shop/"), "{dumped}");
        for set in ["shop", "web", "metrics"] {
            let journal = vm1.starts(&format!("varu-backup@{set}"), 0);
            assert!(journal.contains(&format!("(incremental of {set})")), "{journal}");
        }
        // Its timer may have come first.
        backup.starts("varu-host-accept", 0);
        let accepted = backup.journal(&format!("--unit=varu-host-accept --since={}", since.trim()));
        assert!(accepted.contains("vm1: ") && accepted.contains(" accepted"), "{accepted}");
    }
    assert!(vm1.starts("varu-verify", 0).contains("everything is intact: 13 snapshots"));
    vm1.starts("varu-prune", 0);
    assert!(backup.starts("varu-host-verify", 0).contains("vm1: everything is intact"));
    backup.starts("varu-host-prune", 0);
    let status = backup.starts("varu-host-status", 0);
    assert!(status.contains("vm1: shop: 4 snapshots") && status.contains("vm2: notes: 1 snapshot"), "{status}");
    assert!(backup.does("cat /var/lib/varu-host/varu.prom").contains("varu_host_late{account=\"vm1\",set=\"shop\"} 0"));
    by_its_timer(vm1);
    by_hand(vm1);
}

/// A timer starts its service after the host's own delay, which is one second on this machine.
fn by_its_timer(vm1: &Machine) {
    let dropin = "/run/systemd/system/varu-backup@web.timer.d";
    let since = vm1.does("journalctl --sync; date +@%s.%N");
    let journal = format!("--unit=varu-backup@web --since={}", since.trim());
    vm1.does(&format!(
        "mkdir -p {dropin} && printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:*\\n' > {dropin}/90-now.conf && systemctl daemon-reload && \
         systemctl restart varu-backup@web.timer; for i in $(seq 300); do journalctl --sync; journalctl {journal} | grep -q 'Finished varu' && \
         break; sleep 0.2; done; rm -r {dropin} && systemctl daemon-reload && systemctl restart varu-backup@web.timer; while systemctl \
         is-active varu-backup@web | grep -q activating; do sleep 0.2; done"
    ));
    let journal = vm1.journal(&journal);
    assert!(journal.contains("this host's own delay is 1.0 s") && journal.contains("incremental of web"), "{journal}");
}

/// Root's own run, with a full that is due by the calendar; the services continue with its files.
fn by_hand(vm1: &Machine) {
    vm1.does("sed 's/Sun 01:20/*:*:*/' /etc/varu/varu.toml > /root/now.toml");
    let printed = vm1.does("varu --config /root/now.toml backup web");
    assert!(printed.contains("(full of web)"), "{printed}");
    vm1.does("rm /root/now.toml; chown -R root: /var/lib/varu/*");
    assert!(vm1.starts("varu-backup@web", 0).contains("(incremental of web)"));
    assert_eq!(vm1.does("find /var/lib/varu ! -user varu").trim(), "");
}

/// Two machines on one host can neither read nor name each other's repository.
fn strangers(vm1: &Machine, vm2: &Machine) {
    let sftp = |account: &str, line: &str| {
        vm2.run(&format!(
            "echo '{line}' | sftp -P 2222 -b - -i /etc/varu/ssh_key -oUserKnownHostsFile=/etc/varu/known_hosts -oIdentitiesOnly=yes \
             {account}@backup 2>&1"
        ))
    };
    assert!(sftp("vm1", "ls /").ends(255).contains("Permission denied"));
    assert!(sftp("vm1-staging", "ls /").ends(255).contains("Permission denied"));
    assert_eq!(sftp("vm2", "ls -1 /").ends(0).lines().last(), Some("/repo"));
    for path in ["/../vm1", "/../../vm1/repo", "/srv/varu/vm1"] {
        assert!(sftp("vm2", &format!("ls {path}")).ends(1).contains("not found"), "{path}");
    }
    // A reader can't add, and no account can delete.
    let reads = |line: &str| {
        vm1.run(&format!(
            "echo '{line}' | sftp -b - -i /etc/varu/ssh_key -oUserKnownHostsFile=/etc/varu/known_hosts vm1@backup 2>&1"
        ))
    };
    let pack = reads("ls -1 /repo/packs").ends(0);
    let pack = pack.lines().find(|line| line.ends_with(".pack")).expect("a pack");
    assert_eq!(reads(&format!("rm {pack}")).status, 1);
}

/// Production's newest backup comes into staging, and never into production.
fn refresh(fleet: &Fleet, vm1: &Machine, staging: &Machine, backup: &Machine) {
    // A reader sees accepted objects.
    backup.starts("varu-host-accept", 0);
    let count = "mysql --batch --skip-column-names --execute 'CHECKSUM TABLE shop.orders, shop.customers'";
    let checked = staging.does("varu config check");
    assert!(checked.contains("ok       refresh shop: sftp://vm1-staging@backup/repo can be reached"), "{checked}");
    staging.starts("varu-restore@shop", 0);
    assert_eq!(staging.does(count), vm1.does(count));
    staging.does("mysql shop --execute 'DELETE FROM orders'");
    staging.starts("varu-restore@shop", 0);
    assert_eq!(staging.does(count), vm1.does(count));
    assert_eq!(
        staging.does("mysql -N -e 'SHOW DATABASES' | grep -c shop").trim(),
        "1",
        "what was put aside is dropped"
    );
    let timers = staging.does("systemctl list-timers --all --no-pager 'varu-*'");
    assert!(timers.contains("varu-restore@shop.timer") && !timers.contains("varu-backup"), "{timers}");
    // The reader only reads.
    let put = "echo 'put /etc/hostname /repo/pending/x' | sftp -b - -i /etc/varu/ssh_key \
               -oUserKnownHostsFile=/etc/varu/known_hosts vm1-staging@backup 2>&1";
    assert_eq!(staging.run(put).status, 1);

    let identity = fs::read_to_string(fleet.path("staging.txt")).unwrap();
    let at = vm1.root().join("root/identity.txt");
    fs::write(&at, identity).unwrap();
    vm1.does("chmod 600 /root/identity.txt");
    let restores = "[restores.shop]\\nset = \"shop\"\\nidentity = \"/root/identity.txt\"\\ninto = \"mysql\"\\nreplace = [\"shop\"]\\n";
    vm1.does(&format!("(cat /etc/varu/varu.toml; printf '{restores}') > /root/refresh.toml"));
    let refused = vm1.run("varu --config /root/refresh.toml refresh shop").ends(5);
    assert!(refused.contains("a refresh brings the data of one environment into another"), "{refused}");
    vm1.does("rm /root/refresh.toml /root/identity.txt");
}

/// Searches all public output for every secret.
fn secrets(machines: &[&Machine], ansible: &Ansible, fleet: &Fleet) {
    let mut secrets = Vec::new();
    for machine in machines {
        let files = machine.does(
            "cat /etc/varu/ssh_key /etc/varu/*.writer.key /etc/varu/*identity* 2>/dev/null; sed -n s/^password=//p \
             /etc/varu/mysql.cnf 2>/dev/null; true",
        );
        secrets.extend(files.lines().map(ToOwned::to_owned));
    }
    secrets.extend(fs::read_to_string(fleet.path(PRODUCTION)).unwrap().lines().map(ToOwned::to_owned));
    let is_secret = |line: &String| {
        line.len() > 30
            && !line.starts_with(['#', '-'])
            && !line.starts_with("repository")
            && !line.contains("age1")
            && !line.starts_with("version")
    };
    let mut words: Vec<&str> =
        secrets.iter().filter(|line| is_secret(line)).filter_map(|line| line.split(' ').next_back()).collect();
    words.retain(|word| word.len() > 30);
    // Lines that many SSH keys share say nothing.
    words.retain(|word| !word.starts_with("b3BlbnNzaC1rZXktdjE"));
    assert!(words.len() >= 10, "there is something to look for: {}", words.len());
    for machine in machines {
        let seen = machine.does(
            "systemctl show 'varu-*' --no-pager; systemctl cat 'varu-*' --no-pager 2>/dev/null; journalctl --no-pager; ps auxe; varu \
             config check 2>&1; varu schedule show 2>&1; true",
        );
        for word in &words {
            assert!(!seen.contains(word), "a secret is seen on {}: {word}", machine.name);
        }
    }
    for word in &words {
        assert!(!ansible.printed.contains(word), "Ansible printed a secret: {word}");
    }
}

/// The newest ansible-lint finds nothing in the collection, at its strictest.
#[test]
fn the_roles_are_clean() {
    run(Command::new("/usr/bin/python3").args(["ansible/readme.py", "--check"])).ends(0);
    let folder = tempfile::tempdir().unwrap();
    let collections = collection(Core::Newest, folder.path());
    // It wants a repository around the examined folder.
    run(Command::new("cp").args(["-r", "ansible"]).arg(folder.path())).ends(0);
    let looked_at = folder.path().join("ansible");
    run(Command::new("git").args(["init", "--quiet"]).current_dir(&looked_at)).ends(0);
    let mut lint = Core::Newest.program("ansible-lint");
    lint.args(["--offline", "--profile", "production"]).current_dir(&looked_at);
    let found = run(lint.env("ANSIBLE_COLLECTIONS_PATH", collections)).ends(0);
    assert!(found.contains("0 failure(s), 0 warning(s)"), "{found}");
}
