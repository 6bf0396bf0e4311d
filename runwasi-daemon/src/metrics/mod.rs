//! Metrics of the daemon over HTTP, for Prometheus.
//!
//! ```text
//! scrape ─▶ listener ─▶ connection, 16 at most, 10 s each ─▶ answer ─▶ Exposition, one at a time
//! ```
//!
//! The address belongs to the daemon that takes new sandboxes: a successor takes it over. That one
//! also serves the series of retired daemons, which still have guests, with a label of their own.
//!
//! | module | one thing |
//! |---|---|
//! | [`address`] | the setting |
//! | `listener` | the socket, and its takeover |
//! | `server` | connections and their bounds |
//! | `answer` | one request |
//! | `retired` | series of retired daemons beside those of this one |

pub mod address;
pub(crate) mod answer;
pub mod listener;
mod retired;
pub(crate) mod server;
