//! Incomplete backups, which make no snapshot.

use std::fs;
use std::time::{Duration, Instant};

use crate::influxdb::{site, wrap};
use support::influxdb::Influx;
use support::site::{Site, Small, is_long};

#[test]
fn a_backup_that_lacks_something_makes_no_snapshot() {
    let Some((server, site)) = site(3, 600) else { return };
    site.back_up();
    // The last word is the folder.
    for (filter, why) in [
        ("\"$@\"; rm \"${@: -1}\"/*.s2.tar.gz", "which the manifest of the backup names"),
        ("\"$@\"; f=$(ls \"${@: -1}\"/*.s2.tar.gz); truncate -s -100 \"$f\"", "isn't whole"),
        (
            "\"$@\"; f=$(ls \"${@: -1}\"/*.s2.tar.gz); gzip -dc \"$f\" | head -c -1024 | gzip > x; mv x \"$f\"",
            "ends too early",
        ),
        (
            "\"$@\"; f=$(ls \"${@: -1}\"/*.s2.tar.gz); gzip -dc \"$f\" | head -c 1024 | tr -d x | gzip > x; head -c 1024 /dev/zero | gzip > \"$f\"",
            "in the manifest",
        ),
        ("\"$@\"; sed -i '/\"shardID\": 2,/s/2/99/' \"${@: -1}\"/*.manifest", "lacks the shards 2"),
        ("\"$@\"; rm \"${@: -1}\"/*.manifest", "no portable backup"),
        ("\"$@\"; exit 3", "exit status 3"),
    ] {
        wrap(&site, &server, "backup", filter);
        let ended = site.run(&["backup", "telegraf"]).ends(1);
        assert!(ended.err.contains(why), "{filter}: {}", ended.err);
        assert_eq!(site.snapshots(), 1, "{filter}");
        let left = fs::read_dir(site.machine.at("state/scratch")).unwrap().count();
        assert_eq!(left, 0, "nothing stays in the scratch folder");
    }
    wrap(&site, &server, "backup", "\"$@\"");
    site.back_up();
    // A server that dies in the middle.
    wrap(&site, &server, "backup", &format!("kill -9 {}; sleep 0.2; \"$@\"", server.pid()));
    let ended = site.run(&["backup", "telegraf"]).ends(1);
    assert!(ended.err.contains("no snapshot was made"), "{}", ended.err);
    server.restart();
    assert_eq!(site.snapshots(), 2);
    // Most of it is gone.
    site.configure(&server.lines(""));
    server.ask("CREATE DATABASE other");
    for _ in 0..3 {
        crate::influxdb::day(&server, 10, 10);
    }
    site.back_up();
    server.ask("DROP DATABASE telegraf");
    server.ask("CREATE DATABASE telegraf WITH DURATION INF NAME raw");
    server.write("telegraf", "raw", "x y=1");
    let shrunk = site.run(&["backup", "telegraf"]).ends(3);
    assert!(shrunk.err.contains("suspect"), "{}", shrunk.err);
}

#[test]
fn what_is_missing_is_named() {
    let Some((server, site)) = site(1, 3600) else { return };
    let check = |status| String::from_utf8(site.run(&["config", "check"]).ends(status).out).unwrap();
    let said = check(0);
    assert!(
        said.contains("InfluxDB 1.") && said.contains("2 retention policies, 1 continuous queries, 1 users"),
        "{said}"
    );
    site.configure(&server.lines("").replace(&format!("rpc = \"127.0.0.1:{}\"", server.rpc), "rpc = \"127.0.0.1:1\""));
    assert!(check(2).contains("the port of backups, 127.0.0.1:1, can't be reached"));
    assert!(site.run(&["backup", "telegraf"]).ends(1).err.contains("can't be reached"));
    site.configure(&server.lines("").replace("\"telegraf\"", "\"nothing\""));
    assert!(site.run(&["backup", "telegraf"]).ends(2).err.contains("no database nothing"));
    site.configure(&server.lines("exec = [\"/does/not/exist\"]"));
    assert!(site.run(&["backup", "telegraf"]).ends(2).err.contains("influx can't be run"));
    assert_eq!(site.snapshots(), 0);
}

#[test]
fn credentials_come_from_a_file_and_a_user_who_sees_too_little_is_refused() {
    let Some(server) = Influx::start_with("auth-enabled = true") else { return };
    let ask = |user: &str, password: &str, question: &str| {
        let mut client = std::process::Command::new("influx");
        client.args([
            "-host",
            "127.0.0.1",
            "-port",
            &server.http.to_string(),
            "-database",
            "telegraf",
            "-execute",
            question,
        ]);
        if !user.is_empty() {
            client.args(["-username", user, "-password", password]);
        }
        assert!(client.output().unwrap().status.success(), "{question}");
    };
    ask("", "", "CREATE USER admin WITH PASSWORD 'geheim' WITH ALL PRIVILEGES");
    ask(
        "admin",
        "geheim",
        "CREATE DATABASE telegraf; CREATE USER weak WITH PASSWORD 'w'; GRANT READ ON telegraf TO weak",
    );
    ask("admin", "geheim", "INSERT x y=1");
    let file = std::env::temp_dir().join(format!("varu-influx-{}", server.http));
    let site = Site::new("telegraf", &server.lines(&format!("option_file = \"{}\"", file.display())));
    let credentials = |user: &str, password: &str| {
        fs::write(&file, format!("INFLUX_USERNAME={user}\nINFLUX_PASSWORD='{password}'\n")).unwrap()
    };
    credentials("admin", "geheim");
    site.back_up();
    site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(0);
    credentials("admin", "wrong");
    let wrong = site.run(&["backup", "telegraf"]).ends(1);
    assert!(wrong.err.contains("authorization failed") && !wrong.err.contains("wrong"), "{}", wrong.err);
    credentials("weak", "w");
    let said = String::from_utf8(site.run(&["config", "check"]).ends(2).out).unwrap();
    assert!(said.contains("GRANT ALL PRIVILEGES"), "{said}");
    assert!(site.run(&["backup", "telegraf"]).status != 0);
    assert_eq!(site.snapshots(), 1);
    fs::remove_file(&file).unwrap();
}

#[test]
fn a_line_that_stalls_costs_time_and_a_disk_that_is_full_no_snapshot() {
    let Some((_server, site)) = site(3, 20) else { return };
    let rate = if is_long() { "500" } else { "10000" };
    let start = Instant::now();
    site.run(&["--limit-upload", rate, "backup", "telegraf"]).ends(0);
    assert!(start.elapsed() > Duration::from_secs(2));
    assert_eq!(site.snapshots(), 1);
    let Some(small) = Small::on(site.machine.at("state/scratch"), "60k") else { return };
    let full = site.run(&["backup", "telegraf"]).ends(8);
    assert!(full.err.contains("no space left"), "{}", full.err);
    assert_eq!(site.snapshots(), 1);
    let full = site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(8);
    assert!(full.err.contains("No space left"), "{}", full.err);
    drop(small);
    site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(0);
    site.back_up();
}

#[test]
fn a_database_without_a_point_is_backed_up_and_comes_back() {
    let Some(server) = Influx::start() else { return };
    server.ask("CREATE DATABASE telegraf WITH DURATION 5200w SHARD DURATION 1d NAME raw");
    server.ask("CREATE RETENTION POLICY \"long term\" ON telegraf DURATION INF REPLICATION 1 SHARD DURATION 7d");
    server.ask("CREATE CONTINUOUS QUERY hourly ON telegraf BEGIN SELECT mean(usage) AS usage INTO telegraf.\"long term\".cpu_1h FROM telegraf.raw.cpu GROUP BY time(1h), * END");
    let site = Site::new("telegraf", &server.lines(""));
    site.back_up();
    let policies = |name: &str| server.ask(&format!("SHOW RETENTION POLICIES ON \"{name}\"")).to_string();
    let stored = policies("telegraf");
    site.run(&["restore", "telegraf", "--into", "influxdb:a copy", "--yes"]).ends(0);
    assert_eq!(policies("a copy"), stored);
    assert!(server.ask("SHOW CONTINUOUS QUERIES").to_string().contains("ON \\\"a copy\\\" BEGIN"));
    let words = [&crate::influxdb::RESTORE[..], &crate::influxdb::REPLACE].concat();
    site.run(&words).ends(0);
    assert_eq!(policies("telegraf"), stored);
}

#[test]
fn what_the_servers_restore_loses_is_named_at_the_backup_and_the_rest_comes_back() {
    let Some(server) = Influx::start() else { return };
    server.ask("CREATE DATABASE telegraf");
    let lines = "a\\=b v=1 1000000000\nc=d v=1 1000000000\ng\\ h\\=i v=1 1000000000\nj,t=x\\=1 v=1 1000000000\ncpu v=1 1000000000\n\
        a\\=b=c v=1 1000000000\nk\\=l\\,m,t=u v=1 1000000000\ns,t=#!~# v=1 1000000000\nd=e\\=f v=1 1000000000";
    assert!(server.write("telegraf", "autogen", lines));
    assert!(server.write("telegraf", "autogen", "neg v=3 -9223372036854774806\nneg v=1 1000000000"));
    let site = Site::new("telegraf", &server.lines(""));
    let ended = site.run(&["backup", "telegraf"]).ends(3);
    for named in [
        "\"a=b\"",
        "\"g h=i\"",
        "\"a=b=c\"",
        "\"k=l,m\"",
        "\"d=e=f\"",
        "\"s,t=#!~#",
        "before 1677-09-27",
        "[unrestorable]",
    ] {
        assert!(ended.err.contains(named), "{named}: {}", ended.err);
    }
    assert!(!ended.err.contains("c=d"), "{}", ended.err);
    assert_eq!(site.snapshots(), 1);
    let before = server.ask("SELECT * FROM telegraf.autogen./.*/").to_string();
    // The living database isn't dropped for it.
    let ended = site.run(&[&crate::influxdb::RESTORE[..], &crate::influxdb::REPLACE].concat()).ends(1);
    assert!(
        ended.err.contains("telegraf stays as it was") && ended.err.contains("a=b of telegraf_varu has 0"),
        "{}",
        ended.err
    );
    assert_eq!(server.ask("SELECT * FROM telegraf.autogen./.*/").to_string(), before);
    site.run(&["restore", "telegraf", "--abandon", "--reason", "test"]).ends(0);
    let ended = site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(3);
    assert!(ended.err.contains("a=b of copy has 0 values after the load, and 1 in the backup"), "{}", ended.err);
    let there = server.ask("SELECT * FROM copy.autogen./.*/").to_string();
    for name in ["\"c=d\"", "\"cpu\"", "\"j\""] {
        assert!(there.contains(name), "{name}: {there}");
    }
    site.configure(&server.lines("acknowledge = [\"unrestorable\"]"));
    site.run(&["backup", "telegraf"]).ends(0);
}

#[test]
fn limits_of_the_server_are_named_and_lose_nothing() {
    let Some(server) = Influx::start_with("max-row-limit = 2\n[coordinator]\nmax-select-series = 3\n") else { return };
    server.ask("CREATE DATABASE telegraf");
    let lines: String = (0..3).map(|n| format!("m,t={n} v={n}i 1000000000\n")).collect();
    assert!(server.write("telegraf", "autogen", &lines));
    let site = Site::new("telegraf", &server.lines(""));
    let check = |status| String::from_utf8(site.run(&["config", "check"]).ends(status).out).unwrap();
    assert!(check(0).contains("max-select-series = 3"));
    site.back_up();
    site.run(&["restore", "telegraf", "--into", "influxdb:copy", "--yes"]).ends(0);
    assert_eq!(server.picture("copy", &["autogen"]), server.picture("telegraf", &["autogen"]));
}

#[test]
fn a_second_restore_of_all_sees_whatever_was_changed() {
    let Some((server, site)) = site(2, 3600) else { return };
    server.ask("CREATE SUBSCRIPTION sub ON telegraf.raw DESTINATIONS ALL 'http://127.0.0.1:9'");
    let first = crate::influxdb::FIRST;
    server.write(
        "telegraf",
        "raw",
        &format!("m,t=a v=1,s=\"x\",b=true {first}000000000\nm,t=b v=2,s=\"y\" {first}000000000"),
    );
    site.back_up();
    let all = || site.run(&["restore", "--all", "--yes", "--reason", "test"]);
    server.ask("DROP DATABASE telegraf");
    all().ends(0);
    let again = all().ends(0);
    assert!(String::from_utf8_lossy(&again.out).contains("restored by an earlier run, and as it was then"));
    for change in [
        format!("m,t=a v=7 {first}000000000"),
        format!("m,t=b s=\"Y\" {first}000000000"),
        format!("m,t=a b=false {first}000000000"),
        "DROP CONTINUOUS QUERY hourly ON telegraf".to_owned(),
        "DROP SUBSCRIPTION sub ON telegraf.raw".to_owned(),
        "ALTER RETENTION POLICY \"long term\" ON telegraf DURATION 99999h".to_owned(),
        "DROP SERIES FROM m WHERE t = 'a'".to_owned(),
    ] {
        match change.starts_with("m,") {
            true => assert!(server.write("telegraf", "raw", &change), "{change}"),
            false => _ = server.ask_in("telegraf", &change),
        }
        let ended = all().ends(3);
        assert!(ended.err.contains("what is there has changed since"), "{change}: {}", ended.err);
        server.ask("DROP DATABASE telegraf");
        all().ends(0);
    }
    // Data written after the backup is no change of restored data.
    server.write("telegraf", "raw", "m,t=a v=9");
    all().ends(0);
}
