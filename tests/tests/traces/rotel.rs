//! A collector that is not ours, Rotel, takes the trace of a start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::running::Running;
use runwasi_tests::{Command, Containerd, Containers, Runtime, check_with, http, poll_until};
use tempfile::TempDir;

use crate::SOON;
use crate::start::PARTS;

#[test]
fn rotel_takes_a_start_as_one_trace_by_http() {
    check("http/protobuf");
}

#[test]
fn rotel_takes_a_start_as_one_trace_by_grpc() {
    check("grpc");
}

/// The collector, which prints the spans that it takes.
struct Rotel {
    process: Running,
    endpoint: String,
    /// With its files. After the process, which writes them.
    _home: TempDir,
}

fn program() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let program = target.join("collector/rotel/rotel-agent");
    let missing = fs::read_to_string(target.join("collector.missing")).unwrap_or_default();
    ensure!(program.exists(), "no collector, scripts/collector fetches it {missing}");
    Ok(program)
}

impl Rotel {
    fn start(protocol: &str) -> Result<Self> {
        let home = TempDir::new()?;
        let file = |name: &str| home.path().join(name).display().to_string();
        let by_grpc = http::address();
        let by_http = http::address();
        let process = Command::new(program()?)
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--otlp-grpc-endpoint", &by_grpc.to_string()])
            .args(["--otlp-http-endpoint", &by_http.to_string()])
            .args(["--pid-file", &file("pid"), "--log-file", &file("log")])
            .spawn()?;
        let address = if protocol == "grpc" { by_grpc } else { by_http };
        let listens = || TcpStream::connect(address).ok().map(drop);
        let up = poll_until("the collector", SOON, listens);
        up.with_context(|| process.stdout_so_far() + &process.stderr_so_far())?;
        Ok(Self { process, endpoint: format!("http://{address}"), _home: home })
    }

    /// The spans until now, each with the lines that are printed of it.
    fn spans(&self) -> Vec<BTreeMap<String, String>> {
        let text = self.process.stdout_so_far();
        let spans = text.split("\nSpan #").skip(1).map(|span| {
            let fields = span.lines().filter_map(|line| line.split_once(':'));
            let plain = |text: &str| text.trim().trim_start_matches("-> ").to_owned();
            fields.map(|(name, value)| (plain(name), plain(value))).collect()
        });
        spans.collect()
    }
}

#[track_caller]
fn check(protocol: &str) {
    let rotel = match Rotel::start(protocol) {
        Ok(rotel) => rotel,
        Err(error) => panic!("no collector: {error:?}"),
    };
    let settings = Settings::default()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &rotel.endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let fixture = Containerd::builder().daemon(settings);
    check_with(Runtime::Wasmtimed, fixture, |c| start_is_one_trace(c, &rotel));
}

fn start_is_one_trace(c: &mut Containers, rotel: &Rotel) -> Result<()> {
    let id = c.id("traced");
    c.run(&id, &["exit", "0"])?.ok()?;
    let id = format!("Str({id})");
    let is_whole = |span: &BTreeMap<String, String>| {
        span.get("Name").is_some_and(|name| name == "container start")
            && span.get("container.id").is_some_and(|of| *of == id)
    };
    let seen = poll_until("the span of the start", SOON, || {
        let spans = rotel.spans();
        let whole = spans.iter().find(|span| is_whole(span))?.clone();
        let parts = spans.into_iter().filter(|span| span.get("Parent ID") == whole.get("ID"));
        let parts = parts.collect::<Vec<_>>();
        (parts.len() >= PARTS.len()).then_some((whole, parts))
    });
    let (whole, parts) = seen.with_context(|| rotel.process.stdout_so_far())?;
    ensure!(parts.iter().all(|part| part["Trace ID"] == whole["Trace ID"]), "{parts:#?}");
    let names: BTreeSet<_> = parts.iter().map(|part| part["Name"].as_str()).collect();
    ensure!(names == PARTS.into(), "{names:?}");
    c.fixture.becomes_clean()
}
