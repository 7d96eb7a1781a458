//! A snapshot opened without a restore: a path looked up, a folder listed, any range of a stream read.

use support::vault::Vault;
use support::*;
use varu::entry::StreamName;
use varu::repository::StreamReader;

#[test]
fn any_range_of_any_stream_of_any_snapshot_reads() {
    let vault = Vault::new();
    let clock = TestClock::at(MONDAY);
    let mut random = Random(3);
    let mut days = Vec::new();
    for day in 0..3_u32 {
        let streams = Streams::from([
            ("shop/orders.sql".to_owned(), table(40_000, |row| if row % 97 == day { day } else { 0 })),
            ("shop/empty.sql".to_owned(), Vec::new()),
            ("shop.sql".to_owned(), noise(3_000_000, 5)),
            (format!("day/{day}"), noise(10, u64::from(day))),
        ]);
        let report = back_up(&vault.writer(), &streams, &clock).unwrap();
        days.push((report.snapshot.id, streams));
        clock.advance_hours(24);
    }
    let state = vault.empty_state();
    let reader = vault.reader(&state).unwrap();
    reader.sync().unwrap();
    for (id, streams) in &days {
        let layers = reader.layers(id).unwrap();
        let listed = |path: &str| -> Vec<String> {
            layers.below(path.as_bytes()).unwrap().map(|stream| stream.unwrap().entry.name.to_string()).collect()
        };
        // "shop.sql" isn't below "shop".
        assert_eq!(listed("shop"), ["shop/empty.sql", "shop/orders.sql"]);
        assert_eq!(listed("").len(), streams.len());
        assert_eq!(listed("sho"), Vec::<String>::new());
        assert!(layers.find(&StreamName::new("shop/none").unwrap()).unwrap().is_none());
        for (name, content) in streams {
            let stream = layers.find(&StreamName::new(name.as_str()).unwrap()).unwrap().unwrap();
            let mut read = StreamReader::open(&reader, layers.packs(), &stream).unwrap();
            assert_eq!(read.size(), content.len() as u64);
            for _ in 0..40 {
                let from = random.below(content.len() + 2);
                let most = if random.below(4) == 0 { 2_000_000 } else { 5000 };
                let length = random.below(most);
                let mut buffer = vec![0; length];
                let filled = read.read_at(from as u64, &mut buffer).unwrap();
                let wanted = &content[from.min(content.len())..(from + length).min(content.len())];
                assert_eq!(&buffer[..filled], wanted, "{name} from {from}");
            }
        }
    }
}
