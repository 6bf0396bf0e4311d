//! Network namespaces and what is in them, seen from outside; asked by tests of networks, used by `cni` and `pods`.
//!
//! A test that makes bridges, or asks whether the host's links are what they were, has a host of its own
//! ([`on_own_host`]): other tests run at the same time, and the machine's own network is nobody's to change.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{Command, DEADLINE};
use crate::poll::poll_until;

/// A network namespace that stays, used or not, as long as this is held: so its number is not given to another.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    name: String,
}

impl Namespace {
    /// The one at a path: `/proc/<pid>/ns/net`, or a bind mount of such a file.
    pub fn at(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .with_context(|| format!("no network namespace at {}", path.display()))?;
        let name = format!("net:[{}]", file.metadata()?.ino());
        Ok(Self { file, name })
    }

    /// The one of an OS process or thread.
    pub fn of(pid: u32) -> Result<Self> {
        Self::at(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// The one of the calling thread, in which the processes that it starts begin.
    pub fn own() -> Result<Self> {
        Self::at(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new one that has nothing but a loopback device, which is up.
    pub fn new() -> Result<Self> {
        let script = "ip link set lo up && echo up && exec sleep 100";
        let holder = Command::new("unshare").args(["--net", "sh", "-c", script]).spawn()?;
        let up = || holder.stdout_so_far().contains("up").then_some(());
        poll_until("a new network namespace", DEADLINE, up)
            .with_context(|| holder.stderr_so_far())?;
        Self::of(holder.pid())
    }

    /// What the kernel calls it: `net:[NUMBER]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The links in it, as `ip` tells them, one a line.
    pub fn links(&self) -> Result<Vec<String>> {
        self.ip(&["-o", "link", "show"])
    }

    /// The IPv4 addresses in it besides the loopback's.
    pub fn addresses(&self) -> Result<Vec<String>> {
        let lines = self.ip(&["-o", "-4", "address", "show", "scope", "global"])?;
        // 2: eth0    inet 198.18.0.2/24 brd …
        let address =
            |line: &String| line.split_whitespace().nth(3)?.split('/').next().map(str::to_owned);
        let addresses: Option<Vec<_>> = lines.iter().map(address).collect();
        addresses.with_context(|| format!("no address in {lines:?}"))
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &[&str]) -> Result<Vec<String>> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let out = self.inside(move || Command::new("ip").args(args).run()?.ok())??.out();
        Ok(out.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Calls `work` on a thread that is inside, and so are the OS processes it starts. Sockets that it makes stay inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let enter = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {}", self.name))?;
            Ok(work())
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Calls `work` on a thread whose network is a new, empty one. It is the host's for everything that `work` starts: a
/// containerd, a daemon, their shims.
pub fn on_own_host<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let host = match Namespace::new() {
        Ok(host) => host,
        Err(error) => panic!("no network for a host of its own: {error:?}"),
    };
    match host.inside(work) {
        Ok(result) => result,
        Err(error) => panic!("{error:?}"),
    }
}

/// Who is in one of these namespaces, or holds its file open, the calling process left out: one a line.
pub fn users_of(namespaces: &[&Namespace]) -> Vec<String> {
    let ours = |path: &Path| {
        let name = fs::read_link(path).ok()?;
        namespaces.iter().find(|namespace| name == Path::new(namespace.name()))
    };
    let mut users = Vec::new();
    for process in numbers_in(Path::new("/proc")).filter(|process| !is_us(process)) {
        for entry in numbers_in(&process.join("task")).map(|thread| thread.join("ns/net")) {
            users.extend(
                ours(&entry).map(|namespace| format!("{}: {}", namespace.name(), entry.display())),
            );
        }
        for entry in numbers_in(&process.join("fd")) {
            users.extend(
                ours(&entry).map(|namespace| format!("{}: {}", namespace.name(), entry.display())),
            );
        }
    }
    users
}

/// Demands that two lists of links are equal.
pub fn same_links(before: &[String], now: &[String]) -> Result<()> {
    let missing: Vec<_> = before.iter().filter(|link| !now.contains(link)).collect();
    let more: Vec<_> = now.iter().filter(|link| !before.contains(link)).collect();
    if missing.is_empty() && more.is_empty() {
        return Ok(());
    }
    bail!("links have changed; gone: {missing:#?}, new: {more:#?}")
}

fn numbers_in(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries
        .filter(move |entry| entry.file_name().to_str().is_some_and(number))
        .map(|entry| entry.path())
}

fn is_us(process: &Path) -> bool {
    process.file_name().and_then(|name| name.to_str())
        == Some(std::process::id().to_string().as_str())
}
