//! Guests on the guest runtime: the group of futures of a process and the fair queue before them.

pub mod bandwidth;
pub mod group;
pub mod queue;
