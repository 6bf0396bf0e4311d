//! A process that may make no further thread: each case runs in a process of its own, which is this
//! program again as a user whose `RLIMIT_NPROC` is used up.

use std::{
    env, io,
    process::{Command, ExitCode},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use runwasi_core::{
    blocking::{self, blocking},
    logging, panics,
    runtime::{self, GuestRuntime},
};
use rustix::{
    process::{Resource, Rlimit, Uid, setrlimit},
    thread::set_thread_uid,
};
use tokio::time::timeout;

/// Names the case in the process of a case.
const CASE: &str = "RUNWASI_THREADS_CASE";
/// A user without other processes. Root is not bounded by `RLIMIT_NPROC`.
const USER: u32 = 63_217;
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if let Ok(case) = env::var(CASE) {
        logging::to_stderr(false);
        panics::log();
        run(&case);
        return ExitCode::SUCCESS;
    }
    for case in ["work is refused", "work waits", "guest runtime", "guest runtime, second worker"] {
        let program = env::current_exe().expect("this program has a path");
        let output = Command::new(program).env(CASE, case).output().expect("it can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {}: {said}", output.status);
        assert!(!said.contains("panic"), "{case}: {said}");
    }
    println!("a thread that cannot be made is an error of the one who needs it");
    ExitCode::SUCCESS
}

fn run(case: &str) {
    match case {
        "work is refused" => work_is_refused(),
        "work waits" => work_waits(),
        "guest runtime" => guest_runtime_is_an_error(0),
        _ => guest_runtime_is_an_error(1),
    }
}

/// Lets this process make so many threads more, and returns how to end one of them.
fn allow_threads(number: usize) -> impl FnOnce() {
    set_thread_uid(Uid::from_raw(USER)).expect("this test becomes another user: run it as root");
    let most = |number: u64| {
        setrlimit(Resource::Nproc, Rlimit { current: Some(number), maximum: Some(1000) })
            .expect("a lower limit is allowed");
    };
    most(1000);
    let mut all = Vec::new();
    let (sender, receiver) = mpsc::channel::<()>();
    let first = waiting(receiver).expect("the first thread");
    // The limit counts all threads of the user, also those of another run of this test.
    let mut limit = 1;
    loop {
        most(limit);
        let (sender, receiver) = mpsc::channel::<()>();
        match waiting(receiver) {
            Ok(thread) => {
                all.push((thread, sender));
                if all.len() > number {
                    break;
                }
            }
            Err(_) => limit += 1,
        }
    }
    for (thread, sender) in all.drain(1..) {
        drop(sender);
        drop(thread.join());
    }
    most(limit);
    move || {
        drop(sender);
        drop(first.join());
        std::mem::forget(all);
    }
}

fn waiting(end: mpsc::Receiver<()>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().spawn(move || end.recv().unwrap_or_default())
}

fn names_the_limits(error: &io::Error) {
    let text = error.to_string();
    assert!(text.contains("pids.max") && text.contains("RLIMIT_NPROC"), "{text}");
}

fn work_is_refused() {
    let control = runtime::control().expect("a runtime");
    let end_one = allow_threads(0);
    control.block_on(async {
        let refused = blocking(|| Ok::<_, io::Error>(1), |lost| lost).await;
        names_the_limits(&refused.expect_err("there is no thread"));
        end_one();
        // The refused work is not done later.
        let done = blocking(|| Ok::<_, io::Error>(2), |lost| lost).await;
        assert_eq!(done.expect("a thread"), 2);
    });
    control.shutdown_background();
}

fn work_waits() {
    let control = runtime::control().expect("a runtime");
    let end_one = allow_threads(0);
    control.block_on(async {
        let (sender, done) = tokio::sync::oneshot::channel();
        let handle = tokio::runtime::Handle::current();
        blocking::eventually(&handle, move || sender.send(()).unwrap_or_default());
        end_one();
        blocking(|| Ok::<_, io::Error>(()), |lost| lost).await.expect("a thread");
        timeout(SOON, done).await.expect("in time").expect("done by the next thread");
    });
    control.shutdown_background();
}

fn guest_runtime_is_an_error(possible: usize) {
    let end_one = allow_threads(possible);
    let error = GuestRuntime::start(2).err().expect("there is no thread for it");
    names_the_limits(&error);
    drop(end_one);
}
