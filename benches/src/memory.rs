//! What ten pods with one sleeping guest each hold: memory, OS processes, threads; called by `main`.
//!
//! A pod is a container of its own here, so it has a shim of its own. All ten live at the same time, because what
//! shims share shows only then. The memory of a pod is the proportional set size (PSS) of all its OS processes; pods in a
//! node daemon have a tenth of the daemon each.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Runtime;

use crate::options::short;
use crate::processes::{Usage, at_rest, of_pod, usage};
use crate::results::Row;
use crate::{Bench, stats};

const PODS: usize = 10;

/// The most a pod may hold, in megabytes of a million bytes.
const GOAL_PSS: f64 = 4.0;
/// The shim, and the sandbox's process, which shares its memory.
const GOAL_PROCESSES: f64 = 2.0;
const GOAL_THREADS: f64 = 8.0;

/// A guest that has used no CPU for this long sleeps, and its shim is done with starting it.
const QUIET: Duration = Duration::from_millis(500);

/// Measures one runtime after the other; the floor is left out, as it runs no guest.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let runtimes =
        bench.options.runtimes.iter().copied().filter(|runtime| *runtime != Runtime::Floor);
    let mut rows = Vec::new();
    for runtime in runtimes.collect::<Vec<_>>() {
        bench.say(&format!(
            "memory, OS processes and threads of {PODS} pods with a sleeping guest each: {}",
            short(runtime)
        ))?;
        let ids: Vec<String> = (0..PODS)
            .map(|pod| bench.fixture.id(&format!("pod{pod}-{}", short(runtime))))
            .collect();
        for id in &ids {
            start(bench, runtime, id)?;
        }
        rows.extend(match runtime.needs_daemon() {
            true => figures_of_daemon(runtime, &settled_daemon(bench)?),
            false => figures(runtime, &settled(bench, &ids)?)?,
        });
        for id in &ids {
            remove(bench, id)?;
        }
    }
    Ok(rows)
}

fn start(bench: &Bench, runtime: Runtime, id: &str) -> Result<()> {
    bench.interrupt.check()?;
    let (name, image, guest) = (runtime.name(), runtime.image().name(), runtime.guest());
    bench.fixture.ctr(["run", "-d", "--runtime", name, image, id, guest, "sleep", "1000"])?.ok()?;
    Ok(())
}

fn remove(bench: &Bench, id: &str) -> Result<()> {
    bench.interrupt.check()?;
    bench.fixture.ctr(["task", "delete", "-f", id])?;
    bench.fixture.ctr(["container", "delete", id])?.ok()?;
    Ok(())
}

/// What each pod uses, once all of them have been quiet for a while.
fn settled(bench: &Bench, ids: &[String]) -> Result<Vec<Usage>> {
    at_rest(&bench.interrupt, QUIET, || {
        Ok(usages(bench, ids)?.iter().map(|pod| pod.ticks).sum::<u64>())
    })?;
    usages(bench, ids)
}

/// The same for the daemon that has all of them.
fn settled_daemon(bench: &Bench) -> Result<Usage> {
    let daemons = bench.fixture.node().daemons();
    at_rest(&bench.interrupt, QUIET, || Ok(usage(&daemons)?.ticks))?;
    usage(&daemons)
}

fn usages(bench: &Bench, ids: &[String]) -> Result<Vec<Usage>> {
    let address = bench.fixture.address();
    let pod = |id: &String| {
        let pids = of_pod(&address, id);
        ensure!(!pids.is_empty(), "{id} has no OS process");
        usage(&pids).with_context(|| format!("a process of {id}"))
    };
    ids.iter().map(pod).collect()
}

fn figures(runtime: Runtime, pods: &[Usage]) -> Result<Vec<Row>> {
    let megabytes = |field: fn(&Usage) -> u64| {
        pods.iter().map(|pod| field(pod) as f64 / 1e6).collect::<Vec<_>>()
    };
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let counts =
        |field: fn(&Usage) -> usize| pods.iter().map(|pod| field(pod) as f64).collect::<Vec<_>>();
    let pss = megabytes(|pod| pod.pss);
    let name = short(runtime);
    let row = |figure, value, unit, goal: f64| {
        let row = Row::new(figure, name, value, unit);
        if runtime == Runtime::Wasmtime { row.at_most(goal) } else { row }
    };
    Ok(vec![
        Row::new("memory_pod_pss_mean", name, stats::mean(&pss)?, "MB"),
        row("memory_pod_pss_max", most(&pss), "MB", GOAL_PSS),
        Row::new(
            "memory_pod_private_mean",
            name,
            stats::mean(&megabytes(|pod| pod.private))?,
            "MB",
        ),
        Row::new("memory_pod_shared_mean", name, stats::mean(&megabytes(|pod| pod.shared))?, "MB"),
        row(
            "memory_pod_processes_max",
            most(&counts(|pod| pod.processes)),
            "count",
            GOAL_PROCESSES,
        ),
        row("memory_pod_threads_max", most(&counts(|pod| pod.threads)), "count", GOAL_THREADS),
    ])
}

/// A pod's part of the daemon, which holds much that does not grow with the pods.
fn figures_of_daemon(runtime: Runtime, daemon: &Usage) -> Vec<Row> {
    let row = |figure, bytes: u64| {
        Row::new(figure, short(runtime), bytes as f64 / 1e6 / PODS as f64, "MB")
    };
    vec![
        row("memory_pod_pss_mean", daemon.pss),
        row("memory_pod_private_mean", daemon.private),
        row("memory_pod_shared_mean", daemon.shared),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_too_big_misses_the_goal() {
        let good = Usage {
            processes: 2,
            threads: 8,
            pss: 3_000_000,
            private: 2_000_000,
            shared: 5_000_000,
            ticks: 0,
        };
        let bad = Usage { pss: 4_500_000, threads: 9, ..good };
        let met = |pods: &[Usage], runtime| -> Vec<_> {
            figures(runtime, pods).unwrap().iter().filter_map(Row::met).collect()
        };
        assert_eq!(met(&[good, good], Runtime::Wasmtime), [true, true, true]);
        assert_eq!(met(&[good, bad], Runtime::Wasmtime), [false, true, false]);
        assert!(met(&[good, bad], Runtime::Runc).is_empty());
    }
}
