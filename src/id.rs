//! Names that come from content: one type for each kind of id, and the hash behind them.
//!
//! Everything here is BLAKE3 (<https://github.com/BLAKE3-team/BLAKE3-specs>). Ids are shown, parsed and serialised as
//! lower-case hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {length} hexadecimal digits are expected")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    length: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Bytes in an id of this kind.
            pub const LEN: usize = $len;

            /// The id that these bytes are.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $len];
                match decode_hex(text, &mut bytes) {
                    true => Ok(Self(bytes)),
                    false => Err(ParseIdError {
                        text: text.chars().take(80).collect(),
                        what: $what,
                        length: $len * 2,
                    }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A chunk: the first 16 bytes of the keyed BLAKE3 of its bytes, under the writer key's chunk-id key.
    ChunkId, 16, "a chunk id"
);
id!(
    /// A pack: the BLAKE3 of all its bytes. Anyone can check it without a key.
    PackId, 32, "a pack id"
);
id!(
    /// A snapshot: the first 16 bytes of the BLAKE3 of its object.
    SnapshotId, 16, "a snapshot id"
);
id!(
    /// A repository: the fingerprint of a writer key's secret, the data key's public half and the chunking parameters.
    RepositoryId, 16, "a repository id"
);
id!(
    /// A chain: 16 random bytes, drawn with its full.
    ChainId, 16, "a chain id"
);
id!(
    /// A generation: 16 random bytes, drawn at a re-base.
    GenerationId, 16, "a generation id"
);
id!(
    /// The machine that wrote a snapshot: a hash of its machine id and hardware UUID.
    InstanceId, 16, "an instance id"
);
id!(
    /// The whole of a stream: the keyed BLAKE3 of its bytes, under the writer key's stream-hash key.
    StreamHash, 32, "a stream hash"
);

impl ChunkId {
    /// The id of `chunk` under `key`.
    pub fn of(key: &[u8; 32], chunk: &[u8]) -> Self {
        Self(truncate(blake3::keyed_hash(key, chunk)))
    }
}

impl PackId {
    /// The id of a pack of these bytes.
    pub fn of(pack: &[u8]) -> Self {
        Self(*blake3::hash(pack).as_bytes())
    }
}

impl SnapshotId {
    /// The beginning of the id, as people are shown it.
    pub fn short(&self) -> String {
        const DIGITS: usize = 12;
        self.to_string()[..DIGITS].to_owned()
    }

    /// The id of a snapshot object of these bytes.
    pub fn of(object: &[u8]) -> Self {
        Self(truncate(blake3::hash(object)))
    }
}

/// An incremental BLAKE3 over bytes that arrive in pieces.
#[derive(Clone)]
pub struct Hasher(blake3::Hasher);

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// The plain hash: names packs and objects.
    pub fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    /// The keyed hash: names what only a key holder may recognise.
    pub fn keyed(key: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(key))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The 32-byte hash of all bytes so far.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    /// The first 16 bytes of the hash of all bytes so far.
    pub fn finish_short(&self) -> [u8; 16] {
        truncate(self.0.finalize())
    }
}

/// BLAKE3's key derivation: 32 bytes bound to `context` (a constant of the program) and to all of `material`.
pub fn derive_key(context: &str, material: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in material {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// BLAKE3's key derivation with as much output as `out` holds.
pub fn derive_bytes(context: &str, material: &[u8], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material);
    hasher.finalize_xof().fill(out);
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads lower-case hex of exactly `out`'s length. False where `text` is anything else.
pub fn decode_hex(text: &str, out: &mut [u8]) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != out.len() * 2 {
        return false;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return false,
        }
    }
    true
}

fn truncate(hash: blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_show() {
        let id = SnapshotId::of(b"a snapshot");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), SnapshotId::LEN * 2);
    }

    #[test]
    fn a_text_that_is_no_id_is_refused_by_name() {
        let error = "XYZ".parse::<PackId>().unwrap_err();
        assert_eq!(error.to_string(), "\"XYZ\" is not a pack id: 64 hexadecimal digits are expected");
        assert!("é".repeat(16).parse::<ChunkId>().is_err());
        assert!("A".repeat(32).parse::<ChunkId>().is_err(), "one spelling for one id");
    }

    #[test]
    fn a_hash_in_pieces_is_the_hash_of_the_whole() {
        let whole = PackId::of(b"abcdef");
        let mut hasher = Hasher::new();
        hasher.update(b"abc").update(b"def");
        assert_eq!(hasher.finish(), *whole.as_bytes());
    }
}
