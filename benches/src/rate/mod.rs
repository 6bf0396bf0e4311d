//! How many containers a second come and go through the sockets of their sandboxes; called by `main`.
//!
//! A hello is created, started, waited for and deleted, several at a time. Bundles and overlay directories are prepared
//! before the clock starts, as they are containerd's work. The client takes its part of the CPUs, as containerd would.
//!
//! - `cost`: what the log and the metrics cost.

mod cost;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Command, Runtime, proc};
use tokio::task::JoinSet;

use crate::fake_containerd::{Container, FakeContainerd, Sandbox, Storage, Tasks};
use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};

/// What can be measured alone: the rates, those beside an earlier build, the cost of the log and the metrics.
pub(crate) const PARTS: [&str; 3] = ["lives", "before", "cost"];

/// Rounds whose median is the figure, after one to warm up.
const ROUNDS: usize = 3;

/// Containers under way at once.
const IN_FLIGHT: usize = 16;

/// The spread variant's sandboxes.
const SANDBOXES: usize = 16;

/// The least, a second.
const GOAL: f64 = 2_000.0;

/// Pairs of rounds of each of two servers that are compared.
const PAIRS: usize = 6;

/// For writing back what a whole machine has dirtied.
const SYNC_LIMIT: Duration = Duration::from_secs(60);

/// How a runtime is measured: the sandboxes, and the containers of a round.
struct Plan {
    runtime: Runtime,
    storage: Storage,
    figure: &'static str,
    sandboxes: usize,
    containers: usize,
    goal: bool,
}

const fn plan(runtime: Runtime, figure: &'static str, sandboxes: usize, containers: usize) -> Plan {
    let goal = matches!(runtime, Runtime::Wasmtimed);
    Plan { runtime, storage: Storage::Memory, figure, sandboxes, containers, goal }
}

/// The same with snapshots on a disk, whose speed is the disk's, and so has no goal.
const fn stored(plan: Plan, storage: Storage, figure: &'static str) -> Plan {
    Plan { storage, figure, goal: false, ..plan }
}

/// A round takes about a second.
const PLANS: [Plan; 6] = [
    plan(Runtime::Wasmtimed, "rate_one_sandbox", 1, 2_000),
    plan(Runtime::Wasmtimed, "rate_16_sandboxes", SANDBOXES, 2_000),
    stored(plan(Runtime::Wasmtimed, "", 1, 1_000), Storage::Disk, "rate_one_sandbox_disk"),
    stored(plan(Runtime::Wasmtimed, "", 1, 1_000), Storage::Journal, "rate_one_sandbox_journal"),
    plan(Runtime::Wasmtime, "rate_one_sandbox", 1, 1_000),
    plan(Runtime::Runc, "rate_one_sandbox", 1, 30),
];

/// Measures one plan after the other. Those of a runtime share a fake: taking one down deletes so many files that a
/// file system is slow to make new ones for a while.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for runtime in &bench.options.runtimes {
        let wants = |part| bench.options.wants("rate", part);
        if *runtime == Runtime::Wasmtimed && wants("cost") {
            rows.push(cost::of_log(bench)?);
            rows.push(cost::of_scrapes(bench)?);
        }
        let of_before = runtime.is_wasm() && wants("before");
        if let (Some(directory), true) = (&bench.options.before, of_before) {
            for plan in PLANS.iter().filter(|plan| plan.runtime == *runtime && plan.sandboxes == 1)
            {
                rows.extend(to_before(bench, directory, plan)?);
            }
        }
        if !wants("lives") {
            continue;
        }
        for storage in [Storage::Memory, Storage::Disk, Storage::Journal] {
            let fits = |plan: &&Plan| plan.runtime == *runtime && plan.storage == storage;
            let plans: Vec<_> = PLANS.iter().filter(fits).collect();
            if !plans.is_empty() {
                rows.extend(FakeContainerd::with(*runtime, storage, |fake| {
                    plans.iter().map(|plan| one(bench, fake, plan)).collect::<Result<Vec<_>>>()
                })?);
            }
        }
    }
    let ratios = ratios(&rows);
    rows.extend(ratios);
    Ok(rows)
}

fn one(bench: &Bench, fake: &FakeContainerd, plan: &Plan) -> Result<Row> {
    let name = short(plan.runtime);
    bench.say(&format!(
        "rate: {} containers in {} sandboxes of {name}",
        plan.containers, plan.sandboxes
    ))?;
    let sandboxes = open(fake, plan)?;
    let rounds = (0..=ROUNDS).map(|number| {
        bench.interrupt.check()?;
        round(fake, &sandboxes, plan, number)
    });
    let rates = rounds.map(|round| Ok(round?.rate)).collect::<Result<Vec<f64>>>()?;
    close(fake, sandboxes)?;
    let row = Row::new(plan.figure, name, stats::median(&rates[1..])?, "1/s");
    Ok(if plan.goal { row.at_least(GOAL) } else { row })
}

/// The rate and the CPU time of the server beside those of an earlier build.
fn to_before(bench: &Bench, directory: &Path, plan: &Plan) -> Result<Vec<Row>> {
    let runtime = plan.runtime;
    bench.say(&format!(
        "rate: {} of {} beside the earlier build's",
        plan.figure,
        short(runtime)
    ))?;
    let pairs =
        FakeContainerd::with_before(runtime, Some(directory), plan.storage, |fake, before| {
            pairs(bench, plan, fake, before.context("no earlier build")?)
        })?;
    let row = |figure: &str, ratio: fn(&[Round; 2]) -> f64| {
        let ratios: Vec<_> = pairs.iter().map(ratio).collect();
        let name = format!("{figure}_to_before");
        Ok::<_, anyhow::Error>(Row::new(name, short(runtime), stats::median(&ratios)?, "x"))
    };
    let of_cpu = plan.figure.replace("rate_one_sandbox", "rate_cpu");
    let cpu = row(&of_cpu, |[now, before]| now.cpu as f64 / before.cpu as f64);
    Ok(vec![row(plan.figure, |[now, before]| now.rate / before.rate)?, cpu?])
}

/// Two fakes in pairs of rounds, after one to warm up.
// Each is once the first and once the second of a pair: rounds in that place differ. With one order
// more often than the other, two copies of one build differed by a tenth.
fn pairs(
    bench: &Bench,
    plan: &Plan,
    one: &FakeContainerd,
    other: &FakeContainerd,
) -> Result<Vec<[Round; 2]>> {
    let (of_one, of_other) = (open(one, plan)?, open(other, plan)?);
    let mut all = Vec::new();
    for number in 0..=PAIRS {
        bench.interrupt.check()?;
        let (early, late) = (2 * number, 2 * number + 1);
        let first = round(one, &of_one, plan, early)?;
        let second = round(other, &of_other, plan, early)?;
        let third = round(other, &of_other, plan, late)?;
        let fourth = round(one, &of_one, plan, late)?;
        all.push([first.and(fourth), second.and(third)]);
    }
    close(one, of_one)?;
    close(other, of_other)?;
    all.remove(0);
    Ok(all)
}

/// The rate of the daemon beside runc's, and that on disk beside that in memory.
fn ratios(rows: &[Row]) -> Vec<Row> {
    let value = |name: &str, runtime: &str| {
        let is = |row: &&Row| row.name == name && row.runtime == runtime;
        rows.iter().find(is).map(|row| row.value)
    };
    let ratio = |name: &str, runtime: &str, over: Option<f64>, under: Option<f64>| {
        Some(Row::new(name, runtime, over? / under?, "x"))
    };
    let one = "rate_one_sandbox";
    let runc = value(one, short(Runtime::Runc));
    let mut all = Vec::new();
    for runtime in [Runtime::Wasmtime, Runtime::Wasmtimed].map(short) {
        all.extend(ratio("rate_one_sandbox_to_runc", runtime, value(one, runtime), runc));
        for (stored, name) in [
            ("rate_one_sandbox_disk", "rate_one_sandbox_disk_to_memory"),
            ("rate_one_sandbox_journal", "rate_one_sandbox_journal_to_memory"),
        ] {
            all.extend(ratio(name, runtime, value(stored, runtime), value(one, runtime)));
        }
    }
    all
}

/// The sandboxes, each with a container that holds it.
fn open(fake: &FakeContainerd, plan: &Plan) -> Result<Vec<Sandbox>> {
    let open = |place| -> Result<Sandbox> {
        let holder =
            fake.container(&format!("{}-of-{}", place, plan.sandboxes), &["sleep", "1000000"])?;
        let sandbox = fake.sandbox(&holder)?;
        fake.run(async {
            sandbox.tasks.create(&holder).await?;
            sandbox.tasks.start(&holder.id).await
        })?;
        Ok(sandbox)
    };
    (0..plan.sandboxes).map(open).collect()
}

fn close(fake: &FakeContainerd, sandboxes: Vec<Sandbox>) -> Result<()> {
    for sandbox in sandboxes {
        fake.run(sandbox.tasks.remove(&sandbox.id))?;
        fake.leave(sandbox);
    }
    Ok(())
}

/// What one round of containers took.
#[derive(Clone, Copy, Default)]
struct Round {
    /// Containers a second.
    rate: f64,
    /// CPU time of the server in nanoseconds; 0 for a runtime whose containers are processes.
    cpu: u64,
}

impl Round {
    /// Both together, with as many containers in each.
    fn and(self, other: Self) -> Self {
        let rate = 2.0 / (1.0 / self.rate + 1.0 / other.rate);
        Self { rate, cpu: self.cpu + other.cpu }
    }
}

fn round(
    fake: &FakeContainerd,
    sandboxes: &[Sandbox],
    plan: &Plan,
    number: usize,
) -> Result<Round> {
    let prepare = |count: usize| {
        let sandbox = &sandboxes[count % sandboxes.len()];
        let container =
            fake.joining(&sandbox.id, &format!("{}r{number}c{count}", sandbox.id), &[])?;
        Ok((sandbox.tasks.clone(), container))
    };
    let work: VecDeque<_> = (0..plan.containers).map(prepare).collect::<Result<_>>()?;
    // A mutex, because the workers take from one list; they share one thread, so it is never held against another.
    let work = Arc::new(Mutex::new(work));
    // Unmounting an overlay writes back what is dirty: the preparation's part of that is not to be measured.
    Command::new("sync").deadline(SYNC_LIMIT).run()?.ok()?;
    let cpu = || match plan.runtime.is_wasm() {
        true => proc::cpu_nanos(server(fake, plan.runtime)?),
        false => Ok(0),
    };
    let (begin, before) = (Instant::now(), cpu()?);
    fake.run(async {
        let mut workers = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            workers.spawn(worker(Arc::clone(&work)));
        }
        while let Some(ended) = workers.join_next().await {
            ended.context("a worker panicked")??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let rate = plan.containers as f64 / begin.elapsed().as_secs_f64();
    Ok(Round { rate, cpu: cpu()? - before })
}

/// The OS process that serves the first sandbox.
fn server(fake: &FakeContainerd, runtime: Runtime) -> Result<u32> {
    if runtime.needs_daemon() {
        return fake.daemon();
    }
    let shims = proc::shims_of(&fake.address());
    Ok(shims.first().context("no shim")?.pid)
}

async fn worker(work: Arc<Mutex<VecDeque<(Tasks, Container)>>>) -> Result<()> {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((tasks, container)) = next else { return Ok(()) };
        let id = &container.id;
        tasks.create(&container).await?;
        tasks.start(id).await?;
        let status = tasks.wait(id).await?;
        ensure!(status == 0, "{id} ended with {status}");
        tasks.delete(id).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rounds_take_the_time_of_both() {
        let both = Round { rate: 100.0, cpu: 7 }.and(Round { rate: 300.0, cpu: 5 });
        assert_eq!((both.rate.round(), both.cpu), (150.0, 12));
    }

    #[test]
    fn ratios_need_both_sides() {
        let row = |name, runtime, value| Row::new(name, runtime, value, "1/s");
        let mut rows = vec![
            row("rate_one_sandbox", "wasmtimed", 4000.0),
            row("rate_one_sandbox_disk", "wasmtimed", 1000.0),
        ];
        let only = ratios(&rows);
        assert_eq!((only.len(), only[0].value), (1, 0.25));
        rows.push(row("rate_one_sandbox", "runc", 25.0));
        assert_eq!(ratios(&rows)[0].value, 160.0);
    }
}
