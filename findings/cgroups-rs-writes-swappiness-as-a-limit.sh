#!/usr/bin/env bash
# Behaviour: with cgroups v2, cgroups-rs writes the swappiness 60 into memory.swap.max, as 60 bytes
#   of swap, and reads the swap in use as the swappiness. It reads a limit of swap that is "max" as
#   0, and writes the soft limit -1, no limit, as the text "-1".
# Versions: Rust crate cgroups-rs 0.5.1 (nix and zbus as it asks for).
# Expected: an error for the swappiness, for which a group of version 2 has no file; in the kernel's
#   cgroup v2, memory.swap.max is the "Swap usage hard limit" and "max" stands for no limit, for
#   which its own `memory_stat` has -1.
# Seen: set_swappiness(60): memory.swap.max 60; set_soft_limit(-1): memory.low -1; with 4096 bytes of
#   swap in use and "max" for all limits: swappiness 4096, limits -1 for memory and 0 for swap
# Here: a container of Kata's or of another user of the crate would have no swap by the file, nor by
#   its statistics; the crate containerd-shim, of which the shims are made, reads the file itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src cgroup
cat >app/Cargo.toml <<'TOML'
[package]
name = "memory"
version = "0.0.0"
edition = "2021"

[dependencies]
cgroups-rs = "=0.5.1"
TOML
cat >app/src/main.rs <<'RS'
use cgroups_rs::fs::memory::MemController;
use std::fs::read_to_string;

/// The folder stands for a cgroup of version 2.
fn main() {
    let memory = MemController::new("cgroup".into(), "cgroup".into(), true);
    let stat = memory.memory_stat();
    println!("swappiness {}", stat.swappiness);
    println!("limits {} {}", stat.limit_in_bytes, memory.memswap().limit_in_bytes);
    memory.set_swappiness(60).unwrap();
    println!("memory.swap.max {}", read_to_string("cgroup/memory.swap.max").unwrap());
    memory.set_memswap_limit(-1).unwrap();
    println!("memory.swap.max {}", read_to_string("cgroup/memory.swap.max").unwrap());
    memory.set_soft_limit(-1).unwrap();
    println!("memory.low {}", read_to_string("cgroup/memory.low").unwrap());
}
RS
# As the kernel has them.
printf 'max\n' | tee cgroup/memory.{high,max} >cgroup/memory.swap.max
printf '0\n' | tee cgroup/memory.{min,low} >cgroup/memory.swap.peak
printf '1048576\n' >cgroup/memory.current
printf '4096\n' >cgroup/memory.swap.current
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
said=$(cargo run -q --manifest-path app/Cargo.toml)
echo "$said"
[[ $said == "swappiness 4096
limits -1 0
memory.swap.max 60
memory.swap.max max
memory.low -1" ]] || changed "other values"
