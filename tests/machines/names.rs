//! Names: two machines whose short names are equal, a machine that is renamed or moved, and one that leaves. Played by
//! the newest ansible-core, on both releases.

use std::fs;
use std::process::Command;

use super::fleet::{Debian, Fleet, Machine, SSH, package, run};
use super::playbooks::{Ansible, Core};
use super::{Clock, fleet, tell};

/// Inventory names: the short ones are equal.
const PRODUCTION: &str = "vm1.example";
const STAGING: &str = "vm1.staging.example";

fn inventory(fleet: &Fleet, recipient: &str, names: &[(&str, String)]) -> String {
    let package = package().display();
    let machines = names.iter().map(|(name, address)| {
        format!(
            "        {name}:\n          ansible_host: {address}\n          varu_client_identity_file: {}\n          \
             varu_client_recipients:\n            - {recipient}\n          varu_client_sets:\n            data:\n              source: \
             files\n              paths: [/srv/data]\n              schedule: {{full: 'Sun 05:05', incremental: 'Mon..Sat 05:10'}}\n",
            fleet.path(&format!("{name}.txt")).display()
        )
    });
    format!(
        "    varu_host_package: {package}\n    varu_client_package: {package}\n  children:\n    varu_hosts:\n      hosts:\n        \
         backup: {{ansible_host: {}}}\n      vars:\n        varu_host_root: /srv/backups\n        varu_host_policy: {{rpo: 26 \
         hours}}\n    varu_clients:\n      vars:\n        varu_client_host_address: {}\n      hosts:\n{}",
        fleet.address(0),
        fleet.address6(0),
        machines.collect::<String>()
    )
}

#[test]
fn machines_of_one_short_name_are_told_apart() {
    let Some(fleet) = fleet(2) else { return };
    let mut clock = Clock::new();
    let hosts = [("backup", 0), ("one", 1), ("two", 2)];
    let backup = fleet.boot("backup", 0, &hosts);
    let one = fleet.boot("one", 1, &hosts);
    let two = fleet.boot_of(Debian::Trixie, "two", 2, &hosts);
    for machine in [&one, &two] {
        machine.does(&format!("mkdir -p /srv/data && echo {} > /srv/data/name", machine.name));
    }
    let names = [(PRODUCTION, fleet.address(1)), (STAGING, fleet.address(2))];
    let mut ansible = Ansible::new(&fleet, Core::Newest, "both", &inventory(&fleet, "RECIPIENT", &names));
    let admin = run(Command::new("age-keygen").arg("-o").arg(fleet.path("admin.txt"))).ends(0);
    let recipient = admin.split_whitespace().last().unwrap();
    // The variable is encrypted, as an administrator's may be.
    let vaulted = ansible.encrypted(recipient).replace("\n          ", "\n                ");
    ansible.edit("RECIPIENT", &vaulted);
    clock.say("three machines are booted");

    ansible.plays("site", &["--check"]);
    ansible.plays("site", &[]);
    clock.say("the newest ansible-core checked and installed them");
    let again = ansible.plays("site", &[]);
    assert_eq!(again.changed, 0, "{}", again.text);
    let both = |status| {
        backup.starts("varu-host-accept", 0);
        for (machine, account) in [(&one, "vm1-example"), (&two, "vm1-staging-example")] {
            machine.starts("varu-backup@data", status);
            assert!(backup.does("varu host --root /srv/backups status").contains(&format!("{account}: data: ")));
        }
    };
    both(0);
    quiet(&backup);
    strangers(&fleet, &one, "vm1-staging-example", &backup);
    strangers(&fleet, &two, "vm1-example", &backup);
    clock.say("both back up, and neither sees the other");

    // Nor where each stands in an inventory of its own, that knows nothing of the other.
    for (name, number) in [(PRODUCTION, 1), (STAGING, 2)] {
        let alone = inventory(&fleet, recipient, &[(name, fleet.address(number))]);
        let played = Ansible::new(&fleet, Core::Newest, name, &alone).plays("site", &[]);
        assert_eq!(played.changed, 0, "{}", played.text);
    }
    both(0);
    clock.say("in two inventories, too");

    // Anything that would let one into the other's account is refused, and the other continues.
    ansible.refuses("client", &["-e", "varu_client_account=shared"], "shared is that of");
    ansible.refuses(
        "client",
        &["-e", "varu_client_set=x"],
        "varu_client_set: no variable of this role has such a name",
    );
    ansible.refuses("host", &["-e", "varu_host_rot=x"], "varu_host_rot: no variable of this role has such a name");
    let mut second = Ansible::new(
        &fleet,
        Core::Newest,
        "second",
        &inventory(&fleet, recipient, &[("other.example", fleet.address(2))]),
    );
    let theirs = ["-e", "varu_client_account=vm1-example"];
    let told = [theirs[0], theirs[1], "-e", "varu_client_moved=true"];
    second.refuses("client", &theirs, "The backups of this machine are in sftp://vm1-staging-example@");
    second.refuses("client", &told, "isn't given to another machine or key silently");
    both(0);
    clock.say("an account of another inventory's machine is refused");

    tags_and_caches(&mut ansible, &one);
    rotated(&fleet, &mut ansible, &one);
    upgraded(&fleet, &mut ansible, &one);
    clock.say("tags, a cleaned cache, rotated keys, a newer package");
    renamed(&mut ansible, &one, &backup);
    addressed(&fleet, recipient, &two, &backup);
    retired(&mut ansible, &two, &backup);
    clock.say("renamed, named by an address, retired");
    tell(&format!("{:7.1} s  in all", clock.start.elapsed().as_secs_f64()));
}

/// A run that every two minutes finds nothing new says nothing.
fn quiet(backup: &Machine) {
    backup.starts("varu-host-accept", 0);
    let journal = backup.starts("varu-host-accept", 0);
    let own: Vec<&str> =
        journal.lines().filter(|line| line.starts_with("vm1-") || line.starts_with("varu: ")).collect();
    assert!(own.is_empty(), "{journal}");
}

/// A machine's key opens no account but its own.
fn strangers(fleet: &Fleet, machine: &Machine, account: &str, backup: &Machine) {
    let key = fleet.path("strangers-key");
    fs::copy(machine.root().join("etc/varu/ssh_key"), &key).unwrap();
    let mut sftp = Command::new("sftp");
    sftp.args(SSH).args(["-oIdentitiesOnly=yes", "-b", "/dev/null", "-i"]).arg(&key);
    run(sftp.arg(format!("{account}@{}", backup.address))).ends(255);
}

/// A part can be played by its tag, and `apt-get clean` doesn't affect a later run.
fn tags_and_caches(ansible: &mut Ansible, one: &Machine) {
    let words =
        ["--tags", "configure", "--limit", PRODUCTION, "-e", "{\"varu_client_retention\": {\"keep\": \"9 weeks\"}}"];
    assert_eq!(ansible.plays("client", &words).changed, 1);
    one.does("grep -q '9 weeks' /etc/varu/varu.toml");
    assert_eq!(ansible.plays("client", &["--tags", "configure", "--limit", PRODUCTION]).changed, 1);
    one.does("apt-get clean");
    for words in [&["--limit", PRODUCTION, "--check"][..], &["--limit", PRODUCTION]] {
        let played = ansible.plays("client", words);
        assert_eq!(played.changed, 0, "{}", played.text);
    }
}

/// A newer package is seen by a run in check mode, and installed by the next one, whatever its file is called.
fn upgraded(fleet: &Fleet, ansible: &mut Ansible, one: &Machine) {
    for (version, file) in [("0.1.1", "varu_0.1.1_amd64.deb"), ("0.1.2", "varu_0.1.1_amd64.deb")] {
        let folder = fleet.path(version);
        let newer = folder.join(file);
        fs::create_dir(&folder).unwrap();
        run(Command::new("dpkg-deb").arg("-R").arg(package()).arg(folder.join("tree"))).ends(0);
        let version_line = format!("s/^Version: .*/Version: {version}/");
        run(Command::new("sed").args(["-i", &version_line]).arg(folder.join("tree/DEBIAN/control"))).ends(0);
        run(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "-b"]).arg(folder.join("tree")).arg(&newer)).ends(0);
        let variable = format!("varu_client_package={}", newer.display());
        let words = ["--limit", PRODUCTION, "-e", &variable, "--check"];
        let installed = "dpkg-query --show --showformat '${Version}' varu";
        let before = one.does(installed);
        assert!(ansible.plays("client", &words).changed > 0, "{version} would be installed");
        assert_eq!(one.does(installed), before, "nothing is done in check mode");
        ansible.plays("client", &words[..4]);
        assert_eq!(one.does(installed), version);
        let again = ansible.plays("client", &words[..4]);
        assert_eq!(again.changed, 0, "{}", again.text);
    }
    one.starts("varu-backup@data", 0);
    // A play with the older one would be refused by apt.
    one.send(package(), "/root/varu.deb");
    one.does("dpkg --install /root/varu.deb");
}

/// After a rotation of the keys, the identity's file on the control machine names the new repository, too.
fn rotated(fleet: &Fleet, ansible: &mut Ansible, one: &Machine) {
    let identity = fleet.path(&format!("{PRODUCTION}.txt"));
    one.send(&identity, "/run/identity.txt");
    one.does(
        "chmod 600 /run/identity.txt && varu --identity /run/identity.txt key rotate --yes && rm /run/identity.txt",
    );
    ansible.plays("client", &["--limit", PRODUCTION]);
    let text = fs::read_to_string(&identity).unwrap();
    assert_eq!(text.matches("# varu repository ").count(), 2, "{text}");
    one.starts("varu-backup@data", 0);
}

/// A renamed machine keeps its history: first the account, then the inventory.
fn renamed(ansible: &mut Ansible, one: &Machine, backup: &Machine) {
    let list = "varu --json list | grep -o '\"id\":\"[0-9a-f]*\"'";
    let before = one.does(list);
    ansible.edit(&format!("        {PRODUCTION}:\n"), "        web.example:\n");
    ansible.refuses("client", &["--limit", "web.example"], "The backups of this machine are in sftp://vm1-example@");
    backup.does("varu host --root /srv/backups rename vm1-example web-example --reload");
    ansible.plays("client", &["--limit", "web.example", "-e", "varu_client_moved=true"]);
    assert_eq!(one.does(list), before);
    let journal = one.starts("varu-backup@data", 0);
    assert!(journal.contains("of data)"), "{journal}");
    let again = ansible.plays("client", &["--limit", "web.example"]);
    assert_eq!(again.changed, 0, "{}", again.text);
}

/// A machine that the inventory knows by its address alone has an account of that name.
fn addressed(fleet: &Fleet, recipient: &str, two: &Machine, backup: &Machine) {
    let address = fleet.address(2);
    let mut third =
        Ansible::new(fleet, Core::Newest, "third", &inventory(fleet, recipient, &[(&address, address.clone())]));
    two.does("mv /etc/varu/varu.toml /root/ && mkdir /root/keys && mv /etc/varu/*.writer.key /root/keys/");
    third.plays("client", &[]);
    let account = format!("m-{}", address.replace('.', "-"));
    backup.starts("varu-host-accept", 0);
    let status = backup.does("varu host --root /srv/backups status");
    assert!(status.contains(&format!("{account}: data: 1 snapshot")), "{status}");
    third.plays("client", &["-e", "varu_client_state=absent"]);
    two.does("mv /root/varu.toml /etc/varu/ && mv /root/keys/* /etc/varu/");
}

/// A machine that leaves: its timers go, its key opens nothing, and nobody misses it.
fn retired(ansible: &mut Ansible, two: &Machine, backup: &Machine) {
    ansible.plays("client", &["--limit", STAGING]);
    two.starts("varu-backup@data", 0);
    backup.starts("varu-host-accept", 0);
    let set = ["--limit", STAGING, "-e", "{\"varu_client_retired_sets\": [\"data\"]}"];
    assert_eq!([(); 2].map(|()| ansible.plays("client", &set).changed), [1, 0], "a set is retired once");
    let leaves = ["--limit", STAGING, "-e", "varu_client_state=absent"];
    assert!(ansible.plays("client", &leaves).changed > 0);
    assert_eq!(two.does("systemctl list-timers --all --no-pager --legend=no 'varu-*'").trim(), "");
    assert_eq!(two.run("varu list").status, 6, "its key opens nothing");
    assert_ne!(backup.run("id vm1-staging-example").status, 0);
    let status = backup
        .does("sed -i 's/26 hours/1 s/' /etc/varu/host.toml; varu host --root /srv/backups status vm1-staging-example");
    assert!(status.contains("vm1-staging-example: data: ") && status.contains(", retired"), "{status}");
    assert!(!status.contains("LATE"), "{status}");
    let again = ansible.plays("client", &leaves);
    assert_eq!(again.changed, 0, "{}", again.text);
}
