//! The points of InfluxDB's own tests of its line protocol.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::vendors::debian;
use support::influxdb::Influx;
use support::site::Site;

/// Texts in the source of a program in Go that are no more than points: those between backticks, and those in quotes.
fn texts(source: &str) -> Vec<String> {
    let mut found: Vec<String> = source.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    for line in source.lines().filter(|line| !line.contains('`')) {
        let Some((from, to)) = line.find('"').zip(line.rfind('"')).filter(|(from, to)| from < to) else { continue };
        if let Ok(text) = serde_json::from_str::<String>(&line[from..=to]) {
            found.push(text);
        }
    }
    found.retain(|text| text.contains('=') && text.contains(' ') && !text.contains("%s"));
    found.sort();
    found.dedup();
    found
}

/// Points with extreme fields and times, in the same protocol.
const EXTREMES: [&str; 12] = [
    "ends i=9223372036854775807i,f=1.7976931348623157e308,s=\"\" 1",
    "ends i=-9223372036854775808i,f=-1.7976931348623157e308,t=t 2",
    "ends f=4.9e-324,s=\"\\\"\\\\\" 3",
    "late v=1 9223372036854775805",
    "late v=2 4102444800000000000",
    "early v=1 -1",
    "early v=2 -2208988800000000000",
    "earliest v=1 -9223372036854775806",
    "a\\=b v=1 1000000000",
    "sp\\ ace\\,comma,t\\ a\\=g=v\\ a\\,l\\=u\\\\e fi\\ e\\=ld=1 1000000000",
    "ünï☃,täg=wërt fëld=\"tëxt\nnew line\" 1000000000",
    "0,1=2 3=4 1000000000",
];

/// The values of a database, and its definitions: each in a line that begins with its name.
fn picture(server: &Influx, name: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    // A long answer comes in several parts.
    let series = |question: &str| -> Vec<Value> {
        let answer = server.ask(question);
        let parts = answer["results"].as_array().cloned().unwrap_or_default();
        parts.iter().flat_map(|part| part["series"].as_array().cloned().unwrap_or_default()).collect()
    };
    for policy in ["all", "some days"] {
        for series in series(&format!("SELECT * FROM \"{name}\".\"{policy}\"./.*/ GROUP BY *")) {
            let tags: Vec<_> = series["tags"].as_object().unwrap().iter().filter(|(_, value)| *value != "").collect();
            for row in series["values"].as_array().unwrap() {
                let columns = series["columns"].as_array().unwrap().iter().zip(row.as_array().unwrap());
                let fields: Vec<_> = columns.filter(|(_, value)| !value.is_null()).collect();
                lines.insert(format!("{} in {policy}: {tags:?} {fields:?}", series["name"]));
            }
        }
    }
    for series in series(&format!("SHOW RETENTION POLICIES ON \"{name}\"")) {
        lines.insert(format!("retention policies: {}", series["values"]));
    }
    for question in ["SHOW CONTINUOUS QUERIES", "SHOW SUBSCRIPTIONS"] {
        let own = series(question).into_iter().filter(|series| series["name"] == name);
        lines.extend(own.map(|series| format!("{question}: {}", series["values"])));
    }
    lines
}

#[test]
fn the_points_of_influxdbs_tests_come_back() {
    let (Some(here), Some(there)) = (Influx::start(), Influx::start()) else { return };
    let Some(fetched) = debian::fetch("influxdb", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    fetched.unpack(folder.path(), &["*/models/points_test.go"]);
    let source = std::fs::read_to_string(folder.path().join("models/points_test.go")).unwrap();
    here.ask("CREATE DATABASE telegraf WITH DURATION INF NAME \"all\"");
    here.ask("CREATE RETENTION POLICY \"some days\" ON telegraf DURATION 14000w REPLICATION 1 SHARD DURATION 3d");
    here.ask("CREATE CONTINUOUS QUERY \"c q\" ON telegraf RESAMPLE EVERY 2h FOR 4h BEGIN SELECT max(value) INTO telegraf.\"some days\".hourly FROM telegraf.\"all\".cpu GROUP BY time(1h), * END");
    here.ask("CREATE SUBSCRIPTION \"to it\" ON telegraf.\"some days\" DESTINATIONS ANY 'udp://127.0.0.1:1', 'http://127.0.0.1:2'");
    let points = texts(&source);
    // The server refuses invalid points, and that is no matter of a backup.
    let taken = |point: &&str| {
        let all = here.write("telegraf", "all", point);
        here.write("telegraf", "some%20days", point) || all
    };
    let count = points.iter().map(String::as_str).chain(EXTREMES).filter(taken).count();
    assert!(count > 50, "{count} of {} points were taken", points.len());
    let was = picture(&here, "telegraf");
    let site = Site::new("telegraf", &here.lines(""));
    let backup = site.run(&["backup", "telegraf"]);
    site.configure(&there.lines(""));
    let restore = site.run(&["restore", "telegraf", "--into", "influxdb", "--yes"]);
    let is = picture(&there, "telegraf");
    let gone: Vec<&String> = was.difference(&is).collect();
    eprintln!("{count} of {} points taken, {} values and definitions: {} differ", points.len(), was.len(), gone.len());
    assert_eq!(is.difference(&was).collect::<Vec<_>>(), Vec::<&String>::new(), "{}", restore.err);
    assert_eq!((backup.status, restore.status), (3, 3), "{}{}", backup.err, restore.err);
    // Points that the server's own program loses are named at the backup, and again at the restore.
    for line in &gone {
        let measurement = line.split(" in ").next().unwrap();
        let is_early = line.contains("-92233720368") && backup.err.contains("before 1677-09-");
        assert!(is_early || backup.err.contains(measurement), "{line} is gone: {}{}", backup.err, restore.err);
    }
    for measurement in ["all/a=b", "some days/a=b", "all/earliest"] {
        assert!(restore.err.contains(&format!("{measurement} of telegraf has 0 values")), "{}", restore.err);
    }
    assert!(gone.iter().any(|line| line.starts_with("\"a=b\"")), "{gone:?}");
}
