//! The source of files: its entries, their metadata, and its reports of unreadable ones.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::FileType;
use varu::entry::{Kind, unchanged};
use varu::source::command::CommandSource;
use varu::source::files::extract::{Extractor, FileWriter};
use varu::source::files::{FilesOptions, FilesSource, check_exclude};
use varu::source::stdin::StdinSource;
use varu::source::{Error, Source};
use varu::time::{Clock, SystemClock, Timestamp};
use varu::warning::WarningKind;

use crate::trees::*;

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, path.as_os_str().as_encoded_bytes()).unwrap();
}

/// The source, after it gave the entry whose name ends so.
fn at(path: &Path, end: &str) -> FilesSource {
    let mut source = source_of(path);
    while !source.next().unwrap().unwrap().name.as_bytes().ends_with(end.as_bytes()) {}
    source
}

fn skipped_with(error: Error) -> String {
    assert!(matches!(error, Error::Skipped { .. }));
    error.to_string()
}

#[test]
fn entries_come_sorted_by_components_with_folders_before_what_is_in_them() {
    let (_guard, top) = scratch();
    for path in ["b", "a/z", "a/b/c", "a.b", "a-b", "a/b.c"] {
        touch(&top.join(path));
    }
    let walked = walk(source_of(&top));
    assert_eq!(walked.names(&top), ["", "a", "a/b", "a/b/c", "a/b.c", "a/z", "a-b", "a.b", "b"]);
    assert_eq!(walked.skipped.len() + walked.warnings.len(), 0);
    let expected = top.join("a/b/c").as_os_str().as_encoded_bytes()[1..].to_vec();
    assert_eq!(walked.entries[3].name.as_bytes(), expected, "absolute, without the first slash");
}

#[test]
fn paths_may_overlap_and_each_entry_comes_once() {
    let (_guard, top) = scratch();
    for path in ["a/b/c", "a/d", "e/f"] {
        touch(&top.join(path));
    }
    let paths = ["a/b", "e/f", "a", "a/../a/b/c"].map(|path| top.join(path)).to_vec();
    let walked = walk(source(FilesOptions { paths, ..FilesOptions::default() }));
    assert_eq!(walked.names(&top), ["a", "a/b", "a/b/c", "a/d", "e/f"], "the folder e was not given");
    let above = |end: &str| walked.above.iter().any(|entry| entry.name.as_bytes().ends_with(end.as_bytes()));
    assert!(above("/e") && !above("/a"), "only the metadata of e is stored");
}

#[test]
fn a_given_path_is_stored_where_the_rules_would_leave_it_out() {
    let (_guard, top) = scratch();
    for path in ["keep/x", "out/x", "out/deep/given/x", "out/deep/y"] {
        touch(&top.join(path));
    }
    let options = FilesOptions {
        paths: vec![top.clone(), top.join("out/deep/given")],
        exclude: vec!["out/".into()],
        one_file_system: false,
        ..FilesOptions::default()
    };
    let names = walk(source(options)).names(&top);
    assert_eq!(names, ["", "keep", "keep/x", "out/deep/given", "out/deep/given/x"]);
}

#[test]
fn excludes_are_those_of_git() {
    let (_guard, top) = scratch();
    for path in ["a.tmp", "keep.tmp", "cache/x", "sub/cache/x", "sub/file", "sub/cache.txt"] {
        touch(&top.join(path));
    }
    let absolute = format!("{}/sub/file", top.display());
    let exclude = ["*.tmp", "!keep.tmp", "cache/", &absolute].map(String::from).to_vec();
    let options = FilesOptions { paths: vec![top.clone()], exclude, one_file_system: false, ..FilesOptions::default() };
    assert_eq!(walk(source(options)).names(&top), ["", "keep.tmp", "sub", "sub/cache.txt"]);
}

#[test]
fn of_a_tagged_cache_only_the_tag_is_stored_where_that_is_asked_for() {
    let (_guard, top) = scratch();
    for path in ["cache/a", "cache/sub/b", "fake/a"] {
        touch(&top.join(path));
    }
    let signature = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test";
    fs::write(top.join("cache/CACHEDIR.TAG"), signature).unwrap();
    fs::write(top.join("fake/CACHEDIR.TAG"), "Signature: none").unwrap();
    let expected = ["", "cache", "cache/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/a"];
    let of = |path: &Path, exclude_caches| {
        walk(source(FilesOptions { paths: vec![path.to_owned()], exclude_caches, ..FilesOptions::default() }))
    };
    assert_eq!(of(&top, true).names(&top), expected);
    assert_eq!(of(&top.join("cache"), true).entries.len(), 5, "given by its own path");
    assert_eq!(of(&top, false).entries.len(), 9);
}

#[test]
fn mount_points_are_empty_folders_on_one_file_system() {
    if !is_root() {
        return;
    }
    let (_guard, top) = scratch();
    fs::create_dir_all(top.join("mnt")).unwrap();
    touch(&top.join("z"));
    let _mounted = Mounted::new("tmpfs", &top.join("mnt"));
    touch(&top.join("mnt/inside"));
    let names = |one_file_system, extra: &[&str]| {
        let mut paths = vec![top.clone()];
        paths.extend(extra.iter().map(|path| top.join(path)));
        walk(source(FilesOptions { paths, one_file_system, ..FilesOptions::default() })).names(&top)
    };
    assert_eq!(names(true, &[]), ["", "mnt", "z"]);
    assert_eq!(names(false, &[]), ["", "mnt", "mnt/inside", "z"]);
    assert_eq!(names(true, &["mnt"]), ["", "mnt", "mnt/inside", "z"], "given by its own path");
}

#[test]
fn file_systems_of_the_kernels_own_making_are_empty_folders() {
    if !is_root() {
        return;
    }
    let (_guard, top) = scratch();
    fs::create_dir_all(top.join("proc")).unwrap();
    let _mounted = Mounted::new("proc", &top.join("proc"));
    assert_eq!(walk(source_of(&top)).names(&top), ["", "proc"]);
}

#[test]
fn metadata_is_what_stat_says() {
    let (_guard, top) = scratch();
    let file = top.join("f");
    touch(&file);
    set_mode(&file, 0o4751);
    set_mtime(&file, 1_700_000_000, 123_456_789);
    set_xattr(&file, "user.b", b"2");
    set_xattr(&file, "user.a", b"1");
    let walked = walk(source_of(&file));
    let (stat, metadata) = (fs::metadata(&file).unwrap(), walked.entries[0].metadata.clone().unwrap());
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o4751, stat.uid(), stat.gid()));
    assert_eq!((metadata.mtime.seconds, metadata.mtime.nanoseconds), (1_700_000_000, 123_456_789));
    assert_eq!((metadata.ctime.seconds, metadata.inode), (stat.ctime(), stat.ino()));
    let xattrs: Vec<_> = metadata.xattrs.iter().map(|xattr| (&xattr.name[..], &xattr.value[..])).collect();
    assert_eq!(xattrs, [(&b"user.a"[..], &b"1"[..]), (b"user.b", b"2")]);
    if stat.uid() == 0 {
        assert_eq!((&metadata.user[..], &metadata.group[..]), (&b"root"[..], &b"root"[..]));
    }
}

#[test]
fn holes_are_in_the_metadata_and_not_in_the_content() {
    let (_guard, top) = scratch();
    let file = File::create(top.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    (&file).write_all(&[7; 4096]).unwrap();
    let mut source = source_of(&top.join("sparse"));
    let entry = first(&mut source);
    let holes = entry.holes();
    assert_eq!((holes.len(), holes[0].offset, holes[0].length), (1, 4096, (1 << 30) - 4096));
    assert_eq!((entry.size, entry.length()), (4096, 1 << 30));
    let mut buffer = vec![1; 1 << 20];
    assert_eq!(source.read(&mut buffer).unwrap(), 4096);
    assert!(buffer[..4096].iter().all(|&byte| byte == 7));
    assert_eq!(source.end().unwrap().length(), 1 << 30);
}

#[test]
fn further_names_of_an_inode_are_hard_links_to_the_first() {
    let (_guard, top) = scratch();
    touch(&top.join("b/first"));
    fs::hard_link(top.join("b/first"), top.join("c")).unwrap();
    fs::hard_link(top.join("b/first"), top.join("d")).unwrap();
    let walked = walk(source_of(&top));
    let first = walked.entry("b/first");
    assert_eq!(first.kind, Kind::File);
    for further in ["c", "d"] {
        let entry = walked.entry(&format!("/{further}"));
        assert_eq!(entry.kind, Kind::Hardlink(first.name.clone()));
        assert_eq!((entry.size, &entry.metadata), (0, &None));
    }
}

#[test]
fn the_next_name_of_a_file_whose_first_name_went_is_its_first() {
    let (_guard, top) = scratch();
    touch(&top.join("a"));
    fs::hard_link(top.join("a"), top.join("b")).unwrap();
    fs::hard_link(top.join("a"), top.join("c")).unwrap();
    let mut source = at(&top, "/a");
    fs::remove_file(top.join("a")).unwrap();
    source.read(&mut [0; 8]).unwrap_err();
    let second = source.next().unwrap().unwrap();
    assert_eq!(second.kind, Kind::File);
    assert_eq!(source.next().unwrap().unwrap().kind, Kind::Hardlink(second.name));
}

#[test]
fn a_file_that_vanishes_is_named_and_the_rest_goes_on() {
    let (_guard, top) = scratch();
    for path in ["a", "b", "c"] {
        touch(&top.join(path));
    }
    let mut source = at(&top, "/a");
    fs::remove_file(top.join("a")).unwrap();
    fs::remove_file(top.join("b")).unwrap();
    let error = source.read(&mut [0; 8]).unwrap_err();
    assert!(matches!(&error, Error::Vanished(name) if name.as_bytes().ends_with(b"/a")), "{error}");
    assert!(source.next().unwrap().unwrap().name.as_bytes().ends_with(b"/c"));
    let warnings = source.warnings();
    assert!(warnings.len() == 1 && warnings[0].text.contains("/b can't be looked at"), "{warnings:?}");
    assert_eq!(warnings[0].kind, WarningKind::Vanished, "apart from what can't be read");
    assert_eq!(source.next().unwrap(), None);
    source.finish().unwrap();
}

#[test]
fn what_is_swapped_in_is_neither_followed_nor_waited_for() {
    let (_guard, top) = scratch();
    fs::write(top.join("secret"), "secret").unwrap();
    touch(&top.join("a"));
    let mut source = at(&top, "/a");
    fs::remove_file(top.join("a")).unwrap();
    make_node(&top.join("a"), FileType::Fifo, (0, 0));
    let error = skipped_with(source.read(&mut [0; 8]).unwrap_err());
    assert!(error.contains("isn't a regular file any more"), "{error}");

    fs::remove_file(top.join("a")).unwrap();
    touch(&top.join("a"));
    let mut source = at(&top, "/a");
    fs::remove_file(top.join("a")).unwrap();
    symlink("secret", top.join("a")).unwrap();
    let error = skipped_with(source.read(&mut [0; 8]).unwrap_err());
    assert!(error.contains("became a symbolic link"), "{error}");
}

#[test]
fn a_folder_that_became_a_link_is_not_followed() {
    let (_guard, top) = scratch();
    touch(&top.join("a/inside"));
    touch(&top.join("outside/secret"));
    let mut source = at(&top, "/a");
    fs::rename(top.join("a"), top.join("was a")).unwrap();
    symlink("outside", top.join("a")).unwrap();
    assert!(source.next().unwrap().unwrap().name.as_bytes().ends_with(b"/outside"));
    let warnings = source.warnings();
    assert!(warnings.len() == 1 && warnings[0].text.contains("/a can't be opened, and what is in it"), "{warnings:?}");
}

#[test]
fn sources_and_writers_can_work_in_threads() {
    fn can<T: Send>() {}
    can::<FilesSource>();
    can::<StdinSource<std::io::Stdin>>();
    can::<CommandSource>();
    can::<Extractor>();
    can::<FileWriter>();
}

#[test]
fn a_file_that_was_replaced_before_it_is_read_is_stored_as_it_is_now() {
    let (_guard, top) = scratch();
    touch(&top.join("a"));
    let mut source = at(&top, "/a");
    fs::write(top.join("new"), "another").unwrap();
    set_xattr(&top.join("new"), "user.new", b"1");
    fs::rename(top.join("new"), top.join("a")).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(source.read(&mut buffer).unwrap(), 7);
    assert_eq!(source.read(&mut buffer).unwrap(), 0);
    let entry = source.end().unwrap();
    let metadata = entry.metadata.unwrap();
    assert_eq!((entry.size, metadata.inode), (7, fs::metadata(top.join("a")).unwrap().ino()));
    assert_eq!(metadata.xattrs.len(), 1);
    assert!(source.warnings().is_empty());
}

/// Reads a file of 200 kB in two halves, with `change` in between. The entry at the end, what was read, and the warnings.
fn changed_by(change: impl FnOnce(&Path)) -> (varu::entry::Entry, Vec<u8>, Vec<String>, bool) {
    let (_guard, top) = scratch();
    let file = top.join("log");
    fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let mut source = at(&top, "/log");
    let mut content = vec![0; 100_000];
    assert_eq!(source.read(&mut content).unwrap(), 100_000);
    change(&file);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer).unwrap() {
            0 => break,
            n => content.extend_from_slice(&buffer[..n]),
        }
    }
    let entry = source.end().unwrap();
    let again = first(&mut source_of(&file));
    let same = unchanged(&entry, &again);
    (entry, content, source.warnings().into_iter().map(|warning| warning.text).collect(), same)
}

#[test]
fn a_file_that_changes_while_it_is_read_is_kept_and_named_and_read_again_next_time() {
    let append = |file: &Path| OpenOptions::new().append(true).open(file).unwrap().write_all(b"more").unwrap();
    let truncate = |file: &Path| OpenOptions::new().write(true).open(file).unwrap().set_len(150_000).unwrap();
    let rewrite = |file: &Path| {
        OpenOptions::new().write(true).open(file).unwrap().write_all(b"y").unwrap();
        set_mtime(file, 1_000_000_000, 0);
    };
    let changes: [&dyn Fn(&Path); 3] = [&append, &truncate, &rewrite];
    for (change, size) in changes.into_iter().zip([200_000, 150_000, 200_000]) {
        let (entry, content, warnings, same) = changed_by(change);
        assert_eq!((entry.size, content.len() as u64), (size, size));
        assert!(warnings.len() == 1 && warnings[0].contains("/log changed while it was read"), "{warnings:?}");
        assert!(!same);
    }
    let (entry, _, warnings, same) = changed_by(|_| {});
    assert_eq!((entry.size, warnings.len(), same), (200_000, 0, true));
}

#[test]
fn what_can_not_be_read_is_named_and_the_rest_is_stored() {
    let (_guard, top) = scratch();
    for path in ["closed/x", "open", "secret"] {
        touch(&top.join(path));
    }
    set_mode(&top.join("closed"), 0o000);
    set_mode(&top.join("secret"), 0o000);
    let walked = as_user(|| walk(source_of(&top)));
    set_mode(&top.join("closed"), 0o700);
    assert_eq!(walked.names(&top), ["", "closed", "open"]);
    assert!(walked.skipped.len() == 1 && walked.skipped[0].contains("/secret: can't be opened: Permission denied"));
    let warnings = &walked.warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("/closed can't be opened, and what is in it is left out"));
}

#[test]
fn a_walk_far_down_and_back_up_loses_nothing() {
    let (_guard, top) = scratch();
    let mut at = top.clone();
    for depth in 0..150 {
        touch(&at.join("z"));
        touch(&at.join("a"));
        at.push(format!("m{depth}"));
    }
    fs::create_dir(&at).unwrap();
    let walked = walk(source_of(&top));
    assert_eq!(walked.entries.len(), 1 + 150 * 3);
    assert_eq!(walked.warnings, Vec::<String>::new());
    let names: Vec<_> = walked.entries.iter().map(|entry| entry.name.components().collect::<Vec<_>>()).collect();
    assert!(names.is_sorted());
}

#[test]
fn a_folder_that_moves_away_far_below_is_named_and_the_rest_is_stored() {
    let (_guard, top) = scratch();
    let mut at = top.join("moves");
    for _ in 0..100 {
        at.push("m");
        touch(&at.join("z"));
    }
    touch(&top.join("stays"));
    let mut source = source_of(&top);
    let mut seen = 0;
    while seen < 90 {
        seen += 1;
        source.next().unwrap().unwrap();
    }
    fs::rename(top.join("moves"), top.join("moved")).unwrap();
    fs::rename(top.join("moved/m/m/m"), top.join("cut off")).unwrap();
    while let Some(entry) = source.next().unwrap() {
        seen += usize::from(entry.name.as_bytes().ends_with(b"/stays"));
    }
    assert_eq!(seen, 91, "what comes after is stored");
    let warnings = source.warnings();
    assert!(warnings.iter().any(|warning| warning.text.contains("can't be opened again")), "{warnings:?}");
    source.finish().unwrap();
}

#[test]
fn paths_longer_than_the_kernel_takes_are_stored_and_come_back() {
    let (_guard, top) = scratch();
    fs::create_dir(top.join("a")).unwrap();
    make_deep(&top.join("a"), 9000);
    let walked = walk(source_of(&top.join("a")));
    assert_eq!(walked.contents.last().unwrap(), b"deep");
    assert!(walked.entries.last().unwrap().name.as_bytes().len() > 8990);
    assert_eq!(walked.skipped.len() + walked.warnings.len(), 0);
    let (errors, reports) = extract(&walked, &top.join("b"), stripping(&top.join("a")));
    assert_eq!((errors.len(), reports.len()), (0, 0));
    let again = walk(source_of(&top.join("b")));
    assert_eq!(again.entries.len(), walked.entries.len());
    assert_eq!(again.contents, walked.contents);
}

#[test]
fn an_unchanged_tree_is_the_same_entries_and_a_changed_file_is_not() {
    let (_guard, top) = scratch();
    touch(&top.join("a"));
    touch(&top.join("b"));
    let first = walk(source_of(&top));
    assert!(unchanged(first.entry("/a"), walk(source_of(&top)).entry("/a")));
    set_mode(&top.join("a"), 0o640);
    fs::write(top.join("b"), "b").unwrap();
    let second = walk(source_of(&top));
    assert!(!unchanged(first.entry("/a"), second.entry("/a")), "its ctime changed");
    assert!(!unchanged(first.entry("/b"), second.entry("/b")));
}

#[test]
fn the_data_time_is_the_beginning_of_the_walk() {
    struct Fixed;
    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(42)
        }
    }
    let (_guard, top) = scratch();
    let options = FilesOptions { paths: vec![top], ..FilesOptions::default() };
    let mut source = FilesSource::new(&options, &Fixed).unwrap();
    assert!(source.finish().is_err(), "it wasn't walked");
    while source.next().unwrap().is_some() {}
    assert_eq!(source.finish().unwrap().data_time, Timestamp::from_seconds(42));
}

#[test]
fn where_no_path_is_there_the_whole_fails() {
    let paths = vec!["/does/not/exist".into(), "/nor/this".into()];
    let options = FilesOptions { paths, ..FilesOptions::default() };
    let error = FilesSource::new(&options, &SystemClock).err().unwrap();
    assert!(matches!(error, Error::Failed(_)) && error.to_string().contains("/does/not/exist"));
}

/// Patterns, and names that they are tried on: each with each, against git's answer.
#[test]
fn patterns_are_read_as_git_reads_them() {
    let patterns = [
        "a",
        "/a",
        "a/",
        "/a/",
        "a/b",
        "a/b/",
        "/a/b",
        "*",
        "*/",
        "/*",
        "/*/",
        "**",
        "**/",
        "/**",
        "/**/",
        "**/a",
        "**/b",
        "**/a/b",
        "a/**",
        "a/**/",
        "a/**/b",
        "a/**/b/",
        "a/*",
        "a/*/",
        "a/*/c",
        "*/b",
        "*/*",
        "*/*/c",
        "*/b/*",
        "**/*",
        "**/*.txt",
        "*.txt",
        "/*.txt",
        "a/*.txt",
        "?",
        "??",
        "a?",
        "?.txt",
        "a/?",
        "[ab]",
        "[a-c]",
        "[!a]",
        "[^a]",
        "[!a-c]*",
        "[]]",
        "[]-a]",
        "[a-]",
        "[-a]",
        "[\\]]",
        "[a\\-c]",
        "[[:upper:]]*",
        "[[:lower:]]",
        "[[:digit:]]*",
        "[[:alpha:]][[:digit:]]",
        "[[:space:]]x",
        "[[:punct:]]*",
        "[^[:alnum:]]*",
        "[[:xdigit:]]",
        "[[:alnum:][:punct:]]",
        "[a[:digit:]]1",
        "[[:a]",
        "a{b,c}d",
        "{guid}",
        "{guid}/",
        "x{y",
        "{a,b}",
        "{*}",
        "*{*",
        "a,b",
        "\\a",
        "\\*",
        "\\?",
        "\\[a]",
        "\\!x",
        "\\#y",
        "!*.txt",
        "a\\ ",
        "a\\ b",
        "a b",
        "a b ",
        "a  ",
        "*.t?t",
        "*.[tx]xt",
        "a**",
        "a**b",
        "**a",
        "a***",
        "***",
        "a/***",
        "***/b",
        "a/**b",
        "a**/b",
        "**/**",
        "**/**/b",
        "a/**/**/c",
        "/**/b",
        "/**/b/c",
        "b/c",
        "b/**",
        "c",
        "c/",
        "*c",
        "c*",
        "*b*",
        "a*c",
        "A",
        "É*",
        "é*",
        "*é",
        "??.txt",
        "~",
        "$x",
        "^",
        "(a)",
        "a+",
        "|",
        "a|b",
        "=",
        "@",
        "%",
        "-",
        "--a",
        ".*",
        ".",
        "..*",
        ".hidden",
        ".h*",
        "*.",
        "a.",
        "*..*",
        "'",
        "\"",
        "&",
        ";",
        "<",
        ">",
        "`",
        "a=b",
        "[a-z]/[a-z]",
        "[a-z]/[a-z]/[a-z]",
        "*/?/*",
        "a/b/c",
        "a/b/*",
        "a/b/**",
        "**/b/c",
        "**/c",
        "**/b/**",
        "a/b/c/",
        "[0-9]",
        "[0-9a-f]*",
        "[!0-9]*",
        "[A-Z]*",
        "[z-a]",
        "[a-a]",
        "[/]",
        "a[/]b",
        "a[!x]b",
        "a?b",
        "*[b]",
        "[*]",
        "[?]",
        "[\\[]",
        "*\\",
        "tab\t",
        "\ttab",
        "x[[:blank:]]y",
        "!a",
        "*.txt.bak",
        "*.txt*",
        "**.txt",
        "**/.h*",
        "/.*",
        "Ab*",
        "[[:upper:]][[:lower:]]",
        "[[:graph:]]",
        "[[:print:]]1",
        "[[:cntrl:]]",
        "[b-d]/",
        "d/*/",
        "*/d",
        "*d*/",
        "/d",
        "d/e/f",
        "d/**/f",
        "d/e*/f",
        "d/?/f",
        "d/[e]/f",
        "d/\\e/f",
        "d\\/e",
        "d/e/",
        "e",
        "e/",
        "f",
        "f/",
        "q*",
        "a/y*",
        "[abc]*",
        "a[ b]b",
        "x.*.bak",
        "**/e/**",
        "a?y.txt",
        "[[:digit:][:upper:]]*",
    ];
    assert!(patterns.len() >= 200, "{}", patterns.len());
    let names = [
        "a/b/c",
        "a/b/x.txt",
        "a/y.txt",
        "a/{guid}",
        "abd",
        "acd",
        "a{b,c}d",
        "x{y",
        "b/c",
        "c",
        "d/e/f",
        "d/f",
        "z.txt",
        "ab.txt",
        "!x",
        "#y",
        "a b",
        "a b ",
        "]",
        "[a]",
        "*",
        "?",
        "\\",
        "-",
        "^",
        "A",
        "Ab",
        "É.txt",
        "é",
        ".hidden",
        "a1",
        "1",
        "0f",
        " x",
        "x y",
        "x\ty",
        "a,b",
        "{guid}",
        "{a,b}",
        "a.",
        "a..b",
        "(a)",
        "a+",
        "|",
        "=",
        "@",
        "%",
        "$x",
        "~",
        "--a",
        "'",
        "\"",
        "&",
        ";",
        "<",
        ">",
        "`",
        "a=b",
        "x.txt.bak",
        "a ",
        "tab\t",
        "\ttab",
    ];
    let (_guard, top) = scratch();
    let git = |words: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &top)
            .env("GIT_CONFIG_NOSYSTEM", "1");
        git.current_dir(&top).args(["-c", "safe.directory=*"]).args(words).output().unwrap()
    };
    assert!(git(&["init", "-q"]).status.success());
    for name in names {
        fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
        if !top.join(name).exists() {
            fs::write(top.join(name), "").unwrap();
        }
    }
    let mut differ = Vec::new();
    for pattern in patterns {
        // Alone, and after another that it may take back from. git's file is the folder's; here a slash means the root.
        for before in [None, Some("*.txt")] {
            let ours: Vec<String> = before.into_iter().chain([pattern]).map(str::to_owned).collect();
            if check_exclude(&ours).is_err() {
                // A pattern that can match nothing is refused: git must agree that it has no effect.
                let of = |lines: &[String]| {
                    fs::write(top.join(".gitignore"), lines.iter().map(|line| format!("{line}\n")).collect::<String>())
                        .unwrap();
                    git(&["ls-files", "-z", "--others", "--exclude-standard"]).stdout
                };
                if of(&ours) != of(&ours[..ours.len() - 1]) {
                    differ.push(format!("{ours:?} is refused, and means something"));
                }
                continue;
            }
            let text: String = ours.iter().map(|line| format!("{line}\n")).collect();
            fs::write(top.join(".gitignore"), text).unwrap();
            let listed = git(&["ls-files", "-z", "--others", "--exclude-standard"]);
            assert!(listed.status.success(), "{ours:?}: {}", String::from_utf8_lossy(&listed.stderr));
            let mut theirs: Vec<String> = listed
                .stdout
                .split(|&byte| byte == 0)
                .filter(|name| !name.is_empty())
                .map(|name| String::from_utf8(name.to_vec()).unwrap())
                .filter(|name| name != ".gitignore")
                .collect();
            theirs.sort();
            let mut stored = excluded_from(&top, &ours);
            stored.sort();
            if stored != theirs {
                let only =
                    |a: &[String], b: &[String]| a.iter().filter(|name| !b.contains(name)).cloned().collect::<Vec<_>>();
                differ.push(format!(
                    "{ours:?}: only here {:?}, only git {:?}",
                    only(&stored, &theirs),
                    only(&theirs, &stored)
                ));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// The files of a tree that aren't left out by patterns that are anchored at it.
fn excluded_from(top: &Path, patterns: &[String]) -> Vec<String> {
    let root = Escape(top);
    let exclude = patterns.iter().map(|pattern| root.anchored(pattern)).collect();
    let options = FilesOptions { paths: vec![top.to_owned()], exclude, ..FilesOptions::default() };
    let walked = walk(source(options));
    let files = walked.entries.iter().filter(|entry| entry.kind == Kind::File);
    let start = format!("{}/", top.strip_prefix("/").unwrap().display());
    let names = files.filter_map(|entry| String::from_utf8(entry.name.as_bytes().to_vec()).ok());
    names
        .filter_map(|name| name.strip_prefix(&start).map(str::to_owned))
        .filter(|name| name != ".gitignore" && !name.starts_with(".git/"))
        .collect()
}

/// Anchors a pattern of a folder at the root, as a person would.
struct Escape<'a>(&'a Path);

impl Escape<'_> {
    fn anchored(&self, pattern: &str) -> String {
        let (sign, rest) = pattern.strip_prefix('!').map_or(("", pattern), |rest| ("!", rest));
        match rest.strip_suffix('/').unwrap_or(rest).contains('/') {
            true => format!("{sign}{}/{}", self.0.display(), rest.strip_prefix('/').unwrap_or(rest)),
            false => pattern.to_owned(),
        }
    }
}
