//! The source `stdin`: another program's output from a pipe, as one stream.

use std::io::{self, Read};

use super::{Error, Finished, Source};
use crate::entry::{Entry, Kind, StreamName};
use crate::facts::Facts;
use crate::time::{Clock, Timestamp};
use crate::warning::{Warning, WarningKind};

/// One stream that is read to its end from `reader`.
///
/// A pipe tells nothing of how the program behind it ended, so a caller that was interrupted must not take the end of the
/// bytes for the end of the stream. Where the status matters, [`CommandSource`](super::command::CommandSource) is better.
pub struct StdinSource<R> {
    name: StreamName,
    reader: R,
    started: Timestamp,
    state: State,
    bytes: u64,
    expected: Option<u64>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Reading,
    Read,
    Done,
}

impl<R: Read> StdinSource<R> {
    /// A source of the one stream `name`. Its data time is `clock`'s now.
    pub fn new(name: StreamName, reader: R, clock: &dyn Clock) -> Self {
        Self { name, reader, started: clock.now(), state: State::New, bytes: 0, expected: None, warnings: Vec::new() }
    }

    /// Says how many bytes there will be, where that is known.
    pub fn expecting(self, expected: Option<u64>) -> Self {
        Self { expected, ..self }
    }

    fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), kind: Kind::Data, size: self.bytes, metadata: None }
    }
}

impl<R: Read> Source for StdinSource<R> {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        match self.state {
            State::New => {
                self.state = State::Reading;
                Ok(Some(self.entry()))
            }
            State::Reading => Err(Error::Failed(format!("standard input ({}) was not read to its end", self.name))),
            State::Read | State::Done => {
                self.state = State::Done;
                Ok(None)
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.state != State::Reading {
            return Ok(0);
        }
        let n = fill(&mut self.reader, buffer)
            .map_err(|error| Error::failed(&format!("reading standard input ({})", self.name), &error))?;
        self.bytes += n as u64;
        if n == 0 && !buffer.is_empty() {
            self.state = State::Read;
            if self.bytes == 0 {
                let text = format!("standard input ({}) was empty: not one byte came", self.name);
                self.warnings.push(WarningKind::EmptyInput.warning(text));
            }
        }
        Ok(n)
    }

    fn end(&mut self) -> Result<Entry, Error> {
        Ok(self.entry())
    }

    fn finish(&mut self) -> Result<Finished, Error> {
        match self.state {
            State::Read | State::Done => Ok(Finished { data_time: self.started, facts: Facts::default() }),
            State::New | State::Reading => {
                Err(Error::Failed(format!("standard input ({}) was not read to its end", self.name)))
            }
        }
    }

    fn warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    fn expected(&mut self) -> Option<u64> {
        self.expected
    }
}

/// Reads until `buffer` is full or the reader ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    fn source<R: Read>(reader: R) -> StdinSource<R> {
        StdinSource::new(StreamName::new("shop.sql").unwrap(), reader, &SystemClock)
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is dead"))
        }
    }

    #[test]
    fn all_bytes_come_in_large_pieces_and_the_size_at_the_end() {
        let mut source = source(b"first".chain(&b", second"[..]));
        assert_eq!(source.next().unwrap().unwrap().kind, Kind::Data);
        let mut buffer = [0; 64];
        assert_eq!(source.read(&mut buffer).unwrap(), 13, "one call fills across short reads");
        assert_eq!(&buffer[..13], b"first, second");
        assert!(source.finish().is_err(), "the end was not seen yet");
        assert_eq!(source.read(&mut buffer).unwrap(), 0);
        assert_eq!(source.end().unwrap().size, 13);
        assert_eq!(source.next().unwrap(), None);
        source.finish().unwrap();
        assert_eq!(source.warnings(), Vec::<Warning>::new());
    }

    #[test]
    fn an_empty_pipe_is_warned_of_and_a_broken_one_fails() {
        let mut empty = source(io::empty());
        empty.next().unwrap();
        assert_eq!(empty.read(&mut [0; 8]).unwrap(), 0);
        assert!(empty.warnings()[0].text.contains("shop.sql"));

        let mut broken = source(Broken);
        broken.next().unwrap();
        let error = broken.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.to_string(), "reading standard input (shop.sql): the line is dead");
    }
}
