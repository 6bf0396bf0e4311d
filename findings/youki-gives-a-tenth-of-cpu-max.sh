#!/usr/bin/env bash
# Behaviour: with systemd, youki's libcgroups hands the quota of `cpu.max` on as the time in each
#   second, whatever the period is: of half a processor a twentieth is left. It converts a
#   `cpu.weight` as if it were shares, takes "max" for an error, and gives the processors of a
#   cpuset as an array of another type than systemd's.
# Versions: Rust crates libcgroups 0.7.0, oci-spec 0.10.0; PyPI jeepney 0.9.0; Debian systemd 252
#   (systemd-run), dbus-daemon 1.14.10.
# Expected: the file's value. OCI runtime-spec, Linux, Unified: "Each key in the map refers to a
#   file in the cgroup unified hierarchy"; the kernel's cgroup v2, cpu.max: "$MAX $PERIOD", with the
#   default "max 100000". org.freedesktop.systemd1(5): "ay AllowedCPUs".
# Seen: "50000 100000": CPUQuotaPerSecUSec 50000, for systemd-run's CPUQuota=50% 500000; cpu.weight
#   100: CPUWeight 17, for systemd-run 100; "max 100000": "failed to to parse cpu quota max";
#   cpuset.cpus "0-4,9": `at` [2, 31], for systemd-run `ay` [31, 2, 0, ...]
# Here: programs of WebAssembly get limits by the same map; a node on which youki runs the other
#   containers of a pod gives those a tenth of it. The shims do not use this crate.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py jeepney==0.9.0
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    libapparmor1=3.0.8-3 libexpat1=2.5.0-1+deb12u5 libip4tc2 libkmod2 libseccomp2 \
    {dbus-daemon,dbus-bin,libdbus-1-3}=1.14.10-1~deb12u1
for package in *.deb; do dpkg -x "$package" debian; done
lib=$dir/debian
libraries=$lib/lib/x86_64-linux-gnu:$lib/usr/lib/x86_64-linux-gnu:$lib/usr/lib/x86_64-linux-gnu/systemd
mkdir -p app/src cgroup
echo "cpu memory pids" >cgroup/cgroup.controllers
: >cgroup/cgroup.subtree_control
cat >app/Cargo.toml <<'TOML'
[package]
name = "limit"
version = "0.0.0"
edition = "2021"

[dependencies]
libcgroups = { version = "=0.7.0", default-features = false, features = ["systemd"] }
oci-spec = { version = "=0.10.0", default-features = false, features = ["runtime"] }
serde_json = "=1.0.154"
TOML
cat >app/src/main.rs <<'RS'
use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::systemd::manager::Manager;
use std::time::Duration;

/// Sets the resources of the command line for a container.
fn main() {
    let resources = serde_json::from_str(&std::env::args().nth(1).unwrap()).unwrap();
    let root = std::env::current_dir().unwrap().join("cgroup");
    let path = "system.slice:youki:app".into();
    let wait = Duration::from_secs(1);
    let manager = Manager::new(root, path, "app".into(), true, wait).unwrap();
    let (oom_score_adj, freezer_state) = (None, None);
    let disable_oom_killer = false;
    let resources = &resources;
    let set = ControllerOpt { resources, disable_oom_killer, oom_score_adj, freezer_state };
    if let Err(error) = manager.apply(&set) {
        println!("{error}");
    }
}
RS
# Stands for systemd on the bus: runs the programs of the lines, and prints the properties that
# they ask it for.
cat >record.py <<'PY'
import os
import subprocess
import sys
from jeepney import MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

bus = open_dbus_connection(os.environ["DBUS_SYSTEM_BUS_ADDRESS"])
bus.send_and_get_reply(message_bus.RequestName("org.freedesktop.systemd1"))
for line in sys.stdin:
    kind, argument = line.strip().split(" ", 1)
    if kind == "youki":
        command = ["target/debug/limit", argument]
    else:
        command = ["debian/usr/bin/systemd-run", "--scope", "-p", argument, "true"]
    said, asked = open("said", "w+"), []
    with subprocess.Popen(command, stdout=said, stderr=said) as program:
        while program.poll() is None:
            try:
                call = bus.receive(timeout=0.2)
            except TimeoutError:
                continue
            if call.header.message_type != MessageType.method_call:
                continue
            fields = {key.name: value for key, value in call.header.fields.items()}
            if fields["member"] == "Get":
                value = "252" if call.body[1] == "Version" else ""
                bus.send(new_method_return(call, "v", (("s", value),)))
                continue
            if fields["member"] in ("SetUnitProperties", "StartTransientUnit"):
                asked = [
                    f"{name} {type} {list(value) if type[0] == 'a' else value}"
                    for name, (type, value) in call.body[2]
                    if name.startswith(("CPU", "Allowed"))
                ]
            bus.send(new_error(call, "org.freedesktop.DBus.Error.NotSupported"))
    said.seek(0)
    print(f"{kind} {argument}:", "; ".join(sorted(asked)) or said.read().strip())
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
cat >bus.conf <<XML
<busconfig>
  <type>system</type>
  <listen>unix:path=$dir/bus</listen>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
XML
LD_LIBRARY_PATH=$libraries debian/usr/bin/dbus-daemon --config-file=bus.conf --nofork --nosyslog 2>messages &
trap 'kill $!; rm -rf "$dir"' EXIT
until [[ -S bus ]]; do sleep 0.1; done
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$dir/bus
# record.sh: systemd-run wants to see that systemd is there.
cat >record.sh <<'SH'
mount -t tmpfs none /run
mkdir -p /run/systemd/system
exec python3 record.py
SH
LD_LIBRARY_PATH=$libraries PYTHONPATH=py unshare --mount sh record.sh >seen <<'LINES'
systemd-run CPUQuota=50%
youki {"unified":{"cpu.max":"50000 100000"}}
systemd-run CPUWeight=100
youki {"unified":{"cpu.weight":"100"}}
youki {"unified":{"cpu.max":"max 100000"}}
systemd-run AllowedCPUs=0-4,9
youki {"unified":{"cpuset.cpus":"0-4,9"}}
LINES
cat seen
cmp seen - <<'SEEN' || changed "other properties"
systemd-run CPUQuota=50%: CPUQuotaPerSecUSec t 500000
youki {"unified":{"cpu.max":"50000 100000"}}: CPUQuotaPerSecUSec t 50000; CPUQuotaPeriodUSec t 100000
systemd-run CPUWeight=100: CPUWeight t 100
youki {"unified":{"cpu.weight":"100"}}: CPUWeight t 17
youki {"unified":{"cpu.max":"max 100000"}}: in pids unified controller: failed to to parse cpu quota max: invalid digit found in string
systemd-run AllowedCPUs=0-4,9: AllowedCPUs ay [31, 2, 0, 0, 0, 0, 0, 0]
youki {"unified":{"cpuset.cpus":"0-4,9"}}: AllowedCPUs at [2, 31]
SEEN
