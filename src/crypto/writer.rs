//! Keys derived from a writer key's secret: chunk ids, stream hashes, the chunker's seed, metadata.
//!
//! Each derivation has a context of its own, so no key reveals anything about another.

use zeroize::Zeroizing;

use super::aead::{self, OpenError, Opened, Sealed};
use super::random_bytes;
use crate::id::{ChunkId, Hasher, derive_key};

const CHUNK_ID: &str = "varu 2026-11 chunk id key";
const STREAM_HASH: &str = "varu 2026-11 stream hash key";
const CHUNKER_SEED: &str = "varu 2026-11 chunker seed";
const METADATA: &str = "varu 2026-11 metadata key";

/// The one secret of a writer key: 32 random bytes. Wiped on drop.
pub struct WriterSecret(Zeroizing<[u8; 32]>);

impl WriterSecret {
    /// A new secret, for a new writer key.
    ///
    /// # Panics
    ///
    /// As [`random_bytes`].
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// The secret that a writer key file holds.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes that a writer key file holds.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that names chunks.
    pub fn chunk_id_key(&self) -> ChunkIdKey {
        ChunkIdKey(self.derive(CHUNK_ID))
    }

    /// The key that names whole streams.
    pub fn stream_hash_key(&self) -> StreamHashKey {
        StreamHashKey(self.derive(STREAM_HASH))
    }

    /// The seed of the chunker's table: without it nobody can tell where a text would be cut.
    pub fn chunker_seed(&self) -> Zeroizing<[u8; 32]> {
        self.derive(CHUNKER_SEED)
    }

    /// The key that seals recipes and pack directories.
    pub fn metadata_key(&self) -> MetadataKey {
        MetadataKey(self.derive(METADATA))
    }

    fn derive(&self, context: &str) -> Zeroizing<[u8; 32]> {
        derive_key(context, &[self.0.as_slice()])
    }
}

/// Names chunks. Wiped on drop.
pub struct ChunkIdKey(Zeroizing<[u8; 32]>);

impl ChunkIdKey {
    /// The id of a chunk of these bytes.
    pub fn id(&self, chunk: &[u8]) -> ChunkId {
        ChunkId::of(&self.0, chunk)
    }
}

/// Names whole streams. Wiped on drop.
pub struct StreamHashKey(Zeroizing<[u8; 32]>);

impl StreamHashKey {
    /// A hasher for one stream; its 32-byte result is the [`StreamHash`](crate::id::StreamHash).
    pub fn hasher(&self) -> Hasher {
        Hasher::keyed(&self.0)
    }
}

/// 32 random bytes in the clear header of an object, from which the keys of the object's sealed parts are derived. Not
/// secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// Bytes in a salt.
    pub const LEN: usize = 32;

    /// A new salt, for a new object. It serves that object alone, once for each [`SealPurpose`].
    ///
    /// # Panics
    ///
    /// As [`random_bytes`].
    pub fn random() -> Self {
        Self(*random_bytes())
    }

    /// The salt that an object's header holds.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes that an object's header holds.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The kind of a sealed part of an object. Each purpose has its own key under one salt, so one part can't be passed off
/// as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPurpose {
    /// The body of a snapshot.
    SnapshotBody,
    /// The directory of a pack's segments.
    PackDirectory,
    /// The copy of the recipe in a run's last pack.
    RecipeCopy,
    /// A page of a recipe's layer.
    RecipePage,
    /// The body of a mark.
    Mark,
}

impl SealPurpose {
    fn context(self) -> &'static str {
        match self {
            Self::SnapshotBody => "varu 2026-11 snapshot body",
            Self::PackDirectory => "varu 2026-11 pack directory",
            Self::RecipeCopy => "varu 2026-11 recipe copy",
            Self::RecipePage => "varu 2026-11 recipe page",
            Self::Mark => "varu 2026-11 mark",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::SnapshotBody => "snapshot body",
            Self::PackDirectory => "pack directory",
            Self::RecipeCopy => "recipe copy",
            Self::RecipePage => "recipe page",
            Self::Mark => "mark",
        }
    }
}

/// A message's key serves that message alone, so its nonce is zero.
const NONCE: [u8; 12] = [0; 12];

/// Seals data that the writer must be able to read again: recipes and pack directories. Wiped on drop.
pub struct MetadataKey(Zeroizing<[u8; 32]>);

impl MetadataKey {
    /// Seals `plaintext` in place under the key of this purpose and salt, bound to the parts of `aad` in their order.
    ///
    /// One salt seals one message for each purpose. There is no counter, so nothing has to be remembered: a machine that
    /// was set back or cloned draws other salts.
    pub fn seal(&self, purpose: SealPurpose, salt: &Salt, aad: &[&[u8]], plaintext: Vec<u8>) -> Sealed {
        aead::seal(&self.object_key(purpose, salt), NONCE, &joined(aad), plaintext)
    }

    /// Opens in place the output of [`seal`](Self::seal) for the same purpose, salt and parts of `aad`.
    pub fn open(&self, purpose: SealPurpose, salt: &Salt, aad: &[&[u8]], bytes: Vec<u8>) -> Result<Opened, OpenError> {
        aead::open(purpose.what(), &self.object_key(purpose, salt), NONCE, &joined(aad), bytes)
    }

    fn object_key(&self, purpose: SealPurpose, salt: &Salt) -> Zeroizing<[u8; 32]> {
        derive_key(purpose.context(), &[self.0.as_slice(), salt.as_bytes()])
    }
}

/// Each part after its length (8 bytes, little-endian), so that no byte can move from one part to the next.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_le_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSES: [SealPurpose; 5] = [
        SealPurpose::SnapshotBody,
        SealPurpose::PackDirectory,
        SealPurpose::RecipeCopy,
        SealPurpose::RecipePage,
        SealPurpose::Mark,
    ];
    const SALT: Salt = Salt::from_bytes([3; 32]);

    fn secret(byte: u8) -> WriterSecret {
        WriterSecret::from_bytes(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn one_secret_makes_one_set_of_keys_and_another_makes_others() {
        let id = |byte| secret(byte).chunk_id_key().id(b"chunk");
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        assert_ne!(*secret(1).chunker_seed(), *secret(2).chunker_seed());
        let stream = |byte| secret(byte).stream_hash_key().hasher().update(b"stream").finish();
        assert_ne!(stream(1), stream(2));
    }

    #[test]
    fn no_two_purposes_share_a_key() {
        let secret = secret(1);
        let metadata = secret.metadata_key();
        let mut keys = vec![
            *secret.chunk_id_key().0,
            *secret.stream_hash_key().0,
            *secret.chunker_seed(),
            *metadata.0,
            *secret.as_bytes(),
        ];
        keys.extend(PURPOSES.map(|purpose| *metadata.object_key(purpose, &SALT)));
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn a_sealed_part_opens_only_for_its_purpose_salt_and_header() {
        let key = secret(1).metadata_key();
        let sealed = || key.seal(SealPurpose::SnapshotBody, &SALT, &[b"head", b"er"], b"recipe".to_vec()).into_vec();
        let open = |purpose, salt: &Salt, aad: &[&[u8]]| key.open(purpose, salt, aad, sealed()).map(Opened::into_vec);
        assert_eq!(open(SealPurpose::SnapshotBody, &SALT, &[b"head", b"er"]).unwrap(), b"recipe");
        for purpose in [SealPurpose::PackDirectory, SealPurpose::RecipeCopy] {
            let error = open(purpose, &SALT, &[b"head", b"er"]).unwrap_err();
            assert_eq!(error, OpenError::Refused { what: purpose.what() });
        }
        for aad in [&[&b"header"[..]][..], &[b"hea", b"der"], &[b"er", b"head"], &[b"head", b"er", b""], &[]] {
            assert!(open(SealPurpose::SnapshotBody, &SALT, aad).is_err(), "bound to other parts: {aad:?}");
        }
        assert!(secret(2).metadata_key().open(SealPurpose::SnapshotBody, &SALT, &[b"head", b"er"], sealed()).is_err());
    }

    #[test]
    fn each_flipped_bit_of_the_salt_is_refused() {
        let key = secret(1).metadata_key();
        let sealed = key.seal(SealPurpose::RecipeCopy, &SALT, &[], b"recipe".to_vec()).into_vec();
        for bit in 0..Salt::LEN * 8 {
            let mut salt = *SALT.as_bytes();
            salt[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(SealPurpose::RecipeCopy, &Salt::from_bytes(salt), &[], sealed.clone()).is_err());
        }
    }
}
