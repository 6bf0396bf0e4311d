//! The servers that are compared: a container of ours, or the loop of `wasmtime serve` as an OS process; used by `http`.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use runwasi_tests::running::Running;
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Image, Runtime, http};

use crate::Bench;
use crate::options::short;

/// A server that has answered.
#[derive(Clone)]
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
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
        let address = http::free_address()?;
        let process =
            Command::new(program).args([address.to_string().as_ref(), file.as_os_str()]).spawn()?;
        let up = http::get_when_up(address, "/").map(drop);
        up.with_context(|| format!("serve-loop says {}", process.stderr_so_far()))?;
        Ok(Self { name: "serve", address, kind: Kind::Loop { _process: Rc::new(process) } })
    }

    /// A container on the host's network, its output in a file.
    pub(crate) fn container(bench: &Bench, runtime: Runtime, guest: &str) -> Result<Self> {
        let (address, name) = (http::free_address()?, short(runtime));
        let id = bench.fixture.id(&format!("{}-{name}", guest.trim_end_matches(".wasm")));
        let place = format!("io.runwasi.http.address={address}");
        let log =
            format!("file://{}", bench.fixture.dir().join(&id).with_extension("out").display());
        let program = format!("/{guest}");
        let line = [
            "run",
            "-d",
            "--net-host",
            "--annotation",
            &place,
            "--log-uri",
            &log,
            "--runtime",
            runtime.name(),
        ];
        bench
            .fixture
            .ctr([&line[..], &[Image::Wasmguests.name(), &id, &program]].concat())?
            .ok()?;
        // It listens since it runs.
        http::get(address, "/")?;
        Ok(Self { name, address, kind: Kind::Container { id } })
    }

    /// Which runtime it is.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_container(&self) -> bool {
        matches!(self.kind, Kind::Container { .. })
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
