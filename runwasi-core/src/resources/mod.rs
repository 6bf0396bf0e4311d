//! What a container may use and has used: [`memory`] is counted where guests ask for it, CPU time where they are polled (`guest`);
//! [`metrics`] tells containerd.

pub mod memory;
pub mod metrics;
