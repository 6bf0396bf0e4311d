//! The machine: what figures depend on, read by `main`; CPU time and memory of all of it, read from `/proc` by benchmarks.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::{poll_until, proc::TICKS};
use serde_json::{Value, json};

/// What figures depend on besides the code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    cpu: String,
    cpus: usize,
    memory: u64,
    kernel: String,
    containerd: String,
    load: String,
}

impl Machine {
    /// This one, with a containerd of this version.
    pub(crate) fn read(containerd: &str) -> Result<Self> {
        let text =
            |file: &str| fs::read_to_string(file).with_context(|| format!("cannot read {file}"));
        let cpu = text("/proc/cpuinfo")?;
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let load = text("/proc/loadavg")?;
        Ok(Self {
            // Not all architectures name it.
            cpu: model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            memory: memory("MemTotal:")?,
            kernel: text("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            containerd: containerd.to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn line(&self) -> String {
        let Self { cpu, cpus, memory, kernel, containerd, load } = self;
        let gib = *memory as f64 / f64::from(1 << 30);
        format!(
            "{cpus} CPUs ({cpu}), {gib:.1} GiB of memory, Linux {kernel}, containerd {containerd}, load average \
             {load} at the beginning"
        )
    }

    pub(crate) fn json(&self) -> Value {
        let Self { cpu, cpus, memory, kernel, containerd, load } = self;
        json!({
            "cpu": cpu, "cpus": cpus, "memory": memory, "kernel": kernel, "containerd": containerd,
            "load": load, "line": self.line(),
        })
    }
}

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
    memory("MemAvailable:")
}

fn memory(field: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("no {field} in /proc/meminfo"))? * 1024)
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
    fn machine_is_told_in_one_line() {
        let machine = Machine::read("1.2.3").unwrap();
        let line = machine.line();
        assert!(line.contains(" CPUs (") && line.contains("containerd 1.2.3"), "{line}");
        assert!(machine.json()["memory"].as_u64() > Some(1 << 20));
    }

    #[test]
    fn waiting_and_idle_time_is_not_busy() {
        let stat = "cpu  100 10 50 9999 777 5 35 42 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_in(stat), Some(Duration::from_secs(2)));
        assert_eq!(busy_in("cpu0 1 2 3 4 5 6 7"), None);
        assert!(busy().unwrap() > Duration::ZERO && available_memory().unwrap() > 0);
    }
}
