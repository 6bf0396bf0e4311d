//! The series of a process over HTTP, for the daemon and for a shim per pod.
//!
//! ```text
//! scrape ─▶ listener ─▶ connection, 16 at most, 10 s each ─▶ answer ─▶ Exposition, one at a time
//! ```
//!
//! | module | one thing |
//! |---|---|
//! | [`connections`] | connections and their bounds |
//! | [`answer`] | one request |
//! | `shim` | the socket of a shim per pod |

pub mod answer;
pub mod connections;
pub(crate) mod shim;
