//! Ends of processes by panics: each case runs in a process of its own, which is this program
//! again.

use std::{
    env,
    process::{Command, ExitCode, Output},
    thread,
    time::Duration,
};

use runwasi_core::{logging, panics, runtime, shutdown::Tasks};

/// Names the case in the process of a case.
const CASE: &str = "RUNWASI_PANIC_CASE";

/// A case that came to its end.
const SURVIVED: u8 = 3;

fn main() -> ExitCode {
    if let Ok(case) = env::var(CASE) {
        logging::to_stderr(false);
        panics::log();
        run(&case);
        return ExitCode::from(SURVIVED);
    }
    for (case, status) in
        [("task", 101), ("thread", 101), ("main", 101), ("untracked task", SURVIVED.into())]
    {
        let output = of(case);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{case}: {said}");
        let place = "runwasi-core/tests/panics.rs";
        assert!(
            said.contains("level=error msg=\"panic: on purpose") && said.contains(place),
            "{case}: {said}"
        );
    }
    println!("panics outside of guests end the process with their message");
    ExitCode::SUCCESS
}

fn of(case: &str) -> Output {
    let program = env::current_exe().expect("this program has a path");
    Command::new(program).env(CASE, case).output().expect("this program can be started")
}

fn run(case: &str) {
    let control = runtime::control().expect("a runtime");
    let tasks = Tasks::new(Duration::from_secs(1));
    match case {
        "task" => control.block_on(async {
            tasks.spawn(async { panic!("on purpose") });
            tasks.stop();
            tasks.drained().await;
        }),
        "thread" => drop(thread::spawn(|| panics::fatal(|| panic!("on purpose"))).join()),
        "main" => panics::fatal(|| panic!("on purpose")),
        // As guests are polled: Tokio catches it.
        _ => drop(control.block_on(control.spawn(async { panic!("on purpose") }))),
    }
}
