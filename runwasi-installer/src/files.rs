//! The files to install: programs, systemd units and the sysctl file.

use std::fs;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::options::{Options, Runtime};
use crate::root::Root;

/// The daemon's program.
const DAEMON: &str = "containerd-wasmtimed";
/// Its units.
pub(crate) const UNITS: [&str; 2] = ["containerd-wasmtimed.service", "containerd-wasmtimed.socket"];
/// Its sysctl file.
const SYSCTL: &str = "60-containerd-wasmtimed.conf";
/// The mode of a program.
pub(crate) const PROGRAM: u32 = 0o755;
/// The part of a unit that `make install` replaces, too.
const BIN_DIR: &str = "@BINDIR@";

/// What follows from a change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Nothing: the next pod uses it.
    Nothing,
    /// The daemon is started, or replaced.
    Daemon,
    /// The kernel is told.
    Sysctl,
}

/// A file to install.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Its path on the host.
    pub(crate) path: String,
    /// Its content.
    pub(crate) content: Vec<u8>,
    /// The content's digest.
    pub(crate) digest: String,
    /// Its mode.
    pub(crate) mode: u32,
    /// What follows from its change.
    pub(crate) follows: Follows,
}

/// How a path of the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileState {
    /// Not there.
    Missing,
    /// With this digest.
    Same,
    /// With other content.
    Other,
}

/// All files of the runtimes that the options name.
pub(crate) fn wanted(options: &Options, bin_dir: &str) -> Result<Vec<Wanted>, Error> {
    let mut files = Vec::new();
    for runtime in &options.runtimes {
        files.push(program(options, bin_dir, runtime.shim(), Follows::Nothing)?);
    }
    if options.runtimes.contains(&Runtime::Wasmtimed) {
        files.push(program(options, bin_dir, DAEMON, Follows::Daemon)?);
        for unit in UNITS {
            let text = String::from_utf8_lossy(&asset(options, unit)?).replace(BIN_DIR, bin_dir);
            let path = format!("{}/{unit}", options.unit_dir);
            files.push(Wanted::new(path, text.into_bytes(), 0o644, Follows::Daemon));
        }
        let path = format!("{}/{SYSCTL}", options.sysctl_dir);
        files.push(Wanted::new(path, asset(options, SYSCTL)?, 0o644, Follows::Sysctl));
    }
    Ok(files)
}

/// True if the kernel has at least what a sysctl file asks for: a limit that others need is not
/// lowered.
pub(crate) fn is_in_force(root: &Root, content: &[u8]) -> Result<bool, Error> {
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for (name, wanted) in lines.filter_map(|line| line.split_once('=')) {
        let file = format!("/proc/sys/{}", name.trim().replace('.', "/"));
        let now = root.read_text(&file)?.and_then(|now| now.trim().parse::<u64>().ok());
        let wanted = wanted.trim().parse::<u64>().ok();
        if now.is_none() || wanted.is_none() || now < wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a path is that of a unit.
pub(crate) fn is_unit(path: &str) -> bool {
    UNITS.iter().any(|unit| path.ends_with(unit))
}

/// How the file at a path is.
pub(crate) fn found(root: &Root, path: &str, digests: &[&str]) -> Result<FileState, Error> {
    Ok(match root.read_own(path)? {
        None => FileState::Missing,
        Some(content) if digests.contains(&digest(&content).as_str()) => FileState::Same,
        Some(_) => FileState::Other,
    })
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Wanted {
    fn new(path: String, content: Vec<u8>, mode: u32, follows: Follows) -> Self {
        Self { path, digest: digest(&content), content, mode, follows }
    }
}

fn program(
    options: &Options,
    bin_dir: &str,
    name: &str,
    follows: Follows,
) -> Result<Wanted, Error> {
    let path = format!("{bin_dir}/{name}");
    Ok(Wanted::new(path, asset(options, name)?, PROGRAM, follows))
}

fn asset(options: &Options, name: &str) -> Result<Vec<u8>, Error> {
    let path = options.assets.join(name);
    fs::read(&path).map_err(|error| Error::io(&path.to_string_lossy(), error))
}
