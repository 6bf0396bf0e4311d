//! containerd's runtime options: settings of the engine in containerd's configuration, or in a file
//! that it names.

use std::path::{Path, PathBuf};

use crate::{
    regular_file::{ReadError, read_regular},
    settings::{RawSettings, SettingsError},
};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Keys of its own that containerd writes among those of a runtime.
const CONTAINERD_KEYS: [&str; 2] = ["TypeUrl", "ConfigPath"];

/// Where the options are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RuntimeOptions {
    /// No options.
    #[default]
    None,
    /// In a file: `config_path`, or `ctr run --runtime-config-path`.
    File(PathBuf),
    /// In the message: what stands below `options` in containerd's configuration.
    Text(String),
}

impl RuntimeOptions {
    /// Reads them. Blocks.
    pub(crate) fn read(&self) -> Result<RawSettings, SettingsError> {
        let mut raw = match self {
            Self::None => return Ok(RawSettings::default()),
            Self::Text(text) => RawSettings::parse("runtime options", text.as_bytes(), |_| true)?,
            Self::File(path) => {
                let source = path.display().to_string();
                let bytes = bytes(path).map_err(|reason| {
                    SettingsError::new(format!("runtime options: {source}"), reason)
                })?;
                RawSettings::parse(&source, &bytes, |_| true)?
            }
        };
        raw.entries.retain(|entry| !CONTAINERD_KEYS.contains(&entry.key.as_str()));
        Ok(raw)
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    if !path.is_absolute() {
        return Err("not an absolute path".to_owned());
    }
    read_regular(path, MAX_BYTES).map_err(|error| match error {
        ReadError::Io(error) => error.to_string(),
        ReadError::NotRegular => "not a regular file".to_owned(),
        ReadError::TooLarge { .. } => "larger than 1 MiB".to_owned(),
    })
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
    fn containerds_own_keys_are_no_settings() {
        let text = "TypeUrl = 'runtimeoptions.v1.Options'\nConfigPath = ''\n[engine]\ngc = false\n";
        let raw = RuntimeOptions::Text(text.into()).read().unwrap();
        let keys: Vec<_> = raw.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["engine.gc"]);
    }
}
