//! Ways out of a container that lead nowhere; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use serde_json::json;

use crate::fixture::Tree;

/// A tree with a secret beside it on the host.
fn tempted(c: &Containers) -> Result<Tree> {
    let tree = Tree::new(c)?;
    fs::write(tree.outside("secret"), "of the host")?;
    Ok(tree)
}

fn finds_nothing(tree: &mut Tree, c: &Containers, path: &str) -> Result<()> {
    let out = tree.run(c, &["cat", path])?;
    ensure!(!out.out().contains("of the host"), "{path}: {out}");
    tree.run(c, &["write", path, "overwritten"])?;
    ensure!(
        fs::read_to_string(tree.outside("secret"))? == "of the host",
        "{path} was written through"
    );
    Ok(())
}

pub(crate) fn links_of_the_image_lead_nowhere_outside(c: &mut Containers) -> Result<()> {
    let mut tree = tempted(c)?;
    let secret = tree.outside("secret");
    symlink(&secret, tree.inside("absolute"))?;
    symlink("../../secret", tree.inside("relative"))?;
    symlink(tree.outside(""), tree.inside("directory"))?;
    symlink(&secret, tree.volume().join("absolute"))?;
    symlink("../secret", tree.volume().join("relative"))?;
    for path in ["/absolute", "/relative", "/directory/secret", "/data/absolute", "/data/relative"]
    {
        finds_nothing(&mut tree, c, path)?;
    }
    Ok(())
}

pub(crate) fn dots_lead_nowhere_outside(c: &mut Containers) -> Result<()> {
    let mut tree = tempted(c)?;
    let real = tree.outside("secret").display().to_string();
    for path in ["/../secret", "/data/../../secret", "/../../../../../../../../etc/shadow", &real] {
        finds_nothing(&mut tree, c, path)?;
    }
    Ok(())
}

pub(crate) fn hard_links_do_not_leave_their_file_system(c: &mut Containers) -> Result<()> {
    let mut tree = tempted(c)?;
    fs::write(tree.inside("etc/inner"), "x")?;
    tree.run(c, &["link", "/etc/inner", "/data/link"])?.status_is(1)?;
    tree.run(c, &["link", "/../secret", "/data/link"])?.status_is(1)?;
    tree.run(c, &["rename", "/etc/inner", "/data/moved"])?.status_is(1)?;
    ensure!(fs::read_dir(tree.volume())?.next().is_none(), "something came into the volume");
    Ok(())
}

/// The image wants its volume somewhere on the host.
pub(crate) fn mount_over_a_link_lands_inside(c: &mut Containers) -> Result<()> {
    let tree = tempted(c)?;
    let target = tree.outside("target");
    fs::create_dir(&target)?;
    symlink(&target, tree.inside("mnt"))?;
    fs::create_dir(tree.outside("other"))?;
    fs::write(tree.outside("other/f"), "of the volume")?;
    let mount = json!({ "destination": "/mnt", "type": "bind", "source": "other", "options": ["rbind", "rw"] });
    let mut tree = tree.mount(mount);
    // Refused, or seen where the link leads inside: never mounted on the host.
    tree.run(c, &["write", "/mnt/new", "x"])?;
    ensure!(fs::read_dir(&target)?.next().is_none(), "the guest wrote to the host");
    Ok(())
}

pub(crate) fn there_is_no_proc(c: &mut Containers) -> Result<()> {
    let mut tree = tempted(c)?;
    for path in [
        "/proc/self/environ",
        "/proc/self/root/etc/shadow",
        "/proc/1/root/etc/shadow",
        "/proc/self/fd/1",
        "/sys/kernel",
    ] {
        let out = tree.run(c, &["cat", path])?.status_is(1)?;
        ensure!(out.out().is_empty(), "{path}: {out}");
    }
    ensure!(tree.run(c, &["ls", "/proc"])?.ok()?.out().is_empty(), "/proc is not empty");
    Ok(())
}

/// What is written asks the kernel to list what it could do, should it ever get there.
pub(crate) fn sysrq_trigger_is_absent(c: &mut Containers) -> Result<()> {
    let mut tree = tempted(c)?;
    tree.bundle.config["root"]["readonly"] = json!(true);
    let out = tree.run(c, &["write", "/proc/sysrq-trigger", "h"])?.status_is(1)?;
    ensure!(out.err().contains("/proc/sysrq-trigger"), "{out}");
    tree.run(c, &["cat", "/proc/sysrq-trigger"])?.status_is(1)?;
    Ok(())
}
