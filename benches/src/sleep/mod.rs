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
        let before = bench.options.before.as_deref();
        rows.extend(FakeContainerd::with_before(
            runtime,
            before,
            Storage::Memory,
            |fake, before| {
                let of_sleep = |sleep| rows_of(bench, fake, before, runtime, sleep);
                SLEEPS.into_iter().map(of_sleep).collect::<Result<Vec<_>>>()
            },
        )?);
    }
    Ok(rows.concat())
}

fn rows_of(
    bench: &Bench,
    fake: &FakeContainerd,
    before: Option<&FakeContainerd>,
    runtime: Runtime,
    (length, count, name, goal): (Duration, u32, &'static str, f64),
) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds.min(ROUNDS);
    bench.say(&format!("{name} in {}, {rounds} interleaved rounds", short(runtime)))?;
    let nanos = length.as_nanos().to_string();
    let text = GUEST.replace("NANOS", &nanos).replace("COUNT", &count.to_string());
    let file = format!("{name}.wat");
    for fake in [fake].into_iter().chain(before) {
        fs::write(fake.layer().join(&file), &text)?;
    }
    let mut guests = Vec::new();
    let (mut to_native, mut to_before) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        bench.interrupt.check()?;
        let native = native(length, count)?;
        let slept = |fake| {
            let slept = guest(fake, &file, &format!("{name}-{round}"))?;
            Ok::<_, anyhow::Error>(slept / 1e3 / f64::from(count))
        };
        let (guest, earlier) = (slept(fake)?, before.map(slept).transpose()?);
        if round > 0 {
            guests.push(guest);
            to_native.push(guest / native);
            to_before.extend(earlier.map(|earlier| guest / earlier));
        }
    }
    let ratio = |end, ratios: &[f64]| {
        let name = format!("{name}_to_{end}");
        Ok::<_, anyhow::Error>(Row::new(name, short(runtime), stats::median(ratios)?, "x"))
    };
    let mut rows = vec![
        Row::new(name, short(runtime), stats::median(&guests)?, "us"),
        ratio("native", &to_native)?.at_most(goal),
    ];
    if !to_before.is_empty() {
        rows.push(ratio("before", &to_before)?);
    }
    Ok(rows)
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
