//! Streams that can't be made smaller, told by how they begin.

/// The format of a stream with this beginning, if it can't be deduplicated and compressed.
pub(super) fn precompression(start: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"BZh", "compressed with bzip2"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x04\x22\x4d\x18", "compressed with lz4"),
        (b"age-encryption.org/", "encrypted with age"),
        (b"-----BEGIN PGP MESSAGE-----", "encrypted with gpg"),
        (b"Salted__", "encrypted with openssl"),
    ];
    let known = STARTS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| *what);
    known.or_else(|| is_pgp(start).then_some("encrypted with gpg"))
}

/// A binary OpenPGP message begins with a packet of an encrypted session key, of version 3 or 4 (6 in the newest form).
fn is_pgp(start: &[u8]) -> bool {
    match start {
        // Old form: the tag in bits 2 to 5, the length's length in the last two.
        [tag @ 0x84..=0x86, rest @ ..] => rest.get(1 << (tag & 3)).is_some_and(|version| *version == 3),
        [tag @ 0x8c..=0x8e, rest @ ..] => rest.get(1 << (tag & 3)).is_some_and(|version| matches!(version, 4 | 5)),
        [0xc1, _, version, ..] => matches!(version, 3 | 6),
        [0xc3, _, version, ..] => matches!(version, 4..=6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::precompression;

    #[test]
    fn precompressed_streams_are_known_by_their_start() {
        assert_eq!(precompression(b"\x1f\x8b\x08\0"), Some("compressed with gzip"));
        assert_eq!(precompression(b"\x28\xb5\x2f\xfd\0"), Some("compressed with zstd"));
        assert_eq!(precompression(b"\x85\x02\x0c\x03abc"), Some("encrypted with gpg"));
        assert_eq!(precompression(b"\x8c\x0d\x04\x09\x03\x02"), Some("encrypted with gpg"));
        for plain in [&b"-- MariaDB dump"[..], b"", b"\x85", b"BZ", b"\x8c\x0d\x01"] {
            assert_eq!(precompression(plain), None, "{plain:?}");
        }
    }
}
