//! The trace of a container's start; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::collector::{Collector, Span};

/// Parts of the start of a container, and of an exec.
pub(crate) const PARTS: [&str; 6] =
    ["shim", "sandbox", "prepare", "streams", "engine", "instantiate"];
const EXEC_PARTS: [&str; 4] = ["prepare", "streams", "engine", "instantiate"];
/// The same of one that runc runs.
const NATIVE_PARTS: [&str; 6] = ["shim", "sandbox", "prepare", "delegate", "create", "start"];
const NATIVE_EXEC_PARTS: [&str; 2] = ["create", "start"];

/// Demands that the parts are one after the other within the whole, and in its trace.
fn in_order(whole: &Span, parts: &[Span]) -> Result<()> {
    for part in parts {
        ensure!(part.trace == whole.trace && part.kind == 1, "{part:?} of {whole:?}");
        let is_within =
            whole.start <= part.start && part.start <= part.end && part.end <= whole.end;
        ensure!(is_within, "{part:?} is not within {whole:?}");
    }
    ensure!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start), "{parts:#?}");
    let last = parts.last().context("no part")?;
    // Ended by the first instruction, or by the delegate's answer, and not by the next call. A busy
    // machine may let seconds pass.
    ensure!(whole.end - last.end < 5_000_000_000, "{whole:?}, {parts:#?}");
    Ok(())
}

fn of_container(collector: &Collector, id: &str) -> Result<Span> {
    collector.find("the span of the start", |span| {
        span.name == "container start"
            && span.attributes.get("container.id").is_some_and(|of| of == id)
    })
}

pub(crate) fn start_is_one_trace_from_the_shim_to_the_guest(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    let parts = if c.runtime.runs_by_runc() { NATIVE_PARTS } else { PARTS };
    let mut traces = Vec::new();
    for n in 0..2 {
        let id = c.id(&format!("r{n}"));
        c.run(&id, &["exit", "0"])?.ok()?;
        let whole = of_container(collector, &id)?;
        ensure!(whole.parent.is_empty() && whole.error.is_none(), "{whole:?}");
        let namespace = whole.attributes.get("containerd.namespace");
        ensure!(namespace.is_some_and(|name| name == c.fixture.namespace()), "{whole:?}");
        let service = whole.resource.get("service.name");
        ensure!(service.is_some_and(|name| name == "containerd-wasmtimed"), "{whole:?}");
        ensure!(whole.resource.contains_key("service.version"), "{whole:?}");
        let parts = collector.parts(&whole, &parts)?;
        in_order(&whole, &parts)?;
        let first = parts.first().context("no part")?;
        ensure!(first.start == whole.start, "{parts:#?}");
        traces.push(whole.trace);
    }
    ensure!(traces[0] != traces[1], "two starts are one trace");
    let number = collector.spans().iter().filter(|span| span.trace == traces[0]).count();
    ensure!(number == 1 + parts.len(), "{number} spans");
    c.fixture.becomes_clean()
}

pub(crate) fn failed_start_is_a_failed_span(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    let memory = ["--rm", "--memory-limit", "600000"];
    let id = c.id("tiny");
    c.run_command(&memory, &id, &["exit", "0"]).run()?.refused()?;
    let whole = of_container(collector, &id)?;
    let error = whole.error.clone().context("no error")?;
    ensure!(error.contains("what the guest begins with"), "{whole:?}");
    let name = c.runtime.name();
    let image = c.runtime.image().name();
    let id = c.id("none");
    c.fixture.ctr(["run", "--rm", "--runtime", name, image, &id, "/no-such.wasm"])?.refused()?;
    let whole = of_container(collector, &id)?;
    ensure!(whole.error.as_ref().is_some_and(|error| error.contains("no-such.wasm")), "{whole:?}");
    c.fixture.becomes_clean()
}

pub(crate) fn start_of_an_exec_is_one_trace(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "100"])?;
    c.exec(&id, "again", &["exit", "7"])?.status_is(7)?;
    let whole = collector.find("the exec", |span| span.name == "exec start")?;
    ensure!(whole.parent.is_empty() && whole.error.is_none(), "{whole:?}");
    for (key, value) in [("container.id", id.as_str()), ("runwasi.exec.id", "again")] {
        ensure!(whole.attributes.get(key).is_some_and(|is| is == value), "{whole:?}");
    }
    let native = c.runtime.runs_by_runc();
    let parts = if native { &NATIVE_EXEC_PARTS[..] } else { &EXEC_PARTS };
    in_order(&whole, &collector.parts(&whole, parts)?)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    ensure!(of_container(collector, &id)?.trace != whole.trace, "one trace with the container");
    c.fixture.becomes_clean()
}

pub(crate) fn failed_start_of_an_exec_is_a_failed_span(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "100"])?;
    c.exec_command(&[], &id, "absent", &["/absent"]).run()?.refused()?;
    let whole = collector.find("the exec", |span| span.name == "exec start")?;
    ensure!(whole.error.as_ref().is_some_and(|error| error.contains("/absent")), "{whole:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
