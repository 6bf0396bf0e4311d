//! `--scale N`: a node that is filled with N pods through containerd's CRI, 16 under way at a time, and emptied; then a
//! rollout of a quarter of them under traffic. Called by `main` in the place of the benchmarks.
//!
//! Each runtime has a containerd 2 and a network of its own, one after the other, and ours another
//! for pods that they make themselves (`sandboxer = "shim"`). CPU time and memory are those of the whole
//! machine, since a pod is more than its OS processes: file systems, networks and cgroups of the kernel, containerd's own
//! work. So the machine has to be quiet. A pod that is left, or anything of it, is an error.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use runwasi_tests::network::on_own_host;
use runwasi_tests::pods::container_config;
use runwasi_tests::{Pods, Runtime};

use crate::interrupt::Interrupt;
use crate::machine::{available_memory, becomes_quiet, busy};
use crate::options::short;
use crate::pods::{Way, ways};
use crate::results::Row;

/// Pods under way at once.
const AT_A_TIME: usize = 16;
/// Serving pods that are replaced at once.
const SURGE: usize = 5;
/// Most pods: the network of a fixture has 253 addresses, and a rollout needs more than it has pods.
pub(crate) const MOST: usize = 240;
/// The most that a pod may hold, as a part of what one of runc holds.
const GOAL_MEMORY: [(Runtime, f64); 2] = [(Runtime::Wasmtime, 0.5), (Runtime::Wasmtimed, 0.1)];

/// What a pod took.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Milliseconds of the whole divided by the number of pods.
    start: f64,
    remove: f64,
    /// Milliseconds of CPU time of the machine until all run.
    cpu: f64,
    /// MiB of the machine while all run.
    memory: f64,
}

impl Figures {
    /// Each with the end of its name and its unit.
    fn named(&self) -> [(&'static str, f64, &'static str); 4] {
        [
            ("start", self.start, "ms"),
            ("cpu", self.cpu, "ms"),
            ("memory", self.memory, "MiB"),
            ("remove", self.remove, "ms"),
        ]
    }
}

/// Fills and empties a node for each runtime.
pub(crate) fn run(
    runtimes: &[Runtime],
    count: usize,
    interrupt: &Interrupt,
    say: &dyn Fn(&str) -> Result<()>,
) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for way in ways(runtimes) {
        interrupt.check()?;
        say(&format!("{count} pods of {}, {AT_A_TIME} at a time", way.name()))?;
        let figures = on_own_host(|| fill(way, count));
        all.push((way, figures.with_context(|| format!("pods of {}", way.name()))?));
        if way.runtime.is_wasm() {
            interrupt.check()?;
            let pods = (count / 4).max(SURGE);
            let rollout = on_own_host(|| roll_out(way, pods));
            say(&rollout.with_context(|| format!("a rollout of {}", way.name()))?)?;
        }
    }
    Ok(rows(&all))
}

fn fill(way: Way, count: usize) -> Result<Figures> {
    let runtime = way.runtime;
    let pods = Pods::start(runtime, &way.setup())?;
    let (image, guest) = (runtime.image().name(), runtime.guest());
    let container = container_config("app", image, &[guest, "sleep", "100000"]);
    let names =
        |kind: &str, count| -> Vec<String> { (0..count).map(|n| format!("{kind}{n}")).collect() };
    // Fills caches, and compiles the guest.
    let first = pods.start_many(&names("first", 2), 1, &container)?;
    pods.finish_many(&first, 1)?;
    becomes_quiet()?;
    let per_pod = |whole: f64| whole / count as f64;
    let memory = available_memory()?;
    let cpu = busy()?;
    let begin = Instant::now();
    let started = pods.start_many(&names("pod", count), AT_A_TIME, &container)?;
    let start = per_pod(begin.elapsed().as_secs_f64() * 1e3);
    let cpu = per_pod(busy()?.saturating_sub(cpu).as_secs_f64() * 1e3);
    becomes_quiet()?;
    let held = memory as f64 - available_memory()? as f64;
    let begin = Instant::now();
    pods.finish_many(&started, AT_A_TIME)?;
    let remove = per_pod(begin.elapsed().as_secs_f64() * 1e3);
    pods.becomes_clean()?;
    Ok(Figures { start, remove, cpu, memory: per_pod(held / f64::from(1 << 20)) })
}

fn roll_out(way: Way, count: usize) -> Result<String> {
    let pods = Pods::start(way.runtime, &way.setup())?;
    let rollout = pods.roll_out(count, SURGE)?;
    pods.becomes_clean()?;
    let failed = rollout.failed.len();
    let some = rollout.failed.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    ensure!(failed == 0, "{failed} of {} requests failed:\n{some}", failed + rollout.answered);
    Ok(format!(
        "rollout of {}: {count} pods replaced, {SURGE} at a time, in {:.1} s; {} requests answered, {failed} failed",
        way.name(),
        rollout.time.as_secs_f64(),
        rollout.answered,
    ))
}

fn rows(all: &[(Way, Figures)]) -> Vec<Row> {
    let runc = all.iter().find(|(way, _)| way.runtime == Runtime::Runc).map(|(_, own)| *own);
    let mut rows = Vec::new();
    for (Way { runtime, managed }, own) in all {
        let beginning = if *managed { "scale_managed_pod" } else { "scale_pod" };
        for (n, (end, value, unit)) in own.named().into_iter().enumerate() {
            let name = format!("{beginning}_{end}");
            rows.push(Row::new(name.clone(), short(*runtime), value, unit));
            let Some(runc) = runc.filter(|_| *runtime != Runtime::Runc) else { continue };
            let (_, base, _) = runc.named()[n];
            let name = format!("{name}_ratio_to_runc");
            let ratio = Row::new(name, short(*runtime), value / base, "x");
            let goal = GOAL_MEMORY.iter().find(|(of, _)| of == runtime && unit == "MiB");
            rows.push(match goal {
                Some((_, goal)) => ratio.at_most(*goal),
                None => ratio,
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_runc_of_the_same_run_and_memory_has_a_goal() {
        let own = Figures { start: 20.0, remove: 10.0, cpu: 30.0, memory: 2.0 };
        let runc = Figures { start: 80.0, remove: 40.0, cpu: 90.0, memory: 10.0 };
        let row = |rows: &[Row], name: &str| rows.iter().find(|row| row.name == name).cloned();
        let usual = |runtime| Way { runtime, managed: false };
        let managed = Way { managed: true, ..usual(Runtime::Wasmtimed) };
        let of_runc = (usual(Runtime::Runc), runc);
        let both = rows(&[(usual(Runtime::Wasmtimed), own), (managed, own), of_runc]);
        let memory = row(&both, "scale_pod_memory_ratio_to_runc").unwrap();
        assert_eq!((memory.value, memory.met()), (0.2, Some(false)));
        assert_eq!(row(&both, "scale_pod_start_ratio_to_runc").unwrap().value, 0.25);
        assert_eq!(row(&both, "scale_managed_pod_start_ratio_to_runc").unwrap().value, 0.25);
        let alone = rows(&[(usual(Runtime::Wasmtimed), own)]);
        assert_eq!(alone.len(), 4);
    }
}
