//! Ctrl-C, SIGTERM and SIGHUP: `main` runs as two OS processes, so that an interrupted run cleans up as well.
//!
//! ```text
//! supervisor ── pipe, its stdin ──▶ worker ──▶ containerd, ctr
//! terminal's process group          process group of its own
//! ```
//!
//! A Ctrl-C goes to the terminal's whole process group; containerd would end by it with containers half made. So all
//! that measures is in a group of its own, and the supervisor passes signals on as bytes in a pipe. The worker asks
//! between two steps; a killed supervisor closes the pipe, which means the same.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::poll_until;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The first argument of the worker.
pub(crate) const WORKER: &str = "--worker";

/// Runs this program again as the worker and passes its exit code on.
pub(crate) fn supervise(args: &[String]) -> Result<ExitCode> {
    let (orders, sender) = std::io::pipe().context("cannot make a pipe")?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)
            .context("cannot watch for signals")?;
    }
    let mut worker = Command::new(std::env::current_exe()?);
    worker.arg(WORKER).args(args).stdin(orders).process_group(0);
    // Errors would carry traces of the stack, which cost a guest's refused calls more than the calls.
    worker.env_remove("RUST_BACKTRACE");
    let ended = worker.spawn().context("cannot start the worker")?.wait()?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The worker's view: whether the supervisor was asked to end.
#[derive(Debug)]
pub(crate) struct Interrupt {
    // An atomic, because the thread that reads the pipe sets it while the benchmarks run.
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens to the supervisor on stdin.
    pub(crate) fn watch() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        std::thread::spawn(move || {
            // A byte, the end of the pipe and an error all mean that nobody wants the figures any more.
            drop(std::io::stdin().read(&mut [0]));
            flag.store(true, Ordering::Relaxed);
        });
        Self { asked }
    }

    /// An error once a signal came.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.asked.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// Lets this much time pass, or an interrupt end it.
    pub(crate) fn pause(&self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        let over =
            || self.check().err().map(Err).or_else(|| (begin.elapsed() >= time).then_some(Ok(())));
        poll_until("end of a pause", time + Duration::from_secs(1), over)?
    }
}
