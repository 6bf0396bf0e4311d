//! A fixture with a cache directory of its own, and modules that are run from it. Each suite of `main.rs` names the check that makes its
//! kind of fixture.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Command, Containerd, Containers, Runtime};
use tempfile::TempDir;

/// All proposals that can be switched off, switched off.
const ALL_OFF: &str = "[engine]\ngc = false\nexceptions = false\nthreads = false\nmemory64 = false\nsimd = false\n\
    tail-calls = false\n";

/// What in the cache is no code: what files held when they were read.
pub(crate) const SEEN: &str = "seen";

/// Containers whose compiled code is kept in a directory that nobody else uses.
pub(crate) struct Fixture {
    containers: Containers,
    /// Where code is kept.
    pub(crate) cache: PathBuf,
    /// A file with runtime options for every run.
    options: Option<PathBuf>,
    _mount: Option<Mount>,
    _dir: TempDir,
}

impl Deref for Fixture {
    type Target = Containers;

    fn deref(&self) -> &Containers {
        &self.containers
    }
}

impl DerefMut for Fixture {
    fn deref_mut(&mut self) -> &mut Containers {
        &mut self.containers
    }
}

#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "", None), case);
}

/// On a file system with next to no room.
#[track_caller]
pub(crate) fn check_full(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "", Some("size=16k,mode=0700")), case);
}

/// At a place where no directory can be.
#[track_caller]
pub(crate) fn check_unwritable(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "file/code", "", None), case);
}

#[track_caller]
pub(crate) fn check_all_off(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", ALL_OFF, None), case);
}

#[track_caller]
pub(crate) fn check_inlined(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "[engine]\noptimise = 'speed-at-any-size'\n", None), case);
}

#[track_caller]
pub(crate) fn check_one_slot(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "slots = 1\n", None), case);
}

#[track_caller]
fn run(fixture: Result<Fixture>, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    let mut fixture = match fixture {
        Ok(fixture) => fixture,
        Err(error) => panic!("no fixture: {error:?}"),
    };
    let runtime = fixture.runtime;
    if let Err(error) = case(&mut fixture) {
        panic!("{runtime:?}: {error:?}\n--- log\n{}", fixture.log());
    }
}

impl Fixture {
    /// With `settings` in the daemon's file, or in the runtime options of every container.
    fn new(runtime: Runtime, cache: &str, settings: &str, mount: Option<&str>) -> Result<Self> {
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
    pub(crate) fn module(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let rootfs = self.fixture.dir().join("rootfs");
        fs::create_dir_all(&rootfs)?;
        fs::write(rootfs.join(name), content).with_context(|| format!("cannot write {name}"))
    }

    /// `ctr run --rm FLAGS --rootfs DIR ID /NAME`.
    pub(crate) fn start(&self, flags: &[&str], id: &str, name: &str) -> Command {
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
    pub(crate) fn runs(&self, name: &str) -> Result<()> {
        let out = self.start(&["--rm"], &self.id("run"), name).run()?.ok()?;
        ensure!(out.out() == "ok\n", "{out}");
        Ok(())
    }

    /// What `ctr` says when it refuses to run a module, with nothing left of it.
    pub(crate) fn refusal(&self, name: &str) -> Result<String> {
        self.refusal_with(&[], name)
    }

    /// The same with more flags.
    pub(crate) fn refusal_with(&self, flags: &[&str], name: &str) -> Result<String> {
        let said =
            self.start(&[&["--rm"], flags].concat(), &self.id("bad"), name).run()?.refused()?;
        self.fixture.becomes_clean()?;
        Ok(said)
    }

    /// A file with these runtime options.
    pub(crate) fn options(&self, text: &str) -> Result<String> {
        let file = self.fixture.dir().join("options.toml");
        fs::write(&file, text)?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// What shims and daemon have logged.
    pub(crate) fn log(&mut self) -> String {
        let shims = self.fixture.log();
        let daemon = self.fixture.daemon().map(|daemon| daemon.log()).unwrap_or_default();
        shims + &daemon
    }

    /// How often a module was compiled.
    pub(crate) fn compilations(&mut self, name: &str) -> usize {
        let line = format!(" compiling path=/{name} ");
        self.log().lines().filter(|logged| logged.contains(&line)).count()
    }

    /// Has nothing in memory any more: shims are new for every container, the daemon is one that has just been started.
    pub(crate) fn restart_everything(&mut self) -> Result<()> {
        if let Ok(daemon) = self.fixture.daemon() {
            ensure!(daemon.terminate()? == 0, "the daemon left with an error");
            daemon.start_again()?;
        }
        Ok(())
    }

    /// The names of the files with code in the cache.
    pub(crate) fn kept(&self) -> Vec<String> {
        names(&self.cache).into_iter().filter(|name| name != SEEN).collect()
    }

    /// Whether somebody is making code now, or has left a half of it.
    pub(crate) fn is_making(&self) -> bool {
        self.kept().iter().any(|name| name.ends_with(".tmp"))
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
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
