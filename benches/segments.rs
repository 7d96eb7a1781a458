//! Based segments, compressed in each way that a backup knows: `cargo bench --bench segments -- YESTERDAY TODAY`.
//!
//! Each MiB of TODAY is compressed against the bytes of YESTERDAY that it replaced, and a little on either side; what isn't
//! found there is left out. For each way: the least seconds of five rounds, on one core, and the bytes.

use std::time::{Duration, Instant};

use memchr::memmem;
use varu::segment::{SegmentError, compress_based, compress_near};

const BLOCK: usize = 1 << 20;
const ROUNDS: usize = 5;
/// Bytes that are taken on either side.
const MARGIN: usize = 32 << 10;
/// Bytes by which a row may have moved.
const REACH: usize = 32 << 20;

/// Compresses a block against its base, into the buffer.
type Way<'w> = &'w mut dyn FnMut(&[u8], &[u8], &mut Vec<u8>) -> Result<(), SegmentError>;

fn main() {
    let files: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [yesterday, today] = files.as_slice() else {
        println!("usage: cargo bench --bench segments -- YESTERDAY TODAY");
        return;
    };
    let read = |path: &String| std::fs::read(path).unwrap_or_else(|error| panic!("{path} can't be read: {error}"));
    let (yesterday, today) = (read(yesterday), read(today));
    let pairs: Vec<_> = today
        .chunks_exact(BLOCK)
        .enumerate()
        .filter_map(|(number, block)| {
            let start = (number * BLOCK).saturating_sub(REACH);
            let near = yesterday.get(start..(start + 2 * REACH).min(yesterday.len()))?;
            let find = |at: usize| Some(start + memmem::find(near, &block[at..at + 256])?);
            let (from, to) =
                ((0..BLOCK / 2).step_by(1024).find_map(find)?, (BLOCK / 2..BLOCK - 256).step_by(1024).find_map(find)?);
            let (from, to) = (from.saturating_sub(MARGIN), (to + BLOCK / 2 + MARGIN).min(yesterday.len()));
            (from < to && to - from < 2 * BLOCK).then(|| (&yesterday[from..to], block))
        })
        .collect();
    println!("{} blocks of {}", pairs.len(), today.len() / BLOCK);
    let measure = |name: &str, compress: Way<'_>| {
        let (mut best, mut bytes, mut frame) = (Duration::MAX, 0, Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            bytes = 0;
            for (base, block) in &pairs {
                compress(base, block, &mut frame).expect("zstd compresses a block");
                bytes += frame.len();
            }
            best = best.min(start.elapsed());
        }
        println!("{name:18} {:6.2} s {:11} bytes", best.as_secs_f64(), bytes);
    };
    for level in [3, 9] {
        measure(&format!("based, level {level}"), &mut |base, block, out| compress_based(level, base, block, out));
    }
    measure("near", &mut |base, block, out| compress_near(base, block, out));
}
