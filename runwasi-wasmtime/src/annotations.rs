//! Names of the annotations that the engine reads, for
//! [`Engine::annotations`](runwasi_core::Engine::annotations).

use crate::{outbound::policy, wasi::config};

/// The names. One that ends with a dot is a prefix.
pub(crate) const NAMES: [&str; 11] = [
    config::ANNOTATION,
    "io.runwasi.http.address",
    "io.runwasi.http.concurrent-reuse",
    "io.runwasi.http.header-timeout",
    "io.runwasi.http.idle-timeout",
    "io.runwasi.http.max-connections",
    "io.runwasi.http.max-requests",
    "io.runwasi.http.max-reuse",
    "io.runwasi.http.queue-timeout",
    "io.runwasi.http.request-timeout",
    policy::ANNOTATION,
];
