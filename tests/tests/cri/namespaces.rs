//! The namespaces of native containers besides the network's: of their pod, of another container, of
//! the host; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{ContainerState, NamespaceMode};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Image, Pods, poll_until};

use crate::mixed::{NATIVE, WASM, start, volume};
use crate::programs::of_host;

pub(crate) fn namespace(pid: u32, kind: &str) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/ns/{kind}");
    fs::read_link(&path).context(path)
}

/// Kubernetes' `shareProcessNamespace`.
pub(crate) fn native_containers_share_the_pid_namespace_of_their_pod_if_asked(
    pods: &mut Pods,
) -> Result<()> {
    let host = namespace(std::process::id(), "pid")?;
    for (name, mode, shared) in
        [("shared", NamespaceMode::Pod, true), ("apart", NamespaceMode::Container, false)]
    {
        let pod = pods.run_with(name, |options| options.pid = mode.into())?;
        let a = pods.start_in(&pod, "a", &["sleep", "100"])?;
        let b = pods.start_in(&pod, "b", &["sleep", "100"])?;
        let runtimes = pods.fixture.delegates();
        ensure!(runtimes.len() == 1, "{name}: one native runtime for the pod: {runtimes:?}");
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

/// Waits until it has no parent in its namespace but the first process, and says so.
const ORPHAN: &str = "#!/bin/sh
until grep -q '^PPid:.1$' /proc/$$/status; do sleep 0.05; done
echo >/v/orphaned
";

/// A line of `/proc/PID/status`.
fn in_status(pid: &str, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}

/// Names of the OS processes in a PID namespace, and of the children that its first process has not
/// reaped.
fn members(of: &Path) -> Vec<String> {
    let pids = || {
        let names = fs::read_dir("/proc").into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_in = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|at| at == of);
    let is_first = |pid: &String| {
        let inside = in_status(pid, "NSpid:");
        is_in(pid) && inside.is_some_and(|pids| pids.split_whitespace().next_back() == Some("1"))
    };
    let first = pids().find(is_first);
    // A zombie is in no namespace any more.
    let is_child = |pid: &str| first.is_some() && in_status(pid, "PPid:") == first;
    let mut names: Vec<String> = pids()
        .filter(|pid| is_in(pid) || is_child(pid))
        .filter_map(|pid| in_status(&pid, "Name:"))
        .collect();
    names.sort();
    names
}

pub(crate) fn orphans_in_a_shared_pid_namespace_are_reaped(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run_with("orphans", |options| options.pid = NamespaceMode::Pod.into())?;
    let wasm = start(pods, &pod, "wasm", &[WASM, "sleep", "100"])?;
    let mut mounts = of_host();
    let volume = volume(pods)?;
    let script = Path::new(&volume.host_path).join("orphan");
    fs::write(&script, ORPHAN)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let told = script.with_file_name("orphaned");
    mounts.push(volume);
    // Two: their parents end at once.
    let command = ["/bin/sh", "-c", "(/v/orphan &); (/v/orphan &); exec /wasmtest sleep 100"];
    let image = Image::WasmtestNative.name();
    let native = pods.create_mounted(&pod, "native", image, &command, mounts)?;
    pods.cri.start(&native)?;
    poll_until("an orphan", Duration::from_secs(20), || told.exists().then_some(()))?;
    let shared = namespace(pods.pid(&native)?, "pid")?;
    let left = poll_until("the end of all orphans", Duration::from_secs(20), || {
        (members(&shared) == ["pod-init", "wasmtest"]).then_some(())
    });
    left.with_context(|| format!("{:?}", members(&shared)))?;
    ensure!(pods.status(&wasm)?.state() == ContainerState::Running);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// As `kubectl debug --target` asks for it.
pub(crate) fn debug_container_is_in_the_pid_namespace_of_its_target(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run_with("target", |options| options.pid = NamespaceMode::Container.into())?;
    let wasm = start(pods, &pod, "wasm", &[WASM, "sleep", "100"])?;
    let native = start(pods, &pod, "native", &[NATIVE, "sleep", "100"])?;
    let debug = |name: &str, target: &str| -> Result<PathBuf> {
        let image = Image::WasmtestNative.name();
        let container = pods.create_as(&pod, name, image, &[NATIVE, "sleep", "100"], |config| {
            let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
            if let Some(options) = security.and_then(|one| one.namespace_options.as_mut()) {
                options.pid = NamespaceMode::Target.into();
                options.target_id = target.to_owned();
            }
        })?;
        pods.cri.start(&container)?;
        namespace(pods.pid(&container)?, "pid")
    };
    let of_native = namespace(pods.pid(&native)?, "pid")?;
    ensure!(debug("debug-native", &native)? == of_native);
    // A guest is no process. The containers that ask for its processes see one another's.
    let of_wasm = debug("debug-wasm", &wasm)?;
    let of_host = namespace(std::process::id(), "pid")?;
    ensure!(of_wasm != of_native && of_wasm != of_host, "{}", of_wasm.display());
    ensure!(debug("debug-again", &wasm)? == of_wasm);
    ensure!(pods.status(&wasm)?.state() == ContainerState::Running);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// Kubernetes' `hostPID` and `hostIPC` of a pod with a network of its own.
pub(crate) fn native_containers_have_what_their_pod_has_of_the_host(pods: &mut Pods) -> Result<()> {
    let own = std::process::id();
    for (name, with_pids, with_ipc) in
        [("pids", true, false), ("ipc", false, true), ("both", true, true)]
    {
        let pod = pods.run_with(name, |options| {
            let mode = |of_host: bool| match of_host {
                true => NamespaceMode::Node.into(),
                false => NamespaceMode::Pod.into(),
            };
            options.pid = mode(with_pids);
            options.ipc = mode(with_ipc);
        })?;
        let pid = pods.pid(&pods.start_in(&pod, "native", &["sleep", "100"])?)?;
        for (kind, of_host) in
            [("pid", with_pids), ("ipc", with_ipc), ("net", false), ("uts", false)]
        {
            let is_hosts = namespace(pid, kind)? == namespace(own, kind)?;
            ensure!(is_hosts == of_host, "{name}: {kind} is the host's: {is_hosts}");
        }
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
