//! `config.json` (OCI runtime spec 1.1), read once and reduced to the settings of a guest.
//! Untrusted: every field is checked here, and an error names the file and the field.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rustix::thread::CapabilitySet;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{
    cgroups_path::CgroupsPath,
    error::{Wrong, wrong},
    hooks::HooksConfig,
    json::{self, JsonError},
    mount_options::{Propagation, propagation, propagations},
    mounts::{VolumeConfig, volumes},
    process::ProcessConfig,
    resources::ResourcesConfig,
    spec::{Linux, Spec},
    sysctls::{self, Own, Sysctl},
};
use crate::{
    id::{Id, IdError},
    regular_file::{ReadError, read_regular},
    resources::memory::ON_LIMIT,
};

const CONFIG_FILE: &str = "config.json";

/// Maximum size of `config.json`, in bytes. containerd has the same limit for its messages.
const MAX_BYTES: u64 = 10 << 20;

/// Maximum length of a host name, in bytes: the kernel's `__NEW_UTS_LEN`.
const MAX_HOSTNAME: usize = 64;

const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
pub(super) const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
/// The type of the container of a pod itself (pause).
pub(super) const SANDBOX_TYPE: &str = "sandbox";

/// Checked settings of a container.
#[derive(Clone, Debug)]
pub struct Config {
    /// The container's init. Its args are empty only in a container of type `sandbox`.
    pub process: ProcessConfig,
    /// `root.path`, absolute or relative to the bundle.
    pub root: PathBuf,
    /// True if the root file system refuses writes.
    pub read_only: bool,
    /// Propagation of the host's later mounts below its directory.
    pub root_propagation: Propagation,
    /// Mounts for the guest, in the order of mounting.
    pub volumes: Vec<VolumeConfig>,
    /// Files and directories of the guest that refuse writes.
    pub read_only_paths: Vec<PathBuf>,
    /// Files and directories of the guest that are empty.
    pub masked_paths: Vec<PathBuf>,
    /// All annotations.
    pub annotations: Arc<HashMap<String, String>>,
    /// The pod of this container, if it has one.
    pub pod: Option<Id>,
    /// The kind of container, from the CRI.
    pub kind: ContainerKind,
    /// The container's namespaces.
    pub namespaces: NamespacesConfig,
    /// Its limits.
    pub resources: ResourcesConfig,
    /// Effect of a growth beyond the memory limit: it fails if this is true, else it ends the
    /// process.
    pub refuse_memory: bool,
    /// Place of its cgroup.
    pub cgroup: Option<CgroupsPath>,
    /// Programs of the host that run at points of its lifecycle.
    pub hooks: HooksConfig,
}

/// The annotation `io.kubernetes.cri.container-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// A container that runs a guest.
    Container,
    /// The pause container of the CRI, which only represents the pod and needs no guest.
    Sandbox,
}

/// The namespaces of `linux.namespaces` that a sandbox can have, and the host name in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacesConfig {
    /// Network.
    pub network: NamespaceConfig,
    /// System V IPC and message queues.
    pub ipc: NamespaceConfig,
    /// Host name.
    pub uts: NamespaceConfig,
    /// True if its processes are among the host's: no PID namespace is listed.
    pub host_pids: bool,
    /// `hostname`, for a new UTS namespace.
    pub hostname: Option<String>,
    /// Parameters of these namespaces.
    pub sysctls: Vec<Sysctl>,
}

/// A namespace of `linux.namespaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceConfig {
    /// The host's, if `config.json` lists no namespace of the kind.
    #[default]
    Host,
    /// A new one, if the listed namespace has no path. It is never the host's.
    New,
    /// The namespace at this path.
    Path(PathBuf),
}

impl NamespaceConfig {
    fn is_host(&self) -> bool {
        matches!(self, Self::Host)
    }
}

/// Unreadable or invalid `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is larger than 10 MiB.
    #[error("{}: larger than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not JSON. The source names line and column.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A field is missing or has an invalid value or type.
    #[error("{}: {field}: {reason}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, as in the spec.
        field: String,
        /// The reason.
        reason: String,
    },
}

impl ConfigError {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Config {
    /// Reads and checks `<bundle>/config.json`.
    pub fn load(bundle: &Path) -> Result<Self, ConfigError> {
        let (path, bytes) = Self::read(bundle)?;
        Self::from_json(&path, &bytes)
    }

    /// The file and its content, unchecked.
    pub(super) fn read(bundle: &Path) -> Result<(PathBuf, Vec<u8>), ConfigError> {
        let path = bundle.join(CONFIG_FILE);
        let bytes = read_bounded(&path)?;
        Ok((path, bytes))
    }

    /// Checks the content of `config.json`. Errors name the path.
    pub(crate) fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let spec: Spec = parse(path, bytes)?;
        Self::from_spec(spec).map_err(field_error(path))
    }

    fn from_spec(spec: Spec) -> Result<Self, Wrong> {
        let annotations = spec.annotations.unwrap_or_default();
        let kind = container_kind(&annotations)?;
        let process = spec.process.as_ref().ok_or_else(|| wrong("process", "is missing"))?;
        // A pause container runs no guest, so it needs no program.
        let needs_program = kind == ContainerKind::Container;
        let process = ProcessConfig::from_spec(process, needs_program, CapabilitySet::empty())?;
        let root = spec.root.ok_or_else(|| wrong("root", "is missing"))?;
        let linux = spec.linux.unwrap_or_default();
        refuse_user_namespace(&linux)?;
        refuse_devices(&linux)?;
        Ok(Self {
            process,
            root: root.path().clone(),
            read_only: root.readonly().unwrap_or(false),
            root_propagation: root_propagation(&linux)?,
            volumes: volumes(spec.mounts.as_deref().unwrap_or_default())?,
            pod: pod(&annotations)?,
            kind,
            namespaces: namespaces_of(&linux, spec.hostname)?,
            resources: resources(&linux)?,
            refuse_memory: refuse_memory(&annotations)?,
            cgroup: cgroup(&linux)?,
            read_only_paths: paths(linux.readonly_paths),
            masked_paths: paths(linux.masked_paths),
            hooks: spec.hooks.as_ref().map(HooksConfig::from_spec).transpose()?.unwrap_or_default(),
            annotations: Arc::new(annotations),
        })
    }
}

/// The sandbox of a bundle.
#[derive(Debug)]
pub struct SandboxConfig {
    /// The id that groups its containers: the pod's, or the container's own.
    pub group: Id,
    /// Its namespaces. A managed sandbox gets its own later.
    pub namespaces: NamespacesConfig,
    /// True if containerd manages it by its Sandbox API.
    pub managed: bool,
}

impl SandboxConfig {
    /// Reads the `config.json` of the bundle made for `id`, if it has one. Other fields are not
    /// checked: `Create` refuses a wrong one with a status code, and a failed start has none.
    pub fn load(bundle: &Path, id: &Id) -> Result<Self, ConfigError> {
        let path = bundle.join(CONFIG_FILE);
        match read_bounded(&path) {
            // For its Sandbox API containerd creates a bundle without `config.json`, named as the
            // sandbox.
            Err(error) if error.is_missing() => {
                let namespaces = NamespacesConfig::default();
                Ok(Self { group: id.clone(), namespaces, managed: true })
            }
            bytes => Self::from_json(&path, &bytes?, id),
        }
    }

    fn from_json(path: &Path, bytes: &[u8], id: &Id) -> Result<Self, ConfigError> {
        let part: SandboxPart = parse(path, bytes)?;
        // The file of `ctr sandboxes run` describes no process. Each container has one.
        if part.process.is_none() {
            let namespaces = NamespacesConfig::default();
            return Ok(Self { group: id.clone(), namespaces, managed: true });
        }
        let annotations = part.annotations.as_ref();
        let pod = annotations.map_or(Ok(None), pod).map_err(field_error(path))?;
        let namespaces = part.namespaces().map_err(field_error(path))?;
        Ok(Self { group: pod.unwrap_or_else(|| id.clone()), namespaces, managed: false })
    }

    /// The namespaces in the `config.json` of a managed sandbox, if it has one.
    pub fn namespaces_of_managed(bundle: &Path) -> Result<NamespacesConfig, ConfigError> {
        let path = bundle.join(CONFIG_FILE);
        let bytes = match read_bounded(&path) {
            Err(error) if error.is_missing() => return Ok(NamespacesConfig::default()),
            bytes => bytes?,
        };
        let spec: Spec = parse(&path, &bytes)?;
        let linux = spec.linux.unwrap_or_default();
        let namespaces =
            refuse_user_namespace(&linux).and_then(|()| namespaces_of(&linux, spec.hostname));
        namespaces.map_err(field_error(&path))
    }
}

/// The fields of `config.json` that concern the whole sandbox.
#[derive(Deserialize)]
struct SandboxPart {
    annotations: Option<HashMap<String, String>>,
    hostname: Option<String>,
    linux: Option<LinuxPart>,
    process: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct LinuxPart {
    namespaces: Option<Vec<LinuxNamespace>>,
    sysctl: Option<HashMap<String, String>>,
}

impl SandboxPart {
    fn namespaces(self) -> Result<NamespacesConfig, Wrong> {
        let (listed, sysctls) =
            self.linux.map_or((None, None), |linux| (linux.namespaces, linux.sysctl));
        namespaces(&listed.unwrap_or_default(), self.hostname, sysctls.as_ref())
    }
}

/// Reads only the annotations, for the log of a container that is refused. Empty if they cannot be
/// read.
pub(crate) fn annotations(bundle: &Path) -> HashMap<String, String> {
    let path = bundle.join(CONFIG_FILE);
    let read = read_bounded(&path).and_then(|bytes| parse::<Annotated>(&path, &bytes));
    read.ok().and_then(|config| config.annotations).unwrap_or_default()
}

/// The annotations of `config.json`.
// Nothing else is parsed: the node daemon's shim needs nothing else, and a small program starts
// fast.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

/// Reads only the group of [`SandboxConfig`].
pub fn group(bundle: &Path, id: &Id) -> Result<Id, ConfigError> {
    let path = bundle.join(CONFIG_FILE);
    match read_bounded(&path) {
        Err(error) if error.is_missing() => Ok(id.clone()),
        bytes => group_in(&path, &bytes?, id),
    }
}

/// The group in the content of `config.json`. Errors name the path.
pub(crate) fn group_in(path: &Path, bytes: &[u8], id: &Id) -> Result<Id, ConfigError> {
    let config: Annotated = parse(path, bytes)?;
    let pod = pod(&config.annotations.unwrap_or_default()).map_err(field_error(path))?;
    Ok(pod.unwrap_or_else(|| id.clone()))
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConfigError> {
    json::parse(bytes, &[]).map_err(|error| match error {
        JsonError::Field(wrong) => field_error(path)(wrong),
        JsonError::Syntax(source) => ConfigError::Syntax { path: path.to_owned(), source },
    })
}

fn field_error(path: &Path) -> impl FnOnce(Wrong) -> ConfigError {
    let path = path.to_owned();
    move |(field, reason)| ConfigError::Field { path, field, reason }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ConfigError> {
    read_regular(path, MAX_BYTES).map_err(|error| match error {
        ReadError::TooLarge { .. } => ConfigError::TooLarge { path: path.to_owned() },
        other => ConfigError::Read { path: path.to_owned(), source: other.into() },
    })
}

fn pod(annotations: &HashMap<String, String>) -> Result<Option<Id>, Wrong> {
    let Some(id) = annotations.get(SANDBOX_ID) else {
        return Ok(None);
    };
    Id::parse("sandbox id", id)
        .map(Some)
        .map_err(|error: IdError| wrong(annotation(SANDBOX_ID), error.to_string()))
}

fn container_kind(annotations: &HashMap<String, String>) -> Result<ContainerKind, Wrong> {
    match annotations.get(CONTAINER_TYPE).map(String::as_str) {
        // Clients other than the CRI set no type.
        None | Some("container") => Ok(ContainerKind::Container),
        Some(SANDBOX_TYPE) => Ok(ContainerKind::Sandbox),
        Some(other) => Err(wrong(
            annotation(CONTAINER_TYPE),
            format!("{other:?} is unknown, only \"sandbox\" and \"container\" are"),
        )),
    }
}

fn annotation(name: &str) -> String {
    format!("annotations[{name:?}]")
}

fn namespaces_of(linux: &Linux, hostname: Option<String>) -> Result<NamespacesConfig, Wrong> {
    namespaces(linux.namespaces.as_deref().unwrap_or_default(), hostname, linux.sysctl.as_ref())
}

fn namespaces(
    listed: &[LinuxNamespace],
    hostname: Option<String>,
    sysctls: Option<&HashMap<String, String>>,
) -> Result<NamespacesConfig, Wrong> {
    refuse_twice(listed)?;
    if let Some(name) = &hostname {
        check_hostname(name)?;
    }
    let mut namespaces = NamespacesConfig {
        network: namespace(listed, "network", LinuxNamespaceType::Network)?,
        ipc: namespace(listed, "ipc", LinuxNamespaceType::Ipc)?,
        uts: namespace(listed, "uts", LinuxNamespaceType::Uts)?,
        host_pids: !listed.iter().any(|one| one.typ() == LinuxNamespaceType::Pid),
        hostname: hostname.filter(|name| !name.is_empty()),
        sysctls: Vec::new(),
    };
    if let Some(given) = sysctls {
        let NamespacesConfig { network, ipc, uts, .. } = &namespaces;
        let own = Own { network: !network.is_host(), ipc: !ipc.is_host(), uts: !uts.is_host() };
        namespaces.sysctls = sysctls::of_sandbox(given, own)?;
    }
    Ok(namespaces)
}

/// Refuses two namespaces of one type: which of them counts would be a guess.
fn refuse_twice(listed: &[LinuxNamespace]) -> Result<(), Wrong> {
    let is_there = |n: usize| listed[..n].iter().any(|before| before.typ() == listed[n].typ());
    match (1..listed.len()).find(|n| is_there(*n)) {
        Some(n) => Err(wrong(
            format!("linux.namespaces[{n}].type"),
            format!("a namespace of the type {} is listed before", listed[n].typ()),
        )),
        None => Ok(()),
    }
}

/// Refuses a host name that the kernel would refuse when the sandbox is made.
pub(super) fn check_hostname(name: &str) -> Result<(), Wrong> {
    match name.len() {
        0..=MAX_HOSTNAME => Ok(()),
        length => Err(wrong("hostname", format!("has {length} bytes, more than {MAX_HOSTNAME}"))),
    }
}

fn namespace(
    listed: &[LinuxNamespace],
    name: &str,
    kind: LinuxNamespaceType,
) -> Result<NamespaceConfig, Wrong> {
    let Some(namespace) = listed.iter().find(|namespace| namespace.typ() == kind) else {
        return Ok(NamespaceConfig::Host);
    };
    match namespace.path() {
        // A relative path would depend on the working directory of this process.
        Some(path) if path.is_absolute() => Ok(NamespaceConfig::Path(path.clone())),
        Some(path) if !path.as_os_str().is_empty() => Err(wrong(
            format!("linux.namespaces[{name}].path"),
            format!("{:?} is not absolute", path.display().to_string()),
        )),
        // An empty path means a new namespace, as a missing one does.
        _ => Ok(NamespaceConfig::New),
    }
}

/// Refuses devices of the host's network.
fn refuse_devices(linux: &Linux) -> Result<(), Wrong> {
    if linux.net_devices.as_ref().is_none_or(HashMap::is_empty) {
        return Ok(());
    }
    Err(wrong("linux.netDevices", "no device of the host is moved into a container's network"))
}

/// Refuses user namespaces and mappings of ids.
fn refuse_user_namespace(linux: &Linux) -> Result<(), Wrong> {
    // A guest's ids are the host's, so its files would belong to other users than requested.
    let mapped =
        |mappings: &Option<Vec<_>>| mappings.as_ref().is_some_and(|mappings| !mappings.is_empty());
    let namespaces = linux.namespaces.as_deref().unwrap_or_default();
    let field = if mapped(&linux.uid_mappings) {
        "linux.uidMappings"
    } else if mapped(&linux.gid_mappings) {
        "linux.gidMappings"
    } else if namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        "linux.namespaces[user]"
    } else {
        return Ok(());
    };
    Err(wrong(field, "is not supported: a guest has no user namespace, its ids are the host's"))
}

fn cgroup(linux: &Linux) -> Result<Option<CgroupsPath>, Wrong> {
    linux.cgroups_path.as_deref().map_or(Ok(None), CgroupsPath::parse)
}

fn paths(given: Option<Vec<String>>) -> Vec<PathBuf> {
    given.into_iter().flatten().map(PathBuf::from).collect()
}

fn root_propagation(linux: &Linux) -> Result<Propagation, Wrong> {
    let given = linux.rootfs_propagation.as_deref();
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Ok(Propagation::default());
    };
    propagation(given).ok_or_else(|| {
        let reason = format!("{given:?} is not one of {}", propagations().join(", "));
        wrong("linux.rootfsPropagation", reason)
    })
}

fn resources(linux: &Linux) -> Result<ResourcesConfig, Wrong> {
    let resources = linux.resources.as_ref();
    resources.map_or_else(|| Ok(ResourcesConfig::default()), ResourcesConfig::from_spec)
}

fn refuse_memory(annotations: &HashMap<String, String>) -> Result<bool, Wrong> {
    match annotations.get(ON_LIMIT).map(String::as_str) {
        None | Some("kill") => Ok(false),
        Some("refuse") => Ok(true),
        Some(other) => Err(wrong(
            format!("annotations[{ON_LIMIT:?}]"),
            format!("{other:?} is neither kill nor refuse"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(json: &str) -> Result<Config, String> {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("config.json"), json).unwrap();
        Config::load(bundle.path()).map_err(|error| error.to_string())
    }

    fn minimal(process: &str, rest: &str) -> String {
        let root = r#"{"path":"rootfs"}"#;
        let user = r#"{"uid":0,"gid":0}"#;
        format!(
            r#"{{"ociVersion":"1.1.0","root":{root},"process":{{"user":{user},{process}}}{rest}}}"#
        )
    }

    #[test]
    fn a_minimal_config_is_enough() {
        let config =
            load(&minimal(r#""cwd":"/","args":["/a.wasm","x"],"env":["A=1=2","B="]"#, "")).unwrap();
        assert_eq!(config.process.args, ["/a.wasm", "x"]);
        assert_eq!(config.process.env, [("A".into(), "1=2".into()), ("B".into(), String::new())]);
        // Without a list of namespaces, all are the host's.
        let host = NamespacesConfig { host_pids: true, ..NamespacesConfig::default() };
        assert_eq!(
            (config.namespaces, config.kind, config.pod),
            (host, ContainerKind::Container, None)
        );
    }

    #[test]
    fn errors_name_file_and_field() {
        let good = r#""cwd":"/","args":["/a.wasm"]"#;
        let annotated = |key: &str, value: &str| {
            minimal(good, &format!(r#","annotations":{{"{key}":"{value}"}}"#))
        };
        let cases = [
            (minimal(r#""cwd":"/","args":[]"#, ""), "process.args: is empty"),
            (minimal(r#""cwd":"/""#, ""), "process.args: is empty"),
            (minimal(r#""cwd":"","args":["/a"]"#, ""), "process.cwd"),
            (
                minimal(r#""cwd":"rel","args":["/a"]"#, ""),
                "process.cwd: \"rel\" is not an absolute path",
            ),
            (
                minimal(r#""cwd":"/","args":["/a"],"env":["NOVALUE"]"#, ""),
                "process.env[0]: \"NOVALUE\"",
            ),
            (r#"{"ociVersion":"1.1.0"}"#.to_owned(), "process: is missing"),
            ("{".to_owned(), "line 1 column 1"),
            (annotated(CONTAINER_TYPE, "banana"), "\"banana\" is unknown"),
            (annotated(ON_LIMIT, "cry"), "\"cry\" is neither kill nor refuse"),
            (
                minimal(good, r#","linux":{"resources":{"cpu":{"quota":1}}}"#),
                "linux.resources.cpu.quota: 1 is less",
            ),
            (annotated(SANDBOX_ID, "../../x"), "sandbox id \"../../x\" is invalid"),
            (
                minimal(good, &format!(r#","hostname":"{}""#, "x".repeat(65))),
                "hostname: has 65 bytes, more than 64",
            ),
            (
                minimal(good, r#","linux":{"namespaces":[{"type":"ipc"},{"type":"ipc"}]}"#),
                "linux.namespaces[1].type: a namespace of the type ipc is listed before",
            ),
        ];
        for (json, expected) in cases {
            let error = load(&json).unwrap_err();
            assert!(error.contains(expected) && error.contains("config.json"), "{json}: {error}");
        }
    }

    #[test]
    fn propagation_of_the_root_is_known() {
        let with = |value: &str| {
            let linux = format!(r#","linux":{{"rootfsPropagation":"{value}"}}"#);
            let config = load(&minimal(r#""cwd":"/","args":["/a"]"#, &linux));
            config.map(|config| config.root_propagation)
        };
        let slave = |recursive| Ok(Propagation::Slave { recursive });
        assert_eq!(with("rslave"), slave(true));
        assert_eq!(with("shared"), slave(false));
        assert_eq!(with("rprivate"), Ok(Propagation::Private));
        assert_eq!(with(""), Ok(Propagation::Private));
        assert!(with("ro").unwrap_err().contains("linux.rootfsPropagation: \"ro\" is not one of"));
    }

    #[test]
    fn bundle_without_a_process_is_that_of_a_managed_sandbox() {
        let bundle = tempfile::tempdir().unwrap();
        let id = Id::parse("id", "s").unwrap();
        let load = |json: &str| {
            std::fs::write(bundle.path().join("config.json"), json).unwrap();
            SandboxConfig::load(bundle.path(), &id)
        };
        for json in [r#"{"ociVersion":""}"#, r#"{"ociVersion":"1.1.0","hostname":"a"}"#] {
            let sandbox = load(json).unwrap();
            assert!(sandbox.managed && sandbox.group == id, "{sandbox:?}");
        }
        let process = minimal(r#""cwd":"/","args":["/a.wasm"]"#, "");
        assert!(!load(&process).unwrap().managed);
        assert!(load("{").is_err());
    }

    #[test]
    fn a_missing_or_huge_file_is_an_error_with_its_path() {
        let bundle = tempfile::tempdir().unwrap();
        let error = Config::load(bundle.path()).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("No such file"), "{error}");
        let file = std::fs::File::create(bundle.path().join("config.json")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(Config::load(bundle.path()), Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn a_namespace_without_path_is_a_new_one() {
        let with = |ns: &str| {
            load(&minimal(
                r#""cwd":"/","args":["/a"]"#,
                &format!(r#","linux":{{"namespaces":[{ns}]}}"#),
            ))
            .unwrap()
            .namespaces
        };
        assert_eq!(with(r#"{"type":"pid"}"#), NamespacesConfig::default());
        let config = with(r#"{"type":"network"},{"type":"ipc"},{"type":"uts","path":"/a"}"#);
        let uts = NamespaceConfig::Path("/a".into());
        let new = NamespaceConfig::New;
        let hostname = None;
        let sysctls = Vec::new();
        let network = new.clone();
        let host_pids = true;
        let expected = NamespacesConfig { network, ipc: new, uts, host_pids, hostname, sysctls };
        assert_eq!(config, expected);
        assert_eq!(
            with(r#"{"type":"network","path":"/proc/7/ns/net"}"#).network,
            NamespaceConfig::Path("/proc/7/ns/net".into())
        );
    }
}
