//! Confinement of the calling process: a user without privileges, no network, no file system, a
//! bounded memory. For a process that reads untrusted bytes from its stdin. Its further threads
//! start between [`confine`] and [`seal`]: they inherit the former, and can be made by then only.

use std::{ffi::CStr, fs, io, process};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        DumpableBehavior, Resource, Rlimit, getpid, getpriority_process, getrlimit,
        set_dumpable_behavior, setpriority_process, setrlimit,
    },
    thread::set_name,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
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

/// Takes what this process does not need, for the rest of its life: all but the calls that
/// [`seal`] refuses.
pub fn confine() -> io::Result<()> {
    // Not granted everywhere. The limits below bound this process without it.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    if rustix::process::geteuid().is_root() {
        // Refused to a root without CAP_SYS_ADMIN. The filter below has no call for sockets anyway.
        let _ = unshare_namespaces(&[NamespaceKind::Network]);
        become_nobody()?;
    }
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Bounds the address space of this process in bytes. It can be lowered again, and not raised.
pub fn bound_address_space(most: u64) -> io::Result<()> {
    limit(Resource::As, most)
}

/// Bounds the CPU time of all threads of this process together, in seconds: SIGXCPU ends it then.
pub fn bound_cpu_time(most: u64) -> io::Result<()> {
    // At the hard limit the kernel sends SIGKILL, which would not tell the reason. An inherited one
    // cannot be raised.
    let hard = most.saturating_add(1);
    let maximum = getrlimit(Resource::Cpu).maximum.map_or(hard, |inherited| inherited.min(hard));
    let current = Some(most.min(maximum));
    Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum: Some(maximum) })?)
}

/// Refuses all but a few system calls to all threads of this process, for the rest of its life.
pub fn seal() -> io::Result<()> {
    // Also sets `no_new_privs`.
    seccompiler::apply_filter_all_threads(&filter(process::id())?).map_err(io::Error::other)
}

/// Names this process, which has one thread, for `ps` and `top`.
pub fn name_process(name: &CStr) {
    // A failure leaves the old name.
    let _ = set_name(name);
}

/// Lowers the priority of the calling thread. Never raises it: that would need CAP_SYS_NICE.
pub(crate) fn lower_priority() -> io::Result<()> {
    let nice = getpriority_process(None)?.max(NICE);
    Ok(setpriority_process(None, nice)?)
}

/// Ends this process, from now on, as soon as the pipe on its stdin has no writer any more.
pub fn end_with_stdin() -> io::Result<()> {
    // The kernel sends SIGIO when the last writer closes, which costs no thread. A death signal
    // would come too early: at the end of the thread that has started this process, and threads of
    // the blocking pool end.
    let handler: extern "C" fn(libc::c_int) = end_without_writer;
    // SAFETY: the handler makes system calls only.
    if unsafe { libc::signal(libc::SIGIO, handler as libc::sighandler_t) } == libc::SIG_ERR {
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
    match has_no_writer()? {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(()),
    }
}

/// Handler of SIGIO, which also comes when there is something to read.
extern "C" fn end_without_writer(_: libc::c_int) {
    if matches!(has_no_writer(), Ok(true)) {
        // SAFETY: ends this process, without any code of it.
        unsafe { libc::_exit(1) }
    }
}

/// True if the pipe on stdin has no writer any more.
// For a signal handler, too: one system call.
fn has_no_writer() -> io::Result<bool> {
    let stdin = rustix::stdio::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
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

/// The filter that lets every system call outside of [`ALLOWED`] fail with EPERM. A call of another
/// architecture, with other numbers, ends the process.
fn filter(own_pid: u32) -> io::Result<BpfProgram> {
    // The `abort` of a failed allocation: a signal to this process, and to no other.
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own_pid.into())
        .map_err(io::Error::other)?;
    let abort = SeccompRule::new(vec![own]).map_err(io::Error::other)?;
    let allowed = ALLOWED.iter().chain(ALLOWED_OLD).map(|call| (*call, Vec::new()));
    let rules = allowed.chain([(libc::SYS_tgkill, vec![abort])]).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::{AsRawFd, OwnedFd},
        time::{Duration, Instant},
    };

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    const OWN: u32 = 77;
    const LIMIT: Duration = Duration::from_secs(30);

    /// A process with this stdin alone that waits for signals.
    fn waiting(stdin: &OwnedFd) -> libc::pid_t {
        // SAFETY: the child makes system calls only.
        let child = unsafe { libc::fork() };
        if child != 0 {
            return child;
        }
        // SAFETY: integers. Nothing of this process is used any more.
        unsafe {
            libc::dup2(stdin.as_raw_fd(), libc::STDIN_FILENO);
            // Those of the tests beside this one, which look at their ends, and the writer.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
            while end_with_stdin().is_ok() {
                libc::pause();
            }
            libc::_exit(1)
        }
    }

    fn has_ended(child: libc::pid_t) -> bool {
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) == child }
    }

    fn becomes(what: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !what() {
            assert!(Instant::now() < deadline);
            crate::sys::pause(Duration::from_millis(5));
        }
    }

    #[test]
    fn process_outlives_its_input_and_not_the_writer() {
        let pipe = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let child = waiting(&pipe.0);
        let flags = || fs::read_to_string(format!("/proc/{child}/fdinfo/0")).unwrap();
        becomes(|| {
            let octal =
                flags().lines().find_map(|line| line.strip_prefix("flags:\t0").map(str::to_owned));
            let flags = libc::c_int::from_str_radix(&octal.unwrap(), 8).unwrap();
            flags & libc::O_ASYNC != 0
        });
        for _ in 0..20 {
            rustix::io::write(&pipe.1, b"frame").unwrap();
            crate::sys::pause(Duration::from_millis(5));
            assert!(!has_ended(child), "it ends by its input");
        }
        drop(pipe.1);
        becomes(|| has_ended(child));
    }

    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;

    /// Runs the filter as the kernel does, for the kinds of statements that it has.
    fn answer(architecture: u32, call: libc::c_long, first_argument: u32) -> u32 {
        let program = filter(OWN).unwrap();
        let mut loaded = 0;
        let mut at = 0;
        loop {
            let seccompiler::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) & 0x07 {
                libc::BPF_LD => {
                    // Offsets in the kernel's `seccomp_data`.
                    loaded = match k {
                        0 => u32::try_from(call).unwrap(),
                        4 => architecture,
                        16 => first_argument,
                        _ => panic!("loads the word at {k}"),
                    }
                }
                libc::BPF_JMP if u32::from(code) & 0xf0 == libc::BPF_JA => at += k as usize,
                libc::BPF_JMP if u32::from(code) & 0xf0 == libc::BPF_JEQ => {
                    at += usize::from(if loaded == k { jt } else { jf });
                }
                libc::BPF_RET => return k,
                _ => panic!("statement {code}"),
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
