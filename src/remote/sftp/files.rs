//! The files that were read last over a connection, still open.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use openssh_sftp_client_lowlevel::{Handle, HandleOwned};

use super::link::{Requests, SharedRequests};
use crate::remote::{ObjectName, lock};

/// A file or folder that is open on a server.
pub(super) struct File {
    shared: SharedRequests,
    handle: HandleOwned,
}

impl File {
    pub(super) fn new(shared: SharedRequests, handle: HandleOwned) -> Self {
        Self { shared, handle }
    }

    pub(super) fn handle(&self) -> Cow<'_, Handle> {
        Cow::Borrowed(&self.handle)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let mut requests = Requests::new(self.shared.clone());
        let id = requests.create_response_id();
        // Nobody waits for the answer, and nothing hangs on it.
        let _ = requests.send_close_request(id, self.handle());
    }
}

/// An object that is open for reading.
#[derive(Clone)]
pub(super) struct OpenFile {
    pub file: Arc<File>,
    /// Its size when it was opened.
    pub size: u64,
}

/// A few open files, the last used in front. Objects don't change, so a file that is open is the object.
#[derive(Default)]
pub(super) struct OpenFiles(Mutex<VecDeque<(ObjectName, OpenFile)>>);

impl OpenFiles {
    /// A restore reads a pack and the packs of its bases in turn, from a few threads.
    const MOST: usize = 16;

    pub(super) fn get(&self, name: &ObjectName) -> Option<OpenFile> {
        let mut files = lock(&self.0);
        let found = files.iter().position(|(open, _)| open == name)?;
        let entry = files.remove(found)?;
        let file = entry.1.clone();
        files.push_front(entry);
        Some(file)
    }

    /// Keeps an open file, and closes the one that was used longest ago.
    pub(super) fn put(&self, name: &ObjectName, file: OpenFile) {
        let mut files = lock(&self.0);
        files.retain(|(open, _)| open != name);
        files.push_front((name.clone(), file));
        files.truncate(Self::MOST);
    }

    /// Lets the object's file go.
    pub(super) fn forget(&self, name: &ObjectName) {
        lock(&self.0).retain(|(open, _)| open != name);
    }
}
