//! Resource limits and usage of a container. [`memory`] is counted where guests ask for it, CPU
//! time where they are polled ([`scheduler`](crate::scheduler)).

pub mod descriptors;
pub mod maps;
pub mod memory;
pub mod usage;
