//! Extraction: a tree is restored exactly, nothing leaves its folder, and nothing is overwritten unasked.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use varu::entry::{Entry, FileTime, Hole, Kind, Metadata};
use varu::source::files::extract::{Begin, Error, ExtractOptions, Extractor, Overwrite, OwnerMapping};

use crate::trees::*;

const MTIME: FileTime = FileTime { seconds: 1_700_000_000, nanoseconds: 42 };

fn metadata(mode: u32) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Metadata { mode, uid, gid, mtime: MTIME, ..Metadata::default() }
}

fn entry(path: &str, kind: Kind) -> Entry {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let metadata = (!matches!(kind, Kind::Hardlink(_) | Kind::Data)).then(|| metadata(mode));
    Entry { name: name(path), kind, size: 0, metadata }
}

fn file(path: &str, content: &str) -> Entry {
    Entry { size: content.len() as u64, ..entry(path, Kind::File) }
}

fn overwriting(overwrite: Overwrite) -> ExtractOptions {
    ExtractOptions { overwrite, ..ExtractOptions::default() }
}

fn into(top: &Path) -> Extractor {
    Extractor::create(top, ExtractOptions::default()).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_with_every_kind_of_entry_comes_back_identical() {
    let (_guard, top) = scratch();
    let (a, b) = (top.join("a"), top.join("b"));
    fs::create_dir(&a).unwrap();
    make_everything(&a);
    let walked = walk(source_of(&a));
    assert_eq!((&walked.skipped, &walked.warnings), (&vec![], &vec![]));
    let (errors, reports) = extract(&walked, &b, stripping(&top));
    assert_eq!((errors, reports), (vec![], vec![]));
    let copy = b.join("a");
    assert_eq!(differences(&a, &copy), "");
    for sparse in ["sparse at its start", "sparse in between", "sparse at its end", "nothing but a hole", "large"] {
        assert_eq!(hole_map(&a.join(sparse)), hole_map(&copy.join(sparse)), "{sparse}");
    }
    let inode = |path: &str| fs::symlink_metadata(copy.join(path)).unwrap().ino();
    assert_eq!(inode("hard 1"), inode("folders/empty.hard 3"));
    assert_eq!(inode("link"), inode("link's other name"));
    assert_eq!(inode("fifo"), inode("fifo's other name"));
    assert!(fs::symlink_metadata(copy.join("socket")).unwrap().file_type().is_socket());
    let again = walk(source_of(&copy));
    for (old, new) in walked.entries.iter().zip(&again.entries) {
        let strip = |metadata: &Option<Metadata>| {
            let metadata = metadata.clone();
            metadata.map(|metadata| Metadata { ctime: FileTime::default(), inode: 0, ..metadata })
        };
        assert_eq!(strip(&old.metadata), strip(&new.metadata), "{}", new.name);
    }
    assert_eq!(walked.contents, again.contents);
}

#[test]
fn the_comparison_itself_sees_a_difference() {
    let (_guard, top) = scratch();
    for side in ["a", "b"] {
        fs::create_dir(top.join(side)).unwrap();
        fs::write(top.join(side).join("f"), "x").unwrap();
        set_mtime(&top.join(side).join("f"), 1, 1);
        set_mtime(&top.join(side), 1, 1);
    }
    assert_eq!(differences(&top.join("a"), &top.join("b")), "");
    set_mtime(&top.join("b/f"), 1, 2);
    assert!(differences(&top.join("a"), &top.join("b")).contains(" f"));
}

#[test]
fn a_link_of_the_same_snapshot_is_not_followed() {
    let (_guard, top) = scratch();
    let (dir, outside) = (top.join("dir"), top.join("outside"));
    fs::create_dir(&outside).unwrap();
    let mut extractor = into(&dir);
    for target in [outside.to_str().unwrap(), "../outside", "."] {
        let _ = fs::remove_file(dir.join("link"));
        extractor.place(&entry("link", Kind::Symlink(target.into()))).unwrap();
        for hostile in [
            put(&mut extractor, &file("link/f", "x"), b"x"),
            extractor.place(&entry("link/sub", Kind::Directory)),
            extractor.place(&entry("link/sub/deep", Kind::Fifo)),
            extractor.place(&entry("link", Kind::Directory)),
        ] {
            let error = hostile.unwrap_err();
            assert!(matches!(error, Error::InTheWay { found: "a symbolic link", .. }));
            assert!(error.to_string().contains("dir/link is a symbolic link"), "{error}");
        }
    }
    assert_eq!(extractor.finish(), Vec::<String>::new());
    assert_eq!(names_in(&outside), Vec::<String>::new());
    assert_eq!(names_in(&dir), ["link"]);
}

#[test]
fn a_link_that_was_there_before_is_not_followed_and_an_absolute_one_is_kept_as_it_is() {
    let (_guard, top) = scratch();
    let (dir, outside) = (top.join("dir"), top.join("outside"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, dir.join("etc")).unwrap();
    symlink(outside.join("new"), dir.join("file")).unwrap();
    let mut extractor = Extractor::create(&dir, overwriting(Overwrite::Always)).unwrap();
    assert!(put(&mut extractor, &file("etc/passwd", "x"), b"x").is_err());
    put(&mut extractor, &file("file", "x"), b"x").unwrap();
    extractor.place(&entry("absolute", Kind::Symlink(b"/etc/shadow".to_vec()))).unwrap();
    extractor.finish();
    assert_eq!(names_in(&outside), Vec::<String>::new());
    assert_eq!(fs::read_link(dir.join("absolute")).unwrap(), Path::new("/etc/shadow"));
    assert!(fs::symlink_metadata(dir.join("file")).unwrap().is_file(), "the link itself was replaced");
}

#[test]
fn hard_links_reach_nothing_through_links() {
    let (_guard, top) = scratch();
    let (dir, outside) = (top.join("dir"), top.join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let mut extractor = into(&dir);
    extractor.place(&entry("link", Kind::Symlink(b"../outside".to_vec()))).unwrap();
    extractor.place(&entry("secret link", Kind::Symlink(b"../outside/secret".to_vec()))).unwrap();
    let error = extractor.place(&entry("hard", Kind::Hardlink(name("link/secret")))).unwrap_err();
    assert!(error.to_string().contains("dir/link is a symbolic link"), "{error}");
    let error = extractor.place(&entry("hard", Kind::Hardlink(name("not there")))).unwrap_err();
    assert!(error.to_string().contains("not there, is not there"), "{error}");
    extractor.place(&entry("hard", Kind::Hardlink(name("secret link")))).unwrap();
    assert!(
        fs::symlink_metadata(dir.join("hard")).unwrap().is_symlink(),
        "a name of the link, not of what it points to"
    );
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
    assert!(extractor.place(&entry("hard 2", Kind::Hardlink(name("link/..x")))).is_err());
}

#[test]
fn hostile_metadata_does_no_harm() {
    let (_guard, top) = scratch();
    let mut extractor = into(&top);
    let hole = |offset, length| Hole { offset, length };
    let holes = vec![hole(2, u64::MAX), hole(0, 4), hole(u64::MAX, u64::MAX), hole(1, 0)];
    let mut hostile = file("f", "content");
    hostile.metadata = Some(Metadata { holes, uid: u32::MAX, mode: u32::MAX, ..metadata(0o644) });
    hostile.metadata.as_mut().unwrap().mtime = FileTime { seconds: i64::MAX, nanoseconds: u32::MAX };
    let far = put(&mut extractor, &hostile, b"content").unwrap_err();
    assert!(far.to_string().starts_with("writing"), "{far}");
    hostile.metadata.as_mut().unwrap().holes.clear();
    put(&mut extractor, &hostile, b"content").unwrap();
    assert_eq!(fs::read(top.join("f")).unwrap(), b"content");
    assert_eq!(fs::metadata(top.join("f")).unwrap().mode() & 0o7777, 0o1777, "no setuid without the owner");
    let short = put(&mut extractor, &file("short", "content"), b"cont").unwrap_err();
    assert!(short.to_string().ends_with("4 bytes came, and the entry says 7"), "{short}");
    assert!(extractor.begin(&entry("x", Kind::Fifo)).is_err());
    assert!(extractor.place(&entry("x", Kind::File)).is_err());
    assert!(extractor.finish().iter().any(|line| line.starts_with("the owner or group could not be set")));
    assert_eq!(names_in(&top), ["f"]);
}

/// A folder with a file that was kept (`same`), one that was changed, and something else under each name.
fn prepare(dir: &Path) {
    fs::create_dir_all(dir.join("folder")).unwrap();
    fs::write(dir.join("same"), "SAME").unwrap();
    set_mtime(&dir.join("same"), MTIME.seconds, MTIME.nanoseconds);
    fs::write(dir.join("changed"), "old").unwrap();
    fs::write(dir.join("link"), "a file where a link comes").unwrap();
    set_mode(&dir.join("folder"), 0o700);
}

/// Extracts over [`prepare`]. The contents of the files, the number of errors, the reports, the mode of the folder.
fn overwritten(overwrite: Overwrite) -> ([String; 2], bool, usize, Vec<String>, u32) {
    let (_guard, top) = scratch();
    prepare(&top);
    let mut extractor = Extractor::create(&top, overwriting(overwrite)).unwrap();
    let results = [
        extractor.place(&entry("folder", Kind::Directory)),
        put(&mut extractor, &file("same", "same"), b"same"),
        put(&mut extractor, &file("changed", "new"), b"new"),
        extractor.place(&entry("link", Kind::Symlink(b"new".to_vec()))),
    ];
    let reports = extractor.finish();
    let read = |path: &str| fs::read_to_string(top.join(path)).unwrap();
    let is_link = fs::symlink_metadata(top.join("link")).unwrap().is_symlink();
    let errors = results.iter().filter(|result| matches!(result, Err(Error::Exists { .. }))).count();
    assert_eq!(errors, results.iter().filter(|result| result.is_err()).count());
    assert_eq!(names_in(&top), ["changed", "folder", "link", "same"]);
    let mode = fs::metadata(top.join("folder")).unwrap().mode() & 0o777;
    ([read("same"), read("changed")], is_link, errors, reports, mode)
}

#[test]
fn nothing_is_overwritten_unless_it_was_chosen() {
    let (contents, link, errors, reports, mode) = overwritten(Overwrite::Refuse);
    assert_eq!((contents, link, errors, mode), (["SAME".into(), "old".into()], false, 3, 0o700));
    assert!(reports.len() == 1 && reports[0].starts_with("folders that were there already keep"), "{reports:?}");

    let (contents, link, errors, reports, mode) = overwritten(Overwrite::Never);
    assert_eq!((contents, link, errors, mode), (["SAME".into(), "old".into()], false, 0, 0o700));
    assert_eq!(reports, Vec::<String>::new());

    let (contents, link, errors, _, mode) = overwritten(Overwrite::Changed);
    assert_eq!((contents, link, errors, mode), (["SAME".into(), "new".into()], true, 0, 0o755));

    let (contents, link, errors, _, mode) = overwritten(Overwrite::Always);
    assert_eq!((contents, link, errors, mode), (["same".into(), "new".into()], true, 0, 0o755));
}

#[test]
fn whether_an_entry_is_wanted_is_told_by_looking_alone() {
    let (_guard, top) = scratch();
    fs::write(top.join("same"), "same").unwrap();
    set_mtime(&top.join("same"), MTIME.seconds, MTIME.nanoseconds);
    fs::write(top.join("changed"), "old").unwrap();
    std::os::unix::fs::symlink("/", top.join("link")).unwrap();
    let entries =
        [file("same", "same"), file("changed", "new"), file("missing/f", "x"), entry("folder", Kind::Directory)];
    let wanted = |overwrite| {
        let mut extractor = Extractor::create(&top, overwriting(overwrite)).unwrap();
        assert!(matches!(extractor.wants(&file("link/f", "x")), Err(Error::InTheWay { .. })));
        let wanted = entries.each_ref().map(|entry| match extractor.wants(entry) {
            Ok(wanted) => wanted.to_string(),
            Err(Error::Exists { .. }) => "exists".to_owned(),
            Err(error) => panic!("{error}"),
        });
        assert_eq!(extractor.finish(), Vec::<String>::new());
        wanted.join(" ")
    };
    assert_eq!(wanted(Overwrite::Refuse), "exists exists true true");
    assert_eq!(wanted(Overwrite::Never), "false false true true");
    assert_eq!(wanted(Overwrite::Changed), "false true true true");
    assert_eq!(wanted(Overwrite::Always), "true true true true");
    assert_eq!(names_in(&top), ["changed", "link", "same"]);
    let stripping = ExtractOptions { strip_components: 1, ..ExtractOptions::default() };
    let mut extractor = Extractor::create(&top, stripping).unwrap();
    assert!(matches!(extractor.wants(&file("new", "x")), Err(Error::NothingLeft)));
}

#[test]
fn what_comes_to_be_there_while_a_file_is_written_is_not_overwritten() {
    let (_guard, top) = scratch();
    let mut extractor = into(&top);
    let Begin::Write(mut writer) = extractor.begin(&file("f", "new")).unwrap() else { panic!() };
    writer.write(b"new").unwrap();
    fs::write(top.join("f"), "theirs").unwrap();
    assert!(matches!(writer.finish(), Err(Error::Exists { .. })));
    assert_eq!(fs::read(top.join("f")).unwrap(), b"theirs");
    assert_eq!(names_in(&top), ["f"]);
}

#[test]
fn a_folder_and_a_file_never_replace_each_other() {
    let (_guard, top) = scratch();
    fs::create_dir(top.join("folder")).unwrap();
    fs::write(top.join("file"), "x").unwrap();
    let mut extractor = Extractor::create(&top, overwriting(Overwrite::Always)).unwrap();
    let error = put(&mut extractor, &file("folder", "x"), b"x").unwrap_err();
    assert!(error.to_string().contains("/folder is a folder and is in the way"), "{error}");
    let error = extractor.place(&entry("file", Kind::Directory)).unwrap_err();
    assert!(error.to_string().contains("/file is a file and is in the way"), "{error}");
    let error = put(&mut extractor, &file("file/x", "x"), b"x").unwrap_err();
    assert!(error.to_string().contains("/file is a file and is in the way"), "{error}");
}

#[test]
fn no_hard_link_is_made_to_content_that_is_not_the_snapshots() {
    let (_guard, top) = scratch();
    fs::write(top.join("a"), "theirs").unwrap();
    let mut extractor = Extractor::create(&top, overwriting(Overwrite::Never)).unwrap();
    put(&mut extractor, &file("a", "ours"), b"ours").unwrap();
    extractor.place(&entry("b", Kind::Hardlink(name("a")))).unwrap();
    let reports = extractor.finish();
    assert!(reports.len() == 1 && reports[0].starts_with("hard links were not made"), "{reports:?}");

    let mut extractor = Extractor::create(&top, overwriting(Overwrite::Always)).unwrap();
    assert!(put(&mut extractor, &file("a", "ours"), b"ou").is_err());
    extractor.place(&entry("b", Kind::Hardlink(name("a")))).unwrap();
    assert_eq!(extractor.finish().len(), 1);
    assert_eq!(names_in(&top), ["a"]);
}

#[test]
fn a_hard_link_that_is_there_already_stays_without_a_trace() {
    let (_guard, top) = scratch();
    for _ in 0..2 {
        let mut extractor = Extractor::create(&top, overwriting(Overwrite::Changed)).unwrap();
        put(&mut extractor, &file("a", "x"), b"x").unwrap();
        extractor.place(&entry("b", Kind::Hardlink(name("a")))).unwrap();
        assert_eq!(extractor.finish(), Vec::<String>::new());
    }
    assert_eq!(names_in(&top), ["a", "b"]);
    assert_eq!(fs::metadata(top.join("b")).unwrap().nlink(), 2);
}

#[test]
fn components_are_taken_off_as_tar_does() {
    let (_guard, top) = scratch();
    let options = ExtractOptions { strip_components: 2, ..ExtractOptions::default() };
    let mut extractor = Extractor::create(&top, options).unwrap();
    extractor.place(&entry("srv", Kind::Directory)).unwrap();
    extractor.place(&entry("srv/www", Kind::Directory)).unwrap();
    extractor.place(&entry("srv/www/site", Kind::Directory)).unwrap();
    put(&mut extractor, &file("srv/www/site/index", "x"), b"x").unwrap();
    extractor.place(&entry("srv/www/site/second", Kind::Hardlink(name("srv/www/site/index")))).unwrap();
    assert!(matches!(extractor.begin(&file("srv/x", "x")), Ok(Begin::Skip)));
    assert!(extractor.place(&entry("srv/www/third", Kind::Hardlink(name("srv/x")))).is_err());
    extractor.finish();
    assert_eq!(names_in(&top), ["site"]);
    assert_eq!(names_in(&top.join("site")), ["index", "second"]);
}

#[test]
fn folders_that_lead_to_an_entry_are_made() {
    let (_guard, top) = scratch();
    let mut extractor = into(&top.join("new/dir"));
    put(&mut extractor, &file("var/backups/f", "x"), b"x").unwrap();
    assert_eq!(extractor.finish(), Vec::<String>::new());
    assert_eq!(fs::read(top.join("new/dir/var/backups/f")).unwrap(), b"x");
}

#[test]
fn data_of_a_program_becomes_a_private_file() {
    let (_guard, top) = scratch();
    let mut extractor = into(&top);
    put(&mut extractor, &entry("shop.sql", Kind::Data), b"CREATE TABLE").unwrap();
    extractor.finish();
    assert_eq!(fs::read(top.join("shop.sql")).unwrap(), b"CREATE TABLE");
    assert_eq!(fs::metadata(top.join("shop.sql")).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_file_that_is_given_up_leaves_nothing() {
    let (_guard, top) = scratch();
    let mut extractor = into(&top);
    let Begin::Write(mut writer) = extractor.begin(&file("f", "content")).unwrap() else { panic!() };
    writer.write(b"cont").unwrap();
    assert_eq!(names_in(&top).len(), 1, "under a temporary name");
    assert!(!top.join("f").exists());
    drop(writer);
    assert_eq!(names_in(&top), Vec::<String>::new());
}

#[test]
fn writers_work_side_by_side_in_threads() {
    let (_guard, top) = scratch();
    let mut extractor = into(&top);
    let names: Vec<String> = (0..20).map(|n| format!("d/{n}")).collect();
    let writers: Vec<_> = names.iter().map(|path| (path, extractor.begin(&file(path, path)).unwrap())).collect();
    std::thread::scope(|scope| {
        for (path, begin) in writers {
            scope.spawn(move || {
                let Begin::Write(mut writer) = begin else { panic!() };
                writer.write(path.as_bytes()).unwrap();
                writer.finish().unwrap();
            });
        }
    });
    assert_eq!(extractor.finish(), Vec::<String>::new());
    assert!(names.iter().all(|path| fs::read_to_string(top.join(path)).unwrap() == *path));
}

#[test]
fn an_acl_of_the_folder_above_is_not_inherited() {
    let (_guard, top) = scratch();
    set_acl(&top, &["-m", "d:u:4711:rwx,d:o::rwx"]);
    let mut extractor = into(&top);
    extractor.place(&entry("d", Kind::Directory)).unwrap();
    put(&mut extractor, &file("d/f", "x"), b"x").unwrap();
    assert_eq!(extractor.finish(), Vec::<String>::new());
    let walked = walk(source_of(&top.join("d")));
    for (entry, mode) in walked.entries.iter().zip([0o755, 0o644]) {
        let metadata = entry.metadata.as_ref().unwrap();
        assert_eq!((metadata.mode, metadata.xattrs.len()), (mode, 0), "{}", entry.name);
    }
}

#[test]
fn an_ordinary_user_restores_what_is_possible_and_is_told_the_rest() {
    let (_guard, top) = scratch();
    let owned_by_root = |kind: Kind, mode| {
        let metadata = Metadata { uid: 0, gid: 0, mode, mtime: MTIME, ..Metadata::default() };
        Entry { name: name("x"), kind, size: 0, metadata: Some(metadata) }
    };
    let (reports, errors) = as_user(|| {
        let mut extractor = into(&top.join("out"));
        let mut errors = Vec::new();
        let named = |path: &str, entry: Entry| Entry { name: name(path), ..entry };
        let mut closed = named("closed", owned_by_root(Kind::Directory, 0o000));
        closed.metadata.as_mut().unwrap().mtime.nanoseconds = 7;
        errors.extend(extractor.place(&closed).err());
        errors.extend(extractor.place(&named("closed/sub", owned_by_root(Kind::Directory, 0o500))).err());
        for n in 0..50 {
            let file = named(&format!("closed/sub/{n:02}"), owned_by_root(Kind::File, 0o6555));
            errors.extend(put(&mut extractor, &file, b"").err());
        }
        let device = named("device", owned_by_root(Kind::CharDevice(1, 3), 0o666));
        errors.extend(extractor.place(&device).err());
        (extractor.finish(), errors)
    });
    assert!(errors.is_empty(), "{errors:?}");
    let line =
        |start: &str| reports.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{reports:?}"));
    assert!(line("the owner or group could not be set").contains("and 49 more"));
    assert!(line("setuid and setgid bits were left out").contains("out/closed/sub/00, "));
    assert!(line("devices could not be made").contains("out/device"));
    assert_eq!(reports.len(), 3, "{reports:?}");
    let closed = fs::metadata(top.join("out/closed")).unwrap();
    assert_eq!((closed.mode() & 0o7777, closed.mtime_nsec()), (0o000, 7));
    if !is_root() {
        set_mode(&top.join("out/closed"), 0o700);
    }
    let file = fs::metadata(top.join("out/closed/sub/49")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime_nsec()), (0o555, 42));
    if is_root() {
        assert_eq!(file.uid(), 4711, "the work was done as another user");
    }
}

#[test]
fn owners_go_by_name_before_number() {
    if !is_root() {
        return;
    }
    let (_guard, top) = scratch();
    let owned = |owners| {
        let options = ExtractOptions { owners, overwrite: Overwrite::Always, ..ExtractOptions::default() };
        let mut extractor = Extractor::create(&top, options).unwrap();
        let mut entry = file("f", "x");
        let names =
            Metadata { uid: 777, gid: 778, user: b"daemon".into(), group: b"no such".into(), ..metadata(0o644) };
        entry.metadata = Some(names);
        put(&mut extractor, &entry, b"x").unwrap();
        assert_eq!(extractor.finish(), Vec::<String>::new());
        let stat = fs::metadata(top.join("f")).unwrap();
        (stat.uid(), stat.gid())
    };
    assert_eq!(owned(OwnerMapping::Here), (1, 778));
    assert_eq!(owned(OwnerMapping::Numeric), (777, 778));
}

#[test]
fn a_full_disk_is_told_from_what_concerns_one_entry() {
    if !is_root() {
        return;
    }
    let (_guard, top) = scratch();
    fs::create_dir(top.join("small")).unwrap();
    let _mounted = Mounted::new("tmpfs", &top.join("small"));
    let remount = ["-o", "remount,size=64k"];
    assert!(std::process::Command::new("mount").args(remount).arg(top.join("small")).status().unwrap().success());
    let mut extractor = Extractor::create(&top.join("small"), overwriting(Overwrite::Always)).unwrap();
    let content = "x".repeat(200_000);
    let error = put(&mut extractor, &file("f", &content), content.as_bytes()).unwrap_err();
    assert!(error.is_fatal(), "{error}");
    assert_eq!(names_in(&top.join("small")), Vec::<String>::new());
    fs::create_dir(top.join("small/folder")).unwrap();
    assert!(!put(&mut extractor, &file("folder", "x"), b"x").unwrap_err().is_fatal());
}
