//! Values right after known lives of containers; the cases are listed in `main.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::exposition::{Scrape, become_equal, grow};
use runwasi_tests::{Containers, Meter, poll_until};

const MIB: f64 = 1024.0 * 1024.0;

fn exit(reason: &str) -> String {
    format!("runwasi_exits_total{{kind=\"container\",reason=\"{reason}\"}}")
}

pub(crate) fn ends_are_counted_by_their_reason(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let before = Scrape::of(metrics)?;
    c.run(&c.id("ok"), &["exit", "0"])?.ok()?;
    // Of a component every failure is status 1.
    c.run(&c.id("one"), &["exit", "1"])?.status_is(1)?;
    c.run(&c.id("trap"), &["trap"])?.status_is(134)?;
    let memory = (64 << 20).to_string();
    let flags = ["--rm", "--memory-limit", &memory];
    c.run_command(&flags, &c.id("oom"), &["alloc", "128"]).run()?.status_is(137)?;
    let id = c.id("killed");
    c.detached(&id, &["sleep", "100"])?;
    ensure!(c.kill_and_finish(&id)? == 137);
    let id = c.id("ended");
    c.detached(&id, &["sleep", "100"])?;
    c.kill(&id, "SIGTERM")?;
    ensure!(c.finish(&id)? == 143);
    let [ok, failure, trap, oom, killed, signal, error] =
        ["success", "failure", "trap", "oom", "killed", "signal", "error"].map(exit);
    let grown = [
        (ok.as_str(), 1.0),
        (&failure, 1.0),
        (&trap, 1.0),
        (&oom, 1.0),
        (&killed, 1.0),
        (&signal, 1.0),
        (&error, 0.0),
        (r#"runwasi_creates_total{kind="container"}"#, 6.0),
        (r#"runwasi_starts_total{kind="container"}"#, 6.0),
        (r#"runwasi_deletes_total{kind="container"}"#, 6.0),
        (r#"runwasi_creates_total{kind="exec"}"#, 0.0),
        (r#"runwasi_start_phase_seconds_count{phase="thin"}"#, 6.0),
        (r#"runwasi_start_phase_seconds_count{phase="sandbox"}"#, 6.0),
        (r#"runwasi_start_phase_seconds_count{phase="prepare"}"#, 6.0),
        (r#"runwasi_start_phase_seconds_count{phase="engine"}"#, 6.0),
        (r#"runwasi_start_phase_seconds_count{phase="instantiate"}"#, 6.0),
        (r#"runwasi_containers{state="stopped"}"#, 0.0),
        (r#"runwasi_sandboxes{state="active"}"#, 0.0),
        (r#"runwasi_events_total{fate="lost"}"#, 0.0),
        ("runwasi_events_waiting", 0.0),
    ];
    let after = grow(metrics, &before, &grown)?;
    let cpu = after.value("runwasi_guest_cpu_seconds_total")?;
    ensure!(cpu > 0.0 && cpu < after.value("process_cpu_seconds_total")?, "{cpu} s of guests");
    // Each life has four events, that of the memory one more.
    ensure!(after.value(r#"runwasi_events_total{fate="delivered"}"#)? >= 25.0);
    let thin = after.value(r#"runwasi_start_phase_seconds_sum{phase="thin"}"#)?;
    ensure!(thin > 0.0 && thin < 60.0, "{thin} s from the thin shim");
    c.fixture.becomes_clean()
}

pub(crate) fn running_container_is_counted_in_its_state(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let used = |pool: &str| format!("runwasi_pool_slots{{pool=\"{pool}\",state=\"used\"}}");
    let id = c.id("held");
    c.detached(&id, &["hold", "40"])?;
    become_equal(metrics, &[(&used("stacks"), 1.0), (&used("memories"), 1.0)])?;
    poll_until("the guest's memory", Duration::from_secs(20), || {
        let guest = Scrape::of(metrics).ok()?.value(r#"runwasi_memory_bytes{kind="guest"}"#);
        guest.ok().filter(|bytes| *bytes > 40.0 * MIB && *bytes < 60.0 * MIB)
    })?;
    states(c, metrics, &id)?;
    let empty = [
        (r#"runwasi_containers{state="running"}"#, 0.0),
        (r#"runwasi_execs{state="stopped"}"#, 0.0),
        (r#"runwasi_memory_bytes{kind="guest"}"#, 0.0),
        (&used("stacks"), 0.0),
    ];
    become_equal(metrics, &empty)?;
    c.fixture.becomes_clean()
}

/// The same for an engine that has no pools of its own and no code cache: its pool is that of the
/// daemon's slots.
pub(crate) fn running_container_is_counted_in_its_state_and_the_slots(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let id = c.id("held");
    c.detached(&id, &["sleep", "100"])?;
    states(c, metrics, &id)?;
    let text = Scrape::of(metrics)?.text;
    let pools = text.lines().filter(|line| line.starts_with("runwasi_pool_slots{"));
    ensure!(pools.count() == 2, "{text}");
    become_equal(metrics, &[(r#"runwasi_pool_slots{pool="slots",state="used"}"#, 0.0)])?;
    ensure!(text.contains(r#"program="containerd-wasmid""#), "{text}");
    c.fixture.becomes_clean()
}

/// Follows a running container to its end.
fn states(c: &Containers, metrics: SocketAddr, id: &str) -> Result<()> {
    let state = |state: &str| format!("runwasi_containers{{state=\"{state}\"}}");
    let [running, paused, stopped] = ["running", "paused", "stopped"].map(state);
    let one = r#"runwasi_sandboxes{state="active"}"#;
    become_equal(metrics, &[(&running, 1.0), (&paused, 0.0), (one, 1.0)])?;
    c.fixture.ctr(["task", "pause", id])?.ok()?;
    become_equal(metrics, &[(&running, 0.0), (&paused, 1.0)])?;
    c.fixture.ctr(["task", "resume", id])?.ok()?;
    let before = become_equal(metrics, &[(&running, 1.0), (&paused, 0.0)])?;
    c.exec(id, "e", &["exit", "7"])?.status_is(7)?;
    let exec = r#"runwasi_exits_total{kind="exec",reason="failure"}"#;
    let grown = [(exec, 1.0), (r#"runwasi_starts_total{kind="exec"}"#, 1.0)];
    grow(metrics, &before, &grown)?;
    c.kill(id, "SIGKILL")?;
    become_equal(metrics, &[(&running, 0.0), (&stopped, 1.0)])?;
    ensure!(c.finish(id)? == 137);
    become_equal(metrics, &[(&stopped, 0.0), (one, 0.0)])?;
    Ok(())
}

pub(crate) fn throttling_is_counted(c: &mut Containers, metrics: SocketAddr) -> Result<()> {
    let before = Scrape::of(metrics)?;
    ensure!(before.value("runwasi_throttled_total")? == 0.0);
    let id = c.id("spin");
    c.detached_with(&["--cpu-quota", "10000", "--cpu-period", "100000"], &id, &["spin"])?;
    Meter::of(c, &id)?.used_up()?;
    let throttled = |scrape: &Scrape| -> Result<f64> {
        let periods = scrape.value("runwasi_quota_periods_total")?;
        let times = scrape.value("runwasi_throttled_total")?;
        ensure!(times <= periods, "{times} in {periods} periods");
        Ok(times)
    };
    let seen = poll_until("throttling", Duration::from_secs(20), || {
        let now = Scrape::of(metrics).ok()?;
        let seconds = now.value("runwasi_throttled_seconds_total").ok()?;
        let cpu = now.value("runwasi_guest_cpu_seconds_total").ok()?;
        (throttled(&now).ok()? >= 5.0 && seconds > 0.2 && cpu > 0.02).then_some(now)
    })?;
    ensure!(c.kill_and_finish(&id)? == 137);
    // A counter does not go back with its container.
    ensure!(throttled(&Scrape::of(metrics)?)? >= throttled(&seen)?);
    c.fixture.becomes_clean()
}

pub(crate) fn refusals_are_counted(c: &mut Containers, metrics: SocketAddr) -> Result<()> {
    let before = Scrape::of(metrics)?;
    let none = ["run", "--rm", "--runtime", c.runtime.name(), c.runtime.image().name()];
    let id = c.id("none");
    let line = [&none[..], &[&id, "/no-such-program.wasm"]].concat();
    c.fixture.ctr(line)?.refused()?;
    let memory = ["--rm", "--memory-limit", "600000"];
    c.run_command(&memory, &c.id("tiny"), &["exit", "0"]).run()?.refused()?;
    let grown = [
        (r#"runwasi_refusals_total{call="create"}"#, 1.0),
        (r#"runwasi_refusals_total{call="start"}"#, 1.0),
        (r#"runwasi_creates_total{kind="container"}"#, 1.0),
        (r#"runwasi_starts_total{kind="container"}"#, 0.0),
        (r#"runwasi_containers{state="stopped"}"#, 0.0),
    ];
    grow(metrics, &before, &grown)?;
    c.fixture.becomes_clean()
}

pub(crate) fn lookups_and_compilations_are_counted(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let before = Scrape::of(metrics)?;
    ensure!(before.value("runwasi_code_cache_files")? == 0.0);
    for n in 0..3 {
        c.run(&c.id(&format!("r{n}")), &["exit", "0"])?.ok()?;
    }
    let grown = [
        (r#"runwasi_code_lookups_total{found="miss"}"#, 1.0),
        (r#"runwasi_code_lookups_total{found="memory"}"#, 2.0),
        (r#"runwasi_code_lookups_total{found="disk"}"#, 0.0),
        (r#"runwasi_compilations_total{result="compiled"}"#, 1.0),
        (r#"runwasi_compilations_total{result="refused"}"#, 0.0),
        ("runwasi_compilation_seconds_count", 1.0),
        ("runwasi_code_cache_files", 1.0),
        ("runwasi_compilations_running", 0.0),
    ];
    let after = grow(metrics, &before, &grown)?;
    let size = after.value("runwasi_code_cache_bytes")?;
    let limit = after.value("runwasi_code_cache_limit_bytes")?;
    ensure!(size > 10_000.0 && size < limit && limit == 1024.0 * MIB, "{size} of {limit}");
    let seconds = after.value("runwasi_compilation_seconds_sum")?;
    ensure!(seconds > 0.0 && seconds < 60.0, "{seconds} s");
    // The next daemon finds the code on disk.
    c.fixture.daemon()?.terminate()?;
    c.restart_daemon()?;
    let before = Scrape::of(metrics).context("of the next daemon")?;
    c.run(&c.id("disk"), &["exit", "0"])?.ok()?;
    let grown = [
        (r#"runwasi_code_lookups_total{found="disk"}"#, 1.0),
        (r#"runwasi_code_lookups_total{found="miss"}"#, 0.0),
    ];
    grow(metrics, &before, &grown)?;
    c.fixture.becomes_clean()
}
