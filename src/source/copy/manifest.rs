//! Manifest of a local copy. Its last line is the hash of the lines before it: with a damaged one the data would be cut into
//! other streams, or be of another time.

use std::io::{self, Read};
use std::path::Path;

use super::{DATA, Error, LocalCopy, MANIFEST, SCRIPT, failed, hex};
use crate::facts::Facts;
use crate::id::Hasher;
use crate::source::open_plain;
use crate::time::Timestamp;
use crate::warning::{Warning, WarningKind};

/// The first line.
const MAGIC: &str = "varu local copy 1";
/// Most bytes that are read of one.
const MOST: u64 = 64 << 20;

/// The content of a copy.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct CopyManifest {
    /// The set that it is a copy of.
    pub set: String,
    /// The file of all streams.
    pub file: String,
    pub data_time: i64,
    /// The hash of all streams.
    pub hash: String,
    /// Each stream's name and length, in order.
    pub streams: Vec<(String, u64)>,
    pub facts: Facts,
    pub warnings: Vec<Warning>,
}

impl CopyManifest {
    pub fn copy(&self, path: &Path) -> LocalCopy {
        LocalCopy {
            path: path.to_owned(),
            data_time: Timestamp::from_nanos(self.data_time),
            bytes: self.bytes().unwrap_or(u64::MAX),
            streams: self.streams.len() as u64,
        }
    }

    /// Bytes of all streams. None where no file can be so long.
    fn bytes(&self) -> Option<u64> {
        self.streams.iter().try_fold(0_u64, |sum, (_, length)| sum.checked_add(*length))
    }

    pub fn text(&self) -> String {
        let mut text = format!(
            "{MAGIC}\nset\t{}\nfile\t{}\ndata_time\t{}\nhash\t{}\n",
            escaped(&self.set),
            self.file,
            self.data_time,
            self.hash
        );
        self.streams.iter().for_each(|(name, length)| text += &format!("stream\t{length}\t{}\n", escaped(name)));
        for (key, value) in self.facts.pairs() {
            text += &format!("fact\t{}\t{}\n", escaped(key.raw()), escaped(value.raw()));
        }
        self.warnings.iter().for_each(|warning| {
            text += &format!("warning\t{}\t{}\n", warning.kind.name(), escaped(&warning.text));
        });
        let seal = seal(&text);
        text + &format!("{END}{seal}\n")
    }

    /// Reads that of the copy in the folder `path`.
    ///
    /// # Errors
    /// [`Error::LocalCopy`] where it can't be read, or isn't as it was written.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.join(MANIFEST);
        let text = open_plain(&file).and_then(|(input, _)| io::read_to_string(input.take(MOST)));
        let text = text.map_err(|error| failed("reading", &file, &error))?;
        Self::parse(&text).ok_or_else(|| {
            Error::LocalCopy(format!("{} isn't as it was written: it was changed since", file.display()))
        })
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (lines, end) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let lines = &text[..=lines.len()];
        (end.strip_prefix(END)? == seal(lines)).then_some(())?;
        let mut lines = lines.lines();
        (lines.next()? == MAGIC).then_some(())?;
        let mut manifest = Self { file: SCRIPT.to_owned(), ..Self::default() };
        let mut facts = Vec::new();
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            match columns.as_slice() {
                ["set", set] => manifest.set = unescaped(set),
                ["file", file] if [SCRIPT, DATA].contains(file) => manifest.file = (*file).to_owned(),
                ["data_time", nanos] => manifest.data_time = nanos.parse().ok()?,
                ["hash", hash] => manifest.hash = (*hash).to_owned(),
                ["stream", length, name] => manifest.streams.push((unescaped(name), length.parse().ok()?)),
                ["fact", key, value] => facts.push((unescaped(key).into(), unescaped(value).into())),
                ["warning", kind, text] => manifest.warnings.push(WarningKind::named(kind)?.warning(unescaped(text))),
                _ => return None,
            }
        }
        manifest.facts = Facts::parse(facts).ok()?;
        manifest.bytes()?;
        Some(manifest)
    }
}

/// How the last line begins.
const END: &str = "end\t";

/// Its last line.
fn seal(lines: &str) -> String {
    let mut hasher = Hasher::new();
    hasher.update(lines.as_bytes());
    hex(&hasher.finish_short())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                other => out.extend(other),
            },
            (c, _) => out.push(c),
        }
    }
    out
}
