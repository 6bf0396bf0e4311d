//! Compiled code: where starts have found it, and its compilations. Counted by the engine.

use std::time::Duration;

use super::{
    labels::label,
    numbers::{Counter, Gauge, Histogram, Present, SLOW},
};

label! {
    /// Place at which a start has found the compiled code of its program.
    Lookup {
        /// In this OS process, linked.
        Memory = "memory",
        /// In the code cache on disk.
        Disk = "disk",
        /// Nowhere: it is compiled.
        Miss = "miss",
    }
}

label! {
    /// Result of a compilation.
    Compilation {
        /// There is code.
        Compiled = "compiled",
        /// The program is invalid, does not fit, or takes too much time or memory.
        Refused = "refused",
        /// No start waits for it any more.
        Abandoned = "abandoned",
    }
}

static LOOKUPS: [Counter; Lookup::COUNT] = [const { Counter::new() }; Lookup::COUNT];
static COMPILATIONS: [Counter; Compilation::COUNT] = [const { Counter::new() }; Compilation::COUNT];
static TIMES: Histogram = Histogram::new(SLOW);
static RUNNING: Gauge = Gauge::new();
static DISTRUSTED: Counter = Counter::new();

/// Counts a lookup of a start.
pub fn looked_up(lookup: Lookup) {
    LOOKUPS[lookup as usize].add(1);
}

/// Counts a look at a file of the code cache that was damaged, or that others could have written.
pub(crate) fn distrusted() {
    // A look, and not a file: until it is compiled again each start looks.
    DISTRUSTED.add(1);
}

/// Counts a compilation that is under way, for as long as the returned value lives.
pub fn compiling() -> Present {
    RUNNING.hold()
}

/// Counts a compilation and its time.
pub fn compiled(compilation: Compilation, time: Duration) {
    COMPILATIONS[compilation as usize].add(1);
    TIMES.observe(time);
}

/// The present values, for the exposition.
pub(super) mod values {
    use super::*;
    use crate::metrics::numbers::Distribution;

    pub(in crate::metrics) fn lookups(lookup: Lookup) -> u64 {
        LOOKUPS[lookup as usize].get()
    }

    pub(in crate::metrics) fn compilations(compilation: Compilation) -> u64 {
        COMPILATIONS[compilation as usize].get()
    }

    pub(in crate::metrics) fn distrusted() -> u64 {
        DISTRUSTED.get()
    }

    pub(in crate::metrics) fn running() -> i64 {
        RUNNING.get()
    }

    pub(in crate::metrics) fn times() -> Distribution {
        TIMES.get()
    }
}
