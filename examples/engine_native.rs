//! An engine whose guest is a plain async Rust function: with the two traits it is a complete containerd shim.
//! Run with: `ln -s $PWD/target/release/engine-native /usr/local/bin/containerd-shim-native-v1`, then
//! `ctr run --rm --runtime=io.containerd.native.v1 docker.io/library/wasmtest:latest test`

mod native_guest;

use std::{process::ExitCode, sync::Arc};

use runwasi_core::{Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, cli::About};

struct Native;
struct Guest(InstanceSpec);

#[async_trait::async_trait]
impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }
    async fn instance(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        Ok(Arc::new(Guest(spec)))
    }
}

#[async_trait::async_trait]
impl Instance for Guest {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        context.ready();
        native_guest::run(&self.0).await.map_err(|error| EngineError::Failed(error.to_string()))
    }
}

fn main() -> ExitCode {
    let about = About { runtime: "io.containerd.native.v1", version: env!("CARGO_PKG_VERSION"), engine: "native" };
    runwasi_core::cli::main(about, || Ok(Native))
}
