//! The data key: pack keys are wrapped to its public half, and only its secret opens them.

use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519;
use zeroize::Zeroizing;

use super::pack::PackKey;
use super::recipient::{ParseRecipientError, Recipient};
use super::wrap::{self, UnwrapError};

/// The most bytes of a wrapped pack key. age adds filler of random length, so wrapped keys differ in length.
pub const MAX_WRAPPED_PACK_KEY: usize = 1024;

const PACK_KEY: &str = "pack key";

/// The secret half of a data key: opens every pack key that was wrapped to its public half. It is never on the machine
/// that writes, and wiped on drop.
pub struct DataKeySecret(x25519::Identity);

/// Why a text is no data key secret. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no data key secret: one line, AGE-SECRET-KEY-1 and 58 letters and digits, is expected")]
pub struct ParseDataKeyError;

impl DataKeySecret {
    /// A new data key.
    ///
    /// # Panics
    ///
    /// Where the operating system has no randomness to give.
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Parses the output of [`to_text`](Self::to_text): one line, with or without its end.
    pub fn parse(text: &str) -> Result<Self, ParseDataKeyError> {
        text.strip_suffix('\n').unwrap_or(text).parse().map(Self).map_err(|_| ParseDataKeyError)
    }

    /// The secret as one line of text, a standard age identity: the content of `keys/data-HASH.age`.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = self.0.to_string();
        Zeroizing::new([secret.expose_secret(), "\n"].concat())
    }

    /// The public half.
    pub fn public(&self) -> DataKeyPublic {
        DataKeyPublic(Recipient::of(&self.0))
    }

    /// Opens a pack key that was wrapped to the public half.
    pub fn unwrap_pack_key(&self, wrapped: &[u8]) -> Result<PackKey, UnwrapError> {
        if wrapped.len() > MAX_WRAPPED_PACK_KEY {
            let (length, limit) = (wrapped.len(), MAX_WRAPPED_PACK_KEY);
            return Err(UnwrapError::TooLong { what: PACK_KEY, length, limit });
        }
        let secret = wrap::unwrap(PACK_KEY, [&self.0].into_iter(), wrapped, 32)?;
        let mut key = Zeroizing::new([0; 32]);
        if secret.len() != key.len() {
            let (held, expected) = (format!("{} bytes", secret.len()), "32 bytes".to_owned());
            return Err(UnwrapError::WrongContent { what: PACK_KEY, held, expected });
        }
        key.copy_from_slice(&secret);
        Ok(PackKey::from_bytes(key))
    }
}

/// The public half of a data key, shown and read as `age1…`. It wraps pack keys and opens none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyPublic(Recipient);

impl DataKeyPublic {
    /// Wraps a pack key: a binary age file of at most [`MAX_WRAPPED_PACK_KEY`] bytes, another one at each call.
    ///
    /// # Panics
    ///
    /// Where the operating system has no randomness to give.
    pub fn wrap_pack_key(&self, key: &PackKey) -> Vec<u8> {
        wrap::wrap(std::slice::from_ref(&self.0), key.as_bytes()).expect("there is one recipient")
    }
}

impl FromStr for DataKeyPublic {
    type Err = ParseRecipientError;

    fn from_str(text: &str) -> Result<Self, ParseRecipientError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for DataKeyPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_half_opens_a_wrapped_pack_key() {
        let data_key = DataKeySecret::generate();
        let key = PackKey::random();
        let wrapped = data_key.public().wrap_pack_key(&key);
        assert!(wrapped.len() <= MAX_WRAPPED_PACK_KEY);
        assert_eq!(data_key.unwrap_pack_key(&wrapped).ok().unwrap().as_bytes(), key.as_bytes());
        let other = DataKeySecret::generate().unwrap_pack_key(&wrapped);
        assert_eq!(other.err(), Some(UnwrapError::NotForThisKey { what: PACK_KEY }));
    }

    /// age adds filler of random length; its longest makes a wrapped key of 421 bytes.
    #[test]
    fn a_wrapped_pack_key_stays_far_below_its_bound() {
        let public = DataKeySecret::generate().public();
        let longest = (0..200).map(|_| public.wrap_pack_key(&PackKey::random()).len()).max();
        assert!(longest.unwrap() <= 421, "{longest:?}");
    }

    #[test]
    fn what_is_too_long_or_holds_no_32_bytes_is_no_pack_key() {
        let data_key = DataKeySecret::generate();
        let short = wrap::wrap(&[data_key.public().0], &[1; 31]).unwrap();
        assert!(matches!(data_key.unwrap_pack_key(&short), Err(UnwrapError::WrongContent { .. })));
        let long = [0; MAX_WRAPPED_PACK_KEY + 1];
        assert!(matches!(data_key.unwrap_pack_key(&long), Err(UnwrapError::TooLong { limit: 1024, .. })));
    }

    #[test]
    fn both_halves_read_back_from_their_texts() {
        let data_key = DataKeySecret::generate();
        let again = DataKeySecret::parse(&data_key.to_text()).ok().unwrap();
        assert_eq!(again.public(), data_key.public());
        assert_eq!(data_key.public().to_string().parse(), Ok(data_key.public()));
        for wrong in ["", "AGE-SECRET-KEY-1", &data_key.public().to_string(), &format!("{}\n", *data_key.to_text())] {
            assert_eq!(DataKeySecret::parse(wrong).err(), Some(ParseDataKeyError));
        }
    }
}
