use std::sync::Mutex;

use rustix::process::{Pid, test_kill_process};

use super::*;
use crate::time::SystemClock;
use crate::warning::Warning;

/// Keeps the notes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn phase(&self, _: &str, _: Option<u64>, _: Option<u64>) {}
    fn add(&self, _: crate::progress::Counter, _: u64) {}
    fn note(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn warn(&self, _: &Warning) {}
}

fn options(script: &str) -> CommandOptions {
    let argv = ["sh", "-c", script].map(OsString::from).to_vec();
    CommandOptions::new(StreamName::new("shop.sql").unwrap(), argv)
}

fn start(options: CommandOptions) -> (CommandSource, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let mut source = CommandSource::new(options, &SystemClock, notes.clone(), Interrupt::default()).unwrap();
    assert_eq!(source.next().unwrap().unwrap().kind, Kind::Data);
    (source, notes)
}

fn read_all(source: &mut CommandSource) -> Result<Vec<u8>, Error> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

fn error_of(options: CommandOptions) -> String {
    let (mut source, _) = start(options);
    let error = read_all(&mut source).unwrap_err();
    assert!(matches!(error, Error::Failed(_)));
    assert!(source.finish().is_err(), "a failed program is never finished");
    error.to_string()
}

#[test]
fn a_program_that_succeeds_gives_all_its_output() {
    let (mut source, notes) = start(options("seq 1 300000; echo one >&2; printf two >&2"));
    let output = read_all(&mut source).unwrap();
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(output == expected.as_bytes());
    assert_eq!(source.end().unwrap().size, expected.len() as u64);
    assert_eq!(source.next().unwrap(), None);
    source.finish().unwrap();
    assert_eq!(*notes.0.lock().unwrap(), ["sh: one", "sh: two"]);
}

#[test]
fn a_program_that_fails_is_named_with_its_status_and_the_end_of_its_stderr() {
    let script = "echo data; yes 0123456789 | head -c 9000 >&2; printf 'last\\033[2J words\\n' >&2; exit 3";
    let error = error_of(options(script));
    assert!(error.starts_with("sh (stream shop.sql) ended with exit status 3; "), "{error}");
    assert!(error.ends_with("last\\u{1b}[2J words"), "{error}");
    assert!((1500..4000).contains(&error.len()), "{}", error.len());
}

#[test]
fn a_killed_program_is_named_with_its_signal() {
    let error = error_of(options("echo data; kill -9 $$"));
    assert!(error.contains("was killed by signal 9 (SIGKILL)"), "{error}");
}

#[test]
fn a_failure_counts_even_if_the_output_is_held_open() {
    let error = error_of(options("sleep 1000 & exit 4"));
    assert!(error.contains("exit status 4"), "{error}");
}

#[test]
fn a_program_that_closes_its_output_and_then_fails_has_failed() {
    let error = error_of(options("echo data; exec >&-; sleep 0.2; exit 5"));
    assert!(error.contains("exit status 5"), "{error}");
}

#[test]
fn output_that_is_held_open_after_the_end_does_not_hang() {
    let linger = Duration::from_millis(300);
    let error = error_of(CommandOptions { linger, ..options("echo data; sleep 1000 & exit 0") });
    assert!(error.contains("still holds its output open"), "{error}");
}

#[test]
fn output_that_comes_after_the_end_of_the_program_is_kept() {
    let (mut source, _) = start(options("(sleep 0.5; echo late) & echo early"));
    assert_eq!(read_all(&mut source).unwrap(), b"early\nlate\n");
}

#[test]
fn the_completion_text_must_stand_at_the_end() {
    let complete = |script: &str| CommandOptions { completion: Some("-- Dump completed".into()), ..options(script) };
    let (mut source, _) = start(complete("seq 1 9999; echo '-- Dump completed on 2026'; echo '\\unrestrict x'"));
    read_all(&mut source).unwrap();
    source.finish().unwrap();
    let error = error_of(complete("echo '-- Dump completed'; seq 1 9999"));
    assert!(error.contains("doesn't end with \"-- Dump completed\""), "{error}");
}

#[test]
fn too_few_bytes_are_refused() {
    let error = error_of(CommandOptions { min_size: 6, ..options("echo data") });
    assert!(error.contains("wrote 5 bytes, fewer than the 6"), "{error}");
    let (mut source, _) = start(CommandOptions { min_size: 5, ..options("echo data") });
    read_all(&mut source).unwrap();
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let options = CommandOptions::new(StreamName::new("x").unwrap(), vec!["/does/not/exist".into()]);
    let started = CommandSource::new(options, &SystemClock, Arc::new(Notes::default()), Interrupt::default());
    assert!(started.err().unwrap().to_string().starts_with("starting /does/not/exist for x: "));
}

#[test]
fn an_interrupt_reaches_a_silent_program() {
    let interrupt = Interrupt::default();
    let notes = Arc::new(Notes::default());
    let mut source = CommandSource::new(options("sleep 1000"), &SystemClock, notes, interrupt.clone()).unwrap();
    source.next().unwrap();
    interrupt.set();
    assert!(read_all(&mut source).unwrap_err().to_string().contains("interrupted"));
}

/// Whether the process is gone, waiting for a while until it is.
fn gone(pid: i32) -> bool {
    let pid = Pid::from_raw(pid).unwrap();
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        test_kill_process(pid).is_err() || is_zombie(pid)
    })
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn first_numbers(source: &mut CommandSource, count: usize) -> Vec<i32> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.iter().filter(|&&byte| byte == b'\n').count() < count {
        assert_eq!(source.read(&mut byte).unwrap(), 1);
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn dropping_the_source_ends_the_whole_group() {
    let (mut source, _) = start(options("sh -c 'echo $$; sleep 1000; true' & echo $$; wait"));
    let pids = first_numbers(&mut source, 2);
    drop(source);
    assert!(pids.into_iter().all(gone));
}

#[test]
fn what_ignores_the_request_to_end_is_killed() {
    let script = "trap '' TERM; echo $$; while :; do sleep 0.1; done";
    let (mut source, _) = start(CommandOptions { grace: Duration::from_millis(200), ..options(script) });
    let pids = first_numbers(&mut source, 1);
    drop(source);
    assert!(pids.into_iter().all(gone));
}

#[test]
fn what_a_finished_program_left_behind_ends_with_the_source() {
    let (mut source, _) = start(options("sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' & sleep 0.3"));
    let pids = first_numbers(&mut source, 1);
    read_all(&mut source).unwrap();
    source.finish().unwrap();
    assert!(test_kill_process(Pid::from_raw(pids[0]).unwrap()).is_ok());
    drop(source);
    assert!(pids.into_iter().all(gone));
}
