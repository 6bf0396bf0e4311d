//! Pods of HTTP servers as the endpoints of a service, their replacement, and traffic that goes on meanwhile; called by tests
//! and benchmarks of rollouts.
//!
//! A client does what kube-proxy's rules do: each connection goes to a random endpoint. A pod is replaced as a rolling
//! update does it: its successor answers first, then it is no endpoint any more, and then it is asked to end. So every
//! connection that it has got before, the unaccepted included, has to be answered.

use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::Pods;
use super::container_config;
use super::many::{Started, each};
use crate::http;
use crate::poll::poll_until;
use crate::runtime::Image;

/// Threads that ask the service.
const CLIENTS: usize = 4;
/// The port of the server.
const PORT: u16 = 8080;
/// Time that a pod has to end, in seconds; the CRI's unit.
const GRACE: i64 = 20;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Result of a rollout.
#[derive(Debug)]
pub struct Rollout {
    /// Requests that were answered.
    pub answered: usize,
    /// Of those, the ones before the first pod was replaced.
    pub before: usize,
    /// Errors of the others.
    pub failed: Vec<String>,
    /// Time of all replacements.
    pub time: Duration,
}

/// What clients share.
struct Service {
    /// A client holds it while it connects, so that no connection is made to a pod after its removal.
    endpoints: RwLock<Vec<SocketAddr>>,
    begin: Instant,
    over: AtomicBool,
    answered: AtomicUsize,
}

impl Service {
    fn replace(&self, old: &[SocketAddr], new: &[SocketAddr]) -> Result<()> {
        let mut endpoints = self.endpoints.write().map_err(|_| anyhow!("a client panicked"))?;
        endpoints.retain(|one| !old.contains(one));
        endpoints.extend(new);
        Ok(())
    }

    fn connect(&self) -> Result<(SocketAddr, TcpStream)> {
        let endpoints = self.endpoints.read().map_err(|_| anyhow!("a client panicked"))?;
        let server = *fastrand::choice(&*endpoints).context("no endpoint")?;
        let stream = TcpStream::connect_timeout(&server, PATIENCE)
            .with_context(|| format!("no connection to {server}"))?;
        Ok((server, stream))
    }

    fn ask(&self) -> Result<()> {
        let (server, stream) = self.connect()?;
        let answer = http::get_on(stream, server, "/")?;
        ensure!(answer.status == 200 && answer.body == "Hello from wasm!\n", "{answer:?}");
        Ok(())
    }

    /// Asks until the rollout is over; gives the errors.
    fn client(&self) -> Vec<String> {
        let mut failed = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            match self.ask() {
                Ok(()) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
                Err(error) => failed.push(format!("{:?}: {error:#}", self.begin.elapsed())),
            }
        }
        failed
    }
}

impl Pods {
    /// Replaces `count` serving pods, `at_a_time` of them at once, while clients ask them.
    pub fn roll_out(&self, count: usize, at_a_time: usize) -> Result<Rollout> {
        self.load_image(Image::Wasmguests)?;
        let names = |version: &str, numbers: std::ops::Range<usize>| -> Vec<String> {
            numbers.map(|n| format!("web-{version}-{n}")).collect()
        };
        let mut old = self.serving(&names("old", 0..1), 1)?;
        self.network.join_host()?;
        old.extend(self.serving(&names("old", 1..count), at_a_time)?);
        let endpoints = RwLock::new(addresses(&old)?);
        for address in addresses(&old)? {
            http::get_when_up(address, "/")?;
        }
        let over = AtomicBool::new(false);
        let begin = Instant::now();
        let service = Service { endpoints, begin, over, answered: AtomicUsize::new(0) };
        let rollout = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| service.client())).collect();
            let asked = || (service.answered.load(Ordering::Relaxed) >= 10).then_some(());
            let served = poll_until("answers of a service", PATIENCE, asked);
            let before = service.answered.load(Ordering::Relaxed);
            let begin = Instant::now();
            let replaced = self.replace_pods(&service, &old, at_a_time, &names("new", 0..count));
            let time = begin.elapsed();
            service.over.store(true, Ordering::Relaxed);
            let failed = clients
                .into_iter()
                .flat_map(|client| client.join().unwrap_or_else(|panic| resume_unwind(panic)));
            let failed = failed.collect();
            let answered = service.answered.load(Ordering::Relaxed);
            served.and(replaced).map(|new| (Rollout { answered, before, failed, time }, new))
        });
        let (rollout, new) = rollout?;
        self.finish_many(&new, at_a_time)?;
        Ok(rollout)
    }

    fn serving(&self, names: &[String], at_a_time: usize) -> Result<Vec<Started>> {
        let server = container_config("web", Image::Wasmguests.name(), &["/http_hello.wasm"]);
        self.start_many(names, at_a_time, &server)
    }

    fn replace_pods(
        &self,
        service: &Service,
        old: &[Started],
        at_a_time: usize,
        names: &[String],
    ) -> Result<Vec<Started>> {
        let mut all = Vec::new();
        for (old, names) in old.chunks(at_a_time).zip(names.chunks(at_a_time)) {
            let new = self.serving(names, at_a_time)?;
            let serving = addresses(&new)?;
            for address in &serving {
                http::get_when_up(*address, "/")?;
            }
            service.replace(&addresses(old)?, &serving)?;
            each(&self.fixture.address(), at_a_time, old, |cri, one| {
                cri.stop(&one.container, GRACE)?;
                let status = cri.status(&one.container)?.status.context("no status")?;
                ensure!(status.exit_code == 0, "a server was not drained: {status:?}");
                cri.stop_pod(&one.pod.id)?;
                cri.remove_pod(&one.pod.id)
            })?;
            all.extend(new);
        }
        Ok(all)
    }
}

fn addresses(pods: &[Started]) -> Result<Vec<SocketAddr>> {
    let address = |one: &Started| Ok(SocketAddr::new(one.address.parse()?, PORT));
    pods.iter().map(address).collect()
}
