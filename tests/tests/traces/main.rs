//! Traces of the node daemon, with a played collector; run by `make test`.

mod http;
mod off;
mod parent;
mod rotel;
mod start;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use runwasi_tests::collector::Collector;
use runwasi_tests::daemon::Settings;
use runwasi_tests::http::address;
use runwasi_tests::{Containerd, Containers, Runtime, ShimDriver, check_with, run_case_with};

use tls::Secured;

runwasi_tests::suite! { crate::check_traced: traced = Wasmtimed; {
    start:
        start_is_one_trace_from_the_shim_to_the_guest
        failed_start_is_a_failed_span
        start_of_an_exec_is_one_trace
        failed_start_of_an_exec_is_a_failed_span;
    http:
        context_of_a_request_reaches_the_guest_and_its_own_requests
        request_without_a_context_begins_a_trace;
}}

runwasi_tests::suite! { crate::check_traced: native = WasmtimedLinux; {
    start:
        start_is_one_trace_from_the_shim_to_the_guest
        start_of_an_exec_is_one_trace
        failed_start_of_an_exec_is_a_failed_span;
}}

runwasi_tests::suite! { crate::check_traced_by_grpc: by_grpc = Wasmtimed; {
    start:
        start_is_one_trace_from_the_shim_to_the_guest;
}}

runwasi_tests::suite! { crate::check_traced_by_tls: by_tls = Wasmtimed; {
    start:
        start_is_one_trace_from_the_shim_to_the_guest;
}}

runwasi_tests::suite! { crate::check_traced_by_grpc_and_tls: by_grpc_and_tls = Wasmtimed; {
    start:
        start_is_one_trace_from_the_shim_to_the_guest;
}}

runwasi_tests::suite! { crate::check_distrusted: distrusted = Wasmtimed; {
    tls:
        collector_that_is_not_trusted_gets_no_span;
}}

runwasi_tests::suite! { crate::check_traced_call: called = Wasmtimed; {
    parent:
        context_of_containerds_call_is_the_parent;
}}

runwasi_tests::suite! { crate::check_untraced: untraced = Wasmtimed; {
    off:
        without_a_collector_requests_are_passed_on_as_they_are;
}}

runwasi_tests::suite! { crate::check_without_collector: lost = Wasmtimed; {
    off:
        absent_collector_delays_nothing_and_spans_are_counted;
}}

/// How long spans, or a warning about them, may take.
const SOON: Duration = Duration::from_secs(20);

/// Runs a case on a fixture whose daemon exports to a collector of its own.
#[track_caller]
fn check_traced(runtime: Runtime, case: fn(&mut Containers, &Collector) -> Result<()>) {
    let collector = started();
    let fixture = Containerd::builder().daemon(exporting(&collector));
    check_with(runtime, fixture, |c| case(c, &collector));
}

/// The same with a collector that speaks gRPC.
#[track_caller]
fn check_traced_by_grpc(runtime: Runtime, case: fn(&mut Containers, &Collector) -> Result<()>) {
    let collector = match Collector::by_grpc() {
        Ok(collector) => collector,
        Err(error) => panic!("no collector: {error:?}"),
    };
    let settings = exporting(&collector).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    check_with(runtime, Containerd::builder().daemon(settings), |c| case(c, &collector));
}

/// The same with TLS, and the certificate of the collector's authority in a file.
#[track_caller]
fn check_traced_by_tls(runtime: Runtime, case: fn(&mut Containers, &Collector) -> Result<()>) {
    let secured = secured(started());
    check_secured(runtime, secured, ("http/protobuf", true), case);
}

/// The same with gRPC.
#[track_caller]
fn check_traced_by_grpc_and_tls(
    runtime: Runtime,
    case: fn(&mut Containers, &Collector) -> Result<()>,
) {
    let Ok(collector) = Collector::by_grpc() else { panic!("no collector") };
    check_secured(runtime, secured(collector), ("grpc", true), case);
}

/// The same without the certificate.
#[track_caller]
fn check_distrusted(runtime: Runtime, case: fn(&mut Containers, &Collector) -> Result<()>) {
    check_secured(runtime, secured(started()), ("http/protobuf", false), case);
}

#[track_caller]
fn check_secured(
    runtime: Runtime,
    (collector, secured): (Collector, Secured),
    (protocol, is_trusted): (&str, bool),
    case: fn(&mut Containers, &Collector) -> Result<()>,
) {
    let settings = exporting(&collector)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", secured.address))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_BSP_EXPORT_TIMEOUT", "5000");
    let settings = match is_trusted {
        true => settings.env("OTEL_EXPORTER_OTLP_CERTIFICATE", secured.authority()),
        false => settings,
    };
    check_with(runtime, Containerd::builder().daemon(settings), |c| case(c, &collector));
}

#[track_caller]
fn secured(collector: Collector) -> (Collector, Secured) {
    match Secured::before(collector.address) {
        Ok(secured) => (collector, secured),
        Err(error) => panic!("no TLS: {error:?}"),
    }
}

/// The same over a shim driver.
#[track_caller]
fn check_traced_call(runtime: Runtime, case: fn(&ShimDriver, &Collector) -> Result<()>) {
    let collector = started();
    let driver = ShimDriver::with(runtime, exporting(&collector));
    run_case_with(driver, |p| case(p, &collector));
}

/// The same with a collector that the daemon does not know.
#[track_caller]
fn check_untraced(runtime: Runtime, case: fn(&mut Containers) -> Result<()>) {
    check_with(runtime, Containerd::builder().daemon_for(runtime), case);
}

/// The same with the address of a collector where none listens, and with metrics.
#[track_caller]
fn check_without_collector(runtime: Runtime, case: fn(&mut Containers, SocketAddr) -> Result<()>) {
    let (absent, metrics) = (address(), address());
    let settings = Settings::of(runtime)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{absent}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        .env("OTEL_BSP_EXPORT_TIMEOUT", "1000")
        .flags(["--metrics-address", &metrics.to_string()]);
    check_with(runtime, Containerd::builder().daemon(settings), |c| case(c, metrics));
}

#[track_caller]
fn started() -> Collector {
    match Collector::start() {
        Ok(collector) => collector,
        Err(error) => panic!("no collector: {error:?}"),
    }
}

fn exporting(collector: &Collector) -> Settings {
    let set = |settings: Settings, (name, value)| settings.env(name, value);
    collector.environment().into_iter().fold(Settings::default(), set)
}
