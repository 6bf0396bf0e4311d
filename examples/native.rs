//! The engine of the programs `engine-native`, `engine-native-daemon` and `engine-native-thin`.

use std::{io::Read, sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use runwasi_core::{Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec};
use tokio::{task::yield_now, time::sleep};

/// An engine without compiled code.
#[derive(Default)]
pub(crate) struct Native;

#[async_trait]
impl Engine for Native {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        Ok(Arc::new(Guest { spec }))
    }
}

/// A guest. Its arguments select its program.
struct Guest {
    spec: InstanceSpec,
}

#[async_trait]
impl Instance for Guest {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        context.ready();
        self.program().await.map_err(|error| EngineError::Failed(error.to_string()))
    }
}

impl Guest {
    /// Does the same as the wasm program in the image of the lifecycle tests.
    async fn program(&self) -> Result<ExitStatus> {
        let words: Vec<&str> = self.spec.args.iter().skip(1).map(String::as_str).collect();
        match words[..] {
            [] => self.print("Hello from wasm!\n").await,
            ["echo", ref text @ ..] => self.print(text.join(" ") + "\n").await,
            ["args", ..] => self.print(self.spec.args.join("\n") + "\n").await,
            ["env"] => self.print(self.environment()).await,
            ["bytes", count] => self.print(pattern(count.parse()?)).await,
            ["cat", path] => self.print(self.file(path)?).await,
            ["cat"] => self.copy_stdin().await,
            ["stderr", text] => self.complain(text).await,
            ["sleep", seconds] => {
                sleep(Duration::from_secs_f64(seconds.parse()?)).await;
                Ok(ExitStatus::SUCCESS)
            }
            ["daemon"] => self.tick().await,
            ["spin"] => loop {
                // Without it the loop would block its thread, and no kill could end it.
                yield_now().await;
            },
            ["exit", code] => Ok(ExitStatus::code(code.parse()?)),
            _ => Ok(ExitStatus::TRAP),
        }
    }

    async fn print(&self, text: impl AsRef<[u8]>) -> Result<ExitStatus> {
        self.spec.stdio.stdout.write_all(text.as_ref()).await?;
        Ok(ExitStatus::SUCCESS)
    }

    async fn complain(&self, text: &str) -> Result<ExitStatus> {
        self.spec.stdio.stderr.write_all(format!("{text}\n").as_bytes()).await?;
        Ok(ExitStatus::SUCCESS)
    }

    fn environment(&self) -> String {
        self.spec.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// Contents of a file of the container.
    fn file(&self, path: &str) -> Result<Vec<u8>> {
        let mut contents = Vec::new();
        self.spec.rootfs.open(&self.spec.cwd.join(path))?.read_to_end(&mut contents)?;
        Ok(contents)
    }

    async fn copy_stdin(&self) -> Result<ExitStatus> {
        let mut buffer = [0; 8192];
        loop {
            let read = self.spec.stdio.stdin.read(&mut buffer).await?;
            if read == 0 {
                return Ok(ExitStatus::SUCCESS);
            }
            self.spec.stdio.stdout.write_all(&buffer[..read]).await?;
        }
    }

    /// Prints a line every second, for ever.
    async fn tick(&self) -> Result<ExitStatus> {
        loop {
            self.print("tick\n").await?;
            sleep(Duration::from_secs(1)).await;
        }
    }
}

fn pattern(count: usize) -> Vec<u8> {
    (0..251).cycle().take(count).collect()
}
