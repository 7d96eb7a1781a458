//! A TCP proxy on a loopback port that delays data, cuts a connection, or lets it stall. It counts round trips, and may pass
//! only so many bytes a second.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The fault of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both sides see it closed.
    Cut,
    /// Nothing moves on it for a second, and then all continues.
    Pause,
    /// Nothing moves on it any more, and nobody is told.
    Stall,
    /// It and all others are closed, and so is each new one, until [`Proxy::up`].
    Down,
}

/// A proxy that is running. Its connections are cut when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    delay: Duration,
    /// Bytes a second in each direction.
    rate: Option<u32>,
    /// When the bytes so far have passed, to the server and to the client.
    free: [Mutex<Option<Instant>>; 2],
    turns: Mutex<Turns>,
    passed: Mutex<Passed>,
    ended: AtomicBool,
}

/// Bytes that were passed on, in both directions together, and the fault at one of them.
#[derive(Default)]
struct Passed {
    bytes: u64,
    fault: Option<(u64, Fault)>,
    down: bool,
    open: Vec<TcpStream>,
}

/// Round trips that went before what has arrived.
#[derive(Default)]
struct Turns {
    at_client: u64,
    at_server: u64,
    most: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Bytes on their way.
struct Piece {
    due: Instant,
    turn: u64,
    bytes: Vec<u8>,
}

const PIECE: usize = 64 << 10;
/// Pieces that may be under way in one direction: more than any window.
const UNDER_WAY: usize = 1024;

impl Proxy {
    /// Passes on to a loopback port. Every byte takes half of `round_trip`.
    pub fn start(target: u16, round_trip: Duration) -> Self {
        Self::start_narrow(target, round_trip, None)
    }

    /// The same, and no more than `rate` bytes a second pass in each direction, over all connections together.
    pub fn start_narrow(target: u16, round_trip: Duration, rate: Option<u32>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            delay: round_trip / 2,
            rate,
            free: Default::default(),
            turns: Mutex::default(),
            passed: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if state.ended.load(Ordering::SeqCst) {
                    return;
                }
                if state.passed.lock().unwrap().down {
                    continue;
                }
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                    state.serve(client, server);
                }
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that were passed on so far.
    pub fn passed(&self) -> u64 {
        self.shared.passed.lock().unwrap().bytes
    }

    /// The round trips on the longest path so far: a request that is sent after an answer has arrived comes one later than
    /// what was answered. Requests beside each other, over one connection or several, count once.
    pub fn turns(&self) -> u64 {
        self.shared.turns.lock().unwrap().most
    }

    /// The connection over which the byte of this number goes will have the fault.
    pub fn fault_at(&self, byte: u64, fault: Fault) {
        self.shared.passed.lock().unwrap().fault = Some((byte, fault));
    }

    /// New connections are passed on again.
    pub fn up(&self) {
        self.shared.passed.lock().unwrap().down = false;
    }

    /// Whether the fault has happened.
    pub fn has_failed(&self) -> bool {
        self.shared.passed.lock().unwrap().fault.is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The thread that accepts sees it with the next connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        for stream in &self.shared.passed.lock().unwrap().open {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let stalled = Arc::new(AtomicBool::new(false));
        for (from, to, way) in [(&client, &server, Way::ToServer), (&server, &client, Way::ToClient)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            self.passed.lock().unwrap().open.push(from.try_clone().unwrap());
            let (sender, receiver) = sync_channel(UNDER_WAY);
            let (shared, stalled) = (Arc::clone(self), Arc::clone(&stalled));
            let state = Arc::clone(self);
            std::thread::spawn(move || shared.take(from, way, &sender, &stalled));
            std::thread::spawn(move || state.give(to, way, &receiver));
        }
    }

    /// Reads pieces until the end or the fault.
    fn take(&self, mut from: TcpStream, way: Way, sender: &SyncSender<Piece>, stalled: &AtomicBool) {
        loop {
            let mut piece = vec![0; PIECE];
            let Ok(length @ 1..) = from.read(&mut piece) else { return };
            piece.truncate(length);
            if stalled.load(Ordering::SeqCst) {
                return hold(sender);
            }
            match self.count(length as u64) {
                None => {}
                Some((rest, fault)) => {
                    let later = piece.split_off(rest);
                    let _ = sender.send(self.send(way, piece));
                    match fault {
                        Fault::Pause => {
                            std::thread::sleep(Duration::from_secs(1));
                            piece = later;
                        }
                        Fault::Cut => {
                            // Earlier data arrives first.
                            std::thread::sleep(self.delay);
                            let _ = from.shutdown(Shutdown::Both);
                            return;
                        }
                        Fault::Down => {
                            let mut passed = self.passed.lock().unwrap();
                            passed.down = true;
                            for stream in passed.open.drain(..) {
                                let _ = stream.shutdown(Shutdown::Both);
                            }
                            return;
                        }
                        Fault::Stall => {
                            stalled.store(true, Ordering::SeqCst);
                            return hold(sender);
                        }
                    }
                }
            }
            if sender.send(self.send(way, piece)).is_err() {
                return;
            }
        }
    }

    /// Puts bytes on their way. Waits while the line is busy with others.
    fn send(&self, way: Way, bytes: Vec<u8>) -> Piece {
        let turn = {
            let mut turns = self.turns.lock().unwrap();
            let turn = match way {
                Way::ToServer => turns.at_client + 1,
                Way::ToClient => turns.at_server,
            };
            turns.most = turns.most.max(turn);
            turn
        };
        let mut passed = Instant::now();
        if let Some(rate) = self.rate {
            let mut free = self.free[way as usize].lock().unwrap();
            passed = free.unwrap_or(passed).max(passed) + Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
            *free = Some(passed);
        }
        std::thread::sleep(passed.saturating_duration_since(Instant::now()));
        Piece { due: passed + self.delay, turn, bytes }
    }

    /// Writes pieces when they are due.
    fn give(&self, mut to: TcpStream, way: Way, receiver: &Receiver<Piece>) {
        for Piece { due, turn, bytes } in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            {
                let mut turns = self.turns.lock().unwrap();
                let arrived = match way {
                    Way::ToServer => &mut turns.at_server,
                    Way::ToClient => &mut turns.at_client,
                };
                *arrived = turn.max(*arrived);
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Counts bytes. Where the fault is among them: how many go before it.
    fn count(&self, length: u64) -> Option<(usize, Fault)> {
        let mut passed = self.passed.lock().unwrap();
        let before = passed.bytes;
        passed.bytes += length;
        let (at, fault) = passed.fault.filter(|(at, _)| *at < passed.bytes)?;
        passed.fault = None;
        Some((at.saturating_sub(before) as usize, fault))
    }
}

/// Keeps the other side open without a byte, until the process ends.
fn hold(sender: &SyncSender<Piece>) {
    let _open = sender.clone();
    loop {
        std::thread::park();
    }
}
