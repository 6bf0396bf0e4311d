//! The loop of `wasmtime run`: a module with the library's own file calls, on a thread of its own that
//! may block in them; used by the parent module.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Result, anyhow};
use wasmtime::{Config, Engine, Linker, Module, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Far above what the guest prints.
const OUTPUT: usize = 4096;

pub(super) struct Peer {
    module: Module,
    linker: Linker<WasiP1Ctx>,
    /// The guest's `/`.
    directory: PathBuf,
}

impl Peer {
    pub(super) fn new(text: &str, directory: &Path) -> Result<Self> {
        let make = || {
            let engine = Engine::new(&Config::new())?;
            let mut linker = Linker::new(&engine);
            p1::add_to_linker_sync(&mut linker, |wasi| wasi)?;
            let module = Module::new(&engine, text)?;
            Ok(Self { module, linker, directory: directory.to_owned() })
        };
        make().map_err(failed)
    }

    /// Runs the guest once; what it has printed.
    pub(super) fn run(&self) -> Result<String> {
        // On no thread of a runtime: the calls wait in place.
        let run = || thread::scope(|scope| scope.spawn(|| self.run_here()).join());
        run().map_err(|_| anyhow!("the peer panicked"))?.map_err(failed)
    }

    fn run_here(&self) -> wasmtime::Result<String> {
        let output = MemoryOutputPipe::new(OUTPUT);
        let mut wasi = WasiCtxBuilder::new();
        // As `wasmtime run` has it.
        wasi.allow_blocking_current_thread(true);
        wasi.stdout(output.clone()).preopened_dir(&self.directory, "/", FsPerms::ReadOnly)?;
        let mut store = Store::new(self.module.engine(), wasi.build_p1());
        let instance = self.linker.instantiate(&mut store, &self.module)?;
        instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
        Ok(String::from_utf8_lossy(&output.contents()).into_owned())
    }
}

fn failed(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}").context("the loop of wasmtime run")
}
