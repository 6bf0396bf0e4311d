//! Spans of `runwasi-core` as spans of OpenTelemetry's SDK, whose sampler decides about them.

use std::time::SystemTime;

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanBuilder, SpanContext as OtlpContext, SpanId, SpanKind, Status,
        TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use runwasi_core::traces::{Beginning, Kind, Recording, Tracer, Value, context::SpanContext};

/// The tracer of a daemon.
pub(super) struct OtlpTracer {
    pub(super) tracer: SdkTracer,
    /// Shut down with its last clone, after which spans would be lost.
    pub(super) _provider: SdkTracerProvider,
}

impl Tracer for OtlpTracer {
    fn begin(&self, beginning: Beginning<'_>) -> Box<dyn Recording> {
        let Beginning { name, kind, parent, at } = beginning;
        let kind = match kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(at);
        // Not the context of the thread: a worker polls one guest after another.
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(otlp(parent)),
            None => context,
        };
        Box::new(OtlpSpan(self.tracer.build_with_context(builder, &context)))
    }
}

/// A span, recorded or not.
struct OtlpSpan(Span);

impl Recording for OtlpSpan {
    fn context(&self) -> SpanContext {
        let context = self.0.span_context();
        SpanContext {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
            sampled: context.is_sampled(),
            state: context.trace_state().header(),
        }
    }

    fn set(&mut self, key: &'static str, value: Value<'_>) {
        if !self.0.is_recording() {
            return;
        }
        self.0.set_attribute(match value {
            Value::Text(text) => KeyValue::new(key, text.to_owned()),
            Value::Number(number) => KeyValue::new(key, number),
        });
    }

    fn fail(&mut self, reason: &str) {
        self.0.set_status(Status::error(reason.to_owned()));
    }

    fn end(&mut self, at: SystemTime) {
        self.0.end_with_timestamp(at);
    }
}

fn otlp(context: &SpanContext) -> OtlpContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    // An invalid state counts as none.
    let state = context.state.parse::<TraceState>().unwrap_or_default();
    let trace = TraceId::from_bytes(context.trace);
    OtlpContext::new(trace, SpanId::from_bytes(context.span), flags, true, state)
}
