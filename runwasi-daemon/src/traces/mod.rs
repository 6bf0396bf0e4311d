//! Traces of the daemon by OTLP, by the environment variables of OpenTelemetry.
//!
//! ```text
//! span ends, on any thread ─▶ bounded queue ─▶ task of the control side ─▶ collector
//!                               └─ full: dropped and counted
//! ```
//!
//! | module | one thing |
//! |---|---|
//! | `settings` | the variables |
//! | `tracer` | spans of `runwasi-core` as those of OpenTelemetry's SDK |
//! | `export` | queue and batches |

mod export;
mod settings;
mod tracer;

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, SpanExporter as _},
};
use runwasi_core::{metrics::exposition::Build, shutdown::Tasks, traces};

use self::{
    export::Export,
    settings::{Protocol, TraceSettings, VariableError},
    tracer::OtlpTracer,
};

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A variable has a wrong value.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// The exporter refuses its settings.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Starts the export of traces, if the environment names a collector. On a Tokio runtime.
pub(crate) fn start(build: Build, tasks: &Tasks) -> Result<(), TracesError> {
    let variables = |name: &str| std::env::var(name).ok();
    let Some(settings) = TraceSettings::of(&variables)? else { return Ok(()) };
    let mut exporter = match settings.protocol {
        Protocol::Http => SpanExporter::builder().with_http().build()?,
        Protocol::Grpc => SpanExporter::builder().with_tonic().build()?,
    };
    let resource = resource(build, settings.is_named);
    exporter.set_resource(&resource);
    let queue = export::start(exporter, Export::of(&settings), tasks);
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
    let tracer = provider.tracer("runwasi");
    traces::install(Box::new(OtlpTracer { tracer, _provider: provider }));
    tracing::info!(collector = %settings.endpoint, "traces are exported");
    Ok(())
}

/// The process, as a collector sees it. `is_named`: the environment has a name for the service.
fn resource(build: Build, is_named: bool) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let builder = Resource::builder().with_attributes([
        KeyValue::new("service.version", build.version),
        KeyValue::new("host.name", host.trim().to_owned()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ]);
    if is_named { builder.build() } else { builder.with_service_name(build.program).build() }
}
