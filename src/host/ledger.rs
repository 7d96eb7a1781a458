//! The ledger: times of arrival and hashes of accepted objects. See `docs/format.md`, "The ledger".
//!
//! A text file that only grows. Each line carries a check over itself and all lines before it, so a changed or removed
//! line is detected, and the remains of a power cut at the end are distinguished from damage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::checkpoints::Checkpoints;
use super::failed;
use super::owner::{AccountOwner, Fact};
use crate::error::{Error, Result};
use crate::id::{Hasher, decode_hex, hex};
use crate::remote::{Folder, ObjectName};
use crate::time::Timestamp;

/// The first line's words.
const TITLE: &str = "varu ledger 1";
/// Bytes of a line's check.
const CHECK: usize = 16;
/// The longest line.
const MOST_LINE: u64 = 1024;
/// The most bytes at the end that a power cut may have corrupted: those of one call of [`Ledger::enter`].
const MOST_TORN: u64 = (BATCH as u64) * MOST_LINE;
/// The most entries that are written before they are flushed.
pub(super) const BATCH: usize = 64;

/// The ledger's record of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The BLAKE3 of its bytes.
    pub hash: [u8; 32],
    /// How many bytes.
    pub size: u64,
    /// When the host accepted it, by the host's clock, to the second.
    pub arrival: Timestamp,
}

/// The ledger of one account.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    entries: BTreeMap<ObjectName, LedgerEntry>,
    gone: BTreeSet<ObjectName>,
    marked_lost: BTreeSet<ObjectName>,
    owner: AccountOwner,
    order: Order,
    check: [u8; CHECK],
}

/// Batch and position of the entry: the objects of one run have one time of arrival.
#[derive(Debug, Default)]
struct Order {
    runs: HashMap<ObjectName, u64>,
    last: Option<(u64, Timestamp)>,
}

impl Order {
    fn enter(&mut self, name: &ObjectName, arrival: Timestamp) {
        let run = match self.last {
            Some((run, time)) if time == arrival => run,
            Some((run, _)) => run + 1,
            None => 0,
        };
        self.last = Some((run, arrival));
        self.runs.insert(name.clone(), run);
    }
}

/// An opened ledger, with findings for a person.
#[derive(Debug)]
pub struct OpenedLedger {
    /// The ledger.
    pub ledger: Ledger,
    /// The defect of its end, if there was one.
    pub note: Option<String>,
}

impl Ledger {
    /// Opens the ledger in `folder`, and makes it where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if a line was changed.
    pub fn open(folder: &Path) -> Result<OpenedLedger> {
        let path = folder.join("ledger");
        let fail = |error: io::Error| failed("reading the ledger", &path, error);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).map_err(fail)?;
        let read = LedgerReader::of(&file, &path)?;
        let mut note = None;
        // Truncated before anything is appended: new lines after a torn one would look like damage to every later
        // reader.
        if read.torn > 0 {
            let rest = read.torn;
            note = Some(format!(
                "the last {rest} bytes of the ledger {} were not written whole and are dropped; what they listed is entered \
                 again",
                path.display()
            ));
            file.set_len(read.good).and_then(|()| file.sync_all()).map_err(fail)?;
            file.seek(io::SeekFrom::End(0)).map_err(fail)?;
        }
        Ok(OpenedLedger { ledger: read.into_ledger(path.clone(), file), note })
    }

    /// Reads the present ledger in `folder`, even while another process writes it. It is changed by [`Ledger::open`]
    /// alone.
    ///
    /// # Errors
    ///
    /// As [`Ledger::open`], and where there is none.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("ledger");
        let file = File::open(&path).map_err(|error| failed("reading the ledger", &path, error))?;
        let read = LedgerReader::of(&file, &path)?;
        Ok(read.into_ledger(path, file))
    }

    /// The entries, by name.
    pub fn entries(&self) -> &BTreeMap<ObjectName, LedgerEntry> {
        &self.entries
    }

    /// The entry of an object that is on the host.
    pub fn get(&self, name: &ObjectName) -> Option<&LedgerEntry> {
        self.entries.get(name)
    }

    /// The rank of an object in the order of arrival, whatever the clock said. Objects that arrived together share it.
    pub fn place(&self, name: &ObjectName) -> u64 {
        self.order.runs.get(name).copied().unwrap_or(0)
    }

    /// Objects that the policy removed. Those of the last run may still be there.
    pub fn gone(&self) -> &BTreeSet<ObjectName> {
        &self.gone
    }

    /// Damaged objects that root marked lost. One that arrives again is an entry like all others.
    pub fn marked_lost(&self) -> &BTreeSet<ObjectName> {
        &self.marked_lost
    }

    /// Whose account it is.
    pub fn owner(&self) -> &AccountOwner {
        &self.owner
    }

    /// Whether an object is there, or isn't and root knows that.
    pub(super) fn accounts_for(&self, name: &ObjectName) -> bool {
        self.entries.contains_key(name) || self.marked_lost.contains(name)
    }

    /// Enters objects that are on the host, flushed. On return the entries survive a power cut.
    ///
    /// # Errors
    ///
    /// If the file can't be written. How much of it was written is found when the ledger is opened again.
    pub(super) fn enter(&mut self, new: Vec<(ObjectName, LedgerEntry)>, steps: &dyn Checkpoints) -> Result<()> {
        for batch in new.chunks(BATCH) {
            let lines = batch.iter().map(|(name, entry)| {
                let (time, hash) = (entry.arrival.compact(), hex(&entry.hash));
                format!("+ {time} {} {hash} {name}", entry.size)
            });
            // The memory follows the file: after a failed write the entries are those of the last flushed line.
            self.append(lines.collect(), steps)?;
            for (name, entry) in batch {
                self.gone.remove(name);
                self.marked_lost.remove(name);
                self.order.enter(name, entry.arrival);
            }
            self.entries.extend(batch.iter().cloned());
        }
        Ok(())
    }

    /// Remembers something of the account's owner, flushed.
    ///
    /// # Errors
    ///
    /// As [`Ledger::enter`].
    pub(super) fn remember(&mut self, fact: Fact, now: Timestamp, steps: &dyn Checkpoints) -> Result<()> {
        self.append(vec![format!("@ {} {}", now.compact(), fact.words())], steps)?;
        self.owner.learn(fact, now);
        Ok(())
    }

    /// Lets objects go, flushed. They are deleted after that.
    ///
    /// # Errors
    ///
    /// As [`Ledger::enter`].
    pub(super) fn let_go(&mut self, names: &[ObjectName], now: Timestamp, steps: &dyn Checkpoints) -> Result<()> {
        self.leave('-', |ledger| &mut ledger.gone, names, now, steps)
    }

    /// Marks objects lost, flushed. Their remains are deleted after that.
    ///
    /// # Errors
    ///
    /// As [`Ledger::enter`].
    pub(super) fn mark_lost(&mut self, names: &[ObjectName], now: Timestamp, steps: &dyn Checkpoints) -> Result<()> {
        self.leave('!', |ledger| &mut ledger.marked_lost, names, now, steps)
    }

    /// Writes lines with that sign, by which objects stop being entries, and lists them among those that left in that
    /// way.
    fn leave(
        &mut self,
        mark: char,
        left: fn(&mut Self) -> &mut BTreeSet<ObjectName>,
        names: &[ObjectName],
        now: Timestamp,
        steps: &dyn Checkpoints,
    ) -> Result<()> {
        for batch in names.chunks(BATCH) {
            self.append(batch.iter().map(|name| format!("{mark} {} {name}", now.compact())).collect(), steps)?;
            for name in batch {
                self.entries.remove(name);
                left(self).insert(name.clone());
            }
        }
        Ok(())
    }

    fn append(&mut self, mut lines: Vec<String>, steps: &dyn Checkpoints) -> Result<()> {
        if self.check == [0; CHECK] {
            lines.insert(0, TITLE.to_owned());
        }
        let (mut text, mut check) = (String::new(), self.check);
        for line in lines {
            check = next_check(&check, &line);
            text += &format!("{line} {}\n", hex(&check));
        }
        let mut write = || {
            steps.before("writing the ledger")?;
            self.file.write_all(text.as_bytes())?;
            steps.before("flushing the ledger")?;
            self.file.sync_all()
        };
        write().map_err(|error| failed("writing the ledger", &self.path, error))?;
        self.check = check;
        Ok(())
    }
}

/// A ledger that is being read.
struct LedgerReader {
    entries: BTreeMap<ObjectName, LedgerEntry>,
    gone: BTreeSet<ObjectName>,
    marked_lost: BTreeSet<ObjectName>,
    owner: AccountOwner,
    order: Order,
    check: [u8; CHECK],
    /// Bytes of complete lines so far.
    good: u64,
    lines: u64,
    /// Bytes behind them.
    torn: u64,
}

impl LedgerReader {
    fn into_ledger(self, path: PathBuf, file: File) -> Ledger {
        let Self { entries, gone, marked_lost, owner, order, check, .. } = self;
        Ledger { path, file, entries, gone, marked_lost, owner, order, check }
    }

    fn of(file: &File, path: &Path) -> Result<Self> {
        let fail = |error: io::Error| failed("reading the ledger", path, error);
        let (entries, gone, marked_lost) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let (owner, order) = (AccountOwner::default(), Order::default());
        let mut read = Self { entries, gone, marked_lost, owner, order, check: [0; CHECK], good: 0, lines: 0, torn: 0 };
        let length = file.metadata().map_err(fail)?.len();
        // Only up to the length at the beginning: another process may append while this one reads.
        read.all(&mut BufReader::new(file.take(length))).map_err(fail)?;
        // A crash leaves at most one unflushed append at the end. A longer rest is damage that must not be cut off.
        read.torn = length - read.good;
        match read.torn > MOST_TORN {
            false => Ok(read),
            true => Err(Error::Damaged(format!(
                "the ledger {} is damaged at line {}; look at it, compare with a copy, and if there is none move it away: \
                 `varu host accept` enters every object again, with today as arrival",
                path.display(),
                read.lines + 1
            ))),
        }
    }

    /// Reads lines up to the end or to the first that is wrong.
    fn all(&mut self, file: &mut impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = file.take(MOST_LINE).read_until(b'\n', &mut line)?;
            if length == 0 || self.line(&line).is_none() {
                return Ok(());
            }
            self.good += length as u64;
            self.lines += 1;
        }
    }

    fn line(&mut self, line: &[u8]) -> Option<()> {
        let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let (words, check) = line.rsplit_once(' ')?;
        let mut read = [0; CHECK];
        let expected = next_check(&self.check, words);
        if !decode_hex(check, &mut read) || read != expected {
            return None;
        }
        match self.lines {
            0 => (words == TITLE).then_some(())?,
            _ => self.entry(words)?,
        }
        self.check = expected;
        Some(())
    }

    fn entry(&mut self, words: &str) -> Option<()> {
        if let Some(rest) = words.strip_prefix("@ ") {
            let (time, words) = rest.split_once(' ')?;
            self.owner.learn(Fact::parse(words)?, Timestamp::from_compact(time)?);
            return Some(());
        }
        for (word, left) in [("- ", &mut self.gone), ("! ", &mut self.marked_lost)] {
            let Some(rest) = words.strip_prefix(word) else { continue };
            let (time, name) = rest.split_once(' ')?;
            Timestamp::from_compact(time)?;
            let name = parse_name(name)?;
            self.entries.remove(&name);
            left.insert(name);
            return Some(());
        }
        let mut words = words.split(' ');
        let ("+", time, size, hash, name, None) =
            (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?, words.next())
        else {
            return None;
        };
        let mut entry =
            LedgerEntry { hash: [0; 32], size: size.parse().ok()?, arrival: Timestamp::from_compact(time)? };
        decode_hex(hash, &mut entry.hash).then_some(())?;
        let name = parse_name(name)?;
        self.gone.remove(&name);
        self.marked_lost.remove(&name);
        self.order.enter(&name, entry.arrival);
        self.entries.insert(name, entry);
        Some(())
    }
}

/// Reads `packs/NAME`.
pub(super) fn parse_name(text: &str) -> Option<ObjectName> {
    let (folder, name) = text.split_once('/')?;
    let folder = Folder::ALL.into_iter().find(|known| known.name() == folder)?;
    ObjectName::new(folder, name)
}

fn next_check(before: &[u8; CHECK], words: &str) -> [u8; CHECK] {
    let mut hasher = Hasher::new();
    hasher.update(before).update(words.as_bytes());
    hasher.finish_short()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::checkpoints::InterruptibleCheckpoints;
    use crate::host::owner::MachineId;
    use crate::progress::Interrupt;

    fn entry(n: u8) -> (ObjectName, LedgerEntry) {
        let name = ObjectName::new(Folder::Packs, format!("{n:03}.pack")).unwrap();
        let arrival = Timestamp::from_seconds(1_800_000_000 + i64::from(n));
        (name, LedgerEntry { hash: [n; 32], size: u64::from(n), arrival })
    }

    fn enter(ledger: &mut Ledger, range: std::ops::Range<u8>) {
        ledger.enter(range.map(entry).collect(), &InterruptibleCheckpoints(&Interrupt::default())).unwrap();
    }

    #[test]
    fn what_was_entered_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        enter(&mut Ledger::open(folder.path()).unwrap().ledger, 0..100);
        let mut opened = Ledger::open(folder.path()).unwrap();
        assert_eq!(opened.note, None);
        enter(&mut opened.ledger, 100..130);
        let ledger = Ledger::open(folder.path()).unwrap().ledger;
        assert_eq!(ledger.entries().clone().into_iter().collect::<Vec<_>>(), (0..130).map(entry).collect::<Vec<_>>());
    }

    #[test]
    fn whose_account_it_is_is_remembered_among_the_entries() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap().ledger;
        let machine = MachineId::parse(&"7".repeat(32)).unwrap();
        enter(&mut ledger, 0..3);
        let (interrupt, now) = (Interrupt::default(), Timestamp::from_seconds(1_800_000_100));
        for fact in [Fact::Machine(Some(machine.clone())), Fact::SetRetired("web".to_owned())] {
            ledger.remember(fact, now, &InterruptibleCheckpoints(&interrupt)).unwrap();
        }
        enter(&mut ledger, 3..6);
        let read = Ledger::read(folder.path()).unwrap();
        assert_eq!(read.owner(), ledger.owner());
        assert_eq!((read.owner().machine.as_ref(), read.owner().sets.get("web")), (Some(&machine), Some(&now)));
        assert_eq!(read.entries().len(), 6);
    }

    #[test]
    fn every_cut_keeps_the_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        enter(&mut Ledger::open(folder.path()).unwrap().ledger, 0..4);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let opened = Ledger::open(folder.path()).unwrap();
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(opened.ledger.entries().len(), lines.saturating_sub(1), "{length}");
            assert_eq!(opened.note.is_some(), length > 0 && whole[length - 1] != b'\n', "{length}");
            let mut ledger = opened.ledger;
            enter(&mut ledger, 9..10);
            assert!(Ledger::open(folder.path()).unwrap().ledger.get(&entry(9).0).is_some(), "{length}");
        }
    }

    #[test]
    fn a_changed_or_missing_line_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(folder.path()).unwrap().ledger;
        for _ in 0..4 {
            enter(&mut ledger, 0..250);
        }
        let whole = fs::read_to_string(&path).unwrap();
        let without: Vec<&str> = whole.lines().enumerate().filter(|(n, _)| *n != 5).map(|(_, line)| line).collect();
        for changed in
            [whole.replacen(" 3 ", " 4 ", 1), without.join("\n") + "\n", whole.replacen("ledger 1", "ledger 2", 1)]
        {
            fs::write(&path, changed).unwrap();
            let error = Ledger::open(folder.path()).unwrap_err();
            assert!(matches!(error, Error::Damaged(_)) && error.to_string().contains("line"), "{error}");
        }
    }

    #[test]
    fn what_was_let_go_is_gone_until_it_comes_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap().ledger;
        enter(&mut ledger, 0..3);
        let names = [entry(0).0, entry(2).0];
        ledger.let_go(&names, Timestamp::from_seconds(1), &InterruptibleCheckpoints(&Interrupt::default())).unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap().ledger;
        assert_eq!(ledger.entries().keys().collect::<Vec<_>>(), [&entry(1).0]);
        assert_eq!(ledger.gone().iter().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        enter(&mut ledger, 2..3);
        let ledger = Ledger::open(folder.path()).unwrap().ledger;
        assert!(ledger.get(&names[1]).is_some() && ledger.gone().len() == 1);
    }

    #[test]
    fn an_interrupt_ends_it_before_the_next_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap().ledger;
        let interrupt = Interrupt::default();
        interrupt.set();
        assert!(ledger.enter(vec![entry(1)], &InterruptibleCheckpoints(&interrupt)).is_err());
        assert!(Ledger::open(folder.path()).unwrap().ledger.entries().is_empty());
    }
}
