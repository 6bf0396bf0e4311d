//! The trace of a container's start; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::collector::{Collector, Span};

const PARTS: [&str; 6] = ["shim", "sandbox", "prepare", "streams", "engine", "instantiate"];

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
        let parts = collector.parts(&whole, &PARTS)?;
        for part in &parts {
            ensure!(part.trace == whole.trace && part.kind == 1, "{part:?} of {whole:?}");
            let is_within =
                whole.start <= part.start && part.start <= part.end && part.end <= whole.end;
            ensure!(is_within, "{part:?} is not within {whole:?}");
        }
        // One after the other, and the first and the last are the ends of the whole.
        ensure!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start), "{parts:#?}");
        let [first, last] = [parts.first(), parts.last()].map(|part| part.context("no part"));
        ensure!(first?.start == whole.start, "{parts:#?}");
        ensure!(whole.end - last?.end < 100_000_000, "{whole:?}, {parts:#?}");
        traces.push(whole.trace);
    }
    ensure!(traces[0] != traces[1], "two starts are one trace");
    let number = collector.spans().iter().filter(|span| span.trace == traces[0]).count();
    ensure!(number == 1 + PARTS.len(), "{number} spans");
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
