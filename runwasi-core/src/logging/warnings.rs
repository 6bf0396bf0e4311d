//! Warnings of a `delete`, which lives for a moment: lines on stderr, which containerd logs.
//!
//! Without the registry and the filter of a log: the thin shim is small, and has no spans.

use std::io::{self, Write};

use tracing::{
    Event, Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

use super::form::Form;

/// Writes warnings and errors to stderr, in this form.
pub(super) struct Warnings(pub(super) Form);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        // An error: with stderr closed, there is no other place for a warning.
        let _ = io::stderr().write_all(self.0.line(event).as_bytes());
    }

    // Spans are not told.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
