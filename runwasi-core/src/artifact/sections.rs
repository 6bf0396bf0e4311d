//! Look at the sections of a binary before it is read: only their headers, so the bytes between
//! them stay on the disk.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Length of the prefix that identifies the format, in bytes.
pub(super) const PREAMBLE: u64 = 8;
/// Longest header of a section: its id and a LEB128 number of 32 bits.
const HEADER: usize = 6;
/// Highest section id of modules and components.
const MAX_ID: u8 = 13;
/// Most sections that are looked at; those of a component are its parts, which may be many.
const MAX_SECTIONS: usize = 1000;

/// Checks that a binary of `length` bytes consists of sections. The compiler checks their content.
pub(super) fn check(file: &File, length: u64) -> io::Result<Result<(), String>> {
    let mut at = PREAMBLE;
    for _ in 0..MAX_SECTIONS {
        if at >= length {
            return Ok(Ok(()));
        }
        let mut header = [0; HEADER];
        let read = read_at(file, &mut header, at)?;
        let Some((id, size, header)) = parse(&header[..read]) else {
            return Ok(Err(format!("is damaged: no section header at byte {at}")));
        };
        // A custom section has at least the length of its name.
        if id > MAX_ID || (id == 0 && size == 0) {
            return Ok(Err(format!("is damaged: no section at byte {at}")));
        }
        at += header + u64::from(size);
        if at > length {
            return Ok(Err(format!("is damaged: it ends within the section of {size} bytes")));
        }
    }
    Ok(Ok(()))
}

fn read_at(file: &File, header: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < header.len() {
        match file.read_at(&mut header[read..], at + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Id and size of a section, and the length of its header.
fn parse(header: &[u8]) -> Option<(u8, u32, u64)> {
    let (&id, number) = header.split_first()?;
    let mut size = 0u64;
    for (n, byte) in number.iter().enumerate() {
        size |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((id, u32::try_from(size).ok()?, n as u64 + 2));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn checked(bytes: &[u8], length: u64) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\0asm\x01\0\0\0").unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(PREAMBLE + length).unwrap();
        check(&file, PREAMBLE + length).unwrap()
    }

    #[test]
    fn sections_are_followed_by_their_headers() {
        assert_eq!(checked(b"", 0), Ok(()));
        assert_eq!(checked(b"\x01\x01\x00\x03\x01\x00", 6), Ok(()));
        // A custom section of 300 MiB, which is a hole.
        assert_eq!(checked(b"\0\x80\x80\x80\x96\x01\x01x", (300 << 20) + 6), Ok(()));
    }

    #[test]
    fn what_is_no_section_is_refused() {
        for (bytes, length) in [
            (&b""[..], 300 << 20),
            (b"\x0e\x01\x00", 3),
            (b"\x01\x02\x00", 3),
            (b"\x01\x80\x80\x80\x80\x80\x00", 7),
            (b"\x01", 1),
        ] {
            let refused = checked(bytes, length).unwrap_err();
            assert!(refused.starts_with("is damaged"), "{refused}");
        }
    }
}
