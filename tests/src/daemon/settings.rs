//! What is unusual about a test's daemon; given by tests to a fixture or shim driver, read by [`Daemon`](super::Daemon).

use std::ffi::OsString;
use std::path::PathBuf;

use crate::restrictions::Restrictions;
use crate::runtime::{self, Runtime};

/// How a daemon is to be started, besides what all of them get.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub(crate) flags: Vec<String>,
    pub(crate) config: String,
    pub(crate) before: String,
    pub(crate) env: Vec<(String, OsString)>,
    pub(crate) stderr: Option<PathBuf>,
    pub(crate) restrictions: Restrictions,
    /// The directory of another build.
    pub(crate) programs: Option<PathBuf>,
    /// Another program, with another engine.
    pub(crate) program: Option<PathBuf>,
}

impl Settings {
    /// More flags.
    pub fn flags<S: AsRef<str>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// Lines for its configuration file, which is empty otherwise.
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// A command of the shell that becomes the daemon, like `ulimit -n 64`.
    pub fn before(mut self, command: &str) -> Self {
        self.before.push_str(command);
        self.before.push('\n');
        self
    }

    /// The programs of another build, in this directory: the daemon's, and a shim driver's shim.
    pub fn programs(mut self, directory: impl Into<PathBuf>) -> Self {
        self.programs = Some(directory.into());
        self
    }

    /// Those of a daemon with the engine of this runtime.
    pub fn of(runtime: Runtime) -> Self {
        let program = (runtime == Runtime::Wasmid).then(runtime::interpreter_daemon_file);
        Self { program, ..Self::default() }
    }

    /// The daemon's program.
    pub(crate) fn program(&self) -> PathBuf {
        let ours = self.program.clone().unwrap_or_else(runtime::daemon_file);
        match (&self.programs, ours.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            _ => ours,
        }
    }

    /// Restricts it as its service manager would.
    pub fn restricted(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = restrictions;
        self
    }

    /// Another file than that of [`Daemon::log`](super::Daemon::log) for its stderr, such as a FIFO.
    pub fn stderr(mut self, path: impl Into<PathBuf>) -> Self {
        self.stderr = Some(path.into());
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }
}
