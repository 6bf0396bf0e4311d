//! `maskedPaths`, `readonlyPaths`, options and propagation of mounts; the cases are listed in
//! `main.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, poll_until};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

use crate::fixture::Tree;

/// Far more than a propagation takes.
const SOON: Duration = Duration::from_secs(20);

/// A file system on the host, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, place: &Path) -> Result<Self> {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("{kind} on {}", place.display()))?;
        Ok(Self(place.to_owned()))
    }

    /// Shared, as systemd makes all mounts of a host.
    fn shared(place: &Path) -> Result<Self> {
        let mounted = Self::new("tmpfs", place)?;
        mount_change(place, MountPropagationFlags::SHARED)?;
        Ok(mounted)
    }

    fn file(&self, name: &str, content: &str) -> Result<()> {
        Ok(fs::write(self.0.join(name), content)?)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", self.0.display());
        }
    }
}

/// A file in the image and one in the volume, each in a directory of its own and one beside it.
fn with_files(c: &Containers) -> Result<Tree> {
    let tree = Tree::new(c)?;
    for top in [tree.inside("etc"), tree.volume()] {
        fs::create_dir(top.join("d"))?;
        fs::set_permissions(top.join("d"), PermissionsExt::from_mode(0o777))?;
        for name in ["f", "beside", "d/f"] {
            fs::write(top.join(name), "there")?;
        }
    }
    symlink("/etc/d", tree.inside("link"))?;
    Ok(tree)
}

pub(crate) fn masked_paths_are_empty(c: &mut Containers) -> Result<()> {
    let mut tree = with_files(c)?;
    let outside = tree.outside("secret");
    fs::write(&outside, "of the host")?;
    symlink(&outside, tree.inside("etc/out"))?;
    tree.bundle.config["linux"]["maskedPaths"] =
        json!(["/etc/f", "/link", "/data/f", "/data/d", "/etc/out", "/no/such"]);
    for file in ["/etc/f", "/data/f"] {
        ensure!(tree.run(c, &["cat", file])?.ok()?.stdout.is_empty(), "{file} is there");
    }
    for directory in ["/etc/d", "/data/d"] {
        ensure!(tree.run(c, &["ls", directory])?.ok()?.stdout.is_empty(), "{directory} is there");
        tree.run(c, &["write", &format!("{directory}/new"), "x"])?.status_is(1)?;
    }
    for beside in ["/etc/beside", "/data/beside"] {
        ensure!(tree.run(c, &["cat", beside])?.ok()?.out() == "there", "{beside}");
    }
    ensure!(fs::read_to_string(&outside)? == "of the host");
    ensure!(fs::read_to_string(tree.inside("etc/f"))? == "there", "the image was changed");
    ensure!(fs::read_to_string(tree.volume().join("d/f"))? == "there", "the volume was changed");
    Ok(())
}

pub(crate) fn read_only_paths_refuse_writes(c: &mut Containers) -> Result<()> {
    let tree = with_files(c)?;
    fs::create_dir(tree.outside("other"))?;
    let below = json!({
        "destination": "/etc/d/volume", "type": "bind", "source": "other", "options": ["bind"],
    });
    let mut tree = tree.mount(below);
    tree.bundle.config["linux"]["readonlyPaths"] =
        json!(["/etc/f", "/link", "/data/d", "/no/such"]);
    for file in ["/etc/f", "/etc/d/f", "/etc/d/new", "/data/d/f", "/data/d/new"] {
        tree.run(c, &["write", file, "x"])?.status_is(1)?;
    }
    ensure!(tree.run(c, &["cat", "/etc/d/f"])?.ok()?.out() == "there");
    for file in ["/etc/beside", "/data/beside", "/data/new", "/etc/d/volume/new"] {
        tree.run(c, &["write", file, "x"])?.ok()?;
    }
    ensure!(fs::read_to_string(tree.volume().join("d/f"))? == "there");
    Ok(())
}

pub(crate) fn ro_spares_the_mounts_below_and_rro_does_not(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    let top = Mounted::new("tmpfs", &tree.outside("v"))?;
    let _below = Mounted::new("tmpfs", &top.0.join("below"))?;
    let bind = |at: &str, options: &[&str]| json!({ "destination": at, "type": "bind", "source": "v", "options": options });
    let mut tree = tree
        .mount(bind("/ro", &["rbind", "ro"]))
        .mount(bind("/rro", &["rbind", "rro"]))
        .mount(bind("/last", &["rbind", "ro", "rw"]));
    for refused in ["/ro/f", "/rro/f", "/rro/below/f"] {
        tree.run(c, &["write", refused, "x"])?.status_is(1)?;
    }
    for taken in ["/ro/below/f", "/last/f"] {
        tree.run(c, &["write", taken, "x"])?.ok()?;
    }
    Ok(())
}

/// A container with the shared mount `host` at `/follows` and at `/private`, asleep.
fn sleeper(c: &Containers, tree: Tree) -> Result<(Tree, String)> {
    let bind = |at: &str, propagation: &str| {
        let options = ["rbind", "rw", propagation];
        json!({ "destination": at, "type": "bind", "source": "host", "options": options })
    };
    let mut tree = tree.mount(bind("/follows", "rslave")).mount(bind("/private", "rprivate"));
    let id = c.id("sleeps");
    tree.command(c, &["-d"], &id, &["sleep", "1000"])?.run()?.ok()?;
    Ok((tree, id))
}

/// Runs the guest once more until it prints this.
fn until_printed(c: &Containers, id: &str, args: &[&str], wanted: &str) -> Result<()> {
    let mut last = None;
    let seen = poll_until("the output of an exec", SOON, || {
        let out = c.exec(id, &c.next_id(), args).ok()?;
        let found = out.out() == wanted;
        last = Some(out);
        found.then_some(())
    });
    seen.with_context(|| format!("{args:?}: {last:?}"))
}

pub(crate) fn later_mounts_of_the_host_appear_below_a_slave(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    let host = Mounted::shared(&tree.outside("host"))?;
    let before = Mounted::new("tmpfs", &host.0.join("before"))?;
    before.file("f", "before")?;
    let (_tree, id) = sleeper(c, tree)?;
    for top in ["/follows", "/private"] {
        until_printed(c, &id, &["cat", &format!("{top}/before/f")], "before")?;
    }
    let later = Mounted::new("tmpfs", &host.0.join("later"))?;
    later.file("f", "later")?;
    until_printed(c, &id, &["cat", "/follows/later/f"], "later")?;
    let deeper = Mounted::new("tmpfs", &later.0.join("deeper"))?;
    deeper.file("f", "deeper")?;
    until_printed(c, &id, &["cat", "/follows/later/deeper/f"], "deeper")?;
    let nested = Mounted::new("tmpfs", &before.0.join("nested"))?;
    nested.file("f", "nested")?;
    until_printed(c, &id, &["cat", "/follows/before/nested/f"], "nested")?;
    c.exec(&id, "writes", &["write", "/follows/later/new", "of the guest"])?.ok()?;
    ensure!(fs::read_to_string(later.0.join("new"))? == "of the guest");
    // By now the private volume would have them, too.
    ensure!(c.exec(&id, "private", &["ls", "/private/later"])?.ok()?.stdout.is_empty());
    drop(deeper);
    drop(later);
    // At once, so that the kernel may give it the number of the one that has gone.
    let again = Mounted::new("tmpfs", &host.0.join("later"))?;
    again.file("f", "again")?;
    until_printed(c, &id, &["cat", "/follows/later/f"], "again")?;
    drop(again);
    until_printed(c, &id, &["ls", "/follows/later"], "")?;
    ensure!(c.kill_and_finish(&id)? == 137);
    drop((nested, before, host));
    c.fixture.becomes_clean()
}

pub(crate) fn later_kernel_interfaces_of_the_host_stay_out(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    let host = Mounted::shared(&tree.outside("host"))?;
    let (_tree, id) = sleeper(c, tree)?;
    let interfaces = ["proc", "sysfs"].map(|kind| Mounted::new(kind, &host.0.join(kind)));
    let interfaces = interfaces.into_iter().collect::<Result<Vec<_>>>()?;
    // Harmless itself, on an interface: goes where that does not.
    let last = Mounted::new("tmpfs", &host.0.join("last"))?;
    last.file("f", "last")?;
    until_printed(c, &id, &["cat", "/follows/last/f"], "last")?;
    for kind in ["proc", "sysfs"] {
        let listed = c.exec(&id, kind, &["ls", &format!("/follows/{kind}")])?.ok()?;
        ensure!(listed.stdout.is_empty(), "{kind}: {listed}");
    }
    let open = fs::read_dir(format!("/proc/{}/fd", c.is_running(&id)?.pid))?;
    let root = open.flatten().map(|entry| entry.path()).find(|file| file.join("follows").is_dir());
    let root = root.context("the guest's root is open nowhere")?;
    let flags = statvfs(root.join("follows/last"))?.f_flag;
    ensure!(flags.contains(StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID), "{flags:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    drop((interfaces, last, host));
    c.fixture.becomes_clean()
}

pub(crate) fn tmpfs_begins_with_what_it_covers_on_request(c: &mut Containers) -> Result<()> {
    let tmpfs = |at: &str, options: &[&str]| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options });
    let tree = with_files(c)?;
    fs::set_permissions(tree.inside("etc/d"), PermissionsExt::from_mode(0o700))?;
    let mut tree = tree.mount(tmpfs("/etc", &["tmpcopyup", "size=1m"])).mount(tmpfs("/etc/d", &[]));
    ensure!(tree.run(c, &["cat", "/etc/f"])?.ok()?.out() == "there");
    ensure!(tree.run(c, &["ls", "/etc/d"])?.ok()?.stdout.is_empty(), "not covered");
    tree.run(c, &["write", "/etc/f", "changed"])?.ok()?;
    ensure!(fs::read_to_string(tree.inside("etc/f"))? == "there", "the image was changed");
    // The mode is that of the directory below.
    tree.user(json!({ "uid": 1000, "gid": 1000 })).run(c, &["ls", "/etc/d"])?.status_is(1)?;
    Ok(())
}

pub(crate) fn wrong_options_are_named(c: &mut Containers) -> Result<()> {
    for (kind, option) in [
        ("tmpfs", "size=banana"),
        ("tmpfs", "no-such-option"),
        ("bind", "idmap"),
        ("bind", "remount"),
    ] {
        let options = ["nosuid", option, "mode=755"];
        let mount =
            json!({ "destination": "/x", "type": kind, "source": "volume", "options": options });
        let said = Tree::new(c)?.mount(mount).run(c, &["exit", "0"])?.refused()?;
        ensure!(said.contains("mounts") && said.contains(&format!("{option:?}")), "{said}");
        ensure!(said.contains("options"), "{said}");
    }
    let mut tree = Tree::new(c)?;
    tree.bundle.config["linux"]["rootfsPropagation"] = json!("sideways");
    let said = tree.run(c, &["exit", "0"])?.refused()?;
    ensure!(said.contains("linux.rootfsPropagation: \"sideways\""), "{said}");
    c.fixture.becomes_clean()
}
