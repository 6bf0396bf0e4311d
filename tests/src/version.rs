//! Which containerd a fixture has: this machine's own, or one that `scripts/containerds` has fetched. Named by tests, read by `containerd`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::containerd::Containerd;
use crate::containers::{Containers, check_with};
use crate::machine::tried;
use crate::runtime::{Runtime, target_dir};

/// A containerd that tests run against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// The one in `PATH`.
    #[default]
    Machine,
    /// A 1.7.
    V1_7,
    /// A 2.x.
    V2,
}

impl Version {
    /// Its program; none for the one in `PATH`. That it is not there is an error with the reason that was found when it was fetched.
    pub fn program(self) -> Result<Option<PathBuf>> {
        let name = match self {
            Self::Machine => return Ok(None),
            Self::V1_7 => "1.7",
            Self::V2 => "2",
        };
        let all = target_dir().join("containerds");
        let program = all.join(name).join("usr/bin/containerd");
        if program.exists() {
            // A fixture's commands have working directories of their own.
            return Ok(Some(program.canonicalize()?));
        }
        let reason = fs::read_to_string(all.join(format!("{name}.missing")));
        let reason = reason.unwrap_or_else(|_| "`scripts/setup test` fetches it".to_owned());
        bail!("containerd {name} is not at {}: {reason}", program.display())
    }

    /// Whether `ctr run` takes an image whose layers are no archives.
    pub fn runs_wasm_images(self) -> bool {
        self != Self::Machine
    }
}

/// As [`check`](crate::check), on containerd 1.7.
#[track_caller]
pub fn check_on_1_7(runtime: Runtime, case: impl Fn(&mut Containers) -> Result<()>) {
    check_on(Version::V1_7, runtime, case);
}

/// As [`check`](crate::check), on containerd 2.
#[track_caller]
pub fn check_on_2(runtime: Runtime, case: impl Fn(&mut Containers) -> Result<()>) {
    check_on(Version::V2, runtime, case);
}

#[track_caller]
fn check_on(version: Version, runtime: Runtime, case: impl Fn(&mut Containers) -> Result<()>) {
    tried(runtime, || {
        check_with(runtime, Containerd::builder().version(version).daemon_for(runtime), &case)
    });
}
