//! The kernel behind the limits of a shim that serves one pod; the cases are listed in `main.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::usage::{Usage, update};
use runwasi_tests::{Containers, poll_until, proc};

const ROOT: &str = "/sys/fs/cgroup";

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Where the workers are, and where the process is.
fn places(path: &str) -> [PathBuf; 2] {
    let root = Path::new(ROOT);
    if unified() {
        [root.join(path).join("guests"), root.join(path)]
    } else {
        [root.join("cpu").join(path), root.join("memory").join(path)]
    }
}

/// What a file of a cgroup says, as soon as it says anything but `before`.
fn becomes(file: &Path, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let read = || fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
    let seen = poll_until(&file.display().to_string(), Duration::from_secs(20), || {
        read().filter(|text| wanted(text))
    });
    seen.with_context(|| format!("{:?}", read()))
}

/// The names of the threads in a cgroup, sorted.
fn threads(directory: &Path, shim: u32) -> Result<Vec<String>> {
    let file = directory.join(if unified() { "cgroup.threads" } else { "tasks" });
    let mut names = Vec::new();
    for thread in becomes(&file, |text| !text.is_empty())?.lines() {
        match fs::read_to_string(format!("/proc/{shim}/task/{thread}/comm")) {
            Ok(name) => names.push(name.trim().to_owned()),
            // It has ended meanwhile, or it is no thread of the shim.
            Err(error) => {
                let is_other = Path::new(&format!("/proc/{thread}")).exists();
                ensure!(!is_other, "{thread} is no thread of the shim: {error}");
            }
        }
    }
    names.sort();
    Ok(names)
}

fn shim(c: &Containers) -> Result<u32> {
    let shims = c.fixture.shims();
    ensure!(shims.len() == 1, "{shims:?}");
    Ok(shims[0].pid)
}

fn gone(path: &str) -> Result<()> {
    for place in places(path) {
        poll_until(&format!("end of {}", place.display()), Duration::from_secs(20), || {
            (!place.exists()).then_some(())
        })?;
    }
    Ok(())
}

/// `ctr` names it so.
fn path(c: &Containers, id: &str) -> String {
    format!("{}/{id}", c.fixture.namespace())
}

const LIMITS: [&str; 6] =
    ["--cpu-quota", "20000", "--cpu-period", "100000", "--memory-limit", "50000000"];

/// Its timer is the shim's, which stays where it is.
pub(crate) fn cgroup_of_a_sleeping_container_has_workers_only_and_goes_with_it(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("sleeps");
    c.detached_with(&LIMITS, &id, &["sleep", "1000"])?;
    let [cpu, _] = places(&path(c, &id));
    let workers = threads(&cpu, shim(c)?)?;
    ensure!(!workers.is_empty() && workers.iter().all(|name| name == "guest"), "{workers:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    gone(&path(c, &id))?;
    c.fixture.becomes_clean()
}

pub(crate) fn kernel_stands_behind_the_limits_of_a_container(c: &mut Containers) -> Result<()> {
    let id = c.id("limited");
    c.detached_with(&LIMITS, &id, &["spin"])?;
    let [cpu, memory] = places(&path(c, &id));
    let workers = threads(&cpu, shim(c)?)?;
    ensure!(!workers.is_empty() && workers.iter().all(|name| name == "guest"), "{workers:?}");
    // The shim, and the process of the sandbox, by whose pid clients look for the cgroup.
    let task = c.task(&id)?.context("no task")?;
    let processes = BTreeSet::from([shim(c)?.to_string(), task.pid.to_string()]);
    becomes(&memory.join("cgroup.procs"), |text| {
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>() == processes
    })?;
    let (file, wanted) =
        if unified() { ("cpu.max", "30000 100000") } else { ("cpu.cfs_quota_us", "30000") };
    becomes(&cpu.join(file), |text| text == wanted)?;
    let bytes = memory.join(if unified() { "memory.max" } else { "memory.limit_in_bytes" });
    becomes(&bytes, |text| {
        text.parse::<u64>().is_ok_and(|bytes| (50_000_000..500_000_000).contains(&bytes))
    })?;
    // The quota stays: two fifths of a CPU instead of one fifth, a quarter more, and the reserve.
    update(c, &id, r#"{"cpu":{"period":50000}}"#)?;
    let wanted = if unified() { "55000 100000" } else { "55000" };
    becomes(&cpu.join(file), |text| text == wanted)?;
    update(c, &id, r#"{"cpu":{"quota":-1},"memory":{"limit":80000000}}"#)?;
    let wanted = if unified() { "max 100000" } else { "-1" };
    becomes(&cpu.join(file), |text| text == wanted)?;
    becomes(&bytes, |text| {
        text.parse::<u64>().is_ok_and(|bytes| (80_000_000..500_000_000).contains(&bytes))
    })?;
    ensure!(c.kill_and_finish(&id)? == 137);
    gone(&path(c, &id))?;
    c.fixture.becomes_clean()
}

/// True for a number of bytes from the first to the second.
fn within(least: u64, most: u64) -> impl Fn(&str) -> bool {
    move |text| text.parse::<u64>().is_ok_and(|bytes| (least..most).contains(&bytes))
}

pub(crate) fn kernels_limit_is_not_below_the_memory_in_use(c: &mut Containers) -> Result<()> {
    let id = c.id("lowered");
    c.detached_with(&["--memory-limit", "1073741824"], &id, &["hold", "300"])?;
    let [_, memory] = places(&path(c, &id));
    let bytes = memory.join(if unified() { "memory.max" } else { "memory.limit_in_bytes" });
    becomes(&bytes, within(1 << 30, 2 << 30))?;
    poll_until("the guest's memory", Duration::from_secs(20), || {
        Usage::of(c, &id).ok().filter(|usage| usage.memory().0 > 300 << 20)
    })?;
    update(c, &id, r#"{"memory":{"limit":33554432}}"#)?;
    // Below the limit before. A cgroup that was joined late has the guest's memory in its reserve, too.
    becomes(&bytes, within(300 << 20, 1000 << 20))?;
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    gone(&path(c, &id))?;
    c.fixture.becomes_clean()
}

pub(crate) fn container_without_limits_needs_no_cgroup(c: &mut Containers) -> Result<()> {
    let id = c.id("free");
    // `ctr` says the shares that everybody has.
    c.detached_with(&["--cpu-shares", "1024"], &id, &["sleep", "1000"])?;
    let some = || places(&path(c, &id)).into_iter().find(|place| place.exists());
    // It would be made beside the start, which waits for nothing of it.
    let seen = poll_until("a cgroup", Duration::from_millis(500), some);
    ensure!(seen.is_err(), "{seen:?}");
    update(c, &id, r#"{"cpu":{"shares":512}}"#)?;
    let [cpu, process] = places(&path(c, &id));
    let (file, wanted) = match unified() {
        // A weight counts among the children of one cgroup: those of other containers are beside
        // the cgroup of the process.
        true => (process.join("cpu.weight"), "59"),
        false => (cpu.join("cpu.shares"), "512"),
    };
    becomes(&file, |text| text == wanted)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    gone(&path(c, &id))?;
    c.fixture.becomes_clean()
}

pub(crate) fn guests_of_a_pod_are_in_its_cgroup_and_its_shim_is_not(
    c: &mut Containers,
) -> Result<()> {
    let (pod, app) = (c.id("pod"), c.id("app"));
    c.join(&pod, "sandbox", &pod, &["sleep", "1000"])?;
    c.join(&pod, "container", &app, &["spin"])?;
    let [cpu, memory] = places(&path(c, &pod));
    let workers = threads(&cpu, shim(c)?)?;
    ensure!(!workers.is_empty() && workers.iter().all(|name| name == "guest"), "{workers:?}");
    ensure!(unified() || !memory.exists(), "the pod's memory is its guests'");
    ensure!(places(&path(c, &app)).iter().all(|place| !place.exists()), "one process, one cgroup");
    for id in [&app, &pod] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    gone(&path(c, &pod))?;
    c.fixture.becomes_clean()
}

/// A pod whose shim makes it has no container that lives as long as the pod.
pub(crate) fn guests_of_a_pod_go_to_another_cgroup_when_their_first_container_ends(
    c: &mut Containers,
) -> Result<()> {
    let (pod, first, other) = (c.id("pod"), c.id("first"), c.id("other"));
    c.join(&pod, "container", &first, &["sleep", "1000"])?;
    threads(&places(&path(c, &first))[0], shim(c)?)?;
    c.join(&pod, "container", &other, &["spin"])?;
    ensure!(c.kill_and_finish(&first)? == 137);
    let moved = threads(&places(&path(c, &other))[0], shim(c)?)?;
    // All workers of the shim; and threads for file calls, which end after a second without work.
    let workers = thread::available_parallelism()?.get().min(4);
    let are_guests = moved.iter().all(|name| name == "guest");
    ensure!(moved.len() >= workers && are_guests, "{moved:?} instead of {workers} workers");
    gone(&path(c, &first))?;
    ensure!(c.kill_and_finish(&other)? == 137);
    gone(&path(c, &other))?;
    c.fixture.becomes_clean()
}

pub(crate) fn systemds_path_is_a_scope_in_its_slice(c: &mut Containers) -> Result<()> {
    let id = c.id("scope");
    let slice = format!("{}.slice", c.fixture.namespace().replace('-', ""));
    let cgroup = format!("{slice}:test:{id}");
    let flags = [&LIMITS[..], &["--cgroup", &cgroup]].concat();
    c.detached_with(&flags, &id, &["sleep", "1000"])?;
    let path = format!("{slice}/test-{id}.scope");
    let workers = threads(&places(&path)[0], shim(c)?)?;
    ensure!(!workers.is_empty() && workers.iter().all(|name| name == "guest"), "{workers:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    gone(&path)?;
    gone(&slice)?;
    c.fixture.becomes_clean()
}

/// It is a program of the host, and holds the cgroup of no container.
pub(crate) fn logger_of_an_exec_is_in_no_cgroup_of_its_container(c: &mut Containers) -> Result<()> {
    let program = c.fixture.dir().join("logger");
    let seen = c.fixture.dir().join("seen");
    let script = "exec 5>&-; cat <&3 >/dev/null & cat <&4 >/dev/null; wait";
    let script = format!("#!/bin/sh\ncat /proc/self/cgroup >'{}'\n{script}\n", seen.display());
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let id = c.id("logged");
    c.detached_with(&LIMITS, &id, &["sleep", "1000"])?;
    let [_, memory] = places(&path(c, &id));
    let shim = shim(c)?.to_string();
    becomes(&memory.join("cgroup.procs"), |text| text.lines().any(|line| line == shim))?;
    let uri = format!("binary://{}", program.display());
    let guest = [c.runtime.guest(), "echo", "logged"];
    c.exec_command(&["--log-uri", &uri], &id, "exec", &guest).run()?.ok()?;
    let cgroups = fs::read_to_string(&seen)?;
    ensure!(!cgroups.is_empty() && !cgroups.contains(&path(c, &id)), "{cgroups}");
    ensure!(c.kill_and_finish(&id)? == 137);
    gone(&path(c, &id))?;
    c.fixture.becomes_clean()
}

pub(crate) fn cgroup_of_a_killed_shim_goes_with_it(c: &mut Containers) -> Result<()> {
    let id = c.id("killed");
    c.detached_with(&LIMITS, &id, &["spin"])?;
    threads(&places(&path(c, &id))[0], shim(c)?)?;
    proc::kill9(shim(c)?)?;
    c.becomes_stopped_or_gone(&id)?;
    gone(&path(c, &id))?;
    c.fixture.ctr(["task", "delete", &id])?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}
