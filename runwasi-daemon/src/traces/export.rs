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
    time::{Instant, sleep, sleep_until, timeout},
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
        let over = async {
            stopping.stopped().await;
            sleep(LAST).await;
        };
        tokio::select! {
            () = exporter.run(&mut spans, &stopping) => {}
            // The collector does not answer.
            () = over => {}
        }
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
    /// Exports until the tasks are stopped and the queue is empty.
    async fn run(&mut self, spans: &mut Receiver<SpanData>, stopping: &Tasks) {
        loop {
            let batch = self.gather(spans, stopping).await;
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    /// A batch: full, or all there was in the delay after its first span. Closes the queue when the
    /// tasks are stopped, and then returns what is left. Empty after the last one.
    async fn gather(&self, spans: &mut Receiver<SpanData>, stopping: &Tasks) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < self.export.batch {
            let room = self.export.batch - batch.len();
            let delay_over = async move {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let is_open = !spans.is_closed();
            tokio::select! {
                number = spans.recv_many(&mut batch, room) => {
                    // Closed and empty.
                    if number == 0 {
                        break;
                    }
                    until.get_or_insert_with(|| Instant::now() + self.export.delay);
                }
                // The provider is never dropped, so the queue is closed here.
                () = stopping.stopped(), if is_open => spans.close(),
                () = delay_over => break,
            }
        }
        batch
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let number = batch.len();
        // Counted as failed if this future is dropped.
        let mut sent = CountedSpans { number, fate: SpanFate::Failed };
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
struct CountedSpans {
    number: usize,
    fate: SpanFate,
}

impl Drop for CountedSpans {
    fn drop(&mut self) {
        spans(self.fate, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tokio::task::yield_now;

    use super::*;

    /// Counts what it is given.
    #[derive(Clone, Debug, Default)]
    struct Counter(Arc<AtomicUsize>);

    impl SpanExporter for Counter {
        fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
            self.0.fetch_add(batch.len(), Ordering::SeqCst);
            ready(Ok(()))
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn span_of_an_unfinished_batch_is_exported_at_the_stop() {
        let tasks = Tasks::new(MINUTE);
        let counter = Counter::default();
        let export = Export { delay: MINUTE, patience: MINUTE, queue: 8, batch: 4 };
        let queue = start(counter.clone(), export, &tasks);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        tracer.start("one").end();
        // The task takes it from the queue.
        for _ in 0..10 {
            yield_now().await;
        }
        // Still in the queue at the stop: more than one batch.
        for _ in 0..6 {
            tracer.start("later").end();
        }
        tasks.stop();
        timeout(MINUTE, tasks.drained()).await.unwrap();
        assert_eq!(counter.0.load(Ordering::SeqCst), 7);
    }
}
