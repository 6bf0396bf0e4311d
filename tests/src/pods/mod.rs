//! A fixture whose containerd has its CRI plugin, and the pods in it, on a network of their own; made by tests of pods.
//!
//! Everything the CRI makes lies in the containerd namespace `k8s.io`, so the fixture's own check does not see it: dropping
//! [`Pods`] removes the pods and fails when something of them is left.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cni::Network;
use crate::command::DEADLINE;
use crate::containerd::Containerd;
use crate::cri::Cri;
use crate::cri::messages::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ImageSpec,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata,
};
use crate::daemon::Settings;
use crate::machine::{Use, tried};
use crate::network::on_own_host;
use crate::poll::poll_until;
use crate::proc;
use crate::runtime::{Image, Runtime};
use crate::version::Version;
use setup::{HANDLER, PAUSE};

mod end;
pub mod many;
pub mod reconcile;
pub mod service;
mod setup;

/// The containerd namespace of all that the CRI makes.
const NAMESPACE: &str = "k8s.io";

/// The CRI's plugins; up to containerd 1.7 it is one.
const CRI: [&str; 3] =
    ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"];

/// A fixture with a CRI and the runtime its pods use.
#[derive(Debug)]
pub struct Pods {
    /// The CRI.
    pub cri: Cri,
    /// The runtime under test.
    pub runtime: Runtime,
    /// The private containerd. Before the network: it must have stopped before the bridge goes.
    pub fixture: Containerd,
    /// The network of the pods.
    pub network: Network,
    /// Whether the shim makes the pods: then a pod has no `config.json`.
    pub managed: bool,
    /// The name of the runtime in containerd's configuration, for the pods that are made from now on.
    pub handler: String,
    links: Vec<String>,
    // The pods there have been, whose sockets must be gone. A cell, so that cases may share a fixture's pods.
    ever: RefCell<BTreeSet<String>>,
    // The same of containers: their native runtimes and cgroups must be gone.
    containers: RefCell<BTreeSet<String>>,
}

/// A pod that was made.
#[derive(Debug)]
pub struct Pod {
    /// The CRI's id.
    pub id: String,
    /// What it was made of, which every container's request repeats.
    pub config: PodSandboxConfig,
}

/// What a fixture for pods may have unusual.
#[derive(Debug, Default)]
pub struct Setup<'a> {
    /// The containerd.
    pub version: Version,
    /// More lines for the table of the runtime in containerd's configuration.
    pub handler: &'a str,
    /// Whether containerd has the shim make its pods, by the Sandbox API. Then there is no image for pods.
    pub managed: bool,
    /// More flags of the daemon, if the runtime needs one.
    pub daemon: &'a [&'a str],
}

/// Runs one case on a fixture of its own on a host of its own; an error fails the test while the fixture still stands.
#[track_caller]
pub fn check_pods(runtime: Runtime, case: impl Fn(&mut Pods) -> Result<()> + Sync) {
    tried(runtime, || check_pods_with(runtime, &Setup::default(), &case));
}

/// As [`check_pods`], on containerd 1.7.
#[track_caller]
pub fn check_pods_on_1_7(runtime: Runtime, case: impl Fn(&mut Pods) -> Result<()> + Sync) {
    tried(runtime, || {
        check_pods_with(runtime, &Setup { version: Version::V1_7, ..Setup::default() }, &case)
    });
}

/// As [`check_pods`], on containerd 2.
#[track_caller]
pub fn check_pods_on_2(runtime: Runtime, case: impl Fn(&mut Pods) -> Result<()> + Sync) {
    tried(runtime, || {
        check_pods_with(runtime, &Setup { version: Version::V2, ..Setup::default() }, &case)
    });
}

/// The same with pods that the shim makes.
#[track_caller]
pub fn check_managed_pods(runtime: Runtime, case: impl Fn(&mut Pods) -> Result<()> + Sync) {
    let setup = Setup { version: Version::V2, managed: true, ..Setup::default() };
    tried(runtime, || check_pods_with(runtime, &setup, &case));
}

/// As [`check_pods`], on a fixture with something unusual.
#[track_caller]
pub fn check_pods_with(
    runtime: Runtime,
    setup: &Setup<'_>,
    case: impl FnOnce(&mut Pods) -> Result<()> + Send,
) {
    let _machine = Use::shared();
    on_own_host(|| {
        let mut pods = match Pods::start(runtime, setup) {
            Ok(pods) => pods,
            Err(error) => panic!("no fixture for pods of {runtime:?}: {error:?}"),
        };
        if let Err(error) = case(&mut pods) {
            panic!("{runtime:?}: {error:?}");
        }
    });
}

impl Pods {
    /// A fresh fixture with the images loaded, in the network of the calling thread.
    pub fn start(runtime: Runtime, setup: &Setup<'_>) -> Result<Self> {
        let network = Network::new()?;
        let links = network.links_without_bridge()?;
        let builder = Containerd::builder().version(setup.version);
        let builder = match runtime.needs_daemon() {
            true => builder.daemon(Settings::of(runtime).flags(setup.daemon)),
            false => builder,
        };
        let builder = CRI.iter().fold(builder, |builder, plugin| builder.keep_plugin(plugin));
        let sandboxer = if setup.managed { "sandboxer = \"shim\"\n" } else { "" };
        let configuration = setup::configuration(runtime, &network);
        let fixture =
            builder.config(&configuration).config(sandboxer).config(setup.handler).start()?;
        let cri = Cri::new(&fixture.address())?;
        // Without the plugin this fails at once.
        let version = cri.becomes_ready().with_context(|| fixture.log())?.runtime_version;
        let pods = Self {
            cri,
            runtime,
            fixture,
            network,
            managed: setup.managed,
            handler: HANDLER.to_owned(),
            links,
            ever: RefCell::default(),
            containers: RefCell::default(),
        };
        if !pods.managed || setup::pulls_in_vain(&version) {
            pods.load(PAUSE, &setup::pause_image(pods.fixture.dir())?, false)?;
        }
        pods.load_image(runtime.image())?;
        Ok(pods)
    }

    /// Imports another image.
    pub fn load_image(&self, image: Image) -> Result<()> {
        self.load(image.name(), &image.tar(), image.is_wasm_image())
    }

    /// Makes a pod with a network of its own.
    pub fn run(&self, name: &str) -> Result<Pod> {
        self.run_in(name, NamespaceMode::Pod)
    }

    /// Makes a pod with a network of its own or in the host's.
    pub fn run_in(&self, name: &str, network: NamespaceMode) -> Result<Pod> {
        self.run_as(name, network, |_| ())
    }

    /// Makes a pod with a network of its own and an annotation.
    pub fn run_annotated(&self, name: &str, key: &str, value: &str) -> Result<Pod> {
        let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        self.run_as(name, NamespaceMode::Pod, |config| config.annotations = annotations)
    }

    /// Makes a pod with a network of its own and other namespaces as asked.
    pub fn run_with(&self, name: &str, change: impl FnOnce(&mut NamespaceOption)) -> Result<Pod> {
        self.run_as(name, NamespaceMode::Pod, |config| {
            let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
            if let Some(options) = security.and_then(|one| one.namespace_options.as_mut()) {
                change(options);
            }
        })
    }

    /// Makes a pod with something unusual in its configuration.
    pub fn run_as(
        &self,
        name: &str,
        network: NamespaceMode,
        change: impl FnOnce(&mut PodSandboxConfig),
    ) -> Result<Pod> {
        let mut config = self.pod_config(name, network);
        change(&mut config);
        let id = self.cri.run_pod(&config, &self.handler)?;
        self.ever.borrow_mut().insert(id.clone());
        Ok(Pod { id, config })
    }

    /// The configuration of an ordinary pod.
    pub fn pod_config(&self, name: &str, network: NamespaceMode) -> PodSandboxConfig {
        let options = NamespaceOption {
            network: network.into(),
            pid: NamespaceMode::Pod.into(),
            ..NamespaceOption::default()
        };
        let security = LinuxSandboxSecurityContext { namespace_options: Some(options) };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: self.fixture.id(name),
                namespace: "default".to_owned(),
            }),
            hostname: if network == NamespaceMode::Node { String::new() } else { name.to_owned() },
            log_directory: self
                .fixture
                .dir()
                .join("logs")
                .join(name)
                .to_string_lossy()
                .into_owned(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(security),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    /// Makes a container in a pod that runs the guest with these arguments; its log is `NAME.log`.
    pub fn create(&self, pod: &Pod, name: &str, args: &[&str]) -> Result<String> {
        self.create_program(pod, name, self.runtime.guest(), args)
    }

    /// The same with another program of the image.
    pub fn create_program(
        &self,
        pod: &Pod,
        name: &str,
        program: &str,
        args: &[&str],
    ) -> Result<String> {
        self.create_of(pod, name, self.runtime.image().name(), &[&[program], args].concat())
    }

    /// Makes a container of another image; without `command` it runs what the image says.
    pub fn create_of(
        &self,
        pod: &Pod,
        name: &str,
        image: impl Into<ImageSpec>,
        command: &[&str],
    ) -> Result<String> {
        self.create_mounted(pod, name, image, command, Vec::new())
    }

    /// Makes a container that runs the guest with these arguments and has limits.
    pub fn create_limited(
        &self,
        pod: &Pod,
        name: &str,
        args: &[&str],
        limits: LinuxContainerResources,
    ) -> Result<String> {
        let command = [&[self.runtime.guest()], args].concat();
        self.create_as(pod, name, self.runtime.image().name(), &command, |config| {
            config.linux.get_or_insert_default().resources = Some(limits);
        })
    }

    /// The same as [`create_of`](Self::create_of) with volumes.
    pub fn create_mounted(
        &self,
        pod: &Pod,
        name: &str,
        image: impl Into<ImageSpec>,
        command: &[&str],
        mounts: Vec<Mount>,
    ) -> Result<String> {
        self.create_as(pod, name, image, command, |config| config.mounts = mounts)
    }

    /// The same with something unusual in its configuration.
    pub fn create_as(
        &self,
        pod: &Pod,
        name: &str,
        image: impl Into<ImageSpec>,
        command: &[&str],
        change: impl FnOnce(&mut ContainerConfig),
    ) -> Result<String> {
        let mut config = container_config(name, image, command);
        // The kubelet gives a container the namespaces of its pod.
        let security = pod.config.linux.as_ref().and_then(|linux| linux.security_context.clone());
        let namespace_options = security.and_then(|security| security.namespace_options);
        let security_context = Some(LinuxContainerSecurityContext { namespace_options });
        config.linux = Some(LinuxContainerConfig { resources: None, security_context });
        change(&mut config);
        let id = self.cri.create(&pod.id, config, &pod.config)?;
        self.containers.borrow_mut().insert(id.clone());
        Ok(id)
    }

    /// Makes and starts such a container.
    pub fn start_in(&self, pod: &Pod, name: &str, args: &[&str]) -> Result<String> {
        let id = self.create(pod, name, args)?;
        self.cri.start(&id)?;
        Ok(id)
    }

    /// How a container is.
    pub fn status(&self, container: &str) -> Result<ContainerStatus> {
        self.cri.status(container)?.status.context("no status")
    }

    /// Waits until a container is in this state.
    pub fn becomes(&self, container: &str, state: ContainerState) -> Result<ContainerStatus> {
        let mut last = None;
        let seen = poll_until(&format!("{container} {state:?}"), Duration::from_secs(15), || {
            last = Some(self.status(container));
            let status = last.as_ref()?.as_ref().ok()?;
            (status.state() == state).then(|| status.clone())
        });
        seen.with_context(|| format!("last seen: {last:?}"))
    }

    /// The pid that containerd was told for a pod.
    pub fn pid_of_pod(&self, pod: &Pod) -> Result<u32> {
        pid(&self.cri.pod_status(&pod.id)?.info)
    }

    /// The pid that containerd was told for a container.
    pub fn pid(&self, container: &str) -> Result<u32> {
        pid(&self.cri.status(container)?.info)
    }

    /// The address of a pod, empty in the host's network.
    pub fn address(&self, pod: &Pod) -> Result<String> {
        let status = self.cri.pod_status(&pod.id)?.status.context("no status")?;
        Ok(status.network.unwrap_or_default().ip)
    }

    /// The bundle of a container, or of a pod that the shim does not make.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.bundles("s")[0].join(id)
    }

    /// Its `config.json`.
    pub fn config(&self, id: &str) -> Result<Value> {
        let file = self.bundle(id).join("config.json");
        let text = fs::read(&file).with_context(|| file.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| file.display().to_string())
    }

    /// Where the socket of a pod's shim or sandbox is.
    pub fn socket(&self, pod: &str) -> PathBuf {
        proc::socket_path(&self.fixture.address(), NAMESPACE, pod)
    }

    /// Stops and removes a pod with its containers.
    pub fn finish(&self, pod: &Pod) -> Result<()> {
        self.cri.stop_pod(&pod.id)?;
        self.cri.remove_pod(&pod.id)
    }

    /// Imports an image of wasm layers from a file of the test's.
    pub fn import(&self, name: &str, tar: &Path) -> Result<()> {
        self.load(name, tar, true)
    }

    /// Imports an image and waits until the CRI, which learns of it by an event, knows it: it would pull it otherwise.
    fn load(&self, name: &str, tar: &Path, is_wasm_image: bool) -> Result<()> {
        ensure!(tar.exists(), "{} is missing: `make images` writes it", tar.display());
        let flags: &[&str] = if is_wasm_image { &["--all-platforms", "--no-unpack"] } else { &[] };
        let import = self.fixture.ctr_in(NAMESPACE).args(["image", "import"]).args(flags);
        import.args([tar]).run()?.ok()?;
        poll_until(&format!("{name} in the CRI"), DEADLINE, || {
            self.cri.has_image(name).ok()?.then_some(())
        })
    }

    /// Of containers and, where the shim makes them, of pods.
    fn bundles(&self, top: &str) -> [PathBuf; 2] {
        let of = |plugin| self.fixture.dir().join(top).join(plugin).join(NAMESPACE);
        ["io.containerd.runtime.v2.task", "io.containerd.sandbox.controller.v1.shim"].map(of)
    }
}

/// The configuration of a container that runs this command of an image; without `command` it runs what the image says.
pub fn container_config(
    name: &str,
    image: impl Into<ImageSpec>,
    command: &[&str],
) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned() }),
        image: Some(image.into()),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        args: Vec::new(),
        mounts: Vec::new(),
        log_path: format!("{name}.log"),
        linux: None,
    }
}

/// What the CRI says verbosely is JSON.
fn pid(info: &std::collections::HashMap<String, String>) -> Result<u32> {
    let text = info.get("info").context("nothing verbose")?;
    let value: Value = serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
    let pid = value["pid"]
        .as_u64()
        .filter(|pid| *pid > 0)
        .with_context(|| format!("no pid in {text}"))?;
    Ok(u32::try_from(pid)?)
}
