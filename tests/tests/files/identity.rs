//! Whose files a guest makes, and which it may open; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, Output};
use serde_json::json;

use crate::fixture::Tree;

/// Owner, group and permission bits.
fn of(path: &Path) -> Result<(u32, u32, u32)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.uid(), metadata.gid(), metadata.mode() & 0o777))
}

fn file(path: &Path, owner: u32, group: u32, mode: u32) -> Result<()> {
    fs::write(path, "secret")?;
    chown(path, Some(owner), Some(group))?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(mode))?)
}

pub(crate) fn files_belong_to_the_containers_user(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    tree.user(json!({ "uid": 1000, "gid": 1001 })).run(c, &["write", "/data/f", "mine"])?.ok()?;
    ensure!(of(&tree.volume().join("f"))? == (1000, 1001, 0o644));
    tree.user(json!({ "uid": 0, "gid": 0 })).run(c, &["write", "/data/g", "root's"])?.ok()?;
    ensure!(of(&tree.volume().join("g"))? == (0, 0, 0o644));
    tree.user(json!({ "uid": 0, "gid": 7 })).run(c, &["write", "/data/h", "root's"])?.ok()?;
    ensure!(of(&tree.volume().join("h"))? == (0, 7, 0o644));
    Ok(())
}

pub(crate) fn home_is_that_of_the_user(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n";
    fs::write(tree.inside("etc/passwd"), passwd)?;
    for (uid, home) in [(0, "/root"), (1000, "/srv/app"), (1234, "/")] {
        tree.user(json!({ "uid": uid, "gid": uid }));
        tells_home(&tree.run(c, &["env"])?.ok()?, home)?;
    }
    // An exec has a user of its own.
    let id = c.next_id();
    tree.user(json!({ "uid": 0, "gid": 0 }));
    tree.command(c, &["--detach"], &id, &["sleep", "600"])?.run()?.ok()?;
    let guest = c.runtime.guest();
    let exec =
        c.exec_command(&["--user", "1000:1000"], &id, "home", &[guest, "env"]).run()?.ok()?;
    tells_home(&exec, "/srv/app")?;
    ensure!(c.kill_and_finish(&id)? == 137);
    tree.bundle.config["process"]["env"] = json!(["HOME=/given"]);
    tells_home(&tree.run(c, &["env"])?.ok()?, "/given")
}

fn tells_home(env: &Output, home: &str) -> Result<()> {
    let out = env.out();
    let told: Vec<_> = out.lines().filter(|line| line.starts_with("HOME=")).collect();
    ensure!(told == [format!("HOME={home}")], "{env}");
    Ok(())
}

pub(crate) fn umask_is_the_processes_own(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    for (n, uid, umask) in [(1, 1000, 0o077), (2, 1000, 0o007), (3, 0, 0o027), (4, 0, 0o022)] {
        let name = format!("/data/f{n}");
        tree.user(json!({ "uid": uid, "gid": uid, "umask": umask }))
            .run(c, &["write", &name, "x"])?
            .ok()?;
        let mode = of(&tree.volume().join(format!("f{n}")))?.2;
        ensure!(mode == 0o666 & !umask, "umask {umask:o} gave {mode:o}");
    }
    Ok(())
}

pub(crate) fn files_of_others_are_refused(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    file(&tree.volume().join("roots"), 0, 0, 0o600)?;
    file(&tree.volume().join("open"), 0, 0, 0o644)?;
    file(&tree.volume().join("own"), 1000, 1000, 0o600)?;
    tree.user(json!({ "uid": 1000, "gid": 1000 }));
    tree.run(c, &["cat", "/data/roots"])?.status_is(1)?;
    tree.run(c, &["write", "/data/roots", "x"])?.status_is(1)?;
    tree.run(c, &["write", "/data/open", "x"])?.status_is(1)?;
    ensure!(tree.run(c, &["cat", "/data/open"])?.ok()?.out() == "secret");
    ensure!(tree.run(c, &["cat", "/data/own"])?.ok()?.out() == "secret");
    if c.runtime.is_wasm() {
        // runc's root has only the capabilities that its config lists, here none.
        tree.user(json!({ "uid": 0, "gid": 0 }));
        ensure!(tree.run(c, &["cat", "/data/own"])?.ok()?.out() == "secret", "root opens all");
    }
    Ok(())
}

/// With the capability to pass over permissions, and without, in the order of two containers.
pub(crate) fn root_opens_files_of_others_by_its_capability(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    file(&tree.volume().join("users"), 1000, 1000, 0o600)?;
    file(&tree.volume().join("roots"), 0, 0, 0o600)?;
    tree.user(json!({ "uid": 0, "gid": 0 }));
    for (capability, status) in [("CAP_KILL", 1), ("CAP_DAC_OVERRIDE", 0), ("CAP_KILL", 1)] {
        let all = json!([capability]);
        tree.bundle.config["process"]["capabilities"] =
            json!({ "bounding": all, "effective": all, "permitted": all });
        tree.run(c, &["cat", "/data/users"])?.status_is(status)?;
        tree.run(c, &["write", "/data/users", "secret"])?.status_is(status)?;
        tree.run(c, &["cat", "/data/roots"])?.ok()?;
    }
    Ok(())
}

pub(crate) fn directories_of_others_are_refused_also_below_an_open_one(
    c: &mut Containers,
) -> Result<()> {
    let mut tree = Tree::new(c)?;
    let (closed, open) = (tree.volume().join("closed"), tree.volume().join("open"));
    for directory in [&closed, &open] {
        fs::create_dir(directory)?;
        file(&directory.join("f"), 0, 0, 0o666)?;
    }
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700))?;
    tree.user(json!({ "uid": 1000, "gid": 1000 }));
    tree.run(c, &["ls", "/data/closed"])?.status_is(1)?;
    tree.run(c, &["cat", "/data/closed/f"])?.status_is(1)?;
    ensure!(tree.run(c, &["ls", "/data/open"])?.ok()?.out() == "f\n");
    // It opens the directory and removes what it finds by that descriptor.
    tree.run(c, &["remove-all", "/data/open"])?.status_is(1)?;
    ensure!(open.join("f").exists(), "a file in another's directory was removed");
    Ok(())
}

pub(crate) fn further_groups_open_what_belongs_to_them(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    file(&tree.volume().join("shared"), 0, 3000, 0o640)?;
    tree.user(json!({ "uid": 1000, "gid": 1000 }))
        .run(c, &["cat", "/data/shared"])?
        .status_is(1)?;
    tree.user(json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 3000] }));
    ensure!(tree.run(c, &["cat", "/data/shared"])?.ok()?.out() == "secret");
    Ok(())
}

/// In one process, one after the other: threads keep what was put on them last.
pub(crate) fn users_in_a_row_get_nothing_of_each_other(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    for (n, uid) in [1000, 2000, 0, 2000, 1000, 0].into_iter().enumerate() {
        let name = format!("/data/f{n}");
        tree.user(json!({ "uid": uid, "gid": uid, "umask": 0o077 }))
            .run(c, &["write", &name, "x"])?
            .ok()?;
        ensure!(
            of(&tree.volume().join(format!("f{n}")))? == (uid, uid, 0o600),
            "user {uid}, run {n}"
        );
        let before = format!("/data/f{}", n.saturating_sub(1));
        if n > 0 && uid != 0 {
            tree.run(c, &["cat", &before])?.status_is(1)?;
        }
    }
    Ok(())
}

pub(crate) fn exec_has_a_user_of_its_own(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    let id = c.id("host");
    tree.user(json!({ "uid": 0, "gid": 0 }))
        .command(c, &["-d"], &id, &["sleep", "1000"])?
        .run()?
        .ok()?;
    file(&tree.volume().join("roots"), 0, 0, 0o600)?;
    let exec = |name: &str, args: &[&str]| {
        c.exec_command(&["--user", "1000:1001"], &id, name, &[&[c.runtime.guest()], args].concat())
            .run()
    };
    exec("writes", &["write", "/data/f", "mine"])?.ok()?;
    ensure!(of(&tree.volume().join("f"))? == (1000, 1001, 0o644));
    exec("reads", &["cat", "/data/roots"])?.status_is(1)?;
    ensure!(
        c.exec(&id, "root", &["cat", "/data/roots"])?.ok()?.out() == "secret",
        "the container's own user is root"
    );
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

/// One sleeper for every thread that polls guests.
pub(crate) fn sleepers_of_other_users_delay_nobody(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    let pod = c.id("pod");
    tree.bundle.config["annotations"] = json!({ "io.kubernetes.cri.sandbox-id": pod, "io.kubernetes.cri.container-type": "container" });
    let sleepers: Vec<_> = (0..4).map(|n| c.id(&format!("s{n}"))).collect();
    for (n, id) in sleepers.iter().enumerate() {
        tree.user(json!({ "uid": 1000 + n, "gid": 1000 }));
        tree.command(c, &["-d"], id, &["sleep", "1000"])?.run()?.ok()?;
    }
    tree.user(json!({ "uid": 500, "gid": 500 }));
    let start = Instant::now();
    tree.run(c, &["timer", "5", "20"])?.ok()?;
    // One that waits for a sleeper's thread waits for a thousand.
    ensure!(start.elapsed() < Duration::from_secs(10), "{:?} for 100 ms of sleep", start.elapsed());
    for id in &sleepers {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    Ok(())
}

pub(crate) fn wrong_users_are_named(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    for (user, wanted) in [
        (json!({ "uid": u32::MAX, "gid": 0 }), "process.user.uid: 4294967295"),
        (json!({ "uid": 0, "gid": u32::MAX }), "process.user.gid: 4294967295"),
        (json!({ "uid": 0, "gid": 0, "umask": 0o7777 }), "process.user.umask"),
        (
            json!({ "uid": 0, "gid": 0, "additionalGids": [u32::MAX] }),
            "process.user.additionalGids",
        ),
    ] {
        let said = tree.user(user.clone()).run(c, &["exit", "0"])?.refused()?;
        ensure!(said.contains(wanted), "{user}: {said}");
    }
    c.fixture.becomes_clean()
}
