//! Times the engine on files, one a day, as one stream: `cargo bench --bench engine -- FOLDER FILE…`.
//!
//! The repository goes to FOLDER/vault. Each file is backed up in turn (a weekly full), then the last is restored to
//! /dev/null, and verified. Wall seconds, and bytes added to the repository.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::*;
use varu::backup::backup;
use varu::entry::{Entry, StreamName};
use varu::progress::{Counts, Interrupt};
use varu::remote::Remote;
use varu::remote::local::LocalRemote;
use varu::restore::restore;
use varu::source::stdin::StdinSource;
use varu::source::{self, Target};
use varu::time::Clock;

/// Writes every stream to one file.
struct ToFile(File);

impl Target for ToFile {
    fn wants(&mut self, _: &Entry) -> Result<bool, source::Error> {
        Ok(true)
    }

    fn begin(&mut self, _: &Entry) -> Result<(), source::Error> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), source::Error> {
        self.0.write_all(bytes).map_err(|error| source::Error::failed("writing", &error))
    }

    fn end(&mut self) -> Result<(), source::Error> {
        Ok(())
    }

    fn abandon(&mut self) {}

    fn finish(&mut self) -> Result<Vec<varu::warning::Warning>, source::Error> {
        Ok(Vec::new())
    }
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some((folder, files)) = arguments.split_first() else {
        println!("usage: cargo bench --bench engine -- FOLDER FILE…");
        return;
    };
    let (vault, state) = (Path::new(folder).join("vault"), Path::new(folder).join("state"));
    let remote: Arc<dyn Remote> = Arc::new(LocalRemote::create(&vault).unwrap());
    let owner = Owner::create(&*remote);
    let clock = TestClock::at(MONDAY);
    let (progress, interrupt) = (Counts::default(), Interrupt::default());
    let mut last = size(&vault);
    let mut newest = None;
    for file in files {
        let writer = owner.writer(remote.clone(), &state);
        let start = Instant::now();
        let name = StreamName::new("dump.sql").unwrap();
        let mut source = StdinSource::new(name, File::open(file).unwrap(), &clock as &dyn Clock);
        let report = backup(&writer, &mut source, &options(), &clock, &progress, &interrupt).unwrap();
        let now = size(&vault);
        println!(
            "{file}: {} in {:.2} s, new {:.1} MB, added {:.3} MB",
            report.snapshot.header.kind(),
            start.elapsed().as_secs_f64(),
            report.totals().new as f64 / 1e6,
            (now - last) as f64 / 1e6
        );
        last = now;
        newest = Some(report.snapshot);
        clock.advance(Duration::from_secs(86_400));
    }
    let Some(newest) = newest else { return };
    let reader = owner.reader(remote, &Path::new(folder).join("fresh")).unwrap();
    reader.sync().unwrap();
    let start = Instant::now();
    let mut target = ToFile(File::create("/dev/null").unwrap());
    let report = restore(&reader, &newest, &|_| true, &mut target, &clock, &progress, &interrupt).unwrap();
    println!("restored {:.1} MB in {:.2} s", report.bytes as f64 / 1e6, start.elapsed().as_secs_f64());
}
