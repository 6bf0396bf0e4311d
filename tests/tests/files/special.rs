//! Files that are no files, and how many a process may have; the cases are listed in `main.rs`.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, poll_until, proc};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;

use crate::fixture::Tree;

pub(crate) fn fifo_of_an_image_is_refused_and_holds_no_thread(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    mknodat(CWD, tree.inside("fifo"), FileType::Fifo, Mode::from(0o666), 0)?;
    std::os::unix::fs::symlink("fifo", tree.inside("link"))?;
    for (n, (path, uid)) in [("/fifo", 0), ("/link", 0), ("/fifo", 1000)].into_iter().enumerate() {
        let id = c.id(&format!("f{n}"));
        tree.user(json!({ "uid": uid, "gid": uid }));
        let guest = tree.command(c, &["--rm"], &id, &["open-many", path, "300"])?.spawn()?;
        poll_until("the guest's word", Duration::from_secs(20), || {
            guest.stdout_so_far().contains("refused").then_some(())
        })?;
        ensure!(guest.stdout_so_far() == "0 opened, 300 refused\n", "{}", guest.stdout_so_far());
        // Of a component each open is a job for the pool of threads, which grows when they come fast. Without work they leave.
        let pid = c.is_running(&id)?.pid;
        let few = || proc::threads(pid).is_ok_and(|threads| threads < 16).then_some(());
        poll_until("threads without work gone", Duration::from_secs(30), few)?;
        let start = Instant::now();
        // `--rm` may be done before containerd has passed the kill's answer on.
        c.fixture.ctr(["task", "kill", "-s", "SIGKILL", &id])?;
        guest.wait()?.status_is(137)?;
        ensure!(start.elapsed() < Duration::from_secs(10), "{:?} to end it", start.elapsed());
    }
    c.fixture.becomes_clean()
}

pub(crate) fn socket_of_an_image_is_refused(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    let _listener = UnixListener::bind(tree.inside("socket"))?;
    tree.run(c, &["cat", "/socket"])?.status_is(1)?;
    Ok(())
}

/// The numbers of the host's null, and of its first disk.
pub(crate) fn devices_of_an_image_are_refused(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    let disk = rustix::fs::stat("/").map(|root| root.st_dev).context("the root's device")?;
    mknodat(CWD, tree.inside("null"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3))?;
    mknodat(CWD, tree.inside("disk"), FileType::BlockDevice, Mode::from(0o666), disk)?;
    mknodat(CWD, tree.volume().join("disk"), FileType::BlockDevice, Mode::from(0o666), disk)?;
    for path in ["/null", "/disk", "/data/disk"] {
        if c.runtime.is_wasm() || path != "/null" {
            let out = tree.run(c, &["cat", path])?;
            // runc's guests are held back by their cgroup's list of devices.
            ensure!(out.status == 1 && out.stdout.is_empty(), "{path}: {out}");
        }
    }
    Ok(())
}

pub(crate) fn process_has_so_many_files_and_no_more(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    tree.bundle.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 32, "hard": 32 }]);
    let id = c.id("many");
    let guest = tree.command(c, &[], &id, &["open-many", c.runtime.guest(), "100"])?.spawn()?;
    poll_until("the guest's word", Duration::from_secs(20), || {
        guest.stdout_so_far().contains("refused").then_some(())
    })?;
    let opened: u32 = guest.stdout_so_far().split(' ').next().unwrap_or_default().parse()?;
    // All but the streams and the directories a guest begins with.
    ensure!((26..=29).contains(&opened), "{opened} of 32");
    c.kill(&id, "SIGKILL")?;
    guest.wait()?.status_is(137)?;
    c.fixture.ctr(["task", "delete", "-f", &id])?;
    c.fixture.ctr(["container", "delete", &id])?;
    c.fixture.becomes_clean()
}
