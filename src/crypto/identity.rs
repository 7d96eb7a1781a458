//! The operator's identity file, which opens everything.
//!
//! It is a standard age identity file: `age-keygen` writes one too, and `age -d -i` reads ours. The repositories that it
//! belongs to are listed as comment lines.

use age::secrecy::ExposeSecret;
use age::x25519;
use zeroize::Zeroizing;

use super::recipient::Recipient;
use super::wrap::{self, UnwrapError};
use crate::id::RepositoryId;

const HEADING: &str =
    "# varu identity: it opens all backups of its repositories. Keep it away from the machine they protect.";
const REPOSITORY: &str = "varu repository";
const FOLLOWS: &str = "follows";
const KEY_FILE: &str = "key file";

/// One or several age X25519 identities, and the repositories that they belong to. Other lines are kept as they are.
/// Wiped on drop.
pub struct IdentityFile {
    lines: Vec<SecretLine>,
}

enum SecretLine {
    Comment(Zeroizing<String>),
    /// A repository, and the one that it follows after a rotation.
    Repository(RepositoryId, Option<RepositoryId>),
    Identity(x25519::Identity),
}

/// Why a text is no identity file. It names the line and never repeats it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No line holds an identity.
    #[error("there is no identity in it: a line that starts with AGE-SECRET-KEY-1 is expected")]
    Empty,
    /// The file is an age file itself.
    #[error("it is itself encrypted with age: open it first, with `age -d`")]
    Encrypted,
    /// A line holds an identity of another kind.
    #[error(
        "line {line}: this kind of identity is not supported: a line that starts with AGE-SECRET-KEY-1 is expected"
    )]
    OtherKind {
        /// The line, from 1.
        line: usize,
    },
    /// A line is mistyped, or something else.
    #[error(
        "line {line} is no identity: AGE-SECRET-KEY-1 and 58 letters and digits are expected, and a checksum in them \
         must fit. Compare it with your copy, letter by letter"
    )]
    Malformed {
        /// The line, from 1.
        line: usize,
    },
    /// The id after `varu repository` is no id.
    #[error(
        "line {line}: after `# varu repository`, 32 hexadecimal digits are expected, and perhaps `follows` and 32 more"
    )]
    Repository {
        /// The line, from 1.
        line: usize,
    },
}

impl IdentityFile {
    /// A file with one new identity, for no repository yet.
    ///
    /// # Panics
    ///
    /// Where the operating system has no randomness to give.
    pub fn generate() -> Self {
        let identity = x25519::Identity::generate();
        let comments = [HEADING.to_owned(), format!("# public key: {}", Recipient::of(&identity))];
        let comments = comments.into_iter().map(|comment| SecretLine::Comment(Zeroizing::new(comment)));
        Self { lines: comments.chain([SecretLine::Identity(identity)]).collect() }
    }

    /// Reads an identity file: ours, or one of `age-keygen`.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
            return Err(IdentityError::Encrypted);
        }
        let lines = text.lines().enumerate().map(|(index, line)| parse_line(index + 1, line.trim()));
        let file = Self { lines: lines.collect::<Result<_, _>>()? };
        let is_empty = file.identities().next().is_none();
        if is_empty { Err(IdentityError::Empty) } else { Ok(file) }
    }

    /// The file's text, ready to be written. Reads back as the same file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let lines: Vec<_> = self.lines.iter().map(SecretLine::to_text).collect();
        // With its whole length reserved the text never moves, so no copy of a secret is left behind.
        let mut text = Zeroizing::new(String::with_capacity(lines.iter().map(|line| line.len() + 1).sum()));
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// The repositories that the file belongs to, in its order.
    pub fn repositories(&self) -> Vec<RepositoryId> {
        let repository = |line: &SecretLine| match line {
            SecretLine::Repository(id, _) => Some(*id),
            _ => None,
        };
        self.lines.iter().filter_map(repository).collect()
    }

    /// The repository id before the rotation that led to this one, according to the file.
    pub fn follows(&self, id: &RepositoryId) -> Option<RepositoryId> {
        self.lines.iter().find_map(|line| match line {
            SecretLine::Repository(known, follows) if known == id => *follows,
            _ => None,
        })
    }

    /// Adds a repository that the file belongs to, after those already listed, else before the first identity. A listed
    /// one is not added again.
    pub fn add_repository(&mut self, id: RepositoryId) {
        self.add(id, None);
    }

    /// Adds a repository that succeeds another after a rotation. The line tells a reader of the file that both belong to
    /// one location.
    pub fn add_rotation(&mut self, id: RepositoryId, follows: RepositoryId) {
        self.add(id, Some(follows));
    }

    fn add(&mut self, id: RepositoryId, follows: Option<RepositoryId>) {
        let known = self.lines.iter_mut().find(|line| matches!(line, SecretLine::Repository(known, _) if *known == id));
        if let Some(known) = known {
            if follows.is_some() {
                *known = SecretLine::Repository(id, follows);
            }
            return;
        }
        let last = self.lines.iter().rposition(|line| matches!(line, SecretLine::Repository(..)));
        let first_identity = || self.lines.iter().position(|line| matches!(line, SecretLine::Identity(_)));
        let place = last.map(|last| last + 1).or_else(first_identity).unwrap_or(self.lines.len());
        self.lines.insert(place, SecretLine::Repository(id, follows));
    }

    /// The public halves of all identities, in the file's order.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.identities().map(Recipient::of).collect()
    }

    /// Decrypts data that was wrapped to any of the recipients; it may hold up to `limit` bytes.
    pub fn unwrap(&self, wrapped: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        wrap::unwrap(KEY_FILE, self.identities(), wrapped, limit)
    }

    fn identities(&self) -> impl Iterator<Item = &x25519::Identity> {
        self.lines.iter().filter_map(|line| match line {
            SecretLine::Identity(identity) => Some(identity),
            _ => None,
        })
    }
}

impl SecretLine {
    fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Comment(text) => text.to_string(),
            Self::Repository(id, None) => format!("# {REPOSITORY} {id}"),
            Self::Repository(id, Some(follows)) => format!("# {REPOSITORY} {id} {FOLLOWS} {follows}"),
            Self::Identity(identity) => identity.to_string().expose_secret().to_owned(),
        })
    }
}

fn parse_line(number: usize, line: &str) -> Result<SecretLine, IdentityError> {
    if line.is_empty() || line.starts_with('#') {
        return parse_comment(number, line);
    }
    match line.parse() {
        Ok(identity) => Ok(SecretLine::Identity(identity)),
        Err(_) if is_other_kind(line) => Err(IdentityError::OtherKind { line: number }),
        Err(_) => Err(IdentityError::Malformed { line: number }),
    }
}

fn parse_comment(number: usize, line: &str) -> Result<SecretLine, IdentityError> {
    match line.trim_start_matches('#').trim_start().strip_prefix(REPOSITORY) {
        Some(ids) if ids.starts_with(char::is_whitespace) || ids.is_empty() => {
            let wrong = || IdentityError::Repository { line: number };
            let id = |word: &str| word.parse::<RepositoryId>().map_err(|_| wrong());
            match ids.split_whitespace().collect::<Vec<_>>().as_slice() {
                [one] => Ok(SecretLine::Repository(id(one)?, None)),
                [one, FOLLOWS, before] => Ok(SecretLine::Repository(id(one)?, Some(id(before)?))),
                _ => Err(wrong()),
            }
        }
        _ => Ok(SecretLine::Comment(Zeroizing::new(line.to_owned()))),
    }
}

/// age's identities of plugins and of post-quantum pairs, and keys of OpenSSH.
fn is_other_kind(line: &str) -> bool {
    ["AGE-PLUGIN-", "AGE-SECRET-KEY-PQ-", "-----BEGIN"].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::wrap;

    const FIRST: RepositoryId = RepositoryId::from_bytes([0x11; 16]);
    const SECOND: RepositoryId = RepositoryId::from_bytes([0x22; 16]);

    fn secret_line(file: &IdentityFile) -> String {
        let text = file.to_text();
        text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned()
    }

    #[test]
    fn a_file_reads_back_with_its_repositories_and_comments() {
        let mut file = IdentityFile::generate();
        file.add_repository(FIRST);
        file.add_repository(SECOND);
        file.add_repository(FIRST);
        let text = file.to_text();
        let again = IdentityFile::parse(&text).ok().unwrap();
        assert_eq!(again.repositories(), [FIRST, SECOND]);
        assert_eq!(again.recipients(), file.recipients());
        assert_eq!(*again.to_text(), *text);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("# public key: age1"));
        assert_eq!(lines[2], format!("# varu repository {FIRST}"));
        assert_eq!(lines[3], format!("# varu repository {SECOND}"));
        assert_eq!(lines[4], secret_line(&file));
    }

    #[test]
    fn a_rotation_is_remembered_with_what_it_follows() {
        let mut file = IdentityFile::generate();
        file.add_repository(FIRST);
        file.add_repository(SECOND);
        file.add_rotation(SECOND, FIRST);
        let again = IdentityFile::parse(&file.to_text()).ok().unwrap();
        assert_eq!(again.repositories(), [FIRST, SECOND]);
        assert_eq!((again.follows(&FIRST), again.follows(&SECOND)), (None, Some(FIRST)));
        assert!(again.to_text().contains(&format!("# varu repository {SECOND} follows {FIRST}\n")));
    }

    #[test]
    fn unknown_comments_and_several_identities_are_kept() {
        let (a, b) = (IdentityFile::generate(), IdentityFile::generate());
        let text = format!("# created: 2026\n\n{}\n# of the safe\r\n  {}  \n", secret_line(&a), secret_line(&b));
        let mut file = IdentityFile::parse(&text).ok().unwrap();
        assert_eq!(file.recipients(), [a.recipients(), b.recipients()].concat());
        file.add_repository(FIRST);
        let expected = format!(
            "# created: 2026\n\n# varu repository {FIRST}\n{}\n# of the safe\n{}\n",
            secret_line(&a),
            secret_line(&b)
        );
        assert_eq!(*file.to_text(), expected);
        let wrapped = wrap(&b.recipients(), b"secret").unwrap();
        assert_eq!(*file.unwrap(&wrapped, 100).unwrap(), b"secret");
        assert_eq!(a.unwrap(&wrapped, 100), Err(UnwrapError::NotForThisKey { what: KEY_FILE }));
    }

    #[test]
    fn what_is_no_identity_file_is_refused_by_line_and_never_repeated() {
        let secret = secret_line(&IdentityFile::generate());
        let mut mistyped = secret.clone().into_bytes();
        mistyped[30] = if mistyped[30] == b'Q' { b'P' } else { b'Q' };
        let mistyped = String::from_utf8(mistyped).unwrap();
        let cases = [
            (String::new(), IdentityError::Empty),
            ("# only a comment\n".to_owned(), IdentityError::Empty),
            (format!("# one\n{mistyped}\n"), IdentityError::Malformed { line: 2 }),
            (format!("{secret}\n{}", &secret[..40]), IdentityError::Malformed { line: 2 }),
            ("age-encryption.org/v1\n-> scrypt".to_owned(), IdentityError::Encrypted),
            ("AGE-PLUGIN-YUBIKEY-1QQ".to_owned(), IdentityError::OtherKind { line: 1 }),
            (format!("# varu repository 11\n{secret}"), IdentityError::Repository { line: 1 }),
            (format!("# varu repository\n{secret}"), IdentityError::Repository { line: 1 }),
            (format!("# varu repository {FIRST} follows\n{secret}"), IdentityError::Repository { line: 1 }),
            (format!("# varu repository {FIRST} after {SECOND}\n{secret}"), IdentityError::Repository { line: 1 }),
        ];
        for (text, expected) in cases {
            let error = IdentityFile::parse(&text).err().unwrap();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains(&secret[20..40]));
        }
    }
}
