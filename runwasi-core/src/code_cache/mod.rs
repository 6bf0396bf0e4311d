//! Compiled code: cache on disk ([`store`]), digests of files that need not be read again
//! ([`digests`]), one compilation for concurrent requests ([`single_flight`]), threads of low
//! priority to compile on ([`compile_threads`]).

pub mod compile_threads;
pub mod digests;
pub mod single_flight;
pub mod store;
