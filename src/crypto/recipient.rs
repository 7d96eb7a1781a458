//! Public halves: whom a secret is wrapped to.

use std::fmt;
use std::str::FromStr;

use age::x25519;

/// The public half of an identity: a standard age X25519 recipient, shown and read as `age1…`. Not secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient(x25519::Recipient);

/// Why a text is no recipient. The text is not repeated: it may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRecipientError {
    /// It is the other half of the pair.
    #[error("this is a secret identity, not a recipient: give its public key, which starts with age1")]
    Identity,
    /// It is anything else, perhaps with a letter mistyped.
    #[error(
        "this is no age X25519 recipient: age1 and 58 lower-case letters and digits are expected, and a checksum in \
         them must fit. `age-keygen -y FILE` prints the recipient of an identity file"
    )]
    NotX25519,
    /// It parses as a recipient, but no secret belongs to it: anybody could decrypt data wrapped to it.
    #[error("this recipient is one of the few X25519 points that protect nothing: make another pair")]
    Weak,
}

impl Recipient {
    pub(super) fn of(identity: &x25519::Identity) -> Self {
        Self(identity.to_public())
    }

    pub(super) fn as_age(&self) -> &dyn age::Recipient {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = ParseRecipientError;

    /// Reads a recipient in its one spelling, in lower case.
    fn from_str(text: &str) -> Result<Self, ParseRecipientError> {
        if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("age-")) {
            return Err(ParseRecipientError::Identity);
        }
        let recipient: x25519::Recipient = text.parse().map_err(|_| ParseRecipientError::NotX25519)?;
        if recipient.to_string() != text {
            return Err(ParseRecipientError::NotX25519);
        }
        match is_weak(&point(text)) {
            true => Err(ParseRecipientError::Weak),
            false => Ok(Self(recipient)),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// The letters of Bech32, in the order of their values.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The 32 bytes of a recipient whose text age has already accepted: five bits a letter after `age1`.
fn point(text: &str) -> [u8; 32] {
    let mut point = [0; 32];
    let letters = text.bytes().skip(4).filter_map(|letter| LETTERS.iter().position(|known| *known == letter));
    for (index, value) in letters.enumerate() {
        for bit in (0..5).filter(|bit| value >> (4 - bit) & 1 == 1) {
            let place = index * 5 + bit;
            if let Some(byte) = point.get_mut(place / 8) {
                *byte |= 0x80 >> (place % 8);
            }
        }
    }
    point
}

/// Whether X25519 with this point gives zero for every secret: age refuses to go on then, with a panic. These are all
/// such points (<https://cr.yp.to/ecdh.html#validate>); the highest bit counts for nothing.
fn is_weak(point: &[u8; 32]) -> bool {
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
            0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
            0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
    ];
    let mut point = *point;
    point[31] &= 0x7f;
    let (low, middle, high) = (point[0], &point[1..31], point[31]);
    let zero_or_one = low <= 1 && middle.iter().all(|byte| *byte == 0) && high == 0;
    // The field's prime is 2^255 - 19: one less than it, itself, and one more.
    let about_prime = (0xec..=0xee).contains(&low) && middle.iter().all(|byte| *byte == 0xff) && high == 0x7f;
    zero_or_one || about_prime || ORDER_8.contains(&point)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bech32 of `bytes` under `age`, from its definition (BIP 173).
    pub fn bech32(bytes: &[u8]) -> String {
        let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1)).collect();
        let mut values: Vec<u32> = bits
            .chunks(5)
            .map(|group| group.iter().enumerate().map(|(index, bit)| u32::from(*bit) << (4 - index)).sum())
            .collect();
        let prefix = b"age".iter().map(|letter| u32::from(letter >> 5));
        let prefix = prefix.chain([0]).chain(b"age".iter().map(|letter| u32::from(letter & 31)));
        let checked: Vec<u32> = prefix.chain(values.iter().copied()).chain([0; 6]).collect();
        let checksum = checked.iter().fold(1, |sum: u32, value| {
            let generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
            let next = (sum & 0x1ff_ffff) << 5 ^ value;
            (0..5).filter(|bit| sum >> 25 >> bit & 1 == 1).fold(next, |next, bit| next ^ generators[bit])
        }) ^ 1;
        values.extend((0..6).map(|index| checksum >> (5 * (5 - index)) & 31));
        let letters = values.iter().map(|value| char::from(LETTERS[*value as usize]));
        "age1".chars().chain(letters).collect()
    }

    #[test]
    fn a_recipient_reads_back_what_it_shows() {
        let text = Recipient::of(&x25519::Identity::generate()).to_string();
        assert_eq!(text.parse::<Recipient>().unwrap().to_string(), text);
        assert_eq!(bech32(&point(&text)), text, "the point is the one that the text means");
    }

    #[test]
    fn a_text_that_is_no_recipient_is_refused_and_not_repeated() {
        let identity = x25519::Identity::generate();
        let text = Recipient::of(&identity).to_string();
        let mut mistyped = text.clone().into_bytes();
        mistyped[20] = if mistyped[20] == b'q' { b'p' } else { b'q' };
        let mistyped = String::from_utf8(mistyped).unwrap();
        for wrong in ["", "age1", "ssh-ed25519 AAAA", &text[..61], &text.to_uppercase(), &mistyped, "éé", "age1pq1xx"]
        {
            assert_eq!(wrong.parse::<Recipient>(), Err(ParseRecipientError::NotX25519), "{wrong}");
        }
        use age::secrecy::ExposeSecret;
        let secret = identity.to_string();
        assert_eq!(secret.expose_secret().parse::<Recipient>(), Err(ParseRecipientError::Identity));
    }

    #[test]
    fn a_point_that_protects_nothing_is_refused() {
        let mut prime_minus_one = [0xff; 32];
        prime_minus_one[0] = 0xec;
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one, prime_minus_one] {
            assert_eq!(bech32(&point).parse::<Recipient>(), Err(ParseRecipientError::Weak));
        }
        let order_8: [u8; 32] = {
            let mut bytes = [0; 32];
            crate::id::decode_hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7", &mut bytes);
            bytes
        };
        assert_eq!(bech32(&order_8).parse::<Recipient>(), Err(ParseRecipientError::Weak), "with its highest bit set");
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(bech32(&nine).parse::<Recipient>().is_ok(), "the base point is not weak");
    }
}
