//! The life of a container in the log: one line for each event; the cases are listed in `main.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::log::{Line, has, life, number, text};
use runwasi_tests::{Containerd, Containers, Runtime, ShimDriver, check_with, poll_until};

/// The messages of a container that ran.
pub(crate) const WHOLE: [&str; 4] =
    ["container created", "container started", "container exited", "container deleted"];

const MIB: f64 = (1 << 20) as f64;

/// Longest time until a throttled container is told.
const LONG: Duration = Duration::from_secs(40);

pub(crate) fn life_of_a_container_is_told_with_its_pod_and_its_usage(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("life");
    let pod = c.id("pod");
    let annotations = [
        format!("io.kubernetes.cri.sandbox-id={pod}"),
        "io.kubernetes.cri.sandbox-name=web-0".to_owned(),
        "io.kubernetes.cri.sandbox-namespace=shop".to_owned(),
    ];
    let flags: Vec<&str> = annotations.iter().flat_map(|one| ["--annotation", one]).collect();
    c.run_command(&[&["--rm"], &flags[..]].concat(), &id, &["exit", "3"]).run()?.status_is(3)?;
    let lines = c.whole_life(&id, &WHOLE)?;
    let namespace = c.fixture.namespace().to_owned();
    for line in &lines {
        let ids = [("namespace", namespace.as_str()), ("container", &id), ("sandbox", &pod)];
        has(line, &ids)?;
        has(line, &[("level", "info"), ("pod", "web-0"), ("pod_namespace", "shop")])?;
        ensure!(line.contains_key("time") && !line.contains_key("exec"), "{line:?}");
        if !c.runtime.needs_daemon() {
            has(line, &[("runtime", c.runtime.name())])?;
        }
    }
    has(&lines[0], &[("kind", "wasm")])?;
    ensure!(number(&lines[0], "seconds")? > 0.0 && number(&lines[1], "seconds")? > 0.0);
    let exited = &lines[2];
    has(exited, &[("status", "3"), ("cause", "exit")])?;
    ensure!(!exited.contains_key("signal") && !exited.contains_key("trap"), "{exited:?}");
    let run = number(exited, "run_seconds")?;
    let cpu = number(exited, "cpu_seconds")?;
    let peak = number(exited, "memory_peak")?;
    ensure!(run > 0.0 && run < 60.0 && cpu > 0.0 && cpu < 10.0, "{exited:?}");
    ensure!(peak > 0.5 * MIB && peak < 64.0 * MIB, "{exited:?}");
    c.fixture.becomes_clean()?;
    // No other line at this level: a busy node has thousands of lives a second.
    let log = c.log();
    let of_pod = log.lines().filter_map(text).filter(|line| {
        line.get("sandbox").is_some_and(|sandbox| *sandbox == pod) && line["level"] == "info"
    });
    let mut said: Vec<String> = of_pod.map(|line| line["msg"].clone()).collect();
    said.retain(|message| message != "artifact compiled");
    ensure!(said == WHOLE, "{said:?}");
    lines[..3].iter().try_for_each(is_documented)
}

/// Demands that the example of this line in the documentation has the same fields.
fn is_documented(line: &Line) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/logs.md");
    let page = fs::read_to_string(page).context("docs/logs.md")?;
    let is_of_web = |one: &Line| one.get("container").is_some_and(|container| container == "web");
    let is_it = |one: &Line| one.get("msg") == line.get("msg") && is_of_web(one);
    let example = page.lines().filter_map(text).find(is_it).context(format!("{line:?}"))?;
    let fields = |line: &Line| -> BTreeSet<String> {
        line.keys().filter(|key| *key != "runtime").cloned().collect()
    };
    ensure!(fields(line) == fields(&example), "{line:?}, in docs/logs.md {example:?}");
    Ok(())
}

pub(crate) fn trap_is_told_with_its_kind(c: &mut Containers) -> Result<()> {
    let id = c.id("trap");
    c.run(&id, &["trap"])?.status_is(134)?;
    let lines = c.whole_life(&id, &WHOLE)?;
    let trap = [("trap", "wasm `unreachable` instruction executed")];
    has(&lines[2], &[&trap[..], &[("status", "134"), ("cause", "trap")]].concat())?;
    c.fixture.becomes_clean()
}

pub(crate) fn end_by_memory_is_told_as_such(c: &mut Containers) -> Result<()> {
    let id = c.id("greedy");
    let limit = (64_u64 << 20).to_string();
    let flags = ["--rm", "--memory-limit", &limit];
    c.run_command(&flags, &id, &["alloc", "128"]).run()?.status_is(137)?;
    let lines = c.whole_life(&id, &WHOLE)?;
    has(&lines[2], &[("status", "137"), ("cause", "oom")])?;
    // The growth that ended it is not in the peak.
    let peak = number(&lines[2], "memory_peak")?;
    ensure!(peak > 0.5 * MIB && peak <= 64.0 * MIB, "{peak}");
    has(&lines[2], &[("memory_limit", &limit)])?;
    c.fixture.becomes_clean()
}

pub(crate) fn signals_are_told(c: &mut Containers) -> Result<()> {
    for (name, signal, number, status) in
        [("killed", "SIGKILL", "9", 137), ("ended", "SIGTERM", "15", 143)]
    {
        let id = c.id(name);
        c.detached(&id, &["sleep", "1000"])?;
        c.kill(&id, signal)?;
        ensure!(c.finish(&id)? == status);
        let lines = c.whole_life(&id, &WHOLE)?;
        let status = status.to_string();
        has(&lines[2], &[("status", &status), ("cause", "signal"), ("signal", number)])?;
    }
    c.fixture.becomes_clean()
}

/// Lines of a container until its exec `again` was deleted, which has ended with 7.
pub(crate) fn lines_of_an_exec(c: &mut Containers, id: &str) -> Result<Vec<Line>> {
    c.detached(id, &["sleep", "1000"])?;
    c.exec(id, "again", &["exit", "7"])?.status_is(7)?;
    let messages = [
        "container created",
        "container started",
        "exec created",
        "exec started",
        "exec exited",
        "exec deleted",
    ];
    c.whole_life(id, &messages)
}

pub(crate) fn exec_is_told_with_its_id(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    let lines = lines_of_an_exec(c, &id)?;
    for line in &lines[2..] {
        has(line, &[("exec", "again"), ("sandbox", &id)])?;
    }
    has(&lines[4], &[("status", "7"), ("cause", "exit")])?;
    ensure!(number(&lines[4], "cpu_seconds")? > 0.0, "{:?}", lines[4]);
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn long_throttling_is_told_once(c: &mut Containers) -> Result<()> {
    let id = c.id("slow");
    c.detached_with(&["--cpu-quota", "10000", "--cpu-period", "100000"], &id, &["spin"])?;
    let throttled = poll_until("a line about the throttling", LONG, || {
        c.life(&id).into_iter().find(|line| line["msg"] == "container throttled")
    })?;
    let window = number(&throttled, "window_seconds")?;
    let part = number(&throttled, "throttled_seconds")? / window;
    ensure!(window >= 10.0 && part > 0.5 && part < 1.0, "{throttled:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    let messages = [&WHOLE[..2], &["container throttled"], &WHOLE[2..]].concat();
    let lines = c.whole_life(&id, &messages)?;
    ensure!(number(&lines[3], "throttled_seconds")? > 5.0, "{:?}", lines[3]);
    c.fixture.becomes_clean()
}

pub(crate) fn container_that_was_never_started_is_told_as_such(driver: &ShimDriver) -> Result<()> {
    const ID: &str = "unstarted";
    let bundle = driver.bundle(ID, &[driver.runtime().guest(), "exit", "0"])?;
    bundle.add_guests()?;
    let client = driver.connect(ID, bundle.path())?;
    client.create(ID, bundle.path(), &[])?;
    let deleted = client.delete(ID)?;
    ensure!(deleted.exit_status == 137, "{deleted:?}");
    let lines = poll_until("all lines of a life", LONG, || {
        let lines = life(&driver.log(), ID);
        (lines.len() >= 3).then_some(lines)
    })?;
    let said: Vec<&str> = lines.iter().map(|line| line["msg"].as_str()).collect();
    ensure!(said == ["container created", "container exited", "container deleted"], "{said:?}");
    has(&lines[1], &[("cause", "never-started"), ("status", "137"), ("sandbox", ID)])?;
    ensure!(!lines[1].contains_key("run_seconds"), "{:?}", lines[1]);
    driver.finish(&client, ID, bundle.path())?;
    driver.becomes_clean()
}

/// With a filter in the environment of shims and daemon.
#[track_caller]
pub(crate) fn check_filtered(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let filter = "warn,lifecycle=off";
    let fixture = Containerd::builder().env("RUST_LOG", filter);
    let fixture = match runtime.needs_daemon() {
        true => fixture.daemon(Settings::default().env("RUST_LOG", filter)),
        false => fixture,
    };
    check_with(runtime, fixture, case);
}

pub(crate) fn lines_of_lives_are_filtered_by_rust_log(c: &mut Containers) -> Result<()> {
    let id = c.id("quiet");
    c.run(&id, &["exit", "0"])?.ok()?;
    c.fixture.becomes_clean()?;
    let lines = c.life(&id);
    ensure!(lines.is_empty(), "{lines:?}");
    if let Ok(daemon) = c.fixture.daemon() {
        let log = daemon.log();
        ensure!(!log.contains("level=info"), "{log}");
    }
    Ok(())
}
