//! The command line of the benchmark program; read by `main`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use runwasi_tests::Runtime;
use runwasi_tests::runtime::daemon_file;

use crate::BENCHMARKS;
use crate::attacks::ATTACKS;
use crate::peers::Peers;
use crate::scale::MOST;
use crate::soak::FEWEST;
use crate::{http, rate};

/// What it prints for `--help` and after a wrong argument.
pub(crate) const USAGE: &str = "\
usage: runwasi-bench [--rounds N] [--only NAME[,NAME...]] [--before DIR] [--peer NAME=PATH]...
       runwasi-bench --page RESULTS DIRECTORY
       runwasi-bench --soak N | --scale N | --chaos SECONDS [--only NAME[,NAME...]]
  --rounds N    rounds of the timed benchmarks, at least 6 (default 50)
  --only NAMES  runtimes (wasmtime, wasmtimed, runc, floor) and benchmarks (ctr_run, memory, thin_start, pods,
                rate, exec, output, compute, scheduling, density, large, http, watch, clients, files, sleep, attacks;
                attacks/NAME is one attack, http/NAME one part of http: hello, p3-hello, p3-shared-hello, wait, p3-wait,
                p3-shared-wait, body, get, p3-get, log, rate/NAME one part of rate: lives, before, cost); default all
  --before DIR  directory with the programs of an earlier build, which ctr_run, memory, thin_start, rate, density,
                large, http, files and sleep measure beside this one
  --peer NAME=PATH
                a program to compare with: upstream (containerd-shim-wasmtime-v1 of the runwasi project), crun (with
                wasmtime) or wasmtime (the command line); without it its rows have no ratio
  --page RESULTS DIRECTORY
                no benchmarks: prints the tables of a file of results, its plots go to DIRECTORY
  --soak N      no benchmarks, but N container lives, at least 500, on each runtime with wasm guests;
                fails if memory or anything else that their server or the node holds grows
  --scale N     no benchmarks, but a node that is filled with N pods and emptied, at most 240, for each runtime, and
                a rollout of a quarter of them under traffic; fails if a request fails or anything is left;
                our runtimes also without pause containers, and so does --chaos
  --chaos SECONDS  no benchmarks, but pods of each runtime while containerd, the daemon or shims, and the pods' client
                are killed at random; fails if a wanted pod is missing at the end or anything is left";

/// The runtimes compared.
pub(crate) const RUNTIMES: [Runtime; 4] =
    [Runtime::Wasmtime, Runtime::Wasmtimed, Runtime::Runc, Runtime::Floor];

/// A part of a benchmark that can be selected: the benchmark and its own name.
type Part = (&'static str, &'static str);

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) runtimes: Vec<Runtime>,
    /// Names of the benchmarks.
    pub(crate) benchmarks: Vec<&'static str>,
    /// Directory with the programs of an earlier build.
    pub(crate) before: Option<PathBuf>,
    /// Programs of others.
    pub(crate) peers: Peers,
    /// Container lives in the place of the benchmarks.
    pub(crate) soak: Option<usize>,
    /// Pods in the place of the benchmarks.
    pub(crate) scale: Option<usize>,
    /// Time of random kills in the place of the benchmarks.
    pub(crate) chaos: Option<Duration>,
    /// Parts of those benchmarks that have parts.
    pub(crate) parts: Vec<Part>,
}

/// The short name of a runtime: `wasmtime` of `io.containerd.wasmtime.v1`.
pub(crate) fn short(runtime: Runtime) -> &'static str {
    runtime.name().split('.').rev().nth(1).unwrap_or(runtime.name())
}

impl Options {
    /// None if help was asked for.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            rounds: 50,
            runtimes: RUNTIMES.to_vec(),
            benchmarks: names().collect(),
            before: None,
            peers: Peers::default(),
            soak: None,
            scale: None,
            chaos: None,
            parts: parts().collect(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--rounds" => {
                    options.rounds = value()?.parse().context("--rounds needs a number")?
                }
                "--soak" => options.soak = Some(value()?.parse().context("--soak needs a number")?),
                "--scale" => {
                    options.scale = Some(value()?.parse().context("--scale needs a number")?)
                }
                "--chaos" => {
                    let seconds = value()?.parse().context("--chaos needs seconds")?;
                    options.chaos = Some(Duration::from_secs(seconds));
                }
                "--only" => options.restrict(&value()?)?,
                "--before" => options.before = Some(value()?.into()),
                "--peer" => options.peers.add(&value()?)?,
                "--help" | "-h" => return Ok(None),
                other => bail!("unknown argument {other}\n{USAGE}"),
            }
        }
        ensure!(options.rounds >= 6, "an interval needs at least 6 rounds, not {}", options.rounds);
        let lives = options.soak.unwrap_or(FEWEST);
        ensure!(lives >= FEWEST, "--soak needs at least {FEWEST} lives, not {lives}");
        let pods = options.scale.unwrap_or(MOST);
        ensure!((1..=MOST).contains(&pods), "--scale needs 1 to {MOST} pods, not {pods}");
        if options.soak.is_some() {
            options.runtimes = options.wasm_runtimes();
        }
        Ok(Some(options))
    }

    fn restrict(&mut self, only: &str) -> Result<()> {
        let wanted: Vec<&str> = only.split(',').collect();
        for name in &wanted {
            let known = names().any(|known| known == *name)
                || RUNTIMES.iter().any(|known| short(*known) == *name)
                || parts().any(|known| is_part(name, known));
            ensure!(known, "--only {name}: no such runtime or benchmark\n{USAGE}");
        }
        // Naming only runtimes leaves all benchmarks, and the other way round.
        let runtimes: Vec<_> =
            RUNTIMES.into_iter().filter(|runtime| wanted.contains(&short(*runtime))).collect();
        let selected: Vec<_> =
            parts().filter(|known| wanted.iter().any(|name| is_part(name, *known))).collect();
        let has_part = |name: &str| selected.iter().any(|(benchmark, _)| *benchmark == name);
        let benchmarks: Vec<_> =
            names().filter(|name| wanted.contains(name) || has_part(name)).collect();
        // All parts of a benchmark that is named itself, or of which none is named.
        self.parts.retain(|part| {
            let (benchmark, _) = part;
            wanted.contains(benchmark) || !has_part(benchmark) || selected.contains(part)
        });
        if !runtimes.is_empty() {
            self.runtimes = runtimes;
        }
        if !benchmarks.is_empty() {
            self.benchmarks = benchmarks;
        }
        Ok(())
    }

    /// True if that part of a benchmark is wanted.
    pub(crate) fn wants(&self, benchmark: &str, part: &str) -> bool {
        self.parts.contains(&(benchmark, part))
    }

    /// The runtimes asked for whose guests are wasm.
    pub(crate) fn wasm_runtimes(&self) -> Vec<Runtime> {
        self.runtimes.iter().copied().filter(|runtime| runtime.is_wasm()).collect()
    }

    /// Fails if a program that is to be measured is missing, naming what makes it.
    pub(crate) fn demand_programs(&self) -> Result<()> {
        if let Some(directory) = &self.before {
            for runtime in self.wasm_runtimes() {
                let file = directory.join(runtime.shim());
                demand(file.exists(), &file, "an earlier build made it")?;
            }
            if self.runtimes.iter().any(|runtime| runtime.needs_daemon()) {
                let name = daemon_file();
                let file = directory.join(name.file_name().unwrap_or_default());
                demand(file.exists(), &file, "an earlier build made it")?;
            }
        }
        for runtime in &self.runtimes {
            let (there, file) = match runtime.program_file() {
                Some(file) => (file.exists(), file),
                None => (in_path(runtime.shim()), PathBuf::from(runtime.shim())),
            };
            demand(there, &file, maker(*runtime))?;
            if runtime.needs_daemon() {
                demand(daemon_file().exists(), &daemon_file(), maker(*runtime))?;
            }
        }
        Ok(())
    }
}

fn maker(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Wasmtime
        | Runtime::Wasmtimed
        | Runtime::WasmtimeComponent
        | Runtime::WasmtimedComponent
        | Runtime::WasmtimeLinux
        | Runtime::WasmtimedLinux
        | Runtime::Native
        | Runtime::Wasmi
        | Runtime::Wasmid => "`make build` builds it",
        Runtime::Floor => "`make bench` builds it",
        Runtime::Runc => "`make setup` installs it",
    }
}

fn demand(there: bool, file: &Path, maker: &str) -> Result<()> {
    ensure!(there, "{} is missing: {maker} (or leave it out with --only)", file.display());
    Ok(())
}

fn names() -> impl Iterator<Item = &'static str> {
    BENCHMARKS.iter().map(|(name, _)| *name)
}

fn parts() -> impl Iterator<Item = Part> {
    let attacks = ATTACKS.iter().map(|attack| ("attacks", attack.name));
    let of_http = http::PARTS.map(|name| ("http", name));
    attacks.chain(of_http).chain(rate::PARTS.map(|name| ("rate", name)))
}

/// True if that is the name of a part: `BENCHMARK/PART`.
fn is_part(name: &str, (benchmark, part): Part) -> bool {
    name.split_once('/') == Some((benchmark, part))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Option<Options>> {
        Options::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn everything_is_measured_by_default() {
        let options = parsed(&[]).unwrap().unwrap();
        assert_eq!((options.rounds, options.runtimes.as_slice()), (50, &RUNTIMES[..]));
        let all = "ctr_run memory thin_start pods rate exec output compute scheduling density large http \
            watch clients files sleep attacks";
        assert_eq!(options.benchmarks.join(" "), all);
    }

    #[test]
    fn only_restricts_runtimes_and_benchmarks_apart() {
        let options = parsed(&["--only", "floor,runc"]).unwrap().unwrap();
        assert_eq!(options.runtimes, [Runtime::Runc, Runtime::Floor]);
        assert_eq!(options.benchmarks.len(), BENCHMARKS.len());
        let options = parsed(&["--only", "memory"]).unwrap().unwrap();
        assert_eq!((options.runtimes.len(), options.benchmarks.as_slice()), (4, &["memory"][..]));
    }

    #[test]
    fn parts_of_benchmarks_can_be_selected() {
        let of = |options: &Options, name| {
            let parts = options.parts.iter().filter(|(benchmark, _)| *benchmark == name);
            parts.map(|(_, part)| *part).collect::<Vec<_>>()
        };
        let options = parsed(&["--only", "wasmtimed,attacks/poll,attacks/spin"]).unwrap().unwrap();
        assert_eq!(options.runtimes, [Runtime::Wasmtimed]);
        assert_eq!(
            (of(&options, "attacks"), of(&options, "http").len()),
            (vec!["poll", "spin"], http::PARTS.len())
        );
        assert_eq!(options.benchmarks, ["attacks"]);
        let options = parsed(&["--only", "attacks/poll,attacks,http/wait"]).unwrap().unwrap();
        assert_eq!(
            (of(&options, "attacks").len(), of(&options, "http")),
            (ATTACKS.len(), vec!["wait"])
        );
        assert!(options.wants("http", "wait") && !options.wants("http", "hello"));
        assert!(parsed(&["--only", "attacks/peace"]).is_err());
    }

    #[test]
    fn wrong_arguments_are_named() {
        for args in [
            &["--only", "flor"][..],
            &["--rounds"],
            &["--rounds", "x"],
            &["--rounds", "5"],
            &["--before"],
            &["--peer", "upstream"],
            &["--peer", "crun=/nowhere"],
            &["--soak", "499"],
            &["--scale", "241"],
            &["--chaos", "long"],
            &["--fast"],
        ] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
        assert_eq!(parsed(&["--help"]).unwrap(), None);
    }

    #[test]
    fn a_soak_is_of_runtimes_with_wasm_guests() {
        let options = parsed(&["--soak", "500"]).unwrap().unwrap();
        assert_eq!(options.runtimes, [Runtime::Wasmtime, Runtime::Wasmtimed]);
        let options = parsed(&["--soak", "500", "--only", "wasmtimed"]).unwrap().unwrap();
        assert_eq!(
            (options.runtimes.as_slice(), options.soak),
            (&[Runtime::Wasmtimed][..], Some(500))
        );
    }
}
