//! Images that give no program: each is an error that says what of which image is missing or wrong, and leaves nothing; the cases
//! are listed in `main.rs`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_image::layout::digest;
use runwasi_tests::shim::reason;
use runwasi_tests::{Containers, ShimDriver, says};

use crate::{fixture, layers};

/// How the shim says that there is no program.
const NOT_FOUND: &[&str] = &["no such file or directory in the container"];

pub(crate) fn name_that_no_layer_has_is_an_error_with_those_there_are(
    c: &mut Containers,
) -> Result<()> {
    let salt = fixture::salt(c);
    fixture::put(
        c,
        &[("three.wasm", &fixture::exiting(3, &salt)), ("seven.wasm", &fixture::exiting(7, &salt))],
    )?;
    let said = fixture::refused(c, fixture::NAME, &["/four.wasm"])?;
    says(&said, &["/four.wasm", fixture::NAME, "three.wasm, seven.wasm"], NOT_FOUND)
}

pub(crate) fn exec_of_a_missing_layer_is_an_error(c: &mut Containers) -> Result<()> {
    let (id, _) = layers::sleeper_and_seven(c)?;
    let said = layers::exec(c, &id, "four", "/four.wasm")?.refused()?;
    says(&said, &["/four.wasm", fixture::NAME, "seven.wasm"], NOT_FOUND)?;
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn missing_content_is_named(c: &mut Containers) -> Result<()> {
    let module = fixture::exiting(3, &fixture::salt(c));
    fixture::put(c, &[("three.wasm", &module)])?;
    fs::remove_file(fixture::blob(c, &module)?)?;
    let said = fixture::refused(c, fixture::NAME, &["/three.wasm"])?;
    says(
        &said,
        &[fixture::NAME, "three.wasm", &digest(&module)],
        &["not in containerd's content store"],
    )
}

pub(crate) fn damaged_content_does_not_run(c: &mut Containers) -> Result<()> {
    let (module, other) =
        (fixture::exiting(3, &fixture::salt(c)), fixture::exiting(9, &fixture::salt(c)));
    ensure!(module.len() == other.len());
    fixture::put(c, &[("three.wasm", &module)])?;
    let file = fixture::blob(c, &module)?;
    fixture::damage(&file, &other)?;
    let said = fixture::refused(c, fixture::NAME, &["/three.wasm"])?;
    says(&said, &[fixture::NAME, &digest(&module), &digest(&other)], &["damaged"])?;
    // What is shorter than it should be, too.
    fixture::damage(&file, &module[..20])?;
    let said = fixture::refused(c, fixture::NAME, &["/three.wasm"])?;
    says(&said, &[fixture::NAME, &digest(&module)], &[])?;
    fixture::damage(&file, &module)?;
    fixture::run(c, &c.id("right"), &["/three.wasm"])?.status_is(3)?;
    c.fixture.becomes_clean()
}

pub(crate) fn removed_image_is_named(c: &mut Containers) -> Result<()> {
    fixture::put(c, &[("three.wasm", &fixture::exiting(3, &fixture::salt(c)))])?;
    let id = c.id("removed");
    c.create_of(fixture::NAME, &id, &["/three.wasm"])?;
    c.fixture.ctr(["image", "rm", fixture::NAME])?.ok()?;
    let said = fixture::start(c, &id).run()?.refused()?;
    says(&said, &["/three.wasm", fixture::NAME], &["containerd has no image"])?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn layer_that_is_no_wasm_is_refused(c: &mut Containers) -> Result<()> {
    let module = fixture::exiting(3, &fixture::salt(c));
    // The image tool writes only what begins as wasm does: cut behind it.
    fixture::put(c, &[("cut.wasm", &module[..40])])?;
    let said = fixture::refused(c, fixture::NAME, &["/cut.wasm"])?;
    says(&said, &[fixture::NAME, "cut.wasm"], &["unexpected end", "wasm", "failed to parse"])
}

pub(crate) fn ordinary_image_without_the_file_tells_its_layers(c: &mut Containers) -> Result<()> {
    let image = c.runtime.image().name();
    let run = ["run", "--rm", "--runtime", c.runtime.name(), image, &c.id("bad"), "/nosuch.wasm"];
    let said = c.fixture.ctr(run)?.refused()?;
    says(&said, &["/nosuch.wasm", image, "application/vnd.oci.image.layer.v1.tar"], NOT_FOUND)?;
    c.fixture.becomes_clean()
}

pub(crate) fn container_without_an_image_says_so(c: &mut Containers) -> Result<()> {
    let rootfs = c.fixture.dir().join("empty");
    fs::create_dir_all(&rootfs)?;
    let rootfs = rootfs.to_string_lossy();
    let run = [
        "run",
        "--rm",
        "--runtime",
        c.runtime.name(),
        "--rootfs",
        &rootfs,
        &c.id("bad"),
        "/nosuch.wasm",
    ];
    let said = c.fixture.ctr(run)?.refused()?;
    says(&said, &["/nosuch.wasm", "the container has no image"], NOT_FOUND)?;
    c.fixture.becomes_clean()
}

/// Longer than the shim waits for an answer, shorter than anybody would call a hang.
const A_WHILE: Duration = Duration::from_secs(20);

pub(crate) fn silent_containerd_is_waited_for_a_while(p: &ShimDriver) -> Result<()> {
    // It takes connections, and says nothing.
    let address = p.dir().join("c.sock");
    let _silent = UnixListener::bind(&address)?;
    let began = Instant::now();
    let said = missing_program(p)?;
    let waited = began.elapsed();
    ensure!(waited < A_WHILE, "{waited:?}");
    says(&said, &["/nosuch.wasm", &address.to_string_lossy()], &["has not answered"])?;
    p.becomes_clean()
}

pub(crate) fn absent_containerd_is_named(p: &ShimDriver) -> Result<()> {
    let said = missing_program(p)?;
    says(
        &said,
        &["/nosuch.wasm", &p.dir().join("c.sock").to_string_lossy()],
        &["cannot be asked for an image"],
    )?;
    p.becomes_clean()
}

/// Creates a container whose program is in no file.
fn missing_program(p: &ShimDriver) -> Result<String> {
    let bundle = p.bundle("absent", &["/nosuch.wasm"])?;
    let client = p.connect("absent", bundle.path())?;
    let error = client.create("absent", bundle.path(), &[]).err().context("it was created")?;
    p.finish(&client, "absent", bundle.path())?;
    Ok(reason(&error))
}
