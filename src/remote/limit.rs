//! A remote that takes and gives only so many bytes a second.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wait::Wait;
use super::{Clocks, Folder, Listed, ObjectName, Remote, Result, Upload, lock};

/// Bytes a second in each direction, None for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// To the remote.
    pub upload: Option<NonZeroU64>,
    /// From the remote.
    pub download: Option<NonZeroU64>,
}

/// Passes calls on to another remote, objects' bytes not faster than the rates. All threads share one rate a direction.
/// Listings and other small answers aren't counted.
pub struct Limited {
    inner: Arc<dyn Remote>,
    upload: Arc<Bucket>,
    download: Bucket,
}

impl Limited {
    /// Limits `inner`. `wait` tells the time and sleeps.
    pub fn new(inner: Arc<dyn Remote>, rates: Rates, wait: Arc<dyn Wait>) -> Self {
        let upload = Arc::new(Bucket::new(rates.upload, Arc::clone(&wait)));
        Self { inner, upload, download: Bucket::new(rates.download, wait) }
    }
}

/// A token bucket: after a pause a quarter of a second's bytes may go at once.
struct Bucket {
    rate: Option<NonZeroU64>,
    wait: Arc<dyn Wait>,
    /// When all that was asked for so far is paid, in nanoseconds of `wait`'s time.
    paid_at: Mutex<u128>,
}

const SECOND: u128 = 1_000_000_000;
const BURST: u128 = SECOND / 4;

impl Bucket {
    fn new(rate: Option<NonZeroU64>, wait: Arc<dyn Wait>) -> Self {
        let paid_at = Mutex::new(wait.now().as_nanos());
        Self { rate, wait, paid_at }
    }

    /// How many bytes to move between two pauses, so that the line is used evenly.
    fn piece(&self) -> usize {
        let piece = self.rate.map_or(u64::MAX, |rate| (rate.get() / 4).clamp(16 << 10, 1 << 20));
        usize::try_from(piece).unwrap_or(usize::MAX)
    }

    /// Returns when `bytes` more may go.
    fn pay(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let cost = bytes as u128 * SECOND / u128::from(rate.get());
        let now = self.wait.now().as_nanos();
        let paid_at = {
            let mut paid_at = lock(&self.paid_at);
            *paid_at = (*paid_at).max(now.saturating_sub(BURST)) + cost;
            *paid_at
        };
        if paid_at > now {
            self.wait.sleep(Duration::from_nanos(u64::try_from(paid_at - now).unwrap_or(u64::MAX)));
        }
    }
}

impl Remote for Limited {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.inner.create_folders()
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(LimitedUpload { inner: self.inner.begin()?, bucket: Arc::clone(&self.upload) }))
    }

    /// The size isn't known before, so the bytes are paid for afterwards.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.inner.get(name, limit)?;
        self.download.pay(bytes.len());
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let piece = self.download.piece();
        if buffer.len() <= piece {
            self.download.pay(buffer.len());
            return self.inner.get_range(name, offset, buffer);
        }
        let mut at = offset;
        for part in buffer.chunks_mut(piece) {
            self.download.pay(part.len());
            self.inner.get_range(name, at, part)?;
            at = at.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.inner.stat(name)
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.inner.list(folder)
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.inner.flush(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn can_delete(&self) -> Result<bool> {
        self.inner.can_delete()
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space()
    }

    fn calls_at_once(&self) -> usize {
        self.inner.calls_at_once()
    }

    fn clocks(&self) -> Option<Clocks> {
        self.inner.clocks()
    }
}

struct LimitedUpload {
    inner: Box<dyn Upload>,
    bucket: Arc<Bucket>,
}

impl Upload for LimitedUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(self.bucket.piece()) {
            self.bucket.pay(piece.len());
            self.inner.append(piece)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<()> {
        self.inner.finish(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryRemote;
    use super::super::record::{Recorder, Verb};
    use super::super::wait::SteppedTime;
    use super::*;

    const RATE: u64 = 100_000;

    fn name() -> ObjectName {
        ObjectName::new(Folder::Packs, "p").unwrap()
    }

    struct Line {
        time: Arc<SteppedTime>,
        recorder: Arc<Recorder>,
        limited: Limited,
    }

    fn line(upload: Option<u64>, download: Option<u64>) -> Line {
        let time = Arc::new(SteppedTime::default());
        time.sleep(Duration::from_secs(100));
        let recorder = Arc::new(Recorder::new(Arc::new(MemoryRemote::with_folders())));
        let rates = Rates { upload: upload.and_then(NonZeroU64::new), download: download.and_then(NonZeroU64::new) };
        let limited = Limited::new(recorder.clone(), rates, time.clone());
        Line { time, recorder, limited }
    }

    fn store(line: &Line, bytes: usize) {
        let mut upload = line.limited.begin().unwrap();
        upload.append(&vec![7; bytes]).unwrap();
        upload.finish(&name()).unwrap();
    }

    #[test]
    fn an_upload_takes_its_bytes_by_the_rate() {
        let line = line(Some(RATE), None);
        store(&line, 1_000_000);
        assert_eq!(line.time.now(), Duration::from_secs(110));
        assert_eq!(line.recorder.count(Verb::Append), 40, "evenly, a quarter of a second at a time");
        line.limited.get(&name(), u64::MAX).unwrap();
        assert_eq!(line.time.now(), Duration::from_secs(110), "the other direction has no limit");
    }

    #[test]
    fn a_download_takes_its_bytes_by_the_rate_whole_or_in_ranges() {
        let line = line(None, Some(RATE));
        store(&line, 1_000_000);
        assert_eq!(line.time.now(), Duration::from_secs(100));
        assert_eq!(line.limited.get(&name(), u64::MAX).unwrap().len(), 1_000_000);
        assert_eq!(line.time.now(), Duration::from_secs(110));
        let mut buffer = vec![0; 500_000];
        line.limited.get_range(&name(), 500_000, &mut buffer).unwrap();
        assert_eq!(line.time.now(), Duration::from_secs(115));
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_pause_saves_up_a_quarter_of_a_second_and_no_more() {
        let line = line(Some(RATE), None);
        line.time.sleep(Duration::from_secs(50));
        store(&line, 125_000);
        assert_eq!(line.time.now(), Duration::from_secs(151));
    }

    #[test]
    fn without_rates_nothing_waits_and_nothing_is_split() {
        let line = line(None, None);
        store(&line, 5_000_000);
        line.limited.get_range(&name(), 0, &mut vec![0; 5_000_000]).unwrap();
        assert_eq!(line.time.now(), Duration::from_secs(100));
        assert_eq!((line.recorder.count(Verb::Append), line.recorder.count(Verb::GetRange)), (1, 1));
    }
}
