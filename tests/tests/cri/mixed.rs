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

const WASM: &str = "/wasmtest.wasm";
const NATIVE: &str = "/wasmtest";

/// A directory of the host as the volume `/v`.
fn volume(pods: &Pods) -> Result<Mount> {
    let directory = pods.fixture.dir().join("volume");
    fs::create_dir_all(&directory)?;
    Ok(Mount {
        container_path: "/v".to_owned(),
        host_path: directory.display().to_string(),
        propagation: MountPropagation::Private.into(),
    })
}

/// Makes and starts a container with the volume.
fn start(pods: &Pods, pod: &Pod, name: &str, program: &[&str]) -> Result<String> {
    let image = if program[0] == WASM { Image::Wasmtest } else { Image::WasmtestNative };
    let mounts = vec![volume(pods)?];
    let container = pods.create_mounted(pod, name, image.name(), program, mounts)?;
    pods.cri.start(&container)?;
    Ok(container)
}

/// The one line that a container has printed when it has ended.
fn line(pods: &Pods, container: &str) -> Result<String> {
    let status = pods.becomes(container, ContainerState::Exited)?;
    ensure!(status.exit_code == 0, "{status:?}");
    let log = poll_until("a line in the log", Duration::from_secs(20), || {
        fs::read_to_string(&status.log_path).ok().filter(|log| log.ends_with('\n'))
    })?;
    Ok(log.trim_end().splitn(4, ' ').last().unwrap_or_default().to_owned())
}

fn namespace(pid: u32, kind: &str) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/ns/{kind}");
    fs::read_link(&path).context(path)
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
        let pod = pod_with_pids(pods, name, mode)?;
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

fn pod_with_pids(pods: &Pods, name: &str, pids: NamespaceMode) -> Result<Pod> {
    pods.run_as(name, NamespaceMode::Pod, |config| {
        let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
        if let Some(options) = security.and_then(|one| one.namespace_options.as_mut()) {
            options.pid = pids.into();
        }
    })
}

/// Kubernetes' `shareProcessNamespace`.
pub(crate) fn native_containers_share_the_pid_namespace_of_their_pod_if_asked(
    pods: &mut Pods,
) -> Result<()> {
    let host = namespace(std::process::id(), "pid")?;
    for (name, mode, shared) in
        [("shared", NamespaceMode::Pod, true), ("apart", NamespaceMode::Container, false)]
    {
        let pod = pod_with_pids(pods, name, mode)?;
        let a = pods.start_in(&pod, "a", &["sleep", "100"])?;
        let b = pods.start_in(&pod, "b", &["sleep", "100"])?;
        let [of_a, of_b] = [namespace(pods.pid(&a)?, "pid")?, namespace(pods.pid(&b)?, "pid")?];
        ensure!(of_a != host && of_b != host, "{name}: in the host's PID namespace");
        ensure!((of_a == of_b) == shared, "{name}: {} and {}", of_a.display(), of_b.display());
        let status = fs::read_to_string(format!("/proc/{}/status", pods.pid(&a)?))?;
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inside = inside.and_then(|pids| pids.split_whitespace().last()).context("NSpid")?;
        ensure!((inside == "1") != shared, "{name}: pid {inside} in the namespace");
        // The end of one does not end the other.
        pods.cri.stop(&a, 0)?;
        ensure!(pods.status(&b)?.state() == ContainerState::Running);
        pods.finish(&pod)?;
    }
    pods.becomes_clean()
}

/// Kubernetes' `hostPID` and `hostNetwork`.
pub(crate) fn native_container_on_the_host_is_on_the_host(pods: &mut Pods) -> Result<()> {
    let own = std::process::id();
    let pod = pods.run_as("host", NamespaceMode::Node, |config| {
        let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
        if let Some(options) = security.and_then(|one| one.namespace_options.as_mut()) {
            options.pid = NamespaceMode::Node.into();
        }
    })?;
    let native = pods.start_in(&pod, "native", &["sleep", "100"])?;
    let pid = pods.pid(&native)?;
    ensure!(Namespace::of(pid)? == Namespace::own()?, "not in the host's network");
    ensure!(namespace(pid, "pid")? == namespace(own, "pid")?, "not among the host's processes");
    ensure!(namespace(pid, "ipc")? != namespace(own, "ipc")?, "in the host's IPC namespace");
    pods.finish(&pod)?;
    pods.becomes_clean()
}
