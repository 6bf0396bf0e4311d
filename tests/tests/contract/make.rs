//! What a person types before the first container: `make install`, `make load`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use runwasi_tests::{Command, Containerd, Image, Runtime};

/// `make` at the root of the workspace, apart from a `make` that runs these tests.
fn make<const N: usize>(args: [&str; N]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new("make").current_dir(&root).env("MAKEFLAGS", "").env("MAKELEVEL", "0").args(args)
}

#[test]
fn install_puts_an_executable_shim_below_prefix_and_destdir_and_uninstall_takes_it_away() -> Result<()> {
    let stage = tempfile::tempdir()?;
    let destdir = format!("DESTDIR={}", stage.path().join("a stage").display());
    make(["install", "PREFIX=/opt/some where", &destdir]).run()?.ok()?;
    let shim = stage.path().join("a stage/opt/some where/bin").join(Runtime::Wasmtime.shim());
    let mode = fs::metadata(&shim)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o755, "mode {mode:o}");
    let said = Command::new(&shim).args(["-v"]).run()?.ok()?;
    ensure!(said.out().contains(Runtime::Wasmtime.name()), "{said}");
    make(["uninstall", "PREFIX=/opt/some where", &destdir]).run()?.ok()?;
    ensure!(!shim.exists(), "{} is still there", shim.display());
    Ok(())
}

#[test]
fn load_makes_a_containerd_of_the_users_choice_know_the_images() -> Result<()> {
    for image in [Image::Wasmtest, Image::WasmtestNative, Image::WasmtestOci] {
        ensure!(image.tar().exists(), "{} is missing: `make images` writes it", image.tar().display());
    }
    let bed = Containerd::start()?;
    let (address, namespace) =
        (format!("ADDRESS={}", bed.address().display()), format!("NAMESPACE={}", bed.namespace()));
    make(["load", &address, &namespace]).run()?.ok()?;
    let list = bed.ctr(["image", "ls", "-q"])?.ok()?;
    for image in [Image::Wasmtest, Image::WasmtestNative] {
        ensure!(list.out().lines().any(|line| line == image.name()), "no {}: {list}", image.name());
    }
    let run = ["run", "--rm", "--runtime", Runtime::Wasmtime.name(), Image::Wasmtest.name(), &bed.id("loaded")];
    let out = bed.ctr(run)?.ok()?;
    ensure!(out.out() == "Hello from wasm!\n", "{out}");
    bed.becomes_clean()
}
