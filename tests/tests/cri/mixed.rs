//! Native containers beside wasm ones in a pod; the cases are listed in `main.rs`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{
    ContainerState, LinuxContainerResources, Mount, MountPropagation, NamespaceMode,
};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Command, Image, Pod, Pods, http, poll_until};

use crate::namespaces::namespace;

pub(crate) const WASM: &str = "/wasmtest.wasm";
pub(crate) const NATIVE: &str = "/wasmtest";

/// A directory of the host as the volume `/v`.
pub(crate) fn volume(pods: &Pods) -> Result<Mount> {
    let directory = pods.fixture.dir().join("volume");
    fs::create_dir_all(&directory)?;
    Ok(Mount {
        container_path: "/v".to_owned(),
        host_path: directory.display().to_string(),
        readonly: false,
        propagation: MountPropagation::Private.into(),
    })
}

/// Makes and starts a container with the volume.
pub(crate) fn start(pods: &Pods, pod: &Pod, name: &str, program: &[&str]) -> Result<String> {
    let image = if program[0] == WASM { Image::Wasmtest } else { Image::WasmtestNative };
    let mounts = vec![volume(pods)?];
    let container = pods.create_mounted(pod, name, image.name(), program, mounts)?;
    pods.cri.start(&container)?;
    Ok(container)
}

/// The one line that a container has printed when it has ended.
pub(crate) fn line(pods: &Pods, container: &str) -> Result<String> {
    let status = pods.becomes(container, ContainerState::Exited)?;
    ensure!(status.exit_code == 0, "{status:?}");
    let log = poll_until("a line in the log", Duration::from_secs(20), || {
        fs::read_to_string(&status.log_path).ok().filter(|log| log.ends_with('\n'))
    })?;
    Ok(log.trim_end().splitn(4, ' ').last().unwrap_or_default().to_owned())
}

pub(crate) fn native_init_container_writes_for_a_wasm_container(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("init")?;
    let init = start(pods, &pod, "init", &[NATIVE, "write", "/v/ready", "prepared\n"])?;
    ensure!(pods.becomes(&init, ContainerState::Exited)?.exit_code == 0);
    let main = start(pods, &pod, "main", &[WASM, "cat", "/v/ready"])?;
    ensure!(line(pods, &main)? == "prepared");
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn native_and_wasm_containers_have_the_namespaces_of_their_pod(
    pods: &mut Pods,
) -> Result<()> {
    pods.load_image(Image::Wasmguests)?;
    let pod = pods.run("together")?;
    let web = pods.create_of(&pod, "web", Image::Wasmguests.name(), &["/http_hello.wasm"])?;
    pods.cri.start(&web)?;
    let native = pods.start_in(&pod, "native", &["sleep", "100"])?;
    let (of_pod, of_native) = (pods.pid_of_pod(&pod)?, pods.pid(&native)?);
    ensure!(of_pod != of_native && pods.pid(&web)? == of_pod);
    for kind in ["net", "ipc", "uts"] {
        let found = namespace(of_native, kind)?;
        ensure!(found == namespace(of_pod, kind)?, "{kind}: {} is not the pod's", found.display());
        ensure!(found != namespace(std::process::id(), kind)?, "{kind} is the host's");
    }
    let pid = of_native.to_string();
    let name = Command::new("nsenter").args(["-t", &pid, "-u", "hostname"]).run()?.ok()?.out();
    ensure!(name == "together\n", "{name}");
    // Over localhost, from where the native container is.
    let answer =
        Namespace::of(of_native)?.inside(|| http::get("127.0.0.1:8080".parse()?, "/"))??;
    ensure!(answer.body == "Hello from wasm!\n", "{answer:?}");
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// As an ephemeral container of `kubectl debug`.
pub(crate) fn native_container_that_comes_later_sees_the_volume(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("debug")?;
    let writer = start(pods, &pod, "writer", &[WASM, "write", "/v/left", "by wasm\n"])?;
    pods.becomes(&writer, ContainerState::Exited)?;
    let main = start(pods, &pod, "main", &[WASM, "sleep", "100"])?;
    let debug = start(pods, &pod, "debug", &[NATIVE, "cat", "/v/left"])?;
    ensure!(line(pods, &debug)? == "by wasm");
    ensure!(pods.status(&main)?.state() == ContainerState::Running);
    pods.cri.remove(&debug)?;
    ensure!(pods.status(&main)?.state() == ContainerState::Running);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn native_container_without_memory_is_killed_alone(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("memory")?;
    let wasm = start(pods, &pod, "wasm", &[WASM, "sleep", "100"])?;
    let native = start(pods, &pod, "native", &[NATIVE, "sleep", "100"])?;
    let image = Image::WasmtestNative.name();
    // Not at once: runc's shim sees only what is killed after it has answered Start.
    let words = [NATIVE, "alloc-later", "500"];
    let greedy = pods.create_as(&pod, "greedy", image, &words, |config| {
        let resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 32 << 20,
            ..LinuxContainerResources::default()
        });
        if let Some(linux) = &mut config.linux {
            linux.resources = resources;
        }
    })?;
    pods.cri.start(&greedy)?;
    let status = pods.becomes(&greedy, ContainerState::Exited)?;
    ensure!(status.exit_code == 137 && status.reason == "OOMKilled", "{status:?}");
    for container in [&wasm, &native] {
        ensure!(pods.status(container)?.state() == ContainerState::Running);
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// A limit of the kernel for an OS process. With version 1 of cgroups its file is named with its
/// hierarchy.
fn kernel_limit(pid: u32, v1: (&str, &str), v2: &str) -> Result<String> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let place = cgroups.lines().find_map(|line| {
        let (kinds, path) = line.split_once(':')?.1.split_once(':')?;
        let root = if kinds.is_empty() { String::new() } else { format!("/{}", v1.0) };
        let name = if kinds.is_empty() { v2 } else { v1.1 };
        let file = PathBuf::from(format!("/sys/fs/cgroup{root}{path}")).join(name);
        (kinds.is_empty() || kinds.split(',').any(|kind| kind == v1.0)).then_some(file)
    });
    let file = place.context(cgroups)?;
    Ok(fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
}

/// Memory in use by a container, by the CRI.
fn memory(pods: &Pods, container: &str) -> Result<u64> {
    let memory = pods.cri.stats(container)?.memory.context("no memory")?;
    Ok(memory.working_set_bytes.context("no working set")?.value)
}

pub(crate) fn limits_of_a_mixed_pod_are_those_of_each_container(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("limits")?;
    let limited = |name: &str, program: &[&str], mib: i64, cpu_quota: i64| -> Result<String> {
        let resources = LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota,
            memory_limit_in_bytes: mib << 20,
        };
        let image = if program[0] == WASM { Image::Wasmtest } else { Image::WasmtestNative };
        let container = pods.create_as(&pod, name, image.name(), program, |config| {
            config.linux.get_or_insert_default().resources = Some(resources);
        })?;
        pods.cri.start(&container)?;
        Ok(container)
    };
    let native = limited("native", &[NATIVE, "hold", "20"], 64, 30_000)?;
    // More than the native one may have.
    let wasm = limited("wasm", &[WASM, "hold", "100"], 256, 60_000)?;
    let holds = |container: &str, mib: u64| {
        poll_until("memory in use", Duration::from_secs(20), || {
            memory(pods, container).ok().filter(|bytes| *bytes >= mib << 20)
        })
    };
    ensure!(holds(&native, 16)? < 64 << 20);
    holds(&wasm, 100)?;
    let pid = pods.pid(&native)?;
    let bytes = kernel_limit(pid, ("memory", "memory.limit_in_bytes"), "memory.max")?;
    ensure!(bytes == (64 << 20).to_string(), "{bytes}");
    let quota = kernel_limit(pid, ("cpu", "cpu.cfs_quota_us"), "cpu.max")?;
    ensure!(["30000", "30000 100000"].contains(&quota.as_str()), "{quota}");
    let greedy = limited("greedy", &[WASM, "alloc-later", "400"], 32, 60_000)?;
    let status = pods.becomes(&greedy, ContainerState::Exited)?;
    ensure!(status.exit_code == 137 && status.reason == "OOMKilled", "{status:?}");
    for container in [&wasm, &native] {
        ensure!(pods.status(container)?.state() == ContainerState::Running);
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// A container of Kubernetes' `restartPolicy: Always`: the kubelet makes a new one for one that has ended.
pub(crate) fn native_sidecar_is_started_again_beside_a_wasm_container(
    pods: &mut Pods,
) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("sidecar")?;
    let main = start(pods, &pod, "main", &[WASM, "sleep", "100"])?;
    let mut last: Option<String> = None;
    for attempt in 0..3 {
        let name = format!("sidecar-{attempt}");
        let sidecar = start(pods, &pod, &name, &[NATIVE, "exit", "3"])?;
        let status = pods.becomes(&sidecar, ContainerState::Exited)?;
        ensure!(status.exit_code == 3, "{status:?}");
        ensure!(pods.status(&main)?.state() == ContainerState::Running);
        if let Some(before) = last.replace(sidecar) {
            pods.cri.remove(&before)?;
        }
    }
    let sidecar = start(pods, &pod, "sidecar", &[NATIVE, "sleep", "100"])?;
    pods.cri.stop(&main, 0)?;
    ensure!(pods.status(&sidecar)?.state() == ContainerState::Running);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// The kubelet stops the main containers first, then the sidecars, each with its grace, then the pod.
pub(crate) fn containers_of_a_mixed_pod_are_stopped_in_order_with_their_grace(
    pods: &mut Pods,
) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    // The first process of a PID namespace is deaf to SIGTERM without a handler.
    for (name, mode, deaf) in
        [("deaf", NamespaceMode::Container, true), ("shared", NamespaceMode::Pod, false)]
    {
        let pod = pods.run_with(name, |options| options.pid = mode.into())?;
        let main = start(pods, &pod, "main", &[WASM, "sleep", "100"])?;
        let sidecar = start(pods, &pod, "sidecar", &[NATIVE, "sleep", "100"])?;
        let stop = |container: &str, grace: i64| -> Result<(i32, Duration)> {
            let began = Instant::now();
            pods.cri.stop(container, grace)?;
            Ok((pods.status(container)?.exit_code, began.elapsed()))
        };
        let (status, took) = stop(&main, 30)?;
        ensure!(status == 143 && took < Duration::from_secs(15), "{name}: {status}, {took:?}");
        ensure!(pods.status(&sidecar)?.state() == ContainerState::Running);
        let grace = if deaf { 2 } else { 30 };
        let (status, took) = stop(&sidecar, grace)?;
        ensure!(status == if deaf { 137 } else { 143 }, "{name}: {status}");
        ensure!((took >= Duration::from_secs(2)) == deaf, "{name}: {took:?}");
        pods.finish(&pod)?;
    }
    pods.becomes_clean()
}

/// Kubernetes' `/dev/shm` of a pod, which the shim makes here.
pub(crate) fn native_and_wasm_containers_share_the_memory_of_their_pod(
    pods: &mut Pods,
) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("memory")?;
    for (writer, reader) in [(WASM, NATIVE), (NATIVE, WASM)] {
        let name = if writer == WASM { "wasm" } else { "native" };
        let write = [writer, "write", "/dev/shm/x", name];
        let writing = start(pods, &pod, &format!("{name}-writes"), &write)?;
        pods.becomes(&writing, ContainerState::Exited)?;
        let read = [reader, "cat", "/dev/shm/x"];
        let reading = start(pods, &pod, &format!("{name}-is-read"), &read)?;
        ensure!(line(pods, &reading)? == name);
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// The CRI knows no pause, so this is that of `ctr` and Docker, in a pod.
pub(crate) fn paused_native_container_stands_still_beside_a_wasm_one(
    pods: &mut Pods,
) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("paused")?;
    let wasm = start(pods, &pod, "wasm", &[WASM, "count"])?;
    let native = start(pods, &pod, "native", &[NATIVE, "count"])?;
    let ticks = |container: &str| -> Result<usize> {
        let log = fs::read_to_string(pods.status(container)?.log_path).unwrap_or_default();
        Ok(log.lines().count())
    };
    let ticks_on = |container: &str| -> Result<()> {
        let before = ticks(container)?;
        poll_until("two ticks", Duration::from_secs(20), || {
            (ticks(container).ok()? >= before + 2).then_some(())
        })
    };
    let task = |verb: &str| pods.fixture.ctr_in("k8s.io").args(["task", verb, &native]).run()?.ok();
    ticks_on(&native)?;
    task("pause")?;
    // What was on its way arrives.
    ticks_on(&wasm)?;
    let before = ticks(&native)?;
    ticks_on(&wasm)?;
    ensure!(ticks(&native)? == before, "it runs on");
    task("resume")?;
    ticks_on(&native)?;
    pods.finish(&pod)?;
    pods.becomes_clean()
}
