//! Images for wasm: loaded, imported and built; the cases are listed in `main.rs`.

use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use runwasi_tests::docker::{Engine, LONG, check_docker_with};
use runwasi_tests::runtime::WasmImage;
use runwasi_tests::{Docker, Image, Runtime, says};
use serde_json::json;

pub(crate) fn layers_of_wasm_run(d: &mut Docker) -> Result<()> {
    for form in WasmImage::ALL {
        let image = Image::Wasm(form);
        d.load(image)?;
        // Of an artifact's config Docker takes no command.
        let word = ["/wasmtest.wasm", "echo", "named"];
        let (args, wanted) = if form.has_standard_config() {
            (&[][..], "Hello from wasm!\n")
        } else {
            (&word[..], "named\n")
        };
        let out =
            d.run_of(image.name(), &[], args).run()?.ok().with_context(|| format!("{form:?}"))?;
        ensure!(out.out() == wanted, "{form:?}: {out}");
    }
    let index = Image::Wasm(WasmImage::OciIndex).name();
    let out = d.run_of(index, &["--platform", "wasip1/wasm"], &[]).run()?.ok()?.out();
    ensure!(out == "Hello from wasm!\n", "{out}");
    let refused = d.run_of(index, &["--platform", "wasi/wasm"], &[]).run()?.status_is(125)?;
    says(&refused.err(), &["wasi/wasm"], &["does not provide the specified platform"])?;
    let several = Image::Wasm(WasmImage::Several).name();
    let absent = d.run_of(several, &["--entrypoint", "/absent.wasm"], &[]).run()?.status_is(127)?;
    says(&absent.err(), &["/absent.wasm", several], &["no wasm layer"])
}

pub(crate) fn imported_image_for_wasi_runs(d: &mut Docker) -> Result<()> {
    import(d, &["--platform", "wasi/wasm"], "imported:wasi")?;
    is_for_wasi(d, "imported:wasi")
}

/// `docker image import FLAGS` of a root file system that has the guest.
fn import(d: &Docker, flags: &[&str], name: &str) -> Result<()> {
    let tar = d.dir().join("root.tar");
    let mut root = tar::Builder::new(File::create(&tar)?);
    root.append_path_with_name(d.runtime.guest_file(), "hello.wasm")?;
    root.finish()?;
    let begin = ["image", "import", "-c", "ENTRYPOINT [\"/hello.wasm\"]"];
    d.says(&[&begin[..], flags, &[&*tar.to_string_lossy(), name]].concat()).map(drop)
}

pub(crate) fn images_for_wasi_run_from_import_and_build(d: &mut Docker) -> Result<()> {
    imported_image_for_wasi_runs(d)?;
    let context = d.dir().join("context");
    fs::create_dir(&context)?;
    fs::copy(d.runtime.guest_file(), context.join("hello.wasm"))?;
    fs::write(context.join("Dockerfile"), runwasi_tests::docker::block("dockerfile", "scratch")?)?;
    let context = context.to_string_lossy();
    let line = ["build", "-q", "--platform", "wasi/wasm", "-t", "built:wasi", &context];
    d.docker(line).deadline(LONG).run()?.ok()?;
    is_for_wasi(d, "built:wasi")?;
    // Saved and loaded it is the same.
    let saved = d.dir().join("saved.tar");
    d.says(&["save", "built:wasi", "-o", &saved.to_string_lossy()])?;
    d.says(&["image", "rm", "built:wasi"])?;
    d.says(&["load", "-i", &saved.to_string_lossy()])?;
    is_for_wasi(d, "built:wasi")
}

/// Runs it with and without its platform.
fn is_for_wasi(d: &Docker, name: &str) -> Result<()> {
    let platform = d.says(&["image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", name])?;
    ensure!(platform == "wasi/wasm", "{platform}");
    for flags in [&["--platform", "wasi/wasm"][..], &[][..]] {
        let out = d.run_of(name, flags, &["echo", "wasi"]).run()?.ok()?;
        ensure!(out.out() == "wasi\n", "{out}");
    }
    Ok(())
}

/// Its container records name no image, so there is nowhere to look for layers.
pub(crate) fn docker_26_names_no_image(d: &mut Docker) -> Result<()> {
    let image = Image::Wasm(WasmImage::Oci);
    d.load(image)?;
    let refused = d.run_of(image.name(), &[], &[]).run()?.status_is(127)?;
    says(&refused.err(), &["/wasmtest.wasm"], &["the container has no image"])
}

/// A Docker whose images are not containerd's.
#[track_caller]
pub(crate) fn check_classic_store(
    runtime: Runtime,
    case: impl FnOnce(&mut Docker) -> Result<()> + Send,
) {
    let classic =
        json!({"features": {"containerd-snapshotter": false}, "storage-driver": "overlay2"});
    check_docker_with(Engine::V26, runtime, &classic, case);
}

pub(crate) fn plain_image_runs_from_the_classic_store(d: &mut Docker) -> Result<()> {
    ensure!(d.says(&["info", "-f", "{{.Driver}}"])? == "overlay2");
    import(d, &[], "imported:plain")?;
    let out = d.run_of("imported:plain", &[], &["echo", "classic"]).run()?.ok()?.out();
    ensure!(out == "classic\n", "{out}");
    Ok(())
}
