//! The CRI's `PodSandboxConfig`, which `CreateSandbox` carries.
//!
//! Written by hand after `api.proto` of the CRI, with its field numbers and names. The decoder
//! skips all other fields.

use std::collections::HashMap;

use containerd_shim_protos::{
    protobuf::well_known_types::any::Any,
    ttrpc::{self, Code},
};
use prost::{Enumeration, Message};

use super::status::error;
use crate::bundle::pod::{DnsConfig, PodConfig};

/// Name of the message behind its package, which has the CRI's version.
const NAME: &str = ".PodSandboxConfig";

#[derive(Clone, PartialEq, Message)]
struct PodSandboxConfig {
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, optional, tag = "4")]
    dns_config: Option<Dns>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

/// `DNSConfig`.
#[derive(Clone, PartialEq, Message)]
struct Dns {
    #[prost(string, repeated, tag = "1")]
    servers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    searches: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    options: Vec<String>,
}

/// `LinuxPodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
struct Linux {
    #[prost(message, optional, tag = "2")]
    security_context: Option<SecurityContext>,
    #[prost(map = "string, string", tag = "3")]
    sysctls: HashMap<String, String>,
}

/// `LinuxSandboxSecurityContext`.
#[derive(Clone, PartialEq, Message)]
struct SecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOption {
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pid: i32,
    #[prost(enumeration = "NamespaceMode", tag = "3")]
    ipc: i32,
    #[prost(message, optional, tag = "5")]
    userns_options: Option<UserNamespace>,
}

/// `UserNamespace`, without its mappings.
#[derive(Clone, PartialEq, Message)]
struct UserNamespace {
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    mode: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
enum NamespaceMode {
    Pod = 0,
    Container = 1,
    Node = 2,
}

/// The configuration in the options of a request. None for a client without options.
pub(super) fn config(options: &Any) -> ttrpc::Result<Option<PodConfig>> {
    if options.type_url.is_empty() {
        return Ok(None);
    }
    let refused = |reason: String| error(Code::INVALID_ARGUMENT, format!("options: {reason}"));
    if !options.type_url.ends_with(NAME) {
        let reason = format!("{:?} is not the CRI's PodSandboxConfig", options.type_url);
        return Err(refused(reason));
    }
    let decoded = PodSandboxConfig::decode(options.value.as_slice());
    Ok(Some(decoded.map_err(|error| refused(error.to_string()))?.into()))
}

impl From<PodSandboxConfig> for PodConfig {
    fn from(config: PodSandboxConfig) -> Self {
        let linux = config.linux.unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let options = security.namespace_options.unwrap_or_default();
        // The kubelet says `Node` for a pod without a user namespace.
        let mapped = |users: &UserNamespace| users.mode() == NamespaceMode::Pod;
        Self {
            hostname: config.hostname,
            dns: config.dns_config.map(DnsConfig::from),
            sysctls: linux.sysctls,
            host_ipc: options.ipc() == NamespaceMode::Node,
            host_pids: options.pid() == NamespaceMode::Node,
            user_namespace: options.userns_options.as_ref().is_some_and(mapped),
        }
    }
}

impl From<Dns> for DnsConfig {
    fn from(Dns { servers, searches, options }: Dns) -> Self {
        Self { servers, searches, options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.into(), value, ..Any::default() }
    }

    #[test]
    fn options_are_a_pod_or_nothing() {
        assert_eq!(config(&Any::default()).unwrap(), None);
        let namespace_options = Some(NamespaceOption {
            pid: NamespaceMode::Pod.into(),
            ipc: NamespaceMode::Node.into(),
            userns_options: Some(UserNamespace { mode: NamespaceMode::Node.into() }),
        });
        let sysctls = HashMap::from([("net.core.somaxconn".to_owned(), "77".to_owned())]);
        let sent = PodSandboxConfig {
            hostname: "web-0".into(),
            dns_config: Some(Dns { servers: vec!["192.0.2.1".into()], ..Dns::default() }),
            linux: Some(Linux {
                security_context: Some(SecurityContext { namespace_options }),
                sysctls: sysctls.clone(),
            }),
        };
        let dns = Some(DnsConfig { servers: vec!["192.0.2.1".into()], ..DnsConfig::default() });
        let hostname = "web-0".into();
        let read = PodConfig { hostname, dns, sysctls, host_ipc: true, ..PodConfig::default() };
        let sent = any("runtime.v1.PodSandboxConfig", sent.encode_to_vec());
        assert_eq!(config(&sent).unwrap(), Some(read));
        for wrong in [
            any("runtime.v1.ContainerConfig", Vec::new()),
            any("runtime.v1.PodSandboxConfig", b"\x12\xffx".to_vec()),
        ] {
            let error = config(&wrong).unwrap_err().to_string();
            assert!(error.contains("options: "), "{error}");
        }
    }

    #[test]
    fn user_namespace_is_one_of_mode_pod() {
        for (mode, user_namespace) in [(NamespaceMode::Pod, true), (NamespaceMode::Node, false)] {
            let userns_options = Some(UserNamespace { mode: mode.into() });
            let options = NamespaceOption { userns_options, ..NamespaceOption::default() };
            let security_context = Some(SecurityContext { namespace_options: Some(options) });
            let linux = Some(Linux { security_context, ..Linux::default() });
            let sent = PodSandboxConfig { linux, ..PodSandboxConfig::default() };
            let sent = any("runtime.v1.PodSandboxConfig", sent.encode_to_vec());
            let read = config(&sent).unwrap().unwrap();
            assert_eq!(read.user_namespace, user_namespace, "{mode:?}");
        }
    }
}
