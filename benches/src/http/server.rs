//! The servers that are compared: a container of ours, or the loop of `wasmtime serve` as an OS process; used by `http` and `clients`.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::running::Running;
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Image, Runtime, http, proc};

use crate::Bench;
use crate::options::short;

/// End of the name of an earlier build's server.
pub(crate) const BEFORE: &str = "-before";

/// A server that has answered.
#[derive(Clone)]
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    /// Pid of its OS process, or of a process that it serves.
    pid: u32,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// Killed with the last of its owners.
    Loop {
        _process: Rc<Running>,
    },
    Container {
        id: String,
    },
}

impl Server {
    /// `serve-loop` with a guest.
    pub(crate) fn serve_loop(guest: &str) -> Result<Self> {
        let program = target_dir().join("release/serve-loop");
        let file = target_dir().join("guests").join(guest);
        ensure!(program.exists(), "{} is missing: `make bench` builds it", program.display());
        ensure!(file.exists(), "{} is missing: scripts/guests makes it", file.display());
        let address = http::address();
        let process =
            Command::new(program).args([address.to_string().as_ref(), file.as_os_str()]).spawn()?;
        let up = http::get_when_up(address, "/").map(drop);
        up.with_context(|| format!("serve-loop says {}", process.stderr_so_far()))?;
        let pid = process.pid();
        Ok(Self { name: "serve", address, pid, kind: Kind::Loop { _process: Rc::new(process) } })
    }

    /// A container on the host's network, its output in a file.
    pub(crate) fn container(
        bench: &Bench,
        runtime: Runtime,
        guest: &str,
        annotation: Option<&str>,
    ) -> Result<Self> {
        Self::of_shim(bench, runtime.name(), short(runtime), guest, annotation)
    }

    /// The same by the shim of an earlier build; nothing for a daemon, of which there is one.
    pub(crate) fn before(
        bench: &Bench,
        runtime: Runtime,
        guest: &str,
        directory: &Path,
    ) -> Result<Option<Self>> {
        if runtime != Runtime::Wasmtime {
            return Ok(None);
        }
        let shim = directory.join(runtime.shim());
        let shim = shim.to_str().context("a directory whose name is no text")?;
        Self::of_shim(bench, shim, "wasmtime-before", guest, None).map(Some)
    }

    fn of_shim(
        bench: &Bench,
        shim: &str,
        name: &'static str,
        guest: &str,
        annotation: Option<&str>,
    ) -> Result<Self> {
        let address = http::address();
        let id = bench.fixture.id(&format!("{}-{name}", guest.trim_end_matches(".wasm")));
        let place = format!("io.runwasi.http.address={address}");
        let log =
            format!("file://{}", bench.fixture.dir().join(&id).with_extension("out").display());
        let program = format!("/{guest}");
        let further = annotation.map(|annotation| ["--annotation", annotation]);
        let line = [
            "run",
            "-d",
            "--net-host",
            "--annotation",
            &place,
            "--log-uri",
            &log,
            "--runtime",
            shim,
        ];
        bench
            .fixture
            .ctr(
                [
                    &line[..],
                    further.as_slice().as_flattened(),
                    &[Image::Wasmguests.name(), &id, &program],
                ]
                .concat(),
            )?
            .ok()?;
        // It listens since it runs.
        http::get(address, "/")?;
        let pid = pid_of(bench, &id)?;
        Ok(Self { name, address, pid, kind: Kind::Container { id } })
    }

    /// Which runtime it is.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time that its OS process has used, which may serve other containers, too.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        proc::cpu_nanos(self.pid).map(Duration::from_nanos)
    }

    /// Takes it away.
    pub(crate) fn end(self, bench: &Bench) -> Result<()> {
        if let Kind::Container { id } = self.kind {
            bench.fixture.ctr(["task", "delete", "-f", &id])?;
            bench.fixture.ctr(["container", "delete", &id])?.ok()?;
        }
        Ok(())
    }
}

/// What containerd takes for the container's process.
fn pid_of(bench: &Bench, id: &str) -> Result<u32> {
    let tasks = bench.fixture.ctr(["task", "list"])?.ok()?.out();
    let pid = tasks.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next() == Some(id)).then(|| fields.next()?.parse().ok()).flatten()
    });
    pid.with_context(|| format!("no pid of {id} in:\n{tasks}"))
}
