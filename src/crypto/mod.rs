//! Keys and encryption: the only place where plaintext becomes ciphertext and back.
//!
//! Two tools do all of it. Bulk data and metadata are ChaCha20-Poly1305 messages (RFC 8439) under keys that come from
//! BLAKE3's key derivation. Secrets that leave the machine are wrapped in standard age files (<https://age-encryption.org/v1>)
//! to X25519 recipients.
//!
//! A secret type is never `Debug`, `Clone`, `Copy` or serialisable, and wipes itself when it is dropped. The output of
//! encryption is a [`Sealed`], which nothing else can make; that of decryption is an [`Opened`].

mod aead;
mod data;
mod identity;
mod pack;
mod recipient;
mod wrap;
mod writer;

pub use aead::{OpenError, Opened, Sealed, TAG_LEN};
pub use data::{DataKeyPublic, DataKeySecret, MAX_WRAPPED_PACK_KEY, ParseDataKeyError};
pub use identity::{IdentityError, IdentityFile};
pub use pack::PackKey;
pub use recipient::{ParseRecipientError, Recipient};
pub use wrap::{MAX_RECIPIENTS, MAX_WRAPPING_OVERHEAD, UnwrapError, WrapError, wrap};
pub use writer::{ChunkIdKey, MetadataKey, Salt, SealPurpose, StreamHashKey, WriterSecret};

use zeroize::Zeroizing;

/// `N` bytes from the operating system's generator.
///
/// # Panics
///
/// Where the operating system has no randomness to give: nothing can be sealed safely then.
pub fn random_bytes<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system gives randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails to compile where `$type` implements `$trait`: two impls then fit the call.
    macro_rules! assert_lacks {
        ($type:ty: $($trait:path),+) => {
            $({
                trait Lacks<Marker> {
                    fn holds() {}
                }
                struct Found;
                impl<T: ?Sized> Lacks<()> for T {}
                impl<T: ?Sized + $trait> Lacks<Found> for T {}
                <$type as Lacks<_>>::holds();
            })+
        };
    }

    macro_rules! assert_secret {
        ($($type:ty),+) => {
            $(
                assert_lacks!($type: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize);
                assert!(std::mem::needs_drop::<$type>(), "something is there to wipe");
            )+
        };
    }

    #[test]
    fn secrets_cannot_be_shown_copied_or_stored() {
        assert_secret!(WriterSecret, ChunkIdKey, StreamHashKey, MetadataKey, PackKey, DataKeySecret, IdentityFile);
        assert_lacks!(Opened: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize);
    }

    #[test]
    fn random_bytes_differ_from_call_to_call() {
        assert_ne!(*random_bytes::<32>(), *random_bytes::<32>());
    }
}
