//! Queue of ended spans, and their export in batches.
//!
//! OpenTelemetry's own batch processor has a thread that waits for its exporter, and the exporters
//! need a Tokio runtime. This task of the control side needs neither thread nor lock, and what it
//! drops is counted in the metrics.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use runwasi_core::{
    metrics::delivery::{SpanFate, spans},
    shutdown::Tasks,
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, timeout, timeout_at},
};

use super::settings::TraceSettings;

/// Time for the last spans at the end of the daemon.
const LAST: Duration = Duration::from_secs(2);

/// Bounds of the export.
#[derive(Clone, Copy, Debug)]
pub(super) struct Export {
    delay: Duration,
    patience: Duration,
    queue: usize,
    batch: usize,
}

impl Export {
    pub(super) fn of(settings: &TraceSettings) -> Self {
        let TraceSettings { delay, patience, queue, batch, .. } = *settings;
        Self { delay, patience, queue, batch }
    }
}

/// The end of the queue for spans. Never waits.
#[derive(Debug)]
pub(super) struct Queue(Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Recorded spans that are not sampled are of no use to a collector.
        if span.span_context.is_sampled() && self.0.try_send(span).is_err() {
            spans(SpanFate::Dropped, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        // Would wait: the task exports what there is.
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Starts the task. It exports what there is when the tasks are stopped, and ends.
pub(super) fn start(exporter: impl SpanExporter + 'static, export: Export, tasks: &Tasks) -> Queue {
    let (sender, mut spans) = mpsc::channel(export.queue);
    let stopping = tasks.clone();
    tasks.spawn(async move {
        let mut exporter = Exporter { exporter, export, has_failed: false };
        tokio::select! {
            () = exporter.run(&mut spans) => {}
            () = stopping.stopped() => {}
        }
        // The provider is never dropped, so the queue is closed here.
        spans.close();
        // An error: the collector does not answer.
        let _ = timeout(LAST, exporter.run(&mut spans)).await;
    });
    Queue(sender)
}

struct Exporter<E> {
    exporter: E,
    export: Export,
    /// True if the last export has failed: only the first failure is logged.
    has_failed: bool,
}

impl<E: SpanExporter> Exporter<E> {
    /// Exports until the queue is closed and empty.
    async fn run(&mut self, spans: &mut Receiver<SpanData>) {
        loop {
            let mut batch = Vec::new();
            if spans.recv_many(&mut batch, self.export.batch).await == 0 {
                return;
            }
            let until = Instant::now() + self.export.delay;
            while batch.len() < self.export.batch {
                let room = self.export.batch - batch.len();
                match timeout_at(until, spans.recv_many(&mut batch, room)).await {
                    Ok(1..) => {}
                    // The time is over, or the queue is closed.
                    Ok(0) | Err(_) => break,
                }
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let number = batch.len();
        // Counted as failed if this future is dropped.
        let mut sent = Sent { number, fate: SpanFate::Failed };
        let result = match timeout(self.export.patience, self.exporter.export(batch)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", self.export.patience.as_secs_f32())),
        };
        match result {
            Ok(()) => {
                sent.fate = SpanFate::Exported;
                self.has_failed = false;
            }
            Err(error) => {
                if !self.has_failed {
                    tracing::warn!(%error, "the collector does not take spans; they are dropped");
                }
                self.has_failed = true;
            }
        }
    }
}

/// Counts spans with their fate, when it is dropped.
struct Sent {
    number: usize,
    fate: SpanFate,
}

impl Drop for Sent {
    fn drop(&mut self) {
        spans(self.fate, self.number);
    }
}
