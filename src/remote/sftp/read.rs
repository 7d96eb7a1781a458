//! Reading objects: many requests on their way at once, over several connections where there is much to read.

use std::collections::VecDeque;
use std::sync::Arc;

use openssh_sftp_client_lowlevel::{AwaitableDataFuture, SftpErrorKind};

use super::Inner;
use super::connection::Connection;
use super::files::OpenFile;
use super::link::Buffer;
use super::link::{Reply, RequestFault};
use super::requests::{FileStatus, bytes_of, found};
use crate::remote::{Error, ErrorKind, ObjectName, Result};

/// Reads that are on their way at once on one connection: twice the window of an SSH channel.
const IN_FLIGHT: usize = 16;
/// The least share of one read, in bytes, for which a further connection is used.
const SHARE: u64 = 512 << 10;

const ACTION: &str = "reading";

/// A read that is on its way.
struct Asked {
    reply: Reply<AwaitableDataFuture<Buffer>>,
    source: usize,
    offset: u64,
    length: usize,
}

/// An object that is open on one connection.
struct OpenObject {
    connection: Arc<Connection>,
    open: OpenFile,
}

impl Inner {
    pub(super) fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let connection = self.connection()?;
        self.wait(async {
            let open = self.open_object(&connection, name).await?;
            let size = open.size;
            if size > limit {
                let reason = format!("it has {size} bytes, at most {limit} were expected");
                return Err(Error::new(ErrorKind::Invalid, ACTION, self.at(name), reason));
            }
            let mut bytes = Vec::new();
            let source = OpenObject { connection: Arc::clone(&connection), open };
            self.read(&[source], name, 0, size, |piece| bytes.extend_from_slice(piece)).await?;
            Ok(bytes)
        })
    }

    pub(super) fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        let count = usize::try_from(length / SHARE).unwrap_or(usize::MAX).max(1);
        let connections = match count {
            1 => vec![self.connection()?],
            count => self.pool.several(count, &self.handle).map_err(|disconnect| self.unreached(&disconnect))?,
        };
        self.wait(async {
            let sources = self.sources(connections, name).await?;
            let size = sources.iter().map(|source| source.open.size).min().unwrap_or(0);
            if offset.checked_add(length).is_none_or(|end| end > size) {
                let reason = format!("it has {size} bytes, {length} from {offset} on were asked for");
                return Err(Error::new(ErrorKind::Short, ACTION, self.at(name), reason));
            }
            let mut rest = buffer;
            let fill = |piece: &[u8]| {
                let (now, later) = std::mem::take(&mut rest).split_at_mut(piece.len());
                now.copy_from_slice(piece);
                rest = later;
            };
            self.read(&sources, name, offset, length, fill).await
        })
    }

    /// The object, open on each of the connections.
    async fn sources(&self, connections: Vec<Arc<Connection>>, name: &ObjectName) -> Result<Vec<OpenObject>> {
        let mut sources = Vec::with_capacity(connections.len());
        let mut opening = Vec::new();
        for connection in connections {
            match connection.files.get(name) {
                Some(open) => sources.push(OpenObject { connection, open }),
                None => {
                    let path = self.path(name);
                    let asked = connection.lstat(&path).and_then(|look| Ok((look, connection.open_file(&path)?)));
                    opening.push((connection, asked));
                }
            }
        }
        for (connection, asked) in opening {
            let (look, opened) = asked.map_err(|fault| self.error(ACTION, name, fault))?;
            let open = self.opened_object(&connection, name, look, opened).await?;
            sources.push(OpenObject { connection, open });
        }
        Ok(sources)
    }

    async fn open_object(&self, connection: &Arc<Connection>, name: &ObjectName) -> Result<OpenFile> {
        let mut sources = self.sources(vec![Arc::clone(connection)], name).await?;
        let source =
            sources.pop().ok_or_else(|| self.error(ACTION, name, RequestFault::Strange("no file".to_owned())))?;
        Ok(source.open)
    }

    /// Waits for a look at an object and for its opening, and keeps it open.
    async fn opened_object(
        &self,
        connection: &Connection,
        name: &ObjectName,
        look: super::requests::AttributesReply,
        opened: Reply<openssh_sftp_client_lowlevel::AwaitableHandleFuture<Buffer>>,
    ) -> Result<OpenFile> {
        let looked = found(look).await;
        // Even if the request failed: an opened file must be closed.
        let file = connection.opened(opened).await;
        let size = match looked.map_err(|fault| self.error(ACTION, name, fault))? {
            Some(FileStatus::Plain(size)) => size,
            Some(_) => return Err(self.no_plain_file(ACTION, name)),
            None => {
                let gone = RequestFault::Status(SftpErrorKind::NoSuchFile, "No such file".to_owned());
                return Err(self.error(ACTION, name, gone));
            }
        };
        let file = Arc::new(file.map_err(|fault| self.error(ACTION, name, fault))?);
        let open = OpenFile { file, size };
        connection.files.put(name, open.clone());
        Ok(open)
    }

    /// Reads a range by turns from the sources, and gives its pieces in order to `sink`.
    async fn read(
        &self,
        sources: &[OpenObject],
        name: &ObjectName,
        offset: u64,
        length: u64,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<()> {
        let fail = |fault| self.error(ACTION, name, fault);
        let end = offset + length;
        let mut asked: VecDeque<Asked> = VecDeque::new();
        let mut spare: Vec<Buffer> = Vec::new();
        let (mut next, mut turn) = (offset, 0);
        loop {
            while next < end && asked.len() < IN_FLIGHT * sources.len() {
                let source = turn % sources.len();
                turn += 1;
                let length = (end - next).min(u64::from(sources[source].connection.read_size));
                let reply = ask(&sources[source], next, length as u32, spare.pop().unwrap_or_default());
                asked.push_back(Asked { reply: reply.map_err(fail)?, source, offset: next, length: length as usize });
                next += length;
            }
            let Some(Asked { reply, source, offset, length }) = asked.pop_front() else { return Ok(()) };
            let mut bytes = bytes_of(reply.get().await.map_err(fail)?);
            // A server may give less than it was asked for.
            while (1..length).contains(&bytes.len()) {
                let at = offset + bytes.len() as u64;
                let more = ask(&sources[source], at, (length - bytes.len()) as u32, Buffer::new()).map_err(fail)?;
                let more = bytes_of(more.get().await.map_err(fail)?);
                if more.is_empty() {
                    break;
                }
                bytes.extend_from_slice(&more);
            }
            match bytes.len() {
                read if read == length => sink(&bytes),
                read if read > length => {
                    return Err(fail(RequestFault::Strange("more bytes than were asked for".to_owned())));
                }
                read => {
                    let reason = format!("it ends at {}, though it had more bytes before", offset + read as u64);
                    return Err(Error::new(ErrorKind::Short, ACTION, self.at(name), reason));
                }
            }
            bytes.clear();
            spare.push(bytes);
        }
    }
}

fn ask(
    source: &OpenObject,
    offset: u64,
    length: u32,
    buffer: Buffer,
) -> std::result::Result<Reply<AwaitableDataFuture<Buffer>>, RequestFault> {
    source.connection.read(&source.open.file, offset, length, buffer)
}
