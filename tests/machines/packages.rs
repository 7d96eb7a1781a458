//! The package, and the program without one.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::fleet::{Debian, Machine, package, run};
use super::{fleet, tell};

const CONFIG: &str = "[repository]\\nurl = \"/srv/vault\"\\n[sets.etc]\\nsource = \"files\"\\npaths = [\"/etc/ssh\"]\\nschedule = { full = \"daily\" }\\n";

/// The package has no errors, and is installed, upgraded, removed and purged without a trace but the user's files.
#[test]
fn the_package_comes_and_goes() {
    let Some(fleet) = fleet(1) else { return };
    let package = package();
    let contents = run(Command::new("dpkg-deb").arg("--contents").arg(package)).ends(0);
    for path in ["./usr/share/doc/varu/examples/varu.toml", "./usr/lib/systemd/system/varu-host-accept.timer"] {
        assert!(contents.contains(path), "{path} in\n{contents}");
    }
    let lintian = "lintian --fail-on error,warning --allow-root";
    let found = run(Command::new("sh").args(["-c", &format!("{lintian} {}", package.display())]));
    tell(&format!("lintian of Debian 12: {}", found.text.trim()));
    found.ends(0);
    let older = fleet.boot("older", 1, &[("older", 1)]);
    comes_and_goes(&older);
    let newer = fleet.boot_of(Debian::Trixie, "newer", 2, &[("newer", 2)]);
    newer.send(package, "/root/varu.deb");
    let found = newer.does(&format!("{lintian} varu.deb"));
    tell(&format!("lintian of Debian 13: {}", found.trim()));
    comes_and_goes(&newer);
}

fn comes_and_goes(plain: &Machine) {
    plain.send(package(), "/root/varu.deb");
    plain.does("apt-get install --yes --quiet ./varu.deb");
    plain.does("getent passwd varu && varu --version && test -e /usr/share/man/man1/varu-backup.1.gz");
    plain
        .does("test -e /usr/share/bash-completion/completions/varu && test -e /usr/share/zsh/vendor-completions/_varu");
    assert_eq!(plain.does("systemctl list-timers --all --legend=no 'varu-*'").trim(), "", "no timer is started by it");
    plain.does(&format!("printf '{CONFIG}' > /etc/varu/varu.toml && varu init && varu schedule install"));
    plain.starts("varu-backup@etc", 0);
    let active = "systemctl is-active varu-backup@etc.timer";
    plain.does(active);
    overridden(plain);

    // Nobody is asked, and nothing is anybody's to be asked about: the configurations are the administrator's alone.
    let upgraded = "dpkg-deb -R varu.deb new && sed -i 's/^Version: .*/Version: 0.1.1/' new/DEBIAN/control && echo '# more' >> \
                    new/usr/share/doc/varu/examples/host.toml && echo '# mine' > /etc/varu/host.toml && dpkg-deb -b new new.deb && \
                    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet ./new.deb && dpkg --status varu > status && grep -q \
                    '^Status: install ok installed' status && grep -qx 'Version: 0.1.1' status && ! grep -q ^Conffiles status";
    plain.does(upgraded);
    plain.does(&format!("{active} && grep -q /srv/vault /etc/varu/varu.toml && grep -qx '# mine' /etc/varu/host.toml"));
    plain.starts("varu-backup@etc", 0);

    let removed = plain.does("apt-get remove --yes --quiet varu 2>&1");
    assert_ne!(plain.run(active).status, 0, "the timers stop");
    plain.does("test -e /etc/varu/varu.toml");
    let purged = plain.does("apt-get purge --yes --quiet varu 2>&1");
    for said in [&removed, &purged] {
        assert!(!said.to_lowercase().contains("warning"), "{said}");
    }
    let kept = "ls /etc/varu/*.writer.key /etc/varu/*.identity.txt && test -d /srv/vault/packs && ls /var/lib/varu && getent passwd varu";
    plain.does(kept);
    let left = "find /etc/systemd /usr/lib/systemd /var/lib/systemd/timers -name '*varu-*'; find /etc/varu -name '*.toml'; systemctl \
                list-timers --all --legend=no 'varu-*'; systemctl list-units --all --legend=no 'varu-*'";
    assert_eq!(plain.does(left).trim(), "");
    plain.does("apt-get install --yes --quiet ./varu.deb && apt-get purge --yes --quiet varu");
    without_a_package(plain);
}

/// `schedule show` shows the times of `systemctl edit`, and the next installation leaves them alone.
fn overridden(plain: &Machine) {
    let dropin = "/etc/systemd/system/varu-backup@etc.timer.d/override.conf";
    plain.does(&format!(
        "printf '[Timer]\\nOnCalendar=\\nOnCalendar=*-*-* 03:33\\n' > {dropin} && systemctl daemon-reload && varu schedule install"
    ));
    let shown = plain.does("varu schedule show");
    assert!(shown.contains("backup of etc: *-*-* 03:33:00, next ") && shown.contains(dropin), "{shown}");
    plain.does(&format!("rm {dropin} && systemctl daemon-reload"));
    assert!(plain.does("varu schedule show").contains("backup of etc: daily, next "));
}

/// The program alone brings the units with it that the package brings, for machines and for backup hosts.
fn without_a_package(plain: &Machine) {
    plain.send(Path::new(env!("CARGO_BIN_EXE_varu")), "/usr/local/bin/varu");
    plain.does(&format!(
        "chmod 755 /usr/local/bin/varu && printf '{CONFIG}' > /etc/varu/varu.toml && varu schedule install && mkdir -p /srv/varu && varu \
         host install"
    ));
    let units = plain.root().join("etc/systemd/system");
    for entry in fs::read_dir("systemd").unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let own = fs::read_to_string(units.join(entry.file_name())).unwrap();
        let (mark, own) = own.split_once('\n').unwrap();
        assert!(mark.starts_with("# Made by varu "), "{mark}");
        let packaged = fs::read_to_string(entry.path()).unwrap();
        assert_eq!(own.replace("/usr/local/bin/varu", "/usr/bin/varu"), packaged, "{:?}", entry.file_name());
    }
    plain.starts("varu-backup@etc", 0);
    for timer in ["accept", "verify", "prune", "status"] {
        plain.does(&format!(
            "systemctl is-active varu-host-{timer}.timer && systemctl is-enabled varu-host-{timer}.timer"
        ));
        plain.starts(&format!("varu-host-{timer}"), 0);
    }
    // Failures are reported without a package, too, and the programs are run.
    plain.does(
        "mkdir -p /etc/varu/failed.d && printf '#!/bin/sh\\necho told of $1 $VARU_STATUS $VARU_RESULT\\n' > /etc/varu/failed.d/tell && \
         chmod 755 /etc/varu/failed.d/tell && mv /srv/vault /srv/gone",
    );
    assert_ne!(plain.run("systemctl start varu-backup@etc").status, 0);
    let told = "for i in $(seq 300); do journalctl --sync; journalctl --output=cat --unit='varu-failed@*' | grep -E 'told of \
                varu-backup@etc.service [0-9]+ exit-code' && exit 0; sleep 0.1; done; exit 1";
    plain.does(told);
    let said = plain.journal("--priority=err --unit='varu-failed@*'");
    assert!(said.contains("varu-backup@etc.service failed (status "), "{said}");
    // Accounts may be elsewhere.
    plain.does("mkdir -p /backups && varu host --root /backups install && ssh-keygen -q -t ed25519 -N '' -f key");
    plain.does("varu host --root /backups prepare vm1 --ssh-key key.pub && systemctl start varu-host-accept");
    let shown = plain.does("systemctl show --property=ExecMainStatus --property=ConditionResult varu-host-accept");
    assert!(shown.contains("ExecMainStatus=0") && shown.contains("ConditionResult=yes"), "{shown}");
    plain.does("systemctl cat varu-host-accept | grep -q 'host --root /backups --ledgers /var/lib/varu-host accept'");
    plain.does("varu host install && ! systemctl cat varu-host-accept | grep -q /backups");
}
