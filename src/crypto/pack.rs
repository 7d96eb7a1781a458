//! The key of one pack: seals its segments.

use zeroize::Zeroizing;

use super::aead::{self, OpenError, Opened, Sealed};
use super::random_bytes;

const SEGMENT: &str = "segment";

/// 32 random bytes that seal the segments of one pack, and nothing else. Wiped on drop.
pub struct PackKey(Zeroizing<[u8; 32]>);

impl PackKey {
    /// A new key, for a new pack.
    ///
    /// # Panics
    ///
    /// As [`random_bytes`].
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// Seals segment `number` of the pack, bound to `aad`, the pack's header. Works in place: with
    /// [`TAG_LEN`](super::TAG_LEN) bytes of spare capacity the buffer does not move.
    ///
    /// The number is the nonce, so a pack seals each number once. A pack that was interrupted is never continued: a
    /// new pack has a new key.
    pub fn seal_segment(&self, number: u32, aad: &[u8], buffer: Vec<u8>) -> Sealed {
        aead::seal(&self.0, nonce(number), aad, buffer)
    }

    /// Opens segment `number` of the pack whose header is `aad`, in place.
    pub fn open_segment(&self, number: u32, aad: &[u8], bytes: Vec<u8>) -> Result<Opened, OpenError> {
        aead::open(SEGMENT, &self.0, nonce(number), aad, bytes)
    }

    pub(super) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The segment's number, 12 bytes little-endian.
fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_opens_only_in_its_own_place() {
        let key = PackKey::random();
        let sealed = || key.seal_segment(256, b"header", b"rows".to_vec()).into_vec();
        assert_eq!(key.open_segment(256, b"header", sealed()).ok().unwrap().as_bytes(), b"rows");
        for (number, aad) in [(0, &b"header"[..]), (257, b"header"), (1, b"header"), (256, b"another"), (256, b"")] {
            assert!(matches!(key.open_segment(number, aad, sealed()), Err(OpenError::Refused { what: SEGMENT })));
        }
        assert!(PackKey::random().open_segment(256, b"header", sealed()).is_err(), "another pack's key");
    }

    #[test]
    fn a_buffer_with_room_for_the_tag_is_used_again() {
        let key = PackKey::random();
        let mut buffer = Vec::with_capacity(4 + super::super::TAG_LEN);
        buffer.extend_from_slice(b"rows");
        let place = buffer.as_ptr();
        let sealed = key.seal_segment(0, b"", buffer).into_vec();
        assert_eq!(sealed.as_ptr(), place);
        let opened = key.open_segment(0, b"", sealed).ok().unwrap();
        assert_eq!(opened.as_bytes().as_ptr(), place);
    }
}
