#!/usr/bin/env bash
# Behaviour: the cni-plugin crate takes a DEL that it hands on to another plugin for failed if that
#   one succeeds, since it wants output. It cannot read what the bridge plugin says of an ADD, whose
#   interfaces of the host have no sandbox, and refuses identifiers of containers with capitals.
# Versions: Rust crates cni-plugin 0.2.1 (with-smol), futures 0.3.34; Debian
#   containernetworking-plugins 1.1.1+ds1-3+b5 (host-local, bridge).
# Expected: CNI specification 0.4.0, which the crate supports, Result: JSON "in the case of the ADD
#   command", with the sandbox "empty/omitted for host interfaces"; Container ID: it must start with
#   an alphanumeric character, of which capitals are some.
# Seen: DEL: host-local ends with 0 and without output, the crate says MissingOutput; ADD of bridge:
#   "missing field `sandbox`"; Web-1: host-local has an address for it, the crate "must match regex"
# Here: with a plugin of this crate in front of another one the end of each pod of the shims is an
#   error of its network, though nothing is left of it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download containernetworking-plugins=1.1.1+ds1-3+b5
dpkg -x containernetworking-plugins*.deb debian
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "meta"
version = "0.0.0"
edition = "2021"

[dependencies]
cni-plugin = { version = "=0.2.1", features = ["with-smol"] }
futures = "=0.3.34"
TOML
cat >app/src/main.rs <<'RS'
use cni_plugin::{config::NetworkConfig, delegation::delegate, error::CniError, reply::SuccessReply};
use cni_plugin::{reply::IpamSuccessReply, Cni, Command};
use futures::executor::block_on;

/// A plugin that leaves all to the one of its argument.
fn main() {
    let (command, config): (Command, NetworkConfig) = match Cni::from_env() {
        Ok(Cni::Add { config, .. }) => (Command::Add, config),
        Ok(Cni::Del { config, .. }) => (Command::Del, config),
        Ok(_) => return,
        Err(error) => return println!("{error}"),
    };
    let to = std::env::args().nth(1).unwrap();
    let addresses: Result<usize, CniError> = if to == "host-local" {
        block_on(delegate::<IpamSuccessReply>(&to, command, &config)).map(|reply| reply.ips.len())
    } else {
        block_on(delegate::<SuccessReply>(&to, command, &config)).map(|reply| reply.ips.len())
    };
    match addresses {
        Ok(number) => println!("{number} address"),
        Err(error) => println!("{error:?}"),
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
cat >play.sh <<'SH'
mount -t tmpfs none /run
mkdir -p /run/netns
ip link set lo up
touch /run/netns/app
unshare --net=/run/netns/app true
export CNI_PATH=$PWD/debian/usr/lib/cni CNI_IFNAME=eth0 CNI_NETNS=/run/netns/app CNI_CONTAINERID=web-1
ipam='"ipam":{"type":"host-local","dataDir":"/run/ipam","ranges":[[{"subnet":"10.9.0.0/24"}]]}'
net='{"cniVersion":"0.4.0","name":"n","type":"bridge","bridge":"br9",'$ipam'}'
# of PLUGIN COMMAND: what it says, and how it ends.
of() {
    local status=0 said
    said=$(CNI_COMMAND=$2 "$CNI_PATH/$1" <<<"$net") || status=$?
    said=$(tr -d ' \n' <<<"$said" | sed -E 's/"mac":"[^"]*"/"mac":""/g; s/veth[^"]*/veth/')
    echo "$CNI_CONTAINERID: $1 $2: $status${said:+ $said}"
}
# by PLUGIN COMMAND: what the crate says when it hands this on.
by() {
    echo "$CNI_CONTAINERID: by the crate $1 $2: $(CNI_COMMAND=$2 target/debug/meta "$1" <<<"$net")"
}
for how in of by; do
    $how host-local ADD
    $how host-local DEL
    $how bridge ADD
    of bridge DEL
done
CNI_CONTAINERID=Web-1
of host-local ADD
by host-local ADD
SH
unshare --mount --net bash play.sh >seen
cat seen
cmp seen - <<'SEEN' || changed "other answers"
web-1: host-local ADD: 0 {"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.9.0.2/24","gateway":"10.9.0.1"}],"dns":{}}
web-1: host-local DEL: 0
web-1: bridge ADD: 0 {"cniVersion":"0.4.0","interfaces":[{"name":"br9","mac":""},{"name":"veth","mac":""},{"name":"eth0","mac":"","sandbox":"/run/netns/app"}],"ips":[{"version":"4","interface":2,"address":"10.9.0.3/24","gateway":"10.9.0.1"}],"dns":{}}
web-1: bridge DEL: 0
web-1: by the crate host-local ADD: 1 address
web-1: by the crate host-local DEL: Delegated { plugin: "host-local", err: MissingOutput }
web-1: by the crate bridge ADD: Delegated { plugin: "bridge", err: Json(Error("missing field `sandbox`", line: 7, column: 9)) }
web-1: bridge DEL: 0
Web-1: host-local ADD: 0 {"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.9.0.6/24","gateway":"10.9.0.1"}],"dns":{}}
Web-1: by the crate host-local ADD: environment variable has invalid format: CNI_CONTAINERID: must match regex: ^[a-z0-9][a-z0-9_.\-]*$
SEEN
