//! Guests in the text format on the real engine, through the real Task service: what each prints,
//! how it ends, and what is said about those that cannot run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runwasi_core::{
    Engine,
    containerd::task_client::{CallError, TaskClient},
    testing::{BundleBuilder, Harness},
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

#[path = "guests/calls.rs"]
mod calls;
#[path = "guests/components.rs"]
mod components;
#[path = "guests/descriptors.rs"]
mod descriptors;
#[path = "guests/host_functions.rs"]
mod host_functions;
#[path = "guests/hostile.rs"]
mod hostile;
#[path = "guests/layers.rs"]
mod layers;
#[path = "guests/sleep.rs"]
mod sleep;
#[path = "guests/sockets.rs"]
mod sockets;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const SIGKILL: u32 = 9;

/// A guest that prints `text`.
fn printing(text: &str) -> String {
    let length = text.len();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{text}")
            (func $print (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (call $print))
            (func (export "again") (call $print) (call $print)))"#
    )
}

const SPIN: &str = r#"(module (func (export "_start") (loop (br 0))))"#;
const TRAP: &str = r#"(module (func $inner unreachable) (func (export "_start") (call $inner)))"#;

struct Fixture {
    harness: Harness,
    client: TaskClient,
    /// May be shared with another fixture: engines of one node share what is compiled.
    cache: Arc<tempfile::TempDir>,
}

/// What a run gave.
#[derive(Debug, PartialEq)]
struct Ran {
    status: u32,
    stdout: String,
    stderr: String,
}

impl Fixture {
    async fn new(slots: u32) -> Result<Self> {
        Self::with_cache(slots, Arc::new(tempfile::tempdir()?)).await
    }

    async fn with_cache(slots: u32, cache: Arc<tempfile::TempDir>) -> Result<Self> {
        let directory = cache.path().join("code");
        let settings = Settings { slots, cache: Some(directory), ..Settings::default() };
        let harness = Harness::start(WasmtimeEngine::new(&settings)?)?;
        let client = harness.client().await?;
        Ok(Self { harness, client, cache })
    }

    /// Runs `args` in a bundle with these files to its end.
    async fn run(&self, args: &[&str], files: &[(&str, &str)]) -> Result<Ran> {
        let bundle = files
            .iter()
            .fold(self.harness.bundle("c", args), |bundle, (path, text)| bundle.file(path, text));
        self.run_bundle(bundle).await
    }

    async fn run_bundle(&self, bundle: BundleBuilder) -> Result<Ran> {
        let bundle = bundle.write()?;
        let fifos = self.harness.directory().join("fifo");
        let _ = fs::remove_dir_all(&fifos);
        let pipes = self.harness.pipes("c")?;
        let (stdout, stderr) = (pipes.read_stdout(), pipes.read_stderr());
        let created = self.client.create("c", &bundle, &pipes.paths, &[]).await;
        if created.is_err() {
            // Lets the readers end, too.
            for path in [&pipes.paths.stdout, &pipes.paths.stderr] {
                drop(fs::File::options().read(true).write(true).open(path)?);
            }
        }
        created?;
        self.client.start("c").await?;
        let status = self.client.wait("c").await?;
        self.client.delete("c").await?;
        let _ = fs::remove_dir_all(bundle);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { status, stdout: text(stdout.await??), stderr: text(stderr.await??) })
    }

    async fn refused(&self, args: &[&str], files: &[(&str, &str)]) -> Result<CallError> {
        let bundle = files
            .iter()
            .fold(self.harness.bundle("c", args), |bundle, (path, text)| bundle.file(path, text));
        let refused = self.client.create("c", &bundle.write()?, &Default::default(), &[]).await;
        refused.err().ok_or_else(|| "it was created".into())
    }

    async fn start_spinning(&self, id: &str) -> Result {
        let bundle = self.harness.bundle(id, &["/spin.wat"]).file("/spin.wat", SPIN).write()?;
        self.client.create(id, &bundle, &Default::default(), &[]).await?;
        self.client.start(id).await?;
        Ok(())
    }

    /// The files with code.
    fn cached(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.cache.path().join("code"))?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.is_file()).collect())
    }
}

#[tokio::test]
async fn a_text_module_runs_and_prints() -> Result {
    let fixture = Fixture::new(10).await?;
    let ran = fixture.run(&["/hello.wat"], &[("/hello.wat", &printing("hello"))]).await?;
    assert_eq!(ran, Ran { status: 0, stdout: "hello".into(), stderr: String::new() });
    Ok(())
}

#[tokio::test]
async fn a_named_export_runs_instead_of_start() -> Result {
    let fixture = Fixture::new(10).await?;
    let ran = fixture.run(&["/hello.wat#again"], &[("/hello.wat", &printing("hi"))]).await?;
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "hihi"));
    Ok(())
}

#[tokio::test]
async fn a_program_is_found_absolute_relative_and_through_path() -> Result {
    let fixture = Fixture::new(10).await?;
    let hello = printing("found");
    for (args, cwd, path) in [
        ("/bin/prog", "/", ""),
        ("./prog", "/bin", ""),
        ("bin/prog", "/", ""),
        ("prog", "/", "PATH=/sbin:/bin"),
        ("prog", "/bin", "PATH=/sbin"),
    ] {
        let bundle = fixture.harness.bundle("c", &[args]).file("/bin/prog", &hello).cwd(cwd);
        let bundle = if path.is_empty() { bundle } else { bundle.env(path) };
        assert_eq!(
            fixture.run_bundle(bundle).await?.stdout,
            "found",
            "{args} in {cwd} with {path}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn proc_exit_is_the_exit_status() -> Result {
    let fixture = Fixture::new(10).await?;
    let exit = |code: i32| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
        )
    };
    for code in [0, 1, 42, 255] {
        assert_eq!(
            fixture.run(&["/e"], &[("/e", &exit(code))]).await?.status,
            u32::try_from(code)?
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_trap_is_134_with_its_backtrace_on_stderr() -> Result {
    let fixture = Fixture::new(10).await?;
    let ran = fixture.run(&["/trap.wat"], &[("/trap.wat", TRAP)]).await?;
    assert_eq!(ran.status, 134);
    assert!(ran.stderr.contains("unreachable") && ran.stderr.contains("inner"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn a_trap_in_the_modules_start_function_is_the_guests_end() -> Result {
    let fixture = Fixture::new(10).await?;
    let module = r#"(module (func $s unreachable) (start $s) (func (export "_start")))"#;
    assert_eq!(fixture.run(&["/m"], &[("/m", module)]).await?.status, 134);
    Ok(())
}

#[tokio::test]
async fn an_exception_or_a_failed_host_call_in_the_start_function_is_the_guests_end() -> Result {
    let fixture = Fixture::new(10).await?;
    // The host function needs a memory that the module does not export.
    for (parts, reason) in [
        ("(tag $e) (func $s (throw $e))", "thrown Wasm exception"),
        (
            r#"(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (func $s (drop (call $yield)))"#,
            "memory export",
        ),
    ] {
        let module = format!(r#"(module {parts} (start $s) (func (export "_start")))"#);
        let ran = fixture.run(&["/m"], &[("/m", &module)]).await?;
        assert_eq!(ran.status, 134, "{parts}: {}", ran.stderr);
        assert!(ran.stderr.contains(reason), "{parts}: {}", ran.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn program_that_cannot_run_is_refused_with_file_and_reason() -> Result {
    let fixture = Fixture::new(10).await?;
    let unknown = r#"(module (import "env" "mystery" (func)) (func (export "_start")))"#;
    let no_start = r#"(module (func (export "run")))"#;
    let mistyped = r#"(module (func (export "_start") (result i32)))"#;
    for (program, bytes, reasons) in [
        ("/missing.wasm", "", &["/missing.wasm", "no such file or directory"][..]),
        ("/elf", "\x7fELF and more", &["/elf", "native program"]),
        ("/script", "#!/bin/sh", &["/script", "script"]),
        ("/empty", "", &["/empty", "empty"]),
        ("/torn", "\0asm\x01\0\0\0\x01\x7f", &["/torn"]),
        ("/mistyped", mistyped, &["/mistyped", "type mismatch"]),
        ("/unknown", unknown, &["/unknown", "env", "mystery"]),
        ("/lib", no_start, &["/lib", "_start", "run"]),
        ("/lib#other", no_start, &["/lib", "\"other\"", "run"]),
        ("/syntax", "(module (func (export", &["/syntax"]),
        ("/component", "(component)", &["/component", "wasi:cli/run", "none"]),
        ("/etc", "", &["/etc", "not a regular file"]),
    ] {
        let file = program.split('#').next().unwrap_or(program);
        let place = if file == "/etc" { "/etc/x" } else { file };
        let files = if file.starts_with("/missing") { vec![] } else { vec![(place, bytes)] };
        let error = fixture.refused(&[program], &files).await?;
        for reason in reasons {
            assert!(error.message.contains(reason), "{program}: {error}");
        }
    }
    assert_eq!(
        fixture.run(&["/h"], &[("/h", &printing("still here"))]).await?.stdout,
        "still here"
    );
    Ok(())
}

#[tokio::test]
async fn sigkill_ends_guests_in_endless_loops_at_once_and_state_answers_meanwhile() -> Result {
    let fixture = Fixture::new(100).await?;
    for i in 0..32 {
        fixture.start_spinning(&format!("s{i}")).await?;
    }
    for i in 0..32 {
        let id = format!("s{i}");
        let (client, status) = (&fixture.client, fixture.client.state(&id).await?.status);
        assert_eq!(status, "RUNNING");
        client.kill(&id, SIGKILL).await?;
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), client.wait(&id)).await??, 137);
        client.delete(&id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_guest_computes_nothing() -> Result {
    let fixture = Fixture::new(10).await?;
    fixture.start_spinning("c").await?;
    let used = || -> Result<Duration> { Ok(fixture.harness.sandbox().usage(&id("c"))?.cpu.time) };
    fixture.client.pause("c").await?;
    let before = fixture.harness.settled_cpu(&id("c")).await?;
    fixture.client.resume("c").await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while used()? <= before {
        assert!(tokio::time::Instant::now() < deadline, "it does not go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.client.kill("c", SIGKILL).await?;
    fixture.client.wait("c").await?;
    Ok(())
}

fn id(text: &str) -> runwasi_core::Id {
    runwasi_core::Id::parse("container id", text).expect("a good id")
}

#[tokio::test]
async fn too_many_guests_are_a_start_error_and_slots_come_back() -> Result {
    let fixture = Fixture::new(2).await?;
    for id in ["a", "b"] {
        fixture.start_spinning(id).await?;
    }
    let error =
        fixture.start_spinning("c").await.expect_err("a third guest on two slots").to_string();
    assert!(error.contains("instance slots"), "{error}");
    fixture.client.delete("c").await?;
    fixture.client.kill("a", SIGKILL).await?;
    fixture.client.wait("a").await?;
    assert_eq!(fixture.run(&["/h"], &[("/h", &printing("room"))]).await?.stdout, "room");
    Ok(())
}

/// A new file in its place: the old one may still be mapped.
fn rewrite(path: &Path, bytes: &[u8]) -> Result {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    Ok(fs::rename(temporary, path)?)
}

#[tokio::test]
async fn compiled_code_is_kept_and_damage_to_it_is_noticed() -> Result {
    let cache = Arc::new(tempfile::tempdir()?);
    let hello = printing("cached");
    for round in 0..4 {
        // An engine of its own: one that has loaded a module does not look at the file again.
        let fixture = Fixture::with_cache(10, cache.clone()).await?;
        assert_eq!(
            fixture.run(&["/h"], &[("/h", &hello)]).await?.stdout,
            "cached",
            "round {round}"
        );
        let cached = fixture.cached()?;
        assert_eq!(cached.len(), 1, "{cached:?}");
        let mut bytes = fs::read(&cached[0])?;
        match round {
            1 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                rewrite(&cached[0], &bytes)?;
            }
            2 => rewrite(&cached[0], b"not code at all")?,
            _ => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn arguments_environment_and_working_directory_reach_the_guest() -> Result {
    let fixture = Fixture::new(10).await?;
    // Prints its arguments and environment as preview 1 lays them out: NUL-terminated, one after
    // the other.
    let module = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $as (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $ag (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $es (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $eg (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $print (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.load (i32.const 12)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start")
            (drop (call $as (i32.const 8) (i32.const 12)))
            (drop (call $ag (i32.const 1024) (i32.const 4096)))
            (call $print)
            (drop (call $es (i32.const 8) (i32.const 12)))
            (drop (call $eg (i32.const 1024) (i32.const 4096)))
            (call $print)))"#;
    let bundle = fixture
        .harness
        .bundle("c", &["/m", "one", "two words"])
        .file("/m", module)
        .file("/work/x", "");
    let ran = fixture.run_bundle(bundle.env("A=1").env("B=x=y").cwd("/work")).await?;
    assert_eq!(ran.stdout, "/m\0one\0two words\0A=1\0B=x=y\0HOME=/\0PWD=/work\0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tidied_engine_runs_guests_as_before_and_those_that_run_go_on() -> Result {
    let cache = Arc::new(tempfile::tempdir()?);
    let settings =
        Settings { slots: 10, cache: Some(cache.path().join("code")), ..Settings::default() };
    let engine = Arc::new(WasmtimeEngine::new(&settings)?);
    let harness = Harness::start(Shared(engine.clone()))?;
    let fixture = Fixture { client: harness.client().await?, harness, cache };
    let tidy = async || {
        let engine = engine.clone();
        tokio::task::spawn_blocking(move || engine.release_unused()).await
    };
    for round in 0..300 {
        let text = format!("round {}", round % 3);
        assert_eq!(fixture.run(&["/h"], &[("/h", &printing(&text))]).await?.stdout, text);
        if round % 50 == 0 {
            tidy().await?;
        }
    }
    // Worn, and nobody runs: it is made anew.
    tidy().await?;
    let spinner = r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;
    fixture
        .client
        .create(
            "s",
            &fixture.harness.bundle("s", &["/s"]).file("/s", spinner).write()?,
            &Default::default(),
            &[],
        )
        .await?;
    fixture.client.start("s").await?;
    tidy().await?;
    assert_eq!(fixture.client.state("s").await?.status, "RUNNING");
    assert_eq!(fixture.run(&["/h"], &[("/h", &printing("after"))]).await?.stdout, "after");
    fixture.client.kill("s", SIGKILL).await?;
    fixture.client.wait("s").await?;
    Ok(())
}

/// An engine that the test holds, too.
struct Shared(Arc<WasmtimeEngine>);

#[async_trait::async_trait]
impl Engine for Shared {
    async fn prepare(
        &self,
        spec: runwasi_core::InstanceSpec,
    ) -> std::result::Result<Arc<dyn runwasi_core::Instance>, runwasi_core::EngineError> {
        self.0.prepare(spec).await
    }
}
