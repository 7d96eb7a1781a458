//! The machines of the scenario, and their data.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::fleet::{Fleet, Machine, run};

/// The kernel that tests run on need not have quotas: fakes report that vm1's folder could have one, and record their
/// calls.
pub fn quotas(backup: &Machine) {
    let programs = [
        (
            "findmnt",
            "case $* in */srv/varu/vm1) echo /srv/varu xfs rw,prjquota;; *) exec /usr/bin/findmnt \"$@\";; esac",
        ),
        (
            "xfs_quota",
            "case $* in *'quota -p'*) cat /root/limit 2>/dev/null || echo /dev/x 0 0 0;; *) echo $* >> /root/limited; echo /dev/x 0 0 256000 \
             > /root/limit;; esac",
        ),
    ];
    for (name, script) in programs {
        let path = backup.root().join("usr/local/sbin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        backup.does(&format!("chmod 755 /usr/local/sbin/{name}"));
    }
}

/// Everything of a service that has to be the same after a restore.
pub const STATE: &str = "stat -c '%U %G' /home/shopper/mine; mysql --batch --skip-column-names --execute 'CHECKSUM TABLE shop.orders, shop.customers; SELECT COUNT(*) \
                     FROM shop.big_orders; SHOW CREATE TRIGGER shop.stamp' | grep -v '^stamp.*202' ; cd /srv/www && find . \
                     -printf '%p %m %u %g %s %T@ %l\\n' | sort | sha256sum; find . -type f -print0 | sort -z | xargs -0 sha256sum | \
                     sha256sum; getfattr -Rd -m user. . | sort | sha256sum; influx \
                     -database telegraf -execute 'SELECT COUNT(load), SUM(load) FROM cpu'";

/// A shop with its pages.
pub fn fill(vm1: &Machine) {
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
         useradd --create-home shopper && echo mine > /home/shopper/mine && chown shopper: /home/shopper/mine
         chown -R www-data: . && chown shopper: 9.html && chmod 0600 7.html && touch -d '2020-02-02 02:02:02.123456789' 8.html",
    );
}

/// A day's changes.
pub fn change(vm1: &Machine, day: u32) {
    vm1.does(&format!(
        "mysql shop --execute \"UPDATE orders SET what = CONCAT('day {day} ', what) WHERE id % 97 = {day};
         INSERT INTO orders (customer, what) SELECT seq, 'new' FROM seq_1_to_50;\"
         cd /srv/www && echo day {day} > {day}.html && rm -f 2{day}0.html && echo more > new-{day}.html && chown www-data: new-{day}.html"
    ));
}

pub fn inventory(fleet: &Fleet, package: &Path) -> String {
    let (package, at) = (package.display(), |number| fleet.address(number));
    let identity = |name: &str| fleet.path(name).display().to_string();
    let (production, staging, vaulted) =
        (identity(super::PRODUCTION), identity("staging.txt"), identity("secure/vm2.txt"));
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
          varu_client_quota: 250M
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
            system:
              source: files
              paths: [/etc, /home]
              max_shrink: 100 %
              schedule: {{timezone: {zone}, full: 'Sun 01:30', incremental: 'Mon..Sat 01:35'}}
              restore_order: 1
        vm2:
          ansible_host: {vm2}
          varu_client_quota: 250M
          varu_client_host_port: 2222
          varu_client_identity_file: {vaulted}
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

/// A time zone in which it will not soon be night, when the timers would start the same units as the test.
pub fn zone() -> &'static str {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let night = matches!(since.as_secs() / 3600 % 24, 20.. | 0..=3);
    if night { "America/New_York" } else { "Europe/Tallinn" }
}
