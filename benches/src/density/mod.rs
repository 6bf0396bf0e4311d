//! How many sandboxes and containers one daemon holds and what each costs it; called by `main`.
//!
//! This OS process plays containerd, so every socket, bundle and overlay is a real one. Each part has a daemon of its own
//! and compares with what that daemon held after a first container had come and gone, at rest:
//!
//! ```text
//! sandboxes    4,000 sandboxes with a container each
//! containers   1,000 sandboxes with ten containers each; idle for a while when they had one each
//! networks     50 sandboxes with a network namespace and a container each
//! cycles       500 sandboxes come and go three times: what the second and the third time leave differs by what leaks
//! thousand     1,000 sandboxes with a container each: memory and page tables of one, also beside an earlier build's
//! ```
//!
//! All guests sleep and neither wake up nor end by themselves.

mod figures;
mod population;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::{Command, Runtime};

use crate::Bench;
use crate::fake_containerd::{FakeContainerd, Storage};
use crate::levels::{Level, Switches};
use crate::results::Row;
use figures::{
    GOAL_CONTAINER_FDS, GOAL_LEAK, GOAL_SANDBOX_FDS, Grown, LEFT_MAPS, costs, fds, kib, left, maps,
    row, threads,
};
use population::Population;

const SANDBOXES: usize = 4_000;
const PODS: usize = 1_000;
const CONTAINERS: usize = 10_000;
const NETWORKS: usize = 50;
const CYCLE: usize = 500;

/// After this many sandboxes the daemon has all its threads.
const EARLY: usize = 100;

/// How long an idle daemon is watched.
const IDLE: Duration = Duration::from_secs(10);

/// The runtime measured.
const RUNTIME: Runtime = Runtime::Wasmtimed;

/// Measures the three parts one after the other.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    if !bench.options.runtimes.contains(&RUNTIME) {
        return Ok(Vec::new());
    }
    raise_file_limit()?;
    let parts = [sandboxes, containers, networks, cycles];
    let parts =
        parts.into_iter().map(|measure| part(bench, measure)).collect::<Result<Vec<_>>>()?;
    let mut rows = parts.concat();
    rows.extend(thousand(bench)?);
    Ok(rows)
}

/// What a sandbox takes of a daemon with a thousand of them.
fn thousand(bench: &Bench) -> Result<Vec<Row>> {
    let of = |build: Option<&Path>| match build {
        None => FakeContainerd::with(RUNTIME, Storage::Memory, |fake| of_thousand(bench, fake)),
        Some(directory) => {
            FakeContainerd::with_build(RUNTIME, directory, Storage::Memory, |fake| {
                of_thousand(bench, fake)
            })
        }
    };
    let (pss, tables) = of(None)?;
    let before =
        bench.options.before.as_deref().map(|directory| of(Some(directory))).transpose()?;
    let mut rows = vec![
        row("density_1000_sandbox_pss", pss, "KiB"),
        row("density_1000_sandbox_page_tables", tables, "KiB"),
    ];
    if let Some((before, before_tables)) = before {
        rows.push(row("density_1000_sandbox_pss_to_before", pss / before, "x"));
        rows.push(row("density_1000_sandbox_page_tables_to_before", tables / before_tables, "x"));
    }
    Ok(rows)
}

/// Memory and page tables, in KiB for each.
fn of_thousand(bench: &Bench, fake: &FakeContainerd) -> Result<(f64, f64)> {
    bench.say(&format!("density: what one of {PODS} sandboxes with a sleeping guest takes"))?;
    let mut population = Population::new(bench, fake, "t");
    population.fill(EARLY, |population| population.add_sandbox(false))?;
    let levels = || {
        let daemon = fake.daemon()?;
        Ok::<_, anyhow::Error>((Level::settled(daemon, &bench.interrupt)?, page_tables(daemon)?))
    };
    let (early, early_tables) = levels()?;
    population.fill(PODS, |population| population.add_sandbox(false))?;
    let (full, tables) = levels()?;
    let count = population.len() - EARLY;
    population.remove_all()?;
    let pss = full.growth_per(&early, count, kib);
    Ok((pss, (tables - early_tables) / count as f64))
}

/// `VmPTE` of `proc_pid_status(5)`, in KiB.
fn page_tables(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    size.with_context(|| format!("no VmPTE of {pid}"))
}

/// A part on a fake of its own, warmed up.
fn part(
    bench: &Bench,
    measure: fn(&Bench, &FakeContainerd) -> Result<Vec<Row>>,
) -> Result<Vec<Row>> {
    FakeContainerd::with(RUNTIME, Storage::Memory, |fake| {
        let mut first = Population::new(bench, fake, "first");
        first.add_sandbox(false)?;
        first.remove_all()?;
        measure(bench, fake)
    })
}

fn sandboxes(bench: &Bench, fake: &FakeContainerd) -> Result<Vec<Row>> {
    bench.say(&format!("density: {SANDBOXES} sandboxes with a sleeping guest each"))?;
    let level = || Level::settled(fake.daemon()?, &bench.interrupt);
    let mut population = Population::new(bench, fake, "s");
    let start = level()?;
    population.fill(EARLY, |population| population.add_sandbox(false))?;
    let early = level()?;
    population.fill(SANDBOXES, |population| population.add_sandbox(false))?;
    let (count, full) = (population.len(), level()?);
    population.remove_all()?;
    let grown = Grown { what: "sandbox", count, base: start, early, full };
    let mut rows = vec![
        row("density_start_pss", kib(&start), "KiB"),
        row("density_sandboxes", count as f64, "count").at_least(SANDBOXES as f64),
        row("density_sandbox_start_100th", population.starts.early()?, "ms"),
        row("density_sandbox_start_last", population.starts.late()?, "ms"),
    ];
    rows.extend(costs("sandbox", &population.creations)?);
    rows.extend(grown.rows(GOAL_SANDBOX_FDS));
    rows.extend(left("sandbox", &start, &level()?));
    Ok(rows)
}

fn containers(bench: &Bench, fake: &FakeContainerd) -> Result<Vec<Row>> {
    bench.say(&format!("density: {CONTAINERS} sleeping guests in {PODS} sandboxes"))?;
    let level = || Level::settled(fake.daemon()?, &bench.interrupt);
    let mut population = Population::new(bench, fake, "s");
    let start = level()?;
    population.fill(PODS, |population| population.add_sandbox(false))?;
    let (singles, single) = (population.len(), level()?);
    let switches = idle(bench, fake.daemon()?)?;
    population.fill(CONTAINERS, Population::join)?;
    let (count, full) = (population.len(), level()?);
    population.remove_all()?;
    let grown =
        Grown { what: "container", count: count - singles, base: single, early: single, full };
    let mut rows = vec![
        row("density_containers", count as f64, "count").at_least(CONTAINERS as f64),
        row("density_idle_switches", switches as f64, "count").at_most(0.0),
    ];
    rows.extend(costs("container", &population.creations)?);
    rows.extend(grown.rows(GOAL_CONTAINER_FDS));
    rows.extend(left("container", &start, &level()?));
    Ok(rows)
}

fn networks(bench: &Bench, fake: &FakeContainerd) -> Result<Vec<Row>> {
    bench.say(&format!("density: {NETWORKS} sandboxes with a network namespace of their own"))?;
    let level = || Level::settled(fake.daemon()?, &bench.interrupt);
    let mut population = Population::new(bench, fake, "s");
    let start = level()?;
    population.fill(NETWORKS, |population| population.add_sandbox(true))?;
    let (count, full) = (population.len(), level()?);
    population.remove_all()?;
    let grown = |figure| full.growth_per(&start, count, figure);
    let mut rows = vec![
        row("density_network_start", population.starts.early()?, "ms"),
        row("density_network_pss", grown(kib), "KiB"),
        row("density_network_threads", grown(threads), "count"),
        row("density_network_fds", grown(fds), "count"),
    ];
    rows.extend(left("network", &start, &level()?));
    Ok(rows)
}

fn cycles(bench: &Bench, fake: &FakeContainerd) -> Result<Vec<Row>> {
    bench.say(&format!("density: {CYCLE} sandboxes come and go three times"))?;
    let cycle = |name| {
        let mut population = Population::new(bench, fake, name);
        population.fill(CYCLE, |population| population.add_sandbox(false))?;
        population.remove_all()?;
        Level::settled(fake.daemon()?, &bench.interrupt)
    };
    cycle("once")?;
    let (second, third) = (cycle("twice")?, cycle("thrice")?);
    let more = |figure| third.growth_per(&second, 1, figure);
    Ok(vec![
        row("density_cycle_pss", third.growth_per(&second, CYCLE, kib), "KiB").at_most(GOAL_LEAK),
        row("density_cycle_fds", more(fds), "count").at_most(0.0),
        row("density_cycle_threads", more(threads), "count").at_most(0.0),
        row("density_cycle_maps", more(maps), "count").at_most(LEFT_MAPS),
    ])
}

/// How often any thread of the daemon is switched out while nothing happens.
fn idle(bench: &Bench, daemon: u32) -> Result<u64> {
    let before = Switches::read(daemon)?;
    bench.interrupt.pause(IDLE)?;
    Ok(Switches::read(daemon)?.since(&before))
}

/// A held connection is a file here, too: raises the soft limit of this OS process to the hard one.
fn raise_file_limit() -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits").context("cannot read the limits")?;
    let hard = hard_file_limit(&limits).context("no limit of open files")?;
    let own = std::process::id().to_string();
    Command::new("prlimit")
        .args(["--pid", &own, &format!("--nofile={hard}:{hard}")])
        .run()?
        .ok()?;
    Ok(())
}

fn hard_file_limit(limits: &str) -> Option<&str> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limit_is_the_second_figure() {
        let limits = "Max processes  1  2  processes\nMax open files            1024      20000      files\n";
        assert_eq!(hard_file_limit(limits), Some("20000"));
    }
}
