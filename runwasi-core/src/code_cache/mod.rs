//! Compiled code: cache on disk ([`store`]), digests of files that need not be read again
//! ([`digests`]), one compilation for concurrent requests ([`single_flight`]), an OS process to
//! compile in ([`compile_process`]) or threads of low priority ([`compile_threads`]).

pub mod compile_process;
pub mod compile_threads;
pub mod digests;
pub mod inventory;
pub mod single_flight;
pub mod store;
