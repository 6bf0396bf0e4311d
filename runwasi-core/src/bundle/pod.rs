//! Configuration of a pod whose sandbox the shim makes (`sandboxer = "shim"`).
//!
//! containerd hands it over in `CreateSandbox`. Such a pod has no `config.json` with a host name,
//! with kernel parameters and with the mounts of `/etc/resolv.conf`, `/etc/hosts`,
//! `/etc/hostname` and `/dev/shm`.

use std::collections::HashMap;

use super::{
    config::check_hostname,
    error::{Wrong, wrong},
    sysctls::{self, Own, Sysctl},
};
use crate::sys;

/// Parameters that containerd gives each pod with a network of its own, unless the pod has other
/// values: ports below 1024 and pings need no privilege.
const DEFAULT_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), (PING_GROUPS, "0 2147483647")];

/// The kernel refuses groups that a user namespace does not have. containerd leaves it out there.
const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// The fields of the CRI's `PodSandboxConfig` that a sandbox needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodConfig {
    /// Host name. Empty for the name of the host.
    pub hostname: String,
    /// Content of `/etc/resolv.conf`. Absent for the host's.
    pub dns: Option<DnsConfig>,
    /// `linux.sysctls`.
    pub sysctls: HashMap<String, String>,
    /// True if the pod has the IPC namespace of the host, and with it the host's `/dev/shm`.
    pub host_ipc: bool,
    /// True if the processes of the pod are among the host's.
    pub host_pids: bool,
    /// True if the pod wants a user namespace, which is refused.
    pub user_namespace: bool,
}

/// The CRI's `DNSConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options of `resolv.conf(5)`.
    pub options: Vec<String>,
}

/// A field of a pod's configuration that cannot be honoured.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct PodConfigError {
    field: String,
    reason: String,
}

impl From<Wrong> for PodConfigError {
    fn from((field, reason): Wrong) -> Self {
        Self { field, reason }
    }
}

impl PodConfig {
    /// Refuses a user namespace; checks the host name, and the values that end up in files, one a
    /// line.
    pub fn check(&self) -> Result<(), PodConfigError> {
        if self.user_namespace {
            let field = "linux.security_context.namespace_options.userns_options";
            let reason = "user namespaces are not supported: a guest's ids are the host's";
            return Err(wrong(field, reason).into());
        }
        check_hostname(&self.hostname)?;
        let none = DnsConfig::default();
        let dns = self.dns.as_ref().unwrap_or(&none);
        let lists = [
            ("dns_config.servers", dns.servers.as_slice()),
            ("dns_config.searches", &dns.searches),
            ("dns_config.options", &dns.options),
            ("hostname", std::slice::from_ref(&self.hostname)),
        ];
        for (field, values) in lists {
            if let Some(value) = values.iter().find(|value| value.contains(['\n', '\r', '\0'])) {
                return Err(wrong(field, format!("{value:?} has more than one line")).into());
            }
        }
        Ok(())
    }

    /// The parameters of the pod's network, IPC and UTS namespace. `own_network` is false for a pod
    /// in the host's network, which has the host's UTS namespace, too.
    pub fn namespace_sysctls(&self, own_network: bool) -> Result<Vec<Sysctl>, PodConfigError> {
        let own = Own { network: own_network, ipc: !self.host_ipc, uts: own_network };
        let mut sysctls = self.sysctls.clone();
        if own_network {
            for (name, value) in DEFAULT_SYSCTLS {
                if name != PING_GROUPS || !sys::in_user_namespace() {
                    sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                }
            }
        }
        Ok(sysctls::of_sandbox(&sysctls, own)?)
    }
}

impl DnsConfig {
    /// The content of `/etc/resolv.conf`, as containerd writes it for a pod with a pause container.
    pub fn resolv_conf(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.servers {
            text += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn resolv_conf_is_that_of_a_pod_with_a_pause_container() {
        let dns = DnsConfig {
            servers: words(&["10.0.0.10", "fd00::10"]),
            searches: words(&["a.svc.test", "svc.test"]),
            options: words(&["ndots:5", "edns0"]),
        };
        let text = "search a.svc.test svc.test\nnameserver 10.0.0.10\nnameserver fd00::10\n\
                    options ndots:5 edns0\n";
        assert_eq!(dns.resolv_conf(), text);
        assert_eq!(DnsConfig::default().resolv_conf(), "");
    }

    #[test]
    fn value_of_two_lines_is_refused_with_its_field() {
        let servers = words(&["10.0.0.1", "10.0.0.2\nsearch other.test"]);
        let dns = Some(DnsConfig { servers, ..DnsConfig::default() });
        let error = PodConfig { dns, ..PodConfig::default() }.check().unwrap_err().to_string();
        assert!(error.starts_with("dns_config.servers: \"10.0.0.2\\nsearch"), "{error}");
        for hostname in ["a\nb".to_owned(), "x".repeat(65)] {
            let error = PodConfig { hostname, ..PodConfig::default() }.check().unwrap_err();
            assert!(error.to_string().starts_with("hostname: "), "{error}");
        }
        let hostname = "x".repeat(64);
        assert!(PodConfig { hostname, ..PodConfig::default() }.check().is_ok());
    }

    #[test]
    fn user_namespace_is_refused_with_its_field() {
        let error = PodConfig { user_namespace: true, ..PodConfig::default() }.check().unwrap_err();
        let field = "linux.security_context.namespace_options.userns_options: ";
        assert!(error.to_string().starts_with(field), "{error}");
    }

    #[test]
    fn parameters_of_the_hosts_network_are_refused() {
        let sysctls = HashMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]);
        let pod = PodConfig { sysctls, ..PodConfig::default() };
        assert!(pod.namespace_sysctls(true).is_ok());
        let error = pod.namespace_sysctls(false).unwrap_err().to_string();
        assert!(error.starts_with("linux.sysctl[\"net.ipv4.ip_forward\"]: "), "{error}");
    }

    #[test]
    fn pod_with_its_own_network_has_containerds_defaults_below_its_own_values() {
        let values = |pod: &PodConfig, own_network| {
            let sysctls = pod.namespace_sysctls(own_network).unwrap();
            sysctls.into_iter().map(|sysctl| (sysctl.name, sysctl.value)).collect::<Vec<_>>()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let port = "net.ipv4.ip_unprivileged_port_start";
        let ping = pair("net.ipv4.ping_group_range", "0 2147483647");
        let plain = PodConfig::default();
        assert_eq!(values(&plain, true), [pair(port, "0"), ping.clone()]);
        assert_eq!(values(&plain, false), []);
        let sysctls = HashMap::from([pair(port, "77")]);
        let tuned = PodConfig { sysctls, ..PodConfig::default() };
        assert_eq!(values(&tuned, true), [pair(port, "77"), ping]);
    }
}
