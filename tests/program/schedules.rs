//! Agreement of `schedule show` and `config check` with systemd's own view of the timers.

use support::machine::Ended;
use support::site::Site;

#[test]
fn what_is_not_installed_as_the_configuration_says_is_told() {
    let site = Site::new("s", "source = \"files\"\npaths = [\"/etc\"]");
    let units = site.machine.at("units");
    let units = units.to_str().unwrap();
    let key = |name: &str| {
        let (vault, key) = (site.machine.at("vault"), site.machine.at(name));
        format!("[repository]\nurl = \"{}\"\nwriter_key = \"{}\"\n", vault.display(), key.display())
    };
    let set = |name: &str, time: &str| {
        format!("[sets.{name}]\nsource = \"files\"\npaths = [\"/etc\"]\nschedule = {{ full = \"{time}\" }}\n")
    };
    // No variable names the keys, as on a machine that is installed.
    let run = |words: &[&str]| Ended::from(site.command(words).env_remove("VARU_WRITER_KEY").output().unwrap());
    let show = |status: i32| String::from_utf8(run(&["schedule", "show", "--from", units]).ends(status).out).unwrap();
    site.write(&(key("old") + &set("a", "Sun 02:00")));
    let shown = show(3);
    assert!(shown.contains("backup of a: Sun 02:00, NOT INSTALLED: varu schedule install"), "{shown}");
    let install = || drop(run(&["schedule", "install", "--to", units]).ends(0));
    install();
    let shown = show(0);
    assert!(shown.contains("backup of a: Sun 02:00, next ") && shown.contains("verify: as the unit says"), "{shown}");
    // A new set, another time, another writer key, a set that is gone: each is seen until it is installed.
    for config in [
        key("old") + &set("a", "Sun 02:00") + &set("b", "Mon 02:00"),
        key("old") + &set("a", "Tue 02:00") + &set("b", "Mon 02:00"),
        key("new") + &set("a", "Tue 02:00") + &set("b", "Mon 02:00"),
        key("new") + &set("b", "Mon 02:00"),
    ] {
        site.write(&config);
        let shown = show(3);
        assert!(shown.contains("varu schedule install"), "{shown}");
        install();
        show(0);
    }
    let json = run(&["--json", "schedule", "show", "--from", units]).ends(0).json();
    assert!(json["timers"][0]["pending"].is_null());
}

#[test]
fn a_time_that_no_unit_takes_fails_the_check_of_the_configuration() {
    let site = Site::new("s", "source = \"files\"\npaths = [\"/etc\"]");
    let schedule = |full: &str, incremental: &str| {
        site.configure(&format!(
            "source = \"files\"\npaths = [\"/etc\"]\nschedule = {{ full = \"{full}\", incremental = \"{incremental}\" }}"
        ));
        let checked = site.run(&["config", "check"]);
        (checked.status, String::from_utf8(checked.out).unwrap())
    };
    let (status, shown) = schedule("Sun 01:05", "Mon..Sat 01:10");
    assert_eq!(status, 0, "{shown}");
    assert!(shown.contains("note     schedule: ") && shown.contains("varu schedule install makes them so"), "{shown}");
    for (full, incremental) in [("Sonntag 01:05", "Mon..Sat 01:10"), ("Sun 01:05", "Mon..Sat 25:10")] {
        let (status, shown) = schedule(full, incremental);
        assert_eq!(status, 2, "{shown}");
        assert!(shown.contains("FAILED   schedule: the time of the backup of s"), "{shown}");
        site.run(&["schedule", "show"]).ends(2);
    }
}
