//! Bundles that are incomplete, broken or gone; the cases are listed in `main.rs`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use runwasi_tests::bundle::fifo;
use runwasi_tests::shim::{bind, reason};
use runwasi_tests::{ShimDriver, proc};

/// Far more than any real specification.
const HUGE: usize = 256 << 20;

pub(crate) fn missing_config_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    fs::remove_file(bundle.path().join("config.json"))?;
    super::says(&p.refusal("bad", &bundle)?, &["config.json"], &["no such file"])
}

pub(crate) fn invalid_config_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    bundle.write_config(b"{ \"ociVersion\": ")?;
    // runc's shim gives the parser's words alone.
    super::says(&p.refusal("bad", &bundle)?, &[], &["config.json", "unexpected eof"])
}

pub(crate) fn config_that_is_a_directory_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    fs::remove_file(bundle.path().join("config.json"))?;
    fs::create_dir(bundle.path().join("config.json"))?;
    super::says(&p.refusal("bad", &bundle)?, &["config.json"], &["directory", "regular file"])
}

pub(crate) fn config_that_is_a_fifo_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    fs::remove_file(bundle.path().join("config.json"))?;
    fifo(&bundle.path().join("config.json"))?;
    super::says(&p.refusal("bad", &bundle)?, &["config.json"], &["fifo", "regular file", "pipe"])
}

pub(crate) fn huge_config_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    // Sparse: the size alone must be enough.
    fs::File::create(bundle.path().join("config.json"))?.set_len(HUGE as u64)?;
    let began = Instant::now();
    super::says(
        &p.refusal("bad", &bundle)?,
        &["config.json"],
        &["large", "big", "exceed", "more than", "limit"],
    )?;
    ensure!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
    Ok(())
}

pub(crate) fn bundle_that_went_before_create_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    let client = p.connect("bad", bundle.path())?;
    // `start` answers before the server is up; its bundle may only go once it serves.
    super::socket::serves(&client)?;
    fs::remove_dir_all(bundle.path())?;
    let error = client.create("bad", bundle.path(), &[]).err().context("created")?;
    super::says(&reason(&error), &[&bundle.path().to_string_lossy()], &["no such file"])?;
    fs::create_dir_all(bundle.path())?;
    p.finish(&client, "bad", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn rootfs_that_cannot_be_mounted_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    let client = p.connect("bad", bundle.path())?;
    let nowhere = p.dir().join("nowhere");
    let error = client.create("bad", bundle.path(), &[bind(&nowhere)]).err().context("created")?;
    // The Go library names the target only.
    super::says(&reason(&error), &[], &["no such file"])?;
    p.finish(&client, "bad", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn refused_create_leaves_no_mounted_rootfs(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/nosuch.wasm"])?;
    let layer = p.dir().join("layer");
    fs::create_dir(&layer)?;
    let client = p.connect("bad", bundle.path())?;
    let error = client.create("bad", bundle.path(), &[bind(&layer)]).err().context("created")?;
    super::says(&reason(&error), &["/nosuch.wasm"], super::MISSING)?;
    // Before `delete` has had a chance to tidy up.
    ensure!(p.leftovers().iter().all(|line| !line.starts_with("mount")), "{:?}", p.leftovers());
    p.finish(&client, "bad", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn delete_without_a_bundle_ends(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("gone", &["/a"])?;
    let elsewhere = p.dir().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    let path = bundle.path().to_string_lossy().into_owned();
    fs::remove_dir_all(bundle.path())?;
    // Whatever it answers: it ends, and leaves nothing.
    p.command("gone", &elsewhere).args(["-bundle", &path, "delete"]).run()?;
    ensure!(!bundle.path().exists(), "delete made the bundle anew");
    p.becomes_clean()
}

pub(crate) fn bundle_that_takes_no_address_leaves_no_shim(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("bad", &["/a"])?;
    // The file's temporary name, and its own.
    for name in [".address", "address"] {
        let place = bundle.path().join(name);
        fs::create_dir(&place)?;
        super::says(
            &p.start("bad", bundle.path())?.refused()?,
            &[&place.to_string_lossy()],
            &["directory"],
        )?;
        p.becomes_clean()?;
        fs::remove_dir(&place)?;
    }
    Ok(())
}

pub(crate) fn delete_without_a_create_ends_the_shim(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("idle", &["/a"])?;
    // Once while the shim may still be coming up, once while it serves.
    for serving in [false, true] {
        let client = p.connect("idle", bundle.path())?;
        if serving {
            super::socket::serves(&client)?;
        }
        let answer = p.delete("idle", bundle.path())?.ok()?;
        DeleteResponse::parse_from_bytes(&answer.stdout)
            .with_context(|| format!("no DeleteResponse: {answer}"))?;
        p.becomes_clean()?;
    }
    Ok(())
}

pub(crate) fn delete_ends_a_container_whose_shim_still_serves(p: &ShimDriver) -> Result<()> {
    // containerd lost it, for instance by a restart that took too long: nobody else will end it.
    let (bundle, _client) = super::command_line::sleeping(p)?;
    let answer = p.delete("good", bundle.path())?.ok()?;
    let answer = DeleteResponse::parse_from_bytes(&answer.stdout)?;
    ensure!(answer.exit_status == 137, "{answer:?}");
    p.becomes_clean()
}

pub(crate) fn delete_cleans_up_after_a_killed_shim(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("orphan", &["/spin.wat"])?;
    let layer = p.dir().join("layer");
    fs::create_dir(&layer)?;
    fs::write(
        layer.join("spin.wat"),
        "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop (br 0))))",
    )?;
    let client = p.connect("orphan", bundle.path())?;
    client.create("orphan", bundle.path(), &[bind(&layer)])?;
    // The native engine has no such program; a created container is as good to be cleaned up.
    client.start("orphan").ok();
    let shims = p.shims();
    ensure!(shims.len() == 1, "{shims:?}");
    proc::kill9(shims[0].pid)?;
    for _ in 0..2 {
        // As containerd does it, and again: the second finds nothing to do.
        let answer = p.delete("orphan", bundle.path())?.ok()?;
        ensure!(!answer.stdout.is_empty(), "no answer: {answer}");
    }
    ensure!(layer.join("spin.wat").exists(), "delete went through the mount");
    p.becomes_clean()
}
