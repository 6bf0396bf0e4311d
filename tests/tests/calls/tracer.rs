//! `strace` on a shim or a daemon, and what it has counted since the last look; used by `life`.
//!
//! Counted is what a program asks for, not what its threads do to wait for each other: how often
//! they sleep and wake each other depends on the machine's load. So these are left out:
//!
//! - calls that wait, for a lock, a time or an event, and those that wake a waiting thread
//! - attempts that find nothing (EAGAIN)
//! - the beginning and the end of a thread: idle ones of a pool end after a second
//! - CPU time of a thread, which is asked for before and after each turn of a guest: turns depend on the load, too
//! - memory without a file: how much an allocator asks for depends on the threads

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use runwasi_tests::running::Running;
use runwasi_tests::{Command, poll_until};

/// How often each system call was made.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Nothing more comes of a phase if nothing has come for so long.
const QUIET: Duration = Duration::from_millis(100);

/// Longer than any life.
const LIMIT: Duration = Duration::from_secs(300);

/// Calls that are left out whatever their arguments are.
const LEFT_OUT: [&str; 27] = [
    "futex",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "waitid",
    "wait4",
    "rt_sigtimedwait",
    "sched_yield",
    "restart_syscall",
    "nanosleep",
    "clock_nanosleep",
    "rt_sigprocmask",
    "sigaltstack",
    "set_robust_list",
    "rseq",
    "gettid",
    "sched_getaffinity",
    "prctl",
    "getrandom",
    "clock_gettime",
    "getrusage",
    "exit",
    "madvise",
    "mprotect",
    "munmap",
];

/// Arguments and results of calls that are left out.
const NOISE: [&str; 4] = [" = -1 EAGAIN ", WAKE, "CLONE_THREAD", "MAP_ANONYMOUS"];

/// The number by which a thread wakes another one through an `eventfd`.
const WAKE: &str = r#""\1\0\0\0\0\0\0\0", 8"#;

/// A file that `strace` writes.
pub(crate) struct Log {
    file: PathBuf,
    /// Bytes that were looked at.
    read: usize,
}

impl Log {
    /// Nothing is in it yet.
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, read: 0 }
    }

    /// What runs a program, which is the last argument, and all that it starts. Not the tracer but the program is the caller's
    /// child, and the tracer, which stays as long as anything runs, holds no stream of the caller's.
    pub(crate) fn tracer(&self) -> Command {
        let errors = self.file.with_extension("stderr");
        // Cargo's libraries for tests are not those of a node: the loader would look there first.
        let script = "unset LD_LIBRARY_PATH; exec strace \"$@\" 2>\"$0\"";
        let shell = Command::new("sh").args(["-c", script]).args([errors]);
        self.flags(shell.args(["-D"]))
    }

    /// Traces a running process with all its threads, until it is dropped.
    pub(crate) fn attach(&self, pid: u32) -> Result<Running> {
        let tracer = self.flags(Command::new("strace").args(["-p", &pid.to_string()]));
        let tracer = tracer.deadline(LIMIT).spawn()?;
        let attached = poll_until("strace on the daemon", LIMIT, || {
            tracer.stderr_so_far().contains(" attached").then_some(())
        });
        attached.with_context(|| tracer.stderr_so_far())?;
        Ok(tracer)
    }

    fn flags(&self, strace: Command) -> Command {
        let calls = format!("trace=!{}", LEFT_OUT.join(","));
        let strace = strace.args(["-f", "-s", "8", "-e", &calls, "-e", "signal=none", "-o"]);
        strace.args([&self.file])
    }

    /// What was counted since the last look, once nothing more comes.
    pub(crate) fn counts(&mut self) -> Result<Counts> {
        let text = self.settled()?;
        let counts = count(text[self.read..].lines());
        self.read = text.len();
        Ok(counts)
    }

    /// The whole text; no line of it is cut.
    fn settled(&self) -> Result<String> {
        let (mut size, mut since) = (0, Instant::now());
        poll_until("a quiet program", LIMIT, || {
            let now = fs::metadata(&self.file).map(|file| file.len()).unwrap_or(0);
            if now != size {
                (size, since) = (now, Instant::now());
            }
            (size > 0 && since.elapsed() > QUIET).then_some(())
        })?;
        let mut text = read(&self.file)?;
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        Ok(text)
    }
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines are `PID NAME(…) = RESULT`; a call that is interrupted by another thread's is two lines, `PID NAME(… <unfinished ...>`
/// and `PID <... NAME resumed>…) = RESULT`.
fn count<'a>(lines: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts: BTreeMap<&str, isize> = BTreeMap::new();
    for line in lines {
        let Some((_, line)) = line.trim_start().split_once(' ') else { continue };
        let line = line.trim_start();
        let is_noise = NOISE.iter().any(|noise| line.contains(noise));
        if let Some(rest) = line.strip_prefix("<... ") {
            // Its first line has counted.
            if let (Some((name, _)), true) = (rest.split_once(' '), is_noise) {
                *counts.entry(name).or_default() -= 1;
            }
        } else if let (Some((name, _)), false) = (line.split_once('('), is_noise) {
            *counts.entry(name).or_default() += 1;
        }
    }
    let some = counts.into_iter().filter_map(|(name, count)| {
        Some((name.to_owned(), usize::try_from(count).ok().filter(|count| *count > 0)?))
    });
    some.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_threads_are_not_counted() {
        let text = r#"
71 openat(AT_FDCWD, "/x", O_RDONLY) = 3
71 read(3,  <unfinished ...>
72 write(9, "\1\0\0\0\0\0\0\0", 8)   = 8
71 <... read resumed>"abcd", 4) = 4
72 recvfrom(5, 0x7f, 8, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
73 recvfrom(5,  <unfinished ...>
73 <... recvfrom resumed>0x7f, 8, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
71 mmap(NULL, 134217728, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0 <unfinished ...>
71 <... mmap resumed>) = 0x7f12
71 clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_SYSVSEM, child_tid=0x7f}, 88) = 72
71 openat(AT_FDCWD, "/y", O_RDONLY) = -1 ENOENT (No such file or directory)
72 +++ exited with 0 +++
"#;
        let wanted = [("openat".to_owned(), 2), ("read".to_owned(), 1)];
        assert_eq!(count(text.lines()), Counts::from(wanted));
    }
}
