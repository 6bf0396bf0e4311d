#!/usr/bin/env bash
# Behaviour: a CNI plugin that is made of rscni-plugin leaves the version out of its result, and fails
#   where a variable is not set that may be left out: at a DEL without a namespace, and at an ADD
#   without arguments. Of the error there is nothing on its standard output.
# Versions: Rust crates rscni-plugin 0.3.0 and rscni-types 0.1.0; Debian containernetworking-plugins
#   1.1.1+ds1-3+b5 (host-local).
# Expected: CNI specification 1.0.0: the result of ADD has "cniVersion: The same version supplied on
#   input"; CNI_ARGS and CNI_PATH are "Optional environment parameters", and of DEL CNI_NETNS is one,
#   too; at an error a plugin "should output a JSON object". host-local does all that.
# Seen: ADD: {"ips":[...]}, host-local {"cniVersion":"1.0.0","ips":[...]}; DEL without CNI_NETNS and
#   ADD without CNI_ARGS: 1, "Invalid necessary environment variables", host-local 0
# Here: the namespace of a pod whose machine was started anew is gone, and the pod is taken down
#   without one; with such a plugin that is an error for ever, and its address stays taken.
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
name = "fixed"
version = "0.0.0"
edition = "2021"

[dependencies]
rscni-plugin = "=0.3.0"
rscni-types = "=0.1.0"
TOML
cat >app/src/main.rs <<'RS'
use rscni_plugin::cni::{Cni, Plugin};
use rscni_plugin::{error::Error, types::{Args, CNIResult}};
use rscni_types::types::IpConfig;

/// A plugin with one fixed address, which ends as the example of the crate's documentation.
struct Fixed;

impl Cni for Fixed {
    fn add(&self, _: Args) -> Result<CNIResult, Error> {
        let address = "10.9.0.2/24".to_string();
        let ip = IpConfig { interface: None, address, gateway: Some("10.9.0.1".to_string()) };
        Ok(CNIResult { ips: vec![ip], ..CNIResult::default() })
    }
    fn del(&self, _: Args) -> Result<CNIResult, Error> {
        Ok(CNIResult::default())
    }
    fn check(&self, _: Args) -> Result<CNIResult, Error> {
        Ok(CNIResult::default())
    }
    fn status(&self, _: Args) -> Result<(), Error> {
        Ok(())
    }
    fn gc(&self, _: Args) -> Result<(), Error> {
        Ok(())
    }
}

fn main() {
    if let Err(error) = Plugin::new("1.0.0", vec!["1.0.0".to_string()]).run(&Fixed) {
        eprintln!("CNI plugin failed: {error}");
        std::process::exit(1);
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
ipam='"ipam":{"type":"host-local","dataDir":"'$dir'/ipam","ranges":[[{"subnet":"10.9.0.0/24"}]]}'
net='{"cniVersion":"1.0.0","name":"n","type":"fixed",'$ipam'}'
# ask PLUGIN COMMAND VARIABLE=VALUE…: what it says, with these variables and those that are required.
ask() {
    local status=0 said
    said=$(env -i CNI_CONTAINERID=web CNI_IFNAME=eth0 CNI_COMMAND="$2" "${@:3}" "$1" <<<"$net" \
        2>messages) || status=$?
    said=$(tr -d ' \n' <<<"$said")
    echo "${1##*/} $2 ${*:3}: $status${said:+ $said}$(sed 's/^/ stderr: /' messages)"
}
for plugin in debian/usr/lib/cni/host-local target/debug/fixed; do
    ask "$plugin" ADD CNI_NETNS=/run/netns/app CNI_PATH=/bin CNI_ARGS=
    ask "$plugin" DEL CNI_PATH=/bin CNI_ARGS=
    ask "$plugin" ADD CNI_NETNS=/run/netns/app CNI_PATH=/bin
done | tee seen
cmp seen - <<'SEEN' || changed "other answers"
host-local ADD CNI_NETNS=/run/netns/app CNI_PATH=/bin CNI_ARGS=: 0 {"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24","gateway":"10.9.0.1"}],"dns":{}}
host-local DEL CNI_PATH=/bin CNI_ARGS=: 0
host-local ADD CNI_NETNS=/run/netns/app CNI_PATH=/bin: 0 {"cniVersion":"1.0.0","ips":[{"address":"10.9.0.3/24","gateway":"10.9.0.1"}],"dns":{}}
fixed ADD CNI_NETNS=/run/netns/app CNI_PATH=/bin CNI_ARGS=: 0 {"ips":[{"address":"10.9.0.2/24","gateway":"10.9.0.1"}]}
fixed DEL CNI_PATH=/bin CNI_ARGS=: 1 stderr: CNI plugin failed: Invalid necessary environment variables
fixed ADD CNI_NETNS=/run/netns/app CNI_PATH=/bin: 1 stderr: CNI plugin failed: Invalid necessary environment variables
SEEN
