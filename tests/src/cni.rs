//! A bridge of a fixture's own and the CNI configuration that puts containers on it; used by `pods` and the tests of networks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::command::Command;
use crate::network::Namespace;

/// Where Debian's containernetworking-plugins puts its programs.
pub const PLUGINS: &str = "/usr/lib/cni";
/// Where the library that all users of CNI share remembers what it set up.
const REMEMBERED: &str = "/var/lib/cni/results";

/// A network's name, bridge and files. The plugin makes the bridge with the first container; dropping this removes it.
#[derive(Debug)]
pub struct Network {
    dir: tempfile::TempDir,
    name: String,
    subnet: String,
    // In it the bridge is made and removed.
    host: Namespace,
}

impl Network {
    /// Makes a network of the calling thread's host.
    pub fn new() -> Result<Self> {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        ensure!(
            Path::new(PLUGINS).join("bridge").exists(),
            "{PLUGINS}/bridge is missing: `scripts/setup test` installs it"
        );
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let name = format!("br{}-{number}", std::process::id());
        ensure!(name.len() <= 15, "{name} is too long for a link");
        // From the range for benchmarks, which nobody routes. The host has no address in it.
        let third = std::process::id().wrapping_add(number) % 256;
        let network = Self {
            dir: tempfile::Builder::new().prefix("cni").tempdir_in("/tmp")?,
            name,
            subnet: format!("198.18.{third}."),
            host: Namespace::own()?,
        };
        network.configure()?;
        Ok(network)
    }

    /// The directory of configurations; there is one.
    pub fn configurations(&self) -> PathBuf {
        self.dir.path().join("net.d")
    }

    /// The name of the bridge, and of the network in its configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an address is one of this network's.
    pub fn has(&self, address: &str) -> bool {
        address.starts_with(&self.subnet)
    }

    /// Gives the host an address on the bridge, so that it reaches containers. The bridge comes with the first of them.
    pub fn join_host(&self) -> Result<()> {
        let address = format!("{}254/24", self.subnet);
        // A bridge without an address of its own takes that of one of its links, so it changes as containers come and go, and
        // answers to the host are lost.
        let hardware = ["link", "set", "dev", &self.name, "address", "02:00:c6:12:00:fe"];
        self.host.ip(&hardware)?;
        self.host.ip(&["address", "add", &address, "dev", &self.name])?;
        Ok(())
    }

    /// Containers whose address is still theirs, one a line: what the plugins and their users remember.
    pub fn taken(&self) -> Vec<String> {
        let leases =
            files_in(&self.leases().join(&self.name)).filter(|name| name.starts_with(&self.subnet));
        let ours = format!("{}-", self.name);
        let remembered = files_in(Path::new(REMEMBERED)).filter(|name| name.starts_with(&ours));
        let leases = leases.map(|name| format!("lease {name}"));
        leases.chain(remembered.map(|name| format!("{REMEMBERED}/{name}"))).collect()
    }

    /// The host's links without this network's bridge.
    pub fn links_without_bridge(&self) -> Result<Vec<String>> {
        let ours = format!(" {}: ", self.name);
        Ok(self.host.links()?.into_iter().filter(|link| !link.contains(&ours)).collect())
    }

    fn leases(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    fn configure(&self) -> Result<()> {
        // The last address of the network is the host's: see `join_host`.
        let range = json!([[{
            "subnet": format!("{}0/24", self.subnet),
            "rangeEnd": format!("{}253", self.subnet),
        }]]);
        let addresses = json!({ "type": "host-local", "ranges": range, "dataDir": self.leases() });
        let bridge = json!({
            "type": "bridge",
            "bridge": self.name,
            "isGateway": false,
            "ipMasq": false,
            "ipam": addresses,
        });
        let list = json!({ "cniVersion": "0.4.0", "name": self.name, "plugins": [bridge] });
        fs::create_dir(self.configurations())?;
        fs::write(self.configurations().join("10-fixture.conflist"), list.to_string())?;
        Ok(())
    }

    /// A shell script that makes this network the one in the places where `ctr` looks, then becomes its arguments. Run
    /// in a mount namespace of its own it changes nothing for others.
    pub fn in_usual_places(&self) -> Result<Command> {
        let script = "mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /var/lib
            mkdir -p /etc/cni /opt/cni
            ln -s \"$1\" /etc/cni/net.d
            ln -s \"$2\" /opt/cni/bin
            shift 2
            exec \"$@\"";
        let configurations = self.configurations();
        let configurations = configurations.to_str().context("a path that is text")?;
        let unshare = Command::new("unshare").args(["--mount", "--propagation", "private"]);
        Ok(unshare.args(["sh", "-ec", script, "sh", configurations, PLUGINS]))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Fails if no container came; a host of a test's own goes with its bridges anyway.
        self.host.ip(&["link", "delete", &self.name]).ok();
    }
}

fn files_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
