//! How long a pod with one container takes through containerd's CRI, from `RunPodSandbox` to the answer to `StartContainer`; called by
//! `main`.
//!
//! Every way to make a pod has a containerd 2 with a network of its own. A round makes and removes one pod in each, in a random order. All
//! have CNI set up the same network, which is much of the time.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use runwasi_tests::cri::messages::ContainerState;
use runwasi_tests::network::on_own_host;
use runwasi_tests::version::Version;
use runwasi_tests::{Pods, Runtime, Setup};

use crate::options::short;
use crate::results::Row;
use crate::{Bench, machine, stats};

/// Rounds that count, after those that fill caches.
const ROUNDS: usize = 20;
const WARM_UP: usize = 2;

/// A way to make a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Way {
    pub(crate) runtime: Runtime,
    /// By the shim itself, not by a container of type `sandbox`.
    pub(crate) managed: bool,
}

impl Way {
    /// For the names of figures.
    fn figure(self) -> &'static str {
        if self.managed { "pod_start_managed" } else { "pod_start" }
    }

    /// For messages.
    pub(crate) fn name(self) -> String {
        let how = if self.managed { ", made by the shim" } else { "" };
        format!("{}{how}", short(self.runtime))
    }

    /// A containerd 2 that makes pods so.
    pub(crate) fn setup(self) -> Setup<'static> {
        Setup { version: Version::V2, managed: self.managed, ..Setup::default() }
    }
}

/// A fixture of its own, on a thread of its own, since that is in the fixture's network.
struct Lane {
    way: Way,
    go: Sender<()>,
    answers: Receiver<Result<Figures>>,
    pods: Vec<Figures>,
}

/// What one pod took, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Figures {
    time: f64,
    /// CPU time of the whole machine until the container runs.
    cpu: f64,
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    bench.say(&format!("pods: {ROUNDS} interleaved rounds after {WARM_UP} to warm up"))?;
    let ways = ways(&bench.options.runtimes);
    let lanes = thread::scope(|scope| {
        let begin = |way: &Way| {
            let (way, (go, todo), (answer, answers)) = (*way, channel(), channel());
            scope.spawn(move || on_own_host(move || serve(way, &todo, &answer)));
            Lane { way, go, answers, pods: Vec::new() }
        };
        let mut lanes: Vec<Lane> = ways.iter().map(begin).collect();
        let ran = rounds(bench, &mut lanes);
        // With the channels the fixtures end.
        let done: Vec<_> = lanes.into_iter().map(|lane| (lane.way, lane.pods)).collect();
        ran.map(|()| done)
    })?;
    figures(&lanes)
}

/// runc in the usual way only: its shim cannot make a pod.
pub(crate) fn ways(runtimes: &[Runtime]) -> Vec<Way> {
    let pods = runtimes.iter().copied().filter(|runtime| *runtime != Runtime::Floor);
    let both = |runtime: Runtime| {
        let managed: &[bool] = if runtime.is_wasm() { &[false, true] } else { &[false] };
        managed.iter().map(move |managed| Way { runtime, managed: *managed })
    };
    pods.flat_map(both).collect()
}

fn rounds(bench: &Bench, lanes: &mut [Lane]) -> Result<()> {
    for round in 0..WARM_UP + ROUNDS {
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        fastrand::shuffle(&mut order);
        for place in order {
            bench.interrupt.check()?;
            let lane = &mut lanes[place];
            let gone = || format!("the fixture of {:?} is gone", lane.way);
            lane.go.send(()).ok().with_context(gone)?;
            let pod = lane
                .answers
                .recv()
                .with_context(gone)?
                .with_context(|| format!("{:?}", lane.way))?;
            if round >= WARM_UP {
                lane.pods.push(pod);
            }
        }
    }
    Ok(())
}

/// Makes a pod whenever it is told to, until nobody does any more.
fn serve(way: Way, todo: &Receiver<()>, answer: &Sender<Result<Figures>>) {
    let pods = Pods::start(way.runtime, &way.setup());
    for (number, ()) in todo.iter().enumerate() {
        let figures = match &pods {
            Ok(pods) => pod(pods, number),
            Err(error) => Err(anyhow!("no fixture: {error:#}")),
        };
        if answer.send(figures).is_err() {
            return;
        }
    }
}

/// One pod; any fault in it is an error, since a failed pod is no measurement.
fn pod(pods: &Pods, number: usize) -> Result<Figures> {
    let busy = machine::busy()?;
    let begin = Instant::now();
    let pod = pods.run(&format!("pod{number}"))?;
    let container = pods.start_in(&pod, "app", &["sleep", "100"])?;
    let time = begin.elapsed().as_secs_f64() * 1e3;
    let cpu = machine::busy()?.saturating_sub(busy).as_secs_f64() * 1e3;
    let status = pods.status(&container)?;
    ensure!(status.state() == ContainerState::Running, "{status:?}");
    pods.finish(&pod)?;
    Ok(Figures { time, cpu })
}

fn figures(lanes: &[(Way, Vec<Figures>)]) -> Result<Vec<Row>> {
    let of = |runtime, managed, figure: fn(&Figures) -> f64| -> Vec<f64> {
        let wanted = Way { runtime, managed };
        let lane = lanes.iter().find(|(way, _)| *way == wanted);
        lane.map_or(Vec::new(), |(_, pods)| pods.iter().map(figure).collect())
    };
    let mut rows = Vec::new();
    for Way { runtime, managed } in lanes.iter().map(|(way, _)| *way) {
        let (figure, name) = (Way { runtime, managed }.figure(), short(runtime));
        let times = of(runtime, managed, |pod| pod.time);
        let cpu = of(runtime, managed, |pod| pod.cpu);
        rows.push(Row::new(format!("{figure}_median"), name, stats::median(&times)?, "ms"));
        rows.push(Row::new(format!("{figure}_p90"), name, stats::quantile(&times, 0.9)?, "ms"));
        rows.push(Row::new(format!("{figure}_cpu_mean"), name, stats::mean(&cpu)?, "ms"));
        let runc = of(Runtime::Runc, false, |pod| pod.time);
        if runtime != Runtime::Runc && !runc.is_empty() {
            let ratio = stats::median(&times)? / stats::median(&runc)?;
            let row = Row::new(format!("{figure}_ratio_to_runc"), name, ratio, "x");
            rows.push(row.at_most(goal(runtime)));
            let runc = of(Runtime::Runc, false, |pod| pod.cpu);
            let ratio = stats::mean(&cpu)? / stats::mean(&runc)?;
            rows.push(Row::new(format!("{figure}_cpu_ratio_to_runc"), name, ratio, "x"));
        }
        if managed {
            let usual = of(runtime, false, |pod| pod.time);
            let saved = stats::difference(&usual, &times)
                .with_context(|| format!("comparing the pods of {name}"))?;
            rows.push(Row::new("pod_start_managed_saves", name, saved.median, "ms"));
            rows.push(Row::new("pod_start_managed_saves_ci95_low", name, saved.low, "ms"));
            rows.push(Row::new("pod_start_managed_saves_ci95_high", name, saved.high, "ms"));
        }
    }
    Ok(rows)
}

/// The longest time of a pod, as a part of that of runc.
fn goal(runtime: Runtime) -> f64 {
    if runtime.needs_daemon() { 0.35 } else { 0.6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_shims_make_pods_themselves_and_the_floor_makes_none() {
        let all = ways(&[Runtime::Wasmtime, Runtime::Runc, Runtime::Floor]);
        let told: Vec<_> = all.iter().map(|way| (way.runtime, way.managed)).collect();
        assert_eq!(
            told,
            [(Runtime::Wasmtime, false), (Runtime::Wasmtime, true), (Runtime::Runc, false)]
        );
    }

    #[test]
    fn what_is_saved_is_the_difference_to_the_same_runtime() {
        let lane = |managed, begin: u32| {
            let time = |round: usize| f64::from(begin) + (round % 5) as f64;
            let pods = (0..ROUNDS).map(|round| Figures { time: time(round), cpu: 1.0 }).collect();
            (Way { runtime: Runtime::Wasmtime, managed }, pods)
        };
        let rows = figures(&[lane(false, 100), lane(true, 60)]).unwrap();
        let saved = rows.iter().find(|row| row.name == "pod_start_managed_saves").unwrap();
        assert_eq!((saved.value, saved.runtime.as_str()), (40.0, "wasmtime"));
    }
}
