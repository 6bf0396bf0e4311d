//! The code of one module, compiled for the four ways, and what runs it; used by the parent module.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use runwasi_core::{
    bundle::resources::ResourcesConfig,
    runtime::{GuestRuntime, pod_workers},
    scheduler::group::Group,
};
use runwasi_wasmtime::Settings;
use runwasi_wasmtime::epoch::Ticker;
use runwasi_wasmtime::settings::Optimise;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use wasmtime::{Config, Engine, Linker, Module, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use super::work::{Call, Code, DIRECTORY, Work};

/// Far above what any work takes.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Bare,
    Epochs,
    Wrapped,
    Inlined,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Bare, Self::Epochs, Self::Wrapped, Self::Inlined];
}

/// Compiled, and with what it imports.
#[derive(Clone)]
struct Program {
    module: Module,
    linker: Linker<WasiP1Ctx>,
    /// What it took to compile.
    compiled: Duration,
    /// Bytes of code.
    bytes: usize,
}

/// Compiled with epochs, with the clock of its engine.
struct Interruptible {
    program: Program,
    ticker: Arc<Ticker>,
}

/// Where guests run.
pub(super) struct Runtimes {
    /// A usual one.
    plain: Runtime,
    /// That of the shims.
    guests: GuestRuntime,
}

pub(super) struct Runner {
    pub(super) code: &'static Code,
    bare: Program,
    interruptible: Interruptible,
    inlined: Interruptible,
}

impl Runtimes {
    pub(super) fn start() -> Result<Self> {
        let workers = pod_workers();
        let plain = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()?;
        Ok(Self { plain, guests: GuestRuntime::start(workers)? })
    }
}

impl Runner {
    pub(super) fn new(code: &'static Code) -> Result<Self> {
        let source = code.source()?;
        let mut never_stops = config(Optimise::Speed);
        let bare = Program::new(&source, never_stops.epoch_interruption(false))?;
        let interruptible = Interruptible::new(&source, Optimise::Speed)?;
        let inlined = Interruptible::new(&source, Optimise::SpeedAtAnySize)?;
        Ok(Self { code, bare, interruptible, inlined })
    }

    /// How many times as long the compiler takes for speed at any size, and how many times the code is as large.
    pub(super) fn price_of_inlining(&self) -> (f64, f64) {
        let (inlined, usual) = (&self.inlined.program, &self.interruptible.program);
        (
            inlined.compiled.as_secs_f64() / usual.compiled.as_secs_f64(),
            inlined.bytes as f64 / usual.bytes as f64,
        )
    }

    /// Runs the work once, and demands the right result; what it has cost.
    pub(super) fn run(
        &self,
        runtimes: &Runtimes,
        way: Way,
        work: &'static Work,
    ) -> Result<Duration> {
        let before = cpu_time()?;
        let (sender, receiver) = channel();
        let epochs = if matches!(way, Way::Inlined) { &self.inlined } else { &self.interruptible };
        let program = if matches!(way, Way::Bare) { &self.bare } else { &epochs.program };
        let working = program.clone().run(way, &work.call);
        // Nobody listens any more only when this has failed.
        let done = async move { drop(sender.send(working.await)) };
        let group = Group::new(runtimes.guests.guests().clone(), &ResourcesConfig::default(), None);
        match way {
            Way::Bare => drop(runtimes.plain.spawn(done)),
            Way::Epochs | Way::Inlined => drop(runtimes.plain.spawn(epochs.ticker.during(done))),
            Way::Wrapped => group.spawn(epochs.ticker.during(done)),
        }
        let result =
            receiver.recv_timeout(LIMIT).context("the work does not end")?.map_err(failed)?;
        ensure!(result == work.result, "{result} instead of {}", work.result);
        cpu_time()?.checked_sub(before).context("the clock went back")
    }
}

impl Interruptible {
    fn new(source: &[u8], optimise: Optimise) -> Result<Self> {
        let program = Program::new(source, &config(optimise))?;
        let ticker = Ticker::start(program.module.engine(), Settings::default().quantum())
            .context("no ticker")?;
        Ok(Self { program, ticker: Arc::new(ticker) })
    }
}

impl Program {
    fn new(source: &[u8], config: &Config) -> Result<Self> {
        let compile = || {
            let engine = Engine::new(config)?;
            let mut linker = Linker::new(&engine);
            p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
            let begin = Instant::now();
            let module = Module::new(&engine, source)?;
            let compiled = begin.elapsed();
            let bytes = module.serialize()?.len();
            Ok(Self { module, linker, compiled, bytes })
        };
        compile().map_err(failed)
    }

    async fn run(self, way: Way, call: &Call) -> wasmtime::Result<i64> {
        let mut wasi = WasiCtxBuilder::new();
        if let Call::Main(args) = call {
            wasi.args(args).preopened_dir(DIRECTORY, "/", FsPerms::ReadOnly)?;
        }
        let mut store = Store::new(self.module.engine(), wasi.build_p1());
        if !matches!(way, Way::Bare) {
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
        }
        let instance = self.linker.instantiate_async(&mut store, &self.module).await?;
        match call {
            Call::Function { rounds } => {
                let function = instance.get_typed_func::<i32, i64>(&mut store, "work")?;
                function.call_async(&mut store, *rounds).await
            }
            Call::Main(_) => {
                let main = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                let ended = main.call_async(&mut store, ()).await;
                ended.map_or_else(
                    |error| error.downcast::<I32Exit>().map(|exit| exit.0.into()),
                    |()| Ok(0),
                )
            }
        }
    }
}

/// As the shims have it.
fn config(optimise: Optimise) -> Config {
    runwasi_wasmtime::engine::config(&Settings { optimise, ..Settings::default() })
}

/// CPU time of this process, of all its threads.
fn cpu_time() -> Result<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).context("CPU time")
}

fn failed(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}
