//! Pods that cannot be: they are refused with the reason, and nothing of them is left; the cases are
//! listed in `main.rs`.

use std::fs;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{ContainerState, IdMapping, NamespaceMode, UserNamespace};
use runwasi_tests::{Image, Pods, Runtime, Setup, Version, check_pods_with, says};

use crate::life::is_ready;
use crate::mixed::{NATIVE, WASM};

const MISSING: &str = "/nonexistent/native-runtime";

/// Pods of containerd 2 with a setting `native-runtime`.
#[track_caller]
fn check(
    (runtime, managed): (Runtime, bool),
    value: &str,
    case: impl FnOnce(&mut Pods) -> Result<()> + Send,
) {
    let dir = tempfile::tempdir().expect("a directory for options");
    let file = dir.path().join("options.toml");
    fs::write(&file, format!("native-runtime = \"{value}\"\n")).expect("a file of options");
    let table = r#"plugins."io.containerd.grpc.v1.cri".containerd.runtimes.under-test.options"#;
    // Options cannot change a daemon's own setting.
    let handler = match runtime.needs_daemon() {
        true => String::new(),
        false => format!("[{table}]\nConfigPath = {file:?}\n"),
    };
    let daemon = ["--native-runtime", value];
    let setup = Setup { version: Version::V2, handler: &handler, managed, daemon: &daemon };
    check_pods_with(runtime, &setup, case);
}

/// Without native containers.
#[track_caller]
pub(crate) fn check_off(runtime: Runtime, case: impl FnOnce(&mut Pods) -> Result<()> + Send) {
    check((runtime, false), "off", case);
}

/// The same with pods that the shim makes.
#[track_caller]
pub(crate) fn check_managed_off(
    runtime: Runtime,
    case: impl FnOnce(&mut Pods) -> Result<()> + Send,
) {
    check((runtime, true), "off", case);
}

/// Without the program that the setting names.
#[track_caller]
pub(crate) fn check_missing(runtime: Runtime, case: impl FnOnce(&mut Pods) -> Result<()> + Send) {
    check((runtime, false), MISSING, case);
}

/// The same with pods that the shim makes.
#[track_caller]
pub(crate) fn check_managed_missing(
    runtime: Runtime,
    case: impl FnOnce(&mut Pods) -> Result<()> + Send,
) {
    check((runtime, true), MISSING, case);
}

pub(crate) fn native_container_is_refused_if_they_are_off(pods: &mut Pods) -> Result<()> {
    native_container_is_refused_alone(pods, "native containers are off")
}

pub(crate) fn native_container_is_refused_without_its_runtime(pods: &mut Pods) -> Result<()> {
    native_container_is_refused_alone(pods, &format!("need {MISSING}, which is not"))
}

/// The pod shares its processes. That is no reason to refuse its wasm containers, which are no
/// processes.
fn native_container_is_refused_alone(pods: &mut Pods, reason: &str) -> Result<()> {
    pods.load_image(Image::WasmtestNative)?;
    let pod = pods.run_with("refusing", |options| options.pid = NamespaceMode::Pod.into())?;
    let wasm = pods.create_of(&pod, "wasm", Image::Wasmtest.name(), &[WASM, "sleep", "100"])?;
    pods.cri.start(&wasm)?;
    let image = Image::WasmtestNative.name();
    let native = pods.create_of(&pod, "native", image, &[NATIVE, "sleep", "100"])?;
    let error = pods.cri.start(&native).err().context("a native container was started")?;
    says(&format!("{error:#}"), &["/wasmtest is a native program", reason], &[])?;
    let status = pods.status(&native)?;
    ensure!(status.state() == ContainerState::Exited && status.exit_code != 0, "{status:?}");
    pods.cri.remove(&native)?;
    ensure!(pods.fixture.delegates().is_empty(), "a native runtime was started");
    ensure!(pods.status(&wasm)?.state() == ContainerState::Running);
    is_ready(pods, &pod)?;
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// Kubernetes' `hostUsers: false`.
pub(crate) fn pod_with_a_user_namespace_is_refused_with_the_field(pods: &mut Pods) -> Result<()> {
    let mapping = vec![IdMapping { host_id: 100_000, container_id: 0, length: 65_536 }];
    let users =
        UserNamespace { mode: NamespaceMode::Pod.into(), uids: mapping.clone(), gids: mapping };
    let mapped = pods.run_with("mapped", |options| options.userns_options = Some(users));
    let error = mapped.err().context("a pod with a user namespace was made")?;
    let field = match pods.managed {
        true => "linux.security_context.namespace_options.userns_options",
        false => "linux.uidMappings",
    };
    says(&format!("{error:#}"), &[field], &["not supported"])?;
    ensure!(pods.cri.pods()?.is_empty(), "the pod is there");
    ensure!(pods.fixture.delegates().is_empty(), "a native runtime was started");
    // The kubelet says the mode of the host for a pod without a user namespace.
    let mode = NamespaceMode::Node.into();
    let of_host = Some(UserNamespace { mode, ..UserNamespace::default() });
    let pod = pods.run_with("mapped", |options| options.userns_options = of_host)?;
    let container = pods.start_in(&pod, "guest", &["exit", "7"])?;
    ensure!(pods.becomes(&container, ContainerState::Exited)?.exit_code == 7);
    pods.finish(&pod)?;
    pods.becomes_clean()
}
