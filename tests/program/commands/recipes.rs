//! The recipes of `docs/recipes`, with other paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::site::Site;

/// A site with the set of a recipe, in which each of these words is replaced by another. Commands that stop and start the
/// machine's services are left out. None if the program isn't there.
fn recipe(name: &str, program: &str, replace: &[(&str, &str)]) -> Option<(Site, &'static str)> {
    if !Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().unwrap().success() {
        eprintln!("skipped: {program} is not installed");
        return None;
    }
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/recipes/{name}.md"))).unwrap();
    let block = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut block: String = block
        .lines()
        .filter(|line| !line.starts_with("restore_before") && !line.starts_with("restore_after"))
        .map(|line| format!("{line}\n"))
        .collect();
    for (word, other) in replace {
        assert!(block.contains(word), "{word} in {block}");
        block = block.replace(word, other);
    }
    let set: &'static str = block.split_once("[sets.").unwrap().1.split_once(']').unwrap().0.to_owned().leak();
    let site = Site::new(set, "");
    site.write(&block);
    Some((site, set))
}

fn restore(site: &Site, set: &str) {
    site.run(&["restore", set, "--into", "command", "--yes", "--reason", "test"]).ends(0);
}

fn sh(line: &str) -> String {
    let output = Command::new("bash").args(["-o", "pipefail", "-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A server, ended by the handle that started it.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, ready: &str) -> Self {
        let server = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let start = Instant::now();
        while !Command::new("sh")
            .args(["-c", ready])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            assert!(start.elapsed() < Duration::from_secs(30), "{ready}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn sqlite() {
    let (_folder, path) = folder();
    let database = path.join("app.db").display().to_string();
    let Some((site, set)) = recipe("sqlite", "sqlite3", &[("/var/lib/app/app.db", &database)]) else { return };
    let sql = |text: &str| sh(&format!("sqlite3 '{database}' \"{text}\""));
    sql(
        "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, hex(randomblob(40)) FROM n",
    );
    let before = sql(".dump");
    // Somebody writes all the time, and holds a transaction open.
    let mut writer =
        Command::new("sqlite3").arg(&database).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(writer.stdin.as_mut().unwrap(), b"BEGIN IMMEDIATE; DELETE FROM t;\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    site.back_up();
    drop(writer.stdin.take());
    writer.wait().unwrap();
    sql("UPDATE t SET text = 'x' WHERE id % 2000 = 0");
    let second = site.run(&["--json", "-q", "backup", set]).ends(0).json();
    assert!(second["new"].as_u64().unwrap() * 2 < second["read"].as_u64().unwrap(), "{second}");
    let first = site.run(&["--json", "list"]).json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    fs::remove_file(path.join("app.db")).unwrap();
    site.run(&["restore", set, "--into", "command", "--yes", "--reason", "test", "--snapshot", &first]).ends(0);
    assert_eq!(sql(".dump"), before);
    fs::write(&database, vec![7; 100_000]).unwrap();
    assert_ne!(site.run(&["backup", set]).status, 0, "what is no database is no backup");
}

#[test]
fn ldap() {
    let (_folder, path) = folder();
    let slapd = path.join("slapd.d");
    let Some((site, set)) = recipe("ldap", "slapadd", &[("/etc/ldap/slapd.d", slapd.to_str().unwrap())]) else {
        return;
    };
    let data = path.join("data");
    let anew = || {
        let _ = (fs::remove_dir_all(&slapd), fs::remove_dir_all(&data));
        fs::create_dir(&slapd).unwrap();
        fs::create_dir(&data).unwrap();
    };
    anew();
    let config = format!(
        "dn: cn=config\nobjectClass: olcGlobal\ncn: config\n\ndn: cn=module,cn=config\nobjectClass: olcModuleList\ncn: module\nolcModulePath: \
         /usr/lib/ldap\nolcModuleLoad: back_mdb\n\ndn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n\ninclude: \
         file:///etc/ldap/schema/core.ldif\n\ndn: olcDatabase=mdb,cn=config\nobjectClass: olcDatabaseConfig\nobjectClass: olcMdbConfig\nolcDatabase: \
         mdb\nolcSuffix: dc=example,dc=org\nolcDbDirectory: {}\n\n",
        data.display()
    );
    fs::write(path.join("config.ldif"), config).unwrap();
    let mut tree =
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: x\n\n".to_owned();
    (0..500).for_each(|n| {
        tree += &format!(
            "dn: ou=u{n},dc=example,dc=org\nobjectClass: organizationalUnit\nou: u{n}\ndescription: {}\n\n",
            n * 7919
        )
    });
    fs::write(path.join("tree.ldif"), tree).unwrap();
    sh(&format!(
        "slapadd -q -F {0} -n 0 -l {1}/config.ldif && slapadd -q -F {0} -n 1 -l {1}/tree.ldif",
        slapd.display(),
        path.display()
    ));
    // The server puts its schema in an order of its own, with long lines folded elsewhere.
    let dump = || {
        sh(&format!("slapcat -F {0} -n 0 | grep -E '^(dn|olcDb|olcSuffix)' && slapcat -F {0} -n 1", slapd.display()))
    };
    let before = dump();
    site.back_up();
    anew();
    restore(&site, set);
    assert_eq!(dump(), before);
    assert!(before.contains("ou=u499"));
}

#[test]
fn redis() {
    let (_folder, path) = folder();
    let socket = path.join("sock").display().to_string();
    let replace = [("/run/redis/redis.sock", socket.as_str()), ("/var/lib/redis", path.to_str().unwrap())];
    let Some((site, set)) = recipe("redis", "redis-server", &replace) else { return };
    let start = || {
        let mut server = Command::new("redis-server");
        server.args([
            "--port",
            "0",
            "--unixsocket",
            &socket,
            "--dir",
            path.to_str().unwrap(),
            "--save",
            "",
            "--enable-debug-command",
            "yes",
        ]);
        Server::start(&mut server, &format!("redis-cli -s {socket} ping | grep PONG"))
    };
    let server = start();
    sh(&format!(
        "for i in $(seq 1 2000); do echo SET key$i value$i$RANDOM; done | redis-cli -s {socket} > /dev/null; redis-cli -s {socket} RPUSH list a b c"
    ));
    let picture = || {
        sh(&format!(
            "redis-cli -s {socket} --no-raw DEBUG digest; redis-cli -s {socket} DBSIZE; redis-cli -s {socket} GET key77"
        ))
    };
    let before = picture();
    site.back_up();
    sh(&format!("redis-cli -s {socket} FLUSHALL"));
    drop(server);
    restore(&site, set);
    let _server = start();
    assert_eq!(picture(), before);
}

#[test]
fn git() {
    let (_folder, path) = folder();
    let bare = path.join("project.git").display().to_string();
    let Some((site, set)) = recipe("git", "git", &[("/srv/git/project.git", &bare)]) else { return };
    let work = path.join("work").display().to_string();
    let git = "git -c user.name=x -c user.email=x@x -c init.defaultBranch=main";
    sh(&format!(
        "{git} init -q --bare {bare} && {git} clone -q {bare} {work} 2>&1 && cd {work} && seq 1 50000 > a && git add a && {git} commit -qm one && git tag t && git push -q origin HEAD t 2>&1"
    ));
    site.back_up();
    sh(&format!("cd {work} && echo more >> a && {git} commit -qam two && {git} push -q origin HEAD 2>&1"));
    site.back_up();
    let refs = || sh(&format!("git --git-dir={bare} for-each-ref; git --git-dir={bare} fsck --full 2>&1"));
    let before = refs();
    fs::remove_dir_all(&bare).unwrap();
    restore(&site, set);
    assert_eq!(refs(), before);
}

#[test]
fn etcd() {
    let (_folder, path) = folder();
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (client, peer) = (format!("http://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
    let restored = path.join("restored");
    let replace = [("http://127.0.0.1:2379", client.as_str()), ("/var/lib/etcd/restored", restored.to_str().unwrap())];
    let Some((site, set)) = recipe("etcd", "etcd", &replace) else { return };
    let etcdctl = format!("ETCDCTL_API=3 etcdctl --endpoints={client}");
    let start = |data: &Path| {
        let mut server = Command::new("etcd");
        server.arg("--data-dir").arg(data).args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        server.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ]);
        Server::start(&mut server, &format!("{etcdctl} endpoint health"))
    };
    let server = start(&path.join("first"));
    sh(&format!("for i in $(seq 1 50); do {etcdctl} put key$i value$i; done"));
    let keys = || sh(&format!("{etcdctl} get --prefix key"));
    let before = keys();
    site.back_up();
    drop(server);
    restore(&site, set);
    let _server = start(&restored);
    assert_eq!(keys(), before);
}
