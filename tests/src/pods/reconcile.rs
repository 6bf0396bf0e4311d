//! A client like the kubelet, which brings the pods that are there to those that are wanted, and its test: it, containerd and
//! what serves the pods are killed at random. Called by tests and benchmarks.
//!
//! The client knows nothing but what the CRI tells it, so one that was killed is a new one. A call that is given up after
//! a moment is that of a killed client: its connection ends.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Pods, container_config};
use crate::command::DEADLINE;
use crate::cri::Cri;
use crate::cri::messages::{
    Container, ContainerConfig, ContainerState, NamespaceMode, PodSandbox, PodSandboxConfig,
    PodState,
};
use crate::poll::{nap, poll_until};
use crate::proc;

/// Longest time between two kills.
const BETWEEN: Duration = Duration::from_millis(1500);
/// Longest time until a client that is to be killed is.
const BRIEF: Duration = Duration::from_millis(400);
/// Time in which the pods that are there become those that are wanted.
const SETTLED: Duration = Duration::from_secs(60);

/// What was killed how often.
#[derive(Debug, Default)]
pub struct Kills {
    /// containerd.
    pub containerd: usize,
    /// The node daemon, or the shim of a pod.
    pub server: usize,
    /// The client, in the middle of a call.
    pub client: usize,
    /// Times that the client looked at all pods.
    pub rounds: usize,
    /// Pods and containers that it made.
    pub made: usize,
}

/// The pods that are wanted, and the container in each.
#[derive(Debug)]
struct Wanted {
    handler: String,
    pods: BTreeMap<String, PodSandboxConfig>,
    container: ContainerConfig,
}

/// Counters that the clients share with the killer.
#[derive(Debug, Default)]
struct Counts {
    rounds: AtomicUsize,
    killed: AtomicUsize,
    made: AtomicUsize,
}

/// A client for one look at all pods.
struct Client<'a> {
    cri: Cri,
    wanted: &'a Wanted,
    counts: &'a Counts,
}

impl Pods {
    /// Wants `count` pods and kills at random for `time`. Then these pods have to come, and nothing else; they stay.
    pub fn kill_at_random(&mut self, count: usize, time: Duration) -> Result<Kills> {
        let wanted = self.wanted(count);
        let socket = self.fixture.address();
        let over = AtomicBool::new(false);
        let counts = Counts::default();
        let mut kills = thread::scope(|scope| {
            let client = scope.spawn(|| run(&socket, &wanted, &over, &counts));
            let kills = self.kill(time);
            over.store(true, Ordering::Relaxed);
            client.join().unwrap_or_else(|panic| resume_unwind(panic));
            kills
        })?;
        self.all_run()?;
        self.settle(&wanted, &counts)?;
        kills.rounds = counts.rounds.load(Ordering::Relaxed);
        kills.client = counts.killed.load(Ordering::Relaxed);
        kills.made = counts.made.load(Ordering::Relaxed);
        Ok(kills)
    }

    fn wanted(&self, count: usize) -> Wanted {
        let (image, guest) = (self.runtime.image().name(), self.runtime.guest());
        let container = container_config("app", image, &[guest, "sleep", "1000"]);
        let config = |n: usize| {
            let name = format!("wanted{n}");
            (name.clone(), self.pod_config(&name, NamespaceMode::Pod))
        };
        let pods = (0..count).map(config).collect();
        Wanted { handler: self.handler.clone(), pods, container }
    }

    /// Kills containerd or what serves the pods, again and again, and starts it again.
    fn kill(&mut self, time: Duration) -> Result<Kills> {
        let mut kills = Kills::default();
        let end = Instant::now() + time;
        // Longer on a slow machine: each kind is killed twice at least.
        while Instant::now() < end || kills.containerd.min(kills.server) < 2 {
            nap(BETWEEN.mul_f64(fastrand::f64()));
            if fastrand::bool() {
                self.fixture.kill9()?;
                nap(BRIEF.mul_f64(fastrand::f64()));
                self.fixture.start_again()?;
                kills.containerd += 1;
            } else {
                kills.server += usize::from(self.kill_server()?);
            }
        }
        Ok(kills)
    }

    /// False if there was none.
    fn kill_server(&mut self) -> Result<bool> {
        if self.runtime.needs_daemon() {
            self.fixture.daemon()?.kill9()?;
            nap(BRIEF.mul_f64(fastrand::f64()));
            self.fixture.daemon()?.start_again()?;
            return Ok(true);
        }
        let shims = proc::shims_of(&self.fixture.address());
        match fastrand::choice(&shims) {
            // It may have ended since.
            Some(shim) => Ok(proc::kill9(shim.pid).is_ok()),
            None => Ok(false),
        }
    }

    /// Starts what was killed last, and failed to start again.
    fn all_run(&mut self) -> Result<()> {
        if self.fixture.pid().is_err() {
            self.fixture.start_again()?;
        }
        self.cri.becomes_ready()?;
        Ok(())
    }

    /// Waits until the pods that are there are those that are wanted, each with its container, which runs.
    fn settle(&self, wanted: &Wanted, counts: &Counts) -> Result<()> {
        let mut last = None;
        let settled = poll_until("the wanted pods", SETTLED, || {
            let client = Client { cri: Cri::new(&self.fixture.address()).ok()?, wanted, counts };
            let looked = client.look().and_then(|()| self.check(wanted));
            last = looked.err();
            last.is_none().then_some(())
        });
        settled.with_context(|| format!("last: {last:?}\n{}", self.fixture.log()))?;
        self.ever.borrow_mut().extend(self.cri.pods()?.into_iter().map(|pod| pod.id));
        Ok(())
    }

    fn check(&self, wanted: &Wanted) -> Result<()> {
        let pods = self.cri.pods()?;
        let names: Vec<_> = pods.iter().map(name).collect();
        let set: BTreeSet<_> = names.iter().copied().collect();
        let all = wanted.pods.keys().map(String::as_str).collect::<BTreeSet<_>>();
        ensure!(names.len() == set.len() && set == all, "{names:?} instead of {all:?}");
        let containers = self.cri.containers()?;
        ensure!(containers.len() == pods.len(), "{containers:?} in {pods:?}");
        for pod in &pods {
            ensure!(pod.state() == PodState::Ready, "{pod:?}");
            let of_pod = |one: &&Container| one.pod_sandbox_id == pod.id;
            let container = containers.iter().find(of_pod).context("a pod without container")?;
            ensure!(container.state() == ContainerState::Running, "{container:?}");
            let pid = self.pid(&container.id)?;
            ensure!(proc::alive(pid), "the process {pid} of {container:?} is gone");
        }
        Ok(())
    }
}

/// One client after the other, some of which are killed in the middle of a call.
fn run(socket: &Path, wanted: &Wanted, over: &AtomicBool, counts: &Counts) {
    while !over.load(Ordering::Relaxed) {
        let brief = fastrand::u8(..4) == 0;
        let patience = if brief { BRIEF.mul_f64(fastrand::f64()) } else { DEADLINE };
        let Ok(cri) = Cri::new(socket) else { continue };
        let client = Client { cri: cri.with_patience(patience), wanted, counts };
        // While something is down most calls fail; what counts is the end.
        if client.look().is_err() && brief {
            counts.killed.fetch_add(1, Ordering::Relaxed);
        }
        counts.rounds.fetch_add(1, Ordering::Relaxed);
        nap(Duration::from_millis(20));
    }
}

fn name(pod: &PodSandbox) -> &str {
    pod.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
}

impl Client<'_> {
    /// Removes what is not wanted or has ended, and makes what is missing. The first error ends it.
    fn look(&self) -> Result<()> {
        let containers = self.cri.containers()?;
        let mut ready = BTreeMap::new();
        for pod in self.cri.pods()? {
            let is_wanted = self.wanted.pods.contains_key(name(&pod));
            if is_wanted && pod.state() == PodState::Ready && !ready.contains_key(name(&pod)) {
                ready.insert(name(&pod).to_owned(), pod.id);
            } else {
                self.cri.stop_pod(&pod.id)?;
                self.cri.remove_pod(&pod.id)?;
            }
        }
        for (name, config) in &self.wanted.pods {
            let pod = match ready.get(name) {
                Some(pod) => pod.clone(),
                None => self.counted(self.cri.run_pod(config, &self.wanted.handler))?,
            };
            self.look_into(&pod, config, &containers)?;
        }
        Ok(())
    }

    fn look_into(
        &self,
        pod: &str,
        config: &PodSandboxConfig,
        containers: &[Container],
    ) -> Result<()> {
        let mut runs = false;
        for container in containers.iter().filter(|one| one.pod_sandbox_id == pod) {
            if container.state() == ContainerState::Running {
                runs = true;
            } else {
                self.cri.stop(&container.id, 0)?;
                self.cri.remove(&container.id)?;
            }
        }
        if !runs {
            let container = self.cri.create(pod, self.wanted.container.clone(), config);
            self.cri.start(&self.counted(container)?)?;
        }
        Ok(())
    }

    fn counted(&self, made: Result<String>) -> Result<String> {
        let made = made?;
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        Ok(made)
    }
}
