//! The ttrpc services: decode, one call, encode. Protobuf types end here.
//!
//! [`contained`] answers for a call that panics. [`task`] and `sandbox` answer containerd, [`forward`] and [`images`] (gRPC) speak to it, [`client`] plays it (for `delete`, tests and examples).

pub mod client;
pub mod contained;
pub(crate) mod convert;
pub mod forward;
pub mod images;
mod options;
mod sandbox;
pub(crate) mod status;
pub mod task;
