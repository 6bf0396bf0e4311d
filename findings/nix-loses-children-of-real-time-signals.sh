#!/usr/bin/env bash
# Behaviour: nix's `waitpid` takes the status of a child that a real-time signal ended from the
#   kernel and returns the error EINVAL in its stead. The next call says that there is no such
#   child.
# Versions: Rust crates nix 0.31.3, libc 0.2.191; Rust's std.
# Expected: `Signaled` with the number. waitpid(2) gives EINVAL for invalid options alone, and a
#   caller may call again after an error; std's `ExitStatus::signal` has the number.
# Seen: SIGTERM: Signaled(15) from nix, 15 from std; SIGRTMIN: EINVAL, then ECHILD from nix, 34
#   from std
# Here: a supervisor that waits so has lost the exit status, and the process seems to be gone
#   without one. The shim waits by rustix and waitid(2), whose statuses have any signal.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "wait"
version = "0.0.0"
edition = "2021"

[dependencies]
libc = "=0.2.191"
nix = { version = "=0.31.3", features = ["process", "signal"] }
TOML
cat >app/src/main.rs <<'RS'
use nix::sys::wait::{waitpid, WaitStatus};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

/// A child that sends itself the signal.
fn child(signal: i32) -> Child {
    Command::new("sh").args(["-c", &format!("kill -{signal} $$")]).spawn().unwrap()
}

fn main() {
    for signal in [libc::SIGTERM, libc::SIGRTMIN()] {
        let pid = nix::unistd::Pid::from_raw(child(signal).id() as i32);
        let first = match waitpid(pid, None) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("Signaled({})", signal as i32),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{error:?}"),
        };
        let second = waitpid(pid, None).unwrap_err();
        let std = child(signal).wait().unwrap().signal().unwrap();
        println!("signal {signal}: nix {first}, then {second:?}; std {std}");
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
got=$(cargo run -q --manifest-path app/Cargo.toml)
echo "$got"
[[ $got == "signal 15: nix Signaled(15), then ECHILD; std 15
signal 34: nix EINVAL, then ECHILD; std 34" ]] || changed "other statuses"
