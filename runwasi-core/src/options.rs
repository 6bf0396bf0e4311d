//! containerd's runtime options: settings for the engine that stand in containerd's configuration, or in a file it names.
//! Decoded by `service`, read when a container is created.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::settings::{RawSettings, SettingsError};

/// The largest text that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What options are called that have no file.
const NO_FILE: &str = "runtime options";

/// Keys of containerd's own that it writes among those of a runtime.
const CONTAINERDS: [&str; 2] = ["TypeUrl", "ConfigPath"];

/// Where the options are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuntimeOptions {
    /// There are none.
    #[default]
    None,
    /// In a file: `config_path`, or `ctr run --runtime-config-path`.
    File(PathBuf),
    /// In the message: what stands below `options` in containerd's configuration.
    Text(String),
}

/// Why options cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file cannot be read, or is none.
    #[error("runtime options: {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error(transparent)]
    Syntax(#[from] SettingsError),
}

impl RuntimeOptions {
    /// Reads them. Blocks.
    pub(crate) fn read(&self) -> Result<RawSettings, OptionsError> {
        let mut written = match self {
            Self::None => return Ok(RawSettings::default()),
            Self::Text(text) => RawSettings::parse(NO_FILE, text)?,
            Self::File(path) => {
                let text = text(path)
                    .map_err(|source| OptionsError::Read { path: path.clone(), source })?;
                RawSettings::parse(&path.display().to_string(), &text)?
            }
        };
        written.retain(|key| !CONTAINERDS.contains(&key));
        Ok(written)
    }
}

/// Without waiting for the writer of a FIFO, and to an end.
fn text(path: &Path) -> io::Result<String> {
    let refused = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason);
    if !path.is_absolute() {
        return Err(refused("not an absolute path"));
    }
    let file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(refused("not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES { Err(refused("larger than 1 MiB")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_named_in_its_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("options.toml");
        let refusal =
            |path: &Path| RuntimeOptions::File(path.to_owned()).read().unwrap_err().to_string();
        assert!(refusal(&path).ends_with("options.toml: No such file or directory (os error 2)"));
        assert!(refusal(directory.path()).ends_with(": not a regular file"));
        assert!(refusal(Path::new("x.toml")).ends_with("x.toml: not an absolute path"));
        fs::write(&path, "\nslots =").unwrap();
        assert!(refusal(&path).contains("options.toml:2: "));
        fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(refusal(&path).ends_with("larger than 1 MiB"));
    }

    #[test]
    fn what_containerd_adds_is_no_setting() {
        let text = "TypeUrl = 'runtimeoptions.v1.Options'\nConfigPath = ''\n[engine]\ngc = false\n";
        let written = RuntimeOptions::Text(text.into()).read().unwrap();
        let keys: Vec<_> = written.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["engine.gc"]);
        assert!(RuntimeOptions::None.read().unwrap().is_empty());
    }
}
