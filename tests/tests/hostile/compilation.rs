//! Modules that take much of the compiler, which runs in an OS process of its own; the cases are listed in `main.rs`. All
//! inputs are harmless: ordinary modules of some size, and low limits.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::code::{CodeFixture as Fixture, run_code_case as run};
use runwasi_tests::hostile::programs::functions;
use runwasi_tests::{Command, Runtime, poll_until, proc, says};

/// For what compiles something large, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(150);

/// Functions of a module that takes the compiler some seconds.
const LARGE: usize = 1500;

/// Enough for a small module, and not for a large one: the program itself is in it.
const LITTLE_MEMORY: &str = "[engine]\ncompile-memory = 128\n";

/// Far more than a small module takes, and less than a large one takes with all threads.
const LITTLE_TIME: &str = "[engine]\ncompile-time = 1\n";

#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "", None), case);
}

#[track_caller]
pub(crate) fn check_little_memory(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", LITTLE_MEMORY, None), case);
}

#[track_caller]
pub(crate) fn check_little_time(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", LITTLE_TIME, None), case);
}

/// Sleeps for ten minutes.
const SLEEP: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 600000000000))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

/// `ctr run --rm … ID /NAME`.
fn start(b: &Fixture, name: &str) -> Command {
    b.start(&["--rm"], &b.next_id(), name).deadline(PATIENCE)
}

fn runs(b: &Fixture, name: &str) -> Result<()> {
    let out = start(b, name).run()?.ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    Ok(())
}

/// The error of a start, with nothing left of it.
fn refusal(b: &Fixture, name: &str) -> Result<String> {
    let id = b.next_id();
    let said = b.start(&["--rm"], &id, name).deadline(PATIENCE).run()?.refused()?;
    ensure!(said.matches(&id).count() == 1, "{id} is not named once in: {said}");
    b.fixture.becomes_clean()?;
    Ok(said)
}

/// How many lines with this were logged.
fn logged(b: &mut Fixture, words: &str) -> usize {
    b.log().lines().filter(|line| line.contains(words)).count()
}

/// How many lines tell of a compilation of this that has ended.
fn compiled(b: &mut Fixture, path: &str) -> usize {
    let line = |line: &&str| line.contains("msg=\"artifact compiled\"") && line.contains(path);
    b.log().lines().filter(line).count()
}

/// The process that compiles, once it is confined.
fn compiler(b: &mut Fixture) -> Result<u32> {
    poll_until("a process that compiles", PATIENCE, || {
        let all = b.compilers();
        all.into_iter().find(|pid| status(*pid, "Seccomp").is_ok_and(|mode| mode == "2"))
    })
}

/// Finished code in the cache.
fn kept(b: &Fixture) -> usize {
    let files = b.kept();
    files
        .iter()
        .filter(|file| Path::new(file).extension().is_some_and(|kind| kind == "cwasm"))
        .count()
}

/// Prints `ok`, and has these imports and definitions besides.
fn printing(imports: &str, definitions: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        {imports}
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\03\00\00\00ok\n")
        {definitions}
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#
    )
}

fn large(number: usize) -> String {
    printing("", &functions(number))
}

/// In the binary format, for more than text may have.
fn larger(number: usize) -> Result<Vec<u8>> {
    Ok(wat::parse_str(large(number))?)
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, key: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {key}"))?.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub(crate) fn compiler_has_no_privileges_no_network_and_no_files(b: &mut Fixture) -> Result<()> {
    b.module("large.wasm", large(LARGE))?;
    let start = start(b, "large.wasm").spawn()?;
    let pid = compiler(b)?;
    ensure!(status(pid, "Uid")? == "65534 65534 65534 65534", "{}", status(pid, "Uid")?);
    ensure!(status(pid, "Gid")? == "65534 65534 65534 65534", "{}", status(pid, "Gid")?);
    for key in ["CapPrm", "CapEff", "CapAmb"] {
        ensure!(status(pid, key)? == "0".repeat(16), "{key} {}", status(pid, key)?);
    }
    let further = threads_are_confined(pid)? - 1;
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    ensure!(network(&pid.to_string())? != network("self")?, "it has the host's network");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let memory = limits.lines().find(|line| line.starts_with("Max address space"));
    let memory = memory.context("no limit")?.to_owned();
    // A further thread reserves its stack and a heap.
    let most = (1u64 << 30) + further * (72 << 20);
    ensure!(memory.contains(&most.to_string()), "{memory}, {further} further threads");
    let time = limits.lines().find(|line| line.starts_with("Max cpu time")).context("no limit")?;
    ensure!(time.contains(&format!(" {} ", 60 * (further + 1))), "{time}");
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let place = fs::read_link(fd.path())?;
        ensure!(is_pipe(&place), "it has {} open", place.display());
    }
    let out = start.wait()?.ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    let is_gone = || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(());
    poll_until("the end of the compiler", PATIENCE, is_gone)?;
    b.fixture.becomes_clean()
}

/// One for each core, 8 at most with the memory of the defaults. Returns their number.
fn threads_are_confined(pid: u32) -> Result<u64> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut number = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(task.path().join("status"))?;
        for line in ["Uid:\t65534\t", "Groups:\t \n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
            ensure!(text.contains(line), "a thread without {line:?}: {text}");
        }
        let stat = fs::read_to_string(task.path().join("stat"))?;
        let fields = stat.rsplit_once(") ").context("no name")?.1;
        let nice: i32 = fields.split(' ').nth(16).context("no niceness")?.parse()?;
        ensure!(nice >= 10, "a thread has niceness {nice}");
        number += 1;
    }
    ensure!(number == cores.min(8) as u64, "{number} threads for {cores} cores");
    Ok(number)
}

fn is_pipe(place: &Path) -> bool {
    place.to_string_lossy().starts_with("pipe:")
}

pub(crate) fn compiler_beyond_its_memory_is_a_start_error(b: &mut Fixture) -> Result<()> {
    b.module("small.wat", printing("", ""))?;
    b.module("large.wasm", large(LARGE))?;
    runs(b, "small.wat")?;
    let said = refusal(b, "large.wasm")?;
    says(&said, &["/large.wasm", "engine.compile-memory"], &["128 mib"])?;
    ensure!(said.matches("engine.compile-memory").count() == 1, "{said}");
    // It is the limit that refuses, and it ended the compiler only.
    b.module("next.wat", printing("", "(func)"))?;
    runs(b, "next.wat")?;
    ensure!(kept(b) == 2, "{} files are kept", kept(b));
    b.fixture.becomes_clean()
}

pub(crate) fn compiler_beyond_its_time_is_a_start_error(b: &mut Fixture) -> Result<()> {
    b.module("small.wat", printing("", ""))?;
    b.module("large.wasm", larger(6 * LARGE)?)?;
    runs(b, "small.wat")?;
    let said = refusal(b, "large.wasm")?;
    // Beside others that compute the limit by the clock may come first.
    says(&said, &["/large.wasm", "engine.compile-time"], &["1 s", "10 s"])?;
    ensure!(said.matches("engine.compile-time").count() == 1, "{said}");
    ensure!(b.compilers().is_empty(), "its compiler goes on");
    b.fixture.becomes_clean()
}

pub(crate) fn small_module_does_not_wait_behind_large_ones(b: &mut Fixture) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let names: Vec<_> = (0..=cores).map(|n| format!("large{n}.wasm")).collect();
    for (n, name) in names.iter().enumerate() {
        b.module(name, larger(4 * LARGE + n)?)?;
    }
    b.module("small.wat", printing("", ""))?;
    let starts = names.iter().map(|name| start(b, name).spawn()).collect::<Result<Vec<_>>>()?;
    poll_until("compilers of all large modules", PATIENCE, || {
        (b.compilers().len() >= cores).then_some(())
    })?;
    runs(b, "small.wat")?;
    ensure!(compiled(b, "path=/small.wat ") == 1, "it was not compiled");
    let done = compiled(b, "path=/large");
    ensure!(done == 0, "{done} large modules were compiled before: it shows nothing");
    for start in starts {
        start.kill()?;
    }
    poll_until("an end of all compilers", PATIENCE, || b.compilers().is_empty().then_some(()))?;
    b.fixture.becomes_clean()
}

pub(crate) fn compilation_that_is_not_wanted_any_more_is_stopped(b: &mut Fixture) -> Result<()> {
    b.module("large.wasm", larger(4 * LARGE)?)?;
    let start = start(b, "large.wasm").spawn()?;
    let pid = compiler(b)?;
    start.kill()?;
    poll_until("an end of the compiler", Duration::from_secs(20), || {
        (!proc::alive(pid)).then_some(())
    })?;
    ensure!(kept(b) == 0, "it was stopped after the end of its work: it shows nothing");
    ensure!(compiled(b, "path=/large.wasm ") == 0, "it was compiled");
    b.module("small.wat", printing("", ""))?;
    runs(b, "small.wat")
}

pub(crate) fn module_with_an_unknown_import_is_refused_before_it_is_compiled(
    b: &mut Fixture,
) -> Result<()> {
    let body = functions(LARGE);
    let module = printing(r#"(import "nowhere" "nothing" (func))"#, &body);
    let mistyped = printing(
        r#"(import "wasi_snapshot_preview1" "fd_close" (func (param f64) (result i32)))"#,
        &body,
    );
    let component = format!(
        r#"(component
            (import "nowhere:to/be-found" (instance (export "nothing" (func))))
            (core module $m (memory 1) (func (export "run") (result i32) (i32.const 0)) {body})
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $cli)))"#
    );
    for (name, content, words) in [
        ("module.wat", module, ["nowhere::nothing", "unknown import"]),
        ("mistyped.wat", mistyped, ["fd_close", "incompatible import type"]),
        ("component.wat", component, ["nowhere:to/be-found", "not found in the linker"]),
    ] {
        b.module(name, &content)?;
        let said = refusal(b, name)?;
        says(&said, &[&format!("/{name}"), words[0]], &[words[1]])?;
    }
    let compiled = logged(b, "msg=compiling path=");
    ensure!(compiled == 0, "{compiled} were compiled first");
    b.module("known.wat", printing("", ""))?;
    runs(b, "known.wat")?;
    ensure!(logged(b, "msg=compiling path=/known.wat ") == 1, "the log does not tell compilations");
    b.fixture.becomes_clean()
}

pub(crate) fn artifact_without_its_entry_is_refused_before_it_is_compiled(
    b: &mut Fixture,
) -> Result<()> {
    let body = functions(LARGE);
    let library = format!(r#"(module (memory (export "memory") 1) (func (export "add")) {body})"#);
    let component = format!(
        r#"(component
            (core module $m (memory 1) (func (export "go")) {body})
            (core instance $i (instantiate $m))
            (func $go (canon lift (core func $i "go")))
            (export "go" (func $go)))"#
    );
    b.module("library.wat", &library)?;
    b.module("component.wat", &component)?;
    b.module("program.wat", printing("", &body))?;
    for (program, words) in [
        ("library.wat", ["_start", "add"]),
        ("component.wat", ["wasi:cli/run", "go"]),
        ("component.wat#stop", ["stop", "go"]),
        ("program.wat#stop", ["stop", "_start"]),
    ] {
        let said = refusal(b, program)?;
        let file = program.split('#').next().unwrap_or(program);
        says(&said, &[&format!("/{file}"), words[0]], &[words[1]])?;
    }
    let compiled = logged(b, "msg=compiling path=");
    ensure!(compiled == 0, "{compiled} were compiled first");
    ensure!(kept(b) == 0, "{} files are kept", kept(b));
    // A start with a wrong name and one with the right name share the artifact, not the refusal.
    let wrong = start(b, "program.wat#stop").spawn()?;
    let right = start(b, "program.wat").spawn()?;
    says(&wrong.wait()?.refused()?, &["stop"], &["/program.wat"])?;
    let out = right.wait()?.ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    ensure!(logged(b, "msg=compiling path=/program.wat ") == 1, "it was not compiled once");
    b.fixture.becomes_clean()
}

/// The process that waits to compile, of a daemon.
fn waiting(b: &mut Fixture) -> Result<u32> {
    poll_until("one process that waits to compile", PATIENCE, || match b.waiting_compilers()[..] {
        [pid] => Some(pid),
        _ => None,
    })
}

pub(crate) fn waiting_compiler_serves_one_module_of_a_daemon_and_is_replaced(
    b: &mut Fixture,
) -> Result<()> {
    b.module("first.wat", printing("", ""))?;
    runs(b, "first.wat")?;
    let mut served = false;
    // On a busy machine one may have ended before the next module needs it.
    for number in 0..5 {
        let name = format!("{number}.wasm");
        b.module(&name, larger(400 + number)?)?;
        let waiting_one = waiting(b)?;
        let start = start(b, &name).spawn()?;
        let serving = compiler(b)?;
        start.wait()?.ok()?;
        served = serving == waiting_one;
        if served {
            let is_gone = || (!proc::alive(serving)).then_some(());
            poll_until("an end of the process that has compiled", PATIENCE, is_gone)?;
            ensure!(waiting(b)? != serving, "it waits again");
            break;
        }
    }
    ensure!(served, "none of those that waited has compiled");
    // One that the kernel has ended is no reason for a refusal.
    let waiting_one = waiting(b)?;
    proc::kill9(waiting_one)?;
    poll_until("its end", PATIENCE, || (!proc::alive(waiting_one)).then_some(()))?;
    b.module("last.wat", printing("", "(func)"))?;
    runs(b, "last.wat")?;
    ensure!(waiting(b)? != waiting_one, "it waits again");
    b.fixture.becomes_clean()
}

pub(crate) fn shim_of_a_pod_keeps_no_compiler(b: &mut Fixture) -> Result<()> {
    b.module("sleep.wat", SLEEP)?;
    let id = b.next_id();
    b.start(&["-d"], &id, "sleep.wat").deadline(PATIENCE).run()?.ok()?;
    ensure!(compiled(b, "path=/sleep.wat ") == 1, "nothing was compiled");
    let shim = *b.servers().first().context("no shim")?;
    let is_its = |pid: &u32| status(*pid, "PPid").is_ok_and(|parent| parent == shim.to_string());
    // Less than the time for which a process waits.
    poll_until("a shim without a compiler", Duration::from_secs(5), || {
        let all = proc::with_argument("compile-worker");
        (!all.iter().any(is_its)).then_some(())
    })?;
    b.kill_and_finish(&id)?;
    b.fixture.becomes_clean()
}

pub(crate) fn compiler_of_an_exec_is_outside_the_limits_of_its_container(
    b: &mut Fixture,
) -> Result<()> {
    b.module("sleep.wat", SLEEP)?;
    b.module("large.wasm", large(LARGE))?;
    let id = b.next_id();
    let limit = (64u64 << 20).to_string();
    let flags = ["-d", "--memory-limit", &limit];
    b.start(&flags, &id, "sleep.wat").deadline(PATIENCE).run()?.ok()?;
    if !b.runtime.needs_daemon() {
        let shim = *b.servers().first().context("no shim")?;
        // What the shim starts from here on would be in there as well.
        poll_until("the shim in the container's cgroup", PATIENCE, || {
            fs::read_to_string(format!("/proc/{shim}/cgroup")).ok()?.contains(&id).then_some(())
        })?;
    }
    let exec = b.exec_command(&[], &id, "other", &["/large.wasm"]).deadline(PATIENCE).spawn()?;
    let pid = compiler(b)?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(!cgroup.contains(&id), "the compiler is in {cgroup}");
    let out = exec.wait()?.ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    b.kill_and_finish(&id)?;
    b.fixture.becomes_clean()
}

pub(crate) fn module_beyond_the_pool_is_refused_before_it_is_compiled(
    b: &mut Fixture,
) -> Result<()> {
    let body = functions(100);
    for (definitions, key) in [
        ("(memory 1)".repeat(10), "engine.module-memories"),
        ("(table 1 funcref)".repeat(9), "engine.module-tables"),
        ("(table 1000001 funcref)".to_owned(), "engine.table-elements"),
        ("(memory i64 65537)".to_owned(), "engine.memory-size"),
    ] {
        b.module("beyond.wat", printing("", &format!("{definitions}{body}")))?;
        says(&refusal(b, "beyond.wat")?, &["/beyond.wat", key], &["at most"])?;
    }
    let compiled = logged(b, "msg=compiling path=");
    ensure!(compiled == 0, "{compiled} were compiled first");
    Ok(())
}

pub(crate) fn killed_compiler_is_a_start_error(b: &mut Fixture) -> Result<()> {
    b.module("small.wat", printing("", ""))?;
    b.module("large.wasm", large(LARGE))?;
    let start = start(b, "large.wasm").spawn()?;
    let pid = compiler(b)?;
    proc::kill9(pid)?;
    let said = start.wait()?.refused()?;
    says(&said, &["/large.wasm", "signal 9"], &["compiler"])?;
    b.fixture.becomes_clean()?;
    // Nothing else was ended, and nothing of it is kept.
    ensure!(kept(b) == 0, "{} files are kept", kept(b));
    runs(b, "small.wat")?;
    runs(b, "large.wasm")?;
    b.fixture.becomes_clean()
}
