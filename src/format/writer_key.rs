//! The writer key file: the text that lets one machine write one repository.
//!
//! ```text
//! # varu writer key. Keep it secret, …
//! version 1
//! repository 32 hex digits
//! secret 64 hex digits
//! data-key age1…
//! chunks MIN AVERAGE MAX
//! follows 32 hex digits                  (only after a rotation)
//! recipient age1…                        (one line for each)
//! key-object BASE64                      (only on the machine)
//! data-secret AGE-SECRET-KEY-1…          (only inside a key object)
//! ```
//!
//! `version` comes first, the other lines in any order. Empty lines and lines that start with `#` mean nothing.
//!
//! The same text, with the data key's secret in it and wrapped to the recipients, is the key object. It is stored on the
//! remote, where a host may have replaced it. So a reader refuses unknown words, and a key whose repository is not its
//! fingerprint. The machine has the key object's bytes in its file: they open nothing there, but with them it can
//! restore the object.

use crate::chunker::ChunkSizes;
use zeroize::Zeroizing;

use crate::format::armor::{base64, from_base64};
use crate::format::layout::MAX_KEY_OBJECT;
use crate::id::{RepositoryId, decode_hex, derive_key, hex};

const FINGERPRINT: &str = "varu 2026-11 repository id";

const HEADING: &str = "\
# varu writer key. Keep it secret, readable by root alone, on the machine whose backups it writes.
# It adds backups and reads the names and sizes in them. It opens no stored data: only the identity does.
";

/// The only version there is.
const VERSION: &str = "1";

/// The most recipients in a file.
const MAX_RECIPIENTS: usize = 64;

/// The content of a writer key file. The secret wipes itself on drop.
pub struct WriterKeyFile {
    /// The one secret, from which all keys of the writer are derived.
    pub secret: Zeroizing<[u8; 32]>,
    /// The data key's public half, `age1…`.
    pub data_key: String,
    /// The sizes of chunks.
    pub chunking: ChunkSizes,
    /// The repository that this one succeeds, after a rotation.
    pub follows: Option<RepositoryId>,
    /// Whom the key object is wrapped to, `age1…` each.
    pub recipients: Vec<String>,
    /// The key object: all of this and the data key's secret, wrapped to the recipients. Empty where it isn't made yet, and
    /// in the text inside it.
    pub key_object: Vec<u8>,
}

/// Why a text is no writer key file. It names the line and never repeats a value, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriterKeyError {
    /// It is something else.
    #[error("line {line} is not `version {VERSION}`, with which a varu writer key starts")]
    NotAWriterKey {
        /// The line, from 1.
        line: usize,
    },
    /// A later varu wrote it.
    #[error(
        "line {line}: writer key version {version} is unknown: this varu reads version {VERSION}. Use a newer varu"
    )]
    UnknownVersion {
        /// The line, from 1.
        line: usize,
        /// The version that it names.
        version: u32,
    },
    /// A line starts with a word that means nothing here.
    #[error("line {line} starts with no word that a writer key of version {VERSION} knows")]
    UnknownKey {
        /// The line, from 1.
        line: usize,
    },
    /// A line that is allowed once occurs twice.
    #[error("line {line}: `{key}` stands there a second time")]
    Repeated {
        /// The line, from 1.
        line: usize,
        /// The line's first word.
        key: &'static str,
    },
    /// The value after the line's first word is invalid.
    #[error("line {line}: after `{key}`, {expected} expected")]
    Value {
        /// The line, from 1.
        line: usize,
        /// The line's first word.
        key: &'static str,
        /// The expected line.
        expected: &'static str,
    },
    /// A line is not there.
    #[error("the line `{key}` is missing")]
    Missing {
        /// The line's first word.
        key: &'static str,
    },
    /// The secret, the data key, the chunk sizes or the repository before were changed, or are another key's.
    #[error(
        "line {line}: the repository is {stated}, and this key's fingerprint is {fingerprint}: a line of the key was \
         changed, or comes from another key. Use an unchanged copy"
    )]
    WrongRepository {
        /// The line, from 1.
        line: usize,
        /// The repository that the file names.
        stated: RepositoryId,
        /// The fingerprint of its content.
        fingerprint: RepositoryId,
    },
}

impl WriterKeyFile {
    /// The repository that this key writes: the fingerprint of its secret, data key, chunk sizes and the repository
    /// before. The recipients are no part of it.
    pub fn repository_id(&self) -> RepositoryId {
        let ChunkSizes { min, average, max } = self.chunking;
        let follows = self.follows.unwrap_or(RepositoryId::from_bytes([0; RepositoryId::LEN]));
        let material = [
            self.secret.as_slice(),
            &min.to_le_bytes(),
            &average.to_le_bytes(),
            &max.to_le_bytes(),
            &[u8::from(self.follows.is_some())],
            follows.as_bytes(),
            self.data_key.as_bytes(),
        ];
        let fingerprint = derive_key(FINGERPRINT, &material);
        let mut id = [0; RepositoryId::LEN];
        id.copy_from_slice(&fingerprint[..RepositoryId::LEN]);
        RepositoryId::from_bytes(id)
    }

    /// Reads the text of a writer key file, whose repository must be its fingerprint. Whether the `age1…` texts are keys
    /// is not looked at here.
    pub fn parse(text: &str) -> Result<Self, WriterKeyError> {
        let file = Self::read(text, KEY_OBJECT)?.finish()?.0;
        if file.key_object.is_empty() {
            return Err(WriterKeyError::Missing { key: KEY_OBJECT });
        }
        Ok(file)
    }

    /// Reads the text inside a key object: the writer key, and the text of the data key's secret. Whether that is the secret
    /// of its `data-key` is not looked at here.
    pub fn parse_sealed(text: &str) -> Result<(Self, Zeroizing<String>), WriterKeyError> {
        let (file, secret) = Self::read(text, DATA_SECRET)?.finish()?;
        Ok((file, secret.ok_or(WriterKeyError::Missing { key: DATA_SECRET })?))
    }

    /// Reads the lines; `own` is the word that is allowed only in this kind of text.
    fn read(text: &str, own: &'static str) -> Result<Draft, WriterKeyError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (number, first) = lines.next().unwrap_or((1, ""));
        check_version(number, first)?;
        let mut draft = Draft::default();
        for (number, line) in lines {
            draft.enter(number, line, own)?;
        }
        Ok(draft)
    }

    /// The file's text, ready to be written. Reads back as the same key.
    pub fn to_text(&self) -> Zeroizing<String> {
        let object = format!("{KEY_OBJECT} {}\n", base64(&self.key_object));
        self.text(HEADING, if self.key_object.is_empty() { "" } else { &object })
    }

    /// The text inside a key object. `data_secret` is the text of the data key's secret, one line with its end.
    pub fn to_sealed_text(&self, data_secret: &str) -> Zeroizing<String> {
        let line = Zeroizing::new([DATA_SECRET, " ", data_secret].concat());
        self.text("", &line)
    }

    fn text(&self, heading: &str, own: &str) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex(self.secret.as_slice()));
        let ChunkSizes { min, average, max } = self.chunking;
        let before = format!("{heading}version {VERSION}\nrepository {}\nsecret ", self.repository_id());
        let mut after = format!("\ndata-key {}\nchunks {min} {average} {max}\n", self.data_key);
        after.extend(self.follows.map(|id| format!("follows {id}\n")));
        after.extend(self.recipients.iter().map(|recipient| format!("recipient {recipient}\n")));
        // With its whole length reserved the text never moves, so no copy of the secret is left behind.
        let mut text = Zeroizing::new(String::with_capacity(before.len() + secret.len() + after.len() + own.len()));
        [&before, &*secret, &after, own].into_iter().for_each(|part| text.push_str(part));
        text
    }
}

fn check_version(line: usize, text: &str) -> Result<(), WriterKeyError> {
    let version = text.strip_prefix("version ").map(str::trim).ok_or(WriterKeyError::NotAWriterKey { line })?;
    match version.parse() {
        _ if version == VERSION => Ok(()),
        Ok(version) => Err(WriterKeyError::UnknownVersion { line, version }),
        Err(_) => Err(WriterKeyError::NotAWriterKey { line }),
    }
}

/// A file as far as it has been read.
#[derive(Default)]
struct Draft {
    repository: Option<(usize, RepositoryId)>,
    secret: Option<Zeroizing<[u8; 32]>>,
    data_key: Option<String>,
    chunking: Option<ChunkSizes>,
    follows: Option<RepositoryId>,
    recipients: Vec<String>,
    key_object: Option<Vec<u8>>,
    data_secret: Option<Zeroizing<String>>,
}

/// A line's number and first word, for its errors.
#[derive(Clone, Copy)]
struct At {
    line: usize,
    key: &'static str,
}

const REPOSITORY: &str = "repository";
const SECRET: &str = "secret";
const DATA_KEY: &str = "data-key";
const CHUNKS: &str = "chunks";
const FOLLOWS: &str = "follows";
const RECIPIENT: &str = "recipient";
const KEY_OBJECT: &str = "key-object";
const DATA_SECRET: &str = "data-secret";

impl Draft {
    fn enter(&mut self, line: usize, text: &str, own: &'static str) -> Result<(), WriterKeyError> {
        let (word, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let keys = [REPOSITORY, SECRET, DATA_KEY, CHUNKS, FOLLOWS, RECIPIENT, own];
        let key = keys.into_iter().find(|key| *key == word).ok_or(WriterKeyError::UnknownKey { line })?;
        let (at, value) = (At { line, key }, value.trim());
        match key {
            REPOSITORY => at.fill(&mut self.repository, (line, at.id(value)?)),
            SECRET => at.fill(&mut self.secret, at.secret(value)?),
            DATA_KEY => at.fill(&mut self.data_key, at.public_key(value)?),
            CHUNKS => at.fill(&mut self.chunking, at.chunking(value)?),
            FOLLOWS => at.fill(&mut self.follows, at.id(value)?),
            KEY_OBJECT => at.fill(&mut self.key_object, at.object(value)?),
            DATA_SECRET => at.fill(&mut self.data_secret, Zeroizing::new(value.to_owned())),
            _ => self.enter_recipient(at, value),
        }
    }

    fn enter_recipient(&mut self, at: At, value: &str) -> Result<(), WriterKeyError> {
        let recipient = at.public_key(value)?;
        if self.recipients.contains(&recipient) {
            return Err(WriterKeyError::Repeated { line: at.line, key: at.key });
        }
        if self.recipients.len() == MAX_RECIPIENTS {
            return Err(at.wrong("no more than 64 recipients are"));
        }
        self.recipients.push(recipient);
        Ok(())
    }

    fn finish(self) -> Result<(WriterKeyFile, Option<Zeroizing<String>>), WriterKeyError> {
        let (line, stated) = self.repository.ok_or(WriterKeyError::Missing { key: REPOSITORY })?;
        let file = WriterKeyFile {
            secret: self.secret.ok_or(WriterKeyError::Missing { key: SECRET })?,
            data_key: self.data_key.ok_or(WriterKeyError::Missing { key: DATA_KEY })?,
            chunking: self.chunking.ok_or(WriterKeyError::Missing { key: CHUNKS })?,
            follows: self.follows,
            recipients: self.recipients,
            key_object: self.key_object.unwrap_or_default(),
        };
        let fingerprint = file.repository_id();
        if file.recipients.is_empty() {
            return Err(WriterKeyError::Missing { key: RECIPIENT });
        }
        if stated != fingerprint {
            return Err(WriterKeyError::WrongRepository { line, stated, fingerprint });
        }
        Ok((file, self.data_secret))
    }
}

impl At {
    fn fill<T>(self, slot: &mut Option<T>, value: T) -> Result<(), WriterKeyError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(WriterKeyError::Repeated { line: self.line, key: self.key }),
        }
    }

    fn wrong(self, expected: &'static str) -> WriterKeyError {
        WriterKeyError::Value { line: self.line, key: self.key, expected }
    }

    fn id(self, value: &str) -> Result<RepositoryId, WriterKeyError> {
        value.parse().map_err(|_| self.wrong("32 hexadecimal digits are"))
    }

    fn secret(self, value: &str) -> Result<Zeroizing<[u8; 32]>, WriterKeyError> {
        let mut secret = Zeroizing::new([0; 32]);
        match decode_hex(value, secret.as_mut_slice()) {
            true => Ok(secret),
            false => Err(self.wrong("64 hexadecimal digits are")),
        }
    }

    fn public_key(self, value: &str) -> Result<String, WriterKeyError> {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match value.len() == 62 && value.starts_with("age1") && value.bytes().all(is_letter) {
            true => Ok(value.to_owned()),
            false => Err(self.wrong("age1 and 58 lower-case letters and digits are")),
        }
    }

    fn object(self, value: &str) -> Result<Vec<u8>, WriterKeyError> {
        let object = from_base64(value).filter(|object| (1..=MAX_KEY_OBJECT as usize).contains(&object.len()));
        object.ok_or_else(|| self.wrong("the Base64 of a key object is"))
    }

    fn chunking(self, value: &str) -> Result<ChunkSizes, WriterKeyError> {
        const EXPECTED: &str =
            "three even numbers of bytes, from 64, 256 and 1024 up to 1048576 and each larger than the one before, are";
        let sizes: Option<Vec<u32>> = value.split_whitespace().map(|size| size.parse().ok()).collect();
        match sizes.as_deref() {
            Some(&[min, average, max]) => Some(ChunkSizes { min, average, max }),
            _ => None,
        }
        .filter(ChunkSizes::is_valid)
        .ok_or_else(|| self.wrong(EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> WriterKeyFile {
        WriterKeyFile {
            secret: Zeroizing::new([0xab; 32]),
            data_key: format!("age1{}", "d".repeat(58)),
            chunking: ChunkSizes::default(),
            follows: None,
            recipients: vec![format!("age1{}", "r".repeat(58)), format!("age1{}", "s".repeat(58))],
            key_object: b"wrapped".to_vec(),
        }
    }

    fn error(text: &str) -> WriterKeyError {
        WriterKeyFile::parse(text).err().unwrap()
    }

    /// The line number, and the text with that line changed.
    fn with_line(text: &str, start: &str, line: &str) -> (usize, String) {
        let number = text.lines().position(|line| line.starts_with(start)).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines[number] = line;
        (number + 1, lines.join("\n"))
    }

    #[test]
    fn a_key_reads_back_what_it_wrote() {
        for follows in [None, Some(RepositoryId::from_bytes([5; 16]))] {
            let key = WriterKeyFile { follows, ..key() };
            let again = WriterKeyFile::parse(&key.to_text()).ok().unwrap();
            assert_eq!(*again.secret, *key.secret);
            assert_eq!(again.recipients, key.recipients);
            assert_eq!(again.follows, follows);
            assert_eq!(again.repository_id(), key.repository_id());
            assert_eq!(*again.to_text(), *key.to_text());
        }
    }

    #[test]
    fn what_is_sealed_has_the_secret_and_what_lies_on_the_machine_has_not() {
        let sealed = key().to_sealed_text("AGE-SECRET-KEY-1X\n");
        let (again, secret) = WriterKeyFile::parse_sealed(&sealed).ok().unwrap();
        assert_eq!((again.repository_id(), secret.as_str()), (key().repository_id(), "AGE-SECRET-KEY-1X"));
        assert!(again.key_object.is_empty());
        assert!(matches!(error(&sealed), WriterKeyError::UnknownKey { .. }));
        let refused = WriterKeyFile::parse_sealed(&key().to_text()).err().unwrap();
        assert!(matches!(refused, WriterKeyError::UnknownKey { .. }), "{refused}");
        let without = WriterKeyFile { key_object: Vec::new(), ..key() }.to_text();
        assert_eq!(WriterKeyFile::parse_sealed(&without).err(), Some(WriterKeyError::Missing { key: DATA_SECRET }));
    }

    #[test]
    fn a_person_may_reorder_lines_and_add_comments() {
        let text = key().to_text();
        let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        lines[1..].reverse();
        let edited = format!("\r\n# mine\r\n{}\n\n# end", lines.join("  \r\n"));
        assert_eq!(WriterKeyFile::parse(&edited).ok().unwrap().repository_id(), key().repository_id());
    }

    #[test]
    fn the_fingerprint_covers_all_but_the_recipients() {
        let id = key().repository_id();
        let mut secret = key();
        secret.secret[31] ^= 1;
        let mut data_key = key();
        data_key.data_key.replace_range(61.., "e");
        let sizes = [(4098, 16384, 65536), (4096, 16386, 65536), (4096, 16384, 65538)];
        let chunking =
            sizes.map(|(min, average, max)| WriterKeyFile { chunking: ChunkSizes { min, average, max }, ..key() });
        let follows = WriterKeyFile { follows: Some(RepositoryId::from_bytes([0; 16])), ..key() };
        for other in chunking.iter().chain([&secret, &data_key, &follows]) {
            assert_ne!(other.repository_id(), id);
        }
        assert_eq!(WriterKeyFile { recipients: vec![], ..key() }.repository_id(), id);
    }

    #[test]
    fn a_changed_line_that_the_fingerprint_covers_is_refused() {
        let text = key().to_text();
        let (repository, _) = with_line(&text, "repository", "");
        let changes = [
            ("secret", format!("secret {}", "ac".repeat(32))),
            ("data-key", format!("data-key age1{}", "e".repeat(58))),
            ("chunks", "chunks 4096 16384 65534".to_owned()),
            ("chunks", format!("chunks 4096 16384 65536\nfollows {}", "0".repeat(32))),
        ];
        for (start, line) in changes {
            let error = error(&with_line(&text, start, &line).1);
            assert!(
                matches!(error, WriterKeyError::WrongRepository { line, .. } if line == repository),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name_before_its_lines_are_read() {
        let (line, text) = with_line(&key().to_text(), "version", "version 2\nsomething new");
        assert_eq!(error(&text), WriterKeyError::UnknownVersion { line, version: 2 });
        assert!(error(&text).to_string().contains("version 2 is unknown"));
        for text in ["", "# comment", "secret abc", "version", "version one", "AGE-SECRET-KEY-1", "version 99999999999"]
        {
            assert!(matches!(error(text), WriterKeyError::NotAWriterKey { .. }), "{text}");
        }
    }

    #[test]
    fn wrong_unknown_repeated_and_missing_lines_are_refused_by_number_without_their_value() {
        let text = key().to_text();
        let secret = "ab".repeat(32);
        let wrong = [
            ("repository", format!("repository {secret}")),
            ("secret", "secret".to_owned()),
            ("secret", format!("secret {secret}ab")),
            ("secret", format!("secret {}", secret.to_uppercase())),
            ("data-key", format!("data-key {secret}")),
            ("chunks", "chunks 4096 16384".to_owned()),
            ("chunks", "chunks 4096 16384 -65536".to_owned()),
            ("recipient", "recipient AGE-SECRET-KEY-1ABABABAB".to_owned()),
            ("recipient", format!("{secret} 1")),
            ("recipient", secret.clone()),
            ("recipient", format!("recipient age1{}", "s".repeat(58))),
            ("secret", format!("secret {secret}\nsecret {secret}")),
            ("chunks", "chunks 4096 16384 65536\nchunks 4096 16384 65536".to_owned()),
            ("key-object", "key-object".to_owned()),
            ("key-object", "key-object d3JhcHBl*".to_owned()),
            ("key-object", format!("data-secret {secret}")),
        ];
        for (start, line) in wrong {
            let (number, text) = with_line(&text, start, &line);
            let message = error(&text).to_string();
            let number = number + usize::from(line.contains('\n') || line.contains("sss"));
            assert!(message.starts_with(&format!("line {number}")), "{line}: {message}");
            assert!(!message.to_lowercase().contains("abab"), "{message}");
        }
        for key in [REPOSITORY, SECRET, DATA_KEY, CHUNKS, RECIPIENT, KEY_OBJECT] {
            let without: Vec<_> = text.lines().filter(|line| !line.starts_with(key)).collect();
            assert_eq!(error(&without.join("\n")), WriterKeyError::Missing { key });
        }
    }

    #[test]
    fn sizes_that_the_chunker_refuses_are_refused_here() {
        let is_valid = |min, average, max| ChunkSizes { min, average, max }.is_valid();
        assert!(ChunkSizes::default().is_valid());
        assert!(is_valid(64, 256, 1024) && is_valid(64, 256, 1 << 20));
        assert!(!is_valid(62, 256, 1024) && !is_valid(64, 254, 1024) && !is_valid(64, 256, 1022), "too small");
        assert!(!is_valid(64, 256, (1 << 20) + 2) && !is_valid(64, 256, u32::MAX - 1), "too large");
        assert!(!is_valid(4097, 16384, 65536) && !is_valid(4096, 16385, 65536) && !is_valid(4096, 16384, 65537), "odd");
        assert!(!is_valid(4096, 4096, 65536) && !is_valid(4096, 65536, 65536), "not each larger than the one before");
    }
}
