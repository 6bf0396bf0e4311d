//! Panics of a serving process. All are logged, and all outside of guests and calls end the
//! process.
//!
//! | panic in | consequence |
//! |---|---|
//! | a poll of an instance's `run` | its process ends with status 134, others are not affected |
//! | a poll or drop of another future of a guest | that future ends |
//! | `Instance::signal`, the drop of an instance | the signal has its default action; the process ends |
//! | a call of containerd or of the manager API | the call fails with `INTERNAL` |
//! | a task of [`Tasks`](crate::shutdown::Tasks): driver, events, server | the process ends |
//! | a thread: worker of guests, epoch, namespaces, reaper, pod-init, main thread | the process ends |
//!
//! Without its driver, a container would answer no call and its end would never be reported.
//! Without its workers, no guest would run. Both look like a healthy process from outside. The end
//! of the process is reported by containerd (per-pod shim), or systemd starts it again (daemon).

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::Cell,
    future::Future,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use crate::{sanitize, sys, task_limits};

thread_local! {
    /// True while a panic of this thread is expected.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Sends the messages of panics to the log: the stderr of a shim's server is `/dev/null`.
pub fn log() {
    set_hook(Box::new(log_one));
}

fn log_one(info: &PanicHookInfo<'_>) {
    if EXPECTED.get() {
        return;
    }
    let message = explained(text(info.payload()));
    // A message may quote untrusted text of any length.
    let message = sanitize::text(&message);
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        // Captured only if `RUST_BACKTRACE` asks for it.
        BacktraceStatus::Captured => {
            tracing::error!(thread, location, "panic: {message}");
            // A line each: a line of the log is bounded, and has no line breaks.
            for frame in backtrace.to_string().lines() {
                tracing::error!(thread, "{frame}");
            }
        }
        _ => tracing::error!(thread, location, "panic: {message}"),
    }
}

/// Names the kernel's limits in the message of a thread that Tokio could not make for a guest.
fn explained(message: String) -> String {
    match message.starts_with(NO_THREAD) {
        true => format!("{message}: {}", task_limits::RAISED_BY),
        false => message,
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    // A `panic!` with a literal carries a `&str`, one with arguments a `String`.
    let literal = payload.downcast_ref::<&str>().map(ToString::to_string);
    literal.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Runs a call that panics for want of a thread, without a line in the log for that.
pub(crate) fn expected<T>(call: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let before = EXPECTED.replace(true);
    // Nothing of the closure's is seen after a panic.
    let result = catch_unwind(AssertUnwindSafe(call));
    EXPECTED.set(before);
    result
}

/// Ends [`expected`] before the end of its call: the rest of it may panic by mistake only.
pub(crate) fn unexpected() {
    EXPECTED.set(false);
}

/// Runs a call of an engine on behalf of one guest. Returns nothing if it panics.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    // The engine's own state may be half changed. It is that of the one guest, which ends.
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Ends the process if `work` panics: for the whole life of a thread.
pub fn fatal<T>(work: impl FnOnce() -> T) -> T {
    // Dropped by the unwinding, so before Tokio or the thread's start can catch the panic.
    let _end = EndOnPanic { is_unwinding: thread::panicking() };
    work()
}

/// Ends the process if a poll of `future` panics.
pub fn fatal_future<F: Future>(future: F) -> Fatal<F> {
    // Boxed, so that its pin can be projected without unsafe code.
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

struct EndOnPanic {
    /// The thread was unwinding already, from a panic outside of the work: the work is called by a
    /// drop.
    is_unwinding: bool,
}

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() && !self.is_unwinding {
            // The hook has logged the reason. `_exit` and not an abort: a core dump would contain
            // the memory of all guests.
            sys::end_process(PANIC_STATUS);
        }
    }
}

/// Begin of Tokio's message for a thread that the kernel refuses.
const NO_THREAD: &str = "OS can't spawn worker thread";

/// Exit status of a Rust program after a panic of its main thread.
const PANIC_STATUS: i32 = 101;

/// A future that resolves to an error when it panics.
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
        // Not polled again after a panic, so its broken state is never seen.
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(text(&*payload))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_a_drop_of_an_unwinding_thread_ends_no_process() {
        struct Works;
        impl Drop for Works {
            fn drop(&mut self) {
                fatal(|| ());
            }
        }
        let unwound = expected(|| {
            let _works = Works;
            panic!("outside of the work");
        });
        assert!(unwound.is_err());
    }
}
