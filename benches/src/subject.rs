//! What `ctr` starts containers with: this build's runtimes, those of an earlier build, and peers; used by the benchmarks that
//! work through `ctr`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Command, Containerd, Runtime};

use crate::Bench;
use crate::options::{Options, short};
use crate::peers::Peer;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Ours(Runtime),
    Before(Runtime),
    Peer(Peer),
}

impl Subject {
    /// All that the options name.
    pub(crate) fn all(options: &Options) -> Vec<Self> {
        let ours = options.runtimes.iter().copied().map(Self::Ours);
        let before = options.wasm_runtimes().into_iter().map(Self::Before);
        let before = before.filter(|_| options.before.is_some());
        let peers = [Peer::Upstream, Peer::Crun].into_iter();
        let peers = peers.filter(|peer| options.peers.get(*peer).is_some()).map(Self::Peer);
        ours.chain(before).chain(peers).collect()
    }

    /// The name in rows and ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours(runtime) => short(runtime),
            Self::Before(runtime) => before(runtime),
            Self::Peer(peer) => peer.name(),
        }
    }

    /// The runtime whose image and guest it gets.
    pub(crate) fn runtime(self) -> Runtime {
        match self {
            Self::Ours(runtime) | Self::Before(runtime) => runtime,
            Self::Peer(_) => Runtime::Wasmtime,
        }
    }

    /// The containerd that starts it.
    pub(crate) fn fixture(self, bench: &Bench) -> Result<&Containerd> {
        match self {
            Self::Before(_) => bench.before.as_ref().context("no containerd of the earlier build"),
            _ => Ok(&bench.fixture),
        }
    }

    /// A container id of its own.
    pub(crate) fn id(self, bench: &Bench, name: &str) -> Result<String> {
        Ok(self.fixture(bench)?.id(&format!("{name}-{}", self.name())))
    }

    /// `ctr run` with these flags and words for the guest; without any, what the image says.
    pub(crate) fn run(
        self,
        bench: &Bench,
        flags: &[&str],
        id: &str,
        words: &[&str],
    ) -> Result<Command> {
        let image = self.runtime().image().name();
        self.run_of(bench, flags, image, id, words)
    }

    /// The same with an image of the caller's choice.
    pub(crate) fn run_of(
        self,
        bench: &Bench,
        flags: &[&str],
        image: &str,
        id: &str,
        words: &[&str],
    ) -> Result<Command> {
        let chosen = self.flags(&bench.options)?;
        let chosen: Vec<_> = chosen.iter().map(String::as_str).collect();
        let line = [&["run"], flags, &chosen, &[image, id], words].concat();
        Ok(self.fixture(bench)?.ctr_command(line))
    }

    fn flags(self, options: &Options) -> Result<Vec<String>> {
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
        let runtime = match self {
            Self::Ours(runtime) => runtime.name().to_owned(),
            Self::Before(runtime) => {
                let directory = options.before.as_ref().context("no earlier build")?;
                path(&directory.canonicalize()?.join(runtime.shim()))?
            }
            Self::Peer(Peer::Crun) => Runtime::Runc.name().to_owned(),
            Self::Peer(peer) => path(options.peers.get(peer).context("no such peer")?)?,
        };
        let mut flags = vec!["--runtime".to_owned(), runtime];
        if self == Self::Peer(Peer::Crun) {
            let crun = path(options.peers.get(Peer::Crun).context("no crun")?)?;
            flags.extend(["--runc-binary".to_owned(), crun]);
            flags.extend(["--annotation".to_owned(), "run.oci.handler=wasm".to_owned()]);
        }
        Ok(flags)
    }

    /// Whether it says hello.
    fn works(self, bench: &Bench) -> Result<()> {
        let id = self.id(bench, "first")?;
        let said = self.run(bench, &["--rm"], &id, &[])?.run()?.ok()?;
        ensure!(said.out().contains("Hello"), "no hello: {said}");
        Ok(())
    }
}

/// The name of an earlier build's runtime in the rows.
pub(crate) fn before(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Wasmtimed => "wasmtimed-before",
        _ => "wasmtime-before",
    }
}

/// A containerd with the earlier build's daemon, if there is an earlier build.
pub(crate) fn containerd_of_before(options: &Options) -> Result<Option<Containerd>> {
    let Some(directory) = &options.before else { return Ok(None) };
    let needs_daemon = options.wasm_runtimes().into_iter().any(Runtime::needs_daemon);
    let fixture = Containerd::builder();
    let fixture = match needs_daemon {
        true => fixture.daemon(Settings::default().programs(directory)),
        false => fixture,
    };
    fixture.start().map(Some)
}

/// Leaves out peers that say no hello; the reason of each.
pub(crate) fn drop_silent(bench: &mut Bench) -> Vec<String> {
    let mut reasons = Vec::new();
    for peer in [Peer::Upstream, Peer::Crun] {
        if bench.options.peers.get(peer).is_none() {
            continue;
        }
        if let Err(error) = Subject::Peer(peer).works(bench) {
            reasons.push(format!("without the peer {}: {error:#}", peer.option()));
            bench.options.peers.drop(peer);
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(args: &[&str]) -> Vec<&'static str> {
        let options = Options::parse(args.iter().map(|arg| (*arg).to_owned())).unwrap().unwrap();
        Subject::all(&options).into_iter().map(Subject::name).collect()
    }

    #[test]
    fn earlier_build_and_peers_stand_beside_the_runtimes() {
        assert_eq!(all(&["--only", "wasmtime,floor"]), ["wasmtime", "floor"]);
        let args = ["--only", "wasmtimed", "--before", "/old", "--peer", "upstream=/bin/true"];
        assert_eq!(all(&args), ["wasmtimed", "wasmtimed-before", "upstream"]);
        // It runs no containers.
        assert_eq!(all(&["--only", "runc", "--peer", "wasmtime=/bin/true"]), ["runc"]);
    }
}
