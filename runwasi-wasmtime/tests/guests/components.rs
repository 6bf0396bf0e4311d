//! Components on the real engine: commands of both previews and named functions. Part of
//! `guests.rs`.

use std::{fs, io::Read, os::unix::fs::OpenOptionsExt, time::Duration};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::ioctl_fionread,
};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

use super::{Fixture, Result, SIGKILL, SPIN, TRAP, printing};

/// The component that a toolchain makes of a command with preview 1.
pub(crate) fn command(module: &str) -> Result<Vec<u8>> {
    let adapted = ComponentEncoder::default()
        .module(&wat::parse_str(module)?)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .encode()?;
    Ok(adapted)
}

/// A p3 command that returns at once: `status` is 0 for success and 1 for an error.
fn p3_command(status: u32) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) (i32.const {status})))
            (core instance $i (instantiate $m))
            (func $run async (result (result)) (canon lift (core func $i "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.3.0" (instance $exported)))"#
    )
}

/// Functions of its own and of an interface.
const LIBRARY: &str = r#"(component
    (core module $m
        (func (export "ok") (result i32) (i32.const 0))
        (func (export "fail") (result i32) (i32.const 1))
        (func (export "trap") unreachable)
        (func (export "takes") (param i32)))
    (core instance $i (instantiate $m))
    (func $ok (result (result)) (canon lift (core func $i "ok")))
    (func $fail (result (result)) (canon lift (core func $i "fail")))
    (func $trap (canon lift (core func $i "trap")))
    (func $takes (param "n" u32) (canon lift (core func $i "takes")))
    (instance $api (export "fail" (func $fail)) (export "ok" (func $ok)))
    (instance $other (export "ok" (func $ok)))
    (export "trap" (func $trap))
    (export "takes" (func $takes))
    (export "test:lib/api" (instance $api))
    (export "test:lib/other" (instance $other)))"#;

/// Polls a list of COUNT times the same pollable, which is ready, and traps unless all are.
const POLLS: &str = r#"(component
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $p (sub resource)))
        (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $p))
        (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
    (core module $libcm
        (memory (export "memory") 4)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 131072)))
    (core instance $libc (instantiate $libcm))
    (core func $poll (canon lower (func $poll "poll")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core func $wait (canon lower (func $clock "subscribe-duration")))
    (core module $m
        (import "libc" "memory" (memory 4))
        (import "h" "poll" (func $poll (param i32 i32 i32)))
        (import "h" "wait" (func $wait (param i64) (result i32)))
        (func (export "go") (local $pollable i32) (local $i i32)
            (local.set $pollable (call $wait (i64.const 0)))
            (loop $l
                (i32.store offset=16 (i32.mul (local.get $i) (i32.const 4)) (local.get $pollable))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $i) (i32.const COUNT))))
            (call $poll (i32.const 16) (i32.const COUNT) (i32.const 0))
            (if (i32.ne (i32.load (i32.const 4)) (i32.const COUNT)) (then unreachable))))
    (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "h" (instance
        (export "poll" (func $poll)) (export "wait" (func $wait))))))
    (func $go (canon lift (core func $i "go")))
    (export "go" (func $go)))"#;

#[tokio::test]
async fn a_poll_has_so_many_pollables_and_one_more_is_a_trap_that_says_so() -> Result {
    let fixture = Fixture::new(10).await?;
    let run = async |count: &str| {
        fixture.run(&["/c#go"], &[("/c", POLLS.replace("COUNT", count).as_str())]).await
    };
    let ran = run("10000").await?;
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let ran = run("10001").await?;
    assert_eq!(ran.status, 134, "{}", ran.stderr);
    assert!(ran.stderr.contains("10001 pollables, and 10000 are allowed"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn stream_of_a_file_is_read_at_once() -> Result {
    let fixture = Fixture::new(10).await?;
    let bundle = fixture.harness.bundle("c", &["/c.wat#go"]);
    let bundle = bundle.file("/c.wat", include_str!("stream.wat")).file("/f", "hello");
    let ran = fixture.run_bundle(bundle).await?;
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    Ok(())
}

/// The reader comes when the first half has filled the pipe.
#[tokio::test]
async fn output_that_a_stream_has_accepted_is_written_before_the_end() -> Result {
    const PIPE: u64 = 64 << 10;
    let fixture = Fixture::new(10).await?;
    for last in ["", "(call $drop (local.get $out))"] {
        let guest = include_str!("output.wat").replace("LAST", last);
        let bundle = fixture.harness.bundle("c", &["/c#go"]).file("/c", guest).write()?;
        // Of the run before. None is there at first.
        let _ = fs::remove_dir_all(fixture.harness.directory().join("fifo"));
        let pipes = fixture.harness.pipes("c")?;
        let mut options = fs::File::options();
        let reader = options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let mut stdout = reader.open(&pipes.paths.stdout)?;
        let stderr = pipes.read_stderr();
        fixture.client.create("c", &bundle, &pipes.paths, &[]).await?;
        fixture.client.start("c").await?;
        let full = async {
            while ioctl_fionread(&stdout)? < PIPE {
                sleep(Duration::from_millis(1)).await;
            }
            std::io::Result::Ok(())
        };
        timeout(Duration::from_secs(60), full).await??;
        fcntl_setfl(&stdout, OFlags::empty())?;
        let read = spawn_blocking(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes.len() as u64)
        });
        let status = fixture.client.wait("c").await?;
        fixture.client.delete("c").await?;
        fs::remove_dir_all(bundle)?;
        let stderr = stderr.await??;
        assert_eq!((status, String::from_utf8_lossy(&stderr).as_ref()), (0, ""), "{last}");
        assert_eq!(read.await??, 2 * PIPE, "{last}");
    }
    Ok(())
}

#[tokio::test]
async fn a_p2_command_prints_and_ends() -> Result {
    let fixture = Fixture::new(10).await?;
    let bundle =
        fixture.harness.bundle("c", &["/c.wasm"]).file("/c.wasm", command(&printing("component"))?);
    let ran = fixture.run_bundle(bundle).await?;
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (0, "component", ""));
    Ok(())
}

#[tokio::test]
async fn a_p2_commands_exit_code_trap_and_kill_are_its_status() -> Result {
    let fixture = Fixture::new(10).await?;
    let exits = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 42))))"#;
    let run = async |module: &str| -> Result<_> {
        fixture.run_bundle(fixture.harness.bundle("c", &["/c"]).file("/c", command(module)?)).await
    };
    // The adapter of this version passes on whether it was an error, no more.
    assert_eq!(run(exits).await?.status, 1);
    let trapped =
        run(&TRAP.replacen("(module", "(module (memory (export \"memory\") 1)", 1)).await?;
    assert_eq!(trapped.status, 134);
    assert!(trapped.stderr.contains("unreachable"), "{}", trapped.stderr);
    let spinner = command(&SPIN.replacen("(module", "(module (memory (export \"memory\") 1)", 1))?;
    let bundle = fixture.harness.bundle("s", &["/s"]).file("/s", spinner).write()?;
    fixture.client.create("s", &bundle, &Default::default(), &[]).await?;
    fixture.client.start("s").await?;
    fixture.client.kill("s", SIGKILL).await?;
    assert_eq!(fixture.client.wait("s").await?, 137);
    Ok(())
}

#[tokio::test]
async fn a_p3_command_runs_and_its_result_is_its_status() -> Result {
    let fixture = Fixture::new(10).await?;
    for status in [0, 1] {
        assert_eq!(fixture.run(&["/p3"], &[("/p3", &p3_command(status))]).await?.status, status);
    }
    Ok(())
}

#[tokio::test]
async fn a_function_of_a_component_is_called_by_its_name() -> Result {
    let fixture = Fixture::new(10).await?;
    for (program, status) in [("/lib#fail", 1), ("/lib#trap", 134)] {
        assert_eq!(
            fixture.run(&[program], &[("/lib", LIBRARY)]).await?.status,
            status,
            "{program}"
        );
    }
    for (program, reason) in [
        ("/lib#takes", "takes parameters"),
        ("/lib#ok", "more than one"),
        ("/lib#none", "test:lib/api#fail"),
        ("/lib", "exports neither wasi:cli/run nor a wasi:http handler"),
    ] {
        let error = fixture.refused(&[program], &[("/lib", LIBRARY)]).await?;
        assert!(error.message.contains(reason), "{program}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn component_with_an_unknown_import_is_refused_with_its_name() -> Result {
    let fixture = Fixture::new(10).await?;
    let component = r#"(component (import "my:own/thing@1.0.0" (instance (export "f" (func))))
        (core module $m (func (export "go"))) (core instance $i (instantiate $m))
        (func (export "go") (canon lift (core func $i "go"))))"#;
    let error = fixture.refused(&["/c#go"], &[("/c", component)]).await?;
    assert!(error.message.contains("/c") && error.message.contains("my:own/thing"), "{error}");
    Ok(())
}

#[tokio::test]
async fn compiled_components_are_kept() -> Result {
    let cache = std::sync::Arc::new(tempfile::tempdir()?);
    for _ in 0..2 {
        let fixture = Fixture::with_cache(10, cache.clone()).await?;
        assert_eq!(fixture.run(&["/p3"], &[("/p3", &p3_command(0))]).await?.status, 0);
        assert_eq!(fixture.cached()?.len(), 1);
    }
    Ok(())
}
