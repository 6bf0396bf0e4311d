//! Servers that have much to do: what holds for a guest that computes holds for all its requests; the cases are listed in `main.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::connection::Connection;
use runwasi_tests::http::get;
use runwasi_tests::server::{APP, P3, serve};
use runwasi_tests::usage::Usage;
use runwasi_tests::{Containers, Meter, best_of, poll_until};

/// Clients that ask without a pause, each on a connection of its own.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(address: SocketAddr, clients: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A server that is ended closes what it has.
                    let Ok(mut connection) = Connection::to(address) else { return };
                    while !stop.load(Ordering::Relaxed) && connection.get("/hello").is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, answered, clients }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // It has nothing to say.
            drop(client.join());
        }
    }
}

/// Requests that compute as long as their connections are there.
fn spinning(address: SocketAddr, count: usize) -> Result<Vec<Connection>> {
    asking(address, "/spin", count)
}

fn asking(address: SocketAddr, path: &str, count: usize) -> Result<Vec<Connection>> {
    let ask = |_| {
        let mut connection = Connection::to(address)?;
        connection.send(path)?;
        Ok(connection)
    };
    (0..count).map(ask).collect()
}

/// Lets time pass: nothing can be polled for, since nothing is to happen.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// Waits until nothing is answered any more, and how much was.
fn silence(load: &Load) -> Result<u64> {
    let mut last = load.answered();
    poll_until("silence", Duration::from_secs(20), || {
        wait(Duration::from_millis(200));
        (std::mem::replace(&mut last, load.answered()) == load.answered()).then_some(())
    })?;
    Ok(last)
}

pub(crate) fn paused_server_uses_no_cpu_and_goes_on(c: &mut Containers) -> Result<()> {
    let id = c.id("pause");
    let address = serve(c, &[], &id, APP)?;
    let load = Load::on(address, 4);
    poll_until("answers", Duration::from_secs(20), || (load.answered() > 0).then_some(()))?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    let answered = silence(&load)?;
    let (meter, second) = (Meter::of(c, &id)?, Duration::from_secs(1));
    let before = meter.read()?;
    wait(second);
    let part = meter.read()?.part_since(&before);
    ensure!(part < 0.005, "{part} of a CPU while paused");
    ensure!(load.answered() == answered, "it answers while paused");
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    ensure!(get(address, "/hello")?.status == 200);
    poll_until("answers", Duration::from_secs(20), || (load.answered() > answered).then_some(()))?;
    drop(load);
    c.kill(&id, "SIGTERM")?;
    ensure!(c.finish(&id)? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn cpu_quota_holds_for_a_server_under_load(c: &mut Containers) -> Result<()> {
    let id = c.id("quota");
    let address = serve(c, &["--cpu-quota", "10000", "--cpu-period", "100000"], &id, APP)?;
    let (load, spinning) = (Load::on(address, 4), spinning(address, 4)?);
    wait(Duration::from_millis(500));
    let before = load.answered();
    let meter = Meter::of(c, &id)?;
    best_of(5, || {
        let part = meter.part_of_periods()?;
        ensure!((0.09..=0.11).contains(&part), "{part:.3} of a CPU instead of 0.1");
        Ok(())
    })?;
    poll_until("an answer", Duration::from_secs(20), || (load.answered() > before).then_some(()))?;
    ensure!(Usage::of(c, &id)?.periods().1 > 5, "{:?}", Usage::of(c, &id)?.periods());
    drop((load, spinning));
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn cpu_of_requests_is_in_the_metrics(c: &mut Containers) -> Result<()> {
    let id = c.id("metrics");
    let address = serve(c, &["--annotation", "io.runwasi.http.request-timeout=1s"], &id, APP)?;
    let before = Usage::of(c, &id)?.cpu();
    ensure!(get(address, "/spin")?.status == 504);
    let used = Usage::of(c, &id)?.cpu() - before;
    // On a busy machine it gets less than the second it had.
    ensure!(used > Duration::from_millis(50) && used < Duration::from_millis(2000), "{used:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn memory_limit_is_for_all_requests_together(c: &mut Containers) -> Result<()> {
    let id = c.id("memory");
    let memory = (24u64 << 20).to_string();
    let flags = ["--memory-limit", &memory, "--annotation", "io.runwasi.http.queue-timeout=500ms"];
    let address = serve(c, &flags, &id, APP)?;
    ensure!(get(address, "/alloc?mib=10")?.status == 200);
    ensure!(get(address, "/alloc?mib=100")?.status == 500);
    let held = asking(address, "/slow?ms=5000", 60)?;
    let (mut served, mut refused) = (0, 0);
    for mut connection in held {
        match connection.answer()?.status {
            200 => served += 1,
            503 => refused += 1,
            other => anyhow::bail!("status {other}"),
        }
    }
    ensure!(served > 10 && refused > 0, "{served} served, {refused} refused");
    let usage = Usage::of(c, &id)?;
    // Without a request it has no instance, only what it keeps for the next one.
    let held = usage.memory().0;
    ensure!(usage.oom_kills() == 0 && held > 0 && held < 4 << 20, "{usage:?}");
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

/// Requests of one client, until no connection is accepted any more.
#[derive(Debug, Default)]
struct Asked {
    answered: u64,
    /// Requests without a whole answer, with their number on their connection.
    cut: Vec<String>,
    /// Requests that came too late for a draining server, on a connection that it had to take for idle.
    late: u64,
}

impl Asked {
    fn of(address: SocketAddr, client: usize, total: &AtomicU64) -> Self {
        let mut asked = Self::default();
        while let Ok(mut connection) = Connection::to(address) {
            let mut last = Instant::now();
            for number in 0.. {
                // At the drain some wait within the guest, some are between the head and the end of a
                // response, some between two responses.
                let path = ["/hello", "/slow?ms=3", "/slow-body?ms=1"][(client + number) % 3];
                let began = Instant::now();
                let sent = connection.send(path);
                // The whole time since the request before.
                let is_late = last.elapsed() >= LINGER;
                last = began;
                match sent.and_then(|()| connection.answer()) {
                    Ok(answer) if answer.status == 200 => {
                        asked.answered += 1;
                        total.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) if is_late => {
                        asked.late += 1;
                        break;
                    }
                    other => {
                        asked.cut.push(format!("request {number} of a connection: {other:?}"));
                        break;
                    }
                }
                if connection.is_last() {
                    break;
                }
            }
        }
        asked
    }
}

/// Clients of a server that is drained, each with as many connections as it needs.
const DRAINED: usize = 48;
/// Answers before the drain.
const BEFORE: u64 = 500;
/// A draining server leaves a connection open for longer after a response.
const LINGER: Duration = Duration::from_millis(200);

/// The drain meets each of the clients in one moment of its requests, hence several drains.
pub(crate) fn drain_under_load_cuts_no_request(c: &mut Containers) -> Result<()> {
    let (mut answered, mut late) = (0, 0);
    let shared = ["--annotation", "io.runwasi.http.concurrent-reuse=16"];
    for (name, guest, flags) in [("p2", APP, &[][..]), ("p3", P3, &[]), ("p3-shared", P3, &shared)]
    {
        for drain in 0..4 {
            let id = c.id(&format!("{name}-{drain}"));
            let address = serve(c, flags, &id, guest)?;
            let total = Arc::<AtomicU64>::default();
            let client = |n| {
                let total = total.clone();
                thread::spawn(move || Asked::of(address, n, &total))
            };
            let clients: Vec<_> = (0..DRAINED).map(client).collect();
            let enough = || (total.load(Ordering::Relaxed) >= BEFORE).then_some(());
            poll_until("answers", Duration::from_secs(60), enough)?;
            c.kill(&id, "SIGTERM")?;
            ensure!(c.finish(&id)? == 0);
            for client in clients {
                let asked = client.join().expect("a client that panics");
                ensure!(asked.cut.is_empty(), "{name}: {:?}", asked.cut);
                answered += asked.answered;
                late += asked.late;
            }
        }
    }
    // Most drains meet clients that the machine has not kept from asking in time.
    ensure!(late < 6 * DRAINED as u64, "{late} clients were late");
    println!("{:?}: {answered} requests, none cut, {late} late", c.runtime);
    c.fixture.becomes_clean()
}

/// Requests at once, which one instance for each CPU serves.
const AT_ONCE: usize = 200;

pub(crate) fn requests_at_once_share_instances(c: &mut Containers) -> Result<()> {
    let id = c.id("shared");
    let flags = ["--annotation", "io.runwasi.http.concurrent-reuse=1000"];
    // 200 instances would need five times as much.
    let flags = [&flags[..], &["--memory-limit", "67108864"]].concat();
    let address = serve(c, &flags, &id, P3)?;
    let mut asked = asking(address, "/slow?ms=1000", AT_ONCE)?;
    for connection in &mut asked {
        let answer = connection.answer()?;
        ensure!(answer.status == 200 && answer.body == "late\n", "{answer:?}");
    }
    // A kill does not wait for what they have begun.
    let _spinning = spinning(address, 4)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn server_under_load_is_killed_at_once(c: &mut Containers) -> Result<()> {
    let id = c.id("kill");
    let address = serve(c, &[], &id, APP)?;
    let (load, spinning) = (Load::on(address, 16), spinning(address, 8)?);
    wait(Duration::from_millis(500));
    let asked = Instant::now();
    c.kill(&id, "SIGKILL")?;
    c.becomes(&id, "STOPPED")?;
    ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    drop((load, spinning));
    ensure!(c.finish(&id)? == 137);
    c.fixture.becomes_clean()
}
