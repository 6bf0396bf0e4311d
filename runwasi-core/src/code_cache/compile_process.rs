//! An OS process that compiles: this program, started again for one artifact, and gone after it. It
//! may have waited for its artifact, and compiles no second one.
//!
//! ```text
//!          stdin: frames ──────▶ ┌──────────────────┐
//! parent                         │ confined process │  no privileges, network or files,
//!          stdout: frames ◀───── └──────────────────┘  bounded memory and CPU time, low priority
//!          stderr: reason of its end
//! ```
//!
//! A *frame* is a tag of one byte, a length of eight bytes and that many bytes. The engine gives
//! the frames their meaning. The process ends when the parent closes its stdin, so also with the
//! parent, whatever it does then.

use std::{
    env,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    runtime::Handle,
    time::sleep,
};

use crate::{
    blocking::{blocking, eventually},
    cgroups, sys, task_limits,
};

/// First argument of the process. No caller of a shim or a daemon has a reason to give it.
pub const ARGUMENT: &str = "compile-worker";

/// The same file that this process runs, also if its path leads to another version by now.
const PROGRAM: &str = "/proc/self/exe";

/// Most bytes of stderr that are read.
const SAID: u64 = 64 << 10;

/// Bytes of the stack of a thread that compiles: as many as those of the first one.
pub const STACK: usize = 8 << 20;

/// Address space that a further thread reserves and does not use: its stack, and 64 MiB for a heap
/// of glibc's allocator.
const RESERVED: u64 = STACK as u64 + (64 << 20);

/// Message of Rust's runtime before it aborts.
const NO_MEMORY: &str = "memory allocation of ";

/// A frame of the protocol.
#[derive(Debug)]
pub struct Frame {
    /// Meaning of the bytes.
    pub tag: u8,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The process, from its parent's side. A drop kills it.
pub struct CompileProcess {
    child: Guarded,
    input: Sender,
    output: Receiver,
    errors: Receiver,
}

/// End of a process that has not sent its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// An allocation was refused.
    Memory,
    /// Its CPU time was used up.
    Time,
    /// A signal that this process has not sent.
    Signal(i32),
    /// Anything else, with its last words.
    Other(String),
}

/// True if this process was started to compile.
pub fn is_this_one() -> bool {
    env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// Prepares the calling process, at the begin of its `main`.
pub fn begin() -> io::Result<()> {
    sys::close_inherited()
}

/// Confines the calling process, which must have one thread: see [`sys::confine`]. It may wait for
/// its work then, and make threads.
pub fn confine() -> io::Result<()> {
    sys::name_process(c"compile-waits");
    sys::confine()
}

/// Bounds what [`seal`] leaves unbounded, before the threads of the calling process start:
/// `memory` in bytes, shared by so many threads, and `seconds` of CPU time for each of them.
pub fn bound(memory: u64, seconds: u32, threads: usize) -> io::Result<()> {
    sys::name_process(c"compile");
    // Not before: on busy cores it would wait for milliseconds until it hears of its work.
    sys::lower_priority()?;
    // Its allocator has a heap per thread.
    sys::limit_heaps(threads);
    let reserved = RESERVED.saturating_mul(threads.saturating_sub(1) as u64);
    // CPU time and not that of a clock: other processes of the node go before this one.
    sys::bound_cpu_time(u64::from(seconds).saturating_mul(threads as u64))?;
    sys::bound_address_space(memory.saturating_add(reserved))
}

/// Refuses all but a few system calls to the threads of the calling process: see [`sys::seal`].
pub fn seal() -> io::Result<()> {
    sys::seal()
}

/// Ends the calling process as soon as its parent closes its stdin or ends.
pub fn end_with_parent() -> io::Result<()> {
    sys::end_with_stdin()
}

impl Frame {
    const HEAD: usize = 9;

    fn head(tag: u8, length: usize) -> [u8; Self::HEAD] {
        let mut head = [tag; Self::HEAD];
        head[1..].copy_from_slice(&(length as u64).to_le_bytes());
        head
    }

    /// Tag and length of a head, with a limit for the latter.
    fn parse(head: [u8; Self::HEAD], most: u64) -> io::Result<(u8, u64)> {
        let [tag, length @ ..] = head;
        let length = u64::from_le_bytes(length);
        match length <= most {
            true => Ok((tag, length)),
            false => Err(io::Error::other(format!("a frame of {length} bytes"))),
        }
    }

    /// Reads a frame, in the process.
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let mut head = [0; Self::HEAD];
        from.read_exact(&mut head)?;
        // Without a limit, since the parent is trusted. The memory of this process is bounded.
        let (tag, length) = Self::parse(head, u64::MAX)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        from.read_exact(&mut bytes)?;
        Ok(Self { tag, bytes })
    }

    /// Writes a frame, in the process.
    pub fn write(mut to: impl Write, tag: u8, bytes: &[u8]) -> io::Result<()> {
        to.write_all(&Self::head(tag, bytes.len()))?;
        to.write_all(bytes)?;
        to.flush()
    }
}

impl CompileProcess {
    /// Starts the process.
    pub async fn spawn() -> io::Result<Self> {
        // On the blocking pool: it waits until the new process runs its program. Guarded there, so
        // that the process ends also if this future is dropped meanwhile.
        let guarded = || spawn().map(|child| Guarded(Some(child)));
        let mut child = blocking(guarded, |lost| lost).await?;
        let Some(((input, output), errors)) = child.0.as_mut().and_then(take_pipes) else {
            return Err(io::Error::other("a pipe is missing"));
        };
        let input = Sender::from_owned_fd(OwnedFd::from(input))?;
        let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
        let errors = Receiver::from_owned_fd(OwnedFd::from(errors))?;
        Ok(Self { child, input, output, errors })
    }

    /// Sends a frame.
    pub async fn send(&mut self, tag: u8, bytes: &[u8]) -> io::Result<()> {
        self.input.write_all(&Frame::head(tag, bytes.len())).await?;
        self.input.write_all(bytes).await
    }

    /// Receives a frame of `most` bytes at most.
    pub async fn receive(&mut self, most: u64) -> io::Result<Frame> {
        let mut head = [0; Frame::HEAD];
        self.output.read_exact(&mut head).await?;
        let (tag, length) = Frame::parse(head, most)?;
        let mut bytes = Vec::new();
        // Not allocated by the length, which the process has chosen.
        (&mut self.output).take(length).read_to_end(&mut bytes).await?;
        match bytes.len() as u64 == length {
            true => Ok(Frame { tag, bytes }),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// True if the process has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.0.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The end of the process after a failure of [`send`](Self::send) or
    /// [`receive`](Self::receive).
    pub async fn death(mut self) -> io::Result<Death> {
        let mut said = Vec::new();
        (&mut self.errors).take(SAID).read_to_end(&mut said).await?;
        // Its pipes are closed, so it is about to end.
        loop {
            if let Some(child) = &mut self.child.0
                && let Some(status) = child.try_wait()?
            {
                return Ok(Death::of(status, &String::from_utf8_lossy(&said)));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A process that ends with this value. Present until the drop.
struct Guarded(Option<Child>);

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // An error: it has ended already.
        let _ = child.kill();
        // Its memory is freed before its end, which takes milliseconds.
        let mut reap = move || drop(child.wait());
        match Handle::try_current() {
            Ok(runtime) => eventually(&runtime, reap),
            Err(_) => reap(),
        }
    }
}

impl Death {
    fn of(status: ExitStatus, said: &str) -> Self {
        let said = said.trim();
        if said.contains(NO_MEMORY) {
            return Self::Memory;
        }
        match status.signal() {
            Some(libc::SIGXCPU) => Self::Time,
            Some(signal) if said.is_empty() => Self::Signal(signal),
            Some(signal) => Self::Other(format!("signal {signal}: {said}")),
            None => Self::Other(format!("{status}: {said}")),
        }
    }
}

/// The ends of stdin, stdout and stderr.
fn take_pipes(child: &mut Child) -> Option<((ChildStdin, ChildStdout), ChildStderr)> {
    child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take())
}

fn spawn() -> io::Result<Child> {
    // No `pre_exec`: with one, the process would be forked, and not be spawned in the memory of
    // this one, which can be large.
    let child = Command::new(PROGRAM)
        .arg(ARGUMENT)
        .env_clear()
        // The signals of a terminal that this process was started from are not for the compiler.
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(task_limits::named)?;
    // The limit of a container is for its guests. A compilation beyond it would end for a reason
    // that its user cannot see, and has a bound of its own.
    if let Err(error) = cgroups::bring_back(child.id()) {
        tracing::warn!(%error, "compiling is bounded by the limits of a container");
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use std::{fs, future::poll_fn, pin::pin, task::Poll, time::Instant};

    use super::*;

    /// Children of this process that were started as [`PROGRAM`], those that have ended and were
    /// not reaped among them: the lines of their `stat`.
    fn children() -> Vec<String> {
        let parent = std::process::id().to_string();
        let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            // An error: no process, or one that has gone meanwhile.
            fs::read_to_string(entry.path().join("stat")).ok()
        });
        stats
            .filter(|stat| {
                let fields = stat.split_once(" (exe) ").map(|(_, fields)| fields.split(' '));
                fields.is_some_and(|mut fields| fields.nth(1) == Some(parent.as_str()))
            })
            .collect()
    }

    #[test]
    fn cancelled_start_leaves_no_process() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // With one thread, what comes last runs when all starts are over.
        let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            for _ in 0..4 {
                let mut starting = pin!(CompileProcess::spawn());
                let once = poll_fn(|cx| {
                    let _ = starting.as_mut().poll(cx);
                    Poll::Ready(())
                });
                once.await;
            }
            blocking(|| Ok(()), |lost| lost).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !children().is_empty() {
                assert!(Instant::now() < deadline, "{:?}", children());
                sleep(Duration::from_millis(10)).await;
            }
        });
    }

    #[test]
    fn frame_is_read_as_it_was_written_and_a_long_one_is_refused() {
        let mut bytes = Vec::new();
        Frame::write(&mut bytes, 7, b"wasm").unwrap();
        let frame = Frame::read(&*bytes).unwrap();
        assert_eq!((frame.tag, &*frame.bytes), (7, &b"wasm"[..]));
        assert!(Frame::read(&bytes[..12]).is_err(), "it is cut");
        assert_eq!(Frame::parse(Frame::head(1, 10), 10).unwrap(), (1, 10));
        assert!(Frame::parse(Frame::head(1, 11), 10).is_err());
    }

    #[test]
    fn end_of_a_process_has_its_reason() {
        let status = ExitStatus::from_raw;
        let abort = "memory allocation of 4096 bytes failed\n";
        assert_eq!(Death::of(status(libc::SIGABRT), abort), Death::Memory);
        assert_eq!(Death::of(status(libc::SIGKILL), ""), Death::Signal(9));
        assert_eq!(Death::of(status(libc::SIGXCPU), ""), Death::Time);
        let panic = Death::of(status(101 << 8), "thread 'main' panicked\n");
        assert_eq!(panic, Death::Other("exit status: 101: thread 'main' panicked".into()));
    }
}
