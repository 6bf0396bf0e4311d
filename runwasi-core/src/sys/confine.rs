//! Confinement of the calling process: a user without privileges, no network, no file system, a
//! bounded memory. For a process with one thread that reads untrusted bytes from its stdin.

use std::{fs, io};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Rlimit, getpid, getpriority_process, setpriority_process, setrlimit},
};

use super::namespaces::{NamespaceKind, unshare_namespaces};

/// Niceness of a process or thread that compiles.
// Linux gives it about a tenth of the weight of nice 0: a tenth of a contended core and all of an
// idle one.
pub(crate) const NICE: i32 = 10;

/// User and group `nobody`.
const NOBODY: u32 = 65_534;

/// First process that the kernel ends when memory runs out.
const OOM_SCORE: &str = "1000";

/// System calls of a process that computes in memory and talks to open pipes. None of them opens a
/// file or a socket, or starts a process or a thread.
const ALLOWED: [libc::c_long; 26] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
];

/// Old calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[libc::c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[libc::c_long] = &[];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in the kernel's `seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const FIRST_ARGUMENT_AT: u32 = 16;

/// Confines this process for the rest of its life. Its memory takes `address_space` bytes at most.
pub fn confine(address_space: u64) -> io::Result<()> {
    // Not granted everywhere. The limits below bound this process without it.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    lower_priority()?;
    name_process(c"compile");
    if rustix::process::geteuid().is_root() {
        // Refused to a root without CAP_SYS_ADMIN. The filter below has no call for sockets anyway.
        let _ = unshare_namespaces(&[NamespaceKind::Network]);
        become_nobody()?;
    }
    limit(Resource::As, address_space)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    control(libc::PR_SET_DUMPABLE, 0)?;
    control(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    filter_calls()
}

/// Lowers the priority of the calling thread. Never raises it: that would need CAP_SYS_NICE.
pub(crate) fn lower_priority() -> io::Result<()> {
    let nice = getpriority_process(None)?.max(NICE);
    Ok(setpriority_process(None, nice)?)
}

/// Ends this process as soon as the pipe on its stdin has no writer any more.
pub fn end_with_stdin() -> io::Result<()> {
    // The kernel sends SIGIO when the last writer closes, which costs no thread. Its default is the
    // end of the process.
    // SAFETY: no handler is set, only the default.
    if unsafe { libc::signal(libc::SIGIO, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    let own = getpid().as_raw_nonzero().get();
    // SAFETY: both requests take an integer.
    let armed = unsafe {
        libc::fcntl(libc::STDIN_FILENO, libc::F_SETOWN, own) != -1
            && libc::fcntl(libc::STDIN_FILENO, libc::F_SETFL, libc::O_ASYNC) != -1
    };
    if !armed {
        return Err(io::Error::last_os_error());
    }
    // The writer may have gone just before.
    let stdin = rustix::stdio::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    match polled[0].revents().contains(PollFlags::HUP) {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(()),
    }
}

/// Closes all descriptors but the standard streams. For the begin of `main`: by then the open ones
/// were inherited from a parent that has not closed them.
pub fn close_inherited() -> io::Result<()> {
    let none: libc::c_uint = 0;
    // SAFETY: takes integers. No value of this program owns a descriptor yet.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Names this process for `ps` and `top`.
fn name_process(name: &std::ffi::CStr) {
    // SAFETY: a C string, which the kernel copies. A failure leaves the old name.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Gives up root, and with it all capabilities.
fn become_nobody() -> io::Result<()> {
    // The group first: afterwards this process may not change it any more.
    // SAFETY: an empty list of groups, and integers. This process has one thread.
    let changed = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0
            && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    };
    if changed { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

fn control(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the two options that are used take one integer, and zeroes.
    match unsafe { libc::prctl(option, value, none, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets every system call outside of [`ALLOWED`] fail with EPERM.
fn filter_calls() -> io::Result<()> {
    let filter = filter(getpid().as_raw_nonzero().get().cast_unsigned());
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a live program of the given length, which the kernel copies and does not write to.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The filter as a program for the kernel.
fn filter(own_pid: u32) -> Vec<libc::sock_filter> {
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let answer = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = vec![
        load(ARCHITECTURE_AT),
        // A call of another architecture has other numbers.
        unless_equal(ARCHITECTURE, 1),
        skip(1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_AT),
    ];
    for call in ALLOWED.iter().chain(ALLOWED_OLD) {
        program.push(unless_equal(number(*call), 1));
        program.push(answer(libc::SECCOMP_RET_ALLOW));
    }
    // The `abort` of a failed allocation: a signal to this process, and to no other.
    program.push(unless_equal(number(libc::SYS_tgkill), 3));
    program.push(load(FIRST_ARGUMENT_AT));
    program.push(unless_equal(own_pid, 1));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(answer(refused));
    program
}

fn number(call: libc::c_long) -> u32 {
    // All numbers are small. One that were not would match no call.
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

/// Goes on with the next statement if the loaded value is `k`, else skips that many.
fn unless_equal(k: u32, skipped: u8) -> libc::sock_filter {
    jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, 0, skipped)
}

/// Skips that many statements.
fn skip(statements: u32) -> libc::sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JA, statements)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    // All codes have 16 bits.
    libc::sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 77;

    /// Runs the filter as the kernel does, for the kinds of statements that it has.
    fn answer(architecture: u32, call: libc::c_long, first_argument: u32) -> u32 {
        let program = filter(OWN);
        let mut loaded = 0;
        let mut at = 0;
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) & 0x07 {
                libc::BPF_LD => {
                    loaded = match k {
                        NUMBER_AT => number(call),
                        ARCHITECTURE_AT => architecture,
                        _ => first_argument,
                    }
                }
                libc::BPF_JMP if u32::from(code) & 0xf0 == libc::BPF_JA => at += k as usize,
                libc::BPF_JMP => at += usize::from(if loaded == k { jt } else { jf }),
                _ => return k,
            }
        }
    }

    #[test]
    fn only_calls_that_compute_and_talk_to_open_pipes_pass() {
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        for call in ALLOWED {
            assert_eq!(answer(ARCHITECTURE, call, 0), libc::SECCOMP_RET_ALLOW, "{call}");
        }
        for call in [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_unshare,
        ] {
            assert_eq!(answer(ARCHITECTURE, call, OWN), refused, "{call}");
        }
        assert_eq!(answer(ARCHITECTURE, libc::SYS_tgkill, OWN), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(ARCHITECTURE, libc::SYS_tgkill, OWN + 1), refused);
        let foreign = answer(ARCHITECTURE + 1, libc::SYS_read, 0);
        assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
    }
}
