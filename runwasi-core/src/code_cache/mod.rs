//! Compiled code: kept on disk ([`store`]), found by file without reading it ([`digests`]), made once
//! for all who ask at the same time ([`single_flight`]), on threads of low priority ([`workers`]).

pub mod digests;
pub mod single_flight;
pub mod store;
pub mod workers;
