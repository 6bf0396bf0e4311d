//! Bundles the daemon must not touch; the cases are listed in `main.rs`. Its one root is `/tmp`.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use prost::Message;
use runwasi_tests::bundle::Bundle;
use runwasi_tests::shim::reason;
use runwasi_tests::{ShimDriver, says};
use tempfile::TempDir;

use crate::api::{Create, refusal};
use crate::witness::Witness;

/// Where no bundle may lie.
const OUTSIDE: &str = "/var/tmp";

/// A good bundle outside the roots.
fn outside() -> Result<(TempDir, Bundle)> {
    let dir = tempfile::Builder::new().prefix("outside").tempdir_in(OUTSIDE)?;
    let bundle = Bundle::create(dir.path().join("b"), &["/a"], "/outside")?;
    Ok((dir, bundle))
}

/// Asks for a sandbox with this bundle and demands a refusal that names it; nothing may be written there.
fn is_refused(p: &ShimDriver, bundle: &Path, reasons: &[&str]) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    let said = refusal(p, "Create", Create::of(p, "bad", bundle).encode_to_vec())?;
    says(&said, &[&bundle.to_string_lossy()], reasons)?;
    ensure!(!p.socket("bad").exists(), "it has a socket");
    witness.is_undisturbed(p)?;
    witness.end(p)?;
    p.becomes_clean()
}

pub(crate) fn bundle_outside_the_roots_is_refused(p: &ShimDriver) -> Result<()> {
    let (_dir, bundle) = outside()?;
    is_refused(p, bundle.path(), &["root"])?;
    // The same by the thin shim: what containerd prints says how to allow it.
    let said = p.start("bad", bundle.path())?.refused()?;
    says(&said, &[&bundle.path().to_string_lossy(), "bundle-root"], &[])?;
    p.becomes_clean()
}

pub(crate) fn dots_out_of_the_roots_are_refused(p: &ShimDriver) -> Result<()> {
    let (_dir, bundle) = outside()?;
    let relative = bundle.path().strip_prefix("/")?;
    is_refused(p, &Path::new("/tmp/..").join(relative), &["root", ".."])?;
    is_refused(p, &p.dir().join("../..").join(relative), &["root", ".."])
}

pub(crate) fn link_out_of_the_roots_is_refused(p: &ShimDriver) -> Result<()> {
    let (dir, bundle) = outside()?;
    let (link, above) = (p.dir().join("link"), p.dir().join("above"));
    symlink(bundle.path(), &link)?;
    symlink(dir.path(), &above)?;
    is_refused(p, &link, &["root", "link"])?;
    is_refused(p, &above.join("b"), &["root", "link"])
}

pub(crate) fn bundle_that_is_no_directory_is_refused(p: &ShimDriver) -> Result<()> {
    let file = p.dir().join("file");
    std::fs::write(&file, "")?;
    is_refused(p, &file, &["not a directory"])?;
    is_refused(p, &p.dir().join("nowhere"), &["no such file"])
}

pub(crate) fn task_with_a_bundle_outside_the_roots_is_refused(p: &ShimDriver) -> Result<()> {
    let (_dir, outside) = outside()?;
    let inside = p.bundle("good", &["/a"])?;
    let client = p.connect("good", inside.path())?;
    let Err(error) = client.create("good", outside.path(), &[]) else { bail!("it was created") };
    says(&reason(&error), &[&outside.path().to_string_lossy(), "bundle-root"], &[])?;
    ensure!(outside.entries().is_empty(), "it wrote {:?}", outside.entries());
    p.finish(&client, "good", inside.path())?;
    p.becomes_clean()
}
