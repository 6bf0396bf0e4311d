//! Compiled code: cache on disk ([`store`]), digests of files that need not be read again
//! ([`digests`]), one compilation for concurrent requests ([`single_flight`]), compiler threads of
//! low priority ([`workers`]).

pub mod digests;
pub mod single_flight;
pub mod store;
pub mod workers;
