//! Code that is compiled once and kept; the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::connection::guests;
use runwasi_tests::log::{has, number, text};
use runwasi_tests::{best_of, poll_until, proc, says};

use crate::fixture::{Fixture, SEEN, names};
use crate::modules::{large, printing};

/// For what compiles something large, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// For what happens at once.
const SOON: Duration = Duration::from_secs(5);

/// Longer than a file is taken for one that changes.
const SETTLED: Duration = Duration::from_millis(2500);

pub(crate) fn two_starts_of_a_new_module_compile_it_once(b: &mut Fixture) -> Result<()> {
    b.module("new.wat", large(1000))?;
    let starts = ["one", "two"]
        .map(|name| b.start(&["--rm"], &b.id(name), "new.wat").deadline(PATIENCE).spawn());
    for start in starts {
        let out = start?.wait()?.ok()?;
        ensure!(out.out() == "ok\n", "{out}");
    }
    ensure!(b.compilations("new.wat") == 1, "compiled {} times", b.compilations("new.wat"));
    let kept = b.kept();
    ensure!(kept.len() == 1 && kept[0].ends_with(".cwasm"), "{kept:?}");
    b.runs("new.wat")?;
    ensure!(b.compilations("new.wat") == 1, "compiled again");
    b.fixture.becomes_clean()
}

pub(crate) fn killed_compiler_leaves_no_lock_and_no_half_file(b: &mut Fixture) -> Result<()> {
    b.module("slow.wat", large(1500))?;
    let id = b.id("killed");
    let start = b.start(&[], &id, "slow.wat").deadline(PATIENCE).spawn()?;
    // The lock of the new file is taken before the compiler says that it begins: killed in between, the log
    // would count one compilation less.
    poll_until("a compilation", PATIENCE, || {
        let begun = b.is_making() && b.compilations("slow.wat") == 1;
        begun.then_some(())
    })?;
    let compilers = b.compilers();
    ensure!(!compilers.is_empty(), "it has ended before");
    if b.runtime.needs_daemon() {
        b.fixture.daemon()?.kill9()?;
    } else {
        let shims = b.fixture.shims();
        proc::kill9(shims.first().context("no shim compiles")?.pid)?;
    }
    poll_until("an end of the processes that compile", SOON, || {
        (!compilers.iter().any(|pid| proc::alive(*pid))).then_some(())
    })?;
    start.wait()?.refused()?;
    // Its container may be there, or not any more.
    b.fixture.ctr(["container", "delete", &id])?;
    b.restart_daemon()?;
    let out = b.start(&["--rm"], &b.id("next"), "slow.wat").deadline(PATIENCE).run()?.ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    let kept = b.kept();
    ensure!(kept.len() == 1 && kept[0].ends_with(".cwasm"), "{kept:?}");
    ensure!(b.compilations("slow.wat") == 2, "compiled {} times", b.compilations("slow.wat"));
    b.fixture.becomes_clean()
}

pub(crate) fn damaged_code_is_compiled_again(b: &mut Fixture) -> Result<()> {
    b.module("a.wat", printing("", ""))?;
    b.runs("a.wat")?;
    let kept = b.kept();
    let [file] = &kept[..] else { anyhow::bail!("{kept:?}") };
    let file = b.cache.join(file);
    let good = fs::read(&file)?;
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes)?;
    b.restart_everything()?;
    b.runs("a.wat")?;
    ensure!(b.compilations("a.wat") == 2, "compiled {} times", b.compilations("a.wat"));
    ensure!(fs::read(&file)? == good, "the damaged file is still there");
    ensure!(b.log().contains("compiled code is not trusted"), "nobody was told");
    b.fixture.becomes_clean()
}

pub(crate) fn compilation_is_told_with_its_container_its_time_and_its_sizes(
    b: &mut Fixture,
) -> Result<()> {
    b.module("a.wat", printing("", ""))?;
    let id = b.id("first");
    b.start(&["--rm"], &id, "a.wat").run()?.ok()?;
    b.runs("a.wat")?;
    let log = b.log();
    let mut lines: Vec<_> = log.lines().filter_map(text).collect();
    lines.retain(|line| line["msg"] == "artifact compiled");
    let [line] = &lines[..] else { anyhow::bail!("{lines:?}") };
    has(line, &[("path", "/a.wat"), ("container", &id), ("sandbox", &id)])?;
    ensure!(line["digest"].starts_with("sha256:"), "{line:?}");
    for key in ["seconds", "wasm_bytes", "code_bytes"] {
        ensure!(number(line, key)? > 0.0, "{line:?}");
    }
    ensure!(b.compilations("a.wat") == 1, "compiled {} times", b.compilations("a.wat"));
    b.fixture.becomes_clean()
}

pub(crate) fn compiling_is_nice_and_delays_no_other_container(b: &mut Fixture) -> Result<()> {
    b.module("hello.wat", printing("", ""))?;
    b.runs("hello.wat")?;
    // The compilation may be over before the others are done, on a machine that stands still for a
    // while: then it shows nothing.
    let mut round = 0;
    best_of(3, || {
        round += 1;
        others_run_meanwhile(b, round)
    })?;
    b.fixture.becomes_clean()
}

/// Compiles a large module, and runs others before it is done.
fn others_run_meanwhile(b: &mut Fixture, round: usize) -> Result<()> {
    let [slow, other] = ["slow", "other"].map(|name| format!("{name}{round}.wat"));
    b.module(&slow, large(1500 + round))?;
    let slow = b.start(&["--rm"], &b.id("slow"), &slow).deadline(PATIENCE).spawn()?;
    poll_until("a compilation", PATIENCE, || b.is_making().then_some(()))?;
    let compiler = poll_until("the process that compiles", PATIENCE, || compiler(b))?;
    for _ in 0..3 {
        b.runs("hello.wat")?;
    }
    // A new one besides, which is compiled in its turn.
    b.module(&other, printing("", &"nop ".repeat(round)))?;
    if std::thread::available_parallelism()?.get() > 1 {
        b.runs(&other)?;
    }
    let was_making = b.is_making();
    let out = slow.wait()?.ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    ensure!(compiler >= 10, "niceness {compiler}");
    ensure!(was_making, "the large module was compiled before the others were done");
    Ok(())
}

/// The niceness of the process that compiles.
fn compiler(b: &mut Fixture) -> Option<i32> {
    let pid = *b.compilers().first()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(") ")?;
    // It has its name since it is confined.
    name.ends_with("(compile").then(|| rest.split(' ').nth(19 - 3)?.parse().ok())?
}

/// A file that has changed just now may change again unseen, and is not remembered: the image has just been unpacked.
pub(crate) fn program_that_was_seen_is_not_read_again(b: &mut Fixture) -> Result<()> {
    poll_until("a program that is remembered", PATIENCE, || {
        bytes_read(b).ok()?;
        (!names(&b.cache.join(SEEN)).is_empty()).then_some(())
    })?;
    let seen = bytes_read(b)?;
    fs::remove_dir_all(b.cache.join(SEEN))?;
    let unseen = bytes_read(b)?;
    // It reads this and that besides.
    let program = fs::metadata(guests()?.join("wasmtest.wasm"))?.len();
    ensure!(
        unseen > seen + program / 2,
        "{seen} bytes were read, {unseen} where the program was not seen before"
    );
    ensure!(
        b.compilations("wasmtest.wasm") == 1,
        "compiled {} times",
        b.compilations("wasmtest.wasm")
    );
    b.fixture.becomes_clean()
}

pub(crate) fn file_of_a_volume_or_a_plain_directory_is_read_at_every_start(
    b: &mut Fixture,
) -> Result<()> {
    let module = printing("", "");
    b.module("a.wat", &module)?;
    let file = b.fixture.dir().join("rootfs/a.wat");
    let mount = format!("type=bind,src={},dst=/volume.wat,options=rbind:ro", file.display());
    let age = || fs::metadata(&file).ok()?.modified().ok()?.elapsed().ok();
    poll_until("a file of some age", SETTLED * 4, || age().filter(|age| *age > SETTLED))?;
    b.runs("a.wat")?;
    let line = ["run", "--rm", "--runtime", b.runtime.name(), "--mount", &mount];
    let out = b
        .fixture
        .ctr([&line[..], &[b.runtime.image().name(), &b.id("volume"), "/volume.wat"]].concat())?
        .ok()?;
    ensure!(out.out() == "ok\n", "{out}");
    // Whoever owns the file system could make it look like a file of somebody else.
    let seen = names(&b.cache.join(SEEN));
    ensure!(seen.is_empty(), "{seen:?}");
    b.fixture.becomes_clean()
}

/// What a process that has just been started reads until a container of it runs.
fn bytes_read(b: &mut Fixture) -> Result<u64> {
    b.restart_everything()?;
    b.fixture.becomes_clean()?;
    let id = b.id("reads");
    b.detached(&id, &["sleep", "1000"])?;
    let pid = match b.fixture.daemon() {
        Ok(daemon) => daemon.pid()?,
        Err(_) => b.fixture.shims().first().context("no shim")?.pid,
    };
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    ensure!(b.kill_and_finish(&id)? == 137);
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).context("no rchar")?;
    Ok(read.parse()?)
}

pub(crate) fn precompiled_code_from_an_image_is_refused(b: &mut Fixture) -> Result<()> {
    b.module("a.wat", printing("", ""))?;
    b.runs("a.wat")?;
    let code = fs::read(b.cache.join(b.kept().first().context("nothing is kept")?))?;
    b.module("a.cwasm", code)?;
    says(&b.refusal("a.cwasm")?, &["/a.cwasm"], &["precompiled code"])
}
