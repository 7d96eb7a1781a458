use super::*;

fn id(number: u8) -> SnapshotId {
    SnapshotId::from_bytes([number; 16])
}

/// Bytes that can't be made smaller, others for each number.
fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Rows of text.
fn text(number: u64, length: usize) -> Vec<u8> {
    let row = |row: u64| {
        let mix = (number << 20 | row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "({row},'customer {}','a street with a name','2026-11-20 01:05:10',{}),\n",
            mix >> 44,
            mix >> 20 & 0xffff
        )
    };
    let mut text: Vec<u8> = (0..).flat_map(|at| row(at).into_bytes()).take(length).collect();
    text.truncate(length);
    text
}

/// One set's cache, day after day.
struct Days {
    folder: tempfile::TempDir,
    limit: u64,
    last: u8,
}

impl Days {
    fn new(limit: u64) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), limit, last: 0 }
    }

    fn open(&self) -> BaseCache {
        let before = (self.last > 0).then(|| id(self.last));
        BaseCache::open(self.folder.path(), "x", before.as_ref(), self.limit).unwrap()
    }

    fn commit(&mut self, mut cache: BaseCache) -> Option<Shortage> {
        let shortage = cache.settle().unwrap();
        self.last += 1;
        cache.commit(&id(self.last)).unwrap();
        shortage
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.folder.path().join(format!("base-x.{kind}"))
    }

    fn data(&self) -> Vec<u8> {
        std::fs::read(self.path("chunks")).unwrap()
    }

    fn files(&self) -> usize {
        self.folder.path().read_dir().unwrap().count()
    }
}

fn read(cache: &mut BaseCache, ordinal: u64, length: usize) -> Result<Vec<u8>, Lack> {
    let slot = cache.slot(ordinal, length as u32)?;
    let mut out = vec![0; length];
    if cache.read(slot, &mut out) { Ok(out) } else { Err(Lack::Lost) }
}

#[test]
fn a_committed_snapshot_is_there_for_the_next() {
    let mut days = Days::new(1 << 20);
    let chunk = |number: u64| if number.is_multiple_of(2) { noise(number, 5000) } else { text(number, 5000) };
    let mut first = days.open();
    (0..10).for_each(|number| first.add(&chunk(number), Arrival::New).unwrap());
    days.commit(first);
    let mut second = days.open();
    assert_eq!((second.count_before(), second.bytes_before()), (10, 50_000));
    assert_eq!(read(&mut second, 7, 5000), Ok(chunk(7)));
    assert_eq!([read(&mut second, 7, 4999), read(&mut second, 10, 5000)], [Err(Lack::Lost), Err(Lack::Lost)]);
    second.keep(3..5).unwrap();
    second.add(&chunk(99), Arrival::Changed).unwrap();
    second.add(&chunk(9), Arrival::Matched(9)).unwrap();
    // Not committed: the first is still whole.
    drop(second);
    let mut again = days.open();
    assert!((0..10).all(|number| read(&mut again, number, 5000) == Ok(chunk(number))));
    again.keep(3..5).unwrap();
    again.add(&chunk(99), Arrival::Changed).unwrap();
    again.pass_elsewhere().unwrap();
    again.pass_useless(5000).unwrap();
    again.add(&chunk(9), Arrival::Matched(9)).unwrap();
    days.commit(again);
    let mut third = days.open();
    let expected = [Ok(chunk(3)), Ok(chunk(4)), Ok(chunk(99)), Err(Lack::Lost), Err(Lack::Useless), Ok(chunk(9))];
    assert_eq!([0, 1, 2, 3, 4, 5].map(|ordinal| read(&mut third, ordinal, 5000)), expected);
    drop(third);
    days.last = 1;
    assert_eq!(read(&mut days.open(), 0, 5000), Err(Lack::Lost), "another snapshot's table doesn't count");
    assert_eq!(days.files(), 2, "the files of a run go with it");
}

#[test]
fn text_is_compressed_small_chunks_lie_together_and_nothing_is_written_twice() {
    let mut days = Days::new(64 << 20);
    let mut cache = days.open();
    (0..100).for_each(|number| cache.add(&text(number, 20_000), Arrival::New).unwrap());
    days.commit(cache);
    assert!(days.data().len() < 2_000_000 / 4, "{}", days.data().len());
    let mut days = Days::new(64 << 20);
    let mut cache = days.open();
    (0..10_000).for_each(|number| cache.add(&noise(number, 383), Arrival::New).unwrap());
    days.commit(cache);
    let takes = days.data().len() as u64 + days.path("table").metadata().unwrap().len();
    assert!(takes < 3_830_000 * 11 / 10 + 200 * 10_000 / 4, "{takes}");
    let before = (days.data(), days.path("chunks").metadata().unwrap().modified().unwrap());
    let mut cache = days.open();
    (0..10_000).for_each(|number| cache.add(&noise(number, 383), Arrival::Matched(number)).unwrap());
    days.commit(cache);
    assert_eq!((days.data(), days.path("chunks").metadata().unwrap().modified().unwrap()), before);
}

#[test]
fn room_is_used_again_and_never_exceeded() {
    let mut days = Days::new(40 * 4096);
    for day in 0..50 {
        let mut cache = days.open();
        (0..10).for_each(|number| cache.add(&noise(day * 100 + number, 8000), Arrival::Changed).unwrap());
        assert_eq!(days.commit(cache), None, "day {day}");
        assert!(days.data().len() <= 40 * 4096, "{}", days.data().len());
    }
    let mut cache = days.open();
    (0..11).for_each(|number| cache.add(&noise(number, 8000), Arrival::Changed).unwrap());
    let shortage = days.commit(cache).unwrap();
    assert_eq!((shortage.lacking, shortage.held), (8000, 80_000));
    // As much as was said to be needed does.
    days.limit = shortage.needed;
    for day in 0..3 {
        let mut cache = days.open();
        (0..11).for_each(|number| cache.add(&noise(day * 100 + number, 8000), Arrival::Changed).unwrap());
        assert_eq!(days.commit(cache), None, "day {day}");
    }
}

/// All chunks that a data file holds anywhere, decompressed where they are compressed.
fn holds(data: &[u8], chunk: &[u8]) -> bool {
    let piece = &chunk[chunk.len() / 2..][..16.min(chunk.len() / 2)];
    let within = |bytes: &[u8]| bytes.windows(piece.len()).any(|window| window == piece);
    let mut decompressor = crate::segment::Decompressor::new();
    let frames = (0..data.len()).step_by(GRANULE as usize).filter(|&at| data[at..].starts_with(b"\x28\xb5\x2f\xfd"));
    let mut plain = vec![0; chunk.len()];
    within(data)
        || frames.into_iter().any(|at| {
            // The frame's end is somewhere before the zeros.
            (at + 1..=(at + chunk.len()).min(data.len()))
                .any(|end| decompressor.decompress_into(&data[at..end], &mut plain).is_ok() && within(&plain))
        })
}

#[test]
fn what_the_newest_snapshot_lacks_is_erased() {
    let mut days = Days::new(1 << 20);
    let mut known: Vec<Vec<u8>> = Vec::new();
    for (day, lengths) in [(1, [9000, 5000, 40]), (2, [40, 4097, 9000]), (3, [16, 64, 100])] {
        let mut cache = days.open();
        let chunks =
            lengths.map(|length| if day == 2 { text(day, length) } else { noise(day * 7 + length as u64, length) });
        chunks.iter().for_each(|chunk| cache.add(chunk, Arrival::Changed).unwrap());
        days.commit(cache);
        let data = days.data();
        assert!(chunks.iter().all(|chunk| holds(&data, chunk)), "day {day}");
        assert!(known.iter().all(|chunk| !holds(&data, chunk)), "day {day}");
        known.extend(chunks);
    }
}

#[test]
fn what_a_run_wrote_that_did_not_end_is_erased_by_the_next() {
    let mut days = Days::new(1 << 20);
    let mut cache = days.open();
    [1, 2].iter().for_each(|&number| cache.add(&noise(number, 9000), Arrival::New).unwrap());
    days.commit(cache);
    let mut killed = days.open();
    killed.keep(1..2).unwrap();
    killed.add(&noise(3, 5000), Arrival::Changed).unwrap();
    killed.settle().unwrap();
    drop(killed);
    assert!(holds(&days.data(), &noise(3, 5000)));
    let mut cache = days.open();
    cache.keep(0..2).unwrap();
    days.commit(cache);
    assert!(!holds(&days.data(), &noise(3, 5000)));
    let mut cache = days.open();
    assert_eq!([0, 1].map(|ordinal| read(&mut cache, ordinal, 9000)), [Ok(noise(1, 9000)), Ok(noise(2, 9000))]);
}

#[test]
fn a_stream_that_failed_leaves_the_table() {
    let mut days = Days::new(64 << 20);
    let mut cache = days.open();
    cache.add(&noise(1, 100), Arrival::New).unwrap();
    let position = cache.position();
    (0..20_000).for_each(|number| cache.add(&noise(number, 100), Arrival::New).unwrap());
    cache.forget_from(position).unwrap();
    cache.add(&noise(3, 200), Arrival::New).unwrap();
    days.commit(cache);
    let mut next = days.open();
    assert_eq!((read(&mut next, 1, 200), next.count_before()), (Ok(noise(3, 200)), 2));
    assert!(days.data().len() < 5 << 20);
}

/// A large archive comes first, and has all of the room; then a stream that changes each day.
#[test]
fn what_never_changes_gives_way_to_what_changes() {
    let mut days = Days::new(400_000);
    let archive: Vec<_> = (0..400).map(|number| text(number, 8000)).collect();
    let mut cache = days.open();
    archive.iter().for_each(|chunk| cache.add(chunk, Arrival::New).unwrap());
    let only = days.commit(cache);
    assert!(only.is_some_and(|only| only.lacking > 400_000 && only.held > 1_000_000), "{only:?}");
    let mut lacking = Vec::new();
    for day in 0..4 {
        let mut cache = days.open();
        cache.keep(0..400).unwrap();
        for number in 0..60 {
            let arrival = if day == 0 { Arrival::New } else { Arrival::Changed };
            cache.add(&text(1_000_000 + day * 1000 + number, 8000), arrival).unwrap();
        }
        days.commit(cache);
        let mut next = days.open();
        let mut has = |ordinal| read(&mut next, ordinal, 8000).is_ok();
        lacking.push(60 - (400..460).filter(|&ordinal| has(ordinal)).count());
    }
    assert_eq!(lacking[0], 60, "at first the archive has all of the room");
    assert!(lacking[1] == 0 && lacking[2..] == [0, 0], "{lacking:?}");
    let mut next = days.open();
    assert!(
        (0..400).filter(|&ordinal| read(&mut next, ordinal, 8000).is_ok()).count() > 100,
        "no more goes than needed"
    );
}

#[test]
fn a_lower_limit_is_kept_with_the_next_snapshot() {
    let mut days = Days::new(1 << 20);
    let mut cache = days.open();
    (0..100).for_each(|number| cache.add(&noise(number, 5000), Arrival::Changed).unwrap());
    days.commit(cache);
    days.limit = 256 << 10;
    let mut cache = days.open();
    assert_eq!(read(&mut cache, 99, 5000), Ok(noise(99, 5000)), "what is there is of use once more");
    (0..100).for_each(|number| cache.add(&noise(number, 5000), Arrival::Matched(number)).unwrap());
    assert!(days.commit(cache).is_some());
    assert!(days.data().len() <= 256 << 10, "{}", days.data().len());
    let mut cache = days.open();
    assert_eq!(read(&mut cache, 3, 5000), Ok(noise(3, 5000)));
    assert_eq!(read(&mut cache, 99, 5000), Err(Lack::NoRoom));
}

#[test]
fn damage_of_either_file_is_a_lack_and_never_an_error() {
    let mut whole = Days::new(1 << 20);
    let mut cache = whole.open();
    (0..40).for_each(|number| cache.add(&text(number, 3000), Arrival::New).unwrap());
    whole.commit(cache);
    let files = ["chunks", "table"].map(|kind| (kind, std::fs::read(whole.path(kind)).unwrap()));
    for seed in 0..300_u64 {
        let days = Days { folder: tempfile::tempdir().unwrap(), ..whole };
        for (kind, bytes) in &files {
            std::fs::write(days.path(kind), bytes).unwrap();
        }
        let (kind, bytes) = &files[(seed % 2) as usize];
        let mut bytes = bytes.clone();
        match seed / 2 % 3 {
            0 => bytes.truncate((seed as usize * 7919) % bytes.len()),
            1 => noise(seed, 16).chunks(2).for_each(|at| {
                let (place, bit) = (usize::from(at[0]) * 256 + usize::from(at[1]), at[1] % 8);
                let place = place % bytes.len();
                bytes[place] ^= 1 << bit;
            }),
            _ => {
                let place = (seed as usize * 7919) % (bytes.len() - 64);
                bytes[place..place + 64].copy_from_slice(&noise(seed, 64));
            }
        }
        std::fs::write(days.path(kind), bytes).unwrap();
        let mut cache = days.open();
        let mut chunk = vec![0; 3000];
        for ordinal in 0..40 {
            if let Ok(slot) = cache.slot(ordinal, 3000) {
                cache.read(slot, &mut chunk);
            }
        }
        (0..40).for_each(|ordinal| cache.add(&text(ordinal, 3000), Arrival::Matched(ordinal)).unwrap());
        let mut days = days;
        days.commit(cache);
        assert!(days.data().len() <= 1 << 20);
    }
}
