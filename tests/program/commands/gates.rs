//! Conditions that a program has to meet, in backup and in restore.

use std::fs;

use support::site::Site;

#[test]
fn each_program_is_a_stream_and_all_have_to_end_well() {
    let site = Site::new("notes", "");
    let at = |name: &str| site.machine.at(name).display().to_string();
    let lines = |second: &str, more: &str| {
        site.configure(&format!(
            "source = \"command\"\ncommands = {{ one = \"printf first\", two = {second:?} }}\nrestore_command = \"cat > {}/$VARU_STREAM; echo $VARU_STREAM >> {}\"\n{more}",
            at(""),
            at("order")
        ));
    };
    lines("seq 1 100000", "");
    site.back_up();
    let ls = String::from_utf8(site.run(&["ls", "latest"]).ends(0).out).unwrap();
    assert!(ls.contains("one") && ls.contains("two"), "{ls}");
    for (second, more, why) in [
        ("seq 1 100; exit 4", "", "exit status 4"),
        ("seq 1 100; kill -9 $$", "", "signal 9"),
        ("seq 1 100", "completion = \"100000\"", "doesn't end with"),
        ("seq 1 100", "min_size = 1000", "fewer than"),
        ("/does/not/exist", "", "127"),
    ] {
        lines(second, more);
        let ended = site.run(&["backup", "notes"]).ends(1);
        assert!(ended.err.contains(why), "{second} {more}: {}", ended.err);
        assert_eq!(site.snapshots(), 1, "{second} {more}");
    }
    // Less than half of its former size.
    lines("seq 1 100000", "");
    site.back_up();
    lines("seq 1 300000", "");
    site.back_up();
    lines("seq 1 2", "");
    assert!(site.run(&["backup", "notes"]).ends(3).err.contains("suspect"));
    let restore = ["restore", "notes", "--into", "command", "--yes", "--json"];
    assert!(site.run(&restore).ends(5).err.contains("--reason"));
    let done = site.run(&[&restore[..], &["--reason", "test"]].concat()).ends(3);
    assert!(done.err.contains("is suspect and was passed over"), "{}", done.err);
    assert_eq!(done.json()["restored"][0]["checks"], "its restore_command ended 2 times with status 0");
    assert_eq!(fs::read_to_string(at("one")).unwrap(), "first");
    assert_eq!(fs::read_to_string(at("two")).unwrap().lines().count(), 300_000);
    assert_eq!(
        fs::read_to_string(at("order")).unwrap(),
        "one\ntwo\n",
        "one after the other, in the order of their names"
    );
}

#[test]
fn a_restore_command_that_fails_is_an_error_and_a_local_copy_is_read() {
    let site = Site::new("notes", "");
    let copies = site.machine.at("copies");
    let lines = |restore: &str| {
        site.configure(&format!(
            "source = \"command\"\ncommand = \"seq 1 200000; date +%s%N\"\nlocal_copy = \"{}\"\nlocal_reserve = \"0 %\"\nschedule = {{ dump = \"*-01-01 00:00\" }}\n{restore}",
            copies.display()
        ));
    };
    lines("");
    let made = site.run(&["--json", "dump", "notes"]).ends(0).json();
    let backup = site.run(&["--json", "-q", "backup", "notes"]).ends(0).json();
    assert_eq!(backup["snapshot"]["data_time"], made["data_time"], "the copy was read");
    let restore = ["restore", "notes", "--into", "command", "--yes", "--reason", "test"];
    assert!(site.run(&restore).ends(2).err.contains("no restore_command"));
    for (command, why) in [
        ("exit 6", "exit status 6"),
        ("cat >/dev/null; exit 7", "exit status 7"),
        ("head -c 10 >/dev/null; kill -9 $$", "signal 9"),
    ] {
        lines(&format!("restore_command = \"{command}\""));
        let failed = site.run(&restore).ends(1);
        assert!(failed.err.contains(why) && failed.err.contains("is not undone"), "{}", failed.err);
        assert!(site.run(&["backup", "notes"]).ends(5).err.contains("has not succeeded"));
    }
    lines("restore_command = \"cat > /dev/null\"");
    site.run(&restore).ends(0);
    site.back_up();
}

#[test]
fn the_last_local_copy_is_what_an_incremental_is_compressed_against() {
    let site = Site::new("notes", "");
    let (folder, copies) = (site.machine.at(""), site.machine.at("copies"));
    let file = |name: &str| folder.join(name).display().to_string();
    // Hardly a chunk of the second stream is as it was.
    let day = |factor: u64| {
        let lines = (0..40_000u64).map(|n| format!("{n}\t{}\n", if n % 20 == factor { n * 7919 } else { n * n * 31 }));
        fs::write(file("data"), lines.collect::<String>()).unwrap();
    };
    site.write(&format!(
        "[repository]\nbase_cache_max = 0\n[sets.notes]\nsource = \"command\"\n\
         commands = {{ a = \"echo first\", b = \"cat {}\" }}\nlocal_copy = \"{}\"\nlocal_reserve = \"0 %\"",
        file("data"),
        copies.display()
    ));
    let stored = || site.run(&["--json", "-q", "backup", "notes"]).ends(0).json()["stored"].as_u64().unwrap();
    day(1);
    stored();
    day(2);
    let based = stored();
    fs::remove_dir_all(&copies).unwrap();
    day(3);
    let unbased = stored();
    assert!(2 * based < unbased, "{based} bytes with the copy, {unbased} without");
    let out = site.machine.at("out");
    site.run(&["restore", "notes", "--to", out.to_str().unwrap()]).ends(0);
    assert_eq!(fs::read(out.join("b")).unwrap(), fs::read(file("data")).unwrap());
}
