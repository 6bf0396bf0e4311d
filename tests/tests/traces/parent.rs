//! The context that containerd sends with its calls; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use runwasi_tests::ShimDriver;
use runwasi_tests::collector::Collector;
use runwasi_tests::shim::LIMIT;

const ID: &str = "traced";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

pub(crate) fn context_of_containerds_call_is_the_parent(
    p: &ShimDriver,
    collector: &Collector,
) -> Result<()> {
    let bundle = p.bundle(ID, &[p.runtime().guest(), "exit", "0"])?;
    bundle.add_guests()?;
    let client = p.connect(ID, bundle.path())?;
    let mut request = CreateTaskRequest::new();
    request.id = ID.to_owned();
    request.bundle = bundle.path().to_string_lossy().into_owned();
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let metadata = [("traceparent", parent.as_str()), ("tracestate", "x=y")];
    client.call_with::<CreateTaskResponse>("Create", &request, &metadata, LIMIT)?;
    client.start(ID)?;
    client.wait(ID)?;
    let whole = collector.find("the start", |span| span.name == "container start")?;
    ensure!(whole.trace == TRACE && whole.parent == SPAN, "{whole:?}");
    // Also what happened before the call that names the trace.
    let parts = collector.parts(&whole, &["shim", "sandbox", "prepare", "instantiate"])?;
    ensure!(parts.iter().all(|part| part.trace == TRACE), "{parts:#?}");
    client.delete(ID)?;
    p.finish(&client, ID, bundle.path())?;
    p.becomes_clean()
}
