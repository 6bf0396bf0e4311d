//! How long short sleeps of a guest take beside those of a native program; called by `main`.
//!
//! The guest measures itself by its own clock. Rounds of the guest and of a thread of this program
//! alternate; what counts is the ratio within a round.

use std::fs;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use runwasi_tests::Runtime;

use crate::fake_containerd::{FakeContainerd, Storage};
use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};

/// The guest, in the text format.
const GUEST: &str = include_str!("guest.wat");

/// Length of a sleep, how often, its name in the rows, and the most times of a native sleep.
const SLEEPS: [(Duration, u32, &str, f64); 2] = [
    (Duration::from_millis(1), 200, "sleep_1_ms", 1.1),
    (Duration::from_micros(100), 1000, "sleep_100_us", 1.5),
];

/// Rounds that count at most, after one to warm up.
const ROUNDS: usize = 15;

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for runtime in bench.options.wasm_runtimes() {
        rows.extend(FakeContainerd::with(runtime, Storage::Memory, |fake| {
            let of_sleep = |sleep| rows_of(bench, fake, runtime, sleep);
            SLEEPS.into_iter().map(of_sleep).collect::<Result<Vec<_>>>()
        })?);
    }
    Ok(rows.concat())
}

fn rows_of(
    bench: &Bench,
    fake: &FakeContainerd,
    runtime: Runtime,
    (length, count, name, goal): (Duration, u32, &'static str, f64),
) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds.min(ROUNDS);
    bench.say(&format!("{name} in {}, {rounds} interleaved rounds", short(runtime)))?;
    let nanos = length.as_nanos().to_string();
    let text = GUEST.replace("NANOS", &nanos).replace("COUNT", &count.to_string());
    let file = format!("{name}.wat");
    fs::write(fake.layer().join(&file), text)?;
    let mut guests = Vec::new();
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        bench.interrupt.check()?;
        let native = native(length, count)?;
        let guest = guest(fake, &file, &format!("{name}-{round}"))? / 1e3 / f64::from(count);
        if round > 0 {
            guests.push(guest);
            ratios.push(guest / native);
        }
    }
    let to_native =
        Row::new(format!("{name}_to_native"), short(runtime), stats::median(&ratios)?, "x");
    Ok(vec![Row::new(name, short(runtime), stats::median(&guests)?, "us"), to_native.at_most(goal)])
}

/// Microseconds of a sleep of this program.
fn native(length: Duration, count: u32) -> Result<f64> {
    #[expect(clippy::disallowed_methods, reason = "the sleep of a native program, on its thread")]
    let sleeps = move || {
        let begin = Instant::now();
        (0..count).for_each(|_| thread::sleep(length));
        begin.elapsed()
    };
    let slept = thread::spawn(sleeps).join().map_err(|_| anyhow!("the native sleeper panicked"))?;
    Ok(slept.as_secs_f64() * 1e6 / f64::from(count))
}

/// Nanoseconds of all sleeps of the guest.
fn guest(fake: &FakeContainerd, file: &str, id: &str) -> Result<f64> {
    let mut container = fake.program(id, &[&format!("/{file}")])?;
    let fifo = container.pipe_output()?.to_owned();
    let reader = thread::spawn(move || {
        let mut said = String::new();
        fs::File::open(&fifo)?.read_to_string(&mut said)?;
        Ok::<_, std::io::Error>(said)
    });
    fake.run_to_success(&container)?;
    let said = reader.join().map_err(|_| anyhow!("the reader panicked"))?.context("no output")?;
    said.parse().with_context(|| format!("the guest said {said:?}"))
}
