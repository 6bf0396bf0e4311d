//! Resident pages of the program itself.

use std::{ops::Range, slice};

/// Takes the code and the constants of the program out of the resident set. What is needed again is
/// mapped anew from the page cache, 64 KiB at a time.
// A start runs through half of the code of an engine, and a pod that sleeps needs hardly any of it.
// Mapped pages look used to the kernel: it would reclaim them last (`mmap(2)`, `madvise(2)`).
pub fn unmap_program() {
    let page = page_size();
    for segment in constant_segments() {
        let start = segment.start.next_multiple_of(page);
        let end = segment.end / page * page;
        if start < end {
            // SAFETY: clean private pages of a file, which the kernel may drop and read again at
            // any time. The segment has no permission to write, so the program has changed none of
            // them; the breakpoints that a debugger has put there are lost. A failure changes
            // nothing.
            unsafe {
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
            }
        }
    }
}

/// Addresses of the segments of the program that are never written.
// Relocated constants are in segments that may be written until the dynamic linker is done
// (`PT_GNU_RELRO`), and so not among them.
fn constant_segments() -> Vec<Range<usize>> {
    let mut segments = Vec::new();
    // SAFETY: the callback gets the pointer that is given here, whose vector nothing else uses
    // meanwhile.
    unsafe {
        libc::dl_iterate_phdr(Some(of_program), (&raw mut segments).cast());
    }
    segments
}

/// Callback of `dl_iterate_phdr(3)`, whose first object is the program. `segments`: a vector.
unsafe extern "C" fn of_program(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    segments: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: both live as long as this call, by the contract of `dl_iterate_phdr` and of
    // `constant_segments`.
    let (object, segments) = unsafe { (&*object, &mut *segments.cast::<Vec<Range<usize>>>()) };
    // SAFETY: an array of the object, which stays mapped.
    let headers =
        unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let start = (object.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            segments.push(start..start.saturating_add(header.p_filesz as usize));
        }
    }
    // Ends the iteration.
    1
}

fn page_size() -> usize {
    // SAFETY: takes an integer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // A failure: no segment has a whole page then.
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{fs, ptr};

    use super::*;

    /// Resident bytes of the code of the program's file.
    fn resident() -> u64 {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_wanted = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if let Some(kib) = line.strip_prefix("Rss:") {
                let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
                sum += if is_wanted { kib << 10 } else { 0 };
            } else if line.contains('-') {
                is_wanted = line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap());
            }
        }
        sum
    }

    #[test]
    fn code_of_the_program_leaves_the_resident_set() {
        let function = unmap_program as fn() as usize;
        let code =
            constant_segments().into_iter().find(|segment| segment.contains(&function)).unwrap();
        assert!(code.len() > 1 << 20, "{} bytes of code", code.len());
        // Other tests of this process map it again meanwhile.
        let left = (0..20).map(|_| {
            for address in code.clone().step_by(1024) {
                // SAFETY: the segment stays mapped, and may be read.
                unsafe { ptr::read_volatile(address as *const u8) };
            }
            let before = resident();
            unmap_program();
            resident() as f64 / before as f64
        });
        let least = left.fold(1.0, f64::min);
        assert!(least < 0.5, "{least:.2} of the code is still resident");
    }
}
