//! A client that says any SFTP request (version 3), also those that varu never makes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// One session.
pub struct Raw {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    number: u32,
}

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const APPEND: u32 = 4;
pub const CREATE: u32 = 8;
pub const TRUNCATE: u32 = 16;
pub const EXCLUSIVE: u32 = 32;

const STATUS: u8 = 101;
const HANDLE: u8 = 102;

/// The status with which a request failed.
pub type Refused = u32;

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

impl Raw {
    /// Starts `ssh … -s LOGIN sftp`.
    pub fn open(mut ssh: Command, login: &str) -> Self {
        ssh.args(["-s", login, "sftp"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut raw = Self { child, to, from, number: 0 };
        raw.send(&[1, 0, 0, 0, 3]);
        assert_eq!(raw.receive()[0], 2, "no SFTP server answers");
        raw
    }

    fn send(&mut self, packet: &[u8]) {
        self.to.write_all(&text(packet)).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).unwrap();
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.from.read_exact(&mut packet).unwrap();
        packet
    }

    /// A request, and the answer to it.
    fn ask(&mut self, kind: u8, body: &[&[u8]]) -> (u8, Vec<u8>) {
        self.number += 1;
        let packet = [&[kind][..], &self.number.to_be_bytes(), &body.concat()].concat();
        self.send(&packet);
        let answer = self.receive();
        assert_eq!(answer[1..5], self.number.to_be_bytes());
        (answer[0], answer[5..].to_vec())
    }

    fn status(&mut self, kind: u8, body: &[&[u8]]) -> Result<(), Refused> {
        match self.ask(kind, body) {
            (STATUS, status) if status[..4] == [0; 4] => Ok(()),
            (STATUS, status) => Err(u32::from_be_bytes(status[..4].try_into().unwrap())),
            _ => Ok(()),
        }
    }

    /// Opens a file; its handle.
    pub fn handle(&mut self, path: &str, flags: u32) -> Result<Vec<u8>, Refused> {
        // With all permissions asked for.
        let attributes = [&4_u32.to_be_bytes()[..], &0o777_u32.to_be_bytes()].concat();
        match self.ask(3, &[&text(path.as_bytes()), &flags.to_be_bytes(), &attributes]) {
            (HANDLE, handle) => Ok(handle),
            (_, status) => Err(u32::from_be_bytes(status[..4].try_into().unwrap())),
        }
    }

    pub fn close(&mut self, handle: &[u8]) -> Result<(), Refused> {
        self.status(4, &[handle])
    }

    pub fn write(&mut self, handle: &[u8], offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        self.status(6, &[handle, &offset.to_be_bytes(), &text(bytes)])
    }

    /// Makes a file with this content.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), Refused> {
        let handle = self.handle(path, WRITE | CREATE | EXCLUSIVE)?;
        self.write(&handle, 0, bytes)?;
        self.close(&handle)
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Refused> {
        self.status(18, &[&text(from.as_bytes()), &text(to.as_bytes())])
    }

    pub fn remove(&mut self, path: &str) -> Result<(), Refused> {
        self.status(13, &[&text(path.as_bytes())])
    }

    pub fn make_folder(&mut self, path: &str) -> Result<(), Refused> {
        self.status(14, &[&text(path.as_bytes()), &0_u32.to_be_bytes()])
    }

    pub fn remove_folder(&mut self, path: &str) -> Result<(), Refused> {
        self.status(15, &[&text(path.as_bytes())])
    }

    pub fn symlink(&mut self, target: &str, path: &str) -> Result<(), Refused> {
        // OpenSSH takes them in this order.
        self.status(20, &[&text(target.as_bytes()), &text(path.as_bytes())])
    }

    pub fn chmod(&mut self, path: &str) -> Result<(), Refused> {
        self.status(9, &[&text(path.as_bytes()), &4_u32.to_be_bytes(), &0o666_u32.to_be_bytes()])
    }

    pub fn truncate(&mut self, path: &str) -> Result<(), Refused> {
        self.status(9, &[&text(path.as_bytes()), &1_u32.to_be_bytes(), &0_u64.to_be_bytes()])
    }

    /// Changes an open file's size, or its mode.
    pub fn change_handle(&mut self, handle: &[u8], size: Option<u64>) -> Result<(), Refused> {
        match size {
            Some(size) => self.status(10, &[handle, &1_u32.to_be_bytes(), &size.to_be_bytes()]),
            None => self.status(10, &[handle, &4_u32.to_be_bytes(), &0o666_u32.to_be_bytes()]),
        }
    }

    /// An extended request with texts.
    pub fn extended(&mut self, name: &str, texts: &[&str]) -> Result<(), Refused> {
        let texts: Vec<u8> = texts.iter().flat_map(|one| text(one.as_bytes())).collect();
        self.status(200, &[&text(name.as_bytes()), &texts])
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
