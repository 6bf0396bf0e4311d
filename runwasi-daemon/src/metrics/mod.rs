//! Metrics of the daemon over HTTP, for Prometheus.
//!
//! The address belongs to the daemon that takes new sandboxes: a successor takes it over. That one
//! also serves the series of retired daemons, which still have guests, with a label of their own.
//!
//! | module | one thing |
//! |---|---|
//! | [`address`] | the setting |
//! | `listener` | the socket, and its takeover |
//! | `server` | from the takeover of the address to its end |
//! | `retired` | series of retired daemons beside those of this one |

pub mod address;
pub mod listener;
pub(crate) mod retired;
pub(crate) mod server;
