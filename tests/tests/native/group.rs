//! Native containers of one pod, and wasm ones beside them; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, Image, poll_until};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::ends::delegate;

pub(crate) fn containers_of_a_pod_share_a_native_runtime(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let (sandbox, a, b) = (c.id("sandbox"), c.id("a"), c.id("b"));
    c.join(&pod, "sandbox", &sandbox, &["sleep", "100"])?;
    ensure!(c.fixture.delegates().is_empty(), "the sandbox's own container is native");
    c.join(&pod, "container", &a, &["sleep", "100"])?;
    let pid = delegate(c)?;
    c.join(&pod, "container", &b, &["sleep", "100"])?;
    ensure!(delegate(c)? == pid);
    ensure!(c.kill_and_finish(&a)? == 137);
    c.is_running(&b)?;
    ensure!(delegate(c)? == pid);
    ensure!(c.kill_and_finish(&b)? == 137);
    poll_until("the end of the native runtime", Duration::from_secs(20), || {
        c.fixture.delegates().is_empty().then_some(())
    })?;
    c.is_running(&sandbox)?;
    ensure!(c.kill_and_finish(&sandbox)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn wasm_and_native_programs_are_in_one_pod(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Wasmtest)?;
    let pod = c.id("pod");
    let (native, wasm) = (c.id("native"), c.id("wasm"));
    c.join(&pod, "container", &native, &["sleep", "100"])?;
    let group = format!("io.kubernetes.cri.sandbox-id={pod}");
    let flags = ["-d", "--annotation", &group];
    let run = |id: &str, program: &[&str]| -> Result<()> {
        c.run_of(Image::Wasmtest, &flags, id, program).run()?.ok()?;
        Ok(())
    };
    run(&wasm, &["/wasmtest.wasm", "sleep", "100"])?;
    ensure!(c.fixture.shims().len() == 1, "{:?}", c.fixture.shims());
    let server = c.is_running(&wasm)?.pid;
    ensure!(c.is_running(&native)?.pid != server);
    // Each program has its own way of execs.
    let echo = |id: &str, exec: &str, program: &str| -> Result<String> {
        Ok(c.exec_command(&[], id, exec, &[program, "echo", exec]).run()?.ok()?.out())
    };
    ensure!(echo(&wasm, "e1", "/wasmtest.wasm")? == "e1\n");
    ensure!(echo(&native, "e2", "/wasmtest")? == "e2\n");
    ensure!(c.kill_and_finish(&native)? == 137);
    c.is_running(&wasm)?;
    ensure!(c.kill_and_finish(&wasm)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn native_runtime_is_in_no_cgroup_of_a_wasm_container(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Wasmtest)?;
    let pod = c.id("pod");
    let (native, wasm) = (c.id("native"), c.id("wasm"));
    let group = format!("io.kubernetes.cri.sandbox-id={pod}");
    let limit = (256 << 20).to_string();
    let flags = ["-d", "--annotation", &group, "--memory-limit", &limit, "--cpu-quota", "50000"];
    c.run_of(Image::Wasmtest, &flags, &wasm, &["/wasmtest.wasm", "sleep", "100"]).run()?.ok()?;
    let cgroups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup"));
    // On v1 a shim of a pod stays outside itself.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let shim = c.fixture.shims()[0].pid;
        poll_until("the shim in the cgroup", Duration::from_secs(20), || {
            cgroups(shim).ok()?.contains(&wasm).then_some(())
        })?;
    }
    c.join(&pod, "container", &native, &["sleep", "100"])?;
    let found = cgroups(delegate(c)?)?;
    ensure!(!found.contains(&wasm), "{found}");
    for id in [&wasm, &native] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn metrics_of_a_native_container_are_those_of_its_cgroup(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("metrics");
    c.detached(&id, &["hold", "50"])?;
    let seen = poll_until("50 MiB in use", Duration::from_secs(20), || {
        let out = c.fixture.ctr(["task", "metrics", &id]).ok()?.out();
        let used = |line: &str| {
            let (name, value) = line.split_once(char::is_whitespace)?;
            name.starts_with("memory.usage").then(|| value.trim().parse::<u64>().ok())?
        };
        out.lines().find_map(used).filter(|used| *used >= 50 << 20)
    })?;
    ensure!(seen < 100 << 20, "{seen}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
