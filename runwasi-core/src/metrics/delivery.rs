//! Deliveries of this process to others, which may be lost: events, log lines, spans.

use super::{
    labels::label,
    numbers::{Counter, Gauge, Present},
};

label! {
    /// Fate of an event for containerd.
    EventFate {
        /// containerd has it.
        Delivered = "delivered",
        /// containerd does not get it.
        Lost = "lost",
    }
}

label! {
    /// Fate of a span for the collector of traces.
    SpanFate {
        /// The collector has it.
        Exported = "exported",
        /// The queue was full.
        Dropped = "dropped",
        /// The collector has not taken it.
        Failed = "failed",
    }
}

static WAITING: Gauge = Gauge::new();
static EVENTS: [Counter; EventFate::COUNT] = [const { Counter::new() }; EventFate::COUNT];
static LOG_LINES: Counter = Counter::new();
static SPANS: [Counter; SpanFate::COUNT] = [const { Counter::new() }; SpanFate::COUNT];

/// An event that waits for containerd.
pub(crate) type WaitingEvent = Present;

/// Counts an event that waits for containerd, for as long as the returned value lives.
pub(crate) fn waiting_event() -> WaitingEvent {
    WAITING.hold()
}

/// Counts the fate of events.
pub(crate) fn events(fate: EventFate, number: usize) {
    EVENTS[fate as usize].add(number as u64);
}

/// Counts a line of the log that its reader has not taken.
pub(crate) fn lost_log_line() {
    LOG_LINES.add(1);
}

/// Counts the fate of spans.
pub fn spans(fate: SpanFate, number: usize) {
    SPANS[fate as usize].add(number as u64);
}

/// The present values, for the exposition.
pub(super) mod values {
    use super::*;

    pub(in crate::metrics) fn waiting_events() -> i64 {
        WAITING.get()
    }

    pub(in crate::metrics) fn events(fate: EventFate) -> u64 {
        EVENTS[fate as usize].get()
    }

    pub(in crate::metrics) fn lost_log_lines() -> u64 {
        LOG_LINES.get()
    }

    pub(in crate::metrics) fn spans(fate: SpanFate) -> u64 {
        SPANS[fate as usize].get()
    }
}
