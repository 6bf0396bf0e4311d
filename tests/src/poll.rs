//! Waiting for a condition with a deadline; called by the fixture and by tests instead of fixed sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` again and again until it gives a value; after `limit` fails with `what` in the message.
pub fn poll_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if begin.elapsed() > limit {
            bail!("{what}: not seen within {limit:?}");
        }
        nap(pause);
        // Most conditions hold within milliseconds; the slow ones must not burn a core the guest needs.
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}

/// For a wait that is no condition's; of a random time, for example.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the fixture that sleeps: between two probes, and at random"
)]
pub(crate) fn nap(pause: Duration) {
    std::thread::sleep(pause);
}
