//! age files (<https://age-encryption.org/v1>), binary: secrets wrapped to X25519 recipients.
//!
//! Wrapped secrets are stored on the remote, so they are hostile input: size, header and recipients are bounded before
//! age reads them.

use std::io::{Read, Write};

use age::{DecryptError, Decryptor, Encryptor, x25519};
use zeroize::Zeroizing;

use super::recipient::Recipient;

/// The most recipients that one secret can be wrapped to.
pub const MAX_RECIPIENTS: usize = 64;

/// The most bytes by which a secret may be longer wrapped than open.
pub const MAX_WRAPPING_OVERHEAD: usize = 16 * 1024;

/// Bytes of an age header: 64 recipients of 97 bytes, age's own filler, and the marks at both ends.
const MAX_HEADER: usize = 8 * 1024;

/// Recipients that a header may name: ours, and room for the fillers of other age programs.
const MAX_STANZAS: usize = MAX_RECIPIENTS + 16;

/// Why a secret could not be wrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Nobody could ever open it.
    #[error("there is no recipient to wrap the secret to: give at least one")]
    NoRecipient,
    /// Readers accept no more.
    #[error("{count} recipients are too many for one secret: at most {MAX_RECIPIENTS} can open it")]
    TooManyRecipients {
        /// How many there were.
        count: usize,
    },
}

/// Why a wrapped secret could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// More bytes than a wrapped secret of this kind has.
    #[error(
        "the wrapped {what} has {length} bytes, and at most {limit} are expected: it was changed, or is something else"
    )]
    TooLong {
        /// The name of the wrapped secret.
        what: &'static str,
        /// Its bytes.
        length: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// No age file of version 1, or a broken header.
    #[error("the wrapped {what} is no age file of version 1: it was changed, or is something else")]
    NotAge {
        /// The name of the wrapped secret.
        what: &'static str,
    },
    /// A good header, for somebody else.
    #[error(
        "the wrapped {what} was made for other recipients: this key does not open it. Try the other identities you keep"
    )]
    NotForThisKey {
        /// The name of the wrapped secret.
        what: &'static str,
    },
    /// The key is right, and the bytes are not.
    #[error("the wrapped {what} is damaged: its key is right, but its bytes were changed or cut short")]
    Damaged {
        /// The name of the wrapped secret.
        what: &'static str,
    },
    /// It decrypts, but its content is invalid.
    #[error("the wrapped {what} holds {held}, and {expected} are expected: it was made by something else")]
    WrongContent {
        /// The name of the wrapped secret.
        what: &'static str,
        /// The actual content.
        held: String,
        /// The expected content.
        expected: String,
    },
}

/// Wraps a secret to all of `recipients`: each of them can open it alone. The result is a binary age file, at most
/// [`MAX_WRAPPING_OVERHEAD`] bytes longer than `secret`, and another one at each call.
///
/// # Panics
///
/// Where the operating system has no randomness to give.
pub fn wrap(recipients: &[Recipient], secret: &[u8]) -> Result<Vec<u8>, WrapError> {
    if recipients.len() > MAX_RECIPIENTS {
        return Err(WrapError::TooManyRecipients { count: recipients.len() });
    }
    let encryptor = Encryptor::with_recipients(recipients.iter().map(Recipient::as_age));
    let encryptor = encryptor.map_err(|_| WrapError::NoRecipient)?;
    let written = (|| {
        let mut writer = encryptor.wrap_output(Vec::with_capacity(secret.len() + 1024))?;
        writer.write_all(secret)?;
        writer.finish()
    })();
    Ok(written.expect("writing to memory does not fail"))
}

/// Opens an age file with the first of `identities` that fits. The secret may have up to `limit` bytes.
pub(super) fn unwrap<'a>(
    what: &'static str,
    identities: impl Iterator<Item = &'a x25519::Identity>,
    wrapped: &[u8],
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    let most = limit.saturating_add(MAX_WRAPPING_OVERHEAD);
    if wrapped.len() > most {
        return Err(UnwrapError::TooLong { what, length: wrapped.len(), limit: most });
    }
    if !header_is_bounded(wrapped) {
        return Err(UnwrapError::NotAge { what });
    }
    let identities = identities.map(|identity| identity as &dyn age::Identity);
    let opened = Decryptor::new_buffered(wrapped).and_then(|decryptor| decryptor.decrypt(identities));
    let mut reader = opened.map_err(|error| refused(what, &error))?;
    let secret = read_at_most(&mut reader, limit).map_err(|_| UnwrapError::Damaged { what })?;
    secret.ok_or_else(|| UnwrapError::WrongContent {
        what,
        held: format!("more than {limit} bytes"),
        expected: "fewer".to_owned(),
    })
}

/// Whether the header ends early and names few recipients. age reads the header again for each line and tries each
/// recipient in turn, so this bounds its work.
fn header_is_bounded(wrapped: &[u8]) -> bool {
    let start = &wrapped[..wrapped.len().min(MAX_HEADER)];
    let header = start.windows(5).position(|window| window == b"\n--- ");
    header.is_some_and(|end| start[..end].windows(4).filter(|window| window == b"\n-> ").count() <= MAX_STANZAS)
}

fn refused(what: &'static str, error: &DecryptError) -> UnwrapError {
    match error {
        DecryptError::NoMatchingKeys => UnwrapError::NotForThisKey { what },
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => UnwrapError::NotAge { what },
        _ => UnwrapError::Damaged { what },
    }
}

/// All that `reader` gives, or nothing where that is more than `limit` bytes. The buffer never moves, so no copy of the
/// secret is left behind.
fn read_at_most(reader: &mut impl Read, limit: usize) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut secret = Zeroizing::new(vec![0; limit.saturating_add(1)]);
    let mut filled = 0;
    while filled < secret.len() {
        match reader.read(&mut secret[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    secret.truncate(filled);
    Ok((filled <= limit).then_some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "secret";
    const LIMIT: usize = 4096;

    fn pair() -> (x25519::Identity, Recipient) {
        let identity = x25519::Identity::generate();
        let recipient = Recipient::of(&identity);
        (identity, recipient)
    }

    fn opens(identity: &x25519::Identity, wrapped: &[u8]) -> Result<Vec<u8>, UnwrapError> {
        unwrap(WHAT, [identity].into_iter(), wrapped, LIMIT).map(|secret| secret.to_vec())
    }

    #[test]
    fn each_recipient_opens_it_and_nobody_else() {
        let pairs: Vec<_> = (0..MAX_RECIPIENTS).map(|_| pair()).collect();
        let recipients: Vec<_> = pairs.iter().map(|(_, recipient)| recipient.clone()).collect();
        let wrapped = wrap(&recipients, &[5; LIMIT]).unwrap();
        assert!(wrapped.len() <= LIMIT + MAX_WRAPPING_OVERHEAD);
        for (identity, _) in &pairs {
            assert_eq!(opens(identity, &wrapped).unwrap(), [5; LIMIT]);
        }
        assert_eq!(opens(&pair().0, &wrapped), Err(UnwrapError::NotForThisKey { what: WHAT }));
        let all = pairs.iter().map(|(identity, _)| identity);
        assert!(unwrap(WHAT, all, &wrapped, LIMIT).is_ok(), "one of several identities is enough");
    }

    #[test]
    fn nobody_and_too_many_are_no_recipients() {
        assert_eq!(wrap(&[], b"secret"), Err(WrapError::NoRecipient));
        let many = vec![pair().1; MAX_RECIPIENTS + 1];
        assert_eq!(wrap(&many, b"secret"), Err(WrapError::TooManyRecipients { count: MAX_RECIPIENTS + 1 }));
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_refused() {
        let (identity, recipient) = pair();
        let wrapped = wrap(&[recipient], b"secret").unwrap();
        for bit in 0..wrapped.len() * 8 {
            let mut changed = wrapped.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(opens(&identity, &changed).is_err(), "bit {bit} of {}", wrapped.len() * 8);
        }
        for length in 0..wrapped.len() {
            assert!(opens(&identity, &wrapped[..length]).is_err(), "cut at {length}");
        }
        let payload = wrapped.len() - 1;
        assert_eq!(opens(&identity, &wrapped[..payload]), Err(UnwrapError::Damaged { what: WHAT }));
        assert!(opens(&identity, &[&wrapped[..], b"x"].concat()).is_err(), "one byte more");
    }

    #[test]
    fn a_secret_beyond_the_limit_is_refused() {
        let (identity, recipient) = pair();
        let inside = wrap(std::slice::from_ref(&recipient), &[1; LIMIT + 1]).unwrap();
        assert!(matches!(opens(&identity, &inside), Err(UnwrapError::WrongContent { .. })));
        let outside = wrap(&[recipient], &[1; LIMIT + MAX_WRAPPING_OVERHEAD]).unwrap();
        assert!(matches!(opens(&identity, &outside), Err(UnwrapError::TooLong { .. })));
    }

    /// Headers that cost age much: a megabyte each, offered under a limit that lets them pass.
    #[test]
    fn a_megabyte_of_hostile_header_is_refused_before_age_reads_it() {
        let (identity, _) = pair();
        const MEGABYTE: usize = 1 << 20;
        let stanzas = "-> a\n\n".repeat(MEGABYTE / 6);
        let arguments = format!("-> X25519{}\n\n", " a".repeat(MEGABYTE / 2));
        let body = format!("-> X25519 a\n{}\n", format!("{}\n", "A".repeat(64)).repeat(MEGABYTE / 65));
        let mac = format!("--- {}\n", "A".repeat(43));
        for header in [stanzas, arguments, body, "\n".repeat(MEGABYTE), "a".repeat(MEGABYTE)] {
            let hostile = format!("age-encryption.org/v1\n{header}{mac}");
            let result = unwrap(WHAT, [&identity].into_iter(), hostile.as_bytes(), 2 * MEGABYTE);
            assert_eq!(result.err(), Some(UnwrapError::NotAge { what: WHAT }));
        }
        let few = format!("age-encryption.org/v1\n{}{mac}", "-> a\n\n".repeat(MAX_STANZAS + 2));
        assert_eq!(opens(&identity, few.as_bytes()), Err(UnwrapError::NotAge { what: WHAT }));
    }

    #[test]
    fn what_is_no_age_file_of_version_1_is_named_so() {
        let (identity, recipient) = pair();
        let wrapped = wrap(&[recipient], b"secret").unwrap();
        let mut newer = wrapped.clone();
        newer[20] = b'2';
        let garbage: Vec<u8> = (0..20_000u32).map(|index| ((index * 7919) >> 3) as u8).collect();
        for bytes in [&newer[..], b"", b"age", &garbage, b"-----BEGIN AGE ENCRYPTED FILE-----\n"] {
            assert_eq!(opens(&identity, bytes), Err(UnwrapError::NotAge { what: WHAT }));
        }
    }
}
