//! The setting `native-runtime`: the program that runs native containers.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::error::NativeError;
use crate::settings::{Entry, OFF, RawSettings, SettingsError, absolute_path};

/// Name of the setting.
pub const KEY: &str = "native-runtime";

/// The program that is used without the setting: containerd's own shim for runc.
pub const DEFAULT: &str = "containerd-shim-runc-v2";

/// Directories that are searched after those of `PATH`, where packages install runc.
const USUAL: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program with containerd's command line for shims: its path, its name on `PATH`, or `off`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NativeRuntime(String);

impl Default for NativeRuntime {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl NativeRuntime {
    /// No program: native containers are refused.
    pub fn off() -> Self {
        Self(OFF.to_owned())
    }

    /// Checks a value of the setting.
    pub fn parse(word: &str) -> Result<Self, String> {
        if word.contains('/') {
            let path = absolute_path(word)?;
            return Ok(Self(path.display().to_string()));
        }
        let is_name = !word.is_empty() && !word.contains('\0') && word != "." && word != "..";
        is_name.then(|| Self(word.to_owned())).ok_or_else(|| {
            format!("{word:?} is neither an absolute path, nor a program's name, nor {OFF:?}")
        })
    }

    /// Takes the setting out of runtime options, whose other keys are the engine's. The entry has
    /// its place.
    pub(crate) fn take_from(raw: &mut RawSettings) -> Result<Option<(Self, Entry)>, SettingsError> {
        let Some(at) = raw.entries.iter().position(|entry| entry.key == KEY) else {
            return Ok(None);
        };
        let entry = raw.entries.remove(at);
        let word = entry.value.as_str().ok_or_else(|| entry.error("is not a string"))?;
        match Self::parse(word) {
            Ok(runtime) => Ok(Some((runtime, entry))),
            Err(reason) => Err(entry.error(reason)),
        }
    }

    /// The error of runtime options that contradict this setting of the node's daemon.
    pub(crate) fn decides_over(&self, written: &Entry) -> SettingsError {
        written.error(format_args!(
            "{} cannot be had, this node's daemon, whose own configuration decides, has {:?}",
            written.value, self.0
        ))
    }

    /// The program's file. Blocks.
    pub(crate) fn find(&self) -> Result<PathBuf, NativeError> {
        self.find_in(&search_path())
    }

    fn find_in(&self, directories: &OsStr) -> Result<PathBuf, NativeError> {
        let missing =
            |place: &str| NativeError::Missing { program: self.0.clone(), place: place.to_owned() };
        match self.0.as_str() {
            OFF => Err(NativeError::Off),
            path if path.starts_with('/') => {
                let path = PathBuf::from(path);
                if is_program(&path) { Ok(path) } else { Err(missing("an executable file")) }
            }
            name => env::split_paths(directories)
                .map(|directory| directory.join(name))
                .find(|path| path.is_absolute() && is_program(path))
                .ok_or_else(|| missing("in a directory of PATH")),
        }
    }
}

/// `PATH` with the usual directories after its own, for the program and for the runc that it
/// starts.
// The PATH of a daemon or of containerd may lack `sbin`, where runc is.
pub(super) fn search_path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&own).chain(USUAL.iter().map(PathBuf::from));
    // An error: a directory with a colon, which no PATH can have.
    env::join_paths(all).unwrap_or(own)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_value_is_a_path_a_name_or_off() {
        for word in ["off", "containerd-shim-runc-v2", "/usr/bin/containerd-shim-runc-v2"] {
            assert_eq!(NativeRuntime::parse(word), Ok(NativeRuntime(word.to_owned())));
        }
        assert_eq!(NativeRuntime::parse("//a//b/"), Ok(NativeRuntime("/a/b".to_owned())));
        for word in ["", ".", "..", "bin/x", "/a/../b", "a\0b"] {
            assert!(NativeRuntime::parse(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn the_option_is_taken_from_those_of_the_engine() {
        let parse = |text: &str| RawSettings::parse("f", text.as_bytes(), |_| true).unwrap();
        let mut raw = parse("slots = 1\nnative-runtime = 'off'\n");
        let (runtime, entry) = NativeRuntime::take_from(&mut raw).unwrap().unwrap();
        assert_eq!(runtime, NativeRuntime::off());
        let refusal = NativeRuntime::default().decides_over(&entry).to_string();
        let place = "f:2: native-runtime: \"off\" cannot be had, this node's daemon, ";
        assert!(refusal.starts_with(place) && refusal.ends_with("has \"containerd-shim-runc-v2\""));
        assert_eq!(raw, parse("slots = 1\n"));
        assert_eq!(NativeRuntime::take_from(&mut raw), Ok(None));
        for (text, reason) in
            [("native-runtime = 1", "a string"), ("native-runtime = 'a/b'", "absolute")]
        {
            let error = NativeRuntime::take_from(&mut parse(text)).unwrap_err().to_string();
            assert!(
                error.starts_with("f:1: native-runtime: ") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn a_program_is_an_executable_file_of_path() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("shim");
        let find = |runtime: &NativeRuntime| runtime.find_in(directory.path().as_os_str());
        let named = NativeRuntime::parse("shim").unwrap();
        let error = |runtime: &NativeRuntime| find(runtime).unwrap_err().to_string();
        assert!(error(&named).contains("need shim, which is not in a directory of PATH: install"));
        fs::write(&program, "").unwrap();
        let by_path = NativeRuntime::parse(program.to_str().unwrap()).unwrap();
        assert!(error(&by_path).contains("not an executable file"), "{}", error(&by_path));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for runtime in [named, by_path] {
            assert_eq!(find(&runtime).unwrap(), program);
        }
        assert!(error(&NativeRuntime::off()).contains("native-runtime = \"off\""));
    }
}
