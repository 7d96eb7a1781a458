//! Character sets that a session may have: how bytes make characters, and which.

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, IBM866, ISO_8859_2, ISO_8859_7, ISO_8859_8, ISO_8859_13, KOI8_R,
    KOI8_U, MACINTOSH, SHIFT_JIS, WINDOWS_874, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1254, WINDOWS_1256,
    WINDOWS_1257,
};

/// The properties of a character set that matter for finding quotes and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum Charset {
    /// No byte below 0x80 is part of a longer character, and none above is white space: UTF-8, binary.
    Utf8,
    /// Other characters whose bytes below 0x80 are ASCII.
    Plain(Letters),
    /// Characters of two bytes, whose second may look like a quote or a backslash.
    Pairs(Pairs),
}

/// The meaning of the bytes from 0x80 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum Letters {
    /// Decoded with this encoding.
    Encoding(&'static Encoding),
    /// One of these 128 each.
    Listed(&'static str),
    /// It isn't known here.
    Unknown,
}

/// The letters of the consoles of Windows and DOS in western Europe, which the encodings of the web don't have.
const CP850: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";
/// Those in central Europe.
const CP852: &str = "ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}";

/// Which bytes make a character of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::mysql) enum Pairs {
    /// big5.
    Big5,
    /// gbk.
    Gbk,
    /// gb18030, which has characters of four bytes besides.
    Gb18030,
    /// sjis, cp932.
    Sjis,
}

impl Charset {
    /// Character sets of which only the letters of ASCII are known here.
    pub const UNKNOWN: [&str; 6] = ["armscii8", "dec8", "geostd8", "hp8", "keybcs2", "macce"];

    /// That of a name: `utf8mb4`. None if it isn't one that a client may have.
    pub fn named(name: &str) -> Option<Self> {
        let plain = |encoding| Some(Self::Plain(Letters::Encoding(encoding)));
        match name.to_ascii_lowercase().as_str() {
            "utf8" | "utf8mb3" | "utf8mb4" | "binary" | "ascii" => Some(Self::Utf8),
            "big5" => Some(Self::Pairs(Pairs::Big5)),
            "gbk" => Some(Self::Pairs(Pairs::Gbk)),
            "gb18030" => Some(Self::Pairs(Pairs::Gb18030)),
            "sjis" | "cp932" => Some(Self::Pairs(Pairs::Sjis)),
            "cp1250" => plain(WINDOWS_1250),
            "cp1251" => plain(WINDOWS_1251),
            "cp1256" => plain(WINDOWS_1256),
            "cp1257" => plain(WINDOWS_1257),
            "cp866" => plain(IBM866),
            "ujis" | "eucjpms" => plain(EUC_JP),
            "euckr" => plain(EUC_KR),
            "gb2312" => plain(GBK),
            "greek" => plain(ISO_8859_7),
            "hebrew" => plain(ISO_8859_8),
            "koi8r" => plain(KOI8_R),
            "koi8u" => plain(KOI8_U),
            // Of Windows, whatever it is called.
            "latin1" => plain(WINDOWS_1252),
            "latin2" => plain(ISO_8859_2),
            "latin5" => plain(WINDOWS_1254),
            "latin7" => plain(ISO_8859_13),
            "macroman" => plain(MACINTOSH),
            "tis620" => plain(WINDOWS_874),
            "cp850" => Some(Self::Plain(Letters::Listed(CP850))),
            "cp852" => Some(Self::Plain(Letters::Listed(CP852))),
            name if Self::UNKNOWN.contains(&name) => Some(Self::Plain(Letters::Unknown)),
            _ => None,
        }
    }

    /// How many bytes the character has that `text` begins with, as a server counts them that looks for quotes.
    pub fn length(self, text: &[u8]) -> usize {
        let Self::Pairs(pairs) = self else { return 1 };
        let &[first, second, ..] = text else { return 1 };
        let is_pair = match pairs {
            Pairs::Big5 => matches!((first, second), (0xa1..=0xf9, 0x40..=0x7e | 0xa1..=0xfe)),
            Pairs::Gbk | Pairs::Gb18030 => matches!((first, second), (0x81..=0xfe, 0x40..=0x7e | 0x80..=0xfe)),
            Pairs::Sjis => matches!((first, second), (0x81..=0x9f | 0xe0..=0xfc, 0x40..=0x7e | 0x80..=0xfc)),
        };
        if is_pair { 2 } else { 1 }
    }

    /// Decodes the bytes. None for an unknown character. No byte below 0x80 becomes anything else, nor part of anything
    /// but of a pair.
    pub fn text(self, bytes: &[u8]) -> Option<String> {
        if self == Self::Utf8 || bytes.is_ascii() {
            return String::from_utf8(bytes.to_vec()).ok();
        }
        let mut text = String::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let length = match self {
                // All bytes of the character: their number is defined by the encoding.
                Self::Plain(_) => bytes[at..].iter().take_while(|other| other.is_ascii() == byte.is_ascii()).count(),
                _ => self.length(&bytes[at..]),
            };
            let part = &bytes[at..at + length];
            match part.is_ascii() {
                true => text.extend(part.iter().map(|byte| char::from(*byte))),
                false => text += &self.letters(part).filter(|letters| !letters.chars().any(|c| c.is_ascii()))?,
            }
            at += length;
        }
        Some(text)
    }

    /// Decodes bytes that begin with one from 0x80 on.
    fn letters(self, bytes: &[u8]) -> Option<String> {
        let encoding = match self {
            Self::Utf8 | Self::Plain(Letters::Unknown) => return None,
            Self::Plain(Letters::Listed(listed)) => {
                return bytes.iter().map(|byte| listed.chars().nth(usize::from(*byte - 0x80))).collect();
            }
            Self::Plain(Letters::Encoding(encoding)) => encoding,
            Self::Pairs(Pairs::Big5) => BIG5,
            Self::Pairs(Pairs::Gbk) => GBK,
            Self::Pairs(Pairs::Gb18030) => GB18030,
            Self::Pairs(Pairs::Sjis) => SHIFT_JIS,
        };
        encoding.decode_without_bom_handling_and_without_replacement(bytes).map(std::borrow::Cow::into_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(charset: &str, bytes: &[u8]) -> Option<String> {
        Charset::named(charset).unwrap().text(bytes)
    }

    #[test]
    fn bytes_are_the_letters_of_their_character_set() {
        for (charset, bytes, letters) in [
            ("utf8mb4", "größe".as_bytes(), "größe"),
            ("latin1", b"gr\xf6\xdfe", "größe"),
            ("cp1251", b"\xe7\xed\xe0\xea", "знак"),
            ("cp850", b"gr\x94\xe1e", "größe"),
            ("cp852", b"\x9f\xb7", "čĚ"),
            ("koi8r", b"\xda\xce\xc1\xcb", "знак"),
            ("ujis", b"a\xc6\xfc\xcb\xdc", "a日本"),
            ("gb2312", b"\xd6\xd0 b", "中 b"),
            ("euckr", b"\xb0\xa1", "가"),
            ("cp932", b"\x83\x5c\x95\x60`", "ソ描`"),
            ("gbk", b"\x81\x60``", "乣``"),
            ("big5", b"\xb3\x5c", "許"),
        ] {
            assert_eq!(text(charset, bytes).as_deref(), Some(letters), "{charset}");
        }
    }

    #[test]
    fn a_byte_of_ascii_is_never_part_of_a_letter_but_in_pairs() {
        for charset in ["utf8mb4", "ujis", "eucjpms", "euckr", "gb2312"] {
            for second in [b'`', b'\\', b'.', b'A'] {
                assert_eq!(text(charset, &[0x95, second]), None, "{charset}");
            }
        }
        assert_eq!(text("hp8", b"\x81"), None, "letters that aren't known here");
        assert_eq!(text("hp8", b"plain").as_deref(), Some("plain"));
        assert_eq!((CP850.chars().count(), CP852.chars().count()), (128, 128));
    }
}
