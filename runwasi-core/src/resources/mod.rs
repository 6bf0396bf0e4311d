//! What a container may use and has used: [`memory`] is counted where guests ask for it, CPU time where they are polled (`guest`);
//! [`metrics`] tells containerd, and [`cgroups`] has the kernel stand behind the limits of a shim.

pub mod cgroups;
pub mod memory;
pub mod metrics;
