//! Panics of a serving process: all are logged, and all outside of guests and calls end the process.
//!
//! | panic in | consequence |
//! |---|---|
//! | a poll of a guest's future | its container ends with status 134, others are not affected |
//! | a call of containerd or of the manager API | the call fails with `INTERNAL` |
//! | a task of [`Tasks`](crate::shutdown::Tasks): a driver, the events, a server | the process ends |
//! | a thread: a worker of the guests, the epoch, a network, the main thread | the process ends |
//!
//! Without its driver a container would answer no call and would never be reported as ended; without
//! its workers no guest would run. Both look like a healthy process from outside. An ended one is
//! reported by containerd (per-pod shim) or started again by systemd (daemon).

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    future::Future,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use crate::{sanitize, sys};

/// Sends the messages of panics to the log: the stderr of a shim's server is `/dev/null`.
pub fn log() {
    set_hook(Box::new(log_one));
}

fn log_one(info: &PanicHookInfo<'_>) {
    let message = text(info.payload());
    let message = sanitize::text(&message);
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        // Asked for by RUST_BACKTRACE.
        BacktraceStatus::Captured => {
            tracing::error!(thread, location, "panic: {message}\n{backtrace}")
        }
        _ => tracing::error!(thread, location, "panic: {message}"),
    }
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(ToString::to_string);
    literal.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Ends the process if `work` panics: for the whole life of a thread.
pub fn fatal<T>(work: impl FnOnce() -> T) -> T {
    let _end = EndOnPanic;
    work()
}

/// The same for a future, whenever it is polled.
pub fn fatal_future<F: Future>(future: F) -> Fatal<F> {
    Fatal { future: Box::pin(future) }
}

/// See [`fatal_future`].
pub struct Fatal<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Fatal<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        fatal(|| self.future.as_mut().poll(cx))
    }
}

struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            // The hook has told why. No core dump: the memory of all guests would be in it.
            sys::end_process(PANIC_STATUS);
        }
    }
}

/// Exit status of a Rust program whose main thread has panicked.
const PANIC_STATUS: i32 = 101;

/// A future whose panic is its result.
pub(crate) struct Caught<F> {
    future: Pin<Box<F>>,
}

/// Lets a panic end `future` alone; the error is its message.
pub(crate) fn caught<F: Future>(future: F) -> Caught<F> {
    Caught { future: Box::pin(future) }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(text(&*payload))),
        }
    }
}
