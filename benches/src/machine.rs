//! CPU time and memory of the whole machine, read from `/proc`; called by `pods` and `scale`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::{poll_until, proc::TICKS};

/// The machine is quiet when at most this share of one CPU is busy for this long.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_SHARE: f64 = 0.2;

/// CPU time that the machine has been busy since its start, all CPUs together.
pub(crate) fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_in(&stat).context("no CPU time in /proc/stat")
}

/// Bytes that programs could still take, `MemAvailable` of `proc_meminfo(5)`.
pub(crate) fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.context("no MemAvailable in /proc/meminfo")? * 1024)
}

/// Waits until the machine is quiet. One that never is gives figures with its noise.
pub(crate) fn becomes_quiet() -> Result<()> {
    let mut last = (std::time::Instant::now(), busy()?);
    let quiet = poll_until("a quiet machine", Duration::from_secs(10), || {
        if last.0.elapsed() < QUIET {
            return None;
        }
        let now = busy().ok()?;
        let share = now.saturating_sub(last.1).as_secs_f64() / last.0.elapsed().as_secs_f64();
        last = (std::time::Instant::now(), now);
        (share <= QUIET_SHARE).then_some(())
    });
    // Others may use it all the time, and the benchmark has to end.
    drop(quiet);
    Ok(())
}

/// The first line: `cpu user nice system idle iowait irq softirq steal …`, by `proc_stat(5)`.
fn busy_in(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else { return None };
    Some(Duration::from_secs(user + nice + system + irq + softirq) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_idle_time_is_not_busy() {
        let stat = "cpu  100 10 50 9999 777 5 35 42 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_in(stat), Some(Duration::from_secs(2)));
        assert_eq!(busy_in("cpu0 1 2 3 4 5 6 7"), None);
        assert!(busy().unwrap() > Duration::ZERO && available_memory().unwrap() > 0);
    }
}
