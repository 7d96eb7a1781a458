//! Writes generated database dumps for the benchmarks: `cargo bench --bench dumps -- FOLDER MEGABYTES DAYS [PERCENT]`.
//!
//! A shop: customers, products, orders and order lines, in extended INSERT statements of about 1 MB. Each day PERCENT (1) of
//! the customers, products and orders change, scattered over their tables, one in a thousand goes, and the order tables grow
//! by a hundredth. The same arguments write the same bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

const WORDS: [&str; 32] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "iris", "juniper", "kelp", "lantern",
    "maple", "north", "oak", "pine", "quartz", "river", "stone", "tide", "umber", "valley", "willow", "xenon",
    "yarrow", "zephyr", "street", "road", "square", "alley", "bridge", "gate",
];

/// SplitMix64: a hash good enough for made-up rows.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The last day, up to `day`, on which a row changed.
fn version(table: u64, row: u64, day: u64, per_myriad: u64) -> u64 {
    (1..=day).rev().find(|day| mix(table << 56 ^ row << 16 ^ day) % 10_000 < per_myriad).unwrap_or(0)
}

fn is_gone(table: u64, row: u64, day: u64) -> bool {
    (1..=day).any(|day| mix(!((table << 56) ^ (row << 16) ^ day)).is_multiple_of(1000))
}

/// Made-up prose: common words stand more often than rare ones.
fn prose(seed: u64, words: u64) -> String {
    let mut text = String::with_capacity(words as usize * 8);
    for number in 0..words {
        let bits = mix(seed ^ number << 40);
        // The square of an even number in 0..1 prefers the small ones.
        let rank = ((((bits >> 32) * (bits >> 32)) >> 32) * 3000) >> 32;
        text.push_str(WORDS[(rank % 32) as usize]);
        if rank >= 32 {
            text.push_str(["s", "er", "ing", "ly", "ed", "ness", "al", "ish"][(mix(rank) % 8) as usize]);
            text.push(char::from(b'a' + (mix(rank) >> 8 & 15) as u8));
        }
        text.push(' ');
    }
    text
}

fn write_row(out: &mut impl Write, table: u64, row: u64, version: u64) -> std::io::Result<()> {
    let base = mix(table << 48 ^ row);
    let fresh = mix(base ^ version);
    let word = |bits: u64| WORDS[(bits % 32) as usize];
    match table {
        0 => write!(
            out,
            "({row},'{} {}','{}.{}{}@example.org','{} {} {}','+372 {}','2026-{:02}-{:02} 10:{:02}:{:02}',{}.{:02},'{}')",
            word(base),
            word(base >> 5),
            word(base >> 10),
            word(base >> 15),
            base >> 20 & 0xffff,
            word(base >> 25),
            word(base >> 30),
            base >> 35 & 0xff,
            base >> 40 & 0xff_ffff,
            fresh % 12 + 1,
            fresh >> 8 & 0xf | 1,
            fresh >> 16 & 0x1f,
            fresh >> 24 & 0x1f,
            fresh >> 32 & 0xfff,
            fresh >> 48 & 0x3f,
            prose(base, 90),
        ),
        1 => write!(
            out,
            "({row},'SKU-{:08X}','{} {} {}',{}.{:02},{},'{}')",
            base as u32,
            word(base >> 32),
            word(base >> 37),
            word(base >> 42),
            base >> 47 & 0x3ff,
            base >> 57 & 0x3f,
            fresh & 0xfff,
            prose(base, 150),
        ),
        2 => write!(
            out,
            "({row},{},'2026-{:02}-{:02} {:02}:{:02}:{:02}','{}',{}.{:02},'{}')",
            base % 100_000,
            row / 40_000 % 12 + 1,
            row / 1300 % 28 + 1,
            row / 60 % 24,
            base >> 20 & 0x1f,
            base >> 30 & 0x1f,
            ["new", "paid", "sent", "done"][(fresh % 4) as usize],
            base >> 40 & 0xfff,
            base >> 52 & 0x3f,
            prose(base, 50) + &prose(fresh, 10),
        ),
        _ => write!(
            out,
            "({row},{},{},{},{}.{:02})",
            row / 3,
            base % 20_000,
            fresh % 9 + 1,
            base >> 16 & 0x1ff,
            base >> 32 & 0x3f
        ),
    }
}

fn write_dump(path: &Path, megabytes: u64, day: u64, per_myriad: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let rows = [megabytes * 330, megabytes * 90, megabytes * 700, megabytes * 2400];
    writeln!(out, "-- MariaDB dump\n/*!40101 SET NAMES utf8mb4 */;")?;
    for (table, (name, rows)) in ["customer", "product", "orders", "order_line"].iter().zip(rows).enumerate() {
        let grown = if table >= 2 { rows + rows / 100 * day } else { rows };
        writeln!(out, "DROP TABLE IF EXISTS `{name}`;\nCREATE TABLE `{name}` (`id` int PRIMARY KEY);")?;
        let mut statement = 0;
        for row in (1..=grown).filter(|&row| !is_gone(table as u64, row, day)) {
            out.write_all(if statement == 0 { b"INSERT INTO `" } else { b"," })?;
            if statement == 0 {
                write!(out, "{name}` VALUES ")?;
            }
            write_row(
                &mut out,
                table as u64,
                row,
                if table < 3 { version(table as u64, row, day, per_myriad) } else { 0 },
            )?;
            statement = (statement + 1) % 1600;
            if statement == 0 {
                out.write_all(b";\n")?;
            }
        }
        out.write_all(if statement == 0 { b"\n" } else { b";\n" })?;
    }
    writeln!(out, "-- Dump completed")?;
    out.flush()
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |at: usize| arguments.get(at).and_then(|word| word.parse::<f64>().ok());
    let (Some(folder), Some(megabytes), Some(days)) = (arguments.first(), number(1), number(2)) else {
        println!("usage: cargo bench --bench dumps -- FOLDER MEGABYTES DAYS [PERCENT]");
        return Ok(());
    };
    std::fs::create_dir_all(folder)?;
    let per_myriad = (number(3).unwrap_or(1.0) * 100.0) as u64;
    for day in 0..days as u64 {
        let path = Path::new(folder).join(format!("dump-{:02}.sql", day + 1));
        write_dump(&path, megabytes as u64, day, per_myriad)?;
        println!("{} {} bytes", path.display(), path.metadata()?.len());
    }
    Ok(())
}
