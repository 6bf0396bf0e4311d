//! Decoder of zstd streams (RFC 8878): one frame after another, with skippable frames in between.
//! The library decodes a single frame.

use std::io::{self, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// Reads the content of all frames of a stream.
// The library limits the memory that a frame may demand to 128 MiB.
pub(super) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// True between the header of a frame and its end.
    inside: bool,
}

/// True if `head` begins like a zstd stream: with a frame or with a skippable frame.
pub(super) fn begins(head: &[u8]) -> bool {
    matches!(head, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

impl<R: Read> Zstd<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), inside: false }
    }

    /// Reads the header of the next frame, or a whole skippable frame. `false` at the end of the
    /// stream.
    fn next(&mut self) -> io::Result<bool> {
        // By the first byte alone: the end of the stream is valid here, and only here. The library
        // reports it like a damaged header.
        let mut first = [0];
        if self.source.read(&mut first)? == 0 {
            return Ok(false);
        }
        match self.decoder.init(first.as_slice().chain(&mut self.source)) {
            Ok(()) => self.inside = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                // The library reads only the header of such a frame.
                let skipped =
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                if skipped < length.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(true)
    }

    /// Leaves a frame that was read to its end, and verifies its checksum if it has one.
    fn leave(&mut self) -> io::Result<()> {
        self.inside = false;
        match self.decoder.get_checksum_from_data() {
            Some(told) if self.decoder.get_calculated_checksum() != Some(told) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            while self.inside {
                match self.decoder.read(buffer)? {
                    // Nothing fits into it, so nothing says that the decoder needs more data.
                    0 if buffer.is_empty() => return Ok(0),
                    0 if self.decoder.is_finished() => self.leave()?,
                    0 => {
                        // One block at a time: the decoder keeps all that it decodes until it is
                        // read.
                        let more = BlockDecodingStrategy::UptoBlocks(1);
                        self.decoder
                            .decode_blocks(&mut self.source, more)
                            .map_err(io::Error::other)?;
                    }
                    some => return Ok(some),
                }
            }
            if !self.next()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Zstd::new(bytes).read_to_end(&mut all).map(|_| all)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn frames_are_unpacked_and_skippable_frames_are_skipped() {
        let long: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [&skipped, &packed(&long)[..], &skipped, &packed(b"end"), &skipped].concat();
        assert!(begins(&stream) && begins(&packed(b"")) && !begins(b"\0asm"));
        assert_eq!(unpacked(&stream).unwrap(), [&long, &b"end"[..]].concat());
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn truncated_damaged_and_foreign_streams_are_errors() {
        let stream = packed(&[7; 100_000]);
        let mut damaged = packed(b"some words, and a few more that are not the same");
        damaged[20] ^= 1;
        for bytes in [
            &damaged,
            &stream[..stream.len() - 5],
            &stream[..3],
            b"\x5a\x2a\x4d\x18\x09\0\0\0abc",
            b"nothing at all",
        ] {
            assert!(unpacked(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
