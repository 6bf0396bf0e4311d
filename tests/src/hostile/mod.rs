//! Hostile guests and their neighbours, for the tests of `tests/tests/hostile` and the benchmark
//! `attacks`.
//!
//! - [`programs`]: the hostile guests.
//! - [`guests`]: a container of one of them.
//! - [`neighbours`]: two innocent guests, by which an attack is judged.
//! - [`hung`], [`lease`]: files whose calls do not return.
//! - [`hints`]: an upstream without a response.

pub mod guests;
pub mod hints;
pub mod hung;
pub mod lease;
pub mod neighbours;
pub mod programs;
