//! Traces of the daemon by OTLP, by the environment variables of OpenTelemetry.
//!
//! ```text
//! span ends, on any thread ─▶ bounded queue ─▶ task of the control side ─▶ collector
//!                               └─ full: dropped and counted
//! ```
//!
//! | module | one thing |
//! |---|---|
//! | `settings` | what the variables say |
//! | `requests` | header fields and compression |
//! | `variables` | a variable: look-up, parsing, refusal |
//! | `connector` | connections to a collector, with TLS or without |
//! | `tracer` | spans of `runwasi-core` as those of OpenTelemetry's SDK |
//! | `export` | queue and batches |

mod connector;
mod export;
mod requests;
mod settings;
mod tracer;
mod variables;

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, SpanExporter as _},
};
use runwasi_core::{metrics::exposition::Build, shutdown::Tasks, traces};
use tonic::transport::{Channel, Endpoint};

use self::{
    connector::{Connector, TlsSettings},
    export::Export,
    settings::{Protocol, TraceSettings},
    tracer::OtlpTracer,
    variables::VariableError,
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
    let mut exporter = exporter(&settings)?;
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

fn exporter(settings: &TraceSettings) -> Result<SpanExporter, TracesError> {
    // Also without TLS: the exporter's own connections keep the reason of a failure to themselves.
    let connector = |protocol: &[u8]| {
        let tls = |tls: &TlsSettings| tls.connector(settings.variable, protocol);
        let tls = settings.tls.as_ref().map(tls).transpose()?;
        Ok::<_, VariableError>(Connector::new(tls, settings.request))
    };
    let built = match settings.protocol {
        Protocol::Http => {
            let client = HyperClient::new(connector(b"http/1.1")?, settings.request, None);
            let builder = SpanExporter::builder().with_http().with_timeout(settings.request);
            builder.with_http_client(client).build()
        }
        Protocol::Grpc => {
            let builder = SpanExporter::builder().with_tonic().with_timeout(settings.request);
            builder.with_channel(channel(settings, connector(b"h2")?)?).build()
        }
    };
    Ok(built?)
}

/// A channel of gRPC that connects with its first call.
fn channel(settings: &TraceSettings, connector: Connector) -> Result<Channel, VariableError> {
    let refused = |error: tonic::transport::Error| {
        VariableError::new(settings.variable, format!("{:?}: {error}", settings.endpoint))
    };
    let endpoint = Endpoint::from_shared(settings.endpoint.clone()).map_err(refused)?;
    // TLS by the connector, and not by tonic's own, whose features would change those of others.
    let endpoint = endpoint.timeout(settings.request).connect_timeout(settings.request);
    Ok(endpoint.connect_with_connector_lazy(connector))
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
