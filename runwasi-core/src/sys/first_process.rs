//! The first process of a PID namespace, which waits for the ends of all processes without a parent.
//!
//! Like the bare process of a sandbox it shares the memory of this process and executes nothing but
//! the instructions of one `asm!` block, for the same reasons and with the same soundness: it uses
//! no stack, writes no memory, and all signals are blocked. It cannot be that process itself: the
//! kernel stops no first process by a signal of its own namespace, and a sandbox's process stops to
//! report its signals.
//!
//! ```text
//! clone ─▶ die with the parent ─▶ own session ─▶ wait for all ends ─▶ wait for SIGCHLD ─┐
//!                                                       ▲                               │
//!                                                       └───────────────────────────────┘
//! ```
//!
//! Its parent cannot be asked for: it is outside of the namespace, where its number is 0. So a
//! parent that is killed in the instant before the first call leaves it behind.

use std::{arch::asm, ffi::CStr};

/// Name of the process in `ps -o comm`.
const NAME: &CStr = c"pod-init";

/// The signal mask of SIGCHLD alone.
static CHILD: u64 = 1 << (libc::SIGCHLD - 1);

/// Size of a signal mask of the kernel.
const MASK_SIZE: usize = size_of::<u64>();

const CLONE_FLAGS: libc::c_int =
    libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_NEWPID;

/// Any child, and no wait if none has ended.
const WAIT: libc::c_int = libc::WNOHANG | libc::__WALL;

/// Starts the process in a new PID namespace and returns its pid outside of it, or the negative
/// number of an error.
///
/// # Safety
/// All signals of the calling thread are blocked.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone_first() -> isize {
    let result: isize;
    // SAFETY: the parent returns from the block behind the first system call, with the registers
    // that are named here. The child keeps the stack pointer of its parent (a stack of 0), but uses
    // no stack, and never leaves the block.
    unsafe {
        asm!(
            "syscall", // clone(flags, 0): the other arguments belong to flags that are not set
            "test rax, rax",
            "jnz 5f",
            // The child from here on. Dies with its parent.
            "mov eax, {prctl}",
            "mov edi, {set_pdeathsig}",
            "mov esi, {sigkill}",
            "syscall",
            "test rax, rax",
            "jnz 4f",
            // A session of its own: no signals of the parent's terminal or process group.
            "mov eax, {setsid}",
            "syscall",
            "mov eax, {prctl}",
            "mov edi, {set_name}",
            "mov rsi, r15",
            "syscall",
            "2:",
            "mov eax, {wait4}",
            "mov rdi, -1",
            "xor esi, esi",
            "mov edx, {wait}",
            "xor r10d, r10d",
            "syscall",
            "test rax, rax",
            "jg 2b",
            // A SIGCHLD since the wait is pending, and ends this call at once.
            "mov eax, {rt_sigtimedwait}",
            "mov rdi, r14",
            "xor esi, esi",
            "xor edx, edx",
            "mov r10d, {mask_size}",
            "syscall",
            "jmp 2b",
            "4:",
            "mov eax, {exit_group}",
            "mov edi, 1",
            "syscall",
            "ud2",
            "5:",
            prctl = const libc::SYS_prctl,
            set_pdeathsig = const libc::PR_SET_PDEATHSIG,
            sigkill = const libc::SIGKILL,
            setsid = const libc::SYS_setsid,
            set_name = const libc::PR_SET_NAME,
            wait4 = const libc::SYS_wait4,
            wait = const WAIT,
            rt_sigtimedwait = const libc::SYS_rt_sigtimedwait,
            mask_size = const MASK_SIZE,
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") CLONE_FLAGS as usize,
            in("rsi") 0_usize,
            in("r14") &raw const CHILD,
            in("r15") NAME.as_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// See above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone_first() -> isize {
    let result: isize;
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc #0", // clone(flags, 0)
            "cbnz x0, 5f",
            "mov x8, #{prctl}",
            "mov x0, #{set_pdeathsig}",
            "mov x1, #{sigkill}",
            "svc #0",
            "cbnz x0, 4f",
            "mov x8, #{setsid}",
            "svc #0",
            "mov x8, #{prctl}",
            "mov x0, #{set_name}",
            "mov x1, x23",
            "svc #0",
            "2:",
            "mov x8, #{wait4}",
            "mov x0, #-1",
            "mov x1, #0",
            "mov x2, x21",
            "mov x3, #0",
            "svc #0",
            "cmp x0, #0",
            "b.gt 2b",
            "mov x8, #{rt_sigtimedwait}",
            "mov x0, x22",
            "mov x1, #0",
            "mov x2, #0",
            "mov x3, #{mask_size}",
            "svc #0",
            "b 2b",
            "4:",
            "mov x8, #{exit_group}",
            "mov x0, #1",
            "svc #0",
            "brk #1",
            "5:",
            prctl = const libc::SYS_prctl,
            set_pdeathsig = const libc::PR_SET_PDEATHSIG,
            sigkill = const libc::SIGKILL,
            setsid = const libc::SYS_setsid,
            set_name = const libc::PR_SET_NAME,
            wait4 = const libc::SYS_wait4,
            rt_sigtimedwait = const libc::SYS_rt_sigtimedwait,
            mask_size = const MASK_SIZE,
            exit_group = const libc::SYS_exit_group,
            inlateout("x0") CLONE_FLAGS as isize => result,
            in("x1") 0_usize,
            in("x8") libc::SYS_clone,
            in("x21") WAIT as isize,
            in("x22") &raw const CHILD,
            in("x23") NAME.as_ptr(),
            options(nostack),
        );
    }
    result
}

/// Refuses on a processor that the code above was not written for.
///
/// # Safety
/// Always sound.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn clone_first() -> isize {
    -(libc::ENOSYS as isize)
}
