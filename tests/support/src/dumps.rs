//! Generated database dumps whose rows change, come and go, and the delta of the zstd program between two of them.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::Random;

const WORDS: [&str; 24] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "iris", "juniper", "kelp", "lantern",
    "maple", "north", "oak", "pine", "quartz", "river", "stone", "tide", "umber", "valley", "willow", "xenon",
];

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// About a megabyte of rows in a statement, as mysqldump does by default.
    Extended,
    /// A statement for each row.
    Single,
}

/// A table: the number and the version of each row.
#[derive(Clone)]
pub struct Table {
    pub name: &'static str,
    pub rows: Vec<(u32, u32)>,
    next: u32,
}

impl Table {
    pub fn new(name: &'static str, rows: u32) -> Self {
        Self { name, rows: (0..rows).map(|row| (row, 0)).collect(), next: rows }
    }

    /// Changes `count` rows here and there.
    pub fn change(&mut self, count: usize, random: &mut Random) {
        for _ in 0..count {
            let at = random.below(self.rows.len());
            self.rows[at].1 += 1;
        }
    }

    /// Puts `count` new rows between the others.
    pub fn insert(&mut self, count: usize, random: &mut Random) {
        for _ in 0..count {
            self.rows.insert(random.below(self.rows.len()), (self.next, 0));
            self.next += 1;
        }
    }

    /// Takes `count` rows away.
    pub fn delete(&mut self, count: usize, random: &mut Random) {
        for _ in 0..count {
            self.rows.remove(random.below(self.rows.len()));
        }
    }

    /// Puts `count` new rows behind the others.
    pub fn grow(&mut self, count: u32) {
        self.rows.extend((self.next..self.next + count).map(|row| (row, 0)));
        self.next += count;
    }

    pub fn write(&self, form: Form, out: &mut Vec<u8>) {
        let mut text = format!("DROP TABLE IF EXISTS `{0}`;\nCREATE TABLE `{0}` (`id` int);\n", self.name);
        let seed = self.name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
        for (number, &(row, version)) in self.rows.iter().enumerate() {
            let starts = form == Form::Single || number % 6000 == 0;
            match starts {
                true => write!(text, "INSERT INTO `{}` VALUES ", self.name).unwrap(),
                false => text.push(','),
            }
            write_row(&mut text, seed, row, version);
            let ends = form == Form::Single || number % 6000 == 5999 || number + 1 == self.rows.len();
            text.push_str(if ends { ";\n" } else { "" });
        }
        out.extend_from_slice(text.as_bytes());
    }
}

fn write_row(out: &mut String, seed: u64, row: u32, version: u32) {
    let mut stays = Random(seed << 32 ^ u64::from(row));
    let mut fresh = Random(seed << 40 ^ u64::from(row) << 8 ^ u64::from(version));
    let word = |random: &mut Random| WORDS[random.below(WORDS.len())];
    write!(out, "({row},'{} {}',{}", word(&mut stays), word(&mut stays), stays.below(1_000_000)).unwrap();
    write!(out, ",{},'{}','", fresh.below(100_000), word(&mut fresh)).unwrap();
    (0..12).for_each(|_| write!(out, "{} ", word(&mut stays)).unwrap());
    write!(out, "',{}.{:02})", stays.below(1000), fresh.below(100)).unwrap();
}

/// All tables, one after the other.
pub fn dump(tables: &[Table], form: Form) -> Vec<u8> {
    let mut out = b"-- a dump\n".to_vec();
    tables.iter().for_each(|table| table.write(form, &mut out));
    out.extend_from_slice(b"-- Dump completed\n");
    out
}

/// The bytes that `zstd -3 --long=27 --patch-from` makes of `now` against `before`.
pub fn patch(before: &[u8], now: &[u8]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (before, now) = (file("before", before), file("now", now));
    zstd(&now, &[&format!("--patch-from={}", before.display())])
}

fn zstd(file: &Path, more: &[&str]) -> u64 {
    let out = Command::new("zstd").args(["-3", "--long=27", "-q", "-c"]).args(more).arg(file).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout.len() as u64
}
