//! The program `pod-init`: an ELF file of a few hundred bytes, made in memory.
//!
//! | at | content |
//! |---|---|
//! | 0 | head of the file, and of its one segment, which is all of the file |
//! | [`FILTER`] | `sock_fprog` of the filter of system calls |
//! | [`CHILD`] | signal mask of SIGCHLD alone |
//! | [`NAME`] | name of the process in `ps -o comm` |
//! | [`CODE`] | the instructions |
//! | behind them | the filter's statements |
//!
//! ```text
//! no descriptors ─▶ name ─▶ not dumpable ─▶ filter ─▶ wait for all ends ─▶ wait for SIGCHLD ─┐
//!                                                             ▲                             │
//!                                                             └─────────────────────────────┘
//! ```
//!
//! The instructions are those of an `asm!` block of this program, which jumps over them. They find
//! all by fixed addresses, use registers and system calls, and no stack.

use std::{arch::asm, io, slice};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Address of the file in the process.
const BASE: u32 = 0x40_0000;

/// Places in the file. The instructions of arm64 have 12 bits for each.
const FILTER: u32 = 120;
const CHILD: u32 = FILTER + 16;
const NAME: u32 = CHILD + 8;
const CODE: u32 = NAME + 16;

/// Largest page of an architecture: the file is a segment that begins at one.
const PAGE: u64 = 0x1_0000;

/// A signal mask of the kernel with SIGCHLD alone.
const CHILD_MASK: u64 = 1 << (libc::SIGCHLD - 1);

/// Size of a signal mask of the kernel.
const MASK_SIZE: usize = size_of::<u64>();

/// System calls behind the filter.
const ALLOWED: [libc::c_long; 2] = [libc::SYS_wait4, libc::SYS_rt_sigtimedwait];

/// `e_machine` of the ELF head.
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(not(target_arch = "aarch64"))]
const MACHINE: u16 = 62;

/// The file.
pub(super) fn image() -> io::Result<Vec<u8>> {
    let code = code()?;
    let filter = filter()?;
    let behind = (CODE as usize + code.len()).next_multiple_of(8);
    let statements = filter.iter().map(|statement| {
        let [code, k] = [u64::from(statement.code), u64::from(statement.k)];
        code | u64::from(statement.jt) << 16 | u64::from(statement.jf) << 24 | k << 32
    });
    let length = behind + size_of::<u64>() * filter.len();
    let mut image = head(length as u64);
    image.extend((filter.len() as u64).to_le_bytes());
    image.extend((u64::from(BASE) + behind as u64).to_le_bytes());
    image.extend(CHILD_MASK.to_le_bytes());
    image.extend(b"pod-init\0\0\0\0\0\0\0\0");
    image.extend(code);
    image.resize(behind, 0);
    statements.for_each(|statement| image.extend(statement.to_le_bytes()));
    Ok(image)
}

/// The heads of a file of this length (`elf(5)`).
fn head(length: u64) -> Vec<u8> {
    let base = u64::from(BASE);
    // 64 bits, little-endian.
    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |head: &mut Vec<u8>, all: &[u16]| {
        all.iter().for_each(|half| head.extend(half.to_le_bytes()));
    };
    let words = |head: &mut Vec<u8>, all: &[u32]| {
        all.iter().for_each(|word| head.extend(word.to_le_bytes()));
    };
    let longs = |head: &mut Vec<u8>, all: &[u64]| {
        all.iter().for_each(|long| head.extend(long.to_le_bytes()));
    };
    // ET_EXEC; entry; segments at 64, no sections.
    halves(&mut head, &[2, MACHINE]);
    words(&mut head, &[1]);
    longs(&mut head, &[u64::from(BASE + CODE), 64, 0]);
    words(&mut head, &[0]);
    halves(&mut head, &[64, 56, 1, 0, 0, 0]);
    // PT_LOAD, readable and executable, from the begin of the file.
    words(&mut head, &[1, 5]);
    longs(&mut head, &[0, base, base, length, length, PAGE]);
    head
}

/// The filter that lets all but two system calls fail with EPERM. A call of another architecture,
/// with other numbers, ends the process.
fn filter() -> io::Result<BpfProgram> {
    let allowed = ALLOWED.map(|call| (call, Vec::new())).into_iter().collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    SeccompFilter::new(allowed, refused, SeccompAction::Allow, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(io::Error::other)
}

/// Any child, and no wait if none has ended.
#[cfg(target_arch = "x86_64")]
const WAIT: libc::c_int = libc::WNOHANG | libc::__WALL;

/// The instructions.
#[cfg(target_arch = "x86_64")]
fn code() -> io::Result<&'static [u8]> {
    let start: *const u8;
    let end: *const u8;
    // SAFETY: the block takes two addresses and jumps over what is between them.
    unsafe {
        asm!(
            "lea {start}, [rip + 2f]",
            "lea {end}, [rip + 5f]",
            "jmp 5f",
            "2:",
            "mov eax, {close_range}",
            "xor edi, edi",
            "mov esi, -1",
            "xor edx, edx",
            "syscall",
            "mov eax, {prctl}",
            "mov edi, {set_name}",
            "mov esi, {name}",
            "syscall",
            "mov eax, {prctl}",
            "mov edi, {set_dumpable}",
            "xor esi, esi",
            "syscall",
            "mov eax, {prctl}",
            "mov edi, {set_seccomp}",
            "mov esi, {mode_filter}",
            "mov edx, {filter}",
            "syscall",
            "test rax, rax",
            "jnz 4f",
            "3:",
            "mov eax, {wait4}",
            "mov rdi, -1",
            "xor esi, esi",
            "mov edx, {wait}",
            "xor r10d, r10d",
            "syscall",
            "test rax, rax",
            "jg 3b",
            // A SIGCHLD since the wait is pending, and ends this call at once.
            "mov eax, {rt_sigtimedwait}",
            "mov edi, {child}",
            "xor esi, esi",
            "xor edx, edx",
            "mov r10d, {mask_size}",
            "syscall",
            "jmp 3b",
            "4:",
            "mov eax, {exit_group}",
            "mov edi, 1",
            "syscall",
            "ud2",
            "5:",
            start = out(reg) start,
            end = out(reg) end,
            close_range = const libc::SYS_close_range,
            prctl = const libc::SYS_prctl,
            set_name = const libc::PR_SET_NAME,
            name = const BASE + NAME,
            set_dumpable = const libc::PR_SET_DUMPABLE,
            set_seccomp = const libc::PR_SET_SECCOMP,
            mode_filter = const libc::SECCOMP_MODE_FILTER,
            filter = const BASE + FILTER,
            wait4 = const libc::SYS_wait4,
            wait = const WAIT,
            rt_sigtimedwait = const libc::SYS_rt_sigtimedwait,
            child = const BASE + CHILD,
            mask_size = const MASK_SIZE,
            exit_group = const libc::SYS_exit_group,
            options(nomem, nostack, preserves_flags),
        );
    }
    // SAFETY: instructions of this program, which nothing changes or unmaps.
    Ok(unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) })
}

/// See above.
#[cfg(target_arch = "aarch64")]
fn code() -> io::Result<&'static [u8]> {
    let start: *const u8;
    let end: *const u8;
    // SAFETY: as above.
    unsafe {
        asm!(
            "adr {start}, 2f",
            "adr {end}, 5f",
            "b 5f",
            "2:",
            "mov x8, #{close_range}",
            "mov x0, #0",
            "mov w1, #-1",
            "mov x2, #0",
            "svc #0",
            "mov x19, #{base}",
            "mov x8, #{prctl}",
            "mov x0, #{set_name}",
            "add x1, x19, #{name}",
            "svc #0",
            "mov x8, #{prctl}",
            "mov x0, #{set_dumpable}",
            "mov x1, #0",
            "svc #0",
            "mov x8, #{prctl}",
            "mov x0, #{set_seccomp}",
            "mov x1, #{mode_filter}",
            "add x2, x19, #{filter}",
            "svc #0",
            "cbnz x0, 4f",
            "3:",
            "mov x8, #{wait4}",
            "mov x0, #-1",
            "mov x1, #0",
            "mov x2, #{wall}",
            "orr x2, x2, #{nohang}",
            "mov x3, #0",
            "svc #0",
            "cmp x0, #0",
            "b.gt 3b",
            "mov x8, #{rt_sigtimedwait}",
            "add x0, x19, #{child}",
            "mov x1, #0",
            "mov x2, #0",
            "mov x3, #{mask_size}",
            "svc #0",
            "b 3b",
            "4:",
            "mov x8, #{exit_group}",
            "mov x0, #1",
            "svc #0",
            "brk #1",
            "5:",
            start = out(reg) start,
            end = out(reg) end,
            close_range = const libc::SYS_close_range,
            base = const BASE,
            prctl = const libc::SYS_prctl,
            set_name = const libc::PR_SET_NAME,
            name = const NAME,
            set_dumpable = const libc::PR_SET_DUMPABLE,
            set_seccomp = const libc::PR_SET_SECCOMP,
            mode_filter = const libc::SECCOMP_MODE_FILTER,
            filter = const FILTER,
            wait4 = const libc::SYS_wait4,
            wall = const libc::__WALL,
            nohang = const libc::WNOHANG,
            rt_sigtimedwait = const libc::SYS_rt_sigtimedwait,
            child = const CHILD,
            mask_size = const MASK_SIZE,
            exit_group = const libc::SYS_exit_group,
            options(nomem, nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    Ok(unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) })
}

/// Refuses on a processor that the code above was not written for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn code() -> io::Result<&'static [u8]> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}
