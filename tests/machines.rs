//! Machines with systemd, from their installation by Ansible to their loss and their restore: `varu` as it is used.
//!
//! They are booted from a cached image, so this needs root, systemd-nspawn and, the first time, a Debian mirror. Where that
//! isn't to be had the test says so and passes.

#[path = "machines/fleet.rs"]
mod fleet;
#[path = "machines/page.rs"]
mod page;
#[path = "machines/playbooks.rs"]
mod playbooks;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fleet::{Fleet, Machine, package, run};
use playbooks::Ansible;

/// The machines and the last part of their addresses.
const HOSTS: [(&str, u32); 4] = [("backup", 0), ("vm1", 1), ("vm2", 2), ("staging", 3)];

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

/// Everything of a service that has to be the same after a restore.
const STATE: &str = "mysql --batch --skip-column-names --execute 'CHECKSUM TABLE shop.orders, shop.customers; SELECT COUNT(*) \
                     FROM shop.big_orders; SHOW CREATE TRIGGER shop.stamp' | grep -v '^stamp.*202' ; cd /srv/www && find . \
                     -printf '%p %m %u %g %s %T@ %l\\n' | sort | sha256sum; find . -type f -print0 | sort -z | xargs -0 sha256sum | \
                     sha256sum; getfattr -Rd -m user. . | sort | sha256sum; influx \
                     -database telegraf -execute 'SELECT COUNT(load), SUM(load) FROM cpu'";

/// A shop with its pages.
fn fill(vm1: &Machine) {
    vm1.does(
        "systemctl enable --quiet --now mariadb && mysql --execute \"
         CREATE DATABASE shop; USE shop;
         CREATE TABLE customers (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), since TIMESTAMP DEFAULT '2026-01-01');
         CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, customer INT, what VARCHAR(200));
         INSERT INTO customers (name) SELECT CONCAT('customer ', seq) FROM seq_1_to_2000;
         INSERT INTO orders (customer, what) SELECT seq % 2000, SHA2(seq, 512) FROM seq_1_to_60000;
         CREATE VIEW big_orders AS SELECT * FROM orders WHERE id > 1000;
         CREATE TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW SET NEW.what = TRIM(NEW.what);\"
         mkdir -p /srv/www/img && cd /srv/www && for i in $(seq 300); do echo page $i > $i.html; done
         systemctl enable --quiet --now influxdb && for i in $(seq 300); do influx -execute 'SHOW DATABASES' > /dev/null 2>&1 && break; sleep 0.2; done
         influx -execute 'CREATE DATABASE telegraf' && for i in $(seq 500); do echo cpu,host=vm1 load=$i $((1795000000 + i * 60))000000000; done > /tmp/points
         printf '# DML\\n# CONTEXT-DATABASE: telegraf\\n' | cat - /tmp/points > /tmp/import && influx -import -path /tmp/import > /dev/null
         head -c 3000000 /dev/urandom > img/photo && ln -s img/photo link && ln 1.html hard && setfattr -n user.kind -v page 1.html
         chown -R www-data: . && chmod 0600 7.html && touch -d '2020-02-02 02:02:02.123456789' 8.html",
    );
}

/// What a day changes.
fn change(vm1: &Machine, day: u32) {
    vm1.does(&format!(
        "mysql shop --execute \"UPDATE orders SET what = CONCAT('day {day} ', what) WHERE id % 97 = {day};
         INSERT INTO orders (customer, what) SELECT seq, 'new' FROM seq_1_to_50;\"
         cd /srv/www && echo day {day} > {day}.html && rm -f 2{day}0.html && echo more > new-{day}.html && chown www-data: new-{day}.html"
    ));
}

fn inventory(fleet: &Fleet, package: &Path) -> String {
    let (package, at) = (package.display(), |number| fleet.address(number));
    let identity = |name: &str| fleet.path(name).display().to_string();
    let (production, staging) = (identity("production.txt"), identity("staging.txt"));
    let recipient = run(Command::new("age-keygen").args(["-y", &staging])).ends(0);
    format!(
        "    varu_host_package: {package}
    varu_client_package: {package}
    # Tests don't wait long for a host that is away.
    varu_client_repository: {{retry_for: 8 s}}
  children:
    varu_hosts:
      hosts:
        backup: {{ansible_host: {backup}}}
      vars:
        varu_host_policy: {{keep: 4 weeks, rpo: 26 hours, accounts: {{vm1: {{keep: 8 weeks}}}}}}
    varu_clients:
      hosts:
        vm1:
          ansible_host: {vm1}
          varu_client_identity_file: {production}
          varu_client_recipients: [{recipient}]
          varu_client_environment: {{name: production, restore_from: [production]}}
          varu_client_restore_checks: [mysql --execute 'SELECT 1 FROM shop.orders LIMIT 1']
          varu_client_sets:
            shop:
              source: mysql
              databases: [shop]
              local_copy: /var/backups/varu/shop
              local_reserve: 1 %
              schedule: {{timezone: {zone}, dump: '01:00', full: 'Sun 01:05', incremental: 'Mon..Sat 01:10'}}
              restore_order: 2
            metrics:
              source: influxdb
              database: telegraf
              schedule: {{timezone: {zone}, full: 'Sun 01:15', incremental: 'Mon..Sat 01:16'}}
            web:
              source: files
              paths: [/srv/www]
              max_shrink: 100 %
              schedule: {{timezone: {zone}, full: 'Sun 01:20', incremental: 'Mon..Sat 01:25'}}
              restore_order: 1
        vm2:
          ansible_host: {vm2}
          varu_client_identity_file: {production}
          varu_client_environment: {{name: production, restore_from: [production]}}
          varu_client_sets:
            ledger:
              source: postgresql
              databases: [ledger]
              schedule: {{timezone: {zone}, full: 'Sun 02:00', incremental: 'Mon..Sat 02:01'}}
            notes:
              source: files
              paths: [/srv/notes]
              schedule: {{timezone: {zone}, full: 'Sun 02:05', incremental: 'Mon..Sat 02:10'}}
        staging:
          ansible_host: {stage}
          varu_client_environment: {{name: staging, restore_from: [production]}}
          varu_client_leave_identity: true
          varu_client_identities: {{/etc/varu/production.identity.txt: {staging}}}
          varu_client_readers: [{{name: vm1-staging, account: vm1}}]
          varu_client_restores:
            shop:
              repository: sftp://vm1-staging@backup/repo
              set: shop
              identity: /etc/varu/production.identity.txt
              into: mysql
              replace: [shop]
              after: ['/usr/local/bin/drop-aside']
              at: '06:00'
              timezone: {zone}
",
        backup = at(0),
        vm1 = at(1),
        vm2 = at(2),
        stage = at(3),
        recipient = recipient.trim(),
        zone = zone(),
    )
}

/// A time zone in which it will not soon be night, when the timers start what the test starts.
fn zone() -> &'static str {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let night = matches!(since.as_secs() / 3600 % 24, 20.. | 0..=3);
    if night { "America/New_York" } else { "Europe/Tallinn" }
}

#[test]
fn machines_live_are_lost_and_come_back() {
    let Some(fleet) = fleet(0) else { return };
    let mut clock = Clock::new();
    let package = package();
    clock.say("the package is built");
    let [backup, mut vm1, vm2, staging] = HOSTS.map(|(name, number)| fleet.boot(name, number, &HOSTS));
    backup.does("mkdir -p /srv/varu && mount -t tmpfs -o size=300M,mode=755 tmpfs /srv/varu");
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
    let mut ansible = Ansible::new(&fleet, &inventory(&fleet, package));
    install(&fleet, &mut ansible, &mut clock);
    for machine in [&vm1, &backup] {
        check_units(machine);
    }
    calendars(&vm1);
    clock.say("units, times and hardening are checked");

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
    by_the_page(vm1, &fleet, package, &backup);
    clock.say("vm1 is lost again, and comes back by docs/restore.md");
    tell(&format!("{:7.1} s  in all", clock.start.elapsed().as_secs_f64()));
}

/// The inventory's machines are installed; a second run changes nothing, nor does one that only checks.
fn install(fleet: &Fleet, ansible: &mut Ansible, clock: &mut Clock) {
    ansible.plays("site.yml", &[]);
    clock.say("Ansible installed them; each made its first backup and verified it");
    let again = ansible.plays("site.yml", &[]);
    assert_eq!(again.changed, 0, "{}", again.text);
    let checked = ansible.plays("site.yml", &["--check"]);
    assert_eq!(checked.changed, 0, "{}", checked.text);
    clock.say("a second run and one in check mode change nothing");
    // The identity stayed here, and names the repository.
    let identity = fs::read_to_string(fleet.path("production.txt")).unwrap();
    assert_eq!(identity.matches("# varu repository ").count(), 2, "one line for each machine");
    for line in identity.lines().filter(|line| line.starts_with("# varu repository ")) {
        let path = fleet.path("staging.txt");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{line}\n{text}")).unwrap();
    }
    ansible.plays("client.yml", &["--limit", "staging"]);
}

/// systemd finds nothing wrong with the units, and each is hardened.
fn check_units(machine: &Machine) {
    let units = machine.does("ls /lib/systemd/system | grep '^varu-.*\\.service$'");
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
    assert!(vm1.starts("varu-verify", 0).contains("everything is whole: 12 snapshots"));
    vm1.starts("varu-prune", 0);
    assert!(backup.starts("varu-host-verify", 0).contains("vm1: everything is whole"));
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

/// Root's own run, with a full that is due by the calendar; the services go on with what it made.
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
            "echo '{line}' | sftp -b - -i /etc/varu/ssh_key -oUserKnownHostsFile=/etc/varu/known_hosts -oIdentitiesOnly=yes \
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
    // A reader sees what was accepted.
    backup.starts("varu-host-accept", 0);
    let count = "mysql --batch --skip-column-names --execute 'CHECKSUM TABLE shop.orders, shop.customers'";
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

/// What an administrator sees when something breaks, and that the next run makes up for it.
fn failures(vm1: &mut Machine, backup: &Machine) {
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

    reboot(vm1);
    assert!(backup.starts("varu-host-accept", 0).contains("vm1"));
    backup.starts("varu-host-verify", 0);
}

/// What the network says of a host that is down.
fn vm1_route(vm1: &Machine, what: &str, backup: &Machine) {
    vm1.does(&format!("ip route {what} unreachable {}/32", backup.address));
}

/// A unit fails with that status, says why, and the notice says so, too. Prints what an administrator sees.
fn fails(what: &str, vm1: &Machine, backup: &Machine, (unit, status): (&str, i32), why: &str) {
    let journal = vm1.starts(unit, status);
    assert!(journal.contains(why), "{journal}");
    assert!(vm1.run(&format!("systemctl is-failed {unit}")).text.contains("failed"));
    let said = format!("{unit}.service failed (status {status}, exit-code)");
    vm1.does(&format!(
        "for i in $(seq 300); do journalctl --sync; journalctl --unit='varu-failed@*' | grep -qF '{said}' && exit 0; sleep 0.1; done; exit 1"
    ));
    let shown = [
        format!(
            "systemctl list-units --failed --no-pager --legend=no 'varu-*': {}",
            vm1.does("systemctl list-units --failed --no-pager --plain --legend=no 'varu-*'")
        ),
        journal.lines().find(|line| line.starts_with("varu: ")).unwrap_or_default().to_owned(),
        format!("varu list: {}", vm1.run("varu list 2>&1 | tail -1").text),
        format!("varu host status: {}", backup.run("varu host status vm1 2>&1 | grep web").text),
    ];
    tell(&format!("           {what}"));
    shown.iter().for_each(|line| tell(&format!("             {}", line.trim())));
}

/// The power goes during a backup, and the machine is off for three days.
fn reboot(vm1: &mut Machine) {
    let before = snapshots(vm1);
    let dropin = "/run/systemd/system/varu-backup@web.service.d";
    vm1.does(&format!(
        "head -c 50000000 /dev/urandom > /srv/www/img/large; mkdir -p {dropin} && printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/varu \
         --limit-upload 5M backup %%i\\n' > {dropin}/90-slow.conf && systemctl daemon-reload; systemctl start --no-block \
         varu-backup@web; sleep 4; systemctl is-active varu-backup@web | grep activating"
    ));
    vm1.cut();
    // Persistent timers look at when they last ran.
    let stamp = vm1.root().join("var/lib/systemd/timers/stamp-varu-backup@web.timer");
    run(Command::new("touch").args(["-d", "3 days ago"]).arg(stamp)).ends(0);
    vm1.start();
    vm1.does("for i in $(seq 400); do journalctl --boot --unit=varu-backup@web | grep -q Finished && exit 0; sleep 0.3; done; exit 1");
    let journal = vm1.journal("--boot --unit=varu-backup@web");
    assert!(journal.contains("of web)") && journal.contains("this host's own delay"), "{journal}");
    let after = snapshots(vm1);
    assert_eq!(after, before + 1, "what was cut left nothing, and what was missed was made up for");
    vm1.does("rm /srv/www/img/large");
    vm1.starts("varu-verify", 0);
}

fn snapshots(vm1: &Machine) -> usize {
    vm1.does("varu list").lines().filter(|line| line.contains(" web ")).count()
}

/// Looks for every secret in what anybody may see.
fn secrets(machines: &[&Machine], ansible: &Ansible, fleet: &Fleet) {
    let mut secrets = Vec::new();
    for machine in machines {
        let files = machine.does(
            "cat /etc/varu/ssh_key /etc/varu/*.writer.key /etc/varu/*identity* 2>/dev/null; sed -n s/^password=//p \
             /etc/varu/mysql.cnf 2>/dev/null; true",
        );
        secrets.extend(files.lines().map(ToOwned::to_owned));
    }
    secrets.extend(fs::read_to_string(fleet.path("production.txt")).unwrap().lines().map(ToOwned::to_owned));
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

/// vm1 is gone. A fresh one waits until somebody restores it, and then is what the old one was at its last backup.
fn lose_and_restore(
    mut vm1: Machine,
    fleet: &Fleet,
    ansible: &mut Ansible,
    backup: &Machine,
    clock: &mut Clock,
) -> Machine {
    change(&vm1, 9);
    vm1.starts("varu-dump@shop", 0);
    for set in ["shop", "web", "metrics"] {
        vm1.starts(&format!("varu-backup@{set}"), 0);
    }
    let (state, list) = (vm1.does(STATE), vm1.does("varu list"));
    backup.starts("varu-host-accept", 0);
    vm1.cut();
    drop(vm1);
    clock.say("the last backup, and vm1 is gone");

    let gone = Instant::now();
    let vm1 = fleet.boot("vm1", 1, &HOSTS);
    vm1.does("systemctl enable --quiet --now mariadb influxdb");
    waits(&vm1, ansible, &list);
    clock.say("a fresh vm1 is installed, and waits");

    let restoring = Instant::now();
    ansible.plays("restore.yml", &["-e", "varu_restore_machine=vm1"]);
    assert_eq!(vm1.does(STATE), state);
    tell(&format!(
        "{:7.1} s  from \"machine gone\" to \"service answers\", {:.1} s of them the restore playbook",
        gone.elapsed().as_secs_f64(),
        restoring.elapsed().as_secs_f64()
    ));
    assert_eq!(vm1.does("varu list"), list);
    assert_eq!(vm1.run("ls /run/varu-restore /etc/varu/*identity* /root/*identity*").status, 2, "the identity is gone");
    assert!(vm1.does("systemctl list-timers --no-pager 'varu-*'").contains("varu-backup@shop.timer"));
    vm1.starts("varu-dump@shop", 0);
    // With a warning: the base cache went with the old machine, so this one is larger.
    assert!(vm1.starts("varu-backup@shop", 3).contains("the base cache lacks chunks of the newest snapshot"));
    vm1.starts("varu-backup@web", 0);
    vm1.starts("varu-verify", 0);
    let again = ansible.plays("site.yml", &["--limit", "vm1,backup"]);
    let changed: Vec<&str> = again.text.lines().filter(|line| line.starts_with("changed:")).collect();
    clock.say("the restored machine goes on");
    // The configuration is the inventory's again, and with that everything is as it was.
    assert!(changed.len() <= 2, "{changed:?}");
    vm1
}

/// vm1 is gone once more, and somebody does what docs/restore.md says.
fn by_the_page(vm1: Machine, fleet: &Fleet, package: &Path, backup: &Machine) {
    let state = vm1.does(STATE);
    drop(vm1);
    let vm1 = fleet.boot("vm1", 1, &HOSTS);
    vm1.does("systemctl enable --quiet --now mariadb influxdb");
    vm1.send(package, "/root/varu_0.1.0_amd64.deb");
    let page = fs::read_to_string("docs/restore.md").unwrap().replace("backup.example", "backup");
    let (mut variables, mut wrong) = (String::new(), Vec::new());
    for step in page::steps(&page) {
        match (step.who.as_str(), step.line.split(' ').next()) {
            ("you", _) => vm1.send(&fleet.path("production.txt"), "/run/varu-restore/identity.txt"),
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
}

/// Nothing of a fresh machine becomes the latest backup before somebody restores it.
fn waits(vm1: &Machine, ansible: &mut Ansible, list: &str) {
    let played = ansible.plays("client.yml", &["--limit", "vm1"]);
    assert!(played.text.contains("so no timer is started and no backup is made"), "{}", played.text);
    assert_eq!(vm1.does("systemctl list-timers --all --no-pager --legend=no 'varu-*'").trim(), "");
    // Past its time, whoever starts it.
    for line in ["systemctl start varu-backup@web", "varu backup web", "varu backup web --full"] {
        assert_ne!(vm1.run(line).status, 0, "{line}");
    }
    let repository = list.lines().next().unwrap_or_default();
    assert!(repository.starts_with("SNAPSHOT"), "{list}");
}

/// The package has no errors, and comes, is upgraded, goes and is purged without a trace of it but what is the user's.
#[test]
fn the_package_comes_and_goes() {
    let Some(fleet) = fleet(1) else { return };
    let package = package();
    let found = run(Command::new("lintian").args(["--fail-on", "error", "--allow-root"]).arg(package));
    tell(&format!("lintian: {}", found.text.trim()));
    found.ends(0);
    let plain = fleet.boot("plain", 1, &[("plain", 1)]);
    plain.send(package, "/root/varu.deb");
    plain.does("apt-get install --yes --quiet ./varu.deb");
    plain.does("getent passwd varu && varu --version && test -e /usr/share/man/man1/varu-backup.1.gz");
    plain
        .does("test -e /usr/share/bash-completion/completions/varu && test -e /usr/share/zsh/vendor-completions/_varu");
    assert_eq!(plain.does("systemctl list-timers --all --legend=no 'varu-*'").trim(), "", "no timer is started by it");
    let config = "[repository]\\nurl = \"/srv/vault\"\\n[sets.etc]\\nsource = \"files\"\\npaths = [\"/etc/ssh\"]\\nschedule = { full = \"daily\" }\\n";
    plain.does(&format!("printf '{config}' > /etc/varu/varu.toml && varu init && varu schedule install"));
    plain.starts("varu-backup@etc", 0);
    let active = "systemctl is-active varu-backup@etc.timer";
    plain.does(active);

    let upgraded = "dpkg-deb -R varu.deb new && sed -i 's/^Version: .*/Version: 0.1.1/' new/DEBIAN/control && echo '# more' >> \
                    new/etc/varu/host.toml && dpkg-deb -b new new.deb && apt-get install --yes --quiet ./new.deb";
    plain.does(upgraded);
    plain.does(&format!("{active} && grep -q /srv/vault /etc/varu/varu.toml && grep -q more /etc/varu/host.toml"));
    plain.starts("varu-backup@etc", 0);

    plain.does("apt-get remove --yes --quiet varu");
    assert_eq!(plain.run(active).status, 3, "the timers stop");
    plain.does("test -e /etc/varu/varu.toml");
    plain.does("apt-get purge --yes --quiet varu");
    let kept = "ls /etc/varu/*.writer.key /etc/varu/*.identity.txt && test -d /srv/vault/packs && ls /var/lib/varu && getent passwd varu";
    plain.does(kept);
    assert_eq!(plain.does("find /etc/systemd /lib/systemd -name 'varu-*'; find /etc/varu -name '*.toml'").trim(), "");
    plain.does(
        "apt-get install --yes --quiet ./varu.deb && test -e /etc/varu/varu.toml && apt-get purge --yes --quiet varu",
    );
    without_a_package(&plain, config);
}

/// The program alone brings its units with it.
fn without_a_package(plain: &Machine, config: &str) {
    plain.send(Path::new(env!("CARGO_BIN_EXE_varu")), "/usr/local/bin/varu");
    plain.does(&format!(
        "chmod 755 /usr/local/bin/varu && printf '{config}' > /etc/varu/varu.toml && varu schedule install"
    ));
    plain.does("grep -q 'ExecStart=/usr/local/bin/varu backup %i' /etc/systemd/system/varu-backup@.service");
    plain.starts("varu-backup@etc", 0);
}

#[test]
fn the_roles_are_clean() {
    if Command::new("ansible-lint").arg("--version").output().is_err() {
        tell(&format!("SKIPPED: ansible-lint isn't installed (tests/run installs it)"));
        return;
    }
    let mut lint = Command::new("ansible-lint");
    lint.args(["--offline", "--profile", "production", "site.yml", "restore.yml", "roles"]).current_dir("ansible");
    let found = run(&mut lint).ends(0);
    assert!(found.contains("0 failure(s)") || found.contains("Passed"), "{found}");
}
