//! What it costs a guest that computes to be interruptible, and to be scheduled and metered; called by `main`.
//!
//! ```text
//! bare       wasmtime as the shims set it up, but nothing can stop the guest
//! epochs     the guest yields at every epoch
//! wrapped    the same future in a container's group: fair queue, polling wrapper, CPU meter; no limits
//! inlined    like epochs, compiled for speed at any size
//! ```
//!
//! The last one is judged against the first, too: it is what a guest can have that must be stoppable. It wins by itself, not by fewer
//! looks at the epoch alone.
//!
//! All four run the same work in this OS process, on runtimes with a worker a core. A round runs each once, in a random order; what
//! is compared is the CPU time of all threads: that of the clock and of a worker that is woken for nothing is in it, that of others
//! on the machine is not.

mod course;
mod work;

use anyhow::{Context, Result};

use crate::results::Row;
use crate::{Bench, stats};
use course::{Course, Way};
use work::{PROGRAM, WORK};

/// Rounds that are run and dropped.
const WARM_UP: usize = 2;

/// The most that epochs may add to a guest without, and the wrapper to one with epochs, in percent.
const GOAL_EPOCHS: f64 = 5.0;
const GOAL_WRAPPER: f64 = 3.0;

/// The engine is not one of the shims.
const RUNTIME: &str = "in-process";

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds;
    bench
        .say(&format!("a guest that computes: bare, with epochs, wrapped and inlined, {rounds} interleaved rounds"))?;
    let courses = WORK.iter().map(Course::new).collect::<Result<Vec<_>>>()?;
    let mut times = vec![Times::default(); courses.len()];
    for round in 0..WARM_UP + rounds {
        for (course, times) in courses.iter().zip(&mut times) {
            bench.interrupt.check()?;
            let this = Times::of_a_round(course)?;
            if round >= WARM_UP {
                times.extend(&this);
            }
        }
    }
    let rows = courses.iter().zip(&times).map(|(course, times)| times.rows(course.work.name));
    let mut rows = rows.collect::<Result<Vec<_>>>()?.concat();
    for course in courses.iter().filter(|course| course.work.name == PROGRAM) {
        let (time, bytes) = course.price_of_inlining();
        rows.push(Row::new(format!("compute_{PROGRAM}_inlined_compile_time"), RUNTIME, time, "x"));
        rows.push(Row::new(format!("compute_{PROGRAM}_inlined_code_size"), RUNTIME, bytes, "x"));
    }
    Ok(rows)
}

/// Milliseconds of CPU time, a series for each way.
#[derive(Clone, Default)]
struct Times([Vec<f64>; 4]);

impl Times {
    fn of_a_round(course: &Course) -> Result<Self> {
        let mut ways = Way::ALL;
        fastrand::shuffle(&mut ways);
        let mut times = Self::default();
        for way in ways {
            let took = course.run(way).with_context(|| format!("{way:?} {}", course.work.name))?;
            times.0[way as usize].push(took.as_secs_f64() * 1e3);
        }
        Ok(times)
    }

    fn extend(&mut self, more: &Self) {
        self.0.iter_mut().zip(&more.0).for_each(|(all, more)| all.extend(more));
    }

    /// How many times as long one way takes as another: of the rounds the median.
    fn ratio(&self, way: Way, base: Way) -> Result<f64> {
        let [way, base] = [way, base].map(|way| &self.0[way as usize]);
        stats::median(&way.iter().zip(base).map(|(way, base)| way / base).collect::<Vec<_>>())
    }

    /// Those of the program are judged; what is by itself in the others is mixed in it.
    fn rows(&self, work: &str) -> Result<Vec<Row>> {
        let row = |figure: &str, value, unit| Row::new(format!("compute_{work}_{figure}"), RUNTIME, value, unit);
        let epochs = row("epochs_add", percent(self.ratio(Way::Epochs, Way::Bare)?), "%");
        let inlined = row("inlined_adds", percent(self.ratio(Way::Inlined, Way::Bare)?), "%");
        let wrapper = row("wrapper_adds", percent(self.ratio(Way::Wrapped, Way::Epochs)?), "%").at_most(GOAL_WRAPPER);
        let judged = |row: Row| if work == PROGRAM { row.at_most(GOAL_EPOCHS) } else { row };
        let bare = row("bare", stats::median(&self.0[Way::Bare as usize])?, "ms");
        Ok(vec![bare, judged(epochs), judged(inlined), wrapper])
    }
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_rounds() {
        // The second round was slow for all.
        let inlined = vec![10.4, 20.8, 10.4];
        let times = Times([vec![10.0, 20.0, 10.0], vec![10.6, 21.2, 10.6], vec![10.812, 21.624, 10.812], inlined]);
        let rows = times.rows(PROGRAM).unwrap();
        for (row, value) in rows[1..].iter().zip([6.0, 4.0, 2.0]) {
            assert!((row.value - value).abs() < 1e-9, "{row:?}");
        }
        assert_eq!(rows.iter().map(Row::met).collect::<Vec<_>>(), [None, Some(false), Some(true), Some(true)]);
        let kinds: Vec<_> = times.rows("sieve").unwrap().iter().map(Row::met).collect();
        assert_eq!(kinds, [None, None, None, Some(true)]);
    }
}
