//! How exactly guests sleep; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Containers};

/// Milliseconds, and how often.
const TIMER: [&str; 3] = ["timer", "1", "100"];
/// Most of the guest's median, in medians of the native program. With timers of whole milliseconds
/// it is 2.
const MOST: f64 = 1.5;

/// Median of the sleeps that a `timer` prints, in microseconds.
fn median(printed: &str) -> Result<f64> {
    let mut sleeps = printed
        .split_whitespace()
        .map(str::parse::<u64>)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("not a timer's output: {printed:?}"))?;
    ensure!(sleeps.len().to_string() == TIMER[2], "{} sleeps", sleeps.len());
    sleeps.sort_unstable();
    Ok(sleeps[sleeps.len() / 2] as f64)
}

pub(crate) fn millisecond_of_sleep_ends_as_exactly_as_a_native_one(
    c: &mut Containers,
) -> Result<()> {
    let mut last = String::new();
    // Other work of the machine makes a sleep longer, never shorter.
    for attempt in 0..5 {
        let program = target_dir().join("guests/wasmtest-native");
        let native = Command::new(program).args(TIMER).deadline(Duration::from_secs(60)).spawn()?;
        let guest = c.run(&c.id(&format!("sleeps{attempt}")), &TIMER)?.ok()?;
        let guest = median(&guest.out())?;
        let native = median(&native.wait()?.ok()?.out())?;
        if guest <= MOST * native {
            return c.fixture.becomes_clean();
        }
        last = format!("{guest} us, and {native} us natively");
    }
    anyhow::bail!("the median sleep of 1 ms takes {last}")
}
