//! Containers with a cache directory of their own for compiled code, and modules that are run from it.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::command::Command;
use crate::containerd::Containerd;
use crate::containers::Containers;
use crate::daemon::Settings;
use crate::runtime::Runtime;

/// What in the cache is no code: what files held when they were read.
pub const SEEN: &str = "seen";

/// Containers whose compiled code is kept in a directory that nobody else uses.
pub struct CodeFixture {
    containers: Containers,
    /// Where code is kept.
    pub cache: PathBuf,
    /// A file with runtime options for every run.
    options: Option<PathBuf>,
    _mount: Option<Mount>,
    _dir: TempDir,
}

impl Deref for CodeFixture {
    type Target = Containers;

    fn deref(&self) -> &Containers {
        &self.containers
    }
}

impl DerefMut for CodeFixture {
    fn deref_mut(&mut self) -> &mut Containers {
        &mut self.containers
    }
}

/// Runs one case. An error becomes a panic with the log.
#[track_caller]
pub fn run_code_case(
    fixture: Result<CodeFixture>,
    case: impl FnOnce(&mut CodeFixture) -> Result<()>,
) {
    let mut fixture = match fixture {
        Ok(fixture) => fixture,
        Err(error) => panic!("no fixture: {error:?}"),
    };
    let runtime = fixture.runtime;
    if let Err(error) = case(&mut fixture) {
        panic!("{runtime:?}: {error:?}\n--- log\n{}", fixture.log());
    }
}

impl CodeFixture {
    /// With `settings` in the daemon's file, or in the runtime options of every container.
    pub fn new(runtime: Runtime, cache: &str, settings: &str, mount: Option<&str>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let cache = dir.path().join(cache);
        fs::write(dir.path().join("file"), "")?;
        let mount = mount.map(|options| Mount::tmpfs(&cache, options)).transpose()?;
        let options = dir.path().join("options.toml");
        fs::write(&options, settings)?;
        let fixture = Containerd::builder().env("RUNWASI_CACHE", &cache);
        let place = cache.to_string_lossy();
        let fixture = match runtime.needs_daemon() {
            true => {
                fixture.daemon(Settings::default().flags(["--cache-dir", &*place]).config(settings))
            }
            false => fixture,
        };
        let options = (!runtime.needs_daemon() && !settings.is_empty()).then_some(options);
        let containers = Containers::start_with(runtime, fixture)?;
        Ok(Self { containers, cache, options, _mount: mount, _dir: dir })
    }

    /// Writes a module that containers of this fixture can run as `/NAME`.
    pub fn module(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let rootfs = self.fixture.dir().join("rootfs");
        fs::create_dir_all(&rootfs)?;
        fs::write(rootfs.join(name), content).with_context(|| format!("cannot write {name}"))
    }

    /// `ctr run --rm FLAGS --rootfs DIR ID /NAME`.
    pub fn start(&self, flags: &[&str], id: &str, name: &str) -> Command {
        let rootfs = self.fixture.dir().join("rootfs");
        let (rootfs, entrypoint) = (rootfs.to_string_lossy().into_owned(), format!("/{name}"));
        let mut line = vec!["run", "--runtime", self.runtime.name()];
        let options = self.options.as_deref().map(|file| file.to_string_lossy().into_owned());
        if let Some(options) = &options {
            line.extend(["--runtime-config-path", options]);
        }
        line.extend(flags);
        line.extend(["--rootfs", &rootfs, id, &entrypoint]);
        self.fixture.ctr_command(line)
    }

    /// Runs a module that prints `ok`.
    pub fn runs(&self, name: &str) -> Result<()> {
        let out = self.start(&["--rm"], &self.id("run"), name).run()?.ok()?;
        ensure!(out.out() == "ok\n", "{out}");
        Ok(())
    }

    /// What `ctr` says when it refuses to run a module, with nothing left of it.
    pub fn refusal(&self, name: &str) -> Result<String> {
        self.refusal_with(&[], name)
    }

    /// The same with more flags.
    pub fn refusal_with(&self, flags: &[&str], name: &str) -> Result<String> {
        let said =
            self.start(&[&["--rm"], flags].concat(), &self.id("bad"), name).run()?.refused()?;
        self.fixture.becomes_clean()?;
        Ok(said)
    }

    /// A file with these runtime options.
    pub fn options(&self, text: &str) -> Result<String> {
        let file = self.fixture.dir().join("options.toml");
        fs::write(&file, text)?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// How often a module was compiled.
    pub fn compilations(&mut self, name: &str) -> usize {
        let line = format!("msg=compiling path=/{name} ");
        self.log().lines().filter(|logged| logged.contains(&line)).count()
    }

    /// Has nothing in memory any more: shims are new for every container, the daemon is one that has just been started.
    pub fn restart_everything(&mut self) -> Result<()> {
        if let Ok(daemon) = self.fixture.daemon() {
            ensure!(daemon.terminate()? == 0, "the daemon left with an error");
            daemon.start_again()?;
        }
        Ok(())
    }

    /// The names of the files with code in the cache.
    pub fn kept(&self) -> Vec<String> {
        names(&self.cache).into_iter().filter(|name| name != SEEN).collect()
    }

    /// Whether somebody is making code now, or has left a half of it.
    pub fn is_making(&self) -> bool {
        self.kept().iter().any(|name| name.ends_with(".tmp"))
    }
}

/// The names of the files in a directory.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A file system of the test's own.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, options: &str) -> Result<Self> {
        fs::create_dir_all(at)?;
        let place = at.to_string_lossy().into_owned();
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", &place]).run()?.ok()?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .args([&*self.0.to_string_lossy()])
            .run()
            .and_then(|out| out.ok());
        if let Err(error) = unmounted {
            eprintln!("{} stays mounted: {error:?}", self.0.display());
        }
    }
}
