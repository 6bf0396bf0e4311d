//! Guests and readers that mean no good, and modules larger than usual. Part of `guests.rs`.

use tokio::net::unix::pipe;

use super::{Duration, Fixture, Result, SIGKILL, TaskClient, fs};

const SIGTERM: u32 = 15;

/// Fails instead of hanging.
async fn soon<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(20), future).await?)
}

/// A reader that is there and does not read.
fn idle_reader(path: &str) -> std::io::Result<pipe::Receiver> {
    pipe::OpenOptions::new().open_receiver(path)
}

/// Waits for a start as long as `soon` allows, then for the end.
async fn ends(client: &TaskClient, id: &str) -> Result<u32> {
    soon(client.start(id)).await??;
    Ok(soon(client.wait(id)).await??)
}

#[tokio::test]
async fn a_module_whose_start_function_never_ends_is_running_and_can_be_killed() -> Result {
    let fixture = Fixture::new(10).await?;
    let module = r#"(module (func $s (loop (br 0))) (start $s) (func (export "_start")))"#;
    let bundle = fixture.harness.bundle("c", &["/m"]).file("/m", module).write()?;
    fixture.client.create("c", &bundle, &Default::default(), &[]).await?;
    soon(fixture.client.start("c")).await??;
    assert_eq!(fixture.client.state("c").await?.status, "RUNNING");
    fixture.client.kill("c", SIGKILL).await?;
    assert_eq!(soon(fixture.client.wait("c")).await??, 137);
    fixture.client.delete("c").await?;
    Ok(())
}

#[tokio::test]
async fn trap_of_a_guest_with_unread_stderr_is_134() -> Result {
    let fixture = Fixture::new(10).await?;
    // As much as a pipe holds, to the byte: the story of the trap finds no room.
    let module = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "_start") (local $left i32)
            (local.set $left (i32.const 65536))
            (loop $more
                (i32.store (i32.const 0) (i32.const 65536))
                (i32.store (i32.const 4) (local.get $left))
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 8))))
                (br_if $more (local.get $left)))
            unreachable))"#;
    let bundle = fixture.harness.bundle("c", &["/m"]).file("/m", module).write()?;
    let pipes = fixture.harness.pipes("c")?;
    let _stderr = idle_reader(&pipes.paths.stderr)?;
    fixture.client.create("c", &bundle, &pipes.paths, &[]).await?;
    assert_eq!(ends(&fixture.client, "c").await?, 134);
    fixture.client.delete("c").await?;
    Ok(())
}

#[tokio::test]
async fn a_signal_while_the_exit_waits_for_its_reader_does_not_change_the_status() -> Result {
    let fixture = Fixture::new(10).await?;
    let module = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\06\00\00\00")
        (data (i32.const 16) "unread")
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $exit (i32.const 3))))"#;
    for signal in [SIGTERM, SIGKILL] {
        let id = format!("c{signal}");
        let bundle = fixture.harness.bundle(&id, &["/m"]).file("/m", module).write()?;
        let pipes = fixture.harness.pipes(&id)?;
        let stdout = idle_reader(&pipes.paths.stdout)?;
        fixture.client.create(&id, &bundle, &pipes.paths, &[]).await?;
        soon(fixture.client.start(&id)).await??;
        first_byte(&stdout).await?;
        let waited =
            tokio::time::timeout(Duration::from_millis(300), fixture.client.wait(&id)).await;
        assert!(waited.is_err(), "the exit did not wait for the reader: {waited:?}");
        fixture.client.kill(&id, signal).await?;
        assert_eq!(soon(fixture.client.wait(&id)).await??, 3, "signal {signal}");
        fixture.client.delete(&id).await?;
    }
    Ok(())
}

/// Takes one byte, so that it is known that the guest has written; the rest stays unread.
async fn first_byte(pipe: &pipe::Receiver) -> Result {
    while pipe.try_read(&mut [0]).is_err() {
        soon(pipe.readable()).await??;
    }
    Ok(())
}

#[tokio::test]
async fn modules_with_several_tables_and_memories_and_large_tables_run() -> Result {
    let fixture = Fixture::new(10).await?;
    // Each ends with 7 by way of what is unusual about it.
    for (what, body) in [
        (
            "two tables",
            r#"(table 1 funcref) (table $second 1 funcref) (elem (table $second) (i32.const 0) func $seven)
            (func (export "_start") (call_indirect $second (i32.const 0)))"#,
        ),
        (
            "two memories",
            r#"(memory (export "memory") 1) (memory $second 1)
            (data (memory $second) (i32.const 0) "\07")
            (func (export "_start") (call $exit (i32.load $second (i32.const 0))))"#,
        ),
        (
            "50,000 elements",
            r#"(table 50000 funcref) (elem (i32.const 49999) func $seven)
            (func (export "_start") (call_indirect (i32.const 49999)))"#,
        ),
    ] {
        let module = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (func $seven (call $exit (i32.const 7))) {body})"#
        );
        let ran = fixture
            .run(&["/m"], &[("/m", &module)])
            .await
            .map_err(|error| format!("{what}: {error}"))?;
        assert_eq!(ran.status, 7, "{what}: {}", ran.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_huge_file_that_is_not_wasm_is_refused_unread() -> Result {
    let fixture = Fixture::new(10).await?;
    let bundle = fixture.harness.bundle("c", &["/huge"]).write()?;
    // Sparse: costs its reader half a gigabyte, and the disk nothing.
    fs::File::create(bundle.join("rootfs/huge"))?.set_len(500 << 20)?;
    let (before, read) = (peak_memory()?, bytes_read()?);
    let error =
        fixture.client.create("c", &bundle, &Default::default(), &[]).await.expect_err("created");
    let (grown, read) = (peak_memory()? - before, bytes_read()? - read);
    assert!(error.message.contains("/huge") && error.message.contains("not wasm"), "{error}");
    // Other tests of this process read and use memory, too, but not so much.
    assert!(read < 200 << 20, "{read} bytes were read");
    assert!(grown < 200 << 10, "took {grown} kB of memory");
    Ok(())
}

/// What this process has read up to now, in bytes (`rchar` of `proc_pid_io(5)`).
fn bytes_read() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("rchar:")).ok_or("no rchar")?;
    Ok(line.trim().parse()?)
}

/// The most this process has ever had resident, in kB.
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

#[tokio::test]
async fn names_from_an_image_reach_no_error_raw_or_at_full_length() -> Result {
    let fixture = Fixture::new(10).await?;
    // The text format's longest, with an escape sequence that a terminal would obey.
    let (in_text, raw) =
        (format!(r"\1b[31m{}", "x".repeat(99_000)), format!("\u{1b}[31m{}", "x".repeat(99_000)));
    let exports: String =
        (0..30).map(|n| format!(r#"(export "{in_text}{n}" (func $f))"#)).collect();
    let exported = format!("(module (func $f) {exports})");
    let module_name =
        format!(r#"(module (import "{in_text}" "f" (func)) (func (export "_start")))"#);
    let field_name =
        format!(r#"(module (import "env" "{in_text}" (func)) (func (export "_start")))"#);
    let (function, path) = (format!("/m#{raw}"), format!("/{raw}"));
    for (what, program, module, reason) in [
        ("exports", "/m", &exported, "_start"),
        ("import's module", "/m", &module_name, "import"),
        ("import's name", "/m", &field_name, "env"),
        ("function", &function, &exported, "export"),
        ("path", &path, &exported, "[31mxxx"),
    ] {
        let error = fixture.refused(&[program], &[("/m", module)]).await?;
        assert!(error.message.len() < 8 << 10, "{what}: {} bytes", error.message.len());
        assert!(!error.message.contains('\u{1b}'), "{what}: {error:?}");
        assert!(error.message.contains(reason), "{what}: {error}");
        let file = if what == "path" { "/" } else { "/m" };
        assert!(error.message.contains(file), "{what}: {error}");
    }
    Ok(())
}

/// Memory limit of the guests that grow.
const LIMIT: u64 = 64 << 20;

#[tokio::test]
async fn a_failing_growth_of_a_table_releases_no_memory_of_the_guest() -> Result {
    let fixture = Fixture::new(10).await?;
    // Its size would not fit into 64 bits, so wasmtime reports the failure of a growth that it has
    // not asked about.
    let module = r#"(module
        (memory (export "memory") 1)
        (table $t i64 1 funcref)
        (func (export "_start") (local $i i32)
            (loop $more
                (if (i32.eq (memory.grow (i32.const 160)) (i32.const -1)) (then unreachable))
                (if (i64.ne (table.grow $t (ref.null func) (i64.const -1)) (i64.const -1))
                    (then unreachable))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $i) (i32.const 30))))))"#;
    let bundle = fixture.harness.bundle("c", &["/m"]).file("/m", module).memory_limit(LIMIT);
    let ran = fixture.run_bundle(bundle).await?;
    assert_eq!(ran.status, 137, "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn a_growth_that_no_memory_can_have_fails_in_the_guest_with_a_limit_and_without() -> Result {
    let fixture = Fixture::new(10).await?;
    for (what, grows) in [
        (
            "memory beyond its maximum",
            r#"(memory (export "memory") 1 2)
            (func $grow (result i32) (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)))"#,
        ),
        (
            "table beyond its maximum",
            r#"(memory (export "memory") 1) (table $t 1 10 funcref)
            (func $grow (result i32)
                (i32.eq (table.grow $t (ref.null func) (i32.const 20000000)) (i32.const -1)))"#,
        ),
        (
            "memory beyond all addresses",
            r#"(memory (export "memory") i64 1)
            (func $grow (result i32)
                (i64.eq (memory.grow (i64.const 0xffffffffffff)) (i64.const -1)))"#,
        ),
        (
            "memory beyond the engine's size",
            r#"(memory (export "memory") i64 1)
            (func $grow (result i32)
                (i64.eq (memory.grow (i64.const 80000)) (i64.const -1)))"#,
        ),
    ] {
        let module = format!(
            r#"(module {grows}
                (func (export "_start") (if (i32.eqz (call $grow)) (then unreachable))))"#
        );
        let bundle = || fixture.harness.bundle("c", &["/m"]).file("/m", &module);
        for bundle in [bundle(), bundle().memory_limit(LIMIT)] {
            let ran = fixture.run_bundle(bundle).await?;
            assert_eq!(ran.status, 0, "{what}: {}", ran.stderr);
        }
    }
    Ok(())
}

/// A start function that yields, since it computes for some hundred milliseconds, and grows beyond
/// [`LIMIT`] then.
const GROWS_LATE: &str = r#"(memory (export "memory") 1)
    (func $s (local $i i32)
        (loop $l
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 600000000))))
        (drop (memory.grow (i32.const 2000))))
    (start $s)"#;

#[tokio::test]
async fn a_growth_beyond_the_limit_in_a_long_instantiation_is_137_and_an_oom_event() -> Result {
    let module = format!(r#"(module {GROWS_LATE} (func (export "_start")))"#);
    let component = format!(
        r#"(component
            (core module $m {GROWS_LATE} (func (export "go")))
            (core instance $i (instantiate $m))
            (func $go (canon lift (core func $i "go")))
            (export "go" (func $go)))"#
    );
    for (program, text) in [("/m", module), ("/c#go", component)] {
        let fixture = Fixture::new(10).await?;
        let file = program.trim_end_matches("#go");
        let bundle = fixture.harness.bundle("c", &[program]).file(file, text).memory_limit(LIMIT);
        let ran = fixture.run_bundle(bundle).await?;
        assert_eq!(ran.status, 137, "{program}: {}", ran.stderr);
        assert!(ran.stderr.contains("out of memory"), "{program}: {}", ran.stderr);
        let events = fixture.harness.events().summary();
        let life = ["created c", "started c", "oom c", "exited c 137", "deleted c 137"];
        assert_eq!(events, life, "{program}");
    }
    Ok(())
}
