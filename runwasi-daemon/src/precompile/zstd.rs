//! Unpacks zstd as RFC 8878 has it: frame after frame, with others in between that hold no data. The library unpacks one frame.
//! Used by `find`.

use std::io::{self, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// All frames of a stream. The library bounds what a frame demands of memory, at 128 MiB.
pub(super) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
}

/// Whether something begins as such a stream does: with a frame, or with one to be skipped.
pub(super) fn begins(head: &[u8]) -> bool {
    matches!(head, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

impl<R: Read> Zstd<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), inside: false }
    }

    /// Goes past the head of the next frame, if there is one.
    fn next(&mut self) -> io::Result<bool> {
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

    /// Goes out of a frame that was read to its end. A checksum may be missing.
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
                    0 if buffer.is_empty() => return Ok(0),
                    0 if self.decoder.is_finished() => self.leave()?,
                    0 => {
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
    fn all_frames_are_unpacked_and_the_others_skipped() {
        let long: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [&skipped, &packed(&long)[..], &skipped, &packed(b"end"), &skipped].concat();
        assert!(begins(&stream) && begins(&packed(b"")) && !begins(b"\0asm"));
        assert_eq!(unpacked(&stream).unwrap(), [&long, &b"end"[..]].concat());
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_damaged_or_none_is_an_error() {
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
