//! An engine whose guest is a plain async Rust function: with the two traits it is a complete containerd shim.
//! Run with: `ctr run --runtime=io.containerd.native.v1 …` and this as `containerd-shim-native-v1` in its PATH.
use std::{io::Read, process::ExitCode, sync::Arc, time::Duration};

use runwasi_core::{
    Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, cli::About,
};
use tokio::{task::yield_now, time::sleep};

struct Native;
struct Guest(InstanceSpec);

#[async_trait::async_trait]
impl Engine for Native {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        Ok(Arc::new(Guest(spec)))
    }
}

#[async_trait::async_trait]
impl Instance for Guest {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        context.ready();
        guest(&self.0).await.map_err(|error| EngineError::Failed(error.to_string()))
    }
}

/// The guest: what the image's wasm program does, as far as the lifecycle suite asks.
async fn guest(spec: &InstanceSpec) -> anyhow::Result<ExitStatus> {
    let (words, io) =
        (spec.args.iter().skip(1).map(String::as_str).collect::<Vec<_>>(), &spec.stdio);
    let (mut out, mut buffer) = (Vec::new(), [0; 8192]);
    match words[..] {
        [] => out.extend(b"Hello from wasm!\n"),
        ["echo", ..] => out.extend((words[1..].join(" ") + "\n").bytes()),
        ["args", ..] => out.extend((spec.args.join("\n") + "\n").bytes()),
        ["env"] => spec
            .env
            .iter()
            .for_each(|(name, value)| out.extend(format!("{name}={value}\n").bytes())),
        ["bytes", n] => out.extend((0..251).cycle().take(n.parse()?)),
        ["cat", path] => drop(spec.rootfs.open(&spec.cwd.join(path))?.read_to_end(&mut out)?),
        ["cat"] => {
            while let n @ 1.. = io.stdin.read(&mut buffer).await? {
                io.stdout.write_all(&buffer[..n]).await?
            }
        }
        ["stderr", text] => io.stderr.write_all((text.to_owned() + "\n").as_bytes()).await?,
        ["sleep", seconds] => sleep(Duration::from_secs_f64(seconds.parse()?)).await,
        ["daemon"] => loop {
            tokio::join!(sleep(Duration::from_secs(1)), io.stdout.write_all(b"tick\n")).1?
        },
        ["spin"] => loop {
            yield_now().await
        },
        ["exit", code] => return Ok(ExitStatus::code(code.parse()?)),
        _ => return Ok(ExitStatus::TRAP),
    }
    io.stdout.write_all(&out).await?;
    Ok(ExitStatus::SUCCESS)
}

fn main() -> ExitCode {
    let about = About {
        runtime: "io.containerd.native.v1",
        version: env!("CARGO_PKG_VERSION"),
        engine: "native",
    };
    runwasi_core::cli::main(about, || Ok(Native))
}
