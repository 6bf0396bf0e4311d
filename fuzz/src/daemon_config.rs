//! The daemon's settings: file, environment and command line together.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use runwasi_core::settings::SettingsError;
use runwasi_daemon::{
    Identity,
    command_line::{self, Command},
    config::Settings,
};

use crate::settings;

const IDENTITY: Identity = Identity {
    program: "containerd-wasmtimed",
    runtime: "io.containerd.wasmtimed.v1",
    version: "0",
    engine: "fuzz",
    annotations: &[],
    state_directory: "/run/io.containerd.wasmtime.v1",
    config_file: "/etc/containerd-wasmtimed.toml",
    environment_prefix: "CONTAINERD_WASMTIMED",
};

/// Ends a part of the input: a byte that is in no UTF-8 text.
const END: u8 = 0xff;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| crate::directory().join("daemon.toml"));

/// The input is the file, then lines of the environment without the prefix, then lines of the
/// command line. An error has a place and a reason. Settings that are accepted are printed and read
/// back the same.
pub fn check(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == END);
    let mut part = || parts.next().unwrap_or_default();
    let [file, variables, arguments] = [part(), part(), part()];
    let arguments: Vec<OsString> = lines(arguments).map(OsString::from).collect();
    match read(file, variables, &arguments) {
        Ok(Command::Serve(settings, _) | Command::Precompile(settings, _)) => {
            check_printed(&settings);
        }
        Ok(_) => {}
        Err(SettingsError { place, reason }) => {
            assert!(!place.is_empty() && !reason.is_empty(), "{place:?} {reason:?}");
        }
    }
}

fn check_printed(settings: &Settings) {
    let printed = settings.to_toml().expect("settings are printed");
    let again = match read(printed.as_bytes(), b"", &[]) {
        Ok(Command::Serve(again, _)) => again,
        other => panic!("{printed}: {other:?}"),
    };
    assert_eq!(again.to_toml().as_ref(), Ok(&printed));
    let mut paths =
        again.bundle_roots.iter().chain([&again.socket]).chain(again.cache().map(|_| &again.cache));
    assert!(paths.all(|path| path.is_absolute() && path.to_str().is_some()), "{printed}");
}

fn read(file: &[u8], variables: &[u8], arguments: &[OsString]) -> Result<Command, SettingsError> {
    fs::write(&*FILE, file).expect("the file is written");
    let variable = |name: &str| {
        let key = name.strip_prefix("CONTAINERD_WASMTIMED_")?;
        let mut found = lines(variables);
        let value = found
            .find_map(|line| line.as_bytes().strip_prefix(key.as_bytes())?.strip_prefix(b"="))?;
        // Another file would be one of the host.
        (key != "CONFIG").then(|| OsStr::from_bytes(value).to_owned())
    };
    command_line::read(&IDENTITY, arguments, &variable, Path::new(&*FILE), &engine)
}

/// The table of the engine, as the daemon of wasmtime checks it.
fn engine(settings: &Settings) -> Result<String, SettingsError> {
    let base = settings::Settings { slots: settings.slots_in_force(), ..Default::default() };
    settings.engine.read(&base)?.to_toml()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &OsStr> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty() && !line.contains(&0)).map(OsStr::from_bytes)
}
