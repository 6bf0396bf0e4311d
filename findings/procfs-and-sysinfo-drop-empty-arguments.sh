#!/usr/bin/env bash
# Behaviour: the procfs and sysinfo crates leave empty arguments out of a process's command line:
#   all arguments after one move forward.
# Versions: Rust crates procfs 0.18.0, sysinfo 0.40.4; PyPI psutil 7.2.2; Python 3.11.
# Expected: all arguments. proc(5): in /proc/PID/cmdline they are "a set of strings separated by
#   null bytes", an empty one too; procfs promises "the complete command line"; psutil has it.
# Seen: of "sleep", "", "a b", "": psutil all four; both crates "sleep" and "a b"
# Here: a shim or a server that was started with an empty value, as in `-address ""`, has another
#   value for the option in the eyes of a tool that uses these crates.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py psutil==7.2.2
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "list"
version = "0.0.0"
edition = "2021"

[dependencies]
procfs = { version = "=0.18.0", default-features = false }
sysinfo = { version = "=0.40.4", default-features = false, features = ["system"] }
TOML
cat >app/src/main.rs <<'RS'
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

fn main() {
    let pid: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    println!("procfs: {:?}", procfs::process::Process::new(pid as i32).unwrap().cmdline().unwrap());
    let mut system = System::new().unwrap();
    let pid = Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    println!("sysinfo: {:?}", system.process(pid).unwrap().cmd());
}
RS
cat >list.py <<'PY'
import json
import subprocess
import sys
import psutil

arguments = [sys.executable, "-c", "input()", "sleep", "", "a b", ""]
process = subprocess.Popen(arguments, stdin=subprocess.PIPE)
print("psutil:", json.dumps(psutil.Process(process.pid).cmdline()[3:]))
listed = subprocess.run(["target/debug/list", str(process.pid)], stdout=subprocess.PIPE, text=True)
for line in listed.stdout.splitlines():
    name, arguments = line.split(": ", 1)
    print(f"{name}:", json.dumps(json.loads(arguments)[3:]))
process.communicate(b"\n")
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
got=$(PYTHONPATH=py python3 list.py)
echo "$got"
[[ $got == 'psutil: ["sleep", "", "a b", ""]
procfs: ["sleep", "a b"]
sysinfo: ["sleep", "a b"]' ]] || changed "other arguments"
