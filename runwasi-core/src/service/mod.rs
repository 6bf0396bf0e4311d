//! The ttrpc services.
//!
//! Each method decodes its request, makes one call and encodes the answer. Protobuf types end here.
//!
//! [`task`] and `sandbox` are containerd's services. [`contained`] answers calls that panic, and
//! [`metrics`] encodes the usage of a container. `native` forwards the calls for native containers,
//! and `native_usage` asks for their usage. `pod` decodes the CRI's configuration of a pod.

pub mod contained;
pub(crate) mod convert;
pub mod metrics;
mod native;
mod native_usage;
pub(crate) mod options;
mod pod;
pub(crate) mod sandbox;
pub(crate) mod status;
pub mod task;

/// Span of a request: every line that is logged within it carries the call and the id.
pub(super) fn rpc(call: &'static str, id: &str) -> tracing::Span {
    tracing::debug_span!("rpc", call, id)
}
