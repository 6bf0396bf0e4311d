//! Kernel interfaces of the host below a recursive bind; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::{Containers, Output};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;
use tempfile::TempDir;

/// Kinds of file systems, and a harmless file or directory of each.
const INTERFACES: [(&str, &str); 3] =
    [("proc", "version"), ("sysfs", "kernel"), ("cgroup2", "cgroup.procs")];

/// A mount of the host; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, place: PathBuf) -> Result<Self> {
        fs::create_dir_all(&place)?;
        mount(kind, &place, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount a {kind}"))?;
        Ok(Self(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // An error leaves a mount, which the clean-up of the temporary directory reports.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A directory of the host with a file system for data and the interfaces below it.
struct Host {
    // In this order: the mounts below go first.
    _interfaces: Vec<Mounted>,
    _data: Mounted,
    top: Mounted,
    dir: TempDir,
}

impl Host {
    fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        let top = Mounted::new("tmpfs", dir.path().join("host"))?;
        // Shared, as systemd makes the mounts of a host: an unmount in a copy could reach it.
        mount_change(&top.0, MountPropagationFlags::SHARED)?;
        let data = Mounted::new("tmpfs", top.0.join("data"))?;
        fs::write(data.0.join("f"), "kept\n")?;
        let place = |kind: &str| top.0.join("data/below").join(kind);
        let interfaces = INTERFACES.iter().map(|(kind, _)| Mounted::new(kind, place(kind)));
        let interfaces = interfaces.collect::<Result<_>>()?;
        Ok(Self { _interfaces: interfaces, _data: data, top, dir })
    }

    /// Runs the guest with the directory at `/host`.
    fn run(&self, c: &Containers, name: &str, args: &[&str]) -> Result<Output> {
        let mut bundle = self.bundle(c, name)?;
        let rootfs = bundle.path().join("rootfs");
        fs::create_dir(rootfs.join("host"))?;
        bundle.config["root"]["path"] = json!(rootfs);
        let options = ["rbind", "rw"];
        let volume = json!({
            "destination": "/host", "type": "bind", "source": self.top.0, "options": options
        });
        bundle.config["mounts"].as_array_mut().context("no mounts")?.push(volume);
        let program = [&[c.runtime.guest()], args].concat();
        c.run_config(&mut bundle, &["--rm"], &c.id(name), &program)?.run()
    }

    /// Runs the guest with the directory as its root file system.
    fn run_in(&self, c: &Containers, name: &str, args: &[&str]) -> Result<Output> {
        let mut bundle = self.bundle(c, name)?;
        let guest = c.runtime.guest();
        let program = self.top.0.join(guest.trim_start_matches('/'));
        fs::copy(c.runtime.guest_file(), program)?;
        bundle.config["root"]["path"] = json!(self.top.0);
        let program = [&[guest], args].concat();
        c.run_config(&mut bundle, &["--rm"], &c.id(name), &program)?.run()
    }

    fn bundle(&self, c: &Containers, name: &str) -> Result<Bundle> {
        let cgroup = format!("/{}/{}", c.fixture.namespace(), c.id(name));
        let bundle = Bundle::create(self.dir.path().join(name), &[], &cgroup)?;
        bundle.file(c.runtime.guest(), fs::read(c.runtime.guest_file())?)?;
        Ok(bundle)
    }

    fn check_own(&self) -> Result<()> {
        for (kind, file) in INTERFACES {
            let file = self.top.0.join("data/below").join(kind).join(file);
            ensure!(file.exists(), "{} of the host itself is gone", file.display());
        }
        Ok(())
    }
}

fn log(c: &mut Containers) -> String {
    let daemon = c.fixture.daemon().map(|daemon| daemon.log()).unwrap_or_default();
    c.fixture.log() + &daemon
}

fn check_warning(c: &mut Containers, name: &str, top: &str) -> Result<()> {
    let log = log(c);
    let id = c.id(name);
    let line = log.lines().find(|line| line.contains("left out") && line.contains(&id));
    let line = line.with_context(|| format!("no warning names {id}:\n{log}"))?;
    // The value of a field is in quotes itself.
    let line = line.replace("\\\"", "\"");
    for (kind, _) in INTERFACES {
        let place = Path::new(top).join("data/below").join(kind);
        let wanted = format!("{place:?} ({kind})");
        ensure!(line.contains(&wanted), "{wanted} is not named: {line}");
    }
    Ok(())
}

pub(crate) fn host_proc_below_a_recursive_bind_is_left_out(c: &mut Containers) -> Result<()> {
    let host = Host::new()?;
    // The mounts that are none of the kernel's come along.
    let out = host.run(c, "data", &["cat", "/host/data/f"])?.ok()?;
    ensure!(out.out() == "kept\n", "{out}");
    for (kind, file) in INTERFACES {
        let place = format!("/host/data/below/{kind}");
        let out = host.run(c, &format!("read-{kind}"), &["cat", &format!("{place}/{file}")])?;
        ensure!(out.status == 1 && out.stdout.is_empty(), "{kind}: {out}");
        let out = host.run(c, &format!("list-{kind}"), &["ls", &place])?.ok()?;
        ensure!(out.stdout.is_empty(), "{kind}: {out}");
    }
    check_warning(c, "data", "/host")?;
    host.check_own()?;
    c.fixture.becomes_clean()
}

pub(crate) fn host_proc_below_a_root_is_left_out(c: &mut Containers) -> Result<()> {
    let host = Host::new()?;
    let out = host.run_in(c, "root", &["cat", "/data/f"])?.ok()?;
    ensure!(out.out() == "kept\n", "{out}");
    for (kind, _) in INTERFACES {
        let place = format!("/data/below/{kind}");
        let out = host.run_in(c, &format!("root-{kind}"), &["ls", &place])?.ok()?;
        ensure!(out.stdout.is_empty(), "{kind}: {out}");
    }
    check_warning(c, "root", "/")?;
    host.check_own()?;
    c.fixture.becomes_clean()
}
