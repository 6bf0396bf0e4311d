//! The installer on directories that look like the root of a node, with programs of the host that
//! are only written down.
//!
//! - [`configurations`]: which file of containerd's configuration is changed, and how.
//! - [`files`]: programs, units, links, owners.
//! - [`killed`]: runs that end between two steps.
//! - [`refused`]: what is not touched, with file and line.
//! - [`services`]: what is restarted, and when.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::Error;
use crate::host::{Answer, Host, HostError};
use crate::install::install_in;
use crate::options::Options;
use crate::root::Root;
use crate::uninstall::uninstall_in;

mod configurations;
mod files;
mod killed;
mod refused;
mod services;

/// containerd's usual configuration.
const CONFIG: &str = "/etc/containerd/config.toml";
/// One of version 3, with comments and without a newline at its end.
const VERSION_3: &str = "# Of the administrator.\nversion = 3\n\n[grpc]\n  uid = 0 # root";

/// The date at which a test begins, after 1970.
const DATE: Duration = Duration::from_secs(1_800_000_000);

/// A node: its root, what there is to install, and what its programs were asked.
struct Node {
    directory: TempDir,
    options: Options,
    host: Programs,
}

/// Everything below a directory: content, or target of a link, and mode.
type Tree = BTreeMap<String, (Vec<u8>, u32)>;

impl Node {
    /// One with these files.
    fn new(files: &[(&str, &str)]) -> Self {
        Self::of(tempfile::tempdir().unwrap(), files)
    }

    /// The same in memory, for tests that write thousands of files.
    fn in_memory(files: &[(&str, &str)]) -> Self {
        Self::of(tempfile::tempdir_in("/dev/shm").unwrap(), files)
    }

    fn of(directory: TempDir, files: &[(&str, &str)]) -> Self {
        let (root, assets) = (directory.path().join("root"), directory.path().join("assets"));
        for path in [&root.join("etc"), &root.join("usr/local/bin"), &root.join("var/lib"), &assets]
        {
            fs::create_dir_all(path).unwrap();
        }
        let options = Options { root, assets, ..Options::default() };
        let unit = options.root.join("etc/systemd/system/containerd-wasmtimed.service");
        let host = Programs { unit, ..Programs::default() };
        let node = Self { directory, options, host };
        node.assets("1");
        files.iter().for_each(|(path, text)| node.write(path, text));
        node
    }

    /// Files of a version to install.
    fn assets(&self, version: &str) {
        for name in
            ["containerd-shim-wasmtime-v1", "containerd-shim-wasmtimed-v1", "containerd-wasmtimed"]
        {
            fs::write(self.options.assets.join(name), format!("{name} {version}")).unwrap();
        }
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        for name in [
            "containerd-wasmtimed.service",
            "containerd-wasmtimed.socket",
            "60-containerd-wasmtimed.conf",
        ] {
            fs::copy(packaging.join(name), self.options.assets.join(name)).unwrap();
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.options.root.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A process of the host by this name and with these words.
    fn run(&self, process: u32, words: &[&str]) {
        let name = words[0].rsplit('/').next().unwrap();
        self.write(&format!("/proc/{process}/comm"), &format!("{name}\n"));
        let line: String = words.iter().map(|word| format!("{word}\0")).collect();
        self.write(&format!("/proc/{process}/cmdline"), &line);
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    fn root(&self) -> Root {
        Root::open(&self.options.root).unwrap()
    }

    fn install(&self) -> Vec<String> {
        self.try_install().unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_install(&self) -> Result<Vec<String>, Error> {
        install_in(&self.root(), &self.options, &self.host)
    }

    fn uninstall(&self) -> Vec<String> {
        self.try_uninstall().unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_uninstall(&self) -> Result<Vec<String>, Error> {
        uninstall_in(&self.root(), &self.options, &self.host)
    }

    /// An install that must fail and change nothing; its error.
    fn refuses(&self) -> String {
        let before = self.tree();
        let error = self.try_install().unwrap_err().to_string();
        let mut after = self.tree();
        after.remove("var/lib/runwasi-node-installer");
        same(&after, &before, &error);
        assert_eq!(self.host.taken(), [""; 0], "{error}");
        error
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut pending = vec![self.options.root.clone()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let status = fs::symlink_metadata(&path).unwrap();
                let content = if status.is_dir() {
                    pending.push(path.clone());
                    Vec::new()
                } else if status.is_symlink() {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                } else {
                    fs::read(&path).unwrap()
                };
                let name =
                    path.strip_prefix(&self.options.root).unwrap().to_string_lossy().into_owned();
                tree.insert(name, (content, status.permissions().mode()));
            }
        }
        tree
    }
}

/// Programs of a host that write down what they are asked.
#[derive(Default)]
struct Programs {
    asked: RefCell<Vec<String>>,
    /// Beginnings of command lines that fail, with what they say, and how often.
    failing: RefCell<Vec<(String, String, usize)>>,
    /// The time, which passes by pauses and by slow programs alone.
    begin: OnceCell<Instant>,
    passed: Cell<Duration>,
    /// The beginning of command lines that take so long.
    slow: Option<(&'static str, Duration)>,
    /// Programs that are not there.
    missing: Vec<&'static str>,
    /// The daemon's unit: without it `systemctl disable` fails.
    unit: PathBuf,
    /// The rows of containerd's CRI.
    plugins: RefCell<Option<String>>,
    /// A file that appears when containerd is restarted, and what it says.
    appearing: RefCell<Option<(PathBuf, String)>>,
}

impl Programs {
    /// What was asked since the last time, without questions about states.
    fn taken(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.borrow_mut());
        let questions = ["is-active", "plugins ls", " -v"];
        let question = |line: &String| questions.iter().any(|question| line.contains(question));
        asked.into_iter().filter(|line| !question(line)).collect()
    }

    fn fail(&self, beginning: &str, words: &str, times: usize) {
        self.failing.borrow_mut().push((beginning.to_owned(), words.to_owned(), times));
    }
}

impl Host for Programs {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, HostError> {
        let line = [&[program], arguments].concat().join(" ");
        self.asked.borrow_mut().push(line.clone());
        if let Some((_, time)) = self.slow.filter(|(begin, _)| line.starts_with(begin)) {
            self.pause(time);
        }
        if self.missing.contains(&program) {
            return Err(HostError::new(program, io::ErrorKind::NotFound.into()));
        }
        let mut failing = self.failing.borrow_mut();
        let failing =
            failing.iter_mut().find(|(begin, _, times)| line.starts_with(begin) && *times > 0);
        if let Some((_, words, times)) = failing {
            *times -= 1;
            return Ok(Answer { errors: words.clone(), ..Answer::default() });
        }
        if line.starts_with("systemctl disable") && !self.unit.exists() {
            return Ok(Answer { errors: "no such unit".to_owned(), ..Answer::default() });
        }
        let table =
            "TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 ok\n".to_owned();
        let table = self.plugins.borrow().clone().unwrap_or(table);
        let output = if line.ends_with("plugins ls") { table } else { String::new() };
        Ok(Answer { success: true, output, errors: String::new() })
    }

    fn run_within(
        &self,
        program: &str,
        arguments: &[&str],
        time: Duration,
    ) -> Result<Option<Answer>, HostError> {
        let begin = self.passed.get();
        let answer = self.run(program, arguments)?;
        if let Some((path, text)) = self.appearing.take() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        if self.passed.get() - begin > time {
            self.passed.set(begin + time);
            return Ok(None);
        }
        Ok(Some(answer))
    }

    fn pause(&self, time: Duration) {
        self.passed.set(self.passed.get() + time);
    }

    fn now(&self) -> Instant {
        *self.begin.get_or_init(Instant::now) + self.passed.get()
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + DATE + self.passed.get()
    }
}

/// What makes a root a node of k3s whose containerd has rendered this configuration.
fn rendered(text: &str) -> [(&'static str, String); 1] {
    [("/var/lib/rancher/k3s/agent/etc/containerd/config.toml", text.to_owned())]
}

/// The inode of a file: another one after a rename into its place.
fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Demands that two trees are the same; names what is not.
#[track_caller]
fn same(left: &Tree, right: &Tree, when: &str) {
    let paths = left.keys().chain(right.keys());
    let different: Vec<_> = paths.filter(|path| left.get(*path) != right.get(*path)).collect();
    assert!(different.is_empty(), "{when}: {different:?}");
}
