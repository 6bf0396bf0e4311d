//! The manifests of `deploy` against models of the kinds that they use: a field that Kubernetes does not have, or one that
//! is missing, is an error.
//!
//! The models have the fields that the manifests use, as in Kubernetes' API reference of `apps/v1`, `node.k8s.io/v1` and
//! `v1`, and in the resource definition of runtime-class-manager (`config/crd/bases/runtime.spinkube.dev_shims.yaml`).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use runwasi_installer::options::Runtime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

use crate::fixture::project;

type Words = BTreeMap<String, String>;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    name: String,
    namespace: Option<String>,
    labels: Words,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Namespace {
    #[serde(rename = "apiVersion")]
    _api: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RuntimeClass {
    api_version: String,
    kind: String,
    metadata: Metadata,
    handler: String,
    overhead: Overhead,
    scheduling: Scheduling,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Overhead {
    pod_fixed: Words,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Scheduling {
    node_selector: Words,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct DaemonSet {
    api_version: String,
    kind: String,
    pub(crate) metadata: Metadata,
    spec: DaemonSetSpec,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DaemonSetSpec {
    selector: Selector,
    update_strategy: UpdateStrategy,
    template: Template,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: Words,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Template {
    metadata: TemplateMetadata,
    spec: PodSpec,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct TemplateMetadata {
    labels: Words,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodSpec {
    node_selector: Words,
    tolerations: Vec<Words>,
    automount_service_account_token: bool,
    #[serde(rename = "hostPID")]
    host_pid: bool,
    termination_grace_period_seconds: u32,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    name: String,
    image: String,
    image_pull_policy: String,
    command: Vec<String>,
    args: Vec<String>,
    #[serde(default)]
    resources: BTreeMap<String, Words>,
    security_context: SecurityContext,
    #[serde(default)]
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SecurityContext {
    privileged: Option<bool>,
    run_as_non_root: Option<bool>,
    run_as_user: Option<u32>,
    allow_privilege_escalation: Option<bool>,
    read_only_root_filesystem: Option<bool>,
    capabilities: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: String,
    mount_propagation: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Volume {
    name: String,
    host_path: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Shim {
    api_version: String,
    kind: String,
    #[serde(rename = "metadata")]
    _metadata: Metadata,
    spec: ShimSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ShimSpec {
    #[serde(rename = "nodeSelector")]
    _node_selector: Words,
    fetch_strategy: FetchStrategy,
    runtime_class: ShimClass,
    rollout_strategy: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FetchStrategy {
    platforms: Vec<Platform>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    os: String,
    arch: String,
    location: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShimClass {
    name: String,
    handler: String,
}

/// The documents of a text.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    documents.map(|value| Ok(value?)).collect()
}

/// A document as a kind.
pub(crate) fn of_kind<T: DeserializeOwned>(documents: &[Value], kind: &str) -> Result<Vec<T>> {
    let ours = documents.iter().filter(|document| document["kind"] == kind);
    ours.map(|one| serde_yaml_ng::from_value(one.clone()).with_context(|| kind.to_owned()))
        .collect()
}

/// The text of a file of `deploy`.
pub(crate) fn text(file: &str) -> Result<String> {
    let path = project().join("deploy").join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[test]
fn runtime_classes_name_the_handlers_that_the_installer_writes() -> Result<()> {
    let classes: Vec<RuntimeClass> =
        of_kind(&documents(&text("manifests/runtimeclasses.yaml")?)?, "RuntimeClass")?;
    let handlers: Vec<_> = classes.iter().map(|class| class.handler.as_str()).collect();
    ensure!(handlers == Runtime::ALL.map(Runtime::handler), "{handlers:?}");
    for class in &classes {
        ensure!(
            class.api_version == "node.k8s.io/v1" && class.metadata.name == class.handler,
            "{class:?}"
        );
        ensure!(class.scheduling.node_selector["runwasi.io/node"] == "true", "{class:?}");
    }
    Ok(())
}

#[test]
fn overhead_is_that_of_the_documentation() -> Result<()> {
    let classes: Vec<RuntimeClass> =
        of_kind(&documents(&text("manifests/runtimeclasses.yaml")?)?, "RuntimeClass")?;
    let page = fs::read_to_string(project().join("docs/nodes.md"))?;
    for RuntimeClass { handler, overhead, .. } in classes {
        // | `wasmtime` | `memory_pod_pss_max` | 3.1 MB | 3Mi |
        let row =
            page.lines().find(|line| line.starts_with(&format!("| `{handler}` | `memory_pod_")));
        let row = row.with_context(|| format!("no row of {handler} in docs/nodes.md"))?;
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, measured, rounded] = cells[..] else { bail!("{row}") };
        let megabytes: f64 = measured.trim_end_matches(" MB").parse().context(row.to_owned())?;
        let mebibytes = (megabytes * 1e6 / f64::from(1 << 20)).ceil();
        ensure!(format!("{mebibytes}Mi") == rounded, "{row}: {mebibytes} MiB");
        ensure!(
            overhead.pod_fixed == Words::from([("memory".to_owned(), rounded.to_owned())]),
            "{row}"
        );
    }
    Ok(())
}

#[test]
fn installing_and_uninstalling_daemon_sets_differ_in_the_command_alone() -> Result<()> {
    let install = text("manifests/install.yaml")?;
    let uninstall = text("manifests/uninstall.yaml")?;
    let objects = |text: &str| text.split_once("apiVersion").map(|(_, rest)| rest.to_owned());
    let (install, uninstall) = (objects(&install), objects(&uninstall));
    let changed = install.as_deref().map(|text| {
        text.replace("- name: install", "- name: uninstall")
            .replace("[\"install\"]", "[\"uninstall\"]")
    });
    ensure!(changed.is_some() && changed == uninstall, "{changed:?}");
    Ok(())
}

#[test]
fn daemon_set_gives_the_installer_what_it_needs_and_its_main_container_nothing() -> Result<()> {
    let all = documents(&text("manifests/install.yaml")?)?;
    let namespaces: Vec<Namespace> = of_kind(&all, "Namespace")?;
    let sets: Vec<DaemonSet> = of_kind(&all, "DaemonSet")?;
    let ([namespace], [set]) = (&namespaces[..], &sets[..]) else { bail!("{all:?}") };
    ensure!(set.api_version == "apps/v1" && set.kind == "DaemonSet", "{set:?}");
    ensure!(set.metadata.namespace.as_ref() == Some(&namespace.metadata.name), "{set:?}");
    ensure!(namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "privileged");
    let (spec, pod) = (&set.spec, &set.spec.template.spec);
    ensure!(spec.selector.match_labels == spec.template.metadata.labels, "{spec:?}");
    ensure!(pod.host_pid && !pod.automount_service_account_token, "{pod:?}");
    let ([install], [wait]) = (&pod.init_containers[..], &pod.containers[..]) else {
        bail!("{pod:?}")
    };
    ensure!(install.image == wait.image, "{pod:?}");
    ensure!(install.security_context.privileged == Some(true), "{install:?}");
    let [mount] = &install.volume_mounts[..] else { bail!("{install:?}") };
    // A file system that the host mounts later, its /run for example, is there, too.
    ensure!(
        mount.mount_path == "/host" && mount.mount_propagation == "HostToContainer",
        "{mount:?}"
    );
    let [volume] = &pod.volumes[..] else { bail!("{pod:?}") };
    ensure!(volume.name == mount.name && volume.host_path["path"] == "/", "{volume:?}");
    ensure!(wait.volume_mounts.is_empty() && wait.args == ["wait"], "{wait:?}");
    let security = &wait.security_context;
    ensure!(
        security.privileged.is_none() && security.allow_privilege_escalation == Some(false),
        "{wait:?}"
    );
    ensure!(security.read_only_root_filesystem == Some(true), "{wait:?}");
    // It is in the host's PID namespace, where root may end root's programs without a capability.
    ensure!(security.run_as_non_root == Some(true) && security.run_as_user > Some(0), "{wait:?}");
    Ok(())
}

#[test]
fn shim_resource_has_the_handler_that_its_manager_derives_from_the_file() -> Result<()> {
    let shims: Vec<Shim> = of_kind(&documents(&text("runtime-class-manager/shim.yaml")?)?, "Shim")?;
    let [shim] = &shims[..] else { bail!("{shims:?}") };
    ensure!(shim.api_version == "runtime.spinkube.dev/v1alpha1" && shim.kind == "Shim");
    let file = Runtime::Wasmtime.shim();
    let handler = file.strip_prefix("containerd-shim-").context("another name")?;
    ensure!(shim.spec.runtime_class.handler == handler, "{shim:?}");
    ensure!(shim.spec.runtime_class.name == handler, "{shim:?}");
    let [platform] = &shim.spec.fetch_strategy.platforms[..] else { bail!("{shim:?}") };
    ensure!(platform.os == "linux" && ["x86_64", "amd64"].contains(&platform.arch.as_str()));
    ensure!(platform.location.ends_with(&format!("/{file}.tar.gz")), "{platform:?}");
    ensure!(["rolling", "recreate"].contains(&shim.spec.rollout_strategy["type"].as_str()));
    Ok(())
}
