//! Configuration of a pod whose sandbox the shim makes (`sandboxer = "shim"`).
//!
//! containerd hands it over in `CreateSandbox`. Such a pod has no `config.json` with a host name,
//! with kernel parameters and with the mounts of `/etc/resolv.conf`, `/etc/hosts`,
//! `/etc/hostname` and `/dev/shm`.

use std::collections::HashMap;

use super::{
    error::{Wrong, wrong},
    sysctls::{self, Own, Sysctl},
};

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
    /// Checks the values that end up in files, one a line.
    pub fn check(&self) -> Result<(), PodConfigError> {
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

    /// The parameters of the pod's network and IPC. `own_network` is false for a pod in the host's
    /// network.
    pub fn namespace_sysctls(&self, own_network: bool) -> Result<Vec<Sysctl>, PodConfigError> {
        let own = Own { network: own_network, ipc: !self.host_ipc, uts: own_network };
        Ok(sysctls::of_sandbox(&self.sysctls, own)?)
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
        let hostname = "a\nb".to_owned();
        let error = PodConfig { hostname, ..PodConfig::default() }.check().unwrap_err();
        assert!(error.to_string().starts_with("hostname: "), "{error}");
    }

    #[test]
    fn parameters_of_the_hosts_network_are_refused() {
        let sysctls = HashMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]);
        let pod = PodConfig { sysctls, ..PodConfig::default() };
        assert_eq!(pod.namespace_sysctls(true).unwrap().len(), 1);
        let error = pod.namespace_sysctls(false).unwrap_err().to_string();
        assert!(error.starts_with("linux.sysctl[\"net.ipv4.ip_forward\"]: "), "{error}");
    }
}
