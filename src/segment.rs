//! Segments: chunks compressed together, often against a base.
//!
//! One zstd frame (RFC 8878) a segment. A based segment is compressed with the plain bytes of its bases as a prefix, as
//! `zstd --patch-from` does, with a window that covers both.

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, ErrorCode, ParamSwitch, Strategy, compress_bound, get_error_name, get_frame_content_size,
};

/// The largest window that a reader allows, as a power of two: 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// zstd takes so many bytes of a prefix, as a power of two, for each place in a table of the fast strategy.
const PREFIX_PER_PLACE_LOG: u32 = 3;
/// The most places of such a table, as a power of two.
const TABLE_LOG_MAX: u32 = 20;

/// zstd's shortest match in text. Rows of a dump share short words everywhere; the longer matches say more, in less time.
const TEXT_MATCH: u32 = 6;
/// Places in the table of [`Compressor::fast`], as a power of two: they lie in a core's own cache.
const FAST_TABLE_LOG: u32 = 12;
/// How many places [`Compressor::fast`] passes over where nothing is found: zstd's strategy takes it as its target length.
const FAST_STEP: u32 = 2;

/// Bytes of a block that are looked at to know whether it is text.
const LOOKED_AT: usize = 4096;

/// Why bytes are no segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// zstd refused to compress.
    #[error("zstd can't compress a segment: {0}")]
    Compress(&'static str),
    /// zstd refused to decompress: damage, or another prefix than it was made with.
    #[error("zstd can't decompress a segment: {0}")]
    Decompress(&'static str),
    /// It holds more or less than it should.
    #[error("a segment holds {actual} bytes where its directory says {expected}")]
    Length {
        /// The size in the directory, in bytes.
        expected: usize,
        /// The size of the frame's content, or the one that it states, in bytes.
        actual: u64,
    },
}

/// Compresses blocks alone, one after the other, with one context.
pub struct Compressor {
    plain: CCtx<'static>,
}

impl Compressor {
    /// A compressor of this zstd level.
    pub fn new(level: i32) -> Result<Self, SegmentError> {
        let mut plain = CCtx::create();
        plain.set_parameter(CParameter::CompressionLevel(level)).map_err(compress_error)?;
        Ok(Self { plain })
    }

    /// A compressor for blocks of some kilobytes that are wanted back soon: nearly as small as with level 3, in half the time.
    pub fn fast() -> Result<Self, SegmentError> {
        let mut plain = CCtx::create();
        let with = [
            CParameter::CompressionLevel(1),
            CParameter::Strategy(Strategy::ZSTD_fast),
            CParameter::HashLog(FAST_TABLE_LOG),
            CParameter::TargetLength(FAST_STEP),
            // With a step, zstd would leave literals as they are: they are most of what a dump's digits take.
            CParameter::LiteralCompressionMode(ParamSwitch::Enable),
        ];
        with.into_iter().try_for_each(|parameter| plain.set_parameter(parameter).map(drop)).map_err(compress_error)?;
        Ok(Self { plain })
    }

    /// Compresses `block` alone. `out` is overwritten.
    pub fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), SegmentError> {
        // 0 means the level's default.
        let least = if is_text(block) { TEXT_MATCH } else { 0 };
        self.plain.set_parameter(CParameter::MinMatch(least)).map_err(compress_error)?;
        prepare(out, compress_bound(block.len()));
        self.plain.compress2(out, block).map_err(compress_error)?;
        Ok(())
    }
}

/// Compresses `block` against `prefix`, at that zstd level and with long-distance matching. `out` is overwritten.
pub fn compress_based(level: i32, prefix: &[u8], block: &[u8], out: &mut Vec<u8>) -> Result<(), SegmentError> {
    let with = [CParameter::CompressionLevel(level), CParameter::EnableLongDistanceMatching(true)];
    compress_with(&with, prefix, block, out)
}

/// Compresses `block` against `prefix`, which is to hold nearly all of it, in half the time of
/// [`compress_based`]. `out` is overwritten.
///
/// zstd's fast strategy finds the common parts of two nearly equal texts, if its table is large enough for all of the
/// prefix: the default table of its level holds the last bytes alone. Long-distance matching adds little to that and
/// reads everything twice more.
pub fn compress_near(prefix: &[u8], block: &[u8], out: &mut Vec<u8>) -> Result<(), SegmentError> {
    let table = (window_log(prefix, block) - PREFIX_PER_PLACE_LOG).min(TABLE_LOG_MAX);
    let with = [
        CParameter::CompressionLevel(1),
        CParameter::Strategy(Strategy::ZSTD_fast),
        CParameter::HashLog(table),
        CParameter::EnableLongDistanceMatching(false),
    ];
    compress_with(&with, prefix, block, out)
}

fn compress_with(with: &[CParameter], prefix: &[u8], block: &[u8], out: &mut Vec<u8>) -> Result<(), SegmentError> {
    // A context borrows its prefix for as long as it lives, so each block gets one of its own.
    let mut context = CCtx::create();
    let window = CParameter::WindowLog(window_log(prefix, block));
    for &parameter in with.iter().chain([&window]) {
        context.set_parameter(parameter).map_err(compress_error)?;
    }
    context.ref_prefix(prefix).map_err(compress_error)?;
    prepare(out, compress_bound(block.len()));
    context.compress2(out, block).map_err(compress_error)?;
    Ok(())
}

/// The window that covers both, as a power of two: at least 10, zstd's smallest.
fn window_log(prefix: &[u8], block: &[u8]) -> u32 {
    (prefix.len() + block.len()).max(1024).next_power_of_two().ilog2().min(WINDOW_LOG_MAX)
}

/// Whether a block begins like text: without a zero byte.
fn is_text(block: &[u8]) -> bool {
    !block[..block.len().min(LOOKED_AT)].contains(&0)
}

/// Decompresses blocks. It never writes more than the caller expects.
pub struct Decompressor {
    plain: DCtx<'static>,
}

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Self {
        Self { plain: DCtx::create() }
    }

    /// Decompresses a frame of exactly `length` plain bytes that was made with `prefix` (empty for none). `out` is
    /// overwritten.
    pub fn decompress(
        &mut self,
        frame: &[u8],
        prefix: &[u8],
        length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SegmentError> {
        let says = get_frame_content_size(frame).ok().flatten();
        if says != Some(length as u64) {
            return Err(SegmentError::Length { expected: length, actual: says.unwrap_or(0) });
        }
        prepare(out, length);
        if prefix.is_empty() {
            self.plain.decompress(out, frame).map_err(decompress_error)?;
        } else {
            // As when it was made, a based segment gets a context of its own.
            let mut based = DCtx::create();
            based.ref_prefix(prefix).map_err(decompress_error)?;
            based.decompress(out, frame).map_err(decompress_error)?;
        }
        match out.len() == length {
            true => Ok(()),
            false => Err(SegmentError::Length { expected: length, actual: out.len() as u64 }),
        }
    }
}

impl Decompressor {
    /// Decompresses a frame that was made without a prefix and holds exactly as many plain bytes as `out`.
    pub fn decompress_into(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), SegmentError> {
        let expected = out.len();
        match self.plain.decompress(out, frame).map_err(decompress_error)? {
            actual if actual == expected => Ok(()),
            actual => Err(SegmentError::Length { expected, actual: actual as u64 }),
        }
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

/// Empties `out` and makes room. zstd writes no further than the room that is there.
fn prepare(out: &mut Vec<u8>, room: usize) {
    out.clear();
    out.reserve_exact(room);
}

fn compress_error(code: ErrorCode) -> SegmentError {
    SegmentError::Compress(get_error_name(code))
}

fn decompress_error(code: ErrorCode) -> SegmentError {
    SegmentError::Decompress(get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: u32, salt: u32) -> Vec<u8> {
        let row = |n: u32| format!("({n},'customer {}','street {}'),\n", n.wrapping_mul(2_654_435_761 + salt), n % 977);
        (0..rows).flat_map(|n| row(n).into_bytes()).collect()
    }

    #[test]
    fn the_fast_compressor_makes_text_nearly_as_small_as_level_3() {
        let digits = |row: u32| {
            let hash = blake3::hash(&row.to_le_bytes());
            format!("({row},'{}','customer {}','2026-11-20'),\n", &hash.to_hex()[..32], row % 977)
        };
        let dump: Vec<u8> = (0..4000).flat_map(|row| digits(row).into_bytes()).collect();
        let size = |mut compressor: Compressor| {
            let mut frame = Vec::new();
            let sizes = dump.chunks(20_000).map(|block| compressor.compress(block, &mut frame).map(|()| frame.len()));
            sizes.sum::<Result<usize, _>>().unwrap()
        };
        let (fast, level_3) = (size(Compressor::fast().unwrap()), size(Compressor::new(3).unwrap()));
        assert!(fast < level_3 + level_3 / 10, "{fast} bytes, {level_3} with level 3");
    }

    #[test]
    fn blocks_come_back() {
        for mut compressor in [Compressor::new(3).unwrap(), Compressor::fast().unwrap()] {
            let (mut decompressor, mut frame, mut back) = (Decompressor::new(), Vec::new(), Vec::new());
            for block in [text(20_000, 0), vec![0; 1 << 20], b"x".to_vec()] {
                compressor.compress(&block, &mut frame).unwrap();
                decompressor.decompress(&frame, &[], block.len(), &mut back).unwrap();
                assert_eq!(back, block);
                back.fill(0);
                decompressor.decompress_into(&frame, &mut back).unwrap();
                assert_eq!(back, block);
                // More or less than it holds, or another one, is an error and no panic.
                assert!(decompressor.decompress_into(&frame, &mut vec![0; block.len() + 1]).is_err());
                assert!(decompressor.decompress_into(&frame, &mut back[1..]).is_err());
                assert!(decompressor.decompress_into(&frame[..frame.len() - 1], &mut back).is_err());
            }
        }
    }

    #[test]
    fn a_based_block_is_small_and_needs_its_base() {
        let base = text(20_000, 0);
        let mut block = base.clone();
        block.splice(300_000..300_010, *b"a new one row");
        let (mut frame, mut back) = (Vec::new(), Vec::new());
        compress_based(3, &base, &block, &mut frame).unwrap();
        assert!(frame.len() < 400, "{}", frame.len());
        let mut decompressor = Decompressor::new();
        decompressor.decompress(&frame, &base, block.len(), &mut back).unwrap();
        assert_eq!(back, block);
        let alone = decompressor.decompress(&frame, &[], block.len(), &mut back);
        assert!(alone.is_err() || back != block);
    }

    #[test]
    fn what_lies_far_back_in_a_large_base_is_found_by_the_fast_way_too() {
        let base = text(70_000, 0);
        assert!(base.len() > 2 << 20);
        let mut block = base[..1 << 20].to_vec();
        (0..100).for_each(|row| block[row * 10_000] ^= 1);
        let (mut frame, mut back) = (Vec::new(), Vec::new());
        compress_near(&base, &block, &mut frame).unwrap();
        assert!(frame.len() < 4000, "{}", frame.len());
        Decompressor::new().decompress(&frame, &base, block.len(), &mut back).unwrap();
        assert_eq!(back, block);
        for (prefix, block) in [(&b""[..], &b""[..]), (b"x", b""), (b"", b"x"), (b"abc", b"abc")] {
            compress_near(prefix, block, &mut frame).unwrap();
            Decompressor::new().decompress(&frame, prefix, block.len(), &mut back).unwrap();
            assert_eq!(back, block);
        }
    }

    #[test]
    fn a_bomb_stops_at_the_expected_length() {
        let mut frame = Vec::new();
        Compressor::new(3).unwrap().compress(&vec![0; 64 << 20], &mut frame).unwrap();
        let (mut decompressor, mut back) = (Decompressor::new(), Vec::new());
        let error = decompressor.decompress(&frame, &[], 1 << 20, &mut back).unwrap_err();
        assert_eq!(error, SegmentError::Length { expected: 1 << 20, actual: 64 << 20 });
        // A second frame behind the first finds no room.
        let mut two = Vec::new();
        Compressor::new(3).unwrap().compress(&vec![0; 1 << 20], &mut two).unwrap();
        two.extend_from_slice(&frame);
        assert!(decompressor.decompress(&two, &[], 1 << 20, &mut back).is_err());
        assert!(back.capacity() < 2 << 20);
    }

    #[test]
    fn every_cut_of_a_frame_is_an_error() {
        let mut frame = Vec::new();
        let block = text(100, 0);
        Compressor::new(3).unwrap().compress(&block, &mut frame).unwrap();
        let (mut decompressor, mut back) = (Decompressor::new(), Vec::new());
        for length in 0..frame.len() {
            assert!(decompressor.decompress(&frame[..length], &[], block.len(), &mut back).is_err(), "{length}");
        }
        decompressor.decompress(&frame, &[], block.len(), &mut back).unwrap();
        assert_eq!(back, block);
    }
}
