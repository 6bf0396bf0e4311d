//! Images that give no program: each is an error that says what of which image is missing or wrong, and leaves nothing; the cases
//! are listed in `main.rs`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_image::layout::digest;
use runwasi_tests::shim::reason;
use runwasi_tests::{Containers, Player, says};

use crate::{bed, layers};

/// How the shim says that there is no program.
const NOT_FOUND: &[&str] = &["not found in the container"];

pub(crate) fn name_that_no_layer_has_is_an_error_with_those_there_are(
    c: &mut Containers,
) -> Result<()> {
    let salt = bed::salt(c);
    bed::put(
        c,
        &[("three.wasm", &bed::exiting(3, &salt)), ("seven.wasm", &bed::exiting(7, &salt))],
    )?;
    let said = bed::refused(c, bed::NAME, &["/four.wasm"])?;
    says(&said, &["/four.wasm", bed::NAME, "three.wasm, seven.wasm"], NOT_FOUND)
}

pub(crate) fn exec_of_a_missing_layer_is_an_error(c: &mut Containers) -> Result<()> {
    let (id, _) = layers::sleeper_and_seven(c)?;
    let said = layers::exec(c, &id, "four", "/four.wasm")?.refused()?;
    says(&said, &["/four.wasm", bed::NAME, "seven.wasm"], NOT_FOUND)?;
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn missing_content_is_named(c: &mut Containers) -> Result<()> {
    let module = bed::exiting(3, &bed::salt(c));
    bed::put(c, &[("three.wasm", &module)])?;
    fs::remove_file(bed::blob(c, &module)?)?;
    let said = bed::refused(c, bed::NAME, &["/three.wasm"])?;
    says(
        &said,
        &[bed::NAME, "three.wasm", &digest(&module)],
        &["not in containerd's content store"],
    )
}

pub(crate) fn damaged_content_does_not_run(c: &mut Containers) -> Result<()> {
    let (module, other) = (bed::exiting(3, &bed::salt(c)), bed::exiting(9, &bed::salt(c)));
    ensure!(module.len() == other.len());
    bed::put(c, &[("three.wasm", &module)])?;
    let file = bed::blob(c, &module)?;
    bed::damage(&file, &other)?;
    let said = bed::refused(c, bed::NAME, &["/three.wasm"])?;
    says(&said, &[bed::NAME, &digest(&module), &digest(&other)], &["damaged"])?;
    // What is shorter than it should be, too.
    bed::damage(&file, &module[..20])?;
    let said = bed::refused(c, bed::NAME, &["/three.wasm"])?;
    says(&said, &[bed::NAME, &digest(&module)], &[])?;
    bed::damage(&file, &module)?;
    bed::run(c, &c.id("right"), &["/three.wasm"])?.status_is(3)?;
    c.bed.becomes_clean()
}

pub(crate) fn removed_image_is_named(c: &mut Containers) -> Result<()> {
    bed::put(c, &[("three.wasm", &bed::exiting(3, &bed::salt(c)))])?;
    let id = c.id("removed");
    c.create_of(bed::NAME, &id, &["/three.wasm"])?;
    c.bed.ctr(["image", "rm", bed::NAME])?.ok()?;
    let said = bed::start(c, &id).run()?.refused()?;
    says(&said, &["/three.wasm", bed::NAME], &["containerd has no image"])?;
    c.delete_container(&id)?;
    c.bed.becomes_clean()
}

pub(crate) fn layer_that_is_no_wasm_is_refused(c: &mut Containers) -> Result<()> {
    let module = bed::exiting(3, &bed::salt(c));
    // The image tool writes only what begins as wasm does: cut behind it.
    bed::put(c, &[("cut.wasm", &module[..40])])?;
    let said = bed::refused(c, bed::NAME, &["/cut.wasm"])?;
    says(&said, &[bed::NAME, "cut.wasm"], &["unexpected end", "wasm", "failed to parse"])
}

pub(crate) fn ordinary_image_without_the_file_tells_its_layers(c: &mut Containers) -> Result<()> {
    let image = c.runtime.image().name();
    let run = ["run", "--rm", "--runtime", c.runtime.name(), image, &c.id("bad"), "/nosuch.wasm"];
    let said = c.bed.ctr(run)?.refused()?;
    says(&said, &["/nosuch.wasm", image, "application/vnd.oci.image.layer.v1.tar"], NOT_FOUND)?;
    c.bed.becomes_clean()
}

pub(crate) fn container_without_an_image_says_so(c: &mut Containers) -> Result<()> {
    let rootfs = c.bed.dir().join("empty");
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
    let said = c.bed.ctr(run)?.refused()?;
    says(&said, &["/nosuch.wasm", "the container has no image"], NOT_FOUND)?;
    c.bed.becomes_clean()
}

/// Longer than the shim waits for an answer, shorter than anybody would call a hang.
const A_WHILE: Duration = Duration::from_secs(20);

pub(crate) fn silent_containerd_is_waited_for_a_while(p: &Player) -> Result<()> {
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

pub(crate) fn absent_containerd_is_named(p: &Player) -> Result<()> {
    let said = missing_program(p)?;
    says(
        &said,
        &["/nosuch.wasm", &p.dir().join("c.sock").to_string_lossy()],
        &["cannot be asked for an image"],
    )?;
    p.becomes_clean()
}

/// Creates a container whose program is in no file.
fn missing_program(p: &Player) -> Result<String> {
    let bundle = p.bundle("absent", &["/nosuch.wasm"])?;
    let client = p.connect("absent", bundle.path())?;
    let error = client.create("absent", bundle.path(), &[]).err().context("it was created")?;
    p.finish(&client, "absent", bundle.path())?;
    Ok(reason(&error))
}
