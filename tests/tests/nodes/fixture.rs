//! A fixture's containerd as the node of an installer: its services are the fixture's.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_installer::host::{Answer, Host, HostError};
use runwasi_installer::options::Options;
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Pods};

/// The products and the files that go with them.
pub(crate) const PROGRAMS: [&str; 3] =
    ["containerd-shim-wasmtime-v1", "containerd-shim-wasmtimed-v1", "containerd-wasmtimed"];
pub(crate) const FILES: [&str; 3] =
    ["containerd-wasmtimed.service", "containerd-wasmtimed.socket", "60-containerd-wasmtimed.conf"];

/// The root of the project.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A directory with what there is to install.
pub(crate) fn assets(directory: &Path) -> Result<PathBuf> {
    let assets = directory.join("assets");
    fs::create_dir(&assets)?;
    for name in PROGRAMS {
        symlink(target_dir().join("release").join(name).canonicalize()?, assets.join(name))?;
    }
    for name in FILES {
        symlink(project().join("packaging").join(name).canonicalize()?, assets.join(name))?;
    }
    Ok(assets)
}

/// As [`options`], with programs of a few bytes, for a case that starts none.
pub(crate) fn without_programs(directory: &Path) -> Result<Options> {
    let options = Options { restart: false, ..options(directory)? };
    for name in PROGRAMS {
        fs::remove_file(options.assets.join(name))?;
        fs::write(options.assets.join(name), name)?;
    }
    Ok(options)
}

/// Options by which everything lies in the fixture's directory, and containerd's configuration is the fixture's.
pub(crate) fn options(directory: &Path) -> Result<Options> {
    let at = |name: &str| -> Result<String> {
        Ok(directory.join(name).to_str().context("a path that is text")?.to_owned())
    };
    Ok(Options {
        root: PathBuf::from("/"),
        assets: assets(directory)?,
        bin_dir: Some(at("opt/bin")?),
        unit_dir: at("units")?,
        sysctl_dir: at("sysctl")?,
        record_dir: at("record")?,
        containerd_config: Some(at("config.toml")?),
        ..Options::default()
    })
}

/// The fixture as a host: containerd is really restarted and asked, new programs are started; the rest is written down.
pub(crate) struct Node<'a> {
    pub(crate) pods: RefCell<&'a mut Pods>,
    pub(crate) asked: RefCell<Vec<String>>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(pods: &'a mut Pods) -> Self {
        Self { pods: RefCell::new(pods), asked: RefCell::default() }
    }

    fn answer(&self, program: &str, arguments: &[&str]) -> Result<Answer> {
        let output = match (program, arguments) {
            ("systemctl", ["restart", "containerd"]) => {
                let mut pods = self.pods.borrow_mut();
                pods.fixture.stop()?;
                pods.fixture.start_again()?;
                return Ok(Answer { success: true, ..Answer::default() });
            }
            ("ctr", ["--address", _, rest @ ..]) => self.pods.borrow().fixture.ctr(rest)?,
            (program, ["-v"]) => Command::new(program).args(["-v"]).run()?,
            _ => return Ok(Answer { success: true, ..Answer::default() }),
        };
        Ok(Answer { success: output.status == 0, output: output.out(), errors: output.err() })
    }
}

impl Host for Node<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, HostError> {
        self.asked.borrow_mut().push([&[program], arguments].concat().join(" "));
        let answer = self.answer(program, arguments);
        answer.map_err(|error| HostError::new(program, io::Error::other(format!("{error:#}"))))
    }

    fn run_within(
        &self,
        program: &str,
        arguments: &[&str],
        _time: Duration,
    ) -> Result<Option<Answer>, HostError> {
        self.run(program, arguments).map(Some)
    }

    #[expect(clippy::disallowed_methods, reason = "the pause between two questions to containerd")]
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
