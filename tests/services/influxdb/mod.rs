//! InfluxDB as a source and as a service that a snapshot goes back into, on real servers of the tests' own.

mod cuts;
mod gates;
mod kills;
mod round;
mod unfinished;

use support::influxdb::Influx;
use support::site::Site;

/// A day of the metrics, in seconds. All of it is over.
const FIRST: u64 = 1_760_054_400;
const DAY: u64 = 86_400;
const POLICIES: [&str; 2] = ["raw", "long term"];

/// A day of metrics: numbers, texts, tags with spaces.
fn day(server: &Influx, number: u64, every: u64) {
    let mut lines = String::new();
    for at in (0..DAY).step_by(every as usize) {
        let time = FIRST + number * DAY + at;
        let value = (time / every).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        lines += &format!("cpu,host=a\\ b,cpu=cpu0 usage={value}.25,idle={}i {time}000000000\n", value * 3);
        lines += &format!(
            "disk\\ io,path=/var\\,x state=\"st{}\\\"ate\",ok={} {time}000000000\n",
            value % 7,
            value.is_multiple_of(2)
        );
    }
    assert!(server.write("telegraf", "raw", &lines));
}

/// A server with days of metrics, and a site that backs it up. None if there is no server to be had.
fn site(days: u64, every: u64) -> Option<(Influx, Site)> {
    let server = Influx::start()?;
    server.ask("CREATE DATABASE telegraf WITH DURATION 5200w SHARD DURATION 1d NAME raw");
    server.ask("CREATE RETENTION POLICY \"long term\" ON telegraf DURATION INF REPLICATION 1 SHARD DURATION 7d");
    server.ask("CREATE CONTINUOUS QUERY hourly ON telegraf BEGIN SELECT mean(usage) AS usage INTO telegraf.\"long term\".cpu_1h FROM telegraf.raw.cpu GROUP BY time(1h), * END");
    server.ask("CREATE USER reader WITH PASSWORD 'secret'");
    server.ask("GRANT READ ON telegraf TO reader");
    (0..days).for_each(|number| day(&server, number, every));
    let query = format!(
        "SELECT mean(usage) AS usage INTO telegraf.\"long term\".cpu_1h FROM telegraf.raw.cpu WHERE time >= {FIRST}s AND time < {}s \
         GROUP BY time(1h), *",
        FIRST + days * DAY
    );
    server.ask(&query);
    let site = Site::new("telegraf", &server.lines(""));
    Some((server, site))
}

/// The set's programs run through a wrapper; a backup or a restore by the line `filter`.
fn wrap(site: &Site, server: &Influx, what: &str, filter: &str) {
    let wrapper = site.wrapper(&format!("*influxd\\ {what}*"), filter);
    site.configure(&server.lines(&format!("exec = [\"{}\"]\n", wrapper.display())));
}

const RESTORE: [&str; 5] = ["restore", "telegraf", "--into", "influxdb", "--yes"];
const REPLACE: [&str; 4] = ["--replace", "telegraf", "--reason", "test"];
