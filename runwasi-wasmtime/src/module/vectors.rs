//! Vectors of `fd_read` and its like: several places in the guest's memory for one call, as those
//! of `readv(2)`.

use wiggle::GuestMemory;

use super::preview1::{aligned, outside, read, write};

/// Size of a vector: pointer and length.
pub(super) const VECTOR: u32 = 8;
/// Most bytes of one call, as in Linux (`MAX_RW_COUNT`).
const MOST: u32 = 0x7fff_f000;

/// The places of one call, without empty ones. All lie inside the memory.
pub(super) struct Vectors {
    /// Pointers and lengths: the first place, which most calls have alone, and the others.
    first: Option<(u32, u32)>,
    others: Vec<(u32, u32)>,
    length: u32,
}

impl Vectors {
    /// Reads `count` vectors at `at`. Traps if they or their places lie outside the memory, or if
    /// they are not aligned.
    pub(super) fn read(memory: &GuestMemory<'_>, at: i32, count: u32) -> wasmtime::Result<Self> {
        let size = count.checked_mul(VECTOR).ok_or_else(outside)?;
        if count > 0 {
            aligned(at, size_of::<u32>())?;
        }
        let vectors = read(memory, at, size as usize).ok_or_else(outside)?;
        let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
        let mut found = Self { first: None, others: Vec::new(), length: 0 };
        for vector in vectors.chunks_exact(VECTOR as usize) {
            let start = word(&vector[..4]);
            let length = word(&vector[4..]);
            if length == 0 {
                continue;
            }
            read(memory, start.cast_signed(), length as usize).ok_or_else(outside)?;
            // The rest is left to the guest's next call.
            let length = length.min(MOST - found.length);
            found.length += length;
            match found.first {
                None => found.first = Some((start, length)),
                Some(_) => found.others.push((start, length)),
            }
        }
        Ok(found)
    }

    /// Number of bytes of all places.
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// True for at most one place.
    pub(super) fn is_simple(&self) -> bool {
        self.others.is_empty()
    }

    /// The only place; absent if there are several, or if it is empty.
    pub(super) fn only(&self) -> Option<(u32, u32)> {
        self.first.filter(|_| self.is_simple())
    }

    /// Copies so many bytes behind the first `skipped` ones.
    pub(super) fn gather(
        &self,
        memory: &GuestMemory<'_>,
        skipped: u32,
        length: u32,
        bytes: &mut Vec<u8>,
    ) -> wasmtime::Result<()> {
        for (start, length) in self.parts(skipped, length) {
            bytes.extend(read(memory, start.cast_signed(), length as usize).ok_or_else(outside)?);
        }
        Ok(())
    }

    /// Writes the bytes behind the first `skipped` ones.
    pub(super) fn scatter(
        &self,
        memory: &mut GuestMemory<'_>,
        skipped: u32,
        mut bytes: &[u8],
    ) -> wasmtime::Result<()> {
        for (start, length) in self.parts(skipped, u32::try_from(bytes.len())?) {
            let (part, rest) = bytes.split_at(length as usize);
            write(memory, start.cast_signed(), part)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Places of so many bytes behind the first `skipped` ones.
    fn parts(&self, mut skipped: u32, mut left: u32) -> impl Iterator<Item = (u32, u32)> {
        self.first.iter().chain(&self.others).filter_map(move |&(start, length)| {
            let behind = skipped.min(length);
            skipped -= behind;
            let part = left.min(length - behind);
            left -= part;
            (part > 0).then(|| (start + behind, part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory with these vectors at 0, and letters from 64 on.
    fn memory(vectors: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes: Vec<u8> = vectors
            .iter()
            .flat_map(|(start, length)| [start.to_le_bytes(), length.to_le_bytes()].concat())
            .collect();
        bytes.resize(64, 0);
        bytes.extend(b"abcdefghij");
        bytes
    }

    fn vectors(bytes: &mut [u8], count: u32) -> wasmtime::Result<Vectors> {
        Vectors::read(&GuestMemory::Unshared(bytes), 0, count)
    }

    #[test]
    fn bytes_are_gathered_and_scattered_over_all_places() {
        let mut bytes = memory(&[(0, 0), (64, 2), (70, 0), (67, 1), (65, 3)]);
        let found = vectors(&mut bytes, 5).unwrap();
        assert_eq!((found.length(), found.is_simple(), found.only()), (6, false, None));
        let mut memory = GuestMemory::Unshared(&mut bytes);
        for (skipped, length, wanted) in [(0, 6, "abdbcd"), (1, 3, "bdb"), (3, 9, "bcd")] {
            let mut gathered = Vec::new();
            found.gather(&memory, skipped, length, &mut gathered).unwrap();
            assert_eq!(gathered, wanted.as_bytes());
        }
        found.scatter(&mut memory, 1, b"XYZ").unwrap();
        assert_eq!(&bytes[64..], b"aZcYefghij");
    }

    #[test]
    fn place_outside_the_memory_is_a_trap() {
        for (last, count) in [((74, 1), 2), ((u32::MAX, 2), 2), ((64, 11), 2), ((64, 1), 20)] {
            assert!(vectors(&mut memory(&[(64, 1), last]), count).is_err(), "{last:?} {count}");
        }
        // An empty one is not looked at.
        let found = vectors(&mut memory(&[(64, 10), (u32::MAX, 0)]), 2).unwrap();
        assert_eq!((found.is_simple(), found.only()), (true, Some((64, 10))));
    }

    #[test]
    fn sum_of_the_lengths_is_bounded_as_in_linux() {
        // The same place many times, as a guest may do.
        let mut bytes = vec![0; 4 << 20];
        let size = u32::try_from(bytes.len()).unwrap();
        for vector in bytes[..1024 * VECTOR as usize].chunks_exact_mut(VECTOR as usize) {
            vector[4..].copy_from_slice(&size.to_le_bytes());
        }
        assert_eq!(vectors(&mut bytes, 1024).unwrap().length(), MOST);
    }
}
