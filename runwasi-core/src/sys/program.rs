//! Resident pages of the program itself.

use std::slice;

/// Takes the code and the constants of the program out of the resident set. What is needed again is
/// mapped anew from the page cache, 64 KiB at a time.
// A start runs through half of the code of an engine, and a pod that sleeps needs hardly any of it.
// Mapped pages look used to the kernel: it would reclaim them last (`mmap(2)`, `madvise(2)`).
pub fn unmap_program() {
    let page = page_size();
    for (start, end) in constant_segments() {
        let start = start.next_multiple_of(page);
        let end = end / page * page;
        if start < end {
            // SAFETY: the segment has no permission to write, and nothing gives it one: its pages
            // are those of the file, which nothing can change while it runs (ETXTBSY). So each page
            // has the same bytes after this call. A failure changes nothing.
            unsafe {
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
            }
        }
    }
}

/// Addresses of the segments of the program that are never written, as `[start, end)`.
// Relocated constants are in segments that may be written until the dynamic linker is done
// (`PT_GNU_RELRO`), and so not among them.
fn constant_segments() -> impl Iterator<Item = (usize, usize)> {
    let headers = program_headers();
    let at = headers.as_ptr() as usize;
    let of_headers = headers.iter().find(|header| header.p_type == libc::PT_PHDR);
    // Programs at fixed addresses have a base of 0.
    let base = of_headers.map_or(0, |header| at.wrapping_sub(header.p_vaddr as usize));
    let constant = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    headers.iter().filter(constant).map(move |header| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        (start, start.saturating_add(header.p_filesz as usize))
    })
}

/// The program headers, as `getauxval(3)` tells them.
fn program_headers() -> &'static [libc::Elf64_Phdr] {
    // SAFETY: takes integers. An unknown key gives 0.
    let (at, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if at == 0 {
        return &[];
    }
    // SAFETY: the kernel has put both there for the dynamic linker: an array in a segment that stays
    // mapped and is never written (`elf(5)`).
    unsafe { slice::from_raw_parts(at as *const libc::Elf64_Phdr, count as usize) }
}

fn page_size() -> usize {
    // SAFETY: takes an integer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // A failure: as if there were no whole page.
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Resident bytes of the mappings with these permissions of the program's file.
    fn resident(permissions: &str) -> u64 {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_wanted = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if let Some(kib) = line.strip_prefix("Rss:") {
                let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
                sum += if is_wanted { kib << 10 } else { 0 };
            } else if line.contains(['-']) {
                is_wanted = line.contains(permissions) && line.ends_with(program.to_str().unwrap());
            }
        }
        sum
    }

    #[test]
    fn code_of_the_program_leaves_the_resident_set() {
        let all = constant_segments().map(|(start, end)| (end - start) as u64).sum::<u64>();
        assert!(all > 1 << 20, "{all} bytes in segments without permission to write");
        // Read, so that all of it is resident.
        let sum = constant_segments()
            // SAFETY: a segment that is mapped for good, as above.
            .map(|(start, end)| unsafe { slice::from_raw_parts(start as *const u8, end - start) })
            .map(|bytes| bytes.iter().step_by(1024).map(|byte| u64::from(*byte)).sum::<u64>())
            .sum::<u64>();
        let before = resident(" r-xp ");
        unmap_program();
        let after = resident(" r-xp ");
        assert!(sum > 0 && before > 1 << 20, "{sum}, {before} bytes");
        assert!(after < before / 2, "{after} of {before} bytes are resident");
    }
}
