//! Metrics of this OS process, in the text formats of OpenMetrics and Prometheus.
//!
//! ```text
//! driver, HTTP server, compiler … ─ one atomic addition ─▶ statics of lives, code, http, delivery
//!                                                                     │
//! scrape ─▶ exposition ─ reads ───────────────────────────────────────┘
//!                      └─ asks: memory accounts, fair queue, engine, kernel
//! ```
//!
//! Frequent events are counted where they happen, by an addition to an atomic. Numbers of what
//! exists are asked for at the scrape. No series has a label with the id of a container, a pod or a
//! namespace: ids are untrusted, and their number has no bound. Every label is an enum of this
//! program.
//!
//! | module | one thing |
//! |---|---|
//! | `numbers` | counter, gauge and histogram of atomics; shards of what workers count |
//! | `labels` | an enum as the values of a label |
//! | [`lives`] | sandboxes, containers and execs: states, starts, exits |
//! | [`code`] | lookups of compiled code, compilations |
//! | [`http`] | connections and requests of HTTP services |
//! | [`delivery`] | events, log lines and spans: delivered, lost |
//! | `process` | the OS process, as the kernel sees it |
//! | `families` | writer of metric families |
//! | [`exposition`] | all series, in their order |

pub mod code;
pub mod delivery;
pub mod exposition;
mod families;
pub mod http;
mod labels;
pub mod lives;
mod numbers;
mod process;

pub use numbers::Present;
