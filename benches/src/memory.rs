//! What pods with one sleeping guest each hold: memory, OS processes, threads of ten of them, and memory over their number;
//! called by `main`.
//!
//! A pod is a container of its own here, so it has a shim of its own. All live at the same time, because what
//! shims share shows only then. The memory of a pod is the proportional set size (PSS) of all its OS processes; pods in a
//! node daemon have their part of the daemon each.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Runtime;

use crate::processes::{Usage, at_rest, of_pod, usage};
use crate::results::Row;
use crate::subject::Subject;
use crate::{Bench, stats};

/// Pods at which all memory is measured.
const COUNTS: [usize; 4] = [1, PODS, 40, 100];

/// Of them each pod is measured.
const PODS: usize = 10;

/// The most a pod may hold, in megabytes of a million bytes.
const GOAL_PSS: f64 = 4.0;
/// The shim, and the sandbox's process, which shares its memory.
const GOAL_PROCESSES: f64 = 2.0;
const GOAL_THREADS: f64 = 8.0;

/// A guest that has used no CPU for this long sleeps, and its shim is done with starting it: within two
/// seconds after the start it returns what only that has needed.
const QUIET: Duration = Duration::from_millis(2500);

/// Measures one subject after the other; the floor is left out, as it runs no guest.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let floor = Subject::Ours(Runtime::Floor);
    let subjects = Subject::all(&bench.options).into_iter().filter(|subject| *subject != floor);
    let mut rows = Vec::new();
    for subject in subjects {
        bench.say(&format!(
            "memory, OS processes and threads of up to {} pods with a sleeping guest each: {}",
            COUNTS[COUNTS.len() - 1],
            subject.name()
        ))?;
        let mut ids = Vec::new();
        for count in COUNTS {
            while ids.len() < count {
                ids.push(start(bench, subject, ids.len())?);
            }
            rows.extend(at(bench, subject, &ids)?);
        }
        for id in &ids {
            remove(bench, subject, id)?;
        }
    }
    let ratios = to_before(&rows);
    rows.extend(ratios);
    Ok(rows)
}

/// The rows of so many pods.
fn at(bench: &Bench, subject: Subject, ids: &[String]) -> Result<Vec<Row>> {
    let count = ids.len();
    let total =
        |pss: u64| Row::new(format!("memory_at_{count}"), subject.name(), pss as f64 / 1e6, "MB");
    if subject.runtime().needs_daemon() {
        let daemon = settled_daemon(bench, subject)?;
        let mut rows = vec![total(daemon.pss)];
        if count == PODS {
            rows.extend(figures_of_daemon(subject, &daemon));
        }
        return Ok(rows);
    }
    let pods = settled(bench, subject, ids)?;
    let mut rows = vec![total(pods.iter().map(|pod| pod.pss).sum())];
    if count == PODS {
        rows.extend(figures(subject, &pods)?);
    }
    Ok(rows)
}

/// Each total of ours beside that of the earlier build.
fn to_before(rows: &[Row]) -> Vec<Row> {
    let ratio = |row: &Row| {
        let before = format!("{}-before", row.runtime);
        let same = |other: &&Row| other.name == row.name && other.runtime == before;
        let before = rows.iter().find(same)?;
        let name = format!("{}_to_before", row.name);
        Some(Row::new(name, &row.runtime, row.value / before.value, "x"))
    };
    rows.iter().filter(|row| row.name.starts_with("memory_at_")).filter_map(ratio).collect()
}

fn start(bench: &Bench, subject: Subject, number: usize) -> Result<String> {
    bench.interrupt.check()?;
    let id = subject.id(bench, &format!("pod{number}"))?;
    let guest = subject.runtime().guest();
    subject.run(bench, &["-d"], &id, &[guest, "sleep", "100000"])?.run()?.ok()?;
    Ok(id)
}

fn remove(bench: &Bench, subject: Subject, id: &str) -> Result<()> {
    bench.interrupt.check()?;
    let fixture = subject.fixture(bench)?;
    fixture.ctr(["task", "delete", "-f", id])?;
    fixture.ctr(["container", "delete", id])?.ok()?;
    Ok(())
}

/// What each pod uses, once all of them have been quiet for a while.
fn settled(bench: &Bench, subject: Subject, ids: &[String]) -> Result<Vec<Usage>> {
    at_rest(&bench.interrupt, QUIET, || {
        Ok(usages(bench, subject, ids)?.iter().map(|pod| pod.ticks).sum::<u64>())
    })?;
    usages(bench, subject, ids)
}

/// The same for the daemon that has all of them.
fn settled_daemon(bench: &Bench, subject: Subject) -> Result<Usage> {
    let daemons = subject.fixture(bench)?.node().daemons();
    at_rest(&bench.interrupt, QUIET, || Ok(usage(&daemons)?.ticks))?;
    usage(&daemons)
}

fn usages(bench: &Bench, subject: Subject, ids: &[String]) -> Result<Vec<Usage>> {
    let address = subject.fixture(bench)?.address();
    let pod = |id: &String| {
        let pids = of_pod(&address, id);
        ensure!(!pids.is_empty(), "{id} has no OS process");
        usage(&pids).with_context(|| format!("a process of {id}"))
    };
    ids.iter().map(pod).collect()
}

fn figures(subject: Subject, pods: &[Usage]) -> Result<Vec<Row>> {
    let megabytes = |field: fn(&Usage) -> u64| {
        pods.iter().map(|pod| field(pod) as f64 / 1e6).collect::<Vec<_>>()
    };
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let counts =
        |field: fn(&Usage) -> usize| pods.iter().map(|pod| field(pod) as f64).collect::<Vec<_>>();
    let pss = megabytes(|pod| pod.pss);
    let name = subject.name();
    let row = |figure, value, unit, goal: f64| {
        let row = Row::new(figure, name, value, unit);
        if subject == Subject::Ours(Runtime::Wasmtime) { row.at_most(goal) } else { row }
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
fn figures_of_daemon(subject: Subject, daemon: &Usage) -> Vec<Row> {
    let row = |figure, bytes: u64| {
        Row::new(figure, subject.name(), bytes as f64 / 1e6 / PODS as f64, "MB")
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
            figures(Subject::Ours(runtime), pods).unwrap().iter().filter_map(Row::met).collect()
        };
        assert_eq!(met(&[good, good], Runtime::Wasmtime), [true, true, true]);
        assert_eq!(met(&[good, bad], Runtime::Wasmtime), [false, true, false]);
        assert!(met(&[good, bad], Runtime::Runc).is_empty());
    }

    #[test]
    fn totals_are_compared_with_those_of_as_many_pods() {
        let row = |name, runtime, value| Row::new(name, runtime, value, "MB");
        let rows = [
            row("memory_at_1", "wasmtime", 3.0),
            row("memory_at_10", "wasmtime", 10.0),
            row("memory_at_10", "wasmtime-before", 40.0),
            row("memory_at_10", "runc", 80.0),
        ];
        let ratios = to_before(&rows);
        assert_eq!((ratios.len(), ratios[0].name.as_str()), (1, "memory_at_10_to_before"));
        assert_eq!((ratios[0].runtime.as_str(), ratios[0].value), ("wasmtime", 0.25));
    }
}
