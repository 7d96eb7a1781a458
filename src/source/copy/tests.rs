use super::*;
use crate::entry::{Entry, Kind};
use crate::facts::Facts;
use crate::warning::{Warning, WarningKind};

struct Two(u32, Option<&'static [u8]>, bool);

impl Source for Two {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.0 += 1;
        self.1 = [&b"one\n"[..], b"second"].get(self.0 as usize - 1).copied();
        let name = StreamName::new(format!("s\t{}", self.0)).unwrap();
        Ok(self.1.map(|_| Entry { name, kind: Kind::Data, size: 0, metadata: None }))
    }
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let bytes = self.1.replace(b"").unwrap();
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
    fn end(&mut self) -> Result<Entry, Error> {
        Ok(Entry { name: StreamName::new("x").unwrap(), kind: Kind::Data, size: 0, metadata: None })
    }
    fn finish(&mut self) -> Result<Finished, Error> {
        match self.2 {
            true => Ok(Finished {
                data_time: Timestamp::from_seconds(1_800_000_000),
                facts: Facts { other: [("a".into(), "b\n\\".into())].into(), ..Facts::default() },
            }),
            false => Err(Error::Failed("not whole".into())),
        }
    }
    fn warnings(&mut self) -> Vec<Warning> {
        vec![WarningKind::Precompressed.warning("w")]
    }
}

fn options(folder: &Path) -> CopyOptions {
    CopyOptions { set: "s".to_owned(), folder: folder.to_owned(), keep: 1, reserve: 0, file: DATA }
}

/// After the copies of the tests were made.
const NOW: Timestamp = Timestamp::from_nanos(1_900_000_000_000_000_000);

type Streams = Vec<(String, Vec<u8>)>;

fn read_all(copy: &LocalCopy) -> Result<(Streams, Finished), Error> {
    let mut source = CopySource::open(copy)?;
    let mut all = Vec::new();
    while let Some(entry) = source.next()? {
        let mut bytes = vec![0; 100];
        let length = source.read(&mut bytes)?;
        bytes.truncate(length);
        all.push((String::from_utf8(entry.name.as_bytes().to_vec()).unwrap(), bytes));
    }
    let finished = source.finish()?;
    assert_eq!(source.warnings(), [WarningKind::Precompressed.warning("w")]);
    Ok((all, finished))
}

#[test]
fn a_copy_gives_back_what_was_dumped_and_nothing_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder.path().join("copies"));
    assert_eq!(newest(&options.folder).unwrap(), None);
    let made = make(&options, &mut Two(0, None, true)).unwrap();
    assert_eq!(newest(&options.folder).unwrap().unwrap(), made);
    let (streams, finished) = read_all(&made).unwrap();
    assert_eq!(streams, [("s\t1".to_owned(), b"one\n".to_vec()), ("s\t2".to_owned(), b"second".to_vec())]);
    assert_eq!(finished.facts.pairs(), [("a".into(), "b\n\\".into())]);
    assert!(make(&options, &mut Two(0, None, false)).is_err());
    assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 1, "nothing of what failed stays");
    let second = make(&options, &mut Two(0, None, true)).unwrap();
    make(&options, &mut Two(0, None, true)).unwrap();
    forget_old(&options, 1).unwrap();
    assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 2, "the one before stays");
    forget_old(&options, 0).unwrap();
    assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 1);
    assert!(!second.path.exists() && !made.path.exists());
}

#[test]
fn a_copy_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let made = make(&options, &mut Two(0, None, true)).unwrap();
    fs::write(made.path.join(DATA), b"one\nsecone").unwrap();
    assert!(read_all(&made).unwrap_err().to_string().contains("changed since"));
    fs::write(made.path.join(DATA), b"one\n").unwrap();
    assert!(read_all(&made).unwrap_err().to_string().contains("has 4 bytes and had 10"));
    assert_eq!(put_unusable_aside(&options, NOW).unwrap().len(), 1);
    assert_eq!(newest(folder.path()).unwrap(), None);
    make(&options, &mut Two(0, None, true)).unwrap();
    forget_old(&options, 0).unwrap();
    assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 1, "what was put aside is gone");
}

#[test]
fn a_manifest_that_is_not_as_it_was_is_seen_whatever_byte_of_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let made = make(&options(folder.path()), &mut Two(0, None, true)).unwrap();
    let whole = fs::read_to_string(made.path.join(MANIFEST)).unwrap();
    assert!(CopyManifest::parse(&whole).is_some());
    for at in 0..whole.len() {
        assert_eq!(CopyManifest::parse(&whole[..at]), None, "cut at {at}");
        for bit in [1, 2, 4, 8, 16, 32, 64] {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= bit;
            let flipped = String::from_utf8(bytes).unwrap();
            assert_eq!(CopyManifest::parse(&flipped), None, "{flipped}");
        }
    }
    // Lengths that no file has.
    let huge =
        CopyManifest { streams: vec![("a".to_owned(), u64::MAX), ("b".to_owned(), 1)], ..CopyManifest::default() };
    assert_eq!(CopyManifest::parse(&huge.text()), None);
}

#[test]
fn a_copy_of_another_set_or_of_a_time_that_has_not_come_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let made = make(&options, &mut Two(0, None, true)).unwrap();
    assert_eq!(put_unusable_aside(&options, NOW).unwrap(), Vec::<String>::new());
    let others = CopyOptions { set: "t".to_owned(), ..options.clone() };
    let why = put_unusable_aside(&others, NOW).unwrap();
    assert!(why[0].contains("one of the set s"), "{why:?}");
    make(&options, &mut Two(0, None, true)).unwrap();
    let why = put_unusable_aside(&options, made.data_time.before(AHEAD * 2)).unwrap();
    assert!(why[0].contains("hasn't come yet"), "{why:?}");
    // By its name alone, too: it would be the newest for ever.
    let made = make(&options, &mut Two(0, None, true)).unwrap();
    fs::rename(&made.path, folder.path().join("20990101T000000Z")).unwrap();
    assert_eq!(put_unusable_aside(&options, NOW).unwrap().len(), 1);
    assert_eq!(newest(folder.path()).unwrap(), None);
}

#[test]
fn what_lies_where_a_copy_is_begun_is_taken_away_whatever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("new.part"), "a file").unwrap();
    make(&options(folder.path()), &mut Two(0, None, true)).unwrap();
    std::os::unix::fs::symlink("/", folder.path().join("new.part")).unwrap();
    make(&options(folder.path()), &mut Two(0, None, true)).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_reserve_that_can_not_be_kept_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let options = CopyOptions { reserve: 100, ..options(folder.path()) };
    assert!(matches!(make(&options, &mut Two(0, None, true)), Err(Error::NoSpace(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
