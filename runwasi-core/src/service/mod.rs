//! The ttrpc services: decode, one call, encode. Protobuf types end here.
//!
//! [`contained`] answers for a call that panics. [`task`] and `sandbox` answer containerd,
//! [`metrics`] writes down what a container has used.

pub mod contained;
pub(crate) mod convert;
pub mod metrics;
mod options;
pub(crate) mod sandbox;
pub(crate) mod status;
pub mod task;

/// The one span of a request: every line logged below it carries the call and the container.
pub(super) fn rpc(call: &'static str, id: &str) -> tracing::Span {
    tracing::debug_span!("rpc", call, id)
}
