//! The trace of a start. That of a container begins with the `main` of the thin shim, that of an
//! exec with containerd's `Exec`. Both end at the first instruction of the guest, or when the
//! delegate has started a native process.
//!
//! The thin shim sends its time, and the daemon notes it (`ThinStarts`). The trace begins at that
//! time when containerd's `Create` has come, which may name the parent of the trace.

use std::{collections::HashMap, fmt::Display, sync::Arc, time::SystemTime};

use super::{Beginning, Kind, Span, context::SpanContext, is_on};
use crate::{id::Id, lock::Mutex, observe::Subject};

/// Most starts of thin shims that wait for their `Create`, for each sandbox.
const MOST: usize = 64;

/// Times of a thin shim's start.
#[derive(Clone, Debug)]
pub struct ThinStart {
    /// Its `main` has begun.
    pub began: SystemTime,
    /// The daemon has its request.
    pub asked: SystemTime,
    /// The sandbox is there.
    pub made: SystemTime,
}

/// Starts of thin shims that wait for their `Create`.
// Locked for single changes.
#[derive(Debug, Default)]
pub(crate) struct ThinStarts(Mutex<HashMap<Id, ThinStart>>);

impl ThinStarts {
    /// Notes a start. Without a tracer, or beyond the bound, nothing is noted.
    pub(crate) fn note(&self, container: Id, start: ThinStart) {
        let mut starts = self.0.lock();
        if is_on() && starts.len() < MOST {
            starts.insert(container, start);
        }
    }

    pub(crate) fn take(&self, container: &Id) -> Option<ThinStart> {
        self.0.lock().remove(container)
    }
}

/// The span of the start of a container or an exec. Clones are the same span; it ends when the
/// program runs, when the start has failed, or with the last clone.
#[derive(Clone, Debug, Default)]
pub struct StartTrace(Option<Arc<Mutex<Span>>>);

impl StartTrace {
    /// Begins the trace, with the parts of the thin shim and of the sandbox.
    pub(crate) fn begin(thin: Option<ThinStart>, parent: Option<&SpanContext>) -> Self {
        if !is_on() {
            return Self(None);
        }
        let now = SystemTime::now();
        let at = thin.as_ref().map_or(now, |thin| thin.began);
        let name = "container start";
        let span = Span::begin_at(Beginning { name, kind: Kind::Internal, parent, at });
        if let (Some(thin), Some(context)) = (thin, span.context()) {
            let part = |name, at, end| {
                let parent = Some(&context);
                Span::begin_at(Beginning { name, kind: Kind::Internal, parent, at }).end_at(end);
            };
            part("shim", thin.began, thin.asked);
            part("sandbox", thin.asked, thin.made);
        }
        Self(Some(Arc::new(Mutex::new(span))))
    }

    /// Begins the trace of an exec.
    pub(crate) fn of_exec(subject: &Subject, exec: &Id, parent: Option<&SpanContext>) -> Self {
        if !is_on() {
            return Self(None);
        }
        // Without a start of the thin shim: containerd sends an exec to the server that there is.
        let mut span = Span::begin("exec start", Kind::Internal, parent);
        span.set_text("runwasi.exec.id", exec.as_str());
        let trace = Self(Some(Arc::new(Mutex::new(span))));
        trace.describe(subject);
        trace
    }

    /// Begins a part of the start.
    pub(crate) fn part(&self, name: &'static str) -> Span {
        self.0.as_ref().map(|span| span.lock().child(name)).unwrap_or_default()
    }

    /// Adds the names of the container.
    pub(crate) fn describe(&self, subject: &Subject) {
        let Some(span) = &self.0 else { return };
        let mut span = span.lock();
        span.set_text("container.id", subject.container.as_str());
        span.set_text("containerd.namespace", subject.namespace.as_str());
        span.set_text("runwasi.sandbox.id", subject.sandbox.as_str());
        if let Some(pod) = &subject.pod {
            span.set_text("k8s.pod.name", &pod.name);
            span.set_text("k8s.namespace.name", &pod.namespace);
        }
    }

    /// Ends the trace: the program runs.
    pub(crate) fn started(&self) {
        if let Some(span) = &self.0 {
            drop(std::mem::take(&mut *span.lock()));
        }
    }

    /// Ends the trace: the start has failed.
    pub(crate) fn failed(&self, reason: &dyn Display) {
        if let Some(span) = &self.0 {
            let mut span = std::mem::take(&mut *span.lock());
            span.fail(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tracer_nothing_is_noted() {
        let starts = ThinStarts::default();
        let id = Id::parse("id", "c").unwrap();
        let now = SystemTime::now();
        starts.note(id.clone(), ThinStart { began: now, asked: now, made: now });
        assert!(starts.take(&id).is_none());
        let trace = StartTrace::begin(None, None);
        assert!(trace.part("x").context().is_none());
        trace.started();
        trace.failed(&"no");
        let subject = Subject::new((&id, &id), &id, &HashMap::new());
        assert!(StartTrace::of_exec(&subject, &id, None).part("x").context().is_none());
    }
}
