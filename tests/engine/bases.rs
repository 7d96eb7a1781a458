//! Benefit and cost of bases: the bytes that a day adds beside those of `zstd --patch-from`, the cost of incompressible
//! data, a lost base cache, and the decoding work of a restore.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use support::days::*;
use support::dumps::{Form, Table, dump};
use support::vault::*;
use support::*;
use varu::backup::{BackupOptions, BackupReport, PreviousFile};
use varu::entry::StreamName;
use varu::format::layout::pack_name;
use varu::id::PackId;
use varu::index::SnapshotRow;
use varu::remote::Folder;
use varu::repository::Repository;

#[test]
fn what_changes_in_place_costs_little_more_than_a_delta() {
    let tables = shop();
    let before = dump(&tables, Form::Extended);
    let mut random = Random(1);
    let mut changed = tables.clone();
    changed.iter_mut().for_each(|table| table.change(table.rows.len() / 100, &mut random));
    pays("changed rows", &before, &dump(&changed, Form::Extended), 105);
    let mut inserted = tables.clone();
    inserted.iter_mut().for_each(|table| table.insert(table.rows.len() / 100, &mut random));
    pays("inserted rows", &before, &dump(&inserted, Form::Extended), 105);
    let mut deleted = tables.clone();
    deleted.iter_mut().for_each(|table| table.delete(table.rows.len() / 100, &mut random));
    pays("deleted rows", &before, &dump(&deleted, Form::Extended), 105);
    let mut grown = tables.clone();
    grown[1].grow(3000);
    // Rows that are new have no base that makes them a fifth smaller: they are stored plain, in one segment.
    pays("a grown table", &before, &dump(&grown, Form::Extended), 115);
    let mut few = tables.clone();
    few.iter_mut().for_each(|table| table.change(3, &mut random));
    pays("a few rows", &before, &dump(&few, Form::Extended), 105);
    let mut all = changed;
    all.iter_mut().for_each(|table| table.insert(table.rows.len() / 200, &mut random));
    all.iter_mut().for_each(|table| table.delete(table.rows.len() / 200, &mut random));
    all[2].grow(600);
    pays("all of it", &before, &dump(&all, Form::Extended), 105);
}

#[test]
fn a_column_that_comes_and_goes_costs_about_what_one_costs_that_goes() {
    let mut tables = shop();
    let before = dump(&tables, Form::Extended);
    let with_column = String::from_utf8(dump(&tables, Form::Extended)).unwrap().replace("),(", ",1),(");
    // Rows inserted after the first table shift the others, and most of their chunks are again as on the first day: the
    // stream meets chunks that its parent doesn't have, and mustn't lose its place there.
    let mut random = Random(1);
    tables[0].grow(20_000);
    tables.iter_mut().for_each(|table| table.change(table.rows.len() / 150, &mut random));
    let after = dump(&tables, Form::Extended);
    // Without the cache nothing is looked for by its content, so that the place alone decides.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sql");
    std::fs::write(&path, &with_column).unwrap();
    let added = |days: &[&[u8]]| {
        let mut run = Days::with(BackupOptions { base_cache_max: 0, ..options() });
        days.iter().for_each(|day| drop(run.next(&one(day))));
        run.options.previous =
            [(StreamName::new("shop.sql").unwrap(), PreviousFile { path: path.clone(), offset: 0 })].into();
        let (report, added) = run.next(&one(&after));
        run.restores(&report.snapshot, &one(&after));
        added
    };
    let (short, long) = (added(&[with_column.as_bytes()]), added(&[&before, with_column.as_bytes()]));
    println!("a column goes: {short} bytes, {long} where it had come the day before");
    assert!(long <= short + short / 4, "{long} bytes, {short} without the first day");
}

/// Backs up the same days with and without bases. Returns the bytes that each added after the first day.
fn with_and_without(days: &[Vec<u8>]) -> (u64, u64) {
    let added = |options: BackupOptions| {
        let run = Days::with(options);
        let mut added = 0;
        for (day, bytes) in days.iter().enumerate() {
            let (report, grown) = run.next(&one(bytes));
            added += if day == 0 { 0 } else { grown };
            if day + 1 == days.len() {
                run.restores(&report.snapshot, &one(bytes));
            }
        }
        added
    };
    (added(options()), added(BackupOptions { base_cache_max: 0, ..options() }))
}

/// Fails where bases make the days more than a hundredth larger.
fn never_hurts(what: &str, days: &[Vec<u8>]) {
    let (based, plain) = with_and_without(days);
    println!("{what:>30}: {based:>9} with bases, {plain:>9} without");
    // Keys, salts and names are random, so that they don't compress alike.
    let noise = 200 * days.len() as u64;
    assert!(based <= plain + plain / 100 + noise, "{what}: {based} bytes with bases, {plain} without");
}

/// Rows with a column that is compressed already.
fn compressed_columns(day: u32) -> Vec<u8> {
    let mut compressor = varu::segment::Compressor::new(3).unwrap();
    let mut out = Vec::new();
    for row in 0..6000 {
        let version = (0..=day).rev().find(|day| (row * 31 + day * 7) % 100 == 0).unwrap_or(0);
        let column = table(30, |inner| row * 100 + inner + version * 1_000_000);
        let mut frame = Vec::new();
        compressor.compress(&column, &mut frame).unwrap();
        out.extend_from_slice(format!("INSERT INTO `page` VALUES ({row},0x").as_bytes());
        out.extend_from_slice(&frame);
        out.extend_from_slice(b");\n");
    }
    out
}

/// A tar of shards: most are as they were, one grew, and all headers have today's time.
fn shards(day: u64) -> Vec<u8> {
    let mut tar = Vec::new();
    for shard in 0..12 {
        let block = if shard == 11 { day } else { 0 };
        let mut header = format!("telegraf/autogen/{shard}/{:09}-01.tsm\0 0000644 {}", shard + 1, 1_790_000_000 + day);
        header.extend(std::iter::repeat_n('\0', 512 - header.len()));
        tar.extend_from_slice(header.as_bytes());
        tar.extend(noise(400_000, shard));
        tar.extend(noise(100_000, shard * 1000 + block));
    }
    tar
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |three: &[u8]| {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| LETTERS[(bits >> shift & 63) as usize])
    };
    let lines = bytes.chunks_exact(57).map(|line| line.chunks_exact(3).flat_map(letters).chain(*b"\n"));
    lines.flatten().collect()
}

/// Noise of which a few pages are others each day.
fn pages(day: u64) -> Vec<u8> {
    let page = |number: u64| {
        let version = (0..=day).rev().find(|day| (number * 13 + day * 29).is_multiple_of(200)).unwrap_or(0);
        noise(4096, number << 16 | version)
    };
    (0..1000).flat_map(page).collect()
}

#[test]
fn bases_never_hurt_what_no_base_helps() {
    let days = |day: &dyn Fn(u64) -> Vec<u8>| (0..4).map(day).collect::<Vec<_>>();
    never_hurts("new noise each day", &days(&|day| noise(5_000_000, day)));
    never_hurts("noise, a few pages changed", &days(&pages));
    never_hurts("new base64 each day", &days(&|day| base64(&noise(4_000_000, day))));
    never_hurts("base64, a few pages changed", &days(&|day| base64(&pages(day))));
    never_hurts("compressed columns", &days(&|day| compressed_columns(day as u32)));
    never_hurts("tars of shards", &days(&shards));
    never_hurts("zeros, longer each day", &days(&|day| vec![0; 5_000_000 + 100_000 * day as usize]));
    let rows = |day: u64| dump(&[Table::new(["a", "b", "c", "d"][day as usize], 10_000)], Form::Extended);
    never_hurts("another table each day", &days(&rows));
}

fn shop_on(day: u64) -> Vec<u8> {
    let mut tables = shop();
    for day in 1..=day {
        let mut random = Random(day);
        tables.iter_mut().for_each(|table| table.change(table.rows.len() / 200, &mut random));
    }
    dump(&tables, Form::Extended)
}

fn warnings_about_the_cache(report: &BackupReport) -> Vec<&varu::warning::Warning> {
    report.warnings.iter().filter(|warning| warning.text.contains("base cache")).collect()
}

/// The bytes that the third day adds if `harm` was done to the base cache after the second, which has the name and
/// content of its files after the first day at hand.
fn after(harm: impl Fn(&Path, &BTreeMap<String, Vec<u8>>)) -> u64 {
    let days = Days::new();
    let folder = days.writer.folder().to_owned();
    let files = || {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let cache = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("base-"));
        let read = |path: std::path::PathBuf| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
        };
        cache.map(read).collect::<BTreeMap<_, _>>()
    };
    days.next(&one(&shop_on(0)));
    let first = files();
    days.next(&one(&shop_on(1)));
    let second = files();
    harm(&folder, &first);
    let harmed = files() != second;
    let (report, added) = days.next(&one(&shop_on(2)));
    days.restores(&report.snapshot, &one(&shop_on(2)));
    assert_eq!(warnings_about_the_cache(&report).len(), usize::from(harmed), "{:?}", report.warnings);
    // The day after has nearly all again: only a chunk that was damaged and not looked at can still be lacking.
    let (report, next) = days.next(&one(&shop_on(3)));
    days.restores(&report.snapshot, &one(&shop_on(3)));
    assert!(report.warnings.len() < 2, "{:?}", report.warnings);
    assert!(next < 40_000, "{next} bytes the day after");
    added
}

#[test]
fn a_base_cache_that_is_lost_stale_or_damaged_costs_bytes_and_says_so_once() {
    let whole = after(|_, _| ());
    let all_over = |folder: &Path, file: &str, change: fn(&mut Vec<u8>)| {
        let path = folder.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    let lost = after(|folder, files| files.keys().for_each(|file| std::fs::remove_file(folder.join(file)).unwrap()));
    let stale =
        after(|folder, files| files.iter().for_each(|(file, old)| std::fs::write(folder.join(file), old).unwrap()));
    let table = after(|folder, _| all_over(folder, "base-set.table", |bytes| bytes[20] ^= 1));
    let short = after(|folder, _| all_over(folder, "base-set.table", |bytes| bytes.truncate(bytes.len() - 1)));
    let zeros = after(|folder, _| all_over(folder, "base-set.chunks", |bytes| bytes.fill(0)));
    let half = after(|folder, _| all_over(folder, "base-set.chunks", |bytes| bytes.truncate(bytes.len() / 2)));
    let bits = after(|folder, _| {
        all_over(folder, "base-set.chunks", |bytes| (0..bytes.len()).step_by(512).for_each(|at| bytes[at] ^= 1));
    });
    println!(
        "whole {whole}, lost {lost}, stale {stale}, table {table} {short}, zeros {zeros}, half {half}, bits {bits}"
    );
    for harmed in [lost, stale, table, short, zeros, half, bits] {
        assert!(harmed > 4 * whole, "{harmed} bytes, and {whole} with the cache");
    }
}

/// The bytes that the second day adds, and the number of warnings about it, if `previous` are the bytes of a file that
/// should hold the first day's (None: there is no such file), and `cache` tells whether the base cache exists.
fn with_previous(previous: Option<&dyn Fn(Vec<u8>) -> Vec<u8>>, cache: bool) -> (u64, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sql");
    let mut days = Days::with(BackupOptions { base_cache_max: if cache { 1 << 30 } else { 0 }, ..options() });
    days.next(&one(&shop_on(0)));
    if let Some(previous) = previous {
        std::fs::write(&path, previous(shop_on(0))).unwrap();
    }
    days.options.previous = [(StreamName::new("shop.sql").unwrap(), PreviousFile { path, offset: 0 })].into();
    let (report, added) = days.next(&one(&shop_on(1)));
    days.restores(&report.snapshot, &one(&shop_on(1)));
    (added, warnings_about_the_cache(&report).len())
}

#[test]
fn bases_come_from_the_previous_file_and_then_from_the_cache() {
    let whole = |bytes: Vec<u8>| bytes;
    let stale = |_: Vec<u8>| noise(5_000_000, 1);
    let half = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle..].fill(b'x');
        bytes
    };
    let short = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let (best, warnings) = with_previous(Some(&whole), true);
    assert_eq!(warnings, 0);
    let about_best = |(added, warnings): (u64, usize)| {
        assert!(added.abs_diff(best) < best / 4, "{added} bytes, and {best} at best");
        assert_eq!(warnings, 0);
    };
    about_best(with_previous(Some(&whole), false));
    // Whatever the file is, the cache has it.
    [None, Some(&stale as &dyn Fn(Vec<u8>) -> Vec<u8>), Some(&half), Some(&short)]
        .into_iter()
        .for_each(|previous| about_best(with_previous(previous, true)));
    let (none, warnings) = with_previous(None, false);
    assert_eq!(warnings, 1);
    for part in [&half as &dyn Fn(Vec<u8>) -> Vec<u8>, &short] {
        let (added, warnings) = with_previous(Some(part), false);
        assert!(2 * best < added && added < none - none / 4, "{best} < {added} < {none}");
        assert_eq!(warnings, 1);
    }
    let (added, warnings) = with_previous(Some(&stale), false);
    assert!(added > none - none / 10, "{added} bytes, and {none} without any base");
    assert_eq!(warnings, 1);
}

#[test]
fn a_base_cache_that_is_too_small_costs_bytes_and_says_so_each_time() {
    const CRAMPED: u64 = 256 << 10;
    let mut added = Vec::new();
    for base_cache_max in [0, CRAMPED, 8 << 30] {
        let mut days = Days::with(BackupOptions { base_cache_max, ..options() });
        let day = |days: &Days, day: u64| {
            let (report, bytes) = days.next(&one(&shop_on(day)));
            let said: Vec<_> = warnings_about_the_cache(&report).iter().map(|warning| warning.text.clone()).collect();
            let of_cache = |entry: &std::fs::DirEntry| entry.file_name().to_str().unwrap().starts_with("base-");
            let entries = std::fs::read_dir(days.writer.folder()).unwrap().map(|entry| entry.unwrap());
            let size: u64 = entries.filter(of_cache).map(|entry| entry.metadata().unwrap().len()).sum();
            let most = days.options.base_cache_max;
            assert!(size <= most + 64 * 1024, "{size} bytes where {most} are allowed");
            (report, bytes, said)
        };
        let (_, _, first) = day(&days, 0);
        let (report, bytes, second) = day(&days, 1);
        days.restores(&report.snapshot, &one(&shop_on(1)));
        let cramped = usize::from(base_cache_max == CRAMPED);
        assert_eq!([first.len(), second.len()], [cramped; 2], "{first:?} {second:?}");
        if cramped == 1 {
            assert!(first[0].contains("is stored whole by the next backup"), "{first:?}");
            assert!(second[0].contains("this backup lacked"), "{second:?}");
            // What it says would do does, as soon as all has passed by once.
            let (_, size) = second[0].split_once("base_cache_max = \"").unwrap();
            let mebibytes: u64 = size.split_once(" MiB\"").unwrap().0.parse().unwrap();
            days.options.base_cache_max = mebibytes << 20;
            assert!(mebibytes < 8, "{mebibytes} MiB for a dump of 6 MB");
            day(&days, 2);
            let (_, with_enough, said) = day(&days, 3);
            assert!(said.is_empty() && with_enough < bytes / 2, "{with_enough} bytes, {bytes} before, {said:?}");
        }
        added.push(bytes);
    }
    assert!(added[2] < added[1] && added[1] < added[0], "{added:?}");
}

fn packs(row: &SnapshotRow) -> &[PackId] {
    &row.header.packs
}

#[test]
fn isolated_chains_share_nothing() {
    let days = Days::with(BackupOptions { isolate_chains: true, ..options() });
    let reports: Vec<_> = (0..10).map(|day| days.next(&one(&shop_on(day))).0.snapshot).collect();
    assert_eq!(reports.iter().filter(|row| row.header.parent.is_none()).count(), 2);
    let (first, second) = reports.split_at(7);
    for row in second {
        assert!(packs(row).iter().all(|pack| first.iter().all(|other| !packs(other).contains(pack))));
    }
    assert!(packs(&reports[9]).len() > 1, "in a chain bases are shared");
    // The bases of the first chain can be deleted.
    for row in first {
        for pack in packs(row) {
            days.vault.memory.lose(&pack_name(pack));
        }
        assert!(days.vault.memory.lose(&Repository::object_name(row)));
    }
    days.restores(&reports[9], &one(&shop_on(9)));
}

#[test]
fn a_full_restores_from_the_packs_that_it_lists_alone() {
    let days = Days::new();
    // So little changes that no re-base comes early.
    let dump_on = |day: u64| {
        let mut tables = shop();
        (1..=day).for_each(|day| tables.iter_mut().for_each(|table| table.change(10, &mut Random(day))));
        dump(&tables, Form::Extended)
    };
    let reports: Vec<_> = (0..9).map(|day| days.next(&one(&dump_on(day))).0.snapshot).collect();
    let full = &reports[7];
    assert!(full.header.parent.is_none() && full.about.generation == reports[0].about.generation, "a light full");
    assert!(packs(full).len() >= 7, "it stands on the packs of the chain before");
    let copy = days.vault.memory.fork();
    for (name, _) in copy.content(Folder::Packs) {
        let listed = packs(full).iter().any(|pack| pack_name(pack).name() == name);
        let object = varu::remote::ObjectName::new(Folder::Packs, name).unwrap();
        assert!(listed || copy.lose(&object));
    }
    for row in reports.iter().filter(|row| row.id != full.id) {
        copy.lose(&Repository::object_name(row));
    }
    let reader = days.vault.owner.reader(Arc::new(copy), &days.vault.empty_state()).unwrap();
    reader.sync().unwrap();
    assert_restores(&reader, full, &one(&dump_on(7)));
}

/// Plain bytes that a restore of a stream alone decodes, beside its size, for those streams whose number is chosen.
fn decodes(writer: &Repository, row: &SnapshotRow, chosen: impl Fn(usize) -> bool) -> BTreeMap<String, (u64, u64)> {
    let recipe = writer.recipe(&row.id).unwrap();
    let decoded = |stream: &varu::format::recipe::Stream| writer.needed_by(&recipe.packs, stream).unwrap().decoded;
    let streams = recipe.streams.iter().enumerate().filter(|(number, _)| chosen(*number));
    streams.map(|(_, stream)| (stream.entry.name.to_string(), (decoded(stream), stream.entry.size))).collect()
}

/// Most bytes that a restore of one stream may decode: a tenth of a second's work, or six times its size.
fn most_decoded(size: u64) -> u64 {
    (6 * size).max(64 << 20)
}

#[test]
fn one_table_decodes_at_most_six_times_its_size() {
    let days = Days::new();
    let mut tables = [Table::new("quiet", 20_000), Table::new("busy", 20_000), Table::new("hot", 90_000)];
    let mut random = Random(5);
    let (mut largest, last) = (0, if long() { 28 } else { 14 });
    for day in 0..last {
        let streams: Streams = tables
            .iter()
            .map(|table| (table.name.to_owned(), dump(std::slice::from_ref(table), Form::Extended)))
            .collect();
        let (report, added) = days.next(&streams);
        let decodes = decodes(&days.writer, &report.snapshot, |_| true);
        let times = |name: &str| decodes[name].0 as f64 / decodes[name].1 as f64;
        println!(
            "day {day:>2}: added {added:>8}, decoded × {:.1} quiet, {:.1} busy, {:.1} hot",
            times("quiet"),
            times("busy"),
            times("hot")
        );
        for (name, (decoded, size)) in &decodes {
            assert!(*decoded <= most_decoded(*size), "day {day}: {name} has {size} bytes and decodes {decoded}");
        }
        largest = largest.max(decodes["hot"].0 / decodes["hot"].1);
        if day + 1 == last {
            days.restores(&report.snapshot, &streams);
        }
        tables[0].change(20, &mut random);
        tables[1].change(200, &mut random);
        tables[2].change(30_000, &mut random);
    }
    assert!(largest >= 4, "without a bound it would be more");
}

#[test]
fn a_small_file_of_a_large_tree_decodes_at_most_64_mib() {
    let files = if long() { 100_000 } else { 15_000 };
    let days = Days::new();
    let content = |file: usize, version: u64| {
        let mut bytes = format!("file {file}, version {version}\n").into_bytes();
        let mut random = Random(file as u64);
        while bytes.len() < 5000 {
            bytes.extend_from_slice(format!("{:x} ", random.draw() & 0xffff).as_bytes());
        }
        bytes
    };
    let mut streams: Streams = (0..files).map(|file| (format!("{file:06}"), content(file, 0))).collect();
    let mut random = Random(6);
    for day in 1..=14 {
        let (report, added) = days.next(&streams);
        let sample = decodes(&days.writer, &report.snapshot, |number| number % (files / 300) == 0);
        let worst = sample.into_values().max().unwrap();
        println!("day {day:>2}: added {added:>8}, {} bytes decoded for a file of {}", worst.0, worst.1);
        assert!(worst.0 <= 64 << 20, "day {day}: {} bytes decoded for a file of {}", worst.0, worst.1);
        for _ in 0..files / 10 {
            let file = random.below(files);
            streams.insert(format!("{file:06}"), content(file, day));
        }
    }
}
