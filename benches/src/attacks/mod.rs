//! Hostile guests beside innocent ones: what the neighbours notice, how soon the attackers are
//! dead, and how much memory they make their server take; called by `main`.
//!
//! ```text
//!  neighbours  ─────────────────────────────────────────────────────▶
//!  attackers            ├─ first ─┤            ├─ second ─┤
//!  measured    ├ alone ─┤├─ with ─┤├─ alone ──┤├── with ──┤├─ alone ─┤
//! ```
//!
//! The neighbours are a hello that is started every 100 ms by `ctr`, and a guest with a timer of
//! 5 ms. Each attack is compared with the parts before and after it. All guests are in one pod, so
//! a shim per pod serves attackers and neighbours, too.
//!
//! `target/bench/attacks.md` is the table of docs/security.md.

mod kinds;
mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::hostile::guests::Guest;
use runwasi_tests::hostile::neighbours::{Neighbours, Percentiles, Samples, rest};
use runwasi_tests::{Containers, Runtime, proc};

use crate::Bench;
use crate::options::short;
use crate::results::Row;
pub(crate) use kinds::{ATTACKS, Attack};
use kinds::{Attackers, Course};

/// Length of a part without attackers; each attack is compared with two of them.
const ALONE: Duration = Duration::from_millis(2500);
/// Length of a part with attackers.
const WITH: Duration = Duration::from_secs(4);
/// Pause after the start and after the end of attackers.
const SETTLE: Duration = Duration::from_millis(500);
/// Time between two starts of an attacker that comes to an end.
const AGAIN: Duration = Duration::from_secs(1);

const MIB: f64 = (1 << 20) as f64;

/// Goals: ratios of a neighbour's percentiles, milliseconds of a kill, MiB above the limit.
const P50: f64 = 1.3;
const P99: f64 = 3.0;
const KILL: f64 = 50.0;
const PEAK: f64 = 8.0;

/// One attack on one runtime.
pub(crate) struct Judged {
    attack: &'static Attack,
    runtime: Runtime,
    timer: Percentiles,
    hello: Percentiles,
    /// Milliseconds; none if there is no guest to kill.
    kill: Option<f64>,
    /// MiB of the server's peak above the limits of the attackers.
    peak: f64,
}

/// Figures of an attack before its neighbours are compared.
struct Attacked {
    with: Samples,
    kill: Option<Duration>,
    peak: f64,
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    // Before the attacks, whose load it would tell.
    let machine = bench.machine()?;
    let mut all = Vec::new();
    for runtime in bench.options.wasm_runtimes() {
        all.extend(on(bench, runtime)?);
    }
    table::write(&machine, &all)?;
    bench.say(&table::text(&all))?;
    Ok(all.iter().flat_map(Judged::rows).collect())
}

fn on(bench: &Bench, runtime: Runtime) -> Result<Vec<Judged>> {
    let wanted: Vec<_> =
        ATTACKS.iter().filter(|attack| bench.options.wants("attacks", attack.name)).collect();
    bench.say(&format!("attacks: {} on {}", wanted.len(), short(runtime)))?;
    let containers = Containers::start(runtime)?;
    let mut neighbours = Neighbours::start(&containers)?;
    let mut before = neighbours.measure(ALONE)?;
    let mut all = Vec::new();
    for attack in wanted {
        bench.interrupt.check()?;
        let named = || format!("{} on {}", attack.name, short(runtime));
        let attacked = attacked(&containers, &mut neighbours, attack).with_context(named)?;
        rest(SETTLE);
        let after = neighbours.measure(ALONE)?;
        let mut alone = before;
        alone.extend(&after);
        let judged = judged(attack, runtime, attacked, alone).with_context(named)?;
        bench.say(&judged.line())?;
        all.push(judged);
        before = after;
    }
    neighbours.end()?;
    Ok(all)
}

fn attacked(c: &Containers, neighbours: &mut Neighbours<'_>, attack: &Attack) -> Result<Attacked> {
    let mut attackers = (attack.prepare)(c)?;
    let server = c.fixture.shims().first().context("no server")?.pid;
    let before = proc::reset_peak(server)?;
    let limit = attackers.limit;
    let (with, kill) = match &mut attackers.course {
        Course::Lasting { guests, .. } => {
            let ids: Result<Vec<_>> = guests.iter_mut().map(|guest| guest.detached(c)).collect();
            lasting(&mut attackers, neighbours, &ids?)?
        }
        Course::Ending { next, status } => (ending(c, neighbours, next, *status)?, None),
    };
    let grown = proc::memory(server, "VmHWM")?.saturating_sub(before);
    Ok(Attacked { with, kill, peak: grown.saturating_sub(limit) as f64 / MIB })
}

fn lasting(
    attackers: &mut Attackers,
    neighbours: &mut Neighbours<'_>,
    ids: &[String],
) -> Result<(Samples, Option<Duration>)> {
    let measured = attackers.connect().and_then(|()| {
        rest(SETTLE);
        neighbours.measure(WITH)
    });
    let kill = neighbours.kill(ids)?;
    Ok((measured?, (!ids.is_empty()).then_some(kill)))
}

/// Measures while one attacker after the other runs to its end.
fn ending(
    c: &Containers,
    neighbours: &mut Neighbours<'_>,
    next: &(dyn Fn(&Containers, usize) -> Result<Guest> + Sync),
    status: i32,
) -> Result<Samples> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attackers = scope.spawn(|| -> Result<()> {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let mut guest = next(c, number)?;
                let ended = guest.command(c, &["--rm"], &c.next_id())?.run()?;
                ensure!(ended.status == status, "not {status}: {ended}");
                number += 1;
                rest(AGAIN.saturating_sub(began.elapsed()));
            }
            ensure!(number > 0, "no attacker has come to its end");
            Ok(())
        });
        rest(SETTLE);
        let measured = neighbours.measure(WITH);
        over.store(true, Ordering::Relaxed);
        attackers.join().expect("a panic of an attacker")?;
        measured
    })
}

fn judged(
    attack: &'static Attack,
    runtime: Runtime,
    attacked: Attacked,
    alone: Samples,
) -> Result<Judged> {
    let without = alone.figures()?;
    let with = attacked.with.figures()?;
    Ok(Judged {
        attack,
        runtime,
        timer: with.timer.to(without.timer),
        hello: with.hello.to(without.hello),
        kill: attacked.kill.map(|kill| kill.as_secs_f64() * 1000.0),
        peak: attacked.peak,
    })
}

impl Judged {
    /// The figures with their goals, by the names of their rows.
    fn figures(&self) -> impl Iterator<Item = (&'static str, f64, &'static str, f64)> {
        let Self { timer, hello, .. } = self;
        let kill = self.kill.map(|kill| ("kill", kill, "ms", KILL));
        [
            ("timer_p50", timer.p50, "x", P50),
            ("timer_p99", timer.p99, "x", P99),
            ("hello_p50", hello.p50, "x", P50),
            ("hello_p99", hello.p99, "x", P99),
        ]
        .into_iter()
        .chain(kill)
        .chain([("peak", self.peak, "MiB", PEAK)])
    }

    fn rows(&self) -> Vec<Row> {
        let row = |(figure, value, unit, goal)| {
            let name = format!("attacks_{}_{figure}", self.attack.name);
            Row::new(name, short(self.runtime), value, unit).at_most(goal)
        };
        self.figures().map(row).collect()
    }

    /// One line for a person who waits.
    fn line(&self) -> String {
        let figures =
            self.figures().map(|(name, value, unit, _)| format!("{name} {value:.1} {unit}"));
        format!("  {:<12} {}", self.attack.name, figures.collect::<Vec<_>>().join(", "))
    }
}
