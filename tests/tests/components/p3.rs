//! Asynchronous components, of WASI p3; the cases are listed in `main.rs`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::proc::cpu_nanos;
use runwasi_tests::{Containers, Image, poll_until};

use crate::p2::{command, run};

const GUEST: &str = "/p3_hello.wasm";

pub(crate) fn arguments_reach_the_guest(c: &mut Containers) -> Result<()> {
    let out = run(c, &[], &[GUEST, "echo", "two words", "ünï"])?.ok()?;
    ensure!(out.out() == "two words ünï\n", "{out}");
    Ok(())
}

pub(crate) fn environment_and_working_directory_reach_the_guest(c: &mut Containers) -> Result<()> {
    let flags = ["--env", "COLOUR=blue", "--cwd", "/etc"];
    let out = run(c, &flags, &[GUEST, "env"])?.ok()?;
    ensure!(out.out().lines().any(|line| line == "COLOUR=blue"), "{out}");
    let out = run(c, &flags, &[GUEST, "cwd"])?.ok()?;
    ensure!(out.out() == "/etc\n", "{out}");
    Ok(())
}

/// Two at the same time: less than both in a row, on a machine that is slow, too.
pub(crate) fn sleeps_at_the_same_time_overlap(c: &mut Containers) -> Result<()> {
    // The image and the compiled code are there then.
    run(c, &[], &[GUEST, "both", "1"])?.ok()?;
    let start = Instant::now();
    let out = run(c, &[], &[GUEST, "both", "8000"])?.ok()?;
    ensure!(out.out() == "slept\n", "{out}");
    let took = start.elapsed();
    ensure!(took >= Duration::from_secs(8) && took < Duration::from_secs(16), "{took:?}");
    Ok(())
}

pub(crate) fn exit_status_is_passed_on(c: &mut Containers) -> Result<()> {
    run(c, &[], &[GUEST, "exit", "42"])?.status_is(42)?;
    run(c, &[], &[GUEST, "exit", "0"])?.status_is(0)?;
    run(c, &[], &[GUEST, "fail"])?.status_is(1)?;
    // What cannot be made sense of: usage, on standard error.
    let out = run(c, &[], &[GUEST, "nonsense"])?.status_is(1)?;
    ensure!(out.err().starts_with("usage:") && out.stdout.is_empty(), "{out}");
    Ok(())
}

pub(crate) fn stdin_passes_through(c: &mut Containers) -> Result<()> {
    let sent: Vec<u8> = (0..251u8).cycle().take(1_000_000).collect();
    let out = command(c, &[], &[GUEST, "cat"])?.stdin(sent.clone()).run()?.ok()?;
    ensure!(out.stdout.len() == sent.len(), "{} bytes instead of {}", out.stdout.len(), sent.len());
    ensure!(out.stdout == sent, "other bytes");
    Ok(())
}

/// By the name that a program opens, and by the streams of that file.
pub(crate) fn names_of_the_standard_streams_are_its_own(c: &mut Containers) -> Result<()> {
    let sent: Vec<u8> = (0..251u8).cycle().take(1_000_000).collect();
    for path in ["/dev/stdin", "/dev/fd/0"] {
        let out = command(c, &[], &[GUEST, "read", path])?.stdin(sent.clone()).run()?.ok()?;
        ensure!(out.stdout == sent, "{path}: {} bytes", out.stdout.len());
    }
    for how in ["write", "append"] {
        for path in ["/dev/stdout", "/dev/fd/1"] {
            let out = run(c, &[], &[GUEST, how, path, "logged"])?.ok()?;
            ensure!(out.out() == "logged" && out.err().is_empty(), "{how} {path}: {out}");
        }
        for path in ["/dev/stderr", "/dev/fd/2"] {
            let out = run(c, &[], &[GUEST, how, path, "logged"])?.ok()?;
            ensure!(out.err() == "logged" && out.out().is_empty(), "{how} {path}: {out}");
        }
    }
    // The wrong way, and a descriptor that there is not.
    for (how, path) in [("read", "/dev/stdout"), ("write", "/dev/stdin"), ("read", "/dev/fd/3")] {
        let out =
            run(c, &[], &[&[GUEST, how, path][..], &["x"][usize::from(how == "read")..]].concat())?;
        ensure!(out.status == 1 && !out.err().is_empty(), "{how} {path}: {out}");
    }
    Ok(())
}

pub(crate) fn file_is_written_and_read_by_streams(c: &mut Containers) -> Result<()> {
    let volume = tempfile::TempDir::new()?;
    let bind = format!("type=bind,src={},dst=/v,options=rbind:rw", volume.path().display());
    let flags = ["--mount", &bind];
    std::fs::write(volume.path().join("f"), "0123456789")?;
    run(c, &flags, &[GUEST, "write", "/v/f", "abc"])?.ok()?;
    run(c, &flags, &[GUEST, "append", "/v/f", "end"])?.ok()?;
    let out = run(c, &flags, &[GUEST, "read", "/v/f"])?.ok()?;
    ensure!(out.out() == "abc3456789end", "{out}");
    Ok(())
}

pub(crate) fn trap_gives_134(c: &mut Containers) -> Result<()> {
    let out = run(c, &[], &[GUEST, "trap"])?.status_is(134)?;
    ensure!(out.err().contains("unreachable"), "{out}");
    Ok(())
}

pub(crate) fn spinner_is_paused_and_killed(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Wasmguests)?;
    let id = c.id("spin");
    c.run_of(Image::Wasmguests, &["-d"], &id, &[GUEST, "spin"]).run()?.ok()?;
    let pid = c.is_running(&id)?.pid;
    let spins_on = || -> Result<()> {
        let target = cpu_nanos(pid)? + 100_000_000;
        poll_until("the guest to spin", Duration::from_secs(10), || {
            cpu_nanos(pid).ok().filter(|used| *used >= target)
        })?;
        Ok(())
    };
    spins_on()?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    c.becomes(&id, "PAUSED")?;
    let before = cpu_nanos(pid)?;
    // `ctr` needs longer than the shim needs to stop.
    c.becomes(&id, "PAUSED")?;
    c.becomes(&id, "PAUSED")?;
    let used = Duration::from_nanos(cpu_nanos(pid)? - before);
    ensure!(used <= Duration::from_millis(30), "{used:?} while paused");
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    spins_on()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn sigterm_ends_a_sleeper(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Wasmguests)?;
    let id = c.id("sleep");
    c.run_of(Image::Wasmguests, &["-d"], &id, &[GUEST, "sleep", "1000000"]).run()?.ok()?;
    c.is_running(&id)?;
    c.kill(&id, "SIGTERM")?;
    ensure!(c.finish(&id)? == 143);
    c.fixture.becomes_clean()
}
