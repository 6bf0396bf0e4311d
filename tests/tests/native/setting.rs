//! The setting `native-runtime`; the cases are listed in `main.rs`.

use std::fs;

use anyhow::{Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Containerd, Containers, Image, Restrictions, Runtime, check_with, says};

const MISSING: &str = "/nonexistent/native-runtime";

#[track_caller]
fn check(runtime: Runtime, value: &str, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let fixture = match runtime.needs_daemon() {
        true => {
            Containerd::builder().daemon(Settings::default().flags(["--native-runtime", value]))
        }
        false => Containerd::builder(),
    };
    check_with(runtime, fixture, case);
}

/// A fixture whose daemon refuses native containers.
#[track_caller]
pub(crate) fn check_off(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    check(runtime, "off", case);
}

/// A fixture whose daemon has a setting without a program.
#[track_caller]
pub(crate) fn check_missing(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    check(runtime, MISSING, case);
}

/// A fixture whose daemon has the restrictions of its unit.
#[track_caller]
pub(crate) fn check_restricted(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/containerd-wasmtimed.service");
    let unit = fs::read_to_string(file).map_err(anyhow::Error::from);
    let restrictions = unit.and_then(|unit| Restrictions::of_unit(&unit));
    let settings = Settings::default().restricted(restrictions.expect("the daemon's unit"));
    check_with(runtime, Containerd::builder().daemon(settings), case);
}

/// The flags that give the same setting to a shim per pod.
fn flags(c: &Containers, value: &str) -> Result<Vec<String>> {
    let file = c.fixture.dir().join("options.toml");
    fs::write(&file, format!("native-runtime = \"{value}\"\n"))?;
    let path = file.display().to_string();
    Ok(if c.runtime.needs_daemon() { vec![] } else { vec!["--runtime-config-path".into(), path] })
}

fn refusal(c: &Containers, flags: &[String]) -> Result<String> {
    let flags: Vec<&str> = ["--rm"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    c.run_command(&flags, &c.next_id(), &["exit", "0"]).run()?.refused()
}

pub(crate) fn native_program_is_refused_and_wasm_runs(c: &mut Containers) -> Result<()> {
    let flags = flags(c, "off")?;
    says(&refusal(c, &flags)?, &["/wasmtest is a native program", "native-runtime"], &["off"])?;
    c.fixture.load(Image::Wasmtest)?;
    let flags: Vec<&str> = ["--rm"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let program = ["/wasmtest.wasm", "echo", "wasm"];
    let out = c.run_of(Image::Wasmtest, &flags, &c.id("wasm"), &program).run()?.ok()?;
    ensure!(out.out() == "wasm\n", "{out}");
    c.fixture.becomes_clean()
}

pub(crate) fn missing_native_runtime_is_named(c: &mut Containers) -> Result<()> {
    let said = refusal(c, &flags(c, MISSING)?)?;
    says(&said, &["/wasmtest is a native program", MISSING, "native-runtime"], &["install it"])?;
    c.fixture.becomes_clean()
}

pub(crate) fn options_do_not_override_the_daemon(c: &mut Containers) -> Result<()> {
    let file = c.fixture.dir().join("options.toml");
    fs::write(&file, "native-runtime = \"off\"\n")?;
    let flags = ["--runtime-config-path".to_owned(), file.display().to_string()];
    let place = "options.toml:1: native-runtime: \"off\" cannot be had";
    says(&refusal(c, &flags)?, &[place], &["this node's daemon"])?;
    c.fixture.becomes_clean()
}

/// There is no systemd on the machines of the tests, which would start the native runtime.
pub(crate) fn restricted_daemon_names_the_way_out(c: &mut Containers) -> Result<()> {
    ensure!(!std::path::Path::new("/run/systemd/system").exists(), "systemd runs here");
    let said = refusal(c, &[])?;
    says(&said, &["/wasmtest is a native program", "NoNewPrivileges="], &["shims per pod"])?;
    c.fixture.becomes_clean()
}
