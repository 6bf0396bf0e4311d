//! Traces: spans of starts and of HTTP requests, for a [`Tracer`] that the program installs.
//!
//! Without a tracer a [`Span`] is nothing, and its beginning costs one look at a static. The tracer
//! decides which spans are recorded and hands them on; it must not wait.
//!
//! ```text
//! thin shim ── time ──▶ daemon ─▶ ThinStarts ─┐
//! containerd ── traceparent ──▶ Create ───────┴─▶ StartTrace: container start
//!                                                   ├─ shim, sandbox, prepare, streams, engine
//!                                                   ├─ instantiate ─▶ first instruction
//!                                                   └─ delegate, create, start: native ones
//! containerd ── traceparent ──▶ Exec ────────────────▶ StartTrace: exec start, with such parts
//! ```
//!
//! | module | one thing |
//! |---|---|
//! | [`context`] | identity of a span, in W3C's header fields |
//! | [`start`] | the trace of the start of a container or an exec |

pub mod context;
pub mod start;

use std::{
    fmt::{self, Display},
    sync::OnceLock,
    time::SystemTime,
};

use self::context::SpanContext;

static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// Longest text of an attribute, in bytes. Most are untrusted.
const LONGEST: usize = 256;

/// Records spans. Called by any thread, workers of guests included: it must not wait.
pub trait Tracer: Send + Sync + 'static {
    /// Begins a span.
    fn begin(&self, beginning: Beginning<'_>) -> Box<dyn Recording>;
}

/// Beginning of a span.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// Its name, one of a few.
    pub name: &'static str,
    /// Its side of a call.
    pub kind: Kind,
    /// The span it is a part of. Without one it begins a trace.
    pub parent: Option<&'a SpanContext>,
    /// Its time.
    pub at: SystemTime,
}

/// Side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither.
    Internal,
    /// Answers a call.
    Server,
    /// Makes a call.
    Client,
}

/// A value of an attribute.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A text, perhaps untrusted. It is cut to 256 bytes.
    Text(&'a str),
    /// A number.
    Number(i64),
}

/// A span of a tracer.
pub trait Recording: Send + Sync {
    /// Its identity.
    fn context(&self) -> SpanContext;

    /// Adds an attribute.
    fn set(&mut self, key: &'static str, value: Value<'_>);

    /// Marks it as failed.
    fn fail(&mut self, reason: &str);

    /// Ends it.
    fn end(&mut self, at: SystemTime);
}

/// Installs the tracer of this process. A second one is ignored.
pub fn install(tracer: Box<dyn Tracer>) {
    // An error: the first one stays.
    let _ = TRACER.set(tracer);
}

/// True with a tracer.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span, or nothing. Ends with its drop.
#[derive(Default)]
pub struct Span(Option<Box<dyn Recording>>);

impl Span {
    /// Begins a span now.
    pub fn begin(name: &'static str, kind: Kind, parent: Option<&SpanContext>) -> Self {
        if !is_on() {
            return Self(None);
        }
        Self::begin_at(Beginning { name, kind, parent, at: SystemTime::now() })
    }

    /// Begins a span at another time.
    pub fn begin_at(beginning: Beginning<'_>) -> Self {
        Self(TRACER.get().map(|tracer| tracer.begin(beginning)))
    }

    /// Its identity, if there is a tracer.
    pub fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|span| span.context())
    }

    /// Begins a part of this span. Without a span, it is nothing.
    pub fn child(&self, name: &'static str) -> Self {
        let context = self.context();
        context
            .map_or_else(Self::default, |parent| Self::begin(name, Kind::Internal, Some(&parent)))
    }

    /// Adds an attribute with a text.
    pub fn set_text(&mut self, key: &'static str, text: &str) {
        if let Some(span) = &mut self.0 {
            span.set(key, Value::Text(&text[..text.floor_char_boundary(LONGEST)]));
        }
    }

    /// Adds an attribute with a number.
    pub fn set_number(&mut self, key: &'static str, number: i64) {
        if let Some(span) = &mut self.0 {
            span.set(key, Value::Number(number));
        }
    }

    /// Marks it as failed. The reason may be untrusted.
    pub fn fail(&mut self, reason: &dyn Display) {
        if let Some(span) = &mut self.0 {
            let reason = reason.to_string();
            span.fail(&reason[..reason.floor_char_boundary(LONGEST)]);
        }
    }

    /// Ends it at another time than now.
    pub fn end_at(mut self, at: SystemTime) {
        if let Some(mut span) = self.0.take() {
            span.end(at);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut span) = self.0.take() {
            span.end(SystemTime::now());
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Span").field(&self.context()).finish()
    }
}
