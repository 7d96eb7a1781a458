//! Reading that ends when the user wants it to, also while nothing comes.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::progress::Interrupt;

/// Reads from `reader` until the interrupt is set: from then on each read fails, and so does the end of the bytes.
///
/// On a terminal one key stroke stops a whole pipeline, and the end of a stopped program's output is no end.
pub struct InterruptibleReader<R> {
    reader: R,
    interrupt: Interrupt,
}

/// How often the interrupt is looked at while nothing comes.
const LOOK: Duration = Duration::from_millis(100);
/// How much later than the end of the bytes the signal may be noticed that caused it.
const LATE: Duration = Duration::from_millis(50);

impl<R: Read + AsFd> InterruptibleReader<R> {
    /// Reads from `reader`, which must hold no bytes back in a buffer of its own.
    pub fn new(reader: R, interrupt: Interrupt) -> Self {
        Self { reader, interrupt }
    }

    /// Waits a while for bytes, or for their end. Whether there are some.
    fn is_ready(&self) -> io::Result<bool> {
        let wait = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.reader, PollFlags::IN)], Some(&wait)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.interrupt.is_set() {
            // Not of the kind `Interrupted`, after which everybody would read again.
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        }
    }
}

impl<R: Read + AsFd> Read for InterruptibleReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.check()?;
            if !self.is_ready()? {
                continue;
            }
            let read = self.reader.read(buffer)?;
            if read == 0 && !buffer.is_empty() {
                sleep(LATE);
                self.check()?;
            }
            return Ok(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bytes_come_and_an_interrupt_ends_the_waiting() {
        let (reader, mut writer) = io::pipe().unwrap();
        let interrupt = Interrupt::default();
        let mut until = InterruptibleReader::new(reader, interrupt.clone());
        writer.write_all(b"abc").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(until.read(&mut buffer).unwrap(), 3);
        let later = std::thread::spawn(move || {
            sleep(Duration::from_millis(20));
            interrupt.set();
            writer
        });
        assert_eq!(until.read(&mut buffer).unwrap_err().to_string(), "interrupted");
        drop(later.join().unwrap());
    }

    #[test]
    fn the_end_that_an_interrupt_made_is_an_error_and_any_other_is_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        let interrupt = Interrupt::default();
        let mut until = InterruptibleReader::new(reader, interrupt.clone());
        assert_eq!(until.read(&mut [0; 8]).unwrap(), 0);
        let signal = std::thread::spawn(move || {
            sleep(LATE / 5);
            interrupt.set();
        });
        assert!(until.read(&mut [0; 8]).is_err());
        signal.join().unwrap();
    }
}
