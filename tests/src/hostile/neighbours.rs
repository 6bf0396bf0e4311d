//! Two neighbours of an attacker: a hello started every 100 ms, and a guest with a timer of 5 ms.
//!
//! ```text
//!  start ─▶ measure without ─▶ start the attackers ─▶ settle ─▶ measure with ─▶ kill ─▶ verdict
//! ```
//!
//! Both parts are measured in the same run and on the same machine. The verdict has ratios, so the
//! speed of the machine does not matter.

use std::{
    fmt,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::guests::Guest;
use crate::{Containers, Running, poll_until};

/// Length of each part of a measurement.
const PART: Duration = Duration::from_secs(1);
/// Pause between the start of the attackers and the measurement.
const SETTLE: Duration = Duration::from_millis(500);
/// Time between two starts of the hello.
const EVERY: Duration = Duration::from_millis(100);
/// Fewest measurements of the timer. A worker held for seconds gives fewer, and their
/// median alone would not tell.
const FEWEST: usize = 20;

/// Largest ratio of the timer's medians. The 99th percentiles are printed only: other work of the
/// machine changes them as much as an attacker does.
const P50: f64 = 1.3;

/// Prints `hello`.
const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Sleeps 5 ms for ever, and prints in eight decimal digits the microseconds of each sleep.
// 0: the subscription. 64: its event. 96: the number of events. 104: a time. 112: the vector of the
// text, which is at 128. 120: the number of bytes written.
const TIMER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func $now (result i64)
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 104)))
    (i64.load (i32.const 104)))
  (func (export "_start") (local $began i64) (local $took i64) (local $at i32)
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 5000000))
    (i32.store (i32.const 112) (i32.const 128))
    (i32.store (i32.const 116) (i32.const 9))
    (i32.store8 (i32.const 136) (i32.const 10))
    (loop $tick
      (local.set $began (call $now))
      (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 96)))
      (local.set $took (i64.div_u (i64.sub (call $now) (local.get $began)) (i64.const 1000)))
      (local.set $at (i32.const 135))
      (loop $digit
        (i64.store8 (local.get $at)
          (i64.add (i64.const 48) (i64.rem_u (local.get $took) (i64.const 10))))
        (local.set $took (i64.div_u (local.get $took) (i64.const 10)))
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (br_if $digit (i32.ge_u (local.get $at) (i32.const 128))))
      (drop (call $write (i32.const 1) (i32.const 112) (i32.const 1) (i32.const 120)))
      (br $tick))))"#;

/// The neighbours while they run.
pub struct Neighbours<'a> {
    c: &'a Containers,
    hello: Guest,
    // Its files have to last as long as its process.
    _timer: Guest,
    timer: Running,
    timer_id: String,
}

/// Median and 99th percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Times that the neighbours have needed, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Sleeps of the timer.
    pub timer: Vec<f64>,
    /// Starts of the hello, each until its end.
    pub hello: Vec<f64>,
}

/// What each neighbour needs, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// A sleep of 5 ms.
    pub timer: Percentiles,
    /// A hello from its start to its end.
    pub hello: Percentiles,
}

/// Figures with the attackers, as ratios to those without.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Figures without the attackers.
    pub without: Figures,
    /// Ratios of the timer.
    pub timer: Percentiles,
    /// Ratios of the hello.
    pub hello: Percentiles,
    /// Longest time from the request to kill an attacker to the report of its exit.
    pub kill: Duration,
}

impl<'a> Neighbours<'a> {
    /// Starts the guest with the timer and waits for its first ticks.
    pub fn start(c: &'a Containers) -> Result<Self> {
        let timer_id = c.next_id();
        let mut guest = Guest::new(c, TIMER)?;
        let timer = guest.command(c, &["--rm"], &timer_id)?.spawn()?;
        let hello = Guest::new(c, HELLO)?;
        let started = Self { c, hello, _timer: guest, timer, timer_id };
        poll_until("the timer's ticks", Duration::from_secs(20), || {
            (started.ticks().len() >= FEWEST).then_some(())
        })
        .with_context(|| started.timer.stderr_so_far())?;
        Ok(started)
    }

    /// Measures, starts the attackers, measures again, kills them, and prints the verdict.
    ///
    /// The attackers have to run until they are killed.
    pub fn judge(mut self, name: &str, mut attackers: Vec<Guest>) -> Result<Verdict> {
        ensure!(!attackers.is_empty(), "no attacker");
        let without = self.measure(PART)?.figures()?;
        let started = attackers.iter_mut().map(|attacker| attacker.detached(self.c));
        let ids = started.collect::<Result<Vec<_>>>()?;
        rest(SETTLE);
        let with = self.measure(PART);
        let kill = self.kill(&ids)?;
        let with = with?.figures()?;
        self.end()?;
        let verdict = Verdict {
            without,
            timer: with.timer.to(without.timer),
            hello: with.hello.to(without.hello),
            kill,
        };
        println!("{:?} | {name} | {verdict}", self.c.runtime);
        Ok(verdict)
    }

    /// Measures both neighbours for this time.
    pub fn measure(&mut self, part: Duration) -> Result<Samples> {
        let before = self.ticks().len();
        let hello = self.hellos(part)?;
        Ok(Samples { timer: self.ticks().split_off(before), hello })
    }

    /// Starts a hello every 100 ms, whether the last one has ended or not. Returns the time of each
    /// from its start to its end.
    fn hellos(&mut self, part: Duration) -> Result<Vec<f64>> {
        let began = Instant::now();
        thread::scope(|scope| {
            let mut started = Vec::new();
            let mut next = began;
            while began.elapsed() < part {
                let command = self.hello.command(self.c, &["--rm"], &self.c.next_id())?;
                started.push(scope.spawn(move || -> Result<f64> {
                    let said = command.run()?.ok()?;
                    ensure!(said.out() == "hello\n", "{said}");
                    Ok(milliseconds(said.took))
                }));
                next += EVERY;
                rest(next.saturating_duration_since(Instant::now()));
            }
            let ended = started.into_iter().map(|one| one.join().expect("a panic of a hello"));
            ended.collect()
        })
    }

    /// Lengths of the timer's sleeps since its start.
    fn ticks(&self) -> Vec<f64> {
        let text = self.timer.stdout_so_far();
        // The last line may have arrived in part.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let micros = whole.lines().filter_map(|line| line.parse::<u32>().ok());
        micros.map(|micros| f64::from(micros) / 1000.0).collect()
    }

    /// Kills the attackers, each of which must still run. Returns the longest time.
    pub fn kill(&self, attackers: &[String]) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for id in attackers {
            self.c.is_running(id)?;
            let client = self.c.client(id)?;
            let began = Instant::now();
            client.kill(id, 9)?;
            client.wait(id)?;
            longest = longest.max(began.elapsed());
        }
        for id in attackers {
            let status = self.c.finish(id)?;
            ensure!(status == 137, "{id} has ended with {status}");
        }
        Ok(longest)
    }

    /// Ends the timer, and demands that nothing is left.
    pub fn end(&self) -> Result<()> {
        self.c.kill(&self.timer_id, "SIGKILL")?;
        // `ctr run --rm` removes it.
        self.c.fixture.becomes_clean()
    }
}

impl Samples {
    /// Adds others.
    pub fn extend(&mut self, others: &Self) {
        self.timer.extend(&others.timer);
        self.hello.extend(&others.hello);
    }

    /// Their percentiles, if there are enough.
    pub fn figures(self) -> Result<Figures> {
        let ticks = self.timer.len();
        ensure!(ticks >= FEWEST, "the timer has only {ticks} ticks");
        let hello = percentiles(self.hello).context("no hello has been measured")?;
        Ok(Figures { timer: percentiles(self.timer).context("no tick")?, hello })
    }
}

impl Percentiles {
    /// Ratios to another pair.
    pub fn to(self, other: Self) -> Self {
        Self { p50: self.p50 / other.p50, p99: self.p99 / other.p99 }
    }
}

impl Verdict {
    /// Checks the median of the timer, which a held worker changes first.
    pub fn timer_goes_on(&self) -> Result<()> {
        ensure!(self.timer.p50 <= P50, "the timer's p50 is above {P50}×: {self}");
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { without, timer, hello, kill } = self;
        write!(
            f,
            "timer p50 {:.2}× p99 {:.2}× | hello p50 {:.2}× p99 {:.2}× | kill {:.1} ms \
             (without: timer {:.1} / {:.1} ms, hello {:.0} / {:.0} ms)",
            timer.p50,
            timer.p99,
            hello.p50,
            hello.p99,
            milliseconds(*kill),
            without.timer.p50,
            without.timer.p99,
            without.hello.p50,
            without.hello.p99,
        )
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Lets time pass: there is nothing to poll for.
pub fn rest(time: Duration) {
    let (_sender, receiver) = channel::<()>();
    let waited = receiver.recv_timeout(time);
    debug_assert_eq!(waited, Err(RecvTimeoutError::Timeout));
}

/// Percentiles of any number of figures except none.
fn percentiles(mut figures: Vec<f64>) -> Option<Percentiles> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    let at = |part: usize| figures[(figures.len() * part / 100).min(last)];
    Some(Percentiles { p50: at(50), p99: at(99) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_figures() {
        let figures = percentiles((0..200).rev().map(f64::from).collect());
        assert_eq!(figures, Some(Percentiles { p50: 100.0, p99: 198.0 }));
        assert_eq!(percentiles(vec![7.0]), Some(Percentiles { p50: 7.0, p99: 7.0 }));
        assert_eq!(percentiles(Vec::new()), None);
    }

    #[test]
    fn a_slow_timer_is_condemned() {
        let quiet = Percentiles { p50: 5.0, p99: 6.0 };
        let judged = |p50, p99| {
            let slow = Percentiles { p50, p99 };
            let without = Figures { timer: quiet, hello: quiet };
            Verdict { without, timer: slow.to(quiet), hello: quiet.to(quiet), kill: PART }
        };
        assert!(judged(5.5, 12.0).timer_goes_on().is_ok());
        assert!(judged(7.0, 7.0).timer_goes_on().is_err());
    }
}
