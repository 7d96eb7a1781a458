//! A remote that reads again where a medium failed.
//!
//! A disk with a weak sector may read it at the second attempt, and a host that says "Failure" may have been short of
//! memory. So a read that fails because of the medium is tried twice more, after a short pause. A third failure counts
//! as damage of the object, and there may be many damaged objects: there are pauses only for the first ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::wait::Wait;
use super::{Clocks, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload};

/// The pauses before the second try and the third.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// The number of reads with a pause. A disk that is lost as a whole fails at each.
const WAITED_FOR: u32 = 16;

/// Passes calls on to another remote, and repeats reads that failed because of the medium.
pub struct Reread {
    inner: Arc<dyn Remote>,
    wait: Arc<dyn Wait>,
    failed: AtomicU32,
}

impl Reread {
    /// Reads from `inner`.
    pub fn new(inner: Arc<dyn Remote>, wait: Arc<dyn Wait>) -> Self {
        Self { inner, wait, failed: AtomicU32::new(0) }
    }

    fn read<T>(&self, mut read: impl FnMut() -> Result<T>) -> Result<T> {
        let mut result = read();
        for pause in PAUSES {
            match &result {
                Err(error) if error.kind == ErrorKind::Medium => {}
                _ => return result,
            }
            if self.failed.load(Ordering::Relaxed) < WAITED_FOR {
                self.wait.sleep(pause);
            }
            result = read();
        }
        if result.as_ref().is_err_and(|error| error.kind == ErrorKind::Medium) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl Remote for Reread {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.inner.create_folders()
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        self.inner.begin()
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.read(|| self.inner.get(name, limit))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read(|| self.inner.get_range(name, offset, buffer))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.read(|| self.inner.stat(name))
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.read(|| self.inner.list(folder))
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

#[cfg(test)]
mod tests {
    use super::super::fault::{Fault, Faulty};
    use super::super::memory::MemoryRemote;
    use super::super::wait::SteppedTime;
    use super::*;

    const MEDIUM: Fault = Fault::Refuse(ErrorKind::Medium);

    fn disk() -> (Arc<Faulty>, Arc<SteppedTime>, Reread, ObjectName) {
        let memory = MemoryRemote::with_folders();
        let name = ObjectName::new(Folder::Packs, "p").unwrap();
        memory.put(Folder::Packs, "p", "bytes");
        let (faulty, time) = (Arc::new(Faulty::new(Arc::new(memory))), Arc::new(SteppedTime::default()));
        (faulty.clone(), time.clone(), Reread::new(faulty, time), name)
    }

    #[test]
    fn what_fails_twice_comes_the_third_time() {
        let (faulty, time, reread, name) = disk();
        faulty.fail_at(1, MEDIUM);
        faulty.fail_at(2, MEDIUM);
        assert_eq!(reread.get(&name, 9).unwrap(), b"bytes");
        assert_eq!((faulty.operations(), time.now()), (3, PAUSES[0] + PAUSES[1]));
    }

    #[test]
    fn what_fails_three_times_is_given_up_and_a_lost_disk_is_not_waited_for() {
        let (faulty, time, reread, name) = disk();
        for read in 0..u64::from(WAITED_FOR) + 10 {
            (1..=3).for_each(|again| faulty.fail_at(3 * read + again, MEDIUM));
            assert_eq!(reread.get_range(&name, 0, &mut [0; 5]).unwrap_err().kind, ErrorKind::Medium);
        }
        assert_eq!(time.now(), (PAUSES[0] + PAUSES[1]) * WAITED_FOR);
    }

    #[test]
    fn other_failures_are_answers() {
        let (faulty, _, reread, name) = disk();
        for (number, kind) in [ErrorKind::Refused, ErrorKind::Unreachable, ErrorKind::Short].into_iter().enumerate() {
            faulty.fail_at(number as u64 + 1, Fault::Refuse(kind));
            assert_eq!(reread.get(&name, 9).unwrap_err().kind, kind);
        }
        assert_eq!(faulty.operations(), 3);
    }
}
