//! Test support for this crate, its dependents and integrators, and for small programs without
//! containerd (feature `testing`).
//!
//! | type | purpose |
//! |---|---|
//! | [`Harness`] | serves the real Task service on a real socket |
//! | [`ScriptedEngine`] | engine with scripted guests |
//! | [`Recorder`] | records the events |
//! | [`BundleBuilder`] | writes bundles |
//! | [`ImageStore`] | in-memory image store |
//! | [`TaskClient`] | client of the Task service |

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

pub use crate::{
    containerd::task_client::{CallError, Target, TaskClient, TaskState},
    events::Event,
    process::Info,
    sandbox::{Sandbox, error::SandboxError},
    shutdown::Tasks,
};
