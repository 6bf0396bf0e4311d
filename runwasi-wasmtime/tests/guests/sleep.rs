//! How exactly guests sleep, beside this process in the same moment. Part of `guests.rs`.

use std::time::{Duration, Instant};

use runwasi_core::testing::BundleBuilder;

use super::{Fixture, Result, components};

/// A short sleep, where a timer of whole milliseconds is ten times too long.
const SLEEP: Duration = Duration::from_micros(100);
const SLEEPS: u32 = 50;
/// Most time of the guest, in times of that of the native sleeps.
const MOST: u32 = 3;
/// Other work of the machine makes a run slower, never faster.
const ATTEMPTS: usize = 10;

/// Ends with 1 if the sleeps together take more than `most`. `setup` makes the subscription at 0,
/// for a sleep that ends at a time or after one.
fn module(setup: &str, most: Duration) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func $now (result i64)
                (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 512)))
                (i64.load (i32.const 512)))
            (func (export "_start") (local $left i32) (local $begin i64) (local $count i32)
                (i64.store (i32.const 0) (i64.const 42))
                (i32.store (i32.const 16) (i32.const 1))
                (local.set $count (i32.const 1))
                (local.set $left (i32.const {SLEEPS}))
                (local.set $begin (call $now))
                (loop $more
                    {setup}
                    (if (call $poll (i32.const 0) (i32.const 256) (local.get $count) (i32.const 400))
                        (then unreachable))
                    ;; One event, that of the clock.
                    (if (i32.ne (i32.load (i32.const 400)) (i32.const 1)) (then unreachable))
                    (if (i64.ne (i64.load (i32.const 256)) (i64.const 42)) (then unreachable))
                    (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (if (i64.gt_u (i64.sub (call $now) (local.get $begin)) (i64.const {}))
                    (then (call $exit (i32.const 1))))))"#,
        most.as_nanos()
    )
}

/// A sleep of that length.
fn relative() -> String {
    format!("(i64.store (i32.const 24) (i64.const {}))", SLEEP.as_nanos())
}

/// A sleep until a time.
fn absolute() -> String {
    format!(
        "(i32.store16 (i32.const 40) (i32.const 1))
         (i64.store (i32.const 24) (i64.add (call $now) (i64.const {})))",
        SLEEP.as_nanos()
    )
}

/// The same, and a second subscription, for what stdin has: it has nothing.
fn with_stdin() -> String {
    let relative = relative();
    format!(
        "(local.set $count (i32.const 2))
         (i32.store8 (i32.const 56) (i32.const 1)) (i32.store (i32.const 64) (i32.const 0))
         {relative}"
    )
}

/// The same as a command of p3. `wait` takes the present time and the length.
fn p3(wait: &str, most: Duration) -> String {
    format!(
        r#"(component
            (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
                (export "now" (func (result u64)))
                (export "wait-for" (func async (param "how-long" u64)))
                (export "wait-until" (func async (param "when" u64)))))
            (core func $now (canon lower (func $clock "now")))
            (core func $for (canon lower (func $clock "wait-for")))
            (core func $until (canon lower (func $clock "wait-until")))
            (core module $m
                (import "h" "now" (func $now (result i64)))
                (import "h" "for" (func $for (param i64)))
                (import "h" "until" (func $until (param i64)))
                (func (export "run") (result i32) (local $left i32) (local $begin i64)
                    (local.set $left (i32.const {SLEEPS}))
                    (local.set $begin (call $now))
                    (loop $more
                        {wait}
                        (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                    (i64.gt_u (i64.sub (call $now) (local.get $begin)) (i64.const {}))))
            (core instance $i (instantiate $m (with "h" (instance
                (export "now" (func $now)) (export "for" (func $for)) (export "until" (func $until))))))
            (func $run async (result (result)) (canon lift (core func $i "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.3.0" (instance $exported)))"#,
        most.as_nanos()
    )
}

/// Time of the same sleeps of this process.
async fn native() -> Result<Duration> {
    #[expect(clippy::disallowed_methods, reason = "the sleep of a native program, on its thread")]
    let sleeps = || (0..SLEEPS).for_each(|_| std::thread::sleep(SLEEP));
    let timed = move || {
        let begin = Instant::now();
        sleeps();
        begin.elapsed()
    };
    Ok(tokio::task::spawn_blocking(timed).await?)
}

async fn status(fixture: &Fixture, guest: Vec<u8>) -> Result<(u32, String)> {
    let bundle = fixture.harness.bundle("c", &["/sleep"]).file("/sleep", guest);
    status_with_idle_stdin(fixture, bundle).await
}

/// Runs a guest with a stdin that has nothing and does not end. Returns its status and stderr.
pub(crate) async fn status_with_idle_stdin(
    fixture: &Fixture,
    bundle: BundleBuilder,
) -> Result<(u32, String)> {
    let bundle = bundle.write()?;
    // Of the run before. None is there at first.
    let _ = std::fs::remove_dir_all(fixture.harness.directory().join("fifo"));
    let pipes = fixture.harness.pipes("c")?;
    let stdin = pipes.write_stdin()?;
    let (stdout, stderr) = (pipes.read_stdout(), pipes.read_stderr());
    fixture.client.create("c", &bundle, &pipes.paths, &[]).await?;
    fixture.client.start("c").await?;
    let status = fixture.client.wait("c").await?;
    fixture.client.delete("c").await?;
    drop(stdin);
    std::fs::remove_dir_all(bundle)?;
    stdout.await??;
    Ok((status, String::from_utf8_lossy(&stderr.await??).into_owned()))
}

/// Fails if the guest never sleeps as exactly as this process does.
async fn sleeps_exactly(guest: impl Fn(Duration) -> Result<Vec<u8>>) -> Result {
    let fixture = Fixture::new(10).await?;
    for _ in 0..ATTEMPTS {
        let most = native().await? * MOST;
        match status(&fixture, guest(most)?).await? {
            (0, _) => return Ok(()),
            late => assert_eq!(late, (1, String::new())),
        }
    }
    Err(format!("never less than {MOST} times the time of native sleeps").into())
}

#[tokio::test]
async fn sleeps_of_a_module_end_exactly() -> Result {
    for setup in [relative(), absolute(), with_stdin()] {
        sleeps_exactly(|most| Ok(module(&setup, most).into_bytes())).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sleeps_of_a_p2_component_end_exactly() -> Result {
    for setup in [relative(), absolute(), with_stdin()] {
        sleeps_exactly(|most| components::command(&module(&setup, most))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sleeps_of_a_p3_component_end_exactly() -> Result {
    let length = SLEEP.as_nanos();
    for wait in [
        format!("(call $for (i64.const {length}))"),
        format!("(call $until (i64.add (call $now) (i64.const {length})))"),
    ] {
        sleeps_exactly(|most| Ok(p3(&wait, most).into_bytes())).await?;
    }
    Ok(())
}
