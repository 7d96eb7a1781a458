//! The one AEAD: ChaCha20-Poly1305 as in RFC 8439, in place, the tag after the ciphertext.

use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, Key, KeyInit, Nonce};

/// Bytes by which a message is longer sealed than open.
pub const TAG_LEN: usize = 16;

/// Bytes that a key has sealed: ciphertext, then the tag. Only this module's keys make one, so a function that takes a
/// `Sealed` can't be given plaintext.
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The ciphertext and its tag.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes in it, the tag included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: a sealed message has at least its tag.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives up the buffer, so that it can be used again after the bytes are written.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes from outside that were authenticated and decrypted: exactly those that were sealed, under the same key, nonce
/// and associated data.
pub struct Opened(Vec<u8>);

impl Opened {
    /// The plaintext.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The plaintext's buffer, which is the one that held the ciphertext.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// Why sealed bytes did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no room for a tag.
    #[error("the sealed {what} has {length} bytes, and even an empty one has {TAG_LEN}: it was cut short")]
    Short {
        /// The name of the sealed part.
        what: &'static str,
        /// Its bytes.
        length: usize,
    },
    /// The tag does not fit the bytes, the key, the nonce and the associated data.
    #[error(
        "the sealed {what} does not open: it or its header was changed, it stands in another's place, or it was \
         sealed under another key"
    )]
    Refused {
        /// The name of the sealed part.
        what: &'static str,
    },
}

/// Seals `buffer` in place and appends the tag. With [`TAG_LEN`] bytes of spare capacity the buffer does not move.
///
/// A key must never seal two messages under one `nonce`.
pub(super) fn seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], mut buffer: Vec<u8>) -> Sealed {
    cipher(key)
        .encrypt_in_place(&Nonce::from(nonce), aad, &mut buffer)
        .expect("a message in memory is far below the cipher's limit of 256 GiB");
    Sealed(buffer)
}

/// Opens `bytes` in place; `what` names them in the error. Nothing is decrypted unless the tag is valid.
pub(super) fn open(
    what: &'static str,
    key: &[u8; 32],
    nonce: [u8; 12],
    aad: &[u8],
    mut bytes: Vec<u8>,
) -> Result<Opened, OpenError> {
    if bytes.len() < TAG_LEN {
        return Err(OpenError::Short { what, length: bytes.len() });
    }
    match cipher(key).decrypt_in_place(&Nonce::from(nonce), aad, &mut bytes) {
        Ok(()) => Ok(Opened(bytes)),
        Err(_) => Err(OpenError::Refused { what }),
    }
}

fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    let key: &Key = key.into();
    ChaCha20Poly1305::new(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const NONCE: [u8; 12] = [1; 12];

    fn opens(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        open("message", key, nonce, aad, bytes.to_vec()).map(Opened::into_vec)
    }

    fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
        (0..bytes.len() * 8).map(|bit| {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        })
    }

    #[test]
    fn what_was_sealed_opens() {
        for plaintext in [&b""[..], b"a", &[9; 100_000]] {
            let sealed = seal(&KEY, NONCE, b"header", plaintext.to_vec());
            assert_eq!(sealed.len(), plaintext.len() + TAG_LEN);
            assert_eq!(opens(&KEY, NONCE, b"header", sealed.as_bytes()).unwrap(), plaintext);
        }
    }

    #[test]
    fn each_flipped_bit_of_anything_is_refused() {
        let refused = Err(OpenError::Refused { what: "message" });
        let sealed = seal(&KEY, NONCE, b"header", b"a short plaintext".to_vec()).into_vec();
        for changed in flips(&sealed) {
            assert_eq!(opens(&KEY, NONCE, b"header", &changed), refused);
        }
        for aad in flips(b"header") {
            assert_eq!(opens(&KEY, NONCE, &aad, &sealed), refused);
        }
        for nonce in flips(&NONCE) {
            assert_eq!(opens(&KEY, nonce.try_into().unwrap(), b"header", &sealed), refused);
        }
        for key in flips(&KEY) {
            assert_eq!(opens(&key.try_into().unwrap(), NONCE, b"header", &sealed), refused);
        }
    }

    #[test]
    fn each_shortened_or_lengthened_message_is_refused() {
        let mut sealed = seal(&KEY, NONCE, b"", b"plaintext".to_vec()).into_vec();
        for length in 0..sealed.len() {
            let error = opens(&KEY, NONCE, b"", &sealed[..length]).unwrap_err();
            assert_eq!(matches!(error, OpenError::Short { .. }), length < TAG_LEN);
        }
        sealed.push(0);
        assert!(opens(&KEY, NONCE, b"", &sealed).is_err());
    }
}
