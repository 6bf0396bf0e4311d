//! Slots of a node for an engine that has no settings, and so no bound of its own: guests beyond
//! them are refused before the engine prepares them.

use std::sync::Arc;

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, Signal, SignalResponse,
    artifact::Artifact,
    engine::{FileThreads, KeptCode, Pool, Precompiled},
    settings::RawSettings,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An engine with a bounded number of guests. All else is that of the inner engine.
#[derive(Debug)]
pub struct Slots<E> {
    engine: E,
    /// One permit for each guest that may still be prepared.
    free: Arc<Semaphore>,
    limit: u32,
}

impl<E> Slots<E> {
    /// Bounds the guests of `engine`.
    pub(crate) fn new(engine: E, limit: u32) -> Self {
        // The settings allow 100,000, which is far less than a semaphore can have.
        Self { engine, free: Arc::new(Semaphore::new(limit as usize)), limit }
    }

    fn used(&self) -> u64 {
        u64::from(self.limit).saturating_sub(self.free.available_permits() as u64)
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        self.free.clone().try_acquire_owned().map_err(|_| EngineError::Exhausted {
            what: "instance slots",
            reason: format!(
                "1 more than the {} in use are beyond the {} of all containers, which slots raises",
                self.used(),
                self.limit
            ),
        })
    }
}

#[async_trait]
impl<E: Engine> Engine for Slots<E> {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        let slot = self.take()?;
        let instance = self.engine.prepare(spec).await?;
        Ok(Arc::new(Seated { instance, _slot: slot }))
    }

    fn annotations(&self) -> &[&'static str] {
        self.engine.annotations()
    }

    async fn configure(&self, settings: &RawSettings) -> Result<(), EngineError> {
        self.engine.configure(settings).await
    }

    fn replaces_sync(&self) -> bool {
        self.engine.replaces_sync()
    }

    async fn file_threads(&self) -> FileThreads {
        self.engine.file_threads().await
    }

    async fn precompile(&self, artifact: Artifact) -> Result<Precompiled, EngineError> {
        self.engine.precompile(artifact).await
    }

    fn release_unused(&self) {
        self.engine.release_unused();
    }

    fn pools(&self) -> Vec<Pool> {
        let slots = Pool { name: "slots", used: self.used(), limit: self.limit.into() };
        [vec![slots], self.engine.pools()].concat()
    }

    fn kept_code(&self) -> Option<KeptCode> {
        self.engine.kept_code()
    }
}

/// A guest with its slot.
struct Seated {
    // Dropped before the slot: the next guest finds its memory free.
    instance: Arc<dyn Instance>,
    _slot: OwnedSemaphorePermit,
}

#[async_trait]
impl Instance for Seated {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        self.instance.clone().run(context).await
    }

    fn signal(&self, signal: Signal) -> SignalResponse {
        self.instance.signal(signal)
    }
}

#[cfg(test)]
mod tests {
    use runwasi_core::testing::{Harness, ScriptedEngine};

    use super::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    #[tokio::test]
    async fn guest_beyond_the_slots_is_refused_until_one_is_gone() -> Result {
        let engine = Slots::new(ScriptedEngine, 1);
        let free = engine.free.clone();
        let harness = Harness::start(engine)?;
        let client = harness.client().await?;
        let bundle = |id: &str| harness.bundle(id, &["wait"]).write();
        client.create("first", &bundle("first")?, &Default::default(), &[]).await?;
        client.start("first").await?;
        let second = bundle("second")?;
        let refused = client.create("second", &second, &Default::default(), &[]).await;
        let refused = refused.unwrap_err().to_string();
        let wanted = "out of instance slots: 1 more than the 1 in use are beyond the 1 of all \
            containers, which slots raises";
        assert!(refused.contains(wanted), "{refused}");
        client.kill("first", 9).await?;
        assert_eq!(client.wait("first").await?, 137);
        client.delete("first").await?;
        client.create("second", &second, &Default::default(), &[]).await?;
        client.delete("second").await?;
        // A program that the inner engine refuses takes none.
        let unknown = harness.bundle("unknown", &["unknown"]).write()?;
        client.create("unknown", &unknown, &Default::default(), &[]).await.unwrap_err();
        assert_eq!(free.available_permits(), 1);
        harness.stop().await;
        Ok(())
    }

    #[tokio::test]
    async fn signals_reach_the_inner_instance() -> Result {
        let harness = Harness::start(Slots::new(ScriptedEngine, 1))?;
        let client = harness.client().await?;
        let bundle = harness.bundle("polite", &["graceful"]).write()?;
        client.create("polite", &bundle, &Default::default(), &[]).await?;
        client.start("polite").await?;
        client.kill("polite", 15).await?;
        assert_eq!(client.wait("polite").await?, 0);
        client.delete("polite").await?;
        harness.stop().await;
        Ok(())
    }
}
