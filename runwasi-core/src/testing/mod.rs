//! For tests of this crate, of dependents and of integrators, and for small programs without containerd (feature
//! `testing`): [`Harness`] serves the real Task service on a real socket, [`ScriptedEngine`] is an engine whose guests
//! do what their arguments say, [`Recorder`] keeps the events, [`BundleBuilder`] writes bundles, [`ImageStore`] has images.

mod bundle;
mod engine;
mod harness;
mod images;
mod recorder;

pub use bundle::BundleBuilder;
pub use engine::ScriptedEngine;
pub use harness::{Harness, Pipes};
pub use images::ImageStore;
pub use recorder::Recorder;
