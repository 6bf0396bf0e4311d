//! The examples that need neither containerd nor root, run as programs.

use std::io;
use std::process::{Command, Output};

/// Prints a line and ends with status 3.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\06\00\00\00Hello\n")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
        (call $exit (i32.const 3))))"#;

/// Runs an example to its end, with this status.
fn run(program: &str, arguments: &[&str], status: i32) -> io::Result<(String, String)> {
    let Output { status: ended, stdout, stderr } =
        Command::new(program).args(arguments).output()?;
    let out = String::from_utf8_lossy(&stdout).into_owned();
    let error = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(ended.code(), Some(status), "{out}{error}");
    // Compiled in a process of its own, as in each program that calls `answer_as_compiler`.
    assert!(!error.contains("compiling in this process"), "{error}");
    Ok((out, error))
}

#[test]
fn lifecycle_shows_each_call_and_its_events() -> io::Result<()> {
    let (out, _) = run(env!("CARGO_BIN_EXE_lifecycle"), &[], 0)?;
    let calls = out.lines().filter(|line| !line.starts_with("  event: "));
    let calls: Vec<_> = calls.map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let [create, start, pause, resume, delete, kill] = &calls[..] else { panic!("{out}") };
    for (call, state) in
        [(create, "created"), (start, "running"), (pause, "paused"), (resume, "running")]
    {
        assert_eq!(call[2].to_lowercase(), state, "{out}");
    }
    assert_eq!((delete[0], kill[0], kill[3]), ("delete", "kill", "137"), "{out}");
    let events: Vec<_> = out.lines().filter(|line| line.starts_with("  event: ")).collect();
    assert_eq!(events.len(), 6, "{out}");
    Ok(())
}

#[test]
fn bundle_writes_one_and_runs_it() -> io::Result<()> {
    let (out, _) = run(env!("CARGO_BIN_EXE_bundle"), &[], 3)?;
    assert!(out.contains("printed:  \"Hello from bundle\\n\""), "{out}");
    Ok(())
}

#[test]
fn run_module_gives_the_guests_output_and_status() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("guest.wat");
    std::fs::write(&file, GUEST)?;
    let name = file.display().to_string();
    let (out, error) = run(env!("CARGO_BIN_EXE_run-module"), &[&name, "argument"], 3)?;
    assert_eq!(out, "Hello\n");
    assert!(error.contains("msg=\"container exited\"") && error.contains("status=3"), "{error}");
    // Refused at its creation, with the reason.
    std::fs::write(&file, "(module)")?;
    let (_, error) = run(env!("CARGO_BIN_EXE_run-module"), &[&name], 1)?;
    assert!(error.contains("has no export \"_start\""), "{error}");
    Ok(())
}
