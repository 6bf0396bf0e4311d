//! The ttrpc services: decode, one call, encode. Protobuf types end here.
//!
//! [`contained`] answers for a call that panics. [`task`] and `sandbox` answer containerd,
//! [`metrics`] writes down what a container has used.

pub mod contained;
pub(crate) mod convert;
pub mod metrics;
mod options;
mod sandbox;
pub(crate) mod status;
pub mod task;
