//! The TOML file. A file is bytes of anybody until it is read: opening never waits, and reading ends after 1 MiB. An
//! error names file, line and key.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use runwasi_core::settings::{RawSettings, kind, line_of};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::ConfigError,
    keys::{ENGINE, Key, MAX_BYTES},
    layer::Layer,
};

/// A file and who named it.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) path: &'a OsStr,
    pub(super) by: &'static str,
}

/// What the file says, which must be there.
pub(super) fn load(file: Named<'_>) -> Result<Layer, ConfigError> {
    Text::read(file)?.layer()
}

/// What the file says; nothing, if it is not there.
pub(super) fn load_if_there(file: Named<'_>) -> Result<Layer, ConfigError> {
    match load(file) {
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Layer::default())
        }
        result => result,
    }
}

/// A file that was read.
struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    fn read(file: Named<'_>) -> Result<Self, ConfigError> {
        if file.path.is_empty() {
            return Err(ConfigError::Value { origin: file.by, reason: "is empty".to_owned() });
        }
        let path = PathBuf::from(file.path);
        let failed = |source| ConfigError::Read { path: path.clone(), named_by: file.by, source };
        let opened = open(&path).map_err(failed)?;
        if !opened.metadata().map_err(failed)?.is_file() {
            return Err(ConfigError::NotRegular { path, named_by: file.by });
        }
        let mut bytes = Vec::new();
        // The limit holds for what is read, not for what `stat` said: the file may grow, and in /proc all sizes are 0.
        opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ConfigError::TooLarge { path });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => {
                let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
                Err(ConfigError::Syntax { path, line, reason: "is not UTF-8".to_owned() })
            }
        }
    }

    fn layer(&self) -> Result<Layer, ConfigError> {
        let table = DeTable::parse(&self.text).map_err(|error| self.syntax(&error))?.into_inner();
        let mut entries: Vec<_> = table.into_iter().collect();
        // In the order of the lines: who corrects one error after another goes down the file.
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut layer = Layer::default();
        for (name, value) in &entries {
            if let (ENGINE, DeValue::Table(table)) = (name.get_ref().as_ref(), value.get_ref()) {
                let source = self.path.display().to_string();
                layer.engine = Some(RawSettings::of_table(&source, &self.text, ENGINE, table));
                continue;
            }
            let Some(key) = Key::ALL.into_iter().find(|key| key.name() == name.get_ref()) else {
                return Err(self.unknown(name.get_ref(), name.span()));
            };
            let entry = Entry { text: self, key };
            entry.set(&mut layer, value.get_ref(), name.span())?;
        }
        Ok(layer)
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = self.line(error.span().unwrap_or(self.text.len()..self.text.len()));
        ConfigError::Syntax { path: self.path.clone(), line, reason: error.message().to_owned() }
    }

    fn unknown(&self, key: &str, span: Range<usize>) -> ConfigError {
        ConfigError::UnknownKey {
            path: self.path.clone(),
            line: self.line(span),
            key: key.to_owned(),
        }
    }

    fn line(&self, span: Range<usize>) -> usize {
        line_of(self.text.as_bytes(), span.start)
    }
}

/// One key of a file.
struct Entry<'a> {
    text: &'a Text,
    key: Key,
}

impl Entry<'_> {
    /// Puts the value into the layer. `span` is where the key stands: an error is there, or at the element of the array.
    fn set(
        &self,
        layer: &mut Layer,
        value: &DeValue<'_>,
        span: Range<usize>,
    ) -> Result<(), ConfigError> {
        let set = match (self.key, value) {
            (Key::BundleRoots, DeValue::Array(roots)) if roots.is_empty() => {
                Err("is empty; at least one directory is needed".to_owned())
            }
            (Key::BundleRoots, DeValue::Array(roots)) => {
                return roots.iter().try_for_each(|root| self.add(layer, root));
            }
            (Key::BundleRoots, other) => Err(mismatch(other, "an array of strings")),
            (Key::Grace | Key::Slots | Key::CacheSize, DeValue::Integer(integer)) => {
                // Digits may be hexadecimal; beyond 128 bits they are out of every range as they stand.
                let decimal = i128::from_str_radix(integer.as_str(), integer.radix());
                let digits =
                    decimal.map_or_else(|_| integer.to_string(), |number| number.to_string());
                layer.set(self.key, &digits)
            }
            (Key::Grace | Key::Slots | Key::CacheSize, other) => Err(mismatch(other, "an integer")),
            (Key::Socket | Key::Cache | Key::LogLevel, DeValue::String(text)) => {
                layer.set(self.key, text)
            }
            (Key::Socket | Key::Cache | Key::LogLevel, other) => Err(mismatch(other, "a string")),
        };
        set.map_err(|reason| self.wrong(span, reason))
    }

    /// Adds one element of the array.
    fn add(&self, layer: &mut Layer, element: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let added = match element.get_ref() {
            DeValue::String(text) => layer.set(self.key, text),
            other => Err(format!("an element {}", mismatch(other, "a string"))),
        };
        added.map_err(|reason| self.wrong(element.span(), reason))
    }

    fn wrong(&self, span: Range<usize>, reason: String) -> ConfigError {
        let path = self.text.path.clone();
        ConfigError::Entry { path, line: self.text.line(span), key: self.key.name(), reason }
    }
}

fn mismatch(value: &DeValue<'_>, wanted: &str) -> String {
    format!("is {}, not {wanted}", kind(value))
}

/// Without blocking: the open of a FIFO would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc, thread, time::Duration};

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    fn load_path(path: &Path) -> Result<Layer, String> {
        let loaded = load(Named { path: path.as_os_str(), by: "--config" })
            .map_err(|error| error.to_string());
        loaded.map_err(|error| error.replace(&path.display().to_string(), "FILE"))
    }

    fn load_bytes(bytes: &[u8]) -> Result<Layer, String> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, bytes).unwrap();
        load_path(&path)
    }

    fn refusal(text: &str) -> String {
        load_bytes(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn every_key_is_read() {
        let text = b"socket = '/s/m.sock'\nbundle-roots = [\n  '/a',\n  '/b', # two\n]\ngrace = 0x10\nslots = 1_000\n\
            cache = 'off'\ncache-size = 20\nlog-level = \"debug\"\n[engine]\ngc = false\n";
        let layer = load_bytes(text).unwrap();
        assert_eq!(layer.socket, Some("/s/m.sock".into()));
        assert_eq!(layer.bundle_roots, Some(vec!["/a".into(), "/b".into()]));
        assert_eq!(layer.grace, Some(Duration::from_secs(16)));
        assert_eq!(layer.slots, Some(1000));
        assert_eq!(layer.cache, Some(None));
        assert_eq!(layer.cache_size, Some(20));
        let engine = layer.engine.unwrap();
        assert_eq!(
            engine.entries().iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(),
            ["engine.gc"]
        );
        assert_eq!(layer.log_level, Some(tracing::level_filters::LevelFilter::DEBUG));
    }

    #[test]
    fn an_empty_file_says_nothing() {
        for text in ["", "# nothing\n", "\u{feff}\r\n"] {
            assert_eq!(load_bytes(text.as_bytes()), Ok(Layer::default()));
        }
    }

    #[test]
    fn wrong_values_name_line_and_key() {
        for (text, error) in [
            ("\n\ngrace = 99999\n", "FILE:3: grace: 99999 is not between 0 and 3600 (seconds)"),
            ("grace = -1", "FILE:1: grace: -1 is not between 0 and 3600 (seconds)"),
            ("slots = 0", "FILE:1: slots: 0 is not between 1 and 100000"),
            ("# é\r\nsocket = 'x'\r\n", "FILE:2: socket: \"x\" is not an absolute path"),
            ("cache = \"/a\\u0000\"", "FILE:1: cache: \"/a\\0\" contains a NUL byte, nor \"off\""),
            (
                "\nlog-level = 'loud'",
                "FILE:2: log-level: \"loud\" is none of error, warn, info, debug, trace",
            ),
            (
                "bundle-roots = []",
                "FILE:1: bundle-roots: is empty; at least one directory is needed",
            ),
            (
                "bundle-roots = [\n'/a',\n'b']",
                "FILE:3: bundle-roots: \"b\" is not an absolute path",
            ),
        ] {
            assert_eq!(refusal(text), error);
        }
        let huge = refusal(&format!("slots = 1{}", "0".repeat(60)));
        assert!(
            huge.starts_with("FILE:1: slots: ") && huge.ends_with("between 1 and 100000"),
            "{huge}"
        );
    }

    #[test]
    fn wrong_types_name_line_and_key() {
        for (text, error) in [
            ("\ngrace = '30'", "FILE:2: grace: is a string, not an integer"),
            ("grace = 1.5", "FILE:1: grace: is a float, not an integer"),
            ("slots = true", "FILE:1: slots: is a boolean, not an integer"),
            ("cache = false", "FILE:1: cache: is a boolean, not a string"),
            ("log-level = 1979-05-27", "FILE:1: log-level: is a date or time, not a string"),
            ("bundle-roots = '/run'", "FILE:1: bundle-roots: is a string, not an array of strings"),
            (
                "bundle-roots = [\n'/run',\n3\n]",
                "FILE:3: bundle-roots: an element is an integer, not a string",
            ),
            ("grace = 1\n\n[socket]\npath = '/x'", "FILE:3: socket: is a table, not a string"),
            ("grace = 1\nsocket.path = '/x'", "FILE:2: socket: is a table, not a string"),
            ("\n[[socket]]", "FILE:2: socket: is an array, not a string"),
        ] {
            assert_eq!(refusal(text), error);
        }
    }

    #[test]
    fn unknown_keys_name_line_and_what_there_is() {
        let known = "expected one of socket, bundle-roots, grace, slots, cache, cache-size, log-level, and the \
            table engine";
        for (text, start) in [
            ("grace = 1\n\n\n\ngracee = 5", "FILE:5: unknown key \"gracee\", "),
            ("bundle_roots = ['/run']", "FILE:1: unknown key \"bundle_roots\", "),
            ("\n[daemon]\ngrace = 1", "FILE:2: unknown key \"daemon\", "),
            ("\"\\u001b[2J\" = 1", "FILE:1: unknown key \"\\u{1b}[2J\", "),
            ("ready-fd = 3", "FILE:1: unknown key \"ready-fd\", "),
            ("engine = true", "FILE:1: unknown key \"engine\", "),
        ] {
            assert_eq!(refusal(text), format!("{start}{known}"));
        }
    }

    #[test]
    fn the_first_wrong_line_is_reported() {
        assert!(refusal("slots = 0\ngrace = -1").starts_with("FILE:1: slots:"));
        assert!(refusal("grace = -1\nslots = 0").starts_with("FILE:1: grace:"));
        assert!(refusal("zebra = 0\ngrace = -1").starts_with("FILE:1: unknown key"));
    }

    #[test]
    fn what_is_no_toml_names_the_line() {
        for (text, line) in [
            ("grace = 1\ngrace = 2\n", 2),
            ("grace = 1\nslots =\n", 2),
            ("\n\ngrace: 30", 3),
            ("cache = '/x", 1),
            ("bundle-roots = [\n'/run'\n", 2),
            ("\n[x", 2),
        ] {
            let error = refusal(text);
            assert!(error.starts_with(&format!("FILE:{line}: ")), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let deep = refusal(&format!("cache = {}", "[".repeat(100_000)));
        assert!(deep.starts_with("FILE:1: "), "{deep}");
        let dotted = refusal(&format!("cache{} = 1", ".x".repeat(500_000)));
        assert!(dotted.starts_with("FILE:1: "), "{dotted}");
    }

    #[test]
    fn bytes_that_are_no_text_name_the_line() {
        assert_eq!(
            load_bytes(b"grace = 1\ncache = '/\xff'"),
            Err("FILE:2: is not UTF-8".to_owned())
        );
    }

    #[test]
    fn a_file_has_at_most_1_mib() {
        let mut bytes = vec![b'#'; 1 << 20];
        assert_eq!(load_bytes(&bytes), Ok(Layer::default()));
        bytes.push(b'#');
        assert_eq!(load_bytes(&bytes), Err("FILE: larger than 1048576 bytes".to_owned()));
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = TempDir::new().unwrap();
        let refused = Err("FILE: not a regular file (named by --config)".to_owned());
        assert_eq!(load_path(directory.path()), refused);
        assert_eq!(load_path(Path::new("/dev/zero")), refused);
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_its_writer() {
        let directory = TempDir::new().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (done, result) = mpsc::channel();
        // In a thread of its own: an open that waits must become a failure and no test that never ends.
        let reader = thread::spawn(move || drop(done.send(load_path(&fifo))));
        let error =
            result.recv_timeout(Duration::from_secs(10)).expect("the open waits").unwrap_err();
        assert_eq!(error, "FILE: not a regular file (named by --config)");
        reader.join().unwrap();
    }

    #[test]
    fn a_missing_file_is_an_error_if_it_was_named() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("absent.toml");
        let error = load_path(&path).unwrap_err();
        assert_eq!(error, "FILE: No such file or directory (os error 2) (named by --config)");
        let file = Named { path: path.as_os_str(), by: "default" };
        assert_eq!(load_if_there(file).unwrap(), Layer::default());
        fs::write(&path, "grace = 'x'").unwrap();
        assert!(load_if_there(file).is_err());
    }
}
