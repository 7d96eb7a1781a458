//! Looks at every packet of a server before the SFTP client does.
//!
//! The client trusts lengths and counts, and takes names in UTF-8 only. A server is not to be trusted, and a name in a
//! folder may have been chosen by a thief: here a packet that is too long or contradicts its lengths ends the
//! connection, and bytes of names and messages that aren't printable ASCII become `?`, which no object's name has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The longest packet: OpenSSH's limit.
const LONGEST: usize = 256 << 10;
/// A packet's length and its type.
const HEAD: usize = 5;
/// Bytes of an object that are passed on at once.
const PIECE: usize = 64 << 10;

const VERSION: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

/// A server's output, checked.
pub(super) struct CheckedReader<R> {
    inner: R,
    /// The head of a packet, or the whole of one that isn't data.
    packet: Vec<u8>,
    /// How many bytes of `packet` have to be there before it is looked at.
    wanted: usize,
    /// How many bytes of a checked `packet` were handed on; None while it is being read.
    given: Option<usize>,
    /// Bytes of an object that are still to come in this packet.
    data: usize,
    greeted: bool,
}

impl<R: AsyncRead + Unpin> CheckedReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, packet: Vec::new(), wanted: HEAD, given: None, data: 0, greeted: false }
    }

    /// Reads more of `packet`. False at the end of the stream.
    fn poll_packet(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.packet.len() < self.wanted {
            let mut piece = [0; 4096];
            let length = piece.len().min(self.wanted - self.packet.len());
            let mut buffer = ReadBuf::new(&mut piece[..length]);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.packet.extend_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(true))
    }

    /// Checks the bytes that were read: a head, or a whole packet.
    fn look(&mut self) -> Result<(), String> {
        let mut head = Fields::new(&mut self.packet);
        let (length, kind) = head.head().ok_or("a packet without a head")?;
        if self.wanted == HEAD {
            if !self.greeted && kind != VERSION {
                return Err(format!("it doesn't speak SFTP: {:?}", String::from_utf8_lossy(&self.packet)));
            }
            if !(HEAD..=LONGEST).contains(&length) {
                return Err(format!("a packet of {length} bytes"));
            }
            self.greeted = true;
            if kind != DATA {
                self.wanted = 4 + length;
                return Ok(());
            }
            // A number and the data's own length come first.
            self.data = (length - 1).checked_sub(8).ok_or("a data packet without data")?;
            self.wanted = HEAD + 8;
            return Ok(());
        }
        if kind == DATA {
            head.u32();
            let said = head.u32().ok_or("a data packet without a length")?;
            if said as usize != self.data {
                return Err(format!("a packet with {} bytes of data that says {said}", self.data));
            }
        } else {
            check(kind, &mut self.packet).ok_or_else(|| format!("a packet of kind {kind} that isn't whole"))?;
        }
        self.given = Some(0);
        Ok(())
    }

    /// Hands on bytes of an object.
    fn poll_data(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = out.remaining().min(self.data).min(PIECE);
        let mut part = ReadBuf::new(out.initialize_unfilled_to(length));
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut part))?;
        let read = part.filled().len();
        out.advance(read);
        self.data -= read;
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for CheckedReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(given) = self.given {
                let rest = &self.packet[given..];
                if !rest.is_empty() {
                    let length = rest.len().min(out.remaining());
                    out.put_slice(&rest[..length]);
                    self.given = Some(given + length);
                    return Poll::Ready(Ok(()));
                }
                if self.data > 0 {
                    return self.poll_data(context, out);
                }
                self.packet.clear();
                self.wanted = HEAD;
                self.given = None;
            }
            if !ready!(self.poll_packet(context))? {
                return Poll::Ready(Ok(()));
            }
            if let Err(wrong) = self.look() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, wrong)));
            }
        }
    }
}

/// Walks over a packet, replaces unprintable bytes of its texts, and is None if the packet contradicts its lengths.
fn check(kind: u8, packet: &mut [u8]) -> Option<()> {
    let mut fields = Fields::new(packet);
    fields.head()?;
    let _number_or_version = fields.u32()?;
    match kind {
        VERSION => {
            while !fields.at_end() {
                fields.bytes()?;
                fields.bytes()?;
            }
        }
        STATUS => {
            fields.u32()?;
            fields.text()?;
            fields.text()?;
        }
        HANDLE => {
            fields.bytes().filter(|handle| handle.len() <= 256)?;
        }
        NAME => {
            for _ in 0..fields.u32()? {
                fields.text()?;
                fields.text()?;
                fields.attributes()?;
            }
        }
        ATTRS => fields.attributes()?,
        EXTENDED_REPLY => return Some(()),
        _ => return None,
    }
    fields.at_end().then_some(())
}

/// The fields of a packet, one after the other.
struct Fields<'a> {
    packet: &'a mut [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(packet: &'a mut [u8]) -> Self {
        Self { packet, at: 0 }
    }

    fn at_end(&self) -> bool {
        self.at == self.packet.len()
    }

    fn take(&mut self, length: usize) -> Option<&mut [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.packet.get_mut(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(<[u8; 4]>::try_from(self.take(4)?).ok()?))
    }

    /// A packet's length and type.
    fn head(&mut self) -> Option<(usize, u8)> {
        let length = self.u32()? as usize;
        Some((length, *self.take(1)?.first()?))
    }

    fn bytes(&mut self) -> Option<&mut [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<()> {
        let text = self.bytes()?;
        text.iter_mut().filter(|byte| !(0x20..0x7f).contains(*byte)).for_each(|byte| *byte = b'?');
        Some(())
    }

    fn attributes(&mut self) -> Option<()> {
        let flags = self.u32()?;
        // Size, owner and group, mode, times.
        for (bit, length) in [(0, 8), (1, 8), (2, 4), (3, 8)] {
            if flags >> bit & 1 == 1 {
                self.take(length)?;
            }
        }
        if flags >> 31 == 1 {
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 1).to_be_bytes()[..], &[kind], body].concat()
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
    }

    fn hello() -> Vec<u8> {
        packet(VERSION, &[&[0, 0, 0, 3][..], &text(b"fsync@openssh.com"), &text(b"1")].concat())
    }

    /// The guard's output, up to its end or its error.
    fn read(stream: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut out = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = runtime.block_on(CheckedReader::new(stream).read_to_end(&mut out));
        (out, end.err().map(|error| error.to_string()))
    }

    fn after_hello(packets: &[u8]) -> (Vec<u8>, Option<String>) {
        let hello = hello();
        let (out, error) = read(&[&hello[..], packets].concat());
        (out[hello.len()..].to_vec(), error)
    }

    #[test]
    fn whole_packets_pass_as_they_are() {
        let status = packet(STATUS, &[&[0, 0, 0, 1, 0, 0, 0, 4][..], &text(b"Failure"), &text(b"")].concat());
        let handle = packet(HANDLE, &[&[0, 0, 0, 2][..], &text(&[0, 0xff])].concat());
        let data = packet(DATA, &[&[0, 0, 0, 3][..], &text(&vec![0xaa; 100_000])].concat());
        let empty = packet(DATA, &[&[0, 0, 0, 4][..], &text(b"")].concat());
        let attributes = packet(ATTRS, &[&[0, 0, 0, 5, 0, 0, 0, 15][..], &[7; 28]].concat());
        let reply = packet(EXTENDED_REPLY, &[0; 36]);
        let all = [status, handle, data, empty, attributes, reply].concat();
        let (out, error) = after_hello(&all);
        assert_eq!(error, None);
        assert!(out == all);
    }

    #[test]
    fn names_that_are_no_plain_text_become_question_marks() {
        let name = |name: &[u8]| {
            let entry = [&text(name)[..], &text(b"-rw \xff\x1b[2J"), &[0x80, 0, 0, 1], &[0; 8], &[0, 0, 0, 1]].concat();
            [entry, text(b"a@b"), text(&[0xff])].concat()
        };
        let count = |count: u8| [0, 0, 0, 9, 0, 0, 0, count];
        let sent = packet(NAME, &[&count(2)[..], &name(b"ok.pack"), &name(b"\xff\xe4 \n")].concat());
        let (out, error) = after_hello(&sent);
        assert_eq!(error, None);
        assert_eq!(out.len(), sent.len());
        let shown = String::from_utf8_lossy(&out);
        assert!(shown.contains("ok.pack") && shown.contains("?? ?") && shown.contains("-rw ??[2J"), "{shown:?}");
    }

    #[test]
    fn what_is_not_what_it_says_ends_the_connection() {
        let count_too_large = packet(NAME, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        let text_too_long = packet(STATUS, &[0, 0, 0, 1, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]);
        let data_says_more = packet(DATA, &[0, 0, 0, 1, 0, 0, 0, 9, 1, 2]);
        let data_without_length = packet(DATA, &[0, 0, 0, 1]);
        let long_handle = packet(HANDLE, &[&[0, 0, 0, 2][..], &text(&[1; 257])].concat());
        let trailing = packet(ATTRS, &[0, 0, 0, 1, 0, 0, 0, 0, 9]);
        let unknown = packet(77, &[0; 8]);
        let huge = [&[0x7f, 0xff, 0xff, 0xff][..], &[DATA; 40]].concat();
        let empty = [0, 0, 0, 0, STATUS].to_vec();
        for bad in [
            count_too_large,
            text_too_long,
            data_says_more,
            data_without_length,
            long_handle,
            trailing,
            unknown,
            huge,
            empty,
            hello()[..20].to_vec().repeat(2),
        ] {
            let (out, error) = after_hello(&bad);
            assert!(error.is_some() && out.is_empty(), "{bad:?}: {out:?}");
        }
    }

    #[test]
    fn a_greeting_that_is_no_sftp_is_shown() {
        let (_, error) = read(b"This account is currently not available.\n");
        assert!(error.as_ref().unwrap().contains("\"This \""), "{error:?}");
        assert!(read(&packet(STATUS, &[0; 16])).1.unwrap().contains("SFTP"));
    }

    proptest! {
        #[test]
        fn whatever_comes_what_is_handed_on_is_a_prefix_of_packets(
            packets in prop::collection::vec((100_u8..107, prop::collection::vec(any::<u8>(), 0..40)), 0..5)
        ) {
            let sent: Vec<u8> = packets.iter().flat_map(|(kind, body)| packet(*kind, body)).collect();
            let (out, error) = after_hello(&sent);
            prop_assert!(out.len() <= sent.len());
            prop_assert_eq!(error.is_none(), out.len() == sent.len());
        }
    }
}
