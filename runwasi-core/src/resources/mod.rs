//! Resource limits and usage of a container. [`memory`] is counted where guests ask for it and
//! where the host allocates for them ([`allocator`]), CPU time where they are polled
//! ([`scheduler`](crate::scheduler)).

mod account;
pub mod allocator;
pub mod descriptors;
pub mod growth;
pub mod maps;
pub mod memory;
pub mod usage;
