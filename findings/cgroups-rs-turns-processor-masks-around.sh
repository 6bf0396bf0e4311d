#!/usr/bin/env bash
# Behaviour: cgroups-rs gives systemd the processors of a cpuset with the last byte first: what it
#   sends for 0-4,9 is 1 and 8-12, and for 8 the processor 0. For a slice it sends `Wants` as one
#   string, where systemd has a list.
# Versions: Rust crate cgroups-rs 0.5.1; Debian systemd 252 (systemd-run), dbus 1.14.10.
# Expected: what systemd-run sends for the same: processor N is bit N % 8 of byte N / 8.
#   org.freedesktop.systemd1(5): "ay AllowedCPUs", "as Wants".
# Seen: 0-4,9: systemd-run 1f 02 00 ..., the crate 02 1f; 8: systemd-run 00 01 00 ..., the crate 01 00;
#   Wants: systemd-run an array, the crate the type "s"
# Here: containers of Kata and of others who use the crate with systemd run on other processors than
#   the kubelet has given them, beside programs of the shims that have those for themselves; with up
#   to eight processors all is right.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    libapparmor1=3.0.8-3 libexpat1=2.5.0-1+deb12u5 libip4tc2 libkmod2 libseccomp2 \
    {dbus-daemon,dbus-bin,libdbus-1-3}=1.14.10-1~deb12u1
for package in *.deb; do dpkg -x "$package" debian; done
lib=$dir/debian
libraries=$lib/lib/x86_64-linux-gnu:$lib/usr/lib/x86_64-linux-gnu:$lib/usr/lib/x86_64-linux-gnu/systemd
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "mask"
version = "0.0.0"
edition = "2021"

[dependencies]
cgroups-rs = "=0.5.1"
TOML
cat >app/src/main.rs <<'RS'
use cgroups_rs::systemd::{cpuset, props::PropertiesBuilder};

/// The masks of the lists of the command line, and the type of what a slice wants.
fn main() {
    for list in std::env::args().skip(1) {
        println!("crate: AllowedCPUs={list} {:02x?}", cpuset::cpus(&list).unwrap().1);
    }
    for (name, value) in PropertiesBuilder::default_cgroup("system.slice", "app.slice").build() {
        if name == "Wants" {
            println!("crate: Wants {}", value.value_signature());
        }
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
cat >bus.conf <<XML
<busconfig>
  <type>system</type>
  <listen>unix:path=$dir/bus</listen>
  <policy context="default">
    <allow eavesdrop="true"/><allow send_destination="*" eavesdrop="true"/>
    <allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
XML
# On a bus without a systemd the calls of systemd-run come to nothing, and are seen.
cat >ask.sh <<'SH'
mount -t tmpfs none /run
mkdir -p /run/systemd/system
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$PWD/bus
debian/usr/bin/dbus-daemon --config-file=bus.conf --nofork --nosyslog 2>messages &
until [ -S bus ]; do sleep 0.1; done
debian/usr/bin/dbus-monitor --system member=StartTransientUnit >calls &
until grep -q NameAcquired calls; do sleep 0.1; done
for list; do
    debian/usr/bin/systemd-run --scope -p "AllowedCPUs=$list" -p Wants=system.slice true 2>said || true
done
sleep 1
kill $(jobs -p)
SH
LD_LIBRARY_PATH=$libraries unshare --mount bash ask.sh 0-4,9 8
# The lines of the bytes, and whether Wants is an array.
sed -nE 's/^ +([0-9a-f]{2}( [0-9a-f]{2})+)$/systemd-run: \1/p; /"Wants"/{n; s/^ +variant +/systemd-run: Wants /p}' \
    calls >seen
target/debug/mask 0-4,9 8 >>seen
cat seen
cmp seen - <<'SEEN' || changed "they send other things"
systemd-run: 1f 02 00 00 00 00 00 00
systemd-run: Wants array [
systemd-run: 00 01 00 00 00 00 00 00
systemd-run: Wants array [
crate: AllowedCPUs=0-4,9 [02, 1f]
crate: AllowedCPUs=8 [01, 00]
crate: Wants s
SEEN
